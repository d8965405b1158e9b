"""Where each member is: from what it said of itself on a connection, else from the configuration in the log."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Mapping
from dataclasses import dataclass

from raftkv.config import Address
from raftkv.interfaces import Identity
from raftkv.raft.configuration import Configuration, Member


@dataclass(frozen=True, slots=True, kw_only=True)
class MemberAddresses:
    """Where one member is reached, each as ``host:port``, empty where unknown."""

    raft_addr: str = ""
    rpc_addr: str = ""
    http_addr: str = ""


class Directory:
    """The addresses of all members as one node knows them.

    :param identity: this node's own.
    :param configuration: returns the configuration in force.
    :param met: returns what each peer last said of itself.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        configuration: Callable[[], Configuration],
        met: Callable[[], Mapping[str, Identity]],
    ) -> None:
        self._identity = identity
        self._configuration = configuration
        self._met = met

    def addresses(self, member_id: str | None) -> MemberAddresses:
        """Return where a member is; all empty for ``None`` and for a stranger."""
        known = self._credible(member_id)
        if known is not None:
            return MemberAddresses(raft_addr=known.raft_addr, rpc_addr=known.rpc_addr, http_addr=known.http_addr)
        member = self._configuration().members.get(member_id) if member_id is not None else None
        if member is None:
            return MemberAddresses()
        return MemberAddresses(raft_addr=member.raft_addr, rpc_addr=member.rpc_addr, http_addr=member.http_addr)

    def renewed(self, configuration: Configuration | None = None) -> Configuration | None:
        """Return the configuration with what has been learned since, or ``None`` where it says so already.

        Unknown incarnations of founders are filled in, and addresses follow their members; roles never change (B25).
        A member that comes with another incarnation than the configuration has is not the one that voted: its entry
        stays as it is. One that was added tells its incarnation by joining: whoever uses its name before that may be
        an earlier node, which was removed and has not heard of it (B23).

        :param configuration: the one to renew; ``None`` for the one in force.
        """
        configuration = configuration if configuration is not None else self._configuration()
        members = {
            name: self._renew(member) if member.incarnation or configuration.is_voter(name) else member
            for name, member in configuration.members.items()
        }
        if members == dict(configuration.members):
            return None
        return dataclasses.replace(configuration, members=members)

    def _renew(self, member: Member) -> Member:
        known = self._credible(member.id)
        if known is None:
            return member
        return Member(
            id=member.id,
            incarnation=known.incarnation,
            raft_addr=known.raft_addr,
            rpc_addr=known.rpc_addr,
            http_addr=known.http_addr,
        )

    def _known(self, member_id: str | None) -> Identity | None:
        if member_id is None:
            return None
        return self._identity if member_id == self._identity.node_id else self._met().get(member_id)

    def _credible(self, member_id: str | None) -> Identity | None:
        """Return what a member said of itself, unless that cannot be true: anybody can connect and give its name."""
        known = self._known(member_id)
        if known is None or not all(map(_is_reachable, (known.raft_addr, known.rpc_addr, known.http_addr))):
            return None
        member = self._configuration().members.get(known.node_id)
        if member is not None and member.incarnation not in ("", known.incarnation):
            return None
        return known


def _is_reachable(address: str) -> bool:
    try:
        return bool(Address.parse(address).host)
    except ValueError:
        return False
