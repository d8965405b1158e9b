"""What is made first asks of what is made last: every arrow that points against the order in which a node is made."""

from __future__ import annotations

from raftkv.raft.messages import SnapshotMeta
from raftkv.server.archiving import Archiver
from raftkv.server.driver import Driver
from raftkv.server.fence import Fence
from raftkv.server.replica import Replica
from raftkv.server.resync import Resync
from raftkv.server.statemachine import StateMachine


class Later:
    """Parts that are not there yet; whoever makes one sets it here. Nobody asks before the node is started.

    :ivar archiver: ``None`` for a node that archives nothing.
    """

    state_machine: StateMachine
    archiver: Archiver | None
    driver: Driver
    fence: Fence
    resync: Resync
    replica: Replica

    def fail(self, error: BaseException) -> None:
        """Stop the node because of an error that makes it unsafe to go on."""
        self.driver.fail(error)

    def is_trusted(self) -> bool:
        """Tell whether the node's state may leave it."""
        return not self.fence.is_fenced

    def is_state_wanted(self, snapshot: SnapshotMeta) -> bool:
        """Tell whether a snapshot of another node is to take the place of a state that was found to be wrong."""
        return self.resync.wants(snapshot)

    def state_received(self, snapshot: SnapshotMeta) -> None:
        """A snapshot of another node has arrived."""
        self.resync.received(snapshot)

    def may_forget(self, index: int) -> int:
        """Return up to where the log may be compacted, of the entries up to an index."""
        return index if self.archiver is None else self.archiver.may_forget(index)
