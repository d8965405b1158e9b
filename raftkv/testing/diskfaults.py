"""What goes wrong with a disk: it refuses, fills up, or forgets by itself; each fault returns how it is undone.

When these come is drawn elsewhere (:mod:`raftkv.testing.faults`), and what may come of them is in
:mod:`raftkv.testing.excuses`.
"""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Final

from raftkv.persistence.meta import load_meta
from raftkv.persistence.segment import log_identity
from raftkv.persistence.survey import Slot, survey_log
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.disk import MemoryDisk

#: Entries that a log keeps behind a snapshot from which on nobody compacts what another one may have lost.
KEEPS_ALL: Final = 1024

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


def spoil_entry(cluster: SimulatedCluster, name: str, chance: random.Random) -> int:
    """Let a bit flip in an entry in the middle of the log of a node that is down, one that all others have.

    :return: how many there were; 0 where there is no such entry, or the node runs.
    """
    if cluster.nodes[name].is_running or not cluster.excuses.may_spoil(name):
        return 0
    own, *others = (_readable(cluster, each) for each in sorted(cluster.names, key=lambda each: each != name))
    lawful = [
        slot
        for index, slot in own.items()
        if slot.length > 0 and all(index in other and other[index].term == slot.term for other in others)
    ]
    if len(lawful) < 2:
        return 0
    return _spoil(cluster, name, chance.choice(lawful[:-1]), chance)  # the last one may be in the last batch


def spoil_in_service(cluster: SimulatedCluster, name: str, chance: random.Random, spared: set[int]) -> int:
    """Let a bit flip in an entry of the log of a node that runs, if possible in one that it may have to read back.

    :param spared: entries that have rotted somewhere else: of each at least one sound copy must be left.
    :return: how many there were; 0 where nobody else has any that could be spoiled, or the node does not serve.
    """
    if cluster.nodes[name].raft is None or not cluster.excuses.may_spoil(name):
        return 0
    own, *others = (_readable(cluster, each) for each in sorted(cluster.names, key=lambda each: each != name))
    lawful = [
        slot
        for index, slot in list(own.items())[:-1]
        if slot.length > 0
        and index not in spared
        and any(index in other and other[index].term == slot.term for other in others)
    ]
    wanted = [slot for slot in lawful if not all(slot.index in other for other in others)] or lawful
    if not wanted:
        return 0
    slot = chance.choice(wanted)
    spared.add(slot.index)
    return _spoil(cluster, name, slot, chance)


def _spoil(cluster: SimulatedCluster, name: str, slot: Slot, chance: random.Random) -> int:
    cluster.excuses.spoiled.add(name)
    offset = slot.offset + chance.randrange(slot.length)
    cluster.trace.note(f"spoil {name} {slot.file} {offset} entry {slot.index}")
    cluster.nodes[name].disk.flip_bit(slot.file, offset, chance.randrange(8))
    return 1


def keeps_all(settings: ClusterSettings) -> bool:
    """Tell whether logs stay whole, for as long as a run lasts: a node whose disk is full cuts its own."""
    return settings.trailing_entries >= KEEPS_ALL and not settings.disk_reserve_bytes


def _readable(cluster: SimulatedCluster, name: str) -> dict[int, Slot]:
    """Return the entries that can be read from the disk of a node."""
    disk = cluster.nodes[name].disk.copy()  # what the disk is to refuse is not for us
    meta = load_meta(disk)
    if meta is None:
        return {}
    log = survey_log(disk, log_identity(meta.cluster_id, meta.incarnation)).log
    return {slot.index: slot for slot in log.slots if slot.is_readable and slot.index >= max(log.seams, default=0)}
