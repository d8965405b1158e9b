"""The longest pause of a node's reactor while a million keys are snapshotted and restored.

``python -m benchmarks.reactor_pause [--keys N] [--rounds N] [--json]``. One node alone, put together as the process
does it: a real disk (a temporary folder here), real worker threads, the real reactor with monotonic time, the
interpreter tuned as in ``raftkv.daemon``. Each round goes through the same phases, and the table shows medians over
the rounds; what a snapshot adds is the difference to the same writes without one. A start on the directory that
comes of it is measured in a process of its own.
"""

from __future__ import annotations

import gc
import json
import os
import random
import re
import resource
import secrets
import shutil
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred, ensureDeferred, succeed
from twisted.internet.task import deferLater, react
from zope.interface import implementer

from benchmarks.pauses import Probe, growth_of_a_bare_dictionary
from raftkv.config import Limits, NodeConfig
from raftkv.daemon.collector import Collector, freeze_long_lived
from raftkv.daemon.process import steady_seconds, tune_interpreter, use_monotonic_clock
from raftkv.interfaces import Identity, IForwarder, IPeerTransport
from raftkv.kvstore import Restorer
from raftkv.kvstore.commands import put
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings
from raftkv.persistence.worker import ThreadWorker
from raftkv.server import snapshotter
from raftkv.server.assembly import Surroundings, assemble
from raftkv.server.replica import Replica
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo

MIB: Final = 1024 * 1024
PUTS_PER_SECOND: Final = 2000
COMMANDS_PER_ENTRY: Final = 4  # so that the log has many entries, as it does under a light load that lasts
PIECE_BYTES: Final = 256 * 1024
STATUS = Console(stderr=True)
LEGEND: Final = """\
adds: longest pause less that of the same writes without a snapshot
ours: the most that this process can have to do with one pause; the rest is the machine's
most CPU: of the reactor's thread between two turns
dict grew: the longest pause in which a dictionary grew; the other columns leave these out"""


RESTORED: list[Restorer] = []  # the last one that was made


class WatchedRestorer(Restorer):
    """Makes itself known, for its dictionary to be watched."""

    def __init__(self) -> None:
        super().__init__()
        RESTORED[:] = [self]


@implementer(IPeerTransport, IForwarder)
class Nobody:
    """The other members of a cluster of one."""

    def start(self, receiver: Any) -> None:
        """Nothing will ever arrive."""

    def set_members(self, configuration: Any) -> None:
        """There is only this one."""

    def leave(self) -> None:
        """There is nobody to talk to as it is."""

    def known_peers(self) -> Mapping[str, Identity]:
        """Return nobody."""
        return {}

    def send(self, messages: Sequence[Any]) -> None:
        """Refuse: there is nobody to send to; likewise the others."""
        raise RuntimeError(f"a node alone wanted to send {messages!r}")

    def send_snapshot(self, peer: str) -> None:
        """See :meth:`send`."""
        raise RuntimeError(f"a node alone wanted to send a snapshot to {peer}")

    def write(self, rpc_addr: str, commands: Any, done: Any) -> None:
        """See :meth:`send`."""
        raise RuntimeError("a node alone wanted to forward a write")

    def call(self, rpc_addr: str, name: str, arguments: Any) -> Deferred[Any]:
        """See :meth:`send`."""
        raise RuntimeError(f"a node alone wanted to call {name}")

    def stop(self) -> Deferred[None]:
        """Nothing is open."""
        return succeed(None)


LIMITS: Final = Limits(max_batch_commands=COMMANDS_PER_ENTRY, request_timeout_seconds=60.0)


def build(reactor: Any, folder: Path, limits: Limits = LIMITS) -> tuple[Replica, LocalDisk]:
    """Put a node together on a folder, as :mod:`raftkv.composition` does; reads what is there."""
    snapshotter.Restorer = WatchedRestorer  # type: ignore[attr-defined]
    config = NodeConfig(
        node_id="alone",
        data_dir=str(folder),
        snapshot_interval_seconds=86_400.0,  # this benchmark says when
        max_snapshots=2,
        limits=limits,
    )
    disk = LocalDisk(config.data_dir)
    disk.prepare()
    nobody = Nobody()
    world = Surroundings(
        clock=reactor,
        random=random.Random(1),
        wall_seconds=time.time,
        steady_seconds=steady_seconds,
        disk=disk,
        log_worker=ThreadWorker(reactor, "raftkv-log"),
        log_reader=ThreadWorker(reactor, "raftkv-log-reader"),
        snapshot_worker=ThreadWorker(reactor, "raftkv-snapshot"),
        transport=lambda *_: nobody,
        forwarder=lambda _: nobody,
        make_id=lambda: secrets.token_hex(16),
        fatal=_fatal,
        progress=lambda _done, _all: None,
        log_settings=LogSettings(),
        unreadable=_fatal,
    )
    return assemble(config, world).replica, disk


def _fatal(error: BaseException) -> None:
    STATUS.print(f"the node stopped: {error!r}")
    os._exit(1)


def dictionary_sizes(replica: Replica) -> tuple[int, ...]:
    """Return the sizes of the dictionaries that grow with the state: of the store, and of one being restored."""
    records = replica.state_machine.store._records
    restored = RESTORED[-1]._records._by_key if RESTORED else ()
    return sys.getsizeof(records._by_key), sys.getsizeof(records._preserved), sys.getsizeof(restored)


class Writer:
    """Writes at a steady rate, or as fast as the node takes it, a little in each turn.

    :param next_key: returns the next key to write.
    """

    def __init__(self, reactor: Any, replica: Replica, chance: random.Random) -> None:
        self._reactor = reactor
        self._replica = replica
        self._chance = chance
        self._timer: Any = None
        self.pending = 0

    def begin(self, next_key: Callable[[], bytes], puts_per_second: float) -> None:
        """Write until :meth:`end`."""
        last = self._reactor.seconds()
        owed = 0.0

        def turn() -> None:
            nonlocal last, owed
            now = self._reactor.seconds()
            owed = min(owed + puts_per_second * (now - last), 40.0)  # what a pause kept back does not come in a burst
            last = now
            while owed >= 1 and self.pending < 4000:
                owed -= 1
                self.put(next_key())
            self._timer = self._reactor.callLater(0.001, turn)

        turn()

    def put(self, key: bytes) -> None:
        """Write one key."""
        self.pending += 1
        self._replica.write([put(key, self._chance.randbytes(50).hex().encode())], self._done)

    def _done(self, outcome: Any) -> None:
        self.pending -= 1
        if not isinstance(outcome, Sequence):
            _fatal(outcome)

    async def end(self) -> None:
        """Stop writing, and wait until everything has been answered."""
        self._timer.cancel()
        while self.pending:
            await deferLater(self._reactor, 0.002)


class Rounds:
    """The phases, on one node that runs."""

    def __init__(self, reactor: Any, replica: Replica, folder: Path, keys: int, seconds: float) -> None:
        self._reactor = reactor
        self._replica = replica
        self._snapshotter = replica.snapshotter
        self._folder = folder
        self._keys = keys
        self._seconds = seconds
        self._chance = random.Random(2)
        self._new = 0
        self.writer = Writer(reactor, replica, self._chance)
        self.probe = Probe(reactor, lambda: dictionary_sizes(replica))
        self.figures: dict[str, list[float]] = {}

    async def fill(self) -> None:
        """Make all the keys."""
        self.probe.enter("growing")
        began = time.monotonic()
        while self._new < self._keys:
            for _ in range(100):
                self.writer.put(key_of(self._new))
                self._new += 1
            await deferLater(self._reactor, 0.001)
            while self.writer.pending > 2000:
                await deferLater(self._reactor, 0.001)
        while self.writer.pending:
            await deferLater(self._reactor, 0.002)
        self._note("fill_seconds", time.monotonic() - began)

    async def idle(self, name: str = "idle") -> None:
        """Do nothing."""
        self.probe.enter(name)
        await deferLater(self._reactor, self._seconds)

    async def round(self) -> None:
        """Go through the phases once."""
        await self.idle()
        self.probe.enter("writes")
        self._overwrite()
        await deferLater(self._reactor, self._seconds)
        self.probe.enter("writes, snapshot taken")
        info = await self._take("take_seconds")
        self.probe.enter("writes, log compacted")
        await deferLater(self._reactor, 1.0)
        self.probe.enter("writes, snapshot received")
        await self._receive(info)
        await self.writer.end()
        self.probe.enter("no writes, snapshot taken")
        info = await self._take("take_without_writes_seconds")
        self.probe.enter("writes, snapshot restored")
        began = time.monotonic()
        self._replica.state_machine.restore(info.meta)
        self._overwrite()
        await self._until(lambda: not self._replica.state_machine.is_restoring)
        self._note("restore_seconds", time.monotonic() - began)
        self.probe.enter("writes, old store freed")
        began = time.monotonic()
        await self._until(lambda: self._snapshotter._chores.is_idle)
        self._note("free_seconds", time.monotonic() - began)
        await deferLater(self._reactor, 1.0)
        await self.writer.end()
        self.probe.enter("full collection")
        await deferLater(self._reactor, 0.1)
        gc.collect()
        await deferLater(self._reactor, 0.1)

    def _overwrite(self) -> None:
        self.writer.begin(lambda: key_of(self._chance.randrange(self._keys)), PUTS_PER_SECOND)

    async def _take(self, figure: str) -> SnapshotInfo:
        began = time.monotonic()
        info = await self._snapshotter.take()
        self._note(figure, time.monotonic() - began)
        self.figures["snapshot_bytes"] = [info.size_bytes]
        return info

    async def _receive(self, info: SnapshotInfo) -> None:
        """Write the file anew in pieces and check it, as a follower does that is sent one."""
        calls = self._snapshotter._calls
        directory: SnapshotDirectory = self._snapshotter._directory
        reader = await calls.run(partial(directory.open, info))
        receiver = await calls.run(
            partial(
                directory.receive,
                index=info.meta.index,
                term=info.meta.term,
                size_bytes=info.size_bytes,
                digest=info.digest,
            )
        )
        for offset in range(0, info.size_bytes, PIECE_BYTES):
            piece = await calls.run(partial(reader.read_raw, offset, min(PIECE_BYTES, info.size_bytes - offset)))
            await calls.run(partial(receiver.write, offset, piece))
        await calls.run(receiver.install)
        reader.close()

    async def _until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await deferLater(self._reactor, 0.001)

    def _note(self, name: str, value: float) -> None:
        self.figures.setdefault(name, []).append(value)


def key_of(number: int) -> bytes:
    """Return a key whose place in the order has nothing to do with its number."""
    return b"/registry/pods/%016x" % (number * 0x9E3779B97F4A7C15 % 2**64)


def resident_bytes() -> int:
    """Return how much memory the process has at this moment."""
    return int(Path("/proc/self/statm").read_text().split()[1]) * resource.getpagesize()


def peak_resident_bytes() -> int:
    """Return the most memory that the process had; what getrusage says is inherited from the parent."""
    status = Path("/proc/self/status").read_text()
    return int(re.search(r"VmHWM:\s+(\d+)", status)[1]) * 1024  # type: ignore[index]


async def settle(reactor: Any, replica: Replica) -> None:
    """Wait until the node answers."""
    while not replica.is_ready()[0]:
        await deferLater(reactor, 0.001)


async def main_process(reactor: Any, folder: Path, keys: int, rounds: int, seconds: float) -> dict[str, Any]:
    """Fill a node and go through the rounds; return the figures."""
    replica, disk = build(reactor, folder)
    freeze_long_lived()
    collector = Collector(reactor)
    collector.startService()
    replica.startService()
    await settle(reactor, replica)
    empty_bytes = resident_bytes()
    run = Rounds(reactor, replica, folder, keys, seconds)
    run.probe.enter("idle, empty")
    run.probe.start()
    await deferLater(reactor, 1.0)
    STATUS.print(f"filling in {keys:,} keys …")
    await run.fill()
    full_bytes = resident_bytes()
    for number in range(rounds):
        STATUS.print(f"round {number + 1} of {rounds}, load average {os.getloadavg()[0]:.1f} …")
        await run.round()
    run.probe.stop()
    await replica.stopService()
    collector.stopService()
    disk.release()
    figures = {name: statistics.median(values) for name, values in run.figures.items()}
    figures["empty_rss_bytes"] = empty_bytes
    figures["full_rss_bytes"] = full_bytes
    figures["peak_rss_bytes"] = peak_resident_bytes()
    return {"phases": [phase.figures() for phase in run.probe.phases], "figures": figures}


async def start_process(reactor: Any, folder: Path, began: float) -> dict[str, Any]:
    """Start on a directory that holds a state; return the figures."""
    empty_bytes = resident_bytes()
    replica, disk = build(reactor, folder)
    assembled = time.monotonic()
    freeze_long_lived()
    probe = Probe(reactor, lambda: dictionary_sizes(replica))
    probe.enter("start: snapshot restored, log applied")
    probe.start()
    collector = Collector(reactor)
    collector.startService()
    replica.startService()
    await settle(reactor, replica)
    ready = time.monotonic()
    probe.enter("start: after it")
    await deferLater(reactor, 2.0)
    probe.enter("start: full collection")
    await deferLater(reactor, 0.1)
    gc.collect()
    await deferLater(reactor, 0.1)
    probe.stop()
    figures = {
        "start_reading_seconds": assembled - began,
        "start_restoring_seconds": ready - assembled,
        "start_rss_bytes": resident_bytes() - empty_bytes,
        "start_peak_rss_bytes": peak_resident_bytes(),
        "start_keys": replica.status()["keys"],
    }
    await replica.stopService()
    collector.stopService()
    disk.release()
    return {"phases": [phase.figures() for phase in probe.phases], "figures": figures}


def run(work: Callable[[Any], Any]) -> dict[str, Any]:
    """Run a coroutine in the real reactor; return its result."""
    from twisted.internet import reactor

    use_monotonic_clock(reactor)
    tune_interpreter()
    results: list[dict[str, Any]] = []

    async def keep() -> None:
        results.append(await work(reactor))

    try:
        react(lambda _: ensureDeferred(keep()))
    except SystemExit as end:
        if end.code:
            raise
    return results[0]


def medians(phases: Sequence[dict[str, Any]]) -> list[dict[str, Any]]:
    """Return one line for each phase: the median of its rounds, and what caused the longest pause of all of them."""
    lines = []
    for name in dict.fromkeys(phase["phase"] for phase in phases):
        same = [phase for phase in phases if phase["phase"] == name]
        line: dict[str, Any] = {"phase": name, "rounds": len(same)}
        for figure in same[0]:
            if figure not in ("phase", "cause"):
                line[figure] = round(statistics.median(phase[figure] for phase in same), 2)
        worst = max(same, key=lambda phase: float(phase["longest_ms"]))
        line.update(worst_ms=worst["longest_ms"], cause=worst["cause"], over_50_ms=sum(p["over_50_ms"] for p in same))
        lines.append(line)
    baseline = {line["phase"]: line for line in lines}.get("writes")
    for line in lines:
        with_writes = baseline is not None and line["phase"].startswith("writes,")
        line["adds_ms"] = round(line["longest_ms"] - baseline["longest_ms"], 1) if baseline and with_writes else ""
    return lines


def show(result: dict[str, Any]) -> None:
    """Print the tables."""
    table = Table(title=f"lateness of a 1 ms timer, ms; {result['keys']:,} keys; median of rounds")
    columns = {
        "seconds": "seconds",
        "p50_ms": "p50",
        "p99_ms": "p99",
        "p999_ms": "p99.9",
        "longest_ms": "longest",
        "adds_ms": "adds",
        "worst_ms": "worst round",
        "over_50_ms": "over 50",
        "ours_ms": "ours",
        "busiest_ms": "most CPU",
        "collector_ms": "collector",
        "dictionary_growth_ms": "dict grew",
    }
    table.add_column("phase")
    for title in columns.values():
        table.add_column(title, justify="right")
    table.add_column("cause of the worst")
    for line in result["phases"]:
        table.add_row(line["phase"], *(str(line[name]) for name in columns), line["cause"])
    console = Console(width=180 if not sys.stdout.isatty() else None)
    console.print(table)
    figures = result["figures"]
    for name, value in figures.items():
        console.print(f"{name:32}{value / MIB:12,.1f} MiB" if name.endswith("_bytes") else f"{name:32}{value:12,.2f}")
    console.print("a bare dictionary grew at " + ", ".join(f"{n:,} in {ms:.1f} ms" for n, ms in result["bare_growth"]))
    console.print(LEGEND)
    console.print(f"load average {', '.join(f'{load:.1f}' for load in result['load_average'])}; {result['python']}")


@click.command()
@click.option("--keys", default=1_000_000, show_default=True, help="Keys that the node holds.")
@click.option("--rounds", default=3, show_default=True, help="How often the phases are gone through.")
@click.option("--seconds", default=5.0, show_default=True, help="How long the phases without an end of their own last.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the tables.")
@click.option("--start", type=click.Path(), default=None, hidden=True)
def main(keys: int, rounds: int, seconds: float, as_json: bool, start: str | None) -> None:
    """Measure the longest pause of the reactor in each phase of a node's life."""
    if start is not None:
        began = time.monotonic()
        print(json.dumps(run(lambda reactor: start_process(reactor, Path(start), began))))
        return
    folder = Path(tempfile.mkdtemp(prefix="raftkv-pause-", dir="."))
    try:
        result = run(lambda reactor: main_process(reactor, folder, keys, rounds, seconds))
        for number in range(rounds):
            STATUS.print(f"start {number + 1} of {rounds} …")
            command = [sys.executable, "-m", "benchmarks.reactor_pause", "--start", str(folder)]
            started = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=300).stdout)
            result["phases"] += started["phases"]
            result["figures"] |= started["figures"]
        result["figures"]["disk_bytes"] = sum(file.stat().st_blocks * 512 for file in folder.rglob("*"))
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    result["keys"] = keys
    result["phases"] = medians(result["phases"])
    growth = growth_of_a_bare_dictionary(key_of(number) for number in range(keys))
    result["bare_growth"] = [pair for pair in growth if pair[0] > keys // 20]
    result["load_average"] = os.getloadavg()
    result["python"] = f"Python {sys.version.split()[0]}, {os.cpu_count()} processors"
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
