"""Writes and reads a second over HTTP and over the RPC port, against three real nodes on this machine.

``python -m benchmarks.throughput`` prints a table, ``--json`` the same for machines. The load comes from this one
process, which shares the machine's cores with the nodes; compare figures of one run with each other only. The nodes
keep leases, which only the reads that ask for them use.
"""

from __future__ import annotations

import itertools
import json
import shutil
import tempfile
import time
from collections.abc import Callable
from dataclasses import asdict, dataclass
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
from twisted.internet.task import react

from benchmarks.cluster import running_cluster
from benchmarks.httpload import http_load
from raftkv.cli.localnode import LocalNode
from raftkv.client import NativeClient
from raftkv.config import Address

VALUE = b"v" * 256
KEYS = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Measured:
    """One line of the table; latencies in milliseconds."""

    work: str
    outstanding: int
    per_second: float
    p50: float
    p99: float
    errors: int


def summary(work: str, outstanding: int, seconds: float, latencies: list[float], errors: int) -> Measured:
    """Make a line of what was measured."""
    latencies = sorted(latencies)
    count = len(latencies)
    return Measured(
        work=work,
        outstanding=outstanding,
        per_second=round(count / seconds, 1),
        p50=round(latencies[count // 2] * 1000, 3),
        p99=round(latencies[count * 99 // 100] * 1000, 3),
        errors=errors,
    )


def request(method: str, path: str, body: bytes = b"") -> bytes:
    """Return the bytes of a request."""
    return b"%b %b HTTP/1.1\r\nHost: raftkv\r\nContent-Length: %d\r\n\r\n%b" % (
        method.encode(),
        path.encode(),
        len(body),
        body,
    )


def http_works() -> dict[str, Callable[[], bytes]]:
    """Return what each line of the table asks for over HTTP."""
    numbers = itertools.cycle(range(KEYS))
    body = b'{"key":"key%d","value":"' + VALUE + b'"}'
    return {
        "HTTP PUT /v1/kv/": lambda: request("PUT", f"/v1/kv/key{next(numbers)}", VALUE),
        "HTTP POST /set": lambda: request("POST", "/set", body % next(numbers)),
        "HTTP GET /get": lambda: request("GET", f"/get?key=key{next(numbers)}"),
        "HTTP GET /get lease": lambda: request("GET", f"/get?key=key{next(numbers)}&consistency=lease"),
        "HTTP GET /get stale": lambda: request("GET", f"/get?key=key{next(numbers)}&consistency=stale"),
    }


async def native_load(client: NativeClient, operation: str, outstanding: int, seconds: float) -> list[float]:
    """Keep ``outstanding`` operations under way for a time; return the latencies."""
    latencies: list[float] = []
    numbers = itertools.cycle(range(KEYS))
    end = time.perf_counter() + seconds

    async def one_after_the_other() -> None:
        while (begin := time.perf_counter()) < end:
            key = b"key%d" % next(numbers)
            if operation == "put":
                await client.set(key, VALUE)
            else:
                await client.get_bytes(key, consistency="lease" if operation == "get lease" else "linearizable")
            latencies.append(time.perf_counter() - begin)

    await gatherResults([ensureDeferred(one_after_the_other()) for _ in range(outstanding)])
    return latencies


async def native_bulk(client: NativeClient, operation: str, batch: int, seconds: float) -> tuple[int, list[float]]:
    """Write or read in batches, four under way; return how many keys, and the latency of each batch."""
    latencies: list[float] = []
    end = time.perf_counter() + seconds

    async def batches() -> None:
        while (begin := time.perf_counter()) < end:
            keys = [b"key%d" % number for number in range(batch)]
            if operation == "put":
                await client.put_many([(key, VALUE) for key in keys])
            else:
                await client.get_many(keys)
            latencies.append(time.perf_counter() - begin)

    await gatherResults([ensureDeferred(batches()) for _ in range(4)])
    return batch * len(latencies), latencies


async def measure(reactor: Any, cluster: list[LocalNode], seconds: float, connections: int) -> list[Measured]:
    """Run all works against a cluster, the leader first in the list."""
    address = Address.parse(cluster[0].config.http_advertised_addr)
    lines = []
    for work, next_request in http_works().items():
        _, errors, latencies = await http_load(
            reactor, [(address.host, address.port)], next_request, connections=connections, seconds=seconds
        )
        lines.append(summary(work, connections, seconds, latencies, errors))
    client = NativeClient([node.config.rpc_advertised_addr for node in cluster])
    for operation, outstanding in itertools.product(("put", "get", "get lease"), (1, connections, 1000)):
        latencies = await native_load(client, operation, outstanding, seconds)
        lines.append(summary(f"native {operation}", outstanding, seconds, latencies, 0))
    for operation in ("put", "get"):
        count, latencies = await native_bulk(client, operation, 250, seconds)
        line = summary(f"native {operation}_many, 250 each", 1000, seconds, latencies, 0)
        lines.append(Measured(**{**asdict(line), "per_second": round(count / seconds, 1)}))
    await client.close()
    return lines


def show(lines: list[Measured]) -> None:
    """Print the table."""
    table = Table(title="three nodes and the load on one machine, values of 256 bytes")
    for name in ("work", "outstanding", "per second", "p50 ms", "p99 ms", "errors"):
        table.add_column(name, justify="left" if name == "work" else "right")
    for line in lines:
        table.add_row(
            line.work,
            str(line.outstanding),
            f"{line.per_second:,.0f}",
            f"{line.p50:.2f}",
            f"{line.p99:.2f}",
            str(line.errors),
        )
    Console().print(table)


@click.command()
@click.option("--seconds", default=5.0, show_default=True, help="How long each work runs.")
@click.option(
    "--connections", default=64, show_default=True, help="Connections over HTTP, operations at once over RPC."
)
@click.option("--data", type=click.Path(), default=None, help="Where the nodes keep their data; a temporary folder.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
def main(seconds: float, connections: int, data: str | None, as_json: bool) -> None:
    """Measure writes and reads a second against three nodes on this machine."""
    folder = Path(data or tempfile.mkdtemp(prefix="raftkv-throughput-", dir="."))
    lines: list[Measured] = []

    def run(reactor: Any) -> Deferred[None]:
        async def measured() -> None:
            lines.extend(await measure(reactor, cluster, seconds, connections))

        return ensureDeferred(measured())

    try:
        with running_cluster(folder, settings={"leaseReads": True}) as cluster:
            try:
                react(run)
            except SystemExit as end:
                if end.code:
                    raise
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    if as_json:
        print(json.dumps([asdict(line) for line in lines], indent=2))
    else:
        show(lines)


if __name__ == "__main__":
    main()
