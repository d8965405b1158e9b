"""Snapshots of a running node: never ahead of its disk, never a mere line in the log, and no pause afterwards."""

from __future__ import annotations

import errno
from collections.abc import Callable
from dataclasses import replace
from itertools import pairwise

from twisted.internet.defer import CancelledError, Deferred

from raftkv.errors import Conflict, CorruptData, InvariantViolation, SnapshotFailed, StorageError
from raftkv.kvstore.commands import put
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import SnapshotMeta
from raftkv.server import snapshotter
from raftkv.snapshot.reading import SnapshotInfo
from tests.server.test_replica import ReplicaTestCase


class CompactionTests(ReplicaTestCase):
    """The log in memory after a snapshot, when it is long."""

    def setUp(self) -> None:
        self.patch(snapshotter, "_FORGOTTEN_AT_ONCE", 3)
        super().setUp()
        self.run_for(3)

    def write_much(self, *, after_a_step: Callable[[], object] = lambda: None) -> list[int]:
        """Write until a snapshot has log in front of it to be dropped; return up to where each step dropped it."""
        node = self.replica.driver.node
        steps: list[int] = []
        compact = node.compact

        def noted(index: int) -> None:
            compact(index)
            steps.append(node.first_index)
            after_a_step()

        self.patch(node, "compact", noted)
        while not steps:
            self.write(put(b"k", b"v" * 200))
            self.clock.advance(0.01)
        return steps

    def test_a_little_at_a_time(self) -> None:
        """A long log is dropped in steps of a few entries, one in each call of the reactor, and in the end is gone."""
        steps = self.write_much()
        self.run_for(0.1)
        self.assertEqual(steps[0], 4)
        self.assertEqual({later - first for first, later in pairwise(steps[:-1])}, {3})
        self.assertGreater(len(steps), 5)
        self.assertEqual(steps[-1], self.replica.status()["first_index"])

    def test_stopped_in_between(self) -> None:
        """A stop leaves no turn behind."""
        self.write_much()
        self.successResultOf(self.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.fatal, [])

    def test_given_up_in_between(self) -> None:
        """A node that fails, or stops, leaves the rest where it is."""
        steps = self.write_much(after_a_step=lambda: self.clock.callLater(0, self.replica.snapshotter.give_up))
        self.run_for(0.1)
        self.assertIn(len(steps), (1, 2))
        self.assertLess(steps[-1] - 1, self.replica.snapshotter.log_follows)


class TakingTests(ReplicaTestCase):
    """A snapshot on its way to the disk."""

    def setUp(self) -> None:
        super().setUp()
        self.run_for(3)
        self.write(put(b"k", b"v"))
        self.run_for(0.1)

    def ahead_of_its_disk(self) -> Deferred[SnapshotInfo]:
        """Ask for a snapshot of a state that the disk does not have yet."""
        node = self.replica.driver.node
        self.log_worker.stall()
        self.write(put(b"k", b"w"))
        self.clock.advance(0)
        # A node alone never applies what it has not synced; one among others does, when they have.
        node._state.commit_to(node.last_index)
        self.replica.driver.wake()
        self.clock.advance(0)
        self.assertGreater(self.replica.state_machine.store.applied_index, node.stable_index)
        return self.replica.snapshotter.take()

    def test_rotten(self) -> None:
        """Where the newest snapshot has rotted another one is taken, of the same state if nothing happened since."""
        snapshotter, node = self.replica.snapshotter, self.replica.driver.node
        taking = snapshotter.take()
        self.run_for(1)
        first = self.successResultOf(taking)
        snapshotter.found(first.meta.index)
        self.run_for(1)
        self.assertEqual(snapshotter.taken, 1)
        name = f"snapshots/{first.name}"
        self.disk.flip_bit(name, first.size_bytes // 2)
        snapshotter.found(0)
        self.run_for(1)
        self.assertEqual((snapshotter.taken, node.snapshot_index), (2, first.meta.index))
        reader = snapshotter._directory.open_newest()
        assert reader is not None
        self.assertEqual(reader.info.meta, first.meta)
        reader.close()
        self.failureResultOf(snapshotter.take(), Conflict)

    def test_waits_for_the_disk(self) -> None:
        """A state that is ahead of our own disk is captured at once, and written when the disk has caught up."""
        taking = self.ahead_of_its_disk()
        self.run_for(1)
        self.assertNoResult(taking)
        self.assertEqual(self.disk.names("snapshots"), [])
        self.failureResultOf(self.replica.snapshotter.take(), Conflict)
        self.replica.snapshotter.look()
        self.log_worker.resume()
        self.write(put(b"k", b"x"))
        self.run_for(1)
        self.assertEqual(self.successResultOf(taking).revision, 2)
        self.assertEqual(self.fatal, [])

    def test_stopped_while_it_waits(self) -> None:
        """A snapshot that waits for the disk is given up by a stop, which is no failure."""
        taking = self.ahead_of_its_disk()
        self.log_worker.resume()
        stopping = self.stop()
        self.failureResultOf(taking, CancelledError)
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.fatal, [])

    def test_another_state_comes_while_it_waits(self) -> None:
        """A snapshot that waits for the disk is given up when a leader's snapshot replaces the state."""
        taking = self.ahead_of_its_disk()
        meta = SnapshotMeta(index=99, term=1, configuration=Configuration(), configuration_index=0)
        loading = self.replica.snapshotter.load(meta)
        self.failureResultOf(taking, CancelledError)
        self.assertEqual(self.fatal, [])
        self.log_worker.resume()
        self.run_for(0.1)
        self.failureResultOf(loading, CorruptData)
        # The state that it would have replaced is free to be captured again.
        self.replica.state_machine.store.capture().close()

    def test_holds_the_committed_configuration(self) -> None:
        """B21: a snapshot holds the configuration of its last entry, not a later one that may never be committed."""
        node = self.replica.driver.node
        committed = node.configuration
        self.write(put(b"k", b"w"))
        self.run_for(0.1)
        self.log_worker.stall()
        self.patch(self.node.transport, "send", lambda messages: None)  # there is somebody to talk to now
        learner = {"z": Member(id="z", raft_addr="z:1")}
        node.propose_configuration(
            replace(committed, members={**committed.members, **learner}, learners=frozenset(learner))
        )
        taking = self.replica.snapshotter.take()
        self.log_worker.resume()
        self.run_for(0.3)
        meta = self.successResultOf(taking).meta
        self.assertEqual(meta.configuration, committed)
        self.assertLess(meta.configuration_index, meta.index)

    def test_refused_by_the_core(self) -> None:
        """A snapshot that the core refuses stops the node; it is not a mere line in the log."""
        error = InvariantViolation("more than was applied")

        def refuse(index: int) -> None:
            raise error

        self.patch(self.replica.driver.node, "snapshot_taken", refuse)
        taking = self.replica.snapshotter.take()
        self.run_for(0.5)
        self.failureResultOf(taking, InvariantViolation)
        self.assertEqual(self.fatal, [error])
        self.assertIs(self.replica.driver.failure, error)

    def test_expected_size(self) -> None:
        """B50: how large a snapshot is at most is known from the newest one, also from the one that a node began with,
        and from the log since; nobody knows before there is one."""
        self.assertIs(self.replica.snapshotter.expected_bytes, None)
        taking = self.replica.snapshotter.take()
        self.run_for(1)
        size = self.successResultOf(taking).size_bytes
        self.assertEqual(self.replica.snapshotter.expected_bytes, size)
        self.successResultOf(self.stop())
        self.start()
        self.run_for(3)
        began = self.replica.snapshotter.expected_bytes
        assert began is not None
        self.assertLess(began, size + 500)
        self.write(put(b"k", b"v" * 1000))
        self.run_for(0.1)
        expected = self.replica.snapshotter.expected_bytes
        assert expected is not None
        self.assertGreater(expected, began + 1000)

    def test_cannot_be_written(self) -> None:
        """A snapshot for which there is no room leaves nothing, and an alarm; the node goes on with its log, which is
        not cut on the strength of it, until there is (B43)."""
        for operation in ("create", "write", "sync"):
            self.disk.fail_next(operation, ".snapshot.tmp", code=errno.ENOSPC)
            taking = self.replica.snapshotter.take()
            self.run_for(0.5)
            self.failureResultOf(taking, SnapshotFailed)
            self.assertEqual((self.fatal, self.disk.names("snapshots")), ([], []), operation)
            self.assertEqual(self.replica.driver.node.snapshot_index, 0)
            self.assertEqual(self.replica.status()["alarms"], ["snapshot_failed"])
        taking = self.replica.snapshotter.take()
        self.run_for(0.5)
        self.successResultOf(taking)
        self.assertEqual(self.replica.status()["alarms"], [])
        self.assertEqual(self.replica.counters()["snapshots_failed"], 3)

    def test_folder_in_doubt(self) -> None:
        """A disk that fails while a snapshot is written stops the node, and one without room stops it where the
        snapshot cannot be given its name: what the folder holds is not known (B43)."""
        for operation, code in (
            ("write", errno.EIO),
            ("sync", errno.EIO),
            ("read", errno.EIO),
            ("rename", errno.ENOSPC),
            ("sync_folder", errno.ENOSPC),
        ):
            self.disk.fail_next(operation, "snapshots", code=code)
            taking = self.replica.snapshotter.take()
            self.run_for(0.5)
            self.failureResultOf(taking, StorageError)
            self.assertEqual(len(self.fatal), 1)
            self.assertEqual(self.replica.driver.node.snapshot_index, 0)
            self.setUp()
