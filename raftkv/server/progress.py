"""How far something long has come, told in the log: a line every second, and nothing of what takes less."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from twisted.logger import Logger

_REPORT_SECONDS: Final = 1.0


class Progress:
    """Logs how far one thing has come.

    :param what: what is being done, with the fields ``done``, ``total`` and ``percent``.
    :param seconds: a monotonic clock.
    """

    _log = Logger()

    def __init__(self, what: str, *, seconds: Callable[[], float]) -> None:
        self._what = what
        self._seconds = seconds
        self._next_report = seconds() + _REPORT_SECONDS

    def __call__(self, done: int, total: int) -> None:
        """Note that so much is done of so much."""
        now = self._seconds()
        if now >= self._next_report:
            self._next_report = now + _REPORT_SECONDS
            self._log.info(self._what, done=done, total=total, percent=100 * done // max(total, 1))
