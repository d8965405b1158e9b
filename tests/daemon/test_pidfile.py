"""The pid file: never in the way of a start, never taken from a node that runs."""

from __future__ import annotations

import os

from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.pidfile import PidFile
from raftkv.errors import ConfigurationError


class PidFileTests(SynchronousTestCase):
    """A file with the process id."""

    def setUp(self) -> None:
        self.path = self.mktemp()

    def read(self) -> bytes:
        """Return what the file holds."""
        with open(self.path, "rb") as file:
            return file.read()

    def test_written_and_removed(self) -> None:
        """It holds the process id while the service runs, also the second time, and is gone afterwards."""
        pidfile = PidFile(self.path)
        for _ in range(2):
            pidfile.startService()
            self.assertEqual(self.read(), b"%d\n" % os.getpid())
            pidfile.stopService()
            self.assertFalse(os.path.exists(self.path))

    def test_stale(self) -> None:
        """What a crash left behind is replaced, whether its number now is another process's or no number at all."""
        for stale in (b"1", b"99999999999\n1234", b"rubbish"):
            with open(self.path, "wb") as file:
                file.write(stale)
            pidfile = PidFile(self.path)
            pidfile.startService()
            self.assertEqual(self.read(), b"%d\n" % os.getpid())
            pidfile.stopService()

    def test_held(self) -> None:
        """The file of a node that runs is refused, and stays as it is."""
        pidfile = PidFile(self.path)
        pidfile.startService()
        self.addCleanup(pidfile.stopService)
        error = self.assertRaises(ConfigurationError, PidFile, self.path)
        self.assertEqual(str(error), f"pid file {self.path}: held by another running node")
        self.assertEqual(self.read(), b"%d\n" % os.getpid())

    def test_not_writable(self) -> None:
        """A path that cannot be written is refused with the reason."""
        error = self.assertRaises(ConfigurationError, PidFile, f"{self.path}/none/pid")
        self.assertIn("cannot be written: No such file or directory", str(error))

    def test_replaced_by_somebody(self) -> None:
        """A file that somebody put in the place of ours is not removed."""
        pidfile = PidFile(self.path)
        pidfile.startService()
        os.unlink(self.path)
        with open(self.path, "wb") as file:
            file.write(b"theirs")
        pidfile.stopService()
        self.assertEqual(self.read(), b"theirs")
