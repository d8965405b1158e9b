"""Two small files beside ``meta``: ``joined`` of a node that came to a running cluster, ``removed`` of one that left.

Both are text, for people (see ``noting``). ``joined`` is written before ``meta``, so that a directory that is complete
knows how it began; ``removed`` is final. What follows from them is decided elsewhere.
"""

from __future__ import annotations

from dataclasses import dataclass

from raftkv.errors import ConfigurationError
from raftkv.interfaces import IDisk, Joined
from raftkv.persistence.meta import load_meta
from raftkv.persistence.noting import read_note, write_note
from raftkv.raft.configuration import Configuration

JOINED_FILE = "joined"
REMOVED_FILE = "removed"


@dataclass(frozen=True, slots=True, kw_only=True)
class RemovedNote:
    """That a node was removed.

    :ivar configuration_index: index of the committed configuration that it is no member of.
    """

    node_id: str
    cluster_id: str
    configuration_index: int


def store_joined(disk: IDisk, joined: Joined) -> None:
    """Write the file so that a crash leaves it whole, or as it was (B44). Blocks.

    :raises raftkv.errors.StorageError: it cannot be written.
    """
    configuration = joined.configuration.encode().decode() if joined.configuration is not None else None
    value = {
        "cluster_id": joined.cluster_id,
        "configuration": configuration,
        "configuration_index": joined.configuration_index,
        "incarnation": joined.incarnation,
    }
    write_note(disk, JOINED_FILE, value)


def load_joined(disk: IDisk) -> Joined | None:
    """Read the file; ``None`` where there is none. Blocks.

    :raises raftkv.errors.CorruptData: it is damaged.
    """
    value = read_note(disk, JOINED_FILE)
    if value is None:
        return None
    configuration = value["configuration"]
    return Joined(
        incarnation=value["incarnation"],
        cluster_id=value["cluster_id"],
        configuration=Configuration.decode(configuration.encode()) if configuration is not None else None,
        configuration_index=value["configuration_index"],
    )


def store_removed(disk: IDisk, removed: RemovedNote) -> None:
    """Write the file so that a crash leaves it whole or absent (B44). Blocks.

    :raises raftkv.errors.StorageError: it cannot be written.
    """
    value = {
        "cluster_id": removed.cluster_id,
        "configuration_index": removed.configuration_index,
        "node_id": removed.node_id,
    }
    write_note(disk, REMOVED_FILE, value)


def refuse_removed(disk: IDisk) -> None:
    """Let nobody start on the directory of a node that was removed: the votes it gave are forgotten by nobody (B7).

    A directory that has become that of another cluster since is not meant.

    :raises raftkv.errors.ConfigurationError: it is such a directory.
    :raises raftkv.errors.CorruptData: the file that says so is damaged.
    """
    value = read_note(disk, REMOVED_FILE)
    if value is None:
        return
    meta = load_meta(disk)
    if meta is None or meta.cluster_id == value["cluster_id"]:
        raise ConfigurationError(
            f"data directory {disk.root} belongs to node {value['node_id']!r}, which was removed from cluster "
            f"{value['cluster_id']}; to let it join again, give it an empty directory and raft.join"
        )
