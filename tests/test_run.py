"""The verdict that ``make test`` ends with."""

from __future__ import annotations

import os
from collections import Counter

from twisted.trial.unittest import SkipTest, SynchronousTestCase

from tests.run import SIMULATION_DEADLINE, describe_seeds, parse_verdict, summarize, unit_modules
from tests.seeds import test_seeds


class VerdictTests(SynchronousTestCase):
    """From trial's last lines to ours."""

    def test_lines_of_trial(self) -> None:
        """Each form of trial's last line is understood, and no other line is taken for one."""
        self.assertEqual(parse_verdict("PASSED (successes=20)\n"), Counter(successes=20))
        self.assertEqual(
            parse_verdict("FAILED (skips=1, failures=2, errors=3, successes=4)\n"),
            Counter(skips=1, failures=2, errors=3, successes=4),
        )
        self.assertEqual(parse_verdict("PASSED\n"), Counter())
        for line in ("Ran 20 tests in 1.2s", "    test_x ... [OK]", "", "PASSED it was"):
            self.assertIsNone(parse_verdict(line))

    def test_summary(self) -> None:
        """The status is that of success only if something passed and nothing failed in any way."""
        self.assertEqual(summarize(Counter(successes=3, expectedFailures=1, skips=2)), ("4 passed, 0 failed", 0))
        self.assertEqual(summarize(Counter(successes=3, errors=1, failures=1)), ("3 passed, 2 failed", 1))
        self.assertEqual(summarize(Counter(successes=1, unexpectedSuccesses=1)), ("1 passed, 1 failed", 1))
        self.assertEqual(summarize(Counter()), ("0 passed, 0 failed", 1))
        self.assertEqual(summarize(Counter(skips=5)), ("0 passed, 0 failed", 1))

    def test_nothing_is_left_out(self) -> None:
        """Every part of the tests is run, and the simulated seeds and the functional tests apart."""
        modules = unit_modules()
        self.assertIn("tests.test_run", modules)
        self.assertIn("tests.raft", modules)
        self.assertNotIn("tests.functional", modules)
        self.assertNotIn("tests.seeds", modules)


class SeedsTests(SynchronousTestCase):
    """What is said about the simulated seeds."""

    def test_all_of_them(self) -> None:
        """The number, the simulated time, the time that it took, and what a seed took are told."""
        report = "".join(f"[{seed}, 36.0, 0.{seed}]\n" for seed in range(1, 6))
        self.assertEqual(
            "simulated 5 of 5 seeds (0.1 simulated hours) in 2 s; median 0.30 s of CPU a seed",
            describe_seeds(report, 5, 1.9),
        )

    def test_time_was_over(self) -> None:
        """Seeds that there was no time for are not passed over in silence."""
        self.assertIn("simulated 1 of 1,000 seeds", describe_seeds("[0, 36.0, 0.3]\n", 1000, 300.0))
        self.assertIn("; 999 were NOT run", describe_seeds("[0, 36.0, 0.3]\n", 1000, 300.0))
        self.assertIn("simulated 0 of 20 seeds", describe_seeds("", 20, 300.0))

    def test_skipped_when_time_is_over(self) -> None:
        """A test whose seeds were not all told in time does not pass: it is skipped, and says which."""
        self.patch(os, "environ", {SIMULATION_DEADLINE: "0.0"})
        told: list[int] = []
        self.patch(test_seeds, "run_seed", told.append)
        skipped = self.assertRaises(SkipTest, test_seeds.SeedTests("test_from_0000").tell, range(20, 40))
        self.assertIn("seeds 20 to 39 were not run", str(skipped))
        self.assertEqual([], told)
