"""Who the members are, what each peer says of itself, and where it can be reached; nothing of connections."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Final

from twisted.logger import Logger

from raftkv.interfaces import Identity
from raftkv.raft.configuration import Member

_MAX_REMEMBERED: Final = 256  # peers whose identity is kept; strangers must not fill the memory


class Acquaintances:
    """Everybody that one node has heard of.

    :param node_id: this node, which needs no address.
    :param learned: told when a member says something new of itself: met first, a new incarnation, an address.
    :ivar members: as the configuration has them.
    :ivar addresses: where to dial each member but this node.
    :ivar known: what each peer last said of itself.
    """

    _log = Logger()

    def __init__(self, *, node_id: str, learned: Callable[[Identity], None] | None) -> None:
        self.members: Mapping[str, Member] = {}
        self.addresses: dict[str, str] = {}
        self.known: dict[str, Identity] = {}
        self._node_id = node_id
        self._identity_learned = learned
        self._moved: dict[str, str] = {}  # where members said to be since the configuration was written

    def set_members(self, members: Mapping[str, Member]) -> None:
        """Take the members of a configuration; one whose address it changes is there, wherever it said it was."""
        before, self.members = self.members, members
        for name, member in members.items():
            if name not in before or before[name].raft_addr != member.raft_addr:
                self._moved.pop(name, None)
        self._find_addresses()

    def is_member(self, identity: Identity) -> bool:
        """Tell whether somebody is the member of its name, or nobody is; an earlier node of that name is not."""
        member = self.members.get(identity.node_id)
        return member is None or member.incarnation in ("", identity.incarnation)

    def learn(self, identity: Identity) -> None:
        """A peer has said who it is."""
        before = self.known.get(identity.node_id)
        if before == identity:
            return
        if before is None and len(self.known) >= _MAX_REMEMBERED and identity.node_id not in self.addresses:
            return
        self.known[identity.node_id] = identity
        if before is not None and before.incarnation != identity.incarnation:
            self._log.warn("{peer} comes back with another data directory", peer=identity.node_id)
        if self._identity_learned is not None:
            self._identity_learned(identity)

    def note_move(self, identity: Identity) -> bool:
        """A member that was started at another address says so to those whom it reaches: dial it there.

        What it says on a connection that we made changes nothing, for there we have reached it already.

        :return: whether it is to be dialled somewhere else from now on.
        """
        member = self.members.get(identity.node_id)
        if member is None or not identity.raft_addr or not self.is_member(identity):
            return False
        if self.addresses.get(identity.node_id) == identity.raft_addr:
            return False
        self._log.info("{peer} is at {address} now", peer=identity.node_id, address=identity.raft_addr)
        self._moved[identity.node_id] = identity.raft_addr
        self._find_addresses()
        return True

    def address_of(self, peer: str) -> str:
        """Return where somebody can be reached, member or not; empty where nobody has said so."""
        if peer in self.addresses:
            return self.addresses[peer]
        return self.known[peer].raft_addr if peer in self.known else ""

    def _find_addresses(self) -> None:
        self.addresses = {
            name: self._moved.get(name, member.raft_addr)
            for name, member in self.members.items()
            if name != self._node_id and (member.raft_addr or name in self._moved)
        }
