"""What one node's log and hard state should be by now, followed from outside of the node.

It repeats what a node asked its storage to do, once as queued and once as reported durable, with nothing but terms, so
that the checkers can compare promises with facts. It judges nothing itself.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.raft.messages import Entry, HardState, SnapshotMeta
from raftkv.raft.ready import Write


class ShadowLog:
    """The terms of a log.

    :ivar base_index: the entry before the first one whose term is known; everything up to it is in a snapshot.
    :ivar base_term: its term.
    """

    __slots__ = ("_terms", "base_index", "base_term")

    def __init__(self, base_index: int = 0, base_term: int = 0, terms: Sequence[int] = ()) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self._terms = list(terms)

    @property
    def last_index(self) -> int:
        """The last entry that there is."""
        return self.base_index + len(self._terms)

    def term_at(self, index: int) -> int | None:
        """Return an entry's term, ``None`` where it is not in the log or covered by the snapshot."""
        if index == self.base_index:
            return self.base_term
        if self.base_index < index <= self.last_index:
            return self._terms[index - self.base_index - 1]
        return None

    def holds(self, index: int, term: int) -> bool:
        """Tell whether the entry is here, or so old that a snapshot stands for it."""
        return index < self.base_index or self.term_at(index) == term

    def append(self, entries: Sequence[Entry]) -> None:
        """Add entries, which replace what the log held at the first one's index and behind."""
        keep = entries[0].index - self.base_index - 1
        if keep < 0:
            raise ValueError(f"entry {entries[0].index} is already in the snapshot up to {self.base_index}")
        del self._terms[keep:]
        self._terms.extend(entry.term for entry in entries)

    def install(self, snapshot: SnapshotMeta) -> None:
        """Let a snapshot replace the log up to its index, and all of it where it does not hold that entry."""
        if self.term_at(snapshot.index) == snapshot.term:
            self._terms = self._terms[snapshot.index - self.base_index :]
        else:
            self._terms = []
        self.base_index, self.base_term = snapshot.index, snapshot.term

    def copy(self) -> ShadowLog:
        """Return a log of its own with the same content."""
        return ShadowLog(self.base_index, self.base_term, self._terms)


class ShadowState:
    """Hard state and log after some writes."""

    __slots__ = ("hard_state", "log")

    def __init__(self, hard_state: HardState, log: ShadowLog) -> None:
        self.hard_state = hard_state
        self.log = log

    def take(self, write: Write) -> None:
        """Let a write take effect."""
        if write.hard_state is not None:
            self.hard_state = write.hard_state
        if write.snapshot is not None:
            self.log.install(write.snapshot)
        if write.entries:
            self.log.append(write.entries)

    def copy(self) -> ShadowState:
        """Return a state of its own with the same content."""
        return ShadowState(self.hard_state, self.log.copy())
