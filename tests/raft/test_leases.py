"""Leader leases (thesis 6.4.1): what a leader may count on, and what its followers promise it."""

from __future__ import annotations

import math
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.leases import Promise, lease_end
from raftkv.raft.messages import (
    Heartbeat,
    HeartbeatResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    TimeoutNow,
)
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role
from raftkv.raft.settings import RaftSettings
from tests.raft.cluster import Cluster, configuration

LEASES: dict[str, Any] = {
    "lease_reads": True,
    "promise_seconds": 1.0,
    "vote_grace_ticks": 10,
    "clock_drift_bound": 0.0,
}


def of_kind(messages: list[Message], kind: type[Message]) -> list[Any]:
    """Return the messages of one class."""
    return [message for message in messages if isinstance(message, kind)]


class LeaseTestCase(SynchronousTestCase):
    """A cluster whose clocks a test sets."""

    def cluster_of(self, *names: str, **changes: Any) -> Cluster:
        """Start a cluster whose clocks read 100, with its first member as the leader."""
        cluster = Cluster(*names, **{**LEASES, **changes})
        cluster.settle()
        self.time(cluster, 100.0)
        cluster.elect(names[0])
        return cluster

    def time(self, cluster: Cluster, now: float, *names: str) -> None:
        """Tell some servers, or all of them, what their clocks read."""
        for name in names or cluster.running:
            cluster[name].time_is(now)

    def beat(self, cluster: Cluster, leader: str, now: float) -> None:
        """Let the leader send heartbeats at a time, and everybody answer at the same."""
        self.time(cluster, now)
        cluster.tick(leader)
        cluster.settle()

    def vote(self, to: str, term: int, **more: bool) -> RequestVote:
        """Make a request of ``c`` for a vote that nothing but a promise stands against."""
        return RequestVote(term=term, sender="c", to=to, last_log_index=99, last_log_term=99, **more)

    def granted(self, cluster: Cluster, to: str, term: int, **more: bool) -> bool:
        """Tell whether a request was answered with a vote."""
        cluster.network.clear()
        cluster.do(to, lambda node: node.step(self.vote(to, term, **more)))
        cluster.finish_writes(to)
        answers = of_kind(cluster.network, RequestVoteResponse)
        cluster.network.clear()
        return bool(answers) and answers[0].vote_granted


class LeaderTests(LeaseTestCase):
    """What a leader may count on."""

    def test_lease_from_the_moment_of_sending(self) -> None:
        """“The leader would […] assume leases from the start of the round of heartbeats” (thesis 6.4.1, B31): not from
        when the answers came, however late that was."""
        cluster = self.cluster_of("a", "b", "c")
        self.time(cluster, 110.0)
        cluster.tick("a")
        self.time(cluster, 110.9)
        cluster.settle()
        self.assertEqual(cluster["a"].lease_index(110.99), cluster["a"].commit_index)
        self.assertIsNone(cluster["a"].lease_index(111.0))

    def test_a_read_needs_no_round(self) -> None:
        """With a lease a read that trusts it has its index at once; one that does not still asks a majority (B28)."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.do("a", lambda node: node.read_index(71, lease=True))
        self.assertEqual(cluster.servers["a"].reads, {71: cluster["a"].commit_index})
        self.assertEqual(cluster.network, [])
        cluster.do("a", lambda node: node.read_index(72))
        self.assertNotIn(72, cluster.servers["a"].reads)
        self.assertEqual(len(of_kind(cluster.network, Heartbeat)), 2)

    def test_without_a_lease_a_round(self) -> None:
        """A read that trusts a lease which is over is confirmed by a round like any other (B30)."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        self.time(cluster, 112.0)
        cluster.do("a", lambda node: node.read_index(71, lease=True))
        self.assertEqual(cluster.servers["a"].reads, {})
        cluster.settle()
        self.assertEqual(cluster.servers["a"].reads, {71: cluster["a"].commit_index})

    def test_paused_leader(self) -> None:
        """B30: a leader that was stopped for longer than its lease does not believe in it when it wakes, though it has
        not counted a tick since."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.isolate("a")
        self.assertIsNotNone(cluster["a"].lease_index(110.5))
        self.assertIsNone(cluster["a"].lease_index(114.0))
        self.assertIs(cluster["a"].role, Role.LEADER)

    def test_clock_steps_back(self) -> None:
        """B31: a clock that goes back is taken as standing still, so that it brings no lease back."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        self.assertIsNone(cluster["a"].lease_index(112.0))
        self.assertIsNone(cluster["a"].lease_index(110.1))

    def test_no_clock(self) -> None:
        """B31: a core that nobody tells the time has no lease, asks for none and promises none."""
        cluster = Cluster("a", "b", "c", **LEASES)
        cluster.elect("a")
        cluster.tick("a")
        self.assertFalse(any(beat.lease for beat in of_kind(cluster.network, Heartbeat)))
        cluster.do("b", lambda node: node.step(Heartbeat(term=1, sender="a", to="b", commit_index=0, lease=True)))
        self.assertEqual(of_kind(cluster.network, HeartbeatResponse)[-1].promised_seconds, 0.0)

    def test_not_before_the_first_commit(self) -> None:
        """B29: a leader that has not committed in its term does not know what is committed, lease or not."""
        cluster = self.cluster_of("a", "b", "c")
        self.time(cluster, 110.0)
        for name in ("b", "c"):
            cluster.tick(name, count=20)
        cluster.network.clear()
        cluster.do("b", RaftNode.campaign)
        while cluster["b"].role is not Role.LEADER:
            cluster.finish_writes("b")
            cluster.finish_writes("c")
            cluster.network = [m for m in cluster.network if "a" not in (m.sender, m.to)]
            cluster.deliver(cluster.network.pop(0))
        cluster.network.clear()
        cluster.tick("b")
        for beat in of_kind(cluster.network, Heartbeat):
            cluster.deliver(beat)
        for answer in of_kind(cluster.network, HeartbeatResponse):
            cluster.deliver(answer)
        self.assertGreater(cluster["b"]._leadership.replication.promised_until(), 110.0)  # type: ignore[union-attr]
        self.assertIsNone(cluster["b"].lease_index(110.1))

    def test_majority(self) -> None:
        """Only promises of a majority make a lease, the leader's own among them."""
        cluster = self.cluster_of("a", "b", "c", "d", "e")
        cluster.isolate("a", "b")
        self.beat(cluster, "a", 110.0)
        self.assertIsNone(cluster["a"].lease_index(110.1))
        cluster.heal()
        cluster.isolate("d", "e")
        self.beat(cluster, "a", 120.0)
        self.assertIsNotNone(cluster["a"].lease_index(120.1))

    def test_both_majorities(self) -> None:
        """In a joint configuration a lease needs promises of both majorities (section 6)."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        for name in ("d", "e"):
            cluster.add(name, None)
        cluster.isolate("d", "e")
        self.assertIsNotNone(cluster["a"].lease_index(110.1))
        cluster.do("a", lambda node: node.propose_configuration(configuration("a", "d", "e")))
        self.assertIsNone(cluster["a"].lease_index(110.1))
        self.beat(cluster, "a", 110.2)
        self.assertTrue(cluster["a"].configuration.is_joint)
        self.assertIsNone(cluster["a"].lease_index(110.3))
        cluster.heal()
        self.beat(cluster, "a", 110.4)  # the first that d and e hear: they promise nothing before they know the term
        self.beat(cluster, "a", 110.5)
        self.assertEqual(cluster["a"].configuration.voters, {"a", "d", "e"})
        self.assertIsNotNone(cluster["a"].lease_index(110.6))

    def test_alone(self) -> None:
        """The only voter always leads."""
        cluster = self.cluster_of("a")
        self.assertEqual(cluster["a"].lease_index(1e9), cluster["a"].commit_index)

    def test_not_a_voter(self) -> None:
        """A leader that its own configuration leaves out counts on no lease: who comes after it may wait for nobody."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.do("a", lambda node: node.propose_configuration(configuration("b", "c")))
        seen = False
        while cluster["a"].role is Role.LEADER:
            if not cluster["a"].configuration.is_voter("a"):
                seen = True
                self.assertIsNone(cluster["a"].lease_index(110.1))
            if cluster.network:
                cluster.deliver(cluster.network.pop(0))
            else:
                cluster.finish_write(next(name for name in cluster.running if cluster.servers[name].writes))
        self.assertTrue(seen)

    def test_drift(self) -> None:
        """A lease is shorter than the promise by the drift of both clocks: the leader's may be slow, the other fast."""
        answer = HeartbeatResponse(term=1, sender="b", to="a", sent_at=100.0, promised_seconds=1.0)
        for bound in (0.0, 0.05, 0.2):
            lease_true_seconds = (lease_end(answer, drift_bound=bound) - 100.0) / (1 - bound)
            promise_true_seconds = 1.0 / (1 + bound)
            self.assertAlmostEqual(lease_true_seconds, promise_true_seconds)

    def test_answer_from_the_future(self) -> None:
        """An answer that echoes a time which has not come yet is not counted."""
        cluster = self.cluster_of("a", "b", "c")
        for peer in ("b", "c"):
            answer = HeartbeatResponse(term=1, sender=peer, to="a", sent_at=1e6, promised_seconds=1.0)
            cluster.do("a", lambda node, answer=answer: node.step(answer))
        self.assertIsNone(cluster["a"].lease_index(5e5))

    def test_of_a_follower(self) -> None:
        """A follower's reads that trust a lease are answered by the leader's, without a round; with others, not."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.do("b", lambda node: node.read_index(71, lease=True))
        (asked,) = of_kind(cluster.network, ReadIndexRequest)
        self.assertTrue(asked.lease)
        cluster.deliver(cluster.network.pop(0))
        self.assertEqual([type(message) for message in cluster.network], [ReadIndexResponse])
        cluster.settle()
        self.assertEqual(cluster.servers["b"].reads, {71: cluster["a"].commit_index})

        def both(node: RaftNode) -> None:
            node.read_index(72, lease=True)
            node.read_index(73)

        cluster.do("b", both)
        (asked,) = of_kind(cluster.network, ReadIndexRequest)
        self.assertFalse(asked.lease)
        cluster.settle()
        cluster.do("b", lambda node: node.read_index(74, lease=True))
        (asked,) = of_kind(cluster.network, ReadIndexRequest)
        self.assertTrue(asked.lease)

    def test_switched_off(self) -> None:
        """Without the setting no heartbeat asks for a promise, and there is no lease."""
        cluster = self.cluster_of("a", "b", "c", lease_reads=False)
        self.time(cluster, 110.0)
        cluster.tick("a")
        self.assertFalse(any(beat.lease for beat in of_kind(cluster.network, Heartbeat)))
        cluster.settle()
        self.assertIsNone(cluster["a"].lease_index(110.1))


class TransferTests(LeaseTestCase):
    """Leadership transfer, which breaks promises (thesis 3.10 and 6.4.1; B10)."""

    def test_given_up_when_a_transfer_begins(self) -> None:
        """B10: from the moment when a transfer begins no read is answered by the lease."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.isolate("b")
        cluster.propose("a", b"which b has not")
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        self.assertEqual(of_kind(cluster.network, TimeoutNow), [])
        self.assertIsNone(cluster["a"].lease_index(110.1))

    def test_back_after_a_transfer_that_asked_nobody(self) -> None:
        """B10: a transfer given up before anybody was asked to campaign leaves the lease as it was."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.isolate("b")
        cluster.propose("a", b"which b has not")
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        for number in range(10):
            self.beat(cluster, "a", 110.0 + number / 10)
        self.assertIsNone(cluster["a"].transferring_to)
        self.beat(cluster, "a", 112.0)
        self.assertIsNotNone(cluster["a"].lease_index(112.1))

    def test_never_again_once_another_was_asked(self) -> None:
        """B10: once TimeoutNow was sent the leader counts on no lease any more in its term, for that message may be
        late; it asks for no promises either."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        (late,) = of_kind(cluster.network, TimeoutNow)
        cluster.network.clear()
        for number in range(15):
            self.beat(cluster, "a", 111.0 + number / 10)
        self.assertIsNone(cluster["a"].transferring_to)
        self.assertIsNone(cluster["a"].lease_index(112.5))
        cluster.do("b", lambda node: node.step(late))
        self.assertIs(cluster["b"].role, Role.CANDIDATE)

    def test_successor_is_elected_at_once(self) -> None:
        """A successor that the leader chose waits for no promise: not its own, and not those of its voters."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        cluster.settle()
        self.assertEqual((cluster["b"].role, cluster["b"].current_term), (Role.LEADER, 2))

    def test_successor_just_restarted(self) -> None:
        """A successor that has restarted a moment ago is elected at once too, and by voters that have: nobody counts
        any more on what they may have promised before."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        for name in ("b", "c"):
            cluster.restart(name)
            self.time(cluster, 110.1, name)
        cluster.tick("a")
        cluster.settle()
        cluster.do("b", RaftNode.campaign)
        self.assertIs(cluster["b"].role, Role.FOLLOWER)
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        cluster.network = [message for message in cluster.network if isinstance(message, TimeoutNow)]
        cluster.crash("a")
        cluster.settle()
        self.assertEqual((cluster["b"].role, cluster["b"].current_term), (Role.LEADER, 2))

    def test_successor_of_another_term(self) -> None:
        """Only the leader that was promised may release from the promise, so only its successor is voted for."""
        promise = Promise()
        promise.give(term=4, until=9.0)
        self.assertEqual([promise.yields_to_successor(term) for term in (4, 5, 6)], [False, True, False])
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        self.assertFalse(self.granted(cluster, "b", 7, leadership_transfer=True))
        self.assertTrue(self.granted(cluster, "b", 2, leadership_transfer=True))


class FollowerTests(LeaseTestCase):
    """What followers promise."""

    def test_no_vote_while_bound(self) -> None:
        """“If a server […] responded to a heartbeat, it would not vote for another within an election timeout” (thesis
        6.4.1): by the clock, to the end, and then again."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.tick("b", count=10)  # more ticks than time has passed: late ones come in a bunch
        self.time(cluster, 110.99)
        self.assertFalse(self.granted(cluster, "b", 9))
        self.assertFalse(self.granted(cluster, "b", 9, pre_vote=True))
        self.time(cluster, 111.0)
        self.assertTrue(self.granted(cluster, "b", 9))

    def test_promise_outlives_the_leader_and_its_term(self) -> None:
        """A follower that has seen a later term knows no leader any more, and keeps its promise all the same: leader
        stickiness alone would let it vote, behind the back of a leader that counts on it."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        refusal = RequestVoteResponse(term=5, sender="c", to="b", vote_granted=False)
        cluster.do("b", lambda node: node.step(refusal))
        self.assertEqual((cluster["b"].current_term, cluster["b"].leader), (5, None))
        self.assertFalse(self.granted(cluster, "b", 5))
        self.assertFalse(self.granted(cluster, "b", 6))
        self.assertIsNotNone(cluster["a"].lease_index(110.5))

    def test_does_not_campaign(self) -> None:
        """A follower that is bound does not campaign either, and does so with the next tick when it is free."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.tick("b", count=30)
        self.assertIs(cluster["b"].role, Role.FOLLOWER)
        self.time(cluster, 111.0)
        cluster.tick("b")
        self.assertIs(cluster["b"].role, Role.PRE_CANDIDATE)

    def test_another_leaders_word_does_not_free(self) -> None:
        """Whoever is bound by the promise to one leader does not campaign at the word of the next, who may know nothing
        of that promise (thesis 3.10)."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.do("b", lambda node: node.step(Heartbeat(term=5, sender="c", to="b", commit_index=0)))
        cluster.finish_writes("b")
        order = TimeoutNow(term=5, sender="c", to="b")
        cluster.do("b", lambda node: node.step(order))
        self.assertIs(cluster["b"].role, Role.FOLLOWER)
        self.time(cluster, 111.5)
        cluster.do("b", lambda node: node.step(order))
        self.assertIs(cluster["b"].role, Role.CANDIDATE)

    def test_no_promise_without_a_term_on_disk(self) -> None:
        """A follower whose term is not on its disk promises nothing: restarted, it would not know to wait."""
        cluster = Cluster("a", "b", "c", **LEASES)
        self.time(cluster, 100.0)
        beat = Heartbeat(term=3, sender="a", to="b", commit_index=0, lease=True, sent_at=99.0)
        cluster.do("b", lambda node: node.step(beat))
        self.assertEqual(of_kind(cluster.network, HeartbeatResponse)[-1].promised_seconds, 0.0)
        cluster.do("b", lambda node: node.step(beat))  # while the term is on its way to the disk
        self.assertEqual(of_kind(cluster.network, HeartbeatResponse)[-1].promised_seconds, 0.0)
        cluster.finish_writes("b")
        cluster.do("b", lambda node: node.step(beat))
        answer = of_kind(cluster.network, HeartbeatResponse)[-1]
        self.assertEqual((answer.promised_seconds, answer.sent_at), (1.0, 99.0))

    def test_restart_keeps_the_promise(self) -> None:
        """B31: a follower that restarts waits for as long as it may have promised."""
        cluster = self.cluster_of("a", "b", "c")
        self.beat(cluster, "a", 110.0)
        cluster.restart("b")
        self.time(cluster, 110.1)
        cluster.tick("b", count=9)
        self.assertFalse(self.granted(cluster, "b", 2, pre_vote=True))
        self.assertFalse(self.granted(cluster, "b", 9))
        cluster.tick("b")
        self.assertTrue(self.granted(cluster, "b", 9))

    def test_heartbeat_that_counts_on_nothing(self) -> None:
        """A heartbeat that asks for no promise gets none."""
        cluster = self.cluster_of("a", "b", "c")
        cluster.network.clear()
        cluster.do("b", lambda node: node.step(Heartbeat(term=1, sender="a", to="b", commit_index=0, sent_at=3.0)))
        self.assertEqual(of_kind(cluster.network, HeartbeatResponse)[0].promised_seconds, 0.0)

    def test_settings(self) -> None:
        """A promise that a restart would forget, and a drift that leaves nothing, are refused."""
        for wrong in ({"promise_seconds": 1.0}, {"clock_drift_bound": 1.0}, {"promise_seconds": -math.inf}):
            self.assertRaises(ValueError, RaftSettings, **wrong)
