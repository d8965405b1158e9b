"""The clock by which clients tell their deadlines."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from typing import Any


def steady_clock(reactor: Any) -> Callable[[], float]:
    """Return a clock for deadlines that fits a reactor.

    A test's reactor is its own clock. The real one tells the wall time, which may be set back by hours; a write would
    then be repeated after the server has forgotten its number. So deadlines are told by a clock that nobody sets and
    that, where the system has one, goes on while the machine sleeps.
    """
    if sys.modules.get("twisted.internet.reactor") is not reactor:
        seconds: Callable[[], float] = reactor.seconds
        return seconds
    if hasattr(time, "CLOCK_BOOTTIME"):
        return lambda: time.clock_gettime(time.CLOCK_BOOTTIME)
    return time.monotonic
