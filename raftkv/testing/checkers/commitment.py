"""What may be called committed: what a majority has on disk, of the leader's own term (sections 5.3, 5.4)."""

from __future__ import annotations

from raftkv.raft.configuration import Configuration
from raftkv.raft.ready import Role
from raftkv.testing.checkers.observed import NodeView, Observed, Watched
from raftkv.testing.checkers.violation import Violation


class CommitmentRules:
    """Judges each step of a commit index."""

    def __init__(self, seen: Observed) -> None:
        self._seen = seen

    def commit_moved(self, name: str, watched: Watched, view: NodeView, *, has_led: bool) -> None:
        """A commit index only grows, over entries that are there, and the same everywhere.

        :param has_led: whether the node led this term before, too.
        """
        before, now = watched.commit_index, view.commit_index
        if now < before:
            raise Violation("commit index goes back", f"{name} went from {before} to {now}")
        if now > view.last_index:
            raise Violation("commit index past the log", f"{name} commits {now}, its last entry is {view.last_index}")
        watched.commit_index = now
        # Who was told of a commitment and then elected by one and the same read has not counted.
        if view.role is Role.LEADER and (has_led or view.term_at(now) == view.current_term):
            self._committed_by_majority(name, view, now)
        for index in range(max(before + 1, view.first_index), now + 1):
            term = view.term_at(index)
            if term is None:
                raise Violation("commit index past the log", f"{name} does not know the term of {index}")
            known = self._seen.committed.get(index)
            if known is None:
                self._seen.committed[index] = term
                self._seen.committed_in[index] = view.current_term
                self._leaders_have(index, term)
            elif known != term:
                raise Violation(
                    "state machine safety", f"{name} commits {index} of term {term}, committed before in term {known}"
                )

    def _leaders_have(self, index: int, term: int) -> None:
        """Whoever leads a later term than that of the commitment has this entry, also where it was elected first.

        A leader of an earlier term that has not heard of its end may lack it: the entry may be older than that leader,
        and committed only by the next (Figure 8).
        """
        for name, view in self._seen.views.items():
            if view.role is not Role.LEADER or view.current_term <= self._seen.committed_in[index]:
                continue
            if index < view.first_index:
                continue
            if self._seen.nodes[name].role is Role.LEADER and view.term_at(index) != term:
                raise Violation("leader completeness", f"{name} leads without entry {index} of term {term}")

    def _committed_by_majority(self, name: str, view: NodeView, index: int) -> None:
        """A leader commits by counting only entries of its own term (section 5.4.2), on disks that have them."""
        term = view.term_at(index)
        if term != view.current_term:
            raise Violation(
                "old entry counted", f"{name} commits up to {index} of term {term} while it leads {view.current_term}"
            )
        before, before_index = self._seen.nodes[name].configuration or (view.configuration, view.configuration_index)
        if before.is_joint and before_index <= index and not view.configuration.is_joint:
            # The same event committed the joint configuration and left it: what follows needs the new side alone.
            self._is_on_majority(name, before, before_index)
            self._is_on_majority(name, view.configuration, index)
        else:
            # As it was before the event: the same event may have put the next one in force behind the commitment.
            self._is_on_majority(name, before, index)

    def _is_on_majority(self, name: str, configuration: Configuration, index: int) -> None:
        term = self._seen.views[name].term_at(index)
        if term is None:
            return  # compacted since
        holders = {each for each in self._seen.nodes if self._had(each, configuration, index, term)}
        for voters in filter(None, (configuration.voters, configuration.outgoing_voters)):
            if 2 * len(holders & voters) <= len(voters):
                raise Violation(
                    "committed without majority",
                    f"{name} commits {index}, which is on the disks of {sorted(holders & voters)} of {sorted(voters)}",
                )

    def _had(self, name: str, configuration: Configuration, index: int, term: int) -> bool:
        """Tell whether a member, as a configuration means it, once had an entry on its disk, lost or not."""
        watched, member = self._seen.nodes[name], configuration.members.get(name)
        meant = member.incarnation if member is not None else None
        former = (log for incarnation, log in watched.former if meant in ("", incarnation))
        return any(log.holds(index, term) for log in (watched.durable.log, *watched.lost, *former))
