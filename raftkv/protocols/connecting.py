"""Keeping connections: one outgoing connection that comes back by itself, and a listening port that knows its own.

``ClientService`` was tried for the first and left: it counts a connection as good once TCP has it, though the hello
may yet be refused; it fails on a connection that is lost while it is being prepared; and it logs a line for every
attempt against a dead peer.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from random import Random

from twisted.internet.defer import CancelledError, Deferred, succeed
from twisted.internet.interfaces import (
    IAddress,
    IDelayedCall,
    IListeningPort,
    IProtocol,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import Factory
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.protocols.framing import MessageLineReceiver
from raftkv.protocols.warnings import RateLimitedLog


@dataclass(frozen=True, slots=True, kw_only=True)
class RetryPolicy:
    """How long to wait before the next attempt: short at first, since a restarted node must come back fast.

    :ivar first_seconds: the longest wait after a good connection broke.
    :ivar longest_seconds: no wait is longer.
    :ivar factor: each wait may be so much longer than the one before.
    """

    first_seconds: float = 0.05
    longest_seconds: float = 1.0
    factor: float = 1.6

    def delay_seconds(self, *, failures: int, random: Random) -> float:
        """Return the next wait: between half and all of its bound, so that nodes do not dial in step.

        :param failures: how many attempts in a row have failed; 0 for a good connection that broke.
        """
        bound = min(self.first_seconds * self.factor ** min(failures, 64), self.longest_seconds)
        return bound * (0.5 + random.random() / 2)


class ProtocolFactory(Factory):
    """Builds protocols by calling a function, and logs nothing."""

    noisy = False

    def __init__(self, build: Callable[[], MessageLineReceiver | None]) -> None:
        """Take the function; ``None`` from it refuses the connection."""
        self._build = build

    def buildProtocol(self, addr: IAddress | None) -> MessageLineReceiver | None:
        """Return a protocol for a new connection; called by Twisted."""
        return self._build()


class Reconnector:
    """Keeps one outgoing connection: dials, and dials again once it is lost, from :meth:`start` until :meth:`stop`."""

    def __init__(
        self,
        *,
        endpoint: IStreamClientEndpoint,
        build: Callable[[], MessageLineReceiver],
        clock: IReactorTime,
        random: Random,
        policy: RetryPolicy,
    ) -> None:
        """Take what is needed.

        :param endpoint: where to dial; it should give up on an attempt within about a second.
        :param build: makes the protocol of each attempt.
        """
        self._endpoint = endpoint
        self._factory = ProtocolFactory(build)
        self._clock = clock
        self._random = random
        self._policy = policy
        self._running = False
        self._failures = 0
        self._attempt: Deferred[IProtocol] | None = None
        self._connection: MessageLineReceiver | None = None
        self._timer: IDelayedCall | None = None
        self._stop_waiters: list[Deferred[None]] = []

    def start(self) -> None:
        """Dial now, unless a connection or an attempt exists."""
        self._running = True
        if self._is_idle():
            self._dial()

    def hurry(self) -> None:
        """There is a sign of life: dial now rather than when the wait is over."""
        if self._timer is not None:
            self._timer.cancel()
            self._dial()

    def succeeded(self) -> None:
        """The connection is good (both sides have said hello): the next failure is a first one again."""
        self._failures = 0

    def stop(self) -> Deferred[None]:
        """Close, and fire once nothing is left."""
        self._running = False
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        if self._attempt is not None:
            self._attempt.cancel()
        if self._connection is not None:
            self._connection.close()
        if self._is_idle():
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stop_waiters.append(stopped)
        return stopped

    def _is_idle(self) -> bool:
        return self._attempt is None and self._connection is None and self._timer is None

    def _dial(self) -> None:
        self._timer = None
        # Counted as failed until it has proved good, so that a peer which accepts and refuses is not hammered.
        self._failures += 1
        attempt = self._attempt = self._endpoint.connect(self._factory)
        attempt.addCallbacks(self._connected, self._failed)

    def _connected(self, protocol: IProtocol) -> None:
        self._attempt = None
        if not isinstance(protocol, MessageLineReceiver):
            raise TypeError(f"the endpoint connected {protocol!r}, which this did not build")
        self._connection = protocol
        protocol.when_closed(self._lost)
        if not self._running:
            protocol.close()

    def _failed(self, failure: Failure) -> None:
        self._attempt = None
        self._wait()

    def _lost(self) -> None:
        self._connection = None
        self._wait()

    def _wait(self) -> None:
        if self._running:
            delay = self._policy.delay_seconds(failures=self._failures, random=self._random)
            self._timer = self._clock.callLater(delay, self._dial)
            return
        waiters, self._stop_waiters = self._stop_waiters, []
        for waiter in waiters:
            waiter.callback(None)


class ListeningPort:
    """A listening port that bounds, knows and closes the connections that came in through it."""

    _log = Logger()

    def __init__(
        self,
        *,
        endpoint: IStreamServerEndpoint,
        build: Callable[[], MessageLineReceiver],
        max_connections: int,
        warnings: RateLimitedLog,
    ) -> None:
        """Take what is needed.

        :param endpoint: where to listen: anything with ``listen(factory)``, such as one that adopts a bound socket.
        :param build: makes the protocol of each connection.
        :param max_connections: one more is closed at once, with a line to ``warnings``.
        """
        self._endpoint = endpoint
        self._build = build
        self._max_connections = max_connections
        self._warnings = warnings
        self._factory = ProtocolFactory(self._accept)
        self._listening: Deferred[IListeningPort] | None = None
        self._port: IListeningPort | None = None
        self._stop_waiter: Deferred[None] | None = None
        self.connections: set[MessageLineReceiver] = set()

    def start(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: the endpoint fails at once; a later failure is logged.
        """
        failed: list[Failure] = []
        starting = True

        def not_listening(failure: Failure) -> None:
            if starting:
                failed.append(failure)
            elif not isinstance(failure.value, CancelledError):
                self._log.failure("cannot listen", failure)

        self._listening = self._endpoint.listen(self._factory)
        self._listening.addCallbacks(self._opened, not_listening)
        starting = False
        if failed:
            self._listening = None
            failed[0].raiseException()

    def address(self) -> IAddress | None:
        """Return where it listens, ``None`` where it does not."""
        return None if self._port is None else self._port.getHost()

    def stop(self, close: Callable[[MessageLineReceiver], None]) -> Deferred[None]:
        """Listen no more, and fire once no connection is left.

        :param close: begins to close one connection.
        """
        stopped: Deferred[None] = Deferred()
        listening, port = self._listening, self._port
        self._listening = self._port = None
        if listening is not None and port is None:
            listening.cancel()
        closed = succeed(None) if port is None else _stop_listening(port)
        closed.addCallback(lambda _: self._drain(close, stopped))
        closed.addErrback(stopped.errback)
        return stopped

    def _drain(self, close: Callable[[MessageLineReceiver], None], stopped: Deferred[None]) -> None:
        for connection in list(self.connections):
            close(connection)
        self._stop_waiter = stopped
        self._check_drained()

    def _accept(self) -> MessageLineReceiver | None:
        if len(self.connections) >= self._max_connections:
            self._warnings.warn("refused a connection: {limit} are open", limit=self._max_connections)
            return None
        connection = self._build()
        self.connections.add(connection)
        connection.when_closed(lambda: self._closed(connection))
        return connection

    def _closed(self, connection: MessageLineReceiver) -> None:
        self.connections.discard(connection)
        self._check_drained()

    def _check_drained(self) -> None:
        if self._stop_waiter is not None and not self.connections:
            stopped, self._stop_waiter = self._stop_waiter, None
            stopped.callback(None)

    def _opened(self, port: IListeningPort) -> None:
        self._port = port


def _stop_listening(port: IListeningPort) -> Deferred[None]:
    stopping = port.stopListening()
    return stopping if isinstance(stopping, Deferred) else succeed(None)
