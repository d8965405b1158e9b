"""Writes of the native client that share a request."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

import msgpack

from raftkv import errors
from raftkv.client import ClientClosed, Compare, Put, Written
from raftkv.interfaces import Command
from raftkv.kvstore.commands import PUT
from raftkv.protocols.framing import TERMINATOR
from raftkv.protocols.rpc_frames import GET, WRITE
from tests.client.test_native import A, B, NativeTestCase

_NEWLINE = TERMINATOR[0]


class BatchTestCase(NativeTestCase):
    """A client with one connection, over which nothing but the test's requests go."""

    def setUp(self) -> None:
        super().setUp()
        self.client = self.make(A)
        self.run_call(self.client.get("k"))
        self.wire = self.network.open_to(A)[-1]
        self.wire.client.written.clear()

    def requests(self) -> list[tuple[int, int]]:
        """Return the writes and reads that were sent: of which kind, and of how many commands or keys."""
        unpacker = msgpack.Unpacker(use_list=False)
        unpacker.feed(b"".join(self.wire.client.written))
        frames = [frame for frame in unpacker if frame != _NEWLINE]
        return [(frame[0], len(frame[2])) for frame in frames if frame[0] in (WRITE, GET)]


class SharingTests(BatchTestCase):
    """What travels together."""

    def test_one_turn(self) -> None:
        """Puts, deletes and increments of one turn are one request, and each gets its own result."""
        calls: list[Any] = [self.client.set(f"k{number}", "v") for number in range(3)]
        calls += [self.client.delete("k1"), self.client.increment("n"), self.client.set("k0", "w", if_absent=True)]
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 6)])
        self.assertEqual([self.successResultOf(call).revision for call in calls[:5]], [1, 2, 3, 4, 5])
        self.failureResultOf(calls[5], errors.PreconditionFailed)

    def test_answers_lead_to_the_next(self) -> None:
        """What is asked for when the answers come leaves together, too."""
        calls: list[Any] = []
        for number in range(10):
            self.client.set(f"k{number}", "v").addCallback(lambda _: calls.append(self.client.set("again", "v")))
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 10), (WRITE, 10)])
        self.assertEqual([self.successResultOf(call).revision for call in calls], list(range(11, 21)))

    def test_in_the_order_of_the_calls(self) -> None:
        """A read that is asked for between two writes is sent between them, and sees the first."""
        calls = [self.client.set("k", "1"), self.client.get("k"), self.client.set("k", "2")]
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 1), (GET, 1), (WRITE, 1)])
        self.assertEqual(self.successResultOf(calls[2]), Written(revision=2))

    def test_many_bytes(self) -> None:
        """A request of several holds so many bytes, what is larger has one to itself, and all leave together."""
        sizes = (30_000, 30_000, 30_000, 900_000, 30_000)
        calls = [self.client.set(f"k{number}", bytes(size)) for number, size in enumerate(sizes)]
        self.assertEqual(self.wire.client.written, [])
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 2), (WRITE, 1), (WRITE, 1), (WRITE, 1)])
        self.assertEqual(len(self.wire.client.written), 1)
        self.assertEqual([self.successResultOf(call).revision for call in calls], [1, 2, 3, 4, 5])

    def test_many_writes(self) -> None:
        """What is enough for an entry leaves at once, and the rest with the turn."""
        calls = [self.client.set(f"k{number}", "v") for number in range(200)]
        self.assertEqual(self.requests(), [(WRITE, 96), (WRITE, 96)])
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 96), (WRITE, 96), (WRITE, 8)])
        self.assertEqual([self.successResultOf(call).revision for call in calls], list(range(1, 201)))

    def test_many_large_ones(self) -> None:
        """It is the writes of all requests of the turn that are counted."""
        calls = [self.client.set(f"k{number}", bytes(1000)) for number in range(100)]
        self.assertEqual(self.requests(), [(WRITE, 65), (WRITE, 31)])
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 65), (WRITE, 31), (WRITE, 4)])
        self.assertEqual([self.successResultOf(call).revision for call in calls], list(range(1, 101)))

    def test_long_answers(self) -> None:
        """A transaction travels alone: what it reads may fill a message."""
        calls: list[Any] = [
            self.client.set("k", "v"),
            self.client.transaction(compare=[Compare("k", "version", "=", 1)]),
        ]
        calls += [self.client.transaction(success=[Put("l", "v")]), self.client.set("m", "v")]
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 1)] * 4)
        self.assertTrue(self.successResultOf(calls[1]).succeeded)

    def test_calls_of_many(self) -> None:
        """A call of many is a request of its own, behind what was asked for before."""
        calls: list[Any] = [
            self.client.set("a", "v"),
            self.client.put_many({"b": "v", "c": "v"}),
            self.client.delete("b"),
        ]
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 1), (WRITE, 2), (WRITE, 1)])
        self.assertEqual(self.successResultOf(calls[2]).revision, 4)


class RefusalTests(BatchTestCase):
    """A request is refused as a whole; its writes are not."""

    def test_one_at_fault(self) -> None:
        """What one write was refused for is told to nobody else: each is asked for again, alone."""
        good = [self.client.set("a", "v"), self.client.set("b", "v")]
        bad = self.client.set("k" * 4097, "v")
        good.append(self.client.delete("a"))
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 4)] + [(WRITE, 1)] * 4)
        self.assertIn("4097", str(self.failureResultOf(bad, errors.TooLarge).value))
        self.assertEqual([self.successResultOf(call).revision for call in good], [1, 2, 3])

    def test_alone(self) -> None:
        """A write that was alone, and is refused, is not asked for again."""
        self.error_of(self.client.set("k" * 4097, "v"), errors.TooLarge)
        self.assertEqual(self.requests(), [(WRITE, 1)])

    def test_full_disk(self) -> None:
        """Where nothing may grow, what deletes is carried out beside what is refused."""
        write = self.node.write

        def without_room(commands: Sequence[Command], done: Any, *, forwarded: bool = False) -> None:
            if any(command[4][0] == PUT for command in commands):
                done(errors.DiskFull())
            else:
                write(commands, done, forwarded=forwarded)

        self.patch(self.node, "write", without_room)
        put, delete = self.client.set("a", "v"), self.client.delete("b")
        self.turns()
        self.failureResultOf(put, errors.DiskFull)
        self.assertFalse(self.successResultOf(delete).deleted)

    def test_overloaded(self) -> None:
        """Where there was no room for all of them together, each looks for its own, later."""

        def refuse_once(commands: Sequence[Command], done: Any, *, forwarded: bool = False) -> None:
            overloaded.restore()
            done(errors.Overloaded("full"))

        overloaded = self.patch(self.node, "write", refuse_once)
        calls = [self.client.set(f"k{number}", "v") for number in range(5)]
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 5)])
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.requests(), [(WRITE, 5)] + [(WRITE, 1)] * 5)
        self.assertEqual(sorted(self.successResultOf(call).revision for call in calls), [1, 2, 3, 4, 5])

    def test_outcome_unknown(self) -> None:
        """B63: writes whose shared answer was lost are repeated under their numbers, and applied once."""
        self.node.refusals = [errors.OutcomeUnknown()]
        calls = [self.client.set(f"k{number}", "v", if_absent=True) for number in range(5)]
        self.clock.pump([0.1] * 20)
        self.assertEqual([self.successResultOf(call).revision for call in calls], [1, 2, 3, 4, 5])
        self.assertEqual(self.node.store.revision, 5)

    def test_refused_over_a_connection_that_is_left(self) -> None:
        """What is to be asked for again, and cannot, is not under way: nothing has become of it."""
        self.client = self.make(A, B)
        self.run_call(self.client.get("k"))
        held: list[Any] = []
        self.patch(self.node, "write", lambda commands, done, **_: held.append(done))
        first = [self.client.set(f"a{number}", "v") for number in range(2)]
        self.turns()
        second = [self.client.set(f"b{number}", "v") for number in range(2)]
        self.turns()
        self.network.nodes.clear()
        held[0](errors.NoLeader())  # so that the client looks for another node
        held[1](errors.DiskFull())
        self.turns()
        self.assertEqual(len(held), 2)
        self.client.close()
        for call in second:
            self.failureResultOf(call, ClientClosed)
        for call in first:
            self.failureResultOf(call)


class EndTests(BatchTestCase):
    """Connections and calls that end before the turn does."""

    def test_lost_before_it_was_sent(self) -> None:
        """What had not left when the connection was lost is sent over the next one."""
        calls = [self.client.set(f"k{number}", "v") for number in range(3)]
        self.network.cut(A)
        self.clock.pump([0.1] * 20)
        self.assertEqual([self.successResultOf(call).revision for call in calls], [1, 2, 3])
        self.assertEqual(self.requests(), [])

    def test_gone_before_it_was_sent(self) -> None:
        """It is known not to have taken effect, where there is no other connection in time."""
        calls = [self.client.set(f"k{number}", "v") for number in range(2)]
        self.network.kill(A)
        self.clock.pump([0.1] * 120)
        for call in calls:
            self.assertEqual(self.failureResultOf(call, errors.RequestTimeout).value.outcome, "not_applied")

    def test_cancelled(self) -> None:
        """What is cancelled in the turn in which it was asked for is never sent."""
        calls = [self.client.set(f"k{number}", "v") for number in range(3)]
        calls[1].addErrback(lambda _: None).cancel()
        self.turns()
        self.assertEqual(self.requests(), [(WRITE, 2)])
        self.assertEqual([self.successResultOf(calls[place]).revision for place in (0, 2)], [1, 2])

    def test_cancelled_on_its_way(self) -> None:
        """The others get their answers, and the numbers of all are free again."""
        calls = [self.client.set(f"k{number}", "v") for number in range(3)]
        self.clock.advance(0)
        calls[1].addErrback(lambda _: None).cancel()
        self.turns()
        self.assertEqual([self.successResultOf(calls[place]).revision for place in (0, 2)], [1, 3])
        self.assertEqual(len(self.client._pipeline._session), 0)

    def test_closed(self) -> None:
        """A client that is closed in the same turn sends nothing, and says so."""
        call = self.client.set("k", "v")
        closed = self.client.close()
        self.failureResultOf(call, ClientClosed)
        self.turns()
        self.successResultOf(closed)
        self.assertEqual(self.requests(), [])

    def test_callback_that_fails(self) -> None:
        """One caller's mistake keeps nobody from an answer."""
        pipeline = self.client._pipeline
        calls = [self.client.set("a", "v"), self.client.set("b", "v")]
        (first, _) = pipeline._pending
        first.done = lambda _: 1 // 0
        self.turns()
        self.assertEqual(self.successResultOf(calls[1]).revision, 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(pipeline._session), 0)
