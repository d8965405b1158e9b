"""A body that comes in pieces, as the answer of a request of ``twisted.web``."""

from __future__ import annotations

from typing import cast

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IPushProducer, ITCPTransport
from twisted.web.http import Request
from twisted.web.iweb import IRequest
from zope.interface import implementer

from raftkv.web.streaming import OpenBodies, OutgoingBody, Streamed


@implementer(IPushProducer)
class RequestBody:
    """Writes the pieces to a request whose status and headers have been set; ``twisted.web`` frames them."""

    def __init__(self, request: IRequest, finished: Deferred[bytes]) -> None:
        """
        :param finished: fires with nothing when all has been written; whoever waits for it finishes the request.
        """
        self._request = cast(Request, request)  # IRequest has no transport
        self._finished = finished
        self._body: OutgoingBody | None = None

    def begin(self, streamed: Streamed, open_bodies: OpenBodies) -> None:
        """Send the head, and then what the source writes."""
        request = self._request
        if request.method == b"HEAD":
            streamed.source.gone()
            self._finished.callback(b"")
            return
        body = self._body = OutgoingBody(streamed, self, open_bodies)
        request.write(b"")
        request.registerProducer(self, True)
        body.begin()

    def lost(self) -> None:
        """The client has gone."""
        body, self._body = self._body, None
        if body is not None:
            body.lost()

    # -- from the body ------------------------------------------------------------------------------------------------

    def write_piece(self, data: bytes) -> None:
        """See :class:`raftkv.web.streaming.BodyLane`."""
        self._request.write(data)

    def body_finished(self) -> None:
        """See :class:`raftkv.web.streaming.BodyLane`."""
        self._body = None
        self._request.unregisterProducer()
        self._finished.callback(b"")

    def break_off(self) -> None:
        """See :class:`raftkv.web.streaming.BodyLane`."""
        self._body = None
        self._request.unregisterProducer()
        transport = cast(ITCPTransport, self._request.transport)  # or that of TLS, which can do this as well
        transport.abortConnection()

    # -- from the transport -------------------------------------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The client does not read."""
        if self._body is not None:
            self._body.pause()

    def resumeProducing(self) -> None:
        """The client reads again."""
        if self._body is not None:
            self._body.resume()

    def stopProducing(self) -> None:
        """Nothing to do: the request says that the client has gone."""
