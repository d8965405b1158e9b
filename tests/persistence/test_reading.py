"""Entries read back from the files while the log goes on, and recovery that loads the end of the log only."""

from __future__ import annotations

import dataclasses
import errno
import random

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, StorageError
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog, create_log
from raftkv.persistence.storage import Storage
from raftkv.raft.log import ENTRY_OVERHEAD_BYTES
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.raft.ready import Write
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.worker import ClockWorker
from tests.persistence.test_damage import IDENTITY, entries
from tests.persistence.test_storage import SETTINGS as STORAGE_SETTINGS
from tests.persistence.test_storage import prepare
from tests.raft.cluster import configuration

SETTINGS = LogSettings(segment_bytes=2048, max_batch_bytes=1024, zero_ahead_bytes=0)
ALL = 1 << 40


class LogTestCase(SynchronousTestCase):
    """A log of small segments on a disk in memory."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        create_log(self.disk, IDENTITY, SETTINGS)
        self.log = self.open()

    def open(self, cache_bytes: int = 1) -> SegmentedLog:
        """Recover the log on the disk."""
        log = SegmentedLog(self.disk, IDENTITY, dataclasses.replace(SETTINGS, cache_bytes=cache_bytes))
        self.loaded = log.recover(lambda _done, _all: None)
        return log

    def add(self, first: int, count: int, term: int = 1, size: int = 20) -> list[Entry]:
        """Append entries, with a sync for every few."""
        made = list(entries(first, [(b"%d.%d " % (term, first + n)).ljust(size, b".") for n in range(count)], term))
        for start in range(0, count, 3):
            self.log.append(made[start : start + 3])
            self.log.commit()
        return made


class ReaderTests(LogTestCase):
    """The reader of one log."""

    def test_any_range(self) -> None:
        """Any range comes back as it was written, over the ends of segments too, also after a restart."""
        made = self.add(1, 100)
        self.assertGreater(len(self.disk.names(LOG_FOLDER)), 3)
        for _ in range(2):
            for start, stop in ((1, 101), (1, 2), (37, 92), (100, 101), (50, 9999)):
                self.assertEqual(self.log.reader.read(start, stop, ALL), tuple(made[start - 1 : stop - 1]))
            self.log.close()
            self.log = self.open()

    def test_bounded(self) -> None:
        """As many come back as fit, and one whatever its size."""
        made = self.add(1, 9)
        size = 20 + ENTRY_OVERHEAD_BYTES
        self.assertEqual(self.log.reader.read(3, 9, 2 * size), tuple(made[2:4]))
        self.assertEqual(self.log.reader.read(3, 9, 2 * size - 1), tuple(made[2:3]))
        self.assertEqual(self.log.reader.read(3, 9, 0), tuple(made[2:3]))

    def test_replaced_entries(self) -> None:
        """What a conflict has replaced never comes back, though it still lies in the files (section 5.3)."""
        chance = random.Random(3)
        for _ in range(20):
            self.setUp()
            known: list[Entry] = []
            for term in range(1, 8):
                first = chance.randint(max(1, len(known) - 10), len(known) + 1)
                known[first - 1 :] = self.add(first, chance.randint(1, 25), term)
                for _ in range(5):
                    start = chance.randint(1, len(known))
                    stop = chance.randint(start + 1, len(known) + 1)
                    self.assertEqual(self.log.reader.read(start, stop, ALL), tuple(known[start - 1 : stop - 1]))
                if chance.random() < 0.3:
                    self.log.close()
                    self.log = self.open()

    def test_staged(self) -> None:
        """What is not on the medium is not read."""
        self.add(1, 3)
        self.log.append(entries(4, [b"staged"]))
        self.assertEqual(self.log.reader.read(4, 5, ALL), ())
        self.assertEqual(len(self.log.reader.read(2, 5, ALL)), 2)

    def test_compacted(self) -> None:
        """Of entries that were compacted away nothing comes back, of those behind them everything."""
        made = self.add(1, 100)
        self.log.compact(60)
        first = self.log.base_index + 1
        self.assertGreater(first, 1)
        self.assertEqual(self.log.reader.read(first - 1, 101, ALL), ())
        self.assertEqual(self.log.reader.read(first, 101, ALL), tuple(made[first - 1 :]))

    def test_removed_while_it_reads(self) -> None:
        """A segment that is removed between finding and opening it is no error: its entries are gone."""
        made = self.add(1, 100)
        opening = self.disk.open

        def compact_first(name: str, create: bool = False) -> object:
            self.disk.open = opening  # type: ignore[method-assign]
            self.log.compact(60)
            return opening(name, create)

        self.disk.open = compact_first  # type: ignore[method-assign,assignment]
        self.assertEqual(self.log.reader.read(1, 101, ALL), ())
        self.assertEqual(self.log.reader.read(90, 101, ALL), tuple(made[89:]))

    def test_missing_file(self) -> None:
        """A file that is missing and was not removed is an error."""
        self.add(1, 100)
        self.disk.remove(f"{LOG_FOLDER}/{self.disk.names(LOG_FOLDER)[0]}")
        self.assertRaises(StorageError, self.log.reader.read, 1, 101, ALL)

    def test_installed_snapshot(self) -> None:
        """Behind a snapshot that replaced the log only what follows it is there."""
        self.add(1, 10)
        self.log.install_snapshot(50, 3)
        made = self.add(51, 10, term=3)
        self.assertEqual(self.log.reader.read(5, 7, ALL), ())
        self.assertEqual(self.log.reader.read(51, 61, ALL), tuple(made))

    def test_rotten(self) -> None:
        """A flipped bit in what is read is noticed; what lies beside it comes back (B41)."""
        made = self.add(1, 6)
        name = f"{LOG_FOLDER}/{self.disk.names(LOG_FOLDER)[0]}"
        offset = self.disk.read(name).index(made[2].payload)
        self.disk.flip_bit(name, offset + 3, 5)
        self.assertRaises(CorruptData, self.log.reader.read, 1, 7, ALL)
        self.assertEqual(self.log.reader.read(4, 7, ALL), tuple(made[3:]))
        self.disk.flip_bit(name, offset - 20, 5)
        self.assertRaises(CorruptData, self.log.reader.read, 4, 7, ALL)

    def test_large_entries(self) -> None:
        """Entries larger than a segment are found too."""
        made = self.add(1, 5, size=5000)
        for index in range(1, 6):
            self.assertEqual(self.log.reader.read(index, index + 1, 0), (made[index - 1],))


class LoadingTests(LogTestCase):
    """What recovery loads."""

    def test_end_of_the_log(self) -> None:
        """Of a long log its last entries are loaded, as many as fit; nothing else takes memory but terms and sizes."""
        made = self.add(1, 200)
        self.log.close()
        self.log = self.open(cache_bytes=10 * (20 + ENTRY_OVERHEAD_BYTES))
        self.assertEqual(list(self.loaded.entries), made[190:])
        self.assertEqual((self.log.base_index, self.log.last_index, self.log.term_at(5)), (0, 200, 1))
        self.assertEqual(self.loaded.sizes.last_index, 200)

    def test_cut_into_what_was_let_go(self) -> None:
        """A truncation in front of the loaded entries leaves none, and loading goes on from there."""
        self.add(1, 50)
        kept = self.add(10, 4, term=2)
        self.log.close()
        self.log = self.open(cache_bytes=10 * (20 + ENTRY_OVERHEAD_BYTES))
        self.assertEqual(list(self.loaded.entries), kept)
        self.assertEqual(self.loaded.sizes.last_index, 13)


class StorageTests(SynchronousTestCase):
    """Reading back through the storage of a node."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.clock = Clock()
        self.snapshot: SnapshotMeta | None = None
        self.durable: list[int] = []
        self.failures: list[BaseException] = []
        self.open()

    def open(self, cache_bytes: int = 1) -> None:
        """Recover, as a new process, and begin."""
        self.worker = ClockWorker(self.clock, lambda _items: 0.01)
        self.reader = ClockWorker(self.clock, lambda _items: 0.01)
        self.storage = Storage(
            self.disk,
            self.worker,
            self.reader,
            meta=prepare(self.disk),
            newest_snapshot=lambda: self.snapshot,
            settings=dataclasses.replace(STORAGE_SETTINGS, cache_bytes=cache_bytes),
            progress=lambda _done, _all: None,
        )
        self.recovered = self.storage.recover()
        self.storage.start(self.durable.append, self.failures.append)

    def settle(self) -> None:
        self.clock.pump([0.005] * 8)

    def write(self, *made: Entry) -> None:
        self.storage.write(Write(write_id=1, hard_state=HardState(term=9), entries=made))
        self.settle()

    def test_reads(self) -> None:
        """Questions are answered in the reactor, in order, whatever the log's own worker does."""
        made = entries(1, [b"%d" % n for n in range(30)])
        self.write(*made)
        self.worker.stall()
        answers: list[tuple[Entry, ...]] = []
        self.storage.read(1, 31, ALL, lambda found: answers.append(tuple(found)))
        self.storage.read(5, 6, ALL, lambda found: answers.append(tuple(found)))
        self.assertEqual(answers, [])
        self.settle()
        self.assertEqual(answers, [made, made[4:5]])
        self.worker.resume()

    def test_slow_reading_delays_no_write(self) -> None:
        """A disk that does not come to read syncs all the same."""
        self.write(*entries(1, [b"a"]))
        self.reader.stall()
        self.storage.read(1, 2, ALL, lambda found: None)
        self.durable.clear()
        self.storage.write(Write(write_id=2, entries=entries(2, [b"b"])))
        self.settle()
        self.assertEqual(self.durable, [2])
        self.reader.resume()

    def test_failure(self) -> None:
        """An error while reading is reported like any other of the disk: the node has to stop (B43)."""
        self.write(*entries(1, [b"a"]))
        self.disk.fail_next("read", LOG_FOLDER, code=errno.EIO)
        self.storage.read(1, 2, ALL, lambda found: self.fail("answered"))
        self.settle()
        self.assertEqual(len(self.failures), 1)
        self.assertIsInstance(self.failures[0], StorageError)

    def test_stop(self) -> None:
        """Stopping waits for both threads."""
        self.write(*entries(1, [b"a"]))
        self.reader.stall()
        self.storage.read(1, 2, ALL, lambda found: None)
        stopped = self.storage.stop()
        self.settle()
        self.assertNoResult(stopped)
        self.reader.resume()
        self.settle()
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_recovered(self) -> None:
        """What was not loaded is described: terms, and the entries that hold configurations (B21)."""
        members = Entry(index=2, term=1, kind=EntryKind.CONFIGURATION, payload=configuration("a").encode())
        self.write(*entries(1, [b"a"]), members, *entries(3, [b"b"], 2), *entries(4, [b"c"], 3))
        self.successResultOf(self.stopped())
        self.open()
        found = self.recovered
        self.assertEqual([entry.index for entry in found.entries], [4])
        assert found.on_disk is not None
        self.assertEqual((found.first_previous_term, found.on_disk.terms.last_index), (2, 3))
        self.assertEqual([entry.index for entry in found.configurations], [2])
        self.assertEqual([found.terms.term_at(index) for index in range(6)], [0, 1, 1, 2, 3, None])
        self.successResultOf(self.stopped())
        self.open(cache_bytes=1000)
        self.assertEqual((len(self.recovered.entries), self.recovered.on_disk), (4, None))
        self.assertEqual(self.recovered.terms.term_at(3), 2)

    def stopped(self) -> object:
        stopped = self.storage.stop()
        self.settle()
        return stopped

    def test_snapshot_replaces_what_was_not_loaded(self) -> None:
        """A snapshot that the log does not reach leaves nothing of it, loaded or not."""
        self.write(*entries(1, [b"a", b"b", b"c"]))
        self.successResultOf(self.stopped())
        self.snapshot = SnapshotMeta(index=9, term=2, configuration=configuration("a"), configuration_index=4)
        self.open()
        self.assertEqual((list(self.recovered.entries), self.recovered.on_disk), ([], None))
        self.assertEqual((self.recovered.terms.previous_index, self.recovered.terms.last_index), (9, 9))
        self.assertEqual(self.storage.log_bytes(), 0)
