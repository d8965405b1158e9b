"""A closed loop of HTTP requests over keep-alive connections: each one sends its next request on the last answer.

It understands only as much of HTTP as a benchmark of our own server needs: answers with a Content-Length.
"""

from __future__ import annotations

import time
from collections.abc import Callable

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.endpoints import HostnameEndpoint, connectProtocol
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import Protocol
from twisted.python.failure import Failure

NextRequest = Callable[[], bytes]


class LoadConnection(Protocol):
    """One connection that keeps one request outstanding.

    :param next_request: returns the bytes of the next request.
    :ivar latencies: seconds from each request to its answer.
    :ivar errors: answers whose status was not 200.
    """

    def __init__(self, next_request: NextRequest) -> None:
        self.latencies: list[float] = []
        self.errors = 0
        self._next_request = next_request
        self._buffer = b""
        self._missing = -1  # bytes of the body that have not come yet; -1 while the head is incomplete
        self._sent = 0.0
        self._running = False
        self.stopped: Deferred[None] = Deferred()

    def begin(self) -> None:
        """Send the first request."""
        self._running = True
        self._send()

    def end(self) -> None:
        """Send no more; the connection closes after the answer that is under way."""
        self._running = False

    def _send(self) -> None:
        self._sent = time.perf_counter()
        assert self.transport is not None
        self.transport.write(self._next_request())

    def dataReceived(self, data: bytes) -> None:
        """Take a part of an answer."""
        if self._missing < 0:
            self._buffer += data
            head, separator, body = self._buffer.partition(b"\r\n\r\n")
            if not separator:
                return
            self._buffer = b""
            self.errors += not head.startswith(b"HTTP/1.1 200")
            start = head.lower().index(b"content-length:") + 15
            self._missing = int(head[start:].split(b"\r\n", 1)[0]) - len(body)
        else:
            self._missing -= len(data)
        if self._missing == 0:
            self._answered()

    def _answered(self) -> None:
        self._missing = -1
        self.latencies.append(time.perf_counter() - self._sent)
        if self._running:
            self._send()
        else:
            assert self.transport is not None
            self.transport.loseConnection()

    def connectionLost(self, reason: Failure) -> None:  # type: ignore[override]
        """The end of this connection's work."""
        self.stopped.callback(None)


async def http_load(
    reactor: IReactorTime,
    addresses: list[tuple[str, int]],
    next_request: NextRequest,
    *,
    connections: int,
    seconds: float,
) -> tuple[int, int, list[float]]:
    """Run the loop on ``connections`` spread over the addresses; return answers, errors and all latencies."""
    loads: list[LoadConnection] = []
    for number in range(connections):
        host, port = addresses[number % len(addresses)]
        endpoint = HostnameEndpoint(reactor, host, port)
        loads.append(await connectProtocol(endpoint, LoadConnection(next_request)))
    for load in loads:
        load.begin()
    reactor.callLater(seconds, lambda: [load.end() for load in loads])
    await gatherResults([load.stopped for load in loads])
    latencies = sorted(latency for load in loads for latency in load.latencies)
    return len(latencies), sum(load.errors for load in loads), latencies
