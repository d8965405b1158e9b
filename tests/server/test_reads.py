"""Read barriers: one question a turn, served only when applied, and never without an answer."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader, Overloaded, RequestTimeout, ShuttingDown
from raftkv.kvstore import Store
from raftkv.kvstore.commands import pack_batch, put
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta
from raftkv.raft.ready import ReadState, Role, SoftState
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
            wake=lambda: None,
            limits=ReadLimits(
                request_timeout_seconds=5, leader_wait_seconds=2, ask_again_seconds=1, max_pending_reads=3
            ),
            first_context=40,
        )

    def _load(self, meta: SnapshotMeta) -> Deferred[Store]:
        self.loading.append(Deferred())
        return self.loading[-1]

    def barrier(self, name: str, consistency: Any = "linearizable") -> None:
        def done(error: Any) -> None:
            self.assertNotIn(name, self.answers, "answered twice")
            self.answers[name] = error

        self.reads.barrier(consistency, done)

    def apply(self, index: int) -> None:
        payload = pack_batch(0, 0, [put(b"k", b"v")])
        self.state_machine.apply([Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=payload)])

    def test_one_question_for_a_turn(self) -> None:
        """All reads of one turn share one question, and are answered together."""
        self.barrier("x")
        self.barrier("y", "lease")
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
        self.assertEqual(sum(map(len, self.reads._applying.values())), 2)
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
