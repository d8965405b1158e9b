"""A simulated cluster in a test's own hands: what befalls it is told line by line, not drawn."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import RaftKVError
from raftkv.kvstore.commands import put
from raftkv.server.replica import Replica
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.network import NetworkSettings


class ClusterTestCase(SynchronousTestCase):
    """Three nodes that snapshot often and keep little log."""

    def setUp(self) -> None:
        self.cluster = SimulatedCluster(
            settings=ClusterSettings(
                snapshot_interval_seconds=0.2, snapshot_threshold_bytes=200, max_snapshots=1, trailing_entries=0
            ),
            network_settings=NetworkSettings(notice_seconds=0.1),
            seed=1,
        )
        self.written = 0
        self.cluster.start_all()
        self.wait(lambda: self.cluster.leader() is not None)

    def wait(self, condition: Any) -> None:
        """Let time go by until something is true."""
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=20))

    def replica(self, name: str) -> Replica:
        """Return a running node."""
        life = self.cluster.nodes[name].life
        if life is None or life.replica is None:
            raise AssertionError(f"{name} is down")
        return life.replica

    def leader(self) -> str:
        """Return who leads."""
        name = self.cluster.leader()
        if name is None:
            raise AssertionError("nobody leads")
        return name

    def followers(self) -> list[str]:
        """Return who does not lead."""
        return [name for name in self.cluster.names if name != self.leader()]

    def write(self, name: str, count: int = 1) -> list[Any]:
        """Write through a node, one after the other, and return the outcomes."""
        outcomes: list[Any] = []
        for _ in range(count):
            self.written += 1
            expected = len(outcomes) + 1
            command = put(b"key", b"%d" % self.written)
            clock = self.replica(name)._clock
            clock.run(lambda command=command: self.replica(name).write([command], outcomes.append))  # type: ignore[attr-defined]
            self.wait(lambda expected=expected: len(outcomes) == expected)
        return outcomes


class ClusterTests(ClusterTestCase):
    """The cluster does what clusters do."""

    def test_write_through_every_node(self) -> None:
        """Every node takes writes, and all states are equal afterwards."""
        for name in self.cluster.names:
            (outcome,) = self.write(name)
            self.assertNotIsInstance(outcome, RaftKVError)
        replicas = [self.replica(name) for name in self.cluster.names]
        self.wait(lambda: len({replica.state_machine.store.applied_index for replica in replicas}) == 1)
        self.assertEqual(1, len({replica.status()["digest"] for replica in replicas}))

    def test_leader_loses_power(self) -> None:
        """With the leader gone another one is elected, and what was acknowledged is still there."""
        old = self.leader()
        self.write(old, 3)
        self.cluster.crash(old, power_loss=True)
        self.wait(lambda: self.cluster.leader() not in (None, old))
        (outcome,) = self.write(self.leader())
        self.assertEqual((0, 4), outcome[0])

    def test_paused_leader(self) -> None:
        """A paused leader is replaced, and follows when it goes on."""
        old = self.leader()
        self.cluster.pause(old)
        self.wait(lambda: self.leader() != old)
        self.cluster.resume(old)
        self.wait(lambda: self.replica(old).leadership().leader == self.leader() != old)

    def test_paused_leader_answers_no_read_from_its_past(self) -> None:
        """A leader that others have replaced during its pause answers no read with what it knew (B30), neither one that
        was asked before nor one that comes the moment it goes on."""
        old = self.leader()
        self.write(old)
        replica, key_value = self.replica(old), self.cluster.network.processes[old].key_value
        if key_value is None:
            raise AssertionError("nobody to ask")
        answers: list[Any] = []

        def read() -> None:
            replica.barrier("linearizable", lambda error: answers.append(error or key_value.get(b"key")))

        clock = replica._clock
        self.cluster.pause(old)
        self.wait(lambda: self.leader() != old)
        self.write(self.leader())
        clock.run(read)  # type: ignore[attr-defined]  # the clock of a simulated node; held until the pause is over
        self.cluster.resume(old)
        clock.run(read)  # type: ignore[attr-defined]
        self.wait(lambda: len(answers) == 2)
        for answer in answers:
            self.assertTrue(isinstance(answer, RaftKVError) or answer[0] == b"2", answer)

    def test_isolated_follower(self) -> None:
        """A node that was cut off does not disturb the leader when it comes back (B6)."""
        leader, (lonely, _) = self.leader(), self.followers()
        term = self.replica(leader).leadership().term
        self.cluster.network.partition([lonely], [name for name in self.cluster.names if name != lonely])
        self.cluster.clock.advance(10)
        self.cluster.network.heal()
        self.cluster.clock.advance(5)
        self.assertEqual((leader, term), (self.leader(), self.replica(lonely).leadership().term))

    def test_all_lose_power_at_once(self) -> None:
        """After all machines lost their power at once, everything acknowledged is there (B52)."""
        self.write(self.leader(), 5)
        for name in self.cluster.names:
            self.cluster.crash(name, power_loss=True)
        self.cluster.start_all()
        self.wait(lambda: self.cluster.leader() is not None)
        (outcome,) = self.write(self.leader())
        self.assertEqual((0, 6), outcome[0])


class SnapshotTests(ClusterTestCase):
    """Followers whose log is gone."""

    def leave_behind(self) -> str:
        """Bring a follower up again of which the leader has compacted what it lacks."""
        name = self.followers()[0]
        last_index = self.replica(name).status()["last_index"]
        self.cluster.crash(name, power_loss=False)
        self.write(self.leader(), 20)
        self.wait(lambda: self.replica(self.leader()).status()["first_index"] > last_index + 1)
        self.cluster.start(name)
        return name

    def test_snapshot_is_sent(self) -> None:
        """A follower too far behind gets a snapshot, in several chunks, and has the leader's state."""
        name = self.leave_behind()
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: self.replica(name).state_machine.store.applied_index == store.applied_index)
        self.assertEqual(1, self.cluster.network.counts["snapshots"])

    def test_transfer_is_cut(self) -> None:
        """A transfer that breaks in the middle is made again."""
        name = self.leave_behind()
        process = self.cluster.network.processes[name]
        self.wait(lambda: process.incoming is not None)
        self.cluster.network.break_connections(name, self.leader())
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: self.replica(name).state_machine.store.applied_index == store.applied_index)
        self.assertEqual(1, self.cluster.network.counts["cut snapshots"])

    def test_stopped_while_restoring(self) -> None:
        """A node that is stopped while it restores a snapshot stops in order."""
        name = self.leave_behind()
        self.wait(lambda: self.replica(name).state_machine.is_restoring)
        self.cluster.stop(name)
        self.wait(lambda: not self.cluster.nodes[name].is_running)
        self.assertIsNone(self.cluster.failure)

    def test_stopped_while_receiving(self) -> None:
        """A node that is stopped while a snapshot arrives stops in order, and gets it in its next life."""
        name = self.leave_behind()
        process = self.cluster.network.processes[name]
        self.wait(lambda: process.incoming is not None)
        self.cluster.stop(name)
        self.wait(lambda: not self.cluster.nodes[name].is_running)
        self.cluster.start(name)
        store = self.replica(self.leader()).state_machine.store
        self.wait(lambda: self.replica(name).state_machine.store.applied_index == store.applied_index)
        self.assertIsNone(self.cluster.failure)
