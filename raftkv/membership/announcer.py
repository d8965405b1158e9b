"""The leader writes the addresses and incarnations of the members it has met into the configuration.

So every node knows where every other is, also one that it never spoke with, and also after a restart. The first leader
of a cluster does it with its first entries; later ones only where something changed.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from raftkv.errors import Conflict, NotLeader, ProposalDropped
from raftkv.membership.directory import Directory
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState


class Announcer:
    """Proposes a renewed configuration while this node leads; takes part in the driver's turn.

    :param settle_ticks: how long to wait after an election, so that members that arrive together share one entry.
    """

    _log = Logger()

    def __init__(self, *, node: RaftNode, directory: Directory, wake: Callable[[], None], settle_ticks: int) -> None:
        self._node = node
        self._directory = directory
        self._wake = wake
        self._settle_ticks = settle_ticks
        self._ticks = 0

    def soft_state_changed(self, state: SoftState) -> None:
        """A new leadership waits anew."""
        self._ticks = 0

    def tick(self) -> None:
        """Look for something new, once in ``settle_ticks``."""
        self._ticks += 1
        if self._node.role is not Role.LEADER or self._ticks % self._settle_ticks:
            return
        configuration = self._directory.renewed()
        if configuration is None or self._node.configuration.is_joint:
            return
        try:
            self._node.propose_configuration(configuration)
        except (Conflict, NotLeader, ProposalDropped) as reason:
            self._log.debug("the members' addresses are announced later: {reason}", reason=reason)
        else:
            self._wake()
