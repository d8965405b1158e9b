"""What the simulator's clients ask: every operation there is, as the door would let it in, each known by a name."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest
from raftkv.interfaces import Command
from raftkv.kvstore import Store, commands
from raftkv.kvstore.checking import CommandChecker, CommandLimits
from raftkv.kvstore.commands import (
    COMPACT,
    DELETE,
    DELETE_RANGE,
    FENCED,
    GRANT,
    INCREMENT,
    KEEPALIVE,
    LOCK,
    OK,
    PUT,
    REVOKE,
    TXN,
    UNLOCK,
    expire,
)
from raftkv.testing.checkers import Violation
from raftkv.testing.errands import MIXES, Errands, Known, bears_a_name
from raftkv.testing.history import History, Operation
from raftkv.testing.queries import Query, answer_of
from tests.kvstore.helpers import apply

WRITES = {PUT, DELETE, DELETE_RANGE, TXN, INCREMENT, COMPACT, GRANT, KEEPALIVE, REVOKE, LOCK, UNLOCK, FENCED}
QUERIES = {"Get", "Page", "Count", "Changes", "LeaseOf", "LockOf", "TicketOf"}


class ImmediateAsker:
    """A client whose operations are carried out at once, on a store of its own."""

    def __init__(self) -> None:
        self.store, self.history = Store(), History()
        self.outside: Counter[Command] = Counter()
        self.queries: Counter[str] = Counter()
        self.codes: Counter[int] = Counter()
        self.values = 0
        self.later: list[Callable[[], None]] = []
        self.wrong_answer: Any = None

    def draw_value(self) -> bytes:
        self.values += 1
        return b"v%d" % self.values

    def write(self, command: Command, finished: Callable[[], None], *, in_session_too: bool) -> Operation:
        operation = self.history.invoke(client="c", kind="write", command=command, now=0.0)
        at_ms = 40 * len(self.history)
        apply(self.store, expire(9), at_ms=at_ms)
        (result,) = apply(self.store, command)
        self.history.answered(operation, self.wrong_answer or result, now=0.0)
        self.codes[command[0]] += 1
        if not in_session_too:
            self.outside[command] += 1
        self.later.append(finished)
        return operation

    def read(self, query: Query, finished: Callable[[], None]) -> Operation:
        operation = self.history.invoke(client="c", kind="read", query=query, now=0.0)
        self.history.read(operation, answer_of(query, self.store), now=0.0, revision=self.store.revision)
        self.queries[type(query).__name__] += 1
        self.later.append(finished)
        return operation


class ErrandTests(SynchronousTestCase):
    def run_errands(self, asker: ImmediateAsker, mix: int, count: int, session_share: float = 0.3) -> None:
        """Carry out errands one after the other, two clients in turn."""
        known, chance = Known(), random.Random(f"errands {mix}")
        clients = [Errands(asker, known, random=chance, mix=MIXES[mix], session_share=session_share) for _ in range(2)]
        for number in range(count):
            clients[number % 2].run(lambda: None)
            asker.later.pop()()

    def test_everything_is_used(self) -> None:
        """The first mix holds every command and every query that there is, and most of them find something to do."""
        asker = ImmediateAsker()
        self.run_errands(asker, 0, 1500)
        self.assertEqual(set(asker.codes), WRITES)
        self.assertEqual(set(asker.queries), QUERIES)
        done = Counter(each.command[0] for each in asker.history if each.command and each.result[0] == OK)
        self.assertEqual(set(done), WRITES)
        answers = [each.answer for each in asker.history if each.query is not None]
        self.assertTrue(any(answer[:1] == ("compacted",) for answer in answers if isinstance(answer, tuple)))

    def test_let_in(self) -> None:
        """Commands are such as the door lets in; what it refuses of them is only to write one key twice."""
        checker = CommandChecker(CommandLimits(min_lease_ttl_seconds=0.1))
        for mix in range(len(MIXES)):
            asker = ImmediateAsker()
            self.run_errands(asker, mix, 300)
            for operation in asker.history:
                if operation.command is None:
                    continue
                try:
                    checker.check(operation.command)
                except BadRequest as error:
                    self.assertIn("twice", str(error))

    def test_names(self) -> None:
        """Outside of sessions no two writes of a story are the same; what could be is always in one."""
        asker = ImmediateAsker()
        self.run_errands(asker, 0, 1500, session_share=0.0)
        self.assertEqual(set(asker.outside.values()), {1})
        self.assertFalse(bears_a_name(commands.unlock(b"x", token=3)))
        self.assertFalse(bears_a_name(commands.transaction([], [commands.get(b"m")])))

    def test_unfit_answer(self) -> None:
        """An answer that cannot be one to what was asked is the answer to something else (B65)."""
        asker = ImmediateAsker()
        asker.wrong_answer = (OK, 3)
        self.assertRaises(Violation, self.run_errands, asker, 1, 100)
