"""What one client may cost the others: memory, and turns of the reactor; through both lanes (B70)."""

from __future__ import annotations

from twisted.logger import LogEvent, globalLogPublisher

from raftkv.web.connection import MAX_SLOW_REQUESTS
from raftkv.web.documents import MAX_STRUCTURE_BYTES
from raftkv.web.site import SWEEP_SECONDS
from tests.web.lanes import GET_STATUS, Lane, LaneTestCase, parse_responses, request

KIB = 1024
MIB = 1024 * KIB
GET_RAW = request("GET", "/v1/kv/a", "Accept: application/octet-stream")


class UnreadAnswerTests(LaneTestCase):
    """Clients that ask and do not read."""

    def setUp(self) -> None:
        super().setUp()
        self.configure(max_unread_bytes=3 * MIB)
        self.put_a_mebibyte()

    def put_a_mebibyte(self) -> None:
        self.send(request("PUT", "/v1/kv/a", body=b"\x01" * MIB))

    def connect_with_little_room(self) -> None:
        self.each(lambda lane: lane.connect(room_bytes=64 * KIB))

    def test_pipelined_answers_are_made_as_they_are_read(self) -> None:
        """A few bytes that ask for a gigabyte get one answer at a time, each once the one before has been read."""
        self.connect_with_little_room()
        received = self.send(GET_RAW * 1000)
        for _ in range(3):
            (answer,) = parse_responses(received)
            self.assertEqual(len(answer.body), MIB)
            self.each(lambda lane: lane.connection.resumeProducing())
            received = self.received()

    def test_who_has_not_read_for_longest_is_dropped(self) -> None:
        """Answers that nobody reads have a bound over all connections; past it whoever waits longest is dropped."""
        events: list[str] = []

        def observe(event: LogEvent) -> None:
            events.append(event.get("log_format") or "")

        globalLogPublisher.addObserver(observe)
        self.addCleanup(globalLogPublisher.removeObserver, observe)
        transports = []
        for _ in range(4):
            self.connect_with_little_room()
            self.send(GET_RAW)
            transports.append([lane.transport for lane in self.lanes])
        for lane in range(2):
            # Each answer has a head, so that three of them are already too much.
            self.assertEqual([row[lane].aborted for row in transports], [True, True, False, False])
        self.each(lambda lane: lane.clock.advance(SWEEP_SECONDS))
        self.assertEqual(sum("dropped {count}" in event for event in events), 2)

    def test_what_was_read_counts_no_more(self) -> None:
        """Clients that read keep being served, however much it is."""
        for _ in range(10):
            self.connect_with_little_room()
            self.send(GET_RAW)
            self.each(lambda lane: lane.connection.resumeProducing())
            self.each(lambda lane: self.assertFalse(lane.transport.aborted))
            self.each(lambda lane: self.assertEqual(lane.site._all_unread_bytes, 0))

    def test_who_has_gone_counts_no_more(self) -> None:
        """Answers to a client that has gone are forgotten."""
        self.connect_with_little_room()
        self.send(GET_RAW)
        self.each(lambda lane: self.assertGreater(lane.site._all_unread_bytes, MIB))
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(lane.site._all_unread_bytes, 0))


class UnservedRequestTests(LaneTestCase):
    """What is kept of requests that are not served yet."""

    def setUp(self) -> None:
        super().setUp()
        self.configure(max_buffered_body_bytes=1000)

    def test_heads_count(self) -> None:
        """Heads that are not complete count like bodies."""
        self.send(b"GET /" + b"x" * 595)
        self.each(Lane.connect)
        (answer,) = parse_responses(self.send(b"GET /" + b"x" * 396))
        self.assert_refused(answer, 429, "overloaded", "limits.maxBufferedBodyBytes", "1000")
        self.each(lambda lane: self.assertEqual(lane.site._held_bytes, 600))

    def test_pipelined_requests_count(self) -> None:
        """What is sent ahead counts too; where there is no room the present request is the last one answered."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        get = request("GET", "/get?key=a")
        self.send(get + b"x" * 600)
        self.each(Lane.connect)
        self.assertEqual(self.send(get + b"y" * 401), b"")
        self.each(lambda lane: self.assertEqual(lane.site._held_bytes, 600))
        self.send(b"z" * 1000)
        self.each(lambda lane: lane.key_value.let_through())
        (answer,) = parse_responses(self.received())
        self.assertEqual((answer.status, answer.headers[b"Connection"]), (404, b"close"))
        # Bytes that nobody has read would reset the connection, and the answer with it.
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 3))
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))

    def test_served_requests_leave_nothing(self) -> None:
        """A connection that waits for its next request holds nothing of the last one."""
        self.configure()
        self.send(request("PUT", "/v1/kv/a", "X-Padding: " + "x" * 2000, body=b"x" * 60_000))
        for lane in self.lanes:
            connection = lane.connection
            self.assertEqual((connection._buffer, connection._body, dict(connection._head.headers)), (b"", None, {}))

    def test_bodies_without_a_meaning_are_not_kept(self) -> None:
        """The body of a read is forgotten while the read waits for its leader."""
        self.configure()
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(request("GET", "/get?key=a", body=b"x" * 100_000))
        exchange = self.fast.connection._exchange
        self.assertEqual(exchange.body if exchange is not None else None, b"")


class TurnTests(LaneTestCase):
    """One connection does not keep the reactor for itself."""

    def test_slow_requests_take_turns(self) -> None:
        """Of many pipelined requests without the fast lane a few are served, and the rest after everyone else."""
        self.each(lambda lane: lane.connection.dataReceived(GET_STATUS * (2 * MAX_SLOW_REQUESTS + 1)))
        self.assertEqual(len(parse_responses(self.received())), MAX_SLOW_REQUESTS)
        self.each(lambda lane: lane.clock.advance(0))
        self.assertEqual(len(parse_responses(self.received())), MAX_SLOW_REQUESTS + 1)
        self.each(lambda lane: self.assertEqual(len(lane.transport.writes), 3))
        self.each(lambda lane: self.assertEqual(lane.site._held_bytes, 0))

    def test_turn_of_a_client_that_has_gone(self) -> None:
        """A turn that nobody waits for any more is cancelled."""
        self.each(lambda lane: lane.connection.dataReceived(GET_STATUS * 100))
        self.each(lambda lane: self.assertEqual(len(lane.clock.getDelayedCalls()), 2))
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(lane.clock.getDelayedCalls(), []))

    def test_documents_full_of_structure(self) -> None:
        """A document of millions of lists, objects, numbers or names is refused before it is parsed."""
        count = MAX_STRUCTURE_BYTES
        for filling in (b"[]", b"{}", b"1", b'""', b'"\\\\"', b'"a":1', b"  "):
            body = b'{"key":[' + b",".join([filling] * count) + b'],"key":"a","value":"b"}'
            self.assert_refused(self.ask("POST", "/set", body=body), 413, "too_large", str(MAX_STRUCTURE_BYTES))

    def test_large_strings_are_no_structure(self) -> None:
        """However many brackets, quotes and backslashes a value has, it is one value."""
        for piece, value in (("[]{},:1", "[]{},:1"), ('\\"', '"'), ("\\\\", "\\"), ('\\\\\\"[', '\\"[')):
            body = ('{"key":"a","value":"%s"}' % (piece * 100_000)).encode()
            self.ask_json("POST", "/set", body=body)
            self.assertEqual(self.ask_json("GET", "/get?key=a")["value"], value * 100_000)
