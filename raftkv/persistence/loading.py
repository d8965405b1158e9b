"""What recovery keeps of a log while it reads it: the end of it, and what must be known of the rest.

A log may be far larger than memory should be. Its last entries are loaded, for they are asked for soonest; of those in
front only the configurations, and how much room each takes.
"""

from __future__ import annotations

from array import array
from collections import deque

from raftkv.errors import InvariantViolation
from raftkv.persistence.record import HEADER_BYTES, aligned
from raftkv.raft.log import entry_size
from raftkv.raft.messages import Entry, EntryKind


class LogSizes:
    """How many bytes of log lie behind an index, as queued; lives in the reactor's thread.

    Eight bytes for each entry, which takes 48 on the disk and more.

    :ivar snapshot_index: from where :meth:`behind_snapshot` counts.
    """

    def __init__(self, base_index: int) -> None:
        self._base_index = base_index
        self._totals = array("Q", [0])  # bytes through base_index, base_index + 1, …
        self.snapshot_index = base_index

    def append(self, entries: tuple[Entry, ...]) -> None:
        """Count entries; what was there from the first of them on no longer counts."""
        kept = entries[0].index - self._base_index
        if not 0 < kept <= len(self._totals):
            raise InvariantViolation(f"entry {entries[0].index} does not follow entry {self.last_index}")
        del self._totals[kept:]
        total = self._totals[-1]
        for entry in entries:
            total += aligned(HEADER_BYTES + len(entry.payload))
            self._totals.append(total)

    @property
    def last_index(self) -> int:
        """Index of the last entry counted."""
        return self._base_index + len(self._totals) - 1

    def begin_behind(self, index: int) -> None:
        """The log is empty; the next entry is ``index + 1``."""
        self._base_index = index
        self._totals = array("Q", [0])

    def cut_behind(self, index: int) -> None:
        """What lies behind ``index`` no longer counts; before the first entry there is nothing to cut."""
        if index < self._base_index:
            self.begin_behind(index)
        else:
            del self._totals[index + 1 - self._base_index :]

    def forget_through(self, index: int) -> None:
        """Nobody will ask for what lies at or before ``index``."""
        dropped = min(index, self.last_index) - self._base_index
        if dropped > 0:
            del self._totals[:dropped]
            self._base_index += dropped

    def behind_snapshot(self) -> int:
        """Return the bytes of the entries behind ``snapshot_index``."""
        return self.behind(self.snapshot_index)

    def behind(self, index: int) -> int:
        """Return the bytes of the entries behind an index."""
        place = min(max(index - self._base_index, 0), len(self._totals) - 1)
        return self._totals[-1] - self._totals[place]


class LoadedLog:
    """What was loaded of a log; each step of its history is told in order.

    :param cache_bytes: what the loaded entries may take.
    :ivar entries: the last ones, contiguous; those that a truncation left may be few, or none.
    :ivar configurations: all entries of the log that hold a configuration.
    :ivar sizes: of all entries.
    """

    def __init__(self, cache_bytes: int) -> None:
        self.entries: deque[Entry] = deque()
        self.configurations: list[Entry] = []
        self.sizes = LogSizes(0)
        self._cache_bytes = cache_bytes
        self._bytes = 0

    def append(self, entry: Entry) -> None:
        """The log grows by an entry."""
        self.sizes.append((entry,))
        if entry.kind is EntryKind.CONFIGURATION:
            self.configurations.append(entry)
        self.entries.append(entry)
        self._bytes += entry_size(entry)
        while self._bytes > self._cache_bytes and len(self.entries) > 1:
            self._bytes -= entry_size(self.entries.popleft())

    def cut_behind(self, index: int) -> None:
        """What lies behind ``index`` is void."""
        self.sizes.cut_behind(index)
        while self.entries and self.entries[-1].index > index:
            self._bytes -= entry_size(self.entries.pop())
        while self.configurations and self.configurations[-1].index > index:
            self.configurations.pop()

    def begin_behind(self, index: int) -> None:
        """The log is empty, and goes on behind ``index``."""
        self.sizes.begin_behind(index)
        self.entries.clear()
        self.configurations.clear()
        self._bytes = 0
