"""The contract of a worker, held to by the thread and by the one on a virtual clock."""

from __future__ import annotations

import queue
import threading
from collections.abc import Callable
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from raftkv.errors import InvariantViolation, ShuttingDown
from raftkv.interfaces import IBatchWorker
from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.worker import ThreadWorker
from raftkv.testing.disk import PowerLoss
from raftkv.testing.worker import ClockWorker


class CallsFromThreads:
    """Stands for the reactor's side: runs what threads hand over, when the test says so."""

    def __init__(self) -> None:
        self.calls: queue.Queue[Callable[[], None]] = queue.Queue()

    def callFromThread(self, function: Callable[..., Any], *arguments: Any) -> None:
        """See :class:`twisted.internet.interfaces.IReactorFromThreads`."""
        self.calls.put(lambda: function(*arguments))


class WorkerContract:
    """What every worker does."""

    worker: Any
    run_until: Callable[[Callable[[], bool]], None]

    def start(self: Any, process: Callable[[list[Any]], None] | None = None) -> None:
        self.processed: list[list[Any]] = []
        self.reported: list[tuple[list[Any], BaseException | None]] = []
        self.worker.start(
            process or (lambda items: self.processed.append(list(items))),
            lambda items, error: self.reported.append((list(items), error)),
        )

    def stop(self: Any) -> None:
        stopped = self.worker.stop()
        self.run_until(lambda: stopped.called)
        self.successResultOf(stopped)

    def test_interface(self: Any) -> None:
        """It provides the interface."""
        verifyObject(IBatchWorker, self.worker)

    def test_order(self: Any) -> None:
        """Items are processed and reported in the order of their submission, none twice, none lost."""
        self.start()
        for item in range(100):
            self.worker.submit(item)
        self.run_until(lambda: sum(len(items) for items, _ in self.reported) == 100)
        self.assertEqual([item for items in self.processed for item in items], list(range(100)))
        self.assertEqual([items for items, _ in self.reported], self.processed)
        self.stop()

    def test_gathers(self: Any) -> None:
        """What is submitted while a batch is under way makes up the next one."""
        self.start(self.begin_slowly)
        self.worker.submit(1)
        self.wait_until_begun()
        self.worker.submit(2)
        self.worker.submit(3)
        self.go_on()
        self.run_until(lambda: len(self.reported) == 2)
        self.assertEqual([items for items, _ in self.reported], [[1], [2, 3]])
        self.stop()

    def test_error(self: Any) -> None:
        """An error is reported with its items, and nothing is processed after it (B43)."""
        attempts: list[Any] = []

        def fail(items: list[Any]) -> None:
            attempts.append(items)
            raise OSError("broken")

        self.start(fail)
        self.worker.submit(1)
        self.run_until(lambda: len(self.reported) == 1)
        self.assertIsInstance(self.reported[0][1], OSError)
        self.worker.submit(2)
        self.stop()
        self.assertEqual(len(attempts), 1)

    def test_stop_waits(self: Any) -> None:
        """Stopping waits until everything submitted has been processed and reported."""
        self.start()
        self.worker.submit(1)
        self.stop()
        self.assertEqual(self.reported, [([1], None)])
        self.assertRaises(InvariantViolation, self.worker.submit, 2)

    def test_restart(self: Any) -> None:
        """A stopped worker can be started again, and one that never ran can be stopped."""
        self.stop()
        for _life in range(2):
            self.start()
            self.worker.submit("x")
            self.stop()
            self.assertEqual(self.reported, [(["x"], None)])

    def test_start_twice(self: Any) -> None:
        """A running worker cannot be started."""
        self.start()
        self.assertRaises(InvariantViolation, self.worker.start, print, print)
        self.stop()


class ClockWorkerTests(WorkerContract, SynchronousTestCase):
    """The worker on a virtual clock."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.worker = ClockWorker(self.clock, lambda items: 0.01 * len(items))
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def run_until(self, condition: Callable[[], bool]) -> None:
        for _turn in range(1000):
            if condition():
                return
            self.clock.advance(0.01)
        self.fail("it never happened")

    def begin_slowly(self, items: list[Any]) -> None:
        self.processed.append(list(items))

    def wait_until_begun(self) -> None:
        self.clock.advance(0.001)

    def go_on(self) -> None:
        self.clock.advance(0.0)

    def test_reports_later_than_it_works(self) -> None:
        """The work is done in the middle of the delay and reported at its end."""
        self.start()
        self.worker.submit(1)
        self.clock.advance(0.004)
        self.assertEqual(self.processed, [])
        self.clock.advance(0.002)
        self.assertEqual((self.processed, self.reported), ([[1]], []))
        self.clock.advance(0.005)
        self.assertEqual(self.reported, [([1], None)])

    def test_crash(self) -> None:
        """After a crash nothing that was under way is reported, and the worker can be started anew."""
        self.start()
        self.worker.submit(1)
        self.worker.crash()
        self.clock.advance(1)
        self.assertEqual((self.processed, self.reported), ([], []))
        self.start()
        self.worker.submit(2)
        self.clock.advance(0.005)
        self.clock.advance(0.005)
        self.assertEqual(self.reported, [([2], None)])

    def test_torn_crash(self) -> None:
        """A torn crash carries out the work that has gathered, up to the loss of power."""
        done: list[Any] = []

        def process(items: list[Any]) -> None:
            done.extend(items)
            raise PowerLoss

        self.start(process)
        self.worker.submit(1)
        self.worker.crash(tear=True)
        self.assertEqual((done, self.reported), ([1], []))

    def test_at_once(self) -> None:
        """Of what it may take at once it takes each third one at once, in order; none while it stalls."""
        self.start()
        for item, reported in enumerate((0, 1, 3)):
            self.worker.submit(item, here=True)
            self.assertEqual(len(self.reported), reported)
            self.run_until(lambda: not self.worker.is_busy)
        self.worker.stall()
        for item in range(3, 6):
            self.worker.submit(item, here=True)
        self.assertEqual(len(self.reported), 3)

    def test_stall(self) -> None:
        """A stalled worker finishes nothing until it is resumed."""
        self.start()
        self.worker.submit(1)
        self.worker.stall()
        self.worker.submit(2)
        self.clock.advance(10)
        self.assertEqual(self.reported, [])
        self.worker.resume()
        self.run_until(lambda: len(self.reported) == 2)
        self.assertEqual(self.processed, [[1], [2]])


class ThreadWorkerTests(WorkerContract, SynchronousTestCase):
    """The worker of production. The tests wait on queues and events, never for a time."""

    def setUp(self) -> None:
        self.reactor = CallsFromThreads()
        self.worker = ThreadWorker(self.reactor, "test")  # type: ignore[arg-type]  # the one method that it uses
        self.begun = threading.Event()
        self.may_go_on = threading.Event()

    def run_until(self, condition: Callable[[], bool]) -> None:
        while not condition():
            self.reactor.calls.get(timeout=30)()

    def begin_slowly(self, items: list[Any]) -> None:
        self.processed.append(list(items))
        self.begun.set()
        self.may_go_on.wait(30)

    def wait_until_begun(self) -> None:
        self.begun.wait(30)

    def go_on(self) -> None:
        self.may_go_on.set()

    def test_thread(self) -> None:
        """The work runs in a thread that is not there before the start nor after the stop."""
        names: list[str] = []
        before = threading.active_count()
        self.start(lambda _items: names.append(threading.current_thread().name))
        self.worker.submit(1)
        self.stop()
        self.assertEqual(names, ["test"])
        self.assertEqual(threading.active_count(), before)

    def test_error_of_any_kind(self) -> None:
        """Whatever ends the work is reported, or those who wait for it would hang."""

        def fail(_items: list[Any]) -> None:
            raise SystemExit

        self.start(fail)
        self.worker.submit(1)
        self.run_until(lambda: len(self.reported) == 1)
        self.assertIsInstance(self.reported[0][1], SystemExit)
        self.stop()


class BlockingCallsTests(SynchronousTestCase):
    """Calls with Deferreds of their own."""

    def test_results_and_errors(self) -> None:
        """Each call fires its own Deferred, and one's error does not end the others."""
        clock = Clock()
        calls = BlockingCalls(ClockWorker(clock, lambda _items: 0.0))
        calls.start()
        first, second, third = calls.run(lambda: 1), calls.run(lambda: [][0]), calls.run(lambda: 3)
        stopped = calls.stop()
        clock.pump([0.0] * 6)
        self.assertEqual((self.successResultOf(first), self.successResultOf(third)), (1, 3))
        self.failureResultOf(second, IndexError)
        self.successResultOf(stopped)

    def test_call_while_stopping(self) -> None:
        """A call that comes once the stop was asked for fails and is not run; the next life takes calls again."""
        clock = Clock()
        calls = BlockingCalls(ClockWorker(clock, lambda _items: 0.0))
        calls.start()
        ran: list[int] = []
        stopped = calls.stop()
        self.failureResultOf(calls.run(lambda: ran.append(1)), ShuttingDown)
        clock.pump([0.0] * 6)
        self.successResultOf(stopped)
        calls.start()
        again = calls.run(lambda: ran.append(2))
        clock.pump([0.0] * 6)
        self.successResultOf(again)
        self.assertEqual(ran, [2])
