"""Where members are, and what a leader adds to the configuration about them."""

from __future__ import annotations

import dataclasses

from twisted.trial.unittest import SynchronousTestCase

from raftkv.interfaces import Identity
from raftkv.membership import Directory, MemberAddresses
from raftkv.raft.configuration import Configuration, Member


def identity(name: str, incarnation: str = "i", port: int = 1) -> Identity:
    """Make what a node says of itself."""
    return Identity(
        cluster_id="c",
        node_id=name,
        incarnation=incarnation,
        raft_addr=f"{name}:{port}",
        rpc_addr=f"{name}:{port + 1}",
        http_addr=f"{name}:{port + 2}",
    )


class DirectoryTests(SynchronousTestCase):
    """The directory of node a in a cluster of a and b."""

    def setUp(self) -> None:
        self.met: dict[str, Identity] = {}
        self.configuration = Configuration(
            members={"a": Member(id="a", raft_addr="a:1"), "b": Member(id="b", raft_addr="b:1")},
            voters=frozenset("ab"),
        )
        self.directory = Directory(
            identity=identity("a"), configuration=lambda: self.configuration, met=lambda: self.met
        )

    def test_from_the_configuration(self) -> None:
        """A member that this node has not met is where the configuration says."""
        self.assertEqual(self.directory.addresses("b"), MemberAddresses(raft_addr="b:1"))

    def test_from_its_own_words(self) -> None:
        """What a member says of itself is newer than the configuration."""
        self.met["b"] = identity("b", port=5)
        self.assertEqual(self.directory.addresses("b").http_addr, "b:7")

    def test_nobody(self) -> None:
        """Nobody and strangers have no address."""
        self.assertEqual(self.directory.addresses(None), MemberAddresses())
        self.assertEqual(self.directory.addresses("z"), MemberAddresses())

    def test_renewed(self) -> None:
        """What was learned is filled in, the roles stay as they are (B25), and then there is nothing new."""
        self.met["b"] = identity("b")
        renewed = self.directory.renewed()
        assert renewed is not None
        self.assertEqual(renewed.members["b"].rpc_addr, "b:2")
        self.assertEqual(renewed.members["b"].incarnation, "i")
        self.assertEqual((renewed.voters, renewed.learners), (frozenset("ab"), frozenset()))
        self.configuration = renewed
        self.assertIsNone(self.directory.renewed())

    def test_new_address(self) -> None:
        """A member that comes back under another address, the same incarnation, gets its new address."""
        self.met["b"] = identity("b")
        self.configuration = self.directory.renewed() or self.configuration
        self.met["b"] = identity("b", port=50)
        renewed = self.directory.renewed()
        assert renewed is not None
        self.assertEqual(renewed.members["b"].raft_addr, "b:50")

    def test_new_address_of_a_learner(self) -> None:
        """B25: a learner at a new address is where it says, and still a learner; whoever is to be a voter still is."""
        for promoting in (frozenset("b"), frozenset[str]()):
            self.configuration = Configuration(
                members={"a": Member(id="a", raft_addr="a:1"), "b": Member(id="b", incarnation="i", raft_addr="b:1")},
                voters=frozenset("a"),
                learners=frozenset("b"),
                promoting=promoting,
            )
            self.met["b"] = identity("b", port=50)
            renewed = self.directory.renewed()
            assert renewed is not None
            self.assertEqual(renewed.members["b"].raft_addr, "b:50")
            self.assertEqual(
                (renewed.voters, renewed.learners, renewed.promoting), (frozenset("a"), frozenset("b"), promoting)
            )

    def test_address_of_another_incarnation(self) -> None:
        """Where a member is is not taken from somebody else who gives its name: writes would be sent there."""
        self.met["b"] = identity("b")
        self.configuration = self.directory.renewed() or self.configuration
        self.met["b"] = identity("b", incarnation="another", port=50)
        self.assertEqual(self.directory.addresses("b").rpc_addr, "b:2")

    def test_nonsense(self) -> None:
        """What is no address does not come into the log, where every node would have to live with it."""
        for nonsense in ("", "nonsense", ":1", "b:", "b:99999", "b c:1"):
            for name in ("raft_addr", "rpc_addr", "http_addr"):
                self.met["b"] = dataclasses.replace(identity("b"), **{name: nonsense})
                renewed = self.directory.renewed()
                assert renewed is not None  # for it holds our own addresses
                self.assertEqual(renewed.members["b"], self.configuration.members["b"])
                self.assertEqual(self.directory.addresses("b"), MemberAddresses(raft_addr="b:1"))

    def test_other_incarnation(self) -> None:
        """A member with another incarnation than the configuration's is a stranger under an old name (B24)."""
        self.met["b"] = identity("b")
        self.configuration = self.directory.renewed() or self.configuration
        self.met["b"] = identity("b", incarnation="wiped", port=50)
        self.assertIsNone(self.directory.renewed())
