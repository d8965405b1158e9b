"""Backups of one node: snapshots that an operator asks for, and the way to their bytes.

When a snapshot is taken, and how, is the snapshotter's business; here is only what a request adds: how fresh the state
must be, one snapshot for several requests that can share it, and a file that stays while it is read.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, TypeVar

from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.errors import Conflict, CorruptData, Fenced, NotFound, RaftKVError, ShuttingDown, StorageError
from raftkv.interfaces import Consistency, IBackup, IBackups
from raftkv.kvstore import Store
from raftkv.persistence.calls import BlockingCalls
from raftkv.raft.node import RaftNode
from raftkv.server.archiving import Archiver
from raftkv.server.snapshotter import Snapshotter
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader

T = TypeVar("T")

Barrier = Callable[[Consistency, Callable[[RaftKVError | None], None]], None]


def describe(info: SnapshotInfo) -> dict[str, Any]:
    """Return what a snapshot is, as the HTTP API tells it."""
    return {
        "cluster_id": info.cluster_id,
        "index": info.meta.index,
        "term": info.meta.term,
        "revision": info.revision,
        "bytes": info.size_bytes,
        "checksum": info.digest,
    }


@implementer(IBackup)
class OpenBackup:
    """A snapshot that is being read.

    :param may_give: tells whether it is fit to be given away: not once the state is known to be wrong.
    """

    def __init__(
        self,
        reader: SnapshotReader,
        directory: SnapshotDirectory,
        calls: BlockingCalls,
        *,
        may_give: Callable[[], bool],
    ) -> None:
        self.facts = describe(reader.info)
        self._reader: SnapshotReader | None = reader
        self._directory = directory
        self._calls = calls
        self._may_give = may_give

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        """See :class:`IBackup`."""
        reader = self._reader
        if reader is None or not self._may_give():
            return fail(Fenced())
        return self._calls.run(partial(reader.read_raw, offset, length)).addErrback(_refusal)

    def close(self) -> None:
        """See :class:`IBackup`."""
        reader, self._reader = self._reader, None
        if reader is not None:
            # Behind the reads that are still under way.
            self._calls.run(partial(self._directory.unpin, reader)).addErrback(_close_here, reader)


@implementer(IBackups)
class Backups:
    """The snapshots of a node that takes part in its cluster.

    :param node: its core.
    :param store: returns its state.
    :param barrier: waits until the state may be read.
    :param may_give: tells whether the state, and so its snapshots, are known to be right.
    :param times_doubted: returns how often they were known to be wrong: what was opened before is given no further,
        even where the state is right again.
    :param archiver: of the log; ``None`` where it is not archived.
    """

    def __init__(
        self,
        *,
        node: RaftNode,
        store: Callable[[], Store],
        barrier: Barrier,
        snapshotter: Snapshotter,
        directory: SnapshotDirectory,
        calls: BlockingCalls,
        may_give: Callable[[], bool],
        times_doubted: Callable[[], int] = lambda: 0,
        archiver: Archiver | None = None,
    ) -> None:
        self._archiver = archiver
        self._node = node
        self._store = store
        self._barrier = barrier
        self._snapshotter = snapshotter
        self._directory = directory
        self._calls = calls
        self._may_give = may_give
        self._times_doubted = times_doubted

    def take(self, consistency: Consistency) -> Deferred[dict[str, Any]]:
        """See :class:`IBackups`."""
        return ensureDeferred(self._take(consistency)).addCallback(describe).addErrback(_refusal)

    def list(self) -> Deferred[list[dict[str, Any]]]:
        """See :class:`IBackups`."""
        listing: Deferred[Any] = self._run(self._directory.list)
        return listing.addCallback(lambda found: [describe(info) for info in found]).addErrback(_refusal)

    def open(self, consistency: Consistency | None) -> Deferred[IBackup]:
        """See :class:`IBackups`."""
        return ensureDeferred(self._open(consistency)).addErrback(_refusal)

    def open_again(self, checksum: str) -> Deferred[IBackup | None]:
        """See :class:`IBackups`."""
        opening: Deferred[Any] = self._run(partial(self._directory.open_pinned, checksum))
        return opening.addCallback(lambda reader: reader and self._opened(reader)).addErrback(_refusal)

    def archive(self) -> Deferred[dict[str, Any]]:
        """See :class:`IBackups`."""
        if self._archiver is None:
            return fail(NotFound("raft.archiveDir is not set: this node archives nothing"))
        return self._archiver.archive_now()

    async def _take(self, consistency: Consistency) -> SnapshotInfo:
        await self._until_readable(consistency)
        wanted = self._store().applied_index
        while True:
            await self._snapshotter.when_idle()
            if self._snapshotter.is_busy:
                continue  # another request was told, too, and has begun already
            if self._node.snapshot_index < wanted or wanted == 0:
                return await self._snapshotter.take()
            found = await self._run(self._directory.newest)
            if found is not None and found.meta.index >= wanted:
                return found
            if not self._snapshotter.is_busy:
                return await self._snapshotter.take(renews=True)  # the one that was there has rotted

    async def _open(self, consistency: Consistency | None) -> IBackup:
        if consistency is not None:
            await self._take(consistency)
        reader = await self._run(self._directory.open_pinned)
        if reader is None:
            await self._take(consistency or "linearizable")
            reader = await self._run(self._directory.open_pinned)
        if reader is None:
            raise Conflict("the snapshot that has just been taken cannot be read")
        return self._opened(reader)

    def _opened(self, reader: SnapshotReader) -> IBackup:
        doubted = self._times_doubted()
        return OpenBackup(
            reader,
            self._directory,
            self._calls,
            may_give=lambda: self._may_give() and self._times_doubted() == doubted,
        )

    def _until_readable(self, consistency: Consistency) -> Deferred[None]:
        readable: Deferred[None] = Deferred()

        def done(error: RaftKVError | None) -> None:
            if error is None:
                readable.callback(None)
            else:
                readable.errback(error)

        self._barrier(consistency, done)
        return readable

    def _run(self, function: Callable[[], T]) -> Deferred[T]:
        return self._calls.run(function) if self._may_give() else fail(Fenced())


@implementer(IBackups)
class NoBackups:
    """Those of a node that takes no part in its cluster yet.

    :param refusal: returns why.
    """

    def __init__(self, refusal: Callable[[], RaftKVError]) -> None:
        self._refusal = refusal

    def take(self, consistency: Consistency) -> Deferred[dict[str, Any]]:
        """See :class:`IBackups`."""
        return fail(self._refusal())

    def list(self) -> Deferred[list[dict[str, Any]]]:
        """See :class:`IBackups`."""
        return fail(self._refusal())

    def open(self, consistency: Consistency | None) -> Deferred[IBackup]:
        """See :class:`IBackups`."""
        return fail(self._refusal())

    def open_again(self, checksum: str) -> Deferred[IBackup | None]:
        """See :class:`IBackups`."""
        return fail(self._refusal())

    def archive(self) -> Deferred[dict[str, Any]]:
        """See :class:`IBackups`."""
        return fail(self._refusal())


def _refusal(failure: Failure) -> Failure:
    """Tell whoever asked: what befell the disk, or the snapshot, has stopped the node by now, where it had to."""
    if failure.check(CancelledError):
        return Failure(Conflict("the snapshot was given up, for another state has come"))
    if failure.check(CorruptData):
        return Failure(Conflict(str(failure.value)))
    if failure.check(StorageError):
        return Failure(ShuttingDown())
    return failure


def _close_here(failure: Failure, reader: SnapshotReader) -> None:
    """The worker takes nothing more, for the node stops: so nothing reads any more either."""
    failure.trap(ShuttingDown)
    reader.close()
