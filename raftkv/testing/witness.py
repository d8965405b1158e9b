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
from raftkv.kvstore.commands import ANY, DELETE, OK, PUT, SESSION
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation, OperationOutcome
from raftkv.testing.keymodel import revision_taken


class AppliedWrites:
    """Every write that some node has applied, with its answer; values of puts must be unique in a run."""

    def __init__(self) -> None:
        self._index = 0
        self._by_value: dict[bytes, Result] = {}
        self._by_session: dict[tuple[bytes, int], Result] = {}
        # Revisions of deletes outside of sessions that found something, by key and condition: they bear no name.
        self._deletes: dict[tuple[bytes, int], list[int]] = {}

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
        elif command[0] == DELETE and result[0] == OK and result[2]:
            expect = command[3] if len(command) > 3 else ANY
            self._deletes.setdefault((command[2], expect), []).append(result[1])

    def testify(self, history: Iterable[Operation]) -> History:
        """Compare what clients were told with what happened, and settle what they were not told.

        :return: the history with every outcome settled that the log can settle.
        :raises Violation: a client was told something else.
        """
        settled = History()
        nameless: dict[tuple[bytes, int], list[Operation]] = {}
        for operation in history:
            if operation.kind == "get":
                settled.add(operation)
                continue
            if operation.kind == "delete" and operation.sequence is None:
                nameless.setdefault((operation.key, operation.expect), []).append(operation)
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
        for what in sorted({*nameless, *self._deletes}):
            self._settle_deletes(nameless.get(what, []), self._deletes.get(what, []), settled)
        return settled

    def _settle_deletes(self, asked: list[Operation], revisions: list[int], settled: History) -> None:
        """Give each delete of the log to who was told of it, and the rest to the first who may have asked."""
        left = sorted(revisions)
        unknown = []
        for operation in asked:
            if operation.outcome is OperationOutcome.OK:
                if (revision := revision_taken(operation)) and revision not in left:
                    raise Violation("wrong answer", f"the log has no such delete: {operation}")
                left = [each for each in left if each != revision]
                settled.add(operation)
            elif operation.outcome is OperationOutcome.UNKNOWN:
                unknown.append(operation)
        if len(left) > len(unknown):
            raise Violation("applied after all", f"the log has deletes with revisions {left}, asked by {asked}")
        # Who asked first may have been served at any time since: a fit for the others fits in this order too.
        for operation, revision in zip(unknown, left, strict=False):
            result = (OK, revision, True)
            settled.add(dataclasses.replace(operation, outcome=OperationOutcome.OK, result=result, returned=None))

    def _find(self, operation: Operation) -> Result | None:
        if operation.sequence is not None:
            return self._by_session.get((operation.client.encode(), operation.sequence))
        return self._by_value.get(operation.value)


def _changed_something(operation: Operation, result: Result) -> bool:
    return result[0] == OK and (operation.kind == "put" or bool(result[2]))
