"""Adds up what many seeds did, as a JSON object and in words."""

from __future__ import annotations

import statistics
from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from raftkv.testing.outcome import Outcome
from raftkv.testing.shrinking import Shrunk

_COUNTERS = ("operations", "faults", "network", "disks")


class Tally:
    """What many seeds did together; keeps the outcomes of those that failed, and only sums of the others.

    :ivar failed: the outcomes of the seeds that failed, as they came.
    """

    def __init__(self) -> None:
        self.failed: list[Outcome] = []
        self._cpu_seconds: list[float] = []
        self._sums: Counter[str] = Counter()
        self._simulated_seconds = 0.0
        self._situations: set[int] = set()
        self._steps: set[int] = set()
        self._counters: dict[str, Counter[str]] = {name: Counter() for name in _COUNTERS}

    def __len__(self) -> int:
        return len(self._cpu_seconds)

    def add(self, outcome: Outcome) -> None:
        """Take one seed in."""
        if outcome.failure:
            self.failed.append(outcome)
        self._cpu_seconds.append(outcome.cpu_seconds)
        self._simulated_seconds += outcome.simulated_seconds
        self._sums.update(events=outcome.events, elections=outcome.terms, entries=outcome.entries)
        self._situations |= outcome.situations
        self._steps |= outcome.steps
        for name, counter in self._counters.items():
            counter.update(getattr(outcome, name))

    def summary(self, wall_seconds: float, shrunk: Iterable[Shrunk] = ()) -> dict[str, Any]:
        """Return everything as a JSON object.

        :param wall_seconds: how long it took.
        :param shrunk: the failing stories that were made small.
        """
        small = {each.outcome.seed: each for each in shrunk}
        cpu = self._cpu_seconds or [0.0]
        return {
            "seeds": len(self),
            "failures": [describe_failure(outcome, small.get(outcome.seed)) for outcome in self.failed],
            "wall_seconds": round(wall_seconds, 1),
            "seeds_per_second": round(len(self) / max(wall_seconds, 1e-9), 2),
            "median_cpu_seconds": round(statistics.median(cpu), 3),
            "largest_cpu_seconds": round(max(cpu), 3),
            "simulated_hours": round(self._simulated_seconds / 3600, 2),
            **{name: self._sums[name] for name in ("events", "elections", "entries")},
            "situations": len(self._situations),
            "steps": len(self._steps),
            **{name: dict(sorted(counter.items())) for name, counter in self._counters.items()},
        }


def describe_failure(outcome: Outcome, shrunk: Shrunk | None) -> dict[str, Any]:
    """Return one failure as a JSON object, with the command that repeats it."""
    arguments = shrunk.excerpt.arguments() if shrunk is not None else []
    story = shrunk.outcome.story if shrunk is not None else outcome.story
    return {
        "seed": outcome.seed,
        "failure": outcome.failure,
        "details": outcome.details,
        "digest": outcome.digest,
        "command": command_for(outcome.seed, arguments),
        "shrunk": shrunk is not None,
        "story": [{"number": number, "seconds": seconds, "fault": kind} for number, seconds, kind in story],
        **({"ends": shrunk.outcome.failure} if shrunk is not None else {}),
    }


def command_for(seed: int, arguments: Sequence[str] = ()) -> str:
    """Return the command that tells the story of a seed, line by line."""
    return " ".join(["python -m raftkv.testing", f"--start {seed} --seeds 1 --trace", *arguments])


def describe(summary: Mapping[str, Any]) -> str:
    """Return a summary as lines of text."""
    lines = [
        f"{summary['seeds']} seeds, {summary['simulated_hours']} simulated hours in {summary['wall_seconds']} seconds"
        f" ({summary['seeds_per_second']} seeds a second; median {summary['median_cpu_seconds']} s of CPU, at most"
        f" {summary['largest_cpu_seconds']})",
        f"{summary['events']} events, {summary['elections']} terms with a leader,"
        f" {summary['entries']} committed entries",
        f"{summary['situations']} situations of a cluster (roles, terms and logs compared), {summary['steps']} steps"
        " from one to another",
    ]
    for name in _COUNTERS:
        counts = summary[name]
        lines.append(f"{name}: " + ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items()))
    for failure in summary["failures"]:
        lines += ["", *_tell_failure(failure)]
    failures = summary["failures"]
    seeds = " ".join(str(failure["seed"]) for failure in failures)
    lines.append(f"failed seeds: {seeds}" if failures else "no seed failed")
    return "\n".join(lines)


def _tell_failure(failure: Mapping[str, Any]) -> list[str]:
    faults = [f"  {each['seconds']:7.3f} s  {each['fault']} ({each['number']})" for each in failure["story"]]
    title = "what is left of its story" if failure["shrunk"] else "its story"
    return [
        f"seed {failure['seed']} failed: {failure['failure']}",
        f"  {title}, {len(faults)} faults and changes of members:",
        *faults,
        *([f"  which ends with: {failure['ends']}"] if "ends" in failure else []),
        f"  {failure['command']}",
    ]
