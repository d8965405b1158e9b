"""The node's reactor: what it adds to Twisted's, and that the rest is as it was."""

from __future__ import annotations

import socket
import sys
from collections.abc import Callable
from typing import Any

from twisted.internet.error import ConnectionFdescWentAway
from twisted.internet.interfaces import IReadDescriptor
from twisted.internet.main import CONNECTION_DONE
from twisted.python.failure import Failure
from twisted.trial.unittest import SkipTest, SynchronousTestCase
from zope.interface import implementer

from raftkv.daemon.process import install_reactor


@implementer(IReadDescriptor)
class Reader:
    """One end of a pair of sockets, and what becomes of it."""

    def __init__(self, reactor: Any, read: Callable[[Reader], Any]) -> None:
        self.near, self.far = socket.socketpair()
        self.read = read
        self.reads = 0
        self.lost: list[Failure] = []
        self._reactor = reactor
        reactor.addReader(self)

    def fileno(self) -> int:
        return self.near.fileno()

    def logPrefix(self) -> str:
        return "reader"

    def doRead(self) -> Any:
        self.reads += 1
        return self.read(self)

    def connectionLost(self, reason: Failure) -> None:
        self.lost.append(reason)
        self.close()

    def close(self) -> None:
        self._reactor.removeReader(self)
        self.near.close()
        self.far.close()


class NodeReactorTests(SynchronousTestCase):
    """A reactor that is driven by hand, an iteration at a time."""

    def setUp(self) -> None:
        try:
            from raftkv.daemon.reactor import NodeReactor
        except ImportError:
            raise SkipTest("there is no epoll here") from None
        self.reactor = NodeReactor()
        self.addCleanup(self.close)
        self.events: list[Any] = []

    def close(self) -> None:
        for each in self.reactor.removeAll():
            if isinstance(each, Reader):
                each.close()
        self.reactor._poller.close()

    def iterate(self) -> None:
        """Do what Twisted's main loop does once, without waiting for anything."""
        self.reactor.runUntilCurrent()
        self.reactor.timeout()
        self.reactor.doIteration(0)

    def reader(self, read: Callable[[Reader], Any] = lambda reader: reader.near.recv(100) and None) -> Reader:
        """Return a reader that has something to read."""
        made = Reader(self.reactor, read)
        made.far.send(b"x")
        return made

    def test_soon(self) -> None:
        """What is to be called soon is called in order in the next iteration, which is not waited for."""
        self.assertNotEqual(self.reactor.timeout(), 0.0)
        for number in range(3):
            self.reactor.call_soon(lambda number=number: self.events.append(number))
        self.assertEqual((self.events, self.reactor.timeout()), ([], 0.0))
        self.iterate()
        self.assertEqual(self.events, [0, 1, 2])

    def test_sooner(self) -> None:
        """What such a call adds waits for the events that are there already."""
        self.reactor.call_soon(lambda: self.reactor.call_soon(lambda: self.events.append("again")))
        self.reader(lambda reader: self.events.append("read") or (reader.near.recv(100) and None))
        self.iterate()
        self.assertEqual(self.events, ["read"])
        self.iterate()
        self.assertEqual(self.events, ["read", "again"])

    def test_soon_and_wrong(self) -> None:
        """A call that fails is logged, and the others are made."""
        self.reactor.call_soon(lambda: 1 // 0)
        self.reactor.call_soon(lambda: self.events.append("next"))
        self.iterate()
        self.assertEqual(self.events, ["next"])
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_timers_and_threads(self) -> None:
        """Timers that are due are called, those that are not wait, and so is what threads hand over."""
        self.reactor.callLater(0, self.events.append, "due")
        self.reactor.callLater(1000, self.events.append, "not due")
        self.reactor.callFromThread(self.events.append, "thread")
        self.iterate()
        self.iterate()
        self.assertEqual(sorted(self.events), ["due", "thread"])

    def test_timer_of_an_event(self) -> None:
        """A timer without a delay that a handler sets is called in the next iteration, however much is to be called
        soon: it does not wait until there is nothing of that any more."""
        self.reader(
            lambda reader: self.reactor.callLater(0, self.events.append, "timer") and reader.near.recv(100) and None
        )
        self.reactor.call_soon(self.soon_for_ever)
        self.iterate()
        self.assertEqual(self.events, [])
        self.iterate()
        self.assertEqual(self.events, ["timer"])

    def soon_for_ever(self) -> None:
        self.reactor.call_soon(self.soon_for_ever)

    def test_timer_that_falls_due(self) -> None:
        """A timer that was not due when it was set is called once it is, though nothing else happens."""
        now = self.reactor.seconds()
        self.patch(self.reactor, "seconds", lambda: now)
        self.reactor.callLater(1, self.events.append, "timer")
        self.iterate()
        now += 0.9
        self.iterate()
        self.assertEqual(self.events, [])
        now += 0.1
        self.iterate()
        self.assertEqual(self.events, ["timer"])

    def test_stop(self) -> None:
        """A reactor that is stopped fires its event at once, though it has nothing else to do."""
        self.reactor.addSystemEventTrigger("during", "shutdown", self.events.append, "shutdown")
        self.reactor.startRunning(installSignalHandlers=False)
        self.iterate()
        self.reactor.stop()
        self.reactor.call_soon(lambda: self.events.append("soon"))
        self.iterate()
        self.assertEqual(self.events, ["soon", "shutdown"])
        self.assertFalse(self.reactor.running)

    def test_without_a_descriptor(self) -> None:
        """Who has no descriptor any more is not asked to read, and is told that its connection is lost."""
        reader = self.reader()
        self.patch(reader, "fileno", lambda: -1)
        self.iterate()
        self.assertEqual(reader.reads, 0)
        self.assertEqual([reason.type for reason in reader.lost], [ConnectionFdescWentAway])

    def test_read(self) -> None:
        """Who has something to read reads, and goes on."""
        reader = self.reader()
        self.iterate()
        self.iterate()
        self.assertEqual((reader.reads, reader.lost), (1, []))

    def test_end(self) -> None:
        """Who says why its connection is over is disconnected for that reason."""
        reader = self.reader(lambda _: CONNECTION_DONE)
        self.iterate()
        self.assertEqual([reason.type for reason in reader.lost], [type(CONNECTION_DONE)])

    def test_failure(self) -> None:
        """Who fails is logged and disconnected, and the others live on."""
        first, second = self.reader(lambda _: 1 // 0), self.reader()
        self.iterate()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual([type(reason.value) for reason in first.lost], [ZeroDivisionError])
        self.assertEqual((second.reads, second.lost), (1, []))

    def test_failing_end(self) -> None:
        """Who fails when it is told of its end is logged, and the others have their events."""
        first, second = self.reader(lambda _: CONNECTION_DONE), self.reader()
        self.patch(first, "connectionLost", lambda reason: 1 // 0)
        self.iterate()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual((second.reads, second.lost), (1, []))
        first.close()

    def test_closed_meanwhile(self) -> None:
        """Who was closed by the handler of an earlier event of the same moment is not asked to read."""
        readers: list[Reader] = []

        def close_the_others(reader: Reader) -> None:
            for other in readers:
                if other is not reader:
                    other.close()

        readers += [self.reader(close_the_others), self.reader(close_the_others)]
        self.iterate()
        self.assertEqual(sum(reader.reads for reader in readers), 1)

    def test_hang_up(self) -> None:
        """An end of the other side is noticed as Twisted does."""
        reader = self.reader()
        self.iterate()
        reader.far.close()
        reader.read = lambda _: CONNECTION_DONE
        self.iterate()
        self.assertEqual(len(reader.lost), 1)


class InstallTests(SynchronousTestCase):
    """Which reactor a process gets."""

    def test_chosen_already(self) -> None:
        """Who has chosen a reactor keeps it."""
        from twisted.internet import reactor

        install_reactor()
        self.assertIs(sys.modules["twisted.internet.reactor"], reactor)
