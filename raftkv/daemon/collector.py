"""When Python's cyclic garbage collector looks at what: so seldom, and at so little, that no pass is a pause.

Almost everything here is freed by reference counts. The collector finds cycles only, and pays by visiting every
container that it tracks: with a million keys a pass over all of them stops the process for a tenth of a second. So
passes are made often enough that little is new to each, and once a pass over everything gets long, what survived it
is put out of sight for good (``gc.freeze``). That is the state: the large dictionary of the store is frozen while it
is still small, and never visited again however it grows.

Passes are due by the number of containers made, less those freed. Overwriting records makes as many as it frees, so
no pass would ever come due while all records become young, and the next one would visit them all: hence also one over
the youngest at short intervals.

What is out of sight is still freed by its reference count, an old store as well as the compacted part of the log. Only
a cycle that existed at that moment and is dropped later is never found; connections therefore leave none behind. The
measurements are in ``docs/decisions/garbage-collection-and-pauses.md``.
"""

from __future__ import annotations

import gc
import sys
import time
from collections.abc import Callable, Mapping
from typing import Final

from twisted.application.service import Service
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall

# New containers, net of those freed, between two passes over the youngest; then passes over one generation between two
# over the next. A pass over the youngest takes 2 to 4 ms with these, one over everything that is in sight up to 30.
_THRESHOLDS: Final = (10_000, 5, 2)
_LONG_PASS_SECONDS: Final = 0.01
_INTERVAL_SECONDS: Final = 0.25  # 100,000 overwrites a second leave 3 ms of work for a pass, none leave 0.1 ms


class Freezer:
    """Freezes what survived a pass over everything that took long; to be put among ``gc.callbacks``.

    :param seconds: the processor time of the present thread: what others do on the machine makes no pass long.
    :param freeze: takes everything that exists out of the collector's sight.
    """

    def __init__(
        self, seconds: Callable[[], float] = time.thread_time, freeze: Callable[[], object] = gc.freeze
    ) -> None:
        self._seconds = seconds
        self._freeze = freeze
        self._began = 0.0

    def __call__(self, phase: str, info: Mapping[str, int]) -> None:
        """Take note that a pass begins or has ended; called by the collector, in whichever thread it runs."""
        if info["generation"] < 2:
            return
        if phase == "start":
            self._began = self._seconds()
        elif self._seconds() - self._began >= _LONG_PASS_SECONDS:
            # All that is in sight has just been visited, so no garbage is frozen with the living.
            self._freeze()


def tune_collector() -> None:
    """Set the thresholds, and freeze what proves to be long-lived from now on. Calling it again changes nothing."""
    if sys.version_info >= (3, 14):
        return  # its collector works in increments of its own
    gc.set_threshold(*_THRESHOLDS)
    if not any(isinstance(callback, Freezer) for callback in gc.callbacks):
        gc.callbacks.append(Freezer())


class YoungPasses(Service):
    """Makes a pass over the youngest generation now and then, however few new objects there are.

    :param clock: the reactor, or a test's clock.
    """

    name = "collector"

    def __init__(self, clock: IReactorTime, collect: Callable[[int], object] = gc.collect) -> None:
        self._passes = LoopingCall(collect, 0)
        self._passes.clock = clock

    def startService(self) -> None:
        """Begin."""
        super().startService()
        self._passes.start(_INTERVAL_SECONDS, now=False)

    def stopService(self) -> None:
        """Make no more passes."""
        super().stopService()
        self._passes.stop()


def freeze_long_lived() -> None:
    """Take everything that exists now out of the collector's sight: modules, classes, the log that was read.

    Not for a process that serves: this is a pass over everything. Before a fork it also keeps the parent's memory
    shared, as the collector then writes to none of it.
    """
    gc.collect()
    gc.freeze()
