"""Ordered keys against a sorted list of a plain set."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import keys as keys_module
from raftkv.kvstore import prefix_end
from raftkv.kvstore.keys import OrderedKeys

SETTINGS = settings(derandomize=True, database=None, deadline=None, max_examples=60)
KEYS = st.binary(max_size=2)


def flat(keys: OrderedKeys, start: bytes = b"", end: bytes | None = None) -> list[bytes]:
    return [key for run in keys.runs(start, end) for key in run]


def expected(present: set[bytes], start: bytes = b"", end: bytes | None = None) -> list[bytes]:
    return sorted(key for key in present if key >= start and (end is None or key < end))


class SmallBlocks(SynchronousTestCase):
    """Blocks and portions so small that a few keys split, join and merge them."""

    def setUp(self) -> None:
        self.patch(keys_module, "BLOCK_KEYS", 4)
        self.patch(keys_module, "CHANGES_LIMIT", 3)
        self.patch(keys_module, "_FEW", 1)

    def toggle(self, keys: OrderedKeys, present: set[bytes], key: bytes) -> None:
        """Add a key that is absent, or remove one that is present."""
        (keys.remove if key in present else keys.add)(key)
        present ^= {key}

    def check_shape(self, keys: OrderedKeys) -> None:
        """Hold what the class says of its blocks and separators."""
        self.assertEqual(len(keys._blocks), len(keys._separators))
        self.assertEqual(len(keys._blocks), len(keys._changes))
        self.assertLessEqual(keys._going, set().union(*keys._changes))
        self.assertEqual(keys._separators[0], b"")
        for i, block in enumerate(keys._blocks):
            self.assertTrue(block or len(keys._blocks) == 1, "an empty block")
            self.assertLess(len(block), 2 * 4)
            self.assertTrue(all(key >= keys._separators[i] for key in block))
            self.assertLess(len(keys._changes[i]), 3)
            of_block = [*block, *keys._changes[i]]
            self.assertTrue(all(key >= keys._separators[i] for key in of_block))
            if i + 1 < len(keys._blocks):
                self.assertTrue(all(key < keys._separators[i + 1] for key in of_block))


class OrderedKeysTests(SmallBlocks):
    @SETTINGS
    @given(st.lists(KEYS, max_size=200), st.lists(st.tuples(KEYS, st.none() | KEYS), max_size=5))
    def test_toggling(self, toggled: list[bytes], ranges: list[tuple[bytes, bytes | None]]) -> None:
        """Whatever comes and goes, ranges and counts are those of a sorted set."""
        keys = OrderedKeys()
        present: set[bytes] = set()
        for n, key in enumerate(toggled):
            self.toggle(keys, present, key)
            if n % 50 == 0:
                self.assertEqual(flat(keys), expected(present))
        for start, end in ranges:
            self.assertEqual(flat(keys, start, end), expected(present, start, end))
            self.assertEqual(keys.count(start, end), len(expected(present, start, end)))
        self.check_shape(keys)

    @SETTINGS
    @given(st.sets(KEYS, max_size=60), st.integers(1, 20), st.lists(KEYS, max_size=60))
    def test_extending(self, present: set[bytes], step: int, toggled: list[bytes]) -> None:
        """Sorted keys that are appended in portions make the same as keys that came one by one."""
        keys = OrderedKeys()
        ordered = sorted(present)
        for at in range(0, len(ordered), step):
            keys.extend(ordered[at : at + step])
        self.check_shape(keys)
        for key in toggled:
            self.toggle(keys, present, key)
        self.assertEqual(flat(keys), expected(present))
        self.check_shape(keys)

    @SETTINGS
    @given(st.sets(KEYS, max_size=60), st.lists(KEYS, max_size=60), st.lists(KEYS, max_size=60))
    def test_sharing(self, first: set[bytes], second: list[bytes], third: list[bytes]) -> None:
        """B48: blocks that were handed out stay as they were, however the keys change after that."""
        keys = OrderedKeys()
        present = set(first)
        for key in first:
            keys.add(key)
        for toggled in (second, third):
            blocks = keys.share()
            then = expected(present)
            for key in toggled:
                self.toggle(keys, present, key)
            self.assertEqual(flat(keys), expected(present))
            self.assertEqual([key for block in blocks for key in block], then)
            keys.unshare()

    def test_changes_between_runs(self) -> None:
        """A range that is drawn while keys change yields those that stay, once and in order."""
        keys = OrderedKeys()
        present: set[bytes] = set()
        for n in range(0, 100, 2):
            self.toggle(keys, present, b"%02d" % n)
        seen = []
        for n, run in enumerate(keys.runs(b"", None)):
            seen += run
            self.toggle(keys, present, b"%02d" % (2 * n + 1))
            self.toggle(keys, present, b"%02d" % (98 - n))
        self.assertEqual(seen, sorted(set(seen)))
        self.assertLessEqual({b"%02d" % n for n in range(0, 60, 2)}, set(seen))

    def test_extending_out_of_order(self) -> None:
        """Keys that are not above those before them are refused."""
        for portions in (([b"b", b"a"],), ([b"a", b"a"],), ([b"b"], [b"a"]), ([b"a"], [b"a"])):
            keys = OrderedKeys()
            with self.assertRaises(ValueError):
                for portion in portions:
                    keys.extend(portion)

    @SETTINGS
    @given(st.lists(KEYS, max_size=200), st.lists(st.tuples(KEYS, st.none() | KEYS), max_size=5))
    def test_backwards(self, toggled: list[bytes], ranges: list[tuple[bytes, bytes | None]]) -> None:
        """From the end a range yields the same keys in the other order, whatever waits beside its blocks."""
        keys = OrderedKeys()
        present: set[bytes] = set()
        for key in toggled:
            self.toggle(keys, present, key)
        for start, end in ranges:
            back = [key for run in keys.runs_back(start, end) for key in run]
            self.assertEqual(back, expected(present, start, end)[::-1])
            self.check_shape(keys)

    @SETTINGS
    @given(st.lists(KEYS, max_size=200), st.lists(st.tuples(KEYS, st.none() | KEYS), min_size=1, max_size=20))
    def test_counting(self, toggled: list[bytes], ranges: list[tuple[bytes, bytes | None]]) -> None:
        """What waits beside a block counts, also where nobody has read the block yet."""
        keys = OrderedKeys()
        present: set[bytes] = set()
        for n, key in enumerate(toggled):
            self.toggle(keys, present, key)
            start, end = ranges[n % len(ranges)]
            self.assertEqual(keys.count(start, end), len(expected(present, start, end)))
            self.check_shape(keys)

    def test_steps_are_bounded(self) -> None:
        """No more changes wait beside a block than are carried into it at once, and a range that is read leaves the
        other blocks alone."""
        keys = OrderedKeys()
        present: set[bytes] = set()
        for n in range(100):
            self.toggle(keys, present, b"%d" % n)
            self.check_shape(keys)
        for n in range(0, 10_000, 100):
            self.toggle(keys, present, b"%d+" % n)
        waiting = sum(map(len, keys._changes))
        self.assertEqual(flat(keys, b"5", b"51"), expected(present, b"5", b"51"))
        self.assertGreater(sum(map(len, keys._changes)), waiting - 20)


class PrefixEndTests(SynchronousTestCase):
    def test_examples(self) -> None:
        """The end of a prefix is the next key that does not start with it; without any the range is open."""
        for prefix, end in (
            (b"a", b"b"),
            (b"a/", b"a0"),
            (b"a\xff", b"b"),
            (b"a\xff\xff", b"b"),
            (b"\xff", None),
            (b"", None),
            (b"\x00", b"\x01"),
        ):
            self.assertEqual(prefix_end(prefix), end)

    @SETTINGS
    @given(st.binary(max_size=3), st.binary(max_size=5))
    def test_range_of_a_prefix(self, prefix: bytes, key: bytes) -> None:
        """A key lies in the range of a prefix exactly if it starts with it."""
        end = prefix_end(prefix)
        for candidate in (key, prefix + key):
            in_range = candidate >= prefix and (end is None or candidate < end)
            self.assertEqual(in_range, candidate.startswith(prefix))
