"""Looking at the room on the disk now and then."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.persistence.calls import BlockingCalls
from raftkv.server.diskspace import SpaceWatch
from raftkv.testing.worker import ClockWorker


class StandInNode:
    """Remembers what it was told."""

    def __init__(self) -> None:
        self.disk_lacks_room = False
        self.told: list[bool] = []

    def note_room(self, *, lacking: bool) -> None:
        self.disk_lacks_room = lacking
        self.told.append(lacking)


class SpaceWatchTests(SynchronousTestCase):
    """A watch that needs a hundred bytes, and looks every third tick."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = StandInNode()
        self.free: Any = 1000
        self.looks = 0
        self.wakes: list[None] = []
        self.fatal: list[BaseException] = []
        self.worker = ClockWorker(self.clock, lambda items: 0.01)
        self.calls = BlockingCalls(self.worker)
        self.calls.start()
        self.watch = SpaceWatch(
            node=self.node,  # type: ignore[arg-type]
            calls=self.calls,
            free_bytes=self.free_bytes,
            needed_bytes=100,
            wake=lambda: self.wakes.append(None),
            fatal=self.fatal.append,
            election_ticks=3,
        )

    def free_bytes(self) -> int:
        self.looks += 1
        if isinstance(self.free, Exception):
            raise self.free
        return int(self.free)

    def tick(self, count: int = 3) -> None:
        for _ in range(count):
            self.watch.tick()
            self.clock.pump([0.01] * 3)

    def test_thresholds(self) -> None:
        """Room lacks below what is needed next, and is there again from twice that on, lest it change all the time."""
        for free, lacking in ((100, False), (99, True), (150, True), (199, True), (200, False), (150, False)):
            self.free = free
            self.tick()
            self.assertIs(self.node.disk_lacks_room, lacking, f"{free}")
        self.assertEqual(self.node.told, [True, False])
        self.assertEqual(len(self.wakes), 2)

    def test_looks_at_once_and_now_and_then(self) -> None:
        """It looks at the first tick, then each election timeout, and not again while a look takes its time."""
        self.tick(1)
        self.assertEqual(self.looks, 1)
        self.tick(6)
        self.assertEqual(self.looks, 3)
        self.worker.stall()
        self.tick(9)
        self.assertEqual(self.looks, 3)
        self.worker.resume()
        self.clock.pump([0.01] * 3)
        self.tick(3)
        self.assertEqual(self.looks, 5)

    def test_failure(self) -> None:
        """A disk that cannot say how much is left has failed; a node that stops has not."""
        self.free = OSError(5, "Input/output error")
        self.tick(1)
        self.assertEqual(len(self.fatal), 1)
        self.setUp()
        self.calls.stop()
        self.tick(4)
        self.assertEqual(self.fatal, [])
