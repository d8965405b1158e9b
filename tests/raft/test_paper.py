"""What the Raft paper claims, section by section; each test quotes the sentence that it holds us to."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation, NotLeader
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    RequestVote,
    RequestVoteResponse,
    SnapshotMeta,
)
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Ready, Role
from tests.raft.cluster import Cluster, configuration, log_of, make_node


def persisted(node: RaftNode) -> tuple[Message, ...]:
    """Carry out everything that a node wants, its writes at once; return all that it says."""
    said: list[Message] = []
    while node.has_ready():
        ready = node.take_ready()
        said.extend(ready.messages)
        if ready.write is not None:
            node.advance(ready.write.write_id)
    return tuple(said)


def taken(node: RaftNode) -> Ready:
    """Return the next ``Ready``."""
    return node.take_ready()


def request_vote(term: int, *, sender: str = "b", last: tuple[int, int] = (0, 0), **more: bool) -> RequestVote:
    """Make a request; ``last`` is index and term of the candidate's last entry."""
    return RequestVote(
        term=term, sender=sender, to="a", last_log_index=last[0], last_log_term=last[1], to_incarnation="A", **more
    )


def append_entries(
    term: int, *entries: Entry, sender: str = "b", prev: tuple[int, int] = (0, 0), commit: int = 0
) -> AppendEntries:
    """Make an AppendEntries; ``prev`` is index and term of the entry before."""
    return AppendEntries(
        term=term,
        sender=sender,
        to="a",
        prev_log_index=prev[0],
        prev_log_term=prev[1],
        leader_commit=commit,
        entries=entries,
    )


def votes(node: RaftNode) -> list[bool]:
    """Return the answers to requests for real votes that a node gives once its disk has finished."""
    return [m.vote_granted for m in persisted(node) if isinstance(m, RequestVoteResponse) and not m.pre_vote]


def candidate(node: RaftNode) -> RaftNode:
    """Let a node of three become a candidate whose own vote is on disk."""
    node.campaign()
    persisted(node)
    node.step(RequestVoteResponse(term=node.current_term + 1, sender="b", to="a", vote_granted=True, pre_vote=True))
    persisted(node)
    return node


def leader(node: RaftNode) -> RaftNode:
    """Let a node of three become the leader by the vote of b."""
    candidate(node)
    node.step(RequestVoteResponse(term=node.current_term, sender="b", to="a", vote_granted=True))
    return node


def stored(node: RaftNode, match_index: int, *, sender: str = "b") -> None:
    """Let a peer acknowledge."""
    node.step(
        AppendEntriesResponse(term=node.current_term, sender=sender, to="a", success=True, match_index=match_index)
    )


class TermTests(SynchronousTestCase):
    """Section 5.1."""

    def test_update_term_from_message(self) -> None:
        """“If one server's current term is smaller than the other's, then it updates its current term” (5.1)."""
        node = make_node(term=1)
        node.step(append_entries(3))
        self.assertEqual(node.current_term, 3)

    def test_leader_steps_down_on_later_term(self) -> None:
        """“If a candidate or leader discovers that its term is out of date, it immediately reverts to follower
        state” (5.1)."""
        for node in (candidate(make_node()), leader(make_node())):
            node.step(AppendEntriesResponse(term=7, sender="c", to="a", success=False))
            self.assertEqual((node.role, node.current_term), (Role.FOLLOWER, 7))

    def test_stale_request_is_rejected(self) -> None:
        """“If a server receives a request with a stale term number, it rejects the request” (5.1)."""
        node = make_node(term=3)
        persisted(node)
        node.step(append_entries(2, *log_of(1)))
        (answer,) = persisted(node)
        self.assertEqual(answer, AppendEntriesResponse(term=3, sender="a", to="b", success=False))
        self.assertEqual(node.last_index, 0)
        node.step(request_vote(2))
        self.assertEqual(votes(node), [False])

    def test_stale_answers_are_ignored(self) -> None:
        """Votes and acknowledgements of an earlier term count for nothing (5.1)."""
        node = leader(make_node(term=3))
        persisted(node)
        node.step(AppendEntriesResponse(term=3, sender="b", to="a", success=True, match_index=1))
        self.assertEqual(node.commit_index, 0)


class ElectionTests(SynchronousTestCase):
    """Section 5.2."""

    def test_start_as_follower(self) -> None:
        """“When servers start up, they begin as followers” (5.2)."""
        self.assertEqual(make_node(term=4, voted_for="a").role, Role.FOLLOWER)

    def test_remains_follower_while_leader_is_heard(self) -> None:
        """“A server remains in follower state as long as it receives valid RPCs from a leader” (5.2)."""
        node = make_node()
        for _ in range(30):
            node.step(Heartbeat(term=1, sender="b", to="a", commit_index=0))
            for _ in range(9):
                node.tick()
        self.assertEqual((node.role, node.leader), (Role.FOLLOWER, "b"))

    def test_election_timeout(self) -> None:
        """“If a follower receives no communication over a period of time called the election timeout, then it assumes
        there is no viable leader and begins an election” (5.2)."""
        node = make_node()
        for _ in range(20):
            node.tick()
        self.assertEqual(node.role, Role.PRE_CANDIDATE)

    def test_candidate_increments_term_and_votes_for_itself(self) -> None:
        """“To begin an election, a follower increments its current term and transitions to candidate state. It then
        votes for itself and issues RequestVote RPCs in parallel” (5.2)."""
        node = make_node(term=2)
        persisted(node)
        node.campaign()
        persisted(node)
        node.step(RequestVoteResponse(term=3, sender="b", to="a", vote_granted=True, pre_vote=True))
        ready = taken(node)
        self.assertEqual((node.role, node.current_term), (Role.CANDIDATE, 3))
        assert ready.write is not None
        self.assertEqual(ready.write.hard_state, HardState(term=3, voted_for="a"))
        self.assertEqual(ready.messages, ())
        node.advance(ready.write.write_id)
        self.assertEqual([(m.to, m.term) for m in taken(node).messages], [("b", 3), ("c", 3)])

    def test_majority_wins(self) -> None:
        """“A candidate wins an election if it receives votes from a majority of the servers in the full cluster for the
        same term” (5.2)."""
        members = configuration("a", "b", "c", "d", "e")
        node = candidate(make_node(members=members, voted_for=None))
        node.step(RequestVoteResponse(term=1, sender="c", to="a", vote_granted=True, pre_vote=True))
        persisted(node)
        node.step(RequestVoteResponse(term=1, sender="b", to="a", vote_granted=True))
        node.step(RequestVoteResponse(term=1, sender="b", to="a", vote_granted=True))
        self.assertEqual(node.role, Role.CANDIDATE, "one vote counts once")
        node.step(RequestVoteResponse(term=1, sender="x", to="a", vote_granted=True))
        self.assertEqual(node.role, Role.CANDIDATE, "a stranger's vote counts for nothing")
        node.step(RequestVoteResponse(term=1, sender="d", to="a", vote_granted=True))
        self.assertEqual(node.role, Role.LEADER)

    def test_one_vote_a_term_first_come(self) -> None:
        """“Each server will vote for at most one candidate in a given term, on a first-come-first-served basis” (5.2);
        also after a restart, and after word from the leader of that term (B1, B2)."""
        node = make_node()
        node.step(request_vote(1, sender="b"))
        node.step(request_vote(1, sender="c"))
        node.step(request_vote(1, sender="b"))
        self.assertEqual(sorted(votes(node)), [False, True, True])
        node.step(append_entries(1, sender="b"))
        node.step(request_vote(1, sender="c"))
        self.assertEqual(votes(node), [False])
        again = make_node(term=1, voted_for="b")
        again.step(request_vote(1, sender="c"))
        self.assertEqual(votes(again), [False])

    def test_leader_sends_heartbeats_to_establish_authority(self) -> None:
        """“Once a candidate wins an election, it becomes leader. It then sends heartbeat messages to all of the other
        servers to establish its authority” (5.2); here its first entry does so at once, and heartbeats follow."""
        node = leader(make_node())
        self.assertEqual([(type(m), m.to) for m in taken(node).messages], [(AppendEntries, "b"), (AppendEntries, "c")])
        node.tick()
        self.assertEqual([(type(m), m.to) for m in taken(node).messages], [(Heartbeat, "b"), (Heartbeat, "c")])

    def test_candidate_recognises_leader(self) -> None:
        """“If the leader's term is at least as large as the candidate's current term, then the candidate recognizes the
        leader as legitimate and returns to follower state” (5.2)."""
        node = candidate(make_node())
        node.step(append_entries(1))
        self.assertEqual((node.role, node.leader), (Role.FOLLOWER, "b"))

    def test_candidate_rejects_leader_of_earlier_term(self) -> None:
        """“If the term in the RPC is smaller than the candidate's current term, then the candidate rejects the RPC and
        continues in candidate state” (5.2)."""
        node = candidate(make_node(term=4))
        node.step(append_entries(4))
        (answer,) = persisted(node)
        self.assertEqual(node.role, Role.CANDIDATE)
        self.assertEqual((answer.term, answer.to), (5, "b"))

    def test_split_vote_times_out(self) -> None:
        """“Each candidate will time out and start a new election” after a split vote (5.2)."""
        node = candidate(make_node())
        for _ in range(20):
            node.tick()
        self.assertEqual((node.role, node.current_term), (Role.PRE_CANDIDATE, 1))

    def test_late_grant_of_a_pre_vote(self) -> None:
        """A pre-vote granted for an earlier campaign says nothing about the next one (thesis 9.6)."""
        node = candidate(make_node())
        node.campaign()
        node.step(RequestVoteResponse(term=node.current_term, sender="c", to="a", vote_granted=True, pre_vote=True))
        self.assertEqual((node.role, node.current_term), (Role.PRE_CANDIDATE, 1))
        answer = RequestVoteResponse(term=2, sender="c", to="a", vote_granted=True, pre_vote=True)
        node.step(answer)
        self.assertEqual((node.role, node.current_term), (Role.CANDIDATE, 2))

    def test_randomised_timeouts(self) -> None:
        """“Election timeouts are chosen randomly from a fixed interval” (5.2): [election_ticks, 2 * election_ticks)."""
        waited = set()
        for seed in range(200):
            node, ticks = make_node(seed=seed), 0
            while node.role is Role.FOLLOWER:
                node.tick()
                ticks += 1
            waited.add(ticks)
        self.assertEqual(waited, set(range(10, 20)))

    def test_two_leaders_of_one_term(self) -> None:
        """“At most one leader can be elected in a given term” (Figure 3): a second one stops the node."""
        node = make_node()
        node.step(append_entries(1, sender="b"))
        self.assertRaises(InvariantViolation, node.step, append_entries(1, sender="c"))
        self.assertRaises(InvariantViolation, leader(make_node()).step, append_entries(1, sender="c"))


class ReplicationTests(SynchronousTestCase):
    """Section 5.3."""

    def test_leader_appends_and_sends_in_parallel(self) -> None:
        """“The leader appends the command to its log as a new entry, then issues AppendEntries RPCs in parallel to each
        of the other servers” (5.3), before its own disk has it (thesis 10.2.1)."""
        node = leader(make_node())
        taken(node)
        for peer in "bc":
            stored(node, 1, sender=peer)
        taken(node)
        made = node.propose(b"x")
        ready = taken(node)
        self.assertEqual([(m.to, m.entries) for m in ready.messages], [("b", (made,)), ("c", (made,))])  # type: ignore[attr-defined]
        assert ready.write is not None
        self.assertEqual(ready.write.entries, (made,))

    def test_only_the_leader_takes_commands(self) -> None:
        """“Raft […] clients send all of their requests to the leader” (8): others refuse and name it."""
        node = make_node()
        node.step(append_entries(1, sender="b"))
        error = self.assertRaises(NotLeader, node.propose, b"x")
        self.assertEqual((error.leader_hint, error.term), ("b", 1))

    def test_committed_once_on_majority(self) -> None:
        """“A log entry is committed once the leader that created the entry has replicated it on a majority of the
        servers” (5.3); our own copy counts once it is on disk (B4)."""
        node = leader(make_node())
        ready = taken(node)
        stored(node, 1)
        self.assertEqual(node.commit_index, 0, "our own disk has not finished")
        assert ready.write is not None
        node.advance(ready.write.write_id)
        self.assertEqual(node.commit_index, 1)

    def test_committed_without_own_disk(self) -> None:
        """The leader's own disk is not needed where a majority of others has the entry (thesis 10.2.1)."""
        node = leader(make_node())
        taken(node)
        stored(node, 1, sender="b")
        stored(node, 1, sender="c")
        self.assertEqual([entry.index for entry in taken(node).committed], [1])

    def test_commit_index_travels(self) -> None:
        """“The leader keeps track of the highest index it knows to be committed, and it includes that index in future
        AppendEntries RPCs (including heartbeats) so that the other servers eventually find out” (5.3)."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        (news,) = (m for m in taken(node).messages if m.to == "b")
        assert isinstance(news, AppendEntries)
        self.assertEqual(news.leader_commit, 1)
        node.tick()
        beats = {m.to: m.commit_index for m in taken(node).messages if isinstance(m, Heartbeat)}
        self.assertEqual(beats, {"b": 1, "c": 0}, "a heartbeat promises no more than the receiver surely has")

    def test_follower_applies_in_log_order(self) -> None:
        """“Once a follower learns that a log entry is committed, it applies the entry to its local state machine (in
        log order)” (5.3)."""
        node = make_node()
        node.step(append_entries(1, *log_of(1, 1, 1), commit=2))
        self.assertEqual([entry.index for entry in taken(node).committed], [1, 2])
        node.step(Heartbeat(term=1, sender="b", to="a", commit_index=3))
        self.assertEqual([entry.index for entry in taken(node).committed], [3])

    def test_consistency_check(self) -> None:
        """“If the follower does not find an entry in its log with the same index and term, then it refuses the new
        entries” (5.3)."""
        node = make_node(term=2, entries=log_of(1, 1))
        for prev in ((3, 2), (2, 2)):
            node.step(append_entries(2, prev=prev))
            answer = persisted(node)[-1]
            assert isinstance(answer, AppendEntriesResponse)
            self.assertEqual((answer.success, answer.rejected_index, answer.hint_index), (False, prev[0], 2))

    def test_conflicting_entries_are_overwritten(self) -> None:
        """“Conflicting entries in follower logs will be overwritten with entries from the leader's log” (5.3), on disk
        by a write that begins where the conflict is."""
        node = make_node(term=2, entries=log_of(1, 2, 2))
        new = log_of(1, 3)[1:]
        node.step(append_entries(3, *new, prev=(1, 1)))
        ready = taken(node)
        assert ready.write is not None
        self.assertEqual(ready.write.entries, new)
        self.assertEqual((node.last_index, node.term_at(2)), (2, 3))

    def test_matching_entries_stay(self) -> None:
        """“If an existing entry conflicts with a new one […] delete” (Figure 2), and only then: a late message leaves
        what follows its entries (B14, B19)."""
        node = make_node(term=1, entries=log_of(1, 1, 1, 1))
        persisted(node)
        node.step(append_entries(1, *log_of(1, 1)))
        ready = taken(node)
        self.assertEqual(node.last_index, 4)
        self.assertIs(ready.write, None)

    def test_leader_backs_up(self) -> None:
        """“After a rejection, the leader decrements nextIndex and retries” (5.3), by a whole term at a time."""
        node = leader(make_node(term=6, entries=log_of(1, 1, 1, 4, 4, 5, 5, 6, 6, 6)))
        persisted(node)
        node.step(
            AppendEntriesResponse(
                term=7, sender="b", to="a", success=False, rejected_index=10, hint_index=10, hint_term=3
            )
        )
        (retry,) = (m for m in taken(node).messages if isinstance(m, AppendEntries))
        self.assertEqual((retry.prev_log_index, retry.prev_log_term, len(retry.entries)), (3, 1, 8))

    def test_follower_hint_skips_a_term(self) -> None:
        """“When rejecting an AppendEntries request, the follower can include the term of the conflicting entry” (5.3):
        it names the last entry that can still agree."""
        node = make_node(term=6, entries=log_of(1, 1, 4, 4, 4))
        node.step(append_entries(6, prev=(5, 3)))
        answer = persisted(node)[-1]
        assert isinstance(answer, AppendEntriesResponse)
        self.assertEqual((answer.hint_index, answer.hint_term), (2, 1))

    def test_leader_append_only(self) -> None:
        """“A leader never overwrites or deletes entries in its log; it only appends new entries” (Figure 3)."""
        node = leader(make_node(term=2, entries=log_of(1, 2)))
        node.step(AppendEntriesResponse(term=3, sender="b", to="a", success=False, rejected_index=2, hint_index=0))
        self.assertEqual([node.term_at(index) for index in (1, 2, 3)], [1, 2, 3])


class SafetyTests(SynchronousTestCase):
    """Section 5.4."""

    def test_election_restriction(self) -> None:
        """“The voter denies its vote if its own log is more up-to-date than that of the candidate” (5.4.1): by the
        later term, then by length."""
        for last, granted in (((2, 2), True), ((3, 2), True), ((1, 3), True), ((1, 2), False), ((9, 1), False)):
            node = make_node(term=2, entries=log_of(1, 2))
            node.step(request_vote(3, last=last))
            self.assertEqual(votes(node), [granted], f"last index and term {last}")

    def test_no_commit_by_counting_older_terms(self) -> None:
        """“Raft never commits log entries from previous terms by counting replicas” (5.4.2, Figure 8, B11); “once an
        entry from the current term has been committed in this way, then all prior entries are committed indirectly”
        (B12)."""
        node = leader(make_node(term=2, entries=log_of(1, 2)))
        persisted(node)
        stored(node, 2)
        self.assertEqual(node.commit_index, 0)
        stored(node, 3)
        self.assertEqual(node.commit_index, 3)

    def test_never_below_commit(self) -> None:
        """“If a server has applied a log entry at a given index, no other server will ever apply a different log entry
        for the same index” (Figure 3): an order to do so stops the node."""
        node = make_node(term=1, entries=log_of(1, 1))
        node.step(append_entries(1, prev=(2, 1), commit=2))
        self.assertRaises(InvariantViolation, node.step, append_entries(3, *log_of(3), sender="c"))


class CrashTests(SynchronousTestCase):
    """Sections 5.5 and 5.6."""

    def test_requests_are_idempotent(self) -> None:
        """“If a follower receives an AppendEntries request that includes log entries already present in its log, it
        ignores those entries in the new request” (5.5), and answers as before."""
        node = make_node()
        answers = []
        for _ in range(2):
            node.step(append_entries(1, *log_of(1, 1)))
            answers.append(persisted(node)[-1])
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(node.last_index, 2)

    def test_persist_before_answering(self) -> None:
        """“Updated on stable storage before responding to RPCs” (Figure 2): votes and acknowledgements wait for the
        write, and for every write before it (B1, B3, B4)."""
        for message in (request_vote(1), append_entries(1, *log_of(1))):
            node = make_node()
            node.step(message)
            ready = taken(node)
            self.assertEqual(ready.messages, ())
            assert ready.write is not None
            self.assertEqual(ready.write.hard_state.term if ready.write.hard_state else None, 1)
            self.assertFalse(node.has_ready())
            node.advance(ready.write.write_id)
            self.assertEqual(len(taken(node).messages), 1)

    def test_acknowledge_only_stable_entries(self) -> None:
        """A repeated AppendEntries has nothing to write, and is still answered only once the first write of its entries
        is on disk (B4)."""
        node = make_node()
        node.step(append_entries(1, *log_of(1)))
        first = taken(node)
        node.step(append_entries(1, *log_of(1)))
        self.assertEqual(taken(node).messages, ())
        assert first.write is not None
        node.advance(first.write.write_id)
        self.assertEqual(len(taken(node).messages), 2)


class MembershipTests(SynchronousTestCase):
    """Section 6."""

    def test_configuration_in_force_on_append(self) -> None:
        """“A server always uses the latest configuration in its log, regardless of whether the entry is committed”
        (6), and the one before it again once that is truncated (B21)."""
        node = make_node()
        changed = configuration("a", "b", "c", learners=("d",))
        held = Entry(index=1, term=1, kind=EntryKind.CONFIGURATION, payload=changed.encode())
        node.step(append_entries(1, held))
        self.assertEqual((node.configuration, node.configuration_index), (changed, 1))
        self.assertTrue(taken(node).configuration_changed)
        self.assertEqual(node.committed_configuration(), (configuration("a", "b", "c"), 0))
        node.step(append_entries(2, *log_of(2), sender="c"))
        self.assertEqual(node.configuration, configuration("a", "b", "c"))
        self.assertTrue(taken(node).configuration_changed)

    def test_joint_majorities(self) -> None:
        """“Agreement (for elections and entry commitment) requires separate majorities from both the old and new
        configurations” (6)."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        node.propose_configuration(configuration("a", "d", "e"))
        persisted(node)
        stored(node, 2, sender="d")
        stored(node, 2, sender="e")
        self.assertEqual(node.commit_index, 1)
        stored(node, 2, sender="b")
        self.assertEqual(node.commit_index, 2)

    def test_joint_configuration_is_left(self) -> None:
        """“Once C_old,new has been committed […] it is now safe for the leader to create a log entry describing C_new”
        (6)."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        node.propose_configuration(configuration("a", "b"))
        self.assertEqual(node.configuration.outgoing_voters, {"a", "b", "c"})
        persisted(node)
        stored(node, 2)
        self.assertEqual((node.configuration, node.configuration_index), (configuration("a", "b"), 3))

    def test_new_leader_finishes_joint_change(self) -> None:
        """A leader that inherits a joint configuration leaves it once it has committed an entry of its own (6)."""
        joint = configuration("a", "b", "c").enter_joint(configuration("a", "b"))
        held = Entry(index=1, term=1, kind=EntryKind.CONFIGURATION, payload=joint.encode())
        node = leader(make_node(term=1, entries=(held,)))
        persisted(node)
        stored(node, 2)
        self.assertEqual(node.configuration, configuration("a", "b"))

    def test_new_servers_do_not_count(self) -> None:
        """“The new servers join the cluster as non-voting members (the leader replicates log entries to them, but they
        are not considered for majorities)” (6)."""
        node = leader(make_node(members=configuration("a", "b", "c", learners=("d",))))
        self.assertIn("d", [message.to for message in persisted(node)])
        stored(node, 1, sender="d")
        self.assertEqual(node.commit_index, 0)

    def test_removed_leader_steps_down(self) -> None:
        """“The leader steps down (returns to follower state) once it has committed the C_new log entry”; meanwhile “it
        replicates log entries but does not count itself in majorities” (6)."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        node.propose_configuration(configuration("b", "c"))
        persisted(node)
        stored(node, 2)
        stored(node, 2, sender="c")
        persisted(node)
        self.assertEqual(node.configuration, configuration("b", "c"))
        stored(node, 3)
        self.assertEqual((node.role, node.commit_index), (Role.LEADER, 2), "one of two is no majority")
        stored(node, 3, sender="c")
        self.assertEqual((node.role, node.commit_index), (Role.FOLLOWER, 3))

    def test_removed_servers_cannot_disrupt(self) -> None:
        """“Servers disregard RequestVote RPCs when they believe a current leader exists” (6): neither is the vote given
        nor the term taken over (B6, B7)."""
        follower = make_node()
        follower.step(append_entries(1))
        for node in (follower, leader(make_node())):
            for _ in range(9):
                node.tick()
                node.step(HeartbeatResponse(term=1, sender="b", to="a"))
            node.step(request_vote(9, sender="z", last=(9, 8)))
            node.step(request_vote(9, sender="z", last=(9, 8), pre_vote=True))
            self.assertEqual(node.current_term, 1)
        follower.tick()
        follower.step(request_vote(9, sender="z", last=(9, 8)))
        self.assertEqual(follower.current_term, 9, "the minimum election timeout has passed")


class SnapshotTests(SynchronousTestCase):
    """Section 7."""

    def setUp(self) -> None:
        self.meta = SnapshotMeta(
            index=3, term=2, configuration=configuration("a", "b", "c", "d"), configuration_index=2
        )
        self.message = InstallSnapshot(term=2, sender="b", to="a", snapshot=self.meta)

    def test_snapshot_replaces_log(self) -> None:
        """“The follower discards its entire log; it is all superseded by the snapshot and may possibly have uncommitted
        entries that conflict with the snapshot” (7); the answer waits for the disk."""
        node = make_node(term=2, entries=log_of(1, 1, 1, 1, 1))
        persisted(node)
        node.step(self.message)
        ready = taken(node)
        assert ready.write is not None
        self.assertEqual((ready.write.snapshot, ready.messages), (self.meta, ()))
        self.assertEqual((node.last_index, node.first_index, node.commit_index, node.last_applied), (3, 4, 3, 3))
        self.assertEqual((node.configuration, node.configuration_index), (self.meta.configuration, 2))
        node.advance(ready.write.write_id)
        (answer,) = taken(node).messages
        self.assertEqual(answer, AppendEntriesResponse(term=2, sender="a", to="b", success=True, match_index=3))

    def test_snapshot_of_a_prefix(self) -> None:
        """“If instead the follower receives a snapshot that describes a prefix of its log […] entries following the
        snapshot are still valid and must be retained” (7, B46)."""
        node = make_node(term=2, entries=log_of(1, 1, 2, 2, 2))
        persisted(node)
        node.step(self.message)
        ready = taken(node)
        self.assertIs(ready.write, None)
        self.assertEqual([entry.index for entry in ready.committed], [1, 2, 3])
        self.assertEqual((node.last_index, node.commit_index), (5, 3))

    def test_old_snapshot(self) -> None:
        """A snapshot that ends before what is committed changes nothing, and is acknowledged (B46)."""
        node = make_node(term=2, entries=log_of(1, 1, 2, 2, 2))
        node.step(append_entries(2, prev=(5, 2), commit=5))
        persisted(node)
        node.step(self.message)
        (answer,) = persisted(node)
        assert isinstance(answer, AppendEntriesResponse)
        self.assertEqual((answer.match_index, node.last_index, node.commit_index), (5, 5, 5))

    def test_leader_without_the_entry_sends_a_snapshot(self) -> None:
        """“The leader must occasionally send snapshots to followers that lag behind […] when the leader has already
        discarded the next log entry that it needs to send” (7)."""
        cluster = Cluster("a", "b", "c")
        cluster.elect("a")
        cluster.isolate("c")
        cluster.propose("a", b"x")
        cluster.settle()
        self.assertEqual(cluster.take_snapshot("a"), 2)
        cluster.heal()
        cluster.tick("a")
        cluster.settle()
        self.assertEqual((cluster["c"].snapshot_index, cluster["c"].commit_index), (2, 2))


class ClientTests(SynchronousTestCase):
    """Section 8."""

    def test_noop_at_start_of_term(self) -> None:
        """“Raft handles this by having each leader commit a blank no-op entry into the log at the start of its term”
        (8)."""
        ready = taken(leader(make_node(term=3)))
        assert ready.write is not None
        self.assertEqual([(e.kind, e.term) for e in ready.write.entries], [(EntryKind.NOOP, 4)])

    def test_read_needs_a_majority(self) -> None:
        """“Raft handles this by having the leader exchange heartbeat messages with a majority of the cluster before
        responding to read-only requests” (8, B28), at once and not with the next tick."""
        node = leader(make_node())
        persisted(node)
        stored(node, 1)
        taken(node)
        node.read_index(5)
        ready = taken(node)
        self.assertEqual([type(m) for m in ready.messages], [Heartbeat, Heartbeat])
        self.assertEqual(ready.reads, ())
        node.step(HeartbeatResponse(term=1, sender="b", to="a", read_round=0))
        self.assertEqual(taken(node).reads, (), "an echo from before the read proves nothing")
        node.step(HeartbeatResponse(term=1, sender="b", to="a", read_round=1))
        self.assertEqual([(read.context, read.index) for read in taken(node).reads], [(5, 1)])

    def test_read_waits_for_commit_of_own_term(self) -> None:
        """“A leader must have the latest information on which entries are committed” before it serves a read: until an
        entry of its own term is, it defers (8, B29)."""
        node = leader(make_node(term=1, entries=log_of(1)))
        persisted(node)
        node.read_index(5)
        self.assertEqual(persisted(node), ())
        node.step(HeartbeatResponse(term=2, sender="b", to="a"))
        self.assertEqual(taken(node).reads, ())
        stored(node, 2)
        taken(node)
        node.step(HeartbeatResponse(term=2, sender="b", to="a", read_round=1))
        self.assertEqual([read.index for read in taken(node).reads], [2])
