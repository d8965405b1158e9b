"""Whose turn it is to take a snapshot: the members take theirs one after the other, and the leader last.

All of them have the same log, and so would all find at once that a snapshot is due; taking one costs each of them a
part of its time, and of the disk's. Nobody is asked: cluster time, which comes with the entries and is the same for
all, is divided into intervals, and each interval into as many turns as there are members. A log that grows brings fresh
cluster time with it; where nothing is written any more the time goes on by this node's own clock.

The leader waits until a snapshot has been due for a whole interval: by then every other member has had its turn.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.raft.node import RaftNode
from raftkv.snapshot.policy import Turn, turn_of

_SHORTEST_WAIT = 0.01  # of an interval: cluster time may be a little behind the clock that woke us


class Rota:
    """The turns of one node.

    :param seconds: a monotonic clock.
    :param interval_seconds: in which every member has its turn once.
    """

    def __init__(self, *, node: RaftNode, seconds: Callable[[], float], interval_seconds: float) -> None:
        self._node = node
        self._seconds = seconds
        self._interval_seconds = interval_seconds
        self._cluster_ms = 0
        self._seen = seconds()
        self._was_due = False  # at the last turn of ours

    def seconds_until_turn(self, cluster_time_ms: int) -> float:
        """Return how long it is until our next turn begins.

        :param cluster_time_ms: of the state.
        """
        turn, interval = self._turn(), self._interval_seconds
        if turn.count == 1:
            return interval
        wait = turn.seconds_until(now_seconds=self._now(cluster_time_ms), interval_seconds=interval)
        return max(wait, _SHORTEST_WAIT * interval)

    def may_take(self, cluster_time_ms: int, *, is_due: bool) -> bool:
        """Tell whether to take a snapshot now.

        :param is_due: whether there is reason to.
        """
        turn = self._turn()
        if turn.count == 1:
            return is_due
        if not turn.is_now(now_seconds=self._now(cluster_time_ms), interval_seconds=self._interval_seconds):
            return False
        was_due, self._was_due = self._was_due, is_due
        return is_due and (was_due or self._node.leader != self._node.node_id)

    def _turn(self) -> Turn:
        node = self._node
        return turn_of(node.node_id, members=node.configuration.members.keys(), leader=node.leader)

    def _now(self, cluster_time_ms: int) -> float:
        now = self._seconds()
        if cluster_time_ms != self._cluster_ms:
            self._cluster_ms, self._seen = cluster_time_ms, now
        return self._cluster_ms / 1000 + now - self._seen
