"""Small services with a place in the order of starting and stopping."""

from __future__ import annotations

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.steps import DirectoryLock, StopStep


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
