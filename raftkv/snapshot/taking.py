"""Taking a snapshot while writes go on: chunks are made in slices in the reactor, and written by a worker."""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import Final, Protocol

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from raftkv.errors import InvariantViolation, NoRoom, SnapshotFailed
from raftkv.persistence.calls import BlockingCalls
from raftkv.raft.messages import SnapshotMeta
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo
from raftkv.snapshot.slices import SliceSettings
from raftkv.snapshot.writing import SnapshotWriter

_CALM_SLICES: Final = 8  # in a row that come in time before a reactor that was busy is taken for idle


class ChunkSource(Protocol):
    """The state of one moment, as chunks that are made as they are asked for; ``Store.capture()`` returns one."""

    def __iter__(self) -> Iterator[bytes]:
        """Begin; called once."""

    def close(self) -> None:
        """Nobody will ask for more; the state need not be kept any longer."""


class SnapshotTaker:
    """Takes one snapshot at a time.

    :param clock: measures slices and pauses.
    :param calls: runs what blocks; started and stopped by its owner.
    :param directory: where the snapshot goes.
    :param settings: see there.
    """

    def __init__(
        self, clock: IReactorTime, calls: BlockingCalls, directory: SnapshotDirectory, settings: SliceSettings
    ) -> None:
        self._clock = clock
        self._calls = calls
        self._directory = directory
        self._settings = settings
        self._taking: _Taking | None = None

    @property
    def is_busy(self) -> bool:
        """Whether a snapshot is being taken."""
        return self._taking is not None

    def take(self, view: ChunkSource, meta: SnapshotMeta, revision: int) -> Deferred[SnapshotInfo]:
        """Write a snapshot of a captured state.

        :param view: closed once it is not needed any more, whatever happens.
        :param meta: of the entry up to which the state goes; that entry must be on this node's own disk.
        :param revision: of the state.
        :return: fires once the file is whole, safe on the medium and read back. Fails with
            :exc:`raftkv.errors.SnapshotFailed` where there was no room for it, with what the view raised, or with
            :exc:`twisted.internet.defer.CancelledError` after :meth:`cancel`; nothing is left of it then. Fails with
            :exc:`raftkv.errors.StorageError` where the disk fails in any other way.
        """
        if self._taking is not None:
            raise InvariantViolation("a snapshot was to be taken while another one is being taken")
        self._taking = _Taking(self._clock, self._calls, view, self._settings)
        finished = self._taking.begin(partial(self._directory.create, meta, revision))
        return finished.addBoth(self._finished)

    def cancel(self) -> Deferred[None]:
        """Give up what is being taken; fires once nothing is left of it."""
        if self._taking is None:
            idle: Deferred[None] = Deferred()
            idle.callback(None)
            return idle
        return self._taking.cancel()

    def _finished(self, result: SnapshotInfo | Failure) -> SnapshotInfo | Failure:
        self._taking = None
        return result


class _Taking:
    """One snapshot being taken.

    Chunks are made in slices while fewer than the bound are on their way to the disk; the first thing that goes wrong
    ends it. Nobody waits for a snapshot, so that a busy reactor gives it a small part of its time only: every second
    millisecond, which an idle one can spare, would halve the throughput of a leader that has no second to lose.
    """

    def __init__(self, clock: IReactorTime, calls: BlockingCalls, view: ChunkSource, settings: SliceSettings) -> None:
        self._clock = clock
        self._calls = calls
        self._view = view
        self._settings = settings
        self._chunks: Iterator[bytes] = iter(())
        self._writer: SnapshotWriter | None = None
        self._waiting_chunks = 0
        self._next_slice: IDelayedCall | None = None
        self._due = clock.seconds()  # when the next slice was to come
        self._pause_seconds = settings.pause_seconds
        self._gentle_slices = 0  # that are left until the reactor is taken for idle
        self._ending = False  # no more chunks are made: the file is being finished, or removed
        self._failure: Failure | None = None  # the first thing that went wrong
        self._finished: Deferred[SnapshotInfo] = Deferred()
        self._cancelled: list[Deferred[None]] = []

    def begin(self, create: partial[SnapshotWriter]) -> Deferred[SnapshotInfo]:
        self._calls.run(create).addCallbacks(self._created, self._not_created)
        return self._finished

    def cancel(self) -> Deferred[None]:
        cancelled: Deferred[None] = Deferred()
        self._cancelled.append(cancelled)
        self._give_up(Failure(CancelledError("the snapshot was given up")))
        return cancelled

    def _created(self, writer: SnapshotWriter) -> None:
        self._writer = writer
        if self._ending:
            self._remove()
            return
        self._chunks = iter(self._view)
        self._due = self._clock.seconds()
        self._slice()

    def _slice(self) -> None:
        """Make chunks until time is up, the queue is full, or there are no more."""
        self._next_slice = None
        writer = self._writer
        if writer is None:
            raise InvariantViolation("a chunk was to be made before there was a file")
        settings, began = self._settings, self._clock.seconds()
        is_busy = self._is_reactor_busy(began)
        end = began if is_busy else began + settings.slice_seconds
        while self._waiting_chunks < self._settings.max_waiting_chunks:
            try:
                chunk = next(self._chunks, None)
            except Exception:  # the state could not be written: that is the taker's failure, with its traceback
                self._give_up(Failure())
                return
            if chunk is None:
                self._commit(writer)
                return
            self._waiting_chunks += 1
            self._calls.run(partial(writer.write, chunk)).addCallbacks(self._written, self._give_up)
            if self._clock.seconds() >= end:
                break
        took_seconds = self._clock.seconds() - began
        busy_seconds = min(settings.busy_pauses * took_seconds, settings.longest_pause_seconds)
        self._pause_seconds = max(settings.pause_seconds, busy_seconds) if is_busy else settings.pause_seconds
        self._schedule()

    def _is_reactor_busy(self, now: float) -> bool:
        """Tell whether a slice came late, or one did of late: a busy reactor is on time now and then."""
        if now - self._due > self._settings.late_seconds:
            self._gentle_slices = _CALM_SLICES
        else:
            self._gentle_slices = max(self._gentle_slices - 1, 0)
        return self._gentle_slices > 0

    def _schedule(self) -> None:
        if self._next_slice is None and self._waiting_chunks < self._settings.max_waiting_chunks:
            self._due = self._clock.seconds() + self._pause_seconds
            self._next_slice = self._clock.callLater(self._pause_seconds, self._slice)

    def _written(self, _none: None) -> None:
        self._waiting_chunks -= 1
        if not self._ending:
            self._schedule()

    def _commit(self, writer: SnapshotWriter) -> None:
        self._ending = True
        self._view.close()
        self._calls.run(writer.commit).addCallbacks(self._report, self._commit_failed)

    def _commit_failed(self, failure: Failure) -> None:
        self._failure = self._failure or failure
        self._remove()

    def _not_created(self, failure: Failure) -> None:
        self._failure = failure
        if not self._ending:
            self._view.close()
        self._report(failure)

    def _give_up(self, failure: Failure) -> None:
        if self._ending:
            # A chunk behind one that failed says nothing new; a commit under way is let through, for it may succeed.
            if self._failure is None and not failure.check(CancelledError):
                self._failure = failure
            return
        self._ending = True
        self._failure = failure
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        self._view.close()
        if self._writer is not None:
            self._remove()

    def _remove(self) -> None:
        if self._writer is not None:
            self._calls.run(self._writer.abort).addBoth(self._report)

    def _report(self, result: SnapshotInfo | Failure | None) -> None:
        if self._failure is None and isinstance(result, SnapshotInfo):
            self._finished.callback(result)
        else:
            self._finished.errback(self._failed())
        cancelled, self._cancelled = self._cancelled, []
        for each in cancelled:
            each.callback(None)

    def _failed(self) -> Failure:
        failure = self._failure
        if failure is None:
            return Failure(InvariantViolation("a snapshot ended without a result"))
        is_nameless = self._writer is None or not self._writer.is_whole
        if isinstance(failure.value, NoRoom) and is_nameless:
            return Failure(SnapshotFailed(f"there is no room for the snapshot: {failure.value}"))
        return failure
