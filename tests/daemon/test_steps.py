"""Small services with a place in the order of starting and stopping."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.logger import LogEvent, globalLogPublisher
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.steps import DirectoryLock, RecoveryProgress, StopStep


class Directory:
    """Remembers what was asked of it."""

    def __init__(self) -> None:
        self.calls: list[str] = []

    def prepare(self) -> None:
        """Note the call."""
        self.calls.append("prepare")

    def note_holder(self) -> None:
        """Note the call."""
        self.calls.append("note_holder")

    def release(self) -> None:
        """Note the call."""
        self.calls.append("release")


class StepTests(SynchronousTestCase):
    """The services."""

    def test_directory_lock(self) -> None:
        """The lock is held, in the name of the process that runs, until the service stops."""
        directory = Directory()
        lock = DirectoryLock(directory)
        lock.startService()
        self.assertEqual(directory.calls, ["prepare", "note_holder"])
        lock.stopService()
        self.assertEqual(directory.calls[2:], ["release"])

    def test_stop_step(self) -> None:
        """Stopping waits for what is to be stopped."""
        stopping: Deferred[None] = Deferred()
        step = StopStep(lambda: stopping)
        step.startService()
        stopped = step.stopService()
        self.assertNoResult(stopped)
        stopping.callback(None)
        self.successResultOf(stopped)


class RecoveryProgressTests(SynchronousTestCase):
    """What is said while a log is read."""

    def test_a_line_every_second(self) -> None:
        """A short log is read in silence, a long one with a line every second."""
        lines: list[LogEvent] = []
        globalLogPublisher.addObserver(lines.append)
        self.addCleanup(globalLogPublisher.removeObserver, lines.append)
        clock = Clock()
        progress = RecoveryProgress(clock.seconds)
        for done in range(1, 25):
            clock.advance(0.125)
            progress(done, 24)
        self.assertEqual([line["done"] for line in lines if "done" in line], [8, 16, 24])
