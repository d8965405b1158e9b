"""What a node meets of the world; all that differs between a process and a simulation."""

from __future__ import annotations

import random
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field

from twisted.internet.interfaces import IReactorTime

from raftkv.errors import CorruptData
from raftkv.interfaces import IBatchWorker, Identity, IDisk, IForwarder, IPeerTransport, IStorage
from raftkv.persistence.log import LogSettings
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource
from raftkv.server.archiving import ArchiveSurroundings
from raftkv.server.notes import NOTE_INTERVAL

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
