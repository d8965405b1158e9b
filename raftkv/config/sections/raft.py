"""The settings below ``raft``: the node, its cluster, its data directory, its log and its clocks."""

from __future__ import annotations

from typing import Final

from raftkv.config.kinds import (
    Addresses,
    Boolean,
    Choice,
    ListenAddress,
    NodeId,
    Peers,
    ReachableAddress,
    Seconds,
    Share,
    Text,
    Whole,
)
from raftkv.config.model import GIB, KIB, MIB
from raftkv.config.setting import Setting

RAFT: Final[tuple[Setting, ...]] = (
    Setting(
        key="raft.nodeID",
        field="node_id",
        kind=NodeId(),
        doc="Unique name of the node in the cluster. It belongs to the data directory and cannot be changed later.",
    ),
    Setting(
        key="raft.bindAddr",
        field="raft_bind_addr",
        kind=ListenAddress(),
        doc="Where Raft traffic between nodes is accepted.",
    ),
    Setting(
        key="raft.advertisedAddr",
        field="raft_advertised_addr",
        kind=ReachableAddress(),
        derived="`raft.bindAddr`, where it names a host; else required in a cluster, and `127.0.0.1` with that port "
        "for a node alone",
        doc="The address of `raft.bindAddr` that the other nodes use.",
    ),
    Setting(
        key="raft.dataDir",
        field="data_dir",
        kind=Text("the path of a directory"),
        doc="Directory of the hard state, the log and the snapshots; made where it does not exist. A relative path "
        "starts at the working directory.",
    ),
    Setting(
        key="raft.logLevel",
        field="log_level",
        kind=Choice(("debug", "info", "warn", "error")),
        doc="What is logged: this level and the more important ones.",
    ),
    Setting(
        key="raft.snapshotInterval",
        field="snapshot_interval_seconds",
        kind=Seconds(0.01, 86_400 * 365),
        unit="seconds",
        doc="Time in which each node looks once whether a snapshot is due. The members take turns, the leader last.",
    ),
    Setting(
        key="raft.snapshotThreshold",
        field="snapshot_threshold_bytes",
        kind=Whole(1, 2**50),
        unit="bytes",
        doc="Size of the log since the last snapshot that makes one due.",
    ),
    Setting(
        key="raft.maxSnapshots",
        field="max_snapshots",
        kind=Whole(1, 1000),
        doc="How many snapshots are kept.",
    ),
    Setting(
        key="raft.snapshotRateLimit",
        field="snapshot_rate_bytes",
        kind=Whole(KIB, 64 * GIB),
        unit="bytes",
        doc="Bytes a second at which this node sends a snapshot to a member that needs one, each transfer by itself. "
        "One that breaks goes on from where it was.",
    ),
    Setting(
        key="raft.logCacheBytes",
        field="log_cache_bytes",
        kind=Whole(MIB, 64 * GIB),
        unit="bytes",
        doc="How much of the log's end is kept in memory, beside entries that are not on the disk or not committed "
        "yet. A member that is further behind is served from the disk, and a start loads no more than this.",
    ),
    Setting(
        key="raft.logSegmentBytes",
        field="log_segment_bytes",
        kind=Whole(64 * KIB, 4 * GIB),
        unit="bytes",
        doc="Size of the files that the log is written to. Each is allocated whole, and removed once a snapshot covers "
        "all of it.",
    ),
    Setting(
        key="raft.quickSync",
        field="quick_sync_seconds",
        kind=Seconds(0, 0.02),
        unit="seconds",
        doc="A follower whose syncs of the log take no longer than this on the average waits for each where it stands, "
        "which saves the way to the log's thread and back: a third of what a small write costs it. With a slower disk "
        "that thread does it, and always on the leader. 0: always that thread.",
    ),
    Setting(
        key="raft.diskReserve",
        field="disk_reserve_bytes",
        kind=Whole(0, 2**50),
        unit="bytes",
        doc="Room on the disk that is kept in reserve, in a file of the data directory. When the log has to draw on it "
        "the disk counts as full: the node goes on, and takes no more writes that need room, until all of it can be "
        "set aside again. Half of it is the log's, in whole segments, and is what a node promises to write whatever "
        "else uses the disk; the other half is for snapshots and short files. So at least twice "
        "`raft.logSegmentBytes`, and more lets a node whose disk is small take more at a time; 0 for none: the node "
        "then stops when the disk is full.",
    ),
    Setting(
        key="raft.archiveDir",
        field="archive_dir",
        kind=Text("the path of a directory"),
        derived="none: nothing is archived",
        doc="Directory to which committed entries of the log are written, so that a backup can be brought forward to "
        "any revision or time. It must exist. Each node has a folder of its own there, so that all may share one.",
    ),
    Setting(
        key="raft.archiveInterval",
        field="archive_interval_seconds",
        kind=Seconds(0.1, 86_400),
        unit="seconds",
        doc="Time after which a committed entry is in the archive: what may be lost with a node and its disk.",
    ),
    Setting(
        key="raft.archiveMaxLag",
        field="archive_max_lag_bytes",
        kind=Whole(0, 2**50),
        unit="bytes",
        doc="Size of the log that waits for an archive which cannot be written, before it is compacted all the same. "
        "What is missing in the archive then is replaced by a snapshot.",
    ),
    Setting(
        key="raft.peers",
        field="peers",
        kind=Peers(),
        derived="the node alone",
        doc="`{nodeID: advertisedAddr}` of the initial cluster, the same on each of its nodes, this one included. "
        "Read while the data directory is empty.",
    ),
    Setting(
        key="raft.join",
        field="join",
        kind=Addresses(),
        derived="none",
        doc="The `rpcAddr`s of a running cluster to join, in place of `raft.peers`.",
    ),
    Setting(
        key="raft.electionTimeout",
        field="election_timeout_seconds",
        kind=Seconds(0.05, 600),
        unit="seconds",
        doc="Time without a leader before a node campaigns, randomised between once and twice this. At least five "
        "times `raft.heartbeatInterval`.",
    ),
    Setting(
        key="raft.heartbeatInterval",
        field="heartbeat_interval_seconds",
        kind=Seconds(0.005, 60),
        unit="seconds",
        doc="Time between two heartbeats of a leader; also the length of a tick.",
    ),
    Setting(
        key="raft.leaseReads",
        field="lease_reads",
        kind=Boolean(),
        doc="Whether this node, where it leads, keeps a lease, so that reads with `consistency=lease` need no round "
        "trip between the nodes. They then rely on the clocks: see `raft.clockDriftBound`. Set it alike on all nodes, "
        "and when `raft.electionTimeout` is lowered, let each node stay down for as long as it was before.",
    ),
    Setting(
        key="raft.clockDriftBound",
        field="clock_drift_bound",
        kind=Share(0, 0.5),
        doc="How much faster or slower than true time the monotonic clock of any node may run, as a share of 1. Leases "
        "are shortened, and the staleness told with stale reads is lengthened, by so much. If a clock is worse, or "
        "stands still while its node does not (a virtual machine that is moved or restored), reads with "
        "`consistency=lease` may miss the newest writes; nothing else depends on it.",
    ),
)
