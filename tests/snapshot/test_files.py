"""Snapshot files: written, received, verified, listed, pruned."""

from __future__ import annotations

import contextlib
import random
from functools import partial

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, InvariantViolation, StorageError
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import SnapshotMeta
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo
from raftkv.testing.disk import MemoryDisk, PowerLoss

CONFIGURATION = Configuration(
    members={"a": Member(id="a", incarnation="f0", raft_addr="h:1"), "b": Member(id="b")},
    voters=frozenset({"a"}),
    outgoing_voters=frozenset({"a", "b"}),
)
CHUNKS = [b"first" * 100, b"", bytes(range(256)) * 4]


def meta_at(index: int, term: int = 2) -> SnapshotMeta:
    """Make the meta of a snapshot."""
    return SnapshotMeta(index=index, term=term, configuration=CONFIGURATION, configuration_index=3)


class SnapshotTestCase(SynchronousTestCase):
    """A folder of snapshots on a disk in memory."""

    def setUp(self) -> None:
        self.disk = MemoryDisk("/data/a")
        self.disk.make_folder("snapshots")
        self.unreadable: list[CorruptData] = []
        self.directory = self.directory_on(self.disk)

    def directory_on(self, disk: MemoryDisk, cluster_id: str = "c1") -> SnapshotDirectory:
        """Return the folder of another disk."""
        return SnapshotDirectory(disk, cluster_id=cluster_id, unreadable=self.unreadable.append)

    def take(self, index: int, chunks: list[bytes] = CHUNKS) -> SnapshotInfo:
        """Write a snapshot."""
        writer = self.directory.create(meta_at(index), revision=index * 10)
        for chunk in chunks:
            writer.write(chunk)
        return writer.commit()

    def spoil(self, info: SnapshotInfo, offset: int = 200) -> None:
        """Flip a bit of a snapshot."""
        self.disk.flip_bit(f"snapshots/{info.name}", offset)


class WritingTests(SnapshotTestCase):
    """Writing and reading back."""

    def test_comes_back(self) -> None:
        """B21: chunks, meta with the configuration and its index, and revision come back as they were written."""
        info = self.take(7)
        self.assertEqual((info.meta, info.revision, info.cluster_id), (meta_at(7), 70, "c1"))
        self.assertEqual((info.chunks, info.raw_bytes), (3, sum(map(len, CHUNKS))))
        reader = self.directory.open(info)
        self.addCleanup(reader.close)
        self.assertEqual(list(reader.chunks()), CHUNKS)
        self.assertEqual(reader.info, info)
        self.assertEqual(self.directory.newest(), info)
        self.assertEqual(self.directory.newest_meta(), meta_at(7))

    def test_empty_folder(self) -> None:
        """Without snapshots there is no newest one."""
        self.assertEqual((self.directory.list(), self.directory.newest()), ([], None))

    def test_equal_content(self) -> None:
        """Equal chunks give equal bytes, so that a digest names a content."""
        info = self.take(7)
        first = self.disk.read(f"snapshots/{info.name}")
        self.assertEqual(self.take(7), info)
        self.assertEqual(self.disk.read(f"snapshots/{info.name}"), first)

    def test_power_loss(self) -> None:
        """B44: a loss of power at any step leaves the snapshot whole or absent, and the one before it untouched."""
        outcomes = set()
        for step in range(120):
            self.setUp()
            before = self.take(5)
            self.disk.lose_power_after(step % 12)
            with contextlib.suppress(PowerLoss):
                self.take(9)
            self.disk.crash(random.Random(step))
            self.directory.clean()
            newest = self.directory.newest()
            if newest is None:
                self.fail("the snapshot that was there has gone")
            outcomes.add(newest.meta.index)
            self.assertEqual(self.directory.list()[-1], before)
            self.assertEqual(self.unreadable, [])
            self.assertFalse([name for name in self.disk.names("snapshots") if name.endswith(".tmp")])
        self.assertEqual(outcomes, {5, 9})

    def test_abort(self) -> None:
        """A snapshot that is given up leaves nothing."""
        writer = self.directory.create(meta_at(7), 1)
        writer.write(b"x")
        writer.abort()
        self.assertEqual(self.disk.names("snapshots"), [])

    def test_read_back(self) -> None:
        """What reads back differently from what was written does not get its name."""
        writer = self.directory.create(meta_at(7), 1)
        writer.write(b"x" * 100)
        self.disk.flip_bit(f"snapshots/{self.disk.names('snapshots')[0]}", writer.size_bytes - 1)
        self.assertRaises(CorruptData, writer.commit)
        self.assertEqual(self.directory.list(), [])

    def test_failed_sync(self) -> None:
        """B43: a sync that fails is an error, and the file does not get its name."""
        writer = self.directory.create(meta_at(7), 1)
        self.disk.fail_next("sync", "snapshots")
        self.assertRaises(StorageError, writer.commit)
        self.assertEqual(self.directory.list(), [])

    def test_name_not_synced(self) -> None:
        """B44: a snapshot that a restart finds stays, also where its name had not reached the medium before."""
        for seed in range(10):
            self.setUp()
            self.disk.sync_folder("snapshots")
            self.disk.fail_next("sync_folder", "snapshots")
            self.assertRaises(StorageError, self.take, 7)
            self.directory.clean()
            found = self.directory.newest_meta()
            self.disk.crash(random.Random(seed))
            self.assertEqual((self.directory.newest_meta(), found), (meta_at(7), meta_at(7)))

    def test_nothing_follows_a_failed_write(self) -> None:
        """After a chunk that could not be written none is, and the file never gets its name (B43)."""
        writer = self.directory.create(meta_at(5), revision=1)
        self.disk.fail_next("write")
        for step in (partial(writer.write, b"one"), partial(writer.write, b"two"), writer.commit):
            self.assertRaises(StorageError, step)
        self.assertIsNone(self.directory.newest())


class DamageTests(SnapshotTestCase):
    """Files that do not check out."""

    def test_every_bit_and_length(self) -> None:
        """A flipped bit or a truncation anywhere is found before the last chunk has been handed out as whole."""
        info = self.take(7)
        name = f"snapshots/{info.name}"
        whole = self.disk.read(name)
        for offset in range(len(whole)):
            flipped = bytearray(whole)
            flipped[offset] ^= 1 << offset % 8
            for image in (bytes(flipped), whole[:offset]):
                self.disk.replace(name, image)
                self.assertEqual(self.directory.newest(), None, f"offset {offset}")
        self.assertEqual(len(self.unreadable), 2 * len(whole))
        self.assertIn(info.name, self.unreadable[0].path)

    def test_falls_back(self) -> None:
        """An unreadable newest snapshot is reported, and the one before it is used."""
        older, newer = self.take(5), self.take(9)
        self.spoil(newer)
        self.assertEqual(self.directory.newest(), older)
        self.assertIn(newer.name, str(self.unreadable[0]))

    def test_foreign_cluster(self) -> None:
        """A snapshot of another cluster is not used."""
        self.take(5)
        self.assertEqual(self.directory_on(self.disk, "c2").newest(), None)
        self.assertIn("another cluster", str(self.unreadable[0]))

    def test_wrong_name(self) -> None:
        """A file under the name of another index is not used."""
        info = self.take(5)
        self.disk.rename(f"snapshots/{info.name}", f"snapshots/{info.name.replace('5', '6')}")
        self.assertEqual(self.directory.newest(), None)


class NewestTests(SnapshotTestCase):
    """The snapshot that is sent to another member."""

    def test_opened(self) -> None:
        """The newest one that checks out is opened, and stays readable when it is pruned."""
        self.take(3)
        wanted = self.take(5)
        self.spoil(self.take(7), offset=0)
        reader = self.directory.open_newest()
        assert reader is not None
        self.addCleanup(reader.close)
        self.assertEqual(reader.info, wanted)
        self.disk.remove(f"snapshots/{wanted.name}")
        self.assertEqual(list(reader.chunks()), CHUNKS)

    def test_none(self) -> None:
        """Where there is no snapshot, none is opened."""
        self.assertIsNone(self.directory.open_newest())

    def test_rotten(self) -> None:
        """A file with one flipped bit anywhere is passed over: every member would refuse it (B42)."""
        wanted = self.take(5)
        newest = self.take(7)
        name = f"snapshots/{newest.name}"
        for offset in range(0, newest.size_bytes, 7):
            self.disk.flip_bit(name, offset, offset % 8)
            reader = self.directory.open_newest()
            assert reader is not None
            self.assertEqual(reader.info, wanted, f"offset {offset}")
            reader.close()
            self.disk.flip_bit(name, offset, offset % 8)
        reader = self.directory.open_newest()
        assert reader is not None
        self.assertEqual(reader.info.meta.index, 7)
        reader.close()

    def test_disk_fails(self) -> None:
        """A file that is there and cannot be opened is a failure of the disk."""
        self.take(7)
        self.patch(self.disk, "open", self._fail)
        self.assertRaises(StorageError, self.directory.open_newest)

    def _fail(self, name: str) -> None:
        raise OSError(5, "Input/output error")


class PruningTests(SnapshotTestCase):
    """Removing old snapshots."""

    def indexes(self) -> list[int]:
        """Return the indexes of what is left."""
        return [int(name.split("-")[0]) for name in self.disk.names("snapshots")]

    def test_prune(self) -> None:
        """The newest ones are kept, and an open one stays readable."""
        oldest = self.take(1)
        reader = self.directory.open(oldest)
        self.addCleanup(reader.close)
        for index in (3, 5, 9):
            self.take(index)
        self.directory.prune(2)
        self.assertEqual(self.indexes(), [5, 9])
        self.assertEqual(list(reader.chunks()), CHUNKS)
        self.assertRaises(InvariantViolation, self.directory.prune, 0)

    def test_unreadable_ones_do_not_count(self) -> None:
        """An unreadable snapshot does not push a readable one out, and goes only once it is older than those kept."""
        infos = [self.take(index) for index in (1, 3, 5)]
        self.disk.replace(f"snapshots/{infos[1].name}", b"rubbish")
        self.directory.prune(2)
        self.assertEqual(self.indexes(), [1, 3, 5])
        self.take(7)
        self.directory.prune(2)
        self.assertEqual(self.indexes(), [5, 7])

    def test_rotten_newest(self) -> None:
        """B42: where the newest one has rotted since it was written none is removed, and it is not counted on."""
        infos = [self.take(index) for index in (1, 3, 5)]
        self.directory.prune(3)
        name = f"snapshots/{infos[2].name}"
        self.disk.flip_bit(name, len(self.disk.read(name)) // 2)
        self.assertEqual(self.directory.prune(1), [])
        self.assertEqual(self.indexes(), [1, 3, 5])
        self.assertEqual([info.name for info in self.directory.list_sound()], [infos[1].name, infos[0].name])
        self.assertEqual(len(self.directory.list()), 3, "its ends check out")

    def test_keep_only(self) -> None:
        """All but one go, older and newer ones, where the one can be read (B42); else all stay."""
        infos = [self.take(index) for index in (1, 3, 5)]
        self.assertRaises(StorageError, self.directory.keep_only, meta_at(4))
        self.assertEqual(self.indexes(), [1, 3, 5])
        self.directory.keep_only(infos[1].meta)
        self.assertEqual(self.indexes(), [3])


class ReceivingTests(SnapshotTestCase):
    """A file that comes from another member."""

    def setUp(self) -> None:
        super().setUp()
        self.info = self.take(7)
        self.bytes = self.disk.read(f"snapshots/{self.info.name}")
        self.target = MemoryDisk("/data/b")
        self.target.make_folder("snapshots")
        self.receiving = self.directory_on(self.target)

    def receiver(self, **changes):  # type: ignore[no-untyped-def]  # arguments of receive() by name
        """Begin, or go on."""
        offer = {
            "index": self.info.meta.index,
            "term": self.info.meta.term,
            "size_bytes": self.info.size_bytes,
            "digest": self.info.digest,
        }
        return self.receiving.receive(**{**offer, **changes})

    def test_in_pieces(self) -> None:
        """Pieces make up the same file, which is then the newest."""
        receiver = self.receiver()
        for offset in range(0, len(self.bytes), 100):
            self.assertFalse(receiver.is_complete)
            receiver.write(offset, self.bytes[offset : offset + 100])
        self.assertTrue(receiver.is_complete)
        self.assertEqual(receiver.install(), self.info)
        self.assertEqual(self.receiving.newest(), self.info)
        self.assertEqual(self.target.names("snapshots"), [self.info.name])

    def test_resumes(self) -> None:
        """After a broken connection the transfer goes on where it was, also in a new process."""
        receiver = self.receiver()
        receiver.write(0, self.bytes[:333])
        receiver.pause()
        self.target.crash(random.Random(3))
        self.receiving.clean()
        receiver = self.receiver()
        self.assertIn(receiver.offset, (0, 333))
        receiver.write(receiver.offset, self.bytes[receiver.offset :])
        self.assertEqual(receiver.install(), self.info)

    def test_crash_in_between(self) -> None:
        """What a crash left of a transfer either goes on or is found out and begun anew; a bad file never gets in."""
        for seed in range(60):
            self.target = MemoryDisk("/data/b")
            self.target.make_folder("snapshots")
            self.receiving = self.directory_on(self.target)
            receiver = self.receiver()
            receiver.write(0, self.bytes[:700])
            self.target.crash(random.Random(seed))
            installed = None
            while installed is None:
                receiver = self.receiver()
                receiver.write(receiver.offset, self.bytes[receiver.offset :])
                with contextlib.suppress(CorruptData):
                    installed = receiver.install()
            self.assertEqual(installed, self.info)
            self.assertEqual(self.unreadable, [])

    def test_power_loss_after_it_was_installed(self) -> None:
        """B44: a file that was installed is whole after any loss of power, for the log is cut from then on."""
        for seed in range(40):
            self.target = MemoryDisk("/data/b")
            self.target.make_folder("snapshots")
            self.target.sync_folder("")
            self.receiving = self.directory_on(self.target)
            receiver = self.receiver()
            receiver.write(0, self.bytes)
            receiver.install()
            self.target.crash(random.Random(seed))
            self.assertEqual(self.receiving.newest(), self.info)
            self.assertEqual(self.unreadable, [])

    def test_misplaced_piece(self) -> None:
        """A piece that does not follow, or runs past the announced size, is refused."""
        receiver = self.receiver()
        self.assertRaises(ValueError, receiver.write, 5, b"x")
        self.assertRaises(ValueError, receiver.write, 0, self.bytes + b"x")
        receiver.abort()
        self.assertEqual(self.target.names("snapshots"), [])

    def test_not_what_was_announced(self) -> None:
        """A file that is not the announced one, or does not check out, is removed and never gets its name."""
        for changes, data in (
            ({"digest": "0" * 32}, self.bytes),
            ({}, self.bytes[:-5] + b"\0" + self.bytes[-4:]),
            ({"index": 8}, self.bytes),
        ):
            receiver = self.receiver(**changes)
            receiver.write(0, data)
            self.assertRaises(CorruptData, receiver.install)
            self.assertEqual(self.target.names("snapshots"), [])

    def test_impossible_offer(self) -> None:
        """An offer that cannot be a file's is refused before a file is made of it."""
        for changes in ({"digest": "../../x"}, {"index": 0}, {"size_bytes": 0}, {"term": -1}):
            self.assertRaises(ValueError, self.receiver, **changes)

    def test_another_transfer(self) -> None:
        """What an earlier transfer of another file left is removed."""
        receiver = self.receiver(index=5)
        receiver.write(0, b"x")
        receiver.pause()
        self.receiver().abort()
        self.assertEqual(self.target.names("snapshots"), [])
