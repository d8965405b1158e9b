"""What recovery keeps of a log while it reads it: the end of it, and what must be known of the rest.

A log may be far larger than memory should be. Its last entries are loaded, for they are asked for soonest; of those in
front only the configurations, and how much room each takes.
"""

from __future__ import annotations

from array import array
from bisect import bisect_left, bisect_right
from collections import deque
from collections.abc import Sequence
from typing import Final

from raftkv.errors import InvariantViolation
from raftkv.persistence.record import ALIGNMENT, HEADER_BYTES
from raftkv.raft.log import ENTRY_OVERHEAD_BYTES
from raftkv.raft.messages import Entry, EntryKind

STRETCH_BYTES: Final = 64 * 1024


class LogSizes:
    """How many bytes of log lie behind an index, as queued; lives in the reactor's thread.

    Sixteen bytes for each stretch of the log that is at least so long, however many entries that is: what is told is
    too much by less than one stretch.

    :param stretch_bytes: length of a stretch.
    :ivar snapshot_index: from where :meth:`behind_snapshot` counts.
    :ivar last_index: index of the last entry counted.
    """

    def __init__(self, base_index: int, *, stretch_bytes: int = STRETCH_BYTES) -> None:
        self._stretch_bytes = stretch_bytes
        self.snapshot_index = base_index
        self.last_index = base_index
        self._total = 0
        self._indexes = array("Q", [base_index])  # where the marks stand
        self._totals = array("Q", [0])  # bytes through each of them

    def append(self, entries: Sequence[Entry]) -> int:
        """Count entries; what was there from the first of them on no longer counts.

        :return: their bytes.
        """
        first = entries[0].index
        if not self._indexes[0] < first <= self.last_index + 1:
            raise InvariantViolation(f"entry {first} does not follow entry {self.last_index}")
        if first <= self.last_index:
            self.cut_behind(first - 1)
        size = bytes_of(entries)
        if self._total + size - self._totals[-1] < self._stretch_bytes:
            self._total += size
        else:
            self._mark(entries)
        self.last_index = entries[-1].index
        return size

    def _mark(self, entries: Sequence[Entry]) -> None:
        for entry in entries:
            self.follow(entry.index, len(entry.payload))

    def follow(self, index: int, payload_bytes: int) -> None:
        """Count one entry, which follows the last one."""
        self.last_index = index
        self._total = total = self._total + HEADER_BYTES + payload_bytes + -payload_bytes % ALIGNMENT
        if total - self._totals[-1] >= self._stretch_bytes:
            self._indexes.append(index)
            self._totals.append(total)

    def begin_behind(self, index: int) -> None:
        """The log is empty; the next entry is ``index + 1``."""
        self.last_index = index
        self._total = 0
        self._indexes, self._totals = array("Q", [index]), array("Q", [0])

    def cut_behind(self, index: int) -> None:
        """What lies behind ``index`` no longer counts; before the first entry there is nothing to cut."""
        if index < self._indexes[0]:
            self.begin_behind(index)
        elif index < self.last_index:
            # How much of the stretch is left is not known: as if it were all of it.
            place = bisect_left(self._indexes, index)
            self._total = self._totals[place] if place < len(self._totals) else self._total
            while self._indexes[-1] > index:
                self._indexes.pop()
                self._totals.pop()
            self.last_index = index

    def forget_through(self, index: int) -> None:
        """Nobody will ask for what lies at or before ``index``."""
        dropped = bisect_right(self._indexes, index) - 1
        if dropped > 0:
            del self._indexes[:dropped], self._totals[:dropped]

    def behind_snapshot(self) -> int:
        """Return the bytes of the entries behind ``snapshot_index``."""
        return self.behind(self.snapshot_index)

    def behind(self, index: int) -> int:
        """Return the bytes of the entries behind an index."""
        if index >= self.last_index:
            return 0
        place = max(bisect_right(self._indexes, index) - 1, 0)
        return self._total - self._totals[place]


def bytes_of(entries: Sequence[Entry]) -> int:
    """Return what entries take in the log, about."""
    size = 0
    for entry in entries:
        length = len(entry.payload)
        size += HEADER_BYTES + length + -length % ALIGNMENT
    return size


class LoadedLog:
    """What was loaded of a log; each step of its history is told in order.

    :param cache_bytes: what the loaded entries may take.
    :param stretch_bytes: see :class:`LogSizes`.
    :ivar configurations: all entries of the log that hold a configuration.
    :ivar sizes: of all entries.
    """

    def __init__(self, cache_bytes: int, *, stretch_bytes: int = STRETCH_BYTES) -> None:
        # Entries as tuples: most of a long log is let go again, and never becomes more.
        self._loaded: deque[tuple[int, int, EntryKind, bytes]] = deque()
        self.configurations: list[Entry] = []
        self.sizes = LogSizes(0, stretch_bytes=stretch_bytes)
        self._cache_bytes = cache_bytes
        self._bytes = 0

    @property
    def entries(self) -> list[Entry]:
        """The last entries, contiguous; those that a truncation left may be few, or none."""
        return [
            Entry(index=index, term=term, kind=kind, payload=payload) for index, term, kind, payload in self._loaded
        ]

    def append(self, index: int, term: int, kind: EntryKind, payload: bytes) -> None:
        """The log grows by an entry."""
        self.sizes.follow(index, len(payload))
        if kind is EntryKind.CONFIGURATION:
            self.configurations.append(Entry(index=index, term=term, kind=kind, payload=payload))
        self._loaded.append((index, term, kind, payload))
        self._bytes += len(payload) + ENTRY_OVERHEAD_BYTES
        while self._bytes > self._cache_bytes and len(self._loaded) > 1:
            self._bytes -= len(self._loaded.popleft()[3]) + ENTRY_OVERHEAD_BYTES

    def cut_behind(self, index: int) -> None:
        """What lies behind ``index`` is void."""
        self.sizes.cut_behind(index)
        while self._loaded and self._loaded[-1][0] > index:
            self._bytes -= len(self._loaded.pop()[3]) + ENTRY_OVERHEAD_BYTES
        while self.configurations and self.configurations[-1].index > index:
            self.configurations.pop()

    def begin_behind(self, index: int) -> None:
        """The log is empty, and goes on behind ``index``."""
        self.sizes.begin_behind(index)
        self._loaded.clear()
        self.configurations.clear()
        self._bytes = 0
