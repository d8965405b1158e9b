"""Snapshots of several nodes: one after the other, and the leader's last."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore.commands import put
from raftkv.raft.configuration import Configuration, Member
from raftkv.server.rota import Rota
from raftkv.server.snapshotter import Snapshotter
from raftkv.testing.cluster import ClusterSettings
from tests.server.trio import NAMES, TrioTestCase

INTERVAL_SECONDS = 3.0


class _Node:
    """Who we are, and who leads."""

    def __init__(self, node_id: str, leader: str | None) -> None:
        self.node_id = node_id
        self.leader = leader
        self.configuration = Configuration(members={name: Member(id=name) for name in NAMES}, voters=frozenset(NAMES))


class RotaTests(SynchronousTestCase):
    """One node's turns."""

    def rota(self, node_id: str, leader: str | None = "n1") -> Rota:
        """Make the turns of a node; those of n2 begin with an interval, those of the leader n1 end it."""
        self.clock = Clock()
        self.node: Any = _Node(node_id, leader)
        return Rota(node=self.node, seconds=self.clock.seconds, interval_seconds=INTERVAL_SECONDS)

    def test_follower(self) -> None:
        """A follower takes one that is due in its turn, and at no other time."""
        rota = self.rota("n3")
        self.assertEqual([rota.may_take(ms, is_due=True) for ms in (500, 1500, 2500, 4500)], [False, True, False, True])
        self.assertEqual(rota.may_take(7500, is_due=False), False)

    def test_leader(self) -> None:
        """The leader takes one that was due at its last turn already, so that all others have had theirs."""
        rota = self.rota("n1")
        taken = [rota.may_take(ms, is_due=due) for ms, due in ((2500, True), (4000, True), (5500, True), (8500, True))]
        self.assertEqual(taken, [False, False, True, True])
        taken = [rota.may_take(ms, is_due=due) for ms, due in ((11_500, False), (14_500, True), (17_500, True))]
        self.assertEqual(taken, [False, False, True])

    def test_time_stands_still(self) -> None:
        """Where nothing is written any more, the turns go on by the node's own clock."""
        rota = self.rota("n3")
        self.assertFalse(rota.may_take(500, is_due=True))
        wait = rota.seconds_until_turn(500)
        self.assertAlmostEqual(wait, 0.5)
        self.clock.advance(wait + 0.001)
        self.assertTrue(rota.may_take(500, is_due=True))
        self.assertAlmostEqual(rota.seconds_until_turn(500), INTERVAL_SECONDS - 0.001)

    def test_alone(self) -> None:
        """A node alone takes one whenever it is due, and looks once in an interval."""
        rota = self.rota("n9")
        self.assertTrue(rota.may_take(0, is_due=True))
        self.assertFalse(rota.may_take(0, is_due=False))
        self.assertEqual(rota.seconds_until_turn(1234), INTERVAL_SECONDS)


class StaggeredTests(TrioTestCase):
    """Three nodes under load, whose disks take their time for a snapshot."""

    settings = ClusterSettings(
        snapshot_interval_seconds=INTERVAL_SECONDS, snapshot_threshold_bytes=2000, disk_delay_seconds=0.08
    )

    def setUp(self) -> None:
        super().setUp()
        self.writes = 0
        self.taken: list[tuple[float, float, str]] = []
        take = Snapshotter.take
        clock = self.cluster.clock

        def noted(snapshotter: Snapshotter, **more: Any) -> Deferred[Any]:
            began, name = clock.seconds(), snapshotter._node.node_id
            return take(snapshotter, **more).addCallback(self._note, began, name)

        self.patch(Snapshotter, "take", noted)

    def _note(self, result: Any, began: float, name: str) -> Any:
        self.taken.append((began, self.cluster.clock.seconds(), name))
        return result

    def write_for(self, seconds: float) -> None:
        """Write all the time, so that a snapshot is due in each interval."""
        end = self.cluster.clock.seconds() + seconds
        while self.cluster.clock.seconds() < end:
            leader = self.settle()
            self.writes += 1
            self.write(leader, put(b"k", b"%d " % self.writes + b"v" * 100))
            self.run_for(0.05)

    def test_one_at_a_time(self) -> None:
        """No two nodes take theirs at once, each takes its own again and again, and the leader begins last."""
        self.write_for(10 * INTERVAL_SECONDS)
        leader = self.settle()
        self.assertEqual({name for _, _, name in self.taken}, set(NAMES))
        self.assertGreater(len(self.taken), 18)
        first = next(place for place, (_, _, name) in enumerate(self.taken) if name == leader)
        self.assertEqual({name for _, _, name in self.taken[:first]}, set(NAMES) - {leader})
        for (_, ended, one), (began, _, other) in zip(self.taken, self.taken[1:], strict=False):
            self.assertLess(ended, began, f"{one} and {other} at once: {self.taken}")
        order = [name for _, _, name in self.taken[-6:]]
        self.assertEqual(order[:3], order[3:])

    def test_after_a_change_of_leader(self) -> None:
        """The turns change with the leader, and after that nobody meets anybody again."""
        self.write_for(3 * INTERVAL_SECONDS)
        leader = self.settle()
        self.cluster.transfer_leadership(next(name for name in NAMES if name != leader))
        self.run_for(1)
        self.assertNotEqual(self.settle(), leader)
        self.write_for(INTERVAL_SECONDS)
        self.taken.clear()
        self.write_for(5 * INTERVAL_SECONDS)
        self.assertEqual({name for _, _, name in self.taken}, set(NAMES))
        for (_, ended, _), (began, _, _) in zip(self.taken, self.taken[1:], strict=False):
            self.assertLess(ended, began)
