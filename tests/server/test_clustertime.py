"""Cluster time goes on from the last entry, never back, and knows no wall clock."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.server.clustertime import ClusterClock


class ClusterClockTests(SynchronousTestCase):
    """The stamps of one leader."""

    def setUp(self) -> None:
        self.now = 50.0
        self.applied = 7_000
        self.wall = 1.5
        self.clock = ClusterClock(monotonic=lambda: self.now, wall=lambda: self.wall, applied_ms=lambda: self.applied)
        self.clock.restart()

    def test_continues(self) -> None:
        """A leader continues from what was applied when it began, by its monotonic clock."""
        self.assertEqual(self.clock.now_ms(), 7_000)
        self.now += 0.25
        self.assertEqual(self.clock.now_ms(), 7_250)

    def test_catches_up(self) -> None:
        """An entry of an earlier leader that is applied later and lies ahead moves the clock forward."""
        self.applied = 9_000
        self.assertEqual(self.clock.now_ms(), 9_000)
        self.now += 1
        self.assertEqual(self.clock.now_ms(), 10_000)

    def test_never_back(self) -> None:
        """The stamps of one leader do not fall even if its monotonic clock does, as on some virtual machines (B31)."""
        self.now += 5
        self.assertEqual(self.clock.now_ms(), 12_000)
        self.now -= 3
        self.assertEqual(self.clock.now_ms(), 12_000)
        self.now += 4
        self.assertEqual(self.clock.now_ms(), 13_000)

    def test_wall_clock_steps_back(self) -> None:
        """A step of the wall clock changes what people are told and nothing else (B31)."""
        self.assertEqual(self.clock.wall_ms(), 1_500)
        self.wall = -3_600.0
        self.now += 1
        self.assertEqual(self.clock.now_ms(), 8_000)
