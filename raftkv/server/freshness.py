"""How old a node's own state may be: since when it is known to hold everything that was committed.

A confirmed read index is what proves it: once that index is applied, the state holds whatever was committed when the
question was asked. So the bound needs neither the clock of another node nor a guess at how long a message was under
way, which "when was a leader last heard" would. Knows moments of one clock; who asks when is the business of ``reads``.
"""

from __future__ import annotations

from collections.abc import Callable


class Freshness:
    """Since when the state of one node is known to be complete.

    :param steady_seconds: the monotonic clock that leases go by, too.
    :param drift_bound: how far its rate may be off: what it measures is lengthened by that much.
    """

    def __init__(self, *, steady_seconds: Callable[[], float], drift_bound: float) -> None:
        self._steady_seconds = steady_seconds
        self._drift_bound = drift_bound
        self._complete_as_of: float | None = None

    def now(self) -> float:
        """Return the moment at which a question is being asked, for :meth:`confirmed`."""
        return self._steady_seconds()

    def confirmed(self, asked: float) -> None:
        """Take note that the state holds everything that was committed at the moment ``asked``."""
        if self._complete_as_of is None or asked > self._complete_as_of:
            self._complete_as_of = asked

    def age(self) -> float | None:
        """Return how many seconds ago that was at the most; ``None`` where it never was in this life."""
        if self._complete_as_of is None:
            return None
        return (self._steady_seconds() - self._complete_as_of) / (1 - self._drift_bound)
