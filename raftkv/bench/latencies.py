"""Latencies in bounded memory, however many: counts of narrow intervals, each a small part wider than the one before.

What comes out differs from what went in by less than half of a hundredth; the largest is exact.
"""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from raftkv.bench.figures import rank

_PER_OCTAVE: Final = 128  # intervals between a latency and its double
_SHORTEST: Final = 1e-6  # seconds: nothing is answered sooner; what a clock makes of it counts as this

#: The ends of bars in a decade: so many that the bars are not more than fit, the finest first.
_STEPS: Final[tuple[tuple[float, ...], ...]] = (
    (1.0, 1.25, 1.5, 2.0, 2.5, 3.0, 4.0, 5.0, 6.0, 8.0),
    (1.0, 1.5, 2.0, 3.0, 5.0, 7.0),
    (1.0, 2.0, 5.0),
    (1.0,),
)
_MAX_BARS: Final = 12


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """One bar of a histogram: how many latencies were from ``low`` to below ``high``, in seconds."""

    low: float
    high: float
    count: int


class Latencies:
    """Latencies of one run, in seconds.

    :ivar count: how many.
    :ivar largest: the largest, ``nan`` where there is none.
    """

    def __init__(self) -> None:
        self.count = 0
        self.largest = math.nan
        self._counts: Counter[int] = Counter()

    def add(self, values: Sequence[float]) -> None:
        """Take more of them."""
        if not values:
            return
        self.count += len(values)
        largest = max(values)
        if not largest <= self.largest:
            self.largest = largest
        self._counts.update(map(_interval, values))

    def percentile(self, part: float) -> float:
        """Return the smallest that at least ``part`` (0 to 1) of them do not exceed; ``nan`` where there is none."""
        if not self.count:
            return math.nan
        missing = rank(self.count, part)
        for interval in sorted(self._counts):
            missing -= self._counts[interval]
            if missing <= 0:
                break
        # The last one is known exactly.
        return self.largest if rank(self.count, part) == self.count else min(_middle(interval), self.largest)

    def bars(self) -> list[Bar]:
        """Return a histogram of few bars with round ends, none empty at its ends."""
        if not self.count:
            return []
        high = max(self.largest, _SHORTEST)
        low = min(_middle(min(self._counts)), high)
        ends: list[float] = []
        for steps in _STEPS:
            ends = _ends(low, high, steps)
            if len(ends) - 1 <= _MAX_BARS:
                break
        counts = self._between(ends, high)
        return [Bar(low=a, high=b, count=n) for (a, b), n in zip(pairwise(ends), counts, strict=True)]

    def _between(self, ends: Sequence[float], largest: float) -> list[int]:
        counts = [0] * (len(ends) - 1)
        which = 0
        for interval in sorted(self._counts):
            while which < len(counts) - 1 and min(_middle(interval), largest) >= ends[which + 1]:
                which += 1
            counts[which] += self._counts[interval]
        if which < len(counts) - 1:  # an end lies within the last interval; of what is there only the largest is known
            counts[which] -= 1
            counts[-1] += 1
        return counts


def _interval(seconds: float) -> int:
    mantissa, exponent = math.frexp(seconds if seconds > _SHORTEST else _SHORTEST)  # mantissa: 0.5 to below 1
    return exponent * _PER_OCTAVE + int(mantissa * (2 * _PER_OCTAVE)) - _PER_OCTAVE


def _middle(interval: int) -> float:
    exponent, part = divmod(interval, _PER_OCTAVE)
    return math.ldexp((part + _PER_OCTAVE + 0.5) / (2 * _PER_OCTAVE), exponent)


def _ends(low: float, high: float, steps: Iterable[float]) -> list[float]:
    """Return round numbers from one that is no larger than ``low`` to one that is larger than ``high``."""
    first, last = math.floor(math.log10(low)), math.floor(math.log10(high)) + 1
    # Divided, not multiplied by a power that is no round number in binary: 3e-3, and not 0.0030000000000000005.
    known = [float(f"{step}e{decade}") for decade in range(first, last + 1) for step in steps]
    begin = max(at for at, value in enumerate(known) if value <= low)
    end = min(at for at, value in enumerate(known) if value > high)
    return known[begin : end + 1]
