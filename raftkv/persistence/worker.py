"""The worker of production: one thread that blocks so that the reactor need not.

It knows queues and threads. What is done with the items, and what an error means, lies with those who start it.
"""

from __future__ import annotations

import threading
from collections.abc import Callable
from queue import SimpleQueue
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorFromThreads
from zope.interface import implementer

from raftkv.errors import InvariantViolation
from raftkv.interfaces import IBatchWorker

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
    """

    def __init__(self, reactor: IReactorFromThreads, name: str) -> None:
        self._reactor = reactor
        self._name = name
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
        # Not a daemon thread: the interpreter must not tear it down in the middle of a write.
        self._thread = threading.Thread(target=self._run, args=(process, done), name=self._name)
        self._thread.start()

    def submit(self, item: Any) -> None:
        """See :meth:`raftkv.interfaces.IBatchWorker.submit`."""
        if self._thread is None or self._is_stopping:
            raise InvariantViolation(f"the worker {self._name} got an item while it was not running")
        self._queue.put(item)

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

    def _run(self, process: Process, done: Done) -> None:
        is_last = False
        error: BaseException | None = None
        while not is_last:
            items = self._take()
            is_last = items[-1] is _THE_END
            if is_last:
                items.pop()
            if error is not None or not items:
                continue  # after an error: wait to be stopped, take no more
            try:
                process(items)
            except BaseException as raised:  # reported, whatever it is: a thread that dies in silence would hang us
                error = raised
            self._reactor.callFromThread(done, items, error)
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
        if thread is not None:
            thread.join()
        waiting, self._stopped = self._stopped, []
        for stopped in waiting:
            stopped.callback(None)
