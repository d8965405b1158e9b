"""What the state machines really did: a witness for the judge of histories.

An operation of unknown outcome makes the search for an order hard, and the history of a bad day has dozens. The log
knows better than the client: a write that it holds took effect with that answer, and one that it does not hold never
did. With that told, the search hardly has to search, and what clients *were* told can be compared with what happened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Sequence

import msgpack

from raftkv.interfaces import Command, Result
from raftkv.kvstore.commands import OK, PUT, SESSION
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation, OperationOutcome


class AppliedWrites:
    """Every write that some node has applied, with its answer; values of puts must be unique in a run."""

    def __init__(self) -> None:
        self._index = 0
        self._by_value: dict[bytes, Result] = {}
        self._by_session: dict[tuple[bytes, int], Result] = {}

    def note(self, entry: Entry, results: Sequence[Result]) -> None:
        """Take note of an applied entry; each index counts once, whichever node is first.

        :raises Violation: a write without a session was applied twice.
        """
        if entry.index <= self._index:
            return
        self._index = entry.index
        if entry.kind is EntryKind.COMMANDS:
            _, _, _, commands = msgpack.unpackb(entry.payload, use_list=False)
            for command, result in zip(commands, results, strict=True):
                self._note_command(command, result)

    def _note_command(self, command: Command, result: Result) -> None:
        if command[0] == SESSION:
            self._by_session.setdefault((command[1], command[2]), result)
        elif command[0] == PUT:
            if command[3] in self._by_value:
                raise Violation("applied twice", f"the write of {command[3]!r} is in the log twice")
            self._by_value[command[3]] = result

    def testify(self, history: Iterable[Operation]) -> History:
        """Compare what clients were told with what happened, and settle what they were not told.

        :return: the history with every outcome settled that the log can settle.
        :raises Violation: a client was told something else.
        """
        settled = History()
        for operation in history:
            if operation.kind == "get" or (operation.kind == "delete" and operation.sequence is None):
                settled.add(operation)
                continue
            result = self._find(operation)
            if operation.outcome is OperationOutcome.OK:
                if result is None or tuple(result) != tuple(operation.result or ()):
                    raise Violation("wrong answer", f"the log has {result} for {operation}")
                settled.add(operation)
            elif result is not None:
                if operation.outcome is OperationOutcome.NOT_APPLIED and _changed_something(operation, result):
                    raise Violation("applied after all", f"the log has {result} for {operation}")
                settled.add(
                    dataclasses.replace(operation, outcome=OperationOutcome.OK, result=tuple(result), returned=None)
                )
        return settled

    def _find(self, operation: Operation) -> Result | None:
        if operation.sequence is not None:
            return self._by_session.get((operation.client.encode(), operation.sequence))
        return self._by_value.get(operation.value)


def _changed_something(operation: Operation, result: Result) -> bool:
    return result[0] == OK and (operation.kind == "put" or bool(result[2]))
