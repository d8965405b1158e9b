"""Whether stale reads were as fresh as they said, and as they were asked to be.

Compares what each of them saw with the time line of its key, written down as the first node applied each write. It
knows nothing of how a node comes to know the age of its state. Linearizable and lease reads are judged elsewhere
(:mod:`raftkv.testing.linearizability`).
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass

import msgpack

from raftkv.interfaces import Command, Result
from raftkv.kvstore.commands import DELETE, OK, PUT, SESSION
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.history import Operation, OperationOutcome


@dataclass(frozen=True, slots=True)
class _Moment:
    revision: int
    value: bytes | None
    time: float


class TimeLines:
    """What every key held since when, in the time of the world."""

    def __init__(self) -> None:
        self._index = 0
        self._keys: dict[bytes, list[_Moment]] = {}

    def note(self, entry: Entry, results: Sequence[Result], *, now: float) -> None:
        """Take note of an applied entry; each index counts once, when the first node applies it."""
        if entry.index <= self._index:
            return
        self._index = entry.index
        if entry.kind is EntryKind.COMMANDS:
            _, _, _, commands = msgpack.unpackb(entry.payload, use_list=False)
            for command, result in zip(commands, results, strict=True):
                self._note_command(command, result, now)

    def _note_command(self, command: Command, result: Result, now: float) -> None:
        inner = command[4] if command[0] == SESSION else command
        if result[0] != OK or inner[0] not in (PUT, DELETE) or (inner[0] == DELETE and not result[2]):
            return
        line = self._keys.setdefault(inner[2], [_Moment(0, None, 0.0)])
        if result[1] > line[-1].revision:  # else a session's repeat, with the first one's answer
            line.append(_Moment(result[1], inner[3] if inner[0] == PUT else None, now))

    def check(self, operations: Iterable[Operation]) -> int:
        """Judge all stale reads.

        :return: how many there were that said something.
        :raises Violation: one of them saw what never was, or was older than it may be.
        """
        judged = 0
        for operation in operations:
            if operation.consistency == "stale" and operation.outcome is OperationOutcome.OK:
                self._check_one(operation)
                judged += 1
        return judged

    def _check_one(self, operation: Operation) -> None:
        # It may have seen any moment that fits: the last one is the most favourable.
        line = self._keys.get(operation.key, [_Moment(0, None, 0.0)])
        seen = [position for position, moment in enumerate(line) if _fits(moment, operation)]
        if not seen:
            raise Violation("stale read of nothing", f"the key never was like this: {operation}")
        if seen[-1] + 1 == len(line):
            return
        replaced = line[seen[-1] + 1]
        if operation.max_stale_seconds is not None:
            oldest = operation.invoked_at - operation.max_stale_seconds
            if replaced.time < oldest:
                raise Violation(
                    "staler than asked", f"{operation} came {oldest - replaced.time:.4f} s too late to see {replaced}"
                )
        if operation.staleness_seconds is not None and operation.served_at is not None:
            oldest = operation.served_at - operation.staleness_seconds
            if replaced.time < oldest:
                raise Violation(
                    "staler than told", f"{operation} came {oldest - replaced.time:.4f} s too late to see {replaced}"
                )


def _fits(moment: _Moment, operation: Operation) -> bool:
    if operation.record is None:
        return moment.value is None
    return (moment.value, moment.revision) == (operation.record[0], operation.record[2])
