"""The records by key, their revisions, and what a put or delete makes of them.

Records are exact tuples of immutable things, which the garbage collector stops to visit after its first look; a
million of them cost it nothing. One revision is taken by each command that changes a record, and by nothing else.

A snapshot of one moment is kept by the writers: before a record is replaced that the snapshot has not passed yet, the
old one is put aside. While no snapshot is taken this costs one comparison; it never keeps more than one old record
for each key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from google_crc32c import extend

from raftkv.kvstore import digest
from raftkv.kvstore.commands import ABSENT, ANY, EXISTS, OK, PRECONDITION_FAILED, Command, Result
from raftkv.kvstore.digest import Record
from raftkv.kvstore.keys import OrderedKeys

_TOKEN_OFFSET = digest.TOKEN_OFFSET
_MODIFIED = digest.MODIFIED
_VERSION = digest.VERSION
_CREATED_NOW = digest.CREATED + digest.MODIFIED  # of a new record, whose two revisions are the same


class _ByKey(dict[bytes, Record]):
    """The records by key, in a dictionary that the garbage collector can be made to leave alone.

    A pass over everything stops tracking a plain dictionary whose values need no tracking, and the next write begins
    to track it again, as something young: a million records would be visited once more by each of the next passes. Of
    a subclass it lets go never, so that once it has been frozen (``gc.freeze``) it stays out of sight.
    """

    __slots__ = ()


class Records:
    """The live records, in a dictionary for reads of one key and in order for ranges.

    :ivar revision: the revision of the last change, 0 before the first.
    :ivar weight: the sum that the records count in the digest.
    """

    __slots__ = ("_by_key", "_captured_revision", "_frontier", "_keys", "_preserved", "revision", "weight")

    def __init__(self) -> None:
        self.revision = 0
        self.weight = 0
        self._by_key = _ByKey()
        self._keys = OrderedKeys()
        # The snapshot under way: the revision of its moment (-1, below every record's, while there is none), the last
        # key that it has drawn, and what was replaced since that moment at that key or above.
        self._captured_revision = -1
        self._frontier = b""
        self._preserved: dict[bytes, Record] = {}

    # -- reading -------------------------------------------------------------------------------------------------

    def __len__(self) -> int:
        return len(self._by_key)

    def get(self, key: bytes) -> Record | None:
        """Return the record of a key, or ``None`` where there is none."""
        return self._by_key.get(key)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        """Yield up to ``limit`` records of a range in key order; see :meth:`raftkv.kvstore.store.Store.scan`."""
        if limit <= 0:
            return
        for run in self._keys.runs(start, end):
            for key in run:
                record = self._by_key.get(key)
                if record is None:
                    continue  # deleted since the run was made
                yield key, record
                limit -= 1
                if limit == 0:
                    return

    def count(self, start: bytes, end: bytes | None) -> int:
        """Return how many keys lie in a range."""
        return self._keys.count(start, end)

    # -- commands ------------------------------------------------------------------------------------------------

    def put(self, command: Command) -> Result:
        """Carry out a ``PUT``.

        :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
        """
        if len(command) == 4:
            _, namespace, key, value = command
        else:
            _, namespace, key, value, expect = command
            found = self._mod_revision_against(key, expect)
            if found is not None:
                return (PRECONDITION_FAILED, found)
        if namespace != 0:
            raise ValueError(f"unknown namespace {namespace!r}")
        revision = self.revision + 1
        old = self._by_key.get(key)
        # What follows adds digest.token(key) * (weight of the new record - weight of the old one), written out.
        if old is None:
            weight = extend(0, value) + _CREATED_NOW * revision + _VERSION
            self.weight += (extend(0, key) + _TOKEN_OFFSET) * weight
            self._by_key[key] = (value, revision, revision, 1, 0)
            self._keys.toggle(key)
        else:
            old_value, create_revision, mod_revision, version, lease = old
            grown = extend(0, value) - extend(0, old_value) + _MODIFIED * (revision - mod_revision) + _VERSION
            if lease:
                grown -= digest.LEASE * lease
            self.weight += (extend(0, key) + _TOKEN_OFFSET) * grown
            if mod_revision <= self._captured_revision and key >= self._frontier:
                self._preserved[key] = old
            self._by_key[key] = (value, create_revision, revision, version + 1, 0)
        self.revision = revision
        return (OK, revision)

    def delete(self, command: Command) -> Result:
        """Carry out a ``DELETE``.

        :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
        """
        if len(command) == 3:
            _, namespace, key = command
        else:
            _, namespace, key, expect = command
            found = self._mod_revision_against(key, expect)
            if found is not None:
                return (PRECONDITION_FAILED, found)
        if namespace != 0:
            raise ValueError(f"unknown namespace {namespace!r}")
        token = digest.token(key)  # before the key is looked up, because it refuses what is not bytes
        old = self._by_key.pop(key, None)
        if old is None:
            return (OK, self.revision, False)
        if old[2] <= self._captured_revision and key >= self._frontier:
            self._preserved[key] = old
        self._keys.toggle(key)
        self.weight -= token * digest.weight(old)
        self.revision += 1
        return (OK, self.revision, True)

    def _mod_revision_against(self, key: bytes, expect: int) -> int | None:
        """Return the mod revision (0 for no key) that contradicts a condition, ``None`` where the condition holds."""
        if type(key) is not bytes:
            raise TypeError(f"a key is bytes, not {key!r}")
        if type(expect) is not int or expect < EXISTS:
            raise ValueError(f"unknown condition {expect!r}")
        record = self._by_key.get(key)
        mod_revision = ABSENT if record is None else record[2]
        if expect in (mod_revision, ANY) or (expect == EXISTS and record is not None):
            return None
        return mod_revision

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> Iterator[tuple[bytes, Record]]:
        """Yield all records as they are now, by key, however late they are drawn; one capture at a time.

        The moment is that of this call. :meth:`end_capture` must follow, whether all have been drawn or not.
        """
        self._captured_revision = self.revision
        self._frontier = b""
        return self._draw(self._keys.share())

    def _draw(self, blocks: tuple[list[bytes], ...]) -> Iterator[tuple[bytes, Record]]:
        live = self._by_key
        for key in chain.from_iterable(blocks):
            self._frontier = key
            # A key of that moment is either as it was, or was put aside when it was replaced or deleted.
            record = self._preserved.pop(key, None)
            yield key, live[key] if record is None else record

    def end_capture(self) -> None:
        """Stop keeping what a capture would have to see."""
        self._captured_revision = -1
        self._preserved = {}
        self._keys.unshare()

    def extend(self, keys: Sequence[bytes], records: Sequence[Record]) -> None:
        """Add records out of a snapshot, whose keys are above all that are present.

        :raises ValueError: the keys are not so, or there are not as many of one as of the other.
        :raises TypeError: something is not of its type.
        """
        weight = 0
        for key, record in zip(keys, records, strict=True):
            weight += digest.token(key) * digest.weight(record)
        self._keys.extend(keys)
        self._by_key.update(zip(keys, records, strict=True))
        self.weight += weight

    def discard(self, limit: int) -> bool:
        """Free about ``limit`` records of a state that is no longer used; return whether more are left."""
        by_key = self._by_key
        for _ in range(min(limit, len(by_key))):
            by_key.popitem()
        keys_left = self._keys.discard(limit)
        return bool(by_key) or keys_left
