"""The log in memory: positions, bounds, truncation and what is stable."""

from __future__ import annotations

import random
import sys

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation
from raftkv.raft.log import ENTRY_OVERHEAD_BYTES, Log
from tests.raft.cluster import entry, log_of


def indexes(log: Log, start: int, stop: int, max_bytes: int) -> list[int]:
    return [one.index for one in log.slice(start, stop, max_bytes)]


class LogTests(SynchronousTestCase):
    """Reading and changing."""

    def test_positions(self) -> None:
        """The entry before the first one has a known term; what is further off has none."""
        log = Log(entries=log_of(1, 1, 2, 3)[2:], previous_index=2, previous_term=1, snapshot_index=2)
        self.assertEqual((log.first_index, log.last_index, log.last_term), (3, 4, 3))
        self.assertEqual([log.term_at(index) for index in range(6)], [None, None, 1, 2, 3, None])

    def test_slice_is_bounded(self) -> None:
        """A slice holds what fits, and one entry whatever its size."""
        log = Log(entries=[entry(index, 1, b"x" * 10) for index in range(1, 6)])
        size = 10 + ENTRY_OVERHEAD_BYTES
        self.assertEqual(indexes(log, 2, 6, 2 * size), [2, 3])
        self.assertEqual(indexes(log, 2, 6, 2 * size - 1), [2])
        self.assertEqual(indexes(log, 2, 6, 1), [2])
        self.assertEqual(indexes(log, 2, 4, 10**6), [2, 3])
        self.assertEqual(indexes(log, 5, 99, 10**6), [5])
        self.assertEqual(log.size_between(2, 4), 2 * size)

    def test_no_gaps(self) -> None:
        """Entries that do not follow each other are refused (B45)."""
        self.assertRaises(InvariantViolation, Log().append, log_of(1, 1)[1:])
        self.assertRaises(InvariantViolation, Log, entries=(entry(1, 1), entry(3, 1)))

    def test_replaced_by_a_snapshot(self) -> None:
        """What a snapshot replaces is gone at once, but freed in portions: very much at once would be a pause."""
        payloads = [b"%04d" % index for index in range(1, 2501)]
        log = Log(entries=[entry(index, 1, payload) for index, payload in enumerate(payloads, 1)])
        held = max(map(sys.getrefcount, payloads))
        log.restore(9000, 2)
        self.assertEqual((log.first_index, log.last_index, log.last_term), (9001, 9000, 2))
        freed = []
        for index in range(9001, 9004):
            log.append([entry(index, 2)])
            freed.append(sum(count < held for count in map(sys.getrefcount, payloads)))
        self.assertTrue(0 < freed[0] < freed[1] < freed[2] == 2500, freed)

    def test_last_index_of_term(self) -> None:
        """The last index whose term is no later, up to a bound, is the one a plain search finds."""
        chance = random.Random(2)
        for _ in range(300):
            terms = sorted(chance.randint(1, 5) for _ in range(chance.randint(1, 9)))
            drop = chance.randrange(len(terms))
            log = Log(entries=log_of(*terms), snapshot_index=len(terms))
            log.compact(drop)
            term, bound = chance.randint(0, 6), chance.randint(drop, len(terms) + 1)
            matching = [i for i in range(drop, min(bound, len(terms)) + 1) if (log.term_at(i) or 0) <= term]
            self.assertEqual(log.last_index_of_term(term, not_after=bound), max(matching, default=max(drop - 1, 0)))

    def test_compact(self) -> None:
        """Compaction keeps the term of the last entry that it drops, and never passes the snapshot."""
        log = Log(entries=log_of(1, 2, 3))
        self.assertRaises(InvariantViolation, log.compact, 2)
        log.snapshot_index = 2
        log.compact(2)
        self.assertEqual((log.first_index, log.term_at(2), log.term_at(1)), (3, 2, None))
        self.assertRaises(InvariantViolation, log.slice, 2, 3, 100)
        log.compact(1)
        self.assertEqual(log.first_index, 3)


class StableTests(SynchronousTestCase):
    """What our own disk has."""

    def write(self, log: Log, write_id: int) -> list[int]:
        written = [one.index for one in log.take_unwritten()]
        log.write_pending(write_id)
        return written

    def test_in_order(self) -> None:
        """Entries are stable once their write is done; the end of a write stands for those before it."""
        log = Log()
        log.append(log_of(1, 1))
        self.assertEqual(self.write(log, 1), [1, 2])
        log.append([entry(3, 1)])
        self.assertEqual(self.write(log, 2), [3])
        self.assertEqual(log.stable_index, 0)
        log.write_done(1)
        self.assertEqual(log.stable_index, 2)
        log.write_done(2)
        self.assertEqual(log.stable_index, 3)

    def test_truncation_under_way(self) -> None:
        """A write of entries that were truncated meanwhile makes stable only what is left of them."""
        log = Log()
        log.append(log_of(1, 1, 1))
        self.write(log, 1)
        log.truncate_from(2)
        log.append([entry(2, 2), entry(3, 2)])
        log.write_done(1)
        self.assertEqual(log.stable_index, 1)
        self.assertEqual(self.write(log, 2), [2, 3])
        log.write_done(2)
        self.assertEqual(log.stable_index, 3)

    def test_same_entry_comes_back(self) -> None:
        """An entry that is truncated and comes back is not stable through its first write."""
        log = Log()
        first = log_of(1, 1)
        log.append(first)
        self.write(log, 1)
        log.truncate_from(2)
        log.append([entry(2, 2)])
        self.write(log, 2)
        log.truncate_from(2)
        log.append(first[1:])
        log.write_done(1)
        self.assertEqual(log.stable_index, 1)
        self.assertEqual(self.write(log, 3), [2])
        log.write_done(2)
        self.assertEqual(log.stable_index, 1)
        log.write_done(3)
        self.assertEqual(log.stable_index, 2)

    def test_stable_entries_truncated(self) -> None:
        """What was stable is no longer once it is truncated."""
        log = Log(entries=log_of(1, 1, 1))
        log.truncate_from(2)
        self.assertEqual(log.stable_index, 1)
        self.assertRaises(InvariantViolation, log.truncate_from, 2)

    def test_restore(self) -> None:
        """A snapshot takes the place of everything, and is stable once its own write is done."""
        log = Log(entries=log_of(1, 1))
        log.append([entry(3, 1)])
        self.write(log, 1)
        log.restore(10, 4)
        self.assertEqual((log.first_index, log.last_index, log.last_term, log.snapshot_index), (11, 10, 4, 10))
        self.assertFalse(log.has_unwritten)
        log.write_done(1)
        self.assertEqual(log.stable_index, 2)
        self.assertEqual(self.write(log, 2), [])
        log.write_done(2)
        self.assertEqual(log.stable_index, 10)

    def test_restore_in_front_of_the_end(self) -> None:
        """Where a snapshot replaces a longer log that conflicts with it, what comes behind it is not stable through
        what it replaced, be that on the disk or on its way there."""
        for written in (4, 2):
            log = Log(entries=log_of(*[1] * written))
            log.append([entry(index, 1) for index in range(written + 1, 5)])
            self.write(log, 1)
            log.restore(3, 2)
            self.write(log, 2)
            log.append([entry(4, 2), entry(5, 2)])
            self.assertEqual(self.write(log, 3), [4, 5])
            for done in (0, 1, 2):
                log.write_done(done)
                self.assertLessEqual(log.stable_index, 3)
            log.write_done(3)
            self.assertEqual(log.stable_index, 5)
