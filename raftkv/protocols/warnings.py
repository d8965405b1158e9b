"""Warnings that strangers can cause, bounded in number: a flood of garbage must not become a flood of log lines.

Knows a logger and a clock; leaves to its callers what is worth a line.
"""

from __future__ import annotations

from typing import Any

from twisted.internet.interfaces import IReactorTime
from twisted.logger import Logger


class RateLimitedLog:
    """Writes a bounded number of lines in each interval; the first line after says how many were left out."""

    def __init__(
        self, log: Logger, *, clock: IReactorTime, lines_per_interval: int = 20, interval_seconds: float = 60.0
    ) -> None:
        """Take what is needed.

        :param log: where the lines go.
        :param clock: tells the time; nothing is ever scheduled.
        :param lines_per_interval: how many lines may appear in one interval.
        :param interval_seconds: length of an interval; one starts with the first line after the last has ended.
        """
        self._log = log
        self._clock = clock
        self._lines_per_interval = lines_per_interval
        self._interval_seconds = interval_seconds
        self._interval_end = float("-inf")
        self._written = 0
        self._left_out = 0

    def warn(self, message: str, **fields: Any) -> None:
        """Log one line at level ``warn``, unless the interval has had its share.

        :param message: the format, as for :class:`twisted.logger.Logger`.
        """
        now = self._clock.seconds()
        if now >= self._interval_end:
            self._interval_end = now + self._interval_seconds
            self._written = 0
        if self._written >= self._lines_per_interval:
            self._left_out += 1
            return
        self._written += 1
        if self._left_out:
            message += " ({left_out} lines like this one were left out before it)"
            fields["left_out"] = self._left_out
            self._left_out = 0
        self._log.warn(message, **fields)
