"""HTTP/1.1 as bytes: order, persistence, bodies, limits, deadlines; through both lanes."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from raftkv.web.reading import MAX_PIPELINED_BYTES
from raftkv.web.site import MAX_REFUSED_CONNECTIONS, SWEEP_SECONDS
from tests.web.lanes import HOST, Lane, LaneTestCase, parse_responses, request

MIB = 1024 * 1024
GET = b"GET /get?key=a HTTP/1.1\r\nHost: x\r\n\r\n"
STATUS = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"


def put(value: bytes) -> bytes:
    return request("PUT", "/v1/kv/a", body=value)


class PersistenceTests(LaneTestCase):
    """Connections that carry several requests, or one."""

    def statuses(self, data: bytes) -> list[int]:
        return [response.status for response in parse_responses(data)]

    def test_keep_alive(self) -> None:
        """A connection serves one request after the other."""
        for _ in range(3):
            (answer,) = parse_responses(self.send(put(b"x")))
            self.assertEqual((answer.status, answer.headers.get(b"Connection")), (200, None))
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))

    def test_pipelined_requests_leave_in_one_write(self) -> None:
        """Requests that arrive together are answered in order, and in one write."""
        answers = parse_responses(self.send(put(b"1") + GET + STATUS + put(b"2") + GET))
        self.assertEqual([a.status for a in answers], [200] * 5)
        self.assertEqual([answers[1].json()["value"], answers[4].json()["value"]], ["1", "2"])
        self.each(lambda lane: self.assertEqual(len(lane.transport.writes), 1))

    def test_many_pipelined_requests(self) -> None:
        """Thousands of requests in one piece of data are no burden to the stack."""
        self.assertEqual(self.statuses(self.send((GET + STATUS) * 2000)), [404, 200] * 2000)

    def test_a_request_waits_for_the_one_before(self) -> None:
        """While one request is served the next one on its connection waits."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.assertEqual(self.send(put(b"1") + GET + STATUS), b"")
        self.each(lambda lane: self.assertEqual(len(lane.key_value.waiting), 1))
        self.each(lambda lane: lane.key_value.let_through())
        self.assertEqual(self.statuses(self.received()), [200])
        self.each(lambda lane: lane.key_value.let_through())
        self.assertEqual(self.statuses(self.received()), [200, 200])

    def test_byte_by_byte(self) -> None:
        """Requests are understood however they are cut into pieces."""
        data = (
            put(b"body")
            + GET
            + b"\r\n"
            + request("PUT", "/v1/kv/b", "Transfer-Encoding: chunked")
            + b"1\r\nx\r\n0\r\n\r\n"
        )
        received = b"".join(self.send(data[i : i + 1]) for i in range(len(data)))
        self.assertEqual(self.statuses(received), [200, 200, 200])
        self.assertEqual(
            received,
            self.send(data)
            .replace(b'revision":4', b'revision":2')
            .replace(b'"mod_revision":3,"version":2', b'"mod_revision":1,"version":1')
            .replace(b'"revision":3', b'"revision":1'),
        )

    def test_connection_close(self) -> None:
        """A client that says close gets its answer and the end of the connection; what it sent behind is not served."""
        data = self.send(request("PUT", "/v1/kv/a", "Connection: foo, Close", body=b"x") + put(b"y"))
        (answer,) = parse_responses(data)
        self.assertEqual(answer.headers[b"Connection"], b"close")
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))
        self.each(lambda lane: self.assertEqual(len(lane.key_value.commands), 1))
        self.assertEqual(self.send(GET), b"")

    def test_http_1_0(self) -> None:
        """HTTP/1.0 needs no Host, and closes unless asked to stay."""
        for path in (b"/get?key=a", b"/v1/status"):
            self.each(Lane.connect)
            (answer,) = parse_responses(self.send(b"GET %b HTTP/1.0\r\nConnection: keep-alive\r\n\r\n" % path))
            self.assertEqual(answer.headers[b"Connection"], b"keep-alive")
            (answer,) = parse_responses(self.send(b"GET %b HTTP/1.0\r\n\r\n" % path))
            self.assertEqual(answer.headers[b"Connection"], b"close")
            self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))

    def test_head_in_a_pipeline(self) -> None:
        """The answer to a HEAD has no body, so that the next one is found."""
        data = self.send(STATUS.replace(b"GET", b"HEAD") + GET.replace(b"GET", b"HEAD", 1) + GET)
        answers = parse_responses(data, [b"HEAD", b"HEAD", b"GET"])
        self.assertEqual([(a.status, bool(a.body)) for a in answers], [(200, False), (404, False), (404, True)])

    def test_empty_lines_before_a_request(self) -> None:
        """Empty lines before a request line are skipped."""
        self.assertEqual(self.statuses(self.send(b"\r\n\r\n" + GET + b"\r\n" + GET)), [404, 404])

    def test_headers_that_change(self) -> None:
        """Headers belong to their own request, also where the ones before were nearly the same."""
        first = request("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 1", body=b"x")
        again = request("PUT", "/v1/kv/a", "X-Client-Id: c", "X-Request-Seq: 2", body=b"x")
        answers = parse_responses(self.send(first + first + again + put(b"y") + put(b"y")))
        self.assertEqual([a.json()["revision"] for a in answers], [1, 1, 2, 3, 4])
        big = request("GET", "/get?key=a", "X-Long: " + "x" * 2000)
        self.assertEqual(self.statuses(self.send(big + big + GET)), [200, 200, 200])

    def test_absolute_target(self) -> None:
        """A proxy's form of a request is understood."""
        (answer,) = parse_responses(self.send(b"GET http://x/get?key=a HTTP/1.1\r\nHost: x\r\n\r\n"))
        self.assertEqual(answer.status, 404)

    def test_refusal_is_not_that_of_the_request_before(self) -> None:
        """What cannot be read is answered with a body, also behind a HEAD."""
        head = STATUS.replace(b"GET", b"HEAD")
        for behind in (b"nonsense\r\n\r\n", b"GET / HTTP/1.1\nHost: x\r\n\r\n", b"GET\n"):
            self.each(Lane.connect)
            answers = parse_responses(self.send(head + behind), [b"HEAD"])
            self.assertEqual([(a.status, bool(a.body)) for a in answers], [(200, False), (400, True)])
        self.each(Lane.connect)
        self.send(head + b"GET /")
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 11))
        (answer,) = parse_responses(self.received())
        self.assertEqual((answer.status, bool(answer.body)), (408, True))

    def test_client_that_does_not_read(self) -> None:
        """Nothing more is served to a client that does not read, until it does; and not for ever."""
        self.each(lambda lane: lane.connection.pauseProducing())
        self.assertEqual(self.send(GET), b"")
        self.each(lambda lane: self.assertEqual(lane.transport.producerState, "paused"))
        self.each(lambda lane: lane.connection.resumeProducing())
        self.assertEqual(self.statuses(self.received()), [404])
        self.each(lambda lane: self.assertEqual(lane.transport.producerState, "producing"))
        self.each(lambda lane: lane.connection.pauseProducing())
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 77))
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))

    def test_long_answers_pause_with_the_transport(self) -> None:
        """A producer of a long answer is paused and resumed with its connection, and there is one at a time."""

        class Producer:
            calls: list[str]

            def pauseProducing(self) -> None:
                self.calls.append("pause")

            def resumeProducing(self) -> None:
                self.calls.append("resume")

        waiting: Deferred[dict[str, Any]] = Deferred()
        self.each(lambda lane: setattr(lane.node, "cluster_result", waiting))
        self.send(request("GET", "/v1/cluster"))
        for lane in self.lanes:
            connection, channel, producer = lane.connection, lane.connection._channel, Producer()
            producer.calls = []
            connection.pauseProducing()
            channel.registerProducer(producer, True)
            connection.resumeProducing()
            connection.pauseProducing()
            self.assertEqual(producer.calls, ["pause", "resume", "pause"])
            self.assertRaises(ValueError, channel.registerProducer, Producer(), True)
            channel.unregisterProducer()
            connection.resumeProducing()
            self.assertEqual(len(producer.calls), 3)
            self.assertRaises(ValueError, channel.registerProducer, Producer(), False)

    def test_read_ahead_is_bounded(self) -> None:
        """What a client sends ahead of its answers is left in the kernel past a bound (B70)."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(GET + b"x" * MAX_PIPELINED_BYTES)
        self.each(lambda lane: self.assertEqual(lane.transport.producerState, "producing"))
        self.send(b"x")
        self.each(lambda lane: self.assertEqual(lane.transport.producerState, "paused"))
        self.each(lambda lane: lane.key_value.let_through())
        self.each(lambda lane: self.assertEqual(lane.transport.producerState, "producing"))
        self.assertEqual(self.statuses(self.received()), [404, 413])


class BodyTests(LaneTestCase):
    """How bodies come."""

    def test_chunked(self) -> None:
        """A chunked body is read whole, and the next request after it."""
        head = request("PUT", "/v1/kv/a", "Transfer-Encoding: chunked")
        answers = parse_responses(self.send(head + b"3\r\nabc\r\n2;ext=1\r\nde\r\n0\r\nTrailer: x\r\n\r\n" + GET))
        self.assertEqual(answers[1].json()["value"], "abcde")

    def test_expect_continue(self) -> None:
        """100 Continue is sent to a client that waits for it, once, and not where the body is there already."""
        expecting = request("PUT", "/v1/kv/a", "Expect: 100-continue", "Content-Length: 1")
        self.assertEqual(self.send(expecting), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertIn(b"200 OK", self.send(b"x"))
        self.assertTrue(self.send(expecting + b"x").startswith(b"HTTP/1.1 200 OK"))
        chunked = request("PUT", "/v1/kv/a", "Expect: 100-continue", "Transfer-Encoding: chunked")
        self.assertEqual(self.send(chunked), b"HTTP/1.1 100 Continue\r\n\r\n")
        self.assertIn(b"200 OK", self.send(b"0\r\n\r\n"))
        old = b"PUT /v1/kv/a HTTP/1.0\r\nExpect: 100-continue\r\nContent-Length: 1\r\n\r\n"
        self.assertEqual(self.send(old), b"")

    def test_body_of_a_read(self) -> None:
        """A body where none has a meaning is read and ignored."""
        answers = parse_responses(self.send(request("GET", "/get?key=a", body=b"GET /x HTTP/1.1\r\n\r\n") + GET))
        self.assertEqual([a.status for a in answers], [404, 404])

    def refuse_early(self, head: bytes, *words: str) -> None:
        self.each(Lane.connect)
        (answer,) = parse_responses(self.send(head))
        self.assert_refused(answer, 413, "too_large", *words)
        self.assertEqual(answer.headers[b"Connection"], b"close")
        self.assertEqual(answer.headers[b"X-Raft-Node"], b"node1")
        # To close with unread bytes would reset the connection, and the answer with it.
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))
        self.assertEqual(self.send(b"z" * 100_000 + GET), b"")
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 3))
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))

    def test_declared_length_is_refused_before_the_body(self) -> None:
        """A body that is too large is refused by its length, before any of it and without 100 Continue (B70)."""
        for expect in ("Expect: 100-continue", "X-None: 1"):
            self.refuse_early(
                request("PUT", "/v1/kv/a", expect, "Content-Length: 1048577"),
                "1048577",
                "limits.maxValueBytes",
                "1048576",
            )
            self.refuse_early(
                request("POST", "/set", expect, "Content-Length: 8388609"), "8388609", "limits.maxBodyBytes", "8388608"
            )
            self.refuse_early(request("GET", "/nope", expect, "Content-Length: 999999999999"), "limits.maxBodyBytes")
            self.refuse_early(
                request("GET", "/v1/status", expect, "Content-Length: 999999999999"), "limits.maxBodyBytes"
            )

    def test_chunked_body_is_refused_at_the_limit(self) -> None:
        """A chunked body is refused as soon as it exceeds the limit, not when it has ended (B70)."""
        head = request("PUT", "/v1/kv/a", "Transfer-Encoding: chunked")
        exactly = b"100000\r\n" + b"v" * MIB + b"\r\n"
        self.assertEqual(self.send(head + exactly), b"")
        self.assertIn(b"200 OK", self.send(b"0\r\n\r\n"))
        self.refuse_early(head + exactly + b"1\r\nv", "limits.maxValueBytes", "1048576")
        self.refuse_early(
            request("POST", "/set", "Transfer-Encoding: chunked") + exactly * 8 + b"1\r\nv", "limits.maxBodyBytes"
        )

    def test_memory_of_all_bodies_is_bounded(self) -> None:
        """Bodies on their way take no more than their share of memory, over all connections (B70)."""
        self.configure(max_buffered_body_bytes=1000)
        head = request("PUT", "/v1/kv/a", "Content-Length: 1000")
        self.assertEqual(self.send(head + b"x" * 600), b"")
        self.each(Lane.connect)
        (answer,) = parse_responses(self.send(head + b"x" * 401))
        self.assert_refused(answer, 429, "overloaded", "limits.maxBufferedBodyBytes")
        self.assertEqual(answer.error["outcome"], "not_applied")
        self.each(Lane.connect)
        self.assertEqual(self.send(head + b"x" * 399), b"")
        self.assertIn(b"200 OK", self.send(b"x" * 601))

    def test_client_that_goes_away_frees_its_memory(self) -> None:
        """Half a body of a client that went away counts no more."""
        self.send(request("PUT", "/v1/kv/a", "Content-Length: 1000") + b"x" * 600)
        self.each(lambda lane: self.assertEqual(lane.site._held_bytes, 600))
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(lane.site._held_bytes, 0))


class MalformedTests(LaneTestCase):
    """Requests that cannot be read."""

    def test_each_is_told_in_json(self) -> None:
        """What is no HTTP/1.1 gets 400 in JSON with the headers of every answer, and the connection is closed."""
        for data, *words in (
            (b"GET\r\n\r\n", "request line"),
            (b"GET / HTTP/2.0\r\n\r\n", "request line"),
            (b"\x16\x03\x01\x02\r\n\r\n", "request line"),
            (b"GET / HTTP/1.1\r\n\r\n", "Host", "missing"),
            (b"GET / HTTP/1.1\nHost: x\n\n", "CR LF"),
            (b"GET / HTTP/1.1\r\nHost: x\nA: b\r\n\r\n", "header"),
            (b"GET / HTTP/1.1\r\nHost: a b\r\n\r\n", "Host"),
            (b"GET / HTTP/1.1\r\nHost: x\r\nA\r\n\r\n", "header", "'A'"),
            (b"GET / HTTP/1.1\r\nHost: x\r\n folded\r\n\r\n", "header"),
            (b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nContent-Length: a\r\n\r\n", "Content-Length"),
            (b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: br\r\n\r\n", "Transfer-Encoding"),
            (
                b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\nContent-Length: 1\r\n\r\n",
                "Content-Length",
            ),
            (b"PUT /v1/kv/a HTTP/1.0\r\nTransfer-Encoding: chunked\r\n\r\n", "Transfer-Encoding"),
            (b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\nzz\r\n", "chunk size"),
            (b"PUT /v1/kv/a HTTP/1.1\r\nHost: x\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nabc", "chunk"),
        ):
            self.each(Lane.connect)
            (answer,) = parse_responses(self.send(data + b"\r\n"))
            self.assert_refused(answer, 400, "bad_request", *words)
            self.assertEqual(answer.headers[b"Connection"], b"close")
            self.assertEqual(answer.headers[b"X-Raft-Leader"], b"10.0.0.2:8080")
            self.assertEqual(self.send(GET), b"")
            self.each(lambda lane: self.assertEqual(lane.key_value.commands, []))

    def test_large_headers(self) -> None:
        """Request line and headers have a limit together, also where they never end (B70)."""
        limit = self.settings.max_header_bytes
        short = b"GET /get?key=a HTTP/1.1\r\nHost: x\r\nA: "
        largest = short + b"x" * (limit - len(short)) + b"\r\n\r\n"
        self.assertEqual(parse_responses(self.send(largest))[0].status, 404)
        for data in (
            short + b"x" * (limit - len(short) + 1) + b"\r\n\r\n",
            short + b"x" * limit,
            b"A" * (limit + 1),
            b"GET /" + b"k" * limit + b" HTTP/1.1\r\nHost: x\r\n\r\n",
            short + b"\r\nA: b" * limit,
        ):
            self.each(Lane.connect)
            (answer,) = parse_responses(self.send(data))
            self.assert_refused(answer, 413, "too_large", "limits.maxHeaderBytes", str(limit))

    def test_good_requests_before_a_bad_one_are_answered(self) -> None:
        """What came before the malformed part is served, in the same write."""
        answers = parse_responses(self.send(put(b"1") + b"nonsense\r\n\r\n" + put(b"2")))
        self.assertEqual([a.status for a in answers], [200, 400])
        self.each(lambda lane: self.assertEqual(len(lane.key_value.commands), 1))


class DeadlineTests(LaneTestCase):
    """Time to send, time to stay."""

    def wait(self, seconds: float) -> None:
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * int(seconds / SWEEP_SECONDS)))

    def test_slow_headers(self) -> None:
        """Headers must arrive in time, counted from their first byte, however often another one comes (B70)."""
        data = b"GET /get?key=a HTTP/1.1\r\nA: bcdefghijklmn"
        received = b""
        for i in range(12):
            received += self.send(data[i : i + 1])
            self.wait(1)
        received += self.received()
        (answer,) = parse_responses(received)
        self.assert_refused(answer, 408, "timeout", "limits.headerTimeout", "10 seconds")
        self.assertEqual(answer.error["outcome"], "not_applied")
        self.wait(3)
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))

    def test_slow_body(self) -> None:
        """A body must arrive in time (B70)."""
        self.send(request("PUT", "/v1/kv/a", "Content-Length: 100"))
        received = b""
        for _ in range(32):
            received += self.send(b"x")
            self.wait(1)
        (answer,) = parse_responses(received + self.received())
        self.assert_refused(answer, 408, "timeout", "limits.bodyTimeout", "30 seconds")
        self.each(lambda lane: self.assertEqual(lane.key_value.commands, []))

    def test_idle_connection(self) -> None:
        """A connection without a request is closed after a while, without a word."""
        self.send(GET)
        self.wait(70)
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))
        self.wait(7)
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))
        self.assertEqual(self.received(), b"")

    def test_connection_that_does_not_end(self) -> None:
        """A connection that was closed and stays is dropped."""
        self.wait(77)
        self.each(lambda lane: self.assertFalse(lane.transport.aborted))
        self.wait(77)
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))

    def test_no_deadline_while_a_request_is_served(self) -> None:
        """However long an answer takes, it is not the connection that gives up."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(GET + b"GET")
        self.wait(500)
        self.each(lambda lane: lane.key_value.let_through())
        self.assertIn(b"404", self.received())
        self.wait(5)
        self.each(lambda lane: self.assertFalse(lane.transport.disconnecting))

    def test_timers_end_with_the_connections(self) -> None:
        """Without a connection there is no timer."""
        self.each(lambda lane: self.assertEqual(len(lane.clock.getDelayedCalls()), 1))
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(lane.clock.getDelayedCalls(), []))


class ConnectionLimitTests(LaneTestCase):
    """How many connections there may be."""

    def test_too_many(self) -> None:
        """One too many is told so and closed; there is room again once another has gone (B70)."""
        self.configure(max_connections=2)
        kept = [lane.connection for lane in self.lanes]
        self.each(Lane.connect)
        self.assertIn(b"404", self.send(GET))
        self.each(Lane.connect)
        (answer,) = parse_responses(self.received())
        self.assert_refused(answer, 429, "overloaded", "limits.maxConnections", "2")
        self.assertEqual(answer.headers[b"Retry-After"], b"1")
        self.assertEqual(self.send(GET), b"")
        self.each(Lane.hang_up)
        for lane, connection in zip(self.lanes, kept, strict=True):
            lane.connection = connection
            lane.hang_up()
        self.each(Lane.connect)
        self.assertIn(b"404", self.send(GET))

    def test_far_too_many(self) -> None:
        """Past a second bound connections are dropped without a word."""
        self.configure(max_connections=1)
        for _ in range(MAX_REFUSED_CONNECTIONS):
            self.each(Lane.connect)
            self.each(lambda lane: self.assertFalse(lane.transport.aborted))
        self.each(Lane.connect)
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))

    def test_host_is_checked(self) -> None:
        """The usual Host passes."""
        self.assertIn(b"404", self.send(b"GET /get?key=a HTTP/1.1\r\n" + HOST + b"\r\n"))
