"""Both lanes side by side: what a test sends goes to each, and the bytes that come back must be the same."""

from __future__ import annotations

import json
from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Any

from twisted.internet.task import Clock
from twisted.internet.testing import StringTransport
from twisted.trial.unittest import SynchronousTestCase

from raftkv.web.app import Api
from raftkv.web.connection import HttpConnection
from raftkv.web.settings import WebSettings
from raftkv.web.site import ApiSite
from tests.web.fakes import FakeKeyValue, FakeNode
from tests.web.fakesnapshots import FakeBackups

WALL_SECONDS = 1_700_000_000.0
HOST = b"Host: localhost:8080\r\n"
GET_STATUS = b"GET /v1/status HTTP/1.1\r\nHost: x\r\n\r\n"


@dataclass(frozen=True, kw_only=True)
class Response:
    """One answer, taken apart."""

    status: int
    reason: bytes
    headers: dict[bytes, bytes]
    body: bytes

    def json(self) -> Any:
        return json.loads(self.body)

    @property
    def error(self) -> dict[str, Any]:
        error: dict[str, Any] = self.json()["error"]
        return error


def parse_responses(data: bytes, methods: list[bytes] | None = None) -> list[Response]:
    """Take apart what a connection has sent.

    :param methods: those of the requests, where there is a HEAD among them.
    """
    responses = []
    while data:
        head, separator, data = data.partition(b"\r\n\r\n")
        if not separator:
            raise AssertionError(f"half a head: {head!r}")
        status_line, *lines = head.split(b"\r\n")
        version, status, reason = status_line.split(b" ", 2)
        if version != b"HTTP/1.1":
            raise AssertionError(f"not HTTP/1.1: {status_line!r}")
        headers = dict(line.split(b": ", 1) for line in lines)
        if len(headers) != len(lines):
            raise AssertionError(f"a header came twice: {lines!r}")
        has_body = not (methods and len(methods) > len(responses) and methods[len(responses)] == b"HEAD")
        length = int(headers.get(b"Content-Length", b"0")) if has_body else 0
        if length and headers[b"Content-Type"] == b"application/json" and data[:length].count(b"\n") != 1:
            raise AssertionError(f"not one line that ends: {data[:length]!r}")
        responses.append(Response(status=int(status), reason=reason, headers=headers, body=data[:length]))
        data = data[length:]
    return responses


class Transport(StringTransport):
    """A connection in memory that tells how it ended.

    :ivar writes: what each ``write`` was given.
    :ivar bufferSize: how much it takes before its producer has to pause, as Twisted's transports call it; a test
        resumes it.
    """

    def __init__(self, room_bytes: int = 2**62) -> None:
        super().__init__()
        self.writes: list[bytes] = []
        self.bufferSize = room_bytes
        self.aborted = False

    def write(self, data: bytes) -> None:
        self.writes.append(data)
        super().write(data)
        if len(self.value()) > self.bufferSize and self.producer is not None:
            self.producer.pauseProducing()

    def abortConnection(self) -> None:
        self.aborted = True
        self.disconnecting = True


class Lane:
    """One node's HTTP server, with one connection at a time open to it."""

    def __init__(self, *, has_fast_lane: bool, settings: WebSettings) -> None:
        self.clock = Clock()
        self.key_value = FakeKeyValue()
        self.node = FakeNode()
        self.backups = FakeBackups()
        self.api = Api(
            key_value=self.key_value,
            node=self.node,
            settings=settings,
            clock=self.clock,
            wall_seconds=lambda: WALL_SECONDS,
            backups=self.backups,
        )
        self.site = ApiSite(reactor=self.clock, api=self.api, has_fast_lane=has_fast_lane)
        self.connect()

    def connect(self, room_bytes: int = 2**62) -> None:
        """Open another connection."""
        self.transport = Transport(room_bytes)
        self.connection: HttpConnection = self.site.buildProtocol(None)
        self.connection.makeConnection(self.transport)

    def received(self) -> bytes:
        """Return, once, what the client has got."""
        data = self.transport.value()
        self.transport.clear()
        return data

    def hang_up(self) -> None:
        """Have the client close the connection."""
        from twisted.internet.error import ConnectionDone
        from twisted.python.failure import Failure

        self.connection.connectionLost(Failure(ConnectionDone()))


class LaneTestCase(SynchronousTestCase):
    """A test that talks to the fast lane and to Klein alone, and demands the same bytes of both."""

    settings = WebSettings()

    def setUp(self) -> None:
        self.lanes = [Lane(has_fast_lane=has_fast_lane, settings=self.settings) for has_fast_lane in (True, False)]
        self.fast, self.klein = self.lanes
        self.addCleanup(self.check_that_nothing_is_left)

    def check_that_nothing_is_left(self) -> None:
        """No timer may outlive the connections."""
        for lane in self.lanes:
            for connection in [*lane.site._connections]:
                lane.connection = connection
                lane.hang_up()
            self.assertEqual(lane.clock.getDelayedCalls(), [])
            self.assertEqual(lane.site._held_bytes, 0)

    def each(self, act: Callable[[Lane], object]) -> None:
        """Do something to both."""
        for lane in self.lanes:
            act(lane)

    def configure(self, **settings: Any) -> None:
        """Start anew with other settings."""
        self.check_that_nothing_is_left()
        self.lanes = [
            Lane(has_fast_lane=has_fast_lane, settings=replace(self.settings, **settings))
            for has_fast_lane in (True, False)
        ]
        self.fast, self.klein = self.lanes

    def received(self) -> bytes:
        """Return what has come back, the same on both."""
        fast, klein = (lane.received() for lane in self.lanes)
        self.assertEqual(fast, klein)
        return fast

    def send(self, data: bytes) -> bytes:
        """Send bytes on the open connections and return what comes back without any time going by."""
        self.each(lambda lane: lane.connection.dataReceived(data))
        self.each(lambda lane: lane.clock.advance(0))
        return self.received()

    def ask(
        self, method: str, target: str | bytes, *headers: str, body: bytes | None = None, host: bytes = HOST
    ) -> Response:
        """Send one request on new connections and return its answer."""
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        (response,) = parse_responses(
            self.send(request(method, target, *headers, body=body, host=host)), [method.encode()]
        )
        return response

    def ask_json(self, method: str, target: str | bytes, *headers: str, body: bytes | None = None) -> Any:
        """Return the document of an answer that must be 200."""
        response = self.ask(method, target, *headers, body=body)
        self.assertEqual((response.status, response.body[:0]), (200, b""), response.body)
        return response.json()

    def assert_refused(self, response: Response, status: int, code: str, *words: str) -> None:
        """Check an error: its status, its code, and that the message has these words."""
        self.assertEqual((response.status, response.error["code"]), (status, code), response.body)
        for word in words:
            self.assertIn(word, response.error["message"])


def request(method: str, target: str | bytes, *headers: str, body: bytes | None = None, host: bytes = HOST) -> bytes:
    """Make the bytes of a request."""
    raw_target = target.encode("ascii") if isinstance(target, str) else target
    lines = [method.encode("ascii") + b" " + raw_target + b" HTTP/1.1\r\n", host]
    lines += [header.encode("latin-1") + b"\r\n" for header in headers]
    if body is not None:
        lines.append(b"Content-Length: %d\r\n" % len(body))
    return b"".join([*lines, b"\r\n", body or b""])
