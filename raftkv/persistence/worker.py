"""The worker of production: one thread that blocks so that the reactor need not, unless that costs more than to block.

It knows queues and threads. What is done with the items, and what an error means, lies with those who start it.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from raftkv.errors import InvariantViolation
from raftkv.interfaces import IBatchWorker
from raftkv.persistence.pace import Pace

Process = Callable[[list[Any]], None]
Done = Callable[[list[Any], BaseException | None], None]

_THE_END: Final = object()  # the last item of a life


@implementer(IBatchWorker)
class ThreadWorker:
    """Runs batches of items in one thread of its own, in order.

    The thread begins in :meth:`start`, not in the constructor: a process that becomes a daemon forks in between, and
    threads do not survive a fork.

    :param reactor: gets the reports, by ``callFromThread``.
    :param name: of the thread, for people who look at the process.
    :param pace: while this says that work is quick, whoever submits it and can wait does it; ``None`` for never.
    :param seconds: tells the time, monotonic.
    """

    def __init__(
        self,
        reactor: IReactorFromThreads,
        name: str,
        *,
        pace: Pace | None = None,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self._reactor = reactor
        self._name = name
        self._seconds = seconds
        self._pace = pace or Pace(limit_seconds=0.0)
        self._unreported = 0  # items that the thread was given
        self._error: BaseException | None = None  # after one nothing is processed
        self._process: Process | None = None
        self._done: Done | None = None
        # A lock and a list in C: to wake the thread costs half of what a Condition does.
        self._queue: SimpleQueue[Any] = SimpleQueue()
        self._is_stopping = False
        self._thread: threading.Thread | None = None
        self._stopped: list[Deferred[None]] = []

    def start(self, process: Process, done: Done) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.start`."""
        if self._thread is not None:
            raise InvariantViolation(f"the worker {self._name} was started twice")
        self._is_stopping = False
        self._error = None
        self._unreported = 0
        self._process, self._done = process, done
        # Not a daemon thread: the interpreter must not tear it down in the middle of a write.
        self._thread = threading.Thread(target=self._run, args=(process,), name=self._name)
        self._thread.start()

    def submit(self, item: Any, *, here: bool = False) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.submit`."""
        if self._thread is None or self._is_stopping:
            raise InvariantViolation(f"the worker {self._name} got an item while it was not running")
        if here and self._unreported == 0 and self._pace.is_quick:
            self._process_here(item)
            return
        self._unreported += 1
        self._queue.put(item)

    def _process_here(self, item: Any) -> None:
        """Do it in the caller's thread: the worker's has nothing to do, and what it did has been reported."""
        if self._error is not None or self._process is None:
            return
        began = self._seconds()
        try:
            self._process([item])
        except BaseException as raised:  # reported, as the thread's own are
            self._error = raised
        self._report([item], self._error, self._seconds() - began)

    def _report(self, items: list[Any], error: BaseException | None, took_seconds: float) -> None:
        self._pace.took(took_seconds)
        if self._done is not None:
            self._done(items, error)

    def _report_of_thread(self, items: list[Any], error: BaseException | None, took_seconds: float) -> None:
        self._unreported -= len(items)
        self._report(items, error, took_seconds)

    def stop(self) -> Deferred[None]:
        """See :meth:`raftkv.interfaces.IBatchWorker.stop`."""
        stopped: Deferred[None] = Deferred()
        if self._thread is None:
            stopped.callback(None)
            return stopped
        self._stopped.append(stopped)
        if not self._is_stopping:
            self._is_stopping = True
            self._queue.put(_THE_END)
        return stopped

    def _run(self, process: Process) -> None:
        is_last = False
        while not is_last:
            items = self._take()
            is_last = items[-1] is _THE_END
            if is_last:
                items.pop()
            if self._error is not None or not items:
                continue  # after an error: wait to be stopped, take no more
            began = self._seconds()
            try:
                process(items)
            except BaseException as raised:  # reported, whatever it is: a thread that dies in silence would hang us
                self._error = raised
            self._reactor.callFromThread(self._report_of_thread, items, self._error, self._seconds() - began)
        self._reactor.callFromThread(self._finished)

    def _take(self) -> list[Any]:
        """Return everything that has been submitted; wait where there is nothing."""
        queue = self._queue
        items = [queue.get()]
        while not queue.empty():  # nobody else takes anything
            items.append(queue.get())
        return items

    def _finished(self) -> None:
        thread, self._thread = self._thread, None
        self._process = self._done = None
        if thread is not None:
            thread.join()
        waiting, self._stopped = self._stopped, []
        for stopped in waiting:
            stopped.callback(None)
