"""How a node whose state differs from the majority's gets theirs: a snapshot of the leader's, and the log behind it.

The node asks the leader. The leader lends a snapshot only where it can be trusted: where the state that it was made of
has been found equal to that of the majority since then, at a later index than the snapshot's. Where it has none it
takes one, and proposes an entry at which all nodes compare. What is lent is told beforehand, so that the node takes no
other file for it. The snapshot replaces the state, and every snapshot of our own, for nobody knows which of those
are wrong; the entries behind it are applied again, from our own log, which was right all the time.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import BadRequest, Conflict, NotLeader, RaftKVError, ShuttingDown
from raftkv.interfaces import Identity, IForwarder
from raftkv.membership import Directory
from raftkv.raft.messages import SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState
from raftkv.server.fence import Fence
from raftkv.server.snapshotter import Snapshotter

_PATIENCE: Final = 10  # election timeouts to wait for what was sent, or for the verdict on what has come
_MAX_BACKOFF: Final = 600  # election timeouts between two attempts, where each ends in another difference


class Resync:
    """Both sides of it: asks while our own fence is closed, lends while it is open. Takes part in the driver's turn.

    :param send_snapshot: sends the newest snapshot to a member.
    :param rebuild: replaces the state by a snapshot's, and expects the entries behind it again.
    :param wake: asks the driver for a turn.
    :param checkpoint: proposes an entry at which all nodes take a note.
    :param fatal: called with an error that makes it unsafe to go on.
    :ivar fetched: how many states were fetched since the start; ``lent`` counts those that were sent.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        node: RaftNode,
        fence: Fence,
        directory: Directory,
        forwarder: IForwarder,
        snapshotter: Snapshotter,
        send_snapshot: Callable[[str], None],
        rebuild: Callable[[SnapshotMeta], None],
        wake: Callable[[], None],
        checkpoint: Callable[[], None],
        fatal: Callable[[BaseException], None],
        election_ticks: int,
    ) -> None:
        self.fetched = 0
        self.lent = 0
        self._identity = identity
        self._node = node
        self._fence = fence
        self._directory = directory
        self._forwarder = forwarder
        self._snapshotter = snapshotter
        self._send_snapshot = send_snapshot
        self._rebuild = rebuild
        self._wake = wake
        self._checkpoint = checkpoint
        self._fatal = fatal
        self._election_ticks = election_ticks
        self._asking = False
        self._wait_ticks = 0
        self._relapses = 0
        self._trusted_index = 0  # up to which the leader's snapshots can be trusted, as it last said

    def calls(self) -> dict[str, Callable[[Mapping[str, Any]], object]]:
        """Return what other nodes can ask of this one."""
        return {"lend_state": self.lend}

    # -- asking --------------------------------------------------------------------------------------------------

    def soft_state_changed(self, state: SoftState) -> None:
        """What one leader said of its snapshots is not true of another's."""
        self._trusted_index = 0

    def tick(self) -> None:
        """Ask the leader for its state, while ours is not to be trusted."""
        fence, node = self._fence, self._node
        if not fence.is_fenced:
            self._relapses = self._trusted_index = self._wait_ticks = 0
            return
        if fence.relapses != self._relapses:
            # Whatever made this node differ does it again: to fetch the state over and over helps nobody.
            self._relapses = fence.relapses
            self._wait_ticks = self._election_ticks * min(_PATIENCE * 2 ** (self._relapses - 1), _MAX_BACKOFF)
        if self._wait_ticks:
            self._wait_ticks -= 1
        elif not self._asking and node.leader not in (None, node.node_id):
            self._ask(node.leader)

    def _ask(self, leader: str | None) -> None:
        address = self._directory.addresses(leader).rpc_addr
        if not address:
            return
        own = self._identity
        document = {
            "member": own.node_id,
            "incarnation": own.incarnation,
            "from": self._snapshotter.log_follows,
            "trusted": self._trusted_index,
            # What has come already waits for its verdict only, which in a quiet cluster nobody else asks for.
            "compare": self._fence.was_replaced,
        }
        self._asking = True
        self._wait_ticks = self._election_ticks
        asked: Deferred[Any] = self._forwarder.call(address, "lend_state", document)
        asked.addCallbacks(self._answered, self._not_answered)

    def _answered(self, answer: Any) -> None:
        self._asking = False
        if not isinstance(answer, Mapping) or type(answer.get("trusted")) is not int:
            self._log.warn("an answer about the leader's state makes no sense: {answer!r:.100}", answer=answer)
            return
        if answer.get("sent"):
            self._wait_ticks = _PATIENCE * self._election_ticks
        elif self._trusted_index != answer["trusted"]:
            self._trusted_index = answer["trusted"]
            self._wait_ticks = 0

    def _not_answered(self, failure: Failure) -> None:
        self._asking = False
        failure.trap(RaftKVError)
        self._log.debug("the leader lends no state: {reason}", reason=failure.value)

    def wants(self, snapshot: SnapshotMeta) -> bool:
        """Tell whether a snapshot that is offered is one that we have asked for."""
        return (
            self._fence.is_fenced
            and self._snapshotter.log_follows <= snapshot.index <= self._node.last_applied
            and snapshot.index < self._trusted_index
            and not self._fence.was_replaced
        )

    def received(self, snapshot: SnapshotMeta) -> None:
        """A snapshot of another member's is whole on our disk; the core will hear of it in a moment."""
        if not self.wants(snapshot):
            return  # it is the core's: it brings the log forward
        self._log.info(
            "{node_id} replaces its state by the snapshot at index {index}",
            node_id=self._identity.node_id,
            index=snapshot.index,
        )
        self._snapshotter.keep_only(snapshot).addCallbacks(self._replace, self._not_kept, callbackArgs=(snapshot,))

    def _replace(self, _: object, snapshot: SnapshotMeta) -> None:
        self.fetched += 1
        self._wait_ticks = _PATIENCE * self._election_ticks
        self._rebuild(snapshot)
        self._node.apply_again(snapshot.index)
        self._wake()

    def _not_kept(self, failure: Failure) -> None:
        if failure.value is not None and not failure.check(ShuttingDown):
            self._fatal(failure.value)

    # -- lending -------------------------------------------------------------------------------------------------

    def lend(self, document: Mapping[str, Any]) -> dict[str, Any]:
        """Send our newest snapshot to a member, if it can be trusted; else see to it that there will be one.

        :param document: ``member`` and ``incarnation`` of who asks; ``from``: the smallest index that its log can
            follow; ``trusted``: what we last told it, beyond which it takes none; ``compare``: whether it has a state
            already, and waits for the verdict on it.
        :raises NotLeader: somebody else is to be asked.
        """
        node, fence = self._node, self._fence
        member, first_index, told_index = _request(document)
        known = node.configuration.members.get(member)
        if known is None or known.incarnation not in ("", document.get("incarnation")):
            raise Conflict(f"{member} is no member, or has another data directory than the member of that name")
        if node.role is not Role.LEADER or fence.is_fenced:
            raise NotLeader(node.leader, node.current_term)
        newest = node.snapshot_index
        is_compared = document.get("compare") is True
        is_sent = not is_compared and first_index <= newest < min(told_index, fence.agreed_index)
        if is_compared:
            self._compare()
        elif is_sent:
            self.lent += 1
            self._send_snapshot(member)
        elif newest < first_index:
            self._snapshotter.take().addCallbacks(lambda _: self._compare(), self._not_taken)
        elif newest >= fence.agreed_index:
            self._compare()
        return {"trusted": fence.agreed_index, "sent": is_sent}

    def _compare(self) -> None:
        if not self._fence.is_tied:
            self._checkpoint()

    def _not_taken(self, failure: Failure) -> None:
        # Its failure has stopped the node by now, where it was the disk's; else the member asks again.
        self._log.debug("no snapshot to lend: {reason}", reason=failure.value)


def _request(document: Mapping[str, Any]) -> tuple[str, int, int]:
    member, first_index, told_index = document.get("member"), document.get("from"), document.get("trusted")
    if type(member) is not str or type(first_index) is not int or type(told_index) is not int:
        raise BadRequest("a request for a state: member must be a text, from and trusted must be numbers")
    return member, max(first_index, 1), told_index
