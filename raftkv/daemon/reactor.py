"""The reactor of a node: Twisted's own for epoll, with less between an event and its handler. Linux only.

A node handles thousands of small events a second, and much of what Twisted does around each (a context for the log,
a look at timers that nobody has set) is of no use here. What an event, a timer or an error means is Twisted's matter
as before.
"""

from __future__ import annotations

import errno
from collections import deque
from collections.abc import Callable
from select import EPOLLIN
from typing import Any

from twisted.internet.epollreactor import EPollReactor
from twisted.logger import Logger


class NodeReactor(EPollReactor):
    """Adds :meth:`call_soon` to what Twisted's reactors can do."""

    _node_log = Logger()

    def __init__(self) -> None:
        self._soon: deque[Callable[[], object]] = deque()
        super().__init__()

    def call_soon(self, call: Callable[[], object]) -> None:
        """Call when the events at hand have been handled, and before any other is waited for.

        As ``callLater(0, call)`` at a third of the price; it cannot be cancelled, and only the reactor's own thread
        may use it.
        """
        self._soon.append(call)

    def runUntilCurrent(self) -> None:
        """Make the calls that are due; called by Twisted, once an iteration."""
        soon = self._soon
        for _ in range(len(soon)):  # what these add themselves waits for the next iteration
            call = soon.popleft()
            try:
                call()
            except Exception:
                self._node_log.failure("a call of the reactor failed")
        timers = self._pendingTimedCalls
        if (
            self.threadCallQueue
            or self._newTimedCalls
            or self._justStopped
            or (timers and timers[0].time <= self.seconds())
        ):
            super().runUntilCurrent()

    def timeout(self) -> float | None:
        """Return how long the reactor may wait for events; called by Twisted, once an iteration."""
        return 0.0 if self._soon else super().timeout()

    def doPoll(self, timeout: float | None) -> None:
        """Wait for events and handle them; called by Twisted, once an iteration."""
        selectables = self._selectables
        try:
            events = self._poller.poll(-1 if timeout is None else timeout, len(selectables))
        except OSError as error:
            if error.errno == errno.EINTR:
                return
            raise
        for descriptor, event in events:
            selectable = selectables.get(descriptor)
            if selectable is None:
                continue  # the handler of an event before has closed it
            try:
                if event == EPOLLIN:
                    self._read(selectable, descriptor)
                else:
                    self._doReadOrWrite(selectable, descriptor, event)
            except Exception:  # of what is told of its end: the others are not to miss their events
                self._node_log.failure("the end of a connection failed")

    doIteration = doPoll

    def _read(self, selectable: Any, descriptor: int) -> None:
        """Handle what nearly every event is: there is something to be read."""
        is_reading = False
        try:
            if selectable.fileno() == -1:
                self._doReadOrWrite(selectable, descriptor, EPOLLIN)
                return
            why = selectable.doRead()
            is_reading = True
        except BaseException as error:
            # As Twisted does: whoever fails is disconnected, and the others live on.
            self._node_log.failure("a reader of the reactor failed")
            why = error
        if why:
            self._disconnectSelectable(selectable, why, is_reading)
