"""The leader's side of replication: what each peer is sent and what its answers prove (sections 5.3 and 5.4).

Knows every peer's progress during one leadership, and the commit index that follows from it; remade at each election,
so that nothing of an earlier leadership can be left over (Figure 2, volatile state on leaders; B15).
"""

from __future__ import annotations

import math
from collections.abc import Sequence

from raftkv.errors import InvariantViolation
from raftkv.raft import quorum
from raftkv.raft.configuration import Configuration
from raftkv.raft.leases import lease_end
from raftkv.raft.log import entry_size
from raftkv.raft.messages import AppendEntries, AppendEntriesResponse, Entry, Heartbeat, HeartbeatResponse
from raftkv.raft.progress import Progress, ProgressState
from raftkv.raft.ready import EntriesWanted
from raftkv.raft.room import Room
from raftkv.raft.state import State


class Replication:
    """The progress of all peers of one leader.

    :ivar peers: progress by member id, without the leader itself; may hold a few that have just left.
    :ivar wanted: whether :meth:`flush` has something to look at.
    """

    def __init__(self, state: State) -> None:
        self._state = state
        self._configuration = Configuration()
        self.peers: dict[str, Progress] = {}
        self.wanted = True
        self.reconfigure()

    def reconfigure(self) -> None:
        """Follow the configuration in force.

        Who left is kept until it was told: it would otherwise never learn that it is no longer a member. A member
        that has another incarnation now has another disk, so that all we knew of it is void (B24).
        """
        before, now = self._configuration, self._state.configuration
        self._configuration = now
        for peer in sorted(now.members.keys() - {self._state.node_id}):
            progress = self.peers.get(peer)
            # One that left and is back before it was let go may be another server under the same name (B23).
            if progress is None or progress.departing:
                self.peers[peer] = self._new_progress()
            elif _was_replaced(peer, before, now):
                fresh = self.peers[peer] = self._new_progress()
                if not before.members[peer].incarnation:
                    # Most often the one that we know, which has told its incarnation: it was heard, but is asked
                    # anew where its log ends, for whoever was here before need not have been the same.
                    fresh.recent_active, fresh.ticks_since_contact = (
                        progress.recent_active,
                        progress.ticks_since_contact,
                    )
        for peer in self.peers.keys() - now.members.keys():
            self.peers[peer].departing = True
        self.peers = {peer: self.peers[peer] for peer in sorted(self.peers)}
        self.wanted = True

    def _new_progress(self) -> Progress:
        settings = self._state.settings
        return Progress(
            next_index=self._state.log.last_index + 1,
            max_messages=settings.max_inflight_messages,
            max_bytes=settings.max_inflight_bytes,
        )

    # -- what the answers prove --------------------------------------------------------------------------------------

    def answered(self, message: AppendEntriesResponse) -> None:
        """Take the answer to an AppendEntries or InstallSnapshot."""
        progress = self._heard(message.sender)
        if progress is None:
            return
        progress.read_round = max(progress.read_round, message.read_round)
        log = self._state.log
        if not message.success:
            retry = log.last_index_of_term(message.hint_term, not_after=message.hint_index)
            progress.rejected(message.rejected_index, retry_index=retry)
            self.wanted = True
        elif message.match_index > log.last_index:
            self._state.events.append(f"{message.sender} acknowledged {message.match_index}, which is not in our log")
        else:
            progress.acknowledged(message.match_index, first_index=log.first_index)
            self._dismiss_if_told(message.sender, progress)
            # Most answers leave nothing to send, and then nothing to look at for anybody.
            self.wanted = self.wanted or progress.next_index <= log.last_index or self._has_news(progress)

    def heartbeat_answered(self, message: HeartbeatResponse) -> None:
        """Take the answer to a heartbeat."""
        progress = self._heard(message.sender)
        if progress is not None:
            progress.read_round = max(progress.read_round, message.read_round)
            if message.promised_seconds and self._state.now is not None and message.sent_at <= self._state.now:
                until = lease_end(message, drift_bound=self._state.settings.clock_drift_bound)
                progress.promised_until = max(progress.promised_until, until)
            progress.room = Room(message.room)
            progress.heartbeat_answered(self._state.log.last_index)
            self.wanted = self.wanted or progress.contact_wanted

    def _heard(self, peer: str) -> Progress | None:
        progress = self.peers.get(peer)
        if progress is not None:
            progress.heard()
        return progress

    def _dismiss_if_told(self, peer: str, progress: Progress) -> None:
        """Let go of a peer that left once it has, and was told to be committed, what says so."""
        index = self._state.configurations.current_index
        if progress.departing and progress.match_index >= index and self._state.commit_index >= index:
            self.heartbeat(peer, read_round=0)
            del self.peers[peer]

    def match_index(self, member: str) -> int:
        """Return what a member is known to have on its disk; of ourselves what a sync has returned for (B4)."""
        if member == self._state.node_id:
            return self._state.log.stable_index
        progress = self.peers.get(member)
        return progress.match_index if progress else 0

    def committable_index(self) -> int:
        """Return how far the log is stored on a majority, or the commit index where that proves nothing.

        Only an entry of the current term is committed by counting; those before it then are too, by the log matching
        property (section 5.4.2, Figure 8, B11).
        """
        state = self._state
        configuration = state.configuration
        index = quorum.committed_index(configuration.voters, configuration.outgoing_voters, self.match_index)
        if index > state.commit_index and state.log.term_at(index) == state.current_term:
            return index
        return state.commit_index

    def echoed(self, read_round: int) -> bool:
        """Tell whether a majority has answered since a round of read confirmation began."""
        present = {peer for peer, progress in self.peers.items() if progress.read_round >= read_round}
        return self._is_quorum(present)

    def promised_until(self) -> float:
        """Return until when, by our own clock, no other leader can have been elected behind our back."""
        configuration = self._state.configuration
        return quorum.agreed_until(configuration.voters, configuration.outgoing_voters, self._promise)

    def _promise(self, member: str) -> float:
        if member == self._state.node_id:
            return math.inf  # our own vote for another ends this leadership, and everything that rests on it
        progress = self.peers.get(member)
        return progress.promised_until if progress else -math.inf

    # -- time --------------------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Count one tick of silence for each peer."""
        for progress in self.peers.values():
            progress.ticks_since_contact += 1

    def check_quorum(self) -> bool:
        """Tell whether a majority was heard since the last call (section 6.2 of the thesis).

        Peers that left and fell silent are given up.
        """
        present = {peer for peer, progress in self.peers.items() if progress.recent_active}
        self.peers = {
            peer: progress for peer, progress in self.peers.items() if progress.recent_active or not progress.departing
        }
        for progress in self.peers.values():
            progress.recent_active = False
        return self._is_quorum(present)

    def _is_quorum(self, present: set[str]) -> bool:
        configuration = self._state.configuration
        present.add(self._state.node_id)
        return quorum.has_quorum(configuration.voters, configuration.outgoing_voters, present)

    # -- room on the disks -------------------------------------------------------------------------------------------

    @property
    def lacks_room(self) -> bool:
        """Whether the voters that are heard, and whose disks are not full, could commit nothing by themselves.

        Never where no voter's disk is full: who is merely not heard may be back in a moment.
        """
        state, configuration = self._state, self._configuration
        full = {peer for peer, progress in self.peers.items() if progress.room is Room.NONE}
        if state.room.level is Room.NONE:
            full.add(state.node_id)
        if not full:
            return False
        voters = configuration.voters | configuration.outgoing_voters
        if not full & voters:
            return False
        heard = {p for p, each in self.peers.items() if each.ticks_since_contact < state.settings.election_ticks}
        able = (heard | {state.node_id}) - full
        return not quorum.has_quorum(configuration.voters, configuration.outgoing_voters, able)

    def _is_spared(self, progress: Progress) -> bool:
        """Tell whether a peer gets no entries because its disk is full, and the others do without it.

        Where they do not, it gets the little that is still written: it knows what it can bear.
        """
        return progress.room is Room.NONE and not self.lacks_room

    # -- what is sent ------------------------------------------------------------------------------------------------

    def heartbeat(self, peer: str, *, read_round: int, lease: bool = False) -> None:
        """Tell a peer that we lead; it may commit what it surely has.

        :param lease: whether to ask for a promise, which then counts from now: no later than the message is sent.
        """
        state, progress = self._state, self.peers[peer]
        commit_index = min(state.commit_index, progress.match_index)
        progress.commit_sent = max(progress.commit_sent, commit_index)
        state.send(
            Heartbeat(
                term=state.current_term,
                sender=state.node_id,
                to=peer,
                commit_index=commit_index,
                read_round=read_round,
                lease=lease,
                sent_at=state.now if lease and state.now is not None else 0.0,
            )
        )

    def broadcast_heartbeat(self, *, read_round: int, lease: bool) -> None:
        """Tell all peers that we lead."""
        for peer in self.peers:
            self.heartbeat(peer, read_round=read_round, lease=lease)

    def commit_advanced(self) -> None:
        """More is committed: see to it that those are told who are to hear of it at once."""
        for progress in self.peers.values():
            self.wanted = self.wanted or self._has_news(progress)

    @property
    def told_index(self) -> int:
        """How far every peer whose log we know has been told that it is committed."""
        told = self._state.commit_index
        for progress in self.peers.values():
            if progress.commit_sent < told and progress.state is ProgressState.REPLICATE:
                told = progress.commit_sent
        return told

    def tell_news(self, peer: str | None = None) -> None:
        """Tell a peer, or all, with the next :meth:`flush` what is committed, even where no entries travel with it."""
        for name, progress in self.peers.items():
            if peer in (None, name) and progress.commit_sent < self._state.commit_index:
                progress.news_wanted = True
                self.wanted = True

    def flush(self, *, read_round: int) -> None:
        """Send every peer what it may have: entries, or the news that more is committed.

        Called once for all that happened in one turn of the driver, so that news travels with entries.
        """
        self.wanted = False
        for peer, progress in self.peers.items():
            self._flush_peer(peer, progress, read_round)

    def _flush_peer(self, peer: str, progress: Progress, read_round: int) -> None:
        state = self._state
        log = state.log
        # Who left gets nothing but what is committed: with uncommitted entries in a longer log it could refuse its
        # vote to those who remain.
        last_index = state.commit_index if progress.departing else log.last_index
        while True:
            is_behind = (
                progress.may_send_entries and progress.next_index <= last_index and not self._is_spared(progress)
            )
            has_news = self._has_news(progress) and progress.state is ProgressState.REPLICATE
            if not is_behind and not (progress.may_send_probe and (has_news or progress.contact_wanted)):
                return
            prev_log_term = log.term_at(progress.next_index - 1)
            if prev_log_term is None:
                self._offer_snapshot(peer, progress)
                return
            entries: tuple[Entry, ...] = ()
            if is_behind and progress.next_index >= log.cached_index:
                entries = log.slice(progress.next_index, last_index + 1, state.settings.max_append_bytes)
            elif is_behind and progress.state is ProgressState.REPLICATE:
                self._read_for(peer, progress, last_index)
                if not progress.contact_wanted:
                    return  # the news travel with the entries
            # Else where the logs part is asked with an empty message: what the disk has could be far off the mark.
            self._append_to(peer, progress, prev_log_term, entries, read_round)
            if progress.next_index > last_index:
                return  # with entries the news have gone, too

    def _has_news(self, progress: Progress) -> bool:
        """Tell whether a peer is to be told what is committed, now and in a message of its own if need be."""
        state = self._state
        is_due = progress.news_wanted or state.settings.news_at_once or progress.departing
        return is_due and progress.commit_sent < state.commit_index

    def _append_to(
        self, peer: str, progress: Progress, prev_log_term: int, entries: tuple[Entry, ...], read_round: int
    ) -> None:
        state = self._state
        message = AppendEntries(
            term=state.current_term,
            sender=state.node_id,
            to=peer,
            prev_log_index=progress.next_index - 1,
            prev_log_term=prev_log_term,
            leader_commit=state.commit_index,
            entries=entries,
            read_round=read_round,
        )
        state.send(message)
        progress.sent(
            last_index=message.prev_log_index + len(entries),
            size=sum(map(entry_size, entries)),
            commit_index=state.commit_index,
        )

    # -- entries that are on the disk only -----------------------------------------------------------------------------

    def _read_for(self, peer: str, progress: Progress, last_index: int) -> None:
        """Have the next entries of a peer read back, unless that is being done: one portion at a time for each."""
        if progress.reading is None:
            stop = min(last_index + 1, self._state.log.cached_index)
            progress.reading = self._state.ask_for_entries(peer=peer, start=progress.next_index, stop=stop)

    def entries_read(self, wanted: EntriesWanted, entries: Sequence[Entry], *, read_round: int) -> None:
        """Send what was read for a peer, if it is still what the peer needs.

        What the disk does not have any more a snapshot has replaced, and that is what the peer gets then.

        :raises InvariantViolation: they are not the entries of our log.
        """
        progress = self.peers.get(wanted.peer) if wanted.peer is not None else None
        if wanted.peer is None or progress is None or progress.reading != wanted:
            return
        progress.reading = None
        self.wanted = True
        if progress.state is not ProgressState.REPLICATE or progress.next_index != wanted.start:
            return
        prev_log_term = self._state.log.term_at(wanted.start - 1)
        if prev_log_term is None or not entries:
            if wanted.start > self._state.log.snapshot_index:
                raise InvariantViolation(f"entry {wanted.start} is not on our disk, and no snapshot has it")
            self._offer_snapshot(wanted.peer, progress)
            return
        if progress.may_send_entries:
            known = self._state.checked(wanted, entries)
            self._append_to(wanted.peer, progress, prev_log_term, known, read_round)

    def _offer_snapshot(self, peer: str, progress: Progress) -> None:
        # A peer that is down cannot take one: wait until it is heard; likewise one without room.
        if progress.recent_active and progress.room is not Room.NONE:
            state = self._state
            progress.snapshot_needed(state.log.snapshot_index)
            state.snapshot_peers.append(peer)
            state.events.append(f"{peer} needs entry {progress.next_index}, which was compacted: a snapshot is due")


def _was_replaced(peer: str, before: Configuration, now: Configuration) -> bool:
    known = before.members.get(peer)
    return known is not None and known.incarnation != now.members[peer].incarnation
