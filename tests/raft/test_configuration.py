"""Configurations as values: what is valid, how one becomes another, which one is in force."""

from __future__ import annotations

from dataclasses import replace

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation
from raftkv.raft.configuration import Configuration, ConfigurationHistory
from tests.raft.cluster import configuration

OLD = configuration("a", "b", "c", learners=("l",))


class ConfigurationTests(SynchronousTestCase):
    """From one configuration to another."""

    def test_enter_and_leave(self) -> None:
        """The joint configuration has both sides; what follows it is the one that was asked for."""
        target = configuration("a", "d", learners=("b", "m"))
        joint = OLD.enter_joint(target)
        joint.validate()
        self.assertEqual((joint.voters, joint.outgoing_voters), ({"a", "d"}, {"a", "b", "c"}))
        self.assertEqual((joint.learners, joint.learners_next), ({"m"}, {"b"}))
        self.assertEqual(joint.leave_joint(), target)

    def test_promotion(self) -> None:
        """A learner that is promoted votes on the new side at once."""
        joint = OLD.enter_joint(configuration("a", "b", "c", "l"))
        joint.validate()
        self.assertTrue(joint.is_voter("l"))
        self.assertEqual(joint.learners, frozenset())

    def test_waiting_to_be_promoted(self) -> None:
        """Who is to be promoted is remembered through a joint configuration, also one that was a voter before."""
        target = replace(configuration("a", "b", learners=("c", "l")), promoting=frozenset("cl"))
        joint = OLD.enter_joint(target)
        joint.validate()
        self.assertEqual(joint.leave_joint(), target)

    def test_new_addresses_win(self) -> None:
        """A member of both sides has the address of the new one."""
        target = configuration("a", "b")
        target = replace(target, members={**target.members, "b": replace(target.members["b"], raft_addr="new:1")})
        self.assertEqual(OLD.enter_joint(target).members["b"].raft_addr, "new:1")

    def test_invalid(self) -> None:
        """Parts that contradict each other are named."""
        members = configuration("a", "b").members
        for wrong, message in (
            (configuration(), "at least one voter"),
            (replace(OLD, members=members), "do not agree on: c, l"),
            (replace(OLD, learners=frozenset("la")), "at once: a"),
            (replace(OLD, learners_next=frozenset("a")), "only voters of the old side"),
            (replace(OLD, promoting=frozenset("al")), "only learners can be promoted: a"),
            (replace(OLD, members={**OLD.members, "a": members["b"]}), "under the name 'a'"),
        ):
            self.assertIn(message, str(self.assertRaises(ValueError, wrong.validate)))

    def test_encoding(self) -> None:
        """What is encoded comes back, joint or not; anything else is refused."""
        for members in (OLD, OLD.enter_joint(configuration("d", learners=("a",)))):
            self.assertEqual(Configuration.decode(members.encode()), members)
        waiting = replace(OLD, promoting=frozenset("l"))
        self.assertEqual(Configuration.decode(waiting.encode()), waiting)
        self.assertNotIn(b"promoting", OLD.encode())
        self.assertRaises(ValueError, Configuration.decode, b'{"version":2}')
        self.assertRaises(ValueError, Configuration.decode, b"[]")


class HistoryTests(SynchronousTestCase):
    """Which configuration is in force at which index (B21)."""

    def setUp(self) -> None:
        self.history = ConfigurationHistory(OLD, 0)
        self.history.append(4, configuration("a"))
        self.history.append(7, configuration("b"))

    def test_append_and_truncate(self) -> None:
        """The latest one is in force until its entry is truncated."""
        self.assertEqual((self.history.current, self.history.current_index), (configuration("b"), 7))
        self.history.changed = False
        self.history.truncate_from(8)
        self.assertFalse(self.history.changed)
        self.history.truncate_from(7)
        self.assertTrue(self.history.changed)
        self.assertEqual((self.history.current, self.history.current_index), (configuration("a"), 4))
        self.assertRaises(InvariantViolation, self.history.truncate_from, 0)
        self.assertRaises(InvariantViolation, self.history.append, 4, OLD)

    def test_at(self) -> None:
        """At an index the last one up to it holds."""
        self.assertEqual([self.history.at(index)[1] for index in (0, 3, 4, 6, 7, 9)], [0, 0, 4, 4, 7, 7])
        self.assertEqual(self.history.since(5), [configuration("a"), configuration("b")])

    def test_compact_and_restore(self) -> None:
        """Compaction keeps the last one that it passes; a snapshot brings its own."""
        self.history.compact(6)
        self.assertEqual(self.history.at(6), (configuration("a"), 4))
        self.assertRaises(InvariantViolation, self.history.at, 3)
        self.history.compact(2)
        self.assertEqual(self.history.current_index, 7)
        self.history.restore(OLD, 30)
        self.assertEqual((self.history.current, self.history.at(30)), (OLD, (OLD, 30)))
