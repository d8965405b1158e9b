"""Room on a server's disk: how much of it is left for the log, and what may still be appended.

Knows levels, and how a log that is written in whole segments uses up what a look at the disk has found. How that is
found out is the business of whoever drives the node; what follows for elections, leadership and replication is decided
there.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from enum import IntEnum
from typing import Final

from raftkv.raft.messages import Entry, EntryKind

_OVERHEAD_BYTES: Final = 96  # what a record takes on the disk beside its payload, at most, and the map of its zeros
_MAP_SHARE: Final = 2048  # likewise: of a payload one byte in so many
_SEGMENT_HEADER_BYTES: Final = 512
_PLENTY_BYTES: Final = 256 * 1024 * 1024  # more than any message brings: from there on entries are counted one by one
_NEVER: Final = 1 << 62


class Room(IntEnum):
    """How much room a disk has, the best first: of two servers the one with the smaller number should lead.

    Part of the protocol: the numbers travel in answers to heartbeats.
    """

    AMPLE = 0
    SCARCE = 1  #: what the log needs next would not fit
    NONE = 2  #: the server lives on what it has kept in reserve


@dataclass(frozen=True, slots=True)
class LogRoom:
    """What a log can take. It takes the disk by whole segments, however small the entries are.

    :ivar begun_bytes: what fits into the segment that it writes; less than nothing where what waits for it is more.
    :ivar more_bytes: what it may take of the disk for further segments; less than nothing where there is no room.
    :ivar segment_bytes: size of a segment.
    :ivar batch_bytes: what is written at once at most. The end of a segment stays empty where a batch does not fit, and
        a larger entry gets a segment of its own that is larger by it.
    """

    begun_bytes: int
    more_bytes: int
    segment_bytes: int
    batch_bytes: int

    @classmethod
    def of_bytes(cls, size_bytes: int) -> LogRoom:
        """Return room for so many bytes of records, of whatever size, and for no segment."""
        return cls(size_bytes, 0, 1, _NEVER)

    @property
    def is_exceeded(self) -> bool:
        """Whether more was taken off than there was."""
        return self.more_bytes < 0

    @property
    def size_bytes(self) -> int:
        """All of it, for comparisons."""
        return self.begun_bytes + self.more_bytes

    def without(self, payload_bytes: int) -> LogRoom:
        """Return what is left behind an entry."""
        record_bytes = _record_bytes(payload_bytes)
        if record_bytes <= self.batch_bytes:
            return self.without_bytes(record_bytes)
        left_bytes = self.more_bytes - self.segment_bytes - _SEGMENT_HEADER_BYTES - record_bytes
        return LogRoom(self.segment_bytes, left_bytes, self.segment_bytes, self.batch_bytes)

    def without_bytes(self, size_bytes: int) -> LogRoom:
        """Return what is left behind so many bytes of ordinary entries."""
        begun, more = self.begun_bytes - size_bytes, self.more_bytes
        if begun < 0:
            used_at_least = max(1, self.segment_bytes - _SEGMENT_HEADER_BYTES - self.batch_bytes)
            segments = -(begun // used_at_least)
            begun, more = begun + segments * used_at_least, more - segments * self.segment_bytes
        return LogRoom(begun, more, self.segment_bytes, self.batch_bytes)

    @property
    def cost_factor(self) -> int:
        """How many times its size an entry costs at most: a large one a segment, and what that leaves empty."""
        return 3 + 2 * self.segment_bytes // self.batch_bytes

    def without_uncounted(self, size_bytes: int) -> LogRoom:
        """Return what is left at least behind entries of which nothing is known but their bytes, as the log counts."""
        left_bytes = self.more_bytes - self.cost_factor * size_bytes
        return LogRoom(self.begun_bytes, left_bytes, self.segment_bytes, self.batch_bytes)


class DiskRoom:
    """What one server knows of its own disk, and what its log has taken since it was last told.

    Where a disk is large the bytes are only summed up, a batch at a time. The entries are counted one by one only where
    that matters.

    :ivar level: as it was last told.
    :ivar look_wanted: whether what was found by the last look is half used up, or was not enough.
    :ivar held_back_bytes: the payload of an entry that did not fit since the last look; ``None`` for none.
    """

    def __init__(self) -> None:
        self.level = Room.AMPLE
        self.look_wanted = False
        self.held_back_bytes: int | None = None
        self._budget: LogRoom | None = None
        self._low_bytes = 0  # below which another look is wanted
        self._taken_bytes = 0  # in this life, as the log counts
        self._counted_from = _NEVER  # of these, from which on entries are counted one by one
        self._noted_at = 0  # of these, those taken off the budget
        self._looked_at = 0  # of these, those that the look under way knows of, or that are in _unseen
        self._unseen: list[int] | None = None  # payloads that this look may not know of; None where none is under way

    def note(self, level: Room, budget: LogRoom | None) -> bool:
        """Take note of what was found; return whether the level changed.

        :param budget: what the log could take when the look began that is under way, or can now where none is;
            ``None`` for whatever comes.
        """
        changed = level is not self.level
        self.level = level
        self.look_wanted, self.held_back_bytes = False, None
        self._counted_from, self._noted_at, self._budget = _NEVER, self._taken_bytes, budget
        if budget is not None:
            self._budget = budget = self._as_of_now(budget)
            self._low_bytes = budget.size_bytes // 2
            spare_bytes = budget.size_bytes // budget.cost_factor - _PLENTY_BYTES
            self._counted_from = self._taken_bytes + max(0, spare_bytes)
        self._unseen = None
        return changed

    def begin_look(self, unwritten: Sequence[Entry]) -> None:
        """Take note that a look begins; what is taken from now on it may know of or not.

        :param unwritten: the entries that the disk was not yet given, so that it does not know of them.
        """
        self._looked_at = self._taken_bytes
        self._unseen = [len(entry.payload) for entry in unwritten]

    def _as_of_now(self, budget: LogRoom) -> LogRoom:
        if self._unseen is None:
            return budget.without_bytes(0)
        budget = budget.without_bytes(0).without_uncounted(self._taken_bytes - self._looked_at)
        for payload_bytes in self._unseen:
            budget = budget.without(payload_bytes)
        return budget

    @property
    def is_exceeded(self) -> bool:
        """Whether more was taken than was found last."""
        return self._budget is not None and self._budget.is_exceeded

    def lacks(self, budget: LogRoom) -> bool:
        """Tell whether what was held back would not fit, although nothing was taken since the look that found this."""
        has_gone_on = self._unseen is not None and (self._unseen or self._taken_bytes > self._looked_at)
        if self.held_back_bytes is None or has_gone_on:
            return False
        return budget.without_bytes(0).without(self.held_back_bytes).is_exceeded

    def spend(self, entries: Sequence[Entry], size_bytes: int) -> None:
        """Take note that entries were appended.

        :param size_bytes: of all of them, as the log counts.
        """
        self._taken_bytes += size_bytes
        if self._taken_bytes <= self._counted_from:
            return
        budget = self._budget
        if budget is None:  # for mypy: without one nothing is counted
            return
        if self._counted_from > self._noted_at:  # until now these were not counted one by one
            budget = budget.without_uncounted(self._taken_bytes - size_bytes - self._noted_at)
            self._counted_from = self._noted_at
        for entry in entries:
            budget = budget.without(len(entry.payload))
        if self._unseen is not None:
            self._unseen += [len(entry.payload) for entry in entries]
            self._looked_at += size_bytes
        self._budget = budget
        self.look_wanted = self.look_wanted or budget.size_bytes < self._low_bytes

    def fitting(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return as many of these, from the first on, as may be appended.

        Entries without commands always may: without them a new leader could commit nothing, and nobody could read.
        There is some room for those beside the budget.
        """
        if self._taken_bytes < self._counted_from:
            return entries
        budget = self._budget
        if budget is None:  # for mypy
            return entries
        for position, entry in enumerate(entries):
            budget = budget.without(len(entry.payload))
            if budget.is_exceeded and entry.kind is EntryKind.COMMANDS:
                self._hold_back(len(entry.payload))
                return entries[:position]
        return entries

    def fits(self, payload_bytes: int) -> bool:
        """Tell whether an entry with commands may be appended."""
        if self._taken_bytes < self._counted_from or self._budget is None:
            return True
        if self._budget.without(payload_bytes).is_exceeded:
            self._hold_back(payload_bytes)
            return False
        return True

    def _hold_back(self, payload_bytes: int) -> None:
        self.look_wanted = True
        self.held_back_bytes = payload_bytes


def _record_bytes(payload_bytes: int) -> int:
    return payload_bytes + payload_bytes // _MAP_SHARE + _OVERHEAD_BYTES
