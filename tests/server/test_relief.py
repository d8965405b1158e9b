"""What a node removes, and keeps, when its disk is full (B50)."""

from __future__ import annotations

import dataclasses
import errno

from raftkv.kvstore.commands import put
from raftkv.raft.room import LogRoom, Room
from tests.server.test_replica import ReplicaTestCase


class ReliefTests(ReplicaTestCase):
    """A node alone that keeps two snapshots, and has two."""

    def setUp(self) -> None:
        super().setUp()
        self.node = self.replica.driver.node
        self.snapshotter = self.replica.snapshotter
        self.run_for(3)
        for _ in range(2):
            self.fill(5)
            self.snapshotter.take()
            self.run_for(1)
        self.assertEqual(len(self.snapshots()), 2)
        self.patch(self.snapshotter, "_settings", self.without_a_threshold())

    def without_a_threshold(self) -> object:
        return dataclasses.replace(
            self.snapshotter._settings, threshold_bytes=1 << 30, trailing_entries=1000, relief_bytes=1000
        )

    def fill(self, count: int) -> None:
        self.replica.driver.node.note_room(Room.AMPLE)  # else nothing is written
        for _ in range(count):
            self.write(put(b"k", b"v" * 300))
            self.run_for(0.05)

    def snapshots(self) -> list[str]:
        return [name for name in self.disk.names("snapshots") if name.endswith(".snapshot")]

    def relieve(self, times: int = 1) -> None:
        for _ in range(times):
            self.node.note_room(Room.NONE, LogRoom.of_bytes(10_000))
            self.snapshotter.relieve()
            self.run_for(0.5)

    def test_keeps_one(self) -> None:
        """The newest snapshot alone is kept, and no log in front of it; else two, and the log behind the older one."""
        newest = self.node.snapshot_index
        self.snapshotter.tidy()
        self.run_for(0.5)
        self.assertEqual(len(self.snapshots()), 2)
        self.relieve()
        self.assertEqual(len(self.snapshots()), 1)
        self.assertEqual(self.node.first_index, newest + 1)

    def test_rotten_newest(self) -> None:
        """B42: where the newest one has rotted since it was written the older one stays, and the log behind it."""
        older, newest = (int(name.split("-")[0]) for name in self.snapshots())
        name = f"snapshots/{self.snapshots()[1]}"
        self.disk.flip_bit(name, len(self.disk.read(name)) // 2)
        self.relieve(3)
        self.assertEqual(len(self.snapshots()), 2)
        self.assertLessEqual(self.node.first_index, older + 1)
        self.assertGreater(newest, older)

    def test_takes_another(self) -> None:
        """Once enough log lies behind it another one is taken, by which that goes; the next not before its time."""
        self.relieve()
        taken, before = self.snapshotter.taken, self.node.snapshot_index
        self.relieve(3)
        self.assertEqual(self.snapshotter.taken, taken, "there is nothing to gain")
        self.fill(5)
        self.relieve(2)
        self.assertEqual((self.snapshotter.taken, len(self.snapshots())), (taken + 1, 1))
        self.assertGreater(self.node.snapshot_index, before)
        self.assertEqual(self.node.first_index, self.node.snapshot_index + 1)
        self.disk.fail_next("write", ".snapshot.tmp", code=errno.ENOSPC)
        self.fill(5)
        self.run_for(1)
        self.relieve(1)
        self.assertEqual(self.snapshotter.failed, 1)
        self.relieve(1)
        self.assertEqual(self.snapshotter.failed + self.snapshotter.taken, taken + 2)

    def test_no_room_for_a_snapshot(self) -> None:
        """A snapshot that has no room makes older ones go, whether the log has room or not; the next one finds some."""
        self.fill(5)
        self.disk.fail_next("write", ".snapshot.tmp", code=errno.ENOSPC)
        failing = self.snapshotter.take()
        failing.addErrback(lambda failure: None)
        self.run_for(0.5)
        self.assertEqual((len(self.snapshots()), self.fatal), (1, []))
        self.snapshotter.take()
        self.run_for(0.5)
        self.assertEqual((len(self.snapshots()), self.replica.status()["alarms"]), (2, []))

    def test_first_snapshot(self) -> None:
        """A node that has no snapshot yet takes its first one."""
        self.disk = type(self.disk)()
        self.start()
        self.node, self.snapshotter = self.replica.driver.node, self.replica.snapshotter
        self.run_for(3)
        self.patch(self.snapshotter, "_settings", self.without_a_threshold())
        self.fill(6)
        self.relieve(2)
        self.assertEqual(len(self.snapshots()), 1)
