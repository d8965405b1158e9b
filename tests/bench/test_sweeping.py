"""Cleaning up: all that is ours, nothing else, and never much at once."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench.specification import Load
from raftkv.bench.sweeping import PAGE_KEYS, runs, sweep
from raftkv.client import DeletedRange, Page, Record


class Shelf:
    """A store of keys, which notes what is deleted at once."""

    def __init__(self, keys: list[str]) -> None:
        self.keys = sorted(keys)
        self.steps: list[int] = []

    def page(self, *, start: str, end: str, limit: int, keys_only: bool) -> Page:
        """Read a page."""
        found = [key for key in self.keys if start <= key < end]
        records = [Record(key=key, value=b"", create_revision=1, mod_revision=1, version=1) for key in found[:limit]]
        more = "more" if len(found) > limit else None
        return Page(records=tuple(records), count=len(found), revision=1, next=more)

    def delete_range(self, *, start: str, end: str) -> DeletedRange:
        """Delete, and note how many."""
        gone = [key for key in self.keys if start <= key < end]
        self.keys = [key for key in self.keys if key not in set(gone)]
        self.steps.append(len(gone))
        return DeletedRange(deleted=len(gone), revision=1)


def names(count: int, prefix: str = "p/") -> list[str]:
    """Return the keys of a load."""
    load = Load(generator="closed", protocol="rpc", addresses=(), keys=count, prefix=prefix)
    return [load.key(number).decode() for number in range(count)]


class SweepTests(SynchronousTestCase):
    """:func:`sweep`."""

    def test_pages(self) -> None:
        """All keys of a load go, in steps of a page at the most, and each step is told."""
        shelf, told = Shelf(names(2 * PAGE_KEYS + 1)), list[int]()
        self.assertEqual(sweep(shelf, "p/", told.append), 2 * PAGE_KEYS + 1)
        self.assertEqual((shelf.keys, shelf.steps), ([], [PAGE_KEYS, PAGE_KEYS, 1]))
        self.assertEqual(told, [PAGE_KEYS, 2 * PAGE_KEYS, 2 * PAGE_KEYS + 1])

    def test_a_whole_page(self) -> None:
        """As many keys as a page holds are one step, and no key none."""
        for count, steps in ((PAGE_KEYS, [PAGE_KEYS]), (0, [])):
            shelf = Shelf(names(count))
            self.assertEqual((sweep(shelf, "p/"), shelf.steps), (count, steps))

    def test_others_are_left(self) -> None:
        """Keys of somebody else's stay, before, behind and between ours."""
        theirs = ["a", "p/", "p/key", "p/key0000001x", "p/key00000020", "p/kez", "p/notes", "p0", "z"]
        shelf = Shelf(names(2500) + theirs)
        self.assertEqual(sweep(shelf, "p/"), 2500)
        self.assertEqual(shelf.keys, sorted(theirs))

    def test_runs(self) -> None:
        """A range ends behind the last key of ours before another one."""
        keys = ["p/key0000000", "p/key0000001", "p/key0000001x", "p/key0000002"]
        expected = [("p/key0000000", "p/key0000001\0"), ("p/key0000002", "p/key0000002\0")]
        self.assertEqual(list(runs(keys, "p/")), expected)
