"""The keys that a load leaves: whether there are some already, and how they are deleted, in bounded portions.

A delete of a range is one step of the cluster, some microseconds for each key, in which it does nothing else. So what
is to go is looked up a page at a time, and only what has a name that a load gives is deleted; a key of somebody else's
that lies between is left alone.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import groupby
from typing import Final, Protocol

from raftkv.bench.specification import is_key_of_ours
from raftkv.client import DeletedRange, Page

PAGE_KEYS: Final = 1000  #: deleted in one step at the most


class Ranges(Protocol):
    """What of a client is used here."""

    def page(self, *, start: str, end: str, limit: int, keys_only: bool) -> Page:
        """Read a page of a range."""

    def delete_range(self, *, start: str, end: str) -> DeletedRange:
        """Delete a range."""


def runs(keys: Iterable[str], prefix: str) -> Iterator[tuple[str, str]]:
    """Yield the ranges that hold the keys of ours and no other.

    :param keys: a part of the store's keys, all those between the first and the last, in order.
    :return: the first key and the end of each range; the end does not belong to it.
    """
    for is_ours, group in groupby(keys, lambda key: is_key_of_ours(key, prefix)):
        if is_ours:
            names = list(group)
            yield names[0], f"{names[-1]}\0"


def sweep(client: Ranges, prefix: str, deleted: Callable[[int], None] = lambda _: None) -> int:
    """Delete every key that a load with this prefix may have written; return how many there were.

    :param deleted: told after each portion how many that are by now.
    """
    start, end = f"{prefix}key", f"{prefix}key:"  # ":" comes behind "9"
    total = 0
    while True:
        page = client.page(start=start, end=end, limit=PAGE_KEYS, keys_only=True)
        for first, behind in runs(page.keys, prefix):
            total += client.delete_range(start=first, end=behind).deleted
            deleted(total)
        if page.next is None:
            return total
        start = f"{page.keys[-1]}\0"
