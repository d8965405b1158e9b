"""Disks that are lost for good, and machines that begin with empty ones: what incarnations are for (B24).

A machine whose disk is lost comes back under its name with an empty one. No more are lost than a cluster can bear: a
majority must be left, under every configuration that anybody may believe in, of voters that still have the disk which
that configuration means. Apart from the other faults, and with chance of its own: these come as they always did.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterator
from dataclasses import dataclass
from functools import partial

from raftkv.raft.configuration import Configuration
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.trouble import Trouble


@dataclass(frozen=True, slots=True, kw_only=True)
class LossSettings:
    """How often disks are lost.

    :ivar asks_first: whether the founders begin as processes do, by asking each other.
    :ivar late_seconds: when the last of the founders is started for the first time.
    :ivar pause_seconds: mean time between two losses; 0 for none at all.
    :ivar away_seconds: how long a machine stays away, at the most, until it has its new disk.
    """

    asks_first: bool
    late_seconds: float
    pause_seconds: float
    away_seconds: float


def may_lose_disk(cluster: SimulatedCluster, name: str) -> bool:
    """Tell whether a cluster bears the loss of one more disk."""
    if cluster.excuses.rotten or cluster.excuses.spoiled or cluster.nodes[name].incarnation is None:
        return False
    # A majority of founders with empty disks could not know that there was anything, if it were cut off from the rest.
    begun = [each for each in cluster.founders if each != name and cluster.nodes[each].incarnation is not None]
    if 2 * len(begun) <= len(cluster.founders):
        return False
    for configuration in _believed(cluster):
        for voters in (configuration.voters, configuration.outgoing_voters):
            intact = [each for each in voters if each != name and _is_intact(cluster, each, configuration)]
            if voters and 2 * len(intact) <= len(voters):
                return False
    return True


def _believed(cluster: SimulatedCluster) -> Iterator[Configuration]:
    yield cluster.committed_configuration()
    yield from cluster.checkers.configurations()


def _is_intact(cluster: SimulatedCluster, name: str, configuration: Configuration) -> bool:
    node = cluster.nodes[name]
    named = configuration.members[name].incarnation
    return node.incarnation is not None and (named == node.incarnation or (not named and not node.was_wiped))


class Losses(Trouble):
    """Takes the disks of one cluster away; counts how many losses would have been too much, too.

    :param burst: makes somebody write to a node several times, given its name and how often.
    """

    NUMBERED_FROM = 2000

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        settings: LossSettings,
        burst: Callable[[str, int], None],
        without: Container[int] = (),
    ) -> None:
        super().__init__(cluster, random=random, pause_seconds=settings.pause_seconds, without=without)
        self._settings = settings
        self._burst = burst

    def start_all(self) -> None:
        """Start the machines, the last founder perhaps a while after the others."""
        names = list(self._cluster.names)
        late = self._cluster.founders[-1]
        if self._settings.late_seconds:
            names.remove(late)
            self._later(self._settings.late_seconds, lambda: self._cluster.start(late))
            self.counts["late founders"] = 1
        for name in names:
            self._cluster.start(name)
        if self._settings.pause_seconds:
            self._next()

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        self._cluster.clock.callLater(seconds, lambda: None if self._is_over else function())

    def _begin(self, number: int, kind: str, chance: random.Random) -> None:
        leader, founders = self._cluster.leader(), self._cluster.founders
        leaves = leader in founders and chance.random() < 0.5
        self._tell(number, "leave_behind" if leaves else "lose_disk")
        if leaves and leader is not None:
            self._leave_behind(leader, chance)
        else:
            self._take(chance.choice([leader or founders[0], *founders]), chance)

    def _take(self, name: str, chance: random.Random) -> bool:
        if name not in self._cluster.founders or not may_lose_disk(self._cluster, name):
            self._count("disks spared")
            return False
        self._count("disks lost")
        self._cluster.lose_disk(name)
        self._later(chance.uniform(0.0, self._settings.away_seconds), lambda: self._cluster.start(name))
        return True

    def _leave_behind(self, leader: str, chance: random.Random) -> None:
        """A bare majority writes while the others are cut off; then one of it loses its disk, and the rest goes down.

        Those who were left behind and the empty disk would be a majority, if that counted as what it was (B24).
        """
        cluster, founders = self._cluster, self._cluster.founders
        followers = [name for name in founders if name != leader]
        chance.shuffle(followers)
        victim, *more = followers[: len(founders) // 2]
        ahead = [leader, victim, *more]
        cluster.network.partition(ahead, [name for name in founders if name not in ahead])
        self._later(0.1, lambda: self._burst(leader, 4))
        self._later(chance.uniform(0.3, 1.0), lambda: self._go_down(victim, [leader, *more], chance))

    def _go_down(self, victim: str, rest: list[str], chance: random.Random) -> None:
        if self._take(victim, chance):
            self._count("left behind")
            for name in rest:
                self._cluster.crash(name, power_loss=False)
                self._later(chance.uniform(2.0, 8.0), partial(self._cluster.start, name))
        self._cluster.network.heal()


def draw_losses(chance: random.Random, *, members_change: bool) -> LossSettings:
    """Draw whether disks are lost, and how the cluster begins.

    :param members_change: whether an operator is at work: what he removes may be what a lost disk would have needed.
    """
    asks_first = chance.random() < 0.5
    late = chance.choice((0.0, 0.0, chance.uniform(0.0, 8.0))) if asks_first else 0.0
    loses = chance.random() < 0.7
    pause, away = chance.choice((1.0, 3.0, 6.0)), chance.choice((0.2, 3.0))
    return LossSettings(
        asks_first=asks_first,
        late_seconds=late,
        pause_seconds=pause if loses and not members_change else 0.0,
        away_seconds=away,
    )
