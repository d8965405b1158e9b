"""The configuration of a node: every setting in one table, and the way from a YAML file to frozen dataclasses.

The table :data:`SETTINGS` is the only list of what can be set. The parser walks it, the reference page of the manual
is made from it, and defaults are those of the dataclasses' fields, so that nothing is said twice. A mistake is one
sentence that names file, line, key, what was found and what was expected. Nothing here opens a socket or makes a
folder: whether a port is free or a directory can be written is found out by those who use them.
"""

from __future__ import annotations

import dataclasses
import difflib
import hashlib
import math
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from types import MappingProxyType
from typing import Any, Final, Literal, NoReturn

import yaml

from raftkv.errors import ConfigurationError
from raftkv.settings import (
    Address,
    Addresses,
    Boolean,
    Choice,
    Kind,
    ListenAddress,
    NodeId,
    Peers,
    ReachableAddress,
    Seconds,
    Share,
    Text,
    Whole,
    Wrong,
    describe,
)

__all__ = [
    "SETTINGS",
    "Address",
    "Limits",
    "LogLevel",
    "NodeConfig",
    "Setting",
    "cluster_id_of_peers",
    "load_config",
    "parse_config",
]

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB
HEARTBEATS_PER_ELECTION: Final = 5  #: fewer in an election timeout and one lost packet could depose a leader

_DEFAULT_RPC_ADDR: Final = Address("127.0.0.1", 8081)
_DEFAULT_HTTP_ADDR: Final = Address("127.0.0.1", 8080)
_DEFAULT_RAFT_BIND_ADDR: Final = Address("127.0.0.1", 8082)

LogLevel = Literal["debug", "info", "warn", "error"]


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """Bounds on what a node takes in; each field is documented in :data:`SETTINGS` under ``limits.``."""

    max_key_bytes: int = 4096
    max_value_bytes: int = MIB
    max_body_bytes: int = 8 * MIB
    max_buffered_body_bytes: int = 64 * MIB
    max_unread_bytes: int = 256 * MIB
    max_header_bytes: int = 32 * KIB
    request_timeout_seconds: float = 5.0
    leader_wait_seconds: float = 3.0
    header_timeout_seconds: float = 10.0
    body_timeout_seconds: float = 30.0
    idle_timeout_seconds: float = 75.0
    max_connections: int = 12_000
    max_batch_bytes: int = MIB
    max_batch_commands: int = 4096
    max_pending_writes: int = 65_536
    max_pending_bytes: int = 64 * MIB
    max_sessions: int = 10_000
    session_ttl_seconds: float = 3600.0
    max_transaction_operations: int = 128
    max_transaction_bytes: int = 3 * MIB // 2
    min_lease_ttl_seconds: float = 1.0
    max_lease_ttl_seconds: float = 86_400 * 365.0
    max_leases: int = 100_000
    max_lock_wait_seconds: float = 3600.0
    max_lock_waiters: int = 100_000
    max_watchers: int = 10_000
    watch_stall_seconds: float = 30.0
    watch_buffer_bytes: int = 64 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class NodeConfig:
    """Everything that one node is told; each field is documented in :data:`SETTINGS`.

    The three advertised addresses may be left empty here: they are then derived as the manual says, so that whoever
    reads the object always finds them.
    """

    node_id: str
    data_dir: str
    rpc_addr: Address = _DEFAULT_RPC_ADDR
    http_addr: Address = _DEFAULT_HTTP_ADDR
    raft_bind_addr: Address = _DEFAULT_RAFT_BIND_ADDR
    raft_advertised_addr: str = ""
    rpc_advertised_addr: str = ""
    http_advertised_addr: str = ""
    log_level: LogLevel = "info"
    snapshot_interval_seconds: float = 30.0
    snapshot_threshold_bytes: int = 64 * MIB
    max_snapshots: int = 5
    snapshot_rate_bytes: int = 64 * MIB
    log_cache_bytes: int = 32 * MIB
    log_segment_bytes: int = 64 * MIB
    disk_reserve_bytes: int = 128 * MIB
    archive_dir: str = ""
    archive_interval_seconds: float = 60.0
    archive_max_lag_bytes: int = GIB
    history_max_revisions: int = 100_000
    history_max_bytes: int = 64 * MIB
    history_max_age_seconds: float = 0.0
    peers: Mapping[str, str] = field(default_factory=lambda: MappingProxyType({}))
    join: tuple[str, ...] = ()
    election_timeout_seconds: float = 1.0
    heartbeat_interval_seconds: float = 0.1
    lease_reads: bool = False
    clock_drift_bound: float = 0.05
    http_access_log: bool = False
    limits: Limits = field(default_factory=Limits)

    def __post_init__(self) -> None:
        bind = self.raft_bind_addr
        raft = self.raft_advertised_addr or str(Address("127.0.0.1", bind.port) if bind.is_wildcard else bind)
        host = Address.parse(raft).host
        object.__setattr__(self, "raft_advertised_addr", raft)
        for name, listener in (("rpc_advertised_addr", self.rpc_addr), ("http_advertised_addr", self.http_addr)):
            object.__setattr__(self, name, getattr(self, name) or str(Address(host, listener.port)))

    @property
    def is_alone(self) -> bool:
        """Whether the node starts a cluster of one: it neither has other peers nor joins anybody."""
        return not self.join and set(self.peers) <= {self.node_id}

    @property
    def tick_interval_seconds(self) -> float:
        """The length of one tick of the core: one heartbeat."""
        return self.heartbeat_interval_seconds

    @property
    def election_ticks(self) -> int:
        """The minimum election timeout in ticks, rounded up."""
        # 1.1 / 0.1 is a little more than eleven in binary, and is meant to be eleven.
        return math.ceil(self.election_timeout_seconds / self.tick_interval_seconds - 1e-9)

    def initial_peers(self) -> Mapping[str, str]:
        """Return the members that a new cluster begins with: ``raft.peers``, or this node alone."""
        return self.peers or MappingProxyType({self.node_id: self.raft_advertised_addr})


@dataclass(frozen=True, slots=True, kw_only=True)
class Setting:
    """One line of the reference page.

    :ivar key: where it stands in the file, sections joined by dots.
    :ivar field: the attribute of :class:`NodeConfig`, or of :class:`Limits` for a key below ``limits``.
    :ivar kind: what it takes.
    :ivar unit: unit of the number, or empty.
    :ivar derived: how the default follows from others, where it is no constant; else empty.
    :ivar doc: what it means, for users; Markdown.
    """

    key: str
    field: str
    kind: Kind
    doc: str
    unit: str = ""
    derived: str = ""

    @property
    def default(self) -> object:
        """The default, or :data:`dataclasses.MISSING` where the setting is required."""
        owner = Limits if self.key.startswith("limits.") else NodeConfig
        found = next(entry for entry in dataclasses.fields(owner) if entry.name == self.field)
        if found.default is dataclasses.MISSING and found.default_factory is not dataclasses.MISSING:
            return found.default_factory()
        return found.default

    @property
    def required(self) -> bool:
        """Whether the file must have it."""
        return self.default is dataclasses.MISSING


SETTINGS: Final[tuple[Setting, ...]] = (
    Setting(
        key="rpcAddr",
        field="rpc_addr",
        kind=ListenAddress(),
        doc="Where the RPC server listens: the native client protocol, forwarding between nodes, joins. "
        '`":8081"` is every interface.',
    ),
    Setting(key="httpAddr", field="http_addr", kind=ListenAddress(), doc="Where the HTTP server listens."),
    Setting(
        key="rpcAdvertisedAddr",
        field="rpc_advertised_addr",
        kind=ReachableAddress(),
        derived="the host of `raft.advertisedAddr` with the port of `rpcAddr`",
        doc="What others use to reach the RPC server.",
    ),
    Setting(
        key="httpAdvertisedAddr",
        field="http_advertised_addr",
        kind=ReachableAddress(),
        derived="the host of `raft.advertisedAddr` with the port of `httpAddr`",
        doc="What others use to reach the HTTP server.",
    ),
    Setting(
        key="httpAccessLog",
        field="http_access_log",
        kind=Boolean(),
        doc="Whether each HTTP request is logged. It costs a fifth to a third of the HTTP throughput.",
    ),
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
        key="raft.diskReserve",
        field="disk_reserve_bytes",
        kind=Whole(0, 2**50),
        unit="bytes",
        doc="Room on the disk that is kept in reserve, in a file of the data directory. When the log has to draw on it "
        "the disk counts as full: the node goes on, and takes no more writes that need room, until all of it can be "
        "set aside again. At least twice `raft.logSegmentBytes`; 0 for none: the node then stops when the disk is "
        "full.",
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
    Setting(
        key="limits.maxKeyBytes",
        field="max_key_bytes",
        kind=Whole(1, 64 * KIB),
        unit="bytes",
        doc="Longest key that a write may have; a longer one is `413 too_large`.",
    ),
    Setting(
        key="limits.maxValueBytes",
        field="max_value_bytes",
        kind=Whole(1, 4 * MIB),  # with a batch, it must fit into one message of 8 MiB between nodes
        unit="bytes",
        doc="Longest value that a write may have; a longer one is `413 too_large`.",
    ),
    Setting(
        key="limits.maxBodyBytes",
        field="max_body_bytes",
        kind=Whole(KIB, GIB),
        unit="bytes",
        doc="Longest body of an HTTP request; a longer one is `413 too_large`. JSON can need six bytes for one of "
        "the value, so this is more than `limits.maxValueBytes`.",
    ),
    Setting(
        key="limits.maxBufferedBodyBytes",
        field="max_buffered_body_bytes",
        kind=Whole(KIB, 2**40),
        unit="bytes",
        doc="Memory that all HTTP requests still arriving may take together; past it they are `429 overloaded`.",
    ),
    Setting(
        key="limits.maxUnreadBytes",
        field="max_unread_bytes",
        kind=Whole(MIB, 2**40),
        unit="bytes",
        doc="Memory that HTTP answers whose clients do not read them may take together; past it the connection that "
        "has not read for the longest time is closed.",
    ),
    Setting(
        key="limits.maxHeaderBytes",
        field="max_header_bytes",
        kind=Whole(KIB, MIB),
        unit="bytes",
        doc="Longest request line and headers of an HTTP request, together.",
    ),
    Setting(
        key="limits.requestTimeout",
        field="request_timeout_seconds",
        kind=Seconds(0.05, 3600),
        unit="seconds",
        doc="Time after which a read or write that has no answer yet is `504 timeout`.",
    ),
    Setting(
        key="limits.leaderWait",
        field="leader_wait_seconds",
        kind=Seconds(0, 3600),
        unit="seconds",
        doc="Time that a request waits for a leader to be known before it is `503 no_leader`. No more than "
        "`limits.requestTimeout`.",
    ),
    Setting(
        key="limits.headerTimeout",
        field="header_timeout_seconds",
        kind=Seconds(0.05, 3600),
        unit="seconds",
        doc="Time for the headers of a request, or the first message on a msgpack port, to arrive.",
    ),
    Setting(
        key="limits.bodyTimeout",
        field="body_timeout_seconds",
        kind=Seconds(0.05, 3600),
        unit="seconds",
        doc="Time for the body of an HTTP request to arrive.",
    ),
    Setting(
        key="limits.idleTimeout",
        field="idle_timeout_seconds",
        kind=Seconds(0.05, 86_400),
        unit="seconds",
        doc="Time after which an HTTP connection without a request is closed.",
    ),
    Setting(
        key="limits.maxConnections",
        field="max_connections",
        kind=Whole(1, 1_000_000),
        doc="How many connections each listener holds at once; further ones are closed as they arrive.",
    ),
    Setting(
        key="limits.maxBatchBytes",
        field="max_batch_bytes",
        kind=Whole(KIB, 2 * MIB),
        unit="bytes",
        doc="Size at which a log entry takes no further command. One command that is larger by itself still gets an "
        "entry of its own.",
    ),
    Setting(
        key="history.maxRevisions",
        field="history_max_revisions",
        kind=Whole(0, 2**40),
        doc="How many past revisions can be read and watched; older ones are compacted. 0 for no bound.",
    ),
    Setting(
        key="history.maxBytes",
        field="history_max_bytes",
        kind=Whole(0, 2**40),
        unit="bytes",
        doc="How large the log entries may be, about, whose revisions can be read and watched; older ones are "
        "compacted. 0 for no bound.",
    ),
    Setting(
        key="history.maxAge",
        field="history_max_age_seconds",
        kind=Seconds(0, 86_400 * 3650),
        unit="seconds",
        doc="How long past revisions can be read and watched, in cluster time; older ones are compacted. 0 for no "
        "bound.",
    ),
    Setting(
        key="limits.maxBatchCommands",
        field="max_batch_commands",
        kind=Whole(1, 65_536),
        doc="How many commands one log entry holds.",
    ),
    Setting(
        key="limits.maxPendingWrites",
        field="max_pending_writes",
        kind=Whole(1, 10_000_000),
        doc="How many writes may wait for their commitment on one node; past it they are `429 overloaded`.",
    ),
    Setting(
        key="limits.maxPendingBytes",
        field="max_pending_bytes",
        kind=Whole(KIB, 2**40),
        unit="bytes",
        doc="How many bytes of writes may wait for their commitment; past it they are `429 overloaded`.",
    ),
    Setting(
        key="limits.maxSessions",
        field="max_sessions",
        kind=Whole(1, 10_000_000),
        doc="How many clients may have an exactly-once session at once; a further one gets `429 overloaded`.",
    ),
    Setting(
        key="limits.sessionTTL",
        field="session_ttl_seconds",
        kind=Seconds(1, 86_400 * 365),
        unit="seconds",
        doc="Time for which a session is kept after its last write.",
    ),
    Setting(
        key="limits.maxTransactionOperations",
        field="max_transaction_operations",
        kind=Whole(1, 10_000),
        doc="How many operations a transaction may have, and how many compares, those nested included; more is "
        "`400 bad_request`.",
    ),
    Setting(
        key="limits.maxTransactionBytes",
        field="max_transaction_bytes",
        kind=Whole(KIB, 6 * MIB),
        unit="bytes",
        doc="How large the keys and values of a transaction may be together; more is `413 too_large`.",
    ),
    Setting(
        key="limits.minLeaseTTL",
        field="min_lease_ttl_seconds",
        kind=Seconds(0.1, 3600),
        unit="seconds",
        doc="Shortest time to live of a lease, of a key and of a lock; a shorter one is `400 bad_request`.",
    ),
    Setting(
        key="limits.maxLeaseTTL",
        field="max_lease_ttl_seconds",
        kind=Seconds(1, 86_400 * 36_500),
        unit="seconds",
        doc="Longest time to live of a lease, of a key and of a lock; a longer one is `400 bad_request`.",
    ),
    Setting(
        key="limits.maxLeases",
        field="max_leases",
        kind=Whole(1, 100_000_000),
        doc="How many leases there may be, those of single keys and of locks included; a further one gets "
        "`429 overloaded`.",
    ),
    Setting(
        key="limits.maxLockWait",
        field="max_lock_wait_seconds",
        kind=Seconds(0, 86_400 * 365),
        unit="seconds",
        doc="Longest time that a request may wait for a lock; a longer one is `400 bad_request`.",
    ),
    Setting(
        key="limits.maxLockWaiters",
        field="max_lock_waiters",
        kind=Whole(1, 10_000_000),
        doc="How many may hold locks or wait for them; a further one gets `429 overloaded`.",
    ),
    Setting(
        key="limits.maxWatchers",
        field="max_watchers",
        kind=Whole(0, 1_000_000),
        doc="How many watches may be open on one node, long polls included; a further one gets `429 overloaded`. Each "
        "has a connection, so `limits.maxConnections` has to be larger.",
    ),
    Setting(
        key="limits.watchStall",
        field="watch_stall_seconds",
        kind=Seconds(0.1, 86_400),
        unit="seconds",
        doc="Time for which a watch may leave unread what it was told before it is cut off with an `overflow` event.",
    ),
    Setting(
        key="limits.watchBufferBytes",
        field="watch_buffer_bytes",
        kind=Whole(KIB, 64 * MIB),
        unit="bytes",
        doc="How much of what a watch was told may wait for its client to read it; what follows waits in the history. "
        "A single revision may exceed it.",
    ),
)

_BY_KEY: Final = {setting.key: setting for setting in SETTINGS}
_SECTIONS: Final = frozenset(key.rpartition(".")[0] for key in _BY_KEY if "." in key)


def cluster_id_of_peers(peers: Mapping[str, str]) -> str:
    """Return the id of the cluster that begins with these members: the same on each of them, without asking.

    A node alone that has no ``raft.peers`` takes a random id instead, else all such nodes would be one cluster.

    :param peers: ``raft.peers``.
    :return: 32 hex digits.
    """
    text = "".join(f"{name} {address}\n" for name, address in sorted(peers.items()))
    return hashlib.sha256(b"raftkv cluster 1\n" + text.encode()).hexdigest()[:32]


def load_config(path: str) -> NodeConfig:
    """Read the configuration of a node from a YAML file.

    :raises raftkv.errors.ConfigurationError: one line that says where it is wrong, what was found and what was
        expected.
    """
    try:
        text = Path(path).read_bytes()
    except OSError as error:
        raise ConfigurationError(f"{path}: the configuration cannot be read: {error.strerror}") from None
    return parse_config(text, path)


def parse_config(text: bytes | str, name: str) -> NodeConfig:
    """Read the configuration of a node from the text of a YAML file.

    :param name: what to call the file in messages.
    :raises raftkv.errors.ConfigurationError: as in :func:`load_config`.
    """
    document = _Document(name, _compose(text, name))
    values = document.values()
    limits = {s.field: values.pop(s.key) for s in SETTINGS if s.key.startswith("limits.") and s.key in values}
    settings: dict[str, Any] = {_BY_KEY[key].field: value for key, value in values.items()}
    config = NodeConfig(**settings, limits=Limits(**limits))
    _check_addresses(config, document)
    _check_cluster(config, document)
    _check_proportions(config, document)
    return config


def _compose(text: bytes | str, name: str) -> yaml.MappingNode:
    try:
        root = yaml.compose(text, Loader=yaml.SafeLoader)
    except yaml.MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        where = f"{name}, line {mark.line + 1}" if mark else name
        problem = " ".join(part for part in (error.problem, error.context) if part)
        raise ConfigurationError(f"{where}: found {problem or 'a mistake'}, expected valid YAML") from None
    except (yaml.YAMLError, UnicodeDecodeError, RecursionError) as error:
        reason = " ".join(str(error).split()) or type(error).__name__
        raise ConfigurationError(f"{name}: found {reason}, expected valid YAML in UTF-8") from None
    if not isinstance(root, yaml.MappingNode):
        raise ConfigurationError(f"{name}, line 1: found {describe(root)}, expected a mapping of settings")
    return root


class _Document:
    """A composed file: it finds values by their keys, and remembers their nodes for later complaints."""

    def __init__(self, name: str, root: yaml.MappingNode) -> None:
        self._name = name
        self._root = root
        self._nodes: dict[str, yaml.Node] = {}
        self._lines: dict[str, int] = {}

    def values(self) -> dict[str, Any]:
        """Return every value of the file by its key, each as its setting's kind reads it."""
        found: dict[str, Any] = {}
        for key, node in self._walk(self._root, ""):
            try:
                found[key] = _BY_KEY[key].kind.read(node)
            except Wrong as wrong:
                self._fail(f"{key}.{wrong.below}" if wrong.below else key, wrong.node, wrong.expected)
        for setting in SETTINGS:
            if setting.required and setting.key not in found:
                self.complain(setting.key, setting.kind.expected)
        return found

    def has(self, key: str) -> bool:
        """Tell whether the file sets this key."""
        return key in self._nodes

    def complain(self, key: str, expected: str) -> NoReturn:
        """Raise for the value of a setting that was read, or is missing."""
        node = self._nodes.get(key)
        section = self._nodes.get(key.rpartition(".")[0], self._root)
        self._raise(key, (node or section).start_mark.line, describe(node), expected)

    def _walk(self, mapping: yaml.MappingNode, section: str) -> Iterator[tuple[str, yaml.Node]]:
        # Keys are compared in full, so "raft.nodeID: x" at the top is the same setting as the one inside "raft:".
        for name, value in mapping.value:
            key = f"{section}{name.value}" if isinstance(name, yaml.ScalarNode) else describe(name)
            line = name.start_mark.line
            first = self._lines.setdefault(key, line)
            if key in self._nodes:
                self._raise(key, line, "it again", f"it once; it first stands in line {first + 1}")
            self._nodes[key] = value
            if key in _SECTIONS:
                if not isinstance(value, yaml.MappingNode):
                    self._fail(key, value, "a mapping of settings")
                yield from self._walk(value, f"{key}.")
            elif key in _BY_KEY:
                yield key, value
            else:
                self._raise(key, line, "an unknown key", _nearest(key))

    def _fail(self, key: str, node: yaml.Node, expected: str) -> NoReturn:
        self._raise(key, node.start_mark.line, describe(node), expected)

    def _raise(self, key: str, line: int, found: str, expected: str) -> NoReturn:
        shown = key if key.isprintable() and len(key) <= 80 else repr(key[:80])
        raise ConfigurationError(f"{self._name}, line {line + 1}: {shown}: found {found}, expected {expected}")


def _nearest(key: str) -> str:
    """Complete "expected …" for an unknown key."""
    known = {name.lower(): name for name in (*_BY_KEY, *_SECTIONS)}
    leaves = {name.rpartition(".")[2].lower(): name for name in _BY_KEY}
    plain = key.lower().replace("_", "").replace("-", "")
    # The whole key first; then its last part alone, for a setting that stands in the wrong section.
    for text, table in ((plain, known), (plain.rpartition(".")[2], leaves)):
        close = difflib.get_close_matches(text, table, n=1, cutoff=0.6)
        if close:
            return f"a known one; did you mean {table[close[0]]}?"
    return f"one of {', '.join(sorted({name.partition('.')[0] for name in _BY_KEY}))}"


def _check_addresses(config: NodeConfig, document: _Document) -> None:
    listeners = (
        ("rpcAddr", config.rpc_addr),
        ("httpAddr", config.http_addr),
        ("raft.bindAddr", config.raft_bind_addr),
    )
    for position, (key, address) in enumerate(listeners):
        for other, taken in listeners[:position]:
            shared = address.host == taken.host or address.is_wildcard or taken.is_wildcard
            if shared and address.port == taken.port:
                blamed, against = (key, other) if document.has(key) else (other, key)
                document.complain(blamed, f"another address than that of {against} ({dict(listeners)[against]})")


def _check_cluster(config: NodeConfig, document: _Document) -> None:
    if config.join and config.peers:
        document.complain("raft.join", "either raft.peers or raft.join, not both")
    if config.peers and config.node_id not in config.peers:
        document.complain("raft.peers", f"an entry for this node, {config.node_id}")
    if not config.is_alone and config.raft_bind_addr.is_wildcard and not document.has("raft.advertisedAddr"):
        document.complain(
            "raft.advertisedAddr",
            f"the address that other nodes use for this one, as raft.bindAddr ({config.raft_bind_addr}) names no host",
        )


def _check_proportions(config: NodeConfig, document: _Document) -> None:
    least = HEARTBEATS_PER_ELECTION * config.heartbeat_interval_seconds
    if config.election_timeout_seconds < least - 1e-9:
        document.complain(
            "raft.electionTimeout" if document.has("raft.electionTimeout") else "raft.heartbeatInterval",
            f"raft.electionTimeout ({config.election_timeout_seconds:g}) to be at least {HEARTBEATS_PER_ELECTION} "
            f"times raft.heartbeatInterval ({config.heartbeat_interval_seconds:g})",
        )
    if 0 < config.disk_reserve_bytes < 2 * config.log_segment_bytes:
        document.complain(
            "raft.diskReserve" if document.has("raft.diskReserve") else "raft.logSegmentBytes",
            f"raft.diskReserve ({config.disk_reserve_bytes}) to be 0, or at least twice raft.logSegmentBytes "
            f"({config.log_segment_bytes})",
        )
    limits = config.limits
    if limits.leader_wait_seconds > limits.request_timeout_seconds:
        key = "limits.leaderWait" if document.has("limits.leaderWait") else "limits.requestTimeout"
        document.complain(
            key,
            f"limits.leaderWait ({limits.leader_wait_seconds:g}) to be no more than limits.requestTimeout "
            f"({limits.request_timeout_seconds:g})",
        )
    if limits.max_body_bytes < limits.max_value_bytes:
        key = "limits.maxBodyBytes" if document.has("limits.maxBodyBytes") else "limits.maxValueBytes"
        document.complain(
            key,
            f"limits.maxBodyBytes ({limits.max_body_bytes}) to be no less than limits.maxValueBytes "
            f"({limits.max_value_bytes})",
        )
