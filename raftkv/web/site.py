"""The factory of connections: how many there are, what they hold together, whose time is up."""

from __future__ import annotations

from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from raftkv.errors import Overloaded
from raftkv.web.app import Api
from raftkv.web.connection import HttpConnection
from raftkv.web.settings import SETTING_NAMES

SWEEP_SECONDS: Final = 1.0  #: how often deadlines are looked at; one timer for all connections costs none of them
MAX_REFUSED_CONNECTIONS: Final = 64  #: over the limit, and still being told so; more are dropped without a word


class ApiSite(Factory):
    """Makes a connection for each client.

    :ivar api: what it serves.
    :ivar resource: the same as a resource, for routes without the fast lane.
    :ivar has_fast_lane: without it Klein serves everything, as the tests compare.
    :ivar now_seconds: the time of the last sweep: good enough for deadlines, and free.
    :ivar is_stopping: whether each answer is the last one of its connection.
    """

    noisy = False
    _log = Logger()

    def __init__(self, *, reactor: IReactorTime, api: Api, has_fast_lane: bool = True) -> None:
        self._reactor = reactor
        self.api = api
        self.resource = api.app.resource()
        self.has_fast_lane = has_fast_lane
        self.now_seconds = reactor.seconds()
        self.is_stopping = False
        # A dictionary for its order: whoever came first is told first, in every run.
        self._connections: dict[HttpConnection, None] = {}
        self._buffered_body_bytes = 0
        self._sweeping = LoopingCall(self._sweep)
        self._sweeping.clock = reactor
        self._emptied: list[Deferred[None]] = []

    def buildProtocol(self, addr: IAddress | None) -> HttpConnection:
        """Make a connection."""
        return HttpConnection(self)

    # -- what connections say -----------------------------------------------------------------------------------------

    def admit(self, connection: HttpConnection) -> bool:
        """Note a new connection.

        :return: whether it is to be served; if not, it says so and closes.
        """
        limit = self.api.settings.max_connections
        self._connections[connection] = None
        count = self.api.metrics.connections = len(self._connections)
        if not self._sweeping.running:
            self._sweeping.start(SWEEP_SECONDS, now=True)
        if count > limit + MAX_REFUSED_CONNECTIONS:
            connection.abort()
        return count <= limit

    def forget(self, connection: HttpConnection) -> None:
        """A connection is gone."""
        self._connections.pop(connection, None)
        self.api.metrics.connections = len(self._connections)
        if not self._connections:
            if self._sweeping.running:
                self._sweeping.stop()
            emptied, self._emptied = self._emptied, []
            for waiter in emptied:
                waiter.callback(None)

    def hold_body(self, size_bytes: int) -> None:
        """A connection keeps a part of a body that is still on its way.

        :raises Overloaded: all of them together keep too much; the part counts until :meth:`release_body`.
        """
        self._buffered_body_bytes += size_bytes
        limit = self.api.settings.max_buffered_body_bytes
        if self._buffered_body_bytes > limit:
            raise Overloaded(
                f"bodies on their way take more than {SETTING_NAMES['max_buffered_body_bytes']} ({limit} bytes)"
            )

    def release_body(self, size_bytes: int) -> None:
        """A connection has given the parts of its body back."""
        self._buffered_body_bytes -= size_bytes

    # -- time ---------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now_seconds = self.now_seconds = self._reactor.seconds()
        for connection in [*self._connections]:
            deadline = connection.deadline
            if deadline is not None and deadline <= now_seconds:
                connection.expire()

    # -- the end ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Serve connections; again, after :meth:`drain`."""
        self.is_stopping = False

    def drain(self) -> Deferred[None]:
        """Close what is idle, and the others after the answer they wait for.

        :return: fires once no connection is left: after the configured time at the latest.
        """
        self.is_stopping = True
        for connection in [*self._connections]:
            connection.drain()
        if not self._connections:
            return succeed(None)
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        timeout = self._reactor.callLater(self.api.settings.stop_timeout_seconds, self._abort_all)

        def closed(result: None) -> None:
            if timeout.active():
                timeout.cancel()

        return emptied.addCallback(closed)

    def _abort_all(self) -> None:
        if self._connections:
            self._log.warn("{count} HTTP connections were still busy and are dropped", count=len(self._connections))
        for connection in [*self._connections]:
            connection.abort()
