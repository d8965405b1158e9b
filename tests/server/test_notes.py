"""The arithmetic of the state digest: who is right, who is wrong, and when nobody can tell."""

from __future__ import annotations

import random
from itertools import product

from twisted.trial.unittest import SynchronousTestCase

from raftkv.server.notes import Notes, Verdict

VOTERS = frozenset("abc")


class VerdictTests(SynchronousTestCase):
    """Notes of three voters, as ``a`` knows them."""

    def setUp(self) -> None:
        self.notes = Notes("a", kept=4)

    def note(self, index: int, **digests: str) -> None:
        for member, digest in digests.items():
            self.notes.note(member, index, digest)

    def judge(self, voters: frozenset[str] = VOTERS, outgoing: frozenset[str] = frozenset()) -> Verdict:
        return self.notes.judge(voters, outgoing)

    def test_nothing_known(self) -> None:
        """Without notes, with one's own alone, or with those of others alone there is no verdict."""
        self.assertEqual(self.judge(), Verdict())
        self.note(8, a="1")
        self.assertEqual(self.judge(), Verdict())
        self.note(16, b="1", c="1")
        self.assertEqual(self.judge(), Verdict())

    def test_majority_agrees(self) -> None:
        """Who holds what a majority holds is right, however far the others are."""
        self.note(8, a="1", b="1")
        self.assertEqual(self.judge(), Verdict(index=8, agrees=True))
        self.note(8, c="2")
        self.assertEqual(self.judge(), Verdict(index=8, agrees=True))

    def test_outvoted(self) -> None:
        """Who holds something else than a majority is wrong, a leader like anybody else (B38)."""
        self.note(8, a="2", b="1", c="1")
        self.assertEqual(self.judge(), Verdict(index=8, agrees=False))

    def test_only_equal_indexes(self) -> None:
        """Different digests at different indexes say nothing."""
        self.note(8, a="1", b="1")
        self.note(16, b="2", c="2")
        self.assertEqual(self.judge(), Verdict(index=8, agrees=True))

    def test_latest_counts(self) -> None:
        """A state that was wrong and is right again is right, and the reverse."""
        self.note(8, a="2", b="1", c="1")
        self.note(16, a="3", b="3", c="3")
        self.assertEqual(self.judge(), Verdict(index=16, agrees=True))
        self.note(24, a="5", b="4", c="4")
        self.assertEqual(self.judge(), Verdict(index=24, agrees=False))

    def test_contradiction_is_a_tie(self) -> None:
        """Two that differ while the third is silent, and three that differ, are a tie until a majority is found."""
        self.note(8, a="1", b="2")
        self.assertEqual(self.judge(), Verdict(tied_index=8))
        self.note(8, c="3")
        self.assertEqual(self.judge(), Verdict(tied_index=8))
        self.note(8, c="2")
        self.assertEqual(self.judge(), Verdict(index=8, agrees=False))

    def test_tie_of_the_past(self) -> None:
        """A tie is over once a majority agrees at a later index; one behind the last agreement is a new one."""
        self.note(8, a="1", b="2")
        self.note(16, b="3", c="3")
        self.assertEqual(self.judge(), Verdict())
        self.note(16, a="3")
        self.note(24, a="4", b="5")
        self.assertEqual(self.judge(), Verdict(index=16, agrees=True, tied_index=24))

    def test_two_voters(self) -> None:
        """Of two that differ nobody is right."""
        self.note(8, a="1", b="2")
        self.assertEqual(self.judge(frozenset("ab")), Verdict(tied_index=8))

    def test_single_voter(self) -> None:
        """A voter alone is its own majority; its learner is judged by it."""
        self.note(8, a="1", b="2")
        self.assertEqual(self.judge(frozenset("a")), Verdict(index=8, agrees=True))
        self.assertEqual(self.judge(frozenset("b")), Verdict(index=8, agrees=False))

    def test_learners_have_no_vote(self) -> None:
        """What learners hold makes neither a majority nor a tie."""
        self.note(4, a="1", c="2")
        self.assertEqual(self.judge(frozenset("ab")), Verdict())
        self.note(8, a="1", b="2", c="2")
        self.assertEqual(self.judge(frozenset("a")), Verdict(index=8, agrees=True))
        self.assertEqual(self.judge(frozenset("ab")), Verdict(tied_index=8))

    def test_both_majorities(self) -> None:
        """Under a joint configuration a digest needs a majority of either side."""
        self.note(8, a="1", b="1", c="1", d="2", e="2")
        self.assertEqual(self.judge(VOTERS, frozenset("ade")), Verdict(tied_index=8))
        self.note(8, d="1")
        self.assertEqual(self.judge(VOTERS, frozenset("ade")), Verdict(index=8, agrees=True))

    def test_start_over(self) -> None:
        """What was noted of a state that was replaced is not held against the one that replaced it (B47)."""
        self.note(8, a="2", b="1", c="1")
        self.notes.start_over()
        self.assertEqual(self.judge(), Verdict())
        self.assertEqual(self.notes.newest(), 0)
        self.note(8, a="1")
        self.assertEqual(self.judge(), Verdict(index=8, agrees=True))

    def test_bounded(self) -> None:
        """Only the latest notes of each member are kept."""
        for index in range(8, 80, 8):
            self.note(index, a="1", b="1")
        self.assertEqual([self.notes.digest_at("b", index) for index in (40, 48, 72)], [None, "1", "1"])

    def test_former_members(self) -> None:
        """Who is no member any more is forgotten; we are not."""
        self.note(8, a="1", b="1", c="1")
        self.notes.keep_only({"b"})
        self.assertEqual([self.notes.digest_at(name, 8) for name in "abc"], ["1", "1", None])


class MajorityTests(SynchronousTestCase):
    """Every way in which up to five voters can hold two or three states."""

    def test_no_majority_is_fenced(self) -> None:
        """Whoever belongs to a majority is never called wrong, whichever notes have arrived and in whatever order."""
        chance = random.Random("notes")
        for count in (1, 2, 3, 4, 5):
            names = "abcde"[:count]
            for digests in product("123", repeat=count):
                held = dict(zip(names, digests, strict=True))
                right = [digest for digest in "123" if 2 * digests.count(digest) > count]
                for own in names:
                    notes = Notes(own)
                    for name in chance.sample(names, count):
                        notes.note(name, 8, held[name])
                        verdict = notes.judge(names, "")
                        if held[own] in right:
                            self.assertTrue(verdict.agrees or not verdict.index, (held, own))
                    self.assertEqual(verdict.agrees, held[own] in right)
                    self.assertEqual(bool(verdict.index), bool(right))
                    self.assertEqual(bool(verdict.tied_index), not right)
