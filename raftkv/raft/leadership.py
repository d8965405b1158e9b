"""One leadership: everything that a server does and knows only while it leads one term.

Knows proposals, commitment, changes of the configuration, read rounds, the check of the quorum and the transfer of
leadership. It is made when an election is won and dropped when the role is lost; it asks for the latter through
``step_down`` and never writes the role itself.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

from raftkv.errors import BadRequest, Conflict, DiskFull, Overloaded, ProposalDropped
from raftkv.raft.configuration import Configuration
from raftkv.raft.log import entry_size
from raftkv.raft.messages import (
    AppendEntriesResponse,
    Entry,
    EntryKind,
    HeartbeatResponse,
    Message,
    ReadIndexRequest,
    ReadIndexResponse,
    TimeoutNow,
)
from raftkv.raft.progress import ProgressState
from raftkv.raft.reads import Reader, ReadRounds
from raftkv.raft.ready import EntriesWanted, ReadState
from raftkv.raft.replication import Replication
from raftkv.raft.room import Room
from raftkv.raft.state import State
from raftkv.raft.succession import best_successor


class Leadership:
    """The leader of one term.

    :ivar transferring_to: the member that is to lead next, while it is being helped to (thesis 3.10).
    """

    def __init__(self, state: State, *, step_down: Callable[[str], None]) -> None:
        """
        :param step_down: called with a reason when this server must no longer lead; this object is dead then.
        """
        self._state = state
        self._step_down = step_down
        self.replication = Replication(state)
        self._reads = ReadRounds()
        self._heartbeat_elapsed_ticks = 0
        self._quorum_elapsed_ticks = 0
        self._transfer_elapsed_ticks = 0
        self._timeout_now_sent = False
        self._gave_way = False
        self._yielded_at = Room.AMPLE
        self._asked_another_to_lead = False
        self.transferring_to: str | None = None
        self._uncommitted_bytes = state.log.size_between(state.commit_index + 1, state.log.last_index + 1)

    def begin(self) -> None:
        """Append an entry of our own term: only its commitment tells which earlier ones are committed (section 8)."""
        self._append(EntryKind.NOOP, b"")

    # -- proposals ---------------------------------------------------------------------------------------------------

    @property
    def lacks_room(self) -> bool:
        """Whether nothing is taken that needs room: our own disk is full, or those of too many voters (B50).

        Where somebody else may lead instead, what needs room waits for that one.
        """
        if self._state.room.level is Room.NONE:
            waits = self.transferring_to is not None or self._roomier_successor() is not None
            if not waits:
                return True
        return self.replication.lacks_room

    def propose(self, payload: bytes, *, needs_room: bool) -> Entry:
        """Append a client's entry; it is sent with the next ``Ready``."""
        if needs_room and self._state.room.level is Room.NONE:
            self._yields_to_room()
        self._refuse_while_transferring()
        if not self._state.configuration.is_voter(self._state.node_id):
            # We step down as soon as that configuration is committed, and what came behind it would be left to chance.
            raise ProposalDropped("this server is about to step down")
        if (needs_room and self.lacks_room) or not self._state.room.fits(len(payload)):
            raise DiskFull
        limit = self._state.settings.max_uncommitted_bytes
        # One entry is let in whatever its size, or it could never be.
        if self._uncommitted_bytes and self._uncommitted_bytes + len(payload) > limit:
            raise Overloaded(f"{self._uncommitted_bytes} bytes wait to be committed; the limit is {limit}")
        return self._append(EntryKind.COMMANDS, payload)

    def propose_configuration(self, target: Configuration) -> Entry:
        """Append a configuration: ``target`` itself where the voters stay the same, else the joint one towards it."""
        self._refuse_while_transferring()
        state = self._state
        if not self._has_committed_in_term():
            # Two leaders in a row could otherwise each change one server with majorities that do not meet (B20).
            raise ProposalDropped("no entry of this term is committed yet")
        if state.configuration.is_joint or state.configurations.current_index > state.commit_index:
            raise Conflict("another change of the configuration is under way")
        try:
            target.validate()
        except ValueError as error:
            raise BadRequest(f"not a configuration: {error}") from error
        if target.is_joint:
            raise BadRequest("a joint configuration is entered by itself, and not proposed")
        if target.voters != state.configuration.voters:
            target = state.configuration.enter_joint(target)
        return self._append_configuration(target)

    def _refuse_while_transferring(self) -> None:
        if self.transferring_to is not None:
            raise ProposalDropped(f"leadership is being transferred to {self.transferring_to}")

    def _append_configuration(self, configuration: Configuration) -> Entry:
        entry = self._append(EntryKind.CONFIGURATION, configuration.encode())
        self.replication.reconfigure()
        return entry

    def _append(self, kind: EntryKind, payload: bytes) -> Entry:
        state = self._state
        entry = Entry(index=state.log.last_index + 1, term=state.current_term, kind=kind, payload=payload)
        state.append((entry,))
        self._uncommitted_bytes += entry_size(entry)
        self.replication.wanted = True
        return entry

    # -- commitment --------------------------------------------------------------------------------------------------

    def on_append_entries_response(self, message: AppendEntriesResponse) -> None:
        """A peer stored entries, or cannot."""
        self.replication.answered(message)
        self.advance_commit()
        self._confirm_reads()
        self._help_successor()

    def on_heartbeat_response(self, message: HeartbeatResponse) -> None:
        """A peer still follows."""
        self.replication.heartbeat_answered(message)
        self._confirm_reads()

    def advance_commit(self) -> None:
        """Commit what a majority has stored; called when a peer or our own disk has more."""
        state = self._state
        if state.commit_index == state.log.last_index:
            return  # as after every answer but the one that has made the majority
        index = self.replication.committable_index()
        if index == state.commit_index:
            return
        self._uncommitted_bytes -= state.log.size_between(state.commit_index + 1, index + 1)
        state.commit_to(index)
        self.replication.commit_advanced()
        if state.configurations.current_index <= index:
            self._configuration_committed()

    def _configuration_committed(self) -> None:
        state = self._state
        if state.configuration.is_joint:
            if self.transferring_to is not None:
                return  # the entry would come behind what the successor has, which then could not win, but can leave
            # "Once C_old,new has been committed […] it is now safe for the leader to create a log entry describing
            # C_new" (section 6); a leader that inherits a joint configuration comes here with its first commit.
            self._append_configuration(state.configuration.leave_joint())
            self.advance_commit()
        elif not state.configuration.is_voter(state.node_id):
            # "The leader steps down once it has committed the C_new log entry" (section 6). The others are told so,
            # and one of them is asked to campaign at once rather than after an election timeout (B22).
            self.replication.tell_news()
            self.replication.flush(read_round=self._reads.number)
            if (successor := self._best_successor()) is not None:
                self._send_timeout_now(successor)
            self._step_down("this server is no longer a voter")

    def _has_committed_in_term(self) -> bool:
        return self._state.log.term_at(self._state.commit_index) == self._state.current_term

    # -- reads -------------------------------------------------------------------------------------------------------

    def read(self, context: int, *, lease: bool) -> None:
        """Answer a read of this node by our lease where that will do, or let it wait for the next round."""
        self._read(Reader(peer=None, context=context), lease=lease)

    def on_read_index_request(self, message: ReadIndexRequest) -> None:
        """Do the same for the reads of a follower."""
        self._read(Reader(peer=message.sender, context=message.context), lease=message.lease)

    def _read(self, reader: Reader, *, lease: bool) -> None:
        index = self.lease_index() if lease else None
        if index is None:
            self._reads.add(reader)
        else:
            self._tell(reader, index)

    def lease_index(self) -> int | None:
        """Return the index that a read has to wait for if our lease proves it, at the time last told; else ``None``.

        Proves it of that very moment: what the clock reads must have been told after the read began (B30).
        """
        now = self._state.now
        if now is None or not self._lease_sought or not self._has_committed_in_term():  # (B29)
            return None
        return self._state.commit_index if now < self.replication.promised_until() else None

    @property
    def _lease_sought(self) -> bool:
        """Whether our heartbeats ask for promises, and promises given may be counted on.

        Not while leadership is being transferred, for a successor that we choose is elected whatever was promised
        (B10). And never again in this term once a successor was asked to campaign: that message may be late, and
        would break promises made after it. Nor where we lead without being a voter: the one that will lead after us
        may be alone in the configuration, and then waits for nobody.
        """
        state = self._state
        return (
            state.settings.lease_reads
            and state.now is not None
            and self.transferring_to is None
            and not self._asked_another_to_lead
            and state.configuration.is_voter(state.node_id)
        )

    @property
    def _round_wanted(self) -> bool:
        # Before an entry of our own term is committed we do not know what is (B29).
        return self._reads.wanted and self._has_committed_in_term()

    def _start_round(self) -> None:
        self._reads.start(self._state.commit_index)
        # Heartbeats, not AppendEntries: their answers do not wait for a disk.
        self.replication.broadcast_heartbeat(read_round=self._reads.number, lease=self._lease_sought)
        self._confirm_reads()

    def _confirm_reads(self) -> None:
        if not self._reads.under_way or not self.replication.echoed(self._reads.number):
            return
        index, readers = self._reads.confirmed()
        for reader in readers:
            self._tell(reader, index)

    def _tell(self, reader: Reader, index: int) -> None:
        state = self._state
        if reader.peer is None:
            state.reads.append(ReadState(context=reader.context, index=index))
            return
        self.replication.tell_news(reader.peer)  # or it would have the index, and not know that it is committed
        state.send(
            ReadIndexResponse(
                term=state.current_term, sender=state.node_id, to=reader.peer, context=reader.context, index=index
            )
        )

    def end(self) -> None:
        """Give back the reads of this node that still wait; followers notice by themselves that we no longer lead."""
        self.transferring_to = None
        own = (reader for reader in self._reads.abandon() if reader.peer is None)
        self._state.reads.extend(ReadState(context=reader.context, index=None) for reader in own)

    # -- transfer of leadership --------------------------------------------------------------------------------------

    def transfer(self, to: str | None) -> None:
        """Help another voter to lead: bring its log up to date, then ask it to campaign (thesis 3.10)."""
        configuration = self._state.configuration
        successor = to if to is not None else self._best_successor()
        if successor == self._state.node_id:
            return
        if successor is None or not configuration.is_voter(successor):
            raise Conflict("there is no other voter to lead" if to is None else f"{to} is not a voter")
        if successor == self.transferring_to:
            return
        self.transferring_to = successor
        self._timeout_now_sent = False
        self._transfer_elapsed_ticks = 0
        self._help_successor()

    def _best_successor(self, *, roomier_than: Room | None = None) -> str | None:
        return best_successor(
            self.replication.peers,
            self._state.configuration.voters,
            patience_ticks=self._state.settings.election_ticks,
            roomier_than=roomier_than,
        )

    def _help_successor(self) -> None:
        to = self.transferring_to
        if to is None or self._timeout_now_sent:
            return
        if self.replication.match_index(to) == self._state.log.last_index:
            self._timeout_now_sent = True
            self._send_timeout_now(to)

    def _send_timeout_now(self, to: str) -> None:
        self._asked_another_to_lead = True
        self._state.send(TimeoutNow(term=self._state.current_term, sender=self._state.node_id, to=to))

    def _tick_transfer(self) -> None:
        if self.transferring_to is None:
            return
        self._transfer_elapsed_ticks += 1
        is_late = self._transfer_elapsed_ticks >= self._state.settings.election_ticks
        if is_late or not self._state.configuration.is_voter(self.transferring_to):
            # The target may be gone: go on leading rather than refuse writes for ever (B10).
            self._state.events.append(f"the transfer of leadership to {self.transferring_to} was given up")
            self.transferring_to = None
            if self._state.configurations.current_index <= self._state.commit_index:
                self._configuration_committed()

    # -- a disk that stalls ------------------------------------------------------------------------------------------

    def _yields_to_room(self) -> None:
        """Hand leadership to a server whose disk has more room, if there is one.

        Only to one that has said so: leadership does not go round where all disks are full, and those who serve reads
        at least go on. One attempt at each level, lest one that cannot catch up keep us from our work for ever.
        """
        successor = self._roomier_successor() if self.transferring_to is None else None
        if successor is not None:
            self._yielded_at = self._state.room.level
            self._state.events.append(f"there is more room on the disk of {successor}, which is to lead")
            self.transfer(successor)

    def _roomier_successor(self) -> str | None:
        level = self._state.room.level
        return self._best_successor(roomier_than=level) if level > self._yielded_at else None

    def last_words(self) -> tuple[Message, ...]:
        """Return what lets another lead without waiting for an election timeout: this server dies.

        It may lack our last entries, which nobody was told of; it is elected only if it has what is committed.
        """
        successor = self._best_successor()
        if successor is None:
            return ()
        self._asked_another_to_lead = True
        self._step_down("this server cannot go on")
        return (TimeoutNow(term=self._state.current_term, sender=self._state.node_id, to=successor),)

    def _gives_way(self) -> bool:
        """Hand leadership to a server whose disk works, if ours does not; return whether we have stepped down.

        Only where the others have been committing without us: else they could not do better, and while we lead there
        are reads at least. One attempt to hand over; if it fails, the others find a leader by themselves, for we do
        not campaign while the disk stalls.
        """
        state = self._state
        self._gave_way = self._gave_way and state.disk.stalled
        if self.transferring_to is not None or not state.disk.is_outpaced(state.commit_index):
            return False
        successor = self._best_successor()
        if self._gave_way:
            self._step_down("the disk stalls, and nobody could take over")
            return True
        if successor is not None:
            self._gave_way = True
            state.events.append(f"the disk stalls: {successor} is to lead")
            self.transfer(successor)
        return False

    # -- time and sending --------------------------------------------------------------------------------------------

    def tick(self) -> None:
        """Count one tick."""
        settings = self._state.settings
        self.replication.tick()
        self._tick_transfer()
        if self._gives_way():
            return
        self._yields_to_room()
        self._quorum_elapsed_ticks += 1
        if self._quorum_elapsed_ticks >= settings.election_ticks:
            self._quorum_elapsed_ticks = 0
            if not self.replication.check_quorum():
                self._step_down("a majority was not heard for an election timeout")
                return
        self._heartbeat_elapsed_ticks += 1
        if self._heartbeat_elapsed_ticks >= settings.heartbeat_ticks:
            self._heartbeat_elapsed_ticks = 0
            self.replication.broadcast_heartbeat(read_round=self._reads.number, lease=self._lease_sought)

    @property
    def flush_wanted(self) -> bool:
        """Whether :meth:`flush` would have something to do."""
        return self.replication.wanted or self._round_wanted

    def flush(self) -> None:
        """Send what gathered since the last call."""
        if self._round_wanted:
            self._start_round()
        if self.replication.wanted:
            self.replication.flush(read_round=self._reads.number)

    def entries_read(self, wanted: EntriesWanted, entries: Sequence[Entry]) -> None:
        """Entries came back from the disk."""
        self.replication.entries_read(wanted, entries, read_round=self._reads.number)

    def unreachable(self, peer: str) -> None:
        """Messages to a peer may have been lost."""
        if (progress := self.replication.peers.get(peer)) is not None:
            progress.lost()
            self.replication.wanted = True

    def snapshot_finished(self, peer: str, index: int, *, delivered: bool) -> None:
        """The transfer of a snapshot to a peer ended."""
        progress = self.replication.peers.get(peer)
        if progress is not None and progress.state is ProgressState.SNAPSHOT:
            progress.snapshot_finished(index, delivered=delivered)
            self._state.events.append(f"the snapshot for {peer} {'arrived' if delivered else 'did not arrive'}")
