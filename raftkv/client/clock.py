"""The clock by which clients tell their deadlines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from functools import partial
from typing import Any


def unset_clock() -> Callable[[], float]:
    """Return a clock that nobody sets and that, where the system has one, goes on while the machine sleeps.

    The wall clock may be set back by hours; a write would then be repeated after the server has forgotten its number,
    and a lease be believed in that has long ended.
    """
    if hasattr(time, "CLOCK_BOOTTIME"):
        return partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    return time.monotonic


def steady_clock(reactor: Any) -> Callable[[], float]:
    """Return a clock for deadlines that fits a reactor: the reactor's own in a test, else one that nobody sets."""
    if sys.modules.get("twisted.internet.reactor") is not reactor:
        seconds: Callable[[], float] = reactor.seconds
        return seconds
    return unset_clock()
