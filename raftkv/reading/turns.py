"""Work that many requests may bring at once, shared out over the turns of the reactor.

A step of a range costs a millisecond or two, which is no pause; but a hundred clients that read ranges have a hundred
of them, all due at the same moment. Here they come one after the other, for some milliseconds in each turn.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from typing import Final

from twisted.internet.interfaces import IReactorTime

TURN_SECONDS: Final = 0.004  #: of work in one turn; the step that exceeds it is carried out to its end


class Turns:
    """Does work in the order in which it came, a little in each turn."""

    def __init__(self, clock: IReactorTime) -> None:
        """
        :param clock: the reactor.
        """
        self._clock = clock
        self._queue: deque[Callable[[], None]] = deque()
        self._spent_seconds = 0.0
        self._is_scheduled = False

    def soon(self, work: Callable[[], None]) -> None:
        """Have something done at once if this turn has room for it, or else in one of the next."""
        if self._queue or self._spent_seconds >= TURN_SECONDS:
            self.later(work)
        else:
            self._do(work)
            if self._spent_seconds:
                self._schedule()

    def later(self, work: Callable[[], None]) -> None:
        """Have something done in one of the next turns."""
        self._queue.append(work)
        self._schedule()

    def _schedule(self) -> None:
        if not self._is_scheduled:
            self._is_scheduled = True
            self._clock.callLater(0, self._turn)

    def _turn(self) -> None:
        self._is_scheduled = False
        self._spent_seconds = 0.0
        try:
            # No more than there is now: what is added meanwhile is for the next turn.
            for _ in range(len(self._queue)):
                self._do(self._queue.popleft())
                if self._spent_seconds >= TURN_SECONDS:
                    break
        finally:
            if self._queue or self._spent_seconds:
                self._schedule()

    def _do(self, work: Callable[[], None]) -> None:
        began = self._clock.seconds()
        try:
            work()
        finally:
            self._spent_seconds += self._clock.seconds() - began
