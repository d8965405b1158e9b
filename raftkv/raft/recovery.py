"""From what the disk holds to the state of a server that begins again.

Knows what a crash may leave behind, given that writes complete in order and that the file of an installed snapshot
is on disk before the write that makes it part of the log.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.errors import InvariantViolation
from raftkv.raft.configuration import Configuration, ConfigurationHistory
from raftkv.raft.log import Log
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.raft.settings import RaftSettings
from raftkv.raft.state import State, decoded_configuration


def recovered_state(
    *,
    node_id: str,
    incarnation: str,
    settings: RaftSettings,
    hard_state: HardState,
    snapshot: SnapshotMeta | None,
    entries: Sequence[Entry],
    first_previous_term: int,
    configuration: Configuration,
) -> State:
    """Return the state to begin with; the parameters are those of :class:`~raftkv.raft.node.RaftNode`.

    :raises InvariantViolation: a gap lies between snapshot and log (B45), or the log is of a later term than the
        hard state, which is written first (B3).
    """
    replaced = snapshot is not None and not _log_holds(snapshot, entries, first_previous_term)
    if snapshot is not None and replaced:
        # The crash came between the snapshot's file and the write that puts it in place of the log: do it now.
        entries, previous_index, previous_term = (), snapshot.index, snapshot.term
    else:
        previous_index = entries[0].index - 1 if entries else snapshot.index if snapshot else 0
        previous_term = first_previous_term if entries else snapshot.term if snapshot else 0
    snapshot_index = snapshot.index if snapshot else 0
    if previous_index > snapshot_index:
        raise InvariantViolation(f"the log begins at {previous_index + 1}, but the snapshot ends at {snapshot_index}")
    if entries and entries[-1].term > hard_state.term:
        raise InvariantViolation(f"entry {entries[-1].index} is of a later term than the hard state: {hard_state}")
    if snapshot is not None and snapshot.term > hard_state.term:
        # Its file may be older than the write of the term it came with; no vote of a later term ever left us.
        hard_state = HardState(term=snapshot.term)
    state = State(
        node_id=node_id,
        incarnation=incarnation,
        settings=settings,
        hard_state=hard_state,
        log=Log(
            entries=entries, previous_index=previous_index, previous_term=previous_term, snapshot_index=snapshot_index
        ),
        configurations=_configurations(configuration, snapshot, entries),
    )
    if replaced:
        state.durability.snapshot = snapshot
    return state


def _log_holds(snapshot: SnapshotMeta, entries: Sequence[Entry], first_previous_term: int) -> bool:
    """Tell whether the log can carry on from the end of the snapshot."""
    if not entries:
        return True
    position = snapshot.index - entries[0].index
    if position < -1:
        return True  # a gap, which is not to be mended by dropping entries
    if position >= len(entries):
        return False
    term = first_previous_term if position == -1 else entries[position].term
    return term == snapshot.term


def _configurations(
    initial: Configuration, snapshot: SnapshotMeta | None, entries: Sequence[Entry]
) -> ConfigurationHistory:
    history = ConfigurationHistory(initial, 0)
    if snapshot is not None:
        history = ConfigurationHistory(snapshot.configuration, snapshot.configuration_index)
    for entry in entries:
        if entry.kind is EntryKind.CONFIGURATION and entry.index > history.current_index:
            history.append(entry.index, decoded_configuration(entry))
    return history
