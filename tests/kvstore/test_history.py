"""Revisions that are over: reads, events, compaction, and what it costs to keep them."""

from __future__ import annotations

import itertools

import msgpack
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Compacted, FutureRevision
from raftkv.kvstore import Store
from raftkv.kvstore import store as store_module
from raftkv.kvstore.commands import (
    COMPACTED,
    FUTURE_REVISION,
    OK,
    REVERSE,
    compact,
    delete,
    delete_range,
    get,
    put,
    range_of,
    transaction,
)
from raftkv.kvstore.history import SEGMENT_REVISIONS
from raftkv.kvstore.snapshotting import HISTORY
from tests.kvstore.helpers import apply, restore, snapshot


class PastTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        apply(self.store, put(b"a", b"1"), put(b"b", b"1"), put(b"a", b"2"), delete(b"b"), put(b"b", b"2"))

    def test_get(self) -> None:
        """A key is read as it was at any revision, through deletes and new lives."""
        self.assertEqual([self.store.get(b"a", r) for r in (1, 2, 3)], [(b"1", 1, 1, 1, 0)] * 2 + [(b"2", 1, 3, 2, 0)])
        self.assertEqual([self.store.get(b"b", r) for r in (1, 2, 3)], [None, *[(b"1", 2, 2, 1, 0)] * 2])
        self.assertEqual([self.store.get(b"b", r) for r in (4, 5)], [None, (b"2", 5, 5, 1, 0)])

    def test_range(self) -> None:
        """A range of the past holds the keys of then, also those that are no more."""
        apply(self.store, delete_range(b"", b""))
        self.assertEqual([self.store.count(b"", b"", r) for r in range(1, 7)], [1, 2, 2, 1, 2, 0])
        page = self.store.page(b"", b"", 9, revision=3)
        self.assertEqual(page.items, [(b"a", (b"2", 1, 3, 2, 0)), (b"b", (b"1", 2, 2, 1, 0))])

    def test_future(self) -> None:
        """B58, B59: a revision that has not been yet cannot be read, and one to be watched gives no old events."""
        self.assertRaises(FutureRevision, self.store.get, b"a", 6)
        self.assertRaises(FutureRevision, self.store.page, b"", b"", 1, revision=6)
        self.assertRaises(FutureRevision, self.store.count, b"", b"", 6)
        self.assertEqual(self.store.changes(6, 10), [])
        self.assertEqual(self.store.changes(7, 10), [])
        apply(self.store, put(b"c", b""))
        self.assertEqual([revision for revision, _ in self.store.changes(6, 10)], [6])

    def test_pages_of_one_moment(self) -> None:
        """Pages that are pinned to a revision have neither gaps nor doubles, whatever is written in between."""
        apply(self.store, *(put(b"k%02d" % n, b"") for n in range(20)))
        pinned = self.store.revision
        start: bytes | None = b"k"
        seen: list[bytes] = []
        while start is not None:
            page = self.store.page(start, b"", 3, revision=pinned)
            seen += [key for key, _ in page.items]
            start = page.next
            apply(self.store, delete(seen[-1]), put(b"k%02d+" % len(seen), b""), delete(b"k%02d" % (len(seen) + 1)))
        self.assertEqual(seen, [b"k%02d" % n for n in range(20)])

    def test_size_of_a_page(self) -> None:
        """A page ends early where its keys and values are so many bytes, and the next goes on behind it."""
        apply(self.store, *(put(b"k%d" % n, b"x" * 100) for n in range(5)))
        page = self.store.page(b"k", b"l", 9, max_bytes=150)
        self.assertEqual(([key for key, _ in page.items], page.next), ([b"k0", b"k1"], b"k2"))


class EventTests(SynchronousTestCase):
    def test_order_and_previous(self) -> None:
        """B55, B60: each revision comes once and whole, with what every key held before."""
        store = Store()
        apply(store, put(b"a", b"1"))
        apply(store, transaction([], [put(b"b", b"1"), put(b"a", b"2")]), delete(b"a"))
        old, new = (b"1", 1, 1, 1, 0), (b"2", 1, 2, 2, 0)
        self.assertEqual(
            store.changes(1, 9),
            [
                (1, [(b"a", old, None)]),
                (2, [(b"b", (b"1", 2, 2, 1, 0), None), (b"a", new, old)]),
                (3, [(b"a", None, new)]),
            ],
        )

    def test_limit(self) -> None:
        """Events come in portions of whole revisions."""
        store = Store()
        apply(store, *(put(b"a", b"%d" % n) for n in range(5)), transaction([], [put(b"b", b""), put(b"c", b"")]))
        self.assertEqual([revision for revision, _ in store.changes(2, 3)], [2, 3, 4])
        self.assertEqual([len(changes) for _, changes in store.changes(5, 9)], [1, 2])

    def test_delete_at_the_compact_revision(self) -> None:
        """B57: a delete at the compact revision itself is still told, with what was deleted."""
        store = Store()
        apply(store, put(b"a", b"1"), delete(b"a"), put(b"b", b"1"))
        apply(store, compact(2))
        for each in (store, restore(snapshot(store))):
            self.assertEqual(each.changes(2, 1), [(2, [(b"a", None, (b"1", 1, 1, 1, 0))])])
            self.assertIsNone(each.get(b"a", 2))
            self.assertRaises(Compacted, each.changes, 1, 1)


class CompactionTests(SynchronousTestCase):
    def filled(self) -> Store:
        """Return a store with four segments of history, and keys that are no more."""
        store = Store()
        for _ in range(4):
            apply(store, *(put(b"%d" % (n % 100), b"x" * 50) for n in range(SEGMENT_REVISIONS)))
        apply(store, delete_range(b"5", b"9"))
        return store

    def test_bounds(self) -> None:
        """B59: compacting is possible up to the present revision, again to the same, and not back."""
        store = Store()
        apply(store, put(b"a", b"1"), put(b"a", b"2"), put(b"a", b"3"))
        answers = apply(store, compact(4), compact(2), compact(2), compact(1), compact(3))
        expected = [(FUTURE_REVISION, 3), (OK, 2), (OK, 2), (COMPACTED, 2), (OK, 3)]
        self.assertEqual((answers, store.compact_revision, store.revision), (expected, 3, 3))

    def test_reads(self) -> None:
        """The compact revision can be read, those below cannot, and the present is as it was."""
        store = Store()
        apply(store, put(b"a", b"1"), put(b"b", b"1"), put(b"a", b"2"), compact(2))
        self.assertEqual(store.get(b"a", 2), (b"1", 1, 1, 1, 0))
        with self.assertRaises(Compacted) as caught:
            store.get(b"a", 1)
        self.assertEqual(caught.exception.compact_revision, 2)
        self.assertEqual(store.get(b"b"), (b"1", 2, 2, 1, 0))

    def test_transaction(self) -> None:
        """B33: what a transaction may read of the past depends on the log alone, not on what a node has freed."""
        nodes = [Store(), Store()]
        read = transaction([], [put(b"c", b""), get(b"a", 1)])
        answers = []
        for number, store in enumerate(nodes):
            apply(store, put(b"a", b"1"), put(b"a", b"2"), compact(2))
            while number and store.tidy(1):
                pass
            answers.append(apply(store, read, transaction([], [range_of(b"", b"", 9, 0, 9)]), put(b"d", b"")))
        self.assertEqual(answers, [[(COMPACTED, 2), (FUTURE_REVISION, 2), (OK, 3)]] * 2)
        self.assertEqual(nodes[0].digest(), nodes[1].digest())

    def test_where_the_next_page_begins(self) -> None:
        """B33: where a transaction's range goes on depends on the log alone, not on which keys that are no more a node
        still looks at."""
        self.patch(store_module, "_TIDIED_AT_ONCE", 0)
        nodes = [Store(), Store()]
        answers = []
        for number, store in enumerate(nodes):
            apply(store, put(b"a", b""), put(b"b", b""), put(b"c", b""), delete(b"b"), *[put(b"d", b"")] * 10)
            apply(store, compact(14))
            while number and store.tidy(1):
                pass
            answers.append(apply(store, transaction([], [range_of(b"", b"d", 1, REVERSE, 14)])))
        self.assertEqual(answers[0], answers[1])
        self.assertEqual(nodes[0].digest(), nodes[1].digest())

    def test_progress_is_invisible(self) -> None:
        """Digest and snapshot of a node do not tell how much of what was compacted it has freed."""
        store, twin = self.filled(), self.filled()
        for each in (store, twin):
            apply(each, compact(each.revision - 10))
        while store.tidy(100):
            pass
        self.assertGreater(len(twin._records.ghosts.revisions), 0)
        self.assertEqual((store.digest(), snapshot(store)), (twin.digest(), snapshot(twin)))

    def test_when_a_key_was_deleted_is_forgotten(self) -> None:
        """A key that comes back has the same history whether or not the node still knew when it was deleted."""
        writes = [put(b"a", b""), delete(b"a"), put(b"b", b""), compact(3)]
        store, twin = Store(), Store()
        apply(store, *writes, put(b"a", b""))
        apply(twin, *writes)
        apply(twin, put(b"a", b""))
        told = [[chunk for chunk in snapshot(each) if msgpack.unpackb(chunk)[0] == HISTORY] for each in (store, twin)]
        self.assertEqual((len(told[0]), told[0]), (1, told[1]))

    def test_freed_in_slices(self) -> None:
        """What was compacted is freed a little at a time, and in the end all of it."""
        store = self.filled()
        apply(store, compact(store.revision))
        slices = 1
        while store.tidy(100):
            slices += 1
        self.assertGreater(slices, 4 * SEGMENT_REVISIONS // 100)
        self.assertEqual((len(store._records.history._rubbish), store.history_revisions), (0, 0))
        apply(store, put(b"a", b""), compact(store.revision + 1))
        while store.tidy(100):
            pass
        self.assertEqual(store._records.ghosts.revisions, {})

    def test_one_large_revision_is_freed_in_slices(self) -> None:
        """The thousands of keys that one delete removed are let go of in portions too."""
        store = Store()
        apply(store, *(put(b"%04d" % n, b"") for n in range(3000)))
        apply(store, delete_range(b"", b""), put(b"a", b""))
        apply(store, compact(store.revision))
        ghosts = [len(store._records.ghosts.revisions)]
        while store.tidy(500):
            ghosts.append(len(store._records.ghosts.revisions))
        self.assertEqual(store._records.ghosts.revisions, {})
        self.assertLessEqual(max(a - b for a, b in itertools.pairwise(ghosts)), 500)

    def test_freed_while_a_snapshot_is_taken(self) -> None:
        """B48: a snapshot holds the history of its moment though all of it is compacted and freed meanwhile."""
        expected = snapshot(self.filled())
        store = self.filled()
        taken = []
        for chunk in store.capture():
            taken.append(chunk)
            if store.compact_revision < store.revision:
                apply(store, compact(min(store.revision, store.compact_revision + 1500)))
            store.tidy(700)
            apply(store, put(b"new", b""), delete_range(b"", b"3"))
        self.assertEqual(taken, expected)

    def test_applying_keeps_pace(self) -> None:
        """Entries free as many revisions as they make, so that memory does not grow where nobody calls for it."""
        store = self.filled()
        for _ in range(100):
            apply(store, *(put(b"a", b"") for _ in range(50)), compact(store.revision))
        kept = sum(len(segment) for _, segment in store._records.history._rubbish) // 3
        self.assertLess(kept, 100)

    def test_size(self) -> None:
        """The size of what is kept follows the entries, and goes down with compaction and by restoring a snapshot."""
        store = self.filled()
        self.assertGreater(store.history_bytes, 4 * SEGMENT_REVISIONS * 50)
        half = store.first_within(store.history_bytes // 2)
        self.assertTrue(store.revision // 4 < half < 3 * store.revision // 4 + 2, half)
        whole = store.history_bytes
        apply(store, compact(half))
        self.assertLess(store.history_bytes, 0.6 * whole)
        self.assertGreater(restore(snapshot(store)).history_bytes, 0.3 * whole)

    def test_time_of_revisions(self) -> None:
        """Which revision there was at a cluster time is known to the second, and survives a snapshot."""
        store = Store()
        for n in range(10):
            apply(store, put(b"a", b""), at_ms=500 * n)
        for each in (store, restore(snapshot(store))):
            self.assertEqual([each.revision_at(at) for at in (-1, 0, 999, 1000, 2400, 9999)], [0, 1, 1, 3, 5, 9])
        apply(store, compact(4))
        self.assertEqual([store.revision_at(at) for at in (0, 1500, 2000)], [0, 0, 5])


class BoundedTests(SynchronousTestCase):
    """What keeps a look at the past short, however much there was since."""

    def setUp(self) -> None:
        self.store = Store()
        apply(self.store, put(b"a", b""), put(b"m", b""), put(b"z", b""))
        apply(self.store, *(put(b"f%03d" % n, b"x" * 50) for n in range(100)), delete(b"m"))

    def pages(self, *, reverse: bool, delimiter: bytes = b"") -> list[tuple[int, list[bytes]]]:
        """Return all pages of at most seven looks, each with what it found."""
        pages = []
        start, end = b"", b""
        while True:
            page = self.store.page(start, end, 9, revision=3, reverse=reverse, delimiter=delimiter, max_looks=7)
            pages.append((len(page.items), [*(key for key, _ in page.items), *page.folders]))
            if page.next is None:
                return pages
            start, end = (start, page.next) if reverse else (page.next, end)

    def test_looks(self) -> None:
        """Keys that were not there then count as looks; the pages together have all that was, whichever way."""
        for reverse in (False, True):
            for delimiter in (b"", b"/"):
                pages = self.pages(reverse=reverse, delimiter=delimiter)
                self.assertGreaterEqual(len(pages), 103 // 7)
                found = [key for _, keys in pages for key in keys]
                self.assertEqual(found, [b"z", b"m", b"a"] if reverse else [b"a", b"m", b"z"])

    def test_quick_count(self) -> None:
        """Where too much would have to be looked at there is no quick answer, and where there is one it is right."""
        self.assertEqual(self.store.quick_count(b"", b"", 0, max_looks=1), 102)
        self.assertEqual(self.store.quick_count(b"", b"", self.store.revision, max_looks=1), 102)
        self.assertEqual(self.store.quick_count(b"", b"", 103, max_looks=1), 103)
        self.assertIsNone(self.store.quick_count(b"", b"", 3, max_looks=20))
        self.assertEqual(self.store.quick_count(b"", b"", 3, max_looks=200), 3)
        self.assertEqual(self.store.quick_count(b"g", b"", 3, max_looks=20), 2)

    def test_size_of_folders(self) -> None:
        """Folders count towards the size of a page."""
        page = self.store.page(b"f", b"g", 999, prefix=b"f0", delimiter=b"1", max_bytes=120)
        self.assertEqual(
            ([key for key, _ in page.items], page.folders, page.next), ([b"f000", b"f002", b"f003"], [b"f001"], b"f004")
        )
