"""Majority arithmetic, simple and joint: what a set of voters has agreed on.

Knows sets of names, numbers and votes; not where they come from. Under a joint configuration (section 6) agreement
needs a majority of either side, separately. ``outgoing`` is empty outside of one and then does not count.
"""

from __future__ import annotations

from collections.abc import Callable, Collection, Mapping
from enum import Enum
from typing import TypeVar

_Number = TypeVar("_Number", int, float)


class VoteResult(Enum):
    """How a vote stands."""

    PENDING = "pending"  #: either outcome is still possible
    WON = "won"
    LOST = "lost"  #: no further vote can win it


def committed_index(voters: Collection[str], outgoing: Collection[str], match_index: Callable[[str], int]) -> int:
    """Return the largest index that is stored on a majority (of both sides).

    :param match_index: what each voter is known to have; 0 for nothing.
    :return: 0 where there are no voters, for nobody can agree then.
    """
    return _agreed(voters, outgoing, match_index)


def agreed_until(voters: Collection[str], outgoing: Collection[str], until: Callable[[str], float]) -> float:
    """Return the moment up to which a majority (of both sides) stands by its word.

    :param until: up to when each voter does; minus infinity for never.
    """
    return _agreed(voters, outgoing, until)


def _agreed(voters: Collection[str], outgoing: Collection[str], value: Callable[[str], _Number]) -> _Number:
    agreed = _majority_value(voters, value)
    return min(agreed, _majority_value(outgoing, value)) if outgoing else agreed


def _majority_value(voters: Collection[str], value: Callable[[str], _Number]) -> _Number:
    if not voters:
        return 0
    # In descending order, the element at position len // 2 is the smallest of a bare majority.
    return sorted(map(value, voters), reverse=True)[len(voters) // 2]


def vote_result(voters: Collection[str], outgoing: Collection[str], votes: Mapping[str, bool]) -> VoteResult:
    """Return how a vote stands, given the answers so far.

    :param votes: the answers by name; those of others than voters do not count.
    """
    results = {_majority_result(side, votes) for side in (voters, outgoing) if side or side is voters}
    for result in (VoteResult.LOST, VoteResult.PENDING):
        if result in results:
            return result
    return VoteResult.WON


def _majority_result(voters: Collection[str], votes: Mapping[str, bool]) -> VoteResult:
    answers = [votes[voter] for voter in voters if voter in votes]
    needed = len(voters) // 2 + 1
    granted = sum(answers)
    if granted >= needed:
        return VoteResult.WON
    open_votes = len(voters) - len(answers)
    return VoteResult.PENDING if granted + open_votes >= needed else VoteResult.LOST


def has_quorum(voters: Collection[str], outgoing: Collection[str], present: Collection[str]) -> bool:
    """Tell whether those present are a majority (of both sides)."""
    return vote_result(voters, outgoing, dict.fromkeys(present, True)) is VoteResult.WON
