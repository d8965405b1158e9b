"""How long a start takes on a large directory, what it takes of memory, and what the directory takes of the disk.

``python -m benchmarks.recovery [--keys N] [--entries N] [--json]``. Two directories are made without any node, each as
a node alone would have left it: one with a snapshot of so many keys and no log behind it, and one with a log of so many
entries, one put each, and no snapshot. A node is then started on each in a process of its own, put together as always,
and is timed until it would be ready. CPU time is told beside the time on the clock: on a machine that is busy with
other things only the former can be compared.
"""

from __future__ import annotations

import gc
import json
import os
import random
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

import click
from rich.console import Console
from rich.table import Table

from benchmarks.reactor_pause import STATUS, build, key_of, peak_resident_bytes, resident_bytes, run, settle
from raftkv.daemon.collector import Collector, freeze_long_lived
from raftkv.kvstore import Store
from raftkv.kvstore.commands import compact, pack_batch, put
from raftkv.persistence.directory import open_directory
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.hardstate import HardStateFile
from raftkv.persistence.log import LogSettings, SegmentedLog
from raftkv.persistence.reserve import RESERVE_FILE
from raftkv.persistence.segment import log_identity
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.snapshot.files import SnapshotDirectory

MIB: Final = 1024 * 1024
TERM: Final = 1
HISTORY_REVISIONS: Final = 100_000  # what is kept of them by default
HISTORY_BYTES: Final = 64 * MIB  # likewise, of the entries that made them
SYNC_BYTES: Final = 4 * MIB  # of log in one sync, while it is made


def make_directory(folder: Path) -> tuple[LocalDisk, SegmentedLog, SnapshotDirectory]:
    """Make the data directory of a node alone; return what is open of it."""
    disk = LocalDisk(str(folder))
    disk.prepare()
    meta = open_directory(
        disk,
        node_id="alone",
        cluster_id=None,
        make_identity=lambda: ("c" * 32, "i" * 32),
        settings=LogSettings(),
    )
    hard_state = HardStateFile(disk)
    hard_state.store(HardState(term=TERM), log_batch=0)
    hard_state.close()
    log = SegmentedLog(disk, log_identity(meta.cluster_id, meta.incarnation), LogSettings())
    log.recover(lambda done, all_of_it: None)
    return disk, log, SnapshotDirectory(disk, cluster_id=meta.cluster_id, unreadable=_fail)


def _fail(error: Exception) -> None:
    raise error


def values(value_bytes: int) -> Iterator[bytes]:
    """Yield values that halve when they are compressed."""
    chance = random.Random(3)
    while True:
        yield chance.randbytes(value_bytes // 2).hex().encode()


def make_snapshot(folder: Path, keys: int, value_bytes: int) -> dict[str, Any]:
    """Make a directory with a snapshot; return how large what it holds is."""
    disk, log, snapshots = make_directory(folder)
    store = Store()
    made = values(value_bytes)
    index = data_bytes = 0
    for first in range(0, keys, 1000):
        batch = [put(key_of(number), next(made)) for number in range(first, min(first + 1000, keys))]
        index += 1
        data_bytes += sum(len(command[2]) + len(command[3]) for command in batch)
        store.apply(index, pack_batch(index, 0, batch))
    index += 1
    store.apply(index, pack_batch(index, 0, [compact(max(store.revision - HISTORY_REVISIONS, 1))]))
    member = Configuration(members={"alone": Member(id="alone")}, voters=frozenset(["alone"]))
    meta = SnapshotMeta(index=index, term=TERM, configuration=member, configuration_index=0)
    view = store.capture()
    writer = snapshots.create(meta, store.revision)
    for chunk in view:
        writer.write(chunk)
    info = writer.commit()
    log.install_snapshot(index, TERM)
    log.commit()
    log.close()
    disk.release()
    return {"keys": keys, "data_bytes": data_bytes, "snapshot_bytes": info.size_bytes}


def make_log(folder: Path, entries: int, value_bytes: int, keys: int) -> dict[str, Any]:
    """Make a directory with a log; return how large what it holds is."""
    disk, log, _ = make_directory(folder)
    made = values(value_bytes)
    data_bytes = waiting_bytes = 0
    kept = min(HISTORY_REVISIONS, HISTORY_BYTES // (value_bytes + 50))
    revision = 0
    waiting: list[Entry] = []
    for index in range(1, entries + 1):
        if index % 1000 == 0 and revision > kept:  # as a leader does once a second
            payload = pack_batch(index, 0, [compact(revision - kept)])
        else:
            revision += 1
            key, value = key_of(index % keys), next(made)
            payload = pack_batch(index, 0, [put(key, value)])
            data_bytes += len(key) + len(value)
        waiting.append(Entry(index=index, term=TERM, kind=EntryKind.COMMANDS, payload=payload))
        waiting_bytes += len(payload)
        if waiting_bytes >= SYNC_BYTES or index == entries:
            log.append(waiting)
            log.commit()
            waiting, waiting_bytes = [], 0
    log.close()
    disk.release()
    return {"entries": entries, "keys": min(keys, entries), "data_bytes": data_bytes}


def disk_bytes(folder: Path) -> int:
    """Return what a directory takes of the disk, but for what is kept in reserve."""
    return sum(file.stat().st_blocks * 512 for file in folder.rglob("*") if file.name != RESERVE_FILE)


async def start_process(reactor: Any, folder: Path) -> dict[str, Any]:
    """Start on a directory; return the figures."""
    gc.collect()
    empty_bytes = resident_bytes()
    began, began_cpu = time.monotonic(), time.process_time()
    replica, disk = build(reactor, folder)
    read, read_cpu = time.monotonic(), time.process_time()
    read_peak_bytes = peak_resident_bytes()
    freeze_long_lived()
    collector = Collector(reactor)
    collector.startService()
    replica.startService()
    await settle(reactor, replica)
    ready, ready_cpu = time.monotonic(), time.process_time()
    figures = {
        "reading_seconds": read - began,
        "reading_cpu_seconds": read_cpu - began_cpu,
        "applying_seconds": ready - read,
        "applying_cpu_seconds": ready_cpu - read_cpu,
        "seconds": ready - began,
        "cpu_seconds": ready_cpu - began_cpu,
        "empty_rss_bytes": empty_bytes,
        "reading_peak_rss_bytes": read_peak_bytes,
        "peak_rss_bytes": peak_resident_bytes(),
        "ready_rss_bytes": resident_bytes(),
        "keys": replica.status()["keys"],
    }
    await replica.stopService()
    collector.stopService()
    disk.release()
    return figures


def measure(what: str, folder: Path, made: dict[str, Any]) -> dict[str, Any]:
    """Start a node on a directory that was made, and return everything about it."""
    STATUS.print(f"starting on a {what}, load average {os.getloadavg()[0]:.1f} …")
    made["disk_bytes"] = disk_bytes(folder)
    command = [sys.executable, "-m", "benchmarks.recovery", "--start", str(folder)]
    started = json.loads(subprocess.run(command, check=True, stdout=subprocess.PIPE, timeout=1800).stdout)
    figures = {"directory": what, **made, **started}
    figures["disk_bytes_per_data_byte"] = made["disk_bytes"] / made["data_bytes"]
    figures["peak_rss_per_data_byte"] = (started["peak_rss_bytes"] - started["empty_rss_bytes"]) / made["data_bytes"]
    return figures


def show(result: dict[str, Any]) -> None:
    """Print the table."""
    table = Table(title="a start, until the node is ready")
    table.add_column("")
    for figures in result["starts"]:
        table.add_column(figures["directory"], justify="right")
    names = dict.fromkeys(name for figures in result["starts"] for name in figures if name != "directory")
    for name in names:
        table.add_row(
            name.removesuffix("_bytes"), *(_in_words(name, figures.get(name)) for figures in result["starts"])
        )
    console = Console(width=100 if not sys.stdout.isatty() else None)
    console.print(table)
    console.print(f"load average {', '.join(f'{load:.1f}' for load in result['load_average'])}; {result['python']}")


def _in_words(name: str, value: Any) -> str:
    if value is None:
        return ""
    if name.endswith("_bytes"):
        return f"{value / MIB:,.1f} MiB"
    return f"{value:,.2f}" if isinstance(value, float) else f"{value:,}"


@click.command()
@click.option("--keys", default=1_000_000, show_default=True, help="Keys in the snapshot, and at most in the log.")
@click.option("--value-bytes", default=100, show_default=True, help="Size of a value in the snapshot.")
@click.option("--entries", default=1_000_000, show_default=True, help="Entries in the log.")
@click.option("--entry-bytes", default=1000, show_default=True, help="Size of a value in the log.")
@click.option("--log-keys", default=100_000, show_default=True, help="Keys that the log writes to.")
@click.option("--only", type=click.Choice(["snapshot", "log"]), default=None, help="Measure this one alone.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of the table.")
@click.option("--start", type=click.Path(), default=None, hidden=True)
def main(
    keys: int,
    value_bytes: int,
    entries: int,
    entry_bytes: int,
    log_keys: int,
    only: str | None,
    as_json: bool,
    start: str | None,
) -> None:
    """Measure a start on a snapshot of a million keys, and on a log of a gigabyte."""
    if start is not None:
        print(json.dumps(run(lambda reactor: start_process(reactor, Path(start)))))
        return
    root = Path(tempfile.mkdtemp(prefix="raftkv-recovery-", dir="."))
    starts = []
    try:
        if only != "log":
            STATUS.print(f"making a snapshot of {keys:,} keys …")
            starts.append(measure("snapshot", root / "s", make_snapshot(root / "s", keys, value_bytes)))
        if only != "snapshot":
            STATUS.print(f"making a log of {entries:,} entries …")
            starts.append(measure("log", root / "l", make_log(root / "l", entries, entry_bytes, log_keys)))
    finally:
        shutil.rmtree(root, ignore_errors=True)
    result = {
        "starts": starts,
        "load_average": os.getloadavg(),
        "python": f"Python {sys.version.split()[0]}, {os.cpu_count()} processors",
    }
    if as_json:
        print(json.dumps(result, indent=2))
    else:
        show(result)


if __name__ == "__main__":
    main()
