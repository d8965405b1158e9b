"""The leader's disk fills up: another leads at once, and leadership does not come back to a disk that is still full."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import RaftKVError
from raftkv.kvstore.commands import put
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.network import NetworkSettings

ELECTION_SECONDS = 1.0


class FullDiskTests(SynchronousTestCase):
    """A cluster of three with a good network, under load."""

    def begin(self, seed: int, *, segment_bytes: int = 8192) -> str:
        """Start a cluster; return who leads it."""
        self.cluster = SimulatedCluster(
            settings=ClusterSettings(
                election_timeout_seconds=ELECTION_SECONDS,
                snapshot_threshold_bytes=1 << 20,
                segment_bytes=segment_bytes,
            ),
            network_settings=NetworkSettings(),
            seed=seed,
        )
        self.answered = self.written = 0
        self.cluster.start_all()
        self.until(lambda: self.cluster.leader() is not None, "there is a leader")
        self.write_again()
        self.cluster.clock.advance(random.Random(seed).uniform(1, 2))
        leader = self.cluster.leader()
        assert leader is not None
        return leader

    def until(self, condition: Callable[[], bool], what: str, limit_seconds: float = 20.0) -> float:
        """Let time pass until something is so; return how long it took."""
        began = self.cluster.clock.seconds()
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=limit_seconds), what)
        return self.cluster.clock.seconds() - began

    def write_again(self) -> None:
        life = next(
            (
                node.life
                for name, node in sorted(self.cluster.nodes.items())
                if node.is_up and name == self.cluster.leader()
            ),
            None,
        )
        if life is not None and life.replica is not None:
            replica = life.replica
            self.written += 1
            value = b"%d" % (10**200 + self.written)
            life.clock.run(lambda: replica.write([put(b"k", value)], self.note))
        self.cluster.clock.callLater(0.02, self.write_again)

    def note(self, outcome: Any) -> None:
        self.answered += not isinstance(outcome, RaftKVError)

    def test_stops_and_hands_over(self) -> None:
        """A leader that must stop because nothing more fits on its disk has a successor long before an election
        timeout, and writes go on there (B50)."""
        for seed in range(6):
            full = self.begin(seed)
            node = self.cluster.nodes[full]
            # Between two looks at the room that is left.
            self.cluster.clock.advance(0.001)
            node.disk.capacity_bytes = node.disk.used_bytes()
            self.until(lambda node=node: node.disk.counts["writes without room"] > 0, "the disk is full")
            took = self.until(lambda full=full: self.cluster.leader() not in (None, full), "another leads")
            self.assertLess(took, ELECTION_SECONDS / 2, f"seed {seed}")
            answered = self.answered
            self.until(lambda answered=answered: self.answered > answered + 10, "writes go on")

    def test_does_not_come_back(self) -> None:
        """A node that is started again and again on a disk that is still full never leads; once there is room it
        catches up."""
        for seed in range(3):
            full = self.begin(seed)
            node = self.cluster.nodes[full]
            node.disk.capacity_bytes = node.disk.used_bytes()
            self.until(lambda full=full: self.cluster.leader() not in (None, full), "another leads")
            leader = self.cluster.leader()
            assert leader is not None
            for _ in range(300):
                self.cluster.clock.advance(0.05)
                self.assertNotEqual(self.cluster.leader(), full, f"seed {seed}")
            self.assertEqual(self.cluster.leader(), leader)
            self.assertGreater(node.lives, 1)
            node.disk.mend()
            raft = self.cluster.nodes[leader].raft
            assert raft is not None
            self.until(
                lambda node=node, raft=raft: node.raft is not None and node.raft.commit_index >= raft.commit_index - 20,
                "it catches up",
            )

    def test_hands_over_before(self) -> None:
        """A leader that sees its disk fill up hands over while it can still write, and raises an alarm."""
        full = self.begin(1, segment_bytes=100_000)
        node = self.cluster.nodes[full]
        node.disk.capacity_bytes = node.disk.used_bytes() + 99_000
        self.until(lambda: self.cluster.leader() not in (None, full), "another leads", 2 * ELECTION_SECONDS)
        self.assertEqual((node.lives, node.disk.counts["writes without room"]), (1, 0))
        assert node.life is not None
        assert node.life.replica is not None
        self.assertEqual(node.life.replica.status()["alarms"], ["disk_nearly_full"])
