"""Services that start in order and stop in reverse, each after the one before has stopped."""

from __future__ import annotations

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftkv.server.services import OrderedServices


class Part(Service):
    """A service that stops when a test says so, and notes what it is told."""

    def __init__(self, name: str, events: list[str]) -> None:
        self.label = name
        self.events = events
        self.stopping: Deferred[None] | None = Deferred()
        self.refusal: Exception | None = None

    def startService(self) -> None:
        super().startService()
        self.events.append(f"start {self.label}")

    def stopService(self) -> Deferred[None] | None:
        super().stopService()
        self.events.append(f"stop {self.label}")
        if self.refusal is not None:
            raise self.refusal
        return self.stopping


class OrderedServicesTests(SynchronousTestCase):
    """Three parts."""

    def setUp(self) -> None:
        self.events: list[str] = []
        self.services = OrderedServices()
        self.parts = [Part(name, self.events) for name in "abc"]
        for part in self.parts:
            part.setServiceParent(self.services)

    def finish(self, part: Part) -> None:
        """Let a part have stopped."""
        assert part.stopping is not None
        part.stopping.callback(None)

    def test_order(self) -> None:
        """The last one stops first, and each begins to stop only when the one behind it has."""
        self.services.startService()
        stopped = self.services.stopService()
        self.assertEqual(self.events, ["start a", "start b", "start c", "stop c"])
        for part in reversed(self.parts):
            self.assertNoResult(stopped)
            self.finish(part)
        self.successResultOf(stopped)
        self.assertEqual(self.events[3:], ["stop c", "stop b", "stop a"])

    def test_at_once(self) -> None:
        """A part that has nothing to wait for returns no Deferred, and holds nobody up."""
        for part in self.parts:
            part.stopping = None
        self.services.startService()
        self.successResultOf(self.services.stopService())
        self.assertEqual(self.events[3:], ["stop c", "stop b", "stop a"])

    def test_failing_parts(self) -> None:
        """Parts that cannot stop, at once or later, are reported and do not keep the others up."""
        first, second, third = self.parts
        third.refusal = ValueError("at once")
        self.services.startService()
        stopped = self.services.stopService()
        assert second.stopping is not None
        second.stopping.errback(ValueError("later"))
        self.finish(first)
        self.successResultOf(stopped)
        self.assertEqual(self.events[3:], ["stop c", "stop b", "stop a"])
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 2)

    def test_never_started(self) -> None:
        """What does not run is not stopped, also where a start broke off in the middle."""
        self.successResultOf(self.services.stopService())
        self.assertEqual(self.events, [])
        self.parts[0].startService()
        stopped = self.services.stopService()
        self.finish(self.parts[0])
        self.successResultOf(stopped)
        self.assertEqual(self.events, ["start a", "stop a"])

    def test_stopped_twice(self) -> None:
        """Who asks for a stop while one is under way waits for that, and does not upset its order."""
        self.services.startService()
        stops = [self.services.stopService(), self.services.stopService()]
        self.assertEqual(self.events[3:], ["stop c"])
        for part in reversed(self.parts):
            self.finish(part)
        for stopped in stops:
            self.successResultOf(stopped)
        self.assertEqual(self.events[3:], ["stop c", "stop b", "stop a"])
