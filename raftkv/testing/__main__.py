"""``python -m raftkv.testing``: simulate many seeds, over several cores, and say which ones fail."""

from __future__ import annotations

import argparse
import json
import statistics
import sys
import time
from collections import Counter
from collections.abc import Iterable, Iterator
from concurrent.futures import ProcessPoolExecutor
from dataclasses import asdict

from raftkv.testing.simulation import Outcome, run_seed

_PROGRESS_SECONDS = 5.0


def main(arguments: list[str] | None = None) -> int:
    """Run the command line.

    :return: the exit status: 1 where a seed failed.
    """
    options = _parse(arguments)
    seeds = range(options.start, options.start + options.seeds)
    if options.trace:
        return _tell(seeds)
    began = time.monotonic()
    outcomes: list[Outcome] = []
    last_report = began
    for outcome in _run(seeds, options.jobs):
        outcomes.append(outcome)
        if outcome.failure:
            print(f"seed {outcome.seed} failed: {outcome.failure}", file=sys.stderr, flush=True)
        if time.monotonic() - last_report >= _PROGRESS_SECONDS:
            last_report = time.monotonic()
            rate = len(outcomes) / (last_report - began)
            print(f"{len(outcomes)} of {len(seeds)} seeds, {rate:.1f} a second", file=sys.stderr, flush=True)
    summary = summarise(outcomes, time.monotonic() - began)
    if options.json:
        print(json.dumps(summary, indent=2))
    else:
        print(describe(summary))
    return 1 if summary["failures"] else 0


def _parse(arguments: list[str] | None) -> argparse.Namespace:
    parser = argparse.ArgumentParser(prog="python -m raftkv.testing", description=__doc__)
    parser.add_argument("--seeds", type=int, default=200, help="how many seeds (default: 200)")
    parser.add_argument("--start", type=int, default=0, help="the first seed (default: 0)")
    parser.add_argument("--jobs", type=int, default=1, help="processes side by side (default: 1)")
    parser.add_argument("--json", action="store_true", help="print the summary as JSON")
    parser.add_argument("--trace", action="store_true", help="print every line of the stories, one after the other")
    return parser.parse_args(arguments)


def _run(seeds: Iterable[int], jobs: int) -> Iterator[Outcome]:
    if jobs <= 1:
        yield from map(run_seed, seeds)
        return
    with ProcessPoolExecutor(max_workers=jobs) as pool:
        yield from pool.map(run_seed, seeds, chunksize=5)


def _tell(seeds: Iterable[int]) -> int:
    status = 0
    for seed in seeds:
        outcome = run_seed(seed, keep_trace=True)
        print("\n".join(outcome.lines))
        print(f"seed {seed}: {outcome.details or 'nothing wrong'}")
        status = status or int(bool(outcome.failure))
    return status


def summarise(outcomes: list[Outcome], wall_seconds: float) -> dict[str, object]:
    """Add up what many seeds did, as a JSON object."""
    cpu = [outcome.cpu_seconds for outcome in outcomes] or [0.0]
    totals: dict[str, Counter[str]] = {"operations": Counter(), "faults": Counter(), "network": Counter()}
    for outcome in outcomes:
        for name, counter in totals.items():
            counter.update(getattr(outcome, name))
    return {
        "seeds": len(outcomes),
        "failures": [
            {key: value for key, value in asdict(outcome).items() if key in ("seed", "failure", "details", "digest")}
            for outcome in outcomes
            if outcome.failure
        ],
        "wall_seconds": round(wall_seconds, 1),
        "seeds_per_second": round(len(outcomes) / max(wall_seconds, 1e-9), 2),
        "median_cpu_seconds": round(statistics.median(cpu), 3),
        "largest_cpu_seconds": round(max(cpu), 3),
        "simulated_hours": round(sum(outcome.simulated_seconds for outcome in outcomes) / 3600, 2),
        "events": sum(outcome.events for outcome in outcomes),
        "elections": sum(outcome.terms for outcome in outcomes),
        "entries": sum(outcome.entries for outcome in outcomes),
        **{name: dict(sorted(counter.items())) for name, counter in totals.items()},
    }


def describe(summary: dict[str, object]) -> str:
    """Return a summary as lines of text."""
    lines = [
        f"{summary['seeds']} seeds, {summary['simulated_hours']} simulated hours in {summary['wall_seconds']} seconds"
        f" ({summary['seeds_per_second']} seeds a second; median {summary['median_cpu_seconds']} s of CPU, at most"
        f" {summary['largest_cpu_seconds']})",
        f"{summary['events']} events, {summary['elections']} terms with a leader,"
        f" {summary['entries']} committed entries",
    ]
    for name in ("operations", "faults", "network"):
        counts = summary[name]
        if isinstance(counts, dict):
            lines.append(f"{name}: " + ", ".join(f"{count} {kind.replace('_', ' ')}" for kind, count in counts.items()))
    failures = summary["failures"]
    if isinstance(failures, list) and failures:
        lines.append("failed seeds: " + " ".join(str(failure["seed"]) for failure in failures))
    else:
        lines.append("no seed failed")
    return "\n".join(lines)


if __name__ == "__main__":
    sys.exit(main())
