"""What applying entries to the store costs: batches of puts, with and without sessions, and the memory that they leave.

``python -m benchmarks.store_apply [--keys N] [--json]``. The payloads are packed beforehand; times are CPU time of this
process per command, the best of several portions, since a neighbour on the machine only ever adds. Memory is counted
by tracemalloc, in a second pass.
"""

from __future__ import annotations

import argparse
import gc
import json
import random
import tracemalloc
from collections.abc import Callable, Iterator, Sequence
from time import process_time_ns

from raftkv.kvstore import Store
from raftkv.kvstore.commands import Command, delete, in_session, pack_batch, put

BATCH = 64
PORTION = 50  # batches
VALUE_BYTES = 100


def key_of(n: int) -> bytes:
    """Return the n-th key, 24 bytes long."""
    return b"/registry/things/%07d" % n


def payloads(commands: Sequence[Command]) -> list[bytes]:
    """Pack commands as entries of :data:`BATCH`."""
    return [pack_batch(1, 1, commands[at : at + BATCH]) for at in range(0, len(commands), BATCH)]


def apply_all(store: Store, entries: Sequence[bytes]) -> None:
    """Apply entries one after the other."""
    for payload in entries:
        store.apply(store.applied_index + 1, payload)


def portions(commands: Sequence[Command]) -> Iterator[list[bytes]]:
    """Yield the entries of commands in portions to be timed."""
    size = BATCH * PORTION
    for at in range(0, len(commands) - size + 1, size):
        yield payloads(commands[at : at + size])


def best_microseconds(store: Store, commands: Sequence[Command]) -> float:
    """Return the microseconds per command of the best portion."""
    best = float("inf")
    for entries in portions(commands):
        before = process_time_ns()
        apply_all(store, entries)
        best = min(best, (process_time_ns() - before) / (BATCH * PORTION) / 1000)
    return best


def measured(keys: int) -> dict[str, float]:
    """Return all times for a store of so many keys."""
    chance = random.Random(1)
    order = list(range(keys))
    chance.shuffle(order)
    value = b"v" * VALUE_BYTES
    some = BATCH * PORTION * 12
    works: dict[str, Callable[[], list[Command]]] = {
        "new key": lambda: [put(key_of(n), value) for n in order],
        "overwrite": lambda: [put(key_of(chance.randrange(keys)), value) for _ in range(some)],
        "overwrite if revision exists": lambda: [put(key_of(chance.randrange(keys)), value, -2) for _ in range(some)],
        "overwrite in session": lambda: [
            in_session(b"client", n, put(key_of(chance.randrange(keys)), value)) for n in range(some)
        ],
        "delete": lambda: [delete(key_of(n)) for n in order[:some]],
    }
    store = Store()
    gc.collect()
    gc.freeze()
    return {name: best_microseconds(store, make()) for name, make in works.items()}


def memory(keys: int) -> dict[str, float]:
    """Return the bytes that a key takes, and those that overwriting it adds."""
    value = [b"v" * VALUE_BYTES]
    tracemalloc.start()
    store = Store()
    before = tracemalloc.get_traced_memory()[0]
    for at in range(0, keys, BATCH):
        apply_all(store, payloads([put(key_of(n), value[0]) for n in range(at, at + BATCH)]))
    gc.collect()
    filled = tracemalloc.get_traced_memory()[0]
    for at in range(0, keys, BATCH):
        apply_all(store, payloads([put(key_of(n), value[0]) for n in range(at, at + BATCH)]))
    gc.collect()
    overwritten = tracemalloc.get_traced_memory()[0]
    tracemalloc.stop()
    return {"bytes per key": (filled - before) / keys, "bytes per overwrite": (overwritten - filled) / keys}


def main() -> None:
    """Measure and print."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--keys", type=int, default=200_000, help="keys in the store (200000)")
    parser.add_argument("--json", action="store_true", help="print JSON")
    options = parser.parse_args()
    figures = {**measured(options.keys), **memory(options.keys // 4)}
    if options.json:
        print(json.dumps(figures))
        return
    for name, figure in figures.items():
        print(f"{name:32} {figure:10.3f}")


if __name__ == "__main__":
    main()
