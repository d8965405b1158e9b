"""Medians, turns and ratios."""

from __future__ import annotations

import math

from twisted.trial.unittest import SynchronousTestCase

from benchmarks.arithmetic import best, interleaved, median, ratio, reaches, spread

NAN = float("nan")


class MedianTests(SynchronousTestCase):
    """What the rounds make together."""

    def test_one_outlier(self) -> None:
        """One slow round does not move the median, but shows in the spread."""
        self.assertEqual(median([100.0, 10.0, 101.0]), 100.0)
        self.assertEqual(spread([100.0, 10.0, 101.0]), 0.91)

    def test_nothing(self) -> None:
        """No rounds have neither; one has no spread."""
        self.assertTrue(math.isnan(median([])) and math.isnan(spread([])))
        self.assertEqual(spread([5.0]), 0.0)


class InterleavingTests(SynchronousTestCase):
    """Who runs when."""

    def test_turns(self) -> None:
        """Contestants take turns, A B A B, and never A A B B."""
        self.assertEqual(list(interleaved(2, ["a", "b"])), [(1, "a"), (1, "b"), (2, "a"), (2, "b")])

    def test_nobody(self) -> None:
        """Without contestants nothing runs."""
        self.assertEqual(list(interleaved(3, [])), [])


class RatioTests(SynchronousTestCase):
    """Who is how far ahead."""

    def test_best(self) -> None:
        """The best rate is the highest, the best time the lowest; who has no figure is never the best."""
        figures = {"a": 3.0, "b": 5.0, "c": NAN}
        self.assertEqual((best(figures, "higher"), best(figures, "lower")), ("b", "a"))
        self.assertIsNone(best({"c": NAN}, "higher"))

    def test_ratio(self) -> None:
        """It is ours in terms of theirs, and nothing where they have nothing."""
        self.assertEqual(ratio(10.0, 4.0), 2.5)
        self.assertTrue(math.isnan(ratio(1.0, 0.0)) and math.isnan(ratio(1.0, NAN)))

    def test_reaches(self) -> None:
        """A rate must be at least its bound, a time at most; the bound itself is enough."""
        self.assertEqual([reaches(value, 2.0, "higher") for value in (1.9, 2.0, 2.1)], [False, True, True])
        self.assertEqual([reaches(value, 2.0, "lower") for value in (1.9, 2.0, 2.1)], [True, True, False])

    def test_unknown(self) -> None:
        """Without a bound or a ratio nothing is reached, and nothing is missed."""
        self.assertEqual((reaches(1.0, None, "higher"), reaches(NAN, 1.0, "higher")), (None, None))
