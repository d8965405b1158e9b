"""The file ``meta`` of a data directory: whose it is. Its existence says that the directory was made completely.

The file is text, for people: one line of JSON, and one line with the checksum of the first. It is written once, last
of all, by :func:`raftkv.persistence.directory.open_directory`; and again only where a cluster of one is made from what
a lost majority has left behind (:mod:`raftkv.server.recovery`).
"""

from __future__ import annotations

import json
from dataclasses import dataclass
from typing import Any

import google_crc32c

from raftkv.errors import ConfigurationError, CorruptData
from raftkv.interfaces import IDisk
from raftkv.persistence.files import read_whole, write_whole

META_FILE = "meta"
FORMAT_VERSION = 1  #: of the whole directory: raised when an older program could not read it any more


@dataclass(frozen=True, slots=True, kw_only=True)
class Founding:
    """What is still to be done before a directory that got another identity may be used.

    :ivar configuration: of the new cluster, encoded; it becomes the last entry of the log.
    :ivar index: of that entry.
    :ivar term: of that entry, later than all that the directory knew.
    """

    configuration: str
    index: int
    term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Meta:
    """Whose data directory it is.

    :ivar cluster_id: hex.
    :ivar node_id: the member id.
    :ivar incarnation: hex, random, made together with the directory; a wiped and remade one has another.
    :ivar log_cluster_id: that with ``log_incarnation`` the log was made under, where this is not the first identity
        of the directory; else empty.
    :ivar former_cluster_id: of the identity before this one; empty for none.
    :ivar founding: what is still to be done for this identity; ``None`` for nothing.
    :ivar format_version: of the files in the directory.
    """

    cluster_id: str
    node_id: str
    incarnation: str
    log_cluster_id: str = ""
    log_incarnation: str = ""
    former_cluster_id: str = ""
    founding: Founding | None = None
    format_version: int = FORMAT_VERSION


def encode_meta(meta: Meta) -> bytes:
    """Return the content of the file."""
    value: dict[str, Any] = {
        "cluster_id": meta.cluster_id,
        "format_version": meta.format_version,
        "incarnation": meta.incarnation,
        "node_id": meta.node_id,
    }
    if meta.former_cluster_id:
        value["log"] = [meta.log_cluster_id, meta.log_incarnation]
        value["former_cluster_id"] = meta.former_cluster_id
    if meta.founding is not None:
        value["founding"] = [meta.founding.configuration, meta.founding.index, meta.founding.term]
    line = json.dumps(value, sort_keys=True).encode()
    return b"%b\ncrc32c:%08x\n" % (line, google_crc32c.value(line))


def decode_meta(data: bytes, path: str) -> Meta:
    """Return what :func:`encode_meta` wrote.

    :param path: of the file, for the error.
    :raises raftkv.errors.CorruptData: it is damaged.
    :raises raftkv.errors.ConfigurationError: a newer version of the program wrote it.
    """
    line, newline, checksum = data.partition(b"\n")
    if not newline or checksum != b"crc32c:%08x\n" % google_crc32c.value(line):
        raise CorruptData(path, 0, "the checksum of the file that says whose data this is does not match")
    value = json.loads(line)  # the checksum held, so these are our own bytes
    if value["format_version"] != FORMAT_VERSION:
        raise ConfigurationError(
            f"{path} is of format version {value['format_version']}, this program reads version {FORMAT_VERSION}; "
            "start the version of raftkv that wrote it"
        )
    log_cluster_id, log_incarnation = value.get("log", ("", ""))
    founding = value.get("founding")
    return Meta(
        cluster_id=value["cluster_id"],
        node_id=value["node_id"],
        incarnation=value["incarnation"],
        log_cluster_id=log_cluster_id,
        log_incarnation=log_incarnation,
        former_cluster_id=value.get("former_cluster_id", ""),
        founding=founding and Founding(configuration=founding[0], index=founding[1], term=founding[2]),
    )


def load_meta(disk: IDisk) -> Meta | None:
    """Read the file; ``None`` where there is none.

    :raises raftkv.errors.CorruptData: it is damaged.
    :raises raftkv.errors.ConfigurationError: a newer version of the program wrote it.
    """
    if not disk.exists(META_FILE):
        return None
    return decode_meta(read_whole(disk, META_FILE), f"{disk.root}/{META_FILE}")


def store_meta(disk: IDisk, meta: Meta) -> None:
    """Write the file so that a crash leaves it whole or absent (B44)."""
    write_whole(disk, META_FILE, encode_meta(meta))


def check_meta(meta: Meta, *, root: str, node_id: str, cluster_id: str | None) -> None:
    """Make sure that a directory belongs to the node that is to use it.

    :param root: path of the directory, for the message.
    :param node_id: as configured.
    :param cluster_id: as configured, or ``None`` where the directory decides.
    :raises raftkv.errors.ConfigurationError: it belongs to another node or cluster.
    """
    if meta.node_id != node_id:
        raise ConfigurationError(
            f"data directory {root} belongs to node {meta.node_id!r}, the configuration says {node_id!r}; "
            "set raft.nodeID back, or give this node a data directory of its own"
        )
    # What raft.peers says of the first members no longer holds for a cluster that was made from a survivor's directory.
    if cluster_id is not None and meta.cluster_id != cluster_id and not meta.former_cluster_id:
        raise ConfigurationError(
            f"data directory {root} belongs to cluster {meta.cluster_id}, the configuration says {cluster_id}; "
            "set raft.peers back, or give this node a data directory of its own"
        )
