"""The factory of connections: how many there are, what they hold together, whose time is up."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.defer import Deferred, succeed
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime
from twisted.internet.protocol import Factory
from twisted.internet.task import LoopingCall
from twisted.logger import Logger

from raftkv.web.app import Api
from raftkv.web.connection import HttpConnection
from raftkv.web.settings import SETTING_NAMES
from raftkv.web.stream import HttpStream

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
        self._held_bytes = 0
        self._unread_bytes: dict[HttpStream, int] = {}  # in the order in which they came to a halt
        self._all_unread_bytes = 0
        self._dropped_readers = 0
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
        self.answers_were_read(connection)
        self._connections.pop(connection, None)
        self.api.metrics.connections = len(self._connections)
        if not self._connections:
            if self._sweeping.running:
                self._sweeping.stop()
            emptied, self._emptied = self._emptied, []
            for waiter in emptied:
                waiter.callback(None)

    def hold(self, added_bytes: int) -> bool:
        """Count what a connection keeps of requests that are still on their way or wait for their turn.

        :param added_bytes: how much more that is than before; negative for less.
        :return: whether there is room for it. If not, it counts until the connection gives it back.
        """
        self._held_bytes += added_bytes
        return added_bytes <= 0 or self._held_bytes <= self.api.settings.max_buffered_body_bytes

    def answers_wait(self, connection: HttpStream, size_bytes: int) -> None:
        """Count answers that a client does not read; :meth:`answers_were_read` follows, or the end.

        Where all of them take too much, whoever has not read for the longest time is dropped: to refuse requests
        instead would let a few clients that never read stop all the others.
        """
        self._unread_bytes[connection] = self._unread_bytes.get(connection, 0) + size_bytes
        self._all_unread_bytes += size_bytes
        while self._all_unread_bytes > self.api.settings.max_unread_bytes:
            slowest = next(iter(self._unread_bytes))
            self.answers_were_read(slowest)
            self._dropped_readers += 1
            slowest.abort()

    def answers_were_read(self, connection: HttpStream) -> None:
        """The client has read its answers."""
        self._all_unread_bytes -= self._unread_bytes.pop(connection, 0)

    def next_turn(self, call: Callable[[], None]) -> IDelayedCall:
        """Have something done once the reactor has looked after everyone else."""
        return self._reactor.callLater(0, call)

    # -- time ---------------------------------------------------------------------------------------------------------

    def _sweep(self) -> None:
        now_seconds = self.now_seconds = self._reactor.seconds()
        for connection in [*self._connections]:
            deadline = connection.deadline
            if deadline is not None and deadline <= now_seconds:
                connection.expire()
        if self._dropped_readers:
            self._log.warn(
                "dropped {count} HTTP connections: answers that are not read take more than {setting}",
                count=self._dropped_readers,
                setting=SETTING_NAMES["max_unread_bytes"],
            )
            self._dropped_readers = 0

    # -- the end ------------------------------------------------------------------------------------------------------

    def open(self) -> None:
        """Serve connections; again, after :meth:`drain`."""
        self.is_stopping = False
        self.api.open_bodies.go_on()

    def drain(self) -> Deferred[None]:
        """Close every connection after its present answer, and after a short while what is still idle. Answers without
        an end come to one now.

        :return: fires once no connection is left: after the configured time at the latest.
        """
        self.is_stopping = True
        self.api.open_bodies.stop()
        if not self._connections:
            return succeed(None)
        emptied: Deferred[None] = Deferred()
        self._emptied.append(emptied)
        settings = self.api.settings
        timers = (
            self._reactor.callLater(settings.farewell_seconds, self._close_idle),
            self._reactor.callLater(settings.stop_timeout_seconds, self._abort_all),
        )

        def closed(result: None) -> None:
            for timer in timers:
                if timer.active():
                    timer.cancel()

        return emptied.addCallback(closed)

    def _close_idle(self) -> None:
        for connection in [*self._connections]:
            connection.drain()

    def _abort_all(self) -> None:
        if self._connections:
            self._log.warn("{count} HTTP connections were still busy and are dropped", count=len(self._connections))
        for connection in [*self._connections]:
            connection.abort()
