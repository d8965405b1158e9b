"""Data directories for a new cluster, made of a state of an old one. Offline; blocks.

Each node of the new cluster makes its own directory, from the same backup, with the same options and the same
``raft.peers``. They need not talk to each other for that: the id of the cluster follows from what was restored and for
whom, so that nodes that have restored something different refuse each other.

The directory holds a snapshot and an empty log that goes on behind it. The snapshot's configuration names the new
members, without incarnations, as that of a cluster that begins: the first leader notes whom it has met. ``meta`` comes
last, and what a crash leaves is refused by a start, since there are snapshots that belong to nobody.

**Revisions** (B61). The new cluster begins at a later revision than the old one can have reached, and everything before
counts as compacted: :meth:`raftkv.kvstore.store.Store.begin_anew`.
"""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Callable
from dataclasses import dataclass

from raftkv.config import NodeConfig
from raftkv.errors import ConfigurationError
from raftkv.interfaces import IDisk
from raftkv.persistence.directory import SNAPSHOT_FOLDER, complete_directory, make_snapshot_folder
from raftkv.persistence.disk import LOCK_FILE
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.log import LOG_FOLDER, LogSettings
from raftkv.persistence.meta import Meta
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import SnapshotMeta
from raftkv.server.replay import Rebuilt
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo

_FOLDERS = (SNAPSHOT_FOLDER, LOG_FOLDER)

REVISION_MARGIN = 1_000_000_000  #: more than any cluster writes between a backup and its loss


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """A directory that was made.

    :ivar meta: whose it is.
    :ivar snapshot: what it begins with.
    :ivar old_revision: of the state that was restored; that of the snapshot is the new one.
    """

    meta: Meta
    snapshot: SnapshotInfo
    old_revision: int


def restore(
    disk: IDisk,
    rebuilt: Rebuilt,
    *,
    config: NodeConfig,
    margin: int,
    token: str,
    make_id: Callable[[], str],
    settings: LogSettings,
) -> Restored:
    """Make the data directory of one node of a new cluster.

    :param disk: the directory, locked by the caller, and empty.
    :param rebuilt: the state; used up.
    :param config: of the node.
    :param margin: by how much revisions rise.
    :param token: the same on all nodes of the new cluster, and another each time that the same backup is restored.
    :param make_id: returns a new random id, as hex.
    :raises raftkv.errors.ConfigurationError: the directory is not empty, or there is nothing to restore.
    :raises raftkv.errors.StorageError: it cannot be written; nothing is left in it then.
    """
    refuse_used(disk)
    if config.join:
        raise ConfigurationError(
            f"raft.join: {config.node_id} is to join a running cluster; restore for the nodes of raft.peers, start "
            "them, and let this one join them with an empty directory"
        )
    store, old_revision = rebuilt.store, rebuilt.store.revision
    if store.applied_index == 0:
        raise ConfigurationError("there is not one entry to restore")
    store.begin_anew(margin)
    peers = config.initial_peers()
    meta = Meta(
        cluster_id=make_id() if config.is_alone else _cluster_id(rebuilt, config, token),
        node_id=config.node_id,
        incarnation=make_id(),
        former_cluster_id=rebuilt.cluster_id,
    )
    configuration = Configuration(
        members={name: Member(id=name, raft_addr=peers[name]) for name in sorted(peers)}, voters=frozenset(peers)
    )
    replaces = SnapshotMeta(
        index=store.applied_index,
        term=rebuilt.term,
        configuration=configuration,
        configuration_index=store.applied_index,
    )
    try:
        make_snapshot_folder(disk)
        info = _write(disk, meta, replaces, rebuilt)
        complete_directory(disk, meta, settings)
    except BaseException:
        _clear(disk)
        raise
    return Restored(meta=meta, snapshot=info, old_revision=old_revision)


def refuse_used(disk: IDisk) -> None:
    """Refuse a directory that holds anything.

    :raises raftkv.errors.ConfigurationError: it does.
    """
    with storage_errors("read", disk.root):
        # A folder that is empty is what a refused attempt has left.
        names = [name for name in disk.names("") if name != LOCK_FILE and not _is_empty_folder(disk, name)]
    if names:
        raise ConfigurationError(
            f"data directory {disk.root} is not empty, there is {names[0]!r}; a backup is restored into an empty one"
        )


def _is_empty_folder(disk: IDisk, name: str) -> bool:
    return name in _FOLDERS and not disk.names(name)


def _clear(disk: IDisk) -> None:
    """Remove what was made in a directory that was empty; what cannot be removed is refused by the next attempt."""
    for folder in (*_FOLDERS, ""):
        for name in disk.names(folder):
            if name in (LOCK_FILE, *_FOLDERS):
                continue
            with contextlib.suppress(OSError):
                disk.remove(f"{folder}/{name}" if folder else name)


def _write(disk: IDisk, meta: Meta, replaces: SnapshotMeta, rebuilt: Rebuilt) -> SnapshotInfo:
    def unreadable(error: BaseException) -> None:
        """Nothing is read here but what has just been written, and that is verified by the writer."""

    directory = SnapshotDirectory(disk, cluster_id=meta.cluster_id, unreadable=unreadable)
    view = rebuilt.store.capture()
    try:
        writer = directory.create(replaces, rebuilt.store.revision)
        with storage_errors("fsync", f"{disk.root}/{SNAPSHOT_FOLDER}"):
            disk.sync_folder(SNAPSHOT_FOLDER)  # from now on nobody takes the directory for that of a new node
        for chunk in view:
            writer.write(chunk)
        return writer.commit()
    finally:
        view.close()


def _cluster_id(rebuilt: Rebuilt, config: NodeConfig, token: str) -> str:
    """Return the id of the new cluster: the same on each node that restores the same for the same members."""
    store = rebuilt.store
    peers = "".join(f"{name} {address}\n" for name, address in sorted(config.initial_peers().items()))
    state = f"{store.applied_index} {rebuilt.term} {store.revision} {store.cluster_time_ms} {store.digest()}\n"
    text = f"raftkv restored cluster 1\n{rebuilt.cluster_id}\n{state}{token!r}\n{peers}"
    return hashlib.sha256(text.encode()).hexdigest()[:32]
