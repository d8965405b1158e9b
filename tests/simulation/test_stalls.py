"""The leader's disk stalls: others take over, writes go on there, and leadership stays where it went."""

from __future__ import annotations

import random
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import RaftKVError
from raftkv.kvstore.commands import put
from raftkv.raft.ready import Role
from raftkv.server.replica import Replica
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.drawing import draw_cluster
from raftkv.testing.faults import draw_network

SEEDS_EACH = 6
TAKEOVER_SECONDS = 15.0  # a transfer, and where that is lost in the network an election or two
WRITE_EVERY_SECONDS = 0.05


class Stall:
    """One story: a cluster under load whose leader's disk stops, for a while, and works again.

    :ivar answered: how many writes each node has answered.
    """

    def __init__(self, seed: int) -> None:
        chance = random.Random(f"stall {seed}")
        self.cluster = SimulatedCluster(
            settings=draw_cluster(chance), network_settings=draw_network(chance), seed=chance.getrandbits(64)
        )
        self.answered: dict[str, int] = dict.fromkeys(self.cluster.names, 0)
        self._chance = chance
        self._written = 0

    def tell(self) -> None:
        """Tell the story; an :exc:`AssertionError` says what did not happen in time."""
        cluster = self.cluster
        cluster.start_all()
        self._demand(lambda: cluster.leader() is not None, "there is a leader")
        for name in cluster.names:
            self._write_again(name)
        cluster.clock.advance(self._chance.uniform(0.5, 2.0))
        stalled = cluster.leader()
        assert stalled is not None
        others = [name for name in cluster.names if name != stalled]
        cluster.nodes[stalled].stall_disk()
        self._demand(lambda: cluster.leader() not in (None, stalled), "another leads")
        self._expect_progress(others)
        raft = cluster.nodes[stalled].raft
        assert raft is not None
        self._demand(lambda: raft.disk_stalled, "the alarm is raised")
        terms = cluster.leader(), raft.current_term
        for _ in range(100):
            cluster.clock.advance(0.05)
            assert raft.role is Role.FOLLOWER, f"{stalled} is {raft.role} while its disk stalls"
        self._expect_progress(others)
        cluster.nodes[stalled].disk_recovers()
        self._demand(lambda: not raft.disk_stalled, "the alarm is withdrawn")
        self._expect_progress(cluster.names)
        cluster.clock.advance(3.0)
        if not cluster.network.settings.loss:
            assert (cluster.leader(), raft.current_term) == terms, "leadership moved once more"

    def _expect_progress(self, names: list[str]) -> None:
        before = dict(self.answered)
        self._demand(lambda: all(self.answered[name] > before[name] + 2 for name in names), f"writes go on at {names}")

    def _demand(self, condition: Callable[[], bool], what: str) -> None:
        assert self.cluster.clock.run_while(lambda: not condition(), limit_seconds=TAKEOVER_SECONDS), what

    def _write_again(self, name: str) -> None:
        life = self.cluster.nodes[name].life
        assert life is not None
        assert life.replica is not None
        replica: Replica = life.replica

        def done(outcome: Any) -> None:
            self.answered[name] += not isinstance(outcome, RaftKVError)

        self._written += 1
        value = b"%d" % self._written
        life.clock.run(lambda: replica.write([put(b"k", value)], done))
        self.cluster.clock.callLater(WRITE_EVERY_SECONDS, self._write_again, name)


class StalledDiskTests(SynchronousTestCase):
    """Every shape of cluster and every network that the simulator knows, but for faults."""

    def tell(self, part: int) -> None:
        """Tell one part of the stories."""
        for seed in range(part * SEEDS_EACH, (part + 1) * SEEDS_EACH):
            try:
                Stall(seed).tell()
            except AssertionError as error:
                self.fail(f"stall {seed}: {error}")

    def test_stalls_0(self) -> None:
        """A leader whose disk stalls gives way, once, and writes go on at the others; stories 0 to 5."""
        self.tell(0)

    def test_stalls_1(self) -> None:
        """A leader whose disk stalls gives way, once, and writes go on at the others; stories 6 to 11."""
        self.tell(1)
