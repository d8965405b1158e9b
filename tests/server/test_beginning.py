"""With what a node begins: the file that says how it came to its cluster, and what the configuration says of it."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from raftkv.config import NodeConfig, cluster_id_of_peers
from raftkv.errors import ConfigurationError, NoLeader, RaftKVError
from raftkv.interfaces import IKeyValue, INode, Joined
from raftkv.kvstore.commands import put
from raftkv.persistence.directory import open_directory
from raftkv.persistence.membership import RemovedNote, store_joined, store_removed
from raftkv.persistence.meta import load_meta
from raftkv.raft.configuration import Configuration, Member
from raftkv.server.recovery import survey
from raftkv.server.waiting import Waiting
from tests.server.test_recovery import PEERS, SETTINGS, SurvivorTestCase, recover
from tests.server.test_replica import ReplicaTestCase

OTHER_PEERS = {**PEERS, "n4": "n4:8082"}


def founders() -> Configuration:
    """Return what the founders of a cluster agreed on; n3 was not there."""
    members = {
        name: Member(id=name, incarnation="" if name == "n3" else name * 16, raft_addr=PEERS[name]) for name in PEERS
    }
    return Configuration(members=members, voters=frozenset(PEERS))


class FounderTestCase(ReplicaTestCase):
    """A node that founds a cluster of three, and is started for the first time behind that."""

    config = NodeConfig(
        node_id="n1", data_dir="memory", disk_reserve_bytes=0, raft_advertised_addr="n1:8082", peers=PEERS
    )
    joined = Joined(incarnation="n1" * 16, cluster_id=cluster_id_of_peers(PEERS), configuration=founders())

    def start(self) -> None:
        """Begin with the file."""
        if load_meta(self.disk) is None:
            store_joined(self.disk, self.joined)
        super().start()


class FounderTests(FounderTestCase):
    """What a founder makes of it."""

    def test_incarnations_of_those_it_met(self) -> None:
        """B24: it is the one that it was when it asked, and knows who the others are that it met."""
        meta = load_meta(self.disk)
        assert meta is not None
        self.assertEqual((meta.incarnation, meta.cluster_id), ("n1" * 16, self.joined.cluster_id))
        node = self.replica.driver.node
        self.assertEqual((node.configuration, node.configuration_index), (founders(), 0))

    def test_votes_as_a_founder(self) -> None:
        """It campaigns, and answers founders that have not met it: nobody else can have been here before."""
        self.run_for(3)
        self.assertEqual(self.replica.status()["role"], "candidate")

    def test_other_peers_before_the_log_says_who(self) -> None:
        """Other ``raft.peers`` are refused as long as neither log nor snapshot says who the members are."""
        self.crash()
        self.config = replace(self.config, peers=OTHER_PEERS)
        error = self.assertRaises(ConfigurationError, super().start)
        self.assertIn("set raft.peers back", str(error))


class OtherPeersTests(ReplicaTestCase):
    """A used directory under a configuration file that was edited since."""

    config = replace(FounderTestCase.config, peers=OTHER_PEERS)

    def setUp(self) -> None:
        source = SurvivorTestCase("settle")
        source.setUp()
        self.source = source.disk
        super().setUp()

    def start(self) -> None:
        """Start on what a node of three has left."""
        self.disk = self.source
        super().start()

    def test_ignored(self) -> None:
        """B26: once the log says who the members are, ``raft.peers`` says nothing any more."""
        self.assertEqual(sorted(self.replica.driver.node.configuration.members), ["n1", "n2", "n3"])


class RecoveredTests(FounderTestCase):
    """A cluster of one, made of what is left of a node that has the file ``joined``."""

    def start(self) -> None:
        """Make it, of the directory of a founder, or of one that came later."""
        store_joined(self.disk, self.joined)
        identity = (self.joined.cluster_id, self.joined.incarnation)
        open_directory(self.disk, node_id="n1", cluster_id=None, make_identity=lambda: identity, settings=SETTINGS)
        recover(self.disk)
        super().start()

    def test_founder(self) -> None:
        """It leads alone under its new identity, whatever the file says of the old one."""
        self.run_for(3)
        self.assertEqual([member["id"] for member in self.replica.local_cluster()["members"]], ["n1"])
        answers = self.write(put(b"k", b"v"))
        self.run_for(0.1)
        self.assertEqual([results[0][0] for results in answers], [0])
        self.assertFalse(self.replica.status()["role"] == "removed")
        self.assertEqual(self.fatal, [])


class RecoveredLearnerTests(RecoveredTests):
    """The same of a node that had been taken in by a running cluster."""

    joined = replace(FounderTestCase.joined, configuration_index=7)


class SurveyTests(SurvivorTestCase):
    """What a cluster of one must not be made of."""

    def test_removed(self) -> None:
        """B7: the directory of a node that was removed from its cluster is no survivor's."""
        meta = load_meta(self.disk)
        assert meta is not None
        store_removed(self.disk, RemovedNote(node_id="n1", cluster_id=meta.cluster_id, configuration_index=9))
        error = self.assertRaises(ConfigurationError, survey, self.disk, node_id="n1", settings=SETTINGS)
        self.assertIn("was removed from cluster", str(error))

    def test_after_another_recovery(self) -> None:
        """A directory that belongs to another cluster since may be used again."""
        store_removed(self.disk, RemovedNote(node_id="n1", cluster_id="another", configuration_index=9))
        survivor = survey(self.disk, node_id="n1", settings=SETTINGS)
        self.assertEqual(sorted(survivor.configuration.members), ["n1", "n2", "n3"])


class WaitingTests(SynchronousTestCase):
    """What a node shows that does not know yet how to begin."""

    def test_says_why(self) -> None:
        """It refuses everything with the reason, and with the certainty that nothing happened."""
        waiting = Waiting(node_id="n1", reason=lambda: "waiting for n2", seconds=lambda: 5.0)
        verifyObject(IKeyValue, waiting)
        verifyObject(INode, waiting)
        self.assertEqual(waiting.is_ready(), (False, "waiting for n2"))
        errors: list[RaftKVError | None] = []
        waiting.write([put(b"k", b"v")], errors.append)  # type: ignore[arg-type]
        for consistency in ("linearizable", "lease", "stale"):
            waiting.barrier(consistency, errors.append)  # type: ignore[arg-type]
        errors.append(self.failureResultOf(waiting.change_members({}), NoLeader).value)
        errors.append(self.failureResultOf(waiting.transfer_leadership({}), NoLeader).value)
        errors += [self.failureResultOf(call({}), NoLeader).value for call in waiting.calls().values()]
        for error in errors:
            self.assertEqual(str(error), "the node has not begun yet: waiting for n2")
            assert error is not None
            self.assertEqual((error.code, error.outcome), ("no_leader", "not_applied"))
        self.assertEqual(waiting.status()["role"], "joining")
        self.assertEqual(self.successResultOf(waiting.cluster())["members"], [])


class SameStatusTests(ReplicaTestCase):
    """The two kinds of status."""

    def test_same_fields(self) -> None:
        """A node that waits shows the fields of one that runs, and an empty state."""
        waiting = Waiting(node_id="n1", reason=str, seconds=float).status()
        running = self.replica.status()
        self.assertEqual(Waiting(node_id="n1", reason=str, seconds=float).calls().keys(), self.replica.calls().keys())
        self.assertEqual((waiting.keys(), waiting["digest"]), (running.keys(), running["digest"]))
        self.assertEqual(waiting["role"], "joining")
        repairing = Waiting(node_id="n1", role="repairing", reason=str, seconds=float).status()
        self.assertEqual(repairing["role"], "repairing")
