"""HTTP over pipes that the test plays: what is sent, which connection is used again, how an exchange fails."""

from __future__ import annotations

from collections.abc import Coroutine
from typing import Any, TypeVar

from twisted.trial.unittest import SynchronousTestCase

from raftkv.client.answers import Answer
from raftkv.client.core import Send
from raftkv.client.runtime import ExchangeFailed
from raftkv.client.wire import Connections, Origin, Progress, origin_of

T = TypeVar("T")


class FakePipe:
    """A connection whose answers are there already, piece by piece; an exception is raised in its turn."""

    def __init__(self, *pieces: bytes | BaseException) -> None:
        self.pieces = list(pieces)
        self.written = b""
        self.closed = False
        self.quiet = True

    async def write(self, data: bytes) -> None:
        if self.pieces and isinstance(self.pieces[0], OSError) and "write" in str(self.pieces[0]):
            raise self.pieces.pop(0)  # type: ignore[misc]
        self.written += data

    async def read(self) -> bytes:
        piece = self.pieces.pop(0) if self.pieces else b""
        if isinstance(piece, BaseException):
            raise piece
        return piece

    def is_quiet(self) -> bool:
        return self.quiet and not self.closed

    def close(self) -> None:
        self.closed = True


def run(program: Coroutine[Any, Any, T]) -> T:
    """Run what never waits."""
    try:
        program.send(None)
    except StopIteration as end:
        result: T = end.value
        return result
    raise AssertionError("it waits")


def get(path: str = "/a") -> Send:
    return Send(method="GET", url=f"http://h:1{path}", headers={"Accept": "x"}, body=None, timeout_seconds=1.0)


OK = b"HTTP/1.1 200 OK\r\nContent-Length: 2\r\nX-Raft-Term: 7\r\n\r\nhi"


class WireTests(SynchronousTestCase):
    """Exchanges."""

    def setUp(self) -> None:
        self.pipes: list[FakePipe] = []
        self.dialled: list[Origin] = []
        self.connections = Connections(self.dial, max_idle=1, max_answer_bytes=1000)

    async def dial(self, origin: Origin) -> FakePipe:
        self.dialled.append(origin)
        if not self.pipes:
            raise ConnectionRefusedError("nobody listens")
        return self.pipes.pop(0)

    def exchange(self, send: Send | None = None) -> Answer:
        return run(self.connections.exchange(send or get(), Progress()))

    def failure(self, *pieces: bytes | OSError) -> tuple[bool, FakePipe]:
        """Return whether a server may have got a request that fails, and its connection."""
        pipe = FakePipe(*pieces)
        self.pipes = [pipe]
        with self.assertRaises(ExchangeFailed) as caught:
            self.exchange()
        return caught.exception.maybe_received, pipe

    def test_request(self) -> None:
        """A request has its host, its headers, and the length of its body, also where that is empty."""
        for send, expected in (
            (get("/v1/kv/a%2Fb?x=1"), b"GET /v1/kv/a%2Fb?x=1 HTTP/1.1\r\nHost: h:1\r\nAccept: x\r\n\r\n"),
            (
                Send(method="PUT", url="http://h/a", headers={}, body=b"v", timeout_seconds=1),
                b"PUT /a HTTP/1.1\r\nHost: h\r\nContent-Length: 1\r\n\r\nv",
            ),
            (
                Send(method="POST", url="http://[::1]:2/a", headers={}, body=None, timeout_seconds=1),
                b"POST /a HTTP/1.1\r\nHost: [::1]:2\r\nContent-Length: 0\r\n\r\n",
            ),
        ):
            pipe = FakePipe(OK)
            self.pipes = [pipe]
            answer = self.exchange(send)
            self.assertEqual(pipe.written, expected)
            self.assertEqual((answer.status, answer.body, answer.headers["x-raft-term"]), (200, b"hi", "7"))

    def test_origins(self) -> None:
        """The port of a scheme need not be said."""
        self.assertEqual(origin_of("http://a/x"), Origin("http", "a", 80))
        self.assertEqual(origin_of("https://[::1]/"), Origin("https", "::1", 443))

    def test_used_again(self) -> None:
        """A connection whose answer was whole carries the next request to the same host."""
        self.pipes = [FakePipe(OK, OK)]
        self.exchange()
        self.exchange()
        self.assertEqual(len(self.dialled), 1)

    def test_not_used_again(self) -> None:
        """A connection is closed that the server closes, or that has more in it than was asked for."""
        for first in (
            FakePipe(OK.replace(b"X-Raft-Term: 7", b"Connection: close"), OK),
            FakePipe(b"HTTP/1.0 200 OK\r\n\r\nhi", b""),
            FakePipe(OK + b"HTTP/1.1 200 OK\r\n\r\n"),
        ):
            self.connections = Connections(self.dial, max_idle=1)
            self.pipes = [first, FakePipe(OK)]
            self.exchange()
            self.assertTrue(first.closed)
            self.exchange()
        self.connections.close()
        idle = FakePipe(OK)
        self.pipes = [idle]
        self.exchange()
        self.assertTrue(idle.closed, "a client that is closed keeps nothing")

    def test_closed_while_idle(self) -> None:
        """B63: a connection that the server closed while nobody used it carries no request, which might get lost."""
        first = FakePipe(OK, OK)
        self.pipes = [first, FakePipe(OK)]
        self.exchange()
        first.quiet = False
        self.exchange()
        self.assertEqual((first.closed, len(self.dialled)), (True, 2))

    def test_pieces(self) -> None:
        """An answer may come in pieces of any size, in chunks, and behind a 100."""
        head = b"HTTP/1.1 100 Continue\r\n\r\nHTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n"
        whole = head + b"1\r\nh\r\n1\r\ni\r\n0\r\n\r\n"
        for size in (1, 7, 1000):
            pieces = [whole[begin : begin + size] for begin in range(0, len(whole), size)]
            self.pipes = [FakePipe(*pieces)]
            self.assertEqual(self.exchange().body, b"hi")
            self.connections = Connections(self.dial, max_idle=1)

    def test_never_sent(self) -> None:
        """Where no connection can be made, no server has got the request."""
        with self.assertRaises(ExchangeFailed) as caught:
            self.exchange()
        self.assertEqual((str(caught.exception), caught.exception.maybe_received), ("nobody listens", False))

    def test_maybe_received(self) -> None:
        """From the first byte on a server may have got it; a connection that failed is never used again."""
        for pieces in (
            (OSError("broken in write"),),
            (OSError("broken in read"),),
            (b"",),
            (OK[:-1], b""),
            (b"\x83\xa5hello\n\n",),
            (b"HTTP/1.1 200 OK\r\nContent-Length: 2000\r\n\r\n" + b"x" * 2000,),
            (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 100_000,),
            (b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n1\r\nxyz",),
        ):
            maybe_received, pipe = self.failure(*pieces)
            self.assertEqual((maybe_received, pipe.closed), (True, True), pieces)

    def test_interrupted(self) -> None:
        """Whoever is interrupted in the middle of an exchange leaves no connection behind that has half an answer."""
        pipe = FakePipe(OK[:-1], KeyboardInterrupt())
        self.pipes = [pipe]
        with self.assertRaises(KeyboardInterrupt):
            self.exchange()
        self.assertTrue(pipe.closed)

    def test_malformed_request(self) -> None:
        """A request that cannot be one is not sent."""
        self.pipes = [FakePipe(OK)]
        with self.assertRaises(ExchangeFailed) as caught:
            self.exchange(Send(method="GET", url="http://h/a", headers={"X": "a\nb"}, body=None, timeout_seconds=1))
        self.assertFalse(caught.exception.maybe_received)

    def test_stream(self) -> None:
        """A stream gives its pieces as they come, and its connection is its own."""
        head = b"HTTP/1.1 200 OK\r\nContent-Type: text/event-stream\r\nTransfer-Encoding: chunked\r\n\r\n"
        pipe = FakePipe(head, b"2\r\nab\r\n", b"1\r\nc\r\n0\r\n\r\n")
        self.pipes = [pipe]
        stream = run(self.connections.open(get(), Progress()))
        self.assertEqual((stream.status, stream.headers["content-type"]), (200, "text/event-stream"))
        self.assertEqual([run(stream.piece()) for _ in range(3)], [b"ab", b"c", b""])
        stream.close()
        self.assertTrue(pipe.closed)
