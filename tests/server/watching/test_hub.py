"""What watches are told, when, and how they end."""

from __future__ import annotations

from typing import Any, ClassVar

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Compacted, FutureRevision, NoLeader, Overflow, Overloaded, RaftKVError, ShuttingDown
from raftkv.kvstore.commands import compact, delete, delete_range, grant, lock, put, revoke, transaction
from raftkv.server.watching import catchup, fresh, hub
from raftkv.watches import PROGRESS_SECONDS, WatchRequest
from tests.kvstore.helpers import snapshot
from tests.server.watching.support import Reader, World, on_key, on_prefix

EVERYTHING = WatchRequest()


class WatchTestCase(SynchronousTestCase):
    """A node's watches; whatever the readers were told is compared with the truth in the end."""

    limits: ClassVar[dict[str, Any]] = {}

    def setUp(self) -> None:
        self.world = World(**self.limits)
        self.addCleanup(self.check_the_end)

    def check_the_end(self) -> None:
        self.world.check()
        for reader in self.world.readers:
            reader.watch.cancel()
        self.assertEqual(len(self.world.watches), 0)
        self.assertEqual(self.world.clock.getDelayedCalls(), [])

    def settled(self, reader: Reader) -> list[tuple[int, list[bytes]]]:
        """Return the revisions and keys that a reader has been told, once there is nothing more to tell."""
        self.world.settle()
        return reader.keys()


class EventTests(WatchTestCase):
    """What is told."""

    def test_changes_as_they_are_applied(self) -> None:
        """A watch is told of every change of its keys, in order, with what was there before, and of no others."""
        world = self.world
        world.write(put(b"a", b"0"))
        reader = world.watch(on_key(b"a"))
        self.assertEqual(reader.begun_at, 1)
        world.write(put(b"a", b"1"), put(b"b", b""))
        world.write(delete(b"a"))
        world.write(put(b"aa", b""), put(b"a", b"2"))
        self.assertEqual(self.settled(reader), [(2, [b"a"]), (4, [b"a"]), (6, [b"a"])])
        (first,), (second,), (third,) = (changes for _, changes in reader.told)
        self.assertEqual((first.record, first.previous), ((b"1", 1, 2, 2, 0), (b"0", 1, 1, 1, 0)))
        self.assertEqual((second.record, second.previous), (None, (b"1", 1, 2, 2, 0)))
        self.assertEqual((third.record, third.previous), ((b"2", 6, 6, 1, 0), None))

    def test_ranges(self) -> None:
        """Keys, prefixes, ranges, everything: each is told of its own."""
        world = self.world
        readers = [
            world.watch(request)
            for request in (
                on_key(b"b/1"),
                on_prefix(b"b/"),
                WatchRequest(start=b"a", end=b"b/2"),
                WatchRequest(start=b"b/2"),
                WatchRequest(end=b"b"),
                EVERYTHING,
            )
        ]
        for key in (b"a", b"b", b"b/1", b"b/2", b"b/10", b"c"):
            world.write(put(key, b""))
        told = [[keys[0] for _, keys in self.settled(reader)] for reader in readers]
        self.assertEqual(
            told,
            [
                [b"b/1"],
                [b"b/1", b"b/2", b"b/10"],
                [b"a", b"b", b"b/1", b"b/10"],
                [b"b/2", b"c"],
                [b"a"],
                [b"a", b"b", b"b/1", b"b/2", b"b/10", b"c"],
            ],
        )

    def test_filters(self) -> None:
        """Only puts, or only deletes, where only these are asked for."""
        world = self.world
        puts, deletes = world.watch(on_key(b"a", deletes=False)), world.watch(on_key(b"a", puts=False))
        world.write(put(b"a", b""), delete(b"a"), put(b"a", b""))
        self.assertEqual(self.settled(puts), [(1, [b"a"]), (3, [b"a"])])
        self.assertEqual(self.settled(deletes), [(2, [b"a"])])

    def test_revision_comes_whole(self) -> None:
        """B60: what a transaction, a delete of a range or the end of a lease changes comes in one call."""
        world = self.world
        reader = world.watch(EVERYTHING)
        world.write(transaction([], [put(b"a", b""), put(b"b", b""), delete(b"x")], []))
        world.write(grant(1000))
        world.write(put(b"c", b"", lease=1), put(b"d", b"", lease=1))
        world.write(delete_range(b"a", b"c"))
        world.write(revoke(1))
        expected = [(1, [b"a", b"b"]), (2, [b"c"]), (3, [b"d"]), (4, [b"a", b"b"]), (5, [b"c", b"d"])]
        self.assertEqual(self.settled(reader), expected)
        self.assertEqual(reader.calls, len(expected))

    def test_revision_without_changes(self) -> None:
        """A revision that changes no key, as that of a lock, is none to be told of; progress has it all the same."""
        world = self.world
        reader = world.watch(EVERYTHING)
        world.write(lock(b"l", ttl_ms=1000))
        world.write(put(b"a", b""))
        self.assertEqual(self.settled(reader), [(2, [b"a"])])
        reader.watch.ask_progress()
        self.assertEqual(reader.up_to, 2)

    def test_compaction_takes_no_revision(self) -> None:
        """A watch that is up to date hears nothing of compactions."""
        world = self.world
        reader = world.watch(EVERYTHING)
        for _ in range(5):
            world.write(put(b"a", b""))
            world.write(compact(world.store.revision))
        self.assertEqual([revision for revision, _ in self.settled(reader)], [1, 2, 3, 4, 5])

    def test_many_watch_the_same(self) -> None:
        """What a thousand are to be told is told in several turns."""
        world = self.world
        readers = [world.watch(on_key(b"a")) for _ in range(1000)]
        world.write(put(b"a", b""))
        world.turn()
        told = sum(len(reader.told) for reader in readers)
        self.assertTrue(0 < told < 1000, told)
        world.settle()
        self.assertEqual({len(reader.told) for reader in readers}, {1})

    def test_more_than_may_wait(self) -> None:
        """Where too much waits to be told, it is told from the history instead, all of it."""
        world = self.world
        self.patch(hub, "MAX_PENDING", 3)
        reader, other = world.watch(EVERYTHING), world.watch(on_key(b"b"))
        for number in range(5):
            world.write(put(b"a", b""), put(b"b", b"%d" % number))
        self.assertEqual((reader.watch.told_revision, other.watch.told_revision), (0, 1))
        self.assertEqual([revision for revision, _ in self.settled(reader)], [*range(1, 11)])
        self.assertEqual([revision for revision, _ in self.settled(other)], [2, 4, 6, 8, 10])

    def test_cancelled(self) -> None:
        """Nothing is told to a watch that was given up, not even what was on its way."""
        world = self.world
        reader = world.watch(EVERYTHING)
        world.write(put(b"a", b""))
        reader.watch.cancel()
        reader.watch.cancel()
        self.assertEqual(self.settled(reader), [])
        self.assertIsNone(reader.error)

    def test_cancelled_in_between(self) -> None:
        """A reader may give its watch up in the very call that tells it something."""
        world = self.world
        first, second = world.watch(EVERYTHING), world.watch(EVERYTHING)
        first.on_told = lambda: (first.watch.cancel(), second.watch.cancel())
        world.write(put(b"a", b""))
        world.write(put(b"a", b""))
        self.assertEqual((self.settled(first), self.settled(second)), ([(1, [b"a"])], []))

    def test_one_reader_fails(self) -> None:
        """A fault of one reader is logged and ends its watch; the others are told."""
        world = self.world
        first, second = world.watch(EVERYTHING), world.watch(EVERYTHING)
        first.on_told = lambda: 1 // 0
        world.write(put(b"a", b""))
        self.assertEqual(self.settled(second), [(1, [b"a"])])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertIsInstance(first.error, Overflow)


class BeginningTests(WatchTestCase):
    """Where watches begin."""

    def test_behind_a_linearizable_read(self) -> None:
        """B54: without a revision a watch begins behind everything that was committed when it was asked for, also on a
        node that has not applied it yet."""
        world = self.world
        world.write(put(b"a", b"1"))
        world.propose(put(b"a", b"2"))
        reader = world.watch(EVERYTHING)
        self.assertIsNone(reader.begun_at)
        world.apply()
        self.assertEqual(reader.begun_at, 2)
        world.write(put(b"a", b"3"))
        self.assertEqual(self.settled(reader), [(3, [b"a"])])

    def test_from_the_past(self) -> None:
        """A watch from a revision is told that one, and everything behind it, without a gap to what comes now."""
        world = self.world
        for number in range(1, 6):
            world.write(put(b"a", b"%d" % number))
        readers = [world.watch(on_key(b"a", from_revision=first)) for first in (1, 3, 5, 6)]
        self.assertEqual([reader.begun_at for reader in readers], [0, 2, 4, 5])
        world.write(put(b"a", b"6"))
        for first, reader in zip((1, 3, 5, 6), readers, strict=True):
            self.assertEqual([revision for revision, _ in self.settled(reader)], [*range(first, 7)])

    def test_from_the_future(self) -> None:
        """B58: a watch from a revision that is yet to be is told nothing older, and nothing twice."""
        world = self.world
        world.write(put(b"a", b""))
        reader = world.watch(on_key(b"a", from_revision=4))
        self.assertEqual(reader.begun_at, 3)
        world.write(put(b"a", b""), put(b"a", b""))
        self.assertEqual(self.settled(reader), [])
        reader.watch.ask_progress()
        self.assertEqual(reader.up_to, 3)
        world.write(put(b"a", b""), put(b"a", b""))
        self.assertEqual([revision for revision, _ in self.settled(reader)], [4, 5])

    def test_future_in_the_middle_of_an_entry(self) -> None:
        """The first revision may come together with older and newer ones."""
        world = self.world
        reader = world.watch(on_key(b"a", from_revision=3))
        world.write(*[put(b"a", b"")] * 5)
        self.assertEqual([revision for revision, _ in self.settled(reader)], [3, 4, 5])

    def test_many_from_the_future_that_were_given_up(self) -> None:
        """Those that were given up before their revision came are not kept until then."""
        world = self.world
        stays = world.watch(on_key(b"a", from_revision=2))
        for number in range(1000):
            world.watch(on_key(b"a", from_revision=10**9 + number)).watch.cancel()
        self.assertLess(len(world.watches._ahead), 200)
        self.assertLess(len(world.watches._heartbeats._due), 200)
        world.write(put(b"a", b""), put(b"a", b""))
        self.assertEqual(self.settled(stays), [(2, [b"a"])])

    def test_resumed_on_a_node_that_is_behind(self) -> None:
        """B54: a node that has not come as far as the one before waits, and tells nothing twice."""
        world = self.world
        world.write(put(b"a", b"1"))
        world.propose(put(b"a", b"2"))
        world.propose(put(b"a", b"3"))
        reader = world.watch(on_key(b"a", from_revision=3, resumes=True))
        world.apply(1)
        self.assertEqual(self.settled(reader), [])
        world.apply()
        self.assertEqual(reader.begun_at, 2)
        self.assertEqual(self.settled(reader), [(3, [b"a"])])

    def test_resumed_in_another_history(self) -> None:
        """B61: whoever was told of more than there is was told of another history, and is told so, not left waiting."""
        self.world.write(put(b"a", b""))
        reader = self.world.watch(on_key(b"a", from_revision=7, resumes=True))
        error = reader.error
        self.assertIsInstance(error, FutureRevision)
        self.assertEqual(getattr(error, "revision", None), 1)

    def test_compacted(self) -> None:
        """A watch from a revision that is no longer kept is told so; from the compact revision on it is told all."""
        world = self.world
        world.write(*[put(b"a", b"")] * 5, compact(4))
        for first in (1, 3):
            reader = world.watch(on_key(b"a", from_revision=first))
            self.assertEqual(getattr(reader.error, "compact_revision", None), 4)
            self.assertIsNone(reader.begun_at)
        reader = world.watch(on_key(b"a", from_revision=4))
        self.assertEqual([revision for revision, _ in self.settled(reader)], [4, 5])

    def test_delete_at_the_compact_revision(self) -> None:
        """B57: a delete at the very revision up to which was compacted is told."""
        world = self.world
        world.write(put(b"a", b"1"), delete(b"a"), compact(2))
        reader = world.watch(on_key(b"a", from_revision=2))
        self.world.settle()
        ((_, (change,)),) = reader.told
        self.assertEqual((change.record, change.previous), (None, (b"1", 1, 1, 1, 0)))

    def test_nobody_leads(self) -> None:
        """A watch that no linearizable read can begin is told why."""
        world = self.world
        world.propose(put(b"a", b""))
        reader = world.watch(EVERYTHING)
        ((_, done),) = world.barriers
        done(NoLeader())
        self.assertIsInstance(reader.error, NoLeader)
        self.assertEqual(len(world.watches), 0)
        world.barriers = []

    def test_given_up_before_it_began(self) -> None:
        """A watch that is given up while it waits for its read never begins."""
        world = self.world
        world.propose(put(b"a", b""))
        reader = world.watch(EVERYTHING)
        reader.watch.cancel()
        world.apply()
        self.assertIsNone(reader.begun_at)

    def test_begins_once(self) -> None:
        """To begin a watch twice is a mistake."""
        reader = self.world.watch(EVERYTHING)
        self.assertRaises(ValueError, reader.watch.begin)


class SlowReaderTests(WatchTestCase):
    """Readers without room."""

    def test_goes_on_where_it_was(self) -> None:
        """A reader without room is told nothing, and then what it missed, from the history."""
        world = self.world
        reader = world.watch(EVERYTHING, room=2)
        for _ in range(5):
            world.write(put(b"a", b""))
        self.assertEqual(len(self.settled(reader)), 2)
        reader.give_room(1)
        self.assertEqual(len(self.settled(reader)), 3)
        world.write(put(b"a", b""))
        reader.give_room()
        self.assertEqual([revision for revision, _ in self.settled(reader)], [1, 2, 3, 4, 5, 6])

    def test_cut_off(self) -> None:
        """A reader that has had no room for too long is cut off, and told how far it had come."""
        world = self.world
        reader = world.watch(EVERYTHING, room=1)
        world.write(put(b"a", b""))
        world.write(put(b"a", b""))
        world.settle()
        world.clock.pump([1.0] * 29)
        self.assertIsNone(reader.error)
        world.clock.pump([1.0] * 2)
        self.assertEqual(getattr(reader.error, "revision", None), 1)
        self.assertEqual((world.watches.overflowed, len(world.watches)), (1, 0))

    def test_reader_that_keeps_reading(self) -> None:
        """Who reads now and then is not cut off, however slow."""
        world = self.world
        reader = world.watch(EVERYTHING, room=1)
        for _ in range(10):
            world.write(put(b"a", b""), put(b"a", b""))
            world.settle()
            world.clock.pump([1.0] * 25)
            reader.give_room(1)
        self.assertIsNone(reader.error)

    def test_compacted_meanwhile(self) -> None:
        """What is compacted before a slow reader was told of it is not skipped: the reader is told of that."""
        world = self.world
        reader = world.watch(EVERYTHING, room=1)
        world.write(*[put(b"a", b"")] * 5)
        world.settle()
        world.write(compact(3))
        reader.give_room()
        self.assertEqual(len(self.settled(reader)), 1)
        self.assertEqual(getattr(reader.error, "compact_revision", None), 3)
        self.assertEqual(world.watches.compacted_watches, 1)

    def test_compacted_up_to_its_cursor(self) -> None:
        """A compaction that stops right before what comes next costs a slow reader nothing."""
        world = self.world
        reader = world.watch(EVERYTHING, room=1)
        world.write(*[put(b"a", b"")] * 5)
        world.settle()
        world.write(compact(2))
        reader.give_room()
        self.assertEqual(len(self.settled(reader)), 5)

    def test_compacted_in_the_entry_of_the_change(self) -> None:
        """What was applied and compacted in one entry cannot be told, and is not skipped either."""
        world = self.world
        reader = world.watch(EVERYTHING)
        world.write(put(b"a", b""), put(b"a", b""), compact(2))
        self.settled(reader)
        self.assertEqual(getattr(reader.error, "compact_revision", None), 2)

    def test_slow_ones_hold_nobody_up(self) -> None:
        """Others are told at once, whatever a slow reader does or a late one has to read."""
        world = self.world
        self.patch(hub, "NEAR_REVISIONS", 10)
        world.write(*[put(b"a", b"")] * 2000)
        slow = world.watch(EVERYTHING, room=0)
        late = world.watch(on_key(b"a", from_revision=1))
        quick = world.watch(EVERYTHING)
        slow.room = 1
        world.turn()
        world.write(put(b"b", b""))
        world.turn()
        self.assertEqual(quick.keys(), [(2001, [b"b"])])
        self.assertLess(len(late.told), 2000)
        self.settled(late)


class LargeRevisionTests(WatchTestCase):
    """Revisions that change more than is told in one turn."""

    def setUp(self) -> None:
        super().setUp()
        for module, name, value in (
            (catchup, "SLICE_CHANGES", 10),
            (catchup, "SLICE_MATCHES", 25),
            (catchup, "TURN_CALLS", 2),
            (fresh, "TURN_CALLS", 2),
            (hub, "MANY_CHANGES", 10),
        ):
            self.patch(module, name, value)
        self.world.write(*(put(b"k%02d" % number, b"") for number in range(35)), put(b"z", b""))

    def test_told_in_parts(self) -> None:
        """B60: the end of a range comes in parts, one after the other, of which only the last one is called whole."""
        reader, one = self.world.watch(EVERYTHING), self.world.watch(on_key(b"k17"))
        self.world.write(delete_range(b"", b""))
        self.world.write(put(b"a", b""))
        self.world.turn()
        self.assertIsNotNone(reader.part)
        self.assertEqual([(revision, len(keys)) for revision, keys in self.settled(reader)], [(37, 36), (38, 1)])
        self.assertEqual(self.settled(one), [(37, [b"k17"])])
        self.assertGreater(reader.calls, 3)

    def test_no_progress_in_between(self) -> None:
        """B60: progress that is due in the middle of a revision waits."""
        reader = self.world.watch(WatchRequest(progress_seconds=0.1, is_progress_regular=True))
        self.world.write(delete_range(b"", b""))
        self.world.turn()
        self.assertIsNotNone(reader.part)
        self.world.wait(1.0)
        self.world.turn()
        self.assertIsNotNone(reader.part)
        self.assertEqual(reader.progresses, [])
        self.assertEqual([(revision, len(keys)) for revision, keys in self.settled(reader)], [(37, 36)])

    def test_slow_reader_in_the_middle(self) -> None:
        """A reader that runs out of room in the middle of a revision is told the rest of it, nothing twice."""
        reader = self.world.watch(EVERYTHING, room=2)
        self.world.write(delete_range(b"", b""))
        self.world.settle()
        self.assertIsNotNone(reader.part)
        self.assertEqual(reader.watch.told_revision, 36)
        self.world.clock.pump([PROGRESS_SECONDS])
        reader.give_room()
        self.assertEqual([(revision, len(keys)) for revision, keys in self.settled(reader)], [(37, 36)])

    def test_cut_off_in_the_middle(self) -> None:
        """A reader that is cut off in the middle of a revision resumes in front of it."""
        reader = self.world.watch(EVERYTHING, room=2)
        self.world.write(delete_range(b"", b""))
        self.world.settle()
        self.world.clock.pump([1.0] * 31)
        self.assertEqual(getattr(reader.error, "revision", None), 36)

    def test_compacted_in_the_middle(self) -> None:
        """A compaction past a revision of which a part was told ends the watch."""
        reader = self.world.watch(EVERYTHING, room=2)
        self.world.write(delete_range(b"", b""))
        self.world.settle()
        self.world.write(put(b"a", b""), compact(38))
        reader.give_room()
        self.settled(reader)
        self.assertIsInstance(reader.error, Compacted)
        reader.part = None

    def test_snapshot_in_the_middle(self) -> None:
        """A snapshot in the middle of a revision loses nothing of it, and doubles nothing."""
        reader = self.world.watch(EVERYTHING)
        self.world.write(delete_range(b"", b""))
        self.world.turn()
        self.assertIsNotNone(reader.part)
        self.world.install_newest()
        self.assertEqual([(revision, len(keys)) for revision, keys in self.settled(reader)], [(37, 36)])


class RestoreTests(WatchTestCase):
    """States that are replaced as a whole."""

    def test_skipped_entries_are_told(self) -> None:
        """What a snapshot brings that the node had not applied is told from the history in it."""
        world = self.world
        world.write(put(b"a", b"1"))
        readers = [world.watch(EVERYTHING), world.watch(on_key(b"b")), world.watch(on_key(b"a", from_revision=4))]
        slow = world.watch(EVERYTHING, room=1)
        for number in range(2, 6):
            world.propose(put(b"a", b"%d" % number))
        world.install_newest()
        self.assertEqual([revision for revision, _ in self.settled(readers[0])], [2, 3, 4, 5])
        self.assertEqual(self.settled(readers[1]), [])
        self.assertEqual([revision for revision, _ in self.settled(readers[2])], [4, 5])
        slow.give_room()
        self.assertEqual([revision for revision, _ in self.settled(slow)], [2, 3, 4, 5])
        world.write(put(b"b", b""))
        self.assertEqual(self.settled(readers[1]), [(6, [b"b"])])

    def test_what_waits_is_told(self) -> None:
        """What was applied right before a snapshot took the place of the state is told from the history in that."""
        world = self.world
        reader = world.watch(EVERYTHING)
        world.write(put(b"a", b"1"))
        world.propose(put(b"a", b"2"))
        world.install_newest()
        self.assertEqual([revision for revision, _ in self.settled(reader)], [1, 2])

    def test_compacted_in_the_snapshot(self) -> None:
        """What was compacted before the snapshot was taken is not skipped."""
        world = self.world
        world.write(put(b"a", b"1"))
        reader = world.watch(on_key(b"b"))
        world.propose(put(b"b", b"1"))
        world.propose(put(b"b", b"2"))
        world.propose(compact(3))
        world.install_newest()
        self.settled(reader)
        self.assertEqual(getattr(reader.error, "compact_revision", None), 3)

    def test_older_state(self) -> None:
        """A state that is rebuilt from an older snapshot tells nothing a second time."""
        world = self.world
        world.write(put(b"a", b"1"))
        older = snapshot(world.store)
        reader = world.watch(EVERYTHING)
        world.write(put(b"a", b"2"))
        world.write(put(b"a", b"3"))
        world.turn()
        world.install(older)
        world.settle()
        late = world.watch(on_key(b"a", from_revision=2))
        world.apply()
        world.write(put(b"a", b"4"))
        self.assertEqual([revision for revision, _ in self.settled(reader)], [2, 3, 4])
        self.assertEqual([revision for revision, _ in self.settled(late)], [2, 3, 4])


class ProgressTests(WatchTestCase):
    """How far a watch is, told when nothing else is."""

    def test_when_idle(self) -> None:
        """A watch without events is told now and then how far it is, one with events is not."""
        world = self.world
        reader = world.watch(on_key(b"a"))
        world.write(put(b"b", b""))
        world.clock.pump([1.0] * 10)
        self.assertEqual(reader.progresses, [1])
        world.clock.pump([1.0] * 5)
        world.write(put(b"a", b""))
        world.settle()
        world.clock.pump([1.0] * 9)
        self.assertEqual(reader.progresses, [1])
        world.clock.pump([1.0] * 2)
        self.assertEqual(reader.progresses, [1, 2])

    def test_regularly(self) -> None:
        """A watch that wants progress regularly is told it also between events."""
        world = self.world
        reader = world.watch(on_key(b"a", progress_seconds=0.5, is_progress_regular=True))
        for _ in range(8):
            world.write(put(b"a", b""))
            world.settle()
            world.clock.advance(0.25)
        self.assertEqual(reader.progresses, [2, 4, 6, 8])

    def test_never_ahead_of_events(self) -> None:
        """B53: progress is never ahead of what was told, however far the node is."""
        world = self.world
        self.patch(catchup, "SLICE_CHANGES", 10)
        world.write(*[put(b"a", b"")] * 100)
        reader = world.watch(on_key(b"a", from_revision=1, progress_seconds=0.1, is_progress_regular=True), room=5)
        for _ in range(20):
            world.turn()
            world.clock.advance(0.1)
            reader.give_room(3)
        reader.give_room()
        self.settled(reader)
        reader.watch.ask_progress()
        self.assertEqual(reader.up_to, 100)

    def test_not_ahead_of_what_waits_for_the_next_turn(self) -> None:
        """B53: progress that is due between an apply and its events is that of the events before."""
        world = self.world
        world.write(put(b"b", b""))
        reader = world.watch(on_key(b"a"))
        world.wait(PROGRESS_SECONDS + 1)
        world.write(put(b"a", b""))
        self.assertEqual(reader.watch.told_revision, 1)
        world.turn()
        self.assertEqual(reader.progresses, [1])
        self.assertEqual(self.settled(reader), [(2, [b"a"])])
        self.assertEqual(reader.watch.told_revision, 2)

    def test_not_ahead_of_what_was_found(self) -> None:
        """B53: of two that catch up together the one that has not had its turn has come no further than before."""
        world = self.world
        self.patch(catchup, "TURN_CALLS", 1)
        world.write(*[put(b"a", b"")] * 5)
        first, second = (world.watch(on_key(b"a", from_revision=2)) for _ in range(2))
        world.turn()
        self.assertEqual((first.watch.told_revision, second.watch.told_revision), (5, 1))
        self.assertEqual((len(self.settled(second)), second.watch.told_revision), (4, 5))

    def test_on_request(self) -> None:
        """Progress that was asked for comes as soon as everything has been told, and not before."""
        world = self.world
        world.write(*[put(b"a", b"")] * 5)
        reader = world.watch(on_key(b"a", from_revision=2))
        reader.watch.ask_progress()
        self.assertEqual(reader.progresses, [])
        self.settled(reader)
        self.assertEqual((len(reader.told), reader.progresses), (4, [5]))
        reader.watch.ask_progress()
        self.assertEqual(reader.progresses, [5, 5])

    def test_reader_gives_up_at_progress(self) -> None:
        """A reader may give its watch up when it is told how far it is."""
        world = self.world
        reader = world.watch(on_key(b"a"))
        self.patch(reader, "progress", lambda revision: reader.watch.cancel())
        reader.watch.ask_progress()
        self.assertEqual(len(world.watches), 0)

    def test_many_at_once(self) -> None:
        """A thousand watches that are due at the same time are looked at in several turns."""
        world = self.world
        readers = [world.watch(on_key(b"a")) for _ in range(1000)]
        world.wait(PROGRESS_SECONDS)
        world.turn()
        self.assertTrue(0 < sum(len(reader.progresses) for reader in readers) < 1000)
        world.settle()
        self.assertEqual({len(reader.progresses) for reader in readers}, {1})


class BoundTests(WatchTestCase):
    """How many there may be, and when none."""

    limits: ClassVar[dict[str, Any]] = {"max_watchers": 2}

    def test_too_many(self) -> None:
        """A watch that is one too many is refused by name of the setting; when one goes, another may come."""
        first, _ = self.world.watch(EVERYTHING), self.world.watch(EVERYTHING)
        third = self.world.watch(EVERYTHING)
        self.assertIsInstance(third.error, Overloaded)
        self.assertIn("limits.maxWatchers", str(third.error))
        first.watch.cancel()
        self.assertIsNone(self.world.watch(EVERYTHING).error)

    def test_refused(self) -> None:
        """A node that may tell nobody anything says so."""
        refusal = self.world.refusal = NoLeader()
        self.assertIs(self.world.watch(EVERYTHING).error, refusal)
        self.assertEqual(len(self.world.watches), 0)

    def test_stopping(self) -> None:
        """A node that stops ends all its watches, wherever they stand, and takes no others."""
        world = self.world
        world.write(put(b"a", b""), put(b"a", b""))
        late, ahead = world.watch(on_key(b"a", from_revision=1)), world.watch(on_key(b"a", from_revision=9))
        world.watches.refuse()
        self.assertEqual([type(reader.error) for reader in (late, ahead)], [ShuttingDown] * 2)
        self.assertEqual((late.told, world.clock.getDelayedCalls()), ([], []))
        self.assertIsInstance(world.watch(EVERYTHING).error, ShuttingDown)

    def test_interrupted(self) -> None:
        """Where the state turns out to be wrong all watches end, and may begin anew later."""
        world = self.world
        reader = world.watch(EVERYTHING, room=1)
        world.write(put(b"a", b""), put(b"a", b""))
        world.settle()

        class Wrong(RaftKVError):
            pass

        world.watches.interrupt(Wrong)
        self.assertIsInstance(reader.error, Wrong)
        self.assertIsNone(world.watch(EVERYTHING).error)
