"""Making a data directory, and finding whose it is."""

from __future__ import annotations

import contextlib
import errno
import random
from collections.abc import Callable

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import ConfigurationError, CorruptData, StorageError
from raftkv.persistence.directory import open_directory
from raftkv.persistence.hardstate import HARD_STATE_FILE, HardStateFile
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog
from raftkv.persistence.meta import META_FILE, Meta, decode_meta, encode_meta
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, HardState
from raftkv.testing.disk import MemoryDisk, PowerLoss
from tests.persistence.test_damage import entries

SETTINGS = LogSettings(segment_bytes=2048)


def prepare(disk: MemoryDisk, node_id: str = "a", cluster_id: str | None = None, incarnation: str = "f00") -> Meta:
    """Open the directory on a disk."""
    return open_directory(
        disk,
        node_id=node_id,
        cluster_id=cluster_id,
        make_identity=lambda: (cluster_id or "c1", incarnation),
        settings=SETTINGS,
    )


class DirectoryTests(SynchronousTestCase):
    """The way from nothing to a data directory."""

    def setUp(self) -> None:
        self.disk = MemoryDisk("/data/a")

    def test_found_again(self) -> None:
        """A directory keeps the identity that it was made with."""
        made = prepare(self.disk)
        self.assertEqual(made, Meta(cluster_id="c1", node_id="a", incarnation="f00"))
        self.assertEqual(prepare(self.disk, incarnation="other"), made)

    def test_another_node(self) -> None:
        """A directory of another node or cluster is refused with one sentence that names both."""
        prepare(self.disk, cluster_id="c1")
        error = self.assertRaises(ConfigurationError, prepare, self.disk, node_id="b")
        self.assertIn("data directory /data/a belongs to node 'a', the configuration says 'b'; ", str(error))
        error = self.assertRaises(ConfigurationError, prepare, self.disk, cluster_id="c2")
        self.assertIn("belongs to cluster c1, the configuration says c2; ", str(error))

    def test_interrupted(self) -> None:
        """B44: a directory whose making lost the power at any step is made again, and complete then."""
        for step in range(200):
            self.disk = MemoryDisk()
            self.disk.lose_power_after(step % 25)
            with contextlib.suppress(PowerLoss):
                prepare(self.disk, incarnation="first")
            self.disk.crash(random.Random(step))
            meta = prepare(self.disk, incarnation="second")
            HardStateFile(self.disk).close()
            log, found = open_log_of(self.disk, meta)
            self.assertEqual(found, [])
            self.assertEqual(log.last_batch, 0)

    def test_name_not_synced(self) -> None:
        """B44: an identity that a restart finds stays, also where its name had not reached the medium before."""
        for seed in range(10):
            self.disk = MemoryDisk()
            syncs = self.disk.sync_folder

            def sync_folder(name: str, syncs: Callable[[str], None] = syncs, disk: MemoryDisk = self.disk) -> None:
                if name == "" and disk.exists(META_FILE):
                    raise OSError(errno.EIO, "this is where it fails")
                syncs(name)

            self.disk.sync_folder = sync_folder  # type: ignore[method-assign]
            self.assertRaises(StorageError, prepare, self.disk)
            self.disk.sync_folder = syncs  # type: ignore[method-assign]
            found = prepare(self.disk, incarnation="second")
            self.disk.crash(random.Random(seed))
            self.assertEqual(prepare(self.disk, incarnation="third"), found)

    def test_damaged_meta(self) -> None:
        """A flipped bit anywhere in meta is found, and the file named."""
        prepare(self.disk)
        for offset in range(len(self.disk.read(META_FILE))):
            self.disk.flip_bit(META_FILE, offset)
            self.assertIn("/data/a/meta", str(self.assertRaises(CorruptData, prepare, self.disk)))
            self.disk.flip_bit(META_FILE, offset)

    def test_newer_format(self) -> None:
        """A directory of a newer program is refused with both versions."""
        data = encode_meta(Meta(cluster_id="c", node_id="a", incarnation="f", format_version=2))
        error = self.assertRaises(ConfigurationError, decode_meta, data, "/data/a/meta")
        self.assertIn("version 2, this program reads version 1", str(error))

    def test_data_without_meta(self) -> None:
        """What holds a log, a vote or a snapshot but no meta is never taken for new."""
        for spoil in ("log", "vote", "snapshot"):
            self.disk = MemoryDisk("/data/a")
            meta = prepare(self.disk)
            if spoil == "log":
                log, _ = open_log_of(self.disk, meta)
                log.append(entries(1, [b"x"]))
                log.commit()
            elif spoil == "vote":
                HardStateFile(self.disk).store(HardState(term=1, voted_for="b"), log_batch=0)
            else:
                self.disk.replace("snapshots/x", b"")
            self.disk.remove(META_FILE)
            error = self.assertRaises(CorruptData, prepare, self.disk)
            self.assertIn("the file meta, which says whose it is, is gone", str(error))


def open_log_of(disk: MemoryDisk, meta: Meta) -> tuple[SegmentedLog, list[Entry]]:
    """Recover the log of a directory."""

    log = SegmentedLog(disk, log_identity(meta.cluster_id, meta.incarnation), SETTINGS)
    return log, list(log.recover(lambda _done, _all: None).entries)


class HardStateTests(SynchronousTestCase):
    """Term and vote."""

    def setUp(self) -> None:
        self.disk = MemoryDisk("/data/a")
        prepare(self.disk)

    def newest(self) -> HardState:
        """Return what a restart finds."""
        file = HardStateFile(self.disk)
        file.close()
        return file.newest.hard_state

    def test_comes_back(self) -> None:
        """B1: the last term and vote come back, a vote for nobody too."""
        self.assertEqual(self.newest(), HardState())
        file = HardStateFile(self.disk)
        for state in (HardState(term=3, voted_for="ä"), HardState(term=3, voted_for=""), HardState(term=9)):
            file.store(state, log_batch=0)
            self.assertEqual(self.newest(), state)

    def test_torn_write(self) -> None:
        """B1: a write that a crash tears leaves the state before it or the new one, never an older one."""
        found = set()
        for seed in range(100):
            self.setUp()
            file = HardStateFile(self.disk)
            for term in range(1, 5):
                file.store(HardState(term=term, voted_for="a"), log_batch=0)
            self.disk.lose_power_after(1)
            self.assertRaises(PowerLoss, file.store, HardState(term=5, voted_for="b"), log_batch=0)
            self.disk.crash(random.Random(seed))
            found.add(self.newest())
        self.assertEqual(found, {HardState(term=4, voted_for="a"), HardState(term=5, voted_for="b")})

    def test_half_written_sector(self) -> None:
        """B1: even a write that spoils the sectors it was meant for leaves the state before it."""
        file = HardStateFile(self.disk)
        for term in range(1, 6):
            file.store(HardState(term=term, voted_for="a"), log_batch=0)
            before = self.disk.read(HARD_STATE_FILE)
            file.store(HardState(term=term, voted_for="b"), log_batch=0)
            after = self.disk.read(HARD_STATE_FILE)
            changed = [offset for offset in range(len(before)) if before[offset] != after[offset]]
            image = bytearray(before)
            image[changed[0] : changed[-1]] = b"\xff" * (changed[-1] - changed[0])
            self.disk.replace(HARD_STATE_FILE, bytes(image))
            self.assertEqual(self.newest(), HardState(term=term, voted_for="a"))
            self.disk.replace(HARD_STATE_FILE, after)

    def test_read_before_it_was_synced(self) -> None:
        """B1: what a restarted process reads has to survive the power from then on, also where the process before was
        killed or stopped between its write and the sync."""
        for seed in range(20):
            self.setUp()
            file = HardStateFile(self.disk)
            file.store(HardState(term=1, voted_for="a"), log_batch=0)
            self.disk.fail_next("sync", HARD_STATE_FILE)
            self.assertRaises(StorageError, file.store, HardState(term=2, voted_for="b"), log_batch=0)
            read = self.newest()
            self.disk.crash(random.Random(seed))
            self.assertEqual(self.newest(), read)

    def test_flipped_bits(self) -> None:
        """B1: a bit that flips anywhere never takes a vote back."""
        state = HardState(term=7, voted_for="b")
        HardStateFile(self.disk).store(state, log_batch=0)
        for offset in range(len(self.disk.read(HARD_STATE_FILE))):
            self.disk.flip_bit(HARD_STATE_FILE, offset, offset % 8)
            self.assertEqual(self.newest(), state)
            self.disk.flip_bit(HARD_STATE_FILE, offset, offset % 8)

    def test_nothing_readable(self) -> None:
        """Without a readable slot the node's vote is not known, and it does not start."""
        self.disk.replace(HARD_STATE_FILE, bytes(8192))
        error = self.assertRaises(CorruptData, HardStateFile, self.disk)
        self.assertIn(HARD_STATE_FILE, str(error))
        self.assertTrue(self.disk.names(LOG_FOLDER))
