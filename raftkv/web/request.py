"""The slow lane: a request of ``twisted.web`` on one of our connections, for whatever has no fast lane."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from io import BytesIO
from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers as TwistedHeaders
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from zope.interface import implementer

from raftkv.web.errors import internal_error
from raftkv.web.exchange import READING_METHODS
from raftkv.web.heads import BODILESS

if TYPE_CHECKING:
    from raftkv.web.connection import HttpConnection


@implementer(IRequest)
class ApiRequest(Request):
    """A request that arrives whole, and is served by one resource without traversal.

    Nothing here parses forms, cookies or content types: no route needs them, and Twisted does the last with the
    ``email`` package. No body goes to a temporary file: the connection has bounded it.
    """

    defaultContentType = None

    def __init__(self, channel: RequestChannel) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        # The base class drops its own reference in two different ways when it is done.
        self._channel = channel

    def receive(self, method: bytes, target: bytes, minor: bytes, headers: Mapping[bytes, bytes], body: bytes) -> None:
        """Take the whole request; :meth:`render_with` serves it."""
        self.method = method
        self.uri = target
        self.path = target.partition(b"?")[0]
        self.clientproto = b"HTTP/1." + minor
        self.args = {}
        for name, value in headers.items():
            self.requestHeaders.setRawHeaders(name, [value])
        self.content = BytesIO(body)

    def render_with(self, resource: IResource) -> None:
        """Serve it."""
        try:
            self.render(resource)
        except Exception:
            self.processingFailed(Failure())

    def getRequestHostname(self) -> bytes:
        """Return a name that means nothing: routes do not depend on it, and Klein fails on some that clients send."""
        return b"localhost"

    def processingFailed(self, reason: Failure) -> Failure:
        """Tell a fault of ours in JSON, without the traceback that Twisted would show."""
        self._log.failure("{path} failed", reason, path=self.path)
        self._channel.fail()
        return reason


class RequestChannel:
    """What a ``twisted.web`` request needs of its connection, as HTTP/2 streams offer it too.

    :ivar transport: that of the connection, where the request looks for it.
    :ivar request: the one request that it is made for.
    """

    def __init__(self, connection: HttpConnection) -> None:
        self._connection = connection
        self.transport: Any = connection.transport
        self._producer: IPushProducer | None = None
        self._is_over = False
        self.request = ApiRequest(self)

    # -- from the connection ------------------------------------------------------------------------------------------

    def pause(self) -> None:
        """The client does not read."""
        if self._producer is not None:
            self._producer.pauseProducing()

    def resume(self) -> None:
        """The client reads again."""
        if self._producer is not None:
            self._producer.resumeProducing()

    def connection_lost(self, reason: Failure) -> None:
        """The client has gone."""
        self._is_over = True
        self.request.connectionLost(reason)

    # -- from the request ---------------------------------------------------------------------------------------------

    def getPeer(self) -> IAddress:
        """Return the client's address."""
        peer: IAddress = self.transport.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """Return our own address."""
        host: IAddress = self.transport.getHost()
        return host

    def isSecure(self) -> bool:
        """Tell whether this is TLS."""
        return ISSLTransport.providedBy(self.transport)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: TwistedHeaders) -> None:
        """Write the head of an answer; it leaves together with what follows it."""
        if version == b"HTTP/1.0" and not headers.hasHeader(b"Content-Length") and self._has_body(code):
            self._connection.end_with_answer()
        lines = [b"HTTP/1.1 %b %b\r\n" % (code, reason)]
        for name, values in headers.getAllRawHeaders():
            lines.extend([b"%b: %b\r\n" % (name, value) for value in values])
        self._connection.write_head(lines)

    def _has_body(self, code: bytes) -> bool:
        return self.request.method != b"HEAD" and int(code) not in BODILESS

    def write(self, data: bytes) -> None:
        """Write a part of a body."""
        self._connection.write(data)

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write several parts of a body."""
        self._connection.write(b"".join(data))

    def requestDone(self, request: ApiRequest) -> None:
        """The request has written its whole answer."""
        self._is_over = True
        self._connection.slow_lane_done(request.code, request.sentLength)

    def fail(self) -> None:
        """The request met a fault of ours: say so, or break the connection where its answer has begun."""
        if self._is_over:
            return
        self._is_over = True
        if self.request.startedWriting:
            self._connection.abort()
        else:
            self._connection.fail(internal_error(is_write=self.request.method not in READING_METHODS))

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Have a producer of a long answer paused and resumed with the transport.

        :raises ValueError: it is a pull producer, or there is one already.
        """
        if not streaming or self._producer is not None:
            raise ValueError("one push producer at a time")
        self._producer = producer
        self._connection.write(b"")  # the head: the first piece may be long in coming
        if self._connection.is_choked:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def loseConnection(self) -> None:
        """Close once everything is written."""
        self._connection.close()
