"""The state machine: entries in order, restores that replace the state and each other, readers who wait."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, InvariantViolation
from raftkv.kvstore import Restorer, Store
from raftkv.kvstore.commands import pack_batch, put
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta
from raftkv.server.statemachine import StateMachine


def entry(index: int, value: bytes = b"v") -> Entry:
    """Make an entry that sets one key, named after the index."""
    payload = pack_batch(index, 0, [put(b"k%d" % index, value)])
    return Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=payload)


def meta(index: int) -> SnapshotMeta:
    """Make the meta of a snapshot."""
    return SnapshotMeta(index=index, term=1, configuration=Configuration(), configuration_index=0)


def state_at(index: int) -> Store:
    """Make a state that includes everything up to an index."""
    store = Store()
    for number in range(1, index + 1):
        store.apply(number, entry(number).payload)
    return store


class StateMachineTestCase(SynchronousTestCase):
    """A state machine whose snapshots arrive when a test says so."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.loading: list[Deferred[Store]] = []
        self.discarded: list[Store] = []
        self.fatal: list[BaseException] = []
        self.applied: list[int] = []
        self.restored: list[int] = []
        self.machine = StateMachine(
            store=Store(),
            clock=self.clock,
            load=self._load,
            discard=self.discarded.append,
            fatal=self.fatal.append,
        )
        self.machine.on_applied(lambda applied, results: self.applied.append(applied.index))
        self.machine.on_restored(self.restored.append)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def _load(self, snapshot: SnapshotMeta) -> Deferred[Store]:
        self.loading.append(Deferred())
        return self.loading[-1]


class ApplyTests(StateMachineTestCase):
    """Entries become state once, in order, without a gap."""

    def test_in_order(self) -> None:
        """Each applied entry is told to whoever listens, with its results; one without commands has none."""
        heard: list[Any] = []
        self.machine.on_applied(lambda applied, results: heard.append((applied.index, list(results))))
        noop = Entry(index=2, term=1, kind=EntryKind.NOOP, payload=b"")
        self.machine.apply([entry(1), noop, entry(3)])
        self.assertEqual(heard, [(1, [(0, 1)]), (2, []), (3, [(0, 2)])])

    def test_gap(self) -> None:
        """An entry that does not follow the state is refused: what lies between was never applied (B17, B51)."""
        self.machine.apply([entry(1)])
        self.assertRaises(InvariantViolation, self.machine.apply, [entry(3)])

    def test_twice(self) -> None:
        """An entry that the state includes is not applied again (B39)."""
        self.machine.apply([entry(1)])
        self.assertRaises(InvariantViolation, self.machine.apply, [entry(1)])

    def test_stopped(self) -> None:
        """A state machine that was stopped applies nothing more."""
        self.machine.stop()
        self.machine.apply([entry(1)])
        self.assertEqual(self.machine.store.applied_index, 0)


class ReaderTests(StateMachineTestCase):
    """Readers wait for an index."""

    def test_waits(self) -> None:
        """A reader is served in the very call that brings the state to its index, not before (B32)."""
        served: list[int] = []
        self.machine.when_applied(2, lambda: served.append(self.machine.store.applied_index))
        self.machine.when_applied(1, lambda: served.append(self.machine.store.applied_index))
        self.machine.apply([entry(1)])
        self.assertEqual(served, [1])
        self.machine.apply([entry(2)])
        self.assertEqual(served, [1, 2])
        self.machine.when_applied(2, lambda: served.append(0))
        self.assertEqual(served, [1, 2, 0])

    def test_during_a_restore(self) -> None:
        """While a snapshot is restored nobody is served: the state that is there is older than what was promised."""
        self.machine.apply([entry(1)])
        self.machine.restore(meta(5))
        served: list[int] = []
        self.machine.when_applied(1, lambda: served.append(self.machine.store.applied_index))
        self.assertEqual(served, [])
        self.loading[0].callback(state_at(5))
        self.assertEqual(served, [5])


class RestoreTests(StateMachineTestCase):
    """A snapshot takes the place of the state, and what was committed behind it follows."""

    def test_entries_wait(self) -> None:
        """Entries that are committed while a snapshot is restored are applied to the state that it holds (B47)."""
        self.machine.restore(meta(5))
        self.machine.apply([entry(6)])
        self.assertTrue(self.machine.is_restoring)
        self.assertEqual(self.applied, [])
        old = self.machine.store
        self.loading[0].callback(state_at(5))
        self.assertEqual((self.restored, self.applied, self.discarded), ([5], [6], [old]))
        self.assertFalse(self.machine.is_restoring)

    def test_says_when_it_is_behind(self) -> None:
        """It is behind from the begin of a restore until nothing waits, and then whoever brings more is told."""
        behind: list[bool] = []
        self.machine.when_caught_up(lambda: behind.append(self.machine.is_behind))
        self.assertFalse(self.machine.is_behind)
        self.machine.restore(meta(1))
        self.assertTrue(self.machine.is_behind)
        self.machine.apply([entry(index, b"x" * 200_000) for index in range(2, 6)])
        self.loading[0].callback(state_at(1))
        self.assertTrue(self.machine.is_behind)
        self.assertEqual(behind, [])
        self.clock.pump([0] * 10)
        self.assertEqual((behind, self.applied), ([False], [2, 3, 4, 5]))
        self.machine.restore(meta(7))
        self.loading[1].callback(state_at(7))
        self.assertEqual(behind, [False, False])

    def test_second_snapshot(self) -> None:
        """A second snapshot that arrives while the first is restored takes its place; what the first would have
        brought is not missed, and entries that the second includes are not applied again (B47)."""
        self.machine.restore(meta(5))
        self.machine.apply([entry(6), entry(7), entry(8)])
        cancelled = self.loading[0]
        self.machine.restore(meta(7))
        self.machine.apply([entry(9)])
        self.assertTrue(cancelled.called)
        self.loading[1].callback(state_at(7))
        self.assertEqual((self.restored, self.applied), ([7], [8, 9]))
        self.assertEqual(self.fatal, [])

    def test_second_snapshot_while_the_backlog_is_worked_off(self) -> None:
        """A snapshot that arrives while entries are still waiting behind an earlier one begins at once (B47)."""
        self.machine.restore(meta(1))
        self.machine.apply([entry(index, b"x" * 200_000) for index in range(2, 12)])
        self.loading[0].callback(state_at(1))
        self.assertLess(self.machine.store.applied_index, 11)
        self.machine.restore(meta(9))
        self.clock.advance(1)
        self.loading[1].callback(state_at(9))
        self.clock.pump([0] * 10)
        self.assertEqual(self.applied[-2:], [10, 11])
        self.assertEqual(self.fatal, [])

    def test_backlog_in_slices(self) -> None:
        """What waited for a restore is applied a little in each turn, and what comes meanwhile queues behind it."""
        self.machine.restore(meta(1))
        self.machine.apply([entry(index, b"x" * 100_000) for index in range(2, 22)])
        self.loading[0].callback(state_at(1))
        self.assertTrue(0 < len(self.applied) < 10)
        self.machine.apply([entry(22)])
        served: list[int] = []
        self.machine.when_applied(22, lambda: served.append(self.machine.store.applied_index))
        self.clock.pump([0] * 20)
        self.assertEqual(self.applied, list(range(2, 23)))
        self.assertEqual(served, [22])

    def test_snapshot_cannot_be_read(self) -> None:
        """A snapshot that cannot be read stops the node: the core counts on it already."""
        self.machine.restore(meta(5))
        error = CorruptData("snapshots/5", 0, "flipped")
        self.loading[0].errback(error)
        self.assertEqual(self.fatal, [error])

    def test_entry_behind_a_snapshot_cannot_be_applied(self) -> None:
        """An entry that waited for a restore and cannot be applied stops the node; those behind it are not tried."""
        self.machine.restore(meta(5))
        self.machine.apply([Entry(index=6, term=1, kind=EntryKind.COMMANDS, payload=b"nonsense"), entry(7)])
        self.loading[0].callback(state_at(5))
        self.assertIsInstance(self.fatal[0], InvariantViolation)
        self.assertEqual(self.machine.store.applied_index, 5)

    def test_stopped(self) -> None:
        """Stopping gives up a restore: the state stays as it is, and nobody is told of a failure."""
        self.machine.restore(meta(5))
        self.machine.apply([entry(6)])
        self.machine.stop()
        self.assertTrue(self.loading[0].called)
        self.assertEqual((self.fatal, self.restored), ([], []))

    def test_stopped_while_the_backlog_is_worked_off(self) -> None:
        """Stopping leaves no turn behind for what still waited."""
        self.machine.restore(meta(1))
        self.machine.apply([entry(index, b"x" * 200_000) for index in range(2, 12)])
        self.loading[0].callback(state_at(1))
        self.machine.stop()


class RoundTripTests(StateMachineTestCase):
    """The states of the tests above are real ones."""

    def test_restored_state(self) -> None:
        """A state out of a snapshot goes on exactly where it was taken."""
        view = state_at(3).capture()
        restorer = Restorer()
        for chunk in view:
            restorer.feed(chunk)
        self.machine.restore(meta(3))
        self.loading[0].callback(restorer.finish())
        self.machine.apply([entry(4)])
        self.assertEqual(self.machine.store.digest(), state_at(4).digest())
