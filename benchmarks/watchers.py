"""What watches cost: a put while thousands watch other keys, or the same ones, and the memory of each watch.

``python -m benchmarks.watchers [--watchers N ...] [--json]``. One node alone, put together as the process does it: a
real disk, the real reactor, real connections over the loopback, whose other ends another process reads. Costs are
processor time of the node's process, so that neither the disk nor the readers are in them; a delivery is one event on
its way to one watch.
"""

from __future__ import annotations

import gc
import json
import os
import selectors
import shutil
import socket
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater

from benchmarks.pauses import Probe
from benchmarks.reactor_pause import STATUS, build, resident_bytes, run, settle
from raftkv.config import Limits
from raftkv.daemon.collector import Collector, freeze_long_lived
from raftkv.daemon.process import raise_descriptor_limit
from raftkv.kvstore.commands import put
from raftkv.server.replica import Replica
from raftkv.web import Api, ApiSite, WebSettings

MAX_CONNECTIONS: Final = 20_000
PUTS: Final = 5_000  # with nobody concerned
PUTS_IN_FLIGHT: Final = 32
TOLD_PUTS: Final = 20  # with everybody concerned
IDLE_SECONDS: Final = 5.0
EVENT: Final = b"event: put\n"
OPENING: Final = b"event: progress\n"


# -- the other process ------------------------------------------------------------------------------------------------


class Reader:
    """Opens streams, reads them, and says on its standard output how many events it has got."""

    def __init__(self, port: int) -> None:
        self._port = port
        self._selector = selectors.DefaultSelector()
        self._tails: dict[int, bytes] = {}
        self._opened = 0
        self._events = 0

    def open(self, targets: Iterator[str]) -> None:
        """Begin all the streams; return once each has said so."""
        count = 0
        for target in targets:
            stream = socket.create_connection(("127.0.0.1", self._port))
            stream.sendall(f"GET {target} HTTP/1.1\r\nHost: localhost\r\n\r\n".encode())
            stream.setblocking(False)
            self._selector.register(stream, selectors.EVENT_READ)
            self._tails[stream.fileno()] = b""
            count += 1
            if count % 100 == 0:
                self._read(0.0)
        while self._opened < count:
            self._read(1.0)

    def follow(self) -> None:
        """Read until somebody ends this process."""
        said = 0
        while True:
            self._read(0.2)
            if self._events != said:
                said = self._events
                print(said, flush=True)

    def _read(self, seconds: float) -> None:
        for key, _ in self._selector.select(seconds):
            stream: Any = key.fileobj
            try:
                data = stream.recv(262_144)
            except BlockingIOError:
                continue
            if not data:
                raise SystemExit("the node has ended a stream")
            data = self._tails[stream.fileno()] + data
            self._events += data.count(EVENT)
            self._opened += data.count(OPENING)
            self._tails[stream.fileno()] = data[-max(len(EVENT), len(OPENING)) + 1 :].rpartition(b"\n")[2]


def read_streams(port: int, count: int, prefix: str) -> None:
    """Be the other process."""
    reader = Reader(port)
    # Progress so seldom that none falls into what is measured.
    span = (f"key=w/{number}" for number in range(count)) if not prefix else (f"prefix={prefix}" for _ in range(count))
    reader.open(f"/v1/watch?{each}&progress=3600" for each in span)
    print("open", flush=True)
    reader.follow()


# -- the node ---------------------------------------------------------------------------------------------------------


class Streams:
    """The other process, as the node sees it.

    :ivar events: how many it has got.
    """

    def __init__(self, reactor: Any, port: int, count: int, prefix: str) -> None:
        self._reactor = reactor
        command = [sys.executable, "-m", "benchmarks.watchers", "--read", str(port), "--count", str(count)]
        self._process = subprocess.Popen([*command, "--prefix", prefix], stdout=subprocess.PIPE)
        assert self._process.stdout is not None
        os.set_blocking(self._process.stdout.fileno(), False)
        self._output = self._process.stdout
        self.is_open = count == 0
        self.events = 0

    def look(self) -> None:
        """Hear what it has said."""
        for line in (self._output.read() or b"").split(b"\n"):
            if line == b"open":
                self.is_open = True
            elif line:
                self.events = int(line)
        if self._process.poll() is not None:
            raise RuntimeError("the reading process has ended")

    def end(self) -> None:
        """End it."""
        self._process.kill()
        self._process.wait()
        self._output.close()


class Measuring:
    """One node, and what is done to it."""

    def __init__(self, reactor: Any, replica: Replica, port: int) -> None:
        self._reactor = reactor
        self._replica = replica
        self._port = port
        self._probe = Probe(reactor, lambda: (0,))
        self._is_probing = False

    async def with_others(self, count: int) -> dict[str, Any]:
        """Measure puts that concern nobody."""
        gc.collect()
        before_bytes = resident_bytes()
        streams = await self._open(count, "")
        gc.collect()
        memory_bytes = (resident_bytes() - before_bytes) / count if count else 0.0
        began = time.process_time()
        await deferLater(self._reactor, IDLE_SECONDS)
        idle_share = (time.process_time() - began) / IDLE_SECONDS
        cpu_us = await self._put_many()
        await self._end(streams)
        return {"put_cpu_us": cpu_us, "idle_cpu_share": idle_share, "memory_bytes": memory_bytes}

    async def with_the_same(self, count: int) -> dict[str, Any]:
        """Measure puts that concern everybody."""
        streams = await self._open(count, "p/")
        with self._probed(f"{count} told") as phase:
            cpu, until_told, until_answered = [], [], []
            for number in range(TOLD_PUTS):
                cpu_began, began = time.process_time(), time.monotonic()
                await self._put(b"p/%d" % number)
                until_answered.append(time.monotonic() - began)
                while streams.events < count * (number + 1):
                    await deferLater(self._reactor, 0.002)
                    streams.look()
                until_told.append(time.monotonic() - began)
                cpu.append(time.process_time() - cpu_began)
        await self._end(streams)
        median_cpu = statistics.median(cpu)
        return {
            "told_put_cpu_ms": 1000 * median_cpu,
            "delivery_cpu_us": 1e6 * median_cpu / count if count else 0.0,
            "until_answered_ms": 1000 * statistics.median(until_answered),
            "until_told_ms": 1000 * statistics.median(until_told),
            "longest_pause_ms": phase.ours_longest,
            "collector_ms": phase.collector_longest,
        }

    async def _open(self, count: int, prefix: str) -> Streams:
        streams = Streams(self._reactor, self._port, count, prefix)
        while not streams.is_open:
            await deferLater(self._reactor, 0.01)
            streams.look()
        return streams

    async def _end(self, streams: Streams) -> None:
        streams.end()
        while len(self._replica._watches):
            await deferLater(self._reactor, 0.01)

    async def _put_many(self) -> float:
        """Return what a put costs, in microseconds, of some that are under way at a time."""
        costs = []
        for _ in range(5):
            began = time.process_time()
            for batch in range(0, PUTS // 5, PUTS_IN_FLIGHT):
                waiting = [self._put(b"k/%d" % (batch + number)) for number in range(PUTS_IN_FLIGHT)]
                for each in waiting:
                    await each
            costs.append((time.process_time() - began) / (PUTS // 5))
        return 1e6 * statistics.median(costs)

    def _put(self, key: bytes) -> Deferred[Any]:
        done: Deferred[Any] = Deferred()
        self._replica.write([put(key, b"x" * 100)], done.callback)
        return done

    @contextmanager
    def _probed(self, name: str) -> Iterator[Any]:
        phase = self._probe.enter(name)
        self._probe.start()
        try:
            yield phase
        finally:
            self._probe.stop()


async def measure(reactor: Any, folder: Path, counts: tuple[int, ...]) -> list[dict[str, Any]]:
    """Run a node and return a line of figures for each number of watches."""
    limits = Limits(max_watchers=MAX_CONNECTIONS, max_connections=MAX_CONNECTIONS, max_pending_writes=MAX_CONNECTIONS)
    raise_descriptor_limit(MAX_CONNECTIONS)
    replica, disk = build(reactor, folder, limits)
    settings = WebSettings(max_connections=MAX_CONNECTIONS)
    api = Api(key_value=replica, node=replica, settings=settings, clock=reactor, wall_seconds=time.time)
    port = reactor.listenTCP(0, ApiSite(reactor=reactor, api=api), backlog=1024, interface="127.0.0.1")
    freeze_long_lived()
    collector = Collector(reactor)
    collector.startService()
    replica.startService()
    await settle(reactor, replica)
    measuring = Measuring(reactor, replica, port.getHost().port)
    await measuring._put_many()  # warm
    lines = []
    for count in counts:
        STATUS.print(f"{count:,} watches, load average {os.getloadavg()[0]:.1f} …")
        lines.append({"watchers": count} | await measuring.with_others(count) | await measuring.with_the_same(count))
    await port.stopListening()
    await replica.stopService()
    collector.stopService()
    disk.release()
    return lines


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    columns = {
        "put_cpu_us": ("put, others' keys, CPU µs", "{:.1f}"),
        "idle_cpu_share": ("idle, CPU share", "{:.1%}"),
        "memory_bytes": ("memory a watch, B", "{:,.0f}"),
        "told_put_cpu_ms": ("put told to all, CPU ms", "{:.2f}"),
        "delivery_cpu_us": ("a delivery, CPU µs", "{:.1f}"),
        "until_answered_ms": ("put answered, ms", "{:.2f}"),
        "until_told_ms": ("all told, ms", "{:.1f}"),
        "longest_pause_ms": ("longest pause of ours, ms", "{:.1f}"),
        "collector_ms": ("collector's longest pass, ms", "{:.1f}"),
    }
    table = Table(title="watches on one node")
    table.add_column("watches", justify="right")
    for title, _ in columns.values():
        table.add_column(title, justify="right")
    for line in result["lines"]:
        table.add_row(f"{line['watchers']:,}", *(form.format(line[name]) for name, (_, form) in columns.items()))
    console = Console(width=180 if not sys.stdout.isatty() else None)
    console.print(table)
    console.print(f"load average {', '.join(f'{load:.1f}' for load in result['load_average'])}; {result['python']}")


@click.command()
@click.option("--watchers", "counts", multiple=True, type=int, default=(0, 1_000, 10_000), show_default=True)
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@click.option("--read", "port", type=int, default=None, hidden=True)
@click.option("--count", type=int, default=0, hidden=True)
@click.option("--prefix", default="", hidden=True)
def main(counts: tuple[int, ...], as_json: bool, port: int | None, count: int, prefix: str) -> None:
    """Measure what a put costs while others watch, and what a watch takes of memory."""
    if port is not None:
        raise_descriptor_limit(MAX_CONNECTIONS)
        read_streams(port, count, prefix)
        return
    folder = Path(tempfile.mkdtemp(prefix="raftkv-watchers-", dir="."))
    lines: list[dict[str, Any]] = []

    async def work(reactor: Any) -> dict[str, Any]:
        lines.extend(await measure(reactor, folder, counts))
        return {}

    try:
        run(work)
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result = {
        "lines": lines,
        "load_average": os.getloadavg(),
        "python": f"Python {sys.version.split()[0]}, {os.cpu_count()} processors",
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
