"""Making a data directory, or finding whose it is.

The order is the point: ``meta`` comes last, so that it says "all the rest is there", and without it nobody can have
been promised anything. A crash in the middle of making a directory is mended by making it again (B44); files that
hold more than a new directory's, without ``meta``, are never taken for that.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.errors import CorruptData
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import read_whole, remove_temporary_files
from raftkv.persistence.hardstate import HARD_STATE_FILE, HardStateFile, create_hard_state
from raftkv.persistence.log import LOG_FOLDER, LogSettings, create_log
from raftkv.persistence.meta import Meta, check_meta, load_meta, store_meta
from raftkv.persistence.segment import HEADER_BYTES, log_identity, segment_name
from raftkv.raft.messages import HardState

SNAPSHOT_FOLDER = "snapshots"


def open_directory(
    disk: IDisk,
    *,
    node_id: str,
    cluster_id: str | None,
    make_identity: Callable[[], tuple[str, str]],
    settings: LogSettings,
) -> Meta:
    """Return whose directory this is; make it first where it is new. Blocks.

    :param node_id: as configured.
    :param cluster_id: as configured, or ``None`` where an existing directory decides.
    :param make_identity: returns the cluster id and a random incarnation for a new directory; not called for another.
    :raises raftkv.errors.ConfigurationError: it belongs to another node or cluster, or to a newer program.
    :raises raftkv.errors.CorruptData: it holds data, but not what says whose.
    """
    meta = load_meta(disk)
    if meta is not None:
        check_meta(meta, root=disk.root, node_id=node_id, cluster_id=cluster_id)
        remove_temporary_files(disk, "")
        return meta
    _refuse_data_without_meta(disk)
    new_cluster_id, incarnation = make_identity()
    meta = Meta(cluster_id=new_cluster_id, node_id=node_id, incarnation=incarnation)
    make_snapshot_folder(disk)
    remove_temporary_files(disk, "")
    complete_directory(disk, meta, settings)
    return meta


def make_snapshot_folder(disk: IDisk) -> None:
    """Make the folder of snapshots. As soon as something is in it, nobody takes the directory for an empty one."""
    with storage_errors("create", f"{disk.root}/{SNAPSHOT_FOLDER}"):
        disk.make_folder(SNAPSHOT_FOLDER)
        disk.sync_folder("")


def complete_directory(disk: IDisk, meta: Meta, settings: LogSettings) -> None:
    """Make what is missing of a directory: a hard state without a vote, an empty log, and last of all ``meta``."""
    create_hard_state(disk)
    create_log(disk, log_identity(meta.cluster_id, meta.incarnation), settings)
    store_meta(disk, meta)


def _refuse_data_without_meta(disk: IDisk) -> None:
    """Raise unless what is there can be what a crash left of making a new directory."""

    def refuse(name: str, what: str) -> None:
        raise CorruptData(f"{disk.root}/{name}", 0, f"{what}, although the file meta, which says whose it is, is gone")

    if disk.names(SNAPSHOT_FOLDER):
        refuse(SNAPSHOT_FOLDER, "there are snapshots")
    segments = [name for name in disk.names(LOG_FOLDER) if name.endswith(".segment")]
    first = f"{LOG_FOLDER}/{segment_name(1)}"
    if segments and (segments != [segment_name(1)] or read_whole(disk, first)[HEADER_BYTES:].strip(b"\0")):
        refuse(LOG_FOLDER, "there is a log")
    if disk.exists(HARD_STATE_FILE):
        file = HardStateFile(disk)
        file.close()
        if file.newest.hard_state != HardState():
            refuse(HARD_STATE_FILE, "there is a vote or a term")
