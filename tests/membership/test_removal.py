"""A node finds out that it was removed: from the log, or by asking; and never by mistake."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.trial.unittest import SynchronousTestCase

from raftkv.membership import Directory, RemovalWatch
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.ready import Role
from tests.membership.test_announcer import identity

ELECTION_TICKS = 10


def members(*names: str) -> Configuration:
    """Make a configuration of voters."""
    return Configuration(
        members={
            name: Member(id=name, incarnation=f"i{name}", raft_addr=f"{name}:1", rpc_addr=f"{name}:2") for name in names
        },
        voters=frozenset(names),
    )


class FollowerOnPaper:
    """What a watch needs of a node: one that hears no leader."""

    def __init__(self) -> None:
        self.role = Role.FOLLOWER
        self.leader: str | None = None
        self.commit_index = 0
        self.configuration = members("a", "b", "c")
        self.configuration_index = 7
        self.committed = (self.configuration, 7)

    def committed_configuration(self) -> tuple[Configuration, int]:
        return self.committed


class RemovalWatchTests(SynchronousTestCase):
    """The watch of node a, which joined with the configuration at index 5."""

    def setUp(self) -> None:
        self.node = FollowerOnPaper()
        self.asked: list[Deferred[Any]] = []
        self.stored: list[int] = []
        self.watch = RemovalWatch(
            identity=identity("a"),
            node=self.node,  # type: ignore[arg-type]
            directory=Directory(identity=identity("a"), configuration=lambda: self.node.configuration, met=dict),
            forwarder=self,  # type: ignore[arg-type]
            first_index=5,
            store=self.store,
            removed=lambda: None,
            fatal=self.fail,
            election_ticks=ELECTION_TICKS,
        )

    def store(self, index: int) -> Deferred[None]:
        """Take note of the index that the node writes down."""
        self.stored.append(index)
        return succeed(None)

    def call(self, rpc_addr: str, name: str, arguments: Any) -> Deferred[Any]:
        """Be asked, as a forwarder is."""
        self.asked.append(Deferred())
        return self.asked[-1]

    def answer(self, configuration: Configuration, index: int) -> None:
        """Let the node ask, and answer it."""
        for _ in range(10 * ELECTION_TICKS):
            if not self.asked:
                self.watch.tick()
        self.assertTrue(self.asked, "the node asks nobody")
        self.asked.pop().callback({"configuration": configuration.encode().decode(), "configuration_index": index})

    def test_told(self) -> None:
        """A later committed configuration without this node removes it."""
        self.answer(members("b", "c"), 9)
        self.assertEqual(([9], True), (self.stored, self.watch.is_removed))

    def test_older_answers(self) -> None:
        """An answer of somebody who knows no more than this node, or less, removes nobody (B26)."""
        for index in (3, 5, 6, 7):
            self.answer(members("b", "c"), index)
        self.assertEqual(([], False), (self.stored, self.watch.is_removed))

    def test_another_incarnation(self) -> None:
        """Where the name is that of another data directory by now, this one is out (B24)."""
        now = members("a", "b", "c")
        another = {**now.members, "a": Member(id="a", incarnation="another")}
        self.answer(Configuration(members=another, voters=now.voters), 9)
        self.assertTrue(self.watch.is_removed)

    def test_uncommitted(self) -> None:
        """A configuration that may yet be taken back removes nobody (B21); once it is committed it does."""
        self.node.configuration, self.node.configuration_index = members("b", "c"), 9
        self.node.commit_index = 8
        self.watch.gather()
        self.assertFalse(self.watch.is_removed)
        self.node.committed, self.node.commit_index = (self.node.configuration, 9), 9
        self.watch.gather()
        self.assertEqual([9], self.stored)

    def test_before_it_joined(self) -> None:
        """Configurations from before it joined do not know it, and do not remove it (B23)."""
        self.node.configuration = self.node.committed[0]
        for index in (3, 5):
            self.node.committed, self.node.commit_index = (members("b", "c"), index), index
            self.node.configuration = members("b", "c")
            self.watch.gather()
        self.assertFalse(self.watch.is_removed)
