"""What a leader has to remember to forget: idle sessions, leases that have come to their time, old revisions.

Forgetting is a command of the log, so that all nodes forget the same at the same index; only when to propose it is
decided here, by cluster time. Freeing the memory of what the log has forgotten is each node's own business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, ClassVar

from twisted.logger import Logger

from raftkv.errors import RaftKVError
from raftkv.interfaces import Command, Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import OK, compact, expire, expire_sessions
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState

_ENDED_AT_ONCE = 1_000  # leases and waits: some milliseconds' worth
_TIME_MARK_MS = 1_000  # while a lease runs, the log is told the time at least so often
_COMPACTION_LOOK_SECONDS = 1.0
_COMPACTION_SLACK = 16  # compaction waits until so small a part of what is kept can go, rather than to nibble
_TIDIED_AT_ONCE = 2_000  # compacted revisions freed in a tick: a millisecond or two
_LOOKS_PER_TTL = 60  # so a session lives at most a sixtieth longer than it must


class Chore:
    """Proposes something while this node leads, one command at a time; takes part in the driver's turn.

    :param submit: takes commands, as :meth:`raftkv.server.proposals.Proposals.submit` does.
    :cvar POSTPONED: what is logged where a command did not get through: the next look finds the same.
    """

    _log = Logger()
    POSTPONED: ClassVar[str]

    def __init__(self, *, node: RaftNode, store: Callable[[], Store], submit: Callable[..., None]) -> None:
        self._node = node
        self._store = store
        self._submit = submit
        self._under_way = False

    def soft_state_changed(self, state: SoftState) -> None:
        """A change of leader changes nothing about what there is to forget: cluster time goes on."""

    @property
    def _may_propose(self) -> bool:
        return self._node.role is Role.LEADER and not self._under_way

    def _propose(self, command: Command, done: Callable[[Result], None]) -> None:
        """Propose a command; ``done`` is called once it is applied."""

        def answered(outcome: Sequence[Result] | RaftKVError | Any) -> None:
            self._under_way = False
            if isinstance(outcome, RaftKVError):
                self._log.debug(self.POSTPONED, reason=outcome)
            else:
                done(outcome[0])

        self._under_way = True
        self._submit([command], answered)


class SessionExpiry(Chore):
    """Proposes the end of idle sessions.

    :param session_ttl_seconds: how long a session is kept after its last write.
    """

    POSTPONED = "idle sessions are dropped later: {reason}"

    def __init__(
        self,
        *,
        node: RaftNode,
        store: Callable[[], Store],
        submit: Callable[..., None],
        session_ttl_seconds: float,
        tick_interval_seconds: float,
    ) -> None:
        super().__init__(node=node, store=store, submit=submit)
        self._ttl_ms = int(session_ttl_seconds * 1000)
        self._ticks_between_looks = max(1, round(session_ttl_seconds / _LOOKS_PER_TTL / tick_interval_seconds))
        self._ticks = 0

    def tick(self) -> None:
        """Look for idle sessions now and then."""
        self._ticks += 1
        if self._ticks % self._ticks_between_looks or not self._may_propose:
            return
        store = self._store()
        before_ms = store.cluster_time_ms - self._ttl_ms
        if before_ms > 0 and store.idle_sessions(before_ms):
            self._propose(expire_sessions(before_ms), self._expired)

    def _expired(self, result: Result) -> None:
        self._log.info("dropped {count} idle sessions", count=result[1])


class TenureExpiry(Chore):
    """Proposes the end of leases and of waits for locks.

    The command says nothing of which they are: that is decided where it is applied, by its own cluster time. So it does
    no harm if leadership was lost in the meantime, or a lease renewed (B35).

    While there is a lease the command also carries the time: a new leader continues from the last entry, and in an idle
    cluster whose leader changes now and then nothing would ever end (B36).

    :param now_ms: returns the cluster time as this leader has it.
    """

    POSTPONED = "leases end later: {reason}"

    def __init__(
        self,
        *,
        node: RaftNode,
        store: Callable[[], Store],
        now_ms: Callable[[], int],
        submit: Callable[..., None],
    ) -> None:
        super().__init__(node=node, store=store, submit=submit)
        self._now_ms = now_ms

    def tick(self) -> None:
        """Look whether something has come to its time."""
        if not self._may_propose:
            return
        store = self._store()
        deadline_ms = store.next_deadline_ms
        if deadline_ms is None:
            return
        now_ms = self._now_ms()
        if now_ms >= deadline_ms or now_ms >= store.cluster_time_ms + _TIME_MARK_MS:
            self._propose(expire(_ENDED_AT_ONCE), self._expired)

    def _expired(self, result: Result) -> None:
        _, ended, more = result
        if ended:
            self._log.debug("ended {count} leases and waits", count=ended)
        if more and self._may_propose:
            self._propose(expire(_ENDED_AT_ONCE), self._expired)


class Compaction(Chore):
    """Proposes the compaction of old revisions.

    :param max_revisions: how many past revisions are kept; 0 for no bound; likewise the others.
    :param max_bytes: how large the entries may be, about, that made them.
    :param max_age_seconds: how long they are kept, in cluster time.
    :param now_ms: returns the cluster time as this leader has it.
    """

    POSTPONED = "revisions are compacted later: {reason}"

    def __init__(
        self,
        *,
        node: RaftNode,
        store: Callable[[], Store],
        now_ms: Callable[[], int],
        submit: Callable[..., None],
        max_revisions: int,
        max_bytes: int,
        max_age_seconds: float,
        tick_interval_seconds: float,
    ) -> None:
        super().__init__(node=node, store=store, submit=submit)
        self._now_ms = now_ms
        self._max_revisions = max_revisions
        self._max_bytes = max_bytes
        self._max_age_ms = int(max_age_seconds * 1000)
        self._ticks_between_looks = max(1, round(_COMPACTION_LOOK_SECONDS / tick_interval_seconds))
        self._ticks = 0

    def tick(self) -> None:
        """Free memory, and look now and then whether there is more to forget."""
        store = self._store()
        store.tidy(_TIDIED_AT_ONCE)
        self._ticks += 1
        is_time = self._ticks % self._ticks_between_looks == 0
        # Large values can make much of it between two looks.
        is_large = self._max_bytes and store.history_bytes > self._max_bytes + self._max_bytes // 4
        if not (is_time or is_large) or not self._may_propose:
            return
        oldest = max(store.compact_revision, 1)
        target = self._target(store)
        if target - oldest > (store.revision - oldest) // _COMPACTION_SLACK:
            self._propose(compact(target), self._compacted)

    def _target(self, store: Store) -> int:
        """Return the oldest revision that is to be kept; 0 where all are."""
        target = 0
        if self._max_revisions:
            target = store.revision - self._max_revisions
        if self._max_bytes and store.history_bytes > self._max_bytes:
            target = max(target, store.first_within(self._max_bytes))
        if self._max_age_ms:
            target = max(target, store.revision_at(self._now_ms() - self._max_age_ms))
        return target

    def _compacted(self, result: Result) -> None:
        if result[0] == OK:
            self._log.debug("compacted the revisions below {revision}", revision=result[1])
