"""Percentiles, exact and in bounded memory, and histograms."""

from __future__ import annotations

import math
import random
from itertools import pairwise

from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench.figures import percentile
from raftkv.bench.latencies import Latencies


class PercentileTests(SynchronousTestCase):
    """The smallest value that so many do not exceed."""

    def test_hundred(self) -> None:
        """Of 1 to 100 the 50th percentile is 50, the 99th 99, and the 99.9th the largest."""
        values = [float(number) for number in range(1, 101)]
        self.assertEqual([percentile(values, part) for part in (0.5, 0.99, 0.999, 1.0)], [50, 99, 100, 100])

    def test_few(self) -> None:
        """Of one value it is every percentile; of three the median is the middle one."""
        self.assertEqual([percentile([7.0], part) for part in (0.0, 0.5, 0.999)], [7.0, 7.0, 7.0])
        self.assertEqual(percentile([1.0, 2.0, 9.0], 0.5), 2.0)

    def test_like_its_definition(self) -> None:
        """It agrees with counting how many values are no larger, for lists of every length up to 60."""
        for count in range(1, 61):
            values = [float(number) for number in range(count)]
            for thousandths in (1, 10, 500, 900, 990, 999, 1000):
                expected = next(v for v in values if sum(each <= v for each in values) * 1000 >= thousandths * count)
                self.assertEqual(percentile(values, thousandths / 1000), expected, (count, thousandths))

    def test_nothing(self) -> None:
        """Without values there is no percentile, rather than 0."""
        self.assertTrue(math.isnan(percentile([], 0.5)))


class LatenciesTests(SynchronousTestCase):
    """The same in bounded memory."""

    def latencies(self, values: list[float]) -> Latencies:
        """Return them, added in two portions."""
        made = Latencies()
        made.add(values[: len(values) // 3])
        made.add(values[len(values) // 3 :])
        return made

    def test_like_the_exact_ones(self) -> None:
        """Every percentile lies within half of a hundredth of the exact one, over six decades."""
        chance = random.Random(1)
        values = [math.exp(chance.uniform(math.log(1e-5), math.log(10.0))) for _ in range(5000)]
        made, ordered = self.latencies(values), sorted(values)
        for part in (0.0, 0.001, 0.5, 0.9, 0.99, 0.999):
            exact = percentile(ordered, part)
            self.assertLess(abs(made.percentile(part) / exact - 1), 0.005, part)

    def test_the_largest_is_exact(self) -> None:
        """The largest is told as it was, and no percentile is larger."""
        made = self.latencies([0.001, 0.0010001, 0.123456789])
        self.assertEqual((made.largest, made.percentile(1.0), made.percentile(0.999)), (0.123456789,) * 3)
        self.assertLessEqual(self.latencies([0.0030001] * 2).percentile(0.5), 0.0030001)

    def test_nothing(self) -> None:
        """Without values there is neither a percentile nor a bar."""
        made = self.latencies([])
        self.assertTrue(math.isnan(made.percentile(0.5)) and math.isnan(made.largest))
        self.assertEqual((made.count, made.bars()), (0, []))

    def test_memory_is_bounded(self) -> None:
        """A hundred thousand different values of one decade are held as some hundred numbers."""
        made = self.latencies([0.001 + n * 9e-8 for n in range(100_000)])
        self.assertEqual(made.count, 100_000)
        self.assertLess(len(made._counts), 500)

    def test_impossible_times(self) -> None:
        """What a coarse clock makes of a fast answer counts, and breaks nothing."""
        made = self.latencies([0.0, -1e-9, 1e-6, 0.002])
        self.assertEqual(sum(bar.count for bar in made.bars()), 4)
        self.assertEqual(sum(bar.count for bar in self.latencies([0.0]).bars()), 1)


class BarsTests(SynchronousTestCase):
    """Histograms."""

    def test_round_ends(self) -> None:
        """The ends are round, the first and the last bar are not empty, and each value is in its bar."""
        made = Latencies()
        made.add([0.0011] * 3 + [0.0042] * 5 + [0.0068])
        bars = made.bars()
        self.assertEqual((bars[0].low, bars[0].high, bars[0].count), (0.001, 0.00125, 3))
        self.assertEqual((bars[-1].low, bars[-1].high, bars[-1].count), (0.006, 0.008, 1))
        self.assertEqual({bar.low: bar.count for bar in bars if bar.count}, {0.001: 3, 0.004: 5, 0.006: 1})
        self.assertTrue(all(a.high == b.low for a, b in pairwise(bars)))

    def test_an_end_within_an_interval(self) -> None:
        """The last bar holds the largest, also where a round end lies between it and the others that count like it."""
        for values in ([0.002, 0.01501], [0.002, 0.0149, 0.01501], [0.002, 0.01499], [0.002, 0.01499, 0.015]):
            made = Latencies()
            made.add(values)
            bars = made.bars()
            self.assertTrue(bars[-1].low <= made.largest < bars[-1].high, bars)
            self.assertGreater(bars[-1].count, 0, values)
            self.assertEqual(sum(bar.count for bar in bars), len(values))

    def test_few_bars(self) -> None:
        """However far the values lie apart there are not more bars than a screen can show, and none is missed."""
        for decades in range(1, 8):
            made = Latencies()
            made.add([3.3e-6, 3.3e-6 * 10**decades])
            bars = made.bars()
            self.assertLessEqual(len(bars), 12)
            self.assertEqual((sum(bar.count for bar in bars), bars[0].count, bars[-1].count), (2, 1, 1))
