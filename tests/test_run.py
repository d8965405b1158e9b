"""The verdict that ``make test`` ends with."""

from __future__ import annotations

from collections import Counter

from twisted.trial.unittest import SynchronousTestCase

from tests.run import parse_verdict, summarize, unit_modules


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
        """Every part of the tests is run, and the functional tests apart."""
        modules = unit_modules()
        self.assertIn("tests.test_run", modules)
        self.assertIn("tests.raft", modules)
        self.assertNotIn("tests.functional", modules)
