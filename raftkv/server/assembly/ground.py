"""What a node stands on: its data directory, and what was recovered from it."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial

from twisted.internet.defer import Deferred

from raftkv.config import NodeConfig
from raftkv.interfaces import Identity, IStorage, Joined, Recovered
from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.membership import refuse_removed
from raftkv.persistence.meta import Meta
from raftkv.persistence.reserve import Reserve
from raftkv.persistence.storage import Storage
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.origin import check_origin, identity_of, joined_cluster, open_origin
from raftkv.server.recovery import finish_founding
from raftkv.snapshot.files import SnapshotDirectory


@dataclass(frozen=True, slots=True, kw_only=True)
class Ground:
    """A data directory in use.

    :ivar identity: who the node is.
    :ivar joined: how it came into the cluster; ``None`` for a founder of the first hour.
    :ivar snapshots: the directory of the snapshot files.
    :ivar calls: run what blocks on snapshots, and other short writes.
    """

    identity: Identity
    joined: Joined | None
    reserve: Reserve
    snapshots: SnapshotDirectory
    calls: BlockingCalls
    storage: IStorage
    recovered: Recovered

    def write_short(self, write: Callable[[], None]) -> Deferred[None]:
        """Write something short away from the reactor, out of the reserve where the disk is full."""
        return self.calls.run(partial(self.reserve.make_room_for, write))


def recover_ground(config: NodeConfig, world: Surroundings) -> Ground:
    """Recover what the data directory holds, or begin a new one. Blocks.

    :raises raftkv.errors.ConfigurationError: the directory belongs to another node or cluster.
    :raises raftkv.errors.DamagedLog: the log lacks something.
    :raises raftkv.errors.CorruptData: what is on the disk cannot be trusted.
    """
    refuse_removed(world.disk)
    joined = joined_cluster(world.disk)
    meta = open_origin(config, joined, world.disk, make_id=world.make_id, settings=world.log_settings)
    if meta.founding is not None:
        meta = finish_founding(world.disk, meta, world.log_settings)
    snapshots = open_snapshots(world, meta)
    snapshots.clean()
    reserve = Reserve(world.disk, size_bytes=config.disk_reserve_bytes, segment_bytes=world.log_settings.segment_bytes)
    reserve.fill()
    storage = _open_storage(config, world, meta, snapshots, reserve)
    recovered = storage.recover()
    check_origin(config, joined, meta, recovered, root=world.disk.root)
    return Ground(
        identity=identity_of(config, meta.cluster_id, meta.incarnation),
        joined=joined,
        reserve=reserve,
        snapshots=snapshots,
        calls=BlockingCalls(world.snapshot_worker),
        storage=storage,
        recovered=recovered,
    )


def open_snapshots(world: Surroundings, meta: Meta) -> SnapshotDirectory:
    """Return the directory of the snapshot files, as a node of this cluster reads it."""
    return SnapshotDirectory(world.disk, cluster_id=meta.cluster_id, unreadable=world.unreadable)


def _open_storage(
    config: NodeConfig, world: Surroundings, meta: Meta, snapshots: SnapshotDirectory, reserve: Reserve
) -> IStorage:
    return world.watch(
        Storage(
            world.disk,
            world.log_worker,
            world.log_reader,
            meta=meta,
            newest_snapshot=snapshots.newest_meta,
            settings=replace(world.log_settings, cache_bytes=config.log_cache_bytes),
            progress=world.progress,
            make_room=reserve.release,
        )
    )
