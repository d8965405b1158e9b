"""When blocking work is quick enough to be waited for, and what a worker then does itself."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.persistence.pace import Pace
from raftkv.persistence.worker import ThreadWorker

QUICK = 0.0001


def proven_pace() -> Pace:
    """Return a pace at which nothing but quick work was seen."""
    pace = Pace(limit_seconds=0.002)
    for _ in range(1000):
        pace.took(QUICK)
    return pace


class PaceTests(SynchronousTestCase):
    """The average, and what it says."""

    def test_has_to_be_shown(self) -> None:
        """Nothing is quick before it has been seen to be, some two hundred times."""
        pace = Pace(limit_seconds=0.002)
        count = 0
        while not pace.is_quick:
            pace.took(QUICK)
            count += 1
        self.assertTrue(100 < count < 400, count)

    def test_stall(self) -> None:
        """One stall is enough to be careful for long; a few milliseconds now and then are not."""
        pace = proven_pace()
        for number in range(1000):
            pace.took(0.004 if number % 50 == 0 else QUICK)
            self.assertTrue(pace.is_quick)
        pace.took(1.0)
        for _ in range(50):
            self.assertFalse(pace.is_quick)
            pace.took(QUICK)

    def test_slow(self) -> None:
        """What takes longer than the limit each time is not quick, however even it is."""
        pace = proven_pace()
        for _ in range(1000):
            pace.took(0.003)
        self.assertFalse(pace.is_quick)

    def test_never(self) -> None:
        """A limit of 0 is never kept."""
        pace = Pace(limit_seconds=0.0)
        for _ in range(10_000):
            pace.took(QUICK)
        self.assertFalse(pace.is_quick)


class HereTests(SynchronousTestCase):
    """A worker whose caller can wait."""

    def setUp(self) -> None:
        self.calls: queue.Queue[Callable[[], None]] = queue.Queue()
        self.now = 0.0
        self.takes = QUICK  # each piece of work
        self.threads: list[threading.Thread] = []
        self.reported: list[tuple[Any, BaseException | None]] = []
        self.error: BaseException | None = None
        self.gate = threading.Event()
        self.gate.set()
        self.worker = self.make(proven_pace())

    def make(self, pace: Pace) -> ThreadWorker:
        """Return a worker that has been started, and is stopped in the end."""
        worker = ThreadWorker(self, "test", pace=pace, seconds=lambda: self.now)  # type: ignore[arg-type]  # a reactor
        worker.start(self.process, lambda items, error: self.reported.append((list(items), error)))
        self.addCleanup(self.stop, worker)
        return worker

    def stop(self, worker: ThreadWorker) -> None:
        stopped = worker.stop()
        while not stopped.called:
            self.run_call()

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        """See :class:`twisted.internet.interfaces.IReactorFromThreads`."""
        self.calls.put(lambda: function(*arguments))

    def run_call(self) -> None:
        self.calls.get(timeout=30)()

    def process(self, items: list[Any]) -> None:
        self.threads.append(threading.current_thread())
        self.gate.wait(30)
        self.now += self.takes
        if self.error is not None:
            raise self.error

    def submit(self, item: Any, *, here: bool) -> bool:
        """Submit, and tell whether it was done in this very thread, and reported."""
        count = len(self.reported)
        self.worker.submit(item, here=here)
        if len(self.reported) > count:
            self.assertIs(self.threads[-1], threading.current_thread())
            return True
        self.run_call()
        self.assertIsNot(self.threads[-1], threading.current_thread())
        return False

    def test_quick(self) -> None:
        """Quick work is done and reported, once, before the call returns."""
        self.assertTrue(self.submit(1, here=True))
        self.assertEqual(self.reported, [([1], None)])

    def test_who_cannot_wait(self) -> None:
        """Who does not say that it can wait is not made to."""
        self.assertFalse(self.submit(1, here=False))

    def test_unproven(self) -> None:
        """What was not seen to be quick, or may not be waited for, is the thread's."""
        for pace in (Pace(limit_seconds=0.002), Pace(limit_seconds=0.0)):
            self.worker = self.make(pace)
            self.assertFalse(self.submit(1, here=True))

    def test_stall(self) -> None:
        """Who had to wait for long does not wait again soon."""
        self.takes = 1.0
        self.assertTrue(self.submit(1, here=True))
        self.takes = QUICK
        self.assertFalse(self.submit(2, here=True))

    def test_stall_of_the_thread(self) -> None:
        """A stall that the thread met counts as well, and so do its quick ones."""
        self.takes = 1.0
        self.assertFalse(self.submit(1, here=False))
        self.takes = QUICK
        self.assertFalse(self.submit(2, here=True))
        for number in range(400):
            self.submit(number, here=False)
        self.assertTrue(self.submit(3, here=True))

    def test_order(self) -> None:
        """Nothing overtakes what the thread has been given and has not reported."""
        self.gate.clear()
        self.worker.submit(1)
        self.worker.submit(2, here=True)
        self.assertEqual(self.reported, [])
        self.gate.set()
        while sum(len(items) for items, _ in self.reported) < 2:
            self.run_call()
        self.assertEqual([item for items, _ in self.reported for item in items], [1, 2])
        self.assertNotIn(threading.current_thread(), self.threads)

    def test_error(self) -> None:
        """An error of whatever kind is reported as the thread's own are, and nothing is processed after it, here or
        there (B43)."""
        for error in (OSError("broken"), ValueError("not what it was taken for"), SystemExit()):
            self.error = error
            self.worker = self.make(proven_pace())
            self.threads.clear()
            self.reported.clear()
            self.worker.submit(1, here=True)
            self.assertEqual(self.reported, [([1], error)])
            self.worker.submit(2, here=True)
            self.worker.submit(3)
            self.stop(self.worker)
            self.assertEqual((len(self.threads), len(self.reported)), (1, 1))

    def test_error_of_the_thread(self) -> None:
        """After an error in the thread nothing is processed here either (B43)."""
        self.error = OSError("broken")
        self.assertFalse(self.submit(1, here=False))
        self.worker.submit(2, here=True)
        self.assertEqual((len(self.threads), len(self.reported)), (1, 1))
