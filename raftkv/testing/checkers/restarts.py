"""What a node comes back with: what was durable is there, and is what the node begins with."""

from __future__ import annotations

from raftkv.interfaces import Recovered
from raftkv.raft.messages import HardState
from raftkv.testing.checkers.observed import NodeView, Watched
from raftkv.testing.checkers.violation import Violation


def nothing_durable_lost(name: str, watched: Watched, recovered: Recovered) -> None:
    """What a storage called durable is there after a crash, unless a later write was about to replace it."""
    durable, hard_state = watched.durable, recovered.hard_state
    lawful = [durable.hard_state, *(write.hard_state for write in watched.pending)]
    snapshot = recovered.snapshot
    if snapshot is not None and snapshot.term > durable.hard_state.term:
        # Its file was here before the log, or the term that it came in, had heard of it: the term is taken from it.
        lawful.append(HardState(term=snapshot.term))
    if hard_state not in lawful:
        raise Violation("durable hard state lost", f"{name} had {durable.hard_state} and came back with {hard_state}")
    keep = durable.log.last_index
    for write in watched.pending:
        if write.snapshot is not None:
            return  # it may have replaced the whole log
        if write.entries:
            keep = min(keep, write.entries[0].index - 1)
    terms = recovered.terms
    covered = snapshot.index if snapshot is not None else 0
    for index in range(covered + 1, keep + 1):
        # Of an entry that a snapshot stood for nobody here knows the term, but then the log has to have it.
        term = durable.log.term_at(index)
        if not terms.previous_index < index <= terms.last_index or (term is not None and terms.term_at(index) != term):
            raise Violation(
                "durable entry lost",
                f"{name} had entry {index} of term {term} on disk and came back with {terms.term_at(index)}",
            )


def nothing_forgotten(name: str, view: NodeView, recovered: Recovered) -> None:
    """A node begins with the term, the vote and the log of its disk (B1, B3, B51)."""
    hard_state = recovered.hard_state
    if (view.current_term, view.voted_for) != (hard_state.term, hard_state.voted_for):
        raise Violation(
            "forgotten at a restart",
            f"{name} has {hard_state} and begins in term {view.current_term} with its vote for {view.voted_for}",
        )
    last_index = max(recovered.terms.last_index, recovered.snapshot.index if recovered.snapshot is not None else 0)
    if view.last_index != last_index:
        raise Violation(
            "forgotten at a restart", f"{name} has entries up to {last_index} and begins with {view.last_index}"
        )
