"""Work in small steps: all of it gets done, in order, with a turn of the reactor between two steps."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.server.chores import Chores


class TurnByTurn(Clock):
    """A clock on which a turn takes a second, as ``Clock`` makes all calls that are due now in one turn."""

    def callLater(self, delay: float, *args: Any, **kwargs: Any) -> Any:
        """Call in the next turn at the earliest."""
        return super().callLater(max(delay, 1.0), *args, **kwargs)


class ChoresTests(SynchronousTestCase):
    """Two pieces of work, and a record of their steps."""

    def setUp(self) -> None:
        self.clock = TurnByTurn()
        self.chores = Chores(self.clock)
        self.done: list[str] = []
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def work(self, name: str, steps: int) -> Callable[[], bool]:
        """Return work of some steps."""
        remaining = [f"{name}{number}" for number in range(steps)]

        def step() -> bool:
            self.done.append(remaining.pop(0))
            return bool(remaining)

        return step

    def test_first_step_at_once(self) -> None:
        """What takes one step is done in the call, and leaves no turn behind."""
        self.chores.add(self.work("a", 1))
        self.assertEqual(self.done, ["a0"])
        self.assertTrue(self.chores.is_idle)

    def test_one_step_a_turn(self) -> None:
        """Each further step has a turn of the reactor of its own, and what came later waits for what came before."""
        self.chores.add(self.work("a", 2))
        self.chores.add(self.work("b", 2))
        self.assertEqual(self.done, ["a0"])
        self.clock.advance(1)
        self.assertEqual(self.done, ["a0", "a1"])
        self.assertFalse(self.chores.is_idle)
        self.clock.pump([1, 1])
        self.assertEqual(self.done, ["a0", "a1", "b0", "b1"])
        self.assertTrue(self.chores.is_idle)

    def test_stop(self) -> None:
        """Stopping leaves the rest undone."""
        self.chores.add(self.work("a", 3))
        self.chores.stop()
        self.clock.advance(9)
        self.assertEqual(self.done, ["a0"])
