"""The follower's side of replication: the consistency check, repair of conflicts, snapshots (sections 5.3 and 7).

Knows what a message of the current leader does to the log; that the sender leads the current term was settled before.
"""

from __future__ import annotations

from raftkv.errors import InvariantViolation
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    Heartbeat,
    HeartbeatResponse,
    InstallSnapshot,
)
from raftkv.raft.state import State


def accept_entries(state: State, message: AppendEntries) -> None:
    """Do what AppendEntries asks, and answer (section 5.3)."""
    if not _is_contiguous(message):
        state.events.append(f"ignored entries of {message.sender} that do not follow each other")
        return
    if not _matches(state, message.prev_log_index, message.prev_log_term):
        _reject(state, message)
        return
    last_verified = message.prev_log_index + _take_over(state, message.entries)
    # Entries behind those of this message may be a former leader's: they are not committed by it (B16).
    state.commit_to(min(message.leader_commit, last_verified))
    # What is committed is in every leader's log (section 5.4.3), so it matches too.
    acknowledge(state, message.sender, max(last_verified, state.commit_index), read_round=message.read_round)


def accept_heartbeat(state: State, message: Heartbeat, *, promised_seconds: float) -> None:
    """Take over what is committed, and answer at once: the answer promises nothing about the log.

    :param promised_seconds: for how long no vote will be granted; 0 for no promise.
    """
    if message.commit_index <= state.log.last_index:
        state.commit_to(message.commit_index)
    else:
        # The leader counts on entries that we do not have: our disk was wiped or lost them. Its next AppendEntries
        # finds out; to believe the number would be to commit what is not there.
        state.events.append(f"leader {message.sender} believes that we have entry {message.commit_index}")
    state.send(
        HeartbeatResponse(
            term=state.current_term,
            sender=state.node_id,
            to=message.sender,
            read_round=message.read_round,
            sent_at=message.sent_at,
            promised_seconds=promised_seconds,
            room=state.room.level,
        )
    )


def accept_snapshot(state: State, message: InstallSnapshot) -> None:
    """Put a snapshot, whose file is already on our disk, in place of the log, unless the log holds it (section 7)."""
    snapshot = message.snapshot
    if snapshot.index <= state.commit_index:
        state.events.append(f"ignored a snapshot up to {snapshot.index}: {state.commit_index} is committed")
    elif state.log.term_at(snapshot.index) == snapshot.term:
        # "If existing log entry has same index and term as snapshot's last included entry, retain log entries
        # following it" (Figure 13): they may be acknowledged already.
        state.commit_to(snapshot.index)
    else:
        state.restore(snapshot)
        state.events.append(f"restored the snapshot up to {snapshot.index} of term {snapshot.term}")
    acknowledge(state, message.sender, state.commit_index)


def acknowledge(state: State, leader: str, match_index: int, *, read_round: int = 0) -> None:
    """Tell the leader what equals its log, once that is on our disk (B4)."""
    state.send_once_durable(
        AppendEntriesResponse(
            term=state.current_term,
            sender=state.node_id,
            to=leader,
            success=True,
            match_index=match_index,
            read_round=read_round,
        )
    )


def _is_contiguous(message: AppendEntries) -> bool:
    index = message.prev_log_index
    for entry in message.entries:
        index += 1
        if entry.index != index:
            return False
    return True


def _matches(state: State, prev_log_index: int, prev_log_term: int) -> bool:
    term = state.log.term_at(prev_log_index)
    if prev_log_index > state.commit_index:
        return term == prev_log_term
    if term not in (None, prev_log_term):
        raise InvariantViolation(f"a leader's term {prev_log_term} at {prev_log_index}; ours, committed, is {term}")
    return True  # committed, perhaps compacted: the leader has the same (section 5.4.3)


def _take_over(state: State, entries: tuple[Entry, ...]) -> int:
    """Append what is new; delete only what conflicts (section 5.3).

    A late or repeated message finds all its entries in the log and changes nothing, also where the log has gone on
    since (B14, B19). What our disk has no room for is as if it had not arrived (B50).

    :return: how many of them our log holds now.
    """
    for position, entry in enumerate(entries):
        if entry.index > state.log.last_index:
            fitting = state.room.fitting(entries[position:])
            state.append(fitting)
            return position + len(fitting)
        term = state.log.term_at(entry.index)
        if term not in (None, entry.term):
            fitting = state.room.fitting(entries[position:])
            if fitting:
                state.truncate_from(entry.index)
                state.append(fitting)
            return position + len(fitting)
    return len(entries)


def _reject(state: State, message: AppendEntries) -> None:
    hint = state.log.last_index_of_term(
        message.prev_log_term, not_after=min(message.prev_log_index, state.log.last_index)
    )
    hint = max(hint, state.commit_index)
    state.send(
        AppendEntriesResponse(
            term=state.current_term,
            sender=state.node_id,
            to=message.sender,
            success=False,
            rejected_index=message.prev_log_index,
            hint_index=hint,
            hint_term=state.log.term_at(hint) or 0,
            read_round=message.read_round,
        )
    )
