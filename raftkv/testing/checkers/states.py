"""States that were brought to one index are the same; which ones were made wrong on purpose is known here."""

from __future__ import annotations

from raftkv.raft.messages import Entry
from raftkv.testing.checkers.observed import NodeView, Observed, StateView, Watched
from raftkv.testing.checkers.violation import Violation


class StateRules:
    """Judges what is applied, and what comes of it.

    :ivar suspects: nodes whose state was changed on purpose, and not found to be right since.
    :ivar past_is_right: whether none ever was.
    """

    def __init__(self, seen: Observed) -> None:
        self._seen = seen
        self.suspects: set[str] = set()
        self.past_is_right = True
        self._right_from: dict[str, int] = {}
        self._digests: dict[int, tuple[str, int, str]] = {}

    def applied(self, name: str, entry: Entry) -> None:
        """A node applied an entry to its state machine (State Machine Safety)."""
        term = self._seen.committed.get(entry.index)
        if term is None and self._seen.views[name].commit_index < entry.index:
            raise Violation("state machine safety", f"{name} applied entry {entry.index} before it was committed")
        if term is not None and term != entry.term:
            raise Violation(
                "state machine safety",
                f"{name} applied entry {entry.index} of term {entry.term}, but the one of term {term} is committed",
            )

    def applied_moved(self, name: str, watched: Watched, view: NodeView, state: StateView) -> None:
        """A state was brought to an index: what it holds is what others held there."""
        now = state.applied_index
        if now < watched.applied_index:
            raise Violation("applied index goes back", f"{name} went from {watched.applied_index} to {now}")
        if now > view.commit_index:
            raise Violation("applied before committed", f"{name} applied {now}, committed {view.commit_index}")
        watched.applied_index = now
        if self.is_excused(name, now):
            return
        facts = (state.digest(), state.revision)
        digest, revision, who = self._digests.setdefault(now, (*facts, name))
        if facts != (digest, revision):
            raise Violation("states diverge", f"at {now} {name} has {facts}, {who} had {(digest, revision)}")

    def is_excused(self, name: str, index: int) -> bool:
        """Tell whether a node's state was made wrong on purpose, and is or may be so at an index."""
        return name in self.suspects or index < self._right_from.get(name, 0)

    def distrust(self, name: str) -> None:
        """A node's state is made wrong on purpose, until :meth:`state_is_right`.

        What it holds of the past is wrong for good, and may get around by its snapshots: no digest covers the past.
        """
        self.suspects.add(name)
        self.past_is_right = False

    def restored(self, name: str, index: int) -> None:
        """A node's state came from a snapshot: it may go back only where it was wrong."""
        if name in self.suspects:
            self._seen.nodes[name].applied_index = min(self._seen.nodes[name].applied_index, index)

    def state_is_right(self, name: str, state: StateView, *, as_of: int) -> None:
        """A suspect's state is trusted again, and had better be right.

        :param as_of: the index at which it was found to be. A snapshot of an earlier one may hold what was overwritten
            since: whoever restarts from it is right again from that index on.
        """
        self.suspects.discard(name)
        self._right_from[name] = as_of
        watched = self._seen.nodes[name]
        watched.applied_index = state.applied_index - 1
        self.applied_moved(name, watched, self._seen.views[name], state)
