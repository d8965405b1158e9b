"""What a run against somebody's own cluster has given so far, in bounded memory, and as a document."""

from __future__ import annotations

import math
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from raftkv.bench.figures import Measured
from raftkv.bench.latencies import Latencies

#: The percentiles that are told, by the names that they have in documents.
PERCENTILES = {"p50_ms": 0.5, "p90_ms": 0.9, "p99_ms": 0.99, "p999_ms": 0.999}


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaderChange:
    """Another node leads, or the same one in another term.

    :ivar seconds: after the beginning of the measurement, when it was noticed; negative before.
    """

    seconds: float
    leader: str
    term: int


@dataclass(slots=True, kw_only=True)
class Results:
    """The results of one run.

    :ivar recent: the latencies of the end alone; who reads them begins anew with :meth:`forget_recent`.
    :ivar seconds: how long was measured.
    :ivar errors: how many requests failed, by code.
    :ivar unsent: requests at a rate that were due and not sent before the end.
    """

    latencies: Latencies = field(default_factory=Latencies)
    recent: Latencies = field(default_factory=Latencies)
    errors: Counter[str] = field(default_factory=Counter)
    seconds: float = 0.0
    unsent: int = 0
    changes: list[LeaderChange] = field(default_factory=list)

    def add(self, measured: Measured) -> None:
        """Take what was measured since the last report."""
        self.latencies.add(measured.latencies)
        self.recent.add(measured.latencies)
        self.errors.update(measured.errors)
        self.seconds = max(self.seconds, measured.seconds)
        self.unsent = measured.unsent

    def forget_recent(self) -> None:
        """Begin anew with what is recent."""
        self.recent = Latencies()

    @property
    def requests(self) -> int:
        """How many requests have succeeded."""
        return self.latencies.count

    @property
    def error_count(self) -> int:
        """How many have failed."""
        return sum(self.errors.values())

    @property
    def per_second(self) -> float:
        """How many have succeeded in a second; 0 where there was no time at all."""
        return self.requests / self.seconds if self.seconds else 0.0

    def percentiles(self) -> dict[str, float]:
        """Return the percentiles and the maximum in milliseconds, by name; ``nan`` where nothing has succeeded."""
        found = {name: 1000 * self.latencies.percentile(part) for name, part in PERCENTILES.items()}
        return {**found, "max_ms": 1000 * self.latencies.largest}

    def document(self) -> dict[str, Any]:
        """Return everything for JSON; what is not known is ``None``."""
        return {
            "requests": self.requests,
            "seconds": round(self.seconds, 6),
            "per_second": round(self.per_second, 3),
            **{name: None if math.isnan(value) else round(value, 4) for name, value in self.percentiles().items()},
            "errors": dict(self.errors.most_common()),
            "error_count": self.error_count,
            "unsent": self.unsent,
            "leader_changes": [
                {"seconds": round(each.seconds, 3), "leader": each.leader, "term": each.term} for each in self.changes
            ],
            "histogram": [
                {"from_ms": _ms(bar.low), "to_ms": _ms(bar.high), "count": bar.count} for bar in self.latencies.bars()
            ],
        }


def _ms(seconds: float) -> float:
    return round(1000 * seconds, 6)
