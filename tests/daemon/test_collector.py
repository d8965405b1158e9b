"""What the garbage collector gets to see."""

from __future__ import annotations

import gc
import sys
from unittest import skipIf

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon import collector
from raftkv.daemon.collector import Freezer, YoungPasses, tune_collector
from raftkv.kvstore.records import Records


class FreezerTests(SynchronousTestCase):
    """Passes whose length a test chooses."""

    def setUp(self) -> None:
        self.now = 0.0
        self.freezes: list[float] = []
        self.freezer = Freezer(lambda: self.now, lambda: self.freezes.append(self.now))

    def collect(self, generation: int, seconds: float) -> None:
        """Make a pass."""
        self.freezer("start", {"generation": generation})
        self.now += seconds
        self.freezer("stop", {"generation": generation})

    def test_long_pass(self) -> None:
        """A pass over everything that took long freezes what survived it, so that the next one is short again."""
        self.collect(2, 0.001)
        self.assertEqual(self.freezes, [])
        self.collect(2, 0.020)
        self.assertEqual(len(self.freezes), 1)

    def test_young_pass(self) -> None:
        """A pass over a part freezes nothing: what it has not visited could be garbage."""
        self.collect(0, 0.020)
        self.collect(1, 0.020)
        self.assertEqual(self.freezes, [])


@skipIf(sys.version_info >= (3, 14), "this version's collector works in increments, and is left as it is")
class CollectorTests(SynchronousTestCase):
    """The collector of this very process, set back afterwards."""

    def setUp(self) -> None:
        thresholds, callbacks = gc.get_threshold(), list(gc.callbacks)

        def set_back() -> None:
            gc.callbacks[:] = callbacks
            gc.set_threshold(*thresholds)
            gc.unfreeze()

        self.addCleanup(set_back)

    def is_visible(self, thing: object) -> bool:
        """Tell whether some pass of the collector would visit an object."""
        return any(each is thing for each in gc.get_objects())

    def test_state_stays_out_of_sight(self) -> None:
        """Once the records have been frozen, no write brings them back into the collector's sight."""
        self.patch(collector, "_LONG_PASS_SECONDS", 0.0)
        records = Records()
        records.put((1, 0, b"a", b"first"))
        gc.collect()  # as a pass does that is not long: it must not let go of the dictionary, to track it again later
        tune_collector()
        gc.collect()
        self.assertFalse(self.is_visible(records._by_key))
        records.put((1, 0, b"b", b"second"))
        self.assertFalse(self.is_visible(records._by_key))

    def test_tuned_twice(self) -> None:
        """Tuning again changes nothing."""
        tune_collector()
        tune_collector()
        self.assertEqual(len([each for each in gc.callbacks if isinstance(each, Freezer)]), 1)


class YoungPassesTests(SynchronousTestCase):
    """Passes by time."""

    def test_at_intervals(self) -> None:
        """As long as the service runs, the youngest generation is visited several times a second."""
        clock = Clock()
        passes: list[int] = []
        service = YoungPasses(clock, passes.append)
        service.startService()
        clock.pump([0.25] * 4)
        self.assertEqual(passes, [0, 0, 0, 0])
        service.stopService()
        self.assertEqual(clock.getDelayedCalls(), [])
