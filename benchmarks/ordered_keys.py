"""What keys in order cost: the store's own structure beside the others that were considered.

``python -m benchmarks.ordered_keys [--keys N] [--json]``. Every candidate is a dictionary from key to record with
some order kept beside it, and gets the same keys in the same random order. The candidates take turns portion by
portion, so that a neighbour on the machine disturbs all of them alike, and the best portion of each counts. Times are
CPU time of this process; the longest step is the longest single operation.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tracemalloc
from collections.abc import Callable, Sequence
from itertools import islice
from time import process_time_ns
from typing import Any, Protocol

from sortedcontainers import SortedDict, SortedList

from raftkv.kvstore.keys import OrderedKeys

RECORD = (b"value", 1, 1, 1, 0)
RANGE_KEYS = 100


class Candidate(Protocol):
    """A mapping with ranges, as far as the measurements need one."""

    def set(self, key: bytes) -> None: ...
    def delete(self, key: bytes) -> None: ...
    def range(self, start: bytes, limit: int) -> list[bytes]: ...


class EagerSortedDict:
    """sortedcontainers' SortedDict: each new key is inserted at once."""

    def __init__(self) -> None:
        self._records: Any = SortedDict()

    def set(self, key: bytes) -> None:
        self._records[key] = RECORD

    def delete(self, key: bytes) -> None:
        del self._records[key]

    def range(self, start: bytes, limit: int) -> list[bytes]:
        return list(islice(self._records.irange(start), limit))


class EagerSortedList:
    """A dictionary with a SortedList of its keys: as before, but overwrites stay those of a dictionary."""

    def __init__(self) -> None:
        self._records: dict[bytes, object] = {}
        self._keys: Any = SortedList()

    def set(self, key: bytes) -> None:
        if key not in self._records:
            self._keys.add(key)
        self._records[key] = RECORD

    def delete(self, key: bytes) -> None:
        del self._records[key]
        self._keys.remove(key)

    def range(self, start: bytes, limit: int) -> list[bytes]:
        return list(islice(self._keys.irange(start), limit))


class LazySortedList(EagerSortedList):
    """New keys gather in a set of any size and are merged into a SortedList when a range is read."""

    def __init__(self) -> None:
        super().__init__()
        self._pending: set[bytes] = set()

    def set(self, key: bytes) -> None:
        if key not in self._records:
            self._pending.add(key)
        self._records[key] = RECORD

    def delete(self, key: bytes) -> None:
        del self._records[key]
        if key in self._pending:
            self._pending.remove(key)
        else:
            self._keys.remove(key)

    def range(self, start: bytes, limit: int) -> list[bytes]:
        if self._pending:
            self._keys.update(self._pending)
            self._pending.clear()
        return super().range(start, limit)


class BatchedSortedList(LazySortedList):
    """New keys gather in a set of 512 and are added to a SortedList in order."""

    def set(self, key: bytes) -> None:
        super().set(key)
        if len(self._pending) >= 512:
            self._merge()

    def range(self, start: bytes, limit: int) -> list[bytes]:
        self._merge()
        return super().range(start, limit)

    def _merge(self) -> None:
        for key in sorted(self._pending):
            self._keys.add(key)
        self._pending.clear()


class OwnBlocks:
    """What the store uses: :class:`raftkv.kvstore.keys.OrderedKeys` beside a dictionary."""

    def __init__(self) -> None:
        self._records: dict[bytes, object] = {}
        self._keys = OrderedKeys()

    def set(self, key: bytes) -> None:
        if key not in self._records:
            self._keys.add(key)
        self._records[key] = RECORD

    def delete(self, key: bytes) -> None:
        del self._records[key]
        self._keys.remove(key)

    def range(self, start: bytes, limit: int) -> list[bytes]:
        return list(islice((key for run in self._keys.runs(start, None) for key in run), limit))


CANDIDATES: tuple[Callable[[], Candidate], ...] = (
    EagerSortedDict,
    EagerSortedList,
    LazySortedList,
    BatchedSortedList,
    OwnBlocks,
)


PORTIONS = 16


class Stopwatch:
    """The times of one candidate.

    :ivar best_us: by phase, mean microseconds of an operation in the best portion.
    :ivar longest_ms: the longest single operation after the keys had been filled in.
    """

    def __init__(self) -> None:
        self.best_us: dict[str, float] = {}
        self.longest_ms = 0.0

    def run(self, phase: str, step: Callable[[bytes], object], keys: Sequence[bytes]) -> None:
        """Time one portion of a phase."""
        total = longest = 0
        for key in keys:
            before = process_time_ns()
            step(key)
            spent = process_time_ns() - before
            total += spent
            longest = max(longest, spent)
        mean_us = total / len(keys) / 1000 - EMPTY_STEP_US
        self.best_us[phase] = min(self.best_us.get(phase, mean_us), mean_us)
        self.longest_ms = max(self.longest_ms, longest / 1e6)


def empty_step_us() -> float:
    """Return what measuring a step that does nothing costs, in microseconds."""
    spent = []
    for _ in range(20_000):
        before = process_time_ns()
        spent.append(process_time_ns() - before)
    return sorted(spent)[len(spent) // 2] / 1000


EMPTY_STEP_US = empty_step_us()


def bytes_per_key(make: Callable[[], Candidate], keys: Sequence[bytes]) -> float:
    """Return what a candidate allocates for each key, the keys and records themselves left out."""
    tracemalloc.start()
    candidate = make()
    for key in keys:
        candidate.set(key)
    candidate.range(b"", 1)
    allocated_bytes = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return allocated_bytes / len(keys)


def measure(keys: Sequence[bytes], rest: Sequence[bytes]) -> list[dict[str, Any]]:
    """Return the lines of the table.

    :param keys: what the candidates hold when the measurements begin.
    :param rest: keys that they do not hold then, to be added.
    """
    lines: list[dict[str, Any]] = []
    runners: list[tuple[Candidate, Stopwatch]] = []
    for make in CANDIDATES:
        line: dict[str, Any] = {"candidate": getattr(make, "__name__", str(make))}
        line["bytes_per_key"] = bytes_per_key(make, keys[: len(keys) // 10])
        candidate = make()
        before = process_time_ns()
        for key in keys:
            candidate.set(key)
        line["filling_us"] = (process_time_ns() - before) / len(keys) / 1000
        before = process_time_ns()
        candidate.range(keys[0], RANGE_KEYS)
        line["first_range_ms"] = (process_time_ns() - before) / 1e6
        lines.append(line)
        runners.append((candidate, Stopwatch()))
    gc.collect()
    size = len(rest) // PORTIONS
    for at in range(0, size * PORTIONS, size):
        for candidate, watch in runners:
            new, old = rest[at : at + size], keys[at : at + size]
            watch.run("new_key_us", candidate.set, new)
            watch.run("overwrite_us", candidate.set, old)
            watch.run("range_of_100_us", lambda key, c=candidate: c.range(key, RANGE_KEYS), old[: size // 4])
            watch.run("delete_us", candidate.delete, old)
            mixed = [b"~" + key for key in new[: size // 4]]
            watch.run("new_key_then_range_us", lambda key, c=candidate: (c.set(key), c.range(key, 1)), mixed)
    for line, (_, watch) in zip(lines, runners, strict=True):
        line.update(watch.best_us, longest_step_ms=watch.longest_ms)
    return lines


COLUMNS = (
    ("filling_us", "fill us"),
    ("new_key_us", "new us"),
    ("overwrite_us", "overwrite us"),
    ("delete_us", "delete us"),
    ("range_of_100_us", "range 100 us"),
    ("new_key_then_range_us", "new+range us"),
    ("first_range_ms", "1st range ms"),
    ("longest_step_ms", "longest ms"),
    ("bytes_per_key", "bytes/key"),
)


def main(arguments: Sequence[str] | None = None) -> None:
    """Measure all candidates and print a table, or JSON."""
    parser = argparse.ArgumentParser(prog="python -m benchmarks.ordered_keys", description=__doc__)
    parser.add_argument("--keys", type=int, default=1_000_000, metavar="N", help="keys held (default: a million)")
    parser.add_argument("--json", action="store_true", help="print JSON instead of a table")
    options = parser.parse_args(arguments)
    if options.keys < 50_000:
        parser.error("--keys must be at least 50,000")

    chance = random.Random(1)
    added = PORTIONS * 2048  # a portion is longer than what any candidate but the lazy one gathers
    everything = [b"/registry/pods/%016x" % chance.getrandbits(64) for _ in range(options.keys + added)]
    gc.collect()
    gc.freeze()
    lines = measure(everything[: options.keys], everything[options.keys :])
    if options.json:
        json.dump({"keys": options.keys, "added": added, "candidates": lines}, sys.stdout, indent=2)
        print()
        return
    print(f"{options.keys:,} keys held, {added:,} more added; CPU time")
    print(f"{'':20}" + "".join(f"{title:>14}" for _, title in COLUMNS))
    for line in lines:
        print(f"{line['candidate']:20}" + "".join(f"{line[name]:14.2f}" for name, _ in COLUMNS))


if __name__ == "__main__":
    main()
