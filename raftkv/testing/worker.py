"""A worker on a virtual clock: it blocks nobody, finishes late, in order, or never."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from zope.interface import implementer

from raftkv.errors import InvariantViolation, StorageError
from raftkv.interfaces import IBatchWorker
from raftkv.testing.disk import PowerLoss

_TAKEN_AT_ONCE: Final = 3  # each third of them

Process = Callable[[list[Any]], None]
Done = Callable[[list[Any], BaseException | None], None]


@implementer(IBatchWorker)
class ClockWorker:
    """Runs batches of items in the reactor's own turns, after delays that the caller draws.

    A batch takes one delay: its work is done in the middle of it and reported at its end, so that a crash can meet
    it before the disk has anything, and after the disk has everything but nobody knows. Every third item that it may
    take at once it does take at once.

    :param clock: tells the time, usually a :class:`twisted.internet.task.Clock`.
    :param delay_seconds: called for each batch with its items; 0 still means "in a later turn".
    """

    def __init__(self, clock: IReactorTime, delay_seconds: Callable[[list[Any]], float]) -> None:
        self._clock = clock
        self._delay_seconds = delay_seconds
        self._process: Process | None = None
        self._done: Done | None = None
        self._waiting: list[Any] = []
        self._under_way: list[Any] = []
        self._call: IDelayedCall | None = None
        self._processed = False
        self._stalled = False
        self._half_seconds = 0.0
        self._error: BaseException | None = None  # what ended the work, if anything
        self._stopped: list[Deferred[None]] = []
        self._offers = 0  # items that might be taken at once

    @property
    def is_busy(self) -> bool:
        """Whether anything submitted has not been reported yet."""
        return bool(self._under_way or self._waiting)

    @property
    def is_stalled(self) -> bool:
        """Whether it hangs: see :meth:`stall`."""
        return self._stalled

    def start(self, process: Process, done: Done) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.start`."""
        if self._process is not None:
            raise InvariantViolation("the worker was started twice")
        self._process, self._done = process, done
        self._error = None

    def submit(self, item: Any, *, here: bool = False) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.submit`."""
        if self._process is None or self._stopped:
            raise InvariantViolation("the worker got an item while it was not running")
        if self._error is not None:
            return
        if here and not self.is_busy and not self._stalled:
            self._offers += 1
            if self._offers % _TAKEN_AT_ONCE == 0:
                self._take_at_once(item)
                return
        self._waiting.append(item)
        self._begin()

    def _take_at_once(self, item: Any) -> None:
        if self._process is None or self._done is None:
            raise InvariantViolation("the worker got an item while it was not running")
        try:
            self._process([item])
        except PowerLoss:
            return
        except BaseException as raised:
            self._error = raised
        self._done([item], self._error)

    def stop(self) -> Deferred[None]:
        """See :meth:`raftkv.interfaces.IBatchWorker.stop`."""
        stopped: Deferred[None] = Deferred()
        if self._process is None:
            stopped.callback(None)
            return stopped
        self._stopped.append(stopped)
        self._finish_if_idle()
        return stopped

    def stall(self) -> None:
        """Finish nothing more until :meth:`resume`, like a disk that hangs."""
        self._stalled = True
        if self._call is not None:
            self._call.cancel()
            self._call = None

    def resume(self) -> None:
        """Go on after :meth:`stall`; the batch under way takes a new delay. Nothing to do without a stall."""
        if not self._stalled:
            return
        self._stalled = False
        if self._under_way:
            self._schedule()
        else:
            self._begin()

    def crash(self, *, tear: bool = False) -> None:
        """Never finish, report or take anything again; can be started anew, as after a restart of the process.

        :param tear: carry out the work that has gathered first, whose disk loses its power in the middle
            (:meth:`raftkv.testing.disk.MemoryDisk.lose_power_after`); nothing of it is reported.
        """
        if tear and self._process is not None and not self._processed:
            items = self._under_way or self._waiting
            try:
                if items:
                    self._process(items)
            except (PowerLoss, StorageError):
                pass  # the first was asked for, of the second nobody will hear
        if self._call is not None:
            self._call.cancel()
        self._process = self._done = self._call = None
        self._waiting, self._under_way = [], []
        self._processed = self._stalled = False
        self._stopped = []

    def _begin(self) -> None:
        if self._waiting and not self._under_way and not self._stalled and self._error is None:
            self._under_way, self._waiting = self._waiting, []
            self._processed = False
            self._schedule()

    def _schedule(self) -> None:
        self._half_seconds = self._delay_seconds(self._under_way) / 2
        self._call = self._clock.callLater(self._half_seconds, self._report if self._processed else self._work)

    def _work(self) -> None:
        self._call = None
        if self._process is None:
            raise InvariantViolation("a batch came due after the worker had ended")
        try:
            self._process(self._under_way)
        except PowerLoss:
            return  # the machine is gone: nobody will hear of this batch
        except BaseException as raised:  # reported, like a thread's
            self._error = raised
        self._processed = True
        self._call = self._clock.callLater(self._half_seconds, self._report)

    def _report(self) -> None:
        self._call = None
        items, self._under_way = self._under_way, []
        self._processed = False
        if self._error is not None:
            self._waiting = []
        if self._done is not None:
            self._done(items, self._error)
        self._begin()
        self._finish_if_idle()

    def _finish_if_idle(self) -> None:
        if self._stopped and not self.is_busy:
            stopped, self._stopped = self._stopped, []
            self._process = self._done = None
            for each in stopped:
                each.callback(None)
