"""Read barriers: one question a turn, served only when applied, and never without an answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader, Overloaded, RequestTimeout, ShuttingDown, StateBehind
from raftkv.kvstore import Store
from raftkv.kvstore.commands import pack_batch, put
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta
from raftkv.raft.ready import ReadState, Role, SoftState
from raftkv.server.freshness import Freshness
from raftkv.server.reads import ReadLimits, Reads
from raftkv.server.statemachine import StateMachine
from tests.server.fakes import FakeNode


class ReadsTests(SynchronousTestCase):
    """Reads over a fake node and a real state machine."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = FakeNode()
        self.answers: dict[str, Any] = {}
        self.loading: list[Deferred[Store]] = []
        self.discarded: list[Store] = []
        self.state_machine = StateMachine(
            store=Store(), clock=self.clock, load=self._load, discard=self.discarded.append, fatal=self.fail
        )
        self.reads = Reads(
            node=self.node,  # type: ignore[arg-type]
            state_machine=self.state_machine,
            seconds=self.clock.seconds,
            freshness=Freshness(steady_seconds=self.clock.seconds, drift_bound=0.2),
            wake=lambda: None,
            limits=ReadLimits(
                request_timeout_seconds=5, leader_wait_seconds=2, ask_again_seconds=1, max_pending_reads=3
            ),
            first_context=40,
        )

    def _load(self, meta: SnapshotMeta) -> Deferred[Store]:
        self.loading.append(Deferred())
        return self.loading[-1]

    def barrier(self, name: str, consistency: Any = "linearizable", max_stale: float | None = None) -> None:
        def done(error: Any) -> None:
            self.assertNotIn(name, self.answers, "answered twice")
            self.answers[name] = error

        self.reads.barrier(consistency, done, max_stale_seconds=max_stale)

    def apply(self, index: int) -> None:
        payload = pack_batch(0, 0, [put(b"k", b"v")])
        self.state_machine.apply([Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=payload)])

    def test_one_question_for_a_turn(self) -> None:
        """All reads of one turn share one question, and are answered together."""
        self.barrier("x")
        self.barrier("y")
        self.reads.gather()
        self.assertEqual(self.node.contexts, [40])
        self.assertEqual(self.answers, {})
        self.reads.resolved((ReadState(context=40, index=0),))
        self.assertEqual(self.answers, {"x": None, "y": None})

    def test_waits_for_apply(self) -> None:
        """A read whose index is confirmed is served only once the state machine has applied that far (B32)."""
        self.barrier("x")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=2),))
        self.apply(1)
        self.assertEqual(self.answers, {})
        self.apply(2)
        self.assertEqual(self.answers, {"x": None})

    def test_full_disk(self) -> None:
        """B50: on a node whose disk is full a read soon stops to wait for entries that the leader may spare it, and not
        for those that it has."""
        self.node.disk_is_full, self.node.last_index = True, 2
        for name, index in (("here", 2), ("spared", 3)):
            self.barrier(name)
            self.reads.gather()
            self.reads.resolved((ReadState(context=self.node.contexts[-1], index=index),))
        self.clock.advance(0.9)
        self.reads.tick()
        self.assertEqual(self.answers, {})
        self.clock.advance(0.1)
        self.reads.tick()
        self.assertEqual(list(self.answers), ["spared"])
        self.assertIsInstance(self.answers["spared"], StateBehind)
        self.apply(1)
        self.apply(2)
        self.apply(3)
        self.assertIsNone(self.answers["here"])

    def test_waits_for_restore(self) -> None:
        """While a snapshot is being restored no read is served: linearizable ones wait, stale ones are refused."""
        self.state_machine.restore(SnapshotMeta(index=5, term=1, configuration=Configuration(), configuration_index=0))
        self.barrier("x")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=0),))
        self.barrier("stale", "stale")
        self.assertEqual(list(self.answers), ["stale"])
        self.assertIsInstance(self.answers["stale"], NoLeader)
        self.loading[0].callback(Store())
        self.apply(1)
        self.assertIsNone(self.answers["x"])

    def test_stale(self) -> None:
        """A stale read asks nobody."""
        self.barrier("x", "stale")
        self.assertEqual((self.answers, self.node.contexts), ({"x": None}, []))

    def test_lost_with_the_leader(self) -> None:
        """A read that was lost with the leader is asked anew under a new context; the old answer is no longer heard."""
        self.barrier("x")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=None),))
        self.assertEqual(self.answers, {})
        self.reads.tick()
        self.reads.gather()
        self.assertEqual(self.node.contexts, [40, 41])
        self.reads.resolved((ReadState(context=40, index=0),))
        self.assertEqual(self.answers, {})
        self.reads.resolved((ReadState(context=41, index=0),))
        self.assertEqual(self.answers, {"x": None})

    def test_no_answer(self) -> None:
        """A question that got no answer is asked again: messages get lost."""
        self.barrier("x")
        self.reads.gather()
        self.clock.advance(1)
        self.reads.tick()
        self.reads.gather()
        self.assertEqual(self.node.contexts, [40, 41])

    def test_new_leader(self) -> None:
        """A change of leader asks everything anew."""
        self.barrier("x")
        self.reads.gather()
        self.reads.soft_state_changed(SoftState(role=Role.FOLLOWER, term=2, leader="b"))
        self.reads.gather()
        self.assertEqual(self.node.contexts, [40, 41])

    def test_no_leader(self) -> None:
        """Without a leader a read waits for one, for a bounded time."""
        self.node.follow(None)
        self.barrier("x")
        self.reads.gather()
        self.assertEqual(self.node.contexts, [])
        self.clock.advance(2)
        self.reads.tick()
        self.assertIsInstance(self.answers["x"], NoLeader)

    def test_times_out(self) -> None:
        """A read that is never confirmed, or whose index is never applied, ends with a time-out."""
        self.barrier("applying")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=9),))
        self.barrier("asked")
        for _ in range(6):
            self.reads.gather()
            self.clock.advance(1)
            self.reads.tick()
        for name in ("applying", "asked"):
            self.assertIsInstance(self.answers[name], RequestTimeout)
            self.assertEqual(self.answers[name].outcome, "not_applied")
        for index in range(1, 10):
            self.apply(index)

    def test_reads_during_a_long_restore(self) -> None:
        """Reads that come and time out while a snapshot is restored leave nothing behind that grows with them."""
        self.state_machine.restore(SnapshotMeta(index=5, term=1, configuration=Configuration(), configuration_index=0))
        for number in range(100):
            self.barrier(f"r{number}")
            self.reads.gather()
            self.reads.resolved((ReadState(context=40 + number, index=5),))
            self.clock.advance(2)
            self.reads.tick()
        self.assertEqual(sum(isinstance(answer, RequestTimeout) for answer in self.answers.values()), 98)
        self.assertEqual(len(self.state_machine._readers), 1)
        self.assertEqual(sum(len(asked.reads) for asked in self.reads._applying.values()), 2)
        self.loading[0].callback(self._state_at(5))
        self.assertEqual([self.answers["r98"], self.answers["r99"]], [None, None])
        self.assertEqual((self.reads._applying, self.reads._pending), ({}, 0))

    def _state_at(self, index: int) -> Store:
        store = Store()
        for number in range(1, index + 1):
            store.skip(number)
        return store

    def test_restart(self) -> None:
        """The first question of a life has a number that was drawn anew: an answer to the life before fits none."""
        self.barrier("x")
        self.reads.gather()
        self.reads.resolved((ReadState(context=39, index=0), ReadState(context=41, index=0)))
        self.assertEqual(self.answers, {})

    def test_failing_receiver(self) -> None:
        """One caller whose callback raises does not keep the others from their answer."""

        def broken(error: Any) -> None:
            raise ValueError("broken callback")

        self.reads.barrier("linearizable", broken)
        self.barrier("x")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=0),))
        self.assertEqual(self.answers, {"x": None})
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)

    def test_asked_again_from_an_answer(self) -> None:
        """Who asks again when a read timed out is heard in the next turn, and is not lost among those that go."""

        def again(error: Any) -> None:
            self.barrier("second")

        self.node.follow(None)
        self.reads.barrier("linearizable", again)
        self.clock.advance(5)
        self.reads.tick()
        self.node.follow("b")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=0),))
        self.assertEqual(self.answers, {"second": None})

    def test_bound(self) -> None:
        """Past the bound on waiting reads the next one is refused."""
        for name in "abcd":
            self.barrier(name)
        self.assertIsInstance(self.answers["d"], Overloaded)

    def test_stopping(self) -> None:
        """A node that stops answers every read that waits, and refuses new ones."""
        self.barrier("asked")
        self.reads.gather()
        self.barrier("gathered")
        self.reads.refuse()
        self.barrier("late")
        for name in ("asked", "gathered", "late"):
            self.assertIsInstance(self.answers[name], ShuttingDown)

    # -- leases --------------------------------------------------------------------------------------------------

    def test_lease(self) -> None:
        """A read that trusts a lease is answered in the very call, by a leader that holds one; no other is (B28)."""
        self.node.lease = 0
        self.barrier("x", "lease")
        self.barrier("y")
        self.assertEqual(self.answers, {"x": None})
        self.reads.gather()
        self.assertEqual((self.node.contexts, self.node.by_lease), ([40], [False]))

    def test_lease_is_over_when_served(self) -> None:
        """The clock is read when the read is there: a lease that ran out in a pause is none (B30)."""
        self.node.lease, self.node.lease_until = 0, 5.0
        self.barrier("x", "lease")
        self.clock.advance(5)
        self.barrier("y", "lease")
        self.assertEqual(self.answers, {"x": None})

    def test_lease_before_apply(self) -> None:
        """A leader that has not applied all that it committed does not answer by its lease yet (B32)."""
        self.node.lease = 1
        self.barrier("x", "lease")
        self.assertEqual(self.answers, {})
        self.apply(1)
        self.barrier("y", "lease")
        self.assertEqual(self.answers, {"y": None})

    def test_question_of_their_own(self) -> None:
        """Reads that trust the leader's lease ask by a question of their own, so that the others stay linearizable
        whatever the clocks do."""
        self.barrier("x")
        self.barrier("y", "lease")
        self.reads.gather()
        self.assertEqual((self.node.contexts, self.node.by_lease), ([40, 41], [False, True]))
        self.reads.resolved((ReadState(context=41, index=0),))
        self.assertEqual(self.answers, {"y": None})

    # -- stale reads ---------------------------------------------------------------------------------------------

    def test_fresh_enough(self) -> None:
        """A bounded stale read is answered at once if the state held everything a short enough while ago, measured
        from when the leader was asked and lengthened by what the clock may be off."""
        self.assertIsNone(self.reads.staleness())
        self.barrier("x")
        self.reads.gather()
        self.clock.advance(2)
        self.reads.resolved((ReadState(context=40, index=0),))
        self.assertEqual(self.reads.staleness(), 2 / 0.8)
        self.barrier("y", "stale", max_stale=2.5)
        self.barrier("z", "stale", max_stale=2.4)
        self.assertEqual(self.answers, {"x": None, "y": None})
        self.reads.gather()
        self.assertEqual(self.node.by_lease, [False, True])
        self.reads.resolved((ReadState(context=41, index=0),))
        self.assertEqual((self.answers["z"], self.reads.staleness()), (None, 0.0))

    def test_fresh_once_applied(self) -> None:
        """What the leader had committed counts only once it is applied here (B32)."""
        self.barrier("x")
        self.reads.gather()
        self.reads.resolved((ReadState(context=40, index=1),))
        self.assertIsNone(self.reads.staleness())
        self.clock.advance(1)
        self.apply(1)
        self.assertEqual(self.reads.staleness(), 1 / 0.8)

    def test_never_fresher_by_a_late_answer(self) -> None:
        """An answer to an earlier question does not make the state older than it is known to be."""
        for name in ("x", "y"):
            self.barrier(name)
            self.reads.gather()
            self.clock.advance(0.8)
        for context in (41, 40):
            self.reads.resolved((ReadState(context=context, index=0),))
        self.assertAlmostEqual(self.reads.staleness() or 0, 1.0)

    def test_leader_with_a_lease_is_fresh(self) -> None:
        """The state of a leader with a lease is as of now."""
        self.node.lease = 0
        self.assertEqual(self.reads.staleness(), 0.0)
        self.barrier("x", "stale", max_stale=0.0)
        self.assertEqual(self.answers, {"x": None})

    def test_too_stale_and_nobody_to_ask(self) -> None:
        """A bounded read that cannot be served in time fails as any other read does; an unbounded one does not wait."""
        self.node.follow(None)
        self.barrier("x", "stale", max_stale=1)
        self.barrier("y", "stale")
        self.clock.advance(2)
        self.reads.tick()
        self.assertIsInstance(self.answers["x"], NoLeader)
        self.assertIsNone(self.answers["y"])

    def test_kept_fresh_while_stale_reads_come(self) -> None:
        """Once stale reads come the leader is asked once a tick, so that the next ones know how old the state is; when
        they stop, so do the questions."""
        self.reads.tick()
        self.reads.gather()
        self.assertEqual(self.node.contexts, [])
        self.barrier("x", "stale")
        for context in (40, 41, 42):
            self.reads.tick()
            self.reads.gather()
            self.assertEqual(self.node.contexts[-1], context)
            self.reads.resolved((ReadState(context=context, index=0),))
            self.clock.advance(0.1)
        self.assertAlmostEqual(self.reads.staleness() or 0, 0.1 / 0.8)
        self.clock.advance(10)
        self.reads.tick()
        self.reads.gather()
        self.assertEqual(self.node.contexts, [40, 41, 42])

    def test_one_question_at_a_time_keeps_fresh(self) -> None:
        """While any question is open none is asked only to know the age."""
        self.barrier("x", "stale")
        self.reads.tick()
        self.barrier("y")
        self.reads.gather()
        self.reads.tick()
        self.reads.gather()
        self.assertEqual(self.node.contexts, [40])
