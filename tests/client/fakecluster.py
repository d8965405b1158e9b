"""A cluster on the loopback address that speaks the contract, and goes wrong where a test says so.

Three nodes share one store; each has a port and threads of its own. What goes wrong is scripted by request, never by
time, so that the same test always meets the same trouble.
"""

from __future__ import annotations

import select
import socket
import threading
from collections import deque
from collections.abc import Callable, Iterator
from contextlib import suppress
from dataclasses import dataclass
from typing import Any, Literal

import h11

from tests.client.contract import Contract, Reply, Request, Waiting, Watching

Trouble = Literal[
    "lose request", "lose answer", "cut answer", "no leader", "hang", "end stream", "silent stream", "overflow"
]
LOOK_SECONDS = 0.02  # between two looks at whether a client has gone
GUARD_SECONDS = 20.0  # after which whatever waits in vain gives up, so that a test fails rather than hangs


@dataclass
class Seen:
    """A request as a node got it."""

    node: int
    request: Request

    @property
    def line(self) -> str:
        return f"{self.request.method} {self.request.path}"

    @property
    def number(self) -> tuple[str | None, str | None]:
        headers = self.request.headers
        return headers.get("x-client-id"), headers.get("x-request-seq")


@dataclass
class Planned:
    """What goes wrong with the next request whose line begins so."""

    line: str
    trouble: Trouble


class FakeCluster:
    """See the module.

    :ivar contract: what is answered.
    :ivar seen: all requests, in the order in which they came.
    """

    def __init__(self, nodes: int = 3) -> None:
        self.changed = threading.Condition()
        self.contract = Contract(wrote=self.changed.notify_all)
        self.seen: list[Seen] = []
        self.streams = 0
        self._planned: deque[Planned] = deque()
        self._open: set[socket.socket] = set()
        self._streaming: set[socket.socket] = set()
        self._is_closed = False
        self._threads: list[threading.Thread] = []
        self._listeners = [self._listen(number) for number in range(nodes)]

    @property
    def addresses(self) -> list[str]:
        return [f"http://127.0.0.1:{listener.getsockname()[1]}" for listener in self._listeners]

    def plan(self, trouble: Trouble, line: str = "") -> None:
        """Let something go wrong with the next request whose line begins so, after what was planned before."""
        with self.changed:
            self._planned.append(Planned(line, trouble))

    def do(self, act: Callable[[Contract], Any]) -> Any:
        """Do something to the store, beside the clients."""
        with self.changed:
            return act(self.contract)

    def wait_for(self, condition: Callable[[], bool]) -> None:
        """Wait until something holds."""
        with self.changed:
            for _ in range(round(GUARD_SECONDS / LOOK_SECONDS)):
                if condition():
                    return
                self.changed.wait(LOOK_SECONDS)
        raise AssertionError("waited in vain")

    def break_streams(self) -> None:
        """Cut all streams."""
        with self.changed:
            for connection in self._streaming:
                cut(connection)

    def close(self) -> None:
        """Stop all nodes; returns once nothing is left."""
        with self.changed:
            self._is_closed = True
            for connection in [*self._listeners, *self._open]:
                cut(connection)
            self.changed.notify_all()
        for thread in self._threads:
            thread.join(GUARD_SECONDS)
        for listener in self._listeners:
            listener.close()

    # -- nodes ---------------------------------------------------------------------------------------------------------

    def _listen(self, node: int) -> socket.socket:
        listener = socket.create_server(("127.0.0.1", 0))
        self._start(self._accept, node, listener)
        return listener

    def _start(self, work: Callable[..., None], *arguments: Any) -> None:
        thread = threading.Thread(target=work, args=arguments, daemon=True)
        self._threads.append(thread)
        thread.start()

    def _accept(self, node: int, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                connection, _ = listener.accept()
                with self.changed:
                    if self._is_closed:
                        connection.close()
                        return
                    self._open.add(connection)
                self._start(self._serve, node, connection)

    def _serve(self, node: int, connection: socket.socket) -> None:
        try:
            http = h11.Connection(h11.SERVER)
            while (request := read_request(http, connection)) is not None:
                if not self._answer(node, http, connection, request):
                    return
                http.start_next_cycle()
        except (OSError, h11.RemoteProtocolError):
            pass
        finally:
            with self.changed:
                self._open.discard(connection)
                self._streaming.discard(connection)
                self.changed.notify_all()
            connection.close()

    def _answer(self, node: int, http: h11.Connection, connection: socket.socket, request: Request) -> bool:
        """Answer a request; return whether the connection is to be used again."""
        with self.changed:
            self.seen.append(Seen(node, request))
            trouble = self._trouble_for(f"{request.method} {request.path}")
            self.changed.notify_all()
            if trouble == "lose request":
                return False
            if trouble == "hang":
                while not self._is_closed and not gone(connection):
                    self.changed.wait(LOOK_SECONDS)
                return False
            if trouble == "no leader":
                body = b'{"error":{"code":"no_leader","message":"none is known","outcome":"not_applied"}}'
                send(http, connection, Reply(503, {"Retry-After": "0"}, body))
                return True
            reply = self.contract.handle(request)
            if trouble == "lose answer":
                return False
            if isinstance(reply, Waiting):
                reply = self._wait(reply, connection)
            if isinstance(reply, Watching):
                self._stream(http, connection, reply, trouble)
                return False
        if reply is None:
            return False
        send(http, connection, reply, cut_off=trouble == "cut answer")
        return trouble != "cut answer"

    def _trouble_for(self, line: str) -> Trouble | None:
        if self._planned and line.startswith(self._planned[0].line):
            return self._planned.popleft().trouble
        return None

    def _wait(self, waiting: Waiting, connection: socket.socket) -> Reply | None:
        """Wait for a lock; whoever closes the connection gives up the place."""
        while not self._is_closed:
            settled = self.contract.settled(waiting)
            if settled is not None:
                return settled
            if gone(connection):
                self.contract.leave(waiting)
                return None
            self.changed.wait(LOOK_SECONDS)
        return None

    def _stream(self, http: h11.Connection, connection: socket.socket, watching: Watching, trouble: str | None) -> None:
        head = [("Content-Type", "text/event-stream"), ("Transfer-Encoding", "chunked")]
        connection.sendall(http.send(h11.Response(status_code=200, headers=head)) or b"")
        self._streaming.add(connection)
        self.streams += 1
        self.changed.notify_all()
        for piece in self._pieces(watching, connection, trouble):
            connection.sendall(http.send(h11.Data(data=piece)) or b"")
        connection.sendall(http.send(h11.EndOfMessage()) or b"")

    def _pieces(self, watching: Watching, connection: socket.socket, trouble: str | None) -> Iterator[bytes]:
        yield self.contract.progress(watching)
        if trouble == "silent stream":
            while not self._is_closed and not gone(connection):
                self.changed.wait(LOOK_SECONDS)
            return
        if trouble == "overflow":
            yield b'event: overflow\ndata: {"revision":%d}\n\n' % watching.position
            return
        quiet = 0
        while not self._is_closed and connection in self._streaming and not gone(connection):
            news = self.contract.news(watching)
            if trouble == "end stream" and news:
                # In the middle of what there is to tell: the last event of a revision is missing.
                yield news[: news.rfind(b"event:")]
                return
            if news:
                yield news
                if b"event: compacted" in news:
                    return
            quiet = 0 if news or self.changed.wait(LOOK_SECONDS) else quiet + 1
            if quiet * LOOK_SECONDS >= watching.progress:
                quiet = 0
                yield self.contract.progress(watching)


def read_request(http: h11.Connection, connection: socket.socket) -> Request | None:
    """Read a request; ``None`` at the end of the connection."""
    head: h11.Request | None = None
    body = b""
    while True:
        event = http.next_event()
        if event is h11.NEED_DATA:
            http.receive_data(connection.recv(65536))
        elif isinstance(event, h11.Request):
            head = event
        elif isinstance(event, h11.Data):
            body += event.data
        elif isinstance(event, h11.EndOfMessage) and head is not None:
            headers = {name.decode(): value.decode() for name, value in head.headers}
            return Request.of(head.method.decode(), head.target.decode(), headers, body)
        else:
            return None


def send(http: h11.Connection, connection: socket.socket, reply: Reply, *, cut_off: bool = False) -> None:
    """Send an answer, or the first half of it."""
    headers = [*reply.headers.items(), ("Content-Length", str(len(reply.body)))]
    data = http.send(h11.Response(status_code=reply.status, headers=headers)) or b""
    data += http.send(h11.Data(data=reply.body)) or b""
    data += http.send(h11.EndOfMessage()) or b""
    connection.sendall(data[: len(data) - len(reply.body) // 2 - 1] if cut_off else data)


def gone(connection: socket.socket) -> bool:
    """Tell whether the other side has closed a connection."""
    try:
        return bool(select.select([connection], [], [], 0)[0]) and not connection.recv(1, socket.MSG_PEEK)
    except (OSError, ValueError):
        return True


def cut(connection: socket.socket) -> None:
    """Cut a connection, so that whoever waits for it wakes up."""
    with suppress(OSError):
        connection.shutdown(socket.SHUT_RDWR)
