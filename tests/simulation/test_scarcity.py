"""Disks that fill up under nodes with a reserve, and rot under nodes that run: a whole cluster lives on (B50, B41)."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import DiskFull, RaftKVError, StateBehind
from raftkv.interfaces import Command
from raftkv.kvstore.commands import delete, put
from raftkv.raft.leadership import Leadership
from raftkv.raft.messages import Entry
from raftkv.raft.room import LogRoom, Room
from raftkv.server.diskspace import Look, SpaceWatch
from raftkv.server.replica import Replica
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.network import NetworkSettings
from raftkv.testing.scarcity import draw_scarcity
from raftkv.testing.simulation import run_seed

SEGMENT_BYTES = 8192


class ScarcityTestCase(SynchronousTestCase):
    """Three nodes with segments of 8 KiB and a reserve of four, and snapshots as due as the disk wants them."""

    settings = ClusterSettings(
        election_timeout_seconds=0.6,
        snapshot_threshold_bytes=1 << 20,
        segment_bytes=SEGMENT_BYTES,
        disk_reserve_bytes=4 * SEGMENT_BYTES,
    )

    def setUp(self) -> None:
        self.cluster = SimulatedCluster(settings=self.settings, network_settings=NetworkSettings(), seed=3)
        self.cluster.start_all()
        self.acknowledged: dict[bytes, bytes] = {}
        self.refused: list[bytes] = []
        self.written = 0
        self.wait(lambda: self.cluster.leader() is not None)
        self.fill_log(3)

    def wait(self, condition: Any, limit_seconds: float = 20.0) -> None:
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=limit_seconds))

    def replica(self, name: str) -> Replica:
        life = self.cluster.nodes[name].life
        if life is None or life.replica is None:
            raise AssertionError(f"{name} is down")
        return life.replica

    def leader(self) -> str:
        self.wait(lambda: self.cluster.leader() is not None)
        return self.cluster.leader() or ""

    def followers(self) -> list[str]:
        leader = self.leader()
        return [name for name in self.cluster.names if name != leader]

    def ask(self, name: str, *commands: Command) -> Sequence[Any] | RaftKVError:
        """Write through a node and return the answer."""
        answers: list[Any] = []
        replica = self.replica(name)
        self.cluster.nodes[name].life.clock.run(lambda: replica.write(commands, answers.append))  # type: ignore[union-attr]
        self.wait(lambda: bool(answers))
        return answers[0]  # type: ignore[no-any-return]

    def put(self, name: str, key: bytes, value: bytes) -> Sequence[Any] | RaftKVError:
        answer = self.ask(name, put(key, value))
        if not isinstance(answer, RaftKVError):
            self.acknowledged[key] = value
        elif answer.outcome == "not_applied":
            self.refused.append(value)
        return answer

    def fill_log(self, count: int) -> list[Any]:
        """Write large values through all nodes in turn, each value once."""
        answers = []
        for _ in range(count):
            self.written += 1
            value = (b"%d " % self.written).ljust(900, b"x")
            answers.append(self.put(self.cluster.names[self.written % 3], b"k%d" % (self.written % 5), value))
        return answers

    def read(self, name: str, key: bytes) -> bytes | None:
        """Read through a node, linearizably."""
        answers: list[Any] = []
        replica = self.replica(name)
        self.cluster.nodes[name].life.clock.run(lambda: replica.barrier("linearizable", answers.append))  # type: ignore[union-attr]
        self.wait(lambda: bool(answers))
        self.assertEqual(answers, [None])
        record = replica.get(key)
        return None if record is None else record[0]

    def take_room(self, *names: str) -> None:
        for name in names:
            disk = self.cluster.nodes[name].disk
            disk.capacity_bytes = disk.used_bytes()

    def give_room(self) -> None:
        for name in self.cluster.names:
            self.cluster.nodes[name].disk.capacity_bytes = None

    def alarms(self, name: str) -> list[str]:
        return [str(alarm) for alarm in self.replica(name).status()["alarms"]]

    def assert_nothing_lost(self) -> None:
        """What was acknowledged can be read everywhere, what was refused nowhere, and nobody had to stop."""
        for name in self.cluster.names:
            for key, value in self.acknowledged.items():
                self.assertEqual(self.read(name, key), value)
            kept = {record[0] for _, record in self.replica(name).scan(b"", None, 1000)}
            self.assertEqual(kept & set(self.refused), set())
            self.assertEqual(self.cluster.nodes[name].lives, 1)
        self.assertIsNone(self.cluster.failure)


class FullDiskTests(ScarcityTestCase):
    """Disks without room."""

    def test_one_follower(self) -> None:
        """B50: writes go on while a follower's disk is full; it stays, says so, and catches up later; reads that
        it cannot serve it refuses soon."""
        full = self.followers()[0]
        self.take_room(full)
        answers = self.fill_log(60)
        self.assertEqual([a for a in answers if isinstance(a, RaftKVError)], [])
        self.assertEqual(self.alarms(full), ["disk_nearly_full", "disk_full"])
        members = {member["id"]: member["disk"] for member in self.replica(self.leader()).local_cluster()["members"]}
        self.assertEqual(members[full], "none")
        answers: list[Any] = []
        self.cluster.nodes[full].life.clock.run(lambda: self.replica(full).barrier("linearizable", answers.append))  # type: ignore[union-attr]
        self.wait(lambda: bool(answers), limit_seconds=2)
        self.assertIsInstance(answers[0], StateBehind)
        self.give_room()
        self.wait(lambda: self.alarms(full) == [])
        self.assert_nothing_lost()

    def test_leader(self) -> None:
        """B50: a leader whose disk is full lets somebody lead who has room; writes wait for that, none is refused."""
        self.cluster.clock.advance(1)
        full = self.leader()
        self.take_room(full)
        answers = self.fill_log(60)
        self.assertNotEqual(self.leader(), full)
        self.assertEqual([a for a in answers if isinstance(a, RaftKVError)], [])
        self.give_room()
        self.assert_nothing_lost()

    def fill_all(self) -> None:
        self.take_room(*self.cluster.names)
        for _ in range(20):
            answers = self.fill_log(10)
            if isinstance(answers[-1], DiskFull):
                return
        self.fail("the disks do not fill up")

    def test_all(self) -> None:
        """B50: with all disks full writes are refused as not applied, through every node; reads are served; what frees
        room is taken; and with room again everything goes on by itself."""
        self.fill_all()
        leader = self.leader()
        self.assertIn("cluster_full", self.alarms(leader))
        for name in self.cluster.names:
            answer = self.put(name, b"refused", b"refused through " + name.encode())
            self.assertIsInstance(answer, DiskFull)
            self.assertEqual(self.read(name, b"refused"), None)
            self.assertEqual(self.read(name, b"k1"), self.acknowledged[b"k1"])
        self.assertEqual(self.ask(self.followers()[0], delete(b"k2"))[0][2], True)  # type: ignore[index]
        del self.acknowledged[b"k2"]
        self.cluster.clock.advance(10)
        self.assertIn("disk_full", self.alarms(leader))
        self.give_room()
        self.wait(lambda: all(self.alarms(name) == [] for name in self.cluster.names))
        self.assertNotIsInstance(self.put(leader, b"k2", b"again"), RaftKVError)
        self.assert_nothing_lost()

    def test_a_new_leader(self) -> None:
        """B50: with all disks full the leader dies; another one is elected and serves linearizable reads."""
        self.fill_all()
        dead = self.leader()
        self.cluster.crash(dead, power_loss=False)
        self.wait(lambda: self.cluster.leader() not in (None, dead))
        for name in self.cluster.names:
            if name != dead:
                self.assertEqual(self.read(name, b"k1"), self.acknowledged[b"k1"])

    def test_restart(self) -> None:
        """B50: with all disks full nodes are killed and started again, one after the other: they come back, vote, and
        serve what was acknowledged."""
        self.fill_all()
        for name in self.cluster.names:
            self.cluster.crash(name, power_loss=False)
            self.cluster.clock.advance(1)
            self.cluster.start(name)
            self.wait(lambda name=name: self.cluster.leader() is not None and self.replica(name).is_ready()[0])
            self.assertEqual(self.read(name, b"k1"), self.acknowledged[b"k1"])
            self.assertIsInstance(self.put(name, b"refused", b"refused through " + name.encode()), DiskFull)
        self.assertEqual([node.lives for node in self.cluster.nodes.values()], [2, 2, 2])

    def test_relieved_by_a_snapshot(self) -> None:
        """B50: disks that are full of log, and of nothing else, are freed by a snapshot, without anybody's help."""
        for name in self.cluster.names:
            disk = self.cluster.nodes[name].disk
            disk.capacity_bytes = disk.used_bytes() + 2 * SEGMENT_BYTES + SEGMENT_BYTES // 2
        refused = 0
        for _ in range(20):
            refused += sum(isinstance(answer, DiskFull) for answer in self.fill_log(20))
            self.cluster.clock.advance(3)
        self.assertGreater(refused, 0)
        self.assertLess(refused, 200)
        taken = sum(self.replica(name).counters()["snapshots_taken"] for name in self.cluster.names)
        self.assertGreater(taken, 5)
        self.assert_nothing_lost()

    def test_filled_again_at_once(self) -> None:
        """B50: a follower's disk is full, is freed by a snapshot, and all that the follower has missed comes at once,
        which is far more than has become free: it takes what there is room for, again and again, and stays."""
        for spare_segments in (1, 2, 4, 6):
            self.setUp()
            full = self.followers()[0]
            node = self.cluster.nodes[full]
            node.disk.capacity_bytes = node.disk.used_bytes() + spare_segments * SEGMENT_BYTES
            for _ in range(4):
                answers = self.fill_log(150)
                self.assertEqual([answer for answer in answers if isinstance(answer, RaftKVError)], [])
                self.cluster.clock.advance(3)
                self.assertEqual(node.lives, 1, f"{spare_segments} segments to spare")
            self.assertGreater(self.replica(full).counters()["snapshots_taken"], 1)
            self.assertGreater(node.disk.counts["writes without room"], 1)
            self.give_room()
            self.wait(lambda full=full: self.alarms(full) == [])
            self.assert_nothing_lost()

    def test_started_on_a_small_disk(self) -> None:
        """B50: a follower that was down has missed far more than its disk has room for, and all of it comes as soon as
        it is started, before it has looked at its disk: it takes what there is room for, and stays."""
        for spare_segments in (0, 1, 3):
            self.setUp()
            full = self.followers()[0]
            node = self.cluster.nodes[full]
            self.cluster.crash(full, power_loss=False)
            leader = self.leader()
            for number in range(150):
                self.put(leader, b"k%d" % (number % 5), b"missed %d " % number + bytes(900))
            node.disk.capacity_bytes = node.disk.used_bytes() + spare_segments * SEGMENT_BYTES
            self.cluster.start(full)
            self.cluster.clock.advance(6)
            self.assertEqual(node.lives, 2, f"{spare_segments} segments to spare")
            # Its log may have taken all the room that there was, and a snapshot then needs what is kept for the log.
            self.wait(lambda full=full: self.replica(full).counters()["snapshots_taken"] > 0)
            self.give_room()
            self.wait(lambda full=full: "disk_full" not in self.alarms(full))
            for key, value in self.acknowledged.items():
                self.assertEqual(self.read(full, key), value)


class WrongRefusalTests(SynchronousTestCase):
    """The checker of refusals."""

    def test_refused_and_applied(self) -> None:
        """A leader that says of a write that it was refused, and makes an entry of it all the same, is found out."""
        honest = Leadership.propose

        def propose(leadership: Leadership, payload: bytes, *, needs_room: bool) -> Entry:
            entry = honest(leadership, payload, needs_room=False) if leadership.lacks_room else None
            if entry is None:
                return honest(leadership, payload, needs_room=needs_room)
            raise DiskFull

        self.patch(Leadership, "propose", propose)
        from raftkv.server import proposals

        self.patch(proposals, "needs_room", lambda commands: False)
        for seed in range(200):
            if "fill_all" in _kinds(seed) and (failure := run_seed(seed).failure):
                self.assertIn("applied after all", failure)
                return
        self.fail("not found out")


class WrongBudgetTests(SynchronousTestCase):
    """The checker of disks that a node fills by itself."""

    def test_takes_too_much(self) -> None:
        """B50: a node that takes whatever comes as long as its disk is not full is found out."""
        honest = SpaceWatch._budget

        def budget(watch: SpaceWatch, found: Look, level: Room) -> LogRoom | None:
            return honest(watch, found, level) if level is Room.NONE else None

        self.patch(SpaceWatch, "_budget", budget)
        for seed in range(1000):
            if _kinds(seed) == ("fill_again",) and (failure := run_seed(seed).failure):
                self.assertIn("No space left", failure)
                return
        self.fail("not found out")


def _kinds(seed: int) -> tuple[str, ...]:
    return draw_scarcity(random.Random(f"raftkv scarcity {seed}"), states_change=False, members_change=False).kinds


class RotInServiceTests(ScarcityTestCase):
    """A leader that reads its log back for a follower meets a record that has rotted."""

    settings = ClusterSettings(
        election_timeout_seconds=0.6, snapshot_threshold_bytes=1 << 20, segment_bytes=SEGMENT_BYTES, log_cache_bytes=1
    )

    def test_repaired_by_the_others(self) -> None:
        """B41, B42: it asks another to lead, stops, and is repaired by the others when it is started again; the
        follower gets the right entry."""
        leader, (away, other) = self.leader(), self.followers()
        self.cluster.crash(away, power_loss=False)
        for number in range(10):
            self.put(leader, b"k%d" % number, b"value %d " % number * 20)
        disk = self.cluster.nodes[leader].disk
        self.cluster.clock.advance(1)
        file = next(f"log/{name}" for name in disk.names("log") if b"value 4 value 4" in disk.read(f"log/{name}"))
        disk.flip_bit(file, disk.read(file).index(b"value 4 value 4"))
        self.cluster.excuses.spoiled.add(leader)
        self.cluster.start(away)
        self.wait(lambda: self.cluster.excuses.counts["rotten records met in service"] == 1)
        self.wait(lambda: self.cluster.leader() == other)
        self.wait(lambda: self.cluster.excuses.counts["repaired logs"] == 1)
        self.wait(lambda: all(node.raft is not None for node in self.cluster.nodes.values()))
        for name in self.cluster.names:
            for key, value in self.acknowledged.items():
                self.assertEqual(self.read(name, key), value)
