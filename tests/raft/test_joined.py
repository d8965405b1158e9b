"""A server that came to a running cluster under a name that another server may have had before."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

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
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role
from tests.raft.cluster import configuration, make_node
from tests.raft.test_bugs import leader


def named(incarnation: str) -> Configuration:
    """Return a configuration in which ``c`` is of this incarnation."""
    members = configuration("a", "b", "c")
    return replace(members, members={**members.members, "c": replace(members.members["c"], incarnation=incarnation)})


def answers(node: RaftNode, to_incarnation: str) -> list[bool]:
    """Ask for a vote and return what is said."""
    node.step(
        RequestVote(
            term=node.current_term + 1,
            sender="a",
            to="c",
            last_log_index=9,
            last_log_term=9,
            pre_vote=True,
            to_incarnation=to_incarnation,
        )
    )
    messages = node.take_ready().messages
    return [message.vote_granted for message in messages if isinstance(message, RequestVoteResponse)]


class JoinedTests(SynchronousTestCase):
    """What is about an earlier server of its name is not about it."""

    def test_votes_by_incarnation(self) -> None:
        """B23: it votes only when asked by its incarnation; a founder also when asked by name alone."""
        for incarnation, joined, expected in (
            ("C", True, [True]),
            ("", True, []),
            ("X", True, []),
            ("", False, [True]),
            ("X", False, []),
        ):
            node = make_node("c", members=named("X"), joined=joined)
            self.assertEqual((incarnation, joined, answers(node, incarnation)), (incarnation, joined, expected))

    def test_campaigns_by_incarnation(self) -> None:
        """B23: it campaigns where the configuration names its incarnation as a voter, not where it names another."""
        for incarnation, joined, may in (
            ("C", True, True),
            ("", True, False),
            ("X", True, False),
            ("", False, True),
            ("X", False, False),
        ):
            node = make_node("c", members=named(incarnation), joined=joined)
            node.campaign()
            self.assertEqual((incarnation, joined, node.role is Role.PRE_CANDIDATE), (incarnation, joined, may))


def learner(incarnation: str) -> Configuration:
    """Return a configuration in which ``c`` is a learner of this incarnation, on its way to be a voter."""
    return replace(named(incarnation), voters=frozenset("ab"), learners=frozenset("c"), promoting=frozenset("c"))


class WipedTests(SynchronousTestCase):
    """A server that has lost its disk, among others that remember what it had."""

    def setUp(self) -> None:
        self.node = make_node("c", members=learner("C"), joined=True)

    def answers(self) -> list[object]:
        """Return what it says, once its disk has done what was asked."""
        said: list[object] = []
        while self.node.has_ready():
            ready = self.node.take_ready()
            said += ready.messages
            if ready.write is not None:
                self.node.advance(ready.write.write_id)
        return said

    def test_commit_beyond_its_log(self) -> None:
        """B24: a leader that believes in entries which the disk had does not make it commit them, or stop."""
        self.node.step(Heartbeat(term=3, sender="a", to="c", commit_index=40, read_round=7))
        (answer,) = self.answers()
        self.assertIsInstance(answer, HeartbeatResponse)
        self.assertEqual((self.node.commit_index, self.node.current_term), (0, 3))

    def test_entries_beyond_its_log(self) -> None:
        """B24: entries that follow on what it has no more are refused, and the answer says where its log ends."""
        entry = Entry(index=41, term=3, kind=EntryKind.COMMANDS, payload=b"x")
        self.node.step(
            AppendEntries(
                term=3, sender="a", to="c", prev_log_index=40, prev_log_term=2, leader_commit=40, entries=(entry,)
            )
        )
        (answer,) = self.answers()
        assert isinstance(answer, AppendEntriesResponse)
        self.assertEqual((answer.success, answer.rejected_index, answer.hint_index), (False, 40, 0))
        self.assertEqual((self.node.last_index, self.node.commit_index), (0, 0))

    def test_snapshot(self) -> None:
        """B24: it begins with a snapshot like any other; what is about its former self there makes it nothing."""
        meta = SnapshotMeta(index=40, term=2, configuration=named("X"), configuration_index=9)
        self.node.step(AppendEntries(term=3, sender="a", to="c", prev_log_index=40, prev_log_term=2, leader_commit=40))
        self.node.step(InstallSnapshot(term=3, sender="a", to="c", snapshot=meta))
        self.answers()
        self.assertEqual((self.node.commit_index, self.node.configuration), (40, named("X")))
        self.node.campaign()
        self.assertIs(self.node.role, Role.FOLLOWER)
        self.assertEqual(answers(self.node, "X"), [])

    def test_asked_to_lead(self) -> None:
        """B24: a leader that takes it for its former self does not make it campaign, however up to date that was."""
        self.node.step(Heartbeat(term=3, sender="a", to="c", commit_index=0))
        self.node.step(TimeoutNow(term=3, sender="a", to="c"))
        self.assertEqual((self.node.role, self.node.current_term), (Role.FOLLOWER, 3))

    def test_votes_that_were_asked_of_its_former_self(self) -> None:
        """B24: neither a vote nor a pre-vote that names the lost disk's incarnation is answered, nor its term taken."""
        for pre_vote in (False, True):
            request = RequestVote(
                term=9, sender="a", to="c", last_log_index=9, last_log_term=9, pre_vote=pre_vote, to_incarnation="X"
            )
            self.node.step(request)
            self.assertEqual((self.answers(), self.node.current_term), ([], 0))


class LeaderOfWipedTests(SynchronousTestCase):
    """A leader, and what the former self of a wiped member had said to it."""

    def setUp(self) -> None:
        self.node = leader(make_node())
        self.persist()
        for peer in "bc":
            self.node.step(AppendEntriesResponse(term=1, sender=peer, to="a", success=True, match_index=1))
        self.persist()

    def persist(self) -> None:
        """Let the disk do what was asked."""
        while self.node.has_ready():
            ready = self.node.take_ready()
            if ready.write is not None:
                self.node.advance(ready.write.write_id)

    def test_read_confirmations(self) -> None:
        """B24: a read is not confirmed by what the lost disk's node echoed."""
        self.node.step(HeartbeatResponse(term=1, sender="c", to="a", read_round=5))
        self.node.propose_configuration(named("new"))
        self.persist()
        self.node.read_index(1)
        self.assertEqual(self.node.take_ready().reads, ())
        self.node.step(HeartbeatResponse(term=1, sender="b", to="a", read_round=5))
        self.assertEqual([read.index for read in self.node.take_ready().reads], [1])

    def test_late_refusal_of_the_new_disk(self) -> None:
        """B24: the empty disk is asked anew where its log ends, although the old one had acknowledged more."""
        self.node.propose_configuration(learner("C"))
        for _ in range(3):  # the joint configuration, then the one behind it
            self.persist()
            stored = AppendEntriesResponse(term=1, sender="b", to="a", success=True, match_index=self.node.last_index)
            self.node.step(stored)
        self.assertEqual(self.node.configuration, learner("C"))
        self.node.propose_configuration(learner("new"))
        self.persist()
        self.node.step(
            AppendEntriesResponse(
                term=1,
                sender="c",
                to="a",
                success=False,
                rejected_index=self.node.progress()["c"].next_index - 1,
                hint_index=0,
            )
        )
        ready = self.node.take_ready()
        (message,) = [each for each in ready.messages if isinstance(each, AppendEntries) and each.to == "c"]
        self.assertEqual(message.prev_log_index, 0)
