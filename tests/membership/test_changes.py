"""Requests to change the members: how they are read, and what they lead to."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest, Conflict, NotFound
from raftkv.membership.changes import (
    MemberChange,
    NewMember,
    identified,
    parse_change,
    planned,
    refuse_loss_of_quorum,
    taken_in,
)
from raftkv.raft.configuration import Configuration, Member

FIVE = Configuration(
    members={name: Member(id=name, incarnation=name.upper(), raft_addr=f"{name}:1") for name in "abclp"},
    voters=frozenset("abc"),
    learners=frozenset("lp"),
    promoting=frozenset("p"),
)


def roles(configuration: Configuration) -> tuple[str, str, str]:
    """Return voters, learners and those that are being promoted."""
    parts = (configuration.voters, configuration.learners, configuration.promoting)
    return ("".join(sorted(parts[0])), "".join(sorted(parts[1])), "".join(sorted(parts[2])))


def plan(document: dict[str, Any], *caught_up: str) -> Configuration:
    """Return what a request leads to."""
    configuration = planned(parse_change(document), FIVE, caught_up=caught_up)
    configuration.validate()
    return configuration


class ParseTests(SynchronousTestCase):
    """From JSON to a change."""

    def test_one_member(self) -> None:
        """An id and an address add one voter; the role may say learner."""
        document = {"id": "n4", "raft_addr": "host:1", "http_addr": "host:2"}
        new = NewMember(member=Member(id="n4", raft_addr="host:1", http_addr="host:2"))
        self.assertEqual(parse_change(document), MemberChange(add=(new,)))
        learner = parse_change({**document, "role": "learner", "force": True})
        self.assertEqual((learner.add[0].role, learner.force), ("learner", True))

    def test_lists(self) -> None:
        """Any number of members are changed at once."""
        change = parse_change(
            {"add": [{"id": "d", "raft_addr": "[::1]:1"}], "remove": ["a"], "promote": ["l"], "demote": ["b"]}
        )
        self.assertEqual((change.remove, change.promote, change.demote), (("a",), ("l",), ("b",)))
        self.assertEqual(change.add[0].member.raft_addr, "[::1]:1")

    def test_refusals(self) -> None:
        """What is wrong is refused, and the message begins with the field."""
        good = {"id": "d", "raft_addr": "d:1"}
        for document, start in (
            ({}, "nothing to change"),
            ({"remove": []}, "nothing to change"),
            ({"id": "d"}, "raft_addr: missing"),
            ({"id": 4, "raft_addr": "d:1"}, "id: expected"),
            ({"id": "../x", "raft_addr": "d:1"}, "id: expected"),
            ({**good, "raft_addr": "d"}, "raft_addr: expected host:port"),
            ({**good, "raft_addr": "d:70000"}, "raft_addr: expected host:port"),
            ({**good, "raft_addr": ":8082"}, "raft_addr: expected host:port"),
            ({**good, "http_addr": "x"}, "http_addr: expected host:port"),
            ({**good, "role": "king"}, "role: expected"),
            ({**good, "remove": ["a"]}, "remove: unknown field"),
            ({"add": good}, "add: expected a list"),
            ({"add": ["d"]}, "add[0]: expected an object"),
            ({"add": [good, {"id": "e"}]}, "add[1].raft_addr: missing"),
            ({"remove": "a"}, "remove: expected a list"),
            ({"remove": ["a", None]}, "remove[1]: missing"),
            ({"remove": ["a"], "force": 1}, "force: expected true or false"),
            ({"remove": ["a"] * 65}, "remove: 65 members"),
            ({"banish": ["a"]}, "banish: unknown field"),
            ({"remove": ["a"], "demote": ["a"]}, "demote: a is named in remove already"),
            ({"add": [{"id": "a", "raft_addr": "a:1"}], "remove": ["a"]}, "remove: a is named in add already"),
        ):
            error = str(self.assertRaises(BadRequest, parse_change, document))
            self.assertTrue(error.startswith(start), f"{document}: {error}")


class PlanTests(SynchronousTestCase):
    """From a change to a configuration."""

    def test_add(self) -> None:
        """A voter comes as a learner that is being promoted, a learner as a learner."""
        self.assertEqual(roles(plan({"id": "d", "raft_addr": "d:1"})), ("abc", "dlp", "dp"))
        self.assertEqual(roles(plan({"id": "d", "raft_addr": "d:1", "role": "learner"})), ("abc", "dlp", "p"))

    def test_remove_and_demote(self) -> None:
        """Whoever is removed is gone from every role; a demoted voter, or candidate for it, is a plain learner."""
        self.assertEqual(roles(plan({"remove": ["a", "p"], "demote": ["b"]})), ("c", "bl", ""))
        self.assertEqual(roles(plan({"demote": ["p"]})), ("abc", "lp", ""))

    def test_promote(self) -> None:
        """A learner that has caught up is a voter at once, another one is to be; force does not wait."""
        self.assertEqual(roles(plan({"promote": ["l"]}, "l")), ("abcl", "p", "p"))
        self.assertEqual(roles(plan({"promote": ["l"]})), ("abc", "lp", "lp"))
        self.assertEqual(roles(plan({"promote": ["l"], "force": True})), ("abcl", "p", "p"))

    def test_repeated(self) -> None:
        """What is so already is granted without a change: a repeated request must not fail."""
        for document in (
            {"id": "a", "raft_addr": "a:1"},
            {"id": "p", "raft_addr": "p:1"},
            {"id": "l", "raft_addr": "l:1", "role": "learner"},
            {"id": "l", "raft_addr": "l:1"},
            {"promote": ["a", "p"], "demote": ["l"]},
        ):
            self.assertEqual(plan(document), FIVE)
        self.assertEqual(roles(plan({"id": "l", "raft_addr": "l:1", "role": "voter"})), ("abc", "lp", "lp"))

    def test_refusals(self) -> None:
        """Strangers are not found; another member under a name or an address that is taken is a conflict."""
        for document, error, words in (
            ({"remove": ["z"]}, NotFound, "remove: there is no member z"),
            ({"promote": ["z"]}, NotFound, "promote: there is no member z"),
            ({"demote": ["z"]}, NotFound, "demote: there is no member z"),
            ({"id": "a", "raft_addr": "other:1"}, Conflict, "a is a member already, at a:1"),
            ({"id": "d", "raft_addr": "a:1"}, Conflict, "a:1 is the address of a"),
            ({"id": "a", "raft_addr": "a:1", "role": "learner"}, Conflict, "demote it"),
            ({"remove": ["a", "b"], "demote": ["c"], "force": True}, Conflict, "nobody would be left to vote"),
        ):
            self.assertIn(words, str(self.assertRaises(error, plan, document)))

    def test_moved_learner(self) -> None:
        """B25: a learner that comes back under another address, and does not say what it is to be, stays a learner."""
        moved = NewMember(member=Member(id="l", incarnation="L", raft_addr="elsewhere:1"))
        configuration = planned(MemberChange(add=(moved,)), FIVE, caught_up=("l",))
        self.assertEqual(configuration.members["l"].raft_addr, "elsewhere:1")
        self.assertEqual(roles(configuration), roles(FIVE))

    def test_replaced_at_its_address(self) -> None:
        """A member may take the address of one that leaves in the same change."""
        configuration = plan({"remove": ["a"], "add": [{"id": "d", "raft_addr": "a:1"}]})
        self.assertEqual(configuration.members["d"].raft_addr, "a:1")

    def test_incarnations(self) -> None:
        """B24: a node that joins under a name with another data directory is refused; the same one is known again."""

        def join(incarnation: str, raft_addr: str = "l:1") -> Configuration:
            member = Member(id="l", incarnation=incarnation, raft_addr=raft_addr)
            return planned(MemberChange(add=(NewMember(member=member, role="learner"),)), FIVE, caught_up=())

        self.assertIn("another data directory", str(self.assertRaises(Conflict, join, "X")))
        self.assertEqual(join("L"), FIVE)
        self.assertEqual(join("L", "new:1").members["l"].raft_addr, "new:1")
        announced = replace(FIVE, members={**FIVE.members, "l": Member(id="l", raft_addr="l:1")})
        member = NewMember(member=Member(id="l", incarnation="X", raft_addr="l:1"), role="learner")
        configuration = planned(MemberChange(add=(member,)), announced, caught_up=())
        self.assertEqual(configuration.members["l"].incarnation, "X")


class IdentifiedTests(SynchronousTestCase):
    """A member that was added by name alone says who it is."""

    def test_identified(self) -> None:
        """Its incarnation and addresses are noted; no stranger is added by that, and nobody overwritten (B7)."""
        announced = replace(FIVE, members={**FIVE.members, "l": Member(id="l", raft_addr="l:1")})
        itself = Member(id="l", incarnation="X", raft_addr="l:1", rpc_addr="l:2")
        found = identified(itself, announced)
        self.assertEqual((found.members["l"], roles(found)), (itself, roles(FIVE)))
        self.assertRaises(Conflict, identified, itself, FIVE)
        self.assertRaises(NotFound, identified, Member(id="z", incarnation="Z"), FIVE)


class TakenInTests(SynchronousTestCase):
    """The way of a node with an empty data directory into a configuration, step by step."""

    def steps(self, member: Member, configuration: Configuration = FIVE) -> list[Configuration]:
        """Return the configurations on the way, until nothing changes any more."""
        found: list[Configuration] = []
        while (step := taken_in(member, configuration)) != configuration:
            step.validate()
            found.append(step)
            configuration = step
        return found

    def test_stranger(self) -> None:
        """A stranger becomes a learner that is to be a voter."""
        (only,) = self.steps(Member(id="d", incarnation="D", raft_addr="d:1"))
        self.assertEqual(roles(only), ("abc", "dlp", "dp"))

    def test_wiped_voter(self) -> None:
        """B24: while its name still counts on the old side, it stands there with the incarnation of the lost disk."""
        new = Member(id="a", incarnation="NEW", raft_addr="elsewhere:1")
        first, second = self.steps(new)
        self.assertEqual((roles(first), first.members["a"]), (("bc", "alp", "ap"), FIVE.members["a"]))
        joint = FIVE.enter_joint(first)
        self.assertTrue(joint.is_voter("a"))
        self.assertEqual(joint.members["a"].incarnation, "A")
        self.assertEqual((roles(second), second.members["a"]), (("bc", "alp", "ap"), new))
        self.assertEqual(second.voters, first.voters)

    def test_founder_that_nobody_has_met(self) -> None:
        """B24: a voter whose incarnation nobody knows goes the same way: somebody may have voted under its name."""
        unknown = replace(FIVE, members={**FIVE.members, "a": Member(id="a", raft_addr="a:1")})
        first, second = self.steps(Member(id="a", incarnation="A", raft_addr="a:1"), unknown)
        self.assertEqual((roles(first)[0], first.members["a"].incarnation), ("bc", ""))
        self.assertEqual((roles(second)[0], second.members["a"].incarnation), ("bc", "A"))

    def test_wiped_learner(self) -> None:
        """B24: a wiped learner stays what it was, with a new incarnation."""
        for name in "lp":
            first = taken_in(Member(id=name, incarnation="NEW", raft_addr=f"{name}:1"), FIVE)
            self.assertEqual((roles(first), first.members[name].incarnation), (roles(FIVE), "NEW"))

    def test_conflicts(self) -> None:
        """Nobody is taken in at another member's address, nor where nobody would be left to vote."""
        self.assertRaises(Conflict, taken_in, Member(id="l", incarnation="NEW", raft_addr="a:1"), FIVE)
        alone = Configuration(members={"a": FIVE.members["a"]}, voters=frozenset("a"))
        self.assertRaises(Conflict, taken_in, Member(id="a", incarnation="NEW", raft_addr="a:1"), alone)


class QuorumTests(SynchronousTestCase):
    """What the cluster cannot afford."""

    def test_majority(self) -> None:
        """A change is refused where the voters to be that answer are no majority, and the silent ones are named."""
        refuse_loss_of_quorum(FIVE, "ab")
        refuse_loss_of_quorum(FIVE, "abc")
        error = str(self.assertRaises(Conflict, refuse_loss_of_quorum, FIVE, "al"))
        self.assertIn("of 3 voters 2 are needed, and b, c do not answer", error)
        self.assertRaises(Conflict, refuse_loss_of_quorum, replace(FIVE, voters=frozenset("ab")), "a")
