"""The files of a directory that say how a node came to its cluster, and that it left."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import ConfigurationError, CorruptData
from raftkv.interfaces import Joined
from raftkv.persistence.membership import (
    JOINED_FILE,
    REMOVED_FILE,
    RemovedNote,
    load_joined,
    refuse_removed,
    store_joined,
    store_removed,
)
from raftkv.persistence.meta import Meta, store_meta
from raftkv.raft.configuration import Configuration, Member
from raftkv.testing.disk import MemoryDisk

CONFIGURATION = Configuration(members={"a": Member(id="a", raft_addr="a:1")}, voters=frozenset("a"))


class MembershipFilesTests(SynchronousTestCase):
    """``joined`` and ``removed``."""

    def setUp(self) -> None:
        self.disk = MemoryDisk("data")

    def test_joined(self) -> None:
        """What is stored is read again, before the cluster has answered and after."""
        self.assertIsNone(load_joined(self.disk))
        for joined in (
            Joined(incarnation="ab"),
            Joined(incarnation="ab", cluster_id="c1", configuration=CONFIGURATION, configuration_index=7),
        ):
            store_joined(self.disk, joined)
            self.assertEqual(load_joined(self.disk), joined)

    def test_removed(self) -> None:
        """A directory of a node that was removed is refused with one sentence that says what to do."""
        refuse_removed(self.disk)
        store_removed(self.disk, RemovedNote(node_id="n1", cluster_id="c1", configuration_index=9))
        error = str(self.assertRaises(ConfigurationError, refuse_removed, self.disk))
        self.assertIn("data belongs to node 'n1', which was removed from cluster c1", error)
        self.assertIn("raft.join", error)

    def test_another_cluster_since(self) -> None:
        """A directory that became that of another cluster, made from a survivor, is not refused."""
        store_removed(self.disk, RemovedNote(node_id="n1", cluster_id="c1", configuration_index=9))
        store_meta(self.disk, Meta(cluster_id="c1", node_id="n1", incarnation="ab"))
        self.assertRaises(ConfigurationError, refuse_removed, self.disk)
        store_meta(self.disk, Meta(cluster_id="c2", node_id="n1", incarnation="cd", former_cluster_id="c1"))
        refuse_removed(self.disk)

    def test_damage(self) -> None:
        """A flipped bit is noticed in either file."""
        store_joined(self.disk, Joined(incarnation="ab"))
        store_removed(self.disk, RemovedNote(node_id="n1", cluster_id="c1", configuration_index=9))
        self.disk.flip_bit(JOINED_FILE, 3)
        self.disk.flip_bit(REMOVED_FILE, 3)
        self.assertRaises(CorruptData, load_joined, self.disk)
        self.assertRaises(CorruptData, refuse_removed, self.disk)
