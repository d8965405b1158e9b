"""When a snapshot is due, and how much of the log may then go. Pure functions."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass


def snapshot_is_due(*, log_bytes: int, threshold_bytes: int, stable_applied_index: int, snapshot_index: int) -> bool:
    """Tell whether to take a snapshot now; asked once in each interval.

    :param log_bytes: of the log behind the newest snapshot.
    :param threshold_bytes: from how many on it is due.
    :param stable_applied_index: the last entry that has been applied and is on this node's own disk.
    :param snapshot_index: of the newest snapshot, 0 where there is none.
    """
    return log_bytes >= threshold_bytes and stable_applied_index > snapshot_index


def compaction_index(*, snapshot_index: int, previous_snapshot_index: int | None, trailing_entries: int) -> int:
    """Return up to which index the log may go once a snapshot is on disk; 0 for nothing.

    :param snapshot_index: of the newest snapshot.
    :param previous_snapshot_index: of the one before it: the log is kept from there on, so that the older one can
        still be used if the newest turns out unreadable (0 where there is none: the whole log is kept). ``None`` to
        count on the newest alone.
    :param trailing_entries: how many entries behind the snapshot are kept for followers that are a little late.
    """
    index = snapshot_index - trailing_entries
    if previous_snapshot_index is not None:
        index = min(index, previous_snapshot_index)
    return max(0, index)


@dataclass(frozen=True, slots=True, kw_only=True)
class Turn:
    """The share of each interval that a member has for its snapshots.

    :ivar place: of the member, from 0; the leader's is the last one.
    :ivar count: how many members there are.
    """

    place: int
    count: int

    def is_now(self, *, now_seconds: float, interval_seconds: float) -> bool:
        """Tell whether a moment of the cluster's time lies in the turn."""
        return int(now_seconds % interval_seconds / interval_seconds * self.count) == self.place

    def seconds_until(self, *, now_seconds: float, interval_seconds: float) -> float:
        """Return how long it is until the turn begins (anew): more than nothing, and no more than an interval."""
        begin = interval_seconds * self.place / self.count
        return (begin - now_seconds) % interval_seconds or interval_seconds


def turn_of(node_id: str, *, members: Collection[str], leader: str | None) -> Turn:
    """Return a member's turn: they follow each other by name, and the leader comes last.

    A node that is no member has a turn of its own.
    """
    if node_id not in members:
        return Turn(place=0, count=1)
    order = sorted(members, key=lambda name: (name == leader, name))
    return Turn(place=order.index(node_id), count=len(order))
