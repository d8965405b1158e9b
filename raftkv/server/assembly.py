"""One node, put together: the same for a process with a real disk and network and for one in a simulation.

What differs between the two is handed in: the clock, chance, the disk, its workers, the way to the other members.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, replace
from functools import partial

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime

from raftkv.config import NodeConfig
from raftkv.errors import CorruptData, DamagedLog
from raftkv.interfaces import (
    IBatchWorker,
    Identity,
    IDisk,
    IForwarder,
    IPeerTransport,
    IStorage,
)
from raftkv.kvstore import Store
from raftkv.membership import Announcer, Directory, Membership, Promoter, RemovalWatch
from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.fence import load_fence, remove_fence, store_fence
from raftkv.persistence.log import LogSettings
from raftkv.persistence.membership import RemovedNote, refuse_removed, store_removed
from raftkv.persistence.repair import LogRepair
from raftkv.persistence.reserve import Reserve
from raftkv.persistence.segment import log_identity
from raftkv.persistence.storage import Storage
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource
from raftkv.raft import RaftNode, RaftSettings
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import SnapshotMeta
from raftkv.server.archiving import Archiver, ArchiveSettings, ArchiveSurroundings
from raftkv.server.backups import Backups
from raftkv.server.clustertime import ClusterClock
from raftkv.server.diskspace import SpaceWatch, look
from raftkv.server.driver import Driver
from raftkv.server.fence import Fence
from raftkv.server.freshness import Freshness
from raftkv.server.housekeeping import Compaction, SessionExpiry, TenureExpiry
from raftkv.server.notes import NOTE_INTERVAL
from raftkv.server.origin import check_origin, identity_of, initial_configuration, joined_cluster, open_origin
from raftkv.server.proposals import Proposals, WriteLimits
from raftkv.server.readiness import CatchingUp
from raftkv.server.reads import ReadLimits, Reads
from raftkv.server.recovery import finish_founding
from raftkv.server.repairing import EntriesSource, NoSnapshots, Repairing
from raftkv.server.replica import Replica
from raftkv.server.resync import Resync
from raftkv.server.snapshotter import SnapshotSettings, Snapshotter
from raftkv.server.statemachine import StateMachine
from raftkv.server.tickets import Tickets
from raftkv.server.transfers import SnapshotSink, SnapshotSource
from raftkv.server.watching import Watches, WatchLimits
from raftkv.snapshot.files import SnapshotDirectory

TransportFactory = Callable[[Identity, ISnapshotSource, ISnapshotSink, Callable[[], int]], IPeerTransport]


@dataclass(frozen=True, slots=True, kw_only=True)
class Surroundings:
    """Everything that a node meets of the world.

    :ivar clock: the reactor, monotonic; or a test's clock.
    :ivar random: all the chance there is: election timeouts, the numbers of the first questions.
    :ivar steady_seconds: the clock that leases and the age of the state go by. It never goes back, and goes on while
        the machine sleeps, which the reactor's may not.
    :ivar wall_seconds: returns Unix time; told to people, never used to decide.
    :ivar disk: the data directory, locked by whoever made it.
    :ivar log_worker: runs the log's writes and syncs.
    :ivar log_reader: reads entries of the log back, apart so that it delays no write.
    :ivar snapshot_worker: runs everything that blocks on snapshots, apart so that it delays no write.
    :ivar transport: makes the way to the other members, from this node's identity, the source and the sink of
        snapshot files, and a function that returns the current term.
    :ivar forwarder: makes what carries writes to the leader, from this node's identity; called after ``transport``.
    :ivar make_id: returns a new random id, as hex.
    :ivar fatal: called once, with the error that makes it unsafe to go on; the process must stop.
    :ivar progress: called while the log is read, with bytes done and bytes in all.
    :ivar log_settings: of the durable log; small segments in tests.
    :ivar trailing_entries: entries kept in the log behind a snapshot; few in tests.
    :ivar note_interval: indexes between two notes of the state's digest: the same on all nodes, fewer in tests.
    :ivar raft_bounds: bounds of :class:`~raftkv.raft.RaftSettings` that differ from their defaults; small in tests.
    :ivar unreadable: told of each snapshot file that does not check out.
    :ivar watch: returns what the driver is to use for the storage: itself, or a test's onlooker around it.
    :ivar archive: where committed entries go, for an operator to keep; ``None`` for nowhere.
    """

    clock: IReactorTime
    random: random.Random
    steady_seconds: Callable[[], float]
    wall_seconds: Callable[[], float]
    disk: IDisk
    log_worker: IBatchWorker
    log_reader: IBatchWorker
    snapshot_worker: IBatchWorker
    transport: TransportFactory
    forwarder: Callable[[Identity], IForwarder]
    make_id: Callable[[], str]
    fatal: Callable[[BaseException], None]
    progress: Callable[[int, int], None]
    log_settings: LogSettings
    unreadable: Callable[[CorruptData], None]
    trailing_entries: int = 1024
    note_interval: int = NOTE_INTERVAL
    raft_bounds: Mapping[str, int] = field(default_factory=dict)
    watch: Callable[[IStorage], IStorage] = lambda storage: storage
    archive: ArchiveSurroundings | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Assembled:
    """A node that can be started, and what its interfaces need of it."""

    replica: Replica
    identity: Identity
    transport: IPeerTransport


def assemble(config: NodeConfig, world: Surroundings) -> Assembled:
    """Recover a node from its data directory, or make a new one, and put it together. Blocks; starts nothing.

    :raises raftkv.errors.ConfigurationError: the directory belongs to another node or cluster.
    :raises raftkv.errors.DamagedLog: the log lacks something; :func:`assemble_repair` may help.
    :raises raftkv.errors.CorruptData: what is on the disk cannot be trusted.
    """
    refuse_removed(world.disk)
    joined = joined_cluster(world.disk)
    meta = open_origin(config, joined, world.disk, make_id=world.make_id, settings=world.log_settings)
    if meta.founding is not None:
        meta = finish_founding(world.disk, meta, world.log_settings)
    identity = identity_of(config, meta.cluster_id, meta.incarnation)
    snapshots = SnapshotDirectory(world.disk, cluster_id=meta.cluster_id, unreadable=world.unreadable)
    snapshots.clean()
    reserve = Reserve(world.disk, size_bytes=config.disk_reserve_bytes)
    reserve.fill()
    storage = world.watch(
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
    recovered = storage.recover()
    check_origin(config, joined, meta, recovered, root=world.disk.root)
    node = RaftNode(
        node_id=config.node_id,
        incarnation=meta.incarnation,
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
    calls = BlockingCalls(world.snapshot_worker)

    def write_short(write: Callable[[], None]) -> Deferred[None]:
        return calls.run(partial(reserve.make_room_for, write))

    def is_wanted(snapshot: SnapshotMeta) -> bool:
        return snapshot.index > node.commit_index or resync.wants(snapshot)

    def is_trusted() -> bool:
        return not fence.is_fenced

    transport = world.transport(
        identity,
        SnapshotSource(
            snapshots,
            calls,
            found=lambda index: snapshotter.found(index),
            may_send=is_trusted,
            fatal=lambda error: driver.fail(error),
        ),
        SnapshotSink(
            snapshots,
            calls,
            is_wanted=is_wanted,
            received=lambda snapshot: resync.received(snapshot),
            fatal=lambda error: driver.fail(error),
        ),
        lambda: node.current_term,
    )
    forwarder = world.forwarder(identity)
    snapshotter = Snapshotter(
        node=node,
        state_machine=lambda: state_machine,
        storage=storage,
        directory=snapshots,
        calls=calls,
        clock=world.clock,
        settings=SnapshotSettings(
            interval_seconds=config.snapshot_interval_seconds,
            threshold_bytes=config.snapshot_threshold_bytes,
            max_snapshots=config.max_snapshots,
            trailing_entries=world.trailing_entries,
            relief_bytes=world.log_settings.segment_bytes // 8,
        ),
        fatal=lambda error: driver.fail(error),
        is_trusted=is_trusted,
        may_forget=lambda index: index if archiver is None else archiver.may_forget(index),
    )
    archiver: Archiver | None = None
    if world.archive is not None:
        archiver = Archiver(
            node=node,
            storage=storage,
            archive=world.archive,
            cluster_id=meta.cluster_id,
            directory=snapshots,
            snapshot_calls=calls,
            clock=world.clock,
            settings=ArchiveSettings(
                interval_seconds=config.archive_interval_seconds, max_lag_bytes=config.archive_max_lag_bytes
            ),
            may_copy=is_trusted,
            caught_up=snapshotter.tidy,
        )
    state_machine = StateMachine(
        store=Store(),
        clock=world.clock,
        load=snapshotter.load,
        discard=snapshotter.discard,
        fatal=lambda error: driver.fail(error),
        note_interval=world.note_interval,
    )
    driver = Driver(
        node=node,
        clock=world.clock,
        storage=storage,
        transport=transport,
        applier=state_machine,
        random=world.random,
        tick_interval_seconds=config.tick_interval_seconds,
        steady_seconds=world.steady_seconds,
        fatal=world.fatal,
    )
    directory = Directory(identity=identity, configuration=lambda: node.configuration, met=transport.known_peers)
    proposals = Proposals(
        node=node,
        store=lambda: state_machine.store,
        forwarder=forwarder,
        leader_rpc_addr=lambda: directory.addresses(node.leader).rpc_addr,
        cluster_clock=ClusterClock(
            monotonic=world.clock.seconds,
            wall=world.wall_seconds,
            applied_ms=lambda: state_machine.store.cluster_time_ms,
        ),
        seconds=world.clock.seconds,
        wake=driver.wake,
        limits=_write_limits(config),
    )
    reads = Reads(
        node=node,
        state_machine=state_machine,
        seconds=world.clock.seconds,
        freshness=Freshness(steady_seconds=world.steady_seconds, drift_bound=config.clock_drift_bound),
        wake=driver.wake,
        limits=_read_limits(config),
        first_context=world.random.getrandbits(48),
    )
    tickets = Tickets(
        store=lambda: state_machine.store,
        submit=proposals.submit,
        barrier=reads.barrier,
        seconds=world.clock.seconds,
        patience_seconds=config.limits.request_timeout_seconds,
    )
    catching_up = CatchingUp(
        node=node,
        barrier=reads.barrier,
        applied_index=lambda: state_machine.store.applied_index,
        seconds=world.clock.seconds,
    )
    driver.add_participant(proposals)
    driver.add_participant(reads)
    driver.add_participant(tickets)
    driver.add_participant(catching_up)
    driver.add_participant(
        Announcer(node=node, directory=directory, wake=driver.wake, settle_ticks=config.election_ticks)
    )
    promoter = Promoter(node=node, directory=directory, wake=driver.wake, election_ticks=config.election_ticks)
    membership = Membership(
        identity=identity,
        node=node,
        directory=directory,
        promoter=promoter,
        forwarder=forwarder,
        describe=lambda: replica.local_cluster(),
        seconds=world.clock.seconds,
        wake=driver.wake,
        request_timeout_seconds=config.limits.request_timeout_seconds,
        election_ticks=config.election_ticks,
    )
    removal = RemovalWatch(
        identity=identity,
        node=node,
        directory=directory,
        forwarder=forwarder,
        first_index=joined.configuration_index if joined is not None else 0,
        store=lambda index: write_short(partial(store_removed, world.disk, _removal_note(identity, index))),
        removed=lambda: replica.retire(),
        fatal=lambda error: driver.fail(error),
        election_ticks=config.election_ticks,
    )
    space = SpaceWatch(
        node=node,
        calls=calls,
        look=partial(look, world.disk, storage, reserve),
        log_bytes=storage.room_bytes,
        reserve=reserve,
        segment_bytes=world.log_settings.segment_bytes,
        relieve=snapshotter.relieve,
        wake=driver.wake,
        fatal=lambda error: driver.fail(error),
        election_ticks=config.election_ticks,
    )
    fence = Fence(
        identity=identity,
        node=node,
        directory=directory,
        forwarder=forwarder,
        applied_index=lambda: state_machine.store.applied_index,
        interrupt=lambda reason: replica.interrupt(reason),
        store=lambda index: write_short(partial(store_fence, world.disk, index)),
        erase=lambda: calls.run(partial(remove_fence, world.disk)),
        checkpoint=proposals.checkpoint,
        wake=driver.wake,
        fatal=lambda error: driver.fail(error),
        election_ticks=config.election_ticks,
        fenced_index=load_fence(world.disk),
        recovered_index=recovered.snapshot.index if recovered.snapshot is not None else 0,
    )
    resync = Resync(
        identity=identity,
        node=node,
        fence=fence,
        directory=directory,
        forwarder=forwarder,
        snapshotter=snapshotter,
        send_snapshot=transport.send_snapshot,
        rebuild=state_machine.rebuild,
        wake=driver.wake,
        checkpoint=proposals.checkpoint,
        fatal=lambda error: driver.fail(error),
        election_ticks=config.election_ticks,
    )
    watches = Watches(
        store=lambda: state_machine.store,
        barrier=lambda done: replica.barrier("linearizable", done),
        refusal=fence.refusal,
        clock=world.clock,
        limits=WatchLimits(max_watchers=config.limits.max_watchers, stall_seconds=config.limits.watch_stall_seconds),
    )
    for participant in (promoter, membership, removal, space, fence, resync):
        driver.add_participant(participant)
    driver.add_participant(
        SessionExpiry(
            node=node,
            store=lambda: state_machine.store,
            submit=proposals.submit,
            session_ttl_seconds=config.limits.session_ttl_seconds,
            tick_interval_seconds=config.tick_interval_seconds,
        )
    )
    driver.add_participant(
        TenureExpiry(
            node=node,
            store=lambda: state_machine.store,
            now_ms=proposals.cluster_time_ms,
            submit=proposals.submit,
        )
    )
    driver.add_participant(
        Compaction(
            node=node,
            store=lambda: state_machine.store,
            now_ms=proposals.cluster_time_ms,
            submit=proposals.submit,
            max_revisions=config.history_max_revisions,
            max_bytes=config.history_max_bytes,
            max_age_seconds=config.history_max_age_seconds,
            tick_interval_seconds=config.tick_interval_seconds,
        )
    )
    driver.deliver_reads_to(reads.resolved)
    state_machine.on_applied(proposals.applied)
    state_machine.on_applied(watches.applied)
    state_machine.on_restored(proposals.restored)
    state_machine.on_applied(tickets.applied)
    state_machine.on_restored(tickets.restored)
    state_machine.on_restored(watches.restored)
    state_machine.when_caught_up(driver.wake)
    state_machine.on_restored(lambda index: snapshotter.tidy())
    state_machine.on_noted(fence.note)
    state_machine.on_restored(fence.replaced)
    fence.when_opened(snapshotter.tidy)
    replica = Replica(
        identity=identity,
        clock=world.clock,
        node=node,
        driver=driver,
        state_machine=state_machine,
        proposals=proposals,
        reads=reads,
        tickets=tickets,
        snapshotter=snapshotter,
        directory=directory,
        membership=membership,
        removal=removal,
        fence=fence,
        resync=resync,
        watches=watches,
        forwarder=forwarder,
        backups=Backups(
            node=node,
            store=lambda: state_machine.store,
            barrier=lambda consistency, done: replica.barrier(consistency, done),
            snapshotter=snapshotter,
            directory=snapshots,
            calls=calls,
            may_give=is_trusted,
            times_doubted=lambda: fence.closed,
            archiver=archiver,
        ),
        archiver=archiver,
        catching_up=catching_up,
        entries=EntriesSource(node=node, storage=storage, is_removed=lambda: removal.is_removed),
        recovered_snapshot=recovered.snapshot,
        tick_interval_seconds=config.tick_interval_seconds,
        election_timeout_seconds=config.election_timeout_seconds,
        stop_wait_seconds=config.limits.request_timeout_seconds,
    )
    return Assembled(replica=replica, identity=identity, transport=transport)


@dataclass(frozen=True, slots=True, kw_only=True)
class AssembledRepair:
    """What stands in for a node while its log is made whole, and what its interfaces need of it."""

    repairing: Repairing
    identity: Identity
    transport: IPeerTransport


def assemble_repair(
    config: NodeConfig, world: Surroundings, damage: DamagedLog, *, repaired: Callable[[], None]
) -> AssembledRepair:
    """Put together what makes a damaged log whole, with the help of the other members. Blocks; starts nothing.

    :param damage: why :func:`assemble` has refused.
    :param repaired: called once, when it can be tried again.
    :raises raftkv.errors.DamagedLog: there is nobody else, and something is missing.
    :raises raftkv.errors.CorruptData: more than the log is damaged.
    """
    joined = joined_cluster(world.disk)
    meta = open_origin(config, joined, world.disk, make_id=world.make_id, settings=world.log_settings)
    snapshots = SnapshotDirectory(world.disk, cluster_id=meta.cluster_id, unreadable=world.unreadable)
    newest = snapshots.newest_meta()
    Reserve(world.disk, size_bytes=config.disk_reserve_bytes).release()  # the log is written anew, and needs it
    repair = LogRepair(
        world.disk,
        log_identity(meta.log_cluster_id or meta.cluster_id, meta.log_incarnation or meta.incarnation),
        snapshot=newest,
        settings=world.log_settings,
    )
    known = [initial_configuration(config, joined)]
    known += [newest.configuration] if newest is not None else []
    known += [Configuration.decode(entry.payload) for entry in repair.configurations()]
    others = {name for configuration in known for name in configuration.members} - {config.node_id}
    is_alone = known[-1].voters == {config.node_id}
    if (is_alone and repair.end_is_lost) or (not others and repair.missing()):
        raise damage
    identity = identity_of(config, meta.cluster_id, meta.incarnation)
    nothing = NoSnapshots()
    transport = world.transport(identity, nothing, nothing, lambda: repair.term)
    repairing = Repairing(
        repair=repair,
        node_id=config.node_id,
        known=known,
        transport=transport,
        forwarder=world.forwarder(identity),
        clock=world.clock,
        repaired=repaired,
        fatal=world.fatal,
    )
    return AssembledRepair(repairing=repairing, identity=identity, transport=transport)


def _removal_note(identity: Identity, index: int) -> RemovedNote:
    return RemovedNote(node_id=identity.node_id, cluster_id=identity.cluster_id, configuration_index=index)


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


def _write_limits(config: NodeConfig) -> WriteLimits:
    limits = config.limits
    return WriteLimits(
        request_timeout_seconds=limits.request_timeout_seconds,
        leader_wait_seconds=limits.leader_wait_seconds,
        max_batch_bytes=limits.max_batch_bytes,
        max_batch_commands=limits.max_batch_commands,
        max_pending_writes=limits.max_pending_writes,
        max_pending_bytes=limits.max_pending_bytes,
        max_sessions=limits.max_sessions,
        max_leases=limits.max_leases,
        max_lock_waiters=limits.max_lock_waiters,
    )


def _read_limits(config: NodeConfig) -> ReadLimits:
    limits = config.limits
    return ReadLimits(
        request_timeout_seconds=limits.request_timeout_seconds,
        leader_wait_seconds=limits.leader_wait_seconds,
        ask_again_seconds=config.election_timeout_seconds,
        max_pending_reads=limits.max_pending_writes,
    )
