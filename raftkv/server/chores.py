"""Work that must be done some time and waits for nobody: a little of it in each turn of the reactor."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable

from twisted.internet.interfaces import IDelayedCall, IReactorTime


class Chores:
    """Does one piece of work after the other, each in steps of some milliseconds.

    :param clock: the reactor, or a test's clock.
    """

    def __init__(self, clock: IReactorTime) -> None:
        self._clock = clock
        self._steps: deque[Callable[[], bool]] = deque()
        self._turn: IDelayedCall | None = None

    @property
    def is_idle(self) -> bool:
        """Whether everything has been done."""
        return not self._steps

    def add(self, step: Callable[[], bool]) -> None:
        """Take a piece of work; its first step is done at once if nothing is ahead of it.

        :param step: does a little, and returns whether more is left.
        """
        self._steps.append(step)
        if self._turn is None:
            self._work()

    def stop(self) -> None:
        """Leave what is left undone."""
        self._steps.clear()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    def _work(self) -> None:
        self._turn = None
        if not self._steps[0]():
            self._steps.popleft()
        if self._steps:
            self._turn = self._clock.callLater(0, self._work)
