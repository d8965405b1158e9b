"""What a simulated node is told, and what it meets of the world: all of it made of stand-ins."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from typing import TYPE_CHECKING

from raftkv.config import Limits, NodeConfig
from raftkv.errors import CorruptData
from raftkv.interfaces import Identity, IStorage
from raftkv.persistence.log import LogSettings
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource
from raftkv.server.assembly import Surroundings
from raftkv.testing.cluster.machine import Life, SimulatedNode
from raftkv.testing.cluster.settings import ClusterSettings
from raftkv.testing.cluster.storage import WatchedStorage
from raftkv.testing.transport import SimulatedForwarder, SimulatedTransport
from raftkv.testing.worker import ClockWorker

if TYPE_CHECKING:
    from raftkv.testing.cluster.cluster import SimulatedCluster


def make_config(settings: ClusterSettings, name: str, founders: Sequence[str], *, founds: bool) -> NodeConfig:
    """Return what a node is told.

    :param founders: the members that the cluster begins with.
    :param founds: whether it is one of them, or joins them.
    """
    return NodeConfig(
        node_id=name,
        data_dir=name,
        raft_advertised_addr=f"{name}:8082",
        rpc_advertised_addr=f"{name}:8081",
        http_advertised_addr=f"{name}:8080",
        peers={each: f"{each}:8082" for each in founders} if founds else {},
        join=() if founds else tuple(f"{each}:8081" for each in founders),
        snapshot_interval_seconds=settings.snapshot_interval_seconds,
        snapshot_threshold_bytes=settings.snapshot_threshold_bytes,
        max_snapshots=settings.max_snapshots,
        log_cache_bytes=settings.log_cache_bytes,
        disk_reserve_bytes=settings.disk_reserve_bytes,
        election_timeout_seconds=settings.election_timeout_seconds,
        heartbeat_interval_seconds=settings.heartbeat_interval_seconds,
        lease_reads=settings.lease_reads,
        archive_interval_seconds=settings.archive_interval_seconds,
        clock_drift_bound=settings.clock_drift_bound,
        history_max_revisions=settings.history_max_revisions,
        history_max_age_seconds=settings.history_max_age_seconds,
        limits=Limits(
            request_timeout_seconds=settings.request_timeout_seconds,
            leader_wait_seconds=0.6 * settings.request_timeout_seconds,
            max_batch_commands=settings.max_batch_commands,
            max_leases=settings.max_leases,
            max_lock_waiters=settings.max_lock_waiters,
            watch_stall_seconds=3 * settings.election_timeout_seconds,
        ),
    )


def surround(cluster: SimulatedCluster, node: SimulatedNode, life: Life) -> Surroundings:
    """Return what a node meets of the simulated world in one of its lives; nothing of it outlives that."""
    name, settings = node.name, cluster.settings

    def worker() -> ClockWorker:
        made = ClockWorker(life.clock, node.draw_disk_delay)
        life.workers.append(made)
        return made

    def transport(
        identity: Identity, source: ISnapshotSource, sink: ISnapshotSink, current_term: Callable[[], int]
    ) -> SimulatedTransport:
        process = life.process = cluster.network.join(identity, life.clock)
        process.source, process.sink, process.current_term = source, sink, current_term
        return SimulatedTransport(cluster.network, process)

    def forwarder(identity: Identity) -> SimulatedForwarder:
        if life.process is None:
            raise ValueError("the transport comes before the forwarder")
        return SimulatedForwarder(cluster.network, life.process)

    def watch(storage: IStorage) -> IStorage:
        watched = life.storage = WatchedStorage(storage, name, cluster.checkers, cluster.readings)
        return watched

    def unreadable(error: CorruptData) -> None:
        cluster.trace.note(f"unreadable {name} {error}")
        cluster.excuses.set_aside(name, error)

    return Surroundings(
        clock=life.clock,
        random=random.Random(node.random.getrandbits(64)),
        steady_seconds=life.clock.seconds,
        wall_seconds=lambda: 1.7e9 + cluster.clock.seconds(),
        disk=node.disk,
        log_worker=worker(),
        log_reader=worker(),
        snapshot_worker=worker(),
        transport=transport,
        forwarder=forwarder,
        make_id=lambda: f"{node.random.getrandbits(128):032x}",
        fatal=lambda error: cluster.giving_up.stopped_by(name, error),
        progress=lambda done, all_of_it: None,
        log_settings=LogSettings(
            segment_bytes=settings.segment_bytes, max_batch_bytes=settings.segment_bytes // 2, zero_ahead_bytes=0
        ),
        trailing_entries=settings.trailing_entries,
        note_interval=settings.note_interval,
        raft_bounds=settings.raft_bounds,
        unreadable=unreadable,
        watch=watch,
        archive=cluster.archive_of(name, life.clock),
    )
