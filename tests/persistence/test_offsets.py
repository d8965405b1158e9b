"""Truncations and flipped bits all over a small log (``offsets`` tries every one, and prints a table)."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.persistence.repair import LogRepair
from tests.persistence.offsets import (
    IDENTITY,
    SETTINGS,
    count_outcomes,
    judge,
    make_small_log,
)

PEER = "refused alone, repaired from a peer"
ALONE = "repaired alone"
NO_VOTE = "refused alone, without a vote in a cluster until it has caught up"
SMALL = ((b"one", b"two" * 40), (b"three" * 150, bytes(300)), (b"end", b"x" * 50 + bytes(500) + b"\x01"))


class OffsetTests(SynchronousTestCase):
    """What comes of a small log, whatever befalls one bit of it or one of its files."""

    def test_offsets(self) -> None:
        """B41, B42: a flipped bit yields the whole log, its repair or a refusal; a truncation also a prefix that ends
        with a batch; wrong data never."""
        outcomes = count_outcomes([0], batches=SMALL, step=7)
        flips, cuts = outcomes["flipped bits"], outcomes["truncations"]
        self.assertEqual({PEER, ALONE, "read whole"}, set(flips))
        self.assertGreater(flips[PEER], flips["read whole"])
        self.assertEqual({PEER, NO_VOTE, "read whole", "read up to the end of a batch"}, set(cuts))

    def test_lone_bit(self) -> None:
        """B41: the only bit of a sector that is not zero flips, in the last batch: that is not taken for a write that a
        crash tore."""
        small = make_small_log(SMALL)
        peer = LogRepair(small.disk.copy(), IDENTITY, snapshot=None, settings=SETTINGS)
        name, used = list(small.used.items())[-1]
        disk = small.disk.copy()
        self.assertEqual(1, disk.read(name)[used - 1])
        disk.flip_bit(name, used - 1, 0)
        self.assertEqual(PEER, judge(small, disk, peer, "", may_be_shorter=False))
