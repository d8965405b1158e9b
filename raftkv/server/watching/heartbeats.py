"""When to look at each watch again: one timer for all of them, however many there are.

A watch is not moved about in here each time that it is told something: it is looked at when it was due, and then says
when to look again.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime

from raftkv.server.watching.heaps import WatchHeap
from raftkv.server.watching.watch import Watch

LOOKS_AT_ONCE: Final = 256  #: the others have to wait for the next turn


class Heartbeats:
    """Looks at watches at their time.

    :param look: called with a watch whose time has come and the present one; returns when to look again, ``None`` for
        not any more.
    """

    def __init__(self, *, clock: IReactorTime, look: Callable[[Watch, float], float | None]) -> None:
        self._clock = clock
        self._look = look
        self._due = WatchHeap()
        self._timer: IDelayedCall | None = None
        self._timer_at = 0.0

    def add(self, watch: Watch, due: float) -> None:
        """Look at a watch at that time, besides any other look that is due."""
        self._due.push(due, watch)
        if self._timer is None or due < self._timer_at:
            self._set_timer()

    def one_ended(self) -> None:
        """A watch has ended."""
        self._due.one_ended()

    def stop(self) -> None:
        """Forget all of them."""
        self._due = WatchHeap()
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _set_timer(self) -> None:
        due = self._due.first()
        if due is None:
            return
        if self._timer is not None:
            self._timer.cancel()
        self._timer_at = due
        self._timer = self._clock.callLater(max(0.0, due - self._clock.seconds()), self._run)

    def _run(self) -> None:
        self._timer = None
        now = self._clock.seconds()
        for _ in range(LOOKS_AT_ONCE):
            due = self._due.first()
            if due is None or due > now:
                break
            watch = self._due.pop()
            again = self._look(watch, now)
            if again is not None:
                self._due.push(again, watch)
        if self._timer is None:
            self._set_timer()
