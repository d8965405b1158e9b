"""What the key-value model costs: memory of keys, revisions, leases, locks; ranges of a million keys over HTTP.

``python -m benchmarks.key_value [--keys N] [--json]``. Memory is the growth of a process that holds nothing else, each
in a process of its own, over the number of what was made. The ranges are those of one node alone, put together as the
process does it, read over a socket by another process; while they are under way a timer of a millisecond tells how long
the reactor stood still (see :mod:`benchmarks.reactor_pause`).
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import socket
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.task import deferLater

from benchmarks.pauses import Probe
from benchmarks.reactor_pause import STATUS, Writer, build, dictionary_sizes, key_of, resident_bytes, run, settle
from raftkv.daemon.collector import Collector, freeze_long_lived
from raftkv.interfaces import Command
from raftkv.kvstore import Store
from raftkv.kvstore.commands import delete_range, grant, lock, pack_batch, prefix_range, put
from raftkv.web import Api, ApiSite, WebSettings

VALUE_BYTES: Final = 100
PUTS_PER_SECOND: Final = 2000
BATCH: Final = 100
TTL_MS: Final = 3_600_000
PREFIX: Final = "/registry/pods/"


# -- memory -----------------------------------------------------------------------------------------------------------


def _value(chance: random.Random) -> bytes:
    return chance.randbytes(VALUE_BYTES // 2).hex().encode()


def _keys(number: int, chance: random.Random) -> Command:
    return put(key_of(number), _value(chance))


def _revisions(number: int, chance: random.Random) -> Command:
    return put(b"key-%03d" % (number % 1000), _value(chance))


def _leases(number: int, chance: random.Random) -> Command:
    return grant(TTL_MS)


def _keys_with_ttl(number: int, chance: random.Random) -> Command:
    return put(key_of(number), _value(chance), ttl_ms=TTL_MS)


def _locks(number: int, chance: random.Random) -> Command:
    return lock(key_of(number), ttl_ms=TTL_MS)


MADE: Final[dict[str, tuple[str, Callable[[int, random.Random], Command], int]]] = {
    "key": ("a key of 31 bytes with a value of 100", _keys, 1_000_000),
    "revision": ("a past revision, with its value of 100 bytes", _revisions, 500_000),
    "lease": ("a lease without keys", _leases, 100_000),
    "ttl": ("a key with a time to live", _keys_with_ttl, 100_000),
    "lock": ("a lock that is held, with its lease", _locks, 100_000),
}


def memory_of(name: str) -> dict[str, Any]:
    """Make many of something, and return how much the process has grown."""
    _, make, count = MADE[name]
    chance = random.Random(3)
    store = Store()
    store.apply(1, pack_batch(0, 0, [put(b"key-%03d" % number, b"x" * VALUE_BYTES) for number in range(1000)]))
    gc.collect()
    gc.freeze()
    before = resident_bytes()
    for index, first in enumerate(range(0, count, BATCH), start=2):
        store.apply(index, pack_batch(0, 0, [make(number, chance) for number in range(first, first + BATCH)]))
    gc.collect()
    return {"made": count, "bytes_each": (resident_bytes() - before) / count}


# -- ranges -----------------------------------------------------------------------------------------------------------


def read_from(port: int, target: str, method: str, slow_seconds: float) -> dict[str, Any]:
    """Make one request as another process, and return what came.

    :param slow_seconds: how long to read nothing at first.
    """
    began = time.monotonic()
    with socket.create_connection(("127.0.0.1", port)) as connection:
        connection.sendall(f"{method} {target} HTTP/1.1\r\nHost: x\r\nConnection: close\r\n\r\n".encode())
        if slow_seconds:
            time.sleep(slow_seconds)
        size = records = 0
        first = tail = b""
        while data := _received(connection):
            first = first or data
            size += len(data)
            records += data.count(b'"key":') + (tail + data[:5]).count(b'"key":')
            tail = data[-5:]
    return {
        "status": int(first.split(b" ", 2)[1]) if data is not None else "reset",
        "size_bytes": size,
        "records": records,
        "seconds": time.monotonic() - began,
    }


def _received(connection: socket.socket) -> bytes | None:
    """Return what has come, nothing at the end; ``None`` where the node could not tell the rest."""
    try:
        return connection.recv(256 * 1024)
    except ConnectionResetError:
        return None


class Ranges:
    """The phases, on one node that runs."""

    def __init__(self, reactor: Any, replica: Any, port: int, keys: int) -> None:
        self._reactor = reactor
        self._replica = replica
        self._port = port
        self._keys = keys
        self._chance = random.Random(2)
        self._new = 0
        self._writer = Writer(reactor, replica, self._chance)
        self.probe = Probe(reactor, lambda: dictionary_sizes(replica))
        self.readers: dict[str, list[dict[str, Any]]] = {}

    async def fill(self, keys: int) -> None:
        """Make keys."""
        self.probe.enter(f"making {keys:,} keys")
        last = self._new + keys
        while self._new < last or self._writer.pending:
            while self._new < last and self._writer.pending < 2000:
                self._writer.put(key_of(self._new))
                self._new += 1
            await deferLater(self._reactor, 0.001)

    async def read(
        self, name: str, target: str, *, readers: int = 1, writes: bool = False, method: str = "GET", slow: float = 0.0
    ) -> None:
        """Have a range read, maybe several times at once, and maybe while keys are overwritten."""
        if writes:
            self._writer.begin(lambda: key_of(self._chance.randrange(self._keys)), PUTS_PER_SECOND)
        self.probe.enter(name)
        before = resident_bytes()
        command = [sys.executable, "-m", "benchmarks.key_value", "--port", str(self._port), "--target", target]
        command += ["--method", method, "--slow", str(slow)]
        processes = [subprocess.Popen(command, stdout=subprocess.PIPE) for _ in range(readers)]
        peak = before
        while any(process.poll() is None for process in processes):
            await deferLater(self._reactor, 0.01)
            peak = max(peak, resident_bytes())
        self.probe.enter("between")
        if writes:
            await self._writer.end()
        self.readers[name] = [json.loads(process.communicate()[0]) for process in processes]
        self.readers[name][0]["grown_bytes"] = peak - before
        await deferLater(self._reactor, 0.5)

    async def delete(self, name: str, prefix: bytes) -> None:
        """Delete a range, and wait for the answer."""
        answers: list[Any] = []
        self.probe.enter(name)
        self._replica.write([delete_range(*prefix_range(prefix))], answers.append)
        while not answers:
            await deferLater(self._reactor, 0.001)
        await deferLater(self._reactor, 0.02)  # the probe looks at the turn before only in the next one
        self.readers[name] = [{"status": 200, "size_bytes": 0, "records": answers[0][0][2], "seconds": 0.0}]

    async def go_through(self) -> None:
        """All of it."""
        whole = f"/v1/kv?prefix={PREFIX}"
        await self.read("range", whole)
        await self.read("range, 2,000 puts/s", whole, writes=True)
        await self.read("keys only", f"{whole}&keys_only=true")
        await self.read("reverse, 2,000 puts/s", f"{whole}&reverse=true", writes=True)
        await self.read("4 readers, 2,000 puts/s", whole, readers=4, writes=True)
        await self.read("folders of one digit", f"/v1/kv?prefix={PREFIX}&delimiter=f", writes=True)
        await self.read("a page of 1,000", f"{whole}&limit=1000", writes=True)
        await self.read("a reader that waits 3 s", whole, slow=3.0)
        revision = self._replica.revision()
        await self.fill(self._keys // 20)
        await self.read("the past: range", f"{whole}&revision={revision}")
        await self.read("the past: count", f"{whole}&revision={revision}&count_only=true", writes=True)
        await self.delete("delete 1 in 4,096 keys", PREFIX.encode() + b"abc")
        await self.delete("delete 1 in 256 keys", PREFIX.encode() + b"ff")
        await self.delete("delete 1 in 16 keys", PREFIX.encode() + b"0")


async def serve(reactor: Any, folder: Path, keys: int) -> dict[str, Any]:
    """Run a node with its HTTP server through the phases; return the figures."""
    replica, disk = build(reactor, folder)
    api = Api(key_value=replica, node=replica, settings=WebSettings(), clock=reactor, wall_seconds=time.time)
    listening = reactor.listenTCP(0, ApiSite(reactor=reactor, api=api), interface="127.0.0.1")
    freeze_long_lived()
    collector = Collector(reactor)
    collector.startService()
    replica.startService()
    await settle(reactor, replica)
    ranges = Ranges(reactor, replica, listening.getHost().port, keys)
    ranges.probe.enter("idle, empty")
    ranges.probe.start()
    STATUS.print(f"filling in {keys:,} keys …")
    await ranges.fill(keys)
    STATUS.print("reading …")
    await ranges.go_through()
    ranges.probe.stop()
    await listening.stopListening()
    await replica.stopService()
    collector.stopService()
    disk.release()
    return {"phases": list(_lines(ranges)), "keys": keys}


def _lines(ranges: Ranges) -> Iterator[dict[str, Any]]:
    for phase in ranges.probe.phases:
        readers = ranges.readers.get(phase.name)
        if phase.name == "between":
            continue
        line = phase.figures()
        if readers:
            line["seconds"] = round(max(reader["seconds"] for reader in readers) or phase.seconds, 2)
            line["records"] = sum(reader["records"] for reader in readers)
            line["mib"] = round(sum(reader["size_bytes"] for reader in readers) / 2**20, 1)
            line["grown_mib"] = round(readers[0].get("grown_bytes", 0) / 2**20, 1)
            line["statuses"] = sorted({str(reader["status"]) for reader in readers})
        yield line


# -- the command ------------------------------------------------------------------------------------------------------


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    console = Console(width=150 if not sys.stdout.isatty() else None)
    memory = Table(title="memory")
    memory.add_column("what")
    memory.add_column("made", justify="right")
    memory.add_column("bytes each", justify="right")
    for name, figures in result["memory"].items():
        memory.add_row(MADE[name][0], f"{figures['made']:,}", f"{figures['bytes_each']:,.0f}")
    console.print(memory)
    table = Table(title=f"one node with {result['keys']:,} keys, read over HTTP; lateness of a 1 ms timer in ms")
    columns = ("seconds", "records", "mib", "grown_mib", "p50_ms", "p99_ms", "longest_ms", "over_50_ms", "busiest_ms")
    complete = all("reset" not in line.get("statuses", ()) for line in result["phases"])
    table.add_column("phase")
    for title in ("seconds", "records", "MiB", "node grew", "p50", "p99", "longest", "over 50", "most CPU"):
        table.add_column(title, justify="right")
    table.add_column("cause")
    for line in result["phases"]:
        table.add_row(line["phase"], *(str(line.get(name, "")) for name in columns), line["cause"])
    console.print(table)
    if not complete:
        console.print("a reader was cut off: its revision was compacted before all was told (history.maxRevisions)")
    console.print(f"load average {', '.join(f'{load:.1f}' for load in result['load_average'])}; {result['python']}")


def measured(arguments: Sequence[str]) -> dict[str, Any]:
    """Return the figures of a part that is measured in a process of its own."""
    command = [sys.executable, "-m", "benchmarks.key_value", *arguments]
    figures: dict[str, Any] = json.loads(
        subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=600).stdout
    )
    return figures


@click.command()
@click.option("--keys", default=1_000_000, show_default=True, help="Keys that the node holds.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the tables.")
@click.option("--memory", type=click.Choice(list(MADE)), hidden=True)
@click.option("--port", type=int, hidden=True)
@click.option("--target", default="", hidden=True)
@click.option("--method", default="GET", hidden=True)
@click.option("--slow", default=0.0, hidden=True)
def main(keys: int, as_json: bool, memory: str | None, port: int | None, target: str, method: str, slow: float) -> None:
    """Measure the memory of what the store holds, and ranges over HTTP."""
    if port is not None:
        print(json.dumps(read_from(port, target, method, slow)))
        return
    if memory is not None:
        print(json.dumps(memory_of(memory)))
        return
    result: dict[str, Any] = {"memory": {}}
    for name, (what, _, _) in MADE.items():
        STATUS.print(f"memory of {what} …")
        result["memory"][name] = measured(["--memory", name])
    folder = Path(tempfile.mkdtemp(prefix="raftkv-ranges-", dir="."))
    try:
        result |= run(lambda reactor: serve(reactor, folder, keys))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["load_average"] = os.getloadavg()
    result["python"] = f"Python {sys.version.split()[0]}, {os.cpu_count()} processors"
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
