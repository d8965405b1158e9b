"""Learners become voters once they have caught up: two rounds in a row, heard, and known for who they are."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from raftkv.membership import Directory, Promoter
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.progress import ProgressState, ProgressView
from raftkv.raft.ready import Role, SoftState
from raftkv.raft.room import Room
from tests.membership.test_announcer import identity

ELECTION_TICKS = 10


class LeaderOnPaper:
    """What a promoter needs of a node: a leader of voter a, with learner b."""

    def __init__(self) -> None:
        self.role = Role.LEADER
        self.commit_index = 5
        self.match_index = 5
        self.ticks_since_contact = 0
        self.configuration = Configuration(
            members={"a": Member(id="a", incarnation="ia"), "b": Member(id="b", incarnation="ib", raft_addr="b:1")},
            voters=frozenset("a"),
            learners=frozenset("b"),
            promoting=frozenset("b"),
        )
        self.proposed: list[Configuration] = []

    def progress(self) -> dict[str, ProgressView]:
        view = ProgressView(
            match_index=self.match_index,
            next_index=self.match_index + 1,
            state=ProgressState.REPLICATE,
            recent_active=True,
            ticks_since_contact=self.ticks_since_contact,
            room=Room.AMPLE,
        )
        return {"b": view}

    def propose_configuration(self, configuration: Configuration) -> None:
        self.proposed.append(configuration)


class PromoterTests(SynchronousTestCase):
    """The promoter of node a."""

    def setUp(self) -> None:
        self.node = LeaderOnPaper()
        directory = Directory(
            identity=identity("a"), configuration=lambda: self.node.configuration, met=lambda: {"b": identity("b")}
        )
        self.promoter = Promoter(
            node=self.node,  # type: ignore[arg-type]
            directory=directory,
            wake=lambda: None,
            election_ticks=ELECTION_TICKS,
        )

    def rounds(self, count: int) -> None:
        """Let some rounds go by."""
        for _ in range(count * ELECTION_TICKS):
            self.promoter.tick()

    def test_two_rounds(self) -> None:
        """Two rounds in a row make a voter (thesis 4.2.1), and one does not; its other facts stay."""
        self.rounds(2)
        self.assertEqual([], self.node.proposed)
        self.rounds(1)
        proposed = self.node.proposed[0]
        self.assertEqual((frozenset("ab"), frozenset[str]()), (proposed.voters, proposed.learners))
        self.assertEqual(frozenset[str](), proposed.promoting)

    def test_behind(self) -> None:
        """A learner that in one round does not receive what was committed when it began starts over."""
        self.rounds(1)
        self.node.commit_index = 9
        self.rounds(5)
        self.assertEqual([], self.node.proposed)
        self.node.match_index = 9
        self.rounds(3)
        self.assertTrue(self.node.proposed)

    def test_silent(self) -> None:
        """A learner that has all there is but is not heard any more is not made a voter: the quorum would need it."""
        self.node.ticks_since_contact = ELECTION_TICKS
        self.rounds(5)
        self.assertEqual([], self.node.proposed)

    def test_unknown_incarnation(self) -> None:
        """Of whom nobody knows the data directory a vote could not be asked (B24): not before it says who it is."""
        members = {**self.node.configuration.members, "b": Member(id="b", raft_addr="b:1")}
        self.node.configuration = dataclasses.replace(self.node.configuration, members=members)
        self.rounds(5)
        self.assertEqual([], self.node.proposed)

    def test_nobody_asked(self) -> None:
        """A learner that is not to be a voter stays one, however close it is (B25)."""
        self.node.configuration = dataclasses.replace(self.node.configuration, promoting=frozenset())
        self.rounds(5)
        self.assertEqual([], self.node.proposed)
        self.assertEqual(frozenset("b"), self.promoter.caught_up())

    def test_new_leadership(self) -> None:
        """A new leadership counts from nothing."""
        self.rounds(2)
        self.promoter.soft_state_changed(SoftState(role=Role.LEADER, term=2, leader="a"))
        self.rounds(2)
        self.assertEqual([], self.node.proposed)
