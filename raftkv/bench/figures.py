"""What latencies become: percentiles and the figures of a run. Plain functions of numbers."""

from __future__ import annotations

from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any


def rank(count: int, part: float) -> int:
    """Return which of so many ordered values is the smallest that at least ``part`` of them do not exceed, from 1.

    :param part: 0 to 1.
    """
    # It is rounded up; the millionth taken off before is what binary fractions add (0.99 * 100 > 99).
    return min(max(int(part * count - 1e-6) + 1, 1), count)


def percentile(ordered: Sequence[float], part: float) -> float:
    """Return the smallest value that at least ``part`` of the values do not exceed.

    :param ordered: ascending; empty gives ``nan``, for no latency is not a latency of nothing.
    :param part: 0 to 1.
    """
    return ordered[rank(len(ordered), part) - 1] if ordered else float("nan")


@dataclass(slots=True, kw_only=True)
class Measured:
    """What a generator has measured and not told anybody yet.

    :ivar latencies: of the requests that succeeded, in seconds, in any order.
    :ivar errors: how many failed, by code.
    :ivar seconds: in which they were answered.
    :ivar unsent: requests at a rate that were due and not sent before the end, since too many were outstanding.
    """

    latencies: list[float] = field(default_factory=list)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    unsent: int = 0

    def figures(self) -> dict[str, Any]:
        """Return all of it as figures."""
        return figures(self.latencies, self.seconds, self.errors)


def figures(latencies: Sequence[float], seconds: float, errors: Mapping[str, int]) -> dict[str, Any]:
    """Return what was measured.

    :param latencies: of the requests that succeeded, in seconds, in any order.
    :param seconds: in which they were answered.
    :param errors: how many failed, by code.
    """
    ordered = sorted(latencies)
    return {
        "requests": len(ordered),
        "seconds": seconds,
        "per_second": len(ordered) / seconds if seconds else float("nan"),
        "p50_ms": 1000 * percentile(ordered, 0.5),
        "p99_ms": 1000 * percentile(ordered, 0.99),
        "p999_ms": 1000 * percentile(ordered, 0.999),
        "errors": sum(errors.values()),
    }
