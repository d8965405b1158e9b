"""Whether what clients saw fits the order of the log, and that order fits real time: for operations of every kind.

Every write that was answered has its place in the log, and every read the entry that its state had come to. So there
is nothing to search: each read is compared with the plain store behind that entry, and then the places must not
contradict what had already returned when an operation was invoked. A write of unknown outcome may be in the log or not.
"""

from __future__ import annotations

from collections.abc import Iterable, Iterator

from raftkv.kvstore.commands import DELETE, OK
from raftkv.testing.checkers import Violation
from raftkv.testing.history import Operation, OperationOutcome
from raftkv.testing.keymodel import revision_taken
from raftkv.testing.queries import answer_of
from raftkv.testing.replay import Name, Replay
from raftkv.testing.witness import command_of, name_of_operation


def check_reads(operations: Iterable[Operation], replay: Replay) -> int:
    """Compare every read that was answered with the plain store behind the entry that it had come to.

    :return: how many there were that said something.
    :raises Violation: one of them saw something else, or a stale one was older than it may be.
    """
    judged = 0
    for operation in operations:
        if operation.is_read and operation.outcome is OperationOutcome.OK and operation.index is not None:
            _check_read(operation, operation.index, replay)
            _check_age(operation, operation.index, replay)
            judged += 1
    return judged


def _check_read(operation: Operation, index: int, replay: Replay) -> None:
    moment = replay.moment(index)
    if operation.revision != moment.revision:
        raise Violation("wrong read", f"behind entry {index} is revision {moment.revision}, not as told: {operation}")
    if operation.query is None:
        found, expected = operation.record, moment.rows(0).get(operation.key)
    else:
        found, expected = operation.answer, answer_of(operation.query, moment)
    if found != expected:
        raise Violation("wrong read", f"the plain store says {expected}: {operation}")


def _check_age(operation: Operation, index: int, replay: Replay) -> None:
    """A stale read lacks nothing that was applied anywhere before the age that it was told, or had asked for."""
    if operation.consistency != "stale" or index == replay.index:
        return
    missed = replay.time(index + 1)
    if operation.max_stale_seconds is not None and missed < operation.invoked_at - operation.max_stale_seconds:
        raise Violation("staler than asked", f"entry {index + 1} was applied at {missed:.4f}: {operation}")
    if operation.staleness_seconds is not None and operation.served_at is not None:
        oldest = operation.served_at - operation.staleness_seconds
        if missed < oldest:
            raise Violation("staler than told", f"entry {index + 1} was applied at {missed:.4f}: {operation}")


def check_real_time(operations: Iterable[Operation], replay: Replay) -> int:
    """Demand that whoever began later is later: each write, and each read that is to be linearizable.

    :param operations: settled: where the log knows the outcome, they do.
    :return: how many operations have a place.
    :raises Violation: a write has its place in front of something that had been seen before it was invoked, or a read
        does not see that.
    """
    places = list(_placed(operations, replay))
    events = [(operation.invoked, False, operation, place) for operation, place in places]
    events += [(operation.returned, True, operation, place) for operation, place in places if operation.returned]
    newest, seen_by = (0, -1), None
    before: dict[int, tuple[tuple[int, int], Operation | None]] = {}
    for _, is_return, operation, place in sorted(events, key=lambda event: event[0]):
        if not is_return:
            before[operation.number] = (newest, seen_by)
        elif place > newest:
            newest, seen_by = place, operation
    for operation, place in places:
        known, witness = before[operation.number]
        if operation.is_read and operation.consistency != "stale" and place[0] < known[0]:
            raise Violation("read misses a write", f"{operation} does not see entry {known[0]}, as did {witness}")
        if not operation.is_read and place <= known:
            raise Violation("revision order", f"{operation} is at {place} of the log, behind it is {witness}")
    return len(places)


def _placed(operations: Iterable[Operation], replay: Replay) -> Iterator[tuple[Operation, tuple[int, int]]]:
    """Yield operations with their places: the entry, and the number of the command; a read is behind its entry."""
    of_writes: dict[Name, tuple[int, int]] = {each.name: (each.index, each.place) for each in replay.applied}
    # Deletes outside of sessions bear no name, but the revision of one that found something is nobody else's.
    of_deletes = {
        (each.command, each.result[1]): (each.index, each.place)
        for each in replay.applied
        if each.command[0] == DELETE and each.result[0] == OK and each.result[2]
    }
    last = len(replay.applied)
    for operation in operations:
        if operation.outcome is not OperationOutcome.OK:
            continue
        if operation.is_read:
            if operation.index is not None:
                yield operation, (operation.index, last)
        elif operation.kind == "delete" and operation.sequence is None:
            if revision := revision_taken(operation):
                yield operation, of_deletes[command_of(operation), revision]
        elif (found := of_writes.get(name_of_operation(operation))) is not None:
            yield operation, found
