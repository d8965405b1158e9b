"""Who is in the cluster, as the log says it: voters, learners, and both sides of a joint configuration (section 6).

Knows how one configuration becomes another and which one is in force at which index of the log; not when a change
may be proposed or left, which is the leader's business.
"""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field, replace

from raftkv.errors import InvariantViolation


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
    :ivar promoting: learners that are to be voters as soon as they have caught up; whoever leads sees to it.
    """

    members: Mapping[str, Member] = field(default_factory=dict)
    voters: frozenset[str] = frozenset()
    outgoing_voters: frozenset[str] = frozenset()
    learners: frozenset[str] = frozenset()
    learners_next: frozenset[str] = frozenset()
    promoting: frozenset[str] = frozenset()

    @property
    def is_joint(self) -> bool:
        """Whether agreement needs a majority of both sides."""
        return bool(self.outgoing_voters)

    def is_voter(self, member: str) -> bool:
        """Tell whether a member's voice counts on either side (B9: a candidate counts itself by this)."""
        return member in self.voters or member in self.outgoing_voters

    def validate(self) -> None:
        """Check that the parts agree with each other.

        :raises ValueError: they do not; the message says where.
        """
        if not self.voters:
            raise ValueError("a configuration needs at least one voter")
        placed = self.voters | self.outgoing_voters | self.learners
        if placed != self.members.keys():
            odd = ", ".join(sorted(placed ^ self.members.keys()))
            raise ValueError(f"members and roles do not agree on: {odd}")
        for name, member in self.members.items():
            if not name or member.id != name:
                raise ValueError(f"member {member.id!r} stands under the name {name!r}")
        if both := self.learners & (self.voters | self.outgoing_voters):
            raise ValueError(f"voter and learner at once: {', '.join(sorted(both))}")
        if stray := self.learners_next - (self.outgoing_voters - self.voters):
            raise ValueError(f"only voters of the old side alone can become learners: {', '.join(sorted(stray))}")
        if idle := self.promoting - (self.learners | self.learners_next):
            raise ValueError(f"only learners can be promoted: {', '.join(sorted(idle))}")

    def enter_joint(self, target: Configuration) -> Configuration:
        """Return the joint configuration on the way from this one to ``target`` (section 6).

        Learners do not count, so they come and go at once; a voter that is to be a learner still votes for the old
        side until the joint configuration is left.
        """
        demoted = target.learners & self.voters
        return Configuration(
            members={**{name: self.members[name] for name in self.voters}, **target.members},
            voters=target.voters,
            outgoing_voters=self.voters,
            learners=target.learners - demoted,
            learners_next=demoted,
            promoting=target.promoting,
        )

    def leave_joint(self) -> Configuration:
        """Return the configuration that follows this joint one."""
        learners = self.learners | self.learners_next
        return replace(
            self,
            members={name: member for name, member in self.members.items() if name in self.voters | learners},
            outgoing_voters=frozenset(),
            learners=learners,
            learners_next=frozenset(),
        )

    def encode(self) -> bytes:
        """Return the payload of a configuration entry: canonical JSON, the same bytes on every node.

        ``promoting`` stands there only where there is somebody: versions that do not know it read the rest.
        """
        value: dict[str, object] = {
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
        if self.promoting:
            value["promoting"] = sorted(self.promoting)
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
            promoting=frozenset(value.get("promoting", ())),
        )


class ConfigurationHistory:
    """The configurations that the log holds, by the index of their entry.

    A server uses the latest one in its log, committed or not (section 6): it is in force once it is appended, and
    the one before it is again once it is truncated. What is compacted leaves behind the last one that it held (B21).

    :ivar changed: whether the one in force changed since a reader set this to false.
    """

    def __init__(self, configuration: Configuration, index: int) -> None:
        """Begin with a committed configuration.

        :param index: index of its entry, 0 for the initial one, which no entry holds.
        """
        self._history: list[tuple[int, Configuration]] = [(index, configuration)]
        self.changed = False

    @property
    def current(self) -> Configuration:
        """The configuration in force."""
        return self._history[-1][1]

    @property
    def current_index(self) -> int:
        """Index of the entry that holds the one in force; 0 for the initial one."""
        return self._history[-1][0]

    def at(self, index: int) -> tuple[Configuration, int]:
        """Return the last configuration that the log up to ``index`` holds, and its own index.

        :raises InvariantViolation: ``index`` lies before what was compacted.
        """
        for at, configuration in reversed(self._history):
            if at <= index:
                return configuration, at
        raise InvariantViolation(f"the configuration as of {index} was compacted; the oldest is {self._history[0][0]}")

    def since(self, index: int) -> list[Configuration]:
        """Return the last configuration that the log up to ``index`` holds, and all after it."""
        _, oldest = self.at(index)
        return [configuration for at, configuration in self._history if at >= oldest]

    def append(self, index: int, configuration: Configuration) -> None:
        """Put a configuration in force; its entry was appended at ``index``."""
        if index <= self.current_index:
            raise InvariantViolation(f"configuration {index} cannot follow configuration {self.current_index}")
        self._history.append((index, configuration))
        self.changed = True

    def truncate_from(self, index: int) -> None:
        """Take back the configurations whose entries are truncated."""
        kept = [held for held in self._history if held[0] < index]
        if not kept:
            raise InvariantViolation(f"the configuration {self._history[0][0]} would be truncated at {index}")
        if len(kept) < len(self._history):
            self._history = kept
            self.changed = True

    def compact(self, index: int) -> None:
        """Forget those that the last one up to ``index`` replaced; there are none where a snapshot came later."""
        oldest = max((at for at, _ in self._history if at <= index), default=0)
        self._history = [held for held in self._history if held[0] >= oldest]

    def restore(self, configuration: Configuration, index: int) -> None:
        """Take over the committed configuration of a snapshot in place of everything."""
        self._history = [(index, configuration)]
        self.changed = True
