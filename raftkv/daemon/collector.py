"""When Python's cyclic garbage collector looks at what: so often, and at so little, that no pass is a pause.

Almost everything here is freed by reference counts. The collector finds cycles only, and pays by visiting every
container that it tracks: with a million keys a pass over all of them stops the process for a tenth of a second. So
passes are made often enough that little is new to each, and once a pass over everything gets long, what survived it
is put out of sight for good (``gc.freeze``). That is the state: the large dictionary of the store is frozen while it
is still small, and never visited again however it grows.

Python's own rules would not do. It makes a pass over everything once a quarter of what it has seen is new, however
large that quarter is. And it counts new containers less those freed: overwriting a record makes one and frees one, so
no pass came due while a million records became young, and the next one visited them all.

What is out of sight is still freed by its reference count, an old store as well as the compacted part of the log. Only
a cycle that existed at that moment and is dropped later is never found. The measurements are in
``docs/decisions/garbage-collection-and-pauses.md``.
"""

from __future__ import annotations

import gc
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

# Containers, new less freed, between two passes over the youngest, of 2 to 4 ms each; then passes over one generation
# between two over the next. Those over everything are ours alone.
_YOUNG_CONTAINERS: Final = 10_000
_THRESHOLDS: Final = (_YOUNG_CONTAINERS, 5, 1_000_000)
_LOOK_SECONDS: Final = 0.25  # overwriting 100,000 records a second leaves 3 ms of work for a look, none leaves 0.1 ms
_NEW_CONTAINERS: Final = 50_000  # less freed, between two passes over everything; a long one takes 10 to 20 ms
_LOOKS: Final = 240  # between two of them, however little is new: a minute
_LONG_PASS_SECONDS: Final = 0.01


def tune_collector() -> None:
    """Set the thresholds; a :class:`Collector` does the rest."""
    gc.set_threshold(*_THRESHOLDS)


def freeze_long_lived() -> None:
    """Take everything that exists now out of the collector's sight: modules, classes, the log that was read.

    Not for a process that serves: this is a pass over everything. Before a fork it also keeps the parent's memory
    shared, as the collector then writes to none of it.
    """
    gc.collect()
    gc.freeze()


class Collector(Service):
    """Looks several times a second which pass is due, and freezes what survives a long one.

    :param clock: the reactor, or a test's clock.
    :param collect: makes a pass over a generation and those younger, like the next two a function of :mod:`gc`.
    :param count: returns, first of three numbers, the new containers less those freed since the last pass.
    :param freeze: takes everything that exists out of the collector's sight.
    :param seconds: the processor time of this thread: what others do on the machine does not make a pass long.
    """

    name = "collector"

    def __init__(
        self,
        clock: IReactorTime,
        *,
        collect: Callable[[int], object] = gc.collect,
        count: Callable[[], tuple[int, int, int]] = gc.get_count,
        freeze: Callable[[], object] = gc.freeze,
        seconds: Callable[[], float] = time.thread_time,
    ) -> None:
        self._collect = collect
        self._count = count
        self._freeze = freeze
        self._seconds = seconds
        self._new_containers = 0  # about as many as there are since the last pass over everything
        self._looks = 0
        self._looking = LoopingCall(self._look)
        self._looking.clock = clock

    def startService(self) -> None:
        """Begin."""
        super().startService()
        gc.callbacks.append(self.passed)
        self._looking.start(_LOOK_SECONDS, now=False)

    def stopService(self) -> None:
        """Leave the collector to itself."""
        super().stopService()
        self._looking.stop()
        gc.callbacks.remove(self.passed)

    def passed(self, phase: str, info: Mapping[str, int]) -> None:
        """Take note of a pass; called by Python, before and after each, in whichever thread it is made."""
        if phase == "start":
            self._new_containers += self._count()[0]

    def _look(self) -> None:
        self._looks += 1
        if self._new_containers + self._count()[0] >= _NEW_CONTAINERS or self._looks >= _LOOKS:
            self._pass_over_everything()
            self._new_containers = self._looks = 0
        else:
            self._collect(0)

    def _pass_over_everything(self) -> None:
        began = self._seconds()
        self._collect(2)
        if self._seconds() - began >= _LONG_PASS_SECONDS:
            # All that is in sight has just been visited, so no garbage is frozen with the living.
            self._freeze()
