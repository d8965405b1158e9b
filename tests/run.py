"""Run the test suite: unit tests, simulated seeds and functional tests, each spread over processes.

``python tests/run.py [-j JOBS] [--unit | --functional] [MODULE...]`` shows trial's own output, and ends with one line,
``N passed, N failed``, added up from what trial reported. The status is 0 only if something ran and nothing failed.
Tests that were skipped are listed with their reasons by trial, and counted in a line of their own; so are the seeds of
the simulation, which gets four minutes at most: a machine that is too slow for all of them runs fewer, and that line
says how many.
"""

from __future__ import annotations

import argparse
import json
import os
import re
import statistics
import subprocess
import sys
import tempfile
import time
from collections import Counter
from collections.abc import Mapping
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONAL = "tests.functional"
SEEDS = "tests.seeds"

SIMULATION_LIMIT_SECONDS = 200.0
#: What the simulated seeds are told, by the environment: how many there are, when to stop (of ``time.monotonic``, which
#: all processes of a machine share), and the file in which to note what was done.
SIMULATION_SEEDS = "RAFTKV_SIMULATION_SEEDS"
SIMULATION_DEADLINE = "RAFTKV_SIMULATION_DEADLINE"
SIMULATION_REPORT = "RAFTKV_SIMULATION_REPORT"

# "PASSED (skips=1, successes=20)" or "FAILED (failures=2, errors=1, successes=18)": trial's last line.
_VERDICT = re.compile(r"^(PASSED|FAILED)(?: \((.*)\))?\s*$")
_GOOD = ("successes", "expectedFailures")
_BAD = ("failures", "errors", "unexpectedSuccesses")


def unit_modules() -> list[str]:
    """Return the names of everything below ``tests`` but the simulated seeds and the functional tests."""
    tests = ROOT / "tests"
    packages = [path.parent.name for path in tests.glob("*/__init__.py")]
    modules = [path.stem for path in tests.glob("test_*.py")]
    return sorted(f"tests.{name}" for name in (*packages, *modules) if f"tests.{name}" not in (FUNCTIONAL, SEEDS))


def parse_verdict(line: str) -> Counter[str] | None:
    """Return the counts in trial's last line, or ``None`` for any other line."""
    match = _VERDICT.match(line)
    if match is None:
        return None
    counts: Counter[str] = Counter()
    for part in filter(None, (match[2] or "").split(", ")):
        name, _, number = part.partition("=")
        counts[name] = int(number)
    return counts


def run_trial(name: str, arguments: list[str], settings: Mapping[str, str] | None = None) -> Counter[str]:
    """Run trial, pass its output on, and return what it counted; a run that breaks off counts as one failure.

    :param settings: what to add to the environment.
    """
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", "twisted.trial", f"--temp-directory=_trial_temp/{name}", *arguments]
    path = os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])
    environment = {**os.environ, **(settings or {}), "PYTHONPATH": path}
    counts: Counter[str] | None = None
    (ROOT / "_trial_temp").mkdir(exist_ok=True)
    with subprocess.Popen(command, cwd=ROOT, env=environment, stdout=subprocess.PIPE, text=True) as trial:
        assert trial.stdout is not None
        for line in trial.stdout:
            print(line, end="", flush=True)
            counts = parse_verdict(line) or counts
    if counts is None:
        print(f"{name}: trial ended with status {trial.returncode} and without a verdict", flush=True)
        return Counter(errors=1)
    if trial.returncode != 0 and not any(counts[bad] for bad in _BAD):
        counts["errors"] += 1
    return counts


def run_seeds(count: int, jobs: list[str]) -> tuple[Counter[str], str]:
    """Simulate as many seeds as there is time for, up to ``count``; return what trial counted, and a line about it."""
    with tempfile.TemporaryDirectory() as folder:
        report = Path(folder) / "report"
        report.touch()
        began = time.monotonic()
        settings = {
            SIMULATION_SEEDS: str(count),
            SIMULATION_DEADLINE: str(began + SIMULATION_LIMIT_SECONDS),
            SIMULATION_REPORT: str(report),
        }
        counts = run_trial("seeds", [*jobs, SEEDS], settings)
        return counts, describe_seeds(report.read_text(), count, time.monotonic() - began)


def describe_seeds(report: str, wanted: int, seconds: float) -> str:
    """Return a line about the seeds that were simulated.

    :param report: a line for each: its number, its simulated seconds and its seconds of CPU, as a JSON array.
    """
    rows = [json.loads(line) for line in report.splitlines()]
    hours = sum(simulated for _, simulated, _ in rows) / 3600
    line = f"simulated {len(rows):,} of {wanted:,} seeds ({hours:.1f} simulated hours) in {seconds:.0f} s"
    if rows:
        line += f"; median {statistics.median(cpu for _, _, cpu in rows):.2f} s of CPU a seed"
    if len(rows) < wanted:
        line += f"; {wanted - len(rows):,} were NOT run"
    return line


def summarize(counts: Counter[str]) -> tuple[str, int]:
    """Return the last line and the exit status for the counts of all runs."""
    passed = sum(counts[name] for name in _GOOD)
    failed = sum(counts[name] for name in _BAD)
    return f"{passed} passed, {failed} failed", 0 if passed and not failed else 1


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run raftkv's tests.")
    parser.add_argument("-j", "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes")
    parser.add_argument("--seeds", type=int, help="seeds to simulate (1000; 200 with --unit)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--unit", action="store_true", help="only the unit tests")
    which.add_argument("--functional", action="store_true", help="only the functional tests")
    parser.add_argument("modules", nargs="*", help="what to run instead of everything, such as tests.raft")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    simulated = ""
    jobs = [f"--jobs={options.jobs}"] if options.jobs > 1 else []
    if options.modules:
        counts += run_trial("chosen", [*jobs, *options.modules])
    else:
        if not options.functional:
            counts += run_trial("unit", [*jobs, *unit_modules()])
            of_seeds, simulated = run_seeds(options.seeds or (200 if options.unit else 1000), jobs)
            counts += of_seeds
        if not options.unit:
            # Apart from the rest: real processes with real time-outs, whose tests mostly wait.
            counts += run_trial("functional", [*jobs, FUNCTIONAL])
    line, status = summarize(counts)
    if simulated:
        print(simulated)
    if counts["skips"]:
        print(f"{counts['skips']} skipped")
    print(line, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
