"""Leases: promises of followers to grant no vote for a while, and how long their leader may count on them.

Thesis 6.4.1, with two differences. The promise is one of its own and is kept by a clock, not by the election timer: a
follower that forgot its leader, or that saw a later term, still keeps it, and ticks that bunch up after a delay do not
shorten it. And it is the follower that says for how long, so that nodes with different settings understand each other.
Knows seconds of one clock at a time, as they are handed in; who asks for promises is the leader's business.
"""

from __future__ import annotations

import math

from raftkv.raft.messages import HeartbeatResponse


def lease_end(answer: HeartbeatResponse, *, drift_bound: float) -> float:
    """Return until when a leader may count on a promise, by the clock that stamped its heartbeat.

    The promise began after the heartbeat was made, so counting from there errs on the safe side, however long the
    message was under way. It ends no sooner than ``promised_seconds / (1 + drift_bound)`` seconds of true time later,
    which are at least ``(1 - drift_bound)`` times as many on the leader's clock.

    :param drift_bound: how far the rate of either clock may be off.
    """
    return answer.sent_at + answer.promised_seconds * (1 - drift_bound) / (1 + drift_bound)


class Promise:
    """What one server has promised; a restart forgets it, and waits instead (``vote_grace_ticks``)."""

    def __init__(self) -> None:
        self._term = 0
        self._until = -math.inf

    def give(self, *, term: int, until: float) -> None:
        """Promise the leader of ``term``; an earlier promise is kept too, and this one then is the leader's of both.

        A leader of a later term was elected although the earlier promise stood, so nobody counts on that any more.
        """
        self._term = max(self._term, term)
        self._until = max(self._until, until)

    def holds(self, now: float) -> bool:
        """Tell whether the promise still stands."""
        return now < self._until

    def yields_to_successor(self, term: int) -> bool:
        """Tell whether an election of ``term`` that a leader asked for may break the promise.

        Only that leader's own: before it asks, it stops to count on its lease (thesis 3.10).
        """
        return term == self._term + 1
