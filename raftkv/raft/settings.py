"""The numbers that govern a node: ticks and bounds, without a clock.

Knows what each bound means and which combinations make no sense; ``raftkv.config`` turns seconds into ticks.
"""

from __future__ import annotations

from dataclasses import dataclass


@dataclass(frozen=True, slots=True, kw_only=True)
class RaftSettings:
    """How patient, how fast and how hungry a node may be.

    :ivar election_ticks: minimum election timeout; each one is drawn from [election_ticks, 2 * election_ticks).
    :ivar heartbeat_ticks: ticks between two heartbeats of a leader.
    :ivar max_append_bytes: bytes of entries in one AppendEntries; a larger entry travels alone.
    :ivar max_inflight_messages: AppendEntries with entries that a peer may have unanswered.
    :ivar max_inflight_bytes: bytes of entries that a peer may have unanswered; the last message may exceed it.
    :ivar max_committed_bytes: bytes of committed entries in one ``Ready``; a larger entry comes alone.
    :ivar max_uncommitted_bytes: bytes of entries that a leader takes before the first of them is committed.
    :ivar max_read_bytes: bytes of entries that are read back from the disk at once, for each peer and for the state
        machine; a larger entry comes alone.
    :ivar log_cache_bytes: bytes of entries kept in memory, beside those that are not stable or not committed yet.
    :ivar news_at_once: whether followers are told in a message of its own, at once, that more is committed. Else they
        hear of it with the next entries or heartbeat, or when :meth:`~raftkv.raft.node.RaftNode.tell_news` is called:
        for a driver whose clock is finer than ticks.
    :ivar vote_grace_ticks: a node that restarts with a state grants no vote in its first ticks, for it may have
        acknowledged a heartbeat that counts on a lease (thesis 6.4.1); 0 where there are no leases.
    :ivar promise_seconds: for how long a follower that acknowledges such a heartbeat grants no vote; no longer than
        ``vote_grace_ticks`` last, since a restart forgets the promise. 0 for never.
    :ivar lease_reads: whether this server seeks a lease where it leads.
    :ivar clock_drift_bound: how far the rate of any member's clock may be off, as a share of 1; a lease is shorter
        than the promises that it rests on by that much for the leader's clock and as much again for the follower's.
    """

    election_ticks: int = 10
    heartbeat_ticks: int = 1
    max_append_bytes: int = 256 * 1024
    max_inflight_messages: int = 256
    max_inflight_bytes: int = 4 * 1024 * 1024
    max_committed_bytes: int = 1024 * 1024
    max_uncommitted_bytes: int = 64 * 1024 * 1024
    max_read_bytes: int = 256 * 1024
    log_cache_bytes: int = 32 * 1024 * 1024
    news_at_once: bool = True
    vote_grace_ticks: int = 0
    promise_seconds: float = 0.0
    lease_reads: bool = False
    clock_drift_bound: float = 0.05

    def __post_init__(self) -> None:
        if not 1 <= self.heartbeat_ticks < self.election_ticks:
            raise ValueError(f"heartbeat_ticks must be in [1, election_ticks), not {self.heartbeat_ticks}")
        if self.vote_grace_ticks < 0:
            raise ValueError(f"vote_grace_ticks must not be negative, not {self.vote_grace_ticks}")
        if not (self.promise_seconds >= 0 and 0 <= self.clock_drift_bound < 1):
            raise ValueError(f"impossible: promise_seconds={self.promise_seconds}, {self.clock_drift_bound=}")
        if self.promise_seconds and not self.vote_grace_ticks:
            raise ValueError("promise_seconds need vote_grace_ticks: a restart forgets what was promised")
        bounds = (
            "max_append_bytes",
            "max_inflight_messages",
            "max_inflight_bytes",
            "max_committed_bytes",
            "max_uncommitted_bytes",
            "max_read_bytes",
            "log_cache_bytes",
        )
        for name in bounds:
            if getattr(self, name) < 1:
                raise ValueError(f"{name} must be positive, not {getattr(self, name)}")
