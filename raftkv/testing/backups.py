"""Backups of a simulated cluster while everything goes wrong, archives whose disks fail, and what can be made of them.

At drawn moments somebody fetches a snapshot from a node, piece by piece, as a client does over HTTP. Each machine
archives its log on a disk of its own that fails, fills up, hangs and loses its power like any other. When the story is
over, each backup that arrived whole must hold what the entries up to its index make, and all that had been committed
when it was asked for; the archives together must give the state of any revision; and a new cluster must start on the
last backup.
"""

from __future__ import annotations

import errno
import random
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial
from typing import Any, ClassVar, Final

from twisted.python.failure import Failure

from raftkv.errors import ConfigurationError, RaftKVError
from raftkv.interfaces import Consistency, IBackup
from raftkv.kvstore import Store
from raftkv.kvstore.commands import FORMAT_VERSION, pack_batch, put, unpack_batch
from raftkv.persistence.log import LogSettings
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.archiving import ArchiveSurroundings
from raftkv.server.replay import Place, Rebuilt, Target, read_snapshot, rebuild
from raftkv.server.replica import Replica
from raftkv.server.restoration import restore
from raftkv.testing.checkers import Violation
from raftkv.testing.clock import NodeClock
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.network import NetworkSettings
from raftkv.testing.trouble import DrawnTrouble
from raftkv.testing.worker import ClockWorker

MARGIN: Final = 1000
_PIECE_BYTES: Final = 700
_FILE_BYTES: Final = 2000
_CONSISTENCIES: Final[tuple[Consistency | None, ...]] = (None, "stale", "linearizable", "linearizable", "lease")
_OPERATIONS: Final = ("create", "write", "read", "sync", "rename", "sync_folder", "remove")
_WEIGHTS: Final = {"fetch": 6.0, "error": 2.0, "full": 1.0, "hang": 1.0, "ask": 1.0}


@dataclass(frozen=True, slots=True, kw_only=True)
class Arrived:
    """A backup that has arrived whole.

    :ivar at_least: the index up to which it must reach.
    """

    data: bytes
    facts: dict[str, Any]
    at_least: int


class Backups(DrawnTrouble):
    """Fetches backups, and troubles the archives.

    :ivar arrived: the backups that came whole.
    :ivar entries: all that was applied by any node, by index.
    """

    NUMBERED_FROM: ClassVar[int] = 4000
    CALLED: ClassVar[str] = "backup"

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        pause_seconds: float = 1.5,
        without: Container[int] = (),
    ) -> None:
        super().__init__(cluster, random=random, pause_seconds=pause_seconds, weights=_WEIGHTS, without=without)
        self.arrived: list[Arrived] = []
        self.entries: dict[int, Entry] = {}
        self._chance = random
        self._disks = {name: MemoryDisk(f"/archive of {name}") for name in cluster.names}
        self._workers: dict[str, ClockWorker] = {}
        cluster.on_applied.append(self._note)
        cluster.archive_of = self._archive_of

    def start(self) -> None:
        """Begin to ask, and to disturb."""
        self._next()

    def end(self) -> None:
        """Begin no more, and mend what is broken."""
        super().end()
        for disk in self._disks.values():
            disk.mend()
        for worker in self._workers.values():
            worker.resume()

    def _note(self, entry: Entry) -> None:
        self.entries.setdefault(entry.index, entry)

    def _archive_of(self, name: str, clock: NodeClock) -> ArchiveSurroundings:
        disk = self._disks[name]
        if self._chance.random() < 0.5:  # the machine that holds the archive went down together with the node
            disk.crash(self._chance)
        worker = self._workers[name] = ClockWorker(clock, lambda items: self._chance.uniform(0.001, 0.05))
        return ArchiveSurroundings(disk=disk, worker=worker, file_bytes=_FILE_BYTES)

    # -- what comes ----------------------------------------------------------------------------------------------

    def fetch(self) -> None:
        """Fetch a backup from some node that runs."""
        name = self._random.choice(self._cluster.names)
        node = self._cluster.nodes[name]
        life = node.life
        if life is None or life.replica is None or life.stopping is not None or life.clock.is_paused:
            return
        consistency = self._random.choice(_CONSISTENCIES)
        known = [each.raft.commit_index for each in self._cluster.nodes.values() if each.raft is not None]
        at_least = max(known, default=0) if consistency in ("linearizable", "lease") else 0
        replica, clock, chance = life.replica, life.clock, self._random

        def ask() -> None:
            opening = replica.backups.open(consistency)
            opening.addCallback(lambda backup: _Download(self, backup, clock, chance, at_least).go_on())
            opening.addErrback(self._refused)

        self._count("backups asked for")
        clock.run(ask)

    def _refused(self, failure: Failure) -> None:
        if failure.check(RaftKVError):
            self._count("backups refused")
        else:
            raise Violation("backup", failure.getTraceback())

    def came(self, arrived: Arrived) -> None:
        """A backup has arrived whole."""
        self._count("backups arrived")
        self.arrived.append(arrived)

    def broke(self, failure: Failure) -> None:
        """A backup broke off on the way."""
        self._refused(failure)

    def _some_archive(self) -> str:
        return self._random.choice(self._cluster.names)

    def error(self) -> None:
        """Let something fail on an archive's disk."""
        disk = self._disks[self._some_archive()]
        disk.fail_next(self._random.choice(_OPERATIONS), code=self._random.choice((errno.EIO, errno.ENOSPC)))

    def full(self) -> None:
        """Let an archive's disk have no room for a while."""
        disk = self._disks[self._some_archive()]
        disk.capacity_bytes = disk.used_bytes() + self._random.randrange(1000)
        self._cluster.clock.callLater(self._random.uniform(0.5, 5.0), disk.mend)

    def hang(self) -> None:
        """Let an archive hang for a while."""
        worker = self._workers.get(self._some_archive())
        if worker is not None:
            worker.stall()
            self._cluster.clock.callLater(self._random.uniform(0.5, 5.0), worker.resume)

    def ask(self) -> None:
        """Ask a node to archive everything now."""
        life = self._cluster.nodes[self._some_archive()].life
        if life is None or life.replica is None or life.clock.is_paused:
            return
        replica = life.replica

        def ask() -> None:
            replica.backups.archive().addErrback(self._refused)

        life.clock.run(ask)

    # -- the verdict ---------------------------------------------------------------------------------------------

    def is_archived(self) -> bool:
        """Tell whether every node that runs has archived all that it knows to be committed, and is content."""
        for name, node in self._cluster.nodes.items():
            life = node.life
            if name in self._cluster.excuses.out or life is None or life.replica is None:
                continue
            archiver = life.replica.archiver
            if archiver is None or archiver.alarms():
                return False
            if (archiver.position or 0) < life.replica.driver.node.commit_index:
                return False
        return True

    def check(self, chance: random.Random) -> None:
        """Make states of everything that was kept, and compare them with what the entries say."""
        for arrived in self.arrived:
            self._check_backup(arrived)
        if self.entries:
            self._check_archives(chance)
        if self.arrived:
            self._check_restored(self.arrived[-1], chance)

    def _check_backup(self, arrived: Arrived) -> None:
        info, store = read_snapshot(_place(arrived.data), _quietly)
        if info.digest != arrived.facts["checksum"] or info.revision != arrived.facts["revision"]:
            raise Violation("backup", f"it is not what was told of it: {info} {arrived.facts}")
        if info.meta.index < arrived.at_least:
            raise Violation("backup", f"it ends at {info.meta.index}, and {arrived.at_least} was committed before")
        self._compare(store, self._state_at(info.meta.index), f"the backup at {info.meta.index}")

    def _check_archives(self, chance: random.Random) -> None:
        last = max(self.entries)
        whole = self._rebuild(Target())
        if whole.store.applied_index < last:
            raise Violation("archive", f"it ends at {whole.store.applied_index}, and {last} was committed")
        self._compare(whole.store, self._state_at(last), "the archives")
        self._count("states made of archives")
        if not whole.store.revision:
            return
        revision = chance.randint(1, whole.store.revision)
        try:
            past = self._rebuild(Target(revision=revision))
        except ConfigurationError:
            # One command may take several revisions; and what is left of the archives may begin with a later snapshot.
            self._count("revisions that cannot be had")
            return
        self._compare(past.store, self._state_of(past), f"the archives up to revision {revision}")
        if past.store.revision != revision:
            raise Violation("archive", f"revision {past.store.revision} in place of {revision}")
        self._count("states made of archives")

    def _rebuild(self, target: Target) -> Rebuilt:
        return rebuild(base=None, archives=[*self._disks.values()], target=target, progress=_quietly)

    def _check_restored(self, arrived: Arrived, chance: random.Random) -> None:
        """Start a cluster on a backup: it must hold the same, at a revision of its own, and go on."""
        cluster = SimulatedCluster(
            settings=ClusterSettings(begins_empty=False),
            network_settings=NetworkSettings(),
            seed=chance.getrandbits(64),
        )
        for name in cluster.names:
            info, store = read_snapshot(_place(arrived.data), _quietly)
            restore(
                cluster.nodes[name].disk,
                Rebuilt(store=store, cluster_id=info.cluster_id, term=info.meta.term),
                config=cluster.config(name),
                margin=MARGIN,
                token="",
                make_id=lambda: f"{chance.getrandbits(128):032x}",
                settings=LogSettings(segment_bytes=8192),
            )
        cluster.start_all()
        _until(cluster, lambda: cluster.leader() is not None, "a restored cluster has a leader")
        life = cluster.nodes[cluster.leader() or ""].life
        if life is None or life.replica is None:
            raise Violation("restore", "the leader is gone")
        replica, answers = life.replica, list[Any]()
        life.clock.run(lambda: replica.write([put(b"new", b"1")], answers.append))
        _until(cluster, lambda: bool(answers), "a restored cluster takes a write")
        expected = self._state_at(arrived.facts["index"])
        for name in cluster.names:
            each = cluster.nodes[name].life
            if each is None or each.replica is None:
                raise Violation("restore", f"{name} is gone")
            own = each.replica
            _until(cluster, partial(_is_beyond, own, expected.revision + MARGIN), "all nodes take part")
            state = own.state()
            if state.compact_revision != expected.revision + MARGIN:
                raise Violation("restore", f"compacted at {state.compact_revision}, not {expected.revision} + {MARGIN}")
            held = {key: record for key, record in state.scan(b"", None, 1 << 30) if key != b"new"}
            wanted = {key: record for key, record in expected.scan(b"", None, 1 << 30) if key != b"new"}
            if held != wanted:
                raise Violation("restore", f"{name} holds {held}, and {wanted} were saved")
        self._count("clusters restored")

    def _state_at(self, index: int) -> Store:
        """Return what the entries up to an index make."""
        store = Store()
        for number in range(1, index + 1):
            entry = self.entries[number]
            if entry.kind is EntryKind.COMMANDS:
                store.apply(number, entry.payload)
            else:
                store.skip(number)
        return store

    def _state_of(self, rebuilt: Rebuilt) -> Store:
        """Return the state that has the revision of another, with as many commands of its last entry as that takes;
        a snapshot alone is of whole entries."""
        found = rebuilt.store
        last = self.entries[found.applied_index]
        if last.kind is not EntryKind.COMMANDS or not rebuilt.replayed:
            return self._state_at(last.index)
        cluster_ms, commands = unpack_batch(last.payload)
        for count in range(len(commands) + 1):
            store = self._state_at(last.index - 1)
            store.apply(last.index, pack_batch(cluster_ms, 0, commands[:count]))
            if store.revision >= found.revision:
                return store
        raise Violation("archive", f"entry {last.index} of format {FORMAT_VERSION} never gets to {found.revision}")

    def _compare(self, found: Store, expected: Store, what: str) -> None:
        if (found.applied_index, found.revision, found.digest()) != (
            expected.applied_index,
            expected.revision,
            expected.digest(),
        ):
            raise Violation("backup", f"{what} holds revision {found.revision}, {found.digest()}; {expected.revision}")


class _Download:
    """One backup on its way: a piece now and then."""

    def __init__(
        self, backups: Backups, backup: IBackup, clock: NodeClock, chance: random.Random, at_least: int
    ) -> None:
        self._backups = backups
        self._backup = backup
        self._clock = clock
        self._chance = chance
        self._at_least = at_least
        self._data = b""

    def go_on(self) -> None:
        """Ask for the next piece."""
        if len(self._data) == self._backup.facts["bytes"]:
            self._backup.close()
            self._backups.came(Arrived(data=self._data, facts=self._backup.facts, at_least=self._at_least))
            return
        reading = self._backup.read(len(self._data), _PIECE_BYTES)
        reading.addCallbacks(self._read, self._failed)

    def _read(self, data: bytes) -> None:
        self._data += data
        self._clock.callLater(self._chance.expovariate(5), self.go_on)

    def _failed(self, failure: Failure) -> None:
        self._backup.close()
        self._backups.broke(failure)


def _place(data: bytes) -> Place:
    disk = MemoryDisk("/backup")
    disk.replace("file", data)
    return Place(disk=disk, file="file")


def _is_beyond(replica: Replica, revision: int) -> bool:
    return replica.revision() > revision


def _quietly(what: str, done: int, of: int) -> None:
    """Tell nobody how far it is."""


def _until(cluster: SimulatedCluster, condition: Callable[[], bool], what: str) -> None:
    if not cluster.clock.run_while(lambda: not condition(), limit_seconds=20):
        raise Violation("liveness", f"not within 20 seconds: {what}")
