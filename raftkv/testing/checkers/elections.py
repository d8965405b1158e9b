"""One leader a term, with every committed entry; one vote a term, on disk before it is given (sections 5.2, 5.4)."""

from __future__ import annotations

from raftkv.raft.messages import HardState
from raftkv.raft.ready import Write
from raftkv.testing.checkers.observed import NodeView, Observed, Watched
from raftkv.testing.checkers.violation import Violation


class ElectionRules:
    """Judges who is elected, and each vote."""

    def __init__(self, seen: Observed) -> None:
        self._seen = seen

    def elected(self, name: str, watched: Watched, view: NodeView) -> None:
        """A node leads a term: it is the only one, in one life, and has what is committed (section 5.4.3)."""
        term = view.current_term
        leader = self._seen.leaders.setdefault(term, (name, watched.life))
        if leader != (name, watched.life):
            raise Violation(
                "election safety",
                f"{name} (life {watched.life}) leads term {term}, which {leader[0]} (life {leader[1]}) led",
            )
        for index, committed_term in self._seen.committed.items():
            older = self._seen.committed_in[index] < term
            if older and index >= view.first_index and view.term_at(index) != committed_term:
                raise Violation(
                    "leader completeness",
                    f"{name} leads term {term} without entry {index} of term {committed_term}, which is committed",
                )

    def voted(self, voter: str, term: int, candidate: str) -> None:
        """A node gave its vote: to one candidate a term, with its whole log, and its disk knows it."""
        watched = self._seen.nodes[voter]
        if watched.lost and self._seen.views[voter].may_lack_entries:
            raise Violation("vote without its log", f"{voter} votes for {candidate} in term {term}")
        earlier = watched.votes.setdefault(term, candidate)
        if earlier != candidate:
            raise Violation("one vote", f"{voter} voted for {earlier} and for {candidate} in term {term}")
        hard_state = watched.durable.hard_state
        if hard_state.term < term or (hard_state.term == term and hard_state.voted_for != candidate):
            raise Violation(
                "vote before sync", f"{voter} votes for {candidate} in term {term}, but its disk has {hard_state}"
            )

    def hard_state_grows(self, name: str, before: HardState, write: Write) -> None:
        """A term only grows, and a vote of one term is never replaced by another."""
        after = write.hard_state
        if after is None:
            return
        if after.term < before.term or (
            after.term == before.term and before.voted_for is not None and after.voted_for != before.voted_for
        ):
            raise Violation("hard state goes back", f"{name} replaces {before} by {after}")
