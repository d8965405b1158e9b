"""What goes wrong with a disk: it refuses, fills up, or forgets by itself; each fault returns how it is undone.

When these come is drawn elsewhere (:mod:`raftkv.testing.faults`), and what may come of them is in
:mod:`raftkv.testing.excuses`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.disk import MemoryDisk

_PLACES: Final = ("", "log/", "snapshots/", "hardstate")


def refuse_operations(disk: MemoryDisk, chance: random.Random) -> Callable[[], None]:
    """Let one of the next writes or syncs fail, at times several; or reading the log."""
    place = chance.choice(_PLACES)
    for _ in range(chance.choice((1, 1, 1, 3))):
        disk.fail_next(chance.choice(("write", "sync", "sync", "sync_folder")), place)
    if chance.random() < 0.3:
        disk.fail_next("read", "log/")
    return disk.mend


def fill_up(disk: MemoryDisk, chance: random.Random) -> Callable[[], None]:
    """Leave so little room that a few more writes fill the disk."""
    disk.capacity_bytes = disk.used_bytes() + chance.choice((0, 100, 1000, 5000))
    return disk.mend


def flip_bits(cluster: SimulatedCluster, name: str, chance: random.Random) -> int:
    """Let bits of the log or of a snapshot of a node that is down flip, one at least.

    :return: how many there were; 0 where a quorum would have been in danger, or the node runs.
    """
    node = cluster.nodes[name]
    if node.is_running or not cluster.excuses.may_rot(name, cluster.settings.nodes):
        return 0
    files = [
        f"{folder}/{file}"
        for folder in ("log", "snapshots")
        if node.disk.exists(folder)
        for file in node.disk.names(folder)
    ]
    files = [file for file in files if node.disk.read(file)]
    if not files:
        return 0
    cluster.excuses.rotten.add(name)
    file = chance.choice(files)
    size = len(node.disk.read(file))
    flips = chance.choice((1, 1, 2, 8))
    for _ in range(flips):
        # As often near the end, where damage could be taken for a torn write, as anywhere.
        offset = chance.randrange(max(0, size - 300), size) if chance.random() < 0.5 else chance.randrange(size)
        cluster.trace.note(f"rot {name} {file} {offset}")
        node.disk.flip_bit(file, offset, chance.randrange(8))
    return flips
