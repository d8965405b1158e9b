"""Stand-ins for the core and the way to other nodes, as small as the tests of one service need."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from raftkv.errors import RaftKVError
from raftkv.interfaces import Command, IForwarder, Result
from raftkv.raft.messages import Entry, EntryKind
from raftkv.raft.ready import Role


class FakeNode:
    """A node whose role a test sets, and whose log is a list."""

    def __init__(self) -> None:
        self.node_id = "a"
        self.role = Role.LEADER
        self.leader: str | None = "a"
        self.current_term = 1
        self.log: list[Entry] = []
        self.refusal: Exception | None = None
        self.cluster_lacks_room = False
        self.disk_is_full = False
        self.last_index = 0
        self.needed_room: list[bool] = []
        self.contexts: list[int] = []
        self.by_lease: list[bool] = []
        self.lease: int | None = None  # the index that it proves
        self.lease_until = float("inf")

    def propose(self, payload: bytes, *, needs_room: bool = True) -> Entry:
        if self.refusal is not None:
            raise self.refusal
        self.needed_room.append(needs_room)
        entry = Entry(index=len(self.log) + 1, term=self.current_term, kind=EntryKind.COMMANDS, payload=payload)
        self.log.append(entry)
        return entry

    def read_index(self, context: int, *, lease: bool = False) -> None:
        self.contexts.append(context)
        self.by_lease.append(lease)

    def lease_index(self, now: float) -> int | None:
        return self.lease if now < self.lease_until else None

    def follow(self, leader: str | None) -> None:
        self.role = Role.FOLLOWER
        self.leader = leader


@implementer(IForwarder)
class FakeForwarder:
    """Keeps what it was given until a test answers it."""

    def __init__(self) -> None:
        self.sent: list[tuple[str, Sequence[Command], Callable[[Sequence[Result] | RaftKVError], None]]] = []

    def write(
        self, rpc_addr: str, commands: Sequence[Command], done: Callable[[Sequence[Result] | RaftKVError], None]
    ) -> None:
        self.sent.append((rpc_addr, commands, done))

    def call(self, rpc_addr: str, name: str, arguments: Mapping[str, Any]) -> Deferred[Any]:
        return succeed(None)

    def stop(self) -> Deferred[None]:
        return succeed(None)
