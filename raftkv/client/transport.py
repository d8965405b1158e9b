"""One HTTP exchange over treq: a pool of connections, a body that is sent in one piece, an answer that is bounded.

Knows nothing of retries, keys or leaders. Whatever goes wrong becomes :class:`ExchangeFailed`, which tells whether a
server may have seen the request.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, cast

from treq.client import HTTPClient
from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import (
    ConnectError,
    ConnectingCancelledError,
    DNSLookupError,
)
from twisted.internet.interfaces import IConsumer, IPushProducer
from twisted.internet.protocol import Protocol as TwistedProtocol
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure
from twisted.web._newclient import RequestNotSent  # the only place that has it
from twisted.web.client import Agent, HTTPConnectionPool, ResponseDone, _HTTP11ClientFactory
from twisted.web.http import PotentialDataLoss
from twisted.web.iweb import IBodyProducer, IResponse
from zope.interface import implementer

from raftkv.client.answers import Answer
from raftkv.client.runtime import ExchangeFailed
from raftkv.client.sockets import keep_watch

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  # many times the largest value in JSON's longest spelling
_HELD_BYTES: Final = 256 * 1024  # of a stream, before its connection is asked to wait
_IDLE_SECONDS: Final = 60  # how long a connection is kept for the next call

# Only these say that no connection was there to carry the request. A bare CancelledError does not: who cancels an
# exchange cannot tell how far it had come.
_NEVER_SENT: Final = (ConnectError, ConnectingCancelledError, DNSLookupError, RequestNotSent)


class Requester(Protocol):
    """What is used of a treq client; ``treq.client.HTTPClient`` and ``treq.testing.StubTreq`` have it."""

    def request(self, method: str, url: str, **options: Any) -> Deferred[Any]:
        """Send a request; fires with a response once its headers are there."""


class HTTPTransport:
    """Carries requests to whatever address they name.

    :param requester: a treq client to use; ``None``: one of our own over a pool of persistent connections.
    :param max_connections: how many idle connections to one host are kept.
    :param connect_timeout_seconds: how long a host may take to accept a connection.
    """

    def __init__(
        self,
        reactor: Any,
        *,
        requester: Requester | None,
        max_connections: int,
        connect_timeout_seconds: float,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._reactor = reactor
        self._max_answer_bytes = max_answer_bytes
        self.pool: HTTPConnectionPool | None = None
        if requester is None:
            self.pool = make_pool(reactor, max_connections=max_connections)
            agent = Agent(reactor, connectTimeout=connect_timeout_seconds, pool=self.pool)
            requester = cast(Requester, HTTPClient(agent, data_to_body_producer=_OnePieceProducer))
        self._requester = requester

    def exchange(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Deferred[Answer]:
        """Send a request and collect the answer.

        Cancelling closes the connection that carries it, if there is one by then.

        :return: fires with the answer, or fails with :class:`ExchangeFailed`.
        """
        return self._request(method, url, headers, body).addCallback(self._collect).addErrback(_explain)

    def open(self, method: str, url: str, headers: Mapping[str, str]) -> Deferred[BodyStream]:
        """Send a request and wait for the head of its answer only.

        :return: fires with the stream of the body, or fails with :class:`ExchangeFailed`.
        """
        return self._request(method, url, headers, None).addCallback(BodyStream).addErrback(_explain)

    def close(self) -> Deferred[None]:
        """Close the idle connections; fires once they are gone."""
        return succeed(None) if self.pool is None else self.pool.closeCachedConnections()

    def _request(self, method: str, url: str, headers: Mapping[str, str], body: bytes | None) -> Deferred[Any]:
        try:
            return self._requester.request(
                method,
                url,
                headers={name: [value] for name, value in headers.items()},
                data=body,
                allow_redirects=False,  # a redirected write would be sent twice without our knowing
                unbuffered=True,
                reactor=self._reactor,
            )
        except Exception:
            return fail(Failure())

    def _collect(self, response: IResponse) -> Deferred[Answer]:
        collector = _Collector(response, self._max_answer_bytes)
        response.deliverBody(collector)
        return collector.done


def make_pool(reactor: Any, *, max_connections: int) -> HTTPConnectionPool:
    """Make a pool that keeps as many connections as a client may have calls, and leaves retrying to us."""
    pool = HTTPConnectionPool(reactor, persistent=True)
    pool.maxPersistentPerHost = max_connections
    pool.cachedConnectionTimeout = _IDLE_SECONDS
    # It would send a request again behind our back, where we could neither count nor honestly report it.
    pool.retryAutomatically = False
    pool._factory = _QuietFactory
    return pool


class _QuietFactory(_HTTP11ClientFactory):
    """Twisted logs each connection that opens and closes; a client is a guest in its user's log."""

    noisy = False

    def buildProtocol(self, addr: Any) -> Any:
        protocol = super().buildProtocol(addr)
        protocol.connectionMade = lambda: _keep_watch(protocol.transport)  # type: ignore[method-assign]  # no hook
        return protocol


def _keep_watch(transport: Any) -> None:
    if hasattr(transport, "getHandle"):
        keep_watch(transport.getHandle())


@implementer(IBodyProducer)
class _OnePieceProducer:
    """A body that is written at once: treq's own goes through a cooperator, which costs turns of the reactor."""

    def __init__(self, body: bytes) -> None:
        self._body = body
        self.length = len(body)

    def startProducing(self, consumer: IConsumer) -> Deferred[None]:
        consumer.write(self._body)
        return succeed(None)

    def pauseProducing(self) -> None:
        """Nothing is left to pause."""

    def resumeProducing(self) -> None:
        """Nothing is left to resume."""

    def stopProducing(self) -> None:
        """Nothing is left to stop."""


class _Collector(TwistedProtocol):
    """Gathers a body up to a limit.

    treq's ``content`` can be neither bounded nor cancelled; this can.
    """

    def __init__(self, response: IResponse, max_bytes: int) -> None:
        self.done: Deferred[Answer] = Deferred(self._cancelled)
        self._response = response
        self._left_bytes = max_bytes
        self._parts: list[bytes] = []
        self._finished = False

    def dataReceived(self, data: bytes) -> None:
        self._left_bytes -= len(data)
        if self._left_bytes >= 0:
            self._parts.append(data)
        elif not self._finished:
            self._hang_up()
            self.done.errback(ExchangeFailed("the answer is too large", maybe_received=True))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        if self._finished:
            return
        self._finished = True
        if reason.check(ResponseDone, PotentialDataLoss):
            self.done.callback(_answer_of(self._response, b"".join(self._parts)))
        else:
            self.done.errback(reason)

    def _cancelled(self, _: Deferred[Answer]) -> None:
        self._hang_up()

    def _hang_up(self) -> None:
        self._finished = True
        self._parts.clear()
        if self.transport is not None:
            self.transport.loseConnection()


class BodyStream(TwistedProtocol):
    """A body that comes in pieces, of which no more is taken from the network than fits into a small buffer.

    :ivar status: of the answer; likewise ``headers``.
    """

    def __init__(self, response: IResponse) -> None:
        self.status: int = response.code
        self.headers = _headers_of(response)
        self._pieces: list[bytes] = []
        self._held_bytes = 0
        self._is_paused = False
        self._reason: Failure | None = None  # why nothing more comes
        self._reading: Deferred[bytes] | None = None
        response.deliverBody(self)

    def read(self) -> Deferred[bytes]:
        """Wait for the next piece; one at a time.

        :return: fires with it, empty at the end, or fails with :class:`ExchangeFailed`.
        """
        if self._pieces:
            pieces = b"".join(self._pieces)
            self._pieces.clear()
            self._held_bytes = 0
            if self._is_paused and self.transport is not None:
                self._is_paused = False
                cast(IPushProducer, self.transport).resumeProducing()
            return succeed(pieces)
        reading: Deferred[bytes] = Deferred(self._cancelled)
        self._reading = reading
        self._tell_end()
        return reading

    def close(self) -> None:
        """Cut the connection."""
        if self._reason is None and self.transport is not None:
            self.transport.loseConnection()

    def dataReceived(self, data: bytes) -> None:
        reading, self._reading = self._reading, None
        if reading is not None:
            reading.callback(data)
            return
        self._pieces.append(data)
        self._held_bytes += len(data)
        if self._held_bytes >= _HELD_BYTES and not self._is_paused and self.transport is not None:
            self._is_paused = True
            cast(IPushProducer, self.transport).pauseProducing()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        self._reason = reason
        self._tell_end()

    def _tell_end(self) -> None:
        if self._reason is None or self._reading is None:
            return
        reading, self._reading = self._reading, None
        if self._reason.check(ResponseDone, PotentialDataLoss):
            reading.callback(b"")
        else:
            reading.errback(_explain(self._reason))

    def _cancelled(self, _: Deferred[bytes]) -> None:
        self._reading = None


def _answer_of(response: IResponse, body: bytes) -> Answer:
    return Answer(status=response.code, headers=_headers_of(response), body=body)


def _headers_of(response: IResponse) -> dict[str, str]:
    return {
        name.decode("ascii", "replace").lower(): values[-1].decode("utf-8", "replace")
        for name, values in response.headers.getAllRawHeaders()
    }


def _explain(failure: Failure) -> Failure:
    if failure.check(ExchangeFailed):
        return failure
    return Failure(ExchangeFailed(_reason_of(failure.value), maybe_received=not failure.check(*_NEVER_SENT)))


def _reason_of(error: BaseException | None) -> str:
    """Name what went wrong; Twisted wraps the reasons of a failed exchange in a list of failures."""
    inner = getattr(error, "reasons", None)
    if inner:
        return "; ".join(_reason_of(reason.value) for reason in inner)
    if isinstance(error, ConnectingCancelledError):  # whose own words are the address, as Python writes it
        return "no connection in time"
    return str(error) or type(error).__name__
