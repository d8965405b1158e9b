"""Which revision there was at which cluster time: what compaction by age goes by.

A mark is set with the first change after each second, and old marks are thinned out, so that there are never many.
They are part of the state and of its snapshots, since a restored node may lead; a leader that knew less would only
keep more.
"""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable
from typing import Final

INTERVAL_MS: Final = 1000  # between two marks at least: part of the format
MAX_MARKS: Final = 4096  # past it every second one is dropped: part of the format

Mark = tuple[int, int]  #: cluster time, and the store's revision as it was from then on


class RevisionTimes:
    """The marks, in order of time and of revision.

    :ivar next_ms: before this cluster time no mark is set.
    """

    __slots__ = ("_marks", "next_ms")

    def __init__(self) -> None:
        self._marks: list[Mark] = []
        self.next_ms = 0

    def note(self, now_ms: int, revision: int) -> None:
        """Set a mark if the revision is not that of the last one; ``now_ms`` is :attr:`next_ms` or later."""
        marks = self._marks
        if marks and marks[-1][1] == revision:
            return
        marks.append((now_ms, revision))
        self.next_ms = now_ms + INTERVAL_MS
        if len(marks) > MAX_MARKS:
            del marks[1::2]

    def revision_at(self, time_ms: int) -> int:
        """Return a revision that there was at a cluster time, the last one that is known; 0 where none is."""
        place = bisect_right(self._marks, time_ms, key=lambda mark: mark[0])
        return self._marks[place - 1][1] if place else 0

    def compact(self, revision: int) -> None:
        """Forget the marks below a revision."""
        del self._marks[: bisect_left(self._marks, revision, key=lambda mark: mark[1])]

    def marks(self) -> tuple[Mark, ...]:
        """Return all marks."""
        return tuple(self._marks)

    def restore(self, marks: Iterable[Mark]) -> None:
        """Add marks out of a snapshot.

        :raises ValueError: they do not grow, or are no numbers.
        """
        for now_ms, revision in marks:
            last_ms, last_revision = self._marks[-1] if self._marks else (-1, -1)
            if type(now_ms) is not int or type(revision) is not int or now_ms <= last_ms or revision <= last_revision:
                raise ValueError(f"the mark {(now_ms, revision)} does not follow {(last_ms, last_revision)}")
            self._marks.append((now_ms, revision))
            self.next_ms = now_ms + INTERVAL_MS
