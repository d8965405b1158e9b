"""A server that came to a running cluster under a name that another server may have had before."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import RequestVote, RequestVoteResponse
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role
from tests.raft.cluster import configuration, make_node


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
