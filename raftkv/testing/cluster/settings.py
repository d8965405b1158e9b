"""The shape of a simulated cluster."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field

from raftkv.server.notes import NOTE_INTERVAL


@dataclass(frozen=True, slots=True, kw_only=True)
class ClusterSettings:
    """The shape of a cluster.

    :ivar nodes: how many members there are at first.
    :ivar spares: how many more machines stand by, empty.
    :ivar asks_first: whether founders begin as processes do, by asking each other what they hold; else all of them are
        there, and empty, as a matter of course.
    :ivar begins_empty: whether the first entry finds an empty store, so that the log tells all that there is.
    :ivar heartbeat_interval_seconds: also the length of a tick.
    :ivar election_timeout_seconds: the least one.
    :ivar snapshot_interval_seconds: between two looks at whether a snapshot is due.
    :ivar snapshot_threshold_bytes: bytes of log that make one due.
    :ivar trailing_entries: entries kept in the log behind a snapshot.
    :ivar max_snapshots: how many snapshots are kept.
    :ivar log_cache_bytes: what the log may take of memory.
    :ivar history_max_revisions: how many past revisions are kept: few, so that compaction goes on all the time.
    :ivar history_max_age_seconds: how long they are kept, 0 for no bound.
    :ivar max_leases: past which leases are refused; likewise ``max_lock_waiters``.
    :ivar segment_bytes: size of a segment of the log.
    :ivar disk_reserve_bytes: what each disk keeps in reserve.
    :ivar note_interval: indexes between two notes of the state's digest.
    :ivar raft_bounds: bounds of the core that differ from their defaults.
    :ivar max_batch_commands: commands in one entry at most.
    :ivar request_timeout_seconds: how long a node lets a request wait.
    :ivar lease_reads: whether leaders keep a lease.
    :ivar clock_drift_bound: how far the nodes believe that a clock may be off; honest if no less than ``drift``.
    :ivar drift: how far each node's clock may be off, 0.01 being one part in a hundred.
    :ivar disk_delay_seconds: what a batch takes at most, when nothing is wrong with the disk.
    :ivar archive_interval_seconds: how old an entry may be that is not archived, where there are archives.
    """

    nodes: int = 3
    spares: int = 0
    asks_first: bool = False
    begins_empty: bool = True
    heartbeat_interval_seconds: float = 0.1
    election_timeout_seconds: float = 0.6
    snapshot_interval_seconds: float = 2.0
    snapshot_threshold_bytes: int = 4096
    trailing_entries: int = 20
    max_snapshots: int = 2
    log_cache_bytes: int = 32 * 1024 * 1024
    history_max_revisions: int = 50
    history_max_age_seconds: float = 0.0
    max_leases: int = 100_000
    max_lock_waiters: int = 100_000
    segment_bytes: int = 8192
    disk_reserve_bytes: int = 0
    note_interval: int = NOTE_INTERVAL
    raft_bounds: Mapping[str, int] = field(default_factory=dict)
    max_batch_commands: int = 4096
    request_timeout_seconds: float = 5.0
    lease_reads: bool = False
    clock_drift_bound: float = 0.0
    drift: float = 0.0
    disk_delay_seconds: float = 0.004
    archive_interval_seconds: float = 1.0
