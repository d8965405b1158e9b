"""Room on a server's disk: how much of it is left for the log, and what may still be appended where it is none.

Knows levels and a budget of bytes. How they are found out is the business of whoever drives the node; what follows for
elections, leadership and replication is decided there.
"""

from __future__ import annotations

from collections.abc import Sequence
from enum import IntEnum
from typing import Final

from raftkv.raft.messages import Entry, EntryKind

_OVERHEAD_BYTES: Final = 96  # what a record takes on the disk beside its payload, at most


class Room(IntEnum):
    """How much room a disk has, the best first: of two servers the one with the smaller number should lead.

    Part of the protocol: the numbers travel in answers to heartbeats.
    """

    AMPLE = 0
    SCARCE = 1  #: what the log needs next would not fit
    NONE = 2  #: the server lives on what it has kept in reserve


class DiskRoom:
    """What one server knows of its own disk.

    :ivar level: as it was last told.
    :ivar budget_bytes: what the log may still take where there is no room; without meaning elsewhere.
    """

    def __init__(self) -> None:
        self.level = Room.AMPLE
        self.budget_bytes = 0

    def note(self, level: Room, budget_bytes: int) -> bool:
        """Take note of what was found; return whether the level changed."""
        changed = level is not self.level
        self.level, self.budget_bytes = level, budget_bytes
        return changed

    def spend(self, entries: Sequence[Entry]) -> None:
        """Take note that entries were appended."""
        if self.level is Room.NONE:
            self.budget_bytes -= sum(map(_cost, entries))

    def fitting(self, entries: Sequence[Entry]) -> Sequence[Entry]:
        """Return as many of these, from the first on, as may be appended.

        Entries without commands always may: without them a new leader could commit nothing, and nobody could read.
        What is kept in reserve has room for those beside the budget.
        """
        if self.level is not Room.NONE:
            return entries
        left = self.budget_bytes
        for position, entry in enumerate(entries):
            left -= _cost(entry)
            if left < 0 and entry.kind is EntryKind.COMMANDS:
                return entries[:position]
        return entries

    def fits(self, payload_bytes: int) -> bool:
        """Tell whether an entry with commands may be appended."""
        return self.level is not Room.NONE or payload_bytes + _OVERHEAD_BYTES <= self.budget_bytes


def _cost(entry: Entry) -> int:
    return len(entry.payload) + _OVERHEAD_BYTES
