"""The records by key, their revisions, and what a put or delete makes of them.

Records are exact tuples of immutable things, which the garbage collector stops to visit after its first look; a
million of them cost it nothing. One revision is taken by each command that changes a record, and by nothing else but a
lock that is taken; what it changed is noted in the history.

A snapshot of one moment is kept by the writers: before a record is replaced that the snapshot has not passed yet, the
old one is put aside. While no snapshot is taken this costs one comparison; it never keeps more than one old record
for each key.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from itertools import chain

from google_crc32c import extend

from raftkv.kvstore import digest
from raftkv.kvstore.commands import (
    ABSENT,
    ANY,
    EXISTS,
    KEEP_LEASE,
    NO_LEASE,
    OK,
    PRECONDITION_FAILED,
    Command,
    Result,
)
from raftkv.kvstore.digest import Record
from raftkv.kvstore.ghosts import Ghosts
from raftkv.kvstore.history import History, Previous, Slot
from raftkv.kvstore.keys import OrderedKeys
from raftkv.kvstore.leases import Leases

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
    """The live records, in a dictionary for reads of one key and in order for ranges, and the history of all.

    :ivar revision: the revision of the last change, 0 before the first.
    :ivar weight: the sum that the records count in the digest.
    :ivar history: what the revisions changed.
    :ivar ghosts: keys that are no more.
    :ivar open_slots: of the transaction under way, by key: what the next revision is going to have changed.
    """

    __slots__ = (
        *("_by_key", "_captured_revision", "_frontier", "_keys", "_leases", "_preserved"),
        *("ghosts", "history", "open_slots", "revision", "weight"),
    )

    def __init__(self, leases: Leases) -> None:
        """Begin without records.

        :param leases: is told which keys each lease has.
        """
        self.revision = 0
        self.weight = 0
        self.history = History()
        self.open_slots: dict[bytes, Slot] = {}
        self._leases = leases
        self._by_key = _ByKey()
        self._keys = OrderedKeys()
        self.ghosts = Ghosts()
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

    def get_at(self, key: bytes, revision: int) -> Record | None:
        """Return the record that a key had at a revision that is kept."""
        found: Previous = self._by_key.get(key) or self.ghosts.revisions.get(key)
        while found is not None:
            if isinstance(found, int):
                record, changed = None, found
            else:
                record, changed = found, found[2]
            if changed <= revision:
                return record
            found = self.open_slots[key][2] if changed > self.revision else self.history.previous(changed, key)
        return None

    def keys(self, start: bytes, end: bytes | None, *, reverse: bool) -> Iterator[bytes]:
        """Yield the keys of a range in order; the range does not change until all of them are drawn."""
        runs = self._keys.runs_back if reverse else self._keys.runs
        return chain.from_iterable(runs(start, end))

    def count(self, start: bytes, end: bytes | None) -> int:
        """Return how many keys lie in a range."""
        return self._keys.count(start, end)

    # -- commands ------------------------------------------------------------------------------------------------

    def put(self, command: Command) -> Result:
        """Carry out a ``PUT`` without more: :meth:`change` and :meth:`commit` written out, for nearly all are such.

        :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
        """
        _, namespace, key, value = command
        if namespace != 0:
            raise ValueError(f"unknown namespace {namespace!r}")
        revision = self.revision + 1
        old = self._by_key.get(key)
        # What follows adds digest.token(key) * (weight of the new record - weight of the old one), written out.
        if old is None:
            weight = extend(0, value) + _CREATED_NOW * revision + _VERSION
            self.weight += (extend(0, key) + _TOKEN_OFFSET) * weight
            record = self._by_key[key] = (value, revision, revision, 1, 0)
            self._keys.add(key)
            self.history.note((key, record, self.ghosts.unbury(key) if self.ghosts.revisions else None))
        else:
            old_value, create_revision, mod_revision, version, lease = old
            grown = extend(0, value) - extend(0, old_value) + _MODIFIED * (revision - mod_revision) + _VERSION
            if lease:
                grown -= digest.LEASE * lease
            self.weight += (extend(0, key) + _TOKEN_OFFSET) * grown
            if mod_revision <= self._captured_revision and key >= self._frontier:
                self._preserved[key] = old
            record = self._by_key[key] = (value, create_revision, revision, version + 1, 0)
            self.history.note((key, record, old))
            if lease:
                self._leases.detach(lease, key)
                self._leases.settle()
        self.revision = revision
        return (OK, revision)

    def put_if(self, command: Command) -> Result:
        """Carry out a ``PUT`` with a condition.

        :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
        """
        *plain, expect = command
        found = self.mod_revision_against(plain[2], expect)
        return self.put(tuple(plain)) if found is None else (PRECONDITION_FAILED, found)

    def delete(self, command: Command) -> Result:
        """Carry out a ``DELETE``.

        :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
        """
        if len(command) == 3:
            _, namespace, key = command
        else:
            _, namespace, key, expect = command
            found = self.mod_revision_against(key, expect)
            if found is not None:
                return (PRECONDITION_FAILED, found)
        if namespace != 0:
            raise ValueError(f"unknown namespace {namespace!r}")
        slot = self.remove(key)
        if slot is None:
            return (OK, self.revision, False)
        return (OK, self.commit([slot]), True)

    def mod_revision_against(self, key: bytes, expect: int) -> int | None:
        """Return the mod revision (0 for no key) that contradicts a condition, ``None`` where the condition holds.

        :raises ValueError: there is no such condition; :exc:`TypeError` for a key that is none.
        """
        if type(key) is not bytes:
            raise TypeError(f"a key is bytes, not {key!r}")
        if type(expect) is not int or expect < EXISTS:
            raise ValueError(f"unknown condition {expect!r}")
        record = self._by_key.get(key)
        mod_revision = ABSENT if record is None else record[2]
        if expect in (mod_revision, ANY) or (expect == EXISTS and record is not None):
            return None
        return mod_revision

    # -- changes of any kind -------------------------------------------------------------------------------------

    def change(self, key: bytes, value: bytes, lease: int = NO_LEASE) -> Slot:
        """Set a key as of the next revision, which :meth:`commit` or :meth:`revert` must follow.

        :param lease: one that exists, or ``KEEP_LEASE``.
        :raises TypeError: key or value is not bytes. Nothing has changed then.
        """
        revision = self.revision + 1
        old = self._by_key.get(key)
        if old is None:
            record = (value, revision, revision, 1, 0 if lease == KEEP_LEASE else lease)
            weight = digest.weight(record)
        else:
            record = (value, old[1], revision, old[3] + 1, old[4] if lease == KEEP_LEASE else lease)
            weight = digest.weight(record) - digest.weight(old)
        self.weight += digest.token(key) * weight
        before: Previous = old
        if old is None:
            before = self.ghosts.unbury(key)
            self._keys.add(key)
        else:
            self._preserve(key, old)
            if old[4]:
                self._leases.detach(old[4], key)
        self._by_key[key] = record
        if record[4]:
            self._leases.attach(record[4], key)
        return (key, record, before)

    def remove(self, key: bytes) -> Slot | None:
        """Delete a key as of the next revision, which :meth:`commit` or :meth:`revert` must follow.

        :return: ``None`` where there is no such key: nothing has changed then.
        :raises TypeError: the key is not bytes. Nothing has changed then.
        """
        token = digest.token(key)  # before the key is looked up, because it refuses what is not bytes
        old = self._by_key.pop(key, None)
        if old is None:
            return None
        self._preserve(key, old)
        self._keys.remove(key)
        self.ghosts.bury(key, self.revision + 1)
        self.weight -= token * digest.weight(old)
        if old[4]:
            self._leases.detach(old[4], key)
        return (key, None, old)

    def commit(self, slots: list[Slot]) -> int:
        """Let what :meth:`change` and :meth:`remove` returned be the next revision; it is returned.

        :param slots: each key at most once; the list is taken over.
        """
        self.history.note_all(slots)
        self.revision += 1
        self._leases.settle()
        return self.revision

    def revert(self, slots: Sequence[Slot]) -> None:
        """Undo what :meth:`change` and :meth:`remove` did, in which nothing has been committed."""
        for key, record, before in reversed(slots):
            token = digest.token(key)
            old = before if type(before) is tuple else None
            if record is not None:
                self.weight -= token * digest.weight(record)
                if record[4]:
                    self._leases.detach(record[4], key)
            if record is None and old is not None:
                self._keys.add(key)
            elif record is not None and old is None:
                self._keys.remove(key)
            if old is not None:
                self.weight += token * digest.weight(old)
                self._by_key[key] = old
                if old[4]:
                    self._leases.attach(old[4], key)
            else:
                del self._by_key[key]
            if record is None:
                self.ghosts.unbury(key)
            elif type(before) is int:
                self.ghosts.bury(key, before)
        self._leases.settle()

    def _preserve(self, key: bytes, old: Record) -> None:
        if old[2] <= self._captured_revision and key >= self._frontier:
            self._preserved[key] = old

    # -- letting go ----------------------------------------------------------------------------------------------

    def tidy(self, limit: int) -> bool:
        """Free about ``limit`` revisions that were compacted; return whether more are left."""
        return self.history.tidy(limit, self.ghosts.forget)

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> Iterator[tuple[bytes, Record]]:
        """Yield all records as they are now, by key, however late they are drawn; one capture at a time.

        The moment is that of this call. :meth:`end_capture` must follow, whether all have been drawn or not.
        """
        self._captured_revision = self.revision
        self._frontier = b""
        return self._draw(self._keys.share())

    def _draw(self, blocks: Iterator[list[bytes]]) -> Iterator[tuple[bytes, Record]]:
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
        self.history.end_capture()

    def extend(self, keys: Sequence[bytes], records: Sequence[Record]) -> None:
        """Add records out of a snapshot, whose keys are above all that are present.

        :raises ValueError: the keys are not so, or there are not as many of one as of the other.
        :raises TypeError: something is not of its type.
        """
        weight = 0
        for key, record in zip(keys, records, strict=True):
            weight += digest.token(key) * digest.weight(record)
            if record[4]:
                self._leases.attach(record[4], key)
        self._keys.extend(keys)
        self._by_key.update(zip(keys, records, strict=True))
        self.weight += weight

    def take_past(self, history: History, ghosts: dict[bytes, int]) -> None:
        """Take over the history out of a snapshot.

        :param ghosts: keys that are no more, with the revisions that deleted them.
        """
        self.history = history
        self.ghosts.restore(ghosts)

    def begin_anew(self, revision: int) -> None:
        """Let a later revision be the present one, which changed nothing, and forget all that was before it."""
        self.revision = revision
        self.history = History.beginning_at(revision)
        self.ghosts = Ghosts()

    def discard(self, limit: int) -> bool:
        """Free about ``limit`` records of a state that is no longer used; return whether more are left."""
        by_key = self._by_key
        for _ in range(min(limit, len(by_key))):
            by_key.popitem()
        left = [self._keys.discard(limit), self.ghosts.discard(limit), self.history.discard(limit)]
        return bool(by_key) or any(left)
