"""Virtual time, and the clocks of processes that drift, pause and die."""

from __future__ import annotations

from twisted.internet.error import AlreadyCalled, AlreadyCancelled
from twisted.internet.task import LoopingCall
from twisted.trial.unittest import SynchronousTestCase

from raftkv.testing.clock import NodeClock, VirtualClock


class VirtualClockTests(SynchronousTestCase):
    """The time of the world."""

    def setUp(self) -> None:
        self.clock = VirtualClock()
        self.happened: list[object] = []

    def test_order(self) -> None:
        """Calls happen in order of time, and in the order they were made where that is equal."""
        self.clock.callLater(2, self.happened.append, "c")
        self.clock.callLater(1, self.happened.append, "a")
        self.clock.callLater(1, self.happened.append, "b")
        self.clock.advance(3)
        self.assertEqual(["a", "b", "c"], self.happened)
        self.assertEqual(3, self.clock.seconds())

    def test_not_yet_due(self) -> None:
        """What is due later waits, and shows among the delayed calls."""
        call = self.clock.callLater(2, self.happened.append, "a")
        self.clock.advance(1)
        self.assertEqual([], self.happened)
        self.assertEqual([call], self.clock.getDelayedCalls())
        self.assertEqual(2, call.getTime())

    def test_cancelled(self) -> None:
        """A cancelled call never happens and cannot be cancelled again."""
        call = self.clock.callLater(1, self.happened.append, "a")
        call.cancel()
        self.clock.advance(2)
        self.assertEqual([], self.happened)
        self.assertRaises(AlreadyCancelled, call.cancel)

    def test_moved(self) -> None:
        """A call can be put off or drawn forward, and happens once."""
        put_off = self.clock.callLater(1, self.happened.append, "put off")
        drawn_forward = self.clock.callLater(9, self.happened.append, "drawn forward")
        put_off.delay(1)
        drawn_forward.reset(1)
        self.clock.advance(10)
        self.assertEqual(["drawn forward", "put off"], self.happened)
        self.assertRaises(AlreadyCalled, put_off.cancel)

    def test_looping_call(self) -> None:
        """A LoopingCall runs on it."""
        loop = LoopingCall(lambda: self.happened.append(self.clock.seconds()))
        loop.clock = self.clock
        loop.start(1, now=False)
        self.clock.advance(3)
        loop.stop()
        self.clock.advance(3)
        self.assertEqual([1, 2, 3], self.happened)

    def test_run_while(self) -> None:
        """It runs until something has come true, or gives up at the limit."""
        self.clock.callLater(1, self.happened.append, "a")
        self.assertTrue(self.clock.run_while(lambda: not self.happened, limit_seconds=5))
        self.assertEqual(1, self.clock.seconds())
        self.assertFalse(self.clock.run_while(lambda: True, limit_seconds=5))
        self.assertEqual(6, self.clock.seconds())

    def test_after_event(self) -> None:
        """Somebody can look at a process after each of its events."""
        owners: list[object] = []
        self.clock.after_event = owners.append
        node = NodeClock(self.clock, name="a")
        self.clock.callLater(1, self.happened.append, "a")
        node.callLater(2, self.happened.append, "b")
        self.clock.advance(3)
        self.assertEqual([node], owners)

    def test_error_ends_the_run(self) -> None:
        """An error in a call is not swallowed."""
        self.clock.callLater(1, {}.__getitem__, "missing")
        self.assertRaises(KeyError, self.clock.advance, 2)


class NodeClockTests(SynchronousTestCase):
    """The clock of one process."""

    def setUp(self) -> None:
        self.world = VirtualClock()
        self.happened: list[object] = []

    def test_drift(self) -> None:
        """A clock that runs fast is early, and shows its own seconds."""
        fast = NodeClock(self.world, name="a", rate=2.0)
        call = fast.callLater(2, lambda: self.happened.append(fast.seconds()))
        self.assertEqual(2, call.getTime())
        self.world.advance(1)
        self.assertEqual([2], self.happened)

    def test_pause(self) -> None:
        """While a process is paused nothing happens in it, and afterwards what was missed, in order."""
        node = NodeClock(self.world, name="a")
        node.callLater(1, self.happened.append, "a")
        node.callLater(2, self.happened.append, "b")
        node.pause()
        self.world.advance(3)
        self.assertEqual([], self.happened)
        node.resume()
        self.world.advance(0)
        self.assertEqual(["a", "b"], self.happened)

    def test_death(self) -> None:
        """Nothing happens in a process that was killed, though it was paused before."""
        node = NodeClock(self.world, name="a")
        node.callLater(1, self.happened.append, "a")
        node.callLater(3, self.happened.append, "b")
        node.pause()
        self.world.advance(2)
        node.die()
        node.resume()
        self.world.advance(5)
        self.assertEqual([], self.happened)
        self.assertEqual([], node.getDelayedCalls())
