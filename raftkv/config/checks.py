"""What settings have to do with each other: addresses that collide, a cluster without this node, proportions."""

from __future__ import annotations

from typing import Final

from raftkv.config.document import Document
from raftkv.config.model import NodeConfig

HEARTBEATS_PER_ELECTION: Final = 5  #: fewer in an election timeout and one lost packet could depose a leader


def check(config: NodeConfig, document: Document) -> None:
    """Make sure that the settings of a file go together.

    :raises raftkv.errors.ConfigurationError: they do not; it names the one that the file sets.
    """
    _check_addresses(config, document)
    _check_cluster(config, document)
    _check_proportions(config, document)


def _check_addresses(config: NodeConfig, document: Document) -> None:
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


def _check_cluster(config: NodeConfig, document: Document) -> None:
    if config.join and config.peers:
        document.complain("raft.join", "either raft.peers or raft.join, not both")
    if config.peers and config.node_id not in config.peers:
        document.complain("raft.peers", f"an entry for this node, {config.node_id}")
    if not config.is_alone and config.raft_bind_addr.is_wildcard and not document.has("raft.advertisedAddr"):
        document.complain(
            "raft.advertisedAddr",
            f"the address that other nodes use for this one, as raft.bindAddr ({config.raft_bind_addr}) names no host",
        )


def _check_proportions(config: NodeConfig, document: Document) -> None:
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
