"""Backups and archives in the simulator: what they catch, and some stories with them."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import succeed
from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import Store
from raftkv.raft.messages import Entry
from raftkv.server.archiving import Archiver
from raftkv.server.backups import Backups
from raftkv.server.snapshotter import Snapshotter
from raftkv.snapshot.archive import ArchiveWriter
from raftkv.testing.backupstory import BackupSimulation, run_backup_seed
from raftkv.testing.outcome import Outcome


class StoriesTests(SynchronousTestCase):
    """Some seeds."""

    def test_nothing_fails(self) -> None:
        """Backups, archives and restored clusters hold what was acknowledged, and do come about."""
        counts: Counter[str] = Counter()
        # In the last one the state of a revision is a snapshot's alone, whose last entry changed a session and no key.
        for seed in (*range(4), 572):
            outcome = run_backup_seed(seed)
            self.assertEqual(outcome.failure, "", outcome.details)
            counts.update(outcome.faults)
        for what in ("backups arrived", "states made of archives", "clusters restored"):
            self.assertGreater(counts[what], 2, counts)

    def test_same_story(self) -> None:
        """The same seed tells the same story."""
        self.assertEqual(*(run_backup_seed(3).digest for _ in range(2)))

    def test_end_is_told(self) -> None:
        """Every archive is whole once what troubled it is over."""
        story = BackupSimulation(1)
        self.assertEqual(story.run().failure, "")
        self.assertTrue(story.backups.is_archived())


class BiteTests(SynchronousTestCase):
    """Mistakes that somebody could make."""

    def first_failure(self, start: int) -> Outcome:
        """Tell stories until one fails.

        :param start: the first seed; one that is known to be short of the failure.
        """
        for seed in range(start, start + 40):
            outcome = run_backup_seed(seed)
            if outcome.failure:
                return outcome
        raise self.failureException("no story has noticed")

    def test_uncommitted_entries(self) -> None:
        """An archive of whatever is on the disk, committed or not, is caught."""
        self.patch(Archiver, "_target", property(lambda archiver: archiver._node.stable_index))
        self.assertRegex(self.first_failure(20).failure, "archive|Gap|backup|entry|Archive|StopIteration|term")

    def test_lost_entry(self) -> None:
        """A writer that leaves out an entry is caught."""
        write = ArchiveWriter.write

        def careless(writer: ArchiveWriter, entries: Sequence[Entry]) -> None:
            write(writer, entries)
            writer._last_index += 1

        self.patch(ArchiveWriter, "write", careless)
        self.assertIn("Violation", self.first_failure(0).failure)

    def test_log_that_does_not_wait(self) -> None:
        """A log that is cut before it has been archived leaves a gap, which the archives show."""
        self.patch(Archiver, "may_forget", lambda archiver, index: index)
        gaps, seed = 0, 0
        while not gaps and seed < 20:
            story = BackupSimulation(seed)
            story.run()
            replicas = [node.life.replica for node in story.cluster.nodes.values() if node.life is not None]
            gaps += sum(replica.archiver.gaps for replica in replicas if replica is not None and replica.archiver)
            seed += 1
        self.assertGreater(gaps, 0)

    def test_stale_backup(self) -> None:
        """A backup that does not hold what was committed before it was asked for is caught."""
        self.patch(Backups, "_until_readable", lambda backups, consistency: _at_once())
        self.assertIn("was committed before", self.first_failure(1).failure)

    def test_moving_state(self) -> None:
        """B48: a snapshot that is not of one moment is caught."""
        capture = Store.capture

        def late(store: Store) -> Any:
            view = capture(store)
            store._records._captured_revision = -1
            return view

        self.patch(Store, "capture", late)
        self.assertNotEqual(self.first_failure(2).failure, "")

    def test_revisions_that_go_back(self) -> None:
        """B61: a restored cluster that goes on at the old revision is caught."""
        self.patch(Store, "begin_anew", lambda store, margin: None)
        self.assertIn("Violation", self.first_failure(1).failure)

    def test_wrong_index(self) -> None:
        """A snapshot that is filed under another entry than that of its state is caught."""
        take = Snapshotter.take

        def shifted(snapshotter: Snapshotter, *, renews: bool = False) -> Any:
            store = snapshotter._state_machine().store
            if store.applied_index > 5:
                store._applied_index -= 1
                try:
                    return take(snapshotter, renews=renews)
                finally:
                    store._applied_index += 1
            return take(snapshotter, renews=renews)

        self.patch(Snapshotter, "take", shifted)
        self.assertNotEqual(self.first_failure(1).failure, "")


def _at_once() -> Any:
    return succeed(None)
