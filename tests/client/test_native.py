"""``NativeClient`` against the real server protocol over the real store, in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv import errors
from raftkv.client import ClientClosed, Compare, Deleted, NativeClient, NotReached, Record, ValueNotText, Written
from raftkv.client.rpc.request import Request
from tests.client.fakes import FixedRandom
from tests.client.onenode import OneNode
from tests.client.rpcnet import RpcNetwork

A, B = "a:8081", "b:8081"


class NativeTestCase(SynchronousTestCase):
    """Two addresses, of which the first leads; both stand before one store."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = RpcNetwork(self.clock)
        self.node = OneNode()
        self.node.leader_rpc_addr = A
        self.network.nodes = {A: self.node, B: self.node}
        self.clients: list[NativeClient] = []
        self.client = self.make(A, B)
        self.addCleanup(self.check_quiet)

    def make(self, *addresses: str, **options: Any) -> NativeClient:
        client = NativeClient(
            *addresses,
            reactor=self.clock,
            connect=self.network.endpoint,
            random=FixedRandom(),  # type: ignore[arg-type]
            entropy=bytes,
            **options,
        )
        self.clients.append(client)
        return client

    def check_quiet(self) -> None:
        closing = [client.close() for client in self.clients]
        self.turns()
        for closed in closing:
            self.successResultOf(closed)
        for wire in self.network.wires:
            wire.cut()
        self.turns()
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def turns(self, count: int = 20) -> None:
        self.clock.pump([0] * count)

    def run_call(self, call: Deferred[Any]) -> Any:
        self.turns()
        return self.successResultOf(call)

    def error_of(self, call: Deferred[Any], kind: type[Exception]) -> Any:
        self.turns()
        return self.failureResultOf(call, kind).value


class CallTests(NativeTestCase):
    """What the calls do."""

    def test_life_of_a_key(self) -> None:
        """A key is set, read in every way, deleted and gone."""
        self.assertEqual(self.run_call(self.client.set("k", "väl")), Written(revision=1))
        self.assertEqual(self.run_call(self.client.get("k")), "väl")
        self.assertEqual(self.run_call(self.client.get_bytes(b"k")), "väl".encode())
        expected = Record(key="k", value="väl".encode(), create_revision=1, mod_revision=1, version=1)
        self.assertEqual(self.run_call(self.client.get_record("k")), expected)
        self.assertEqual(self.run_call(self.client.delete("k")), Deleted(deleted=True, revision=2))
        self.assertEqual(self.run_call(self.client.delete("k")), Deleted(deleted=False, revision=2))
        self.assertIsNone(self.run_call(self.client.get("k")))

    def test_staleness(self) -> None:
        """The records of stale reads tell how old the state may be that they are of; those of other reads do not."""
        self.run_call(self.client.set("k", "v"))
        for age in (0.25, None):
            self.node.age = age
            self.assertEqual(self.run_call(self.client.get_record("k", consistency="stale")).staleness, age)
            (record,) = self.run_call(self.client.get_many(["k"], consistency="stale", max_stale=1))
            self.assertEqual(record.staleness, age)
        self.node.age = 0.25
        self.assertIsNone(self.run_call(self.client.get_record("k")).staleness)

    def test_not_text(self) -> None:
        """A value that is not UTF-8 is told by its own error."""
        self.run_call(self.client.set("k", b"\xff"))
        self.error_of(self.client.get("k"), ValueNotText)

    def test_conditions(self) -> None:
        """Compare-and-set and compare-and-delete are as over HTTP."""
        self.run_call(self.client.set("k", "1", if_mod_revision=0))
        error = self.error_of(self.client.set("k", "2", if_mod_revision=0), errors.PreconditionFailed)
        self.assertEqual(error.mod_revision, 1)
        self.run_call(self.client.set("k", "2", if_mod_revision=1))
        self.error_of(self.client.delete("k", if_mod_revision=1), errors.PreconditionFailed)
        self.error_of(self.client.delete("l", if_exists=True), errors.PreconditionFailed)
        self.run_call(self.client.delete("k", if_exists=True))

    def test_batches(self) -> None:
        """Thousands of puts and gets travel in parts and come back in order."""
        pairs = [(f"k{number}", f"v{number}") for number in range(3000)]
        written = self.run_long(self.client.put_many(pairs))
        self.assertEqual([one.revision for one in written], list(range(1, 3001)))
        records = self.run_long(self.client.get_many([*dict(pairs), "nothing"]))
        self.assertEqual([record.text for record in records[:-1]], [value for _, value in pairs])
        self.assertIsNone(records[-1])
        self.assertEqual(self.run_call(self.client.put_many({})), [])
        self.assertEqual(self.run_call(self.client.get_many([])), [])

    def run_long(self, call: Deferred[Any]) -> Any:
        self.turns(200)
        return self.successResultOf(call)

    def test_pipelined(self) -> None:
        """Calls of one turn leave in one write and become one entry."""
        self.run_call(self.client.get("k"))
        sent, entries = len(self.network.wires[0].client.written), self.node.applied
        calls = [self.client.set(f"k{number}", "v") for number in range(50)]
        self.turns()
        self.assertEqual([self.successResultOf(call).revision for call in calls], list(range(1, 51)))
        self.assertEqual(len(self.network.wires[0].client.written), sent + 1)
        self.assertEqual(self.node.applied, entries + 1)

    def test_arguments(self) -> None:
        """Arguments that make no sense fail the Deferred, and nothing is sent."""
        for call, kind in (
            (self.client.get(""), errors.BadRequest),
            (self.client.get("k", consistency="strong"), errors.BadRequest),  # type: ignore[arg-type]
            (self.client.get("k", max_stale=1), errors.BadRequest),
            (self.client.get_many(["k"], consistency="stale", max_stale=-1), errors.BadRequest),
            (self.client.set("k", "v", if_mod_revision=-1), errors.BadRequest),
            (self.client.set("k", "v", if_mod_revision=1, if_exists=True), errors.BadRequest),
            (self.client.delete("k", if_mod_revision=0), errors.BadRequest),
            (self.client.set("k", 1), TypeError),  # type: ignore[arg-type]
            (self.client.put_many([("k", 1)]), TypeError),  # type: ignore[list-item]
            (self.client.get_many([""]), errors.BadRequest),
        ):
            self.failureResultOf(call, kind)
        self.assertEqual(self.network.wires, [])

    def test_what_no_message_carries(self) -> None:
        """A write that no message could carry, or no packer pack, is refused by itself and holds up nobody."""
        for wrong in (
            self.client.set("k", bytes(9 * 1024 * 1024)),
            self.client.put_many({"k": bytes(9 * 1024 * 1024)}),
            self.client.delete("k" * (9 * 1024 * 1024)),
        ):
            self.error_of(wrong, errors.TooLarge)
        for wrong in (
            self.client.set("k", "v", if_mod_revision=2**64),
            self.client.transaction(compare=[Compare("k", "version", "=", 2**64)]),
        ):
            self.error_of(wrong, errors.BadRequest)
        self.assertEqual(self.run_call(self.client.set("k", "v")), Written(revision=1))

    def test_many_large_values(self) -> None:
        """More values than one answer holds are asked for in smaller parts, and come back in order."""
        pairs = {f"k{number}": bytes([number]) * 700_000 for number in range(11)}
        self.run_long(self.client.put_many(pairs))
        records = self.run_long(self.client.get_many([*pairs, "nothing"]))
        self.assertEqual([record and record.value for record in records], [*pairs.values(), None])

    def test_refused(self) -> None:
        """What the server refuses comes as the typed error, at once."""
        self.assertIn("4097", str(self.error_of(self.client.set("k" * 4097, "v"), errors.TooLarge)))

    def test_addresses(self) -> None:
        """Addresses may come with commas or as a list; one that is none is named."""
        self.run_call(self.make("a:8081, b:8081").get("k"))
        self.run_call(NativeClientOf(self)(["a:8081"]).get("k"))
        for wrong in ("http://a:8081", "a", "a:x", "a:0", "::1:8081", "a b:1", "", [1]):
            with self.assertRaises(ValueError):
                NativeClientOf(self)(wrong)
        self.make("[::1]:8081")


def NativeClientOf(case: NativeTestCase) -> Any:
    """Return a maker of clients of a test that takes any argument."""
    return case.make


class FaultTests(NativeTestCase):
    """Lost answers, lost nodes, lost time."""

    def test_exactly_once(self) -> None:
        """B63: a write whose answer is lost with its connection is repeated under its number, and applied once."""
        self.run_call(self.client.get("k"))
        self.node.after_write = lambda: self.network.cut(A)
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 10)
        self.assertEqual(self.run_call(call), Written(revision=1))
        self.assertEqual((self.node.applied, self.node.store.revision), (2, 1))

    def test_unknown_outcomes(self) -> None:
        """B63: a write whose outcome the server does not know is repeated until it does."""
        self.node.refusals = [errors.OutcomeUnknown(), errors.RequestTimeout("too slow", "unknown"), errors.NoLeader()]
        call = self.client.set("k", "1", if_mod_revision=0)
        self.clock.pump([0.1] * 40)
        self.assertEqual(self.successResultOf(call), Written(revision=1))
        self.assertEqual(self.node.store.revision, 1)

    def test_node_lost(self) -> None:
        """The node dies under a hundred writes: all are applied once, through the other one."""
        self.run_call(self.client.get("k"))
        self.node.after_write = lambda: self.network.kill(A)
        calls = [self.client.set(f"k{number}", "v") for number in range(100)]
        self.turns()
        self.node.leader_rpc_addr = B
        self.clock.pump([0.1] * 20)
        self.assertEqual(sorted(self.successResultOf(call).revision for call in calls), list(range(1, 101)))
        self.assertEqual(self.node.store.revision, 100)

    def test_never_connected(self) -> None:
        """Without any node a call ends at its deadline: not applied, and the reason is there."""
        self.network.nodes.clear()
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 98)
        self.assertNoResult(call)
        self.clock.pump([0.1] * 3)
        error = self.error_of(call, errors.RequestTimeout)
        self.assertEqual(error.outcome, "not_applied")
        self.assertIsInstance(error.__cause__, NotReached)
        self.assertIn(f"it was never sent; no connection to {error.__cause__}", str(error))
        self.assertTrue(any(f"{address}: " in str(error) for address in (A, B)), error)

    def test_silent_node(self) -> None:
        """A node that accepts and says nothing is passed over within the connect time-out."""
        self.network.stalled.add(A)
        self.node.leader_rpc_addr = B
        call = self.client.get("k")
        self.clock.pump([0.1] * 12)
        self.assertIsNone(self.successResultOf(call))

    def test_node_that_stops(self) -> None:
        """A node that falls silent under a write is left, and the write repeated elsewhere under its number."""
        self.run_call(self.client.get("k"))
        self.network.wires[0].stalled = True
        self.network.stalled.add(A)
        self.node.leader_rpc_addr = B
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 45)
        self.assertEqual(self.successResultOf(call), Written(revision=1))

    def test_deadline(self) -> None:
        """A write that was sent and never answered ends at its deadline with an unknown outcome, a read without one."""
        self.client = self.make(A, timeout=1.0)
        self.run_call(self.client.get("k"))
        self.network.open_to(A)[-1].stalled = True
        write, read = self.client.set("k", "v"), self.client.get("k")
        self.clock.pump([0.1] * 11)
        self.assertEqual(self.error_of(write, errors.RequestTimeout).outcome, "unknown")
        self.assertEqual(self.error_of(read, errors.RequestTimeout).outcome, "not_applied")

    def test_process_that_was_stopped(self) -> None:
        """What is late is not sent, though its timer is late too: the session may have ended meanwhile (B63)."""
        client = self.make("c:1")
        write = client.set("k", "v")
        self.turns()
        client._pipeline._now = lambda: self.clock.seconds() + 100.0
        client._pipeline._ready(None)  # type: ignore[arg-type]  # what came is asked for again
        self.failureResultOf(write, errors.RequestTimeout)

    def test_follows_leader(self) -> None:
        """The client goes to the leader that a node names, and moves when another one leads."""
        self.node.leader_rpc_addr = B
        self.run_call(self.client.set("k", "v"))
        self.assertEqual((len(self.network.open_to(A)), len(self.network.open_to(B))), (0, 1))
        self.node.leader_rpc_addr = A
        self.clock.pump([0.5] * 10)
        self.run_call(self.client.set("k", "v"))
        self.assertEqual((len(self.network.open_to(A)), len(self.network.open_to(B))), (1, 0))

    def test_leader_out_of_reach(self) -> None:
        """A connection that works is used until the leader's is proven: no call waits for a leader that is cut off."""
        self.run_call(self.client.set("k", "v"))
        self.network.stalled.add(B)
        self.node.leader_rpc_addr = B
        for _ in range(150):
            self.clock.pump([0.1])
            self.run_call(self.client.set("k", "v"))
        self.assertEqual(len(self.network.open_to(A)), 1)
        dialed = [wire.address for wire in self.network.wires]
        self.assertEqual((dialed.count(A), 3 <= dialed.count(B) <= 5), (1, True), dialed)
        self.network.stalled.clear()
        self.clock.pump([0.1] * 45)
        self.run_call(self.client.set("k", "v"))
        self.assertEqual((len(self.network.open_to(A)), len(self.network.open_to(B))), (0, 1))

    def move_to_silent_leader(self) -> None:
        """Have the client that uses A dial B, which accepts and says nothing."""
        self.run_call(self.client.set("k", "v"))
        self.network.stalled.add(B)
        self.node.leader_rpc_addr = B
        self.clock.pump([0.1] * 11)
        self.assertEqual([wire.address for wire in self.network.wires], [A, B])

    def test_lost_while_moving(self) -> None:
        """A connection that is lost while the leader is dialed is replaced by the leader's alone."""
        self.move_to_silent_leader()
        self.network.cut(A)
        call = self.client.set("k", "w")
        self.turns()
        self.assertNoResult(call)
        self.network.wires[1].release()
        self.turns()
        self.successResultOf(call)
        self.assertEqual([wire.address for wire in self.network.wires], [A, B])

    def test_both_lost_while_moving(self) -> None:
        """Where the leader's fails, too, the next that works is taken, at once."""
        self.move_to_silent_leader()
        self.network.cut(A)
        call = self.client.set("k", "w")
        self.network.cut(B)
        self.run_call(call)
        self.assertEqual([wire.address for wire in self.network.wires], [A, B, A])

    def test_stopped_while_moving(self) -> None:
        """A client that is closed meanwhile closes both connections."""
        self.move_to_silent_leader()
        closed = self.client.close()
        self.turns()
        self.successResultOf(closed)
        self.assertEqual(self.network.open_to(A) + self.network.open_to(B), [])

    def test_leader_by_another_name(self) -> None:
        """A node that says it leads is not dialed again under the name that it has for itself."""
        self.node.leads = True
        self.node.leader_rpc_addr = B
        self.run_call(self.client.set("k", "v"))
        self.clock.pump([0.5] * 10)
        self.assertEqual([wire.address for wire in self.network.wires], [A])

    def test_no_leader_anywhere(self) -> None:
        """Nodes that each name the other do not keep the client from asking one of them."""
        self.network.nodes[B] = other = OneNode()
        other.leader_rpc_addr, self.node.leader_rpc_addr = A, B
        call = self.client.get("k")
        self.clock.pump([0.1] * 5)
        self.assertIsNone(self.successResultOf(call))

    def test_node_without_leader(self) -> None:
        """A node that lives but has no leader is left for one that has, and only what failed is repeated."""
        self.node.leader_rpc_addr = ""
        self.run_call(self.client.get("k"))
        self.network.nodes[B] = other = OneNode()
        other.leads = True
        self.node.refusals = [errors.NoLeader() for _ in range(100)]
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 5)
        self.successResultOf(call)
        self.assertEqual((other.store.revision, len(self.node.refusals)), (1, 99))

    def test_overloaded(self) -> None:
        """An overloaded cluster is left alone for as long as it says."""
        overloaded = errors.Overloaded("full")
        overloaded.retry_after_seconds = 2.0
        self.node.refusals = [overloaded]
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 19)
        self.assertNoResult(call)
        self.clock.pump([0.1] * 3)
        self.successResultOf(call)


class PackingTests(NativeTestCase):
    """A write that cannot be packed, whatever let it get so far."""

    def test_numbers_are_given_back(self) -> None:
        """It fails by itself, keeps no number, and whoever comes behind it is served."""
        client = self.make(A, max_outstanding=1)
        pipeline = client._pipeline
        first = client.set("a", "1")
        answers: list[Any] = []
        wrong = Request(((0, 0, b"k", object()),), consistency=None, done=answers.append, started=self.clock.seconds())
        pipeline.submit(wrong)
        last = client.set("b", "2")
        self.assertEqual(self.run_call(first).revision, 1)
        self.assertEqual(self.run_call(last).revision, 2)
        self.assertIsInstance(answers[0], errors.BadRequest)
        self.assertEqual(len(pipeline._session), 0)

    def test_refusal_that_leads_to_another_call(self) -> None:
        """Whoever writes again when the refusal is told takes nobody's place: all that wait are served."""
        client = self.make(A, max_outstanding=1)
        calls = [client.set("a", "1")]
        wrong = Request(
            ((0, 0, b"k", object()),),
            consistency=None,
            done=lambda _: calls.append(client.set("b", "2")),
            started=self.clock.seconds(),
        )
        client._pipeline.submit(wrong)
        calls += [client.set("c", "3"), client.set("d", "4")]
        self.turns()
        self.assertEqual([self.successResultOf(call).revision for call in calls], [1, 2, 3, 4])

    def test_read_that_cannot_be_packed(self) -> None:
        """It fails by itself, whether there is a connection yet or not, and others go on beside it."""
        client = self.make(A, max_outstanding=3)
        for _ in range(5):
            first, last = client.set("a", "1"), client.set("b", "2")
            wrong = client.page(prefix="", reverse=object())  # type: ignore[arg-type]  # unchecked callers do
            self.assertIn("cannot be packed", str(self.error_of(wrong, errors.BadRequest)))
            self.successResultOf(first)
            self.successResultOf(last)
        self.assertEqual(len(self.network.wires), 1)
        self.assertEqual(client._pipeline._outstanding, 0)


class BoundTests(NativeTestCase):
    """How much is under way."""

    def test_outstanding(self) -> None:
        """No more keys are under way than allowed; the rest follows."""
        self.client = self.make(A, max_outstanding=10)
        self.run_call(self.client.get("k"))
        self.node.hold = True
        calls = [self.client.set(f"k{number}", "v") for number in range(25)]
        self.turns()
        self.assertEqual(self.node.held_commands, 10)
        self.node.release()
        self.turns()
        self.node.release()
        self.turns()
        self.node.hold = False
        self.node.release()
        self.turns()
        self.assertEqual(len([self.successResultOf(call) for call in calls]), 25)

    def test_batch_larger_than_the_bound(self) -> None:
        """A part that is larger than the bound travels alone."""
        self.client = self.make(A, max_outstanding=10)
        self.assertEqual(len(self.run_call(self.client.put_many([(f"k{n}", "v") for n in range(300)]))), 300)

    def test_memory(self) -> None:
        """Nothing is kept of a call that is over."""
        for _ in range(50):
            self.run_call(self.client.set("k", "v"))
        self.assertEqual(len(self.client._pipeline._pending), 0)


class EndTests(NativeTestCase):
    """Cancelling and closing."""

    def test_cancel(self) -> None:
        """A cancelled call is not sent again, and gives its room to the next."""
        self.client = self.make(A, max_outstanding=1)
        self.run_call(self.client.get("k"))
        self.node.hold = True
        first, second = self.client.set("k", "v"), self.client.set("l", "v")
        self.turns()
        first.cancel()
        self.failureResultOf(first, CancelledError)
        self.node.hold = False
        self.assertEqual(self.run_call(second).revision, 1)
        self.node.release()
        self.turns()

    def test_cancel_batch(self) -> None:
        """A cancelled batch sends no further parts."""
        self.run_call(self.client.get("k"))
        self.node.hold = True
        call = self.client.put_many([(f"k{number}", "v") for number in range(3000)])
        self.turns()
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.node.hold = False
        self.node.release()
        self.turns()
        self.assertLessEqual(self.node.store.revision, 1024)

    def test_close(self) -> None:
        """Closing ends every pending call honestly."""
        self.client = self.make(A, max_outstanding=2)
        self.run_call(self.client.get("k"))
        self.network.open_to(A)[-1].stalled = True
        write, read, waiting = self.client.set("k", "v"), self.client.get("k"), self.client.set("l", "v")
        self.turns(1)
        closing = self.client.close()
        self.assertEqual(self.error_of(write, errors.OutcomeUnknown).outcome, "unknown")
        self.failureResultOf(read, ClientClosed)
        self.assertEqual(self.error_of(waiting, ClientClosed).outcome, "not_applied")
        self.turns()
        self.successResultOf(closing)
        self.failureResultOf(self.client.get("k"), ClientClosed)
