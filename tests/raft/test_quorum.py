"""Majority arithmetic against a slow and plain twin."""

from __future__ import annotations

import random
from itertools import combinations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.quorum import VoteResult, committed_index, has_quorum, vote_result


def majorities(voters: frozenset[str]) -> list[set[str]]:
    """Return every set of voters that is a majority, one by one."""
    return [
        set(some) for size in range(len(voters) + 1) for some in combinations(voters, size) if 2 * size > len(voters)
    ]


def plain_committed_index(sides: list[frozenset[str]], match: dict[str, int]) -> int:
    """Return the largest index that, on each side, every member of some majority has."""
    return min(
        max((min((match[name] for name in some), default=0) for some in majorities(side)), default=0) for side in sides
    )


def plain_vote_result(sides: list[frozenset[str]], votes: dict[str, bool]) -> VoteResult:
    """Try all ways in which those who have not answered could."""
    silent = sorted({name for side in sides for name in side if name not in votes})

    def wins(granted: set[str]) -> bool:
        return all(any(some <= granted for some in majorities(side)) for side in sides)

    granted = {name for name, vote in votes.items() if vote}
    if wins(granted):
        return VoteResult.WON
    return VoteResult.PENDING if wins(granted | set(silent)) else VoteResult.LOST


class QuorumTests(SynchronousTestCase):
    """The two agree on random sides, simple and joint."""

    def test_against_plain_twin(self) -> None:
        """Committed index and vote result are those of trying all majorities."""
        chance = random.Random(1)
        for _ in range(600):
            voters, outgoing = (frozenset(chance.sample("abcdefg", chance.randint(low, 5))) for low in (1, 0))
            sides = [side for side in (voters, outgoing) if side]
            match = {name: chance.randint(0, 4) for name in "abcdefg"}
            votes = {name: chance.random() < 0.6 for name in "abcdefg" if chance.random() < 0.6}
            self.assertEqual(committed_index(voters, outgoing, match.__getitem__), plain_committed_index(sides, match))
            self.assertEqual(vote_result(voters, outgoing, votes), plain_vote_result(sides, votes))

    def test_no_voters(self) -> None:
        """Nobody can agree on anything where there are no voters."""
        self.assertEqual(committed_index((), (), lambda name: 9), 0)
        self.assertIs(vote_result((), (), {"a": True}), VoteResult.LOST)
        self.assertFalse(has_quorum((), (), {"a"}))

    def test_equal_sides(self) -> None:
        """A joint configuration of equal sides is the simple one."""
        for present in ({"a"}, {"a", "b"}):
            self.assertEqual(has_quorum("abc", "abc", present), has_quorum("abc", "", present))
