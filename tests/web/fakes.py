"""A store and a node in memory, which answer when a test says so."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from raftkv.errors import RaftKVError
from raftkv.interfaces import Command, Consistency, IKeyValue, INode, Leadership, Record, Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import expire, pack_batch
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.tickets import Tickets
from raftkv.watches import IWatch, WatchReceiver, WatchRequest


@implementer(IKeyValue)
class FakeKeyValue:
    """The real state machine, without a log: a write takes effect when it is let through.

    :ivar holds: whether calls wait in ``waiting`` until the test lets them through; else they are answered at once.
    :ivar refusal: what every call is answered with, where it is not ``None``.
    :ivar commands: all that were written.
    :ivar consistencies: those of all barriers.
    :ivar now_ms: the cluster's time.
    :ivar now_seconds: this node's own clock.
    :ivar tickets: those who wait for locks.
    """

    def __init__(self) -> None:
        self.store = Store()
        self.holds = False
        self.refusal: RaftKVError | None = None
        self.waiting: list[Callable[[], None]] = []
        self.commands: list[Command] = []
        self.consistencies: list[Consistency] = []
        self.bounds: list[float | None] = []
        self.age: float | None = None
        self.results: Sequence[Result] | None = None
        self.now_ms = 0
        self.now_seconds = 0.0
        self.tickets = Tickets(
            store=lambda: self.store,
            submit=self.write,
            barrier=self.barrier,
            seconds=lambda: self.now_seconds,
            patience_seconds=5.0,
        )
        self.watches: Any = None

    def write(
        self,
        commands: Sequence[Command],
        done: Callable[[Sequence[Result] | RaftKVError], None],
        *,
        forwarded: bool = False,
    ) -> None:
        self.commands.extend(commands)

        def apply() -> None:
            if self.refusal is not None:
                done(self.refusal)
            elif self.results is not None:
                done(self.results)
            else:
                done(self.apply(*commands))

        self._call(apply)

    def apply(self, *commands: Command) -> Sequence[Result]:
        """Apply an entry, now."""
        entry = Entry(
            index=self.store.applied_index + 1,
            term=1,
            kind=EntryKind.COMMANDS,
            payload=pack_batch(self.now_ms, 0, commands),
        )
        results = self.store.apply(entry.index, entry.payload)
        self.tickets.applied(entry, results)
        return results

    def pass_time(self, seconds: float) -> None:
        """Let time go by, and what has come to its end be ended."""
        self.now_ms += round(seconds * 1000)
        self.now_seconds += seconds
        self.apply(expire(1000))
        self.tickets.tick()

    def acquire(self, command: Command, done: Callable[[Result | RaftKVError], None]) -> Callable[[], None]:
        return self.tickets.acquire(command, done)

    def barrier(
        self,
        consistency: Consistency,
        done: Callable[[RaftKVError | None], None],
        *,
        max_stale_seconds: float | None = None,
    ) -> None:
        self.consistencies.append(consistency)
        self.bounds.append(max_stale_seconds)
        self._call(lambda: done(self.refusal))

    def at_turn_end(self, call: Callable[[], None]) -> bool:
        """There are no turns."""
        return False

    def staleness(self) -> float | None:
        return self.age

    def get(self, key: bytes) -> Record | None:
        return self.store.get(key)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        return self.store.scan(start, end, limit)

    def revision(self) -> int:
        return self.store.revision

    def state(self) -> Store:
        return self.store

    def watch(self, request: WatchRequest, receiver: WatchReceiver) -> IWatch:
        raise NotImplementedError  # tests.web.watched puts real ones in its place

    def _call(self, call: Callable[[], None]) -> None:
        if self.holds:
            self.waiting.append(call)
        else:
            call()

    def let_through(self) -> None:
        """Answer everything that waits."""
        waiting, self.waiting = self.waiting, []
        for call in waiting:
            call()


@implementer(INode)
class FakeNode:
    """A follower of a cluster of two, until told otherwise.

    :ivar now: who leads.
    :ivar ready: what :meth:`is_ready` says.
    :ivar alarms: what the status says of alarms.
    :ivar cluster_result: what :meth:`cluster` fires with, and each change.
    :ivar requests: the changes that were asked for.
    """

    def __init__(self) -> None:
        self.now = Leadership(
            node_id="node1",
            term=7,
            leader="node2",
            leader_http_addr="10.0.0.2:8080",
            leader_rpc_addr="10.0.0.2:8081",
            is_leader=False,
        )
        self.ready = (True, "")
        self.alarms: list[str] = []
        self.cluster_id = "c0ffee"
        self.cluster_result: Deferred[dict[str, Any]] | None = None
        self.requests: list[tuple[str, Mapping[str, Any]]] = []

    def leadership(self) -> Leadership:
        return self.now

    def status(self) -> dict[str, Any]:
        return {
            "node_id": "node1",
            "cluster_id": self.cluster_id,
            "role": "follower",
            "term": 7,
            "leader": "node2",
            "revision": 42,
            "uptime": 1.5,
            "alarms": self.alarms,
        }

    def cluster(self) -> Deferred[dict[str, Any]]:
        return self.cluster_result if self.cluster_result is not None else succeed(self.local_cluster())

    def local_cluster(self) -> dict[str, Any]:
        return {"cluster_id": "c0ffee", "leader": "node2", "term": 7, "members": []}

    def change_members(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        self.requests.append(("change", document))
        return self.cluster()

    def transfer_leadership(self, document: Mapping[str, Any]) -> Deferred[dict[str, Any]]:
        self.requests.append(("transfer", document))
        return self.cluster()

    def is_ready(self) -> tuple[bool, str]:
        return self.ready

    def counters(self) -> Mapping[str, float]:
        return {"proposals": 3.0, "applied_commands": 5.0, "watchers": 7.0}
