"""Requests from this node to others' RPC ports: writes for the leader, and rare questions.

One pipelined connection for each address, made when it is first needed and again when it is needed after a break.
Knows connections; who leads, and whether a request may be forwarded at all, is the caller's matter.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, gatherResults, succeed
from twisted.internet.interfaces import IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.errors import Overloaded, RaftKVError, ShuttingDown
from raftkv.interfaces import Command, Identity, IForwarder, Result
from raftkv.protocols.connecting import ProtocolFactory
from raftkv.protocols.framing import FrameLimits
from raftkv.protocols.hello import Purpose
from raftkv.protocols.rpc_client import Done, RpcConnection
from raftkv.protocols.rpc_errors import Unreachable
from raftkv.protocols.rpc_frames import MAX_ITEMS, RPC_LIMITS
from raftkv.protocols.warnings import RateLimitedLog

#: A request that waits for its connection: gets the connection, or why there is none.
_Waiting = Callable[[RpcConnection | None, RaftKVError | None], None]


class _Line:
    """The connection to one address: being made, ready, or gone."""

    def __init__(
        self,
        *,
        address: str,
        endpoint: IStreamClientEndpoint,
        build: Callable[[_Line], RpcConnection],
        max_waiting: int,
    ) -> None:
        self.address = address
        self.connection: RpcConnection | None = None  # ready
        self._making: RpcConnection | None = None  # TCP has it, the hello is under way
        self._attempt: Deferred[IProtocol] | None = None
        self._endpoint = endpoint
        self._build = build
        self._max_waiting = max_waiting
        self._waiting: list[_Waiting] = []
        self._stopped: list[Deferred[None]] = []

    def use(self, request: _Waiting) -> None:
        """Call ``request`` with the connection, now or once it is made."""
        if self.connection is not None and self.connection.is_ready:
            request(self.connection, None)
        elif len(self._waiting) >= self._max_waiting:
            request(None, Overloaded(f"{self._max_waiting} requests wait for a connection to {self.address}"))
        else:
            self._waiting.append(request)
            if self._attempt is None and self._making is None and self.connection is None:
                self._dial()

    def stop(self) -> Deferred[None]:
        """Close, and fire once nothing is left."""
        if self._attempt is not None:
            self._attempt.cancel()
        connection = self.connection or self._making
        if connection is not None:
            connection.close()
        if self._attempt is None and connection is None:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stopped.append(stopped)
        return stopped

    def _dial(self) -> None:
        attempt = self._attempt = self._endpoint.connect(ProtocolFactory(lambda: self._build(self)))
        attempt.addCallbacks(self._connected, self._not_connected)

    def _connected(self, protocol: IProtocol) -> None:
        self._attempt = None
        if not isinstance(protocol, RpcConnection):
            raise TypeError(f"the endpoint connected {protocol!r}, which this did not build")
        if self.connection is None:
            self._making = protocol
        protocol.when_closed(lambda: self._lost(protocol))
        if self._stopped:
            protocol.close()

    def _not_connected(self, failure: Failure) -> None:
        self._attempt = None
        self._give_up(f"cannot connect to {self.address}: {failure.getErrorMessage()}")

    def ready(self, connection: RpcConnection) -> None:
        """Both sides have said hello."""
        self.connection, self._making = connection, None
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request(connection, None)

    def _lost(self, connection: RpcConnection) -> None:
        self.connection = self._making = None
        self._give_up(connection.refusal or f"the connection to {self.address} was lost")

    def _give_up(self, reason: str) -> None:
        stopped, self._stopped = self._stopped, []
        waiting, self._waiting = self._waiting, []
        for request in waiting:
            request(None, ShuttingDown() if stopped else Unreachable(reason))
        for waiter in stopped:
            waiter.callback(None)


class _Gathered:
    """The answers to one write that travelled as several requests."""

    def __init__(self, parts: int, done: Callable[[Sequence[Result] | RaftKVError], None]) -> None:
        self._answers: list[Any] = [None] * parts
        self._missing = parts
        self._done = done

    def part(self, number: int) -> Done:
        """Return the callback of one request."""

        def answered(answer: Any) -> None:
            self._answers[number] = answer
            self._missing -= 1
            if self._missing == 0:
                self._finish()

        return answered

    def _finish(self) -> None:
        errors = [answer for answer in self._answers if isinstance(answer, RaftKVError)]
        if not errors:
            self._done([result for answer in self._answers for result in answer])
            return
        # Of the whole it may only be said that it was not applied where no part was.
        error = next((error for error in errors if error.outcome == "unknown"), errors[0])
        if len(errors) < len(self._answers):
            error.outcome = "unknown"
        self._done(error)


@implementer(IForwarder)
class RpcForwarder:
    """A pool of connections to the RPC ports of other nodes."""

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        connect: Callable[[str], IStreamClientEndpoint],
        clock: IReactorTime,
        request_timeout_seconds: float,
        purpose: Purpose = Purpose.NODE,
        limits: FrameLimits = RPC_LIMITS,
        max_waiting: int = 8192,
    ) -> None:
        """Take what is needed.

        :param identity: who this node is.
        :param connect: makes an endpoint for a ``host:port``, or raises :exc:`ValueError` for what is none. Its
            attempts should end within about a second.
        :param clock: the reactor.
        :param request_timeout_seconds: from sending a request to giving it up.
        :param purpose: ``CLIENT`` for a node that belongs to no cluster yet.
        :param max_waiting: requests that may wait for one connection that is being made.
        """
        self._purpose = purpose
        self._identity = identity
        self._connect = connect
        self._clock = clock
        self._request_timeout_seconds = request_timeout_seconds
        self._limits = limits
        self._max_waiting = max_waiting
        self._warnings = RateLimitedLog(self._log, clock=clock)
        self._lines: dict[str, _Line] = {}
        self._stopping = False

    def write(
        self, rpc_addr: str, commands: Sequence[Command], done: Callable[[Sequence[Result] | RaftKVError], None]
    ) -> None:
        """Send a write to the leader, marked as forwarded; more than ``MAX_ITEMS`` commands travel in parts.

        :param done: gets the results; :exc:`~raftkv.errors.OutcomeUnknown` where contact broke after sending,
            :exc:`~raftkv.errors.NoLeader` where it could not be sent.
        """
        if len(commands) <= MAX_ITEMS:
            self._write_part(rpc_addr, commands, done)
            return
        starts = range(0, len(commands), MAX_ITEMS)
        gathered = _Gathered(len(starts), done)
        for number, start in enumerate(starts):
            self._write_part(rpc_addr, commands[start : start + MAX_ITEMS], gathered.part(number))

    def _write_part(self, rpc_addr: str, commands: Sequence[Command], done: Done) -> None:
        def request(connection: RpcConnection | None, error: RaftKVError | None) -> None:
            if connection is None:
                done(error)
            else:
                connection.write(commands, done, forwarded=True)

        self._use(rpc_addr, request)

    def call(self, rpc_addr: str, name: str, arguments: Mapping[str, Any]) -> Deferred[Any]:
        """Ask another node for something rare; fails with a :exc:`~raftkv.errors.RaftKVError`."""
        answer: Deferred[Any] = Deferred()

        def done(outcome: Any) -> None:
            if isinstance(outcome, RaftKVError):
                answer.errback(outcome)
            else:
                answer.callback(outcome)

        def request(connection: RpcConnection | None, error: RaftKVError | None) -> None:
            if connection is None:
                done(error)
            else:
                connection.call(name, arguments, done)

        self._use(rpc_addr, request)
        return answer

    def stop(self) -> Deferred[None]:
        """Close every connection, and fire once all are gone; requests that come later open new ones."""
        self._stopping = True
        lines = [line.stop() for line in self._lines.values()]
        return gatherResults(lines, consumeErrors=True).addCallback(self._stopped)

    def _stopped(self, _: list[None]) -> None:
        self._stopping = False
        self._lines.clear()

    def _use(self, rpc_addr: str, request: _Waiting) -> None:
        if self._stopping:
            request(None, ShuttingDown())
            return
        line = self._lines.get(rpc_addr)
        if line is None:
            try:
                endpoint = self._connect(rpc_addr)
            except ValueError as reason:
                request(None, Unreachable(f"there is no way to {rpc_addr!r}: {reason}"))
                return
            line = self._lines[rpc_addr] = _Line(
                address=rpc_addr, endpoint=endpoint, build=self._build, max_waiting=self._max_waiting
            )
        line.use(request)

    def _build(self, line: _Line) -> RpcConnection:
        return RpcConnection(
            identity=self._identity,
            purpose=self._purpose,
            ready=line.ready,
            clock=self._clock,
            warnings=self._warnings,
            request_timeout_seconds=self._request_timeout_seconds,
            limits=self._limits,
        )
