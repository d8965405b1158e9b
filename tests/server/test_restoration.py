"""A new cluster out of a backup, and out of an archive up to a point in the past."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from itertools import product
from pathlib import Path
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.config import NodeConfig
from raftkv.errors import Compacted, ConfigurationError, CorruptData, InvariantViolation, StorageError
from raftkv.kvstore import Store
from raftkv.kvstore.commands import Command, delete, expire, grant, pack_batch, put
from raftkv.persistence.directory import open_directory
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings
from raftkv.persistence.meta import load_meta
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta
from raftkv.server.assembly import assemble
from raftkv.server.backupfile import backup_facts
from raftkv.server.replay import Place, Rebuilt, Target, rebuild
from raftkv.server.restoration import Restored, restore
from raftkv.snapshot.archive import ArchiveFolder
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.disk import MemoryDisk, PowerLoss
from raftkv.testing.network import NetworkSettings

OLD = "0123456789abcdef" * 2
MARGIN = 1000
SETTINGS = LogSettings(segment_bytes=4096)
NAMES = ("n1", "n2", "n3")


def commands_of(index: int) -> list[Command]:
    """Return the commands of entry ``index``: two puts, so that entry n ends with revision 2 n."""
    return [put(b"k%d" % index, b"v%d" % index), put(b"last", b"%d" % index)]


def entry_at(index: int, term: int = 1, commands: Sequence[Command] | None = None) -> Entry:
    """Return an entry that a leader made at second ``index``."""
    payload = pack_batch(index * 1000, index * 1000, commands_of(index) if commands is None else commands)
    return Entry(index=index, term=term, kind=EntryKind.COMMANDS, payload=payload)


def quietly(what: str, done: int, of: int) -> None:
    """Tell nobody how far it is."""


class BackupTestCase(SynchronousTestCase):
    """An old cluster's disk with snapshots, and archives of its nodes."""

    def setUp(self) -> None:
        self.old = MemoryDisk("/old")
        self.old.make_folder("snapshots")
        self.archive = MemoryDisk("/archive")

    def snapshot(self, index: int, *, term: int = 1, disk: MemoryDisk | None = None) -> Place:
        """Write the snapshot of the state behind entry ``index``."""
        store = Store()
        for number in range(1, index + 1):
            store.apply(number, entry_at(number).payload)
        meta = SnapshotMeta(index=index, term=term, configuration=Configuration(), configuration_index=0)
        writer = self.directory(self.old).create(meta, store.revision)
        for chunk in store.capture():
            writer.write(chunk)
        return Place(disk=self.old, file=f"snapshots/{writer.commit().name}")

    def directory(self, disk: MemoryDisk) -> SnapshotDirectory:
        """Return the folder of snapshots of the old cluster."""
        return SnapshotDirectory(disk, cluster_id=OLD, unreadable=self.refuse)

    def refuse(self, error: BaseException) -> None:
        """Nothing that is read here is damaged unless a test says so."""
        raise error

    def archived(
        self,
        first: int,
        last: int,
        *,
        node: str = "n1",
        previous_term: int = 1,
        term: int = 1,
        cluster: str = OLD,
        entries: Sequence[Entry] | None = None,
    ) -> str:
        """Put entries into the archive; return the path of their file."""
        folder = ArchiveFolder(self.archive, cluster_id=cluster, node_id=node)
        writer = folder.begin(first_index=first, previous_term=previous_term if first > 1 else 0)
        for entry in entries or [entry_at(number, term) for number in range(first, last + 1)]:
            writer.write([entry])
        return f"{cluster}/{node}/{writer.commit().name}"

    def rebuild(self, base: Place | None = None, **target: int) -> Rebuilt:
        """Make a state of the past."""
        return rebuild(base=base, archives=[self.archive], target=Target(**target), progress=quietly)

    def assert_refused(self, error: type[Exception], *parts: str, base: Place | None = None, **target: int) -> None:
        """Check that a state of the past is refused with these words."""
        message = str(self.assertRaises(error, self.rebuild, base, **target))
        for part in parts:
            self.assertIn(part, message)


class ReplayTests(BackupTestCase):
    """Entries behind a snapshot."""

    def assert_at(self, rebuilt: Rebuilt, index: int) -> None:
        """Check that a state is that behind an entry."""
        twin = Store()
        for number in range(1, index + 1):
            twin.apply(number, entry_at(number).payload)
        self.assertEqual((rebuilt.store.digest(), rebuilt.store.applied_index), (twin.digest(), index))

    def test_to_the_end(self) -> None:
        """All that is archived behind the snapshot is applied, whatever lies before it is passed over."""
        self.archived(1, 4)
        self.archived(5, 9, term=3)
        rebuilt = self.rebuild(self.snapshot(6, term=3))
        self.assert_at(rebuilt, 9)
        self.assertEqual((rebuilt.term, rebuilt.replayed, rebuilt.last_time_ms), (3, 3, 9000))
        self.assertEqual(rebuilt.base, f"/old/snapshots/{6:020d}-{3:020d}.snapshot")

    def test_snapshot_alone(self) -> None:
        """Without an archive the snapshot is the state."""
        place = self.snapshot(6)
        self.assert_at(rebuild(base=place, archives=[], target=Target(), progress=quietly), 6)
        self.assertRaises(ConfigurationError, rebuild, base=None, archives=[], target=Target(), progress=quietly)

    def test_to_a_revision(self) -> None:
        """A revision in the middle of an entry is reached exactly; one that is there already needs nothing."""
        self.archived(1, 9)
        place = self.snapshot(3)
        for revision in range(6, 19):
            rebuilt = self.rebuild(place, revision=revision)
            self.assertEqual((rebuilt.store.revision, rebuilt.store.applied_index), (revision, (revision + 1) // 2))
            self.assertEqual(rebuilt.store.get(b"last")[0], b"%d" % (revision // 2))  # type: ignore[index]
        self.assert_refused(
            ConfigurationError, "revision 19", "ends with entry 9, revision 18", base=place, revision=19
        )
        self.assert_refused(ConfigurationError, place.path, "later than 5", base=place, revision=5)

    def test_revision_within_a_command(self) -> None:
        """A revision that no state between two commands has is refused, with those next to it."""
        made = [grant(1000), grant(1000), put(b"a", b"", lease=1), put(b"b", b"", lease=2)]
        self.archived(1, 1, entries=[entry_at(1, commands=made)])
        expiring = Entry(index=2, term=1, kind=EntryKind.COMMANDS, payload=entry_at(9, commands=[expire(9)]).payload)
        self.archived(2, 2, entries=[expiring])
        self.assert_refused(ConfigurationError, "revision 3", "from revision 2 to 4", revision=3)

    def test_to_a_time(self) -> None:
        """The last entry that a leader made at that time or before is the last one applied."""
        self.archived(1, 9)
        place = self.snapshot(3)
        for time_ms, index in ((3000, 3), (6999, 6), (7000, 7), (99_000, 9)):
            self.assert_at(self.rebuild(place, time_ms=time_ms), index)
        self.assert_refused(ConfigurationError, place.path, "later time", base=place, time_ms=2999)

    def test_time_of_the_snapshot_unknown(self) -> None:
        """A snapshot of which nothing tells that it is old enough is not taken for it."""
        self.archived(4, 9)
        place = self.snapshot(3)
        self.assert_at(self.rebuild(place, time_ms=4000), 4)
        self.assert_refused(ConfigurationError, "nothing in the archive tells", base=place, time_ms=3999)

    def test_without_a_snapshot(self) -> None:
        """An archive that begins with the first entry needs none; another uses the best one that lies in it."""
        name = self.archived(1, 4)
        self.archived(5, 9)
        self.assert_at(self.rebuild(), 9)
        self.archive.remove(name)
        self.assert_refused(ConfigurationError, "does not begin with entry 1")
        folder = ArchiveFolder(self.archive, cluster_id=OLD, node_id="n2")
        for index in (4, 7):
            self.snapshot(index)
            reader = self.directory(self.old).open_newest()
            assert reader is not None
            folder.copy_base(reader)
            reader.close()
        self.assertTrue(self.rebuild().base.endswith("7-00000000000000000001.snapshot"))
        self.assertEqual(self.rebuild().replayed, 2)
        self.assertEqual(self.rebuild(revision=13).replayed, 3)
        self.assert_at(self.rebuild(time_ms=8500), 8)

    def test_snapshot_in_the_archive_alone(self) -> None:
        """A snapshot that was copied into an archive in which there is nothing else yet is what it holds."""
        self.snapshot(4)
        reader = self.directory(self.old).open_newest()
        assert reader is not None
        ArchiveFolder(self.archive, cluster_id=OLD, node_id="n2").copy_base(reader)
        reader.close()
        self.assert_at(self.rebuild(), 4)
        self.assertEqual(self.rebuild().cluster_id, OLD)

    def test_entries_without_commands(self) -> None:
        """What a leader puts into the log for itself takes an index and changes nothing."""
        noop = Entry(index=2, term=2, kind=EntryKind.NOOP, payload=b"")
        self.archived(1, 3, entries=[entry_at(1), noop, entry_at(3, 2)])
        rebuilt = self.rebuild()
        self.assertEqual((rebuilt.store.applied_index, rebuilt.store.revision, rebuilt.term), (3, 4, 2))

    def test_several_nodes(self) -> None:
        """What one node's archive lacks, or has damaged, is taken from another's."""
        self.archived(1, 3, node="n1")
        self.archived(7, 9, node="n1")
        damaged = self.archived(1, 5, node="n2")
        self.archived(3, 8, node="n3")
        self.archive.flip_bit(damaged, 300)
        self.assert_at(self.rebuild(), 9)

    def test_gap(self) -> None:
        """Entries that nobody has are named, with the file behind them."""
        self.archived(1, 3)
        later = self.archived(6, 9)
        self.assert_refused(CorruptData, f"/archive/{later}", "offset 0", "entries 4 to 5 are missing")
        self.assert_refused(CorruptData, f"/archive/{later}", "entries 4 to 5", base=self.snapshot(2), revision=17)
        self.assert_at(self.rebuild(revision=6), 3)

    def test_every_flipped_bit(self) -> None:
        """Damage anywhere in a file, or in its length, is refused, with the file and an offset in it."""
        name = self.archived(1, 3)
        image = self.archive.read(name)
        for bit in range(0, 8 * len(image), 3):
            self.archive.replace(name, image)
            self.archive.flip_bit(name, bit // 8, bit % 8)
            error = self.assertRaises(CorruptData, self.rebuild)
            self.assertEqual((error.path, error.offset <= len(image)), (f"/archive/{name}", True))
        for length in range(0, len(image), 5):
            self.archive.replace(name, image[:length])
            self.assertRaises(CorruptData, self.rebuild)

    def test_another_name(self) -> None:
        """A file under another's name is refused."""
        name = self.archived(1, 3)
        self.archive.rename(name, name.replace(f"{3:020d}", f"{4:020d}"))
        self.assert_refused(CorruptData, "not the one that its name tells")

    def test_terms_that_do_not_chain(self) -> None:
        """An entry of another history than the one that it would follow is refused, wherever that shows."""
        self.archived(1, 3)
        name = self.archived(4, 6, previous_term=2, term=2)
        self.assert_refused(CorruptData, name, "entry 3 is of term 2 here, and of term 1")
        self.archive.remove(name)
        self.archived(3, 6, previous_term=1, term=2)
        self.assert_refused(CorruptData, "entry 3 is of term 2 here, and of term 1")

    def test_snapshot_of_another_history(self) -> None:
        """A snapshot whose last entry the archive has with another term is refused; likewise one of another cluster."""
        self.archived(1, 6)
        self.assert_refused(CorruptData, "entry 3 is of term 1 here, and of term 5", base=self.snapshot(3, term=5))
        place = self.snapshot(3)
        self.archive = MemoryDisk("/archive")
        self.archived(4, 6, cluster="ff" * 16)
        self.assert_refused(ConfigurationError, f"nothing of cluster {OLD}", "ff" * 16, base=place)
        self.archived(4, 6)
        self.assert_at(self.rebuild(place), 6)
        self.assert_refused(ConfigurationError, "several clusters")

    def test_real_folders(self) -> None:
        """Files are found in whatever folder they lie, also where names have dots; other files are passed over."""
        root = Path(self.mktemp())
        root.mkdir()
        disk = LocalDisk(root)
        for first, node in ((1, "node.1"), (4, "node.2.example")):
            writer = ArchiveFolder(disk, cluster_id=OLD, node_id=node).begin(
                first_index=first, previous_term=1 if first > 1 else 0
            )
            writer.write([entry_at(number) for number in range(first, first + 3)])
            writer.commit()
        (root / "lost+found").mkdir(mode=0)
        (root / "README.txt").write_text("not ours")
        (root / "deeper").mkdir()
        (root / OLD / "node.2.example").rename(root / "deeper" / "moved away")
        rebuilt = rebuild(base=None, archives=[LocalDisk(root, read_only=True)], target=Target(), progress=quietly)
        self.assert_at(rebuilt, 6)

    def test_no_such_directory(self) -> None:
        """An archive that is not there is no empty one."""
        nowhere = LocalDisk(self.mktemp(), read_only=True)
        with self.assertRaises(StorageError):
            rebuild(base=self.snapshot(3), archives=[nowhere], target=Target(), progress=quietly)

    def test_what_cannot_be_applied(self) -> None:
        """An archive of a program that knows other commands stops the restore."""
        self.archived(1, 1, entries=[entry_at(1, commands=[(99, 0)])])
        self.assertRaises(InvariantViolation, self.rebuild)

    def test_facts(self) -> None:
        """A backup is described, having been read to its end; damage is told with its place."""
        place = self.snapshot(4)
        facts = backup_facts(place, quietly)
        self.assertEqual((facts["cluster_id"], facts["index"], facts["revision"], facts["keys"]), (OLD, 4, 8, 5))
        self.old.flip_bit(place.file, 200)
        self.assertRaises(CorruptData, backup_facts, place, quietly)


class NewClusterTests(BackupTestCase):
    """Three directories, made of the same backup, and the cluster that starts on them."""

    def setUp(self) -> None:
        super().setUp()
        self.cluster = SimulatedCluster(
            settings=ClusterSettings(begins_empty=False),
            network_settings=NetworkSettings(),
            seed=4,
            compose=assemble,
        )
        self.place = self.snapshot(20)

    def restore(self, name: str, *, index: int = 20, token: str = "", disk: MemoryDisk | None = None) -> Restored:
        """Make the directory of one node."""
        rebuilt = rebuild(base=self.snapshot(index), archives=[], target=Target(), progress=quietly)
        return restore(
            disk or self.cluster.nodes[name].disk,
            rebuilt,
            config=self.cluster.config(name),
            margin=MARGIN,
            token=token,
            make_id=lambda: f"{name}".encode().hex() * 8,
            settings=LogSettings(segment_bytes=8192),
        )

    def until(self, condition: Callable[[], Any]) -> None:
        """Let time pass until a condition holds."""
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=20))

    def test_start_together(self) -> None:
        """B61: nodes that restore the same file are one cluster, with all that was in it, at a revision of its own."""
        made = [self.restore(name) for name in NAMES]
        self.assertEqual(len({each.meta.cluster_id for each in made}), 1)
        self.assertEqual(len({each.meta.incarnation for each in made}), 3)
        self.assertEqual(len({each.snapshot.digest for each in made}), 1)
        self.assertNotEqual(made[0].meta.cluster_id, OLD)
        self.assertEqual((made[0].old_revision, made[0].snapshot.revision), (40, 40 + MARGIN))
        self.cluster.start_all()
        self.until(self.cluster.leader)
        leader = self.cluster.leader()
        assert leader is not None
        answers: list[Any] = []
        life = self.cluster.nodes[leader].life
        assert life is not None
        assert life.replica is not None
        replica = life.replica
        life.clock.run(lambda: replica.write([put(b"new", b"1"), delete(b"k1")], answers.append))
        self.until(lambda: answers)
        self.assertEqual(answers, [[(0, 41 + MARGIN), (0, 42 + MARGIN, True)]])
        stores = []
        for name in NAMES:
            life = self.cluster.nodes[name].life
            assert life is not None
            assert life.replica is not None
            self.until(lambda replica=life.replica: replica.revision() == 42 + MARGIN)
            stores.append(life.replica.state())
        self.assertEqual(len({store.digest() for store in stores}), 1)
        for store in stores:
            self.assertIsNone(store.get(b"k1"))
            self.assertEqual(store.get(b"k20"), (b"v20", 39, 39, 1, 0))
            self.assertRaises(Compacted, store.changes, 40, 1)
        members = replica.local_cluster()["members"]
        self.assertEqual([(member["id"], member["role"]) for member in members], [(name, "voter") for name in NAMES])

    def test_restarts(self) -> None:
        """What a restored cluster has written survives a loss of power of all its nodes."""
        for name in NAMES:
            self.restore(name)
        for _ in range(3):
            self.cluster.start_all()
            self.until(self.cluster.leader)
            for name in NAMES:
                self.cluster.crash(name, power_loss=True)
        self.cluster.start_all()
        self.until(self.cluster.leader)

    def test_something_else(self) -> None:
        """Nodes that restore another state, or with another token, or for other members, are another cluster."""
        cluster_id = self.restore("n1").meta.cluster_id
        others = [
            self.restore("n2", index=19),
            self.restore("n3", token="again"),
            self.restore("n2", disk=MemoryDisk(), token=""),
        ]
        self.assertEqual([each.meta.cluster_id == cluster_id for each in others], [False, False, True])

    def test_alone(self) -> None:
        """A node alone gets a random cluster id: two that restore the same file are no cluster."""
        rebuilt = rebuild(base=self.place, archives=[], target=Target(), progress=quietly)
        config = NodeConfig(node_id="a", data_dir="a")
        made = restore(
            MemoryDisk(), rebuilt, config=config, margin=1, token="", make_id=lambda: "77" * 16, settings=SETTINGS
        )
        self.assertEqual(made.meta.cluster_id, "77" * 16)

    def test_not_empty(self) -> None:
        """A directory that holds anything is refused, and left as it is."""
        disk = self.cluster.nodes["n1"].disk
        self.restore("n1")
        before = {name: disk.read(name) for name in ("meta", "hardstate")}
        error = self.assertRaises(ConfigurationError, self.restore, "n1")
        self.assertIn("is not empty", str(error))
        self.assertEqual({name: disk.read(name) for name in before}, before)

    def test_to_join(self) -> None:
        """A node that is to join a running cluster gets no directory of a backup."""
        rebuilt = rebuild(base=self.place, archives=[], target=Target(), progress=quietly)
        config = NodeConfig(node_id="a", data_dir="a", join=("h:1",))
        self.assertRaises(
            ConfigurationError,
            restore,
            MemoryDisk(),
            rebuilt,
            config=config,
            margin=1,
            token="",
            make_id=lambda: "",
            settings=SETTINGS,
        )

    def test_disk_errors(self) -> None:
        """An error of the disk at any step leaves a directory that takes the next attempt."""
        for operation, name in (
            ("write", "snapshots"),
            ("sync", "snapshots"),
            ("sync", "hardstate"),
            ("sync", "log"),
            ("sync", "meta"),
        ):
            disk = MemoryDisk()
            disk.fail_next(operation, name)
            self.assertRaises(StorageError, self.restore, "n1", disk=disk)
            self.assertIsNone(load_meta(disk))
            self.restore("n1", disk=disk)
            self.assertIsNotNone(load_meta(disk))

    def test_power_loss(self) -> None:
        """B44: a loss of power at any step leaves a directory that is whole, or that a start refuses or finds empty."""
        outcomes = {"refused": 0, "whole": 0, "empty": 0}
        for operations, seed in product(range(35), range(4)):
            disk = MemoryDisk("d")
            disk.lose_power_after(operations)
            self.assertRaises(PowerLoss, self.restore, "n1", disk=disk)
            disk.crash(random.Random(seed))
            if (meta := load_meta(disk)) is not None:
                outcome = "whole"
                self.assertIsNotNone(
                    SnapshotDirectory(disk, cluster_id=meta.cluster_id, unreadable=self.refuse).newest()
                )
            else:
                try:
                    open_directory(
                        disk, node_id="n1", cluster_id=None, make_identity=lambda: ("c", "i"), settings=SETTINGS
                    )
                    outcome = "empty"
                    self.assertLess(operations, 8)
                except CorruptData:
                    outcome = "refused"
            outcomes[outcome] += 1
        self.assertGreater(min(outcomes.values()), 0, outcomes)
