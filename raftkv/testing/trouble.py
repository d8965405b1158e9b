"""What all kinds of trouble of a story share: when the next one comes, and a number by which it can be left out.

What happens then, and how it is undone, is the business of those who derive from :class:`Trouble`.
"""

from __future__ import annotations

import random
from collections.abc import Container
from typing import ClassVar

from raftkv.testing.cluster import SimulatedCluster


class Trouble:
    """Events of one kind of trouble for one cluster, one after the other at drawn moments.

    :param random: draws which events come, and when. What one does is drawn from chance of its own, so that one that is
        left out changes as little as possible about the others.
    :param pause_seconds: mean time between two.
    :param without: numbers of the events that are left out.
    :cvar NUMBERED_FROM: its numbers are larger than this; those of the other kinds of trouble are not among the next
        thousand.
    :ivar counts: how often what was begun, and what came of it.
    :ivar story: what was begun: its number, the time, its kind.
    """

    NUMBERED_FROM: ClassVar[int]

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        pause_seconds: float,
        without: Container[int] = (),
    ) -> None:
        self.counts: dict[str, int] = {}
        self.story: list[tuple[int, float, str]] = []
        self._cluster = cluster
        self._schedule = random
        self._pause_seconds = pause_seconds
        self._without = without
        self._drawn = 0
        self._is_over = False

    def end(self) -> None:
        """Begin no more."""
        self._is_over = True

    def _next(self) -> None:
        pause = self._schedule.expovariate(1 / self._pause_seconds)
        self._cluster.clock.callLater(pause, self._turn)

    def _turn(self) -> None:
        if self._is_over:
            return
        kind = self._draw_kind()
        chance = chance_of_its_own(self._schedule)
        self._drawn += 1
        number = self.NUMBERED_FROM + self._drawn
        if number not in self._without:
            self._begin(number, kind, chance)
        self._next()

    def _draw_kind(self) -> str:
        """Draw what comes, where that does not depend on the moment."""
        return ""

    def _begin(self, number: int, kind: str, chance: random.Random) -> None:
        raise NotImplementedError

    def _tell(self, number: int, kind: str) -> None:
        self.story.append((number, round(self._cluster.clock.seconds(), 3), kind))

    def _count(self, what: str, times: int = 1) -> None:
        self.counts[what] = self.counts.get(what, 0) + times


class DrawnTrouble(Trouble):
    """Trouble whose kinds are methods, drawn by weight.

    :param weights: how often each kind comes, by the name of its method; a kind left out never.
    :cvar CALLED: what one event is called in the trace.
    """

    CALLED: ClassVar[str]

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        pause_seconds: float,
        weights: dict[str, float],
        without: Container[int] = (),
    ) -> None:
        super().__init__(cluster, random=random, pause_seconds=pause_seconds, without=without)
        self._random = random  # of the event whose turn it is
        self._weights = weights

    def _draw_kind(self) -> str:
        kinds = list(self._weights)
        return self._schedule.choices(kinds, [self._weights[each] for each in kinds])[0]

    def _begin(self, number: int, kind: str, chance: random.Random) -> None:
        self._count(kind)
        self._tell(number, kind)
        self._cluster.trace.note(f"{self.CALLED} {number} {kind}")
        self._random = chance
        getattr(self, kind)()


def chance_of_its_own(chance: random.Random) -> random.Random:
    """Return chance that depends on the moment it was asked for, and not on what is drawn afterwards."""
    return random.Random(chance.getrandbits(64))
