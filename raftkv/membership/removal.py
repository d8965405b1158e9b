"""A node that was removed from its cluster finds out, says so, and falls silent for good.

It learns of it from the log, which the leader sends it up to that very point; and, where it was away at that time, by
asking: a node that has heard no leader for long asks the others' RPC ports which configuration is committed.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import RaftKVError
from raftkv.interfaces import Identity, IForwarder
from raftkv.membership.directory import Directory
from raftkv.raft.configuration import Configuration
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState

_SILENT_TIMEOUTS = 3  # election timeouts without a leader after which the others are asked, one in each timeout


class RemovalWatch:
    """Watches whether this node is still a member; takes part in the driver's turn.

    :param first_index: index of the configuration that made this node a member; earlier ones do not know it.
    :param store: writes down that the node was removed as of a committed configuration; fires once that is on disk.
    :param removed: called once, when it is.
    :param fatal: called with the error where it cannot be written.
    :ivar is_removed: whether this node knows that it is no member any more.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        node: RaftNode,
        directory: Directory,
        forwarder: IForwarder,
        first_index: int,
        store: Callable[[int], Deferred[None]],
        removed: Callable[[], None],
        fatal: Callable[[BaseException], None],
        election_ticks: int,
    ) -> None:
        self.is_removed = False
        self._identity = identity
        self._node = node
        self._directory = directory
        self._forwarder = forwarder
        self._first_index = first_index
        self._store = store
        self._removed = removed
        self._fatal = fatal
        self._election_ticks = election_ticks
        self._commit_index = 0
        self._seen: tuple[Configuration | None, Configuration | None] = (None, None)
        self._silent_ticks = 0
        self._asked = 0
        self._asking = False

    def gather(self) -> None:
        """Look at the configuration whenever more has been committed."""
        commit_index = self._node.commit_index
        if commit_index == self._commit_index:
            return
        self._commit_index = commit_index
        configuration, index = self._node.committed_configuration()
        in_force = self._node.configuration
        if configuration is self._seen[0] and in_force is self._seen[1]:
            return
        self._seen = (configuration, in_force)
        # A member of the old side of a joint configuration still votes, and is needed. One that a later configuration
        # names again, not yet committed, has to wait what becomes of that.
        named = any(self._names_us(known) for known in (configuration, in_force))
        if index > self._first_index and not named:
            self._is_out(index)

    def soft_state_changed(self, state: SoftState) -> None:
        """A leader is as good as any answer."""
        self._silent_ticks = 0

    def tick(self) -> None:
        """Ask somebody, if there has been no leader for long."""
        node = self._node
        if node.role is Role.LEADER or node.leader is not None:
            self._silent_ticks = 0
            return
        self._silent_ticks += 1
        is_time = self._silent_ticks % self._election_ticks == 0
        if is_time and self._silent_ticks >= _SILENT_TIMEOUTS * self._election_ticks and not self.is_removed:
            self._ask()

    def _ask(self) -> None:
        own = self._identity.node_id
        addresses = [self._directory.addresses(name).rpc_addr for name in sorted(self._node.configuration.members)]
        others = [address for address in addresses if address and address != self._directory.addresses(own).rpc_addr]
        if not others or self._asking:
            return
        self._asking = True
        self._asked += 1
        asked: Deferred[Any] = self._forwarder.call(others[self._asked % len(others)], "membership", {})
        asked.addCallbacks(self._answered, self._not_answered)

    def _answered(self, answer: Any) -> None:
        self._asking = False
        try:
            index = int(answer["configuration_index"])
            configuration = Configuration.decode(str(answer["configuration"]).encode())
        except (ValueError, KeyError, TypeError, AttributeError) as error:
            self._log.warn("an answer about the members makes no sense: {reason}", reason=error)
            return
        if index <= max(self._first_index, self._node.committed_configuration()[1]):
            return  # it knows no more than we do
        if not self._names_us(configuration):
            self._is_out(index)

    def _names_us(self, configuration: Configuration) -> bool:
        """Tell whether a configuration means this node, and not one with another data directory in its place."""
        member = configuration.members.get(self._identity.node_id)
        return member is not None and member.incarnation in ("", self._identity.incarnation)

    def _not_answered(self, failure: Failure) -> None:
        self._asking = False
        failure.trap(RaftKVError)

    def _is_out(self, index: int) -> None:
        if self.is_removed:
            return
        self.is_removed = True
        self._log.warn(
            "{node_id} was removed from the cluster by the configuration at index {index}; "
            "it answers no more, and will not start again on this data directory",
            node_id=self._identity.node_id,
            index=index,
        )
        self._store(index).addCallbacks(lambda _: self._removed(), self._not_stored)

    def _not_stored(self, failure: Failure) -> None:
        if failure.value is not None:
            self._fatal(failure.value)
