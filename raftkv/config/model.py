"""What a node is told, as frozen dataclasses: their fields, their defaults, and what follows from others.

Knows nothing of files; what each field means to users, and what it takes, stands in :mod:`raftkv.config.sections`.
"""

from __future__ import annotations

import hashlib
import math
from collections.abc import Mapping
from dataclasses import dataclass, field
from types import MappingProxyType
from typing import Final, Literal

from raftkv.config.address import Address

KIB: Final = 1024
MIB: Final = 1024 * KIB
GIB: Final = 1024 * MIB

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
    quick_sync_seconds: float = 0.002
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


def cluster_id_of_peers(peers: Mapping[str, str]) -> str:
    """Return the id of the cluster that begins with these members: the same on each of them, without asking.

    A node alone that has no ``raft.peers`` takes a random id instead, else all such nodes would be one cluster.

    :param peers: ``raft.peers``.
    :return: 32 hex digits.
    """
    text = "".join(f"{name} {address}\n" for name, address in sorted(peers.items()))
    return hashlib.sha256(b"raftkv cluster 1\n" + text.encode()).hexdigest()[:32]
