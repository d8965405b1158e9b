"""The slow lane: a request of ``twisted.web`` on one of our connections, for whatever has no fast lane."""

from __future__ import annotations

from collections.abc import Mapping
from io import BytesIO
from typing import TYPE_CHECKING

from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from twisted.web.resource import IResource
from twisted.web.server import Request
from zope.interface import implementer

if TYPE_CHECKING:
    from raftkv.web.connection import HttpConnection


@implementer(IRequest)
class ApiRequest(Request):
    """A request that arrives whole, and is served by one resource without traversal.

    Nothing here parses forms, cookies or content types: no route needs them, and Twisted does the last with the
    ``email`` package. No body goes to a temporary file: the connection has bounded it.
    """

    defaultContentType = None

    def __init__(self, channel: HttpConnection) -> None:
        super().__init__(channel, parsePOSTFormSubmission=False)
        # The base class drops its own reference in two different ways when it is done.
        self._connection = channel

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
        self._connection.fail(self)
        return reason
