"""Writes where the disks are full: what is refused at the door, and what is still taken (B50)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import DiskFull
from raftkv.kvstore import commands
from raftkv.kvstore.commands import (
    compact,
    compare,
    delete,
    delete_range,
    expire,
    expire_sessions,
    fenced,
    get,
    grant,
    in_session,
    increment,
    keepalive,
    lock,
    put,
    range_of,
    revoke,
    transaction,
    unlock,
)
from raftkv.server.batching import needs_room
from tests.server.test_proposals import ProposalsTestCase

FRUGAL = (
    delete(b"k"),
    delete_range(b"a", b"b"),
    compact(3),
    keepalive(1),
    revoke(1),
    expire(10),
    expire_sessions(10),
    unlock(b"l", token=1),
    transaction([compare(0, 0, b"k", b"v")], [delete(b"k"), get(b"k")], [range_of(b"a", b"b", 1)]),
)
WASTEFUL = (
    put(b"k", b""),
    increment(b"k", 1),
    grant(1000),
    lock(b"l", ttl_ms=1000),
    transaction([], [delete(b"k")], [put(b"k", b"v")]),
    transaction([], [transaction([], [put(b"k", b"v")])]),
)


class NeedsRoomTests(SynchronousTestCase):
    """Which commands make the state larger."""

    def test_commands(self) -> None:
        """What deletes or ends something needs no room, nor what keeps a lease; all else does, however wrapped."""
        for frugal in FRUGAL:
            for command in (frugal, in_session(b"c", 1, frugal), in_session(b"c", 1, fenced(b"l", 1, frugal))):
                self.assertFalse(needs_room([command]), command)
        for wasteful in WASTEFUL:
            for command in (wasteful, in_session(b"c", 1, wasteful), fenced(b"l", 1, wasteful)):
                self.assertTrue(needs_room([command]), command)
        self.assertTrue(needs_room([delete(b"k"), put(b"k", b"v")]))
        self.assertFalse(needs_room([]))

    def test_every_command(self) -> None:
        """No command was forgotten, and one of a later version needs room."""
        codes = {
            value
            for name, value in vars(commands).items()
            if name in ("PUT", "DELETE", "DELETE_RANGE", "TXN", "INCREMENT", "COMPACT", "GRANT", "KEEPALIVE")
            or name in ("REVOKE", "EXPIRE", "EXPIRE_SESSIONS", "LOCK", "UNLOCK")
        }
        self.assertEqual({command[0] for command in (*FRUGAL, *WASTEFUL)}, codes)
        self.assertTrue(needs_room([(99, 0)]))


class LeaderTests(ProposalsTestCase):
    """A leader that takes nothing that needs room."""

    def setUp(self) -> None:
        super().setUp()
        self.node.cluster_lacks_room = True

    def test_refused_at_the_door(self) -> None:
        """What needs room is refused as not applied, and no entry of the log is made for it."""
        self.submit("x")
        self.submit("both", delete(b"a"), put(b"b", b"v"))
        self.proposals.gather()
        self.assertEqual(self.node.log, [])
        for name in ("x", "both"):
            self.assertIsInstance(self.answers[name], DiskFull)
            self.assertEqual(self.answers[name].outcome, "not_applied")
        self.assertEqual(self.proposals.pending_commands, 0)

    def test_what_frees_room(self) -> None:
        """What needs none is proposed as such, also where it came in the same turn as what does."""
        self.submit("x")
        self.submit("d", delete(b"d"))
        self.submit("e", in_session(b"c", 1, delete(b"e")))
        self.proposals.gather()
        (entry,) = self.node.log
        self.assertEqual(self.node.needed_room, [False])
        self.commit(entry)
        self.assertEqual([self.answers[name] for name in "de"], [[(0, 0, False)], [(0, 0, False)]])

    def test_core_refuses(self) -> None:
        """Where the core finds no room for what needs none either, that is an answer too."""
        self.node.refusal = DiskFull()
        self.submit("d", delete(b"d"))
        self.proposals.gather()
        self.assertIsInstance(self.answers["d"], DiskFull)
        self.proposals.checkpoint()
        self.assertEqual(self.node.log, [])

    def test_room_again(self) -> None:
        """With room again everything is taken."""
        self.submit("x")
        self.proposals.gather()
        self.node.cluster_lacks_room = False
        self.submit("y")
        self.proposals.gather()
        self.assertEqual((len(self.node.log), self.node.needed_room), (1, [True]))


class FollowerTests(ProposalsTestCase):
    """A follower whose leader lacks room."""

    def setUp(self) -> None:
        super().setUp()
        self.node.follow("b")

    def test_one_request_for_one_outcome(self) -> None:
        """What was refused together with what needs room, and needs none itself, is sent again alone."""
        self.submit("x")
        self.submit("d", delete(b"d"))
        self.proposals.gather()
        (_, sent, answer) = self.forwarder.sent.pop()
        self.assertEqual(len(sent), 2)
        answer(DiskFull())
        self.assertIsInstance(self.answers["x"], DiskFull)
        self.assertNotIn("d", self.answers)
        (_, sent, answer) = self.forwarder.sent.pop()
        self.assertEqual(list(sent), [delete(b"d")])
        answer([(0, 5, True)])
        self.assertEqual(self.answers["d"], [(0, 5, True)])

    def test_refused_alone(self) -> None:
        """What is refused though it needs no room is not sent again and again."""
        self.submit("d", delete(b"d"))
        self.submit("e", delete(b"e"))
        self.proposals.gather()
        self.forwarder.sent.pop()[2](DiskFull())
        self.assertEqual(self.forwarder.sent, [])
        self.assertIsInstance(self.answers["d"], DiskFull)
        self.assertIsInstance(self.answers["e"], DiskFull)
