"""Long lives of a store beside its plain twin: what the simulator's clients ask, thousands of times over.

Where :mod:`tests.kvstore.test_stateful` looks for short stories of anything, these are long and of one kind each: many
keys that come and go, leases that are kept alive, queues for locks, a past that grows and is compacted.
"""

from __future__ import annotations

import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from raftkv.interfaces import Command
from raftkv.kvstore import Restorer, SnapshotView, Store, history, revisiontimes, snapshotting
from raftkv.kvstore import keys as keys_module
from raftkv.kvstore.commands import compact, expire, in_session
from raftkv.testing.errands import MIXES, Errands, Known
from raftkv.testing.history import History, Operation
from raftkv.testing.plainstore import PlainStore
from raftkv.testing.queries import Moment, Query, answer_of
from raftkv.testing.sameness import difference, past_difference
from tests.kvstore.helpers import apply, snapshot


class Life:
    """A store, one that is restored from its snapshots now and then, and the plain one: all are told the same."""

    def __init__(self, chance: random.Random) -> None:
        self.chance = chance
        self.store, self.other, self.plain = Store(), Store(), PlainStore()
        self.history = History()
        self.values = self.sequence = 0
        self.finished: Callable[[], None] = lambda: None
        self.view: SnapshotView | None = None
        self.restorer = Restorer()
        self.since: list[tuple[int, list[Command]]] = []

    def draw_value(self) -> bytes:
        self.values += 1
        return b"v%d" % self.values

    def carry_out(self, *commands: Command) -> list[Command]:
        """Apply commands, a little later than those before."""
        at_ms = self.plain.cluster_time_ms + self.chance.choice((0, 5, 40, 200))
        expected = self.plain.apply(at_ms, commands)
        for store in (self.store, self.other):
            found = apply(store, *commands, at_ms=at_ms)
            if found != expected:
                raise AssertionError(f"{commands}: {found}, not {expected}")
        self.since.append((at_ms, list(commands)))
        return expected

    def write(self, command: Command, finished: Callable[[], None], *, in_session_too: bool) -> Operation:
        operation = self.history.invoke(client="c", kind="write", command=command, now=0.0)
        if in_session_too:
            self.sequence += 1
            command = in_session(b"c%d" % (self.sequence % 3), self.sequence, command)
        (result,) = self.carry_out(command)
        if in_session_too and self.chance.random() < 0.25:
            self.carry_out(command)  # it is sent again
        self.history.answered(operation, result, now=0.0)
        self.finished = finished
        return operation

    def read(self, query: Query, finished: Callable[[], None]) -> Operation:
        operation = self.history.invoke(client="c", kind="read", query=query, now=0.0)
        expected = answer_of(query, Moment.of(self.plain))
        for store in (self.store, self.other):
            found = answer_of(query, store)
            if found != expected:
                raise AssertionError(f"{query}: {found}, not {expected}")
        self.history.read(operation, expected, now=0.0, revision=self.plain.revision)
        self.finished = finished
        return operation

    def chores(self) -> None:
        """Do what nobody asks for: leases end, memory is freed on one node only, snapshots are taken in portions."""
        if self.chance.random() < 0.2:
            self.carry_out(expire(3))
        if self.chance.random() < 0.02 and self.plain.revision > 40:
            self.carry_out(compact(self.plain.revision - self.chance.randrange(40)))
        self.store.tidy(self.chance.choice((0, 0, 3)))
        if self.view is None:
            if self.chance.random() < 0.02:
                self.view, self.restorer, self.since = self.store.capture(), Restorer(), []
            return
        chunk = next(iter(self.view), None)
        if chunk is not None:
            self.restorer.feed(chunk)
            return
        self.other, self.view = self.restorer.finish(), None
        for at_ms, commands in self.since:
            apply(self.other, *commands, at_ms=at_ms)


class TwinTests(SynchronousTestCase):
    def setUp(self) -> None:
        for module in (history, __import__("raftkv.kvstore.rewinding", fromlist=["_"])):
            self.patch(module, "SEGMENT_REVISIONS", 7)
        self.patch(keys_module, "BLOCK_KEYS", 4)
        self.patch(keys_module, "CHANGES_LIMIT", 3)
        self.patch(revisiontimes, "INTERVAL_MS", 100)
        self.patch(__import__("raftkv.kvstore.store", fromlist=["_"]), "_TIDIED_AT_ONCE", 0)
        for name in ("CHUNK_RECORDS", "CHUNK_CHANGES", "CHUNK_NUMBERS", "CHUNK_ANSWERS"):
            self.patch(snapshotting, name, 3)

    def live(self, mix: int, errands: int) -> Life:
        """Tell a life."""
        chance = random.Random(f"life {mix}")
        life, known = Life(chance), Known()
        clients = [Errands(life, known, random=chance, mix=MIXES[mix], session_share=0.5) for _ in range(4)]
        for number in range(errands):
            chance.choice(clients).run(lambda: None)
            life.finished()
            life.chores()
            self.assertEqual(life.store.digest(), life.other.digest())
            for store in (life.store, life.other):
                self.assertEqual(difference(store, life.plain), "")
            if number % 50 == 0:
                self.assertEqual(past_difference(life.other, life.plain), "")
        if life.view is not None:
            life.view.close()
        self.assertEqual(snapshot(life.store), snapshot(life.other))
        return life

    def test_everything(self) -> None:
        """B33, B34, B37, B48: a store that is used in every way answers and holds what its plain twin does."""
        self.live(0, 700)

    def test_leases_and_locks(self) -> None:
        """B34, B36, B37, B62: likewise where mostly leases and locks come and go."""
        life = self.live(1, 500)
        self.assertGreater(life.plain.last_number, 50)

    def test_past(self) -> None:
        """B33, B57: likewise where keys are made and deleted, and mostly the past is read."""
        life = self.live(2, 500)
        self.assertGreater(life.plain.compact_revision, 50)

    def test_transactions_and_counters(self) -> None:
        """B40: likewise for transactions and counters."""
        self.live(3, 500)
