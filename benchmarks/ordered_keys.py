"""What keys in order cost: the store's own structure beside the others that were considered.

``python -m benchmarks.ordered_keys [--keys N] [--json]``. Every candidate is a dictionary from key to record with
some order kept beside it, and gets the same keys in the same random order. Times are CPU seconds of this process; the
longest step is one operation, or one slice where a candidate works in slices.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import sys
import tracemalloc
from collections.abc import Callable, Iterable, Sequence
from itertools import islice
from time import process_time, process_time_ns
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
            self._keys.toggle(key)
        self._records[key] = RECORD

    def delete(self, key: bytes) -> None:
        del self._records[key]
        self._keys.toggle(key)

    def range(self, start: bytes, limit: int) -> list[bytes]:
        return list(islice((key for run in self._keys.runs(start, None) for key in run), limit))


CANDIDATES: tuple[Callable[[], Candidate], ...] = (
    EagerSortedDict,
    EagerSortedList,
    LazySortedList,
    BatchedSortedList,
    OwnBlocks,
)


def timed(step: Callable[[bytes], object], keys: Iterable[bytes]) -> tuple[float, float]:
    """Return the microseconds and the longest milliseconds of a step over keys.

    The first figure is the mean of the best tenth of the keys, in their order, so that a neighbour who spoils the
    caches for a while does not count; no candidate saves its work up for longer than a tenth.
    """
    portions: list[int] = []
    remaining = list(keys)
    size = max(len(remaining) // 10, 1)
    longest = 0
    for at in range(0, len(remaining), size):
        total = 0
        for key in remaining[at : at + size]:
            before = process_time_ns()
            step(key)
            spent = process_time_ns() - before
            total += spent
            longest = max(longest, spent)
        portions.append(total // len(remaining[at : at + size]))
    return min(portions) / 1000, longest / 1e6


def overhead_us() -> float:
    """Return what measuring an empty step costs, in microseconds."""
    return timed(lambda key: None, [b""] * 20_000)[0]


def measure(make: Callable[[], Candidate], keys: Sequence[bytes], rest: Sequence[bytes]) -> dict[str, Any]:
    """Return one line of the table.

    :param keys: what the candidate holds when the measurements begin.
    :param rest: keys that it does not hold then, to be added.
    """
    tracemalloc.start()
    small = make()
    for key in keys[: len(keys) // 10]:
        small.set(key)
    small.range(b"", 1)
    memory_bytes = tracemalloc.get_traced_memory()[0] / max(len(keys) // 10, 1)
    tracemalloc.stop()
    del small

    candidate = make()
    before = process_time()
    for key in keys:
        candidate.set(key)
    filling = process_time() - before
    gc.collect()
    empty = overhead_us()
    _, first_range_ms = timed(lambda key: candidate.range(key, RANGE_KEYS), keys[:1])
    new, new_ms = timed(candidate.set, rest)
    overwrite, overwrite_ms = timed(candidate.set, keys[: len(rest)])
    ranged, ranged_ms = timed(lambda key: candidate.range(key, RANGE_KEYS), keys[: len(rest) // 10])
    mixed_new, mixed_ms = timed(lambda key: (candidate.set(key), candidate.range(key, 1)), (b"~" + key for key in rest))
    deleted, deleted_ms = timed(candidate.delete, keys[-len(rest) :])
    return {
        "candidate": getattr(make, "__name__", str(make)),
        "filling_us": filling / len(keys) * 1e6,
        "new_key_us": new - empty,
        "overwrite_us": overwrite - empty,
        "range_of_100_us": ranged - empty,
        "new_key_then_range_us": mixed_new - empty,
        "delete_us": deleted - empty,
        "first_range_ms": first_range_ms,
        "longest_step_ms": max(new_ms, overwrite_ms, ranged_ms, mixed_ms, deleted_ms),
        "bytes_per_key": memory_bytes,
    }


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
    if options.keys < 100:
        parser.error("--keys must be at least 100")

    chance = random.Random(1)
    added = max(min(options.keys // 10, 50_000), 10)
    everything = [b"/registry/pods/%016x" % chance.getrandbits(64) for _ in range(options.keys + added)]
    gc.collect()
    gc.freeze()
    lines = []
    for make in CANDIDATES:
        lines.append(measure(make, everything[: options.keys], everything[options.keys :]))
        gc.collect()
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
