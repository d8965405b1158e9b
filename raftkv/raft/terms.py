"""The terms of all the entries of a log in little memory, and what of a log lies on the disk only.

Terms never fall along a log, and change with leaders only: where each begins says everything, however long the log.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Sequence
from dataclasses import dataclass

from raftkv.raft.messages import Entry


class TermRuns:
    """The terms of a contiguous run of entries, and of the entry just before it.

    :ivar previous_index: index of the entry before the first one; 0 for none. Its term is ``previous_term``.
    :ivar last_index: index of the last entry; ``previous_index`` where there is none.
    """

    __slots__ = ("_firsts", "_terms", "last_index", "previous_index", "previous_term")

    def __init__(self, previous_index: int = 0, previous_term: int = 0) -> None:
        self._firsts: list[int] = []  # where each run begins; ``_terms`` has its term
        self._terms: list[int] = []
        self.begin_behind(previous_index, previous_term)

    @property
    def last_term(self) -> int:
        """Term of the entry at ``last_index``."""
        return self._terms[-1] if self._terms else self.previous_term

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, also of the one before the first; ``None`` where it is not known."""
        if not self.previous_index < index <= self.last_index:
            return self.previous_term if index == self.previous_index else None
        if index >= self._firsts[-1]:  # nearly always: what is asked for is recent
            return self._terms[-1]
        return self._terms[bisect_right(self._firsts, index) - 1]

    def append(self, term: int) -> None:
        """Add one entry."""
        self.last_index += 1
        if not self._terms or self._terms[-1] != term:
            self._firsts.append(self.last_index)
            self._terms.append(term)

    def truncate_from(self, index: int) -> None:
        """Drop the entry at ``index``, which is there, and all that follow."""
        self.last_index = index - 1
        while self._firsts and self._firsts[-1] >= index:
            self._firsts.pop()
            self._terms.pop()

    def forget_through(self, index: int) -> None:
        """Drop the entries up to and including ``index``, which is there."""
        self.previous_term = self.term_at(index) or 0
        self.previous_index = index
        if index == self.last_index:
            self._firsts.clear()
            self._terms.clear()
            return
        run = bisect_right(self._firsts, index + 1) - 1
        del self._firsts[:run], self._terms[:run]
        self._firsts[0] = index + 1

    def begin_behind(self, index: int, term: int) -> None:
        """Drop everything; the next entry follows ``index``, whose term is ``term``."""
        self.previous_index = self.last_index = index
        self.previous_term = term
        self._firsts.clear()
        self._terms.clear()

    def last_index_of_term(self, term: int, *, not_after: int) -> int:
        """Return the last index from ``previous_index`` to ``not_after`` whose term is no later than ``term``.

        :return: ``previous_index - 1`` where there is none, but no less than 0.
        """
        not_after = min(not_after, self.last_index)
        run = bisect_right(self._terms, term)
        if run == 0 and self.previous_term > term:
            return max(self.previous_index - 1, 0)
        before_next = self._firsts[run] - 1 if run < len(self._firsts) else self.last_index
        return max(min(before_next, not_after), self.previous_index)

    def copy(self) -> TermRuns:
        """Return a twin that changes on its own."""
        twin = TermRuns(self.previous_index, self.previous_term)
        twin._firsts, twin._terms = list(self._firsts), list(self._terms)
        twin.last_index = self.last_index
        return twin


@dataclass(frozen=True, slots=True, kw_only=True)
class OnDisk:
    """The front part of a log, which a server that begins again does not load.

    :ivar terms: of its entries; not changed by anybody.
    :ivar configurations: those of its entries that hold a configuration, in order.
    """

    terms: TermRuns
    configurations: Sequence[Entry] = ()
