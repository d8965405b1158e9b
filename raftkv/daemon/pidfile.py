"""The file that tells others which process a node is.

twistd has one of its own, but refuses to start on a stale one whose number some other process has got meanwhile, or
that holds no number. Here a lock on the file tells stale from alive, so a crash never stands in the way of a start.
"""

from __future__ import annotations

import fcntl
import os

from twisted.application.service import Service

from raftkv.errors import ConfigurationError


class PidFile(Service):
    """Holds a process id while it runs.

    The lock is taken in the constructor, before the process forks, and lives on in the child; the number is written
    in :meth:`startService`, when it is final.

    :param path: where to write it.
    :raises raftkv.errors.ConfigurationError: a running node holds it, or it cannot be written.
    """

    name = "pidfile"

    def __init__(self, path: str) -> None:
        self.path = path
        self._descriptor: int | None = self._take()

    def startService(self) -> None:
        """Write the number."""
        super().startService()
        if self._descriptor is None:
            self._descriptor = self._take()
        os.ftruncate(self._descriptor, 0)
        os.pwrite(self._descriptor, b"%d\n" % os.getpid(), 0)

    def stopService(self) -> None:
        """Remove the file."""
        super().stopService()
        if self._descriptor is not None:
            # Ours as long as the lock is held, unless somebody replaced it.
            if self._leads_to(self._descriptor):
                os.unlink(self.path)
            os.close(self._descriptor)
            self._descriptor = None

    def _take(self) -> int:
        # Until the file that was locked is also the one that the path leads to: its last owner may have removed it
        # between our opening and our locking.
        while True:
            try:
                descriptor = os.open(self.path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o644)
            except OSError as error:
                raise ConfigurationError(f"pid file {self.path}: cannot be written: {error.strerror}") from None
            try:
                fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
            except BlockingIOError:
                os.close(descriptor)
                raise ConfigurationError(f"pid file {self.path}: held by another running node") from None
            if self._leads_to(descriptor):
                return descriptor
            os.close(descriptor)

    def _leads_to(self, descriptor: int) -> bool:
        try:
            return os.path.samestat(os.fstat(descriptor), os.stat(self.path))
        except FileNotFoundError:
            return False
