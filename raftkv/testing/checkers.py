"""Figure 3 of the Raft paper, and what else must hold at every moment, checked from outside while a cluster runs.

The checkers are told of each start, each write, each finished sync and each message, and look at a node after each of
its events; they do only work that is proportional to what changed. They know the core's messages and nothing of how a
node is built. What clients saw is judged elsewhere (:mod:`raftkv.testing.linearizability`).
"""

from __future__ import annotations

from collections import deque
from collections.abc import Iterable
from typing import Protocol

from raftkv.interfaces import Recovered
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import (
    AppendEntriesResponse,
    Entry,
    EntryKind,
    HardState,
    Message,
    RequestVote,
    RequestVoteResponse,
)
from raftkv.raft.ready import Role, Write
from raftkv.testing.shadow import ShadowLog, ShadowState


class Violation(Exception):
    """A rule was broken; the message says which, by whom and where.

    :ivar rule: a short name, the same for each breach of one rule.
    """

    def __init__(self, rule: str, message: str) -> None:
        super().__init__(rule, message)
        self.rule = rule
        self.message = message

    def __str__(self) -> str:
        return f"{self.rule}: {self.message}"


class NodeView(Protocol):
    """What the checkers look at: a :class:`~raftkv.raft.node.RaftNode`."""

    @property
    def role(self) -> Role: ...
    @property
    def current_term(self) -> int: ...
    @property
    def voted_for(self) -> str | None: ...
    @property
    def commit_index(self) -> int: ...
    @property
    def may_lack_entries(self) -> bool: ...
    @property
    def first_index(self) -> int: ...
    @property
    def last_index(self) -> int: ...
    @property
    def configuration(self) -> Configuration: ...
    @property
    def configuration_index(self) -> int: ...
    def term_at(self, index: int) -> int | None: ...


class StateView(Protocol):
    """What the checkers look at: a :class:`~raftkv.kvstore.store.Store`."""

    @property
    def applied_index(self) -> int: ...
    @property
    def revision(self) -> int: ...
    def digest(self) -> str: ...


class _Watched:
    """What is remembered of one node.

    :ivar queued: after every write that it asked for.
    :ivar durable: after every write that its storage called durable.
    :ivar pending: the writes in between.
    :ivar life: how often it was started.
    :ivar is_known: whether what its disk held at the end of its last life is known.
    :ivar votes: whom it gave its vote in each term, with every disk that it ever had.
    :ivar former: incarnations whose disks are lost, and what was durable on them.
    :ivar lost: what its disk had before it lost some of that, until it may vote again; ``lost_term`` as it said last.
    :ivar commit_index: as last seen in this life; likewise ``applied_index``, ``term`` and ``configuration``.
    :ivar facts: all that :meth:`Checkers.look` looks at, as it was the last time.
    """

    __slots__ = (
        "applied_index",
        "commit_index",
        "configuration",
        "durable",
        "facts",
        "former",
        "is_known",
        "life",
        "lost",
        "lost_term",
        "pending",
        "queued",
        "role",
        "term",
        "votes",
    )

    def __init__(self) -> None:
        self.life = 0
        self.is_known = False
        self.queued = ShadowState(HardState(), ShadowLog())
        self.durable = ShadowState(HardState(), ShadowLog())
        self.pending: deque[Write] = deque()
        self.votes: dict[int, str] = {}
        self.former: list[tuple[str, ShadowLog]] = []
        self.configuration: tuple[Configuration, int] | None = None
        self.lost: list[ShadowLog] = []
        self.lost_term = 0
        self.begin_life()

    def begin_life(self) -> None:
        self.commit_index = 0
        self.applied_index = 0
        self.term = 0
        self.role = Role.FOLLOWER
        self.facts: tuple[object, ...] = ()


class Checkers:
    """Watches one cluster from its first start to its end; every method raises :exc:`Violation`.

    :ivar leaders: who led each term, and in which life.
    :ivar committed: the term of each entry that some node has called committed.
    :ivar suspects: nodes whose state was changed on purpose, and not found to be right since.
    :ivar past_is_right: whether none ever was.
    :ivar _committed_in: the term in which that node was then. It may be later than the entry's, and only leaders of
        terms behind it must have the entry (section 5.4.3): one of a term before may yet be elected, by late votes.
    """

    def __init__(self) -> None:
        self.leaders: dict[int, tuple[str, int]] = {}
        self.committed: dict[int, int] = {}
        self._committed_in: dict[int, int] = {}
        self.suspects: set[str] = set()
        self.past_is_right = True
        self._right_from: dict[str, int] = {}
        self.checks = 0
        self._nodes: dict[str, _Watched] = {}
        self._views: dict[str, NodeView] = {}
        # By (index, term): the term of the entry before, kind and payload.
        self._entries: dict[tuple[int, int], tuple[int | None, EntryKind, bytes]] = {}
        self._digests: dict[int, tuple[str, int, str]] = {}

    # -- what a node does ------------------------------------------------------------------------------------------

    def started(self, name: str, view: NodeView, recovered: Recovered) -> None:
        """A node was started on what its disk held."""
        watched = self._nodes.setdefault(name, _Watched())
        watched.life += 1
        self._views[name] = view
        if watched.is_known and recovered.lost_term > watched.lost_term:
            # It says so itself; what it had counts for it as long as it keeps from voting (B42).
            watched.lost.append(watched.durable.log.copy())
            if recovered.hard_state.term <= watched.durable.hard_state.term:
                raise Violation("loss without a new term", f"{name} came back with {recovered.hard_state}")
        elif watched.is_known:
            self._nothing_durable_lost(name, watched, recovered)
        watched.lost_term = max(watched.lost_term, recovered.lost_term)
        self._nothing_forged(name, recovered.entries)
        self._nothing_forgotten(name, view, recovered)
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
        before = self._nodes.get(name, _Watched())
        fresh = self._nodes[name] = _Watched()
        fresh.life, fresh.votes, fresh.former = before.life, before.votes, before.former
        if incarnation is not None:
            fresh.former += [(incarnation, log) for log in (before.durable.log, *before.lost)]

    def configurations(self) -> list[Configuration]:
        """Return what each node, up or down, was last seen to believe of the members."""
        return [watched.configuration[0] for watched in self._nodes.values() if watched.configuration is not None]

    def written(self, name: str, write: Write) -> None:
        """A node handed a write to its storage."""
        watched, view = self._nodes[name], self._views[name]
        self._hard_state_grows(name, watched.queued.hard_state, write)
        if write.entries:
            self._append_is_lawful(name, watched, view, write)
        watched.queued.take(write)
        watched.pending.append(write)
        for entry in write.entries:
            self._log_matching(name, watched, entry)

    def durable(self, name: str, write_id: int) -> None:
        """A node's storage says that a write, and those before, are on disk."""
        watched = self._nodes[name]
        while watched.pending and watched.pending[0].write_id <= write_id:
            watched.durable.take(watched.pending.popleft())

    def sent(self, message: Message) -> None:
        """A node said something: it must not promise what its disk may forget (Figure 2, section 5.2)."""
        if isinstance(message, AppendEntriesResponse):
            if message.success:
                self._acknowledged(message)
        elif isinstance(message, RequestVoteResponse):
            if message.vote_granted and not message.pre_vote:
                self._voted(message.sender, message.term, message.to)
        elif isinstance(message, RequestVote) and not message.pre_vote:
            self._voted(message.sender, message.term, message.sender)

    def look(self, name: str, state: StateView) -> bool:
        """Look at a node after something happened in it.

        :return: whether anything that one can see of it has changed.
        """
        watched, view = self._nodes[name], self._views[name]
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
                self._elected(name, watched, view)
        if commit_index != watched.commit_index:
            self._commit_moved(name, watched, view, has_led=has_led)
        watched.configuration = configuration
        if watched.lost and not view.may_lack_entries:
            watched.lost.clear()
        if applied_index != watched.applied_index:
            self._applied_moved(name, watched, view, state)
        return True

    def applied(self, name: str, entry: Entry) -> None:
        """A node applied an entry to its state machine (State Machine Safety)."""
        term = self.committed.get(entry.index)
        if term is None and self._views[name].commit_index < entry.index:
            raise Violation("state machine safety", f"{name} applied entry {entry.index} before it was committed")
        if term is not None and term != entry.term:
            raise Violation(
                "state machine safety",
                f"{name} applied entry {entry.index} of term {entry.term}, but the one of term {term} is committed",
            )

    # -- elections -----------------------------------------------------------------------------------------------

    def _elected(self, name: str, watched: _Watched, view: NodeView) -> None:
        term = view.current_term
        leader = self.leaders.setdefault(term, (name, watched.life))
        if leader != (name, watched.life):
            raise Violation(
                "election safety",
                f"{name} (life {watched.life}) leads term {term}, which {leader[0]} (life {leader[1]}) led",
            )
        for index, committed_term in self.committed.items():
            older = self._committed_in[index] < term
            if older and index >= view.first_index and view.term_at(index) != committed_term:
                raise Violation(
                    "leader completeness",
                    f"{name} leads term {term} without entry {index} of term {committed_term}, which is committed",
                )

    def _voted(self, voter: str, term: int, candidate: str) -> None:
        watched = self._nodes[voter]
        if watched.lost and self._views[voter].may_lack_entries:
            raise Violation("vote without its log", f"{voter} votes for {candidate} in term {term}")
        earlier = watched.votes.setdefault(term, candidate)
        if earlier != candidate:
            raise Violation("one vote", f"{voter} voted for {earlier} and for {candidate} in term {term}")
        hard_state = watched.durable.hard_state
        if hard_state.term < term or (hard_state.term == term and hard_state.voted_for != candidate):
            raise Violation(
                "vote before sync", f"{voter} votes for {candidate} in term {term}, but its disk has {hard_state}"
            )

    def _hard_state_grows(self, name: str, before: HardState, write: Write) -> None:
        after = write.hard_state
        if after is None:
            return
        if after.term < before.term or (
            after.term == before.term and before.voted_for is not None and after.voted_for != before.voted_for
        ):
            raise Violation("hard state goes back", f"{name} replaces {before} by {after}")

    # -- the log -------------------------------------------------------------------------------------------------

    def _append_is_lawful(self, name: str, watched: _Watched, view: NodeView, write: Write) -> None:
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
            is_committed = self.committed.get(entry.index) == before
            if before != entry.term and is_committed and view.current_term >= self._committed_in[entry.index]:
                raise Violation(
                    "committed entry overwritten",
                    f"{name} replaces entry {entry.index} of term {before}, which is committed, by one of {entry.term}",
                )

    def _log_matching(self, name: str, watched: _Watched, entry: Entry) -> None:
        """An index and a term name one entry with one history, everywhere (section 5.3), by induction."""
        previous = watched.queued.log.term_at(entry.index - 1)
        facts = (previous, entry.kind, entry.payload)
        known = self._entries.setdefault((entry.index, entry.term), facts)
        if known is not facts and known != facts:
            raise Violation(
                "log matching", f"{name} has another entry {entry.index} of term {entry.term}: {facts} for {known}"
            )

    def _acknowledged(self, message: AppendEntriesResponse) -> None:
        durable = self._nodes[message.sender].durable
        log = durable.log
        # In a later term a later leader may have cut the log since: what was said to the old one changes nothing.
        if log.last_index < message.match_index and durable.hard_state.term <= message.term:
            raise Violation(
                "acknowledged before sync",
                f"{message.sender} acknowledges {message.match_index}, but its disk has only {log.last_index}",
            )

    def _nothing_durable_lost(self, name: str, watched: _Watched, recovered: Recovered) -> None:
        """What a storage called durable is there after a crash, unless a later write was about to replace it."""
        durable, hard_state = watched.durable, recovered.hard_state
        lawful = [durable.hard_state, *(write.hard_state for write in watched.pending)]
        if hard_state not in lawful:
            raise Violation(
                "durable hard state lost", f"{name} had {durable.hard_state} and came back with {hard_state}"
            )
        keep = durable.log.last_index
        for write in watched.pending:
            if write.snapshot is not None:
                return  # it may have replaced the whole log
            if write.entries:
                keep = min(keep, write.entries[0].index - 1)
        terms = recovered.terms
        covered = recovered.snapshot.index if recovered.snapshot is not None else 0
        for index in range(covered + 1, keep + 1):
            # Of an entry that a snapshot stood for nobody here knows the term, but then the log has to have it.
            term = durable.log.term_at(index)
            if not terms.previous_index < index <= terms.last_index or (
                term is not None and terms.term_at(index) != term
            ):
                raise Violation(
                    "durable entry lost",
                    f"{name} had entry {index} of term {term} on disk and came back with {terms.term_at(index)}",
                )

    def read_back(self, name: str, entries: Iterable[Entry]) -> None:
        """A node was given back entries of its log."""
        self._nothing_forged(name, entries)

    def _nothing_forged(self, name: str, entries: Iterable[Entry]) -> None:
        """What a disk gives back is what was written, to the byte (B41)."""
        for entry in entries:
            known = self._entries.get((entry.index, entry.term))
            if known is None or known[1:] != (entry.kind, entry.payload):
                raise Violation("entry forged", f"{name} came back with {entry}, but {known} was written")

    def _nothing_forgotten(self, name: str, view: NodeView, recovered: Recovered) -> None:
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

    # -- commitment ----------------------------------------------------------------------------------------------

    def _commit_moved(self, name: str, watched: _Watched, view: NodeView, *, has_led: bool) -> None:
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
            known = self.committed.get(index)
            if known is None:
                self.committed[index] = term
                self._committed_in[index] = view.current_term
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
        for name, view in self._views.items():
            if view.role is not Role.LEADER or view.current_term <= self._committed_in[index]:
                continue
            if index < view.first_index:
                continue
            if self._nodes[name].role is Role.LEADER and view.term_at(index) != term:
                raise Violation("leader completeness", f"{name} leads without entry {index} of term {term}")

    def _committed_by_majority(self, name: str, view: NodeView, index: int) -> None:
        """A leader commits by counting only entries of its own term (section 5.4.2), on disks that have them."""
        term = view.term_at(index)
        if term != view.current_term:
            raise Violation(
                "old entry counted", f"{name} commits up to {index} of term {term} while it leads {view.current_term}"
            )
        before, before_index = self._nodes[name].configuration or (view.configuration, view.configuration_index)
        if before.is_joint and before_index <= index and not view.configuration.is_joint:
            # The same event committed the joint configuration and left it: what follows needs the new side alone.
            self._is_on_majority(name, before, before_index)
            self._is_on_majority(name, view.configuration, index)
        else:
            # As it was before the event: the same event may have put the next one in force behind the commitment.
            self._is_on_majority(name, before, index)

    def _is_on_majority(self, name: str, configuration: Configuration, index: int) -> None:
        term = self._views[name].term_at(index)
        if term is None:
            return  # compacted since
        holders = {each for each in self._nodes if self._had(each, configuration, index, term)}
        for voters in filter(None, (configuration.voters, configuration.outgoing_voters)):
            if 2 * len(holders & voters) <= len(voters):
                raise Violation(
                    "committed without majority",
                    f"{name} commits {index}, which is on the disks of {sorted(holders & voters)} of {sorted(voters)}",
                )

    def _had(self, name: str, configuration: Configuration, index: int, term: int) -> bool:
        """Tell whether a member, as a configuration means it, once had an entry on its disk, lost or not."""
        watched, member = self._nodes[name], configuration.members.get(name)
        meant = member.incarnation if member is not None else None
        former = (log for incarnation, log in watched.former if meant in ("", incarnation))
        return any(log.holds(index, term) for log in (watched.durable.log, *watched.lost, *former))

    def _applied_moved(self, name: str, watched: _Watched, view: NodeView, state: StateView) -> None:
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
            self._nodes[name].applied_index = min(self._nodes[name].applied_index, index)

    def state_is_right(self, name: str, state: StateView, *, as_of: int) -> None:
        """A suspect's state is trusted again, and had better be right.

        :param as_of: the index at which it was found to be. A snapshot of an earlier one may hold what was overwritten
            since: whoever restarts from it is right again from that index on.
        """
        self.suspects.discard(name)
        self._right_from[name] = as_of
        watched = self._nodes[name]
        watched.applied_index = state.applied_index - 1
        self._applied_moved(name, watched, self._views[name], state)

    def forget(self, name: str) -> None:
        """A node died: nobody looks at its core any more, its disk is remembered."""
        self._views.pop(name, None)
