"""From what the disk holds to the state of a server that begins again.

Knows what must agree before a server may begin: no gap between snapshot and log (B45), no log of a later term than
the hard state, which is written first (B3). To mend what a crash left between two writes is the storage's business.
"""

from __future__ import annotations

from collections.abc import Sequence

from raftkv.errors import InvariantViolation
from raftkv.raft.configuration import Configuration, ConfigurationHistory
from raftkv.raft.log import Log
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.raft.settings import RaftSettings
from raftkv.raft.state import State, decoded_configuration
from raftkv.raft.terms import OnDisk


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
    on_disk: OnDisk | None,
    joined: bool,
    lost_term: int,
) -> State:
    """Return the state to begin with; the parameters are those of :class:`~raftkv.raft.node.RaftNode`.

    :raises InvariantViolation: log, snapshot and hard state are not those of one moment of one server.
    """
    previous_index, previous_term = (snapshot.index, snapshot.term) if snapshot is not None else (0, 0)
    if on_disk is not None:
        previous_index, previous_term = on_disk.terms.last_index, on_disk.terms.last_term
    elif entries:
        previous_index, previous_term = entries[0].index - 1, first_previous_term
    log = Log(
        entries=entries,
        previous_index=previous_index,
        previous_term=previous_term,
        snapshot_index=snapshot.index if snapshot is not None else 0,
        on_disk=on_disk.terms if on_disk is not None else None,
        cache_bytes=settings.log_cache_bytes,
    )
    if log.first_index > log.snapshot_index + 1:
        raise InvariantViolation(f"the log begins at {log.first_index}, the snapshot ends at {log.snapshot_index}")
    if snapshot is not None and log.term_at(snapshot.index) != snapshot.term:
        raise InvariantViolation(f"the log does not hold the last entry of the snapshot, {snapshot.index}")
    if log.last_term > hard_state.term:
        raise InvariantViolation(f"entry {log.last_index} is of term {log.last_term}, after that of {hard_state}")
    return State(
        node_id=node_id,
        incarnation=incarnation,
        settings=settings,
        hard_state=hard_state,
        log=log,
        configurations=_configurations(
            configuration, snapshot, [*(on_disk.configurations if on_disk is not None else ()), *entries]
        ),
        joined=joined,
        lost_term=lost_term,
    )


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
