"""What a raftkv process sets for itself: its clock, its signals, its exit status, the interpreter's knobs.

Twisted's clock is the wall clock, its SIGTERM ends the process by that very signal, and twistd exits with 0 whatever
made it stop. None of that suits a node: timers must survive a step of the wall clock, a requested stop is a success,
and a node that stopped because it could not go on safely is a failure.
"""

from __future__ import annotations

import os
import resource
import signal
import sys
import time
from collections.abc import Callable
from functools import partial
from types import FrameType
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.main import installReactor
from twisted.logger import ILogObserver, LogEvent, Logger, globalLogPublisher
from zope.interface import implementer

from raftkv.daemon.collector import tune_collector
from raftkv.errors import InvariantViolation, StorageError

EXIT_FATAL: Final = 70  #: EX_SOFTWARE of sysexits.h: the node stopped itself because going on would not be safe
_STEADY_CLOCK: Final = getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC)
_STOP_LIMIT_SECONDS: Final = 60.0
_SWITCH_INTERVAL_SECONDS: Final = 0.0005

#: Returns seconds that never go back and, on Linux, go on while the machine sleeps. Those of ``time.monotonic`` stand
#: still then, and a leader that slept must not believe that its lease slept with it (B31). Asked often for each write.
steady_seconds: Final[Callable[[], float]] = partial(time.clock_gettime, _STEADY_CLOCK)


def install_reactor() -> None:
    """Make the node's reactor the one of this process, unless somebody has chosen another (``twistd --reactor``)."""
    if "twisted.internet.reactor" in sys.modules:
        return
    try:
        from raftkv.daemon.reactor import NodeReactor
    except ImportError:
        return  # a system without epoll: Twisted knows what is best there
    installReactor(NodeReactor())


def use_monotonic_clock(reactor: Any) -> None:
    """Make a reactor's time monotonic, so that a step of the wall clock neither stops nor hastens a timer.

    To be called before anything is scheduled: calls that are under way keep times of the old clock.

    :param reactor: one of Twisted's own; they read ``self.seconds`` for every use of time.
    """
    reactor.seconds = time.monotonic


def tune_interpreter() -> None:
    """Set the interpreter's knobs for a process whose reactor shares the interpreter with a thread that syncs."""
    # The default of 5 ms is how long the thread that came back from a sync may wait for the reactor to let it go on.
    sys.setswitchinterval(_SWITCH_INTERVAL_SECONDS)
    tune_collector()


def raise_descriptor_limit(wanted: int) -> None:
    """Allow the process as many open files as it may need, as far as the hard limit goes.

    :param wanted: descriptors for connections and files together.
    """
    soft, hard = resource.getrlimit(resource.RLIMIT_NOFILE)
    target = wanted if hard == resource.RLIM_INFINITY else min(wanted, hard)
    if soft != resource.RLIM_INFINITY and soft < target:
        resource.setrlimit(resource.RLIMIT_NOFILE, (target, hard))


class Supervisor(Service):
    """Decides when the process stops and what it says then.

    A signal stops it with status 0. A fatal error, given to :meth:`fatal` or seen in the log, stops it with
    :data:`EXIT_FATAL` and one last line that says why.

    :param reactor: the real one; its life, its time and its way in for threads are used.
    :param node_id: for the log.
    :param exit_process: ends the process at once with a status.
    """

    _log = Logger()
    name = "supervisor"

    def __init__(self, *, reactor: Any, node_id: str, exit_process: Callable[[int], object] = os._exit) -> None:
        self._reactor = reactor
        self._node_id = node_id
        self._exit_process = exit_process
        self._error: BaseException | None = None
        self._stopping = False
        self._watch = _FatalWatch(lambda error: reactor.callFromThread(self.fatal, error))

    def startService(self) -> None:
        """Watch signals and the log from now on."""
        super().startService()
        globalLogPublisher.addObserver(self._watch)
        self._reactor.callWhenRunning(self._take_signals)
        self._reactor.addSystemEventTrigger("after", "shutdown", self._leave)

    def stopService(self) -> None:
        """Stop watching the log. Signals stay ours to the end: a second one must not cut the stop short."""
        super().stopService()
        globalLogPublisher.removeObserver(self._watch)

    def fatal(self, error: BaseException) -> None:
        """Stop the process because it cannot go on safely; may be called more than once, the first error counts."""
        if self._error is not None:
            return
        self._error = error
        self._log.critical("{node_id} stops: {reason}", node_id=self._node_id, reason=_sentence(error))
        self._stop()

    def _take_signals(self) -> None:
        # Called when the reactor runs, for it has installed its own by then, even over those already there.
        signal.signal(signal.SIGTERM, self._on_signal)
        if signal.getsignal(signal.SIGINT) not in (signal.SIG_IGN, signal.SIG_DFL):
            signal.signal(signal.SIGINT, self._on_signal)

    def _on_signal(self, number: int, _frame: FrameType | None) -> None:
        self._reactor.callFromThread(self._on_signal_in_reactor, number)

    def _on_signal_in_reactor(self, number: int) -> None:
        self._log.info("{node_id} got {signal}", node_id=self._node_id, signal=signal.Signals(number).name)
        self._stop()

    def _stop(self) -> None:
        if self._stopping:
            return
        self._stopping = True
        self._reactor.callLater(_STOP_LIMIT_SECONDS, self._stop_took_too_long)
        self._reactor.callWhenRunning(self._reactor.stop)

    def _stop_took_too_long(self) -> None:
        # For instance a disk that never comes back from a sync. Nothing acknowledged is lost by leaving now.
        self._log.critical("{node_id} could not stop in time and leaves as it is", node_id=self._node_id)
        self._exit(EXIT_FATAL)

    def _leave(self) -> None:
        if self._error is not None:
            # Again, as the last line: what was logged while stopping may have pushed the first one out of sight.
            self._log.critical("{node_id} stopped: {reason}", node_id=self._node_id, reason=_sentence(self._error))
            self._exit(EXIT_FATAL)

    def _exit(self, status: int) -> None:
        # twistd returns 0 whatever happened, and a thread that hangs in a sync would keep sys.exit from ending.
        for stream in (sys.stdout, sys.stderr):
            stream.flush()
        self._exit_process(status)


@implementer(ILogObserver)
class _FatalWatch:
    """Sees the errors that must not be survived, wherever they came from.

    One that escapes from a callback is caught by the reactor or by a Deferred, which log it and carry on.
    """

    def __init__(self, found: Callable[[BaseException], object]) -> None:
        self._found = found

    def __call__(self, event: LogEvent) -> None:
        failure = event.get("log_failure")
        if failure is not None and failure.check(InvariantViolation, StorageError):
            self._found(failure.value)


def _sentence(error: BaseException) -> str:
    text = " ".join(str(error).split())
    return text if isinstance(error, StorageError) else f"{type(error).__name__}: {text}"
