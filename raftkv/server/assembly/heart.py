"""What beats: the core, its driver, the state that it decides on, and the way to the other members."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass

from raftkv.config import NodeConfig
from raftkv.interfaces import IForwarder, IPeerTransport
from raftkv.kvstore import Store
from raftkv.membership import Directory
from raftkv.raft import RaftNode, RaftSettings
from raftkv.raft.messages import SnapshotMeta
from raftkv.server.archiving import Archiver, ArchiveSettings
from raftkv.server.assembly.ground import Ground
from raftkv.server.assembly.later import Later
from raftkv.server.assembly.surroundings import Surroundings
from raftkv.server.driver import Driver
from raftkv.server.origin import initial_configuration
from raftkv.server.snapshotter import SnapshotSettings, Snapshotter
from raftkv.server.statemachine import StateMachine
from raftkv.server.transfers import SnapshotSink, SnapshotSource


@dataclass(frozen=True, slots=True, kw_only=True)
class Heart:
    """What every other part of a node is made around.

    :ivar directory: where the members can be reached.
    :ivar archiver: ``None`` for a node that archives nothing.
    """

    node: RaftNode
    snapshotter: Snapshotter
    archiver: Archiver | None
    state_machine: StateMachine
    transport: IPeerTransport
    forwarder: IForwarder
    driver: Driver
    directory: Directory

    def store(self) -> Store:
        """Return the state as it is now; a snapshot that is installed brings another."""
        return self.state_machine.store

    def applied_index(self) -> int:
        """Return the index of the last entry that the state has taken in."""
        return self.state_machine.store.applied_index


def make_heart(config: NodeConfig, world: Surroundings, ground: Ground, later: Later) -> Heart:
    """Make the core and what carries out what it says."""
    node = _make_core(config, world, ground)
    snapshotter = _make_snapshotter(config, world, ground, node, later)
    archiver = later.archiver = _make_archiver(config, world, ground, node, snapshotter, later)
    state_machine = later.state_machine = StateMachine(
        store=Store(),
        clock=world.clock,
        load=snapshotter.load,
        discard=snapshotter.discard,
        fatal=later.fail,
        note_interval=world.note_interval,
    )
    transport = _make_transport(world, ground, node, snapshotter, later)
    forwarder = world.forwarder(ground.identity)
    driver = later.driver = Driver(
        node=node,
        clock=world.clock,
        storage=ground.storage,
        transport=transport,
        applier=state_machine,
        random=world.random,
        tick_interval_seconds=config.tick_interval_seconds,
        steady_seconds=world.steady_seconds,
        fatal=world.fatal,
    )
    directory = Directory(identity=ground.identity, configuration=lambda: node.configuration, met=transport.known_peers)
    return Heart(
        node=node,
        snapshotter=snapshotter,
        archiver=archiver,
        state_machine=state_machine,
        transport=transport,
        forwarder=forwarder,
        driver=driver,
        directory=directory,
    )


def _make_core(config: NodeConfig, world: Surroundings, ground: Ground) -> RaftNode:
    joined, recovered = ground.joined, ground.recovered
    return RaftNode(
        node_id=config.node_id,
        incarnation=ground.identity.incarnation,
        settings=_raft_settings(config, world.raft_bounds),
        random=world.random,
        hard_state=recovered.hard_state,
        snapshot=recovered.snapshot,
        entries=recovered.entries,
        first_previous_term=recovered.first_previous_term,
        on_disk=recovered.on_disk,
        configuration=initial_configuration(config, joined),
        joined=joined is not None and not joined.is_founder,
        lost_term=recovered.lost_term,
    )


def _raft_settings(config: NodeConfig, bounds: Mapping[str, int]) -> RaftSettings:
    return RaftSettings(
        election_ticks=config.election_ticks,
        news_at_once=False,  # the driver's clock is finer than ticks
        vote_grace_ticks=config.election_ticks,
        # Whatever this node does where it leads, it keeps the promises that other leaders ask for.
        promise_seconds=config.election_timeout_seconds,
        lease_reads=config.lease_reads,
        clock_drift_bound=config.clock_drift_bound,
        log_cache_bytes=config.log_cache_bytes,
        **bounds,
    )


def _make_snapshotter(
    config: NodeConfig, world: Surroundings, ground: Ground, node: RaftNode, later: Later
) -> Snapshotter:
    return Snapshotter(
        node=node,
        state_machine=lambda: later.state_machine,
        storage=ground.storage,
        directory=ground.snapshots,
        calls=ground.calls,
        clock=world.clock,
        settings=SnapshotSettings(
            interval_seconds=config.snapshot_interval_seconds,
            threshold_bytes=config.snapshot_threshold_bytes,
            max_snapshots=config.max_snapshots,
            trailing_entries=world.trailing_entries,
            relief_bytes=world.log_settings.segment_bytes // 8,
        ),
        fatal=later.fail,
        is_trusted=later.is_trusted,
        may_forget=later.may_forget,
    )


def _make_archiver(
    config: NodeConfig, world: Surroundings, ground: Ground, node: RaftNode, snapshotter: Snapshotter, later: Later
) -> Archiver | None:
    if world.archive is None:
        return None
    return Archiver(
        node=node,
        storage=ground.storage,
        archive=world.archive,
        cluster_id=ground.identity.cluster_id,
        directory=ground.snapshots,
        snapshot_calls=ground.calls,
        clock=world.clock,
        settings=ArchiveSettings(
            interval_seconds=config.archive_interval_seconds, max_lag_bytes=config.archive_max_lag_bytes
        ),
        may_copy=later.is_trusted,
        caught_up=snapshotter.tidy,
    )


def _make_transport(
    world: Surroundings, ground: Ground, node: RaftNode, snapshotter: Snapshotter, later: Later
) -> IPeerTransport:
    def is_wanted(snapshot: SnapshotMeta) -> bool:
        return snapshot.index > node.commit_index or later.is_state_wanted(snapshot)

    return world.transport(
        ground.identity,
        SnapshotSource(
            ground.snapshots,
            ground.calls,
            found=snapshotter.found,
            may_send=later.is_trusted,
            fatal=later.fail,
        ),
        SnapshotSink(
            ground.snapshots,
            ground.calls,
            is_wanted=is_wanted,
            received=later.state_received,
            fatal=later.fail,
        ),
        lambda: node.current_term,
    )
