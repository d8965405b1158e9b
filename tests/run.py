"""Run the test suite: the unit tests spread over processes, then the functional tests one by one.

``python tests/run.py [-j JOBS] [--unit | --functional] [MODULE...]`` shows trial's own output, and ends with one line,
``N passed, N failed``, added up from what trial reported. The status is 0 only if something ran and nothing failed.
Tests that were skipped are listed with their reasons by trial, and counted in a line of their own.
"""

from __future__ import annotations

import argparse
import os
import re
import subprocess
import sys
from collections import Counter
from pathlib import Path

ROOT = Path(__file__).resolve().parent.parent
FUNCTIONAL = "tests.functional"

# "PASSED (skips=1, successes=20)" or "FAILED (failures=2, errors=1, successes=18)": trial's last line.
_VERDICT = re.compile(r"^(PASSED|FAILED)(?: \((.*)\))?\s*$")
_GOOD = ("successes", "expectedFailures")
_BAD = ("failures", "errors", "unexpectedSuccesses")


def unit_modules() -> list[str]:
    """Return the names of everything below ``tests`` but the functional tests."""
    tests = ROOT / "tests"
    packages = [path.parent.name for path in tests.glob("*/__init__.py")]
    modules = [path.stem for path in tests.glob("test_*.py")]
    return sorted(f"tests.{name}" for name in (*packages, *modules) if f"tests.{name}" != FUNCTIONAL)


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


def run_trial(name: str, arguments: list[str]) -> Counter[str]:
    """Run trial, pass its output on, and return what it counted; a run that breaks off counts as one failure."""
    print(f"== {name}", flush=True)
    command = [sys.executable, "-m", "twisted.trial", f"--temp-directory=_trial_temp/{name}", *arguments]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join([str(ROOT), os.environ.get("PYTHONPATH", "")])}
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


def summarize(counts: Counter[str]) -> tuple[str, int]:
    """Return the last line and the exit status for the counts of all runs."""
    passed = sum(counts[name] for name in _GOOD)
    failed = sum(counts[name] for name in _BAD)
    return f"{passed} passed, {failed} failed", 0 if passed and not failed else 1


def main(arguments: list[str] | None = None) -> int:
    """Run what the command line asks for, and return the exit status."""
    parser = argparse.ArgumentParser(description="Run raftkv's tests.")
    parser.add_argument("-j", "--jobs", type=int, default=min(2, os.cpu_count() or 1), help="processes (unit tests)")
    which = parser.add_mutually_exclusive_group()
    which.add_argument("--unit", action="store_true", help="only the unit tests")
    which.add_argument("--functional", action="store_true", help="only the functional tests")
    parser.add_argument("modules", nargs="*", help="what to run instead of everything, such as tests.raft")
    options = parser.parse_args(arguments)
    counts: Counter[str] = Counter()
    jobs = [f"--jobs={options.jobs}"] if options.jobs > 1 else []
    if options.modules:
        counts += run_trial("chosen", [*jobs, *options.modules])
    else:
        if not options.functional:
            counts += run_trial("unit", [*jobs, *unit_modules()])
        if not options.unit:
            # Alone and in a row: real processes with real time-outs must not compete with the rest for the processor.
            counts += run_trial("functional", [FUNCTIONAL])
    line, status = summarize(counts)
    if counts["skips"]:
        print(f"{counts['skips']} skipped")
    print(line, flush=True)
    return status


if __name__ == "__main__":
    sys.exit(main())
