"""One operation of a client on its way: sent, heard of or not, sent again where that is safe, and noted.

It is asked of a node's :class:`~raftkv.interfaces.IKeyValue` over the simulated network, as the RPC and HTTP interfaces
would, and trusts every ``outcome`` that it is told. What is asked, and when, is decided elsewhere
(:mod:`raftkv.testing.workload`).
"""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Protocol

from raftkv.errors import Fenced, Outcome, RaftKVError
from raftkv.interfaces import Command
from raftkv.kvstore.commands import ABSENT, OK, PRECONDITION_FAILED, SEQUENCE_REUSED, SEQUENCE_TOO_OLD
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation
from raftkv.testing.network import Process, SimulatedNetwork
from raftkv.testing.queries import Query, answer_of
from raftkv.testing.transport import RemoteCall


class Sender(Protocol):
    """What a request needs of the workload that it is part of.

    :ivar seen: the mod revision that some client last saw for each plain key.
    :ivar served_by_fenced: what was answered by a node that knew that its state is wrong.
    :ivar is_excused: tells whether what a node answers to a query (``None`` for a plain key) need not be right, for its
        state was made wrong on purpose; by its name and index.
    """

    network: SimulatedNetwork
    history: History
    random: random.Random
    nodes: Sequence[str]
    seen: dict[bytes, int]
    served_by_fenced: list[str]
    is_excused: Callable[[str, int, Query | None], bool]

    @property
    def patience_seconds(self) -> float:
        """How long a client waits for one answer."""


@dataclass(frozen=True, slots=True)
class Served:
    """What a node answers to a read.

    :ivar found: what was asked for.
    :ivar staleness_seconds: how old the state is at the most, as the node says.
    :ivar at: virtual time.
    :ivar revision: of the state.
    :ivar index: the last entry that was applied to it.
    :ivar is_excused: whether it is known to be wrong.
    """

    found: Any
    staleness_seconds: float | None
    at: float
    revision: int
    index: int
    is_excused: bool


class Request:
    """One operation on its way; every attempt may still answer until it has ended."""

    def __init__(
        self, workload: Sender, operation: Operation, finished: Callable[[], None], nodes: Sequence[str]
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
        workload.network.clock.callLater(workload.patience_seconds, self._hear, attempt, None)

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


class Read(Request):
    """A read, as consistent as it is asked to be: one attempt."""

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
            store, query = key_value.state(), operation.query
            is_excused = self._workload.is_excused(process.identity.node_id, store.applied_index, query)
            try:
                found = key_value.get(operation.key) if query is None else answer_of(query, store)
            except LookupError:
                if not is_excused:
                    raise
                answer(Fenced())  # a state that was changed behind the store's back may contradict itself
                return
            answer(
                Served(
                    found=found,
                    staleness_seconds=key_value.staleness() if operation.consistency == "stale" else None,
                    at=self._workload.network.clock.seconds(),
                    revision=store.revision,
                    index=store.applied_index,
                    is_excused=is_excused,
                )
            )

        key_value.barrier(operation.consistency, may_read, max_stale_seconds=operation.max_stale_seconds)

    def _hear(self, attempt: int, answer: Any) -> None:
        if self._ended:
            return
        history, operation = self._workload.history, self._operation
        if answer is None or isinstance(answer, RaftKVError):
            self._end(lambda now: history.failed(operation, "not_applied", now=now))
            return
        served: Served = answer
        operation.staleness_seconds, operation.served_at = served.staleness_seconds, served.at
        operation.is_excused = served.is_excused
        if operation.query is None:
            self._workload.seen[operation.key] = served.found[2] if served.found is not None else ABSENT
        self._end(
            lambda now: history.read(operation, served.found, now=now, revision=served.revision, index=served.index)
        )


class Write(Request):
    """A write; in a session it is sent again through another node while its outcome is open."""

    def __init__(
        self,
        workload: Sender,
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
        if result[0] in (SEQUENCE_REUSED, SEQUENCE_TOO_OLD):
            raise Violation("session", f"{operation} was answered {result}: its number was new and is recent")
        if operation.is_plain:
            if result[0] not in (OK, PRECONDITION_FAILED):
                raise Violation("session", f"{operation} was answered {result}, which fits another one")
            workload.seen[operation.key] = ABSENT if operation.kind == "delete" and result[0] == OK else result[1]
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
