"""One machine of a simulated cluster, and the lives that its node leads one after the other."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any

from twisted.internet.defer import Deferred

from raftkv.persistence.meta import META_FILE
from raftkv.raft.node import RaftNode
from raftkv.server.replica import Replica
from raftkv.testing.clock import NodeClock
from raftkv.testing.cluster.settings import ClusterSettings
from raftkv.testing.cluster.storage import WatchedStorage
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.network import Process
from raftkv.testing.worker import ClockWorker

if TYPE_CHECKING:
    from raftkv.testing.beginning import Beginning


@dataclass(slots=True, kw_only=True, eq=False)
class Life:
    """One life of a node, from its start to its end.

    :ivar beginning: what it does while it asks how to begin.
    :ivar disk_errors: how many errors its disk has raised in it.
    :ivar is_over: whether it has given up, and only has to be buried.
    """

    clock: NodeClock
    workers: list[ClockWorker] = field(default_factory=list)
    process: Process | None = None
    storage: WatchedStorage | None = None
    replica: Replica | None = None
    stopping: Deferred[Any] | None = None
    beginning: Beginning | None = None
    disk_errors: int = 0
    is_over: bool = False


class SimulatedNode:
    """One machine: a disk, a clock that is off by its own rate, and at most one life at a time.

    :ivar disk_delay_seconds: what a batch takes at most; raise it for a slow disk.
    :ivar lives: how often it was started.
    :ivar on_batch: told that the disk begins with something, and how long it will take.
    :ivar is_founder: whether its configuration names it among the members of the first hour.
    :ivar was_wiped: whether it has lost a disk.
    :ivar incarnation: of the node that has begun on its disk; ``None`` for none.
    """

    def __init__(self, name: str, *, settings: ClusterSettings, random: random.Random, is_founder: bool) -> None:
        self.name = name
        self.is_founder = is_founder
        self.was_wiped = False
        self.incarnation: str | None = None
        self.disk = MemoryDisk(name)
        self.rate = 1.0 + random.uniform(-settings.drift, settings.drift)
        self.random = random
        self.disk_delay_seconds = settings.disk_delay_seconds
        self.lives = 0
        self.life: Life | None = None
        self.on_batch: Callable[[float], None] | None = None
        self._usual_delay_seconds = settings.disk_delay_seconds

    @property
    def is_fresh(self) -> bool:
        """Whether there is nothing on its disk that a cluster knows of."""
        return not self.is_founder and not self.disk.exists(META_FILE)

    @property
    def is_running(self) -> bool:
        """Whether there is a process, paused or not."""
        return self.life is not None

    @property
    def is_up(self) -> bool:
        """Whether there is a process that has not given up."""
        return self.life is not None and not self.life.is_over

    @property
    def is_writing(self) -> bool:
        """Whether the disk has something to do."""
        return self.life is not None and any(worker.is_busy for worker in self.life.workers)

    @property
    def raft(self) -> RaftNode | None:
        """The core, ``None`` while the node is down."""
        return self.life.replica.driver.node if self.life is not None and self.life.replica is not None else None

    def draw_disk_delay(self, items: list[Any]) -> float:
        """Draw how long the disk takes for a batch."""
        seconds = self.random.uniform(0.1, 1.0) * self.disk_delay_seconds
        if self.on_batch is not None:
            self.on_batch(seconds)
        return seconds

    def stall_disk(self) -> None:
        """Let the disk do nothing until :meth:`disk_recovers`."""
        if self.life is not None:
            for worker in self.life.workers:
                worker.stall()

    def disk_recovers(self) -> None:
        """Let the disk work as usual."""
        self.disk_delay_seconds = self._usual_delay_seconds
        if self.life is not None:
            for worker in self.life.workers:
                worker.resume()

    def lose_power(self) -> None:
        """End the life in the middle of whatever the disk is doing; what was not synced may be lost."""
        self._cut_short()
        self.disk.crash(self.random)

    def die(self) -> None:
        """End the life (SIGKILL): the operating system lives on and keeps what was written, if no sync of it failed."""
        self._cut_short()
        self.disk.lose_power_after(None)
        self.disk.evict(self.random)

    def _cut_short(self) -> None:
        life, self.life = self.life, None
        if life is None:
            return
        life.clock.die()
        tear = self.random.random() < 0.85
        for worker in life.workers:
            # A batch of the log is one write and one sync: most often in between.
            self.disk.lose_power_after(self.random.choice((0, 1, 1, 1, 1, 1, 2, 5)))
            worker.crash(tear=tear)
