"""The checkers of one cluster: they are told what its nodes do, remember it, and ask the rules.

``elections``, ``logs``, ``restarts``, ``commitment`` and ``states`` are the rules.
"""

from __future__ import annotations

from collections.abc import Iterable

from raftkv.interfaces import Recovered
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import AppendEntriesResponse, Entry, Message, RequestVote, RequestVoteResponse
from raftkv.raft.ready import Role, Write
from raftkv.testing.checkers.commitment import CommitmentRules
from raftkv.testing.checkers.elections import ElectionRules
from raftkv.testing.checkers.logs import LogRules
from raftkv.testing.checkers.observed import NodeView, Observed, StateView, Watched
from raftkv.testing.checkers.restarts import nothing_durable_lost, nothing_forgotten
from raftkv.testing.checkers.states import StateRules
from raftkv.testing.checkers.violation import Violation
from raftkv.testing.shadow import ShadowLog, ShadowState


class Checkers:
    """Watches one cluster from its first start to its end; every method raises :exc:`Violation`.

    :ivar leaders: who led each term, and in which life.
    :ivar committed: the term of each entry that some node has called committed.
    :ivar states: judges states, and is told of those that are changed on purpose.
    :ivar suspects: nodes whose state was changed on purpose, and not found to be right since.
    """

    def __init__(self) -> None:
        self.checks = 0
        self._seen = Observed()
        self._elections = ElectionRules(self._seen)
        self._logs = LogRules(self._seen)
        self._commitment = CommitmentRules(self._seen)
        self.states = StateRules(self._seen)
        self.leaders = self._seen.leaders
        self.committed = self._seen.committed
        self.suspects = self.states.suspects

    def started(self, name: str, view: NodeView, recovered: Recovered) -> None:
        """A node was started on what its disk held."""
        watched = self._seen.nodes.setdefault(name, Watched())
        watched.life += 1
        self._seen.views[name] = view
        if watched.is_known and recovered.lost_term > watched.lost_term:
            # It says so itself; what it had counts for it as long as it keeps from voting (B42).
            watched.lost.append(watched.durable.log.copy())
            if recovered.hard_state.term <= watched.durable.hard_state.term:
                raise Violation("loss without a new term", f"{name} came back with {recovered.hard_state}")
        elif watched.is_known:
            nothing_durable_lost(name, watched, recovered)
        watched.lost_term = max(watched.lost_term, recovered.lost_term)
        self._logs.nothing_forged(name, recovered.entries)
        nothing_forgotten(name, view, recovered)
        terms = recovered.terms
        known = (terms.term_at(index) or 0 for index in range(terms.previous_index + 1, terms.last_index + 1))
        log = ShadowLog(terms.previous_index, terms.previous_term, list(known))
        watched.queued = ShadowState(recovered.hard_state, log)
        watched.durable = watched.queued.copy()
        watched.pending.clear()
        watched.is_known = True
        watched.begin_life()
        watched.configuration = (view.configuration, view.configuration_index)

    def wiped(self, name: str, *, incarnation: str | None = None) -> None:
        """A node has another disk now, an empty one or an old one: nobody expects anything of what is on it.

        The votes that it gave are remembered: whoever comes in its place must not give them again (B24). What it had
        is, too: acknowledgements of it may still be on their way, and are worth as much as they were, for the votes
        of that incarnation went with the disk.

        :param incarnation: of the node that had the disk before, where there was one.
        """
        before = self._seen.nodes.get(name, Watched())
        fresh = self._seen.nodes[name] = Watched()
        fresh.life, fresh.votes, fresh.former = before.life, before.votes, before.former
        if incarnation is not None:
            fresh.former += [(incarnation, log) for log in (before.durable.log, *before.lost)]

    def configurations(self) -> list[Configuration]:
        """Return what each node, up or down, was last seen to believe of the members."""
        return [watched.configuration[0] for watched in self._seen.nodes.values() if watched.configuration is not None]

    def written(self, name: str, write: Write) -> None:
        """A node handed a write to its storage."""
        watched, view = self._seen.nodes[name], self._seen.views[name]
        self._elections.hard_state_grows(name, watched.queued.hard_state, write)
        if write.entries:
            self._logs.append_is_lawful(name, watched, view, write)
        watched.queued.take(write)
        watched.pending.append(write)
        for entry in write.entries:
            self._logs.log_matching(name, watched, entry)

    def durable(self, name: str, write_id: int) -> None:
        """A node's storage says that a write, and those before, are on disk."""
        watched = self._seen.nodes[name]
        while watched.pending and watched.pending[0].write_id <= write_id:
            watched.durable.take(watched.pending.popleft())

    def sent(self, message: Message) -> None:
        """A node said something: it must not promise what its disk may forget (Figure 2, section 5.2)."""
        if isinstance(message, AppendEntriesResponse):
            if message.success:
                self._logs.acknowledged(message)
        elif isinstance(message, RequestVoteResponse):
            if message.vote_granted and not message.pre_vote:
                self._elections.voted(message.sender, message.term, message.to)
        elif isinstance(message, RequestVote) and not message.pre_vote:
            self._elections.voted(message.sender, message.term, message.sender)

    def read_back(self, name: str, entries: Iterable[Entry]) -> None:
        """A node was given back entries of its log."""
        self._logs.nothing_forged(name, entries)

    def look(self, name: str, state: StateView) -> bool:
        """Look at a node after something happened in it.

        :return: whether anything that one can see of it has changed.
        """
        watched, view = self._seen.nodes[name], self._seen.views[name]
        self.checks += 1
        term, role, commit_index, applied_index = view.current_term, view.role, view.commit_index, state.applied_index
        configuration = (view.configuration, view.configuration_index)
        facts = (term, role, commit_index, applied_index, view.first_index, view.last_index, configuration)
        if facts == watched.facts:
            return False
        watched.facts = facts
        has_led = watched.role is Role.LEADER and watched.term == term
        if term != watched.term or role is not watched.role:
            if term < watched.term:
                raise Violation("term goes back", f"{name} went from term {watched.term} to {term}")
            watched.term, watched.role = term, role
            if role is Role.LEADER:
                self._elections.elected(name, watched, view)
        if commit_index != watched.commit_index:
            self._commitment.commit_moved(name, watched, view, has_led=has_led)
        watched.configuration = configuration
        if watched.lost and not view.may_lack_entries:
            watched.lost.clear()
        if applied_index != watched.applied_index:
            self.states.applied_moved(name, watched, view, state)
        return True

    def applied(self, name: str, entry: Entry) -> None:
        """A node applied an entry to its state machine."""
        self.states.applied(name, entry)

    def forget(self, name: str) -> None:
        """A node died: nobody looks at its core any more, its disk is remembered."""
        self._seen.views.pop(name, None)
