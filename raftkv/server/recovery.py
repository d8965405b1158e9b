"""A cluster of one, made from the data directory of a survivor when the majority is gone for good. Offline; blocks.

The log and the hard state stay as they are; one entry is added, a configuration of a later term that holds only this
node. The directory gets another cluster id and another incarnation, so that no member of the old cluster will ever
talk to this one.

**Order.** The new identity is written to ``meta`` first, in one step, together with what is still to be done; only
then is anything else touched. A crash before leaves the old cluster's directory; a crash behind it leaves the new
one's, and whoever opens that next does the rest, every step of which may be repeated. The other way round, a crash
could leave a node that belongs to the old cluster and is sure to be alone in it.
"""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from raftkv.errors import ConfigurationError, CorruptData, InvariantViolation
from raftkv.interfaces import IBatchWorker, IDisk, Recovered
from raftkv.persistence.directory import SNAPSHOT_FOLDER
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import TEMPORARY_SUFFIX
from raftkv.persistence.log import LogSettings
from raftkv.persistence.membership import load_joined, refuse_removed
from raftkv.persistence.meta import Founding, Meta, load_meta, store_meta
from raftkv.persistence.storage import Storage
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import Entry, EntryKind, HardState
from raftkv.raft.ready import Write
from raftkv.snapshot.files import PARTIAL_SUFFIX, SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo


@dataclass(frozen=True, slots=True, kw_only=True)
class Survivor:
    """What the data directory of a survivor holds.

    :ivar meta: whose it is.
    :ivar term: the latest term that the node has seen.
    :ivar last_index: of the log, with its term ``last_term``.
    :ivar snapshot_index: the last entry in the newest readable snapshot, whose store has ``snapshot_revision``; 0 for
        no snapshot.
    :ivar kept_entries: how many entries lie behind the snapshot. Which of them were committed the directory does not
        say; all are kept.
    :ivar configuration: the latest in the log.
    """

    meta: Meta
    term: int
    last_index: int
    last_term: int
    snapshot_index: int
    snapshot_revision: int
    kept_entries: int
    configuration: Configuration


def survey(disk: IDisk, *, node_id: str, settings: LogSettings) -> Survivor:
    """Read the data directory of a survivor, and change nothing that a start of its node would not.

    :param disk: the directory, locked by the caller.
    :param node_id: whose directory it should be.
    :raises raftkv.errors.ConfigurationError: it is not that node's, or is no data directory, or its node was removed
        from the cluster: what it holds is of the time before that.
    :raises raftkv.errors.CorruptData: what is there cannot be trusted.
    """
    refuse_removed(disk)
    meta = load_meta(disk)
    if meta is None:
        raise ConfigurationError(f"{disk.root} holds no file meta: it is not the data directory of a node")
    if meta.node_id != node_id:
        raise ConfigurationError(f"data directory {disk.root} belongs to node {meta.node_id!r}, not to {node_id!r}")
    if meta.founding is not None:
        meta = finish_founding(disk, meta, settings)
    recovered, newest = _recover(disk, meta, settings)
    terms = recovered.terms
    snapshot_index = newest.meta.index if newest is not None else 0
    return Survivor(
        meta=meta,
        term=recovered.hard_state.term,
        last_index=terms.last_index,
        last_term=terms.last_term,
        snapshot_index=snapshot_index,
        snapshot_revision=newest.revision if newest is not None else 0,
        kept_entries=terms.last_index - snapshot_index,
        configuration=_latest_configuration(disk, recovered),
    )


def found_cluster(
    disk: IDisk, survivor: Survivor, *, raft_addr: str, make_id: Callable[[], str], settings: LogSettings
) -> Meta:
    """Make the survivor the only member of a new cluster; return its new identity.

    :param survivor: as :func:`survey` has just returned it.
    :param raft_addr: where other members are to reach it; empty for where they reached it so far.
    :param make_id: returns a new random id, as hex.
    :raises raftkv.errors.ConfigurationError: no address is known.
    """
    old = survivor.meta
    known = survivor.configuration.members.get(old.node_id, Member(id=old.node_id))
    incarnation = make_id()
    member = dataclasses.replace(known, incarnation=incarnation, raft_addr=raft_addr or known.raft_addr)
    if not member.raft_addr:
        raise ConfigurationError(f"the log does not say where {old.node_id} is reached; give --raft-addr")
    alone = Configuration(members={old.node_id: member}, voters=frozenset((old.node_id,)))
    new = Meta(
        cluster_id=make_id(),
        node_id=old.node_id,
        incarnation=incarnation,
        log_cluster_id=old.log_cluster_id or old.cluster_id,
        log_incarnation=old.log_incarnation or old.incarnation,
        former_cluster_id=old.cluster_id,
        founding=Founding(configuration=alone.encode().decode(), index=survivor.last_index + 1, term=survivor.term + 1),
    )
    store_meta(disk, new)
    return finish_founding(disk, new, settings)


def finish_founding(disk: IDisk, meta: Meta, settings: LogSettings) -> Meta:
    """Do what is left to be done for a directory that has got another identity; return the identity.

    :raises raftkv.errors.CorruptData: what is there cannot be trusted.
    """
    founding = meta.founding
    if founding is None:
        return meta
    _append(disk, meta, founding, settings)
    _adopt_snapshots(disk, meta)
    done = dataclasses.replace(meta, founding=None)
    store_meta(disk, done)
    return done


def _append(disk: IDisk, meta: Meta, founding: Founding, settings: LogSettings) -> None:
    """Let the new configuration be the last entry of the log, and its term the latest."""
    storage = _storage(disk, meta, settings)
    recovered = storage.recover()
    entry = Entry(
        index=founding.index,
        term=founding.term,
        kind=EntryKind.CONFIGURATION,
        payload=founding.configuration.encode(),
    )
    failures: list[BaseException] = []
    storage.start(lambda write_id: None, failures.append)
    if not recovered.entries or recovered.entries[-1] != entry:
        storage.write(Write(write_id=1, hard_state=HardState(term=founding.term), entries=(entry,)))
    storage.stop()
    if failures:
        raise failures[0]


def _adopt_snapshots(disk: IDisk, meta: Meta) -> None:
    """Write the newest snapshot again as one of the new cluster, then remove what only the old one could use.

    A copy of the old file would be refused by every member that joins the new cluster.
    """
    former, own = _snapshots(disk, meta.former_cluster_id), _snapshots(disk, meta.cluster_id)
    old, new = former.newest(), own.newest()
    if old is not None and (new is None or new.meta.index < old.meta.index):
        reader = former.open(old)
        try:
            writer = own.create(old.meta, old.revision)
            for chunk in reader.chunks():
                writer.write(chunk)
            writer.commit()
        finally:
            reader.close()
    useless = [info.name for info in former.list()]
    useless += [n for n in disk.names(SNAPSHOT_FOLDER) if n.endswith((TEMPORARY_SUFFIX, PARTIAL_SUFFIX))]
    with storage_errors("remove", f"{disk.root}/{SNAPSHOT_FOLDER}"):
        for name in useless:
            disk.remove(f"{SNAPSHOT_FOLDER}/{name}")
        disk.sync_folder(SNAPSHOT_FOLDER)


def _recover(disk: IDisk, meta: Meta, settings: LogSettings) -> tuple[Recovered, SnapshotInfo | None]:
    storage = _storage(disk, meta, settings)
    recovered = storage.recover()
    storage.stop()
    return recovered, _newest_snapshot(disk, meta)


def _storage(disk: IDisk, meta: Meta, settings: LogSettings) -> Storage:
    def newest_snapshot() -> Any:
        newest = _newest_snapshot(disk, meta)
        return newest.meta if newest is not None else None

    return Storage(
        disk,
        _InlineWorker(),
        _InlineWorker(),
        meta=meta,
        newest_snapshot=newest_snapshot,
        settings=settings,
        progress=lambda done, all_of_it: None,
    )


def _newest_snapshot(disk: IDisk, meta: Meta) -> SnapshotInfo | None:
    """Return the newest readable snapshot; one of the former cluster too, as long as it has not been adopted."""
    ids = [meta.cluster_id, meta.former_cluster_id] if meta.founding is not None else [meta.cluster_id]
    found = [info for cluster_id in ids if (info := _snapshots(disk, cluster_id).newest()) is not None]
    return max(found, key=lambda info: info.meta.index, default=None)


def _snapshots(disk: IDisk, cluster_id: str) -> SnapshotDirectory:
    def pass_over(error: CorruptData) -> None:
        """What cannot be read is not counted on; the log then has to reach back far enough, or recovery refuses."""

    return SnapshotDirectory(disk, cluster_id=cluster_id, unreadable=pass_over)


def _latest_configuration(disk: IDisk, recovered: Recovered) -> Configuration:
    if configurations := recovered.configurations:
        return Configuration.decode(configurations[-1].payload)
    if recovered.snapshot is not None:
        return recovered.snapshot.configuration
    joined = load_joined(disk)
    return joined.configuration if joined is not None and joined.configuration is not None else Configuration()


@implementer(IBatchWorker)
class _InlineWorker:
    """Does everything at once, in the thread of the caller: nothing else goes on in an offline directory."""

    def __init__(self) -> None:
        self._process: Callable[[list[Any]], None] | None = None
        self._done: Callable[[list[Any], BaseException | None], None] | None = None
        self._failed = False

    def start(
        self, process: Callable[[list[Any]], None], done: Callable[[list[Any], BaseException | None], None]
    ) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.start`."""
        self._process, self._done = process, done

    def submit(self, item: Any, *, here: bool = False) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.submit`."""
        if self._process is None or self._done is None:
            raise InvariantViolation("the worker got an item before it was started")
        if self._failed:
            return
        error: Exception | None = None
        try:
            self._process([item])
        except Exception as raised:  # reported, like a thread's
            error = raised
            self._failed = True
        self._done([item], error)

    def stop(self) -> Deferred[None]:
        """See :meth:`raftkv.interfaces.IBatchWorker.stop`."""
        return succeed(None)
