"""Clients of a simulated cluster: what they ask, how they retry, and what they note in the history.

They use the nodes' :class:`~raftkv.interfaces.IKeyValue` over the simulated network, as the RPC and HTTP interfaces
would, and trust every ``outcome`` they are told. They know nothing of Raft or of faults.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

from raftkv.errors import Outcome, RaftKVError
from raftkv.interfaces import Command, Consistency, Record
from raftkv.kvstore.commands import ABSENT, ANY, EXISTS, OK, PRECONDITION_FAILED, delete, in_session, put
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation, OperationKind
from raftkv.testing.network import Process, SimulatedNetwork
from raftkv.testing.transport import RemoteCall


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


class Workload:
    """All clients of one run.

    :param nodes: where they may ask.
    :param random_of_reads: draws how consistent a read is to be; apart, so that a story is otherwise the same without.
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
    ) -> None:
        self.network = network
        self.history = history
        self.random = random
        self.random_of_reads = random_of_reads or random
        self.nodes = nodes
        self.settings = settings
        self.seen: dict[bytes, int] = {}
        self.served_by_fenced: list[str] = []
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
        self.busy = 0

    def think(self) -> None:
        """Do nothing for a while, then begin an operation."""
        pause = self._workload.random.expovariate(1 / self._workload.settings.think_seconds)
        self._workload.network.clock.callLater(pause, self._begin)

    def _begin(self) -> None:
        if self._workload.is_stopped:
            return
        chance = self._workload.random
        kind: OperationKind = chance.choices(("get", "put", "delete"), (45, 40, 15))[0]
        key = b"k%d" % chance.randrange(self._workload.settings.keys)
        expect = self._draw_condition(key) if kind != "get" and chance.random() < 0.35 else ANY
        in_session_too = chance.random() < self._workload.settings.session_share
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
        self.busy += 1

        def returned() -> None:
            self.busy -= 1
            finished()

        if kind == "get":
            _Read(workload, operation, returned, nodes).send()
            return operation
        command = put(key, value, expect) if kind == "put" else delete(key, expect)
        if in_session_too:
            command = in_session(self._name.encode(), self._sequence, command)
        attempts = workload.settings.attempts if in_session_too else 1
        _Write(workload, operation, returned, nodes, command, attempts).send()
        return operation


class _Request:
    """One operation on its way; every attempt may still answer until it has ended."""

    def __init__(
        self, workload: Workload, operation: Operation, finished: Callable[[], None], nodes: Sequence[str]
    ) -> None:
        self._workload = workload
        self._operation = operation
        self._finished = finished
        self._nodes = nodes or workload.nodes
        self._sent = 0
        self._ended = False

    def send(self) -> None:
        """Make an attempt."""
        workload, attempt = self._workload, self._sent
        self._sent += 1
        node = self._nodes[attempt % len(self._nodes)] if self._nodes is not workload.nodes else self._anybody()
        RemoteCall(
            workload.network,
            origin=self._operation.client,
            clock=None,
            to=node,
            ask=self._ask,
            answered=lambda answer: self._hear(attempt, answer),
        ).depart()
        workload.network.clock.callLater(workload.settings.patience_seconds, self._hear, attempt, None)

    def _anybody(self) -> str:
        return self._workload.random.choice(self._workload.nodes)

    def _ask(self, process: Process, answer: Callable[[Any], None]) -> None:
        raise NotImplementedError

    def _hear(self, attempt: int, answer: Any) -> None:
        """An answer came, or (``None``) patience ended, to one of the attempts."""
        raise NotImplementedError

    def _end(self, note: Callable[[float], None]) -> None:
        self._ended = True
        now = self._workload.network.clock.seconds()
        note(now)
        self._workload.network.trace.note(f"return {self._operation}")
        self._finished()


class _Read(_Request):
    """A get, as consistent as it is asked to be: one attempt."""

    def _ask(self, process: Process, answer: Callable[[Any], None]) -> None:
        key_value = process.key_value
        if key_value is None:
            raise RuntimeError("a process without a store was asked")

        operation = self._operation

        def may_read(error: RaftKVError | None) -> None:
            if error is not None:
                answer(error)
                return
            if process.is_fenced():
                # What is raised here is the caller's own mistake to the node, and only logged.
                self._workload.served_by_fenced.append(f"{process.identity.node_id} answers {operation}")
            # Read in this very call: the barrier promises nothing for later.
            staleness = key_value.staleness() if operation.consistency == "stale" else None
            answer((key_value.get(operation.key), staleness, self._workload.network.clock.seconds()))

        key_value.barrier(operation.consistency, may_read, max_stale_seconds=operation.max_stale_seconds)

    def _hear(self, attempt: int, answer: Any) -> None:
        if self._ended:
            return
        history, operation = self._workload.history, self._operation
        if answer is None or isinstance(answer, RaftKVError):
            self._end(lambda now: history.failed(operation, "not_applied", now=now))
            return
        record: Record | None
        record, operation.staleness_seconds, operation.served_at = answer
        self._workload.seen[operation.key] = record[2] if record is not None else ABSENT
        self._end(lambda now: history.read(operation, record, now=now))


class _Write(_Request):
    """A put or delete; in a session it is sent again through another node while its outcome is open."""

    def __init__(
        self,
        workload: Workload,
        operation: Operation,
        finished: Callable[[], None],
        nodes: Sequence[str],
        command: Command,
        attempts: int,
    ) -> None:
        super().__init__(workload, operation, finished, nodes)
        self._command = command
        self._attempts = attempts
        self._open: set[int] = set()
        self._may_be_applied = False

    def send(self) -> None:
        """Make an attempt."""
        self._open.add(self._sent)
        super().send()

    def _ask(self, process: Process, answer: Callable[[Any], None]) -> None:
        if process.key_value is not None:
            process.key_value.write([self._command], answer)

    def _hear(self, attempt: int, answer: Any) -> None:
        if self._ended:
            return
        if answer is not None and not isinstance(answer, RaftKVError):
            self._answered(answer[0])
        elif attempt in self._open:
            self._open.discard(attempt)
            if answer is None or answer.outcome == "unknown":
                self._may_be_applied = True
            self._try_again()

    def _answered(self, result: tuple[Any, ...]) -> None:
        workload, operation = self._workload, self._operation
        if result[0] not in (OK, PRECONDITION_FAILED):
            raise Violation("session", f"{operation} was answered {result}: its number was new and is recent")
        revision = result[1]
        if operation.kind == "delete" and result[0] == OK:
            revision = ABSENT
        workload.seen[operation.key] = revision
        self._end(lambda now: workload.history.answered(operation, result, now=now))

    def _try_again(self) -> None:
        if self._sent < self._attempts:
            self._workload.network.clock.callLater(self._workload.random.uniform(0.0, 0.2), self._send_unless_ended)
            return
        if self._open:
            return
        outcome: Outcome = "unknown" if self._may_be_applied else "not_applied"
        self._end(lambda now: self._workload.history.failed(self._operation, outcome, now=now))

    def _send_unless_ended(self) -> None:
        if not self._ended and self._sent < self._attempts:
            self.send()
