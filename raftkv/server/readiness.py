"""Whether a node has caught up: whether its state is no older than what the leader had committed when it was asked.

What a node knows of the commit index by itself says little after a start, or when it was cut off: it may be far behind
the leader's. So the leader is asked, by a read that nobody waits for, once for each leader that becomes known. How the
node comes to what it lacks is the business of others; here it is told to people, for as long as it takes.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from raftkv.errors import RaftKVError
from raftkv.interfaces import Consistency
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import SoftState
from raftkv.server.progress import Progress

Barrier = Callable[[Consistency, Callable[[RaftKVError | None], None]], None]


class CatchingUp:
    """Asks until the node has caught up with the leader; takes part in the driver's turn.

    :param barrier: as :meth:`raftkv.server.reads.Reads.barrier`.
    :param applied_index: of the state.
    :param seconds: a monotonic clock.
    :ivar is_done: whether it has, since the leader became known.
    """

    _log = Logger()

    def __init__(
        self, *, node: RaftNode, barrier: Barrier, applied_index: Callable[[], int], seconds: Callable[[], float]
    ) -> None:
        self.is_done = False
        self._node = node
        self._barrier = barrier
        self._applied_index = applied_index
        self._progress = Progress("applied {done} of the {total} entries known to be committed", seconds=seconds)
        self._leader: str | None = None
        self._is_asking = False
        self._was_told = False

    def soft_state_changed(self, state: SoftState) -> None:
        """Ask a leader that becomes known."""
        if state.leader != self._leader:
            self._leader = state.leader
            self.is_done = False
            self._ask()

    def tick(self) -> None:
        """Ask again where there was no answer, and tell how far it has come."""
        if not self.is_done:
            self._ask()
            applied = self._applied_index()
            if applied < self._node.commit_index:
                self._progress(applied, self._node.commit_index)

    def _ask(self) -> None:
        if self._leader is not None and not self._is_asking:
            self._is_asking = True
            self._barrier("linearizable", self._answered)

    def _answered(self, error: RaftKVError | None) -> None:
        self._is_asking = False
        if error is not None:
            self._log.debug("not known to have caught up yet: {reason}", reason=error)
            return
        self.is_done = True
        if not self._was_told:
            self._was_told = True
            self._log.info(
                "{node_id} has caught up with {leader}, at index {index}",
                node_id=self._node.node_id,
                leader=self._leader,
                index=self._applied_index(),
            )
