"""Small services that give things a place in the order of starting and stopping."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol

from twisted.application.service import Service
from twisted.internet.defer import Deferred


class LockedDirectory(Protocol):
    """A data directory that one process has for itself."""

    def prepare(self) -> None:
        """Take the lock, unless it is held."""

    def note_holder(self) -> None:
        """Say who holds it."""

    def release(self) -> None:
        """Give the lock back."""


class DirectoryLock(Service):
    """Keeps the lock of the data directory until everything that writes there has stopped.

    :param disk: the directory, locked already: whoever finds it taken must hear of it before the process forks.
    """

    name = "directory"

    def __init__(self, disk: LockedDirectory) -> None:
        self._disk = disk

    def startService(self) -> None:
        """Say which process holds it, now that this is final."""
        super().startService()
        self._disk.prepare()
        self._disk.note_holder()

    def stopService(self) -> None:
        """Let another process have it."""
        super().stopService()
        self._disk.release()


class StopStep(Service):
    """Something that starts by itself when it is used, and has to be stopped.

    :param stop: stops it; fires once it has stopped.
    """

    def __init__(self, stop: Callable[[], Deferred[None]]) -> None:
        self._stop = stop

    def stopService(self) -> Deferred[None]:
        """Stop it."""
        super().stopService()
        return self._stop()
