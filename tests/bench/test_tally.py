"""What counts of a load that a client makes: from when on, until when, and what of it comes late."""

from __future__ import annotations

from typing import Any
from unittest import mock

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench import tally
from raftkv.bench.overseer import Silent
from raftkv.bench.specification import Load


class TallyTests(SynchronousTestCase):
    """A warm-up of one second, then two seconds that are measured."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.begun: list[float] = []
        self.patch(tally, "time", mock.Mock(perf_counter=self.clock.seconds))

    def make(self, **more: object) -> tally.Tally:
        """Return one that begins now."""
        values: dict[str, Any] = {
            "generator": "native",
            "protocol": "rpc",
            "addresses": ("127.0.0.1:1",),
            "warmup_seconds": 1.0,
            "seconds": 2.0,
            **more,
        }
        load = Load(**values)
        return tally.Tally(load, Silent(lambda: self.begun.append(self.clock.seconds())))

    def test_measured(self) -> None:
        """What comes in the warm-up, or succeeds after the end, is nothing; what comes between is measured."""
        made = self.make()
        made.answered(0.0)
        self.clock.advance(1)
        self.assertTrue(made.goes_on)
        self.clock.advance(1)
        made.answered(1.5)
        self.clock.advance(1)
        self.assertFalse(made.goes_on)
        made.answered(2.5)
        measured = made.finish()
        self.assertEqual((measured.latencies, measured.errors, measured.seconds), ([0.5], {}, 2.0))

    def test_an_outage_at_the_end(self) -> None:
        """What was asked for in time and fails after the end is an error."""
        made = self.make()
        self.clock.advance(1)
        self.assertTrue(made.goes_on)
        self.clock.advance(9)
        made.answered(2.0, "timeout")
        measured = made.finish()
        self.assertEqual((measured.latencies, measured.errors, measured.seconds), ([], {"timeout": 1}, 2.0))

    def test_an_outage_at_the_beginning(self) -> None:
        """The warm-up ends in time also where every request is stuck, so that the figures show that."""
        made = self.make()
        self.clock.advance(1)
        made.report()
        self.assertEqual(self.begun, [1.0])
        self.clock.advance(9)
        self.assertFalse(made.goes_on)
        made.answered(0.5, "timeout")
        measured = made.finish()
        self.assertEqual((measured.errors, measured.seconds, self.begun), ({"timeout": 1}, 2.0, [1.0]))

    def test_late_at_a_rate(self) -> None:
        """At a rate what was due in time counts with its latency, however late it comes."""
        made = self.make(rate=10.0)
        self.clock.advance(1)
        self.assertTrue(made.goes_on)
        self.clock.advance(4)
        made.answered(2.0)
        made.answered(3.5)
        self.assertEqual(made.finish().latencies, [3.0])
