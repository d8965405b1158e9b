"""What the garbage collector gets to see, and when."""

from __future__ import annotations

import gc

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.collector import Collector
from raftkv.kvstore.leases import Leases
from raftkv.kvstore.records import Records


class CollectorTests(SynchronousTestCase):
    """A collector whose passes take as long as a test says."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.now = 0.0
        self.new = 0
        self.full_pass_seconds = 0.0
        self.done: list[int | str] = []
        self.collector = Collector(
            self.clock,
            collect=self.collect,
            count=lambda: (self.new, 0, 0),
            freeze=lambda: self.done.append("freeze"),
            seconds=lambda: self.now,
        )
        self.collector.startService()
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))
        self.addCleanup(self.collector.stopService)

    def collect(self, generation: int) -> None:
        """Make a pass of our own, of which Python tells as it does of its own."""
        self.done.append(generation)
        self.now += self.full_pass_seconds if generation == 2 else 1.0
        self.python_pass(generation)

    def python_pass(self, generation: int = 0) -> None:
        """Tell of a pass, which begins to count anew what comes."""
        self.collector.passed("start", {"generation": generation})
        self.new = 0
        self.collector.passed("stop", {"generation": generation})

    def look(self, times: int = 1) -> list[int | str]:
        """Let time pass; return what was done meanwhile."""
        self.done.clear()
        self.clock.pump([0.25] * times)
        return list(self.done)

    def test_by_time(self) -> None:
        """The youngest are visited several times a second, however few new ones Python counts."""
        self.assertEqual(self.look(8), [0] * 8)

    def test_everything(self) -> None:
        """When there is much that is new, everything in sight is visited, once; passes over the young in between,
        Python's own and ours, do not make it less."""
        self.new = 60_000
        self.assertEqual(self.look(3), [2, 0, 0])
        for _ in range(4):
            self.new = 9_000
            self.assertEqual(self.look(), [0])
        self.new = 10_000
        self.python_pass()
        self.assertEqual(self.look(), [0])
        self.new = 4_000
        self.assertEqual(self.look(2), [2, 0])

    def test_everything_by_time(self) -> None:
        """Once a minute everything in sight is visited even if nothing seems new, so that small cycles go too."""
        self.assertEqual(self.look(480).count(2), 2)

    def test_freeze(self) -> None:
        """What survives a long pass over everything is frozen; after a short one nothing is, nor after others."""
        self.new = 60_000
        self.assertEqual(self.look(2), [2, 0])
        self.full_pass_seconds = 0.02
        self.new = 60_000
        self.assertEqual(self.look(2), [2, "freeze", 0])


class StateTests(SynchronousTestCase):
    """The records, and the collector of this very process."""

    def is_visible(self, thing: object) -> bool:
        """Tell whether some pass of the collector would visit an object."""
        return any(each is thing for each in gc.get_objects())

    def test_stays_out_of_sight(self) -> None:
        """Once the records have been frozen, no write brings them back into sight, whatever passes there were."""
        records = Records(Leases())
        records.put((1, 0, b"a", b"first"))
        self.assertTrue(self.is_visible(records._by_key))
        gc.collect()  # a plain dictionary would be let go of here, and be tracked again by the next write
        gc.freeze()
        self.addCleanup(gc.unfreeze)
        records.put((1, 0, b"b", b"second"))
        self.assertFalse(self.is_visible(records._by_key))
