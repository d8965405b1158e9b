"""The checkers find each breach of Figure 3, and nothing where there is none."""

from __future__ import annotations

import dataclasses
from dataclasses import dataclass, field

from twisted.trial.unittest import SynchronousTestCase

from raftkv.interfaces import Recovered
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import (
    AppendEntriesResponse,
    Entry,
    EntryKind,
    HardState,
    RequestVote,
    RequestVoteResponse,
    SnapshotMeta,
)
from raftkv.raft.ready import Role, Write
from raftkv.testing.checkers import Checkers, Violation
from raftkv.testing.shadow import ShadowLog

THREE = Configuration(voters=frozenset("abc"))


@dataclass
class FakeNode:
    """A core that says of itself what the test wants."""

    role: Role = Role.FOLLOWER
    current_term: int = 0
    voted_for: str | None = None
    commit_index: int = 0
    first_index: int = 1
    terms: list[int] = field(default_factory=list)
    configuration: Configuration = THREE
    configuration_index: int = 0
    may_lack_entries: bool = False

    @property
    def last_index(self) -> int:
        return self.first_index - 1 + len(self.terms)

    def term_at(self, index: int) -> int | None:
        place = index - self.first_index
        return self.terms[place] if 0 <= place < len(self.terms) else None


@dataclass
class FakeState:
    """A state machine likewise."""

    applied_index: int = 0
    revision: int = 0
    value: str = "0"

    def digest(self) -> str:
        return self.value


def entry(index: int, term: int, payload: bytes = b"") -> Entry:
    """Make an entry."""
    return Entry(index=index, term=term, kind=EntryKind.COMMANDS, payload=payload)


def nothing() -> Recovered:
    """What a new disk holds."""
    return Recovered(hard_state=HardState(), snapshot=None, entries=[], first_previous_term=0, is_new=True)


class CheckersTestCase(SynchronousTestCase):
    """Three nodes that follow orders."""

    def setUp(self) -> None:
        self.checkers = Checkers()
        self.nodes: dict[str, FakeNode] = {}
        self.states: dict[str, FakeState] = {}
        self.write_ids = dict.fromkeys("abc", 0)
        for name in "abc":
            self.start(name, nothing())

    def start(self, name: str, recovered: Recovered) -> None:
        """Start a node, anew or again."""
        hard_state, entries = recovered.hard_state, recovered.entries
        terms = [each.term for each in entries]
        self.nodes[name] = FakeNode(
            current_term=hard_state.term,
            voted_for=hard_state.voted_for,
            first_index=recovered.terms.previous_index + 1,
            terms=terms,
        )
        self.states[name] = FakeState()
        self.write_ids[name] = 0
        self.checkers.started(name, self.nodes[name], recovered)

    def write(
        self,
        name: str,
        *entries: Entry,
        hard_state: HardState | None = None,
        snapshot: SnapshotMeta | None = None,
        durable: bool = True,
    ) -> None:
        """Let a node write, and its disk sync."""
        self.write_ids[name] += 1
        node = self.nodes[name]
        if snapshot is not None:
            node.first_index, node.terms = snapshot.index + 1, []
        if entries:
            del node.terms[entries[0].index - node.first_index :]
            node.terms.extend(each.term for each in entries)
        write = Write(write_id=self.write_ids[name], hard_state=hard_state, snapshot=snapshot, entries=entries)
        self.checkers.written(name, write)
        if durable:
            self.checkers.durable(name, write.write_id)

    def lead(self, name: str, term: int) -> None:
        """Make a node leader of a term."""
        self.nodes[name].role, self.nodes[name].current_term = Role.LEADER, term
        self.look(name)

    def commit(self, name: str, index: int) -> None:
        """Move a node's commit index."""
        self.nodes[name].commit_index = index
        self.look(name)

    def look(self, name: str) -> None:
        self.checkers.look(name, self.states[name])

    def assert_breach(self, rule: str, function: object, *arguments: object, **keywords: object) -> None:
        """Demand that a rule is broken, and which."""
        violation = self.assertRaises(Violation, function, *arguments, **keywords)
        self.assertEqual(rule, violation.rule)


class ElectionCheckTests(CheckersTestCase):
    """Terms, votes, leaders."""

    def test_forgotten_at_a_restart(self) -> None:
        """A node that begins without the vote, the term or the entries of its disk is found (B1, B3, B51)."""
        hard_state = HardState(term=2, voted_for="b")
        recovered = Recovered(
            hard_state=hard_state, snapshot=None, entries=[entry(1, 1)], first_previous_term=0, is_new=False
        )
        self.write("a", entry(1, 1), hard_state=hard_state)
        for view in (
            FakeNode(current_term=2, terms=[1]),
            FakeNode(current_term=1, voted_for="b", terms=[1]),
            FakeNode(current_term=2, voted_for="b"),
        ):
            self.assert_breach("forgotten at a restart", self.checkers.started, "a", view, recovered)
        self.start("a", recovered)

    def test_one_leader_a_term(self) -> None:
        """Leaders of different terms are fine; two of one term are not (Election Safety)."""
        self.lead("a", 1)
        self.lead("b", 2)
        self.assert_breach("election safety", self.lead, "c", 2)

    def test_same_node_leads_one_term_twice(self) -> None:
        """A restarted node must not lead the term that it led before (B1)."""
        self.lead("a", 1)
        self.start("a", nothing())
        self.assert_breach("election safety", self.lead, "a", 1)

    def test_term_goes_back(self) -> None:
        """A running node never returns to an earlier term."""
        self.lead("a", 2)
        self.assert_breach("term goes back", self.lead, "a", 1)

    def test_two_votes(self) -> None:
        """A node that votes for two candidates of one term is found, across a restart too (B1, B2)."""
        vote = RequestVoteResponse(term=1, sender="a", to="b", vote_granted=True)
        self.write("a", hard_state=HardState(term=1, voted_for="b"))
        self.checkers.sent(vote)
        self.checkers.sent(vote)
        other = RequestVoteResponse(term=1, sender="a", to="c", vote_granted=True)
        self.assert_breach("one vote", self.checkers.sent, other)

    def test_pre_votes_promise_nothing(self) -> None:
        """Pre-votes and refusals may be said to anybody."""
        for to in "bc":
            self.checkers.sent(RequestVoteResponse(term=1, sender="a", to=to, vote_granted=True, pre_vote=True))
            self.checkers.sent(RequestVoteResponse(term=1, sender="a", to=to, vote_granted=False))
            self.checkers.sent(RequestVote(term=1, sender="a", to=to, last_log_index=0, last_log_term=0, pre_vote=True))

    def test_vote_before_sync(self) -> None:
        """A vote, also a candidate's for itself, is on disk before it is said."""
        self.write("a", hard_state=HardState(term=1, voted_for="b"), durable=False)
        vote = RequestVoteResponse(term=1, sender="a", to="b", vote_granted=True)
        self.assert_breach("vote before sync", self.checkers.sent, vote)
        request = RequestVote(term=1, sender="c", to="b", last_log_index=0, last_log_term=0)
        self.assert_breach("vote before sync", self.checkers.sent, request)

    def test_hard_state_goes_back(self) -> None:
        """Neither the term nor, within a term, the vote is taken back (B2)."""
        self.write("a", hard_state=HardState(term=2, voted_for="b"))
        self.assert_breach("hard state goes back", self.write, "a", hard_state=HardState(term=2))
        self.assert_breach("hard state goes back", self.write, "a", hard_state=HardState(term=1, voted_for="b"))

    def test_leader_completeness(self) -> None:
        """A leader that lacks a committed entry of an earlier term is found."""
        for name in "ab":
            self.write(name, entry(1, 1))
        self.lead("a", 1)
        self.commit("a", 1)
        self.assert_breach("leader completeness", self.lead, "c", 2)

    def test_leader_of_the_past(self) -> None:
        """A leader may lack an entry older than itself that only the leader after it has committed (Figure 8)."""
        for name in "ab":
            self.write(name, entry(1, 1))
        self.lead("a", 1)
        self.lead("c", 2)
        for name in "ab":
            self.write(name, entry(2, 3))
        self.lead("a", 3)
        self.commit("a", 2)
        self.nodes["c"].role = Role.FOLLOWER
        self.look("c")
        self.lead("c", 2)

    def test_leader_completeness_in_retrospect(self) -> None:
        """An entry that is committed by an old leader while a later one lacks it is found."""
        for name in "ab":
            self.write(name, entry(1, 1))
        self.lead("a", 1)
        self.lead("c", 2)
        self.assert_breach("leader completeness", self.commit, "a", 1)


class LogCheckTests(CheckersTestCase):
    """Logs and disks."""

    def test_log_matching(self) -> None:
        """Two entries of one index and term must be the same (Log Matching)."""
        self.write("a", entry(1, 1, b"x"))
        self.write("b", entry(1, 1, b"x"))
        self.assert_breach("log matching", self.write, "c", entry(1, 1, b"y"))

    def test_log_matching_before(self) -> None:
        """Two logs that share an entry must share the one before it."""
        self.write("a", entry(1, 1), entry(2, 2))
        self.assert_breach("log matching", self.write, "b", entry(1, 2), entry(2, 2))

    def test_gap(self) -> None:
        """A log has no gaps (B45)."""
        self.write("a", entry(1, 1))
        self.assert_breach("gap in the log", self.write, "a", entry(3, 1))

    def test_leader_append_only(self) -> None:
        """A leader never overwrites its own log, a follower may."""
        self.write("a", entry(1, 1), entry(2, 1))
        self.write("a", entry(2, 2))
        self.lead("a", 3)
        self.assert_breach("leader append-only", self.write, "a", entry(2, 3))

    def test_committed_entry_overwritten(self) -> None:
        """What a node knows to be committed is never replaced in its log (B14)."""
        self.write("a", entry(1, 1), entry(2, 1))
        self.commit("a", 1)
        self.write("a", entry(2, 2))
        self.assert_breach("committed entry overwritten", self.write, "a", entry(1, 2))

    def test_acknowledged_before_sync(self) -> None:
        """A follower acknowledges only what its disk has (B4)."""
        self.write("a", entry(1, 1))
        self.write("a", entry(2, 1), durable=False)
        self.checkers.sent(AppendEntriesResponse(term=1, sender="a", to="b", success=True, match_index=1))
        early = AppendEntriesResponse(term=1, sender="a", to="b", success=True, match_index=2)
        self.assert_breach("acknowledged before sync", self.checkers.sent, early)

    def restart(self, name: str, *entries: Entry, term: int = 0, snapshot: SnapshotMeta | None = None) -> None:
        """Start a node on what its disk is said to hold."""
        first_previous_term = 0
        hard_state = HardState(term=term)
        self.start(
            name,
            Recovered(
                hard_state=hard_state,
                snapshot=snapshot,
                entries=entries,
                first_previous_term=first_previous_term,
                is_new=False,
            ),
        )

    def test_crash_may_lose_what_was_not_durable(self) -> None:
        """A write that was never called durable may be there or not after a crash."""
        self.write("a", entry(1, 1))
        self.write("a", entry(2, 1), durable=False)
        self.restart("a", entry(1, 1))
        self.write("a", entry(2, 1), durable=False)
        self.restart("a", entry(1, 1), entry(2, 1))

    def test_durable_entry_lost(self) -> None:
        """A write that was called durable is there after a crash."""
        self.write("a", entry(1, 1), entry(2, 1))
        self.assert_breach("durable entry lost", self.restart, "a", entry(1, 1))

    def test_truncation_under_way(self) -> None:
        """A durable entry may be gone if a later write was about to replace it."""
        self.write("a", entry(1, 1), entry(2, 1))
        self.write("a", entry(2, 2), durable=False)
        self.restart("a", entry(1, 1))

    def test_snapshot_covers(self) -> None:
        """Entries that a snapshot on the disk stands for need not be in the log."""
        self.write("a", entry(1, 1), entry(2, 1))
        self.restart("a", snapshot=SnapshotMeta(index=2, term=1, configuration=THREE, configuration_index=0))

    def test_snapshot_lost(self) -> None:
        """A log whose start is gone with the snapshot that stood for it is found."""
        self.write("a", *(entry(index, 1) for index in (1, 2, 3)))
        snapshot = SnapshotMeta(index=2, term=1, configuration=THREE, configuration_index=0)
        self.restart("a", entry(3, 1), snapshot=snapshot)
        self.assert_breach("durable entry lost", self.restart, "a", entry(3, 1))

    def test_entry_forged(self) -> None:
        """What comes back from the disk is, byte for byte, what was written (B41)."""
        self.write("a", entry(1, 1, b"this"))
        self.assert_breach("entry forged", self.restart, "a", entry(1, 1, b"that"))

    def test_durable_hard_state_lost(self) -> None:
        """The hard state after a crash is the last durable one or one that was being written (B1, B3)."""
        self.write("a", hard_state=HardState(term=3))
        self.write("a", hard_state=HardState(term=4), durable=False)
        self.restart("a", term=4)
        self.write("a", hard_state=HardState(term=5))
        self.assert_breach("durable hard state lost", self.restart, "a", term=4)

    def test_term_of_a_snapshot(self) -> None:
        """A node whose snapshot is of a later term than its disk has heard of begins in that term, without a vote."""
        snapshot = SnapshotMeta(index=2, term=6, configuration=THREE, configuration_index=0)
        self.write("a", hard_state=HardState(term=3))
        self.write("a", hard_state=HardState(term=6, voted_for="b"), durable=False)
        self.restart("a", term=6, snapshot=snapshot)
        self.assert_breach("durable hard state lost", self.restart, "a", term=7, snapshot=snapshot)
        self.write("a", hard_state=HardState(term=8))
        self.assert_breach("durable hard state lost", self.restart, "a", term=6, snapshot=snapshot)


class CommitCheckTests(CheckersTestCase):
    """Commitment and application."""

    def test_lawful_commit(self) -> None:
        """A leader commits an entry of its term once a majority of disks has it, and others follow."""
        self.write("a", entry(1, 1))
        self.write("b", entry(1, 1))
        self.lead("a", 1)
        self.commit("a", 1)
        self.commit("b", 1)

    def test_committed_without_majority(self) -> None:
        """An entry that only one disk of three has is not committed, though a second one is writing it (B4)."""
        self.write("a", entry(1, 1))
        self.write("b", entry(1, 1), durable=False)
        self.lead("a", 1)
        self.assert_breach("committed without majority", self.commit, "a", 1)

    def test_joint_majority(self) -> None:
        """In a joint configuration both sides need a majority (section 6)."""
        self.nodes["a"].configuration = Configuration(voters=frozenset("a"), outgoing_voters=frozenset("abc"))
        self.write("a", entry(1, 1))
        self.lead("a", 1)
        self.assert_breach("committed without majority", self.commit, "a", 1)

    def test_acknowledged_by_a_lost_disk(self) -> None:
        """What an incarnation acknowledged before its disk was lost counts for that incarnation alone (B24)."""
        for incarnation in ("old", "new"):
            self.setUp()
            for name in "ab":
                self.write(name, entry(1, 1))
            members = {name: Member(id=name, incarnation=incarnation) for name in "abc"}
            self.nodes["a"].configuration = dataclasses.replace(THREE, members=members)
            self.lead("a", 1)
            self.checkers.wiped("b", incarnation="old")
            self.start("b", nothing())
            if incarnation == "old":
                self.commit("a", 1)
            else:
                self.assert_breach("committed without majority", self.commit, "a", 1)

    def test_old_entry_counted(self) -> None:
        """A leader does not commit an entry of an earlier term by counting (Figure 8, B11)."""
        for name in "ab":
            self.write(name, entry(1, 1))
        self.lead("a", 2)
        self.assert_breach("old entry counted", self.commit, "a", 1)

    def test_commit_goes_back(self) -> None:
        """A commit index never falls while a node runs (B13)."""
        self.write("b", entry(1, 1), entry(2, 1))
        self.commit("b", 2)
        self.assert_breach("commit index goes back", self.commit, "b", 1)

    def test_commit_past_the_log(self) -> None:
        """Nothing can be committed that is not there (B16)."""
        self.write("b", entry(1, 1))
        self.assert_breach("commit index past the log", self.commit, "b", 2)

    def test_two_entries_committed_at_one_index(self) -> None:
        """Two nodes that commit different entries at one index are found (State Machine Safety)."""
        self.write("b", entry(1, 1))
        self.write("c", entry(1, 2))
        self.commit("b", 1)
        self.assert_breach("state machine safety", self.commit, "c", 1)

    def test_another_entry_applied(self) -> None:
        """What is applied must be what is committed, and be committed first."""
        self.write("b", entry(1, 1))
        self.assert_breach("state machine safety", self.checkers.applied, "b", entry(1, 1))
        self.commit("b", 1)
        self.checkers.applied("b", entry(1, 1))
        self.assert_breach("state machine safety", self.checkers.applied, "b", entry(1, 2))

    def apply(self, name: str, index: int, value: str) -> None:
        """Move a node's state machine."""
        self.states[name].applied_index, self.states[name].value = index, value
        self.look(name)

    def test_states_diverge(self) -> None:
        """Equal applied indexes mean equal digests (B38, B40)."""
        for name in "ab":
            self.write(name, entry(1, 1))
            self.commit(name, 1)
        self.apply("a", 1, "x")
        self.assert_breach("states diverge", self.apply, "b", 1, "y")

    def test_applied_before_committed(self) -> None:
        """A state machine is never ahead of the commit index (B17)."""
        self.write("a", entry(1, 1))
        self.assert_breach("applied before committed", self.apply, "a", 1, "x")

    def test_applied_goes_back(self) -> None:
        """A state machine never goes back while its node runs."""
        self.write("a", entry(1, 1), entry(2, 1))
        self.commit("a", 2)
        self.apply("a", 2, "x")
        self.assert_breach("applied index goes back", self.apply, "a", 1, "x")


class ShadowLogTests(SynchronousTestCase):
    """The shadow of a log."""

    def test_snapshot_keeps_what_matches(self) -> None:
        """A snapshot drops the whole log where that does not hold its last entry, else only what it covers (B46)."""
        meta = SnapshotMeta(index=2, term=1, configuration=THREE, configuration_index=0)
        matching, conflicting = ShadowLog(terms=[1, 1, 2]), ShadowLog(terms=[1, 2, 2])
        matching.install(meta)
        conflicting.install(meta)
        self.assertEqual((3, 2), (matching.last_index, matching.term_at(3)))
        self.assertEqual((2, 1), (conflicting.last_index, conflicting.term_at(2)))
        self.assertTrue(matching.holds(1, 9))
        self.assertFalse(matching.holds(4, 2))


class LossTests(CheckersTestCase):
    """A node whose log is not what it was, and that says so."""

    def come_back(self, *, term: int) -> None:
        """Node a had two entries of term 1 on its disk, and comes back with one."""
        self.write("a", entry(1, 1), entry(2, 1), hard_state=HardState(term=1))
        recovered = Recovered(
            hard_state=HardState(term=term),
            snapshot=None,
            entries=[entry(1, 1)],
            first_previous_term=0,
            is_new=False,
            lost_term=1,
        )
        self.start("a", recovered)
        self.nodes["a"].may_lack_entries = True

    def test_lost_term(self) -> None:
        """Who lost entries and says so may come back, but in a later term."""
        self.come_back(term=2)
        self.setUp()
        violation = self.assertRaises(Violation, self.come_back, term=1)
        self.assertEqual("loss without a new term", violation.rule)

    def test_vote(self) -> None:
        """B42: it may not vote before it has caught up."""
        self.come_back(term=2)
        self.write("a", hard_state=HardState(term=3, voted_for="b"))
        vote = RequestVoteResponse(term=3, sender="a", to="b", vote_granted=True)
        violation = self.assertRaises(Violation, self.checkers.sent, vote)
        self.assertEqual("vote without its log", violation.rule)
        self.nodes["a"].may_lack_entries = False
        self.checkers.look("a", self.states["a"])
        self.checkers.sent(vote)
