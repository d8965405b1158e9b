"""How quick blocking work has been lately: whether to wait for it costs less than to hand it to a thread.

To hand a small write over, and to be told of its end, takes two changes of thread and a dozen system calls:
as much as the sync of a quick disk. A slow disk must not be waited for, and none that may have begun to be slow.
"""

from __future__ import annotations

from typing import Final

_WEIGHT: Final = 1 / 32  # of the newest piece of work in the average
_AT_FIRST_SECONDS: Final = 1.0  # a disk has to show that it is quick, some two hundred times


class Pace:
    """A moving average of how long pieces of work took.

    One that takes a second needs some hundred quick ones to be forgotten; some milliseconds now and then do not matter.

    :param limit_seconds: an average up to this is quick; 0 for never.
    """

    def __init__(self, *, limit_seconds: float) -> None:
        self._limit_seconds = limit_seconds
        self._average_seconds = _AT_FIRST_SECONDS

    def took(self, seconds: float) -> None:
        """Count one piece of work."""
        self._average_seconds += (seconds - self._average_seconds) * _WEIGHT

    @property
    def is_quick(self) -> bool:
        """Whether to wait for the next one is worth while."""
        return self._average_seconds <= self._limit_seconds
