"""How a node begins, as far as its disk and its configuration tell: who it is, and who its first members are.

It reads and makes what says so in a data directory; the asking of those who have none yet is left to
:mod:`raftkv.membership`.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger

from raftkv.config import NodeConfig, cluster_id_of_peers
from raftkv.errors import ConfigurationError
from raftkv.interfaces import Identity, IDisk, Joined, Recovered
from raftkv.persistence.directory import open_directory
from raftkv.persistence.log import LogSettings
from raftkv.persistence.membership import load_joined, store_joined
from raftkv.persistence.meta import Meta, check_meta, load_meta
from raftkv.raft.configuration import Configuration, Member

_log = Logger()


def has_begun(disk: IDisk) -> bool:
    """Tell whether it is known how the node began; whoever has no directory yet must ask.

    :raises raftkv.errors.CorruptData: what the disk says of it is damaged.
    """
    return load_meta(disk) is not None or joined_cluster(disk) is not None


def identity_to_begin_with(config: NodeConfig, disk: IDisk, *, make_id: Callable[[], str]) -> Identity:
    """Return who the node will be; its incarnation is on disk before anybody hears of it.

    A node that dies between asking and hearing the answer asks again as the same one, and may be a member already.
    """
    joined = load_joined(disk)
    if joined is None:
        joined = Joined(incarnation=make_id())
        store_joined(disk, joined)
    cluster_id = "" if config.join else cluster_id_of_peers(config.initial_peers())
    return identity_of(config, cluster_id, joined.incarnation)


def identity_of(config: NodeConfig, cluster_id: str, incarnation: str) -> Identity:
    """Return how a node names itself to others."""
    return Identity(
        cluster_id=cluster_id,
        node_id=config.node_id,
        incarnation=incarnation,
        raft_addr=config.raft_advertised_addr,
        rpc_addr=config.rpc_advertised_addr,
        http_addr=config.http_advertised_addr,
    )


def joined_cluster(disk: IDisk) -> Joined | None:
    """Return what a cluster said to the node when it was taken in, or to a founder; ``None`` until then."""
    joined = load_joined(disk)
    return joined if joined is not None and joined.configuration is not None else None


def open_origin(
    config: NodeConfig, joined: Joined | None, disk: IDisk, *, make_id: Callable[[], str], settings: LogSettings
) -> Meta:
    """Read what a data directory says of itself, and make a new one where there is none.

    :param joined: what the cluster said to a node that asked.
    :raises raftkv.errors.ConfigurationError: it belongs to another node, or the node must ask first.
    :raises raftkv.errors.CorruptData: it cannot be trusted.
    """

    def make_identity() -> tuple[str, str]:
        if joined is not None:
            return joined.cluster_id, joined.incarnation
        if config.join:
            raise ConfigurationError(f"raft.join: {config.node_id} has not been taken in yet; its directory is empty")
        cluster_id = make_id() if config.is_alone else cluster_id_of_peers(config.initial_peers())
        return cluster_id, make_id()

    return open_directory(
        disk,
        node_id=config.node_id,
        cluster_id=None,
        make_identity=make_identity,
        settings=settings,
    )


def check_origin(config: NodeConfig, joined: Joined | None, meta: Meta, recovered: Recovered, *, root: str) -> None:
    """Refuse to guess who is in the cluster.

    What the settings say of its first members counts until the log says who they are, and then not any more.

    :param root: path of the data directory, for the message.
    :raises raftkv.errors.ConfigurationError: the log names no members, and the directory was made for other peers.
    """
    knows = recovered.snapshot is not None or bool(recovered.configurations)
    if config.join:
        if joined is None and not knows:
            raise ConfigurationError(
                "raft.join: the data directory was made with raft.peers and names no members yet; expected raft.peers"
            )
        return
    if config.is_alone or meta.former_cluster_id or (joined is not None and not joined.is_founder):
        return
    configured = cluster_id_of_peers(config.initial_peers())
    if configured == meta.cluster_id:
        return
    if not knows:
        check_meta(meta, root=root, node_id=config.node_id, cluster_id=configured)
    _log.info(
        "{node_id}: raft.peers is not what the cluster began with, and is ignored: the log says who the members are",
        node_id=config.node_id,
    )


def initial_configuration(config: NodeConfig, joined: Joined | None = None) -> Configuration:
    """Return the configuration that a node begins with (index 0): the same on each founder of a cluster, and what the
    cluster said to one that joined."""
    if joined is not None and joined.configuration is not None:
        return joined.configuration
    peers = config.initial_peers()
    return Configuration(
        members={name: Member(id=name, raft_addr=peers[name]) for name in sorted(peers)}, voters=frozenset(peers)
    )
