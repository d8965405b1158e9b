"""Who is concerned by a change, found without asking everybody."""

from __future__ import annotations

from typing import Any, cast

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftkv.server.watching import ranges
from raftkv.server.watching.index import WatchIndex
from raftkv.server.watching.ranges import RangeTable
from raftkv.server.watching.watch import Watch
from raftkv.watches import WatchReceiver, WatchRequest
from tests.server.watching.support import on_key, on_prefix

KEYS = st.binary(max_size=3)
BOUNDS = st.tuples(KEYS, KEYS)
REQUESTS = (
    st.builds(on_key, KEYS)
    | st.builds(on_prefix, KEYS)
    | st.builds(
        lambda start, end, puts, deletes: WatchRequest(start=start, end=end, puts=puts, deletes=deletes),
        KEYS,
        KEYS,
        st.booleans(),
        st.booleans(),
    )
)


def make(request: WatchRequest) -> Watch:
    """Return a watch that nobody keeps."""
    return Watch(request, cast(WatchReceiver, None), cast(Any, None))


def is_concerned(watch: Watch, key: bytes, *, is_delete: bool) -> bool:
    """Say the same the plain way."""
    request = watch.request
    in_range = request.start <= key and (not request.end or key < request.end)
    return in_range and (request.deletes if is_delete else request.puts)


class RangeTableTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(ranges, "_BLOCK_RANGES", 2)

    def test_as_if_all_were_asked(self) -> None:
        """Whatever came and went, exactly the ranges that hold a key are found, in order."""

        @settings(max_examples=200, deadline=None)
        @given(st.lists(st.tuples(BOUNDS, st.booleans()), max_size=40), st.lists(KEYS, max_size=10))
        def check(steps: list[tuple[tuple[bytes, bytes], bool]], keys: list[bytes]) -> None:
            table: RangeTable[int] = RangeTable()
            plain: dict[tuple[bytes, bytes], int] = {}
            for number, (bounds, is_set) in enumerate(steps):
                if is_set:
                    table.set(bounds, number)
                    plain[bounds] = number
                elif bounds in plain:
                    table.pop(bounds)
                    del plain[bounds]
                else:
                    self.assertRaises(KeyError, table.pop, bounds)
            self.assertEqual(len(table), len(plain))
            self.assertEqual(sorted(table.values()), sorted(plain.values()))
            for bounds, _ in steps:
                self.assertEqual(table.get(bounds), plain.get(bounds))
            for key in [*keys, *(start for start, _ in plain), *(end for _, end in plain)]:
                expected = [plain[b] for b in sorted(plain) if b[0] <= key and (not b[1] or key < b[1])]
                self.assertEqual(list(table.holding(key)), expected)

        check()

    def test_few_are_looked_at(self) -> None:
        """Of ten thousand ranges side by side a search looks at some hundred."""
        self.patch(ranges, "_BLOCK_RANGES", 64)
        table: RangeTable[int] = RangeTable()
        for number in range(10_000):
            table.set((b"%06d" % number, b"%06d." % number), number)
        looks = 0

        class Counted(bytes):
            def __lt__(self, other: bytes) -> bool:
                nonlocal looks
                looks += 1
                return bytes.__lt__(self, other)

            def __ge__(self, other: bytes) -> bool:
                nonlocal looks
                looks += 1
                return bytes.__ge__(self, other)

        self.assertEqual(list(table.holding(Counted(b"007000"))), [7000])
        self.assertLess(looks, 500)


class WatchIndexTests(SynchronousTestCase):
    def test_as_if_all_were_asked(self) -> None:
        """Keys, prefixes and ranges, of puts and deletes: exactly those that a change concerns are found, once each."""

        @settings(max_examples=200, deadline=None)
        @given(st.lists(st.tuples(REQUESTS, st.booleans()), max_size=30), st.lists(KEYS, max_size=10), st.booleans())
        def check(steps: list[tuple[WatchRequest, bool]], keys: list[bytes], is_delete: bool) -> None:
            index, other, plain = WatchIndex(), WatchIndex(), []
            for request, stays in steps:
                watch = make(request)
                index.add(watch)
                if stays:
                    plain.append(watch)
                else:
                    index.discard(watch)
                    index.discard(watch)
            self.assertEqual((index.count, len([*index])), (len(plain), len(plain)))
            for key in [*keys, *(watch.request.start for watch in plain)]:
                found = [watch for group in index.concerned(key, is_delete=is_delete) for watch in group.watches]
                expected = [watch for watch in plain if is_concerned(watch, key, is_delete=is_delete)]
                self.assertEqual(sorted(map(id, found)), sorted(map(id, expected)))
            for group in [*index.groups()]:
                index.take(group)
                other.merge(group)
            self.assertEqual(index.count, 0)
            self.assertEqual(sorted(map(id, other)), sorted(map(id, plain)))
            for watch in plain:
                other.discard(watch)
            self.assertEqual((other.count, [*other.groups()], other._lengths), (0, [], {}))

        check()

    def test_merged_groups(self) -> None:
        """Groups of the same keys become one, in order, and each watch can still leave it."""
        one, other = WatchIndex(), WatchIndex()
        watches = [make(on_key(b"a")) for _ in range(4)]
        for watch in watches[:2]:
            one.add(watch)
        for watch in watches[2:]:
            other.add(watch)
        (group,) = [*other.groups()]
        other.take(group)
        one.merge(group)
        (merged,) = one.concerned(b"a", is_delete=False)
        self.assertEqual([*merged.watches], watches)
        one.discard(watches[3])
        self.assertEqual([*one], watches[:3])
        self.assertEqual((one.count, other.count), (3, 0))
