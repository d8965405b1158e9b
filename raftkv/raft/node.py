"""One server of a Raft cluster as a value machine: messages and ticks in, :class:`~raftkv.raft.ready.Ready` out.

Knows the terms and the roles: :meth:`RaftNode.step` compares terms once and finds the method for a message in one
table, and only the ``_become_*`` methods write the role. What a role does lives in ``election``, ``follower`` and
``leadership``; they share one ``state``. Time is counted in ticks and chance is handed in: equal inputs give equal
outputs.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import TYPE_CHECKING, Any, ClassVar, TypeVar

from raftkv.errors import InvariantViolation, NotLeader
from raftkv.raft.configuration import Configuration
from raftkv.raft.election import Election
from raftkv.raft.follower import accept_entries, accept_heartbeat, accept_snapshot
from raftkv.raft.leadership import Leadership
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    HardState,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    RequestVote,
    RequestVoteResponse,
    SnapshotMeta,
    TimeoutNow,
)
from raftkv.raft.quorum import VoteResult
from raftkv.raft.reads import ForwardedReads
from raftkv.raft.ready import EntriesWanted, ReadState, Ready, Role, SoftState
from raftkv.raft.recovery import recovered_state
from raftkv.raft.room import LogRoom, Room
from raftkv.raft.settings import RaftSettings
from raftkv.raft.terms import OnDisk
from raftkv.raft.view import NodeView

if TYPE_CHECKING:
    import random  # chance is handed in; only its type is named here


_T = TypeVar("_T")


class RaftNode(NodeView):
    """One server.

    The caller gives it messages, ticks and proposals, then takes a ``Ready`` and carries it out in the order of its
    fields, and says with :meth:`advance` what has reached the disk. Nothing happens in between.
    """

    def __init__(
        self,
        *,
        node_id: str,
        incarnation: str,
        settings: RaftSettings,
        random: random.Random,
        hard_state: HardState,
        snapshot: SnapshotMeta | None,
        entries: Sequence[Entry],
        first_previous_term: int,
        configuration: Configuration,
        on_disk: OnDisk | None = None,
        joined: bool = False,
        lost_term: int = 0,
    ) -> None:
        """Begin, or begin again, as a follower (section 5.2) with what the disk holds.

        :param random: draws election timeouts, and the number of the first forwarded read.
        :param hard_state: the last one that was synced.
        :param snapshot: meta of the newest readable snapshot, which the state machine has been restored from.
        :param entries: the log, contiguous; it may begin before the end of the snapshot.
        :param first_previous_term: term of the entry just before the first one, 0 where there is none.
        :param configuration: the initial one (index 0), used where neither snapshot nor entries hold one.
        :param on_disk: the log in front of ``entries``, which is read back where it is needed; ``None`` for nothing.
        :param joined: whether this server came to a running cluster: its log may speak of an earlier server of the
            same name, so that only what names its incarnation is about it (B23).
        :param lost_term: entries that were acknowledged in terms up to this may be missing where the log has none of a
            later one: until it has, this server neither votes nor leads (B42); 0 for none.
        :raises InvariantViolation: these cannot be the remains of one server.
        """
        state = recovered_state(
            node_id=node_id,
            incarnation=incarnation,
            settings=settings,
            hard_state=hard_state,
            snapshot=snapshot,
            entries=entries,
            first_previous_term=first_previous_term,
            configuration=configuration,
            on_disk=on_disk,
            joined=joined,
            lost_term=lost_term,
        )
        super().__init__(state)
        is_restart = state.current_term > 0 or state.log.last_index > 0
        is_alone = state.configuration.voters == {node_id}
        grace_ticks = settings.vote_grace_ticks if is_restart and not is_alone else 0
        self._election = Election(state, chance=random, grace_ticks=grace_ticks)
        self._forwarded_reads = ForwardedReads(
            first_number=random.getrandbits(48), retry_ticks=max(settings.election_ticks // 2, 1)
        )
        self._told: tuple[Role, int, str | None] | None = None

    # -- what arrives ------------------------------------------------------------------------------------------------

    def time_is(self, now: float) -> None:
        """Take note of what a monotonic clock reads, for leases alone (thesis 6.4.1); everything else counts ticks.

        To be called just before every other method that hands something in or takes something out, else what the
        node believes of time is that of the last call (B31). Where it is never called there are no leases.

        :param now: seconds since whenever; a clock that went back is taken as standing still.
        """
        state = self._state
        state.now = now if state.now is None else max(state.now, now)

    def step(self, message: Message) -> None:
        """Take a message of another member, current, late, repeated or forged.

        :raises InvariantViolation: it proves that Raft's rules were broken somewhere.
        """
        state = self._state
        if message.to != self.node_id:
            state.events.append(f"ignored a message of {message.sender} that is for {message.to}")
            return
        if isinstance(message, RequestVote) and (reason := self._election.turns_deaf_ear(message)) is not None:
            state.events.append(reason)
            return
        if message.term > state.current_term:
            # "If RPC request or response contains term T > currentTerm: set currentTerm = T, convert to follower"
            # (section 5.1). The term of a pre-vote, and of its grant, is one that nobody has entered yet.
            if not _is_hypothetical(message):
                self._become_follower(term=message.term, leader=None)
        elif message.term < state.current_term:
            self._answer_stale(message)
            return
        self._ON_MESSAGE[type(message)](self, message)

    def _answer_stale(self, message: Message) -> None:
        """Tell the sender of a request of an earlier term the current one; ignore anything else (section 5.1).

        A pre-candidate learns the term so (B5), and so does a leader that missed an election: with pre-vote, a
        server that has gone on to a later term could not depose it otherwise, nor follow it.
        """
        state = self._state
        if isinstance(message, RequestVote):
            self._answer_vote(message, granted=False)
        elif isinstance(message, AppendEntries | Heartbeat | InstallSnapshot):
            state.send(
                AppendEntriesResponse(term=state.current_term, sender=state.node_id, to=message.sender, success=False)
            )

    def tick(self) -> None:
        """Take note that one unit of time went by."""
        self._state.watch_disk()
        if self._leadership is not None:
            self._leadership.tick()
            return
        self._forwarded_reads.tick()
        if self._election.tick():
            self.campaign()

    # -- elections ---------------------------------------------------------------------------------------------------

    def campaign(self) -> None:
        """Act as if the election timeout had passed: ask whether an election could be won (thesis 9.6).

        Not yet, where a leader may still count on a lease: the next tick tries again.
        """
        if self._leadership is not None or self._election.is_bound:
            return
        if self._election.may_campaign:
            self._become_pre_candidate()
        else:
            self._become_follower(term=self.current_term, leader=None)

    def campaign_early(self) -> None:
        """Campaign if the leader is known to be gone, and neither a leader nor another candidate was heard of since.

        To be called a short random while after :meth:`report_closed`, so that seldom two do it at the same time.
        """
        if self.role is Role.FOLLOWER and self._election.may_come_first:
            self.campaign()

    def _on_request_vote(self, message: RequestVote) -> None:
        granted = self._election.would_grant(message)
        if granted and message.pre_vote:
            self._election.give_way()
        elif granted:
            self._state.vote_for(message.sender)
            self._election.end_hurry()
            self._election.reset_timer()
        self._answer_vote(message, granted=granted)

    def _answer_vote(self, message: RequestVote, *, granted: bool) -> None:
        state = self._state
        # A granted pre-vote is about the term asked for; a refusal tells our own.
        term = message.term if granted else state.current_term
        answer = RequestVoteResponse(
            term=term, sender=state.node_id, to=message.sender, vote_granted=granted, pre_vote=message.pre_vote
        )
        if granted and not message.pre_vote:
            # A vote that a crash forgets could be given twice (section 5.2, B1).
            state.send_once_durable(answer)
        else:
            state.send(answer)

    def _on_request_vote_response(self, message: RequestVoteResponse) -> None:
        awaited = Role.PRE_CANDIDATE if message.pre_vote else Role.CANDIDATE
        if self.role is not awaited:
            return
        if message.pre_vote and message.vote_granted and message.term != self.current_term + 1:
            return  # an answer to an earlier campaign of ours
        self._act_on(self._election.count(message.sender, granted=message.vote_granted))

    def _act_on(self, result: VoteResult) -> None:
        if result is VoteResult.LOST:
            self._become_follower(term=self.current_term, leader=None)
        elif result is VoteResult.WON and self.role is Role.PRE_CANDIDATE:
            self._become_candidate(leadership_transfer=False)
        elif result is VoteResult.WON:
            self._become_leader()

    def _on_timeout_now(self, message: TimeoutNow) -> None:
        # Sent by the leader itself, so nothing is disrupted and no pre-vote is needed (thesis 3.10).
        if message.sender == self.leader and self._leadership is None and self._election.may_succeed:
            self._become_candidate(leadership_transfer=True)

    # -- the roles: nobody else writes them --------------------------------------------------------------------------

    def _become_follower(self, *, term: int, leader: str | None) -> None:
        state = self._state
        if leader is not None:
            self._election.end_hurry()
        if state.role is not Role.FOLLOWER or leader is not None:
            self._election.reset_timer()
        self._leave_role(leader)
        state.role = Role.FOLLOWER
        if term > state.current_term:
            state.enter_term(term)

    def _become_pre_candidate(self) -> None:
        state = self._state
        self._leave_role(None)
        state.role = Role.PRE_CANDIDATE
        self._election.reset_timer()
        self._election.open_ballot()
        for request in self._election.requests(term=state.current_term + 1, pre_vote=True):
            state.send(request)
        self._act_on(self._election.count(state.node_id, granted=True))

    def _become_candidate(self, *, leadership_transfer: bool) -> None:
        state = self._state
        self._leave_role(None)
        state.role = Role.CANDIDATE
        state.enter_term(state.current_term + 1)
        state.vote_for(state.node_id)
        self._election.reset_timer()
        self._election.open_ballot()
        # Our own vote too counts only once it is on disk; it comes back to us as the others' do. The requests wait
        # with it: a server that forgot its candidacy could vote for another, and win the same term with late votes.
        state.send_once_durable(
            RequestVoteResponse(term=state.current_term, sender=state.node_id, to=state.node_id, vote_granted=True)
        )
        for request in self._election.requests(
            term=state.current_term, pre_vote=False, leadership_transfer=leadership_transfer
        ):
            state.send_once_durable(request)

    def _become_leader(self) -> None:
        state = self._state
        self._leave_role(state.node_id)
        self._election.end_hurry()
        state.role = Role.LEADER
        self._leadership = Leadership(state, step_down=self._step_down)
        self._leadership.begin()

    def _leave_role(self, leader: str | None) -> None:
        """End what belonged to the old role or to the old leader."""
        state = self._state
        if self._leadership is not None:
            self._leadership.end()
            self._leadership = None
        if leader != state.leader:
            state.reads.extend(ReadState(context=context, index=None) for context in self._forwarded_reads.abandon())
            state.leader = leader

    def _step_down(self, reason: str) -> None:
        self._state.events.append(f"gave up leadership in term {self.current_term}: {reason}")
        self._become_follower(term=self.current_term, leader=None)

    # -- the follower ------------------------------------------------------------------------------------------------

    def _follow(self, leader: str) -> None:
        """Take note that the leader of the current term was heard."""
        state = self._state
        if state.role is Role.FOLLOWER and state.leader == leader:
            self._election.leader_heard()
            return
        if state.role is Role.LEADER or state.leader is not None:
            raise InvariantViolation(f"two leaders in term {state.current_term}: {state.leader} and {leader}")
        self._become_follower(term=state.current_term, leader=leader)

    def _on_append_entries(self, message: AppendEntries) -> None:
        self._follow(message.sender)
        accept_entries(self._state, message)

    def _on_heartbeat(self, message: Heartbeat) -> None:
        self._follow(message.sender)
        promised_seconds = self._election.promise() if message.lease else 0.0
        accept_heartbeat(self._state, message, promised_seconds=promised_seconds)

    def _on_install_snapshot(self, message: InstallSnapshot) -> None:
        # It took a while to arrive, and may come from one that no longer leads: what it holds is committed all the
        # same, and says nothing about who leads now.
        if message.sender == self.leader:
            self._election.leader_heard()
        if self._leadership is None:
            accept_snapshot(self._state, message)

    def _on_read_index_response(self, message: ReadIndexResponse) -> None:
        if message.sender == self.leader:
            contexts = self._forwarded_reads.answered(message.context)
            self._state.reads.extend(ReadState(context=context, index=message.index) for context in contexts)

    def _request_read_index(self, leader: str) -> None:
        state = self._state
        number, lease = self._forwarded_reads.request()
        state.send(
            ReadIndexRequest(term=state.current_term, sender=state.node_id, to=leader, context=number, lease=lease)
        )

    # -- the leader --------------------------------------------------------------------------------------------------

    def _on_append_entries_response(self, message: AppendEntriesResponse) -> None:
        if self._leadership is not None:
            self._leadership.on_append_entries_response(message)

    def _on_heartbeat_response(self, message: HeartbeatResponse) -> None:
        if self._leadership is not None:
            self._leadership.on_heartbeat_response(message)

    def _on_read_index_request(self, message: ReadIndexRequest) -> None:
        if self._leadership is not None:
            self._leadership.on_read_index_request(message)

    def _leading(self) -> Leadership:
        if self._leadership is None:
            raise NotLeader(self.leader, self.current_term)
        return self._leadership

    def propose(self, payload: bytes, *, needs_room: bool = True) -> Entry:
        """Append an entry for the state machine; whether it is committed shows in later ``Ready`` values.

        :param needs_room: whether its commands make the state larger: such entries wait until there is room for them.
        :return: the entry; only one committed at its index *and* term is this one (B65).
        :raises NotLeader: this server does not lead.
        :raises ProposalDropped: leadership is being transferred.
        :raises Overloaded: ``max_uncommitted_bytes`` wait already.
        :raises DiskFull: there is no room for it, or not before the next look at the disk (B50).
        """
        return self._leading().propose(payload, needs_room=needs_room)

    def propose_configuration(self, configuration: Configuration) -> Entry:
        """Append a change of the configuration, through a joint one where the voters differ (section 6).

        The joint configuration is left by itself. The change is done once ``committed_configuration()`` is
        ``configuration``.

        :param configuration: the configuration to end in; not joint.
        :return: the entry of the configuration that is now in force.
        :raises NotLeader: this server does not lead.
        :raises ProposalDropped: leadership is being transferred, or no entry of this term is committed yet (B20).
        :raises Conflict: another change is under way.
        :raises BadRequest: it is not a configuration that could be in force.
        """
        return self._leading().propose_configuration(configuration)

    def begin_look(self) -> None:
        """Take note that a look at our disk begins: what it finds, :meth:`note_room` tells.

        What is appended from now on, or was not yet handed out to be written, is taken off that.
        """
        self._state.room.begin_look(self._state.log.unwritten())

    def note_room(self, room: Room, budget: LogRoom | None = None) -> None:
        """Take note of how much room there is on our disk: where it is scarce, others come first as leaders.

        :param budget: what the log can take, as the look has found it; entries with commands that do not fit are not
            appended. ``None`` for whatever comes.
        """
        if self._state.room.note(room, budget):
            self._state.events.append(f"room on the disk: {room.name.lower()}")

    def resign(self) -> tuple[Message, ...]:
        """Give leadership up because this server is about to die, whatever is under way.

        :return: what is to be sent at once, and promises nothing about our disk; nothing else may be from now on.
        """
        return () if self._leadership is None else self._leadership.last_words()

    def transfer_leadership(self, to: str | None) -> None:
        """Hand leadership to another voter; proposals are dropped meanwhile, for one election timeout at the most.

        :param to: the member that is to lead; ``None`` for the one whose log is the most advanced.
        :raises NotLeader: this server does not lead.
        :raises Conflict: that member is not a voter, or there is no other voter.
        """
        self._leading().transfer(to)

    def read_index(self, context: int, *, lease: bool = False) -> None:
        """Ask for an index that a linearizable read has to wait for; it comes in ``Ready.reads``.

        :param context: the caller's number, given back with the answer.
        :param lease: whether the leader's lease is proof enough, where it holds one.
        """
        if self._leadership is not None:
            self._leadership.read(context, lease=lease)
        elif self.leader is not None:
            self._forwarded_reads.add(context, lease=lease)
        else:
            self._state.reads.append(ReadState(context=context, index=None))

    def tell_news(self) -> None:
        """Tell the followers with the next ``Ready`` what is committed, where no entries have told them."""
        if self._leadership is not None:
            self._leadership.replication.tell_news()

    def lease_index(self, now: float) -> int | None:
        """Return the index that a read has to wait for if a lease of ours proves it, without asking anybody.

        :param now: as for :meth:`time_is`, read after the read began (B30).
        :return: ``None`` without a valid lease.
        """
        self.time_is(now)
        return self._leadership.lease_index() if self._leadership is not None else None

    # -- what goes out -----------------------------------------------------------------------------------------------

    def has_ready(self) -> bool:
        """Tell whether :meth:`take_ready` would return something; cheap."""
        state, leadership = self._state, self._leadership
        return bool(
            state.messages
            or state.durability.write_wanted
            or (state.last_applied < state.commit_index and state.has_committed)
            or state.entries_wanted
            or state.reads
            or state.events
            or state.snapshot_peers
            or state.configurations.changed
            or (self._forwarded_reads.wanted if leadership is None else leadership.flush_wanted)
            or self._told != (state.role, state.current_term, state.leader)
        )

    def take_ready(self) -> Ready:
        """Return everything that the world now has to do, and take it as being done."""
        state = self._state
        if self._leadership is not None:
            self._leadership.flush()
        elif self._forwarded_reads.wanted and self.leader is not None:
            self._request_read_index(self.leader)
        now = (state.role, state.current_term, state.leader)
        ready = Ready(
            soft_state=SoftState(role=now[0], term=now[1], leader=now[2]) if now != self._told else None,
            messages=_taken(state.messages),
            send_snapshots=_taken(state.snapshot_peers),
            write=state.durability.take_write(),
            committed=state.take_committed(),
            # Only now: what is committed may be asked for.
            entries_wanted=_taken(state.entries_wanted),
            reads=_taken(state.reads),
            configuration_changed=state.configurations.changed,
            events=_taken(state.events),
        )
        self._told = now
        state.configurations.changed = False
        state.log.trim(state.commit_index)
        return ready

    def advance(self, write_id: int) -> None:
        """Take note that this write, and those before it, are on disk: what waited for them is released."""
        for message in self._state.durability.done(write_id):
            if message.to == self.node_id:
                self.step(message)
            else:
                self._state.send(message)
        if self._leadership is not None:
            self._leadership.advance_commit()

    # -- entries that are on the disk only -----------------------------------------------------------------------------

    def entries_read(self, wanted: EntriesWanted, entries: Sequence[Entry]) -> None:
        """Take what the disk had when it was asked; much may have changed since then.

        :param wanted: the question.
        :param entries: contiguous, the first at ``wanted.start``; none where the disk has them no more, for a snapshot
            replaced them.
        :raises InvariantViolation: they are not those of our log.
        """
        if wanted.peer is None:
            self._state.entries_read(wanted, entries)
        elif self._leadership is not None:
            self._leadership.entries_read(wanted, entries)

    def may_apply(self, now: bool) -> None:
        """Say whether the state machine takes entries at the moment; what is committed else waits, on the disk."""
        self._state.may_apply = now

    # -- snapshots ---------------------------------------------------------------------------------------------------

    def snapshot_taken(self, meta_index: int) -> None:
        """Take note that our newest snapshot is on disk and includes everything up to ``meta_index``.

        :raises InvariantViolation: that is more than was applied, or than our own disk has.
        """
        log = self._state.log
        if meta_index > min(self.last_applied, log.stable_index):
            raise InvariantViolation(f"a snapshot up to {meta_index}: applied {self.last_applied}, {log.stable_index=}")
        log.snapshot_index = max(log.snapshot_index, meta_index)

    def apply_again(self, after: int) -> None:
        """Hand out once more what is committed behind ``after``: the state is made anew, of a snapshot that ends there.

        :raises InvariantViolation: the log does not follow it, or it holds what was never handed out.
        """
        self._state.apply_again(after)

    def compact(self, index: int) -> None:
        """Drop the entries up to and including ``index``, which a snapshot must include."""
        self._state.compact(index)

    def report_unreachable(self, peer: str) -> None:
        """Take note that messages to a peer may have been lost."""
        if self._leadership is not None:
            self._leadership.unreachable(peer)

    def report_closed(self, peer: str) -> None:
        """Take note that a peer's process has ended, as far as can be seen: it has closed its connections to us.

        A follower forgets a leader that is gone: it waits for it no more, and gives its vote to others. What it has
        promised to that leader stands all the same: nobody can tell a dead process from connections that something in
        between has reset, and a leader that lives may count on a lease.
        """
        state = self._state
        if self._leadership is not None or peer != state.leader:
            return
        state.events.append(f"leader {peer} is gone: it has closed its connections")
        self._become_follower(term=state.current_term, leader=None)
        self._election.hurry()

    def report_snapshot(self, peer: str, index: int, delivered: bool) -> None:
        """Take note that the transfer of a snapshot ended.

        :param index: the last index that the sent snapshot includes.
        """
        if self._leadership is not None:
            self._leadership.snapshot_finished(peer, index, delivered=delivered)

    _ON_MESSAGE: ClassVar[Mapping[type[Message], Callable[[RaftNode, Any], None]]] = {
        RequestVote: _on_request_vote,
        RequestVoteResponse: _on_request_vote_response,
        AppendEntries: _on_append_entries,
        AppendEntriesResponse: _on_append_entries_response,
        Heartbeat: _on_heartbeat,
        HeartbeatResponse: _on_heartbeat_response,
        InstallSnapshot: _on_install_snapshot,
        ReadIndexRequest: _on_read_index_request,
        ReadIndexResponse: _on_read_index_response,
        TimeoutNow: _on_timeout_now,
    }


def _taken(tray: list[_T]) -> tuple[_T, ...]:
    """Empty a tray."""
    if not tray:
        return ()
    things = tuple(tray)
    tray.clear()
    return things


def _is_hypothetical(message: Message) -> bool:
    """Tell whether a message speaks of a term that nobody may have entered: a pre-vote, or its grant."""
    if isinstance(message, RequestVote):
        return message.pre_vote
    return isinstance(message, RequestVoteResponse) and message.pre_vote and message.vote_granted
