"""Which log lines are written, and where."""

from __future__ import annotations

import io
import signal
import sys

from twisted.logger import Logger, LogPublisher
from twisted.python.reflect import namedAny
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.logs import OBSERVER_NAME, LogChoice, choose, make_observer


class LogTests(SynchronousTestCase):
    """The process's log observer."""

    def lines_at(self, level: str) -> list[str]:
        """Return the messages that get through at a level, logged with each of the levels in turn."""
        path = self.mktemp()
        self.addCleanup(signal.signal, signal.SIGUSR1, signal.getsignal(signal.SIGUSR1))
        log = Logger(observer=LogPublisher(make_observer(LogChoice(level=level, path=path))))
        for name in ("debug", "info", "warn", "error", "critical"):
            getattr(log, name)(f"{name} line")
        with open(path) as file:
            return [line.split()[-2] for line in file]

    def test_level(self) -> None:
        """The level of the configuration and the more important ones are written; what is critical always is."""
        self.assertEqual(self.lines_at("debug"), ["debug", "info", "warn", "error", "critical"])
        self.assertEqual(self.lines_at("warn"), ["warn", "error", "critical"])
        self.assertEqual(self.lines_at("error"), ["error", "critical"])

    def test_standard_output(self) -> None:
        """Without a file the lines go to standard output."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        Logger(observer=LogPublisher(make_observer(LogChoice()))).info("hello")
        self.assertIn("hello", output.getvalue())

    def test_found_by_name(self) -> None:
        """twistd finds the observer by its name, and it is the one that was chosen."""
        output = io.StringIO()
        self.patch(sys, "stdout", output)
        self.addCleanup(choose, LogChoice())
        choose(LogChoice(level="error"))
        log = Logger(observer=LogPublisher(namedAny(OBSERVER_NAME)()))
        log.info("quiet")
        log.error("loud")
        self.assertIn("loud", output.getvalue())
        self.assertNotIn("quiet", output.getvalue())

    def test_not_writable(self) -> None:
        """A log file that cannot be written ends the start with one line."""
        path = f"{self.mktemp()}/none/log"
        error = self.assertRaises(SystemExit, make_observer, LogChoice(path=path))
        self.assertEqual(str(error), f"raftkv: log file {path}: cannot be written: No such file or directory")
