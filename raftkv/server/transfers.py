"""The snapshot files of a node as the transfer between members sees them: one side reads, the other receives.

Everything that blocks runs on the worker that also writes our own snapshots, but for opening a file, which is a few
reads of its ends. Knows files and transfers, not what an installed snapshot means.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.errors import Conflict, CorruptData, NoRoom, StorageError
from raftkv.persistence.calls import BlockingCalls
from raftkv.protocols.snapshots import ISnapshotFile, ISnapshotSink, ISnapshotSource
from raftkv.raft.messages import SnapshotMeta
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader
from raftkv.snapshot.writing import SnapshotReceiver

T = TypeVar("T")


@implementer(ISnapshotFile)
class OpenSnapshot:
    """A file that is being sent."""

    def __init__(self, reader: SnapshotReader, calls: BlockingCalls) -> None:
        self.meta = reader.info.meta
        self.size = reader.info.size_bytes
        self.digest = reader.info.digest
        self._reader = reader
        self._calls = calls

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        """See :class:`ISnapshotFile`."""
        return self._calls.run(partial(self._reader.read_raw, offset, length))

    def close(self) -> None:
        """See :class:`ISnapshotFile`."""
        self._reader.close()


@implementer(ISnapshotSource)
class SnapshotSource:
    """The snapshots that a leader may send.

    :param found: told the index of the newest one that checks out each time that one is wanted, 0 for none: where
        that is not the newest that we count on, another has to be taken.
    :param may_send: tells whether they are fit for others.
    :param fatal: called when our own disk fails.
    """

    def __init__(
        self,
        directory: SnapshotDirectory,
        calls: BlockingCalls,
        *,
        found: Callable[[int], None],
        may_send: Callable[[], bool] = lambda: True,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._directory = directory
        self._calls = calls
        self._found = found
        self._may_send = may_send
        self._fatal = fatal

    def newest(self) -> Deferred[ISnapshotFile | None]:
        """See :class:`ISnapshotSource`."""
        if not self._may_send():
            return succeed(None)
        return self._calls.run(self._directory.open_newest).addCallbacks(self._opened, self._not_opened)

    def _opened(self, reader: SnapshotReader | None) -> ISnapshotFile | None:
        self._found(0 if reader is None else reader.info.meta.index)
        return None if reader is None else OpenSnapshot(reader, self._calls)

    def _not_opened(self, failure: Failure) -> Failure:
        if isinstance(failure.value, StorageError):
            self._fatal(failure.value)
        return failure


@implementer(ISnapshotSink)
class SnapshotSink:
    """Where the snapshot of a leader arrives.

    :param is_wanted: tells whether a snapshot would bring anything new; one that does not is refused at the offer.
    :param received: told of each one that is whole and safe on our disk, just before its sender is.
    :param fatal: called when our own disk fails. One without room for the file that arrives is no such failure: what
        is there of the file is removed, and it can be sent again. What is wrong with it is the sender's matter.
    """

    def __init__(
        self,
        directory: SnapshotDirectory,
        calls: BlockingCalls,
        *,
        is_wanted: Callable[[SnapshotMeta], bool],
        received: Callable[[SnapshotMeta], None] = lambda snapshot: None,
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._directory = directory
        self._calls = calls
        self._is_wanted = is_wanted
        self._received = received
        self._fatal = fatal
        self._receiver: SnapshotReceiver | None = None
        self._generation = 0

    def begin(self, meta: SnapshotMeta, size: int, digest: str) -> Deferred[int]:
        """See :class:`ISnapshotSink`."""
        if not self._is_wanted(meta):
            return fail(Conflict(f"the state up to {meta.index} is here already"))
        self._generation += 1
        opening = partial(self._directory.receive, index=meta.index, term=meta.term, size_bytes=size, digest=digest)
        return self._run(opening).addCallback(self._opened, self._generation)

    def _opened(self, receiver: SnapshotReceiver, generation: int) -> int:
        if generation != self._generation:
            self._set_aside(receiver)
            raise Conflict("the transfer was given up")
        self._receiver = receiver
        return receiver.offset

    def write(self, offset: int, data: bytes) -> Deferred[None]:
        """See :class:`ISnapshotSink`."""
        receiver = self._current()
        return self._run(partial(receiver.write, offset, data), receiver)

    def finish(self) -> Deferred[SnapshotMeta]:
        """See :class:`ISnapshotSink`."""
        receiver = self._current()
        self._receiver = None
        return self._run(receiver.install, receiver).addCallback(self._installed)

    def _installed(self, info: SnapshotInfo) -> SnapshotMeta:
        self._received(info.meta)
        return info.meta

    def abort(self) -> None:
        """See :class:`ISnapshotSink`."""
        self._generation += 1
        receiver, self._receiver = self._receiver, None
        if receiver is not None:
            self._set_aside(receiver)

    def _set_aside(self, receiver: SnapshotReceiver) -> None:
        self._run(receiver.pause, receiver).addErrback(lambda failure: None)

    def _run(self, function: Callable[[], T], receiver: SnapshotReceiver | None = None) -> Deferred[T]:
        return self._calls.run(function).addErrback(self._judge, receiver)

    def _judge(self, failure: Failure, receiver: SnapshotReceiver | None) -> Failure:
        error = failure.value
        if not isinstance(error, StorageError) or isinstance(error, CorruptData):
            return failure
        if receiver is None or receiver.is_whole:
            self._fatal(error)
            return failure
        # What a failed write or sync has left must not be gone on with, after a restart either: it may read as if it
        # were there (B43).
        if receiver is self._receiver:
            self._receiver = None
        self._calls.run(receiver.abort).addBoth(self._removed, error)
        return failure

    def _removed(self, result: Failure | None, error: StorageError) -> None:
        if isinstance(result, Failure) and isinstance(result.value, StorageError):
            self._fatal(result.value)
        elif not isinstance(error, NoRoom):
            self._fatal(error)

    def _current(self) -> SnapshotReceiver:
        if self._receiver is None:
            raise Conflict("no snapshot is being received")
        return self._receiver
