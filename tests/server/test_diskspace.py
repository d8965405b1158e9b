"""Looking at the room on the disk now and then, and what the node is told."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.reserve import RESERVE_FILE, Reserve
from raftkv.raft.room import DiskRoom, LogRoom, Room
from raftkv.server.diskspace import Look, SpaceWatch, look
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.worker import ClockWorker
from tests.raft.cluster import entry

GIB, MIB = 1 << 30, 1 << 20


class StandInNode:
    """Remembers what it was told, and counts what it takes."""

    node_id = "a"

    def __init__(self) -> None:
        self.told: list[tuple[Room, LogRoom | None]] = []
        self.looks_begun = 0
        self.wants_look = self.falls_short = False
        self.room = DiskRoom()

    @property
    def has_overdrawn(self) -> bool:
        return self.room.is_exceeded

    def begin_look(self) -> None:
        self.looks_begun += 1
        self.room.begin_look([])

    def append(self, payload_bytes: int) -> None:
        self.room.spend([entry(1, 1, bytes(payload_bytes))], payload_bytes)

    def note_room(self, room: Room, budget: LogRoom | None) -> None:
        self.told.append((room, budget))
        self.room.note(room, budget)
        self.wants_look = False

    def lacks_room_within(self, budget: LogRoom) -> bool:
        return self.falls_short


class StandInStorage:
    """Has room for so many bytes of log."""

    def __init__(self, room_bytes: int) -> None:
        self._room_bytes = room_bytes

    def room_bytes(self) -> int:
        return self._room_bytes


class SpaceWatchTests(SynchronousTestCase):
    """A watch over segments of 160 bytes and a reserve of 800, which looks every third tick."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.node = StandInNode()
        self.found = Look(1000, True, 0)
        self.failure: Exception | None = None
        self.looks = self.relieved = 0
        self.others_write = self.snapshot_lacks_room = False
        self.others_bytes: int | None = None
        self.wakes: list[None] = []
        self.fatal: list[BaseException] = []
        self.worker = ClockWorker(self.clock, lambda items: 0.01)
        self.calls = BlockingCalls(self.worker)
        self.calls.start()
        self.make_watch(800)

    def make_watch(self, reserve_bytes: int) -> None:
        self.reserve = Reserve(MemoryDisk(), size_bytes=reserve_bytes, segment_bytes=160)
        self.reserve.fill()
        self.watch = SpaceWatch(
            node=self.node,  # type: ignore[arg-type]
            calls=self.calls,
            look=self.look,
            log_bytes=lambda: 30,
            reserve=self.reserve,
            segment_bytes=160,
            batch_bytes=40,
            others_write=lambda: self.others_write,
            others_bytes=lambda: self.others_bytes,
            snapshot_lacks_room=lambda: self.snapshot_lacks_room,
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
            self.pump()

    def pump(self) -> None:
        self.clock.pump([0.01] * 3)

    def last(self) -> tuple[Room, int, int]:
        """Return the level that the node was told last, and what its log may take: in its segment, and beyond."""
        level, budget = self.node.told[-1]
        assert budget is not None
        self.assertEqual((budget.segment_bytes, budget.batch_bytes), (160, 40))
        return level, budget.begun_bytes, budget.more_bytes

    def test_thresholds(self) -> None:
        """Room is scarce below what is needed next, and ample again from twice that on, lest it change all the time."""
        for free, level in ((160, 0), (159, 1), (250, 1), (319, 1), (320, 0), (250, 0)):
            self.found = Look(free, True, 0)
            self.tick()
            self.assertEqual(self.last()[0], level, f"{free}")
        self.assertEqual(len(self.wakes), 2)

    def test_budget(self) -> None:
        """B50: at each look the node is told what the log may take: what fits into its segment but for a little, its
        part of the reserve, and what is free but for an eighth of the reserve; nothing of it once the disk is full."""
        self.found = Look(1000, True, 70, 320)
        self.tick()
        self.assertEqual(self.last(), (Room.AMPLE, 60, 320 + 900))
        self.found = Look(90, True, 70, 320)
        self.tick()
        self.assertEqual(self.last(), (Room.SCARCE, 60, 320))
        self.reserve.release(160)
        for free, log_bytes, kept in ((700, 70, 160), (1 << 40, 70, 160), (199, -60, 0)):
            self.found = Look(free, False, log_bytes, kept)
            self.tick()
            self.assertEqual(self.last(), (Room.NONE, log_bytes - 10, kept))
        self.assertEqual(self.relieved, 3)
        self.reserve.fill()
        self.found = Look(250, True, 40, 320)
        self.tick()
        self.assertEqual((*self.last(), self.relieved), (Room.SCARCE, 30, 470, 3))

    def test_nothing_in_reserve(self) -> None:
        """A node that keeps nothing in reserve takes whatever comes, and stops when its disk is full."""
        self.make_watch(0)
        self.watch.begin()
        self.tick()
        self.assertEqual(self.node.told, [(Room.AMPLE, None)] * 2)

    def test_before_the_first_look(self) -> None:
        """B50: before anything is found the log may take what it has: its segment, and its part of the reserve."""
        self.watch.begin()
        self.assertEqual((self.last(), self.looks, self.relieved), ((Room.AMPLE, 20, 320), 0, 0))

    def test_others_write(self) -> None:
        """B50: while a snapshot is written what is free is not the log's: the node is told so at the next tick, and the
        level stays as it is; a gibibyte is more than is written between two looks."""
        self.tick()
        self.others_write = True
        self.watch.tick()
        self.assertEqual(self.last(), (Room.AMPLE, 20, 320))
        self.pump()
        self.assertEqual(self.last(), (Room.AMPLE, -10, 0))
        self.found = Look(GIB + 500, True, 0, 320)
        self.tick()
        self.assertEqual(self.last(), (Room.AMPLE, -10, 820))
        looks = self.looks
        self.tick(3)
        self.assertEqual(self.looks, looks + 1, "it is told once")
        self.others_write = False
        self.tick()
        self.assertEqual(self.last(), (Room.AMPLE, -10, 320 + GIB + 400))

    def test_how_much_others_write(self) -> None:
        """B50: twice as much as a snapshot is expected to take is left to it, at least 16 MiB and at most a gibibyte;
        that where nobody knows."""
        self.others_write = True
        for expected, spared in ((0, 16 * MIB), (8 * MIB + 1, 16 * MIB + 2), (GIB // 2 + 1, GIB), (None, GIB)):
            self.others_bytes = expected
            self.found = Look(GIB + 500, True, 30, 320)
            self.tick()
            self.assertEqual(self.last(), (Room.AMPLE, 20, 320 + GIB + 500 - spared), f"{expected}")

    def test_others_write_on_a_large_disk(self) -> None:
        """B50: where far more is free than others can write, nothing is taken back when a snapshot begins, however long
        the next look takes; where half of that is used up by then, it is."""
        for free, is_half_used, is_cut in (
            (4 * GIB, False, False),
            (4 * GIB - 1, False, True),
            (4 * GIB, True, True),
            (1 << 50, False, False),
        ):
            self.setUp()
            self.found = Look(free, True, 0, 320)
            self.tick(1)
            told, looks_begun = list(self.node.told), self.node.looks_begun
            self.worker.stall()
            self.others_write, self.node.wants_look = True, is_half_used
            self.watch.tick()
            self.watch.tick()
            self.assertGreater(self.node.looks_begun, looks_begun, "it looks at once")
            self.assertEqual(self.node.told[1:], [(Room.AMPLE, LogRoom(20, 320, 160, 40))] if is_cut else [], f"{free}")
            self.assertEqual(self.node.told[:1], told)
            self.worker.resume()
            self.pump()
            self.pump()
            self.assertEqual(self.last(), (Room.AMPLE, -10, 320 + free - GIB))

    def test_half_used_up(self) -> None:
        """B50: where the log has used up half of what was found it looks at once, in the same turn; not while the disk
        is full, for then it would do so all the time."""
        self.tick(1)
        self.node.wants_look = True
        self.watch.gather()
        self.watch.gather()
        self.pump()
        self.assertEqual((self.looks, self.node.looks_begun, len(self.wakes)), (2, 2, 1))
        self.reserve.release()
        self.found = Look(700, False, 70)
        self.tick()
        looks = self.looks
        self.node.wants_look = True
        self.watch.gather()
        self.assertEqual(self.looks, looks)

    def test_falls_short(self) -> None:
        """B50: where an entry waits for more than a look has found, the disk is full, though the log's next segment
        would fit: room is made, and what is not the log's part of the reserve is there for that."""
        self.node.falls_short = True
        self.found = Look(1000, True, -1, 320)
        self.tick(1)
        self.assertEqual((self.last()[0], self.relieved), (Room.AMPLE, 0), "something waits to be written")
        self.found, self.others_write = Look(1000, True, 0, 320), True
        self.tick()
        self.assertEqual((self.last()[0], self.relieved), (Room.AMPLE, 0), "a snapshot may make room")
        self.others_write, self.node.wants_look = False, True
        self.watch.gather()
        self.pump()
        self.assertEqual((self.last()[0], self.relieved), (Room.NONE, 1))
        self.pump()
        self.assertEqual((self.reserve.is_whole, self.reserve.log_bytes), (False, 320))

    def test_snapshot_without_room(self) -> None:
        """B50: where a snapshot found no room on a full disk the log's part is left to the next one, once nothing that
        waits to be written counts on it."""
        self.reserve.release()
        self.found = Look(0, False, 70, 320)
        self.tick()
        self.assertEqual((self.last(), self.reserve.log_bytes), ((Room.NONE, 60, 320), 320))
        self.snapshot_lacks_room = True
        self.watch.tick()
        self.node.append(100)
        self.pump()
        self.tick(2)
        self.assertEqual((self.last(), self.reserve.log_bytes), ((Room.NONE, 60, 0), 320))
        self.tick()
        self.pump()
        self.assertEqual((self.last(), self.reserve.log_bytes), ((Room.NONE, 60, 0), 0))

    def test_snapshot_without_room_behind_a_full_segment(self) -> None:
        """B50: where less than what is kept for entries without commands is left of the segment, nothing is promised
        of the log's part either, and it is left to the snapshot; not while more waits to be written than fits."""
        self.snapshot_lacks_room = True
        self.reserve.release()
        for log_bytes, is_left in ((-1, False), (9, True), (0, True)):
            self.reserve.fill()
            self.reserve.release()
            self.found = Look(0, False, log_bytes, 320)
            self.tick()
            self.pump()
            self.assertEqual(self.reserve.log_bytes, 0 if is_left else 320, f"{log_bytes}")
            self.assertIs(self.node.has_overdrawn, not is_left)

    def test_told_at_once(self) -> None:
        """B50: as soon as the reserve has been drawn on the node is told, with what fits into the log's segment and
        what is left of its part, however long a look then takes; one that began before counts for nothing."""
        self.worker.stall()
        self.watch.tick()
        self.reserve.release(160)
        self.watch.gather()
        self.assertEqual((self.last(), self.relieved), ((Room.NONE, 20, 160), 1))
        self.watch.gather()
        self.worker.resume()
        self.clock.pump([0.01])
        self.assertEqual((self.looks, len(self.node.told)), (1, 1))
        self.pump()
        self.assertEqual((self.looks, [level for level, _ in self.node.told]), (2, [Room.NONE, Room.NONE]))
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
        self.pump()
        self.tick(3)
        self.assertEqual((self.looks, self.node.looks_begun), (5, 5))

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

    def test_the_part_of_the_log(self) -> None:
        """B50: a look says how much of what is set aside is the log's, and takes more for it where the others have
        theirs."""
        self.reserve = Reserve(self.disk, size_bytes=400, segment_bytes=100)
        self.assertEqual(self.look(), Look(600, True, 70, 200))
        self.take(600)
        self.reserve.release(100)
        self.assertEqual(self.look(), Look(200, False, 70, 200))
        self.reserve.release(100)
        self.take(701)
        self.assertEqual(self.look(), Look(199, False, 70, 100))
