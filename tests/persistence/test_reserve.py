"""What is kept in reserve on a disk, and how the log draws on it (B50)."""

from __future__ import annotations

import errno
import os
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoRoom, StorageError
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.files import write_whole
from raftkv.persistence.log import LogSettings, SegmentedLog, create_log
from raftkv.persistence.reserve import RESERVE_FILE, Reserve
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.disk import MemoryDisk

SETTINGS = LogSettings(segment_bytes=2048, max_batch_bytes=1024, zero_ahead_bytes=0)
IDENTITY = log_identity("cluster", "incarnation")


class ReserveTests(SynchronousTestCase):
    """A reserve of 4,000 bytes."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.reserve = Reserve(self.disk, size_bytes=4000)

    def size(self) -> int:
        return len(self.disk.read(RESERVE_FILE)) if self.disk.exists(RESERVE_FILE) else 0

    def test_set_aside_and_given_back(self) -> None:
        """It takes its room at once, gives all of it back, and says whether there was any."""
        self.assertFalse(self.reserve.is_whole)
        self.assertTrue(self.reserve.fill())
        self.assertEqual((self.size(), self.reserve.is_whole), (4000, True))
        self.assertTrue(self.reserve.release())
        self.assertEqual((self.size(), self.reserve.is_whole), (0, False))
        self.assertFalse(self.reserve.release())

    def test_found_at_start(self) -> None:
        """What an earlier life set aside counts, also on a disk that is full."""
        self.reserve.fill()
        self.disk.capacity_bytes = 4000
        self.assertTrue(Reserve(self.disk, size_bytes=4000).fill())

    def test_all_or_nothing(self) -> None:
        """Where not all of it fits nothing is taken, and nobody is stopped by that."""
        self.disk.capacity_bytes = 3999
        self.assertFalse(self.reserve.fill())
        self.assertEqual(self.size(), 0)
        self.disk.capacity_bytes = 4100
        self.assertFalse(self.reserve.fill(spare_bytes=101))
        self.assertTrue(self.reserve.fill(spare_bytes=100))

    def test_taken_by_others_meanwhile(self) -> None:
        """A file system that has less than it said leaves nothing behind; one that fails otherwise has failed."""
        self.disk.fail_next("allocate", code=errno.ENOSPC)
        self.assertFalse(self.reserve.fill())
        self.assertFalse(self.disk.exists(RESERVE_FILE))
        self.disk.fail_next("allocate", code=errno.EIO)
        self.assertRaises(StorageError, self.reserve.fill)

    def test_another_size(self) -> None:
        """Another setting is followed, upwards and downwards."""
        self.reserve.fill()
        self.assertTrue(Reserve(self.disk, size_bytes=5000).fill())
        self.assertEqual(self.size(), 5000)
        self.assertTrue(Reserve(self.disk, size_bytes=100).fill())
        self.assertEqual(self.size(), 100)

    def test_none(self) -> None:
        """Without a reserve nothing is missing, nothing can be given back, and what an earlier life kept is removed."""
        self.reserve.fill()
        none = Reserve(self.disk, size_bytes=0)
        self.assertTrue(none.is_whole)
        self.assertTrue(none.fill())
        self.assertEqual(self.size(), 0)
        self.assertFalse(none.release())
        self.assertTrue(none.is_whole)

    def test_short_files(self) -> None:
        """A short file that has no room is written with what was kept; nothing of the first attempt is gone on with,
        and a failed sync is not repeated (B43)."""
        self.reserve.fill()
        self.disk.capacity_bytes = self.disk.used_bytes()
        self.reserve.make_room_for(lambda: write_whole(self.disk, "note", b"whole"))
        self.assertEqual((self.disk.read("note"), self.reserve.is_whole), (b"whole", False))
        self.disk.capacity_bytes = self.disk.used_bytes()
        self.assertRaises(NoRoom, self.reserve.make_room_for, lambda: write_whole(self.disk, "other", b"whole"))
        self.assertEqual(self.disk.names(""), ["note"])
        self.disk.capacity_bytes = None
        self.reserve.fill()
        self.disk.fail_next("sync", "note", code=errno.ENOSPC)
        self.assertRaises(NoRoom, self.reserve.make_room_for, lambda: write_whole(self.disk, "note", b"new"))
        self.assertTrue(self.reserve.is_whole)

    def test_real_file(self) -> None:
        """On a real file system it takes blocks, not merely a length."""
        folder = Path(self.mktemp())
        disk = LocalDisk(folder)
        disk.prepare()
        self.addCleanup(disk.release)
        self.assertTrue(Reserve(disk, size_bytes=1 << 20).fill())
        self.assertGreaterEqual(os.stat(folder / RESERVE_FILE).st_blocks * 512, 1 << 20)


class LogOnFullDiskTests(SynchronousTestCase):
    """A log with segments of 2 KiB on a disk that has room for a reserve of two, and nothing else."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        create_log(self.disk, IDENTITY, SETTINGS)
        self.reserve = Reserve(self.disk, size_bytes=4096)
        self.reserve.fill()
        self.disk.capacity_bytes = self.disk.used_bytes()
        self.log = SegmentedLog(self.disk, IDENTITY, SETTINGS, make_room=self.reserve.release)
        self.log.recover(lambda done, all_of_it: None)
        self.index = 0

    def append(self) -> None:
        self.index += 1
        self.log.append([Entry(index=self.index, term=1, kind=EntryKind.COMMANDS, payload=bytes(600))])
        self.log.commit()

    def test_draws_on_the_reserve(self) -> None:
        """A segment that has no room is made with what was kept; nothing of the first attempt is left (B43)."""
        for _ in range(2):
            self.append()
        self.assertTrue(self.reserve.is_whole)
        self.append()
        self.assertFalse(self.reserve.is_whole)
        self.assertEqual(self.disk.counts["writes without room"], 1)
        self.assertFalse([name for name in self.disk.names("log") if name.endswith(".tmp")])
        self.assertEqual(self.log.room_bytes, 2048 - 512 - 672)
        again = SegmentedLog(self.disk.copy(), IDENTITY, SETTINGS)
        self.assertEqual(len(again.recover(lambda done, all_of_it: None).entries), 3)

    def test_nothing_left(self) -> None:
        """When all of it is used up the log fails as for want of room, and leaves nothing half made."""
        for _ in range(6):
            self.append()
        self.assertRaises(NoRoom, self.append)
        self.assertFalse([name for name in self.disk.names("log") if name.endswith(".tmp")])

    def test_failed_write_is_not_repeated(self) -> None:
        """B43: want of room in the middle of a segment, which a file system that never overwrites may have, is an error
        like any other, whatever is kept in reserve."""
        self.append()
        self.disk.fail_next("write", "log/", code=errno.ENOSPC)
        self.assertRaises(NoRoom, self.append)
        self.assertTrue(self.reserve.is_whole)

    def test_failed_sync_is_not_repeated(self) -> None:
        """B43: nor is a sync repeated that fails for want of room, neither of the log nor of a new segment."""
        self.append()
        self.append()
        self.disk.capacity_bytes = None
        self.disk.fail_next("sync", "log/", code=errno.ENOSPC)
        self.assertRaises(NoRoom, self.append)
        self.assertTrue(self.reserve.is_whole)
