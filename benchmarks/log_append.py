"""How fast the log takes batches: syncs a second and bytes a second, by size of batch and way of preparing the file.

``python -m benchmarks.log_append [--directory DIR] [--seconds S]``; DIR is on the disk to be measured. The first table
is the bare system calls, the second the product's own log.
"""

from __future__ import annotations

import argparse
import os
import shutil
import tempfile
import time
from collections.abc import Callable

from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings, SegmentedLog, create_log
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, EntryKind

KIB = 1024
FILE_BYTES = 64 * KIB * KIB
STEP_BYTES = 256 * KIB
BATCH_BYTES = (KIB, 16 * KIB, 256 * KIB)
VARIANTS = ("append", "truncate", "fallocate", "zeros", "zeros in steps")


def measure(write_batch: Callable[[], None], seconds: float, batches: int) -> tuple[int, float, list[float]]:
    """Write batches for a while; return how many, in what time, and how long each took, sorted."""
    latencies = []
    start = now = time.perf_counter()
    while now - start < seconds and len(latencies) < batches:
        write_batch()
        latencies.append(time.perf_counter() - now)
        now += latencies[-1]
    return len(latencies), now - start, sorted(latencies)


def show(label: str, batch_bytes: int, result: tuple[int, float, list[float]]) -> None:
    """Print one line of a table."""
    count, elapsed, latencies = result
    print(
        f"{label:16}{batch_bytes // KIB:6} KiB {count / elapsed:9.0f} syncs/s "
        f"{count * batch_bytes / elapsed / 1e6:8.1f} MB/s  "
        f"p50 {latencies[count // 2] * 1e6:6.0f} us  p99 {latencies[count * 99 // 100] * 1e6:6.0f} us"
    )


def bare(directory: str, variant: str, batch_bytes: int, seconds: float) -> None:
    """Measure pwrite and fdatasync on a file that was prepared in one of the ways."""
    path = os.path.join(directory, "bare")
    descriptor = os.open(path, os.O_RDWR | os.O_CREAT | os.O_TRUNC)
    if variant == "truncate":
        os.ftruncate(descriptor, FILE_BYTES)
    elif variant != "append":
        os.posix_fallocate(descriptor, 0, FILE_BYTES)
    if variant == "zeros":
        for offset in range(0, FILE_BYTES, STEP_BYTES):
            os.pwrite(descriptor, bytes(STEP_BYTES), offset)
    os.fsync(descriptor)
    data = os.urandom(batch_bytes)
    position = zeroed = 0

    def write_batch() -> None:
        nonlocal position, zeroed
        os.pwrite(descriptor, data, position)
        position += batch_bytes
        if variant == "zeros in steps" and position > zeroed:
            os.pwrite(descriptor, bytes(STEP_BYTES), position)
            zeroed = position + STEP_BYTES
        os.fdatasync(descriptor)

    show(variant, batch_bytes, measure(write_batch, seconds, (FILE_BYTES - STEP_BYTES) // batch_bytes))
    os.close(descriptor)
    os.unlink(path)


def product(directory: str, batch_bytes: int, zero_ahead_bytes: int, seconds: float) -> None:
    """Measure the log itself, rotation of segments included."""
    root = os.path.join(directory, "log")
    disk = LocalDisk(root)
    disk.prepare()
    settings = LogSettings(zero_ahead_bytes=zero_ahead_bytes)
    identity = log_identity("benchmark", "1")
    create_log(disk, identity, settings)
    log = SegmentedLog(disk, identity, settings)
    log.recover(lambda _done, _all: None)
    payload = os.urandom(batch_bytes)

    def write_batch() -> None:
        log.append([Entry(index=log.last_index + 1, term=1, kind=EntryKind.COMMANDS, payload=payload)])
        log.commit()
        log.compact(log.last_index)

    show("zeros ahead" if zero_ahead_bytes else "fallocate only", batch_bytes, measure(write_batch, seconds, 1 << 30))
    log.close()
    disk.release()
    shutil.rmtree(root)


def main() -> None:
    """Print both tables."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--directory", default="/var/tmp", help="on the disk to be measured (default: %(default)s)")
    parser.add_argument("--seconds", type=float, default=2.0, help="for each line (default: %(default)s)")
    arguments = parser.parse_args()
    directory = tempfile.mkdtemp(dir=arguments.directory)
    try:
        print("pwrite and fdatasync on a file prepared by")
        for batch_bytes in BATCH_BYTES:
            for variant in VARIANTS:
                bare(directory, variant, batch_bytes, arguments.seconds)
        print("raftkv's log, one entry to a batch")
        for batch_bytes in BATCH_BYTES:
            for zero_ahead_bytes in (0, LogSettings().zero_ahead_bytes):
                product(directory, batch_bytes, zero_ahead_bytes, arguments.seconds)
    finally:
        shutil.rmtree(directory)


if __name__ == "__main__":
    main()
