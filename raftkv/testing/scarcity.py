"""Disks that fill up under nodes which keep room in reserve, and rot under nodes that run (B50, B41).

Apart from the other faults, and with chance of its own: these come as they always did. What nodes without a reserve do
on a full disk is the matter of :mod:`raftkv.testing.faults`.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Container, Iterable
from dataclasses import dataclass, replace

from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.diskfaults import KEEPS_ALL, spoil_in_service
from raftkv.testing.trouble import DrawnTrouble

_LOOK_SECONDS = 0.05
_RESERVED_SEGMENTS = 4
_SETTLED_SECONDS = 1.5  # after which a node has looked at its disk, and what it was promised before is written
_BURSTS = 6
_FULL = ("fill_one", "fill_leader", "fill_majority", "fill_all", "fill_slowly")
_AGAIN = ("fill_again",)  # apart from the others, with which nobody could say whose fault it was
_AGAIN_PAUSE_SECONDS = 4.0
_ROTTEN = ("rot_in_service",)


@dataclass(frozen=True, slots=True, kw_only=True)
class ScarcitySettings:
    """How often disks fill up, or rot.

    :ivar kinds: what happens; nothing where empty.
    :ivar pause_seconds: mean time between two.
    :ivar mean_seconds: how long disks stay full, in the mean.
    :ivar reserved_segments: how many segments' worth of room each node keeps in reserve.
    """

    kinds: tuple[str, ...] = ()
    pause_seconds: float = 1.0
    mean_seconds: float = 3.0
    reserved_segments: int = 0


class Scarcity(DrawnTrouble):
    """Fills the disks of one cluster up; counts how often nodes, and the cluster, said that they are full.

    :param burst: makes somebody write to a node several times, given its name and how often.
    """

    NUMBERED_FROM = 4000
    CALLED = "scarcity"

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        settings: ScarcitySettings,
        burst: Callable[[str, int], None],
        without: Container[int] = (),
    ) -> None:
        super().__init__(
            cluster,
            random=random,
            pause_seconds=settings.pause_seconds,
            weights=dict.fromkeys(settings.kinds, 1.0),
            without=without,
        )
        self._settings = settings
        self._burst = burst
        self._alarms: dict[str, set[str]] = {}
        self._rotten: set[int] = set()

    def start(self) -> None:
        """Begin, where there is to be any."""
        if self._settings.kinds:
            self._next()
            self._look()

    def end(self) -> None:
        """Begin no more, and give all room back."""
        super().end()
        if self._settings.kinds:
            for node in self._cluster.nodes.values():
                node.disk.mend()

    def _look(self) -> None:
        """Count alarms as they begin."""
        for name, node in self._cluster.nodes.items():
            replica = node.life.replica if node.life is not None else None
            raised = set(replica.status()["alarms"]) if replica is not None else set()
            for alarm in sorted(raised - self._alarms.get(name, set())):
                if alarm in ("disk_full", "cluster_full", "snapshot_failed"):
                    self._count(f"alarms {alarm}")
            self._alarms[name] = raised
        if not self._is_over:
            self._cluster.clock.callLater(_LOOK_SECONDS, self._look)

    # -- what goes wrong ---------------------------------------------------------------------------------------------

    def fill_one(self) -> None:
        """Somebody else takes what is left of one disk."""
        self._fill([self._random.choice(self._cluster.names)])

    def fill_leader(self) -> None:
        """The leader's disk fills up."""
        self._fill([self._cluster.leader() or self._cluster.names[0]])

    def fill_majority(self) -> None:
        """So many disks fill up that the rest is no majority."""
        names = self._cluster.names
        self._fill(self._random.sample(names, len(names) // 2 + 1))

    def fill_all(self) -> None:
        """All disks fill up."""
        self._fill(self._cluster.names)

    def fill_slowly(self) -> None:
        """All disks have room for the log to go on for a while, each for another one."""
        for name in self._cluster.names:
            segment_bytes = self._cluster.settings.segment_bytes
            self._fill([name], spare_bytes=self._random.randrange(4 * segment_bytes))

    def fill_again(self) -> None:
        """Little is left of a follower's disk, while clients write far more than that: its log fills it, a snapshot
        makes room, and all that the follower has missed comes at once. Nobody else uses it, so that it has to stay."""
        cluster, leader = self._cluster, self._cluster.leader()
        name = self._random.choice([name for name in cluster.names if name != leader])
        disk = cluster.nodes[name].disk
        capacity = disk.used_bytes() + self._random.randrange(2, 9) * cluster.settings.segment_bytes
        disk.capacity_bytes = capacity
        cluster.clock.callLater(_SETTLED_SECONDS, self._expect_to_stay, name, capacity)
        for number in range(_BURSTS):
            cluster.clock.callLater(_SETTLED_SECONDS * number, self._write_much)
        self._later(_BURSTS * _SETTLED_SECONDS, name)

    def _expect_to_stay(self, name: str, capacity: int) -> None:
        self._cluster.excuses.fills_its_disk[name] = capacity

    def _write_much(self) -> None:
        if not self._is_over:
            self._burst(self._cluster.leader() or self._cluster.names[0], self._random.randrange(10, 60))

    def _fill(self, names: Iterable[str], spare_bytes: int = 0) -> None:
        for name in names:
            disk = self._cluster.nodes[name].disk
            disk.capacity_bytes = disk.used_bytes() + spare_bytes
            self._later(0.5 + self._random.expovariate(1 / self._settings.mean_seconds), name)

    def _later(self, seconds: float, name: str) -> None:
        def give_room() -> None:
            if not self._is_over:
                self._cluster.nodes[name].disk.capacity_bytes = None

        self._cluster.clock.callLater(seconds, give_room)

    def rot_in_service(self) -> None:
        """A bit of the log of a node that runs flips: it hears of it when it reads that back, or starts again (B41)."""
        cluster, name = self._cluster, self._random.choice(self._cluster.names)
        if any(node.was_wiped or node.incarnation is None for node in cluster.nodes.values()):
            return
        if self._random.random() < 0.7:
            name = cluster.leader() or name
        self._count("entries spoiled in service", spoil_in_service(cluster, name, self._random, self._rotten))


def draw_scarcity(chance: random.Random, *, states_change: bool, members_change: bool) -> ScarcitySettings:
    """Draw whether disks fill up or rot under running nodes, and how often.

    :param states_change: whether states are changed on purpose, so that logs must stay whole: a full disk cuts its own.
    :param members_change: whether members, or their disks, are replaced, so that nobody could say who still has what.
    """
    kind, pause, mean = chance.random(), chance.choice((1.5, 4.0)), chance.choice((1.0, 3.0, 8.0))
    if kind < 0.3 and not members_change:
        return ScarcitySettings(kinds=_ROTTEN, pause_seconds=pause)
    if 0.45 <= kind < 0.5 and not states_change:
        return ScarcitySettings(kinds=_AGAIN, pause_seconds=_AGAIN_PAUSE_SECONDS, reserved_segments=_RESERVED_SEGMENTS)
    if kind < 0.45 and not states_change:
        return ScarcitySettings(
            kinds=_FULL, pause_seconds=pause, mean_seconds=mean, reserved_segments=_RESERVED_SEGMENTS
        )
    return ScarcitySettings()


def with_reserve(settings: ClusterSettings, scarcity: ScarcitySettings) -> ClusterSettings:
    """Let each node keep room in reserve where disks fill up, and its whole log where an entry may rot."""
    if scarcity.kinds == _ROTTEN:
        return replace(settings, trailing_entries=max(KEEPS_ALL, settings.trailing_entries))
    return replace(settings, disk_reserve_bytes=scarcity.reserved_segments * settings.segment_bytes)
