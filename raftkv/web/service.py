"""The HTTP server as a service: it listens, and lets go."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.web.site import ApiSite


class HttpService(Service):
    """Serves a site on an endpoint.

    :ivar port: what it listens on, ``None`` while it does not.
    """

    name: str | None = "http"
    _log = Logger()

    def __init__(self, *, endpoint: IStreamServerEndpoint, site: ApiSite) -> None:
        self._endpoint = endpoint
        self._site = site
        self._listening: Deferred[None] | None = None
        self.port: IListeningPort | None = None

    def startService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: at once, where the endpoint knows at once.
        """
        super().startService()
        self._site.open()
        failures: list[Failure] = []
        is_starting = True

        def listening(port: IListeningPort) -> None:
            self.port = port

        def failed(failure: Failure) -> None:
            if failure.check(CancelledError):
                return
            if is_starting:
                failures.append(failure)
            else:
                self._log.failure("the HTTP server cannot listen", failure)

        self._listening = self._endpoint.listen(self._site).addCallbacks(listening, failed)
        is_starting = False
        if failures:
            super().stopService()
            failures[0].raiseException()

    def stopService(self) -> Deferred[None]:
        """Stop listening, and let the requests in flight finish.

        :return: fires once no listener, connection or timer is left.
        """
        super().stopService()
        if self._listening is not None:
            self._listening.cancel()
            self._listening = None
        port, self.port = self.port, None
        # The port first, and the socket is closed only when that fires: who is told that its connection ends comes back
        # at once, and the kernel would take a connection that nobody accepts any more, and reset it.
        closed = maybeDeferred(port.stopListening) if port is not None else succeed(None)
        drained = closed.addErrback(self._not_closed).addCallback(lambda _: self._site.drain())
        return drained.addCallback(lambda _: None)

    def _not_closed(self, failure: Failure) -> None:
        self._log.failure("the HTTP port did not close cleanly", failure)
