"""HTTP/1.1 for the flavours that have no HTTP client of Twisted: over h11, on whatever carries bytes. No sockets here.

A flavour dials and gives a :class:`Pipe`; which connection carries a request, when one can be used again, how large an
answer may be and whether a server may have seen a request is decided here, once for both.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass
from typing import Final, Protocol
from urllib.parse import urlsplit

import h11

from raftkv.client.answers import Answer
from raftkv.client.core import Send
from raftkv.client.runtime import ExchangeFailed

MAX_ANSWER_BYTES: Final = 64 * 1024 * 1024  #: many times the largest value in JSON's longest spelling
_MAX_HEAD_BYTES: Final = 64 * 1024
_DEFAULT_PORTS: Final = {"http": 80, "https": 443}


class Pipe(Protocol):
    """A connection that carries bytes both ways; its methods raise :exc:`OSError` when it breaks."""

    async def write(self, data: bytes) -> None:
        """Send all of these bytes."""
        ...

    async def read(self) -> bytes:
        """Wait for some bytes; empty at the end."""
        ...

    def is_quiet(self) -> bool:
        """Tell whether nothing has come that nobody asked for, the end included."""
        ...

    def close(self) -> None:
        """Cut it off; at any time, from any thread."""
        ...


@dataclass(frozen=True, slots=True)
class Origin:
    """Whom a connection is to."""

    scheme: str
    host: str
    port: int


@dataclass(slots=True)
class Progress:
    """How far a request has come.

    :ivar is_sent: whether a server may have seen it.
    """

    is_sent: bool = False


class Connections:
    """Carries requests, over connections that are used again.

    :param dial: makes a connection; raises :exc:`OSError` where it cannot.
    :param max_idle: how many connections are kept for each origin while nothing uses them.
    """

    def __init__(
        self,
        dial: Callable[[Origin], Awaitable[Pipe]],
        *,
        max_idle: int,
        max_answer_bytes: int = MAX_ANSWER_BYTES,
    ) -> None:
        self._dial = dial
        self._max_idle = max_idle
        self._max_answer_bytes = max_answer_bytes
        self._idle: dict[Origin, list[_Connection]] = {}
        self._is_closed = False

    async def exchange(self, send: Send, progress: Progress) -> Answer:
        """Send a request and collect the answer.

        Whoever cancels it has its connection cut.

        :raises ExchangeFailed: there was no whole answer.
        """
        origin = origin_of(send.url)
        connection = await self._connection(origin)
        try:
            head = await connection.begin(send, progress)
            body = await connection.rest(self._max_answer_bytes)
        except BaseException:
            connection.pipe.close()
            raise
        self._keep(origin, connection)
        return Answer(status=head.status, headers=head.headers, body=body)

    async def open(self, send: Send, progress: Progress) -> WireStream:
        """Send a request on a connection of its own and wait for the head of its answer.

        :raises ExchangeFailed: there was none.
        """
        connection = await self._fresh(origin_of(send.url))
        try:
            head = await connection.begin(send, progress)
        except BaseException:
            connection.pipe.close()
            raise
        return WireStream(connection, head)

    def close(self) -> None:
        """Cut the connections that nothing uses, and keep no more."""
        self._is_closed = True
        idle, self._idle = self._idle, {}
        for connections in idle.values():
            for connection in connections:
                connection.pipe.close()

    async def _connection(self, origin: Origin) -> _Connection:
        idle = self._idle.get(origin, [])
        while idle:
            # The one used last: the others may then grow old enough for the server to close them.
            connection = idle.pop()
            if connection.pipe.is_quiet():
                return connection
            connection.pipe.close()
        return await self._fresh(origin)

    async def _fresh(self, origin: Origin) -> _Connection:
        try:
            pipe = await self._dial(origin)
        except OSError as error:
            raise ExchangeFailed(_reason(error), maybe_received=False) from error
        return _Connection(pipe)

    def _keep(self, origin: Origin, connection: _Connection) -> None:
        idle = self._idle.setdefault(origin, [])
        if connection.ready_for_more() and len(idle) < self._max_idle and not self._is_closed:
            idle.append(connection)
        else:
            connection.pipe.close()


@dataclass(frozen=True, slots=True)
class _Head:
    status: int
    headers: Mapping[str, str]


class _Connection:
    """One connection: requests and answers in turn."""

    def __init__(self, pipe: Pipe) -> None:
        self.pipe = pipe
        self._http = h11.Connection(h11.CLIENT, max_incomplete_event_size=_MAX_HEAD_BYTES)

    async def begin(self, send: Send, progress: Progress) -> _Head:
        """Send a request, and wait for the head of its answer."""
        data = self._request(send)
        progress.is_sent = True
        try:
            await self.pipe.write(data)
        except OSError as error:
            raise ExchangeFailed(_reason(error), maybe_received=True) from error
        while True:
            event = await self._next()
            if isinstance(event, h11.Response):
                headers = {name.decode("ascii"): value.decode("utf-8", "replace") for name, value in event.headers}
                return _Head(event.status_code, headers)
            # Else it is a 100 or the like, behind which the answer follows.

    async def piece(self) -> bytes:
        """Wait for a piece of the body; empty at its end."""
        while True:
            event = await self._next()
            if isinstance(event, h11.Data):
                if event.data:
                    return bytes(event.data)
            elif isinstance(event, h11.EndOfMessage):
                return b""

    async def rest(self, max_bytes: int) -> bytes:
        """Collect the body."""
        parts: list[bytes] = []
        left = max_bytes
        while part := await self.piece():
            left -= len(part)
            if left < 0:
                raise ExchangeFailed("the answer is too large", maybe_received=True)
            parts.append(part)
        return b"".join(parts)

    def ready_for_more(self) -> bool:
        """Make ready for another request; ``False`` where the connection is to be closed."""
        if self._http.our_state is not h11.DONE or self._http.their_state is not h11.DONE:
            return False
        if self._http.trailing_data[0]:
            return False  # it would be read as the answer to the next request
        self._http.start_next_cycle()
        return self.pipe.is_quiet()

    def _request(self, send: Send) -> bytes:
        parts = urlsplit(send.url)
        headers = [("Host", parts.netloc), *send.headers.items()]
        if send.body is not None or send.method in ("POST", "PUT"):
            headers.append(("Content-Length", str(len(send.body or b""))))
        target = parts.path + (f"?{parts.query}" if parts.query else "")
        try:
            pieces = [self._http.send(h11.Request(method=send.method, target=target, headers=headers))]
            if send.body:
                pieces.append(self._http.send(h11.Data(data=send.body)))
            pieces.append(self._http.send(h11.EndOfMessage()))
        except h11.LocalProtocolError as error:
            raise ExchangeFailed(str(error), maybe_received=False) from error
        return b"".join(piece for piece in pieces if piece)

    async def _next(self) -> h11.Event:
        while True:
            try:
                event = self._http.next_event()
                if event is h11.NEED_DATA:
                    self._http.receive_data(await self.pipe.read())
                    continue
            except h11.RemoteProtocolError as error:
                raise ExchangeFailed(str(error), maybe_received=True) from error
            except OSError as error:
                raise ExchangeFailed(_reason(error), maybe_received=True) from error
            if event is h11.PAUSED or isinstance(event, h11.ConnectionClosed):
                raise ExchangeFailed("the connection was closed before the answer was whole", maybe_received=True)
            assert isinstance(event, h11.Event)  # for mypy: what is left
            return event


class WireStream:
    """An answer whose body comes in pieces, on a connection of its own.

    :ivar status: of the answer; likewise ``headers``.
    """

    def __init__(self, connection: _Connection, head: _Head) -> None:
        self._connection = connection
        self.status = head.status
        self.headers = head.headers

    async def piece(self) -> bytes:
        """Wait for the next piece; empty at the end.

        :raises ExchangeFailed: the connection broke.
        """
        return await self._connection.piece()

    def close(self) -> None:
        """Cut it off."""
        self._connection.pipe.close()


def origin_of(url: str) -> Origin:
    """Return whom a request is to be sent to."""
    parts = urlsplit(url)
    return Origin(parts.scheme, parts.hostname or "", parts.port or _DEFAULT_PORTS[parts.scheme])


def _reason(error: OSError) -> str:
    return str(error) or type(error).__name__
