"""What the state machines really did: a witness for the judge of histories.

An operation of unknown outcome makes the search for an order hard, and the history of a bad day has dozens. The log
knows better than the client: a write that it holds took effect with that answer, and one that it does not hold never
did. With that told, the search hardly has to search, and what clients *were* told can be compared with what happened.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Iterable, Mapping, Sequence
from typing import Final

import msgpack

from raftkv.interfaces import Command, Result
from raftkv.kvstore.commands import (
    ANY,
    COMPACT,
    DELETE,
    DELETE_RANGE,
    EXPIRE,
    EXPIRE_SESSIONS,
    FENCED,
    OK,
    PUT,
    SESSION,
    TXN,
    UNLOCK,
    delete,
    put,
)
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation, OperationOutcome
from raftkv.testing.keymodel import revision_taken
from raftkv.testing.replay import Name, name_of

#: What a node proposes by itself.
_HOUSEKEEPING: Final = (EXPIRE, EXPIRE_SESSIONS, COMPACT)


class AppliedWrites:
    """Every write that some node has applied, with its answer; outside of sessions no two are the same in a run."""

    def __init__(self) -> None:
        self._index = 0
        self._by_name: dict[Name, list[Result]] = {}
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
        if command[0] == DELETE:
            if result[0] == OK and result[2]:
                expect = command[3] if len(command) > 3 else ANY
                self._deletes.setdefault((command[2], expect), []).append(result[1])
        elif command[0] not in _HOUSEKEEPING:
            told = self._by_name.setdefault(name_of(command), [])
            if told and command[0] != SESSION:
                raise Violation("applied twice", f"{command} is in the log twice")
            if result not in told:
                told.append(result)

    def testify(self, history: Iterable[Operation], excused: Mapping[Name, Sequence[Result]] | None = None) -> History:
        """Compare what clients were told with what happened, and settle what they were not told.

        :param excused: answers that were wrong and known to be, by the name of the write: the right one takes their
            place.
        :return: the history with every outcome settled that the log can settle.
        :raises Violation: a client was told something else.
        """
        settled = History()
        nameless: dict[tuple[bytes, int], list[Operation]] = {}
        for operation in history:
            if operation.is_read:
                settled.add(operation)
            elif operation.kind == "delete" and operation.sequence is None:
                nameless.setdefault((operation.key, operation.expect), []).append(operation)
            else:
                self._settle(operation, excused or {}, settled)
        for what in sorted({*nameless, *self._deletes}):
            asked = nameless.get(what, [])
            misled = excused.get(delete(*what), ()) if excused else ()
            self._settle_deletes(asked, self._deletes.get(what, []), misled, settled)
        return settled

    def _settle(self, operation: Operation, excused: Mapping[Name, Sequence[Result]], settled: History) -> None:
        name = name_of_operation(operation)
        told = self._by_name.get(name)
        if operation.outcome is OperationOutcome.OK:
            if told is None or operation.result not in (*told, *excused.get(name, ())):
                raise Violation("wrong answer", f"the log has {told} for {operation}")
            settled.add(operation if operation.result == told[0] else dataclasses.replace(operation, result=told[0]))
        elif told is not None:
            if operation.outcome is OperationOutcome.NOT_APPLIED and took_effect(command_of(operation), told[0]):
                raise Violation("applied after all", f"the log has {told} for {operation}")
            settled.add(dataclasses.replace(operation, outcome=OperationOutcome.OK, result=told[0], returned=None))

    def _settle_deletes(
        self, asked: list[Operation], revisions: list[int], misled: Sequence[Result], settled: History
    ) -> None:
        """Give each delete of the log to who was told of it, and the rest to the first who may have asked."""
        left = sorted(revisions)
        unknown = []
        for operation in asked:
            if operation.outcome is OperationOutcome.OK and operation.result not in misled:
                if (revision := revision_taken(operation)) and revision not in left:
                    raise Violation("wrong answer", f"the log has no such delete: {operation}")
                left = [each for each in left if each != revision]
                settled.add(operation)
            elif operation.outcome is not OperationOutcome.NOT_APPLIED:
                unknown.append(operation)
        if len(left) > len(unknown):
            raise Violation("applied after all", f"the log has deletes with revisions {left}, asked by {asked}")
        # Who asked first may have been served at any time since: a fit for the others fits in this order too.
        for operation, revision in zip(unknown, left, strict=False):
            result = (OK, revision, True)
            settled.add(dataclasses.replace(operation, outcome=OperationOutcome.OK, result=result, returned=None))


def name_of_operation(operation: Operation) -> Name:
    """Return what a write is known by in the log."""
    if operation.sequence is not None:
        return operation.client.encode(), operation.sequence
    return command_of(operation)


def command_of(operation: Operation) -> Command:
    """Return what a write of any kind sends, without the session."""
    if operation.kind == "put":
        return put(operation.key, operation.value, operation.expect)
    if operation.kind == "delete":
        return delete(operation.key, operation.expect)
    if operation.command is None:
        raise ValueError(f"a write needs its command: {operation}")
    return operation.command


def took_effect(command: Command, result: Result) -> bool:
    """Tell from the answer whether a write changed something."""
    if command[0] == FENCED:
        return took_effect(command[4], result)
    if result[0] != OK:
        return False
    if command[0] == TXN:
        return _wrote(result[3])
    return bool(result[2]) if command[0] in (DELETE, DELETE_RANGE, UNLOCK) else True


def _wrote(results: Sequence[Result]) -> bool:
    for code, *rest in results:
        if code == PUT or (code == TXN and _wrote(rest[1])) or (code in (DELETE, DELETE_RANGE) and rest[0]):
            return True
    return False
