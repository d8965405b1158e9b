"""Whether leases lasted as long as they were promised to, and locks had one holder at a time.

It goes by what the log was answered and what clients were shown, and has no model of its own: a keepalive that was
accepted says that the lease lives, a refusal that it has ended, a token who holds the lock. All that is known of a
lease without a model is how long it must live at least; so it is asked of every sign of its end whether it is too
early, by cluster time (B34, B35, B37) and by the clock of the world, as the client counts from when it asked.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterable
from dataclasses import dataclass, field
from typing import Final

from raftkv.interfaces import Command, Result
from raftkv.kvstore.commands import (
    DELETE,
    FENCED,
    GRANT,
    INCREMENT,
    KEEPALIVE,
    LEASE_NOT_FOUND,
    LOCK,
    LOCK_HELD,
    LOCK_NOT_HELD,
    OK,
    PUT,
    REVOKE,
    TXN,
    UNLOCK,
)
from raftkv.testing.checkers import Violation
from raftkv.testing.history import Operation, OperationOutcome
from raftkv.testing.queries import LeaseOf, LockOf, TicketOf
from raftkv.testing.replay import Applied, Name, Replay
from raftkv.testing.witness import name_of_operation, took_effect

_GRAIN_MS: Final = 1.0  # cluster time is told in whole milliseconds


@dataclass(slots=True)
class _Lease:
    """What is known of one lease.

    :ivar renewals: place in the log and cluster time until which it lives at least, for each time it was renewed.
    :ivar until: the same for the clock of the world, where a client is known to have asked; 0.0 where none is.
    :ivar freed: place at which somebody ended it on purpose; ``None`` for nobody.
    """

    renewals: list[tuple[int, int]] = field(default_factory=list)
    until: list[float] = field(default_factory=list)
    freed: int | None = None

    def last_before(self, place: int) -> int:
        """Return the number of the last renewal before a place, -1 for none."""
        return bisect_right(self.renewals, (place, 0)) - 1


class Tenancies:
    """What the log and the clients say of leases and locks.

    :param operations: settled: where the log knows the outcome, they do.
    :param drift: by how much each clock may be off.
    """

    def __init__(self, operations: Iterable[Operation], replay: Replay, *, drift: float) -> None:
        self._replay = replay
        self._drift = drift
        self._answered = [each for each in operations if each.outcome is OperationOutcome.OK]
        self._asked: dict[Name, Operation] = {
            name_of_operation(each): each for each in self._answered if each.kind == "write"
        }
        self._leases: dict[int, _Lease] = {}
        self._tokens: dict[bytes, dict[int, int]] = {}  # of each lock, with the lease where that is known
        self._unlocked: dict[bytes, list[int]] = {}  # places at which somebody gave a lock back, or took it away
        self.signs = 0

    def check(self) -> int:
        """Judge all leases and locks.

        :return: how many signs of life or of an end there were.
        :raises Violation: one of them should not have been.
        """
        for each in self._replay.applied:
            self._look_at(each, *_inner(each.command, each.result))
        for operation in self._answered:
            if operation.kind == "read" and operation.index is not None:
                self._look_at_read(operation, operation.index)
        for name in sorted(self._tokens):
            self._one_holder_at_a_time(name)
        for each in self._replay.applied:
            if each.command[0] == FENCED and each.result[0] == OK:
                self._fenced_by_the_holder(each)
        return self.signs

    # -- leases --------------------------------------------------------------------------------------------------

    def _look_at(self, applied: Applied, command: Command, result: Result) -> None:
        code = command[0]
        if code == GRANT and result[0] == OK:
            self._renewed(applied, result[1], command[2])
        elif code == PUT and len(command) > 6 and result[0] == OK:
            self._renewed(applied, result[2], command[6])
            self._leases[result[2]].freed = applied.place  # it goes with its key, about which nothing is known here
        elif code == PUT and len(command) == 6 and command[5] > 0:
            self._asked_for(applied, command[5], result)
        elif code == KEEPALIVE:
            self._asked_for(applied, command[2], result)
            if result[0] == OK:
                is_new = command[2] not in self._leases
                self._renewed(applied, command[2], result[1])
                if is_new:  # that of a lock whose taking nobody was told of, or its giving back
                    self._free(command[2], applied.place)
        elif code == REVOKE:
            self._asked_for(applied, command[2], result)
            if result[0] == OK:
                self._free(command[2], applied.place)
        elif code == TXN and result[0] == LEASE_NOT_FOUND:
            self._asked_for(applied, result[1], result)
        elif code == LOCK:
            self._look_at_lock(applied, command, result)
        elif code == UNLOCK:
            self._look_at_unlock(applied, command, result)

    def _look_at_lock(self, applied: Applied, command: Command, result: Result) -> None:
        _, _, name, lease, ttl_ms, *_ = command
        if lease:
            self._asked_for(applied, lease, result)
        if result[0] == LOCK_HELD and result[1]:
            self._saw_token(name, result[1])
        if result[0] != OK or not result[1]:
            return
        if not lease:
            self._renewed(applied, result[2], ttl_ms)
            newest = max(self._tokens.get(name, ()), default=0)
            if result[1] <= newest:
                raise Violation("token order", f"{name!r} was held with token {newest}, then with {result[1]}")
        self._saw_token(name, result[1], result[2])

    def _look_at_unlock(self, applied: Applied, command: Command, result: Result) -> None:
        name = command[2]
        if result[0] == LOCK_NOT_HELD and result[1]:
            self._saw_token(name, result[1])
        elif result[0] == OK and result[2]:
            self._unlocked.setdefault(name, []).append(applied.place)
            for lease in self._tokens.get(name, {}).values():
                self._free(lease, applied.place)

    def _renewed(self, applied: Applied, lease: int, ttl_ms: int) -> None:
        known = self._leases.setdefault(lease, _Lease())
        known.renewals.append((applied.place, applied.cluster_time_ms + ttl_ms))
        asked = self._asked.get(applied.name)
        known.until.append(0.0 if asked is None else asked.invoked_at + ttl_ms / 1000 / (1 + self._drift))

    def _free(self, lease: int, place: int) -> None:
        known = self._leases.get(lease)
        if known is not None and known.freed is None:
            known.freed = place

    def _asked_for(self, applied: Applied, lease: int, result: Result) -> None:
        """A command named a lease: it was there, or it had ended."""
        if result[0] == LEASE_NOT_FOUND:
            self._ended(lease, applied.place, applied.cluster_time_ms, applied.at, str(applied))
            return
        known = self._leases.get(lease)
        if known is not None and result[0] == OK:
            self.signs += 1
            _, end_ms = known.renewals[-1]
            if applied.cluster_time_ms >= end_ms:
                raise Violation("lease outlives its time", f"lease {lease} was to end at {end_ms}: {applied}")

    def _ended(self, lease: int, place: int, cluster_time_ms: int, at: float, sign: str) -> None:
        known = self._leases.get(lease)
        if known is None or (known.freed is not None and known.freed <= place):
            return
        last = known.last_before(place)
        if last < 0:
            return
        self.signs += 1
        _, end_ms = known.renewals[last]
        if cluster_time_ms < end_ms:
            raise Violation("lease ended early", f"lease {lease} lives until {end_ms}, not {cluster_time_ms}: {sign}")
        if at < known.until[last] - _GRAIN_MS / 1000:
            raise Violation(
                "lease ended early", f"lease {lease} was promised until {known.until[last]:.4f}, not {at:.4f}: {sign}"
            )

    def _look_at_read(self, operation: Operation, index: int) -> None:
        place = bisect_right(self._replay.applied, index, key=lambda each: each.index)
        at = operation.served_at
        match operation.query:
            case LeaseOf(lease=lease) if operation.answer is None and at is not None:
                self._ended(lease, place, self._replay.moment(index).cluster_time_ms, at, str(operation))
            case LockOf(name=name) if operation.answer is not None and operation.answer[0]:
                self._saw_token(name, operation.answer[0], operation.answer[1])
            case TicketOf() if operation.answer is not None and operation.answer[1]:
                self._saw_token(*operation.answer)

    # -- locks ---------------------------------------------------------------------------------------------------

    def _saw_token(self, name: bytes, token: int, lease: int = 0) -> None:
        tokens = self._tokens.setdefault(name, {})
        tokens[token] = lease or tokens.get(token, 0)

    def _one_holder_at_a_time(self, name: bytes) -> None:
        """Whoever takes a lock takes it from nobody whose lease still lives."""
        tokens = self._tokens[name]
        for former, token in zip(sorted(tokens), sorted(tokens)[1:], strict=False):
            index = self._replay.index_of_revision(token)
            if index > self._replay.index:
                raise Violation("token of the future", f"{name!r} is held with token {token}, no revision of the log")
            lease = self._leases.get(tokens[former])
            last = bisect_right(self._replay.applied, index, key=lambda each: each.index)
            if lease is None or (lease.freed is not None and lease.freed < last):
                continue
            if any(place < last for place in self._unlocked.get(name, ()) if self._taken_at(former) <= place):
                continue
            renewal = lease.last_before(last)
            now_ms = self._replay.moment(index).cluster_time_ms
            self.signs += 1
            if renewal >= 0 and now_ms < lease.renewals[renewal][1]:
                raise Violation(
                    "lock exclusion",
                    f"{name!r} was taken with token {token} at {now_ms}, while token {former} held it until"
                    f" {lease.renewals[renewal][1]}",
                )

    def _taken_at(self, token: int) -> int:
        """Return the place in the log of the entry at which a lock was taken."""
        index = self._replay.index_of_revision(token)
        return bisect_right(self._replay.applied, index - 1, key=lambda each: each.index)

    def _fenced_by_the_holder(self, applied: Applied) -> None:
        """A fenced write that took effect was made while nobody had taken the lock since (B62)."""
        _, _, name, token, command = applied.command
        if command[0] not in (PUT, DELETE, INCREMENT, TXN):
            return
        self.signs += 1
        before = applied.result[1] - took_effect(command, applied.result)  # the revision that it found
        for later in self._tokens.get(name, {}):
            if token < later <= before:
                raise Violation(
                    "fenced write of a former holder",
                    f"{name!r} was held with token {later} when a write with {token} took effect: {applied}",
                )


def _inner(command: Command, result: Result) -> tuple[Command, Result]:
    """Return what is inside a fence, and what it was answered; a refusal by the fence is nobody's answer."""
    if command[0] == FENCED and result[0] != LOCK_NOT_HELD:
        return command[4], result
    return command, result
