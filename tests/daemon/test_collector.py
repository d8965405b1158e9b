"""What the garbage collector gets to see."""

from __future__ import annotations

import gc
import sys
from unittest import skipIf

from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.collector import freeze_survivors, tune_collector


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
        tune_collector()

    def is_visible(self, thing: object) -> bool:
        """Tell whether some pass of the collector would visit an object."""
        return any(each is thing for each in gc.get_objects())

    def test_survivors(self) -> None:
        """What outlives the second pass is out of sight, and stays so however it grows or is emptied."""
        state: dict[int, tuple[int, bytes]] = {0: (0, b"")}
        state[1] = (len(state), b"made just now, so that the collector must look at it")
        gc.collect(0)
        self.assertTrue(self.is_visible(state))
        gc.collect(1)
        self.assertFalse(self.is_visible(state))
        for number in range(1000):
            state[number] = (number, b"new")
        gc.collect(0)
        self.assertFalse(self.is_visible(state))

    def test_young_garbage(self) -> None:
        """A cycle that is dropped while it is young is found, and not frozen."""
        gc.collect(1)
        garbage: list[object] = []
        garbage.append(garbage)
        del garbage
        self.assertGreaterEqual(gc.collect(0), 1)

    def test_no_pass_over_everything(self) -> None:
        """The collector never decides by itself to look at the oldest generation in a process of usual length."""
        self.assertGreaterEqual(gc.get_threshold()[2], 1_000_000)

    def test_tuned_twice(self) -> None:
        """Tuning again changes nothing."""
        tune_collector()
        self.assertEqual(gc.callbacks.count(freeze_survivors), 1)
