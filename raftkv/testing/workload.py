"""Clients of a simulated cluster: what they ask, and when. They know nothing of Raft or of faults.

Here are the plain operations, on single keys that nothing else touches, and the pace of it all; everything else that
the store can do is in :mod:`raftkv.testing.errands`. How one operation is carried out is in
:mod:`raftkv.testing.requests`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field

from raftkv.interfaces import Command, Consistency
from raftkv.kvstore.commands import ABSENT, ANY, EXISTS, in_session
from raftkv.testing.errands import Errands, Known
from raftkv.testing.history import History, Operation, OperationKind
from raftkv.testing.network import SimulatedNetwork
from raftkv.testing.queries import Query
from raftkv.testing.requests import Read, Write
from raftkv.testing.witness import command_of


@dataclass(frozen=True, slots=True, kw_only=True)
class WorkloadSettings:
    """What the clients do.

    :ivar clients: how many there are, each with one operation at a time.
    :ivar keys: how many keys they share.
    :ivar think_seconds: mean pause of a client between two operations.
    :ivar patience_seconds: how long a client waits for one answer.
    :ivar attempts: how often a write in a session is sent before its client gives up.
    :ivar session_share: share of the writes that are in a session.
    :ivar lease_share: share of the reads that trust the leader's lease.
    :ivar stale_share: share of the reads that may be stale, most of them within a bound.
    :ivar large_share: share of the puts whose value spans several sectors of a disk.
    :ivar errand_share: share of the operations that are not plain, drawn from ``mix``.
    """

    clients: int = 6
    keys: int = 6
    think_seconds: float = 0.5
    patience_seconds: float = 2.0
    attempts: int = 4
    session_share: float = 0.5
    lease_share: float = 0.0
    stale_share: float = 0.0
    large_share: float = 0.0
    errand_share: float = 0.0
    mix: Mapping[str, float] = field(default_factory=dict)


class Workload:
    """All clients of one run.

    :param nodes: where they may ask.
    :param random_of_reads: draws how consistent a read is to be; apart, so that a story is otherwise the same without;
        likewise ``random_of_errands``.
    :ivar seen: the mod revision that some client last saw for each key: what conditions are made of.
    """

    def __init__(
        self,
        *,
        network: SimulatedNetwork,
        history: History,
        random: random.Random,
        nodes: Sequence[str],
        settings: WorkloadSettings,
        random_of_reads: random.Random | None = None,
        random_of_errands: random.Random | None = None,
    ) -> None:
        self.network = network
        self.history = history
        self.random = random
        self.random_of_reads = random_of_reads or random
        self.random_of_errands = random_of_errands or random
        self.nodes = nodes
        self.settings = settings
        self.seen: dict[bytes, int] = {}
        self.known = Known()
        self.served_by_fenced: list[str] = []
        self.is_excused: Callable[[str, int, Query | None], bool] = lambda name, index, query: False
        self.is_stopped = False
        self.clients = [Client(self, f"c{number}") for number in range(settings.clients)]
        self._hasty = Client(self, "hasty")

    def start(self) -> None:
        """Let every client begin, each at a moment of its own."""
        for client in self.clients:
            client.think()

    def burst(self, node: str, count: int) -> None:
        """Let somebody write to one node several times in quick succession: entry by entry, or many in one batch."""
        pause_seconds = self.random.choice((0.004, 0.004, 0.0005))
        large_share = 1.0 if self.settings.large_share and self.random.random() < 0.5 else 0.0
        for number in range(count):
            self.network.clock.callLater(pause_seconds * number, self._write_unless_stopped, node, large_share)

    def _write_unless_stopped(self, node: str, large_share: float) -> None:
        if not self.is_stopped:
            self.write_to(node, large_share)

    def write_to(self, node: str, large_share: float = 0.0) -> None:
        """Let somebody write to one node, now."""
        key = b"k%d" % self.random.randrange(self.settings.keys)
        self._hasty.operate("put", key, ANY, lambda: None, nodes=[node], large_share=large_share)

    def glance(self, node: str, count: int) -> None:
        """Let somebody read from one node several times in quick succession, as consistently as may be promised."""
        for number in range(count):
            self.network.clock.callLater(0.004 * number, self._read_from, node)

    def _read_from(self, node: str) -> None:
        if not self.is_stopped:
            key = b"k%d" % self.random.randrange(self.settings.keys)
            consistency: Consistency = "lease" if self.random.random() < 0.5 else "linearizable"
            self._hasty.operate("get", key, ANY, lambda: None, nodes=[node], consistency=consistency)

    def stop(self) -> None:
        """Let no client begin anything new."""
        self.is_stopped = True

    @property
    def patience_seconds(self) -> float:
        """How long a client waits for one answer."""
        return self.settings.patience_seconds

    @property
    def is_idle(self) -> bool:
        """Whether no operation is under way."""
        return not any(client.busy for client in (*self.clients, self._hasty))


class Client:
    """One client: one operation at a time, then a pause.

    :ivar busy: how many of its operations are under way.
    """

    def __init__(self, workload: Workload, name: str) -> None:
        self._workload = workload
        self._name = name
        self._sequence = 0
        self._values = 0
        self._errands = Errands(
            self,
            workload.known,
            random=workload.random_of_errands,
            mix=workload.settings.mix,
            session_share=workload.settings.session_share,
        )
        self.busy = 0

    def think(self) -> None:
        """Do nothing for a while, then begin an operation."""
        pause = self._workload.random.expovariate(1 / self._workload.settings.think_seconds)
        self._workload.network.clock.callLater(pause, self._begin)

    def _begin(self) -> None:
        if self._workload.is_stopped:
            return
        chance, settings = self._workload.random, self._workload.settings
        if settings.errand_share and self._workload.random_of_errands.random() < settings.errand_share:
            self._errands.run(self._finished)
            return
        kind: OperationKind = chance.choices(("get", "put", "delete"), (45, 40, 15))[0]
        key = b"k%d" % chance.randrange(settings.keys)
        expect = self._draw_condition(key) if kind != "get" and chance.random() < 0.35 else ANY
        in_session_too = chance.random() < settings.session_share
        consistency, bound = self._draw_consistency() if kind == "get" else ("linearizable", None)
        self.operate(
            kind,
            key,
            expect,
            self._finished,
            in_session_too=in_session_too,
            consistency=consistency,
            max_stale_seconds=bound,
        )

    def _draw_value(self, large_share: float | None) -> bytes:
        """Draw a value that nobody else writes; a large one is made of what a torn write could be mistaken for."""
        name, workload = f"{self._name}-{self._sequence}".encode(), self._workload
        share = workload.settings.large_share if large_share is None else large_share
        if share and workload.random.random() < share:
            return name.ljust(workload.random.choice((600, 1200)), workload.random.choice((b"\0", b"x")))
        return name

    def _draw_consistency(self) -> tuple[Consistency, float | None]:
        chance, settings = self._workload.random_of_reads, self._workload.settings
        draw = chance.random()
        if draw < settings.lease_share:
            return "lease", None
        if draw < settings.lease_share + settings.stale_share:
            return "stale", chance.choice((None, 0.0, 0.05, 0.3, 1.0, 5.0))
        return "linearizable", None

    def _draw_condition(self, key: bytes) -> int:
        chance = self._workload.random
        known = self._workload.seen.get(key, ABSENT)
        return chance.choices((known, ABSENT, EXISTS, max(1, known - 1)), (6, 2, 1, 1))[0]

    def _finished(self) -> None:
        self.think()

    def operate(
        self,
        kind: OperationKind,
        key: bytes,
        expect: int,
        finished: Callable[[], None],
        *,
        in_session_too: bool = False,
        nodes: Sequence[str] = (),
        consistency: Consistency = "linearizable",
        max_stale_seconds: float | None = None,
        large_share: float | None = None,
    ) -> Operation:
        """Carry out one operation.

        :param finished: called once it has returned.
        :param nodes: whom to ask, one after the other; anybody where empty.
        :param large_share: how often the value of a put is large; as often as usual where ``None``.
        """
        workload = self._workload
        self._sequence += 1
        value = self._draw_value(large_share) if kind == "put" else b""
        operation = workload.history.invoke(
            client=self._name,
            kind=kind,
            key=key,
            value=value,
            expect=expect,
            consistency=consistency,
            max_stale_seconds=max_stale_seconds,
            sequence=self._sequence if in_session_too and kind != "get" else None,
            now=workload.network.clock.seconds(),
        )
        workload.network.trace.note(f"invoke {self._name} {kind} {key!r} {value!r} {expect}")
        self._send(operation, finished, nodes)
        return operation

    def write(self, command: Command, finished: Callable[[], None], *, in_session_too: bool) -> Operation:
        """Carry out a write that is not plain."""
        workload = self._workload
        self._sequence += 1
        operation = workload.history.invoke(
            client=self._name,
            kind="write",
            command=command,
            sequence=self._sequence if in_session_too else None,
            now=workload.network.clock.seconds(),
        )
        workload.network.trace.note(f"invoke {self._name} {command}")
        self._send(operation, finished)
        return operation

    def read(self, query: Query, finished: Callable[[], None]) -> Operation:
        """Carry out a read that is not plain, as consistent as any other."""
        workload = self._workload
        consistency, bound = self._draw_consistency()
        operation = workload.history.invoke(
            client=self._name,
            kind="read",
            query=query,
            consistency=consistency,
            max_stale_seconds=bound,
            now=workload.network.clock.seconds(),
        )
        workload.network.trace.note(f"invoke {self._name} {query}")
        self._send(operation, finished)
        return operation

    def draw_value(self) -> bytes:
        """Draw a value that nobody else writes."""
        self._values += 1
        share = self._workload.settings.large_share
        name = f"{self._name}-{self._sequence}-{self._values}".encode()
        return name.ljust(1200, b"x") if share and self._workload.random_of_errands.random() < share else name

    def _send(self, operation: Operation, finished: Callable[[], None], nodes: Sequence[str] = ()) -> None:
        workload = self._workload
        self.busy += 1

        def returned() -> None:
            self.busy -= 1
            finished()

        if operation.is_read:
            Read(workload, operation, returned, nodes).send()
            return
        command, attempts = command_of(operation), 1
        if operation.sequence is not None:
            command = in_session(self._name.encode(), operation.sequence, command)
            attempts = workload.settings.attempts
        Write(workload, operation, returned, nodes, command, attempts).send()
