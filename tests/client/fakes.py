"""Stand-ins for what a client meets: a treq client whose answers the test gives by hand, and a cluster in a dict."""

from __future__ import annotations

import json
from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure
from twisted.web.client import ResponseDone
from twisted.web.http_headers import Headers
from twisted.web.iweb import UNKNOWN_LENGTH, IResponse
from zope.interface import implementer

A = "http://a:8080"
B = "http://b:8080"
C = "http://c:8080"


class FixedRandom:
    """A ``random.Random`` that always draws the same number, so that back-offs are known."""

    def __init__(self, drawn: float = 1.0) -> None:
        self._drawn = drawn

    def random(self) -> float:
        return self._drawn


class FakeTransport:
    """The transport of a body."""

    def __init__(self) -> None:
        self.lost = False
        self.paused = False

    def loseConnection(self) -> None:
        self.lost = True

    def pauseProducing(self) -> None:
        self.paused = True

    def resumeProducing(self) -> None:
        self.paused = False


@implementer(IResponse)
class FakeResponse:
    """A response whose body comes at once, or piece by piece from the test."""

    length = UNKNOWN_LENGTH

    def __init__(self, code: int, headers: Mapping[str, str], body: bytes | None) -> None:
        self.code = code
        self.headers = Headers({name: [value] for name, value in headers.items()})
        self.transport = FakeTransport()
        self.protocol: Protocol | None = None
        self._body = body

    def deliverBody(self, protocol: Protocol) -> None:
        self.protocol = protocol
        protocol.makeConnection(self.transport)
        if self._body is not None:
            protocol.dataReceived(self._body)
            self.finish(ResponseDone())

    def finish(self, reason: Exception) -> None:
        """End the body."""
        assert self.protocol is not None
        self.protocol.connectionLost(Failure(reason))


@dataclass
class Sent:
    """A request that the client made, waiting for the test's answer."""

    method: str
    url: str
    headers: dict[str, str]
    body: bytes | None
    options: dict[str, Any]
    responding: Deferred[Any] = field(default_factory=Deferred)
    cancelled: bool = False

    @property
    def sequence(self) -> tuple[str | None, str | None]:
        return self.headers.get("X-Client-Id"), self.headers.get("X-Request-Seq")

    def answer(self, status: int, body: object, **headers: str) -> FakeResponse:
        """Answer; header names with underscores for dashes."""
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        response = FakeResponse(status, {name.replace("_", "-"): value for name, value in headers.items()}, content)
        self.responding.callback(response)
        return response

    def begin_answer(self, status: int) -> FakeResponse:
        """Send the headers only."""
        response = FakeResponse(status, {}, None)
        self.responding.callback(response)
        return response

    def refuse(self, status: int, code: str, outcome: str = "not_applied", **headers: str) -> None:
        self.answer(status, {"error": {"code": code, "message": "so it is", "outcome": outcome}}, **headers)

    def fail(self, error: Exception) -> None:
        self.responding.errback(Failure(error))


class FakeTreq:
    """A treq client that only records."""

    def __init__(self) -> None:
        self.sent: list[Sent] = []

    def request(self, method: str, url: str, *, headers: Any, data: bytes | None, **options: Any) -> Deferred[Any]:
        sent = Sent(method, url, {name: values[0] for name, values in headers.items()}, data, options)

        def cancelled(_: Deferred[Any]) -> None:
            sent.cancelled = True

        sent.responding = Deferred(cancelled)
        self.sent.append(sent)
        return sent.responding

    @property
    def last(self) -> Sent:
        return self.sent[-1]

    @property
    def urls(self) -> list[str]:
        return [sent.url for sent in self.sent]
