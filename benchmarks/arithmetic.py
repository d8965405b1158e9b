"""What figures become: medians and spread over the rounds, ratios between the contestants.

Plain functions of numbers; what was measured, and how, they do not know. Percentiles are raftkv.bench.figures'.
"""

from __future__ import annotations

import statistics
from collections.abc import Iterator, Mapping, Sequence
from typing import Literal, TypeVar

T = TypeVar("T")

Better = Literal["higher", "lower"]


def median(values: Sequence[float]) -> float:
    """Return the median, of an even number the mean of the middle two; ``nan`` for none."""
    return statistics.median(values) if values else float("nan")


def spread(values: Sequence[float]) -> float:
    """Return how far apart the values lie, as a part of their median; 0 for one value, ``nan`` for none."""
    middle = median(values)
    return (max(values) - min(values)) / middle if values and middle else float("nan")


def interleaved(rounds: int, contestants: Sequence[T]) -> Iterator[tuple[int, T]]:
    """Yield who runs when: A B C, A B C, …, so that the machine's mood hits all of them alike.

    :return: the number of the round, from 1, and the contestant.
    """
    for number in range(rounds):
        for contestant in contestants:
            yield number + 1, contestant


def best(figures: Mapping[T, float], better: Better) -> T | None:
    """Return whose figure is the best; ``None`` where nobody has one."""
    known = {name: figure for name, figure in figures.items() if figure == figure}
    if not known:
        return None
    return (max if better == "higher" else min)(known, key=lambda name: known[name])


def ratio(ours: float, theirs: float) -> float:
    """Return ours as a multiple of theirs; ``nan`` where either is missing."""
    return ours / theirs if theirs else float("nan")


def reaches(value: float, bound: float | None, better: Better) -> bool | None:
    """Tell whether a ratio is at least as good as a bound; ``None`` where there is no bound or no ratio."""
    if bound is None or value != value:
        return None
    return value >= bound if better == "higher" else value <= bound
