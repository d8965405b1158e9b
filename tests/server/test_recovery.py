"""A cluster of one, made from what a survivor's disk holds; at whatever step the power goes."""

from __future__ import annotations

import itertools
import random
from collections.abc import Callable

from raftkv.config import NodeConfig
from raftkv.errors import ConfigurationError
from raftkv.kvstore.commands import put
from raftkv.persistence.log import LogSettings
from raftkv.persistence.meta import load_meta
from raftkv.raft.messages import HardState
from raftkv.server.recovery import found_cluster, survey
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.testing.cluster import ClusterSettings
from raftkv.testing.disk import MemoryDisk, PowerLoss
from tests.server.test_replica import ReplicaTestCase
from tests.server.trio import TrioTestCase

SETTINGS = LogSettings(segment_bytes=4096)
PEERS = {f"n{number}": f"n{number}:8082" for number in (1, 2, 3)}


def ids() -> Callable[[], str]:
    """Return what makes ids, the same in each run."""
    numbers = itertools.count(1)
    return lambda: f"{next(numbers):032x}"


def recover(disk: MemoryDisk) -> None:
    """Do what the command does."""
    survivor = survey(disk, node_id="n1", settings=SETTINGS)
    found_cluster(disk, survivor, raft_addr="", make_id=ids(), settings=SETTINGS)


class SurvivorTestCase(TrioTestCase):
    """What is left of three nodes: the disk of one of them, with a snapshot and a log behind it."""

    settings = ClusterSettings(snapshot_interval_seconds=0.2, snapshot_threshold_bytes=1500, trailing_entries=3)

    def setUp(self) -> None:
        super().setUp()
        for number in range(45):
            self.write("n1", put(b"k%d" % number, b"value %d" % number))
            self.run_for(0.03)
        self.run_for(1)
        for name in self.cluster.names:
            self.cluster.crash(name, power_loss=True)
        self.disk = self.cluster.nodes["n1"].disk.copy()


class RecoveryTests(SurvivorTestCase):
    """What is found, and what is made of it."""

    def test_found(self) -> None:
        """The survey tells what the directory holds, and may be repeated."""
        survivor = survey(self.disk, node_id="n1", settings=SETTINGS)
        self.assertEqual(sorted(survivor.configuration.members), ["n1", "n2", "n3"])
        self.assertGreater(survivor.snapshot_index, 0)
        self.assertGreater(survivor.snapshot_revision, 0)
        self.assertGreater(survivor.kept_entries, 0)
        self.assertEqual(survivor.last_index, survivor.snapshot_index + survivor.kept_entries)
        self.assertEqual(survey(self.disk, node_id="n1", settings=SETTINGS), survivor)

    def test_identity_is_retired(self) -> None:
        """Cluster id and incarnation are new; nothing of the old cluster's is left that could be sent to a member."""
        old = load_meta(self.disk)
        recover(self.disk)
        new = load_meta(self.disk)
        assert old is not None
        assert new is not None
        self.assertNotEqual((new.cluster_id, new.incarnation), (old.cluster_id, old.incarnation))
        self.assertEqual((new.former_cluster_id, new.founding, new.node_id), (old.cluster_id, None, "n1"))
        found = SnapshotDirectory(self.disk, cluster_id=new.cluster_id, unreadable=lambda error: self.fail(str(error)))
        self.assertEqual(len(found.list()), len(self.disk.names("snapshots")))
        survivor = survey(self.disk, node_id="n1", settings=SETTINGS)
        (member,) = survivor.configuration.members.values()
        self.assertEqual((member.incarnation, member.raft_addr), (new.incarnation, "n1:8082"))
        self.assertEqual(survivor.configuration.voters, frozenset(("n1",)))

    def test_twice(self) -> None:
        """What was recovered can be recovered again."""
        recover(self.disk)
        recover(self.disk)
        survivor = survey(self.disk, node_id="n1", settings=SETTINGS)
        self.assertEqual(survivor.configuration.voters, frozenset(("n1",)))

    def test_refused(self) -> None:
        """Another node's directory, and what is none, are refused and left as they were."""
        self.assertRaises(ConfigurationError, survey, self.disk, node_id="n2", settings=SETTINGS)
        self.assertRaises(ConfigurationError, survey, MemoryDisk(), node_id="n1", settings=SETTINGS)

    def test_power_fails_at_any_step(self) -> None:
        """Wherever the power goes, the directory is the old cluster's with all that it held, or the new one's once
        somebody opens it; never one of the old cluster that is sure to be alone."""
        old = load_meta(self.disk)
        before = survey(self.disk, node_id="n1", settings=SETTINGS)
        outcomes = set()
        for steps in itertools.count():
            disk = self.disk.copy()
            disk.lose_power_after(steps)
            try:
                recover(disk)
            except PowerLoss:
                disk.crash(random.Random(steps))
            else:
                break
            meta = load_meta(disk)
            assert meta is not None
            after = survey(disk, node_id="n1", settings=SETTINGS)
            is_old = meta == old
            outcomes.add(is_old)
            if is_old:
                self.assertEqual(after, before, f"after {steps} steps")
            else:
                self.assertEqual(after.configuration.voters, frozenset(("n1",)), f"after {steps} steps")
                self.assertEqual((after.last_index, after.term), (before.last_index + 1, before.term + 1))
                self.assertEqual(after.snapshot_index, before.snapshot_index)
                self.assertIsNone(after.meta.founding)
        self.assertEqual(outcomes, {True, False})
        self.assertGreater(steps, 15)


class ServingTests(ReplicaTestCase):
    """The node that starts on what was recovered, with the configuration file it always had."""

    config = NodeConfig(
        node_id="n1", data_dir="memory", disk_reserve_bytes=0, raft_advertised_addr="n1:8082", peers=PEERS
    )

    def setUp(self) -> None:
        source = SurvivorTestCase("settle")
        source.setUp()
        self.source = source.disk
        super().setUp()

    def start(self) -> None:
        """Begin the life on the recovered directory."""
        self.disk = self.source
        recover(self.disk)
        super().start()

    def test_serves_everything(self) -> None:
        """It leads alone, has every write, takes new ones, and keeps them."""
        self.run_for(3)
        for number in range(45):
            self.assertEqual(self.read(b"k%d" % number)[0], b"value %d" % number)
        answers = self.write(put(b"new", b"1"))
        self.run_for(0.1)
        self.assertEqual([results[0][0] for results in answers], [0])
        self.assertEqual(self.replica.status()["role"], "leader")
        self.assertEqual([member["id"] for member in self.replica.local_cluster()["members"]], ["n1"])
        self.successResultOf(self.stop())
        super().start()
        self.run_for(3)
        self.assertEqual(self.read(b"new")[0], b"1")
        self.assertEqual(self.fatal, [])


class InterruptedTests(ReplicaTestCase):
    """A node that starts on a directory whose recovery was cut short."""

    config = ServingTests.config

    def setUp(self) -> None:
        source = SurvivorTestCase("settle")
        source.setUp()
        self.disk_of_survivor = source.disk
        super().setUp()

    def start(self) -> None:
        """Cut a recovery short right behind its first step that counts, and start."""
        self.disk = self.disk_of_survivor
        for steps in itertools.count():
            disk = self.disk_of_survivor.copy()
            disk.lose_power_after(steps)
            try:
                recover(disk)
            except PowerLoss:
                disk.crash(random.Random(0))
            meta = load_meta(disk)
            assert meta is not None
            if meta.founding is not None:
                self.disk = disk
                break
        super().start()

    def test_start_finishes_it(self) -> None:
        """The start does what was left to be done, and the node serves everything."""
        self.run_for(3)
        self.assertEqual(self.read(b"k44")[0], b"value 44")
        self.assertEqual(self.replica.driver.node.configuration.voters, frozenset(("n1",)))
        self.assertNotEqual(self.replica.driver.node.current_term, HardState().term)
        self.assertEqual(self.fatal, [])
