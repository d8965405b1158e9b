"""Requests per second of the HTTP server alone, on both of its lanes, with a store that answers at once.

    python -m benchmarks.http_lanes [--connections 64] [--pipeline 1] [--seconds 3]

The server runs in a process of its own and the load generator in this one, so each has a core where there are two. The
figure that counts is the server's requests per second of its own CPU time: it does not depend on who else is busy. The
last column is the same without sockets and reactor: what our own code costs.
"""

from __future__ import annotations

import argparse
import multiprocessing
import selectors
import socket
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from multiprocessing.connection import Connection
from typing import Any

from twisted.internet.task import Clock
from zope.interface import implementer

from raftkv.errors import RaftKVError
from raftkv.interfaces import Command, Consistency, IKeyValue, INode, Leadership, Record, Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import OK, pack_batch, put
from raftkv.web import Api, ApiSite, WebSettings

LEADERSHIP = Leadership(
    node_id="node1",
    term=1,
    leader="node1",
    leader_http_addr="127.0.0.1:8080",
    leader_rpc_addr="127.0.0.1:8081",
    is_leader=True,
)
VALUE = b"v" * 256
STATE = Store()
STATE.apply(1, pack_batch(0, 0, [put(b"key-000123", VALUE)]))


@implementer(IKeyValue)
class InstantKeyValue:
    """Answers everything at once, and remembers nothing."""

    def write(
        self,
        commands: Sequence[Command],
        done: Callable[[Sequence[Result] | RaftKVError], None],
        *,
        forwarded: bool = False,
    ) -> None:
        done([(OK, 1, True)])

    def acquire(self, command: Command, done: Callable[[Result | RaftKVError], None]) -> Callable[[], None]:
        done((OK, 1, 1, 1))
        return lambda: None

    def barrier(
        self,
        consistency: Consistency,
        done: Callable[[RaftKVError | None], None],
        *,
        max_stale_seconds: float | None = None,
    ) -> None:
        done(None)

    def staleness(self) -> float | None:
        return None

    def get(self, key: bytes) -> Record | None:
        return (VALUE, 1, 1, 1, 0)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        return iter(())

    def revision(self) -> int:
        return 1

    def state(self) -> Store:
        return STATE


@implementer(INode)
class QuietNode:
    """A leader of nobody."""

    def leadership(self) -> Leadership:
        return LEADERSHIP

    def status(self) -> dict[str, Any]:
        return {}

    def local_cluster(self) -> dict[str, Any]:
        return {}

    def is_ready(self) -> tuple[bool, str]:
        return True, ""

    def counters(self) -> Mapping[str, float]:
        return {}


def serve(pipe: Connection, has_fast_lane: bool, profile: bool) -> None:
    """Run a server until the pipe says otherwise; then send back the CPU seconds between its first two messages."""
    from twisted.internet import reactor

    api = Api(
        key_value=InstantKeyValue(),
        node=QuietNode(),
        settings=WebSettings(),
        clock=reactor,
        wall_seconds=time.time,
    )
    port = reactor.listenTCP(0, ApiSite(reactor=reactor, api=api, has_fast_lane=has_fast_lane), interface="127.0.0.1")
    pipe.send(port.getHost().port)

    class Control:
        def fileno(self) -> int:
            return pipe.fileno()

        def logPrefix(self) -> str:
            return "control"

        def doRead(self) -> None:
            if pipe.recv() == "stop":
                reactor.removeReader(self)
                reactor.stop()
            else:
                pipe.send(time.process_time())

        def connectionLost(self, reason: object) -> None:
            """Nothing to do: we stop by a message."""

    reactor.addReader(Control())
    if profile:
        import cProfile
        import pstats

        profiler = cProfile.Profile()
        profiler.runcall(reactor.run)
        pstats.Stats(profiler).sort_stats("tottime").print_stats(25)
    else:
        reactor.run()


class Load:
    """Keep-alive connections, each with a fixed number of requests outstanding.

    :ivar answered: how many answers have come.
    """

    def __init__(self, port: int, message: bytes, connections: int, pipeline: int) -> None:
        self.answered = 0
        self._message = message
        self._selector = selectors.DefaultSelector()
        self._sockets = []
        for _ in range(connections):
            client = socket.create_connection(("127.0.0.1", port))
            client.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
            self._selector.register(client, selectors.EVENT_READ)
            self._sockets.append(client)
            client.sendall(message)
        self._size = self._answer_size(self._sockets[0])
        self._unread = dict.fromkeys(self._sockets, 0)
        for client in self._sockets:
            client.sendall(message * (pipeline - 1))

    def _answer_size(self, client: socket.socket) -> int:
        """All answers to one request have one size: the first tells it."""
        data = client.recv(65536, socket.MSG_PEEK)
        if not data.startswith(b"HTTP/1.1 200"):
            raise RuntimeError(f"unexpected: {data[:300]!r}")
        head, _, _ = data.partition(b"\r\n\r\n")
        return len(head) + 4 + int(head.split(b"Content-Length: ")[1].split(b"\r\n")[0])

    def run(self, seconds: float) -> float:
        """Ask and read for so long; return how long it really was."""
        self.answered = 0
        started = time.monotonic()
        while (elapsed := time.monotonic() - started) < seconds:
            for key, _ in self._selector.select(0.1):
                client = key.fileobj
                data = client.recv(1 << 20)
                if not data:
                    raise RuntimeError("the server closed a connection")
                answers, self._unread[client] = divmod(self._unread[client] + len(data), self._size)
                self.answered += answers
                client.sendall(self._message * answers)
        return elapsed

    def close(self) -> None:
        """Close the connections."""
        self._selector.close()
        for client in self._sockets:
            client.close()


def request_bytes(method: str, target: str, body: bytes = b"") -> bytes:
    """Make a request with the headers that a usual client sends."""
    head = f"{method} {target} HTTP/1.1\r\nHost: 127.0.0.1:8080\r\nUser-Agent: bench/1\r\nAccept: */*\r\n"
    length = f"Content-Length: {len(body)}\r\n" if body else ""
    return (head + length + "\r\n").encode("ascii") + body


REQUESTS = {
    "GET /get?key=K": request_bytes("GET", "/get?key=key-000123"),
    "GET /v1/kv/K": request_bytes("GET", "/v1/kv/key-000123"),
    "PUT /v1/kv/K": request_bytes("PUT", "/v1/kv/key-000123", VALUE),
    "POST /set": request_bytes("POST", "/set", b'{"key":"key-000123","value":"%b"}' % VALUE),
}


def measure(has_fast_lane: bool, message: bytes, arguments: argparse.Namespace) -> tuple[float, float]:
    """Return requests per second of wall time, and per second of the server's CPU time."""
    ours, theirs = multiprocessing.Pipe()
    server = multiprocessing.get_context("spawn").Process(target=serve, args=(theirs, has_fast_lane, arguments.profile))
    server.start()
    load = Load(ours.recv(), message, arguments.connections, arguments.pipeline)
    load.run(0.5)
    ours.send("cpu")
    before = ours.recv()
    elapsed = load.run(arguments.seconds)
    ours.send("cpu")
    cpu_seconds = ours.recv() - before
    load.close()
    ours.send("stop")
    server.join()
    return load.answered / elapsed, load.answered / cpu_seconds


class Sink:
    """A transport that throws everything away."""

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Never pause anybody."""

    def getPeer(self) -> None:
        """Be nobody."""

    getHost = getPeer

    def write(self, data: bytes) -> None:
        """Forget it."""


def measure_in_memory(has_fast_lane: bool, message: bytes, arguments: argparse.Namespace) -> float:
    """Return requests per second of CPU time without sockets and reactor: what our own code costs."""
    clock = Clock()
    api = Api(
        key_value=InstantKeyValue(),
        node=QuietNode(),
        settings=WebSettings(),
        clock=clock,
        wall_seconds=time.time,
    )
    connection = ApiSite(reactor=clock, api=api, has_fast_lane=has_fast_lane).buildProtocol(None)
    connection.makeConnection(Sink())
    data = message * arguments.pipeline
    count = 0
    started = time.process_time()
    while (elapsed := time.process_time() - started) < arguments.seconds:
        for _ in range(100):
            connection.dataReceived(data)
        count += 100 * arguments.pipeline
    return count / elapsed


def main() -> None:
    """Measure each request on both lanes."""
    parser = argparse.ArgumentParser(description=__doc__, formatter_class=argparse.RawDescriptionHelpFormatter)
    parser.add_argument("--connections", type=int, default=64)
    parser.add_argument("--pipeline", type=int, default=1, help="requests outstanding on each connection")
    parser.add_argument("--seconds", type=float, default=3.0)
    parser.add_argument("--lane", choices=("fast", "klein", "both"), default="both")
    parser.add_argument("--only", default="", help="requests whose name has this in it")
    parser.add_argument("--profile", action="store_true", help="print where the server's time goes")
    arguments = parser.parse_args()
    print(f"{arguments.connections} connections, {arguments.pipeline} outstanding on each, 256-byte values")
    print(f"{'request':<16} {'lane':<6} {'requests/s':>12} {'per CPU second':>15} {'in memory':>10}")
    for name, message in REQUESTS.items():
        if arguments.only not in name:
            continue
        for lane in ("fast", "klein"):
            if arguments.lane in (lane, "both"):
                in_memory = measure_in_memory(lane == "fast", message, arguments)
                per_second, per_cpu_second = measure(lane == "fast", message, arguments)
                print(
                    f"{name:<16} {lane:<6} {per_second:>12,.0f} {per_cpu_second:>15,.0f} {in_memory:>10,.0f}",
                    flush=True,
                )


if __name__ == "__main__":
    main()
