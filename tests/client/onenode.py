"""A cluster of one behind the real HTTP API, in memory."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from treq.testing import StubTreq
from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from zope.interface import implementer

from raftkv import errors
from raftkv.interfaces import Command, IKeyValue, INode, Leadership, Result
from raftkv.interfaces import Record as Stored
from raftkv.kvstore.commands import pack_batch
from raftkv.kvstore.store import Store
from raftkv.web.app import Api
from raftkv.web.settings import WebSettings


@implementer(IKeyValue, INode)
class OneNode:
    """A cluster of one, without a log: a command is applied as it comes.

    :ivar refusals: errors that the next writes get after they have been applied: their answers are lost.
    :ivar after_write: called once, between applying the next write and answering it.
    :ivar hold: whether writes wait for :meth:`release`; ``held_commands`` says how many do.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.applied = 0
        self.refusals: list[errors.RaftKVError] = []
        self.leader_rpc_addr = "127.0.0.1:8081"
        self.leads = False
        self.after_write: Callable[[], None] | None = None
        self.hold = False
        self.held_commands = 0
        self.bounds: list[float | None] = []
        self.age: float | None = None
        self._held: list[tuple[Sequence[Command], Callable[[Sequence[Result] | errors.RaftKVError], None]]] = []

    def treq(self, clock: Clock) -> StubTreq:
        """Return a treq client whose requests all come here."""
        api = Api(key_value=self, node=self, settings=WebSettings(), clock=clock, wall_seconds=clock.seconds)
        return StubTreq(api.app.resource())

    def write(
        self,
        commands: Sequence[Command],
        done: Callable[[Sequence[Result] | errors.RaftKVError], None],
        *,
        forwarded: bool = False,
    ) -> None:
        if self.hold:
            self.held_commands += len(commands)
            self._held.append((commands, done))
            return
        self.applied += 1
        results = self.store.apply(self.applied, pack_batch(0, 0, commands))
        if self.after_write is not None:
            happening, self.after_write = self.after_write, None
            happening()
        done(self.refusals.pop(0) if self.refusals else results)

    def acquire(self, command: Command, done: Callable[[Result | errors.RaftKVError], None]) -> Callable[[], None]:
        self.write([command], lambda outcome: done(outcome if isinstance(outcome, errors.RaftKVError) else outcome[0]))
        return lambda: None

    def release(self) -> None:
        """Apply and answer what is held."""
        held, self._held, holding = self._held, [], self.hold
        self.hold, self.held_commands = False, 0
        for commands, done in held:
            self.write(commands, done)
        self.hold = holding

    def barrier(
        self,
        consistency: str,
        done: Callable[[errors.RaftKVError | None], None],
        *,
        max_stale_seconds: float | None = None,
    ) -> None:
        self.bounds.append(max_stale_seconds)
        done(None)

    def at_turn_end(self, call: Callable[[], None]) -> bool:
        """There are no turns."""
        return False

    def staleness(self) -> float | None:
        return self.age

    def get(self, key: bytes) -> Stored | None:
        return self.store.get(key)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Stored]]:
        return self.store.scan(start, end, limit)

    def revision(self) -> int:
        return self.store.revision

    def state(self) -> Store:
        return self.store

    def leadership(self) -> Leadership:
        return Leadership(
            node_id="node1",
            term=3,
            leader="node1",
            leader_http_addr="127.0.0.1:8080",
            leader_rpc_addr=self.leader_rpc_addr,
            is_leader=self.leads,
        )

    def status(self) -> dict[str, Any]:
        numbers = ("commit_index", "applied_index", "first_index", "last_index", "snapshot_index")
        return {
            "node_id": "node1",
            "cluster_id": "c0",
            "role": "leader",
            "term": 3,
            "leader": "node1",
            **dict.fromkeys(numbers, self.applied),
            "revision": self.store.revision,
            "compact_revision": 0,
            "keys": self.store.key_count,
            "digest": self.store.digest(),
            "uptime": 1.0,
            "version": "0.1.0",
            "alarms": [],
        }

    def cluster(self) -> Deferred[dict[str, Any]]:
        return succeed(self.local_cluster())

    def local_cluster(self) -> dict[str, Any]:
        member = {"id": "node1", "raft_addr": "h:1", "rpc_addr": "h:2", "http_addr": "h:3", "role": "voter"}
        known = {"leader": True, "match_index": self.applied, "healthy": True, "last_contact": 0.0}
        return {"cluster_id": "c0", "leader": "node1", "term": 3, "members": [{**member, **known}]}

    def is_ready(self) -> tuple[bool, str]:
        return True, ""

    def counters(self) -> Mapping[str, float]:
        return {}
