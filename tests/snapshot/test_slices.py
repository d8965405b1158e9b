"""Taking and restoring snapshots in slices, beside other work."""

from __future__ import annotations

import errno
from collections.abc import Iterator
from typing import Any

from twisted.internet.defer import CancelledError
from twisted.internet.task import Clock

from raftkv.errors import CorruptData, InvariantViolation, SnapshotFailed, StorageError
from raftkv.persistence.calls import BlockingCalls
from raftkv.snapshot.restoring import SnapshotRestorer, restore_now
from raftkv.snapshot.slices import SliceSettings
from raftkv.snapshot.taking import SnapshotTaker
from raftkv.testing.worker import ClockWorker
from tests.snapshot.test_files import SnapshotTestCase, meta_at

SETTINGS = SliceSettings(slice_seconds=0.004, pause_seconds=0.001, max_waiting_chunks=8)


class WorkClock(Clock):
    """A clock that work moves on without running what is due: a reactor that is kept busy."""

    def work(self, seconds: float) -> None:
        """Let time pass in the middle of a turn."""
        self.rightNow += seconds


class View:
    """A captured state: some chunks, each a millisecond of work."""

    def __init__(self, clock: WorkClock, count: int) -> None:
        self.clock = clock
        self.count = count
        self.made = 0
        self.closed = 0
        self.fails_at: int | None = None

    def __iter__(self) -> Iterator[bytes]:
        for number in range(self.count):
            if number == self.fails_at:
                raise InvariantViolation("the state is wrong")
            self.clock.work(0.001)
            self.made += 1
            yield b"chunk %d" % number

    def close(self) -> None:
        self.closed += 1


class Sink:
    """Collects chunks, each a millisecond of work."""

    def __init__(self, clock: WorkClock) -> None:
        self.clock = clock
        self.chunks: list[bytes] = []
        self.refuses: bytes | None = None

    def feed(self, chunk: bytes) -> None:
        if chunk == self.refuses:
            raise ValueError("not a chunk")
        self.clock.work(0.001)
        self.chunks.append(chunk)

    def finish(self) -> list[bytes]:
        return self.chunks


class SliceTestCase(SnapshotTestCase):
    """A worker on a clock, and a check that nothing stays behind."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = WorkClock()
        self.delay = 0.001
        self.worker = ClockWorker(self.clock, lambda _items: self.delay)
        self.calls = BlockingCalls(self.worker)
        self.calls.start()
        self.taker = SnapshotTaker(self.clock, self.calls, self.directory, SETTINGS)
        self.restorer = SnapshotRestorer(self.clock, self.calls, self.directory, SETTINGS)
        self.longest_turn = 0.0

    def tearDown(self) -> None:
        stopped = self.calls.stop()
        self.turns(20)
        self.successResultOf(stopped)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def turns(self, count: int) -> None:
        """Let the reactor run, and note how long its longest turn was."""
        for _turn in range(count):
            before = self.clock.seconds()
            self.clock.advance(0.001)
            self.longest_turn = max(self.longest_turn, self.clock.seconds() - before - 0.001)

    def chunks_of(self, count: int) -> list[bytes]:
        """Return what a view of so many chunks gives."""
        return [b"chunk %d" % number for number in range(count)]


class TakingTests(SliceTestCase):
    """Taking."""

    def test_takes(self) -> None:
        """B48: a snapshot holds the chunks of the view in their order, and the view is closed."""
        view = View(self.clock, 50)
        taken = self.taker.take(view, meta_at(7), 70)
        self.turns(200)
        info = self.successResultOf(taken)
        self.assertEqual((info.meta, info.revision, info.chunks), (meta_at(7), 70, 50))
        self.assertEqual(list(self.directory.open(info).chunks()), self.chunks_of(50))
        self.assertEqual(view.closed, 1)
        self.assertFalse(self.taker.is_busy)

    def test_short_turns(self) -> None:
        """No turn of the reactor takes longer than a slice and a chunk."""
        taken = self.taker.take(View(self.clock, 100), meta_at(7), 70)
        self.turns(300)
        self.successResultOf(taken)
        self.assertGreater(self.longest_turn, 0.003)
        self.assertLess(self.longest_turn, 0.0065)

    def test_busy_reactor(self) -> None:
        """A reactor that is busy with others gives a snapshot a small part of its time, a chunk at once, and ends it
        all the same; once it is idle again, it gives more."""
        view = View(self.clock, 4000)
        taken = self.taker.take(view, meta_at(7), 70)
        self.turns(5)
        made, began = view.made, self.clock.seconds()
        for turn in range(200):
            before = view.made
            self.clock.work(0.007)  # what others want in this turn
            self.clock.advance(0)
            self.assertLessEqual(view.made, before + (1 if turn else 4))
        share = (view.made - made) * 0.001 / (self.clock.seconds() - began)
        self.assertTrue(0.01 < share < 0.03, share)
        self.turns(1000)
        made, began = view.made, self.clock.seconds()
        self.turns(20)
        self.assertGreater((view.made - made) * 0.001 / (self.clock.seconds() - began), 0.5)
        self.turns(5000)
        self.successResultOf(taken)

    def test_bounded(self) -> None:
        """While the disk hangs, no more chunks are made than the bound allows."""
        view = View(self.clock, 100)
        taken = self.taker.take(view, meta_at(7), 70)
        self.turns(3)
        self.worker.stall()
        self.turns(100)
        self.assertNoResult(taken)
        self.assertLessEqual(view.made, 2 * SETTINGS.max_waiting_chunks)
        before = view.made
        self.turns(100)
        self.assertEqual(view.made, before)
        self.worker.resume()
        self.turns(400)
        self.successResultOf(taken)

    def test_one_at_a_time(self) -> None:
        """A second snapshot at once is a mistake of the caller."""
        taken = self.taker.take(View(self.clock, 3), meta_at(7), 70)
        self.assertRaises(InvariantViolation, self.taker.take, View(self.clock, 3), meta_at(8), 80)
        self.turns(50)
        self.successResultOf(taken)
        again = self.taker.take(View(self.clock, 3), meta_at(8), 80)
        self.turns(50)
        self.successResultOf(again)

    def test_cancel(self) -> None:
        """A snapshot can be given up at any moment: the view is closed, and either nothing is left or all of it."""
        for moment in range(60):
            view = View(self.clock, 20)
            outcome: list[Any] = []
            self.taker.take(view, meta_at(moment + 1), 1).addBoth(outcome.append)
            self.turns(moment)
            cancelled = self.taker.cancel()
            self.turns(100)
            self.successResultOf(cancelled)
            self.assertEqual((len(outcome), view.closed), (1, 1))
            names = [info.name for info in self.directory.list()]
            if hasattr(outcome[0], "trap"):
                outcome[0].trap(CancelledError)
                self.assertEqual([name for name in self.disk.names("snapshots") if name not in names], [])
            else:
                self.assertIn(outcome[0].name, names)

    def test_disk_error(self) -> None:
        """B43: an error of the disk ends the snapshot and leaves nothing; the error says whether it was only that
        there is no room for it."""
        for operation, code, error in (
            ("create", errno.ENOSPC, SnapshotFailed),
            ("write", errno.EDQUOT, SnapshotFailed),
            ("sync", errno.ENOSPC, SnapshotFailed),
            ("rename", errno.ENOSPC, StorageError),
            ("create", errno.EIO, StorageError),
            ("write", errno.EIO, StorageError),
            ("sync", errno.EIO, StorageError),
            ("read", errno.EIO, StorageError),
        ):
            self.disk.fail_next(operation, "snapshots/", code=code)
            view = View(self.clock, 20)
            taken = self.taker.take(view, meta_at(7), 70)
            self.turns(200)
            self.failureResultOf(taken, error)
            self.assertEqual((self.disk.names("snapshots"), view.closed), ([], 1), operation)

    def test_disk_error_before_a_commit(self) -> None:
        """B43: with its commit already under way, a snapshot of which a chunk cannot be written gets no name."""
        taken = self.taker.take(View(self.clock, 2), meta_at(7), 70)
        self.turns(1)
        self.disk.fail_next("write", "snapshots", code=errno.ENOSPC)
        self.turns(20)
        self.failureResultOf(taken, SnapshotFailed)
        self.assertEqual(self.disk.names("snapshots"), [])

    def test_view_error(self) -> None:
        """An error of the state ends the snapshot with that error and leaves nothing."""
        view = View(self.clock, 20)
        view.fails_at = 9
        taken = self.taker.take(view, meta_at(7), 70)
        self.turns(100)
        self.failureResultOf(taken, InvariantViolation)
        self.assertEqual((self.disk.names("snapshots"), view.closed), ([], 1))


class RestoringTests(SliceTestCase):
    """Restoring."""

    def setUp(self) -> None:
        super().setUp()
        self.info = self.take(7, self.chunks_of(60))
        self.sink = Sink(self.clock)

    def test_restores(self) -> None:
        """The sink gets every chunk in order, in short turns."""
        restored = self.restorer.restore(self.info, self.sink)
        self.turns(400)
        self.assertEqual(self.successResultOf(restored), self.chunks_of(60))
        self.assertLess(self.longest_turn, 0.0065)

    def test_at_once(self) -> None:
        """At the start of a process a snapshot is restored in one go, with progress."""
        progress: list[tuple[int, int]] = []
        found = restore_now(self.directory, self.info, self.sink, lambda done, count: progress.append((done, count)))
        self.assertEqual(found, self.chunks_of(60))
        self.assertEqual(progress[-1], (60, 60))

    def test_damage(self) -> None:
        """A file that rots after it was verified is found out, and no state comes of it."""
        self.spoil(self.info, self.info.size_bytes // 2)
        restored = self.restorer.restore(self.info, self.sink)
        self.turns(400)
        self.failureResultOf(restored, CorruptData)
        self.assertRaises(CorruptData, restore_now, self.directory, self.info, Sink(self.clock), lambda _a, _b: None)

    def test_refused_chunk(self) -> None:
        """What the sink refuses ends the restoration with its error."""
        self.sink.refuses = b"chunk 40"
        restored = self.restorer.restore(self.info, self.sink)
        self.turns(400)
        self.failureResultOf(restored, ValueError)

    def test_missing_file(self) -> None:
        """A file that is gone ends the restoration with an error that names it."""
        self.disk.remove(f"snapshots/{self.info.name}")
        restored = self.restorer.restore(self.info, self.sink)
        self.turns(10)
        self.assertIn(self.info.name, str(self.failureResultOf(restored, StorageError).value))

    def test_cancel(self) -> None:
        """A restoration can be given up at any moment."""
        for moment in range(0, 120, 3):
            sink = Sink(self.clock)
            restored = self.restorer.restore(self.info, sink)
            self.turns(moment)
            restored.cancel()
            fed = len(sink.chunks)
            self.turns(100)
            self.assertEqual(len(sink.chunks), fed)
            restored.addErrback(lambda failure: failure.trap(CancelledError))
