"""All samples of a session, and the lines of the table that they make.

Knows medians, ratios and who is compared with whom; not how anything was measured or how it looks.
"""

from __future__ import annotations

import datetime
import os
import platform
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from benchmarks.arithmetic import best, median, ratio, reaches, spread
from benchmarks.runs import Lane, Sample
from benchmarks.works import Measure, Work

HOME = "raftkv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One contestant's figures of one measure of a work.

    :ivar ratios: its figure as a multiple of each rival's best, for the home team only.
    :ivar must_met: whether the ratio that must be reached is; ``None`` where there is none, or nobody to compare with.
    """

    work: Work
    measure: Measure
    lane: Lane
    value: float
    spread: float
    medians: Mapping[str, float]
    errors: float
    rounds: int
    ratios: Mapping[str, float] = field(default_factory=dict)
    must_met: bool | None = None
    goal_met: bool | None = None


@dataclass(slots=True, kw_only=True)
class Session:
    """Everything that was measured in one go.

    :ivar equals: the peers against which the wanted ratios hold.
    :ivar missing: which contestants are not there, or not in a work, and why.
    :ivar failed: which runs came to nothing, and why.
    """

    works: Sequence[Work]
    seconds: float
    rounds: int
    is_quick: bool
    equals: frozenset[str]
    samples: list[Sample] = field(default_factory=list)
    missing: list[str] = field(default_factory=list)
    failed: list[str] = field(default_factory=list)

    @property
    def busiest(self) -> float:
        """The highest load average that a run began under."""
        return max((sample.load_average for sample in self.samples), default=0.0)

    def lines(self) -> list[Line]:
        """Return the table."""
        return [line for work in self.works for measure in work.measures for line in self._lines_of(work, measure)]

    def _lines_of(self, work: Work, measure: Measure) -> list[Line]:
        lanes = list(dict.fromkeys(sample.lane for sample in self.samples if sample.work == work.name))
        values = {lane: self._values(work, lane, measure.figure) for lane in lanes}
        medians = {lane: median(found) for lane, found in values.items()}
        lines = []
        for lane in lanes:
            is_ours = lane.peer == HOME
            ratios = {} if measure.is_ratio or not is_ours else ratios_to_peers(medians, lane, measure)
            compared = medians[lane] if measure.is_ratio else self._ratio_that_counts(ratios, measure)
            lines.append(
                Line(
                    work=work,
                    measure=measure,
                    lane=lane,
                    value=medians[lane],
                    spread=spread(values[lane]),
                    medians={name: median(self._values(work, lane, name)) for name in self._names(work, lane)},
                    errors=sum(self._values(work, lane, "errors")),
                    rounds=len(values[lane]),
                    ratios=ratios,
                    must_met=reaches(compared, measure.must, measure.better) if is_ours else None,
                    goal_met=reaches(compared, measure.goal, measure.better) if is_ours else None,
                )
            )
        return lines

    def _ratio_that_counts(self, ratios: Mapping[str, float], measure: Measure) -> float:
        """Return the ratio to the best of those that promise the same: the smallest, or for times the largest."""
        known = [value for peer, value in ratios.items() if peer in self.equals]
        if not known:
            return float("nan")
        return min(known) if measure.better == "higher" else max(known)

    def _values(self, work: Work, lane: Lane, figure: str) -> list[float]:
        """Return a figure of all rounds; a run in which nothing succeeded has none."""
        found = [
            sample.figures[figure]
            for sample in self.samples
            if sample.work == work.name and sample.lane == lane and figure in sample.figures
        ]
        return [value for value in found if value == value]

    def _names(self, work: Work, lane: Lane) -> list[str]:
        return list(
            dict.fromkeys(
                name
                for sample in self.samples
                if sample.work == work.name and sample.lane == lane
                for name in sample.figures
            )
        )

    def to_dict(self) -> dict[str, Any]:
        """Return everything, for JSON."""
        return {
            "made": datetime.datetime.now(datetime.UTC).isoformat(timespec="seconds"),
            "machine": {
                "cores": os.cpu_count(),
                "system": platform.platform(),
                "python": platform.python_version(),
                "highest_load_average": self.busiest,
            },
            "seconds": self.seconds,
            "rounds": self.rounds,
            "is_quick": self.is_quick,
            "missing": self.missing,
            "failed": self.failed,
            "lines": [
                {
                    "work": line.work.name,
                    "title": line.work.title,
                    "contestant": str(line.lane),
                    "figure": line.measure.figure,
                    "median": line.value,
                    "spread": line.spread,
                    "medians": line.medians,
                    "errors": line.errors,
                    "rounds": line.rounds,
                    "ratios": line.ratios,
                    "must": line.measure.must,
                    "must_met": line.must_met,
                    "goal": line.measure.goal,
                    "goal_met": line.goal_met,
                }
                for line in self.lines()
            ],
            "samples": [sample.to_dict() for sample in self.samples],
        }


def ratios_to_peers(medians: Mapping[Lane, float], ours: Lane, measure: Measure) -> dict[str, float]:
    """Return our figure as a multiple of each rival's, of the better one where a peer has several interfaces."""
    ratios = {}
    for rival in dict.fromkeys(lane.rival for lane in medians if lane.peer != ours.peer):
        winner = best({lane: value for lane, value in medians.items() if lane.rival == rival}, measure.better)
        if winner is not None:
            ratios[rival] = ratio(medians[ours], medians[winner])
    return ratios
