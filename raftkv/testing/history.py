"""What clients did and what they were told: the record that is judged in the end.

It knows operations, their order and their outcomes, and leaves to others how they were carried out. Order is a
counter, not the clock: many things happen at one instant of virtual time, yet one after the other.

The plain kinds (``get``, ``put``, ``delete``) are about one key that nothing else touches, so that the search of
:mod:`raftkv.testing.linearizability` can judge them by themselves. All others are a ``read`` or a ``write``, which say
what they are in a query or a command, and are judged by their place in the log (:mod:`raftkv.testing.ordering`).
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from enum import Enum
from typing import Any, Literal

from raftkv.errors import Outcome
from raftkv.interfaces import Command, Consistency, Record, Result
from raftkv.kvstore.commands import ANY
from raftkv.testing.queries import Query

OperationKind = Literal["get", "put", "delete", "read", "write"]


class OperationOutcome(Enum):
    """What a client knows of its operation in the end."""

    OK = "ok"  #: answered; a failed condition is an answer
    NOT_APPLIED = "not_applied"  #: certainly never took and never will take effect
    UNKNOWN = "unknown"  #: may have taken effect, may still, or never


@dataclass(slots=True, kw_only=True)
class Operation:
    """One operation of one client, from the moment it was invoked to the moment it returned.

    :ivar number: unique in its history, in order of invocation.
    :ivar client: who invoked it.
    :ivar kind: what it does to ``key``, where it is plain.
    :ivar command: of a write of any kind: what is sent, without the session.
    :ivar query: of a read that is not plain.
    :ivar value: what a put sets, ``b""`` otherwise.
    :ivar expect: the condition of a put or delete, as in :mod:`raftkv.kvstore.commands`.
    :ivar consistency: of a get.
    :ivar max_stale_seconds: the bound that a stale get asked for, ``None`` without one.
    :ivar staleness_seconds: how old the state was at the most that a stale get saw, as it was told; ``None`` for no
        idea.
    :ivar served_at: virtual time at which a stale get was served.
    :ivar sequence: its number in the client's session, ``None`` where it is in none.
    :ivar invoked: position in the history's order of events.
    :ivar invoked_at: virtual time in seconds, for people.
    :ivar returned: position of the return, ``None`` while under way.
    :ivar returned_at: virtual time of the return.
    :ivar outcome: what the client knows; an operation under way is unknown.
    :ivar result: of a write that is ok: the state machine's answer.
    :ivar record: of a get that is ok: the record, ``None`` where there was no key.
    :ivar answer: of another read that is ok.
    :ivar revision: of a read that is ok: the revision of the state that it saw.
    :ivar index: of a read that is ok: the last entry that was applied there; ``None`` where that is not known.
    :ivar is_excused: whether whoever served it was known to have a wrong state.
    """

    number: int
    client: str
    kind: OperationKind
    key: bytes
    value: bytes = b""
    expect: int = ANY
    consistency: Consistency = "linearizable"
    max_stale_seconds: float | None = None
    staleness_seconds: float | None = None
    served_at: float | None = None
    sequence: int | None = None
    invoked: int
    invoked_at: float
    returned: int | None = None
    returned_at: float | None = None
    outcome: OperationOutcome = OperationOutcome.UNKNOWN
    result: Result | None = None
    record: Record | None = None
    command: Command | None = None
    query: Query | None = None
    answer: Any = None
    revision: int = 0
    index: int | None = None
    is_excused: bool = False

    @property
    def is_plain(self) -> bool:
        """Whether it is about one key that nothing but plain operations touches."""
        return self.kind in ("get", "put", "delete")

    @property
    def is_read(self) -> bool:
        """Whether it changes nothing."""
        return self.kind in ("get", "read")

    def __str__(self) -> str:
        asked = self.key.decode("utf-8", "backslashreplace")
        if not self.is_plain:
            asked = str(self.command if self.kind == "write" else self.query)
        if self.kind == "put":
            asked += f"={self.value.decode('utf-8', 'backslashreplace')}"
        if self.consistency != "linearizable":
            bound = "" if self.max_stale_seconds is None else f" {self.max_stale_seconds:g} s"
            told = "" if self.staleness_seconds is None else f", told {self.staleness_seconds:.4f} s"
            asked += f" ({self.consistency}{bound}{told})"
        if self.expect != ANY:
            asked += f" if {self.expect}"
        answer: object = self.outcome.value
        if self.outcome is OperationOutcome.OK:
            answer = {"get": self.record, "read": self.answer}.get(self.kind, self.result)
            if self.is_read and self.index is not None:
                answer = f"{answer} at {self.index} (revision {self.revision})"
        until = "" if self.returned_at is None else f"{self.returned_at:.4f}"
        return f"#{self.number} {self.client} {self.kind} {asked} -> {answer} [{self.invoked_at:.4f}, {until}]"


class History:
    """Every operation of one run, in the order of invocation."""

    def __init__(self) -> None:
        self._operations: list[Operation] = []
        self._events = 0

    def __iter__(self) -> Iterator[Operation]:
        return iter(self._operations)

    def __len__(self) -> int:
        return len(self._operations)

    def add(self, operation: Operation) -> None:
        """Take over an operation of another history."""
        self._operations.append(operation)

    def invoke(
        self,
        *,
        client: str,
        kind: OperationKind,
        now: float,
        key: bytes = b"",
        value: bytes = b"",
        expect: int = ANY,
        consistency: Consistency = "linearizable",
        max_stale_seconds: float | None = None,
        sequence: int | None = None,
        command: Command | None = None,
        query: Query | None = None,
    ) -> Operation:
        """Note that a client begins an operation; the caller ends it with one of the other methods, or never."""
        operation = Operation(
            number=len(self._operations),
            client=client,
            kind=kind,
            key=key,
            value=value,
            expect=expect,
            consistency=consistency,
            max_stale_seconds=max_stale_seconds,
            sequence=sequence,
            invoked=self._next_event(),
            invoked_at=now,
            command=command,
            query=query,
        )
        self._operations.append(operation)
        return operation

    def answered(self, operation: Operation, result: Result, *, now: float) -> None:
        """Note the state machine's answer to a write, be it that its condition failed."""
        operation.result = result
        self._end(operation, OperationOutcome.OK, now)

    def read(
        self, operation: Operation, answer: Any, *, now: float, revision: int = 0, index: int | None = None
    ) -> None:
        """Note what a read saw: for a get the record, ``None`` where there was no key.

        :param revision: of the state that it saw.
        :param index: the last entry that was applied there.
        """
        if operation.kind == "get":
            operation.record = answer
        else:
            operation.answer = answer
        operation.revision, operation.index = revision, index
        self._end(operation, OperationOutcome.OK, now)

    def failed(self, operation: Operation, outcome: Outcome, *, now: float) -> None:
        """Note an error, with what the client was told of the effect."""
        self._end(operation, OperationOutcome(outcome), now)

    def by_key(self) -> dict[bytes, list[Operation]]:
        """Return the plain operations of each key, in the order of invocation."""
        keys: dict[bytes, list[Operation]] = {}
        for operation in filter(lambda each: each.is_plain, self._operations):
            keys.setdefault(operation.key, []).append(operation)
        return keys

    def count(self, outcome: OperationOutcome) -> int:
        """Return how many operations have this outcome."""
        return sum(operation.outcome is outcome for operation in self._operations)

    def _end(self, operation: Operation, outcome: OperationOutcome, now: float) -> None:
        if operation.returned is not None:
            raise ValueError(f"returned twice: {operation}")
        operation.outcome = outcome
        operation.returned = self._next_event()
        operation.returned_at = now

    def _next_event(self) -> int:
        self._events += 1
        return self._events
