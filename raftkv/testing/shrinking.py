"""Makes the story of a failing seed small: with fewer faults, fewer clients and less time it still fails as it did.

A candidate counts only if it breaks the same rule, else one bug would turn into another on the way. The faults, and the
changes of members, are taken out as in delta debugging (Zeller and Hildebrandt): halves first, then quarters, down to
single ones.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace

from raftkv.testing.drawing import STORY_SECONDS
from raftkv.testing.excerpt import WHOLE, Excerpt
from raftkv.testing.outcome import Outcome


def rule_of(failure: str) -> str:
    """Return what two failures must share to count as the same: the error and, for a violation, the broken rule."""
    return ":".join(failure.split(":")[:2]) if failure.startswith("Violation") else failure.split(":")[0]


@dataclass(frozen=True, slots=True, kw_only=True)
class Shrunk:
    """A failing story made small.

    :ivar excerpt: what is left of it.
    :ivar outcome: how it ends.
    :ivar runs: how many stories were told to find out.
    """

    excerpt: Excerpt
    outcome: Outcome
    runs: int


def shrink(tell: Callable[[Excerpt], Outcome], outcome: Outcome, *, max_runs: int = 80) -> Shrunk:
    """Make a failing story small.

    :param tell: tells the story of the seed, or an excerpt of it.
    :param outcome: of the whole story; it failed.
    :param max_runs: how many stories may be told at most.
    """
    return _Shrinker(tell, outcome, max_runs).run()


class _Shrinker:
    """The smallest failing excerpt so far; it only ever gets smaller."""

    def __init__(self, tell: Callable[[Excerpt], Outcome], outcome: Outcome, max_runs: int) -> None:
        self._tell = tell
        self._rule = rule_of(outcome.failure)
        self._best, self._outcome = WHOLE, outcome
        self._runs_left = max_runs
        self._max_runs = max_runs

    def run(self) -> Shrunk:
        self._shorten()
        self._take_out_faults()
        self._take_away_clients()
        self._shorten()
        return Shrunk(excerpt=self._best, outcome=self._outcome, runs=self._max_runs - self._runs_left)

    def _still_fails(self, candidate: Excerpt) -> bool:
        if self._runs_left <= 0 or candidate == self._best:
            return False
        self._runs_left -= 1
        outcome = self._tell(candidate)
        if rule_of(outcome.failure) != self._rule:
            return False
        self._best, self._outcome = candidate, outcome
        return True

    def _shorten(self) -> None:
        """End the faults where it failed, then ever earlier."""
        now = self._best.seconds or STORY_SECONDS
        failed_at = math.ceil(self._outcome.simulated_seconds * 10) / 10
        if failed_at < now:
            self._still_fails(replace(self._best, seconds=failed_at))
        while (now := self._best.seconds or STORY_SECONDS) > 1.0:
            if not self._still_fails(replace(self._best, seconds=round(now / 2, 1))):
                break

    def _take_out_faults(self) -> None:
        size = len(self._outcome.story)
        while size >= 1 and self._runs_left:
            for part in self._parts(size):
                # What came after a fault that was taken out may have ended the story earlier: look at what is there.
                here = part & {number for number, _, _ in self._outcome.story}
                if here:
                    self._still_fails(replace(self._best, without=self._best.without | here))
            size //= 2

    def _parts(self, size: int) -> Iterator[frozenset[int]]:
        """Cut the faults that are left into parts of a size, the last ones first."""
        numbers = [number for number, _, _ in self._outcome.story]
        for end in range(len(numbers), 0, -size):
            yield frozenset(numbers[max(0, end - size) : end])

    def _take_away_clients(self) -> None:
        for clients in (1, 2, 3, 5):
            if self._best.clients is None and self._still_fails(replace(self._best, clients=clients)):
                return
