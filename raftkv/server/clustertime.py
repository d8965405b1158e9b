"""Cluster time: the milliseconds that a leader stamps on entries, and all that the state machine knows of time.

A leader continues from the last entry by its own monotonic clock, so that time never goes back and does not run while
there is no leader: a lease or a session can only last longer for it, never shorter.
"""

from __future__ import annotations

from collections.abc import Callable


class ClusterClock:
    """Makes the stamps of one node's entries.

    :param monotonic: seconds on a clock that never goes back.
    :param wall: Unix time in seconds, told to people and never used to decide anything.
    :param applied_ms: returns the cluster time of the state machine.
    """

    def __init__(
        self, *, monotonic: Callable[[], float], wall: Callable[[], float], applied_ms: Callable[[], int]
    ) -> None:
        self._monotonic = monotonic
        self._wall = wall
        self._applied_ms = applied_ms
        self._base_ms = 0
        self._base_seconds = 0.0
        self._last_ms = 0

    def restart(self) -> None:
        """Begin a leadership: continue from what has been applied."""
        self._base_ms = self._last_ms = self._applied_ms()
        self._base_seconds = self._monotonic()

    def now_ms(self) -> int:
        """Return the cluster time, no less than any returned since :meth:`restart` and any applied."""
        elapsed_ms = int((self._monotonic() - self._base_seconds) * 1000)
        now = max(self._last_ms, self._base_ms + elapsed_ms)
        applied = self._applied_ms()
        if applied > now:
            # An earlier leader's entry, applied since we began, was ahead of us: continue from there.
            self._base_ms, self._base_seconds, now = applied, self._monotonic(), applied
        self._last_ms = now
        return now

    def wall_ms(self) -> int:
        """Return Unix time in milliseconds."""
        return int(self._wall() * 1000)
