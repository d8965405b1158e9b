"""The leader writes what it has learned of its members into the log: seldom, and never against a change under way."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Conflict, ProposalDropped
from raftkv.interfaces import Identity
from raftkv.membership import Announcer, Directory
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.ready import Role, SoftState

SETTLE_TICKS = 10


def identity(name: str) -> Identity:
    """Make what a node says of itself."""
    return Identity(
        cluster_id="c",
        node_id=name,
        incarnation=f"i{name}",
        raft_addr=f"{name}:1",
        rpc_addr=f"{name}:2",
        http_addr=f"{name}:3",
    )


class LeaderOnPaper:
    """What an announcer needs of a node."""

    def __init__(self) -> None:
        self.role = Role.LEADER
        self.configuration = Configuration(
            members={name: Member(id=name, raft_addr=f"{name}:1") for name in "ab"}, voters=frozenset("ab")
        )
        self.refusal: Exception | None = None
        self.proposed: list[Configuration] = []

    def propose_configuration(self, configuration: Configuration) -> None:
        self.proposed.append(configuration)
        if self.refusal is not None:
            raise self.refusal
        self.configuration = configuration


class AnnouncerTests(SynchronousTestCase):
    """The announcer of node a, which leads."""

    def setUp(self) -> None:
        self.node = LeaderOnPaper()
        self.met = {"b": identity("b")}
        self.wakes = 0
        self.announcer = Announcer(
            node=self.node,  # type: ignore[arg-type]
            directory=Directory(
                identity=identity("a"), configuration=lambda: self.node.configuration, met=lambda: self.met
            ),
            wake=self._wake,
            settle_ticks=SETTLE_TICKS,
        )

    def _wake(self) -> None:
        self.wakes += 1

    def tick(self, ticks: int) -> None:
        """Let ticks pass."""
        for _ in range(ticks):
            self.announcer.tick()

    def test_once(self) -> None:
        """What was learned is proposed once, after things have settled, and then no more."""
        self.tick(SETTLE_TICKS - 1)
        self.assertEqual(self.node.proposed, [])
        self.tick(1)
        (proposed,) = self.node.proposed
        self.assertEqual({member.incarnation for member in proposed.members.values()}, {"ia", "ib"})
        self.assertEqual(self.wakes, 1)
        self.tick(5 * SETTLE_TICKS)
        self.assertEqual(len(self.node.proposed), 1)

    def test_new_leadership(self) -> None:
        """A new leadership waits anew, so that members that arrive together share one entry."""
        self.tick(SETTLE_TICKS - 1)
        self.announcer.soft_state_changed(SoftState(role=Role.LEADER, term=2, leader="a"))
        self.tick(SETTLE_TICKS - 1)
        self.assertEqual(self.node.proposed, [])

    def test_follower(self) -> None:
        """A follower announces nothing."""
        self.node.role = Role.FOLLOWER
        self.tick(3 * SETTLE_TICKS)
        self.assertEqual(self.node.proposed, [])

    def test_change_under_way(self) -> None:
        """A joint configuration is left alone: the announcement would end it before its time (B27)."""
        self.node.configuration = dataclasses.replace(self.node.configuration, outgoing_voters=frozenset("a"))
        self.tick(3 * SETTLE_TICKS)
        self.assertEqual(self.node.proposed, [])

    def test_refused(self) -> None:
        """An announcement that the core refuses for now is made again later, and stops nothing (B20)."""
        for refusal in (Conflict("another change"), ProposalDropped()):
            self.node.refusal = refusal
            self.tick(SETTLE_TICKS)
        self.node.refusal = None
        self.tick(SETTLE_TICKS)
        self.assertEqual((len(self.node.proposed), self.wakes), (3, 1))
