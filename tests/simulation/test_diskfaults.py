"""Disks that are broken on purpose, and what nodes may make of that."""

from __future__ import annotations

import errno
import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, DamagedLog, InvariantViolation, NoRoom, StorageError
from raftkv.kvstore.commands import put
from raftkv.persistence.fence import store_fence
from raftkv.server.driver import Driver
from raftkv.testing.checkers import Violation
from raftkv.testing.disk import SECTOR_BYTES, MemoryDisk
from raftkv.testing.diskfaults import fill_up, flip_bits, refuse_operations, spoil_entry
from raftkv.testing.excuses import Excuses
from raftkv.testing.losses import may_lose_disk
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

    def test_full_by_itself(self) -> None:
        """B50: a node whose log finds no room has to say who took it: not where nobody else has, since its disk was
        made as large as it is."""
        error = NoRoom("allocate", "log/1", "No space left on device")
        self.assertFalse(self.excuses.must_have_had_room("n1", error, 1000))
        self.excuses.fills_its_disk["n1"] = 1000
        self.assertTrue(self.excuses.must_have_had_room("n1", error, 1000))
        for name, capacity in (("n1", 999), ("n1", None), ("n2", 1000), ("n2", None)):
            self.assertFalse(self.excuses.must_have_had_room(name, error, capacity))
        for other in (NoRoom("write", "log/1", "No space left on device"), StorageError("allocate", "log/1", "bad")):
            self.assertFalse(self.excuses.must_have_had_room("n1", other, 1000))

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

    def test_sound_log(self) -> None:
        """A node that calls a log damaged that nobody touched is wrong."""
        error = DamagedLog("log/1", 7, "bad")
        self.assertRaises(Violation, self.excuses.damaged, "n1", error, disk_errors=0)
        self.excuses.damaged("n1", error, disk_errors=1)
        self.excuses.spoiled.add("n2")
        self.excuses.damaged("n2", error, disk_errors=0)

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
        heard: list[tuple[str, str, int]] = []
        disk.on_error = lambda *error: heard.append(error)
        disk.fail_next("sync")
        self.assertRaises(OSError, file.sync)
        disk.capacity_bytes = 3
        self.assertEqual(errno.ENOSPC, self.assertRaises(OSError, file.write_at, 0, b"four").errno)
        self.assertEqual([("sync", "f", errno.EIO), ("write", "f", errno.ENOSPC)], heard)
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
        """A node whose disk is full, and that has kept nothing in reserve, stops, comes back only once there is room,
        and has everything then."""
        name = self.followers()[0]
        node = self.cluster.nodes[name]
        node.disk.capacity_bytes = node.disk.used_bytes()
        self.write(self.leader(), 300)
        self.wait(lambda: self.cluster.excuses.counts["nodes stopped by their disk"] > 0)
        self.cluster.clock.advance(5)
        node.disk.mend()
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: node.raft is not None and node.raft.last_applied >= store.applied_index)
        self.assertIsNone(self.cluster.failure)

    def test_flipped_bit_in_the_log(self) -> None:
        """A node with a flipped bit in an acknowledged record fetches that from the others, and only then is a member
        again (B41, B42)."""
        self.write(self.leader(), 3)
        self.cluster.clock.advance(1)
        name = self.followers()[0]
        disk = self.cluster.nodes[name].disk
        self.cluster.crash(name, power_loss=False)
        self.cluster.excuses.rotten.add(name)
        newest = f"log/{disk.names('log')[-1]}"
        disk.flip_bit(newest, len(disk.read(newest).rstrip(b"\0")) - 1)
        self.cluster.start(name)
        self.assertEqual((True, None), (self.cluster.nodes[name].is_up, self.cluster.nodes[name].raft))
        self.write(self.leader())
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: (raft := self.cluster.nodes[name].raft) is not None and raft.last_applied > 3)
        self.wait(lambda: self.replica(name).state_machine.store.applied_index == store.applied_index)
        counts = self.cluster.excuses.counts
        self.assertEqual((1, 1, 0), (counts["damaged logs"], counts["repaired logs"], counts["rotten nodes out"]))

    def test_end_that_nobody_has(self) -> None:
        """B42: a leader that lost the end of its log, which nobody else has, gives it up with its vote, and gets both
        back from the next leader."""
        name = self.leader()
        for other in self.followers():
            self.cluster.network.block(name, other)
        replica = self.replica(name)
        life = self.cluster.nodes[name].life
        assert life is not None
        life.clock.run(lambda: replica.write([put(b"key", b"lonely")], lambda outcome: None))
        self.cluster.clock.advance(0.3)
        self.cluster.crash(name, power_loss=False)
        self.cluster.network.heal()
        self.wait(lambda: self.cluster.leader() not in (None, name))
        disk = self.cluster.nodes[name].disk
        newest = f"log/{disk.names('log')[-1]}"
        self.cluster.excuses.rotten.add(name)
        disk.flip_bit(newest, disk.read(newest).rindex(b"lonely"))
        self.cluster.start(name)
        self.wait(lambda: (raft := self.cluster.nodes[name].raft) is not None and raft.may_lack_entries)
        self.assertIn("log_incomplete", self.replica(name).status()["alarms"])
        self.wait(lambda: self.replica(name).status()["alarms"] == [])
        self.write(self.leader(), 2)
        self.assertEqual(1, self.cluster.excuses.counts["repaired logs"])

    def test_all_logs_damaged(self) -> None:
        """B41, B42: logs that are damaged in different places, all at once, are repaired without a leader."""
        self.write(self.leader(), 6)
        self.cluster.clock.advance(1)
        for name in self.cluster.names:
            self.cluster.crash(name, power_loss=True)
        chance = random.Random(3)
        self.assertEqual([1, 1, 1], [spoil_entry(self.cluster, name, chance) for name in self.cluster.names])
        self.cluster.start_all()
        self.wait(lambda: self.cluster.leader() is not None)
        self.write(self.leader())
        counts = self.cluster.excuses.counts
        self.assertEqual((3, 3), (counts["damaged logs"], counts["repaired logs"]))

    def test_wiped_and_damaged(self) -> None:
        """B42: with one disk lost and one log damaged nobody leads until the third has supplied what is missing; then
        all three vote again."""
        self.write(self.leader(), 6)
        self.cluster.clock.advance(1)
        intact, (wiped, damaged) = self.leader(), self.followers()
        self.cluster.crash(damaged, power_loss=False)
        self.assertEqual(1, spoil_entry(self.cluster, damaged, random.Random(3)))
        self.cluster.lose_disk(wiped)
        self.assertFalse(may_lose_disk(self.cluster, damaged))
        self.cluster.start(wiped)
        self.cluster.clock.advance(3)
        self.assertIsNone(self.cluster.nodes[wiped].raft)
        self.cluster.start(damaged)
        # Whoever is asked by one that wants to be taken in, and does not know that question, turns it away for good.
        self.assertLess(self.replica(intact).calls().keys(), self.cluster.network.processes[damaged].calls.keys())

        def is_voter_again() -> bool:
            member = self.cluster.committed_configuration().members.get(wiped)
            is_back = member is not None and member.incarnation == self.cluster.nodes[wiped].incarnation is not None
            return is_back and self.cluster.committed_configuration().is_voter(wiped)

        self.wait(is_voter_again)
        self.write(wiped)
        self.assertEqual(1, self.cluster.excuses.counts["repaired logs"])
        self.assertEqual([], self.replica(damaged).status()["alarms"])

    def test_supplied_by_a_fenced_node(self) -> None:
        """B41, B42: a node whose state is wrong supplies entries of its log, which is right."""
        self.write(self.leader(), 6)
        self.cluster.clock.advance(1)
        fenced, damaged = self.followers()
        for name in self.cluster.names:
            self.cluster.crash(name, power_loss=False)
        self.assertEqual(1, spoil_entry(self.cluster, damaged, random.Random(3)))
        store_fence(self.cluster.nodes[fenced].disk, 1)
        self.cluster.start(fenced)
        self.assertTrue(self.replica(fenced).fence.is_fenced)
        self.cluster.start(damaged)
        self.wait(lambda: self.cluster.nodes[damaged].raft is not None)
        self.assertEqual(1, self.cluster.excuses.counts["repaired logs"])

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
