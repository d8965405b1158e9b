"""What all connections to the RPC port may hold together, and who goes where it is too much (B70)."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from raftkv import errors
from raftkv.kvstore.commands import get, put, transaction
from raftkv.protocols.framing import KIB, UNCOUNTED_BYTES, pack
from raftkv.protocols.hello import REFUSAL, Purpose
from raftkv.protocols.rpc import RpcSettings
from raftkv.protocols.rpc_bounds import Holding
from raftkv.protocols.rpc_frames import CALL, ERROR, GET, RESULT, WRITE

from .test_peer import RawDialer
from .test_rpc import RpcTestCase


class BoundsTestCase(RpcTestCase):
    """A port with low totals."""

    settings = RpcSettings(max_unfinished_bytes=100_000, max_unread_bytes=10_000, unread_seconds=30)

    def newest(self) -> Any:
        """Return the server's side of the connection that was not there when this was called last."""
        known = self.__dict__.setdefault("_known", set())
        (connection,) = self.service._port.connections - known
        known.add(connection)
        return connection

    def held(self) -> tuple[int, int]:
        """Return the bytes of unfinished messages, and of answers that are not read."""
        bounds = self.service._bounds
        return bounds.unfinished.total_bytes, bounds.unread.total_bytes


class HoldingTests(BoundsTestCase):
    """The arithmetic of one total."""

    def test_order(self) -> None:
        """Whoever began first goes first, also whoever holds more by now; one that holds nothing begins anew."""
        gone: list[str] = []
        holding: Holding[str] = Holding(10, gone.append)
        for name, size_bytes in (("a", 1), ("b", 4), ("c", 4), ("a", 0), ("b", 5), ("a", 1), ("c", 4)):
            holding.hold(name, size_bytes)
        self.assertEqual((gone, holding.total_bytes), ([], 10))
        holding.hold("d", 2)
        self.assertEqual((gone, holding.total_bytes), (["b"], 7))
        holding.hold("d", 11)
        self.assertEqual((gone, holding.total_bytes), (["b", "c", "a", "d"], 0))


class UnfinishedTests(BoundsTestCase):
    """Messages that are not complete."""

    def begin(self, number: int, size_bytes: int = 40_000, *before: Any) -> tuple[RawDialer, bytes]:
        """Send the beginning of a write; return who did and the rest."""
        frame = pack((WRITE, number, (put(b"k", b"v" * 60_000),), 0)) + b"\n"
        dialer = self.raw(*before)
        dialer.transport.write(frame[:size_bytes])
        self.network.flush()
        return dialer, frame[size_bytes:]

    def test_total(self) -> None:
        """Past the total whoever has been under way for longest is told that it was not applied, and closed with one
        line; the others go on."""
        dialers = [self.begin(number) for number in (2**62, 200, 300)]
        (first, _), *others = dialers
        self.assertEqual(first.messages[1][:3] + first.messages[1][4:5], (ERROR, 2**62, "overloaded", "not_applied"))
        self.assertTrue(first.lost)
        self.assertEqual(len(self.lines.events), 1)
        self.assertIn("limits.maxBufferedBodyBytes", self.lines.texts()[0])
        self.assertEqual(self.held(), (80_000, 0))
        for dialer, rest in others:
            dialer.transport.write(rest)
            self.network.flush()
        self.key_value.commit()
        self.network.flush()
        self.assertEqual([d.messages[1] for d, _ in others], [(RESULT, n, ((0, b"k"),)) for n in (200, 300)])
        self.assertEqual(self.held(), (0, 0))

    def test_what_is_under_way_is_answered(self) -> None:
        """Who has to go has the answers to what came before, and what it sends meanwhile is not taken."""
        first, rest = self.begin(2, 40_000, (WRITE, 1, (put(b"k", b""),), 0))
        others = [self.begin(number)[0] for number in (3, 4)]
        self.assertEqual([message[:2] for message in first.messages[1:]], [(ERROR, 2)])
        first.transport.write(rest + pack((WRITE, 5, (put(b"k", b""),), 0)) + b"\n")
        self.network.flush()
        self.assertFalse(first.lost)
        self.assertEqual(len(self.key_value.writes), 1)
        self.key_value.commit()
        self.network.flush()
        self.assertEqual([message[:2] for message in first.messages[1:]], [(ERROR, 2), (RESULT, 1)])
        self.assertEqual([dialer.lost for dialer in (first, *others)], [True, False, False])

    def test_it_does_not_wait_for_ever(self) -> None:
        """Who has to go is cut, where what is under way has no answer in time."""
        first, _ = self.begin(2, 40_000, (WRITE, 1, (put(b"k", b""),), 0))
        for number in (3, 4):
            self.begin(number)
        self.network.advance(self.settings.drain_seconds - 0.1)
        self.assertFalse(first.lost)
        self.network.advance(0.2)
        self.assertTrue(first.lost)

    def test_before_the_hello(self) -> None:
        """Who has not said hello is refused with the reason."""
        stranger = RawDialer(self.clock)
        self.connect(stranger)
        stranger.transport.write(pack(b"x" * 60_000)[:50_000])
        self.network.flush()
        for number in (1, 2):
            self.begin(number)
        self.assertTrue(stranger.lost)
        self.assertEqual(stranger.messages[0][0], REFUSAL)
        self.assertIn("limits.maxBufferedBodyBytes", stranger.messages[0][1])

    def test_no_number(self) -> None:
        """Who has sent something that does not begin as a request is closed without an answer."""
        for nonsense in (b"x" * 60_000, ("x", b"x" * 60_000), (WRITE, -1, b"x" * 60_000)):
            dialer = self.raw()
            dialer.transport.write(pack(nonsense)[:50_000])
            self.network.flush()
            others = [self.begin(number)[0] for number in (1, 2)]
            self.assertEqual((dialer.lost, len(dialer.messages)), (True, 1))
            for other in others:
                other.transport.loseConnection()
            self.network.flush()
            self.assertEqual(self.held(), (0, 0))

    def test_head_in_pieces(self) -> None:
        """The number is known where the message has come byte by byte."""
        frame = pack((CALL, 2**61, "leader", {"x": b"x" * 60_000}))
        dialer = self.raw()
        for position in range(20):
            dialer.transport.write(frame[position : position + 1])
            self.network.flush()
        dialer.transport.write(frame[20:50_000])
        self.network.flush()
        for number in (1, 2):
            self.begin(number)
        self.assertEqual(dialer.messages[1][:2], (ERROR, 2**61))

    def test_little_is_not_counted(self) -> None:
        """What every connection has room for is not counted, nor what has gone."""
        for number in range(20):
            self.begin(number, UNCOUNTED_BYTES)
        self.assertEqual((self.held(), self.lines.events), ((0, 0), []))
        dialer, _ = self.begin(99, UNCOUNTED_BYTES + 1)
        self.assertEqual(self.held(), (UNCOUNTED_BYTES + 1, 0))
        dialer.transport.loseConnection()
        self.network.flush()
        self.assertEqual(self.held(), (0, 0))


class UnreadTests(BoundsTestCase):
    """Answers that the other side does not read."""

    def setUp(self) -> None:
        super().setUp()
        self.answers: list[Deferred[Any]] = []
        self.calls["status"] = self.status

    def status(self, _: Any) -> Deferred[Any]:
        """Answer when told to."""
        self.answers.append(Deferred())
        return self.answers[-1]

    def answer(self, size_bytes: int) -> None:
        """Answer the oldest call."""
        self.answers.pop(0).callback(b"x" * size_bytes)
        self.network.flush()

    def stuck(self) -> Any:
        """Return the server's side of a connection with two calls under way that reads no more."""
        self.raw((CALL, 1, "status", {}), (CALL, 2, "status", {}))
        server = self.newest()
        server.pauseProducing()  # as a full transport does
        return server

    def test_total(self) -> None:
        """Past the total whoever has not read for the longest time is cut, with one line; the others go on."""
        servers = [self.stuck() for _ in range(3)]
        for _ in servers:
            self.answer(1000)
            self.answer(2000)
        self.assertEqual([server.closing for server in servers], [False] * 3)
        servers.append(self.stuck())
        self.answer(3000)
        self.assertEqual([server.closing for server in servers], [True, False, False, False])
        self.assertEqual(len(self.lines.events), 1)
        self.assertIn("limits.maxUnreadBytes", self.lines.texts()[0])
        self.answer(1)

    def test_who_reads_begins_anew(self) -> None:
        """What was read is not counted, and who has read waits behind the others."""
        first, second = self.stuck(), self.stuck()
        self.answer(4000)
        self.answer(1)
        self.answer(4000)
        first.resumeProducing()
        self.assertLess(self.held()[1], 4100)
        first.pauseProducing()
        third = self.stuck()
        self.answers.pop(0)
        self.answer(8000)
        self.assertEqual([server.closing for server in (first, second, third)], [False, True, False])

    def test_one_that_exceeds_it_alone(self) -> None:
        """An answer that nobody reads is too large by itself: whoever asked for it goes, and is counted no more."""
        server = self.stuck()
        self.answer(10_000)
        self.assertTrue(server.closing)
        self.answer(10_000)
        self.assertEqual(self.held(), (0, 0))

    def test_patience(self) -> None:
        """Who reads nothing for too long is cut with one line, however little it is; who reads in time is not."""
        slow, silent = self.stuck(), self.stuck()
        self.network.advance(29, step=1)
        slow.resumeProducing()
        self.network.advance(2, step=1)
        self.assertEqual((slow.closing, silent.closing), (False, True))
        self.assertEqual(len(self.lines.events), 1)
        self.assertIn("limits.idleTimeout", self.lines.texts()[0])
        self.network.advance(100, step=10)
        self.assertFalse(slow.closing)

    def test_close_with_too_much(self) -> None:
        """What is sent last may be what is too much: the connection is cut then, once."""
        server = self.stuck()
        server.queue_message(b"x" * 20_000)
        server.close()
        self.network.flush()
        self.assertEqual((server.closing, self.service.connection_count()), (True, 0))

    def test_results_that_wait(self) -> None:
        """What transactions have read counts while it waits for other answers to be read, and no longer."""
        client = self.client(Purpose.CLIENT)
        done: list[Any] = []
        reading = transaction([], [get(b"k")], [])
        for _ in range(4):
            client.write([reading], done.append)
            self.network.flush()
        server = self.newest()
        server.pauseProducing()
        result = (0, 1, True, ((5, (b"v" * 4000, 1, 1, 1, 0)),))
        (_, answer, _), *others = self.key_value.writes
        answer([result])
        self.assertEqual(self.held(), (0, 4000))
        server.resumeProducing()
        self.network.flush()
        self.assertEqual((self.held(), done), ((0, 0), [(result,)]))
        server.pauseProducing()
        for _, answer, _ in others:
            answer([result])
        self.network.flush()
        self.assertTrue(server.closing)
        self.assertEqual(self.held(), (0, 0))
        self.assertIsInstance(done[-1], errors.OutcomeUnknown)

    def test_reads_that_wait(self) -> None:
        """Keys of reads that may be served, and the arguments of others, count while answers before them are not read,
        and no longer."""
        self.raw(*[(GET, number, (b"k" * 1000,), 2) for number in range(3)])
        server = self.newest()
        server.pauseProducing()
        self.key_value.confirm()
        self.assertEqual(self.held(), (0, 3000))
        server.resumeProducing()
        self.key_value.confirm()
        self.assertEqual(self.held(), (0, 0))
        self.raw(*[(CALL, number, "record", {"key": b"k" * 1000}) for number in range(7)])
        server = self.newest()
        self.assertEqual(self.held(), (0, 3 * 1003))
        self.key_value.confirm()
        self.network.advance(1)
        self.assertEqual(self.held(), (0, 0))
        self.key_value.confirm()
        self.network.advance(1)
        self.assertEqual(server._outstanding, 0)
        dialer = self.raw(*[(CALL, number, "record", {"key": b"k" * 1000}) for number in range(20)])
        self.assertTrue(dialer.lost)
        self.assertEqual(self.held(), (0, 0))

    def test_who_is_served_begins_anew(self) -> None:
        """Who has a read served waits behind others that have none."""
        self.raw(*[(CALL, number, "record", {"key": b"k" * 1000}) for number in range(10)])
        busy = self.newest()
        idle = self.stuck()
        self.answer(2000)
        self.key_value.barriers.pop(0)[1](None)
        self.network.advance(0.1)
        self.raw(*[(CALL, number, "record", {"key": b"k" * 1000}) for number in range(8)])
        self.assertEqual((busy.closing, idle.closing, self.newest().closing), (False, True, False))
        self.answers.clear()

    def test_reads_that_wait_to_be_allowed(self) -> None:
        """Reads that wait to be allowed have a bound over all connections too: past it they are refused, and nobody is
        closed; whether they are allowed, or their connection has gone, they count no longer afterwards."""
        dialers = [self.raw(*[(GET, n, (b"k" * 4000,) * 8, 0) for n in range(size)]) for size in (2, 1, 1)]
        self.assertEqual(self.service._bounds.waiting_bytes, 96_000)
        self.assertEqual([message[2] for message in dialers[2].messages[1:]], ["overloaded"])
        dialers[0].transport.loseConnection()
        self.network.flush()
        self.key_value.confirm()
        self.network.flush()
        self.assertEqual(self.service._bounds.waiting_bytes, 0)
        self.assertEqual((len(dialers[1].messages), dialers[2].lost), (2, False))

    def test_answers_for_nobody(self) -> None:
        """What becomes ready for a connection that has gone is not counted."""
        client = self.client()
        client.write([transaction([], [get(b"k")], [])], lambda outcome: None)
        self.network.flush()
        server = self.newest()
        server.pauseProducing()
        server.abort()
        self.network.flush()
        ((_, answer, _),) = self.key_value.writes
        answer([(0, 1, True, ((5, (b"v" * 4 * KIB, 1, 1, 1, 0)),))])
        self.assertEqual((self.held(), len(server._ready_results)), ((0, 0), 0))
