"""Work shared out over the turns of the reactor."""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.reading.turns import TURN_SECONDS, Turns


class TurnsTests(SynchronousTestCase):
    """Steps that take their time."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.turns = Turns(self.clock)
        self.done: list[str] = []

    def step(self, name: str, seconds: float = 0.0) -> Callable[[], None]:
        """Return a piece of work that takes so long."""

        def work() -> None:
            self.done.append(name)
            self.clock.rightNow += seconds

        return work

    def next_turn(self) -> list[str]:
        """Let the reactor have one turn; return what was done in it."""
        before = len(self.done)
        calls = self.clock.getDelayedCalls()
        self.assertLessEqual(len(calls), 1)
        for call in calls:
            work = call.func
            call.cancel()
            work()
        return self.done[before:]

    def test_at_once(self) -> None:
        """What takes no time is done at once, and leaves no timer behind."""
        for name in "abc":
            self.turns.soon(self.step(name))
        self.assertEqual((self.done, self.clock.getDelayedCalls()), (["a", "b", "c"], []))

    def test_room_of_a_turn(self) -> None:
        """Once a turn is full the rest waits for the next ones, in order, as much as fits into each."""
        for name in "abcdef":
            self.turns.soon(self.step(name, 0.6 * TURN_SECONDS))
        self.assertEqual(self.done, ["a", "b"])
        self.assertEqual([self.next_turn() for _ in range(4)], [["c", "d"], ["e", "f"], [], []])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_who_comes_later_waits_too(self) -> None:
        """Nobody is served before those who wait already."""
        self.turns.soon(self.step("long", 10 * TURN_SECONDS))
        self.turns.soon(self.step("waits"))
        self.turns.soon(self.step("too"))
        self.assertEqual(self.done, ["long"])
        self.assertEqual(self.next_turn(), ["waits", "too"])

    def test_later(self) -> None:
        """What is to be done later is never done at once, and what comes of it is for the turn behind that."""
        self.turns.later(lambda: self.turns.later(self.step("second")))
        self.turns.later(self.step("first"))
        self.assertEqual(self.done, [])
        self.assertEqual([self.next_turn(), self.next_turn()], [["first"], ["second"]])

    def test_work_that_fails(self) -> None:
        """What one step raises goes to whoever runs the turn; the others have theirs."""

        def broken() -> None:
            raise KeyError("x")

        self.turns.later(broken)
        self.turns.later(self.step("next"))
        self.assertRaises(KeyError, self.next_turn)
        self.assertEqual(self.next_turn(), ["next"])
        self.assertRaises(KeyError, self.turns.soon, broken)
