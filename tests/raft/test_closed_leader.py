"""A leader whose process has ended is missed at once: who may campaign early and who may vote, and what is kept."""

from __future__ import annotations

from raftkv.raft.messages import RequestVote, RequestVoteResponse
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role
from raftkv.raft.room import Room
from tests.raft.cluster import Cluster, configuration
from tests.raft.test_leases import LeaseTestCase, of_kind


class ClosedLeaderTestCase(LeaseTestCase):
    """A cluster led by ``a``, whose followers see what a test lets them see."""

    def closed(self, cluster: Cluster, *names: str, peer: str = "a") -> None:
        """Let followers see a peer close its connections."""
        for name in names:
            cluster.do(name, lambda node: node.report_closed(peer))

    def early(self, cluster: Cluster, name: str) -> None:
        """Let the moment come in which a follower may campaign."""
        cluster.do(name, RaftNode.campaign_early)

    def terms(self, cluster: Cluster) -> list[int]:
        """Return the term of each server that runs."""
        return [cluster[name].current_term for name in cluster.running]


class EarlyCampaignTests(ClosedLeaderTestCase):
    """Without leases."""

    def cluster_of(self, *names: str, **changes: object) -> Cluster:
        """Start a cluster that knows no leases."""
        return super().cluster_of(*names, **{"promise_seconds": 0.0, "lease_reads": False, **changes})

    def test_successor_at_once(self) -> None:
        """Followers that have seen their leader end elect another one without any tick."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.crash("a")
        self.closed(cluster, "b", "c")
        self.early(cluster, "b")
        cluster.settle()
        self.assertIs(cluster["b"].role, Role.LEADER)
        self.assertEqual(cluster["c"].leader, "b")

    def test_leader_is_forgotten(self) -> None:
        """Who has seen its leader end knows no leader: what waits for one does not ask the dead."""
        cluster = self.cluster_of("a", "b", "c")
        read = cluster.read("b")
        self.closed(cluster, "b")
        self.assertIsNone(cluster["b"].leader)
        self.assertEqual(cluster.servers["b"].reads, {read: None})

    def test_others_hear_the_leader(self) -> None:
        """Somebody between one follower and the leader has reset their connections: the others, whose own stand, do not
        even look at its question, and no term grows however often that happens (B6)."""
        cluster = self.cluster_of("a", "b", "c")
        before = self.terms(cluster)
        for _ in range(10):
            self.closed(cluster, "b")
            self.early(cluster, "b")
            cluster.settle()
            cluster.tick("a")
            cluster.settle()
        self.assertEqual(self.terms(cluster), before)
        self.assertEqual([cluster[name].leader for name in "abc"], ["a"] * 3)

    def test_never_reached_again(self) -> None:
        """A follower whose connections to a live leader stay reset asks in vain, and its term does not grow (B6)."""
        cluster = self.cluster_of("a", "b", "c")
        before = self.terms(cluster)
        cluster.cut |= {("a", "b"), ("b", "a")}
        self.closed(cluster, "b")
        self.early(cluster, "b")
        for _ in range(60):
            cluster.tick()
            cluster.settle()
        self.assertEqual(self.terms(cluster), before)
        self.assertIs(cluster["a"].role, Role.LEADER)

    def test_leader_heard_again(self) -> None:
        """Who hears its leader again has no reason to campaign any more, and votes for nobody."""
        cluster = self.cluster_of("a", "b", "c")
        self.closed(cluster, "b")
        cluster.tick("a")
        cluster.settle()
        self.early(cluster, "b")
        self.assertEqual((cluster["b"].role, cluster["b"].leader), (Role.FOLLOWER, "a"))
        self.assertFalse(self.granted(cluster, "b", 9, pre_vote=True))

    def test_only_the_leader_matters(self) -> None:
        """That another follower, or the successor of a leader, lives is not doubted by whoever ends."""
        cluster = self.cluster_of("a", "b", "c")
        self.closed(cluster, "b", peer="c")
        self.closed(cluster, "a", peer="b")
        self.early(cluster, "b")
        self.early(cluster, "a")
        self.assertEqual((cluster["a"].role, cluster["b"].leader), (Role.LEADER, "a"))
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        cluster.settle()
        self.closed(cluster, "b", "c", peer="a")
        self.early(cluster, "c")
        self.assertEqual((cluster["b"].role, cluster["c"].leader), (Role.LEADER, "b"))

    def test_gives_way(self) -> None:
        """Who has been asked by somebody who may win does not compete, and tries soon if nothing comes of that."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.crash("a")
        self.closed(cluster, "b", "c")
        self.early(cluster, "b")
        for message in of_kind(cluster.network, RequestVote):
            if message.to == "c":
                cluster.deliver(message)
        cluster.network.clear()
        self.early(cluster, "c")
        self.assertIs(cluster["c"].role, Role.FOLLOWER)
        cluster.crash("b")
        cluster.tick("c", count=7)
        self.assertIs(cluster["c"].role, Role.PRE_CANDIDATE)

    def test_split_vote(self) -> None:
        """Where two asked at the same moment, the votes are split, and they try again sooner than usual."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.crash("a")
        self.closed(cluster, "b", "c")
        self.early(cluster, "b")
        self.early(cluster, "c")
        cluster.settle()
        self.assertEqual([cluster[name].role for name in "bc"], [Role.CANDIDATE] * 2)
        for _ in range(14):
            cluster.tick()
            cluster.settle()
        self.assertEqual(sorted(cluster[name].role.value for name in "bc"), ["follower", "leader"])

    def test_no_endless_hurry(self) -> None:
        """Who cannot win, since nobody answers, soon asks no oftener than anybody else."""
        cluster = self.cluster_of("a", "b", "c", "d", "e")
        cluster.isolate("b")
        self.closed(cluster, "b")
        self.early(cluster, "b")
        cluster.tick("b", count=40)
        cluster.network.clear()
        cluster.tick("b", count=200)
        asked = len(of_kind(cluster.network, RequestVote)) // 4
        self.assertTrue(10 <= asked <= 20, asked)

    def test_shorter_log(self) -> None:
        """That the leader is gone does not let a shorter log win; whoever has the longer one tries soon."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.isolate("b")
        cluster.propose("a", b"x")
        cluster.settle()
        cluster.heal()
        cluster.crash("a")
        self.closed(cluster, "b", "c")
        self.early(cluster, "b")
        cluster.settle()
        self.assertIsNot(cluster["b"].role, Role.LEADER)
        self.early(cluster, "c")
        cluster.settle()
        self.assertIs(cluster["c"].role, Role.LEADER)

    def test_full_disk_comes_last(self) -> None:
        """A server whose disk is nearly full does not try to be the first."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.crash("a")
        cluster.do("b", lambda node: node.note_room(Room.SCARCE))
        self.closed(cluster, "b", "c")
        self.early(cluster, "b")
        self.assertIs(cluster["b"].role, Role.FOLLOWER)

    def test_learner(self) -> None:
        """A learner that sees the leader end campaigns no more than it ever does (B8)."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.add("d", None)
        cluster.do("a", lambda node: node.propose_configuration(configuration("a", "b", "c", learners=["d"])))
        cluster.settle()
        cluster.crash("a")
        self.closed(cluster, "d")
        self.early(cluster, "d")
        cluster.tick("d", count=50)
        self.assertIs(cluster["d"].role, Role.FOLLOWER)
        self.assertEqual(of_kind(cluster.network, RequestVote), [])


class PromiseTests(ClosedLeaderTestCase):
    """With leases: a leader that looks dead may be alive, and count on what it was promised (thesis 6.4.1)."""

    def bound(self) -> Cluster:
        """Return a cluster whose followers have just answered a heartbeat that counts on a lease, for a second."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 200.0)
        self.assertIsNotNone(cluster["a"].lease_index(200.9))
        self.closed(cluster, "b", "c")
        return cluster

    def test_no_early_campaign(self) -> None:
        """Who has promised a lease does not campaign, and does not vote, before that promise has ended (B31)."""
        cluster = self.bound()
        self.time(cluster, 200.99)
        self.early(cluster, "b")
        cluster.tick("b", count=30)
        self.assertEqual(of_kind(cluster.network, RequestVote), [])
        self.assertFalse(self.granted(cluster, "b", 9, pre_vote=True))
        self.assertFalse(self.granted(cluster, "b", 9))
        self.assertEqual(cluster["b"].current_term, 1)

    def test_right_after_the_promise(self) -> None:
        """The moment that the promise has ended, the next tick asks for votes."""
        cluster = self.bound()
        self.early(cluster, "b")
        cluster.tick("b", count=9)
        cluster.crash("a")
        self.time(cluster, 201.01)
        cluster.tick("b")
        cluster.settle()
        self.assertIs(cluster["b"].role, Role.LEADER)

    def test_voter_bound_for_longer(self) -> None:
        """Whoever asks while another one's promise still stands is not answered, and asks again soon."""
        cluster = self.bound()
        cluster.tick("b", count=9)
        cluster.crash("a")
        self.time(cluster, 201.01, "b")
        cluster.tick("b")
        cluster.settle()
        self.assertEqual(of_kind(cluster.network, RequestVoteResponse), [])
        self.assertIs(cluster["b"].role, Role.PRE_CANDIDATE)
        self.time(cluster, 201.01)
        cluster.tick("b", count=7)
        cluster.settle()
        self.assertIs(cluster["b"].role, Role.LEADER)

    def test_one_without_promise(self) -> None:
        """Whoever has promised nothing may ask at once, and gets no vote of those who have."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.isolate("c")
        self.time(cluster, 101.5)
        self.beat(cluster, "a", 200.0)
        cluster.heal()
        self.closed(cluster, "b", "c")
        self.early(cluster, "c")
        cluster.settle()
        self.assertEqual((cluster["b"].current_term, cluster["c"].current_term), (1, 1))
        self.assertIsNotNone(cluster["a"].lease_index(200.9))
