"""When a snapshot is due, and how much of the log may then go. Pure functions."""

from __future__ import annotations

import hashlib


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


def first_look_seconds(*, node_id: str, interval_seconds: float) -> float:
    """Return how long after its start a node first looks whether a snapshot is due.

    It differs from node to node, so that the members of a cluster do not all take theirs at once.

    :return: between half an interval and a whole one.
    """
    number = int.from_bytes(hashlib.blake2b(node_id.encode(), digest_size=4).digest(), "big")
    return interval_seconds * (0.5 + number / 2**33)
