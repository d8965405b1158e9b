"""What clients ask beyond single plain keys: transactions, ranges, the past, leases, locks, elections, compaction.

An errand is one operation, drawn by weight; what earlier ones were answered is remembered, so that leases are kept
alive, locks held for a while and written under, ranges read page by page. A client is as slow as it happens to be: it
goes on with tokens and leases that have ended long ago, as a process that was paused would.

Outside of sessions only such writes are sent as nobody else sends, so that each is known by itself in the log.
"""

from __future__ import annotations

import random
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final, Protocol

from raftkv.interfaces import Command
from raftkv.kvstore.commands import (
    ABSENT,
    COMPACT,
    DELETE,
    DELETE_RANGE,
    EXISTS,
    FENCED,
    GRANT,
    INCREMENT,
    KEEP_LEASE,
    KEEPALIVE,
    LEASE_NOT_FOUND,
    LOCK,
    LOCK_NOT_HELD,
    OK,
    PUT,
    REVOKE,
    TXN,
    UNLOCK,
    Compare,
    compact,
    compare,
    delete,
    delete_range,
    fenced,
    get,
    grant,
    increment,
    keepalive,
    lock,
    put,
    range_of,
    revoke,
    transaction,
    unlock,
)
from raftkv.kvstore.commands import Operation as Step
from raftkv.testing.checkers import Violation
from raftkv.testing.history import Operation, OperationOutcome
from raftkv.testing.queries import Changes, Count, Get, LeaseOf, LockOf, Page, Query, TicketOf

# All keys lie above those of plain operations, which nothing here may change.
KEYS: Final = (b"m/a/0", b"m/a/1", b"m/b/0", b"m/c", b"m/d")
COUNTERS: Final = (b"n/0", b"n/1")
LOCKS: Final = (b"x", b"y")
_READABLE: Final = ((b"m/", b"m0"), (b"m/a/", b"m/a0"), (b"m/b", b"n/1"), (b"", b""), (b"k", b"m/c"), (b"m", b""))
_DELETABLE: Final = ((b"m/a/", b"m/a0"), (b"m/b", b"n/1"), (b"m/c", b"p"), (b"m", b""))

#: How often clients do what, by the names of the methods below. Each story has one of these characters.
MIXES: Final[Sequence[Mapping[str, float]]] = (
    {"put": 20, "remove": 8, "count": 8, "transact": 18, "page": 10, "past": 10, "lease": 14, "lock": 20, "compact": 2},
    {"put": 10, "lease": 40, "lock": 40, "transact": 5, "remove": 3, "past": 2},
    {"put": 30, "remove": 15, "transact": 10, "page": 20, "past": 25, "compact": 4},
    {"put": 5, "count": 35, "transact": 45, "remove": 5, "page": 5, "past": 5},
)

_NAMES: Final = {
    PUT: "puts",
    DELETE: "deletes",
    DELETE_RANGE: "range deletes",
    TXN: "transactions",
    INCREMENT: "increments",
    COMPACT: "compactions",
    GRANT: "leases granted",
    KEEPALIVE: "leases kept alive",
    REVOKE: "leases revoked",
    LOCK: "locks asked for",
    UNLOCK: "locks given back",
    FENCED: "fenced writes",
}


class Asker(Protocol):
    """The client that an errand is for."""

    def draw_value(self) -> bytes:
        """Draw a value that nobody else writes."""

    def write(self, command: Command, finished: Callable[[], None], *, in_session_too: bool) -> Operation:
        """Carry out a write."""

    def read(self, query: Query, finished: Callable[[], None]) -> Operation:
        """Carry out a read."""


@dataclass(slots=True)
class Known:
    """What all clients of a story know together.

    :ivar revision: the largest that anybody was told.
    :ivar leases: some that were there.
    :ivar numbers: how many numbers were given out that nobody uses twice.
    :ivar past_stays_right: whether no state is made wrong on purpose, so that what transactions read of the past is
        right on every node.
    """

    revision: int = 0
    leases: deque[int] = field(default_factory=lambda: deque(maxlen=6))
    numbers: int = 0
    past_stays_right: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class Tenancy:
    """A lock that a client holds or waits for, as far as it knows; ``token`` is 0 while it waits."""

    name: bytes
    ticket: int
    token: int = 0
    lease: int = 0
    is_election: bool = False


class Errands:
    """The errands of one client.

    :param session_share: share of the writes in a session, of those that need none.
    """

    def __init__(
        self, asker: Asker, known: Known, *, random: random.Random, mix: Mapping[str, float], session_share: float
    ) -> None:
        self._asker = asker
        self._known = known
        self._chance = random
        self._kinds, self._weights = list(mix), list(mix.values())
        self._session_share = session_share
        self._tenancy: Tenancy | None = None
        self._page: Page | None = None
        self._finished: Callable[[], None] = lambda: None

    def run(self, finished: Callable[[], None]) -> None:
        """Carry out one errand; ``finished`` is called once it has returned."""
        self._finished = finished
        getattr(self, self._chance.choices(self._kinds, self._weights)[0])()

    # -- asking and learning -------------------------------------------------------------------------------------

    def _write(self, command: Command, learn: Callable[[Command], None] = lambda result: None) -> None:
        in_session_too = not bears_a_name(command) or self._chance.random() < self._session_share

        def returned() -> None:
            if operation.outcome is OperationOutcome.OK and operation.result is not None:
                self._learn_revision(operation.result)
                try:
                    learn(operation.result)
                except (ValueError, TypeError, LookupError) as error:
                    raise Violation("wrong answer", f"the answer does not fit: {operation}") from error
            self._finished()

        operation = self._asker.write(command, returned, in_session_too=in_session_too)

    def _learn_revision(self, result: Command) -> None:
        if result[0] == OK and len(result) > 1 and type(result[1]) is int:
            # A lease or a time to live is no revision, but small; that there has not been such a revision is an answer.
            self._known.revision = max(self._known.revision, min(result[1], self._known.revision + 3))

    def _read(self, query: Query, learn: Callable[[Operation], None] = lambda operation: None) -> None:
        def returned() -> None:
            if operation.outcome is OperationOutcome.OK:
                self._known.revision = max(self._known.revision, operation.revision)
                learn(operation)
            self._finished()

        operation = self._asker.read(query, returned)

    def _number(self) -> int:
        self._known.numbers += 1
        return self._known.numbers

    def _past_revision(self) -> int:
        """Draw a revision: mostly a recent one, sometimes one that is long gone or yet to be."""
        back = self._chance.choice((0, 1, 2, 5, 10, 30, 80, -2))
        return max(1, self._known.revision - back)

    def _past(self) -> tuple[int, ...]:
        """Draw revisions for a transaction to read, if any."""
        return (max(1, self._known.revision - 1), self._past_revision()) if self._known.past_stays_right else ()

    # -- records -------------------------------------------------------------------------------------------------

    def put(self) -> None:
        """Set a key: with a condition, a lease, a time to live, or nothing."""
        chance, value = self._chance, self._asker.draw_value()
        key = chance.choice(KEYS)
        match chance.choice(("plain", "plain", "if", "ttl", "keep", "number")):
            case "if":
                self._write(put(key, value, chance.choice((ABSENT, EXISTS, self._past_revision()))))
            case "ttl":
                self._write(put(key, value, ttl_ms=self._draw_ttl_ms()), self._learn_lease_of_key)
            case "keep":
                self._write(put(key, value, lease=KEEP_LEASE))
            case "number":
                self._write(put(chance.choice(COUNTERS), b"%d" % self._number()))
            case _:
                self._write(put(key, value))

    def remove(self) -> None:
        """Delete a key or a range."""
        chance = self._chance
        if chance.random() < 0.6:
            expect = chance.choice((-1, -1, EXISTS, self._past_revision()))
            self._write(delete(chance.choice(KEYS + COUNTERS), expect))
        else:
            self._write(delete_range(*chance.choice(_DELETABLE)))

    def count(self) -> None:
        """Add to a number, sometimes to what is none, or too much."""
        chance, by = self._chance, self._number() * self._chance.choice((1, -1))
        key = chance.choice(COUNTERS) if chance.random() < 0.9 else chance.choice(KEYS)
        self._write(increment(key, by if chance.random() < 0.95 else 2**63 - 1 - abs(by)))

    def transact(self) -> None:
        """Compare, then write and read several keys at once, in branches that may have branches."""
        self._write(self._transaction(0))

    def _transaction(self, depth: int) -> Command:
        chance = self._chance
        compares = [self._compare() for _ in range(chance.choice((0, 1, 1, 2)))]
        success, failure = ([self._step(depth) for _ in range(chance.choice((1, 1, 2, 3)))] for _ in range(2))
        return transaction(compares, success, failure)

    def _compare(self) -> Compare:
        chance = self._chance
        key, end = (chance.choice(KEYS + COUNTERS), None) if chance.random() < 0.7 else chance.choice(_READABLE)
        target = chance.randrange(5)
        operand: bytes | int | None = chance.choice((0, 1, 2, self._past_revision(), *self._known.leases))
        if target == 0:
            operand = chance.choice((None, b"5", self._asker.draw_value()))
        return compare(target, chance.randrange(4), key, operand, end=end)

    def _step(self, depth: int) -> Step:
        chance = self._chance
        key = chance.choice(KEYS + COUNTERS)
        match chance.choices(("put", "get", "delete", "range", "delete_range", "txn"), (40, 20, 8, 14, 3, 15))[0]:
            case "get":
                return get(key, chance.choice((0, 0, 0, *self._past())))
            case "delete":
                return delete(key)
            case "range":
                revision = chance.choice((0, 0, 0, 0, *self._past()))
                return range_of(*chance.choice(_READABLE), chance.choice((1, 2, 100)), chance.randrange(8), revision)
            case "delete_range":
                return delete_range(*chance.choice(_DELETABLE))
            case "txn" if depth < 2:
                return self._transaction(depth + 1)
        lease = chance.choice((0, 0, 0, 0, KEEP_LEASE, *list(self._known.leases)[-2:]))
        value = b"%d" % self._number() if key in COUNTERS else self._asker.draw_value()
        return put(key, value, lease=lease)

    # -- reading -------------------------------------------------------------------------------------------------

    def page(self) -> None:
        """Read a range, or the next page of one, as of the revision of the first; folder by folder, backwards."""
        chance, page = self._chance, self._page
        if page is None:
            start, end = chance.choice(_READABLE)
            page = Page(start=start, end=end, limit=chance.choice((1, 2, 3, 50)), reverse=chance.random() < 0.4)
            if start == b"m/" and chance.random() < 0.5:
                page = replace(page, prefix=b"m/", delimiter=b"/")
        asked, self._page = page, None

        def learn(operation: Operation) -> None:
            if len(operation.answer) == 3 and operation.answer[2] is not None and operation.revision:
                edge = {"end" if asked.reverse else "start": operation.answer[2]}
                self._page = replace(asked, revision=asked.revision or operation.revision, **edge)

        self._read(asked, learn)

    def past(self) -> None:
        """Read the past: a key, a range, how many there were, what was changed."""
        chance, revision = self._chance, self._past_revision()
        start, end = chance.choice(_READABLE)
        query: Query = chance.choice(
            (
                Get(key=chance.choice(KEYS + COUNTERS), revision=revision),
                Page(start=start, end=end, limit=chance.choice((2, 100)), revision=revision),
                Count(start=start, end=end, revision=revision),
                Changes(from_revision=revision, limit=chance.choice((1, 4, 20))),
            )
        )
        self._read(query)

    def compact(self) -> None:
        """Let go of old revisions."""
        self._write(compact(self._past_revision()))

    # -- leases --------------------------------------------------------------------------------------------------

    def lease(self) -> None:
        """Take a lease, keep one alive, attach a key to it, look at it, or end it; others are left to themselves."""
        chance, known = self._chance, self._known.leases
        what = chance.choices(("grant", "keepalive", "attach", "look", "revoke"), (25, 25, 30, 14, 6))[0]
        if what == "grant" or not known:
            self._write(grant(self._draw_ttl_ms()), self._learn_lease)
            return
        lease = chance.choice(known)
        match what:
            case "keepalive":
                self._write(keepalive(lease), lambda result: self._learn_end(lease, result))
            case "attach":
                command = put(chance.choice(KEYS), self._asker.draw_value(), lease=lease)
                self._write(command, lambda result: self._learn_end(lease, result))
            case "look":
                self._read(LeaseOf(lease=lease))
            case _:
                self._write(revoke(lease))

    def _draw_ttl_ms(self) -> int:
        return self._chance.choice((300, 1500, 3000, 4500)) + self._chance.randrange(100)

    def _learn_lease(self, result: Command) -> None:
        self._known.leases.append(result[1])

    def _learn_lease_of_key(self, result: Command) -> None:
        if result[0] == OK:
            self._known.leases.append(result[2])

    def _learn_end(self, lease: int, result: Command) -> None:
        if result[0] == LEASE_NOT_FOUND and lease in self._known.leases and self._chance.random() < 0.5:
            self._known.leases.remove(lease)

    # -- locks and elections -------------------------------------------------------------------------------------

    def lock(self) -> None:
        """Ask for a lock, look whether it has come, write under it, keep it, give it back, or just forget it."""
        tenancy = self._tenancy
        if tenancy is None:
            self._ask_for_lock()
        elif tenancy.token:
            self._use_lock(tenancy)
        else:
            self._wait_for_lock(tenancy)

    def _ask_for_lock(self) -> None:
        chance = self._chance
        name, wait_ms = chance.choice(LOCKS), chance.choice((0, 300, 1500, 6000))
        is_election = chance.random() < 0.3
        key, value = (b"o/" + name, self._asker.draw_value()) if is_election else (b"", b"")
        lease = chance.choice(self._known.leases) if self._known.leases and chance.random() < 0.2 else 0
        ttl_ms = 0 if lease else self._draw_ttl_ms()
        command = lock(name, ttl_ms=ttl_ms, lease=lease, wait_ms=wait_ms, key=key, value=value)

        def learn(result: Command) -> None:
            if result[0] == OK:
                _, token, held_with, ticket = result
                self._tenancy = Tenancy(name=name, ticket=ticket, token=token, lease=held_with, is_election=is_election)

        self._write(command, learn)

    def _wait_for_lock(self, tenancy: Tenancy) -> None:
        if self._chance.random() < 0.15:
            self._tenancy = None
            self._write(unlock(tenancy.name, ticket=tenancy.ticket))
            return

        def learn(operation: Operation) -> None:
            if operation.answer is None:
                self._tenancy = None
            else:
                _, token, held_with = operation.answer
                self._tenancy = replace(tenancy, token=token, lease=held_with)

        self._read(TicketOf(ticket=tenancy.ticket), learn)

    def _use_lock(self, tenancy: Tenancy) -> None:
        what = self._chance.choices(
            ("write", "keepalive", "look", "unlock", "leave", "break", "forget"), (50, 15, 8, 12, 4, 2, 9)
        )[0]
        match what:
            case "write":
                self._write(self._fenced(tenancy), self._learn_loss)
            case "keepalive":
                self._write(keepalive(tenancy.lease), self._learn_loss)
            case "look":
                self._read(LockOf(name=tenancy.name))
            case _:
                self._tenancy = None
                commands: dict[str, Any] = {"unlock": {"token": tenancy.token}, "leave": {"ticket": tenancy.ticket}}
                if what == "forget":  # the lock is free once its lease has ended
                    self._ask_for_lock()
                else:
                    self._write(unlock(tenancy.name, **commands.get(what, {})))

    def _fenced(self, tenancy: Tenancy) -> Command:
        chance, value = self._chance, self._asker.draw_value()
        if tenancy.is_election:
            inner = put(b"o/" + tenancy.name, value, lease=KEEP_LEASE)
        elif chance.random() < 0.7:
            inner = put(b"p/" + tenancy.name, value)
        else:
            inner = chance.choice((delete(b"p/" + tenancy.name), self._transaction(1), increment(COUNTERS[0], 1)))
        return fenced(tenancy.name, tenancy.token, inner)

    def _learn_loss(self, result: Command) -> None:
        """Somebody who is told that the lock is lost may well go on all the same."""
        if result[0] in (LOCK_NOT_HELD, LEASE_NOT_FOUND) and self._chance.random() < 0.6:
            self._tenancy = None


def bears_a_name(command: Command) -> bool:
    """Tell whether a command holds something that no other of its story does: a value, or what is added."""
    code = command[0]
    if code == FENCED:
        return bears_a_name(command[4]) and command[4][0] != INCREMENT
    if code == TXN:
        return any(bears_a_name(step) for step in (*command[3], *command[4]))
    return code in (PUT, INCREMENT) or (code == LOCK and len(command) > 6)


def name_of_errand(operation: Operation) -> str:
    """Return in words what kind of errand an answered operation was, refusals apart."""
    if operation.command is None:
        return f"queries for a {type(operation.query).__name__.lower()}"
    refused = operation.result is None or operation.result[0] != OK
    return _NAMES[operation.command[0]] + (" refused" if refused else "")
