"""Writes on their way: batching, forwarding, and exactly one true answer for each."""

from __future__ import annotations

import dataclasses
from typing import Any

import msgpack
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import (
    BadRequest,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    RequestTimeout,
    ShuttingDown,
    TooLarge,
)
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    delete,
    fenced,
    get,
    grant,
    in_session,
    keepalive,
    lock,
    pack_batch,
    put,
    range_of,
    transaction,
    unlock,
)
from raftkv.protocols.codec import encode
from raftkv.protocols.framing import KIB, MIB, FrameLimits, pack
from raftkv.raft.messages import AppendEntries, Entry, EntryKind
from raftkv.raft.ready import Role, SoftState
from raftkv.server.batching import COMMAND_BYTES
from raftkv.server.clustertime import ClusterClock
from raftkv.server.proposals import Proposals, WriteLimits
from tests.server.fakes import FakeForwarder, FakeNode


class ProposalsTestCase(SynchronousTestCase):
    """Proposals over a fake node, with answers gathered by name."""

    limits = WriteLimits(
        request_timeout_seconds=5,
        leader_wait_seconds=2,
        max_batch_bytes=100,
        max_batch_commands=4,
        max_pending_writes=10,
        max_pending_bytes=4000,
        max_sessions=1,
        max_leases=2,
        max_lock_waiters=2,
    )

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = FakeNode()
        self.forwarder = FakeForwarder()
        self.store = Store()
        self.wakes = 0
        self.answers: dict[str, Any] = {}
        self.leader_address = "host:1"
        self.proposals = Proposals(
            node=self.node,  # type: ignore[arg-type]
            store=lambda: self.store,
            forwarder=self.forwarder,
            leader_rpc_addr=lambda: self.leader_address,
            cluster_clock=ClusterClock(
                monotonic=self.clock.seconds, wall=lambda: 1000.0, applied_ms=lambda: self.store.cluster_time_ms
            ),
            seconds=self.clock.seconds,
            wake=self._wake,
            limits=self.limits,
        )

    def _wake(self) -> None:
        self.wakes += 1

    def submit(self, name: str, *commands: Any, forwarded: bool = False) -> None:
        def done(outcome: Any) -> None:
            self.assertNotIn(name, self.answers, "answered twice")
            self.answers[name] = outcome

        self.proposals.submit(commands or (put(name.encode(), b"v"),), done, forwarded=forwarded)

    def commit(self, entry: Entry) -> None:
        self.proposals.applied(entry, self.store.apply(entry.index, entry.payload))


class LeaderTests(ProposalsTestCase):
    """What a leader does with writes."""

    def test_one_entry_for_a_turn(self) -> None:
        """Everything that came in during one turn is one entry, and each caller gets its own results."""
        self.submit("x")
        self.submit("y", put(b"1", b"v"), put(b"2", b"v"))
        self.proposals.gather()
        (entry,) = self.node.log
        self.assertEqual(len(msgpack.unpackb(entry.payload)[3]), 3)
        self.assertEqual(self.answers, {})
        self.commit(entry)
        self.assertEqual(self.answers, {"x": [(0, 1)], "y": [(0, 2), (0, 3)]})
        self.assertEqual(self.proposals.pending_commands, 0)

    def test_batch_limits(self) -> None:
        """A turn with more commands or bytes than an entry may hold makes several entries, in order."""
        for name in "abcdef":
            self.submit(name)
        self.submit("big", put(b"g", b"v" * 99))
        self.proposals.gather()
        sizes = [len(msgpack.unpackb(entry.payload)[3]) for entry in self.node.log]
        self.assertEqual(sizes, [4, 2, 1])

    def test_other_entry_in_its_place(self) -> None:
        """Where another leader's entry is applied at the index of ours, its results are not ours (B65); ours is
        tried again, since it can never be committed."""
        self.submit("x")
        self.proposals.gather()
        other = Entry(index=1, term=2, kind=EntryKind.NOOP, payload=b"")
        self.proposals.applied(other, ())
        self.assertEqual(self.answers, {})
        self.proposals.tick()
        self.proposals.gather()
        self.assertEqual(len(self.node.log), 2)

    def test_own_entry_of_a_later_term_in_its_place(self) -> None:
        """A write whose entry our own next leadership replaces in the log has an unknown outcome (B65)."""
        self.submit("a")
        self.proposals.gather()
        self.node.log.clear()
        self.node.current_term = 3
        self.submit("b")
        self.proposals.gather()
        self.assertIsInstance(self.answers["a"], OutcomeUnknown)
        self.assertNotIn("b", self.answers)
        self.commit(self.node.log[0])
        self.assertEqual([(0, 1)], list(self.answers["b"]))
        self.assertEqual(0, self.proposals.pending_commands)

    def test_other_entry_in_place_of_a_forwarded_write(self) -> None:
        """A forwarded write whose entry was replaced goes back to its node with an error that allows to try again."""
        self.submit("x", forwarded=True)
        self.proposals.gather()
        self.proposals.applied(Entry(index=1, term=2, kind=EntryKind.NOOP, payload=b""), ())
        self.assertIsInstance(self.answers["x"], ProposalDropped)
        self.assertEqual(self.answers["x"].outcome, "not_applied")

    def test_commit_takes_too_long(self) -> None:
        """A write that is in the log and not committed in time has an unknown outcome; its later commit is no news."""
        self.submit("x")
        self.proposals.gather()
        self.clock.advance(4.9)
        self.proposals.tick()
        self.assertEqual(self.answers, {})
        self.clock.advance(0.1)
        self.proposals.tick()
        self.assertIsInstance(self.answers["x"], RequestTimeout)
        self.assertEqual(self.answers["x"].outcome, "unknown")
        self.commit(self.node.log[0])

    def test_leadership_being_handed_over(self) -> None:
        """Writes wait while leadership is being handed over, and go to the successor."""
        self.node.refusal = ProposalDropped()
        self.submit("x")
        self.proposals.gather()
        self.assertEqual(self.answers, {})
        self.node.follow("b")
        self.proposals.soft_state_changed(SoftState(role=Role.FOLLOWER, term=2, leader="b"))
        self.proposals.gather()
        self.assertEqual(len(self.forwarder.sent), 1)

    def test_core_is_full(self) -> None:
        """The core's own bound reaches the caller as overloaded, not applied."""
        self.node.refusal = Overloaded("uncommitted")
        self.submit("x")
        self.proposals.gather()
        self.assertIsInstance(self.answers["x"], Overloaded)

    def test_snapshot_over_ours(self) -> None:
        """A snapshot that covers our entry leaves its outcome unknown."""
        self.submit("x")
        self.proposals.gather()
        self.proposals.restored(5)
        self.assertIsInstance(self.answers["x"], OutcomeUnknown)

    def test_callback_that_fails(self) -> None:
        """One caller whose callback raises does not keep the answer from the others."""

        def broken(outcome: Any) -> None:
            raise ValueError("broken callback")

        self.proposals.submit((put(b"k", b"v"),), broken)
        self.submit("x")
        self.proposals.gather()
        self.commit(self.node.log[0])
        self.assertIn("x", self.answers)
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)


class TimeTests(ProposalsTestCase):
    """What a leader stamps on its entries."""

    def stamps(self) -> list[int]:
        """Return the cluster times of the log."""
        return [msgpack.unpackb(entry.payload)[1] for entry in self.node.log]

    def test_first_turn_of_a_leadership(self) -> None:
        """An entry that is proposed before the change of role was announced bears the cluster's time too, and not
        how long the machine has been up: an hour of that would end every session."""
        self.clock.advance(10_000)
        self.store.apply(1, pack_batch(7_000, 0, []))
        self.submit("x")
        self.proposals.gather()
        self.proposals.soft_state_changed(SoftState(role=Role.LEADER, term=1, leader="a"))
        self.clock.advance(2)
        self.submit("y")
        self.proposals.gather()
        self.assertEqual(self.stamps(), [7_000, 9_000])

    def test_announced_first(self) -> None:
        """Time runs from the beginning of a leadership, not from its first write."""
        self.clock.advance(10_000)
        self.proposals.soft_state_changed(SoftState(role=Role.LEADER, term=1, leader="a"))
        self.clock.advance(3)
        self.submit("x")
        self.proposals.gather()
        self.assertEqual(self.stamps(), [3_000])

    def test_second_leadership(self) -> None:
        """The time between two leaderships does not count."""
        self.submit("x")
        self.proposals.gather()
        self.clock.advance(5_000)
        self.node.current_term = 3
        self.submit("y")
        self.proposals.gather()
        self.assertEqual(self.stamps(), [0, 0])


class BoundsTests(ProposalsTestCase):
    """Nothing waits without bound."""

    def test_too_many_commands(self) -> None:
        """Past the bound on waiting commands a write is refused at once, and taken again once there is room."""
        for number in range(10):
            self.submit(f"w{number}")
        self.submit("more")
        self.assertIsInstance(self.answers["more"], Overloaded)
        self.proposals.gather()
        for entry in self.node.log:
            self.commit(entry)
        self.submit("again")
        self.assertNotIn("again", self.answers)

    def test_too_many_bytes(self) -> None:
        """Past the bound on waiting bytes a write is refused, also inside a session."""
        self.submit("x", in_session(b"c", 1, put(b"k", b"v" * 3600)))
        self.submit("y", put(b"k", b"v" * 200))
        self.assertIsInstance(self.answers["y"], Overloaded)

    def test_many_small_parts(self) -> None:
        """What a command and each operation of a transaction takes counts besides keys and values, be they empty; and
        no longer than the write waits."""
        self.submit("x", *[put(b"", b"")] * (4000 // COMMAND_BYTES + 1 - 6))
        self.submit("y", *[put(b"", b"")] * 6)
        self.assertIsInstance(self.answers["y"], Overloaded)
        operations = [put(b"", b"")] * (4000 // COMMAND_BYTES)
        for name, success, failure in (("a", operations, []), ("b", [], [transaction([], operations, [])])):
            self.submit(name, transaction([], success, failure))
            self.assertIsInstance(self.answers[name], Overloaded)
            self.submit(f"{name} in a session", in_session(b"c", 1, transaction([], success, failure)))
            self.assertIsInstance(self.answers[f"{name} in a session"], Overloaded)
        self.proposals.gather()
        for entry in self.node.log:
            self.proposals.applied(entry, [(0, 1)] * len(msgpack.unpackb(entry.payload)[3]))
        self.assertEqual(self.proposals._pending_bytes, 0)

    def test_no_room_for_a_session(self) -> None:
        """A new client is refused where the sessions are all taken; one that has a session goes on."""
        self.submit("x", in_session(b"c", 1, put(b"k", b"v")))
        self.proposals.gather()
        self.commit(self.node.log[0])
        self.submit("new", in_session(b"d", 1, put(b"k", b"v")))
        self.submit("old", in_session(b"c", 2, put(b"k", b"v")))
        self.proposals.gather()
        self.assertIsInstance(self.answers["new"], Overloaded)
        self.commit(self.node.log[1])
        self.assertEqual(self.answers["old"], [(0, 2)])


class SizeTests(ProposalsTestCase):
    """No entry is larger than what one message between nodes can carry: it could never be replicated."""

    limits = dataclasses.replace(ProposalsTestCase.limits, max_pending_bytes=2**30, max_batch_bytes=2 * MIB)

    def test_too_large(self) -> None:
        """A write that would not fit into a message is refused, whoever leads, and the others go on."""
        self.submit("large", *[put(b"k", b"v" * MIB)] * 8)
        self.submit("small")
        self.proposals.gather()
        self.assertIsInstance(self.answers["large"], TooLarge)
        self.assertEqual(self.answers["large"].outcome, "not_applied")
        self.commit(self.node.log[0])
        self.assertEqual(self.answers["small"], [(0, 1)])
        self.assertEqual(self.proposals.pending_commands, 0)

    def test_largest(self) -> None:
        """The largest write that is taken fits."""
        self.submit("large", *[put(b"k" * KIB, b"v" * (MIB - KIB))] * 7)
        self.proposals.gather()
        (entry,) = self.node.log
        self.commit(entry)
        self.assertEqual(len(self.answers["large"]), 7)
        message = AppendEntries(
            term=2**62,
            sender="a",
            to="b",
            prev_log_index=0,
            prev_log_term=2**62,
            leader_commit=2**62,
            entries=(entry,),
            read_round=2**62,
        )
        self.assertLess(len(pack(encode(message))), FrameLimits().max_message_bytes)

    def test_wrapping_counts(self) -> None:
        """Small commands in large wrappings are spread over more entries rather than refused."""
        limits = dataclasses.replace(self.limits, max_pending_writes=10**6, max_batch_commands=10**6)
        self.proposals._limits = dataclasses.replace(limits, max_sessions=10**6)
        client = b"c" * 256
        for number in range(40):
            commands = [in_session(client, 1000 * number + each, delete(b"k")) for each in range(1000)]
            self.submit(f"w{number}", *commands)
        self.proposals.gather()
        self.assertGreater(len(self.node.log), 1)
        for entry in self.node.log:
            self.assertLess(len(entry.payload), 8 * MIB)
            self.commit(entry)
        self.assertEqual(sum(map(len, self.answers.values())), 40_000)


class RoomTests(ProposalsTestCase):
    """What there is only so much room for."""

    def test_leases(self) -> None:
        """Where there are as many leases as there may be, what would make another is refused, and nothing else."""
        self.store.apply(1, pack_batch(0, 0, [grant(1000), put(b"k", b"", ttl_ms=1000)]))
        self.submit("grant", grant(1000))
        self.submit("ttl", in_session(b"c", 1, put(b"k", b"", ttl_ms=1000)))
        self.submit("lock", fenced(b"l", 1, lock(b"l", ttl_ms=1000)))
        self.submit("keepalive", keepalive(1))
        self.submit("put", put(b"k", b"", lease=1))
        self.submit("lock with it", lock(b"l", lease=1))
        self.proposals.gather()
        self.assertEqual(set(self.answers), {"grant", "ttl", "lock"})
        self.assertIn("limits.maxLeases", str(self.answers["grant"]))

    def test_locks(self) -> None:
        """Likewise for those who hold locks or wait for them."""
        locks = [lock(name, lease=1) for name in (b"l", b"m", b"n")]
        self.store.apply(1, pack_batch(0, 0, [grant(1000), *locks]))
        self.submit("lock", lock(b"o", lease=1))
        self.submit("unlock", unlock(b"l"))
        self.proposals.gather()
        self.assertEqual(set(self.answers), {"lock"})
        self.assertIn("limits.maxLockWaiters", str(self.answers["lock"]))


class FollowerTests(ProposalsTestCase):
    """What a follower does with writes."""

    limits = dataclasses.replace(ProposalsTestCase.limits, max_pending_bytes=MIB)

    def setUp(self) -> None:
        super().setUp()
        self.node.follow("b")

    def test_large_answers_travel_alone(self) -> None:
        """A transaction that reads, in whatever it is wrapped or nested, shares no request: a message must hold its
        answer."""
        reads = transaction([], [], [transaction([], [get(b"k")])])
        self.submit("a")
        self.submit("b", in_session(b"c", 1, fenced(b"l", 1, reads)))
        self.submit("c", transaction([], [put(b"k", b"")]))
        self.submit("d", transaction([], [range_of(b"", b"", 9)]))
        self.proposals.gather()
        self.assertEqual([len(commands) for _, commands, _ in self.forwarder.sent], [1, 1, 2])

    def test_forwards_to_the_leader(self) -> None:
        """A turn's writes go to the leader in one request, and the results are shared out."""
        self.submit("x")
        self.submit("y")
        self.proposals.gather()
        ((address, commands, done),) = self.forwarder.sent
        self.assertEqual((address, len(commands)), ("host:1", 2))
        done([(0, 7), (0, 8)])
        self.assertEqual(self.answers, {"x": [(0, 7)], "y": [(0, 8)]})

    def test_no_room_for_a_session(self) -> None:
        """Where the sessions are all taken, a write that needs a new one shares no request with others: the leader's
        refusal is for all that a request holds."""
        self.store.apply(1, pack_batch(0, 0, [in_session(b"old", 1, put(b"k", b"v"))]))
        self.submit("old", in_session(b"old", 2, put(b"k", b"v")))
        self.submit("new", in_session(b"new", 1, put(b"k", b"v")))
        self.submit("plain")
        self.proposals.gather()
        self.assertEqual([len(commands) for _, commands, _ in self.forwarder.sent], [2, 1])
        self.forwarder.sent[1][2](Overloaded("there is no room for another session"))
        self.assertEqual(list(self.answers), ["new"])
        self.forwarder.sent[0][2]([(0, 2), (0, 3)])
        self.assertEqual((self.answers["old"], self.answers["plain"]), ([(0, 2)], [(0, 3)]))

    def test_never_twice(self) -> None:
        """A write that was forwarded here is not forwarded again (B64)."""
        self.submit("x", forwarded=True)
        self.proposals.gather()
        self.assertEqual(self.forwarder.sent, [])
        self.assertIsInstance(self.answers["x"], NotLeader)

    def test_leader_gone(self) -> None:
        """A forwarded write that certainly did not take effect waits for the next leader."""
        self.submit("x")
        self.proposals.gather()
        self.forwarder.sent[0][2](NoLeader())
        self.assertEqual(self.answers, {})
        self.proposals.tick()
        self.proposals.gather()
        self.assertEqual(len(self.forwarder.sent), 2)

    def test_connection_lost(self) -> None:
        """A forwarded write whose connection broke has an unknown outcome and is not sent again (B63)."""
        self.submit("x")
        self.proposals.gather()
        self.forwarder.sent[0][2](OutcomeUnknown())
        self.assertIsInstance(self.answers["x"], OutcomeUnknown)
        self.proposals.tick()
        self.proposals.gather()
        self.assertEqual(len(self.forwarder.sent), 1)

    def test_leader_that_may_have_begun(self) -> None:
        """A forwarded write is tried again only where it certainly did not take effect, whatever class of error says
        so: of a write that travelled in parts some may have (B63)."""
        self.submit("x")
        self.proposals.gather()
        error = NoLeader()
        error.outcome = "unknown"
        self.forwarder.sent[0][2](error)
        self.proposals.tick()
        self.proposals.gather()
        self.assertIs(self.answers["x"], error)
        self.assertEqual(len(self.forwarder.sent), 1)

    def test_one_request_for_one_outcome(self) -> None:
        """Writes of a turn that do not fit into one request become several, each with an outcome of its own."""
        self.proposals._limits = dataclasses.replace(self.limits, max_batch_commands=4096, max_pending_writes=4096)
        for name in ("x", "y", "z"):
            self.submit(name, *[put(b"", b"")] * 500)
        self.proposals.gather()
        self.assertEqual([len(commands) for _, commands, _ in self.forwarder.sent], [1000, 500])

    def test_one_that_the_leader_does_not_take(self) -> None:
        """Where the leader refuses a request for what is in it, only the write at fault is refused; others are sent."""
        for refusal in (TooLarge("too large"), BadRequest("unknown")):
            self.answers.clear()
            self.forwarder.sent.clear()
            for name in ("a", "b", "wrong", "c"):
                self.submit(name)
            self.proposals.gather()
            for _, commands, done in self.forwarder.sent:  # which grows
                keys = [command[2] for command in commands]
                done(refusal if b"wrong" in keys else [(0, key) for key in keys])
            expected = {"a": [(0, b"a")], "b": [(0, b"b")], "wrong": refusal, "c": [(0, b"c")]}
            self.assertEqual(self.answers, expected)
            self.assertEqual(self.proposals.pending_commands, 0)

    def test_refusal_of_what_may_have_begun(self) -> None:
        """A request of which a part may have been carried out is not sent again, whatever it was refused for."""
        self.submit("x")
        self.submit("y")
        self.proposals.gather()
        error = TooLarge("too large")
        error.outcome = "unknown"
        self.forwarder.sent[0][2](error)
        self.assertEqual(self.answers, {"x": error, "y": error})
        self.assertEqual(len(self.forwarder.sent), 1)

    def test_no_leader(self) -> None:
        """Without a leader a write waits for one, for a bounded time, and then certainly did not take effect."""
        self.node.follow(None)
        self.submit("x")
        self.proposals.gather()
        self.clock.advance(1.9)
        self.proposals.tick()
        self.proposals.gather()
        self.assertEqual(self.answers, {})
        self.clock.advance(0.1)
        self.proposals.tick()
        self.proposals.gather()
        self.clock.advance(0.1)
        self.proposals.tick()
        self.assertIsInstance(self.answers["x"], NoLeader)
        self.assertEqual(self.answers["x"].outcome, "not_applied")

    def test_elected_meanwhile(self) -> None:
        """Writes that waited for a leader are proposed here, where this node becomes it."""
        self.node.follow(None)
        self.submit("x")
        self.proposals.gather()
        self.node.role, self.node.leader = Role.LEADER, "a"
        self.proposals.soft_state_changed(SoftState(role=Role.LEADER, term=2, leader="a"))
        self.proposals.gather()
        self.assertEqual(len(self.node.log), 1)


class StoppingTests(ProposalsTestCase):
    """What becomes of writes when the node stops."""

    def test_finishes_what_was_taken(self) -> None:
        """A node that stops refuses new writes, and has finished once those it took are answered."""
        self.submit("x")
        self.proposals.gather()
        finished = self.proposals.refuse()
        self.submit("late")
        self.assertIsInstance(self.answers["late"], ShuttingDown)
        self.assertNoResult(finished)
        self.commit(self.node.log[0])
        self.successResultOf(finished)

    def test_idle(self) -> None:
        """With nothing under way, stopping waits for nothing."""
        self.successResultOf(self.proposals.refuse())

    def test_abandons_the_rest(self) -> None:
        """What cannot be finished is told the truth: unknown where it is in a log, not applied where it is not."""
        self.submit("proposed")
        self.proposals.gather()
        self.submit("gathered")
        self.proposals.abandon()
        self.assertIsInstance(self.answers["proposed"], OutcomeUnknown)
        self.assertIsInstance(self.answers["gathered"], ShuttingDown)
