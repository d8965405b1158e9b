"""Members of a whole simulated cluster come and go, one step after the other, and nothing else happens."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import ConfigurationError, Conflict, NotFound, RaftKVError, Removed, RequestTimeout
from raftkv.interfaces import Joined
from raftkv.kvstore.commands import put
from raftkv.membership import join_request, joined_from
from raftkv.persistence.membership import REMOVED_FILE, refuse_removed, store_joined
from raftkv.raft.messages import Message
from raftkv.server.replica import Replica
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.network import NetworkSettings, Process


class MembershipTestCase(SynchronousTestCase):
    """Three nodes, and three machines that stand by."""

    nodes = 3

    def setUp(self) -> None:
        self.cluster = SimulatedCluster(
            settings=ClusterSettings(nodes=self.nodes, spares=3, snapshot_threshold_bytes=2**20),
            network_settings=NetworkSettings(notice_seconds=0.1),
            seed=1,
        )
        self.cluster.start_all()
        self.wait(lambda: self.cluster.leader() is not None)
        self.run_for(2)

    def run_for(self, seconds: float) -> None:
        """Let time go by."""
        self.cluster.clock.run_until(self.cluster.clock.seconds() + seconds)

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
        self.wait(lambda: self.cluster.leader() is not None)
        return str(self.cluster.leader())

    def follower(self) -> str:
        """Return a voter that does not lead."""
        return next(
            name
            for name in sorted(self.replica(self.leader()).driver.node.configuration.voters)
            if name != self.leader()
        )

    def begin(self, name: str, document: dict[str, Any], method: str = "change_members") -> list[Any]:
        """Ask a node for a change; the list gets the answer, or the error."""
        answers: list[Any] = []
        life = self.cluster.nodes[name].life
        assert life is not None

        def ask() -> None:
            asked: Deferred[dict[str, Any]] = getattr(self.replica(name), method)(document)
            asked.addErrback(lambda failure: failure.trap(RaftKVError) and failure.value)
            asked.addCallback(answers.append)

        life.clock.run(ask)
        return answers

    def change(self, name: str, document: dict[str, Any], method: str = "change_members") -> Any:
        """Ask a node for a change, and return the answer or the error."""
        answers = self.begin(name, document, method)
        self.wait(lambda: answers)
        return answers[0]

    def join(self, name: str, via: str, incarnation: str = "ab" * 16) -> None:
        """Let a machine join."""
        answers: list[Any] = []
        request = join_request(self.cluster.config(name), incarnation)
        life = self.cluster.nodes[via].life
        assert life is not None
        life.clock.run(lambda: self.replica(via).calls()["join"](request).addCallback(answers.append))  # type: ignore[attr-defined]
        self.wait(lambda: answers)
        store_joined(self.cluster.nodes[name].disk, joined_from(answers[0], incarnation))
        self.cluster.start(name)

    def roles(self) -> str:
        """Return the members as the leader sees them: voters, ``+`` learners, ``^`` behind those being promoted."""
        configuration = self.replica(self.leader()).driver.node.configuration
        learners = (name + "^" * (name in configuration.promoting) for name in sorted(configuration.learners))
        return " ".join([*sorted(configuration.voters), *(f"+{name}" for name in learners)])


class ChangeTests(MembershipTestCase):
    """Members are added, promoted, demoted and removed."""

    def test_voter_joins(self) -> None:
        """A node that joins is a learner at first, is promoted by itself, and can lead."""
        self.join("n4", via=self.follower())
        self.assertEqual(self.roles(), "n1 n2 n3 +n4^")
        members = {each["id"]: each for each in self.replica(self.leader()).local_cluster()["members"]}
        self.assertEqual((members["n4"]["role"], members["n4"]["promoting"]), ("learner", True))
        self.assertEqual((members["n1"]["role"], members["n1"]["promoting"]), ("voter", False))
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")
        self.assertEqual(self.change(self.follower(), {"to": "n4"}, "transfer_leadership")["leader"], "n4")
        self.assertEqual(self.leader(), "n4")

    def test_learner_stays_one(self) -> None:
        """B25: a member that was added as a learner stays one, also once its node joins, until it is promoted."""
        added = self.change(self.leader(), {"id": "n4", "raft_addr": "n4:8082", "role": "learner"})
        self.assertEqual([member["id"] for member in added["members"]], ["n1", "n2", "n3", "n4"])
        self.join("n4", via=self.leader())
        self.run_for(5)
        self.assertEqual((self.roles(), self.replica("n4").status()["role"]), ("n1 n2 n3 +n4", "learner"))
        self.change(self.leader(), {"promote": ["n4"]})
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")
        self.change(self.leader(), {"demote": ["n4"]})
        self.run_for(5)
        self.assertEqual((self.roles(), self.replica("n4").status()["role"]), ("n1 n2 n3 +n4", "learner"))

    def test_demoted_leader(self) -> None:
        """A leader that is made a learner answers with the cluster as its successor sees it."""
        leader = self.leader()
        answer = self.change(leader, {"demote": [leader]})
        self.assertNotIn(answer["leader"], (leader, None))
        healthy = {member["id"]: (member["role"], member["healthy"]) for member in answer["members"]}
        self.assertEqual(healthy[leader][0], "learner")
        self.assertTrue(healthy[answer["leader"]][1])

    def test_promotion_survives_the_leader(self) -> None:
        """Who is to be promoted is known to the next leader too."""
        self.change(self.leader(), {"id": "n4", "raft_addr": "n4:8082"})
        self.cluster.crash(self.leader(), power_loss=True)
        self.run_for(5)
        self.assertTrue(self.roles().endswith("+n4^"), self.roles())
        self.join("n4", via=self.leader())
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")

    def test_several_at_once(self) -> None:
        """One change adds, removes and demotes, through one joint configuration."""
        follower, leader = self.follower(), self.leader()
        other = ({"n1", "n2", "n3"} - {follower, leader}).pop()
        document = {"add": [{"id": "n4", "raft_addr": "n4:8082"}], "remove": [follower], "demote": [other]}
        self.assertIn("members", self.change(other, document))
        self.assertEqual(self.roles(), f"{leader} +{' +'.join(sorted((other, 'n4^')))}")

    def test_two_changes_at_once(self) -> None:
        """B27: of two changes at once one is carried out, and the other is told so."""
        leader = self.leader()
        first = self.begin(leader, {"id": "n4", "raft_addr": "n4:8082"})
        second = self.begin(leader, {"id": "n5", "raft_addr": "n5:8082"})
        self.wait(lambda: first and second)
        self.assertIsInstance(second[0], Conflict)
        self.assertIn("members", first[0])
        self.assertEqual(self.roles(), "n1 n2 n3 +n4^")

    def test_changes_wait_for_promotions(self) -> None:
        """A change that meets one that nobody asked for waits for it in place of failing."""
        for name in ("n4", "n5"):
            self.join(name, via=self.leader())
        node = self.replica(self.leader()).driver.node
        self.wait(lambda: node.configuration.is_joint)
        self.assertIn("members", self.change(self.leader(), {"id": "n6", "raft_addr": "n6:8082"}))

    def test_loss_of_the_quorum(self) -> None:
        """A change that leaves too few voters that answer is refused, and made with force."""
        self.cluster.crash(self.follower(), power_loss=False)
        self.run_for(2)
        leader = self.leader()
        alive = next(name for name in ("n1", "n2", "n3") if name != leader and self.cluster.nodes[name].is_running)
        refused = self.change(alive, {"remove": [alive]})
        self.assertIsInstance(refused, Conflict)
        self.assertIn("the quorum would be lost", str(refused))
        self.assertEqual(self.roles(), "n1 n2 n3")
        self.begin(alive, {"remove": [alive], "force": True})
        self.run_for(0.5)
        self.assertNotIn(alive, self.replica(leader).driver.node.configuration.voters)

    def test_refused_by_the_leader(self) -> None:
        """What only the leader can judge is told through any node."""
        self.assertIsInstance(self.change(self.follower(), {"remove": ["n9"]}), NotFound)
        transfer = self.change(self.follower(), {"to": "n9"}, "transfer_leadership")
        self.assertIsInstance(transfer, NotFound)

    def test_transfer_to_nobody_who_answers(self) -> None:
        """B10: a transfer to a member that is gone ends after an election timeout, and the leader goes on."""
        follower, leader = self.follower(), self.leader()
        self.cluster.crash(follower, power_loss=False)
        answer = self.change(leader, {"to": follower}, "transfer_leadership")
        self.assertIsInstance(answer, RequestTimeout)
        self.assertEqual((answer.outcome, self.leader()), ("not_applied", leader))


class RemovalTests(MembershipTestCase):
    """Nodes that are members no more."""

    def assert_removed(self, name: str) -> None:
        """Check that a node knows that it was removed, says so, and will not start again."""
        self.wait(lambda: self.replica(name).status()["role"] == "removed")
        self.wait(lambda: self.cluster.nodes[name].disk.exists(REMOVED_FILE))
        errors: list[Any] = []
        self.replica(name).barrier("stale", errors.append)
        self.replica(name).write([], errors.append)
        calls = self.replica(name).calls()
        for call in ("join", "join_at_leader", "change_members", "transfer_leadership"):
            calls[call]({}).addErrback(lambda failure: errors.append(failure.value))  # type: ignore[attr-defined]
        self.assertEqual([type(error) for error in errors], [Removed] * 6)
        self.assertIn("configuration", calls["membership"]({}))  # type: ignore[arg-type]
        self.assertEqual(self.replica(name).is_ready()[0], False)
        self.cluster.crash(name, power_loss=True)
        self.assertRaises(ConfigurationError, refuse_removed, self.cluster.nodes[name].disk)

    def test_follower(self) -> None:
        """B7: a follower that is removed hears of it and falls silent."""
        follower = self.follower()
        term = self.replica(self.leader()).driver.node.current_term
        self.change(self.leader(), {"remove": [follower]})
        self.assert_removed(follower)
        self.run_for(3)
        self.assertEqual(self.replica(self.leader()).driver.node.current_term, term)

    def test_leader(self) -> None:
        """A leader that removes itself answers, steps down, and another one leads."""
        leader = self.leader()
        self.assertIn("members", self.change(leader, {"remove": [leader]}))
        self.assert_removed(leader)
        self.assertNotEqual(self.leader(), leader)
        self.assertNotIn(leader, self.roles())

    def test_while_away(self) -> None:
        """B7: a node that was removed while it was down asks, when it finds no leader, and disturbs nobody."""
        follower = self.follower()
        self.cluster.crash(follower, power_loss=False)
        self.run_for(2)
        self.change(self.leader(), {"remove": [follower]})
        self.run_for(2)
        term = self.replica(self.leader()).driver.node.current_term
        self.cluster.start(follower)
        self.assert_removed(follower)
        self.assertEqual(self.replica(self.leader()).driver.node.current_term, term)

    def test_back_under_its_name(self) -> None:
        """B23: a machine that was removed comes back empty under its old name, and is a new member."""
        follower = self.follower()
        self.change(self.leader(), {"remove": [follower]})
        self.assert_removed(follower)
        self.cluster.wipe(follower)
        self.join(follower, via=self.leader(), incarnation="cd" * 16)
        self.wait(lambda: self.roles() == "n1 n2 n3")
        self.assertEqual(self.replica(follower).identity.incarnation, "cd" * 16)


class WipedTests(MembershipTestCase):
    """Nodes whose disks were emptied, and that come back under their old names."""

    def come_back(self, name: str, incarnation: str = "cd" * 16) -> None:
        """Empty the disk of a machine, and let its node be taken in again."""
        self.cluster.wipe(name)
        self.wait(lambda: self.cluster.leader() is not None)
        self.join(name, via=self.leader(), incarnation=incarnation)

    def wait_whole(self) -> None:
        """Wait until it is committed that all three are voters."""

        def is_whole() -> bool:
            node = self.replica(self.leader()).driver.node
            configuration, index = node.committed_configuration()
            done = index == node.configuration_index and not configuration.is_joint
            return done and configuration.voters == {"n1", "n2", "n3"}

        self.wait(is_whole)

    def test_follower(self) -> None:
        """B24: a wiped follower stops to be a voter, then is a learner with its new incarnation, then a voter again."""
        follower = self.follower()
        others = " ".join(sorted({"n1", "n2", "n3"} - {follower}))
        self.come_back(follower)
        self.assertEqual(self.roles(), f"{others} +{follower}^")
        self.wait_whole()
        configuration = self.replica(self.leader()).driver.node.configuration
        self.assertEqual(configuration.members[follower].incarnation, "cd" * 16)
        self.assertEqual(self.change(self.leader(), {"to": follower}, "transfer_leadership")["leader"], follower)

    def test_leader(self) -> None:
        """B24: so does a wiped leader, once the others have another one."""
        leader = self.leader()
        self.come_back(leader)
        self.assertNotEqual(self.leader(), leader)
        self.wait_whole()

    def test_again_and_again(self) -> None:
        """A node that is wiped again before it is a voter begins again as a learner, and no step is done twice."""
        follower = self.follower()
        others = " ".join(sorted({"n1", "n2", "n3"} - {follower}))
        for number in (1, 2, 3):
            self.come_back(follower, incarnation=f"{number}" * 32)
            self.assertEqual(self.roles(), f"{others} +{follower}^")
        self.wait_whole()

    def test_all_one_after_the_other(self) -> None:
        """Every disk can be replaced, one after the other, as long as each is a voter again before the next goes."""
        for name in ("n1", "n2", "n3"):
            self.come_back(name, incarnation=name * 16)
            self.wait_whole()

    def test_learner(self) -> None:
        """A wiped learner that nobody wanted to promote is a plain learner again."""
        follower = self.follower()
        self.change(self.leader(), {"demote": [follower]})
        self.come_back(follower)
        self.run_for(5)
        self.assertEqual(self.roles(), " ".join([*sorted({"n1", "n2", "n3"} - {follower}), f"+{follower}"]))
        self.assertEqual(self.replica(follower).status()["role"], "learner")

    def test_old_one_lives(self) -> None:
        """B24: while a node answers, nobody takes its name with another data directory."""
        for name, words in ((self.follower(), "stop that node first"), (self.leader(), "leads the cluster")):
            request = join_request(self.cluster.config(name), "cd" * 16)
            answers = self.call(self.leader(), request)
            self.wait(lambda answers=answers: answers)
            self.assertIsInstance(answers[0], Conflict)
            self.assertIn(words, str(answers[0]))
        self.assertEqual(self.roles(), "n1 n2 n3")

    def call(self, via: str, request: dict[str, Any]) -> list[Any]:
        """Ask to join through a node; the list gets the answer, or the error."""
        answers: list[Any] = []
        life = self.cluster.nodes[via].life
        assert life is not None

        def ask() -> None:
            asked: Deferred[Any] = self.replica(via).calls()["join"](request)  # type: ignore[assignment]
            asked.addErrback(lambda failure: failure.trap(RaftKVError) and failure.value).addCallback(answers.append)

        life.clock.run(ask)
        return answers

    def test_old_disk_comes_back(self) -> None:
        """B24: the disk that a node had before it was wiped is that of a removed node from then on."""
        follower = self.follower()
        old_disk = self.cluster.nodes[follower].disk.copy()
        self.come_back(follower)
        self.wait_whole()
        self.cluster.crash(follower, power_loss=False)
        self.cluster.nodes[follower].disk = old_disk
        self.cluster.checkers.wiped(follower)
        self.cluster.nodes[follower].is_founder = True
        self.run_for(2)
        send_group = self.cluster.network._send_group

        def hang_up(process: Process, to: str, group: list[Message]) -> None:
            if to != follower:  # as members do with one that has another incarnation than the member of its name
                send_group(process, to, group)

        self.patch(self.cluster.network, "_send_group", hang_up)
        self.cluster.start(follower)
        self.wait(lambda: self.replica(follower).status()["role"] == "removed")
        self.assertEqual(self.roles(), "n1 n2 n3")

    def test_writes_go_on(self) -> None:
        """Two of three commit, whatever stage the third is in."""
        follower = self.follower()
        self.cluster.wipe(follower)
        self.write(b"while it is away")
        self.join(follower, via=self.leader(), incarnation="cd" * 16)
        self.write(b"while it is a learner")
        self.wait_whole()
        self.write(b"when it is a voter")

    def write(self, value: bytes) -> None:
        """Write through the leader, and wait for the answer."""
        results: list[Any] = []
        life = self.cluster.nodes[self.leader()].life
        assert life is not None
        life.clock.run(lambda: self.replica(self.leader()).write([put(b"k", value)], results.append))
        self.wait(lambda: results)
        self.assertNotIsInstance(results[0], RaftKVError)


class TwoNodesTests(MembershipTestCase):
    """A cluster of two."""

    nodes = 2

    def test_leader_leaves(self) -> None:
        """B22: where the leader of two is removed, the other one goes on alone."""
        leader, other = self.leader(), self.follower()
        self.assertIn("members", self.change(other, {"remove": [leader]}))
        self.wait(lambda: self.cluster.leader() == other)
        self.assertEqual(self.roles(), other)


class JoinTests(MembershipTestCase):
    """What a machine brings with it, and what it begins with."""

    def test_restart_in_the_middle(self) -> None:
        """A node that was taken in and died before it had anything of the log starts again as the same member."""
        self.join("n4", via=self.leader())
        self.cluster.crash("n4", power_loss=True)
        self.cluster.start("n4")
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")

    def test_asks_twice(self) -> None:
        """A node whose answer was lost asks again and is the same member."""
        first = self.replica(self.leader())
        answers: list[Any] = []
        request = join_request(self.cluster.config("n4"), "ab" * 16)
        life = self.cluster.nodes[self.leader()].life
        assert life is not None
        for _ in range(2):
            life.clock.run(lambda: first.calls()["join"](request).addCallback(answers.append))  # type: ignore[attr-defined]
        self.wait(lambda: len(answers) == 2)
        self.assertEqual(answers[0]["configuration"], answers[1]["configuration"])

    def test_added_by_name_with_its_data(self) -> None:
        """A node that was removed and added again by name alone while it was down says who it is and is promoted."""
        self.join("n4", via=self.leader())
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")
        self.cluster.crash("n4", power_loss=False)
        self.run_for(2)
        self.change(self.leader(), {"remove": ["n4"]})
        self.change(self.leader(), {"id": "n4", "raft_addr": "n4:8082"})
        self.assertEqual(self.roles(), "n1 n2 n3 +n4^")
        self.cluster.start("n4")
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")

    def test_learns_by_snapshot(self) -> None:
        """A node that joins late begins with a snapshot."""
        self.tearDown()
        self.cluster = SimulatedCluster(
            settings=ClusterSettings(
                spares=1, snapshot_threshold_bytes=1, snapshot_interval_seconds=0.2, trailing_entries=0, max_snapshots=1
            ),
            network_settings=NetworkSettings(),
            seed=2,
        )
        self.cluster.start_all()
        self.run_for(5)
        self.join("n4", via=self.leader())
        self.wait(lambda: self.roles() == "n1 n2 n3 n4")
        self.assertGreater(self.cluster.network.counts["snapshots"], 0)

    def test_directory_without_an_answer(self) -> None:
        """A directory whose node was never taken in is not started."""
        store_joined(self.cluster.nodes["n4"].disk, Joined(incarnation="ab" * 16))
        self.cluster.start("n4")
        self.assertFalse(self.cluster.nodes["n4"].is_running)
