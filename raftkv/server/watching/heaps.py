"""Watches in the order of a number: which comes first. Those that have ended fall out by themselves, soon enough."""

from __future__ import annotations

import heapq
from itertools import count
from typing import Final

from raftkv.server.watching.watch import State, Watch

_FEW: Final = 64  # so many that have ended are not worth a look


class WatchHeap:
    """Watches, each perhaps more than once, by a number: a time, or a revision."""

    __slots__ = ("_ended", "_entries", "_tickets")

    def __init__(self) -> None:
        self._entries: list[tuple[float, int, Watch]] = []
        self._tickets = count()
        self._ended = 0

    def __len__(self) -> int:
        return len(self._entries)

    def push(self, number: float, watch: Watch) -> None:
        """Take a watch in."""
        heapq.heappush(self._entries, (number, next(self._tickets), watch))

    def first(self) -> float | None:
        """Return the smallest number, ``None`` where there is nothing."""
        entries = self._entries
        while entries and entries[0][2].state is State.ENDED:
            heapq.heappop(entries)
            self._ended -= 1
        return entries[0][0] if entries else None

    def pop(self) -> Watch:
        """Take out the watch whose number is the smallest; call it only after :meth:`first` has found one."""
        return heapq.heappop(self._entries)[2]

    def one_ended(self) -> None:
        """A watch that may be in here has ended; without this they would be kept until their number comes."""
        self._ended += 1
        if self._ended > _FEW and 2 * self._ended > len(self._entries):
            self._entries = [entry for entry in self._entries if entry[2].state is not State.ENDED]
            heapq.heapify(self._entries)
            self._ended = 0
