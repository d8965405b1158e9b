"""What may be written to a log, what a disk gives back, and what is promised of it (sections 5.1, 5.3)."""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.raft.messages import AppendEntriesResponse, Entry, EntryKind
from raftkv.raft.ready import Role, Write
from raftkv.testing.checkers.observed import NodeView, Observed, Watched
from raftkv.testing.checkers.violation import Violation


class LogRules:
    """Judges what is written to each log, and remembers every entry."""

    def __init__(self, seen: Observed) -> None:
        self._seen = seen
        # By (index, term): the term of the entry before, kind and payload.
        self._entries: dict[tuple[int, int], tuple[int | None, EntryKind, bytes]] = {}

    def append_is_lawful(self, name: str, watched: Watched, view: NodeView, write: Write) -> None:
        """Entries follow the log without a gap; a leader replaces none, and nobody one that is committed."""
        entries, log = write.entries, watched.queued.log
        first = entries[0].index
        # The snapshot of the same write takes effect before its entries do.
        last = max(log.last_index, write.snapshot.index if write.snapshot is not None else 0)
        if first > last + 1:
            raise Violation("gap in the log", f"{name} appends {first} behind {last}")
        if first <= log.last_index and view.role is Role.LEADER:
            raise Violation("leader append-only", f"{name} leads and overwrites {first}, its last is {log.last_index}")
        for entry in entries:
            if entry.index > log.last_index:
                break
            before = log.term_at(entry.index)
            is_committed = self._seen.committed.get(entry.index) == before
            if before != entry.term and is_committed and view.current_term >= self._seen.committed_in[entry.index]:
                raise Violation(
                    "committed entry overwritten",
                    f"{name} replaces entry {entry.index} of term {before}, which is committed, by one of {entry.term}",
                )

    def log_matching(self, name: str, watched: Watched, entry: Entry) -> None:
        """An index and a term name one entry with one history, everywhere (section 5.3), by induction."""
        previous = watched.queued.log.term_at(entry.index - 1)
        facts = (previous, entry.kind, entry.payload)
        known = self._entries.setdefault((entry.index, entry.term), facts)
        if known is not facts and known != facts:
            raise Violation(
                "log matching", f"{name} has another entry {entry.index} of term {entry.term}: {facts} for {known}"
            )

    def acknowledged(self, message: AppendEntriesResponse) -> None:
        """A node acknowledged entries: they are on its disk."""
        durable = self._seen.nodes[message.sender].durable
        log = durable.log
        # In a later term a later leader may have cut the log since: what was said to the old one changes nothing.
        if log.last_index < message.match_index and durable.hard_state.term <= message.term:
            raise Violation(
                "acknowledged before sync",
                f"{message.sender} acknowledges {message.match_index}, but its disk has only {log.last_index}",
            )

    def nothing_forged(self, name: str, entries: Iterable[Entry]) -> None:
        """What a disk gives back is what was written, to the byte (B41)."""
        for entry in entries:
            known = self._entries.get((entry.index, entry.term))
            if known is None or known[1:] != (entry.kind, entry.payload):
                raise Violation("entry forged", f"{name} came back with {entry}, but {known} was written")
