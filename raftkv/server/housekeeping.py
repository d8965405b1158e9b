"""What a leader has to remember to forget: sessions whose clients have long gone.

Forgetting is a command of the log, so that all nodes forget the same at the same index; only when to propose it is
decided here, by cluster time.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.logger import Logger

from raftkv.errors import RaftKVError
from raftkv.interfaces import Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import expire_sessions
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState

_LOOKS_PER_TTL = 60  # so a session lives at most a sixtieth longer than it must


class SessionExpiry:
    """Proposes the end of idle sessions while this node leads; takes part in the driver's turn.

    :param submit: takes commands, as :meth:`raftkv.server.proposals.Proposals.submit` does.
    :param session_ttl_seconds: how long a session is kept after its last write.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        store: Callable[[], Store],
        submit: Callable[..., None],
        session_ttl_seconds: float,
        tick_interval_seconds: float,
    ) -> None:
        self._node = node
        self._store = store
        self._submit = submit
        self._ttl_ms = int(session_ttl_seconds * 1000)
        self._ticks_between_looks = max(1, round(session_ttl_seconds / _LOOKS_PER_TTL / tick_interval_seconds))
        self._ticks = 0
        self._under_way = False

    def gather(self) -> None:
        """Nothing comes in through here."""

    def soft_state_changed(self, state: SoftState) -> None:
        """A change of leader changes nothing about sessions: cluster time goes on."""

    def tick(self) -> None:
        """Look for idle sessions now and then."""
        self._ticks += 1
        if self._ticks % self._ticks_between_looks or self._node.role is not Role.LEADER or self._under_way:
            return
        store = self._store()
        before_ms = store.cluster_time_ms - self._ttl_ms
        if before_ms > 0 and store.idle_sessions(before_ms):
            self._under_way = True
            self._submit([expire_sessions(before_ms)], self._expired)

    def _expired(self, outcome: Sequence[Result] | RaftKVError | Any) -> None:
        self._under_way = False
        if isinstance(outcome, RaftKVError):
            self._log.debug("idle sessions are dropped later: {reason}", reason=outcome)
        else:
            self._log.info("dropped {count} idle sessions", count=outcome[0][1])
