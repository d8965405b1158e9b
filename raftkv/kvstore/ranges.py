"""Pages of a range, of now or of a revision that is kept; knows the records, and nothing of who may read them when.

The keys of the past are those of today together with those that are no more, in one order; what each of them was is
asked one by one. So a page costs what its own keys cost, however large the range is and however much has changed.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from itertools import islice

from raftkv.kvstore.digest import Record
from raftkv.kvstore.keys import prefix_end
from raftkv.kvstore.records import Records
from raftkv.kvstore.views import Page

_AFTER = b"\x00"  # appended to a key, it gives the next one that can be


def items(
    records: Records, start: bytes, end: bytes | None, revision: int, *, reverse: bool
) -> Iterator[tuple[bytes, Record]]:
    """Yield the keys and records of a range at a revision that is kept, in order.

    Nothing may change until all of them are drawn, unless the revision is 0.

    :param revision: 0 for now, the changes of a transaction under way included.
    """
    for key, record in _looks(records, start, end, revision, reverse=reverse):
        if record is not None:
            yield key, record


def _looks(
    records: Records, start: bytes, end: bytes | None, revision: int, *, reverse: bool
) -> Iterator[tuple[bytes, Record | None]]:
    """Likewise, and also the keys that there are at other times, with ``None``: each of them costs a look."""
    keys = records.keys(start, end, reverse=reverse)
    if not revision:
        for key in keys:
            yield key, records.get(key)
        return
    if records.ghosts.count(start, end):
        keys = heapq.merge(keys, records.ghosts.keys(start, end, reverse=reverse), reverse=reverse)
    for key in keys:
        yield key, records.get_at(key, revision)


def scan(records: Records, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
    """Yield up to ``limit`` records of a range in order, while it may change; 0 or less yields nothing."""
    return islice(items(records, start, end, 0, reverse=False), max(limit, 0))


def page(
    records: Records,
    start: bytes,
    end: bytes | None,
    limit: int,
    *,
    revision: int = 0,
    reverse: bool = False,
    max_bytes: int | None = None,
    max_looks: int | None = None,
) -> Page:
    """Return the first ``limit`` records of a range, or fewer once they are ``max_bytes`` of keys and values.

    :param max_looks: how many keys to look at, be they there at the revision or not; ``None`` for as many as it takes.
    """
    found: list[tuple[bytes, Record]] = []
    size_bytes = 0
    last = b""
    for looks, (key, record) in enumerate(_looks(records, start, end, revision, reverse=reverse)):
        if looks == max_looks:
            return Page(found, [], last if reverse else key)
        if record is not None:
            if len(found) >= limit or (max_bytes is not None and size_bytes >= max_bytes):
                # Not the last look: which keys of other times are still looked at differs between nodes (B33).
                return Page(found, [], found[-1][0] if reverse else key)
            found.append((key, record))
            size_bytes += len(key) + len(record[0])
        last = key
    return Page(found, [], None)


def folder_page(
    records: Records,
    start: bytes,
    end: bytes | None,
    limit: int,
    *,
    prefix: bytes,
    delimiter: bytes,
    revision: int = 0,
    reverse: bool = False,
    max_bytes: int | None = None,
    max_looks: int | None = None,
) -> Page:
    """Return the first ``limit`` records and folders of a range: one level below a prefix.

    A folder is told once, however many keys it has, and costs one look.

    :param max_bytes: as for :func:`page`, which it counts folders for too; likewise ``max_looks``.
    """
    found: list[tuple[bytes, Record]] = []
    folders: list[bytes] = []
    low, high = start, end
    size_bytes = looks = 0
    while True:
        folder = None
        for key, record in _looks(records, low, high, revision, reverse=reverse):
            if looks == max_looks:
                return Page(found, folders, key + _AFTER if reverse else key)
            looks += 1
            if record is None:
                continue
            folder = _folder_of(key, prefix, delimiter)
            if len(found) + len(folders) >= limit or (max_bytes is not None and size_bytes >= max_bytes):
                return Page(found, folders, key + _AFTER if reverse else key)
            size_bytes += len(folder or key) + (0 if folder else len(record[0]))
            if folder is not None:
                folders.append(folder)
                break
            found.append((key, record))
        if folder is None:
            return Page(found, folders, None)
        if reverse:
            high = folder
        else:
            above = prefix_end(folder)
            if above is None:
                return Page(found, folders, None)
            low = above


def _folder_of(key: bytes, prefix: bytes, delimiter: bytes) -> bytes | None:
    if not key.startswith(prefix):
        return None
    at = key.find(delimiter, len(prefix))
    return None if at < 0 else key[: at + len(delimiter)]


def count(records: Records, start: bytes, end: bytes | None, revision: int = 0) -> int:
    """Return how many keys a range has at a revision that is kept, 0 for now.

    It costs what has changed since then, or what the range holds, whichever is less.
    """
    found = quick_count(records, start, end, revision, max_looks=None)
    assert found is not None  # for mypy: there is no bound
    return found


def quick_count(
    records: Records, start: bytes, end: bytes | None, revision: int, *, max_looks: int | None
) -> int | None:
    """Likewise, or ``None`` where that takes more than about ``max_looks`` looks at a key."""
    present = records.count(start, end)
    if not revision or revision >= records.revision + bool(records.open_slots):
        return present
    looks = present + records.ghosts.count(start, end)
    if looks < records.revision - revision:
        if max_looks is not None and looks > max_looks:
            return None
        return sum(1 for _ in items(records, start, end, revision, reverse=False))
    behind = records.history.changed_keys(revision)
    changed = list(behind if max_looks is None else islice(behind, max_looks + 1))
    if max_looks is not None and len(changed) > max_looks:
        return None
    for key in set(records.open_slots).union(changed):
        if key >= start and (end is None or key < end):
            present += (records.get_at(key, revision) is not None) - (records.get(key) is not None)
    return present
