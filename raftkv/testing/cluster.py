"""A whole cluster in one process, on virtual time: real nodes over simulated disks, a simulated network and clocks.

It starts, stops, kills, pauses and restarts nodes, and shows all they do to the checkers. What goes wrong when is drawn
elsewhere (:mod:`raftkv.testing.faults`); how a node is put together is the product's own business: the composition is
a callable that is handed in.
"""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any, Protocol

from twisted.internet.defer import Deferred
from zope.interface import implementer

from raftkv.config import Limits, NodeConfig
from raftkv.errors import Conflict, CorruptData, DamagedLog, NotLeader, StorageError
from raftkv.interfaces import Identity, IStorage, Recovered, Result, Standing
from raftkv.persistence.log import LogSettings
from raftkv.persistence.membership import REMOVED_FILE, load_joined
from raftkv.persistence.meta import META_FILE
from raftkv.protocols.rpc import node_calls
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, Message, RequestVoteResponse
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, Write
from raftkv.server.archiving import ArchiveSurroundings
from raftkv.server.assembly import Assembled, Surroundings, assemble, assemble_repair
from raftkv.server.notes import NOTE_INTERVAL
from raftkv.server.origin import has_begun, initial_configuration
from raftkv.server.replica import Replica
from raftkv.testing.beginning import Beginning
from raftkv.testing.checkers import Checkers, Violation
from raftkv.testing.clock import NodeClock, VirtualClock
from raftkv.testing.coverage import Coverage
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.excuses import STOP_SECONDS, Excuses, can_be_borne
from raftkv.testing.network import NetworkSettings, Process, SimulatedNetwork
from raftkv.testing.replay import Replay
from raftkv.testing.staleness import TimeLines
from raftkv.testing.trace import Trace
from raftkv.testing.transport import SimulatedForwarder, SimulatedTransport
from raftkv.testing.witness import AppliedWrites
from raftkv.testing.worker import ClockWorker

STOPPING_SECONDS = 0.03  #: what a process that gives up takes to end; what it has said by then is on its way


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """The shape of a cluster.

    :ivar nodes: how many members there are at first.
    :ivar spares: how many more machines stand by, empty.
    :ivar asks_first: whether founders begin as processes do, by asking each other what they hold; else all of them are
        there, and empty, as a matter of course.
    :ivar begins_empty: whether the first entry finds an empty store, so that the log tells all that there is.
    :ivar heartbeat_interval_seconds: also the length of a tick.
    :ivar election_timeout_seconds: the least one.
    :ivar snapshot_interval_seconds: between two looks at whether a snapshot is due.
    :ivar snapshot_threshold_bytes: bytes of log that make one due.
    :ivar trailing_entries: entries kept in the log behind a snapshot.
    :ivar max_snapshots: how many snapshots are kept.
    :ivar log_cache_bytes: what the log may take of memory.
    :ivar history_max_revisions: how many past revisions are kept: few, so that compaction goes on all the time.
    :ivar history_max_age_seconds: how long they are kept, 0 for no bound.
    :ivar max_leases: past which leases are refused; likewise ``max_lock_waiters``.
    :ivar segment_bytes: size of a segment of the log.
    :ivar disk_reserve_bytes: what each disk keeps in reserve.
    :ivar note_interval: indexes between two notes of the state's digest.
    :ivar raft_bounds: bounds of the core that differ from their defaults.
    :ivar max_batch_commands: commands in one entry at most.
    :ivar request_timeout_seconds: how long a node lets a request wait.
    :ivar lease_reads: whether leaders keep a lease.
    :ivar clock_drift_bound: how far the nodes believe that a clock may be off; honest if no less than ``drift``.
    :ivar drift: how far each node's clock may be off, 0.01 being one part in a hundred.
    :ivar disk_delay_seconds: what a batch takes at most, when nothing is wrong with the disk.
    :ivar archive_interval_seconds: how old an entry may be that is not archived, where there are archives.
    """

    nodes: int = 3
    spares: int = 0
    asks_first: bool = False
    begins_empty: bool = True
    heartbeat_interval_seconds: float = 0.1
    election_timeout_seconds: float = 0.6
    snapshot_interval_seconds: float = 2.0
    snapshot_threshold_bytes: int = 4096
    trailing_entries: int = 20
    max_snapshots: int = 2
    log_cache_bytes: int = 32 * 1024 * 1024
    history_max_revisions: int = 50
    history_max_age_seconds: float = 0.0
    max_leases: int = 100_000
    max_lock_waiters: int = 100_000
    segment_bytes: int = 8192
    disk_reserve_bytes: int = 0
    note_interval: int = NOTE_INTERVAL
    raft_bounds: Mapping[str, int] = field(default_factory=dict)
    max_batch_commands: int = 4096
    request_timeout_seconds: float = 5.0
    lease_reads: bool = False
    clock_drift_bound: float = 0.0
    drift: float = 0.0
    disk_delay_seconds: float = 0.004
    archive_interval_seconds: float = 1.0


class Composition(Protocol):
    """Puts one node together, as :func:`raftkv.server.assembly.assemble` does; the cluster starts it."""

    def __call__(self, config: NodeConfig, world: Surroundings) -> Assembled: ...


@implementer(IStorage)
class WatchedStorage:
    """A node's storage, with the checkers looking on.

    :param counts: counts the readings of the log, and those that came too late.
    """

    def __init__(self, inner: IStorage, name: str, checkers: Checkers, counts: Counter[str]) -> None:
        self._inner = inner
        self._name = name
        self._checkers = checkers
        self._counts = counts
        self.recovered: Recovered | None = None

    def recover(self) -> Recovered:
        """See :class:`IStorage`."""
        self.recovered = self._inner.recover()
        return self.recovered

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        """See :class:`IStorage`."""

        def watched(write_id: int) -> None:
            self._checkers.durable(self._name, write_id)
            durable(write_id)

        self._inner.start(watched, failed)

    def write(self, write: Write) -> None:
        """See :class:`IStorage`."""
        self._checkers.written(self._name, write)
        self._inner.write(write)

    def read(self, start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        """See :class:`IStorage`."""

        def counted(entries: Sequence[Entry]) -> None:
            self._counts["portions of log read back" if entries else "readings of log that was gone"] += 1
            self._checkers.read_back(self._name, entries)
            done(entries)

        self._inner.read(start, stop, max_bytes, counted)

    def compact(self, index: int) -> None:
        """See :class:`IStorage`."""
        self._inner.compact(index)

    def snapshot_taken(self, index: int) -> None:
        """See :class:`IStorage`."""
        self._inner.snapshot_taken(index)

    def log_bytes(self) -> int:
        """See :class:`IStorage`."""
        return self._inner.log_bytes()

    def log_bytes_behind(self, index: int) -> int:
        """See :class:`IStorage`."""
        return self._inner.log_bytes_behind(index)

    def room_bytes(self) -> int:
        """See :class:`IStorage`."""
        return int(self._inner.room_bytes())

    def stop(self) -> Deferred[None]:
        """See :class:`IStorage`."""
        return self._inner.stop()


@dataclass(slots=True, kw_only=True, eq=False)
class Life:
    """One life of a node, from its start to its end.

    :ivar beginning: what it does while it asks how to begin.
    :ivar disk_errors: how many errors its disk has raised in it.
    :ivar is_over: whether it has given up, and only has to be buried.
    """

    clock: NodeClock
    workers: list[ClockWorker] = field(default_factory=list)
    process: Process | None = None
    storage: WatchedStorage | None = None
    replica: Replica | None = None
    stopping: Deferred[Any] | None = None
    beginning: Beginning | None = None
    disk_errors: int = 0
    is_over: bool = False


class SimulatedNode:
    """One machine: a disk, a clock that is off by its own rate, and at most one life at a time.

    :ivar disk_delay_seconds: what a batch takes at most; raise it for a slow disk.
    :ivar lives: how often it was started.
    :ivar on_batch: told that the disk begins with something, and how long it will take.
    :ivar is_founder: whether its configuration names it among the members of the first hour.
    :ivar was_wiped: whether it has lost a disk.
    :ivar incarnation: of the node that has begun on its disk; ``None`` for none.
    """

    def __init__(self, name: str, *, settings: ClusterSettings, random: random.Random, is_founder: bool) -> None:
        self.name = name
        self.is_founder = is_founder
        self.was_wiped = False
        self.incarnation: str | None = None
        self.disk = MemoryDisk(name)
        self.rate = 1.0 + random.uniform(-settings.drift, settings.drift)
        self.random = random
        self.disk_delay_seconds = settings.disk_delay_seconds
        self.lives = 0
        self.life: Life | None = None
        self.on_batch: Callable[[float], None] | None = None
        self._usual_delay_seconds = settings.disk_delay_seconds

    @property
    def is_fresh(self) -> bool:
        """Whether there is nothing on its disk that a cluster knows of."""
        return not self.is_founder and not self.disk.exists(META_FILE)

    @property
    def is_running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self.life is not None

    @property
    def is_up(self) -> bool:
        """Whether there is a process that has not given up."""
        return self.life is not None and not self.life.is_over

    @property
    def is_writing(self) -> bool:
        """Whether the disk has something to do."""
        return self.life is not None and any(worker.is_busy for worker in self.life.workers)

    @property
    def raft(self) -> RaftNode | None:
        """The core, ``None`` while the node is down."""
        return self.life.replica.driver.node if self.life is not None and self.life.replica is not None else None

    def draw_disk_delay(self, items: list[Any]) -> float:
        """Draw how long the disk takes for a batch."""
        seconds = self.random.uniform(0.1, 1.0) * self.disk_delay_seconds
        if self.on_batch is not None:
            self.on_batch(seconds)
        return seconds

    def stall_disk(self) -> None:
        """Let the disk do nothing until :meth:`disk_recovers`."""
        if self.life is not None:
            for worker in self.life.workers:
                worker.stall()

    def disk_recovers(self) -> None:
        """Let the disk work as usual."""
        self.disk_delay_seconds = self._usual_delay_seconds
        if self.life is not None:
            for worker in self.life.workers:
                worker.resume()

    def lose_power(self) -> None:
        """End the life in the middle of whatever the disk is doing; what was not synced may be lost."""
        self._cut_short()
        self.disk.crash(self.random)

    def die(self) -> None:
        """End the life (SIGKILL): the operating system lives on and keeps what was written, if no sync of it failed."""
        self._cut_short()
        self.disk.lose_power_after(None)
        self.disk.evict(self.random)

    def _cut_short(self) -> None:
        life, self.life = self.life, None
        if life is None:
            return
        life.clock.die()
        tear = self.random.random() < 0.85
        for worker in life.workers:
            # A batch of the log is one write and one sync: most often in between.
            self.disk.lose_power_after(self.random.choice((0, 1, 1, 1, 1, 1, 2, 5)))
            worker.crash(tear=tear)


class SimulatedCluster:
    """Some nodes, their network, and the checkers that watch them.

    :param compose: puts a node together.
    :ivar failure: the first error that stopped a node without an excuse, or rule that was broken.
    :ivar excuses: which nodes may give up.
    :ivar readings: how often logs were read back, by what came of it.
    :ivar on_applied: each is told of every entry that some node has applied, once for each node.
    :ivar on_vote: told of each vote for another that is about to leave, by whom.
    :ivar archive_of: returns the archive of a node, for a life that begins; ``None`` for none.
    """

    def __init__(
        self,
        *,
        settings: ClusterSettings,
        network_settings: NetworkSettings,
        seed: int,
        compose: Composition = assemble,
        keep_trace: bool = False,
    ) -> None:
        self.clock = VirtualClock(after_event=self._look)
        self.trace = Trace(self.clock.seconds, keep=keep_trace)
        self.checkers = Checkers()
        self.replay = Replay()
        self.applied_writes = AppliedWrites()
        self.time_lines = TimeLines()
        self.failure: BaseException | None = None
        self.on_vote: Callable[[str], None] | None = None
        self.on_applied: list[Callable[[Entry], None]] = []
        self.archive_of: Callable[[str, NodeClock], ArchiveSurroundings | None] = lambda name, clock: None
        self.excuses = Excuses(bits_may_flip=not settings.spares)
        self.coverage = Coverage()
        self.readings: Counter[str] = Counter()
        self.random = random.Random(seed)
        self.settings = settings
        self.network = SimulatedNetwork(
            clock=self.clock,
            random=random.Random(self.random.getrandbits(64)),
            settings=network_settings,
            trace=self.trace,
        )
        self.network.on_send = self._sent
        self.names = [f"n{number}" for number in range(1, settings.nodes + settings.spares + 1)]
        self.founders = self.names[: settings.nodes]
        self.nodes = {
            name: SimulatedNode(
                name,
                settings=settings,
                random=random.Random(self.random.getrandbits(64)),
                is_founder=name in self.founders,
            )
            for name in self.names
        }
        self._compose = compose
        self._configs: dict[tuple[str, bool], NodeConfig] = {}
        self._committed = (0, initial_configuration(self.config(self.names[0])))
        self._owners: dict[NodeClock, tuple[str, Life]] = {}

    # -- lives ---------------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        """Start every node that has a place in the cluster."""
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a node on what its disk holds; nothing happens if it runs, or may not."""
        node = self.nodes[name]
        if node.is_running or name in self.excuses.out or not self.is_installed(name):
            return
        node.lives += 1
        clock = NodeClock(self.clock, name=name, rate=node.rate)
        life = node.life = Life(clock=clock)
        self._owners[clock] = (name, life)
        self.trace.note(f"start {name}")
        node.disk.on_error = partial(self._disk_error, name, life)
        try:
            if node.is_founder and (self.settings.asks_first or node.was_wiped) and not has_begun(node.disk):
                life.beginning = Beginning(self, node, life)
                return
            replica = life.replica = self._compose(self.config(name), self._surroundings(node, life)).replica
        except DamagedLog as error:
            self._repair(name, life, error)
            return
        except StorageError as error:
            self.stopped_by(name, error)
            if self.failure is not None:
                raise
            return
        if life.storage is None or life.storage.recovered is None or life.process is None:
            raise ValueError("the composition did not let the storage be watched, or did not recover it")
        node.incarnation = replica.identity.incarnation
        self.checkers.started(name, replica.driver.node, life.storage.recovered)
        replica.state_machine.on_applied(partial(self._applied, name))
        replica.state_machine.on_restored(lambda index: self.checkers.states.restored(name, index))
        life.process.key_value = life.process.node = replica
        life.process.is_fenced = lambda: replica.fence.is_fenced
        life.process.calls = {**node_calls(replica), **replica.calls(), "standing": partial(_standing, replica)}
        clock.run(replica.startService)

    def begun(self, name: str, life: Life) -> None:
        """A node that asked how to begin knows it now, and its disk too."""
        if self.nodes[name].life is life:
            life.clock.die()
            self.nodes[name].life = None
            self._gone(name)
            self.start(name)

    def lose_disk(self, name: str) -> None:
        """A machine goes down, its disk with it; it comes back with an empty one once it is started."""
        node = self.nodes[name]
        self.crash(name, power_loss=False)
        self.trace.note(f"lose disk {name}")
        counts, node.disk = node.disk.counts, MemoryDisk(name)
        node.disk.counts = counts
        self.checkers.wiped(name, incarnation=node.incarnation)
        node.was_wiped, node.incarnation = True, None

    def _repair(self, name: str, life: Life, damage: DamagedLog) -> None:
        """Let a node whose log was damaged on purpose be repaired, and start it then."""
        self.trace.note(f"damaged {name} {damage}")
        self.excuses.damaged(name, damage, disk_errors=life.disk_errors)
        world = self._surroundings(self.nodes[name], life)

        def repaired() -> None:
            self.trace.note(f"repaired {name}")
            self.excuses.repaired(name)
            self.clock.callLater(0, self._start_again, name, life)

        try:
            made = assemble_repair(self.config(name), world, damage, repaired=repaired)
        except StorageError as error:
            self.stopped_by(name, error)
            return
        if life.process is None:
            raise ValueError("the repair did not ask for a transport")
        waiting = life.process.key_value = life.process.node = made.repairing.waiting
        life.process.calls = {
            **node_calls(waiting),
            **made.repairing.calls(),
            "standing": lambda _: Standing(identity=made.identity, holds=True),
        }
        life.clock.run(made.repairing.startService)

    def _start_again(self, name: str, life: Life) -> None:
        if self.nodes[name].life is life:
            self.crash(name, power_loss=False)
            self.start(name)

    def is_removed(self, name: str) -> bool:
        """Tell whether a machine's node has written down that it was removed."""
        return self.nodes[name].disk.exists(REMOVED_FILE)

    def is_installed(self, name: str) -> bool:
        """Tell whether a machine holds a node that can be started: a founder's, or one that has been taken in."""
        node = self.nodes[name]
        if self.is_removed(name):
            return False
        joined = None if node.is_founder else load_joined(node.disk)
        return node.is_founder or (joined is not None and joined.configuration is not None)

    def wipe(self, name: str) -> None:
        """Empty the disk of a machine whose node was removed; it is a new machine from now on."""
        node = self.nodes[name]
        self.crash(name, power_loss=False)
        self.trace.note(f"wipe {name}")
        node.disk = MemoryDisk(name)
        self.checkers.wiped(name, incarnation=node.incarnation)
        node.is_founder, node.incarnation = False, None

    def committed_configuration(self) -> Configuration:
        """Return the latest configuration that any node knows to be committed; the first one where there is none.

        A node may know that long before it has applied it, and tell a machine that it has been taken in.
        """
        for node in self.nodes.values():
            if (raft := node.raft) is not None:
                configuration, index = raft.committed_configuration()
                if index > self._committed[0]:
                    self._committed = (index, configuration)
        return self._committed[1]

    def config(self, name: str) -> NodeConfig:
        """Return what a node is told."""
        founds = self.nodes[name].is_founder
        if (name, founds) not in self._configs:
            self._configs[name, founds] = self._make_config(name, founds=founds)
        return self._configs[name, founds]

    def _make_config(self, name: str, *, founds: bool) -> NodeConfig:
        settings = self.settings
        return NodeConfig(
            node_id=name,
            data_dir=name,
            raft_advertised_addr=f"{name}:8082",
            rpc_advertised_addr=f"{name}:8081",
            http_advertised_addr=f"{name}:8080",
            peers={each: f"{each}:8082" for each in self.founders} if founds else {},
            join=() if founds else tuple(f"{each}:8081" for each in self.founders),
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

    def _surroundings(self, node: SimulatedNode, life: Life) -> Surroundings:
        name, settings = node.name, self.settings

        def worker() -> ClockWorker:
            made = ClockWorker(life.clock, node.draw_disk_delay)
            life.workers.append(made)
            return made

        def transport(
            identity: Identity, source: ISnapshotSource, sink: ISnapshotSink, current_term: Callable[[], int]
        ) -> SimulatedTransport:
            process = life.process = self.network.join(identity, life.clock)
            process.source, process.sink, process.current_term = source, sink, current_term
            return SimulatedTransport(self.network, process)

        def forwarder(identity: Identity) -> SimulatedForwarder:
            if life.process is None:
                raise ValueError("the transport comes before the forwarder")
            return SimulatedForwarder(self.network, life.process)

        def watch(storage: IStorage) -> IStorage:
            watched = life.storage = WatchedStorage(storage, name, self.checkers, self.readings)
            return watched

        def unreadable(error: CorruptData) -> None:
            self.trace.note(f"unreadable {name} {error}")
            self.excuses.set_aside(name, error)

        return Surroundings(
            clock=life.clock,
            random=random.Random(node.random.getrandbits(64)),
            steady_seconds=life.clock.seconds,
            wall_seconds=lambda: 1.7e9 + self.clock.seconds(),
            disk=node.disk,
            log_worker=worker(),
            log_reader=worker(),
            snapshot_worker=worker(),
            transport=transport,
            forwarder=forwarder,
            make_id=lambda: f"{node.random.getrandbits(128):032x}",
            fatal=lambda error: self.stopped_by(name, error),
            progress=lambda done, all_of_it: None,
            log_settings=LogSettings(
                segment_bytes=settings.segment_bytes, max_batch_bytes=settings.segment_bytes // 2, zero_ahead_bytes=0
            ),
            trailing_entries=settings.trailing_entries,
            note_interval=settings.note_interval,
            raft_bounds=settings.raft_bounds,
            unreadable=unreadable,
            watch=watch,
            archive=self.archive_of(name, life.clock),
        )

    def crash(self, name: str, *, power_loss: bool) -> None:
        """End a node's life at once; nothing happens if it is down."""
        node = self.nodes[name]
        if not node.is_running:
            return
        self.trace.note(f"crash {name} {power_loss}")
        if power_loss:
            node.lose_power()
        else:
            node.die()
        self._gone(name, silently=power_loss)

    def stop(self, name: str) -> None:
        """Ask a node to stop in order; it is down once it has done so."""
        life = self.nodes[name].life
        if life is None or life.replica is None or life.stopping is not None or life.clock.is_paused:
            return
        self.trace.note(f"stop {name}")
        replica = life.replica

        def ask() -> None:
            life.stopping = replica.stopService()
            life.stopping.addCallbacks(
                lambda _: self._stopped(name, life), lambda failure: self.stopped_by(name, failure.value)
            )

        life.clock.run(ask)

    def _stopped(self, name: str, life: Life) -> None:
        node = self.nodes[name]
        if node.life is life:
            node.life = None
            life.clock.die()
            self._gone(name)

    def _gone(self, name: str, *, silently: bool = False) -> None:
        if name in self.network.processes:  # else it has not come that far
            self.network.leave(name, silently=silently)
        self.checkers.forget(name)
        self.coverage.gone(name)

    def mend(self, name: str) -> None:
        """Bring a node back to work, whatever had befallen it."""
        node = self.nodes[name]
        if node.life is not None and (node.life.stopping is not None or node.life.is_over):
            self.crash(name, power_loss=False)
        self.resume(name)
        node.disk_recovers()
        self.start(name)

    def pause(self, name: str) -> None:
        """Let a process stand still."""
        life = self.nodes[name].life
        if life is not None:
            life.clock.pause()

    def resume(self, name: str) -> None:
        """Let a process go on."""
        life = self.nodes[name].life
        if life is not None and life.clock.is_paused:
            life.clock.resume()

    # -- leaders -------------------------------------------------------------------------------------------------

    def leader(self) -> str | None:
        """Return who leads the latest term, as far as there is somebody."""
        leading = [
            (raft.current_term, name)
            for name, node in self.nodes.items()
            if (raft := node.raft) is not None and raft.role is Role.LEADER
        ]
        return max(leading)[1] if leading else None

    def transfer_leadership(self, to: str | None) -> None:
        """Ask the leader to hand over."""
        name = self.leader()
        life = self.nodes[name].life if name is not None else None
        if life is None or life.replica is None:
            return
        driver = life.replica.driver

        def ask() -> None:
            try:
                driver.node.transfer_leadership(to)
            except (Conflict, NotLeader):
                return  # it was to hand over to itself, or no longer leads
            driver.wake()

        life.clock.run(ask)

    # -- what the checkers see -----------------------------------------------------------------------------------

    def _look(self, clock: NodeClock) -> None:
        name, life = self._owners[clock]
        replica = life.replica
        is_there = life.storage is not None and self.nodes[name].life is life
        if is_there and replica is not None and self.checkers.look(name, replica.state_machine.store):
            self.coverage.look(name, replica.driver.node)
        if self.failure is not None:
            raise self.failure

    def _applied(self, name: str, entry: Entry, results: Sequence[Result]) -> None:
        self.checkers.applied(name, entry)
        for told in self.on_applied:
            told(entry)
        if entry.kind is EntryKind.CONFIGURATION and entry.index > self._committed[0]:
            self._committed = (entry.index, Configuration.decode(entry.payload))
        if not self.settings.begins_empty:
            return
        now, is_excused = self.clock.seconds(), self.checkers.states.is_excused(name, entry.index)
        self.replay.note(name, entry, results, now=now, is_excused=is_excused)
        right = self.replay.results(entry.index)
        self.applied_writes.note(entry, right)
        self.time_lines.note(entry, right, now=now)

    def _sent(self, message: Message) -> None:
        self.checkers.sent(message)
        is_vote = isinstance(message, RequestVoteResponse) and message.vote_granted and not message.pre_vote
        if is_vote and self.on_vote is not None:
            self.on_vote(message.sender)

    def stopped_by(self, name: str, error: BaseException) -> None:
        """A node gives up because of an error: it is excused, or the story has failed."""
        self.trace.note(f"fatal {name} {type(error).__name__}")
        life = self.nodes[name].life
        if life is None or life.is_over:
            return
        if not self.excuses.takes(name, error, disk_errors=life.disk_errors):
            self._fail(error)
            return
        life.is_over = True
        self.clock.callLater(STOPPING_SECONDS, self._bury, name, life)

    def _bury(self, name: str, life: Life) -> None:
        """End the life of a node that has given up; the supervisor starts it again after a while."""
        if self.nodes[name].life is life:
            self.crash(name, power_loss=self.random.random() < 0.5)
            self.clock.callLater(self.random.uniform(0.1, 3.0), self.start, name)

    def _disk_error(self, name: str, life: Life, operation: str, file: str, code: int) -> None:
        self.trace.note(f"disk error {name} {operation} {file}")
        life.disk_errors += 1
        if operation == "read" and life.replica is None:
            return  # a start that cannot read its log repairs it
        if can_be_borne(operation, file, code):
            return
        self.clock.callLater(STOP_SECONDS, self._must_have_stopped, name, life, f"{operation} of {file}")

    def _must_have_stopped(self, name: str, life: Life, what: str) -> None:
        """A node that met an error of its disk must not go on, as soon as it has heard of it (B43)."""
        if self.nodes[name].life is not life:
            return
        if life.clock.is_paused or any(worker.is_stalled for worker in life.workers):
            self.clock.callLater(STOP_SECONDS, self._must_have_stopped, name, life, what)
        else:
            raise Violation("disk error believed", f"{name} goes on after a failed {what}")

    def _fail(self, error: BaseException) -> None:
        if self.failure is None:
            self.failure = error


def _standing(replica: Replica, arguments: Mapping[str, Any]) -> Standing:
    """Answer as the Raft port of a process does."""
    node, asker = replica.driver.node, arguments["asker"]
    member = node.configuration.members.get(asker.node_id)
    was_met = member is not None and member.incarnation == asker.incarnation
    return Standing(identity=replica.identity, holds=True if node.current_term > 0 else False if was_met else None)
