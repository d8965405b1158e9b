"""The log of one node: the entries behind the compacted part, and how far our disk has them.

Knows positions, terms and bytes; not terms of leaders, commitment or configurations. The terms of all entries are in
memory, the entries themselves only from some point on: the others are on our disk, and whoever needs one of them asks
the driver to read it back (:class:`~raftkv.raft.ready.EntriesWanted`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Sequence

from raftkv.errors import InvariantViolation
from raftkv.raft.messages import Entry
from raftkv.raft.terms import TermRuns

ENTRY_OVERHEAD_BYTES = 32  #: counted beside an entry's payload, so that many empty entries have a size too
UNBOUNDED = 1 << 62  #: bytes that no cache will ever hold
_REAPED_AT_ONCE = 1000  # entries that nobody needs, freed with each append: all of them at once are a pause


def entry_size(entry: Entry) -> int:
    """Return the bytes that an entry counts for in every bound."""
    return len(entry.payload) + ENTRY_OVERHEAD_BYTES


class Log:
    """A contiguous run of entries that starts behind what was compacted away.

    Three marks run behind ``last_index``: entries up to the written index were handed to the disk, and those up to
    ``stable_index`` are on it. Writes complete in order, but a truncation may come in between: it clamps what the
    pending writes will make stable. To compare (index, term) instead would not do, for an entry can be truncated and
    come back while the first write of it is pending.

    A fourth one runs in front: entries before ``cached_index`` are on the disk only. It moves on in :meth:`trim`, and
    never past what is not stable.

    :ivar snapshot_index: the last index that our newest snapshot includes; 0 without one.
    :ivar stable_index: the last index that is surely on our own disk as the log now stands.
    :ivar cached_index: index of the first entry that is in memory; behind the last one where none is.
    """

    def __init__(
        self,
        *,
        entries: Sequence[Entry] = (),
        previous_index: int = 0,
        previous_term: int = 0,
        snapshot_index: int = 0,
        on_disk: TermRuns | None = None,
        cache_bytes: int = UNBOUNDED,
    ) -> None:
        """Take over what the disk holds.

        :param entries: contiguous, the first at ``previous_index + 1``.
        :param previous_index: index of the entry just before the first one; 0 for none.
        :param previous_term: that entry's term; 0 for none.
        :param on_disk: the terms of entries in front of these that stay on the disk, up to ``previous_index``.
        :param cache_bytes: what the entries in memory may take, beyond those that have to be there.
        """
        self._terms = on_disk.copy() if on_disk is not None else TermRuns(previous_index, previous_term)
        if self._terms.last_index != previous_index or self._terms.last_term != previous_term:
            raise InvariantViolation(f"entry {previous_index + 1} cannot follow entry {self._terms.last_index}")
        self._entries: list[Entry] = []
        self._cache_bytes = cache_bytes
        self._cached_bytes = 0
        self._replaced: list[Entry] = []  # no longer needed, and not freed yet
        self.cached_index = previous_index + 1
        self.snapshot_index = snapshot_index
        self.append(entries)
        self.stable_index = self._written_index = self.last_index
        self._pending: deque[tuple[int, int]] = deque()  # (write id, index that is stable once it is done)

    @property
    def first_index(self) -> int:
        """Index of the first entry that is still there, or would be."""
        return self._terms.previous_index + 1

    @property
    def last_index(self) -> int:
        """Index of the last entry; where all were compacted, of the last one that was."""
        return self._terms.last_index

    @property
    def last_term(self) -> int:
        """Term of the entry at ``last_index``; 0 for an empty log."""
        return self._terms.last_term

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, also of the one just before the first; ``None`` where it is not known."""
        return self._terms.term_at(index)

    def slice(self, start: int, stop: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return entries with ``start <= index < stop``, as many as fit in ``max_bytes``, at least one of them.

        :raises InvariantViolation: the first of them was compacted away, or is on the disk only.
        """
        if start < self.cached_index:
            raise InvariantViolation(f"entry {start} is not in memory; {self.first_index=}, {self.cached_index=}")
        begin = start - self.cached_index
        end = min(stop - self.cached_index, len(self._entries))
        room = max_bytes
        for position in range(begin, end):
            room -= entry_size(self._entries[position])
            if room < 0:
                end = max(position, begin + 1)
                break
        return tuple(self._entries[begin:end])

    def size_between(self, start: int, stop: int) -> int:
        """Return the bytes of the entries with ``start <= index < stop`` that are in memory."""
        return sum(map(entry_size, self._entries[max(start - self.cached_index, 0) : max(stop - self.cached_index, 0)]))

    def last_index_of_term(self, term: int, *, not_after: int) -> int:
        """Return the last index up to ``not_after`` whose term is no later than ``term`` (end of section 5.3).

        Terms never fall along a log, so both sides of a conflict can skip all of a term at once. Below the first
        entry nothing is known, and ``not_after`` itself is returned there.
        """
        if not_after < self._terms.previous_index:
            return not_after
        return self._terms.last_index_of_term(term, not_after=not_after)

    # -- changes ---------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> int:
        """Add entries that follow the last one.

        :return: their bytes.
        :raises InvariantViolation: they do not follow it.
        """
        expected = self.last_index + 1
        before = self._cached_bytes
        for entry in entries:
            if entry.index != expected:
                raise InvariantViolation(f"entry {entry.index} cannot follow entry {expected - 1}")
            expected += 1
            self._terms.append(entry.term)
            self._cached_bytes += entry_size(entry)
        self._entries.extend(entries)
        if self._replaced:
            del self._replaced[-_REAPED_AT_ONCE:]
        return self._cached_bytes - before

    def truncate_from(self, index: int) -> None:
        """Drop the entry at ``index`` and all that follow."""
        if not self.first_index <= index <= self.last_index:
            raise InvariantViolation(f"cannot truncate at {index} a log of [{self.first_index}, {self.last_index}]")
        self._terms.truncate_from(index)
        self._cached_bytes -= self.size_between(index, self.cached_index + len(self._entries))
        del self._entries[max(index - self.cached_index, 0) :]
        self.cached_index = min(self.cached_index, index)
        self._written_index = min(self._written_index, index - 1)
        self._clamp_stable(index - 1)

    def restore(self, index: int, term: int) -> None:
        """Drop everything: a snapshot up to ``index`` stands in its place (section 7)."""
        # What older writes bring to the disk is no longer part of the log, nor is what they have brought of a longer
        # log that conflicts with the snapshot.
        self._clamp_stable(min(self.stable_index, index))
        self._discard(len(self._entries))
        self._terms.begin_behind(index, term)
        self.cached_index = index + 1
        self._written_index = index
        self.snapshot_index = index

    def compact(self, index: int) -> None:
        """Drop the entries up to and including ``index``; a snapshot must cover them."""
        if index > min(self.snapshot_index, self.last_index):
            raise InvariantViolation(f"cannot compact to {index}: the snapshot ends at {self.snapshot_index}")
        if index < self.first_index:
            return
        self._terms.forget_through(index)
        dropped = index + 1 - self.cached_index
        if dropped > 0:
            self._cached_bytes -= sum(map(entry_size, self._entries[:dropped]))
            del self._entries[:dropped]
            self.cached_index = index + 1

    def trim(self, index: int) -> None:
        """Where the entries in memory take more than they may, leave the oldest to the disk.

        :param index: the last one that nobody is about to ask for; what is not stable stays in any case.
        """
        excess = self._cached_bytes - self._cache_bytes
        # Some more than need be: to move those that stay costs more than to look at a few that go.
        if excess <= self._cache_bytes >> 4:
            return
        limit = min(index, self.stable_index) + 1 - self.cached_index
        count = 0
        while count < limit and excess > 0:
            excess -= entry_size(self._entries[count])
            count += 1
        self.cached_index += count
        self._discard(count)

    def _discard(self, count: int) -> None:
        """Let go of the first so many entries in memory, to be freed in portions."""
        gone = self._entries[:count]
        del self._entries[:count]
        self._cached_bytes -= sum(map(entry_size, gone))
        self._replaced.extend(gone)

    # -- the disk --------------------------------------------------------------------------------------------------

    @property
    def has_unwritten(self) -> bool:
        """Whether there are entries that the disk was not yet given."""
        return self._written_index < self.last_index

    def unwritten(self) -> tuple[Entry, ...]:
        """Return the entries that the disk was not yet given."""
        return tuple(self._entries[self._written_index + 1 - self.cached_index :])

    def take_unwritten(self) -> tuple[Entry, ...]:
        """Return the entries that the disk was not yet given, and take them as given."""
        entries = self.unwritten()
        self._written_index = self.last_index
        return entries

    def write_pending(self, write_id: int) -> None:
        """Note that once this write is done, everything given to the disk so far is stable."""
        self._pending.append((write_id, self._written_index))

    def write_done(self, write_id: int) -> None:
        """Note that this write, and those before it, are done."""
        while self._pending and self._pending[0][0] <= write_id:
            self.stable_index = self._pending.popleft()[1]

    def _clamp_stable(self, index: int) -> None:
        self.stable_index = min(self.stable_index, index)
        self._pending = deque((write_id, min(stable, index)) for write_id, stable in self._pending)
