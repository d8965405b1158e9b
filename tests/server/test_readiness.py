"""When a node says that it is ready: once it has what the leader had committed when it was asked."""

from __future__ import annotations

from collections.abc import Callable
from itertools import count
from typing import Any

from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader, RaftKVError
from raftkv.kvstore.commands import put
from raftkv.raft.ready import Role, SoftState
from raftkv.server.progress import Progress
from raftkv.server.readiness import CatchingUp
from raftkv.server.replica import Replica
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.network import NetworkSettings


class LoggingTestCase(SynchronousTestCase):
    """Keeps what is logged."""

    def setUp(self) -> None:
        self.lines: list[LogEvent] = []
        globalLogPublisher.addObserver(self.lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, self.lines.append)


class ProgressTests(LoggingTestCase):
    """What is said while something takes long."""

    def test_a_line_every_second(self) -> None:
        """What is short is done in silence, what is long with a line every second."""
        clock = Clock()
        progress = Progress("did {done} of {total}, {percent} %", seconds=clock.seconds)
        for done in range(1, 25):
            clock.advance(0.125)
            progress(done, 24)
        told = [(line["done"], line["percent"]) for line in self.lines if "done" in line]
        self.assertEqual(told, [(8, 33), (16, 66), (24, 100)])


class StandInNode:
    """Knows nothing but the commit index."""

    node_id = "a"
    commit_index = 0


class CatchingUpTests(LoggingTestCase):
    """A node that asks what the leader has."""

    def setUp(self) -> None:
        super().setUp()
        self.clock = Clock()
        self.node = StandInNode()
        self.applied_index = 0
        self.asked: list[Callable[[RaftKVError | None], None]] = []
        self.catching_up = CatchingUp(
            node=self.node,  # type: ignore[arg-type]
            barrier=lambda consistency, done: self.asked.append(done),
            applied_index=lambda: self.applied_index,
            seconds=self.clock.seconds,
        )

    def lead(self, leader: str | None) -> None:
        self.catching_up.soft_state_changed(SoftState(role=Role.FOLLOWER, term=1, leader=leader))

    def test_asks_each_leader(self) -> None:
        """It asks when a leader becomes known, has caught up once a read could be served, and asks the next one."""
        self.lead(None)
        self.catching_up.tick()
        self.assertEqual(self.asked, [])
        self.lead("b")
        self.catching_up.tick()
        self.assertEqual((len(self.asked), self.catching_up.is_done), (1, False))
        self.asked.pop()(None)
        self.assertTrue(self.catching_up.is_done)
        self.lead("b")
        self.catching_up.tick()
        self.assertEqual(self.asked, [])
        self.lead(None)
        self.assertFalse(self.catching_up.is_done)
        self.lead("c")
        self.assertEqual(len(self.asked), 1)

    def test_asks_again(self) -> None:
        """Where the read fails it asks again with the next tick."""
        self.lead("b")
        self.asked.pop()(NoLeader())
        self.assertEqual((self.asked, self.catching_up.is_done), ([], False))
        self.catching_up.tick()
        self.asked.pop()(None)
        self.assertTrue(self.catching_up.is_done)

    def test_tells(self) -> None:
        """Every second it tells how far it has come, and once that it is there."""
        self.lead("b")
        self.node.commit_index = 1000
        for applied in range(0, 1000, 40):
            self.applied_index = applied
            self.clock.advance(0.1)
            self.catching_up.tick()
        self.asked.pop()(None)
        self.lead("c")
        self.asked.pop()(None)
        formats = [line["log_format"] for line in self.lines if line.get("log_format")]
        self.assertEqual([f.split()[0] for f in formats], ["applied", "applied", "{node_id}"])


class RestartTests(SynchronousTestCase):
    """A cluster of three whose network is slow, and a follower that was away."""

    def test_far_behind(self) -> None:
        """A follower that was away is not ready before it has applied all that the leader had committed when it came
        back, however much of it is its own log, whether it gets the rest in entries or in a snapshot."""
        self.values = count()
        for trailing_entries in (10_000, 0):
            self.cluster = SimulatedCluster(
                settings=ClusterSettings(
                    trailing_entries=trailing_entries,
                    snapshot_threshold_bytes=2000 if not trailing_entries else 1 << 30,
                    snapshot_interval_seconds=0.3,
                    raft_bounds={"max_append_bytes": 200, "max_inflight_messages": 2, "max_inflight_bytes": 400},
                ),
                network_settings=NetworkSettings(min_delay_seconds=0.01, max_delay_seconds=0.02),
                seed=2,
            )
            self.cluster.start_all()
            self.wait(lambda: self.cluster.leader() is not None)
            self.write(3)
            self.wait(lambda: all(self.is_ready(name) for name in self.cluster.names))
            leader = self.cluster.leader()
            away = next(name for name in self.cluster.names if name != leader)
            self.cluster.crash(away, power_loss=False)
            self.write(300)
            assert leader is not None
            target = self.cluster.nodes[leader].raft.commit_index  # type: ignore[union-attr]
            self.cluster.start(away)
            seen = []
            while not self.is_ready(away):
                seen.append(self.replica(away).state_machine.store.applied_index)
                self.cluster.clock.advance(0.001)
                self.assertLess(len(seen), 60_000)
            self.assertGreaterEqual(self.replica(away).state_machine.store.applied_index, target)
            self.assertGreater(len(seen), 100)

    def replica(self, name: str) -> Replica:
        life = self.cluster.nodes[name].life
        if life is None or life.replica is None:
            raise AssertionError(f"{name} is down")
        return life.replica

    def is_ready(self, name: str) -> bool:
        return self.replica(name).is_ready()[0]

    def wait(self, condition: Any) -> None:
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=60))

    def write(self, writes: int) -> None:
        answers: list[Any] = []
        name = self.cluster.leader()
        assert name is not None
        replica = self.replica(name)
        for number in range(writes):
            value = b"%d" % next(self.values)  # none comes twice: the cluster looks for writes that do
            command = put(b"k%d" % (number % 7), value)
            self.cluster.nodes[name].life.clock.run(lambda c=command: replica.write([c], answers.append))  # type: ignore[union-attr, misc]
            if number % 3 == 0:
                self.cluster.clock.advance(0.001)
        self.wait(lambda: len(answers) == writes)
