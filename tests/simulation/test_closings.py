"""Leaders that end, or only seem to: their connections are closed, their followers elect another one at once."""

from __future__ import annotations

import dataclasses
import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.election import Election
from raftkv.raft.leases import Promise
from raftkv.raft.ready import Role
from raftkv.testing import simulation
from raftkv.testing.churn import ChurnSettings
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.faults import FaultSettings
from raftkv.testing.network import NetworkSettings
from raftkv.testing.simulation import run_seed
from raftkv.testing.workload import WorkloadSettings


class DeadLeaderTests(SynchronousTestCase):
    """How long a cluster is without a leader."""

    def leader_after(self, *, power_loss: bool, seconds: float) -> list[bool]:
        """Tell of several clusters whether they have another leader so long after the first one has ended."""
        found: list[bool] = []
        for seed in range(10):
            cluster = SimulatedCluster(settings=ClusterSettings(), network_settings=NetworkSettings(), seed=seed)
            cluster.start_all()
            cluster.clock.advance(5)
            leader = cluster.leader()
            assert leader is not None
            cluster.crash(leader, power_loss=power_loss)
            cluster.clock.advance(seconds)
            found.append(
                any(node.raft is not None and node.raft.role is Role.LEADER for node in cluster.nodes.values())
            )
        return found

    def test_killed(self) -> None:
        """Long before an election timeout has passed since the leader was killed there is another one."""
        self.assertGreaterEqual(sum(self.leader_after(power_loss=False, seconds=0.2)), 9)

    def test_power_loss(self) -> None:
        """A leader whose machine is gone closes nothing: its followers wait for their election timeout."""
        self.assertEqual(sum(self.leader_after(power_loss=True, seconds=0.3)), 0)

    def test_reset_by_somebody_else(self) -> None:
        """While the connections between the leader and one follower are reset again and again, everybody else's stand:
        there is no other leader and no other term."""
        cluster = SimulatedCluster(settings=ClusterSettings(), network_settings=NetworkSettings(), seed=1)
        cluster.start_all()
        cluster.clock.advance(5)
        leader = cluster.leader()
        assert leader is not None
        term = cluster.nodes[leader].raft.current_term  # type: ignore[union-attr]
        follower = next(name for name in cluster.names if name != leader)
        for _ in range(200):
            cluster.network.break_connections(leader, follower)
            cluster.clock.advance(0.05)
        self.assertEqual({node.raft.current_term for node in cluster.nodes.values() if node.raft}, {term})
        self.assertEqual(cluster.leader(), leader)


class LeaseTests(SynchronousTestCase):
    """Leaders that seem to be dead and count on a lease."""

    def setUp(self) -> None:
        faults = FaultSettings(pause_seconds=0.5, mean_seconds=0.5, weights={"reset_leader": 1.0})
        self.patch(simulation, "draw_faults", lambda chance: faults)
        self.patch(simulation, "draw_churn", lambda chance: (0, ChurnSettings(pause_seconds=1.0, weights={})))

        def draw_leases(chance: random.Random, settings: ClusterSettings) -> ClusterSettings:
            return dataclasses.replace(settings, lease_reads=True)

        def draw_reads(chance: random.Random, settings: WorkloadSettings) -> WorkloadSettings:
            return dataclasses.replace(settings, lease_share=1.0, stale_share=0.0)

        self.patch(simulation, "draw_leases", draw_leases)
        self.patch(simulation, "draw_reads", draw_reads)

    def test_promises_hold(self) -> None:
        """However often a live leader's connections are reset, reads by its lease miss no write (6.4.1)."""
        for seed in range(4):
            outcome = run_seed(seed)
            self.assertEqual(outcome.failure, "", seed)
            self.assertGreater(outcome.network["closed"], 10)

    def test_promises_forgotten(self) -> None:
        """Followers that take reset connections for the end of what they have promised are found out (6.4.1)."""
        hurry = Election.hurry

        def forget(election: Election) -> None:
            election._promise = Promise()
            hurry(election)

        self.patch(Election, "hurry", forget)
        for seed in range(10):
            failure = run_seed(seed).failure
            if failure:
                self.assertIn("linearizability", failure)
                self.flushLoggedErrors()
                return
        self.fail("nobody has noticed")
