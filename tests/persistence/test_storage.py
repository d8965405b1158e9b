"""Storage as the driver uses it."""

from __future__ import annotations

import sys
from collections.abc import Callable
from random import Random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from raftkv.errors import CorruptData, InvariantViolation, StorageError
from raftkv.interfaces import IStorage, Recovered
from raftkv.persistence.hardstate import HARD_STATE_FILE, HardStateFile
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog
from raftkv.persistence.storage import Storage
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import HardState, SnapshotMeta
from raftkv.raft.ready import Write
from raftkv.testing.disk import MemoryDisk, MemoryFile
from raftkv.testing.worker import ClockWorker
from tests.persistence.test_damage import entries
from tests.persistence.test_directory import prepare

SETTINGS = LogSettings(segment_bytes=2048, zero_ahead_bytes=256)


def snapshot_at(index: int, term: int) -> SnapshotMeta:
    """Make the meta of a snapshot."""
    return SnapshotMeta(index=index, term=term, configuration=Configuration(), configuration_index=0)


class StorageTests(SynchronousTestCase):
    """One node's storage on a disk in memory and a worker on a clock."""

    def setUp(self) -> None:
        self.disk = MemoryDisk("/data/a")
        self.clock = Clock()
        self.snapshot: SnapshotMeta | None = None
        self.durable: list[int] = []
        self.failures: list[BaseException] = []
        self.open()
        self.begin()

    def open(self) -> Recovered:
        """Recover from the disk as a new process."""
        self.worker = ClockWorker(self.clock, lambda _items: 0.01)
        self.reader = ClockWorker(self.clock, lambda _items: 0.01)
        self.storage = Storage(
            self.disk,
            self.worker,
            self.reader,
            meta=prepare(self.disk),
            newest_snapshot=lambda: self.snapshot,
            settings=SETTINGS,
            progress=lambda _done, _all: None,
        )
        self.recovered = self.storage.recover()
        return self.recovered

    def begin(self) -> None:
        """Start to accept writes."""
        self.storage.start(self.durable.append, self.failures.append)

    def settle(self) -> None:
        """Let the worker finish."""
        self.clock.pump([0.005] * 8)

    def write(self, *writes: Write) -> None:
        """Write, and wait until it is durable."""
        for write in writes:
            self.storage.write(write)
        self.settle()

    def restart(self) -> Recovered:
        """Stop cleanly and recover."""
        stopped = self.storage.stop()
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        return self.open()

    def test_interface(self) -> None:
        """It provides the interface."""
        verifyObject(IStorage, self.storage)

    def test_new(self) -> None:
        """A directory is new until something has been written, whether or not the process stopped in between."""
        self.assertTrue(self.recovered.is_new)
        self.assertTrue(self.restart().is_new)
        self.begin()
        self.write(Write(write_id=1, hard_state=HardState(term=1)))
        self.assertFalse(self.restart().is_new)

    def test_comes_back(self) -> None:
        """B1, B51: hard state and entries come back as they were written."""
        added = entries(1, [b"a", b"b"], 3)
        self.write(Write(write_id=1, hard_state=HardState(term=3, voted_for="b"), entries=added))
        found = self.restart()
        self.assertEqual(found.hard_state, HardState(term=3, voted_for="b"))
        self.assertEqual((found.entries, found.first_previous_term, found.snapshot), (list(added), 0, None))

    def test_what_may_be_waited_for(self) -> None:
        """A write may be waited for if the caller can, it is nothing but an append, and its segment has room for it."""
        offered: list[bool] = []
        self.patch(self.worker, "submit", lambda item, *, here=False: offered.append(here))
        small, large = entries(1, [b"x"], 1), entries(2, [bytes(SETTINGS.segment_bytes)], 1)
        self.storage.write(Write(write_id=1, entries=small), may_wait=True)
        self.storage.write(Write(write_id=2, entries=small))
        self.storage.write(Write(write_id=3, hard_state=HardState(term=1), entries=small), may_wait=True)
        self.storage.write(Write(write_id=4, entries=large), may_wait=True)
        self.assertEqual(offered, [True, False, False, False])

    def test_too_much_to_be_waited_for(self) -> None:
        """However large a segment is, no more than a part of a batch, and no more than 256 KiB, may be waited for."""
        kib = 1024
        for settings, most in (
            (LogSettings(segment_bytes=4096 * kib), 256 * kib),
            (LogSettings(segment_bytes=4096 * kib, max_batch_bytes=64 * kib), 32 * kib),
        ):
            self.patch(sys.modules[__name__], "SETTINGS", settings)
            self.setUp()
            self.patch(self.storage, "room_bytes", lambda: 4096 * kib)
            offered: list[bool] = []
            self.patch(self.worker, "submit", lambda item, *, here=False, offered=offered: offered.append(here))
            for size in (most - kib, most):
                self.storage.write(
                    Write(write_id=1, entries=entries(len(offered) + 1, [bytes(size)], 1)), may_wait=True
                )
            self.assertEqual(offered, [True, False])

    def test_room(self) -> None:
        """The room of a segment is what nobody has been promised: what waits to be written counts until it is."""
        room = self.storage.room_bytes()
        self.storage.write(Write(write_id=1, entries=entries(1, [b"x" * 100], 1)))
        promised = self.storage.room_bytes()
        self.assertLess(promised, room - 100)
        self.settle()
        self.assertEqual(self.storage.room_bytes(), promised)

    def test_room_while_a_write_is_reported(self) -> None:
        """B50: the room is asked for away from the reactor too: a batch that is written and reported meanwhile may be
        taken off twice, but never counts as room."""
        self.storage.write(Write(write_id=1, entries=entries(1, [b"x" * 100], 1)))
        promised = self.storage.room_bytes()
        honest = SegmentedLog.room_bytes.fget

        def room_bytes(log: SegmentedLog) -> int:
            room: int = honest(log)  # type: ignore[misc]  # a property always has a getter
            self.settle()
            return room

        self.patch(SegmentedLog, "room_bytes", property(room_bytes))
        self.assertLessEqual(self.storage.room_bytes(), promised)
        self.assertEqual(self.durable, [1])

    def test_room_for_what_waits(self) -> None:
        """B50: where more waits to be written than fits, the room is less than none; an entry that is larger than a
        batch counts for the segment that it gets to itself and for what it leaves of the one before it."""
        settings = LogSettings(segment_bytes=4096, max_batch_bytes=1024, zero_ahead_bytes=0)
        self.patch(sys.modules[__name__], "SETTINGS", settings)
        self.setUp()
        room = self.storage.room_bytes()
        most = settings.max_batch_bytes
        count = room // most + 2
        self.storage.write(Write(write_id=1, entries=entries(1, [b"x" * (most - 200)] * count, 1)))
        self.assertLess(self.storage.room_bytes(), 0)
        self.settle()
        room = self.storage.room_bytes()
        self.storage.write(Write(write_id=2, entries=entries(count + 1, [b"x" * most], 1)))
        self.assertLess(self.storage.room_bytes(), room - most - 2 * settings.segment_bytes)
        self.settle()
        self.assertGreater(self.storage.room_bytes(), 0)

    def test_files_are_closed(self) -> None:
        """A stop leaves no file open, also where the disk has failed."""
        for error in (False, True):
            files: list[MemoryFile] = []
            opened = MemoryDisk.open

            def noted(
                disk: MemoryDisk,
                name: str,
                create: bool = False,
                *,
                files: list[MemoryFile] = files,
                opened: Callable[..., MemoryFile] = opened,
            ) -> MemoryFile:
                files.append(opened(disk, name, create))
                return files[-1]

            patch = self.patch(MemoryDisk, "open", noted)
            self.setUp()
            if error:
                self.disk.fail_next("sync")
            self.write(Write(write_id=1, hard_state=HardState(term=1), entries=entries(1, [b"x"], 1)))
            self.assertEqual(len(self.failures), error)
            stopped = self.storage.stop()
            self.settle()
            self.successResultOf(stopped)
            patch.restore()
            self.assertGreater(len(files), 2)
            for file in files:
                self.assertRaises(OSError, file.size)

    def test_waited_for(self) -> None:
        """A write that is done at once is reported before the call returns, and is there after a crash."""
        self.write(Write(write_id=1, hard_state=HardState(term=1)))
        for number in range(1, 4):
            self.storage.write(Write(write_id=number + 1, entries=entries(number, [b"x"], 1)), may_wait=True)
            if number < 3:
                self.settle()
        self.assertEqual(self.durable, [1, 2, 3, 4])  # the last one at once
        self.disk.crash(Random(0))
        self.worker.crash()
        self.assertEqual([entry.index for entry in self.open().entries], [1, 2, 3])

    def test_reports_in_order(self) -> None:
        """B4: a write is reported only once its sync has returned, and what gathers shares one sync."""
        self.storage.write(Write(write_id=1, hard_state=HardState(term=1)))
        self.clock.advance(0.004)
        self.assertEqual(self.durable, [])
        syncs = sum(self.disk.syncs.values())
        for number in range(2, 7):
            self.storage.write(Write(write_id=number, entries=entries(number - 1, [b"x"])))
        self.settle()
        self.assertEqual(self.durable, [1, 6])
        self.assertEqual(sum(self.disk.syncs.values()) - syncs, 2)  # the hard state's, and one for five appends

    def test_one_sync_for_an_append(self) -> None:
        """An append with an unchanged hard state costs one sync."""
        self.write(Write(write_id=1, hard_state=HardState(term=1)))
        syncs = dict(self.disk.syncs)
        self.write(Write(write_id=2, entries=entries(1, [b"x"])))
        changed = {name for name, count in self.disk.syncs.items() if count != syncs.get(name, 0)}
        self.assertEqual(sum(self.disk.syncs.values()) - sum(syncs.values()), 1)
        self.assertTrue(all(name.startswith(LOG_FOLDER) for name in changed))

    def test_term_before_entries(self) -> None:
        """B3: the term is on the medium before an entry of that term is even written."""
        self.storage.write(Write(write_id=1, hard_state=HardState(term=5), entries=entries(1, [b"x"], 5)))
        self.disk.fail_next("write", LOG_FOLDER)
        self.settle()
        self.assertEqual(self.durable, [])
        file = HardStateFile(self.disk)
        self.assertEqual(file.newest.hard_state, HardState(term=5))

    def test_entries_ahead_of_the_term(self) -> None:
        """B3: a log with entries of a term that the hard state has not heard of is refused."""
        before = self.disk.read(HARD_STATE_FILE)
        self.write(Write(write_id=1, hard_state=HardState(term=5), entries=entries(1, [b"x"], 5)))
        self.disk.replace(HARD_STATE_FILE, before)
        self.assertIn("term 5", str(self.assertRaises(CorruptData, self.open)))

    def test_lost_end(self) -> None:
        """A log whose end was lost after a clean stop is refused, though what is left of it reads well."""
        self.write(Write(write_id=1, hard_state=HardState(term=1), entries=entries(1, [b"x"])))
        image = self.disk.read(f"{LOG_FOLDER}/{self.disk.names(LOG_FOLDER)[0]}")
        self.write(Write(write_id=2, entries=entries(2, [b"y"])))
        self.restart()
        self.disk.replace(f"{LOG_FOLDER}/{self.disk.names(LOG_FOLDER)[0]}", image)
        self.assertIn("its end has been lost", str(self.assertRaises(CorruptData, self.open)))

    def test_failure(self) -> None:
        """B43, B49: an error of the disk is reported once, nothing is written after it and nothing reported durable."""
        for operation in ("write", "sync"):
            self.setUp()
            self.disk.fail_next(operation, LOG_FOLDER)
            self.write(Write(write_id=1, hard_state=HardState(term=1), entries=entries(1, [b"x"])))
            operations = self.disk.operations
            self.write(Write(write_id=2, entries=entries(2, [b"y"])))
            self.assertEqual(self.durable, [])
            self.assertEqual(len(self.failures), 1)
            self.assertIsInstance(self.failures[0], StorageError)
            self.assertEqual(self.disk.operations, operations)
            stopped = self.storage.stop()
            self.settle()
            self.successResultOf(stopped)
            self.durable, self.failures = [], []

    def test_full_disk(self) -> None:
        """B49: a disk that is full is an error that says so."""
        self.disk.capacity_bytes = self.disk.used_bytes()
        self.write(Write(write_id=1, entries=entries(1, [b"x" * 5000])))
        self.assertIn("No space left", str(self.failures[0]))

    def test_not_running(self) -> None:
        """Writes before the start and after the stop are mistakes of the caller."""
        self.restart()
        self.assertRaises(InvariantViolation, self.storage.write, Write(write_id=1))
        self.assertEqual(self.failures, [])

    def test_installed_snapshot(self) -> None:
        """B45: behind an installed snapshot the log goes on."""
        self.write(Write(write_id=1, hard_state=HardState(term=2), entries=entries(1, [b"x"] * 3)))
        self.snapshot = snapshot_at(100, 2)
        self.write(Write(write_id=2, snapshot=self.snapshot), Write(write_id=3, entries=entries(101, [b"y"], 2)))
        found = self.restart()
        self.assertEqual([entry.index for entry in found.entries], [101])
        self.assertEqual((found.first_previous_term, found.snapshot), (2, self.snapshot))

    def test_snapshot_that_the_log_has_not_heard_of(self) -> None:
        """B44, B45: a snapshot whose file was installed before a crash takes effect at the start, its term too."""
        self.write(Write(write_id=1, hard_state=HardState(term=2, voted_for="a"), entries=entries(1, [b"x"] * 3)))
        self.snapshot = snapshot_at(100, 4)
        for _again in range(2):
            found = self.open()
            self.assertEqual((found.entries, found.first_previous_term), ([], 4))
            self.assertEqual(found.hard_state, HardState(term=4))

    def test_gap_between_snapshot_and_log(self) -> None:
        """B45: a log that begins behind the newest readable snapshot is refused, and so is one without any."""
        self.snapshot = snapshot_at(100, 2)
        self.write(Write(write_id=1, hard_state=HardState(term=2), snapshot=self.snapshot))
        self.write(Write(write_id=2, entries=entries(101, [b"x"], 2)))
        self.snapshot = snapshot_at(50, 2)
        self.assertIn("snapshot ends at entry 50", str(self.assertRaises(CorruptData, self.open)))
        self.snapshot = None
        self.assertIn("no snapshot", str(self.assertRaises(CorruptData, self.open)))

    def test_log_bytes(self) -> None:
        """The bytes behind the newest snapshot are counted as they are queued, and follow truncation."""
        self.assertEqual(self.storage.log_bytes(), 0)
        self.storage.write(Write(write_id=1, hard_state=HardState(term=1), entries=entries(1, [b"x" * 100] * 10)))
        size = self.storage.log_bytes()
        self.assertEqual(size, 10 * 160)
        self.storage.write(Write(write_id=2, hard_state=HardState(term=2), entries=entries(6, [b"x" * 100], 2)))
        self.assertEqual(self.storage.log_bytes(), 6 * 160)
        self.snapshot = snapshot_at(4, 1)
        self.storage.snapshot_taken(4)
        self.assertEqual(self.storage.log_bytes(), 2 * 160)
        self.storage.compact(2)
        self.assertEqual(self.storage.log_bytes(), 2 * 160)
        self.settle()
        self.restart()
        self.assertEqual(self.storage.log_bytes(), 2 * 160)
        self.begin()
        self.storage.write(Write(write_id=3, snapshot=snapshot_at(50, 2)))
        self.assertEqual(self.storage.log_bytes(), 0)
        self.settle()

    def test_compaction(self) -> None:
        """Compaction removes files, and what remains is enough for a start with the snapshot."""
        self.write(Write(write_id=1, hard_state=HardState(term=1)))
        for number in range(1, 30):
            self.write(Write(write_id=number + 1, entries=entries(number, [b"x" * 200])))
        segments = len(self.disk.names(LOG_FOLDER))
        self.snapshot = snapshot_at(25, 1)
        self.storage.compact(20)
        self.settle()
        self.assertLess(len(self.disk.names(LOG_FOLDER)), segments)
        found = self.restart()
        self.assertLessEqual(found.entries[0].index, 21)
        self.assertEqual((found.entries[-1].index, found.first_previous_term), (29, 1))
