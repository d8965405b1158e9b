"""Faults of our own, clients that go away, and the log; through both lanes."""

from __future__ import annotations

import json
from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred
from twisted.logger import Logger

from raftkv.errors import InvariantViolation, StorageError
from raftkv.web.connection import HttpConnection
from raftkv.web.exchange import JSON, Answer, Exchange
from tests.web.lanes import GET_STATUS, Lane, LaneTestCase, request

GET = b"GET /get?key=a HTTP/1.1\r\nHost: x\r\n\r\n"


def broken(error: BaseException) -> Callable[..., Any]:
    """Return a function that raises."""

    def fail(*arguments: object, **more: object) -> None:
        raise error

    return fail


class InternalErrorTests(LaneTestCase):
    """Faults of our own."""

    def test_store_that_raises(self) -> None:
        """A fault in the store is 500 without its details, which are in the log; the connection lives on."""
        for name in ("barrier", "get"):
            self.each(lambda lane, name=name: setattr(lane.key_value, name, broken(KeyError("our secret"))))
            refused = self.ask("GET", "/get?key=a")
            self.assert_refused(refused, 500, "internal")
            self.assertNotIn(b"secret", refused.body)
            self.assertEqual(refused.error["outcome"], "not_applied")
            self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.assertIn(b"200 OK", self.send(GET_STATUS))

    def test_write_that_raises(self) -> None:
        """A fault in a write leaves its outcome unknown."""
        self.each(lambda lane: setattr(lane.key_value, "write", broken(KeyError("x"))))
        self.assertEqual(self.ask("PUT", "/v1/kv/a", body=b"x").error["outcome"], "unknown")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)

    def test_strange_results(self) -> None:
        """A result of the wrong shape is a fault like any other."""
        self.each(lambda lane: setattr(lane.key_value, "results", []))
        self.assert_refused(self.ask("PUT", "/v1/kv/a", body=b"x"), 500, "internal")
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_node_that_raises(self) -> None:
        """A fault in the node is one request's matter too."""
        self.each(lambda lane: setattr(lane.node, "status", broken(KeyError("x"))))
        for path in ("/v1/status", "/metrics"):
            self.assert_refused(self.ask("GET", path), 500, "internal")
        for lane in self.lanes:
            lane.node.cluster_result = Deferred()
            lane.node.cluster_result.errback(KeyError("x"))
        self.assert_refused(self.ask("GET", "/v1/cluster"), 500, "internal")
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 6)

    def test_fault_outside_of_any_route(self) -> None:
        """A fault before a route is found is 500 in JSON as well, not Twisted's page with a traceback."""
        self.each(lambda lane: setattr(lane.api, "refuse", broken(KeyError("x"))))
        self.each(lambda lane: setattr(lane.site.resource, "render", broken(KeyError("secret"))))
        refused = self.ask("GET", "/nope")
        self.assert_refused(refused, 500, "internal")
        self.assertNotIn(b"secret", refused.body)
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 2)
        self.each(lambda lane: self.assertTrue(lane.transport.disconnecting))

    def test_what_stops_a_node_goes_on(self) -> None:
        """What stops a node is answered, logged, and not swallowed: whoever called us back sees it."""
        for error in (InvariantViolation("two leaders"), StorageError("fdatasync", "log", "EIO")):
            self.each(Lane.connect)
            self.each(lambda lane: setattr(lane.key_value, "holds", True))
            self.send(GET)
            for lane in self.lanes:
                lane.key_value.state = broken(error)  # type: ignore[method-assign]
                with self.assertRaises(type(error)):
                    lane.key_value.let_through()
            self.assertIn(b"500 Internal Server Error", self.received())
            self.assertEqual(len(self.flushLoggedErrors(type(error))), 2)

    def test_violation_seen_by_a_request(self) -> None:
        """A status that the state machine cannot have answered stops the node."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(request("PUT", "/v1/kv/a", body=b"x"))
        for lane in self.lanes:
            lane.key_value.results = [(99,)]
            with self.assertRaises(InvariantViolation):
                lane.key_value.let_through()
        self.assertIn(b"500 Internal Server Error", self.received())
        self.assertEqual(len(self.flushLoggedErrors(InvariantViolation)), 2)


class DisconnectTests(LaneTestCase):
    """Clients that go away before their answer."""

    def test_answer_that_nobody_waits_for(self) -> None:
        """A client that goes away breaks nothing: its write happens, its answer goes nowhere."""
        for data in (request("PUT", "/v1/kv/a", body=b"x"), GET, request("DELETE", "/delete?key=a")):
            self.each(Lane.connect)
            self.each(lambda lane: setattr(lane.key_value, "holds", True))
            self.send(data + GET)
            self.each(Lane.hang_up)
            self.each(lambda lane: lane.key_value.let_through())
            self.assertEqual(self.received(), b"")
        self.assertEqual(len(self.fast.key_value.commands), 2)

    def test_slow_lane(self) -> None:
        """The same holds for what only Klein serves."""
        results = []
        for lane in self.lanes:
            lane.node.cluster_result = Deferred()
            results.append(lane.node.cluster_result)
        self.send(b"GET /v1/cluster HTTP/1.1\r\nHost: x\r\n\r\n")
        self.each(Lane.hang_up)
        for result in results:
            result.callback({"late": True})
        self.assertEqual(self.received(), b"")
        self.assertEqual(self.flushLoggedErrors(), [])

    def test_half_a_request(self) -> None:
        """A client may go away at any byte of its request."""
        data = request("PUT", "/v1/kv/a", "Transfer-Encoding: chunked") + b"1\r\nx\r\n0\r\n\r\n"
        for length in range(len(data)):
            self.each(Lane.connect)
            self.send(data[:length])
            self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(lane.key_value.commands, []))


class ExchangeTests(LaneTestCase):
    """One request, one answer."""

    def test_only_the_first_answer_counts(self) -> None:
        """A second answer is dropped and logged: the client would take it for that to its next request."""
        sent: list[Answer] = []
        events: list[Any] = []
        self.patch(Exchange, "_log", Logger(observer=events.append))
        exchange = Exchange(b"GET", b"/", b"", {}, b"", 0.0, sent.append)
        first = Answer(200, JSON, b"1")
        exchange.answer(first)
        exchange.answer(Answer(200, JSON, b"2"))
        self.assertEqual(sent, [first])
        self.assertEqual([event["log_level"].name for event in events], ["error"])
        self.assertTrue(exchange.is_answered)


class AccessLogTests(LaneTestCase):
    """``httpAccessLog``."""

    def test_off_and_on(self) -> None:
        """Requests are logged where that is asked for, the same on both lanes, and never their headers (B71)."""
        for is_on in (False, True):
            self.configure(access_log=is_on)
            logged: list[list[Any]] = []
            for lane in self.lanes:
                events: list[Any] = []
                self.patch(HttpConnection, "_log", Logger(observer=events.append))
                lane.connection.dataReceived(
                    b"GET /get?key=a HTTP/1.1\r\nHost: x\r\nAuthorization: secret\r\n\r\n" + GET_STATUS + b"bad\r\n\r\n"
                )
                logged.append([event["log_format"].format(**event) for event in events])
            self.assertEqual(logged[0], logged[1])
            self.received()
            if not is_on:
                self.assertEqual(logged[0], [])
        first, second, third = logged[0]
        self.assertIn("GET /get?key=a 404", first)
        self.assertIn("GET /v1/status 200", second)
        self.assertIn(" 400 ", third)
        self.assertNotIn("secret", json.dumps(logged))

    def test_one_line_for_each_request(self) -> None:
        """What a client asks for neither ends a line of the log nor steers the terminal that shows it."""
        self.configure(access_log=True)
        events: list[Any] = []
        self.patch(HttpConnection, "_log", Logger(observer=events.append))
        for character in ("\x85", "\u2028", "\x9b", "é"):
            self.ask("GET", f"/v1/kv/{character}".encode())
        for event in events:
            self.assertRegex(event["log_format"].format(**event), r"\A[ -~]+\Z")
