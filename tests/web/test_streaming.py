"""Answers whose body comes in pieces, through both lanes."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.web.http import HTTPChannel
from twisted.web.server import Site

from raftkv.errors import Compacted, InvariantViolation
from raftkv.web.app import Operation
from raftkv.web.exchange import Answer, Exchange
from raftkv.web.settings import WebSettings
from raftkv.web.site import SWEEP_SECONDS
from raftkv.web.streaming import BodySource, OutgoingBody, PieceSource, Streamed
from tests.web.lanes import Lane, LaneTestCase, Transport, parse_responses, request

KIB = 1024
TEXT = ((b"Content-Type", b"text/plain"),)
GET = request("GET", "/get?key=a")
HEAD = request("HEAD", "/get?key=a")
GET_1_0 = b"GET /get?key=a HTTP/1.0\r\n\r\n"


class Source(BodySource):
    """Says what it was asked, and writes what a test wants.

    :ivar asked: ``"resume"``, ``"gone"`` and ``"stopping"``, in order.
    :ivar plan: what to do on each ``resume``.
    """

    def __init__(self, plan: Callable[[OutgoingBody], object] = lambda body: None) -> None:
        self.asked: list[str] = []
        self.plan = plan
        self.body: OutgoingBody | None = None

    def resume(self, body: OutgoingBody) -> None:
        self.asked.append("resume")
        self.body = body
        self.plan(body)

    def gone(self) -> None:
        self.asked.append("gone")

    def stopping(self) -> None:
        self.asked.append("stopping")

    @property
    def open_body(self) -> OutgoingBody:
        assert self.body is not None
        return self.body


def head_and_rest(data: bytes) -> tuple[bytes, bytes]:
    """Divide an answer behind its head."""
    head, separator, rest = data.partition(b"\r\n\r\n")
    assert separator, data
    return head, rest


def unchunked(data: bytes) -> tuple[bytes, bool]:
    """Return what chunks hold, and whether the last one has come."""
    body = b""
    while data:
        size, _, data = data.partition(b"\r\n")
        length = int(size, 16)
        body += data[:length]
        assert data[length : length + 2] == b"\r\n", data
        data = data[length + 2 :]
        if not length:
            assert not data, data
            return body, True
    return body, False


class StreamingTestCase(LaneTestCase):
    """``GET /get`` answers with a source of the test's, one in each lane."""

    length: int | None = None

    def setUp(self) -> None:
        super().setUp()
        self.sources: list[Source] = []
        self.serve_with(Source)

    def serve_with(self, make: Callable[[], Source]) -> None:
        """Have new requests answered by new sources."""
        self.sources = []

        def stream(exchange: Exchange, parameters: object) -> None:
            source = make()
            self.sources.append(source)
            exchange.stream(Streamed(200, TEXT, source, self.length))

        for lane in self.lanes:
            (route,) = [route for route in lane.api.routes if route.template == "/get"]
            route.operations[b"GET"] = Operation(serve=stream, summary="", query=frozenset({"key"}))

    def each_source(self, act: Callable[[Source], object]) -> None:
        """Do something to what serves each of the lanes."""
        self.assertEqual(len(self.sources), 2)
        for source in self.sources:
            act(source)

    def each_body(self, act: Callable[[OutgoingBody], object]) -> None:
        """Do something to the body on each of the lanes."""
        self.each_source(lambda source: act(source.open_body))

    def assert_asked(self, *asked: str) -> None:
        """Check what the sources were told so far."""
        self.each_source(lambda source: self.assertEqual(source.asked, [*asked]))

    def assert_open(self, count: int) -> None:
        """Check how many bodies the servers think are on their way."""
        self.each(lambda lane: self.assertEqual(len(lane.api.open_bodies), count))


class FramingTests(StreamingTestCase):
    """Where a body begins and ends."""

    def test_chunks(self) -> None:
        """The head leaves before there is any piece, each piece when it is written, and the end is told."""
        head, rest = head_and_rest(self.send(GET))
        self.assertIn(b"Content-Type: text/plain\r\nTransfer-Encoding: chunked", head)
        self.assertNotIn(b"Content-Length", head)
        self.assertEqual(rest, b"")
        self.assert_open(1)
        self.each_body(lambda body: body.write(b"first"))
        self.assertEqual(self.received(), b"5\r\nfirst\r\n")
        self.each_body(lambda body: body.write(b"x" * 26))
        self.each_body(lambda body: body.write(b""))
        self.each_body(OutgoingBody.finish)
        self.assertEqual(self.received(), b"1a\r\n" + b"x" * 26 + b"\r\n0\r\n\r\n")
        self.assert_asked("resume")
        self.assert_open(0)

    def test_all_at_once(self) -> None:
        """A source may write and finish in the call that it is asked in, and the connection serves on."""
        self.serve_with(lambda: Source(lambda body: (body.write(b"a"), body.write(b"bc"), body.finish())))
        for _ in range(2):
            self.assertEqual(head_and_rest(self.send(GET))[1], b"1\r\na\r\n2\r\nbc\r\n0\r\n\r\n")
            self.sources = []

    def test_pipelined_requests_wait(self) -> None:
        """What is asked behind it is answered behind it."""
        status = request("GET", "/v1/status")
        head_and_rest(self.send(GET + status))
        self.each_body(lambda body: body.write(b"a"))
        self.assertEqual(self.received(), b"1\r\na\r\n")
        self.each_body(OutgoingBody.finish)
        end, _, answer = self.received().partition(b"\r\n\r\n")
        self.assertEqual(end, b"0")
        self.assertEqual(parse_responses(answer)[0].status, 200)

    def test_known_length(self) -> None:
        """A length that is known is told, and nothing is chunked."""
        self.length = 5
        head, rest = head_and_rest(self.send(GET))
        self.assertIn(b"\r\nContent-Length: 5", head)
        self.assertNotIn(b"Transfer-Encoding", head)
        self.each_body(lambda body: body.write(b"abc"))
        self.each_body(lambda body: body.write(b"de"))
        self.each_body(OutgoingBody.finish)
        self.assertEqual((rest, self.received()), (b"", b"abcde"))
        self.assertEqual(parse_responses(self.send(request("GET", "/v1/status")))[0].status, 200)

    def test_wrong_length(self) -> None:
        """A body that turns out shorter than was told breaks the connection, a longer one is never sent."""
        self.length = 5
        self.send(GET)
        self.each_body(lambda body: body.write(b"abc"))
        self.each_body(lambda body: self.assertRaises(ValueError, body.write, b"def"))
        self.each_body(OutgoingBody.finish)
        self.assertEqual(self.received(), b"abc")
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))

    def test_http_1_0(self) -> None:
        """For HTTP/1.0 the body ends with the connection, whatever the client would like."""
        for more in (b"", b"Connection: keep-alive\r\n"):
            self.each(Lane.hang_up)
            self.each(Lane.connect)
            self.sources = []
            head, rest = head_and_rest(self.send(GET_1_0.replace(b"\r\n\r\n", b"\r\n" + more + b"\r\n")))
            self.assertIn(b"\r\nConnection: close", head)
            self.assertNotIn(b"Transfer-Encoding", head)
            self.each_body(lambda body: body.write(b"abc"))
            self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))
            self.each_body(OutgoingBody.finish)
            self.assertEqual(rest + self.received(), b"abc")
            self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))
            self.each(lambda lane: self.assertFalse(lane.transport.aborted))

    def test_http_1_0_with_a_length(self) -> None:
        """A known length lets an HTTP/1.0 client keep its connection."""
        self.length = 1
        self.serve_with(lambda: Source(lambda body: (body.write(b"a"), body.finish())))
        received = self.send(GET_1_0.replace(b"\r\n\r\n", b"\r\nConnection: keep-alive\r\n\r\n"))
        self.assertIn(b"\r\nConnection: keep-alive\r\n", received)
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))

    def test_head(self) -> None:
        """HEAD gets the head, and the source is not asked for anything."""
        self.serve_with(Source)
        head, rest = head_and_rest(self.send(HEAD + HEAD))
        self.assertNotIn(b"Content-Length", head)
        (second,) = parse_responses(rest, [b"HEAD"])
        self.assertEqual(second.status, 200)
        self.assertEqual([source.asked for source in self.sources], [["gone"]] * 4)
        self.assert_open(0)
        self.assertEqual(parse_responses(self.send(request("GET", "/v1/status")))[0].status, 200)

    def test_head_with_a_length(self) -> None:
        """HEAD tells the length, too."""
        self.length = 7
        (answer,) = parse_responses(self.send(HEAD), [b"HEAD"])
        self.assertEqual((answer.headers[b"Content-Length"], answer.body), (b"7", b""))


class BackPressureTests(StreamingTestCase):
    """Clients that read slowly, or not at all."""

    def setUp(self) -> None:
        super().setUp()
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.connect(room_bytes=64 * KIB))

    @staticmethod
    def fill(body: OutgoingBody) -> None:
        """Write as long as there is room."""
        while body.has_room:
            body.write(b"x" * KIB)

    def test_no_more_than_there_is_room_for(self) -> None:
        """A source without an end is asked for as much as the transport takes, again and again, and no more."""
        self.serve_with(lambda: Source(self.fill))
        for turn in range(1, 4):
            if turn == 1:
                self.each(lambda lane: lane.connection.dataReceived(GET))
            else:
                self.each(lambda lane: lane.connection.resumeProducing())
            size = len(self.received())
            self.assertTrue(64 * KIB < size < 140 * KIB, size)
            self.assert_asked(*["resume"] * turn)
            self.each(lambda lane: self.assertLessEqual(lane.site._all_unread_bytes, 70 * KIB))

    def test_client_that_does_not_read_is_dropped(self) -> None:
        """A client that leaves a stream unread for too long is dropped, and the source hears of it."""
        self.serve_with(lambda: Source(self.fill))
        self.each(lambda lane: lane.connection.dataReceived(GET))
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 70))
        self.each(lambda lane: self.assertFalse(lane.transport.aborted))
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 10))
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))
        self.each(Lane.hang_up)
        self.assert_asked("resume", "gone")

    def test_quiet_stream_is_left_alone(self) -> None:
        """A source that has nothing to tell for an hour loses no client."""
        self.serve_with(Source)
        self.send(GET)
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 3600))
        self.each_body(self.fill)
        self.each(lambda lane: lane.connection.resumeProducing())
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 3600))
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))
        self.each_body(lambda body: self.assertTrue(body.has_room))

    def test_begins_only_when_there_is_room(self) -> None:
        """A stream behind answers that the client has not read begins when it has."""
        self.serve_with(Source)
        self.each(lambda lane: lane.connection.pauseProducing())
        self.each(lambda lane: lane.connection.dataReceived(GET))
        self.assertEqual(self.sources, [])
        self.each(lambda lane: lane.connection.resumeProducing())
        self.assert_asked("resume")


class EndTests(StreamingTestCase):
    """Streams that end otherwise."""

    def test_client_goes(self) -> None:
        """The source is told once that its client has gone; what it writes then goes nowhere."""
        self.send(GET)
        self.each(Lane.hang_up)
        self.assert_asked("resume", "gone")
        self.assert_open(0)
        self.each_body(lambda body: (body.write(b"a"), body.finish(), body.break_off()))
        self.assertEqual(self.received(), b"")

    def test_client_has_gone_before(self) -> None:
        """A stream that begins when nobody waits any more ends at once."""
        exchanges: list[Exchange] = []
        for lane in self.lanes:
            (route,) = [route for route in lane.api.routes if route.template == "/get"]
            route.operations[b"GET"] = Operation(
                serve=lambda exchange, parameters: exchanges.append(exchange), summary="", query=frozenset({"key"})
            )
        self.send(GET)
        self.each(Lane.hang_up)
        for exchange in exchanges:
            source = Source()
            exchange.stream(Streamed(200, TEXT, source))
            self.assertEqual(source.asked, ["gone"])

    def test_second_answer(self) -> None:
        """A stream behind an answer is a fault of ours: it is dropped, and its source released."""
        exchange = Exchange(b"GET", b"/", b"", {}, b"", 0.0, lambda answer: None)
        exchange.answer(Answer(200, (), b""))
        source = Source()
        exchange.stream(Streamed(200, TEXT, source))
        self.assertEqual(source.asked, ["gone"])

    def test_broken_off(self) -> None:
        """A body that cannot be told to its end never looks like one that was."""
        self.send(GET)
        self.each_body(lambda body: body.write(b"abc"))
        self.each_body(lambda body: body.break_off(Compacted(5)))
        self.assertEqual(unchunked(self.received()), (b"abc", False))
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))
        self.assert_asked("resume")
        self.assert_open(0)

    def test_source_that_fails(self) -> None:
        """A fault in a source is logged, and breaks the connection off."""

        def fail(body: OutgoingBody) -> None:
            body.write(b"abc")
            raise ZeroDivisionError

        self.serve_with(lambda: Source(fail))
        data, is_whole = unchunked(head_and_rest(self.send(GET))[1])
        self.assertFalse(is_whole, data)
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))
        self.assert_asked("resume", "gone")
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 2)

    def test_fault_that_stops_the_node(self) -> None:
        """A fault that stops the node is seen by whoever gave the client room."""
        self.send(GET)
        (fast, klein) = self.sources
        for source, lane in ((fast, self.fast), (klein, self.klein)):
            source.plan = lambda body: self._violate()
            lane.connection.pauseProducing()
            self.assertRaises(InvariantViolation, lane.connection.resumeProducing)
        self.assertEqual(len(self.flushLoggedErrors(InvariantViolation)), 2)

    @staticmethod
    def _violate() -> None:
        raise InvariantViolation("no")

    def test_stopping_server(self) -> None:
        """A stopping server has streams end, closes their connections, and serves nothing that came behind them."""
        self.send(GET + GET)
        stopped = [lane.site.drain() for lane in self.lanes]
        self.assert_asked("resume", "stopping")
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))
        self.each_body(OutgoingBody.finish)
        self.assertEqual(self.received(), b"0\r\n\r\n")
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 3))
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))
        self.each(lambda lane: self.assertFalse(lane.transport.aborted))
        self.each(Lane.hang_up)
        for done in stopped:
            self.successResultOf(done)

    def test_stopping_server_waits_only_so_long(self) -> None:
        """A stream that does not end is broken off."""
        self.send(GET)
        stopped = [lane.site.drain() for lane in self.lanes]
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 10))
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))
        self.each(Lane.hang_up)
        self.assert_asked("resume", "stopping", "gone")
        for done in stopped:
            self.successResultOf(done)

    def test_stream_of_a_stopping_server(self) -> None:
        """A request that is still served by a stopping server learns at once that it should end."""
        stopped = [lane.site.drain() for lane in self.lanes]
        head, _ = head_and_rest(self.send(GET))
        self.assertIn(b"\r\nConnection: close", head)
        self.assert_asked("resume", "stopping")
        self.each_body(OutgoingBody.finish)
        self.each(Lane.hang_up)
        for lane, done in zip(self.lanes, stopped, strict=True):
            self.successResultOf(done)
            lane.site.open()
            self.assertFalse(lane.api.open_bodies.are_stopping)


class AccessLogTests(StreamingTestCase):
    """What the access log says of streams."""

    settings = WebSettings(access_log=True)

    def test_size(self) -> None:
        """The size is that of the body, known at its end."""
        for lane in self.lanes:
            logged: list[tuple[int, int]] = []
            self.patch(
                lane.connection, "_log_access", lambda status, size, logged=logged: logged.append((status, size))
            )
            lane.connection.dataReceived(GET)
            body = self.sources[-1].open_body
            body.write(b"12345")
            self.assertEqual(logged, [])
            body.finish()
            self.assertEqual(logged, [(200, 5)])


class OtherServerTests(StreamingTestCase):
    """The API as a resource of Twisted's own server."""

    def test_site(self) -> None:
        """Streams work there as well, to their end and broken off."""
        for ends_well in (True, False):
            self.sources = []
            clock = Clock()
            site = Site(self.klein.api.app.resource(), reactor=clock)
            channel = site.buildProtocol(None)
            self.assertIsInstance(channel._channel, HTTPChannel)
            transport = Transport()
            channel.makeConnection(transport)
            channel.dataReceived(GET)
            (source,) = self.sources
            source.open_body.write(b"abc")
            if ends_well:
                source.open_body.finish()
            else:
                source.open_body.break_off()
            self.assertEqual(unchunked(head_and_rest(transport.value())[1]), (b"abc", ends_well))
            self.assertEqual(transport.aborted, not ends_well)


class PieceSourceTests(StreamingTestCase):
    """Bodies that are drawn piece by piece."""

    def setUp(self) -> None:
        super().setUp()
        self.closed = 0
        self.pieces: list[object] = []
        self.awaited: list[Deferred[bytes | None]] = []

    def serve_pieces(self, next_piece: Callable[[], bytes | Deferred[bytes | None] | None]) -> None:
        def close() -> None:
            self.closed += 1

        for lane in self.lanes:
            (route,) = [route for route in lane.api.routes if route.template == "/get"]
            route.operations[b"GET"] = Operation(
                serve=lambda exchange, parameters: exchange.stream(Streamed(200, TEXT, PieceSource(next_piece, close))),
                summary="",
                query=frozenset({"key"}),
            )

    def await_piece(self) -> Deferred[bytes | None]:
        self.awaited.append(Deferred())
        return self.awaited[-1]

    def test_pieces_at_once(self) -> None:
        """Pieces that are there are drawn to the end, in their order, whether they come as such or in a Deferred."""
        for wrap in (lambda piece: piece, succeed):
            self.closed = 0
            pieces = [iter([b"a", b"b", None]) for _ in self.lanes]
            current = iter([pieces[0]] * 3 + [pieces[1]] * 3)
            self.serve_pieces(lambda current=current, wrap=wrap: wrap(next(next(current))))
            self.assertEqual(unchunked(head_and_rest(self.send(GET))[1]), (b"ab", True))
            self.assertEqual(self.closed, 2)

    def test_pieces_that_come_later(self) -> None:
        """The next piece is drawn when the one before is there."""
        self.serve_pieces(self.await_piece)
        _, rest = head_and_rest(self.send(GET))
        for piece in (b"a", b"b", None):
            first, second = self.awaited
            self.awaited = []
            first.callback(piece)
            second.callback(piece)
            rest += self.received()
        self.assertEqual(unchunked(rest), (b"ab", True))
        self.assertEqual((self.closed, self.awaited), (2, []))

    def test_many_pieces_at_once(self) -> None:
        """Ten thousand pieces that are there already take no depth of the stack."""
        for lane in self.lanes:
            pieces = iter([b"x"] * 10_000)
            self.serve_pieces(lambda pieces=pieces: succeed(next(pieces, None)))
            lane.connection.dataReceived(GET)
            self.assertEqual(unchunked(head_and_rest(lane.received())[1]), (b"x" * 10_000, True))

    def test_room(self) -> None:
        """Nothing is drawn while the client does not read; a piece that was awaited is sent all the same."""
        self.serve_pieces(self.await_piece)
        self.send(GET)
        self.each(lambda lane: lane.connection.pauseProducing())
        for awaited in self.awaited[:2]:
            awaited.callback(b"a")
        self.assertEqual(len(self.awaited), 2)
        self.assertEqual(self.received(), b"1\r\na\r\n")
        self.each(lambda lane: lane.connection.resumeProducing())
        self.assertEqual(len(self.awaited), 4)
        self.each(lambda lane: (lane.connection.pauseProducing(), lane.connection.resumeProducing()))
        self.assertEqual(len(self.awaited), 4)

    def test_client_goes(self) -> None:
        """The piece that is awaited is given up, and the source closed once."""
        self.serve_pieces(self.await_piece)
        self.send(GET)
        self.each(Lane.hang_up)
        self.assertEqual(self.closed, 2)
        self.assertEqual([awaited.called for awaited in self.awaited], [True, True])

    def test_piece_that_cannot_be_had(self) -> None:
        """An error breaks the connection off and closes the source; a fault is logged, a compaction is none."""
        for error in (Compacted(7), ZeroDivisionError()):
            for is_late in (False, True):
                self.closed = 0
                self.awaited = []

                def raise_it(error: Exception = error) -> None:
                    raise error

                self.serve_pieces(self.await_piece if is_late else raise_it)
                self.each(Lane.hang_up)
                self.each(Lane.connect)
                self.send(GET)
                for awaited in self.awaited:
                    awaited.errback(error)
                self.received()
                self.each(lambda lane: self.assertTrue(lane.transport.aborted))
                self.assertEqual(self.closed, 2)
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 4)
