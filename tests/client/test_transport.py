"""``KVClient`` over its own treq and pool, down to the bytes, on a reactor in memory."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.testing import MemoryReactorClock, StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from raftkv import errors
from raftkv.client import KVClient, Written
from raftkv.client.transport import ExchangeFailed, HTTPTransport, make_pool


class Wire(StringTransport):
    """A connection to a server that the test plays; like a real one it ends a turn after it is told to."""

    def __init__(self, reactor: MemoryReactorClock) -> None:
        super().__init__()
        self.connected = True
        self._reactor = reactor

    def loseConnection(self) -> None:
        self._reactor.callLater(0, self.drop, ConnectionDone())

    def abortConnection(self) -> None:
        self._reactor.callLater(0, self.drop, ConnectionLost())

    def drop(self, reason: Exception) -> None:
        if self.connected:
            self.connected = False
            self.protocol.connectionLost(Failure(reason))


class WireTestCase(SynchronousTestCase):
    """A client of one address, and the connections that it asks for."""

    def setUp(self) -> None:
        self.reactor = MemoryReactorClock()
        self.client = KVClient("http://127.0.0.1:8080/", reactor=self.reactor, entropy=bytes)
        self.addCleanup(self.check_quiet)

    def check_quiet(self) -> None:
        self.close()
        self.assertEqual(self.reactor.getDelayedCalls(), [])

    def close(self) -> None:
        closing = self.client.close()
        self.reactor.advance(0)
        self.successResultOf(closing)

    def accept(self) -> Wire:
        """Let the newest attempt to connect succeed."""
        factory = self.reactor.tcpClients[-1][2]
        wire = Wire(self.reactor)
        wire.protocol = factory.buildProtocol(None)
        wire.protocol.makeConnection(wire)
        return wire

    def refuse(self) -> None:
        """Let the newest attempt to connect fail."""
        connector = self.reactor.connectors[-1]
        self.reactor.tcpClients[-1][2].clientConnectionFailed(connector, Failure(ConnectError()))

    def begin_set(self) -> tuple[Deferred[Written], Wire]:
        call = self.client.set("k", "v")
        return call, self.accept()


def answer(body: bytes, status: bytes = b"200 OK") -> bytes:
    """The bytes of a whole answer."""
    return b"HTTP/1.1 %s\r\nContent-Type: application/json\r\nContent-Length: %d\r\n\r\n%s" % (status, len(body), body)


class BytesTests(WireTestCase):
    """What is written, and how connections are used."""

    def test_request(self) -> None:
        """A set is one PUT with its body and the exactly-once headers."""
        call, wire = self.begin_set()
        head, _, body = wire.value().partition(b"\r\n\r\n")
        lines = head.split(b"\r\n")
        self.assertEqual((lines[0], body), (b"PUT /v1/kv/k HTTP/1.1", b"v"))
        for line in (b"X-Client-Id: " + b"00" * 16, b"X-Request-Seq: 1", b"Content-Length: 1"):
            self.assertIn(line.lower(), head.lower().split(b"\r\n"))
        wire.protocol.dataReceived(answer(b'{"key":"k","revision":4}'))
        self.assertEqual(self.successResultOf(call), Written(revision=4))

    def test_empty_value(self) -> None:
        """An empty value is a body of no bytes, not a missing one."""
        call = self.client.set("k", "")
        wire = self.accept()
        self.assertIn(b"content-length: 0\r\n", wire.value().lower())
        wire.protocol.dataReceived(answer(b'{"key":"k","revision":4}'))
        self.successResultOf(call)

    def test_keys_in_paths(self) -> None:
        """Any key survives the way into a path: slashes, dots, escapes, and what is not ASCII."""
        for key, path in (
            ("a/b", b"a%2Fb"),
            ("..", b"%2E%2E"),
            ("a%2Fb", b"a%252Fb"),
            ("ä b?#", b"%C3%A4%20b%3F%23"),
            ("a//b/", b"a%2F%2Fb%2F"),
            ("\n", b"%0A"),
        ):
            call = self.client.get(key)
            wire = self.accept()
            self.assertEqual(wire.value().split(b" ")[1], b"/v1/kv/" + path)
            call.addErrback(lambda _: None)
            call.cancel()

    def test_persistent(self) -> None:
        """The next call uses the same connection."""
        call, wire = self.begin_set()
        wire.protocol.dataReceived(answer(b'{"key":"k","revision":4}'))
        self.successResultOf(call)
        wire.clear()
        call = self.client.set("k", "v")
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.assertTrue(wire.value().startswith(b"PUT"))
        wire.protocol.dataReceived(answer(b'{"key":"k","revision":5}'))
        self.successResultOf(call)

    def test_only_we_retry(self) -> None:
        """B63: a get over a kept connection that breaks is not sent again by Twisted's pool but by the client."""
        call, wire = self.begin_set()
        wire.protocol.dataReceived(answer(b'{"key":"k","revision":4}'))
        self.successResultOf(call)
        read = self.client.get("k")
        wire.drop(ConnectionLost())
        self.assertEqual(len(self.reactor.tcpClients), 1)
        self.reactor.advance(0.06)
        self.assertEqual(len(self.reactor.tcpClients), 2)
        self.accept().protocol.dataReceived(
            answer(b'{"key":"k","value":"v","create_revision":4,"mod_revision":4,"version":1}')
        )
        self.assertEqual(self.successResultOf(read), "v")

    def test_pool(self) -> None:
        """The pool keeps connections for all calls that may be on their way, and never retries by itself."""
        pool = make_pool(self.reactor, max_connections=77)
        self.assertEqual(
            (pool.persistent, pool.retryAutomatically, pool.maxPersistentPerHost, pool._factory.noisy),
            (True, False, 77, False),
        )

    def test_connect_timeout(self) -> None:
        """A node that does not accept within the connect time-out is passed over; nothing was applied."""
        call = self.client.set("k", "v")
        self.assertEqual(self.reactor.tcpClients[-1][3], 1.0)
        while not call.called:
            self.refuse()
            self.reactor.advance(0.5)
        self.assertEqual(self.failureResultOf(call, errors.RequestTimeout).value.outcome, "not_applied")

    def test_attempt_times_out_while_connecting(self) -> None:
        """An attempt that ends before there is a connection leaves no doubt: not applied."""
        call = self.client.set("k", "v")
        self.reactor.pump([0.5] * 21)
        self.assertEqual(self.failureResultOf(call, errors.RequestTimeout).value.outcome, "not_applied")

    def test_attempt_times_out_after_sending(self) -> None:
        """An attempt that gets no answer is cut off, and the outcome is unknown."""
        call, wire = self.begin_set()
        self.reactor.pump([0.5] * 7)
        self.assertFalse(wire.connected)
        self.reactor.pump([0.5] * 14)
        self.assertEqual(self.failureResultOf(call, errors.RequestTimeout).value.outcome, "unknown")

    def test_cancel(self) -> None:
        """Cancelling cuts the connection, before the answer has begun or in the middle of it."""
        for received in (b"", answer(b'{"key":"k","revision":4}')[:-3]):
            call, wire = self.begin_set()
            wire.protocol.dataReceived(received)
            call.cancel()
            self.failureResultOf(call, CancelledError)
            self.reactor.advance(0)
            self.assertFalse(wire.connected)

    def test_close_with_kept_connection(self) -> None:
        """Closing the client closes the connections that wait for another call."""
        call, wire = self.begin_set()
        wire.protocol.dataReceived(answer(b'{"key":"k","revision":4}'))
        self.successResultOf(call)
        self.close()
        self.assertFalse(wire.connected)

    def test_garbage(self) -> None:
        """What is no HTTP ends the attempt; the write may have been received."""
        call, wire = self.begin_set()
        wire.protocol.dataReceived(b"\x83\xa5hello\n\n")
        wire.drop(ConnectionLost())
        while not call.called:
            self.refuse() if len(self.reactor.tcpClients) > 1 else None
            self.reactor.advance(0.5)
        self.assertEqual(self.failureResultOf(call, errors.RequestTimeout).value.outcome, "unknown")


class ReasonTests(WireTestCase):
    """What is told of a failure."""

    def test_no_connection_in_time(self) -> None:
        """A connection that is given up because the time is over is told in words, and nothing was sent."""
        transport = HTTPTransport(self.reactor, requester=None, max_connections=1, connect_timeout_seconds=1.0)
        exchange: Deferred[Any] = transport.exchange("GET", "http://127.0.0.1:8080/", {}, None)
        exchange.cancel()
        failed = self.failureResultOf(exchange, ExchangeFailed).value
        self.assertEqual((str(failed), failed.maybe_received), ("no connection in time", False))


class LimitTests(WireTestCase):
    """What an answer may cost."""

    def test_too_large(self) -> None:
        """An answer beyond the limit is cut off, not gathered in memory."""
        transport = HTTPTransport(
            self.reactor, requester=None, max_connections=1, connect_timeout_seconds=1.0, max_answer_bytes=10
        )
        exchange: Deferred[Any] = transport.exchange("GET", "http://127.0.0.1:8080/", {}, None)
        wire = self.accept()
        wire.protocol.dataReceived(b"HTTP/1.1 200 OK\r\nContent-Length: 1000\r\n\r\n" + b"x" * 11)
        failed = self.failureResultOf(exchange, ExchangeFailed).value
        self.assertEqual((str(failed), failed.maybe_received), ("the answer is too large", True))
        self.reactor.advance(0)
        self.assertFalse(wire.connected)
        self.successResultOf(transport.close())
