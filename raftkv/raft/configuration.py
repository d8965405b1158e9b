"""Who is in the cluster, as the log says it: voters, learners, and both sides of a joint configuration (section 6)."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One member of the configuration.

    :ivar id: its unique name.
    :ivar incarnation: random id made with its data directory; empty until the leader has met it.
    :ivar raft_addr: ``host:port`` of its Raft port as the others reach it.
    :ivar rpc_addr: likewise of its RPC port; empty until met.
    :ivar http_addr: likewise of its HTTP port; empty until met.
    """

    id: str
    incarnation: str = ""
    raft_addr: str = ""
    rpc_addr: str = ""
    http_addr: str = ""


@dataclass(frozen=True, slots=True, kw_only=True)
class Configuration:
    """The members of a cluster and what each of them counts for; joint while ``outgoing_voters`` is not empty.

    :ivar members: every member by id, whatever its role.
    :ivar voters: the voters (of the new side, while joint).
    :ivar outgoing_voters: the voters of the old side while joint, else empty.
    :ivar learners: members that replicate and do not count.
    :ivar learners_next: voters of the old side that become learners when the joint configuration is left.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    voters: frozenset[str] = frozenset()
    outgoing_voters: frozenset[str] = frozenset()
    learners: frozenset[str] = frozenset()
    learners_next: frozenset[str] = frozenset()

    @property
    def is_joint(self) -> bool:
        """Whether agreement needs a majority of both sides."""
        return bool(self.outgoing_voters)

    def encode(self) -> bytes:
        """Return the payload of a configuration entry: canonical JSON, the same bytes on every node."""
        value = {
            "version": 1,
            "members": {
                member.id: [member.incarnation, member.raft_addr, member.rpc_addr, member.http_addr]
                for member in self.members.values()
            },
            "voters": sorted(self.voters),
            "outgoing_voters": sorted(self.outgoing_voters),
            "learners": sorted(self.learners),
            "learners_next": sorted(self.learners_next),
        }
        return json.dumps(value, sort_keys=True, separators=(",", ":")).encode()

    @classmethod
    def decode(cls, payload: bytes) -> Configuration:
        """Return the configuration that :meth:`encode` packed.

        :raises ValueError: the bytes are not such a payload, or of a version that is not known.
        """
        value = json.loads(payload)
        if not isinstance(value, dict) or value.get("version") != 1:
            raise ValueError(f"not a configuration of version 1: {payload[:80]!r}")
        return cls(
            members={
                name: Member(id=name, incarnation=inc, raft_addr=raft, rpc_addr=rpc, http_addr=http)
                for name, (inc, raft, rpc, http) in value["members"].items()
            },
            voters=frozenset(value["voters"]),
            outgoing_voters=frozenset(value["outgoing_voters"]),
            learners=frozenset(value["learners"]),
            learners_next=frozenset(value["learners_next"]),
        )
