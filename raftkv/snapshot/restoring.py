"""Restoring a snapshot: a worker reads and checks the chunks, the reactor feeds them to the state in slices."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Iterator
from functools import partial
from typing import Generic, Protocol, TypeVar

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from raftkv.errors import InvariantViolation, ShuttingDown
from raftkv.persistence.calls import BlockingCalls
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader
from raftkv.snapshot.slices import SliceSettings

S = TypeVar("S", covariant=True)
T = TypeVar("T")


class ChunkSink(Protocol[S]):
    """Makes a state from the chunks of a snapshot; ``Restorer`` of the store is one."""

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk."""

    def finish(self) -> S:
        """Return the state, once every chunk has been fed."""


def restore_now(
    directory: SnapshotDirectory, info: SnapshotInfo, sink: ChunkSink[T], progress: Callable[[int, int], None]
) -> T:
    """Restore at once, blocking: for the start of a process, before the reactor has anything else to do.

    :param progress: called with chunks done and chunks in all.
    :raises raftkv.errors.CorruptData: the file does not check out (any more).
    """
    reader = directory.open(info)
    try:
        for number, chunk in enumerate(reader.chunks(), 1):
            sink.feed(chunk)
            progress(number, info.chunks)
    finally:
        reader.close()
    return sink.finish()


class SnapshotRestorer:
    """Restores snapshots without keeping the reactor from other work.

    :param clock: measures slices and pauses.
    :param calls: runs what blocks; started and stopped by its owner.
    :param directory: where the snapshots are.
    :param settings: see there.
    """

    def __init__(
        self, clock: IReactorTime, calls: BlockingCalls, directory: SnapshotDirectory, settings: SliceSettings
    ) -> None:
        self._clock = clock
        self._calls = calls
        self._directory = directory
        self._settings = settings

    def restore(
        self,
        info: SnapshotInfo,
        sink: ChunkSink[T],
        progress: Callable[[int, int], None] = lambda done, all_of_it: None,
    ) -> Deferred[T]:
        """Feed a snapshot to a sink.

        :param progress: called with chunks done and chunks in all.
        :return: fires with the state; cancelling it gives up. Fails with :exc:`raftkv.errors.CorruptData` where the
            file does not check out, or with what the sink raised.
        """
        restoring = _Restoring(self._clock, self._calls, sink, self._settings, lambda done: progress(done, info.chunks))
        return restoring.begin(partial(self._directory.open, info))


class _Restoring(Generic[T]):
    """One snapshot being restored: a bounded number of chunks is read ahead of those that are fed."""

    def __init__(
        self,
        clock: IReactorTime,
        calls: BlockingCalls,
        sink: ChunkSink[T],
        settings: SliceSettings,
        progress: Callable[[int], None],
    ) -> None:
        self._progress = progress
        self._fed = 0
        self._clock = clock
        self._calls = calls
        self._sink = sink
        self._settings = settings
        self._reader: SnapshotReader | None = None
        self._chunks: Iterator[bytes] = iter(())
        self._waiting: deque[bytes] = deque()
        self._asked = 0  # chunks that the worker has been asked for and has not brought yet
        self._exhausted = False
        self._next_slice: IDelayedCall | None = None
        self._ended = False
        self._finished: Deferred[T] = Deferred(lambda _deferred: self._end(Failure(CancelledError())))

    def begin(self, open_reader: partial[SnapshotReader]) -> Deferred[T]:
        self._calls.run(open_reader).addCallbacks(self._opened, self._end)
        return self._finished

    def _opened(self, reader: SnapshotReader) -> None:
        self._reader = reader
        if self._ended:
            self._close()
            return
        self._chunks = reader.chunks()
        self._read_ahead()

    def _read_ahead(self) -> None:
        while not self._exhausted and self._asked + len(self._waiting) < self._settings.max_waiting_chunks:
            self._asked += 1
            self._calls.run(partial(next, self._chunks, None)).addCallbacks(self._arrived, self._end)

    def _arrived(self, chunk: bytes | None) -> None:
        self._asked -= 1
        if self._ended:
            return
        if chunk is None:
            self._exhausted = True
        else:
            self._waiting.append(chunk)
        if self._next_slice is None:
            self._next_slice = self._clock.callLater(0, self._slice)

    def _slice(self) -> None:
        """Feed chunks until time is up or none is here."""
        self._next_slice = None
        end = self._clock.seconds() + self._settings.slice_seconds
        try:
            while self._waiting:
                self._sink.feed(self._waiting.popleft())
                self._fed += 1
                if self._clock.seconds() >= end:
                    break
            if self._exhausted and not self._waiting and not self._asked:
                self._end(self._sink.finish())
                return
            self._progress(self._fed)
        except Exception:  # what the sink refused is the restorer's failure, with its traceback
            self._end(Failure())
            return
        self._read_ahead()
        if self._waiting:
            self._next_slice = self._clock.callLater(self._settings.pause_seconds, self._slice)

    def _end(self, result: T | Failure) -> None:
        if self._ended:
            return
        self._ended = True
        self._waiting.clear()
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        if self._reader is not None:
            self._close()
        self._finished.callback(result)

    def _close(self) -> None:
        if self._reader is None:
            raise InvariantViolation("a snapshot was to be closed before it was open")
        # Behind the reads that are still under way.
        self._calls.run(self._reader.close).addErrback(self._close_here, self._reader)

    def _close_here(self, failure: Failure, reader: SnapshotReader) -> None:
        """The worker takes nothing more, for the node stops: so nothing reads any more either."""
        failure.trap(ShuttingDown)
        reader.close()
