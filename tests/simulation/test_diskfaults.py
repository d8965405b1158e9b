"""Disks that are broken on purpose, and what nodes may make of that."""

from __future__ import annotations

import errno
import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, InvariantViolation, StorageError
from raftkv.server.driver import Driver
from raftkv.testing.checkers import Violation
from raftkv.testing.disk import SECTOR_BYTES, MemoryDisk
from raftkv.testing.diskfaults import fill_up, flip_bits, refuse_operations
from raftkv.testing.excuses import Excuses
from tests.simulation.test_cluster import ClusterTestCase


class ExcuseTests(SynchronousTestCase):
    """Who may give up, and for what."""

    def setUp(self) -> None:
        self.excuses = Excuses()

    def test_disk_error(self) -> None:
        """A node may stop for an error of its disk if there was one, and for nothing else."""
        error = StorageError("fdatasync", "log/1", "Input/output error")
        self.assertFalse(self.excuses.takes("n1", error, disk_errors=0))
        self.assertTrue(self.excuses.takes("n1", error, disk_errors=1))
        self.assertFalse(self.excuses.takes("n1", InvariantViolation("wrong"), disk_errors=1))

    def test_rotten(self) -> None:
        """Only a node with a flipped bit may call its data damaged, and it stays away from then on."""
        self.assertFalse(self.excuses.takes("n1", CorruptData("log/1", 7, "bad"), disk_errors=1))
        self.excuses.rotten.add("n1")
        self.assertTrue(self.excuses.takes("n1", CorruptData("log/1", 7, "bad"), disk_errors=0))
        self.assertEqual({"n1"}, self.excuses.out)

    def test_quorum(self) -> None:
        """Bits flip on a minority of the nodes, and no more on one that is out."""
        self.assertTrue(self.excuses.may_rot("n1", 3))
        self.excuses.rotten.add("n1")
        self.assertTrue(self.excuses.may_rot("n1", 3))
        self.assertFalse(self.excuses.may_rot("n2", 3))
        self.assertTrue(self.excuses.may_rot("n2", 5))
        self.excuses.out.add("n1")
        self.assertFalse(self.excuses.may_rot("n1", 5))
        self.assertFalse(Excuses(bits_may_flip=False).may_rot("n2", 5))

    def test_sound_snapshot(self) -> None:
        """A node that calls a snapshot unreadable that nobody touched is wrong."""
        error = CorruptData("snapshots/1", 7, "bad")
        self.assertRaises(Violation, self.excuses.set_aside, "n1", error)
        self.excuses.rotten.add("n1")
        self.excuses.set_aside("n1", error)


class DiskTests(SynchronousTestCase):
    """What the disk in memory counts."""

    def test_writes(self) -> None:
        """A crash that keeps some sectors of a write has torn it, one that keeps none has lost it."""
        for sectors, count in ((64, "torn writes"), (1, "lost writes")):
            disk = MemoryDisk()
            chance = random.Random(1)
            while not disk.counts[count]:
                file = disk.open(f"f{disk.crashes}", create=True)
                disk.sync_folder("")
                file.write_at(0, b"x" * sectors * SECTOR_BYTES)
                disk.crash(chance)
                self.assertLess(disk.crashes, 50)

    def test_errors(self) -> None:
        """Somebody is told of each error before it is raised, and it is counted by its kind."""
        disk = MemoryDisk()
        file = disk.open("f", create=True)
        heard: list[tuple[str, str]] = []
        disk.on_error = lambda operation, name: heard.append((operation, name))
        disk.fail_next("sync")
        self.assertRaises(OSError, file.sync)
        disk.capacity_bytes = 3
        self.assertEqual(errno.ENOSPC, self.assertRaises(OSError, file.write_at, 0, b"four").errno)
        self.assertEqual([("sync", "f"), ("write", "f")], heard)
        self.assertEqual((1, 1), (disk.counts["errors of the disk"], disk.counts["writes without room"]))
        disk.mend()
        file.write_at(0, b"four")


class BrokenDiskTests(ClusterTestCase):
    """A cluster whose disks break."""

    def test_error_stops_a_node(self) -> None:
        """A node whose sync fails stops, is started again, and has everything (B43)."""
        name = self.followers()[0]
        lives = self.cluster.nodes[name].lives
        self.cluster.nodes[name].disk.fail_next("sync", "log/")
        self.write(self.leader(), 3)
        self.wait(lambda: self.cluster.nodes[name].lives > lives and self.cluster.nodes[name].is_running)
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: self.replica(name).state_machine.store.applied_index == store.applied_index)
        self.assertEqual(1, self.cluster.excuses.counts["nodes stopped by their disk"])

    def test_error_believed(self) -> None:
        """A node that goes on after a failed sync is found out (B43)."""
        self.patch(Driver, "fail", lambda driver, error: None)
        self.setUp()  # nodes made after the patch
        self.cluster.nodes[self.followers()[0]].disk.fail_next("sync", "log/")
        self.write(self.leader(), 3)
        violation = self.assertRaises(Violation, self.cluster.clock.advance, 5)
        self.assertEqual("disk error believed", violation.rule)

    def test_full_disk(self) -> None:
        """A node whose disk is full stops, comes back only once there is room, and has everything then."""
        name = self.followers()[0]
        node = self.cluster.nodes[name]
        node.disk.capacity_bytes = node.disk.used_bytes()
        self.write(self.leader(), 3)
        self.wait(lambda: self.cluster.excuses.counts["nodes stopped by their disk"] > 0)
        self.cluster.clock.advance(5)
        node.disk.mend()
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: node.raft is not None and node.raft.last_applied >= store.applied_index)
        self.assertIsNone(self.cluster.failure)

    def test_flipped_bit_in_the_log(self) -> None:
        """A node with a flipped bit in an acknowledged record does not start, and the others go on (B41, B42)."""
        self.write(self.leader(), 3)
        self.cluster.clock.advance(1)
        name = self.followers()[0]
        disk = self.cluster.nodes[name].disk
        self.cluster.crash(name, power_loss=False)
        self.cluster.excuses.rotten.add(name)
        newest = f"log/{disk.names('log')[-1]}"
        disk.flip_bit(newest, len(disk.read(newest).rstrip(b"\0")) - 1)
        self.cluster.start(name)
        self.assertEqual(({name}, False), (self.cluster.excuses.out, self.cluster.nodes[name].is_up))
        self.write(self.leader())

    def test_flipped_bit_in_a_snapshot(self) -> None:
        """A node whose newest snapshot rots starts on the one before, or not at all, and never with another state."""
        for seed in range(20):
            self.setUp()
            self.write(self.leader(), 30)
            name = self.followers()[0]
            self.cluster.crash(name, power_loss=False)
            flip_bits(self.cluster, name, random.Random(seed))
            self.cluster.start(name)
            self.cluster.clock.advance(3)
            if self.cluster.nodes[name].is_up:
                self.assertEqual(self.replica(name).status()["digest"], self.replica(self.leader()).status()["digest"])
            else:
                self.assertIn(name, self.cluster.excuses.out)

    def test_faults_undo_themselves(self) -> None:
        """What refuses or is full works again once the fault has ended."""
        disk = MemoryDisk()
        for fault in (refuse_operations, fill_up):
            undo = fault(disk, random.Random(1))
            undo()
            disk.open("f", create=True).write_at(0, b"x" * 10_000)
            disk.sync_folder("")
