"""The history out of a snapshot: told from the newest revision to the oldest, put together beside the records.

A snapshot tells of each change what the key held before. Going back from the records of the present, what it held
afterwards is always known already: so every record is told once, and is one object in memory.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Any

from raftkv.kvstore.digest import Record
from raftkv.kvstore.history import SEGMENT_REVISIONS, History, Previous, Slot
from raftkv.kvstore.records import Records


class Rewinder:
    """Takes the changes of a snapshot, the newest first, and gives the records their history.

    :param records: all of them, as they are at ``revision``.
    :param compact_revision: the oldest revision that is told, where it is not 0.
    """

    def __init__(self, records: Records, *, revision: int, compact_revision: int) -> None:
        self._records = records
        self._revision = revision
        self._oldest = max(compact_revision, 1)
        self._next = revision  # whose changes are expected
        self._slots: list[Slot] = []  # of the revision that is being told, the last one first
        self._telling = False
        self._segment: list[tuple[Any, Any, Any]] = []  # the newest first
        self._segments: deque[tuple[list[Any], int]] = deque()
        self._before: dict[bytes, Previous] = {}  # what keys were before all that has been told
        self._ghosts: dict[bytes, int] = {}
        self._untold: set[bytes] = set()  # keys that were something since a revision that is still to come

    def feed(self, changes: Iterable[tuple[Any, ...]]) -> None:
        """Take more changes.

        :raises ValueError: they do not follow those before; likewise :exc:`TypeError`.
        """
        for change in changes:
            revision = change[0]
            if self._telling and revision != self._next:
                self._end_revision()
            if revision != self._next or revision < self._oldest or (self._telling and not self._slots):
                raise ValueError(f"revision {revision!r} follows {self._next + 1}")
            self._telling = True
            if len(change) > 1:
                self._slots.append(self._slot(*change))

    def finish(self) -> None:
        """Hand the history to the records.

        :raises ValueError: it is not complete.
        """
        if self._telling:
            self._end_revision()
        if self._next >= self._oldest:
            raise ValueError(f"it ends at revision {self._next + 1}, not at {self._oldest}")
        if self._untold:
            raise ValueError(f"it does not tell how {min(self._untold)!r} became what it was")
        self._end_segment()
        history = History.restored(self._segments, self._revision + 1)
        self._records.take_past(history, self._ghosts)

    def _slot(self, revision: int, key: bytes, previous: Previous, deleted: bool) -> Slot:
        since = self._before[key] if key in self._before else self._records.get(key)
        if deleted is True and (since == revision or (since is None and key not in self._before)):
            if since is None:
                self._ghosts[key] = revision
            record = None
        elif deleted is False and type(since) is tuple and since[2] == revision:
            record = since
        else:
            raise ValueError(
                f"revision {revision} cannot have been a change of {key!r}, which was {since!r} afterwards"
            )
        if not _can_precede(previous, record, revision):
            raise ValueError(f"before revision {revision}, {key!r} cannot have been {previous!r}")
        self._before[key] = previous
        if since is not None:
            self._untold.discard(key)
        if previous is not None and (previous[2] if isinstance(previous, tuple) else previous) >= self._oldest:
            self._untold.add(key)
        return (key, record, previous)

    def _end_revision(self) -> None:
        self._telling = False
        slots, self._slots = self._slots, []
        slots.reverse()
        self._segment.append(slots[0] if len(slots) == 1 else (slots, None, None))
        self._next -= 1
        if len(self._segment) == SEGMENT_REVISIONS:
            self._end_segment()

    def _end_segment(self) -> None:
        segment = [part for slot in reversed(self._segment) for part in slot]
        self._segments.appendleft((segment, sum(len(slot[1][0]) for slot in self._segment if slot[1] is not None)))
        self._segment = []


def _can_precede(previous: Previous, record: Record | None, revision: int) -> bool:
    """Tell whether a key that became ``record`` at a revision can have been ``previous`` before."""
    if type(previous) is tuple:
        _, created, modified, version, _ = previous
        return modified < revision and (record is None or (record[1], record[3]) == (created, version + 1))
    if record is None or record[3] != 1:
        return False
    return previous is None or (type(previous) is int and 0 < previous < revision)
