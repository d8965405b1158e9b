"""Line-delimited msgpack: where messages end, and what a hostile stream may cost."""

from __future__ import annotations

import random
import tracemalloc
from collections.abc import Callable
from typing import Any

import msgpack
from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import ProtocolViolation
from raftkv.protocols.framing import TRANSPORT_BUFFER_BYTES, FrameLimits, MessageLineReceiver, pack
from raftkv.protocols.warnings import RateLimitedLog

from .support import Lines, warnings

LIMITS = FrameLimits(max_message_bytes=100_000, max_array_length=64, max_map_length=16)


class Recorder(MessageLineReceiver):
    """Keeps what arrives; the text "bad" is a violation."""

    gives_room_back = True

    def __init__(self, **needed: Any) -> None:
        super().__init__(**needed)
        self.messages: list[Any] = []
        self.reads = 0

    def message_received(self, message: Any) -> None:
        if message == "bad":
            raise ProtocolViolation("a bad word")
        self.messages.append(message)

    def read_finished(self) -> None:
        self.reads += 1


class CountingTransport(StringTransport):
    """Counts writes."""

    writes = 0

    def write(self, data: bytes) -> None:
        self.writes += 1
        super().write(data)


class FramingTestCase(SynchronousTestCase):
    """One connection under test."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.lines, self.warnings = warnings(self.clock)
        self.receiver = Recorder(clock=self.clock, limits=LIMITS, warnings=self.warnings)
        self.transport = CountingTransport()
        self.receiver.makeConnection(self.transport)

    def assert_closed(self, *words: str) -> None:
        """Assert that the connection was cut with one line that names the peer, and leaves no timer."""
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(len(self.lines.events), 1)
        for word in ("192.168.1.1:54321", *words):
            self.assertIn(word, self.lines.texts()[0])
        self.assertEqual(self.clock.getDelayedCalls(), [])


class MessageTests(FramingTestCase):
    """Whole messages, however the stream is cut."""

    def received(self, stream: bytes, size: int) -> list[Any]:
        """Return the messages of a stream that comes in pieces of a size."""
        receiver = Recorder(clock=self.clock, limits=LIMITS, warnings=self.warnings)
        receiver.makeConnection(StringTransport())
        for start in range(0, len(stream), size):
            receiver.dataReceived(stream[start : start + size])
        return receiver.messages

    def test_any_cut(self) -> None:
        """Messages arrive the same whether the stream comes byte by byte or at once, newlines inside included."""
        messages = [(1, b"\n\n", "x\n", {"k": 10}), 10, None, b"\n" * 300, (), (10, (10,))]
        stream = b"".join(pack(message) + b"\n" for message in messages)
        for size in (1, 2, 3, 7, len(stream)):
            self.assertEqual(self.received(stream, size), messages)

    def test_any_cut_of_large_messages(self) -> None:
        """Large messages among small ones arrive the same, however the stream is cut and room given back."""
        messages = [
            (number, b"x" * size) for number, size in enumerate((3, 50_000, 4, 90_000, 17_000, 16_384, 5, 30_000))
        ]
        stream = b"".join(pack(message) + b"\n" for message in messages)
        for size in (999, 16_384, 20_001, 67_000, len(stream)):
            self.assertEqual(self.received(stream, size), messages)
            self.assertEqual(self.lines.events, [])

    def test_room_is_given_back(self) -> None:
        """A connection that was sent much keeps little room for it: of a large message, or of many in one read."""
        for stream in (pack(b"x" * 99_000) + b"\n", (pack(b"x" * 90) + b"\n") * 2700):
            receivers = [Recorder(clock=self.clock, limits=LIMITS, warnings=self.warnings) for _ in range(10)]
            tracemalloc.start()
            self.addCleanup(tracemalloc.stop)
            for receiver in receivers:
                receiver.makeConnection(StringTransport())
                for start in range(0, len(stream), 262_144):
                    receiver.dataReceived(stream[start : start + 262_144])
                self.assertTrue(receiver.messages)
                receiver.messages.clear()
            kept_bytes, _ = tracemalloc.get_traced_memory()
            tracemalloc.stop()
            self.assertLess(kept_bytes, 10 * 80_000)

    def test_one_read(self) -> None:
        """The end of each read is told once, behind its messages."""
        self.receiver.dataReceived(pack(1) + b"\n" + pack(2) + b"\n" + pack(3))
        self.assertEqual((self.receiver.messages, self.receiver.reads), ([1, 2], 1))

    def test_queued_messages_leave_in_one_write(self) -> None:
        """What is queued in one turn of the reactor leaves in one write, in order."""
        for number in range(5):
            self.receiver.queue_message((number,))
        self.receiver.queue_packed([pack(5), pack(6)], lambda call: False)
        self.assertEqual(self.transport.writes, 0)
        self.clock.advance(0)
        self.assertEqual(self.transport.writes, 1)
        self.assertEqual(self.transport.value(), b"\x91\x00\n\x91\x01\n\x91\x02\n\x91\x03\n\x91\x04\n\x05\n\x06\n")

    def test_whoever_knows_when_all_is_queued(self) -> None:
        """Packed messages leave when they are said to be all, in one write; or with the reactor's turn where nobody
        says so."""
        endings: list[Callable[[], None]] = []

        def at_turn_end(call: Callable[[], None]) -> bool:
            endings.append(call)
            return True

        self.receiver.queue_packed([pack(1), pack(2)], at_turn_end)
        self.receiver.queue_packed([pack(3)], at_turn_end)
        self.clock.advance(0)
        self.assertEqual((len(endings), self.transport.writes), (1, 0))
        endings.pop()()
        self.assertEqual((self.transport.writes, self.transport.value()), (1, b"\x01\n\x02\n\x03\n"))
        self.receiver.queue_packed([pack(4)], lambda call: False)
        self.clock.advance(0)
        self.assertEqual((self.transport.writes, self.transport.value()[6:]), (2, b"\x04\n"))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_packed_frames_leave_in_one_write(self) -> None:
        """Packed messages are written together with their newlines."""
        self.receiver.send_packed([pack("a"), pack("b")])
        self.assertEqual((self.transport.writes, self.transport.value()), (1, b"\xa1a\n\xa1b\n"))

    def test_large_read(self) -> None:
        """A transport may hand over more at once than the unpacker's buffer has room for."""
        message = b"x" * 90_000
        count = (LIMITS.max_message_bytes + TRANSPORT_BUFFER_BYTES) // 90_000 + 5
        self.receiver.dataReceived((pack(message) + b"\n") * count)
        self.assertEqual(len(self.receiver.messages), count)

    def test_close_sends_what_is_queued(self) -> None:
        """Closing flushes, stops reading, and cuts after the lingering time if the other side does not close."""
        self.receiver.queue_message("last")
        self.receiver.close()
        self.receiver.dataReceived(pack("late") + b"\n")
        self.assertEqual((self.transport.value(), self.receiver.messages), (b"\xa4last\n", []))
        self.assertTrue(self.transport.disconnecting)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(LIMITS.linger_seconds)
        self.assertTrue(self.transport.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_socket_options(self) -> None:
        """The transport's buffer is 256 KiB."""
        self.assertEqual(self.transport.bufferSize, 256 * 1024)

    def test_violation_of_a_subclass(self) -> None:
        """A message that makes no sense ends the connection; those before it were delivered, those after are not."""
        self.receiver.dataReceived(pack("good") + b"\n" + pack("bad") + b"\n" + pack("late") + b"\n")
        self.assertEqual(self.receiver.messages, ["good"])
        self.assert_closed("a bad word")


class ViolationTests(FramingTestCase):
    """What ends a connection."""

    def test_wrong_terminators(self) -> None:
        """Only the integer 10 ends a message: no other number, no 10.0 and no True."""
        for wrong in (11, 10.0, True, b"\n", None, (10,)):
            self.setUp()
            self.receiver.dataReceived(pack("value") + pack(wrong))
            self.assert_closed("newline")
            self.assertEqual(self.receiver.messages, [])

    def test_unreadable(self) -> None:
        """Ext types, timestamps, bad UTF-8, deep nesting, non-text map keys and reserved bytes end a connection."""
        streams = {
            "extension of no length": b"\xc7\x00\x05",
            "extension": pack(msgpack.ExtType(5, b"abc")),
            "timestamp": pack(msgpack.Timestamp(1)),
            "timestamp 96": b"\xc7\x0c\xff" + bytes(12),
            "inside an array": b"\x92\x01\xc7\x00\x05",
            "reserved byte": b"\xc1",
            "no UTF-8": b"\xa1\xff",
            "deep nesting": b"\x91" * 2000,
            "number as a map key": b"\x81\x01\x01",
            "array as a map key": b"\x81\x90\x01",
        }
        for name, stream in streams.items():
            self.setUp()
            self.receiver.dataReceived(stream)
            self.assertTrue(self.transport.disconnected, name)
            self.assert_closed("unreadable msgpack")

    def test_giant_arrays_and_maps(self) -> None:
        """B70: a header that declares more elements than the limit ends the connection at once."""
        for stream in (b"\xdd\xff\xff\xff\xff", b"\xdc\x00\x41", b"\xdf\xff\xff\xff\xff", b"\xde\x00\x11"):
            self.setUp()
            self.receiver.dataReceived(stream)
            self.assert_closed("exceeds max_")

    def test_too_large_a_message(self) -> None:
        """B70: a message beyond the limit ends the connection, be it one value or an array that goes on."""
        chunk = pack(b"x" * 30_000)
        for stream in (pack(b"x" * 100_001), b"\x9f" + chunk * 4):
            self.setUp()
            for start in range(0, len(stream), 10_000):
                self.receiver.dataReceived(stream[start : start + 10_000])
            self.assert_closed()

    def test_nested_headers_hold_little_memory(self) -> None:
        """B70: nested array headers reserve no more than the nesting depth times the array limit."""
        stream = (b"\xdc" + (64).to_bytes(2, "big")) * 1000
        tracemalloc.start()
        self.addCleanup(tracemalloc.stop)
        before = tracemalloc.get_traced_memory()[0]
        self.receiver.dataReceived(stream)
        held = tracemalloc.get_traced_memory()[0] - before
        self.assertLess(held, 1000 * (64 * 8 + 200) + 100_000)

    def test_random_garbage(self) -> None:
        """B70: random bytes never raise, never hold more than a message, and mostly end the connection."""
        closed = 0
        for seed in range(300):
            chance = random.Random(seed)
            self.setUp()
            for _ in range(20):
                self.receiver.dataReceived(chance.randbytes(chance.randrange(1, 200)))
            self.clock.advance(2 * LIMITS.partial_message_seconds)
            closed += self.transport.disconnected
            self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertGreater(closed, 290)


class PartialMessageTests(FramingTestCase):
    """A half-sent message may not wait for ever."""

    def test_declared_length_that_never_comes(self) -> None:
        """B70: a declared length of 4 GiB waits no longer than the limit."""
        self.receiver.dataReceived(b"\xc6\xff\xff\xff\xff")
        self.clock.advance(LIMITS.partial_message_seconds - 0.1)
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(0.1)
        self.assert_closed("unfinished")

    def test_partial_arrays_and_missing_newlines(self) -> None:
        """A message is unfinished until its newline is here, even where all bytes so far were taken in."""
        for stream in (b"\x92\x01", pack("whole")):
            self.setUp()
            self.receiver.dataReceived(stream)
            self.clock.advance(LIMITS.partial_message_seconds)
            self.assert_closed("unfinished")

    def test_dripping(self) -> None:
        """The time counts from the first byte of a message, so dripping bytes do not help."""
        self.receiver.dataReceived(b"\xc4\xff")
        for _ in range(9):
            self.clock.advance(LIMITS.partial_message_seconds / 10)
            self.receiver.dataReceived(b"x")
        self.assertFalse(self.transport.disconnected)
        self.clock.advance(LIMITS.partial_message_seconds / 10)
        self.assert_closed("unfinished")

    def test_next_message_has_its_own_time(self) -> None:
        """A stream that is always in the middle of some message goes on as long as each is finished in time."""
        self.receiver.dataReceived(b"\x92\x01")
        for _ in range(30):
            self.clock.advance(LIMITS.partial_message_seconds * 0.7)
            self.receiver.dataReceived(b"\x02\n\x92\x01")
        self.assertFalse(self.transport.disconnected)
        self.assertEqual(len(self.receiver.messages), 30)

    def test_silence_between_messages(self) -> None:
        """A connection that says nothing is left alone, and holds no timer."""
        self.receiver.dataReceived(b"\x92\x01")
        self.receiver.dataReceived(b"\x02\n")
        self.clock.advance(1000)
        self.assertFalse(self.transport.disconnected)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_time_when_we_do_not_read(self) -> None:
        """The time in which we paused reading is not held against the other side."""
        self.receiver.dataReceived(b"\x92\x01")
        self.receiver.pause_reading()
        self.clock.advance(10 * LIMITS.partial_message_seconds)
        self.assertFalse(self.transport.disconnected)
        self.receiver.resume_reading()
        self.clock.advance(LIMITS.partial_message_seconds)
        self.assert_closed("unfinished")

    def test_connection_lost(self) -> None:
        """A lost connection leaves no timer and calls back."""
        closed: list[bool] = []
        self.receiver.when_closed(lambda: closed.append(True))
        self.receiver.dataReceived(b"\x92\x01")
        self.receiver.queue_message("x")
        self.receiver.connectionLost()
        self.assertEqual((closed, self.clock.getDelayedCalls()), ([True], []))


class RateLimitedLogTests(SynchronousTestCase):
    """Lines that strangers can cause."""

    def test_flood(self) -> None:
        """A flood leaves a bounded number of lines, and the next interval says how many were left out."""
        clock, lines = Clock(), Lines()
        log = RateLimitedLog(lines.logger, clock=clock, lines_per_interval=3, interval_seconds=60)
        for number in range(100):
            log.warn("closed {peer}", peer=number)
        self.assertEqual(lines.texts(), ["closed 0", "closed 1", "closed 2"])
        clock.advance(60)
        log.warn("closed {peer}", peer=100)
        self.assertIn("97 lines like this one were left out", lines.texts()[3])
        log.warn("closed {peer}", peer=101)
        self.assertEqual(lines.texts()[4], "closed 101")
