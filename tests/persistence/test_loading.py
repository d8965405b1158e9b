"""What recovery keeps of a log, and how much room that takes."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation
from raftkv.persistence.loading import LogSizes, bytes_of
from raftkv.raft.messages import Entry, EntryKind

STRETCH_BYTES = 1000


def entry(index: int, size: int) -> Entry:
    """Make an entry with so large a payload."""
    return Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=bytes(size))


class LogSizesTests(SynchronousTestCase):
    """Sizes in stretches of 1,000 bytes."""

    def test_like_a_plain_count(self) -> None:
        """Whatever is appended, overwritten, compacted and covered by snapshots: what is told is never less than what
        is there, and more by less than a stretch for each time that something was overwritten, and one."""
        chance = random.Random(5)
        for _ in range(50):
            sizes, plain, overwritten = LogSizes(0, stretch_bytes=STRETCH_BYTES), {0: 0}, 1
            last = kept = 0
            for _ in range(100):
                first = last + 1
                if chance.random() < 0.2 and last > kept:
                    first = chance.randint(kept + 1, last)
                    overwritten += 1
                batch = tuple(entry(first + n, chance.choice((0, 10, 300, 5000))) for n in range(chance.randint(1, 5)))
                self.assertEqual(sizes.append(batch), bytes_of(batch))
                last = batch[-1].index
                plain = {index: size for index, size in plain.items() if index < first}
                plain.update({each.index: bytes_of((each,)) for each in batch})
                sizes.snapshot_index = chance.randint(min(kept, last), last)
                kept = min(kept, sizes.snapshot_index)
                if chance.random() < 0.3:
                    kept = chance.randint(kept, sizes.snapshot_index)
                    sizes.forget_through(kept)
                there = sum(size for index, size in plain.items() if index > sizes.snapshot_index)
                told = sizes.behind_snapshot()
                self.assertLessEqual(there, told)
                self.assertLess(told - there, overwritten * (STRETCH_BYTES + 5100))
                self.assertEqual(sizes.last_index, last)

    def test_bounded(self) -> None:
        """What is kept depends on the bytes of the log, not on the number of its entries."""
        sizes = LogSizes(0)
        for first in range(1, 200_001, 1000):
            sizes.append([entry(index, 0) for index in range(first, first + 1000)])
        self.assertLess(len(sizes._totals), 200_000 * 48 / 65_536 + 2)

    def test_gap(self) -> None:
        """Entries that do not follow are refused."""
        sizes = LogSizes(5)
        for index in (5, 7):
            self.assertRaises(InvariantViolation, sizes.append, (entry(index, 1),))
