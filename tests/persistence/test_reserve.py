"""What is kept in reserve on a disk, and how the log draws on it (B50)."""

from __future__ import annotations

import errno
import os
import random
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoRoom, StorageError
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.files import write_whole
from raftkv.persistence.log import LogSettings, SegmentedLog, create_log
from raftkv.persistence.reserve import RESERVE_FILE, Reserve
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, EntryKind
from raftkv.raft.room import LogRoom
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

    def test_the_part_of_the_log(self) -> None:
        """B50: half of it, in whole segments, stays set aside until the log asks for it; the rest goes at once, and a
        short file gets something of the log's part when there is nothing else."""
        for size, share in ((4000, 2000), (4999, 2000), (6000, 3000), (2000, 1000)):
            self.disk = MemoryDisk()
            self.reserve = Reserve(self.disk, size_bytes=size, segment_bytes=1000)
            self.reserve.fill()
            self.assertEqual((self.size(), self.reserve.log_bytes), (size, share))
            self.assertTrue(self.reserve.release())
            self.assertEqual((self.size(), self.reserve.log_bytes, self.reserve.is_whole), (share, share, False))
            self.assertFalse(self.reserve.release())
            self.assertTrue(self.reserve.release(1000))
            self.assertEqual((self.size(), self.reserve.log_bytes), (share - 1000, share - 1000))
        self.assertFalse(self.reserve.release(1000))
        self.disk.capacity_bytes = 3000
        self.disk.replace("other", bytes(1000))
        self.reserve.fill(spare_bytes=500)
        self.assertEqual((self.size(), self.reserve.log_bytes), (1000, 1000))
        self.disk.capacity_bytes = self.disk.used_bytes()
        self.reserve.make_room_for(lambda: write_whole(self.disk, "note", b"whole"))
        self.assertEqual((self.disk.read("note"), self.size()), (b"whole", 0))

    def test_set_aside_for_the_log(self) -> None:
        """B50: as long as not all of it fits segments are set aside for the log, where the others have their part; what
        others take meanwhile is not taken from them."""
        self.reserve = Reserve(self.disk, size_bytes=4000, segment_bytes=1000)
        for capacity, size in ((2999, 0), (3000, 1000), (3999, 1000), (4400, 2000)):
            self.disk.capacity_bytes = capacity
            self.assertFalse(self.reserve.fill(spare_bytes=500))
            self.assertEqual((self.size(), self.reserve.log_bytes), (size, size), f"{capacity}")
        self.reserve.release(1000)
        self.disk.fail_next("allocate", code=errno.ENOSPC)
        self.assertFalse(self.reserve.fill(spare_bytes=500))
        self.assertEqual((self.size(), self.reserve.log_bytes), (1000, 1000))

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

    def test_others_use_the_disk(self) -> None:
        """B50: somebody else, a snapshot say, takes all that the first draw gives back; the log has its next segment
        all the same, and only then there is none."""
        self.reserve = Reserve(self.disk, size_bytes=8192, segment_bytes=2048)
        self.disk.capacity_bytes = self.disk.used_bytes() + 4096
        self.reserve.fill()
        self.log = SegmentedLog(self.disk, IDENTITY, SETTINGS, make_room=self.reserve.release)
        self.log.recover(lambda done, all_of_it: None)
        for _ in range(3):
            self.append()
        self.assertEqual(self.reserve.log_bytes, 2048)
        self.disk.replace("other", bytes(self.disk.free_bytes()))
        for _ in range(3):
            self.append()
        self.assertEqual((self.reserve.log_bytes, self.disk.free_bytes()), (0, 0))
        self.assertRaises(NoRoom, self.append)

    def test_somebody_is_quicker(self) -> None:
        """B50: what was given back is gone before the log has it: the log draws again, while there is something."""
        self.reserve = Reserve(self.disk, size_bytes=8192, segment_bytes=2048)
        self.disk.capacity_bytes = self.disk.used_bytes() + 4096
        self.reserve.fill()

        def make_room(log_bytes: int) -> bool:
            made = self.reserve.release(log_bytes)
            if not self.disk.exists("other"):
                self.disk.replace("other", bytes(self.disk.free_bytes()))
            return made

        self.log = SegmentedLog(self.disk, IDENTITY, SETTINGS, make_room=make_room)
        self.log.recover(lambda done, all_of_it: None)
        for _ in range(4):
            self.append()
        self.assertEqual((self.reserve.log_bytes, self.log.last_index), (0, 4))

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


class PromiseTests(SynchronousTestCase):
    """What a core reckons that a log can take, on a disk that has exactly that."""

    def test_kept(self) -> None:
        """B50: whatever the entries and the batches that they are written in, all that should fit does; and what should
        not is not far off."""
        used = promised = 0
        for seed in range(60):
            chance = random.Random(seed)
            disk = MemoryDisk()
            create_log(disk, IDENTITY, SETTINGS)
            log = SegmentedLog(disk, IDENTITY, SETTINGS)
            log.recover(lambda done, all_of_it: None)
            more = chance.choice((0, 2048, 5000, 9000, 30_000))
            disk.capacity_bytes = disk.used_bytes() + more
            room = LogRoom(log.room_bytes, more, SETTINGS.segment_bytes, SETTINGS.max_batch_bytes)
            waiting: list[Entry] = []
            index, largest = 0, chance.choice((40, 400, 900, 3000))
            while True:
                payload = chance.choice((bytes, lambda size: b"x" * size))(chance.randrange(largest))
                room = room.without(len(payload))
                if room.is_exceeded:
                    break
                index += 1
                waiting.append(Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=payload))
                if chance.random() < 0.3:
                    log.append(waiting)
                    log.commit()
                    waiting = []
            if waiting:
                log.append(waiting)
            log.commit()
            self.assertEqual(log.last_index, index, f"seed {seed}")
            used, promised = used + more - disk.free_bytes(), promised + more
        self.assertGreater(used, 0.3 * promised)
