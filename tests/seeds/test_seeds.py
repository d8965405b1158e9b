"""Many stories of clusters under faults, as many as the runner of the tests asks for and has time for.

Which seeds there are is fixed, so that a failure can be told again anywhere. ``python tests/run.py`` asks for 1,000,
says until when, and adds up what was simulated; by itself, trial runs the first 200.
"""

from __future__ import annotations

import json
import os
import time
from collections.abc import Callable, Sequence

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from raftkv.testing.outcome import Outcome
from raftkv.testing.simulation import run_seed
from tests.run import SIMULATION_DEADLINE, SIMULATION_REPORT, SIMULATION_SEEDS

SEEDS_EACH = 20
SEEDS_ALONE = 200


class SeedTests(SynchronousTestCase):
    """Safety, then liveness, then linearizability; many methods, so that trial can spread them over its processes."""

    def tell(self, seeds: Sequence[int]) -> None:
        """Tell some stories; a test whose time is over before its last one is skipped, not passed."""
        failures = []
        for seed in seeds:
            if _is_time_over():
                self.assertEqual([], failures)
                raise SkipTest(f"the time for the simulation was over: seeds {seed} to {seeds[-1]} were not run")
            outcome = run_seed(seed)
            _report(outcome)
            if outcome.failure:
                failures.append(f"{outcome.failure} (python -m raftkv.testing --start {seed} --seeds 1)")
        self.assertEqual([], failures)


def _is_time_over() -> bool:
    deadline = os.environ.get(SIMULATION_DEADLINE)
    return deadline is not None and time.monotonic() > float(deadline)


def _report(outcome: Outcome) -> None:
    path = os.environ.get(SIMULATION_REPORT)
    if path is not None:
        with open(path, "a") as file:  # a line a write, for several processes add to it
            file.write(json.dumps([outcome.seed, outcome.simulated_seconds, outcome.cpu_seconds]) + "\n")


def _telling(seeds: Sequence[int]) -> Callable[[SeedTests], None]:
    def test(self: SeedTests) -> None:
        self.tell(seeds)

    test.__doc__ = f"Seeds {seeds[0]} to {seeds[-1]} keep every promise."
    return test


def _add_tests(count: int) -> None:
    for first in range(0, count, SEEDS_EACH):
        seeds = range(first, min(first + SEEDS_EACH, count))
        setattr(SeedTests, f"test_from_{first:04}", _telling(seeds))


_add_tests(int(os.environ.get(SIMULATION_SEEDS, SEEDS_ALONE)))
