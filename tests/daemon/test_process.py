"""Clock, signals and exit status of the process."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
from typing import Any

from twisted.internet.testing import MemoryReactorClock
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from raftkv.daemon.process import EXIT_FATAL, Supervisor
from raftkv.errors import InvariantViolation, StorageError

# The wall clock is turned back by an hour while a timer runs. Twisted takes time.time when it is imported.
STEP = """
import time
wall = time.time
offset = 0.0
time.time = lambda: wall() + offset
from twisted.internet import reactor
from raftkv.daemon.process import use_monotonic_clock
if {monotonic}:
    use_monotonic_clock(reactor)

def step():
    global offset
    offset = -3600.0

def report(what):
    print(what, flush=True)
    import os
    os._exit(0)

reactor.callLater(0.01, step)
reactor.callLater(0.1, report, "fired")
import threading
threading.Timer({limit}, report, ["stuck"]).start()
reactor.run()
"""


class Reactor(MemoryReactorClock):
    """A reactor that runs what other threads ask for at once, and remembers triggers."""

    def __init__(self) -> None:
        super().__init__()
        self.stopped = 0

    def run(self, installSignalHandlers: bool = True) -> None:
        """Run, without coming to an end as a memory reactor does."""
        self.running = True
        for function, args, kwargs in self.whenRunningHooks:
            function(*args, **kwargs)

    def callFromThread(self, function: Any, *args: Any, **kwargs: Any) -> None:
        """Call at once."""
        function(*args, **kwargs)

    def stop(self) -> None:
        """Count, and run what waits for the end of the shutdown."""
        self.stopped += 1
        self.hasStopped = True

    def finish(self) -> None:
        """Run what waits for the end of the shutdown."""
        for function, args, kwargs in self.triggers.get("after", {}).get("shutdown", []):
            function(*args, **kwargs)


class ClockTests(SynchronousTestCase):
    """Twisted's own reactor with the clock of a node."""

    def run_step(self, *, monotonic: bool, limit: float) -> str:
        """Run the script, and return what it says."""
        script = STEP.format(monotonic=monotonic, limit=limit)
        environment = {**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))}  # as trial sees it
        command = [sys.executable, "-c", script]
        done = subprocess.run(command, capture_output=True, text=True, timeout=60, env=environment, check=True)
        return done.stdout.strip()

    def test_step_of_the_wall_clock(self) -> None:
        """A timer fires in time although the wall clock was turned back by an hour (B31)."""
        self.assertEqual(self.run_step(monotonic=True, limit=20), "fired")

    def test_the_test_bites(self) -> None:
        """The same timer never fires by the wall clock, so the test above tests something."""
        self.assertEqual(self.run_step(monotonic=False, limit=0.5), "stuck")


class SupervisorTests(SynchronousTestCase):
    """Stopping, and the status."""

    def setUp(self) -> None:
        for number in (signal.SIGTERM, signal.SIGINT):
            self.addCleanup(signal.signal, number, signal.getsignal(number))
        self.reactor = Reactor()
        self.statuses: list[int] = []
        self.supervisor = Supervisor(reactor=self.reactor, node_id="n1", exit_process=self.statuses.append)
        self.supervisor.startService()
        self.addCleanup(self.supervisor.stopService)
        self.reactor.run()

    def test_signal(self) -> None:
        """SIGTERM stops the reactor once, however often it comes, and the status stays that of success."""
        for _ in range(3):
            signal.raise_signal(signal.SIGTERM)
        self.assertEqual(self.reactor.stopped, 1)
        self.reactor.finish()
        self.assertEqual(self.statuses, [])

    def test_fatal(self) -> None:
        """A fatal error stops the reactor, and the process leaves with the status of failure after everything else."""
        self.supervisor.fatal(StorageError("fdatasync", "/data/log", "Input/output error"))
        self.assertEqual((self.reactor.stopped, self.statuses), (1, []))
        self.reactor.finish()
        self.assertEqual(self.statuses, [EXIT_FATAL])

    def test_first_fatal_counts(self) -> None:
        """Of several fatal errors the first is the reason, since the others may follow from it."""
        self.supervisor.fatal(InvariantViolation("first"))
        self.supervisor.fatal(InvariantViolation("second"))
        self.assertEqual(self.reactor.stopped, 1)

    def test_fatal_error_in_a_callback(self) -> None:
        """A violated invariant that a callback raised, and that Twisted merely logged, still stops the process."""
        for error in (InvariantViolation("commit index went back"), StorageError("write", "/d", "No space left")):
            Logger().failure("unhandled", Failure(error))
            self.flushLoggedErrors(type(error))
        self.reactor.finish()
        self.assertEqual((self.reactor.stopped, self.statuses), (1, [EXIT_FATAL]))

    def test_other_error_in_a_callback(self) -> None:
        """Any other logged failure is one connection's or one request's matter."""
        Logger().failure("unhandled", Failure(ValueError("bad")))
        self.assertEqual(len(self.flushLoggedErrors(ValueError)), 1)
        self.assertEqual(self.reactor.stopped, 0)

    def test_stop_that_hangs(self) -> None:
        """A stop that does not end, say for a disk that hangs, is cut short with the status of failure."""
        signal.raise_signal(signal.SIGTERM)
        self.reactor.advance(59)
        self.assertEqual(self.statuses, [])
        self.reactor.advance(2)
        self.assertEqual(self.statuses, [EXIT_FATAL])
