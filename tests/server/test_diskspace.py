"""Looking at the room on the disk now and then, and what the node is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.reserve import RESERVE_FILE, Reserve
from raftkv.raft.room import Room
from raftkv.server.diskspace import Look, SpaceWatch, look
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.worker import ClockWorker


class StandInNode:
    """Remembers what it was told."""

    node_id = "a"

    def __init__(self) -> None:
        self.told: list[tuple[Room, int]] = []

    def note_room(self, room: Room, *, budget_bytes: int) -> None:
        self.told.append((room, budget_bytes))


class StandInStorage:
    """Has room for so many bytes of log."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes

    def room_bytes(self) -> int:
        return self._room_bytes


class SpaceWatchTests(SynchronousTestCase):
    """A watch over segments of a hundred bytes and a reserve of 400, which looks every third tick."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = StandInNode()
        self.found = Look(1000, True, 0)
        self.failure: Exception | None = None
        self.looks = self.relieved = 0
        self.wakes: list[None] = []
        self.fatal: list[BaseException] = []
        self.worker = ClockWorker(self.clock, lambda items: 0.01)
        self.calls = BlockingCalls(self.worker)
        self.calls.start()
        self.reserve = Reserve(MemoryDisk(), size_bytes=400)
        self.reserve.fill()
        self.watch = SpaceWatch(
            node=self.node,  # type: ignore[arg-type]
            calls=self.calls,
            look=self.look,
            log_bytes=lambda: 30,
            reserve=self.reserve,
            segment_bytes=100,
            relieve=self.relieve,
            wake=lambda: self.wakes.append(None),
            fatal=self.fatal.append,
            election_ticks=3,
        )

    def look(self) -> Look:
        self.looks += 1
        if self.failure is not None:
            raise self.failure
        return self.found

    def relieve(self) -> None:
        self.relieved += 1

    def tick(self, count: int = 3) -> None:
        for _ in range(count):
            self.watch.tick()
            self.clock.pump([0.01] * 3)

    def test_thresholds(self) -> None:
        """Room is scarce below what is needed next, and ample again from twice that on, lest it change all the time."""
        for free, level in ((100, 0), (99, 1), (150, 1), (199, 1), (200, 0), (150, 0)):
            self.found = Look(free, True, 0)
            self.tick()
            self.assertEqual(self.node.told[-1][0] if self.node.told else Room.AMPLE, level, f"{free}")
        self.assertEqual([level for level, _ in self.node.told], [Room.SCARCE, Room.AMPLE])
        self.assertEqual(len(self.wakes), 2)

    def test_budget(self) -> None:
        """B50: while the reserve is drawn on the node is told at each look what the log may take: what fits into its
        segment, and whole segments of what is left but for a quarter of the reserve."""
        self.reserve.release()
        for free, log_bytes, budget in ((350, 70, 270), (199, 60, 60), (200, 50, 150), (0, 40, 40)):
            self.found = Look(free, False, log_bytes)
            self.tick()
            self.assertEqual(self.node.told[-1], (Room.NONE, budget))
        self.assertEqual(self.relieved, 4)
        self.reserve.fill()
        self.found = Look(150, True, 40)
        self.tick()
        self.assertEqual((self.node.told[-1][0], self.relieved), (Room.SCARCE, 4))

    def test_told_at_once(self) -> None:
        """B50: as soon as the reserve has been drawn on the node is told, with what fits into the log's segment for its
        budget, however long a look then takes; one that began before does not say that all is well."""
        self.worker.stall()
        self.watch.tick()
        self.reserve.release()
        self.watch.gather()
        self.assertEqual((self.node.told, self.relieved), ([(Room.NONE, 30)], 1))
        self.watch.gather()
        self.worker.resume()
        self.clock.pump([0.01] * 3)
        self.assertEqual((self.looks, [level for level, _ in self.node.told]), (1, [Room.NONE, Room.NONE]))
        self.reserve.fill()
        self.tick(3)
        self.assertIs(self.node.told[-1][0], Room.AMPLE)

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
        self.failure = OSError(5, "Input/output error")
        self.tick(1)
        self.assertEqual(len(self.fatal), 1)
        self.setUp()
        self.calls.stop()
        self.tick(4)
        self.assertEqual(self.fatal, [])


class LookTests(SynchronousTestCase):
    """A look at a disk of 1,000 bytes with a reserve of 400."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        self.disk.capacity_bytes = 1000
        self.reserve = Reserve(self.disk, size_bytes=400)
        self.look: Callable[[], Any] = lambda: look(self.disk, StandInStorage(70), self.reserve)  # type: ignore[arg-type]

    def take(self, size: int) -> None:
        self.disk.replace("others", bytes(size))

    def test_whole(self) -> None:
        """The reserve is set aside where all of it fits, and is not free any more."""
        self.assertEqual(self.look(), Look(600, True, 70))

    def test_set_aside_again(self) -> None:
        """B50: once it was drawn on it is set aside again when an eighth of it is left beside it, and not before."""
        self.assertTrue(self.reserve.fill())
        self.take(551)
        self.reserve.release()
        self.assertEqual(self.look(), Look(449, False, 70))
        self.assertFalse(self.disk.exists(RESERVE_FILE))
        self.take(550)
        self.assertEqual(self.look(), Look(50, True, 70))
