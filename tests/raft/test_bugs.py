"""Bugs that other systems had, by number, where a bare core can show that they are not here."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest, Conflict, InvariantViolation, Overloaded, ProposalDropped
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    RequestVote,
    RequestVoteResponse,
    SnapshotMeta,
    TimeoutNow,
)
from raftkv.raft.progress import ProgressState
from raftkv.raft.ready import Role
from tests.raft.cluster import Cluster, configuration, entry, log_of, make_node
from tests.raft.test_paper import append_entries, candidate, leader, persisted, request_vote, stored, taken, votes


def configuration_entry(index: int, term: int, members: Configuration) -> Entry:
    return Entry(index=index, term=term, kind=EntryKind.CONFIGURATION, payload=members.encode())


class ElectionBugs(SynchronousTestCase):
    """Terms, votes and leaders."""

    def test_vote_survives_crash(self) -> None:
        """B1: after a vote was said and the voter crashed, another candidate of that term is refused."""
        cluster = Cluster("a", "b", "c")
        cluster.do("a", lambda node: node.step(request_vote(1, sender="b")))
        cluster.finish_writes("a")
        cluster.restart("a")
        cluster.network.clear()
        cluster.do("a", lambda node: node.step(request_vote(1, sender="c")))
        cluster.finish_writes("a")
        self.assertEqual([m.vote_granted for m in cluster.network if isinstance(m, RequestVoteResponse)], [False])

    def test_no_vote_without_its_log(self) -> None:
        """B42: a server whose log lost entries votes for nobody and does not stand, pre-votes included, until it has
        an entry of a later term than those it knew; a leader's entries it takes all the same."""
        node = make_node(term=4, entries=log_of(1, 2), lost_term=3)
        self.assertTrue(node.may_lack_entries)
        for pre_vote in (True, False):
            node.step(request_vote(5, sender="b", last=(9, 4), pre_vote=pre_vote))
            answers = [m for m in persisted(node) if isinstance(m, RequestVoteResponse)]
            self.assertEqual([m.vote_granted for m in answers], [False])
        node.campaign()
        self.assertEqual((node.role, node.current_term), (Role.FOLLOWER, 5))
        node.step(append_entries(6, entry(3, 3), prev=(2, 2)))
        self.assertTrue(node.may_lack_entries)
        node.step(append_entries(6, entry(4, 6), prev=(3, 3)))
        self.assertFalse(node.may_lack_entries)
        self.assertEqual([m.match_index for m in persisted(node) if isinstance(m, AppendEntriesResponse)], [3, 4])
        node.step(replace(request_vote(7, sender="c", last=(9, 6)), leadership_transfer=True))
        answers = [m for m in persisted(node) if isinstance(m, RequestVoteResponse)]
        self.assertEqual([m.vote_granted for m in answers], [True])

    def test_term_after_log(self) -> None:
        """B3: a log of a later term than the hard state cannot be what this server wrote."""
        self.assertRaises(InvariantViolation, make_node, term=1, entries=log_of(1, 2))

    def test_single_server_waits_for_its_disk(self) -> None:
        """B4: a cluster of one elects itself, and commits only once its own write is done."""
        node = make_node(members=configuration("a"))
        node.campaign()
        ready = taken(node)
        self.assertEqual(node.role, Role.CANDIDATE)
        assert ready.write is not None
        node.advance(ready.write.write_id)
        ready = taken(node)
        self.assertEqual((node.role, node.commit_index), (Role.LEADER, 0))
        assert ready.write is not None
        node.advance(ready.write.write_id)
        self.assertEqual(node.commit_index, 1)

    def test_longer_log_meets_higher_term(self) -> None:
        """B5: a pre-candidate of an earlier term learns the later one from the refusal, and can win then."""
        cluster = Cluster("a", "b")
        cluster.servers["a"].disk.entries = list(log_of(1, 1))
        cluster.servers["a"].disk.hard_state = replace(cluster["a"]._state.durability.hard_state, term=1)
        cluster.servers["b"].disk.hard_state = replace(cluster["b"]._state.durability.hard_state, term=5)
        for name in "ab":
            cluster.restart(name)
        for _ in range(60):
            cluster.tick()
            cluster.settle()
        self.assertEqual((cluster["a"].role, cluster["b"].commit_index), (Role.LEADER, 3))

    def test_longer_log_meets_higher_term_and_newer_members(self) -> None:
        """B5: with the longer log and a newer configuration here and higher terms there, who alone can win does,
        whoever campaigns in between."""
        later = configuration("a", "b", "c", learners=("d",))
        for seed in range(10):
            cluster = Cluster("a", "b", "c", "d", members=configuration("a", "b", "c"), seed=seed)
            cluster.servers["a"].disk.entries = [*log_of(1, 1), configuration_entry(3, 1, later)]
            for name, term in (("a", 1), ("b", 7), ("c", 3)):
                cluster.servers[name].disk.hard_state = replace(cluster[name]._state.durability.hard_state, term=term)
                cluster.restart(name)
            cluster.cut = {("b", "c"), ("c", "b")}
            for _ in range(80):
                cluster.tick()
                cluster.settle()
            self.assertEqual(
                (cluster["a"].role, cluster["b"].commit_index, cluster["b"].configuration), (Role.LEADER, 4, later)
            )

    def test_leader_without_majority_gives_up(self) -> None:
        """B6: a leader that hears no majority for an election timeout stops leading; one that does goes on."""
        node = leader(make_node())
        for _ in range(40):
            node.step(HeartbeatResponse(term=1, sender="b", to="a"))
            node.tick()
        self.assertEqual(node.role, Role.LEADER)
        for _ in range(20):
            node.tick()
        self.assertEqual((node.role, node.leader), (Role.FOLLOWER, None))

    def test_learners_keep_no_leader(self) -> None:
        """B6, B28: a leader that hears only learners, however many, confirms no read and stops leading."""
        node = leader(make_node(members=configuration("a", "b", "c", learners=("d", "e", "f"))))
        persisted(node)
        stored(node, 1)
        persisted(node)
        node.read_index(1)
        persisted(node)
        for _ in range(20):
            for learner in "def":
                node.step(HeartbeatResponse(term=1, sender=learner, to="a", read_round=9))
            node.tick()
        self.assertEqual((node.role is Role.LEADER, node.leader), (False, None))
        self.assertEqual([(read.context, read.index) for read in taken(node).reads], [(1, None)])

    def test_leader_is_heard_by_itself(self) -> None:
        """B6: a leader ignores others' requests however long its own campaign took."""
        node = candidate(make_node(seed=3))
        ticks = 0
        while node.role is Role.CANDIDATE and ticks < 10:
            node.tick()
            ticks += 1
        node.step(RequestVoteResponse(term=1, sender="b", to="a", vote_granted=True))
        node.step(request_vote(7, sender="c", last=(9, 6)))
        self.assertEqual((ticks, node.role, node.current_term), (10, Role.LEADER, 1))

    def test_partial_connection(self) -> None:
        """B6: a server that lost only its link to the leader deposes nobody."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        cluster.cut |= {("a", "c"), ("c", "a")}
        for _ in range(200):
            cluster.tick()
            cluster.settle()
        self.assertEqual((cluster["a"].role, cluster["a"].current_term), (Role.LEADER, 1))

    def test_removed_server_is_harmless(self) -> None:
        """B7: a server that knows of its removal never campaigns, and one that does not is ignored."""
        node = make_node(term=1, members=configuration("b", "c"))
        for _ in range(60):
            node.tick()
        self.assertEqual((node.role, node.current_term), (Role.FOLLOWER, 1))

    def test_learner_votes_and_never_campaigns(self) -> None:
        """B8: a learner, which may have been promoted without hearing of it, votes when asked and never asks."""
        node = make_node(members=configuration("b", "c", learners=("a",)))
        for _ in range(60):
            node.tick()
        self.assertEqual(node.role, Role.FOLLOWER)
        node.step(request_vote(1))
        self.assertEqual(votes(node), [True])
        node.step(TimeoutNow(term=1, sender="b", to="a"))
        self.assertEqual(node.role, Role.FOLLOWER)

    def test_candidate_in_joint_configuration(self) -> None:
        """B9: a candidate of either side of a joint configuration counts itself, on the side where it votes."""
        for mine, other in (("a", "b"), ("b", "a")):
            joint = replace(configuration(mine, "c", outgoing=(other, "c")), outgoing_voters=frozenset((other, "c")))
            node = make_node(members=joint)
            node.campaign()
            node.step(RequestVoteResponse(term=1, sender="b", to="a", vote_granted=True, pre_vote=True))
            self.assertEqual(node.role, Role.PRE_CANDIDATE)
            node.step(RequestVoteResponse(term=1, sender="c", to="a", vote_granted=True, pre_vote=True))
            self.assertEqual(node.role, Role.CANDIDATE)

    def test_transfer_ends(self) -> None:
        """B10: meanwhile writes are refused; a target that is gone gives the leader back its work after one election
        timeout."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        persisted(node)
        node.transfer_leadership("c")
        self.assertEqual(node.transferring_to, "c")
        self.assertRaises(ProposalDropped, node.propose, b"x")
        self.assertNotIn(TimeoutNow, [type(m) for m in persisted(node)], "c is not up to date")
        for _ in range(10):
            node.step(HeartbeatResponse(term=1, sender="b", to="a"))
            node.tick()
        self.assertIs(node.transferring_to, None)
        node.propose(b"x")

    def joint_and_transferring(self) -> Cluster:
        """Return a cluster whose leader ``a`` has committed a joint configuration, and was asked before that to hand
        over to ``b``, which has all of its log."""
        cluster = Cluster("a", "b", "c")
        cluster.settle()
        cluster.elect("a")
        for name in ("d", "e"):
            cluster.add(name, None)
        cluster.isolate("d", "e")
        cluster.do("a", lambda node: node.propose_configuration(configuration("a", "b", "d", "e")))
        cluster.settle()
        self.assertTrue(cluster["a"].configuration.is_joint)
        cluster.do("a", lambda node: node.transfer_leadership("b"))
        cluster.heal()
        return cluster

    def test_transfer_in_a_joint_configuration(self) -> None:
        """B10: while leadership is being transferred the leader adds nothing to the log, not even the entry that leaves
        a joint configuration: the successor would lack it. Whoever leads then leaves it."""
        cluster = self.joint_and_transferring()
        (asked,) = (message for message in cluster.network if isinstance(message, TimeoutNow))
        cluster.network.clear()
        cluster.tick("a")
        cluster.settle()
        self.assertEqual(cluster["a"].committed_configuration()[0], cluster["a"].configuration)
        self.assertTrue(cluster["a"].configuration.is_joint)
        cluster.deliver(asked)
        cluster.settle()
        self.assertIs(cluster["b"].role, Role.LEADER)
        self.assertEqual(cluster["d"].configuration, configuration("a", "b", "d", "e"))

    def test_given_up_in_a_joint_configuration(self) -> None:
        """B10: a transfer that fails does not keep the leader from leaving the joint configuration."""
        cluster = self.joint_and_transferring()
        cluster.network.clear()
        for _ in range(11):
            cluster.tick("a")
            cluster.network = [message for message in cluster.network if not isinstance(message, TimeoutNow)]
            cluster.settle()
        self.assertIs(cluster["a"].role, Role.LEADER)
        self.assertEqual(cluster["d"].configuration, configuration("a", "b", "d", "e"))

    def test_leader_on_its_way_out(self) -> None:
        """A leader that the configuration in force leaves out takes no more writes: it will not be there to say what
        has become of them."""
        cluster = Cluster("a", "b", "c")
        cluster.settle()
        cluster.elect("a")
        cluster.do("a", lambda node: node.propose_configuration(configuration("b", "c")))
        cluster.propose("a", b"in time")
        refused = 0
        while cluster["a"].role is Role.LEADER:
            if not cluster["a"].configuration.is_voter("a"):
                self.assertRaises(ProposalDropped, cluster["a"].propose, b"too late")
                refused += 1
            if cluster.network:
                cluster.deliver(cluster.network.pop(0))
            else:
                cluster.finish_write(next(name for name in cluster.running if cluster.servers[name].writes))
        self.assertGreater(refused, 0)
        self.assertEqual(cluster["a"].commit_index, cluster["a"].last_index)

    def test_transfer_waits_for_the_log(self) -> None:
        """B10: the successor is asked to campaign once it has the whole log; without a name it is the most advanced."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1, sender="c")
        persisted(node)
        node.transfer_leadership("b")
        persisted(node)
        stored(node, 1, sender="b")
        self.assertEqual([m.to for m in persisted(node) if isinstance(m, TimeoutNow)], ["b"])
        other = leader(make_node())
        persisted(other)
        stored(other, 1, sender="c")
        other.transfer_leadership(None)
        self.assertEqual(other.transferring_to, "c")
        self.assertRaises(Conflict, other.transfer_leadership, "z")

    def test_transfer_beats_stickiness(self) -> None:
        """B10: the successor's request is heard where a leader is; only word from that leader makes it campaign."""
        node = make_node()
        node.step(append_entries(1))
        persisted(node)
        node.step(request_vote(2, sender="c", leadership_transfer=True))
        self.assertEqual(votes(node), [True])
        other = make_node()
        other.step(append_entries(1))
        other.step(TimeoutNow(term=1, sender="c", to="a"))
        self.assertEqual(other.role, Role.FOLLOWER)
        other.step(TimeoutNow(term=1, sender="b", to="a"))
        self.assertEqual((other.role, other.current_term), (Role.CANDIDATE, 2))
        requests = [m for m in persisted(other) if isinstance(m, RequestVote)]
        self.assertEqual([(m.leadership_transfer, m.to_incarnation) for m in requests], [(True, "B"), (True, "C")])

    def test_other_incarnation(self) -> None:
        """B24: a request meant for the former self of a wiped server is ignored, term and all."""
        node = make_node(incarnation="new")
        node.step(request_vote(3))
        self.assertEqual((votes(node), node.current_term), ([], 0))
        node.step(replace(request_vote(3), to_incarnation=""))
        self.assertEqual(votes(node), [True])

    def test_grace_after_restart(self) -> None:
        """B31: a server that restarts with a state gives no vote, nor one to itself, while it may have promised a
        lease; a new one does at once, and so does a cluster of one."""
        node = make_node(term=1, vote_grace_ticks=12)
        for _ in range(11):
            node.tick()
            node.step(request_vote(2))
        self.assertEqual((votes(node), node.current_term, node.role), ([], 1, Role.FOLLOWER))
        node.campaign()
        self.assertEqual(node.role, Role.FOLLOWER)
        node.tick()
        node.step(request_vote(2))
        self.assertEqual(votes(node), [True])
        new = make_node(vote_grace_ticks=12)
        new.step(request_vote(2))
        self.assertEqual(votes(new), [True])
        alone = make_node(term=1, vote_grace_ticks=12, members=configuration("a"))
        alone.campaign()
        self.assertEqual(alone.role, Role.CANDIDATE)

    def test_strangers(self) -> None:
        """B23: messages of servers that are no members are answered as Raft says, and prove nothing."""
        node = make_node()
        node.step(request_vote(1, sender="z"))
        self.assertEqual(votes(node), [True])
        ruler = leader(make_node())
        persisted(ruler)
        stored(ruler, 1, sender="z")
        ruler.step(HeartbeatResponse(term=1, sender="z", to="a", read_round=9))
        ruler.report_unreachable("z")
        ruler.report_snapshot("z", 5, True)
        ruler.step(replace(request_vote(1), to="x"))
        self.assertEqual((ruler.role, ruler.commit_index), (Role.LEADER, 0))


class ReplicationBugs(SynchronousTestCase):
    """The log and the commit index."""

    def test_commit_index_never_falls(self) -> None:
        """B13: a smaller commit index of a new leader changes nothing."""
        node = make_node()
        node.step(append_entries(1, *log_of(1, 1), commit=2))
        node.step(append_entries(2, sender="c", prev=(2, 1), commit=1))
        node.step(Heartbeat(term=2, sender="c", to="a", commit_index=0))
        self.assertEqual(node.commit_index, 2)

    def test_match_index_is_of_one_leadership(self) -> None:
        """B15: what peers acknowledged to an earlier leadership is forgotten."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        node.step(Heartbeat(term=2, sender="c", to="a", commit_index=0))
        persisted(node)
        leader(node)
        self.assertEqual([view.match_index for view in node.progress().values()], [0, 0])

    def test_commit_only_what_was_verified(self) -> None:
        """B16: entries behind those of the message may be another leader's, and are not committed by it."""
        node = make_node(term=2, entries=log_of(1, 2, 2))
        node.step(append_entries(3, prev=(1, 1), commit=3))
        self.assertEqual(node.commit_index, 1)

    def test_acknowledge_only_what_was_verified(self) -> None:
        """B16: entries behind those of the message are not acknowledged either."""
        node = make_node(term=2, entries=log_of(1, 2, 2))
        node.step(append_entries(3, prev=(1, 1)))
        answer = persisted(node)[-1]
        assert isinstance(answer, AppendEntriesResponse)
        self.assertEqual(answer.match_index, 1)

    def test_acknowledgement_beyond_the_log(self) -> None:
        """An acknowledgement of entries that the leader does not have counts for nothing."""
        node = leader(make_node())
        persisted(node)
        stored(node, 9)
        self.assertEqual((node.progress()["b"].match_index, node.commit_index), (0, 0))

    def test_commit_index_beyond_the_log(self) -> None:
        """B16: a heartbeat that promises more than there is commits nothing, and harms nobody."""
        node = make_node()
        node.step(Heartbeat(term=1, sender="b", to="a", commit_index=7))
        self.assertEqual((node.commit_index, len(taken(node).messages)), (0, 1))

    def test_apply_never_passes_commit(self) -> None:
        """B17: a truncation and new entries in one turn leave what is applied a prefix of what is committed."""
        node = make_node(term=1, entries=log_of(1, 1, 1), max_committed_bytes=1)
        node.step(append_entries(1, prev=(3, 1), commit=2))
        self.assertEqual([one.index for one in taken(node).committed], [1])
        node.step(append_entries(2, entry(3, 2), sender="c", prev=(2, 1), commit=3))
        self.assertTrue(node.has_ready())
        self.assertEqual([(one.index, one.term) for one in taken(node).committed], [(2, 1)])
        self.assertEqual([(one.index, one.term) for one in taken(node).committed], [(3, 2)])

    def test_lost_in_the_pipeline(self) -> None:
        """B18: entries that were lost while heartbeats pass are sent again, whoever loses what."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        cluster.isolate("c")
        for payload in (b"x", b"y", b"z"):
            cluster.propose("a", payload)
        cluster.network.clear()
        for _ in range(3):
            cluster.tick("a")
            cluster.settle()
        self.assertEqual((cluster["a"].commit_index, cluster["b"].commit_index), (4, 4))

    def test_slow_disk_in_the_pipeline(self) -> None:
        """B18: a follower whose disk stalls catches up once it works again, without another proposal."""
        cluster = Cluster("a", "b", "c", max_inflight_messages=2)
        cluster.elect("a")
        cluster.isolate("c")
        for payload in (b"x", b"y", b"z", b"u", b"v"):
            cluster.propose("a", payload)
        for _ in range(8):
            cluster.tick("a")
            cluster.settle(disks=["a"])
        self.assertEqual(cluster["a"].commit_index, 1)
        cluster.settle()
        self.assertEqual((cluster["a"].commit_index, cluster["b"].commit_index), (6, 6))

    def test_window_bounds_what_is_under_way(self) -> None:
        """B18: no more than the window is under way to a peer, and one unreachable peer is sent nothing but probes."""
        node = leader(make_node(max_inflight_messages=2, max_append_bytes=1))
        persisted(node)
        stored(node, 1)
        persisted(node)
        for _ in range(5):
            node.propose(b"x")
        sent = [m for m in taken(node).messages if m.to == "b"]
        self.assertEqual([len(getattr(m, "entries", ())) for m in sent], [1, 1])
        node.report_unreachable("b")
        self.assertEqual(node.progress()["b"].state, ProgressState.PROBE)
        self.assertEqual(len([m for m in taken(node).messages if m.to == "b"]), 1)

    def test_uncommitted_bytes_are_bounded(self) -> None:
        """A leader that cannot commit refuses more than its bound, and takes work again once it could."""
        node = leader(make_node(max_uncommitted_bytes=100))
        persisted(node)
        node.propose(b"x" * 60)
        self.assertRaises(Overloaded, node.propose, b"x" * 60)
        persisted(node)
        stored(node, 2)
        node.propose(b"x" * 1000)

    def test_malformed_entries(self) -> None:
        """Entries that do not follow each other are ignored; the node goes on."""
        node = make_node()
        node.step(append_entries(1, entry(1, 1), entry(3, 1)))
        self.assertEqual((node.last_index, persisted(node)), (0, ()))

    def test_proposal_is_known_by_term(self) -> None:
        """B65: the entry of a proposal carries the term that tells it from another leader's at its index."""
        node = leader(make_node())
        persisted(node)
        made = node.propose(b"mine")
        node.step(append_entries(2, *log_of(1), entry(2, 2, b"theirs"), sender="c", commit=2))
        applied = {one.index: one for one in taken(node).committed}
        self.assertEqual((made.index, made.term, applied[2].term), (2, 1, 2))


class MembershipBugs(SynchronousTestCase):
    """Changes of the configuration."""

    def test_first_commit_then_change(self) -> None:
        """B20: a new leader changes nothing before it has committed an entry of its own term."""
        node = leader(make_node(term=1, entries=log_of(1)))
        persisted(node)
        target = configuration("a", "b", "c", "d")
        self.assertRaises(ProposalDropped, node.propose_configuration, target)
        stored(node, 2)
        node.propose_configuration(target)

    def test_one_change_at_a_time(self) -> None:
        """B27: while a change is under way, joint or not yet committed, a second one is refused."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        node.propose_configuration(configuration("a", "b", "c", learners=("d",)))
        self.assertFalse(node.configuration.is_joint)
        self.assertRaises(Conflict, node.propose_configuration, configuration("a", "b"))
        persisted(node)
        stored(node, 2)
        node.propose_configuration(configuration("a", "b"))
        self.assertRaises(Conflict, node.propose_configuration, configuration("a", "b", "c"))
        self.assertRaises(Conflict, node.propose_configuration, configuration("a"))

    def test_impossible_configurations(self) -> None:
        """What could not be in force is refused, and nothing is appended."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        for wrong in (configuration(), configuration("a", outgoing=("b",)), replace(configuration("a"), members={})):
            self.assertRaises(BadRequest, node.propose_configuration, wrong)
        self.assertEqual(node.last_index, 1)

    def test_compacted_configuration(self) -> None:
        """B21: a configuration outlives its entry; a snapshot is told the one that was committed as of its end."""
        members = configuration("a", "b", "c", learners=("d",))
        later = configuration("a", "b", "c", learners=("e",))
        entries = (*log_of(1), configuration_entry(2, 1, members), entry(3, 1), configuration_entry(4, 1, later))
        node = make_node(term=1, entries=entries)
        node.step(append_entries(1, prev=(4, 1), commit=3))
        persisted(node)
        self.assertEqual(node.committed_configuration(), (members, 2))
        self.assertEqual(node.committed_configuration(1), (configuration("a", "b", "c"), 0))
        node.snapshot_taken(3)
        node.compact(3)
        self.assertEqual((node.configuration, node.committed_configuration()), (later, (members, 2)))
        meta = SnapshotMeta(index=3, term=1, configuration=members, configuration_index=2)
        again = make_node(term=1, snapshot=meta, entries=entries[3:], first_previous_term=1)
        self.assertEqual((again.configuration, again.configuration_index), (later, 4))
        self.assertEqual(again.committed_configuration(), (members, 2))

    def test_remove_leader_of_two(self) -> None:
        """B22: the one that remains leads at once, and alone."""
        cluster = Cluster("a", "b")
        cluster.elect("a")
        cluster.do("a", lambda node: node.propose_configuration(configuration("b")))
        cluster.settle()
        self.assertEqual((cluster["a"].role, cluster["b"].role), (Role.FOLLOWER, Role.LEADER))
        cluster.propose("b", b"x")
        cluster.finish_writes("b")
        self.assertEqual(cluster["b"].commit_index, cluster["b"].last_index)

    def test_removed_leader_tells_the_others(self) -> None:
        """B22: those who remain hear from the leader that it has left, also where nobody campaigns at once."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        cluster.do("a", lambda node: node.propose_configuration(configuration("b", "c")))
        while cluster["a"].role is Role.LEADER:
            cluster.deliver(cluster.network.pop(0))
            for name in "abc":
                cluster.finish_writes(name)
        cluster.network = [message for message in cluster.network if isinstance(message, AppendEntries)]
        cluster.settle()
        self.assertEqual([cluster[name].role for name in "abc"], [Role.FOLLOWER] * 3)
        for name in "bc":
            self.assertEqual(cluster[name].committed_configuration()[0], configuration("b", "c"))

    def test_removed_leader_crashes_first(self) -> None:
        """B22: the leader alone has the entry that removes it, and crashes: it leads once more, to commit it."""
        cluster = Cluster("a", "b")
        cluster.elect("a")
        cluster.do("a", lambda node: node.propose_configuration(configuration("b")))
        while cluster["a"].configuration.is_joint:
            if cluster.network:
                cluster.deliver(cluster.network.pop(0))
            for name in "ab":
                cluster.finish_writes(name)
        cluster.finish_writes("a")
        cluster.network.clear()
        cluster.restart("a")
        for _ in range(60):
            cluster.tick()
            cluster.settle()
        self.assertEqual((cluster["b"].role, cluster["b"].configuration), (Role.LEADER, configuration("b")))

    def test_returned_with_an_empty_disk(self) -> None:
        """B24: a member whose incarnation changes is counted from nothing, for its disk is new."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        stored(node, 1, sender="c")
        members = configuration("a", "b", "c")
        wiped = replace(members.members["c"], incarnation="new")
        node.propose_configuration(replace(members, members={**members.members, "c": wiped}))
        self.assertEqual([view.match_index for view in node.progress().values()], [1, 0])

    def test_change_during_a_partition(self) -> None:
        """B23: of two sides that change the members only one can decide; what it wrote meanwhile is kept, and the other
        takes its members over."""
        cluster = Cluster("a", "b", "c", "d")
        cluster.initial = configuration("a", "b", "c")
        for name in "abcd":
            cluster.restart(name)
        cluster.elect("a")
        cluster.cut = {pair for other in "bcd" for pair in (("a", other), (other, "a"))}
        # Alone in its new configuration, a majority of the old one is still missing.
        cluster.do("a", lambda node: node.propose_configuration(configuration("a")))
        cluster.propose("a", b"lost")
        cluster.finish_writes("a")
        uncommitted = cluster["a"].commit_index
        for _ in range(60):
            cluster.tick()
            cluster.settle()
        leading = next(name for name in "bc" if cluster[name].role is Role.LEADER)
        cluster.do(leading, lambda node: node.propose_configuration(configuration("b", "c", "d")))
        cluster.settle()
        cluster.propose(leading, b"kept")
        cluster.settle()
        self.assertEqual((uncommitted, cluster[leading].configuration), (1, configuration("b", "c", "d")))
        kept = cluster[leading].last_index
        self.assertEqual(cluster[leading].commit_index, kept)
        cluster.cut = set()
        for _ in range(60):
            cluster.tick()
            cluster.settle()
        self.assertNotEqual(cluster["a"].role, Role.LEADER)
        self.assertIn(b"kept", [entry.payload for entry in cluster.servers["d"].applied])
        for name in "abcd":
            self.assertNotIn(b"lost", [entry.payload for entry in cluster.servers[name].applied])

    def test_members_from_snapshot_or_log(self) -> None:
        """B26: who restarts on an old snapshot and a long log, on a newer snapshot, or on the log alone has the same
        members, whatever its settings say."""
        old, new = configuration("a", "b", "c", learners=("d",)), configuration("a", "b", "d")
        log = (*log_of(1), configuration_entry(2, 1, old), entry(3, 1), configuration_entry(4, 1, new), entry(5, 1))
        settings = configuration("a", "x", "y")
        early = SnapshotMeta(index=3, term=1, configuration=old, configuration_index=2)
        late = SnapshotMeta(index=5, term=1, configuration=new, configuration_index=4)
        starts = (
            make_node(term=1, members=settings, entries=log),
            make_node(term=1, members=settings, snapshot=early, entries=log[3:], first_previous_term=1),
            make_node(term=1, members=settings, snapshot=early, entries=log),
            make_node(term=1, members=settings, snapshot=late),
            make_node(term=1, members=settings, snapshot=late, entries=log),
        )
        for node in starts:
            self.assertEqual((node.configuration, node.configuration_index), (new, 4))

    def test_removed_members_are_told(self) -> None:
        """B7: those who leave hear of it once it is committed, and nothing after."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        cluster.do("a", lambda node: node.propose_configuration(configuration("a", "b")))
        cluster.settle()
        self.assertEqual(cluster["c"].committed_configuration()[0], configuration("a", "b"))
        cluster.propose("a", b"x")
        self.assertEqual({message.to for message in cluster.network}, {"b"})


class ReadBugs(SynchronousTestCase):
    """Read indexes."""

    def test_deposed_leader_serves_no_read(self) -> None:
        """B28: a leader that was cut off cannot confirm a read, and gives it back when it stops leading."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        cluster.isolate("a")
        context = cluster.read("a")
        cluster.tick("a", count=5)
        cluster.settle()
        self.assertNotIn(context, cluster.servers["a"].reads)
        cluster.tick("a", count=20)
        self.assertEqual(cluster.servers["a"].reads, {context: None})

    def test_reads_share_a_round(self) -> None:
        """Reads that come while a round is under way cannot use it, and share the next one (thesis 6.4)."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        persisted(node)
        node.read_index(1)
        self.assertEqual(len(taken(node).messages), 2)
        node.read_index(2)
        node.read_index(3)
        self.assertFalse(node.has_ready())
        node.step(HeartbeatResponse(term=1, sender="b", to="a", read_round=1))
        ready = taken(node)
        self.assertEqual([read.context for read in ready.reads], [1])
        self.assertEqual([m.read_round for m in ready.messages if isinstance(m, Heartbeat)], [2, 2])
        node.step(HeartbeatResponse(term=1, sender="c", to="a", read_round=2))
        self.assertEqual([read.context for read in taken(node).reads], [2, 3])

    def test_read_of_a_cluster_of_one(self) -> None:
        """A leader that is a majority by itself confirms at once."""
        node = make_node(members=configuration("a"))
        node.campaign()
        persisted(node)
        node.read_index(4)
        self.assertEqual([(read.context, read.index) for read in taken(node).reads], [(4, 1)])

    def test_read_without_leader(self) -> None:
        """A read where no leader is known, or whose leader is lost, comes back to be asked anew."""
        node = make_node()
        node.read_index(1)
        self.assertEqual([(read.context, read.index) for read in taken(node).reads], [(1, None)])
        node.step(append_entries(1))
        persisted(node)
        node.read_index(2)
        taken(node)
        node.read_index(3)
        node.step(append_entries(2, sender="c"))
        self.assertEqual([(read.context, read.index) for read in taken(node).reads], [(2, None), (3, None)])

    def test_lost_request_is_repeated(self) -> None:
        """A forwarded read that gets no answer is asked for again; an answer to an old request counts for nothing."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        context = cluster.read("b")
        cluster.network.clear()
        cluster.tick("b", count=5)
        cluster.settle()
        self.assertEqual(cluster.servers["b"].reads, {context: 1})

    def test_read_index_ahead_of_apply(self) -> None:
        """B32: the read index is the leader's commit index, which the follower may not have applied yet."""
        cluster = Cluster("a", "b", "c", max_inflight_messages=1)
        cluster.elect("a")
        cluster.cut.add(("a", "b"))
        cluster.propose("a", b"x")
        cluster.settle()
        cluster.heal()
        context = cluster.read("b")
        self.assertEqual((cluster["a"].commit_index, cluster["b"].last_applied), (2, 1))
        cluster.settle()
        self.assertEqual(cluster.servers["b"].reads[context], 2)


class SnapshotBugs(SynchronousTestCase):
    """Snapshots in odd moments."""

    def snapshot(self, index: int) -> InstallSnapshot:
        meta = SnapshotMeta(index=index, term=1, configuration=configuration("a", "b", "c"), configuration_index=0)
        return InstallSnapshot(term=1, sender="b", to="a", snapshot=meta)

    def test_two_snapshots_in_a_row(self) -> None:
        """B47: a second snapshot takes the place of the first, even before that is on disk; a late one is ignored."""
        node = make_node(term=1)
        node.step(self.snapshot(5))
        first = taken(node)
        node.step(self.snapshot(9))
        node.step(self.snapshot(7))
        second = taken(node)
        assert first.write is not None
        assert second.write is not None
        assert second.write.snapshot is not None
        self.assertEqual((second.write.snapshot.index, node.last_applied), (9, 9))
        node.advance(first.write.write_id)
        self.assertEqual([m.match_index for m in taken(node).messages if isinstance(m, AppendEntriesResponse)], [5])
        self.assertEqual(node.stable_index, 0)
        node.advance(second.write.write_id)
        self.assertEqual(node.stable_index, 9)

    def test_entries_behind_a_snapshot(self) -> None:
        """B47: entries that follow a snapshot at once are written behind it, and applied after it."""
        node = make_node(term=1)
        node.step(self.snapshot(5))
        node.step(append_entries(1, entry(6, 1), prev=(5, 1), commit=6))
        ready = taken(node)
        assert ready.write is not None
        self.assertEqual([one.index for one in ready.write.entries], [6])
        self.assertEqual([one.index for one in ready.committed], [6])

    def test_conflict_at_the_end_of_a_snapshot(self) -> None:
        """B46: an entry that conflicts with the last one of a snapshot goes with all others."""
        node = make_node(term=1, entries=log_of(*[1] * 4), members=configuration("a", "b", "c"))
        node.step(replace(self.snapshot(4), term=2, snapshot=replace(self.snapshot(4).snapshot, term=2)))
        self.assertEqual((node.last_index, node.first_index, node.term_at(4)), (4, 5, 2))

    def test_gap_at_start(self) -> None:
        """B45: a log that does not begin where the snapshot ends, or contradicts it, is not started from."""
        meta = self.snapshot(3).snapshot
        make_node(term=2, snapshot=meta, entries=[entry(3, 1)], first_previous_term=1)
        for entries in ([entry(5, 1)], [entry(2, 1)], [entry(3, 2), entry(4, 2)]):
            with self.assertRaises(InvariantViolation):
                make_node(term=2, snapshot=meta, entries=entries, first_previous_term=1)
        self.assertRaises(InvariantViolation, make_node, term=1, entries=[entry(5, 1)], first_previous_term=1)

    def test_no_snapshot_for_the_silent(self) -> None:
        """A peer that is down is owed no snapshot until it is heard."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1, sender="b")
        stored(node, 1, sender="c")
        node.propose(b"x")
        persisted(node)
        stored(node, 2, sender="b")
        persisted(node)
        node.snapshot_taken(2)
        node.compact(2)
        for _ in range(20):
            node.step(HeartbeatResponse(term=1, sender="b", to="a"))
            node.tick()
        node.report_unreachable("c")
        self.assertEqual(taken(node).send_snapshots, ())
        node.step(HeartbeatResponse(term=1, sender="c", to="a"))
        self.assertEqual(taken(node).send_snapshots, ("c",))
        self.assertEqual(node.progress()["c"].state, ProgressState.SNAPSHOT)

    def test_snapshot_only_of_what_is_ours(self) -> None:
        """A snapshot may include only what was applied and is on the own disk."""
        node = make_node()
        node.step(append_entries(1, *log_of(1), commit=1))
        ready = taken(node)
        self.assertRaises(InvariantViolation, node.snapshot_taken, 1)
        assert ready.write is not None
        node.advance(ready.write.write_id)
        node.snapshot_taken(1)
        self.assertRaises(InvariantViolation, node.compact, 2)

    def test_unknown_write(self) -> None:
        """A write that was never asked for cannot be done."""
        self.assertRaises(InvariantViolation, candidate(make_node()).advance, 99)
