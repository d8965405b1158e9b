"""Where log lines go, and which.

twistd makes the observer itself and takes ours only by its name in ``--logger``, without arguments. So what the
configuration asks for is left in :func:`choose`, and :func:`observer`, whose name is given to twistd, picks it up.
"""

from __future__ import annotations

import signal
import sys
from dataclasses import dataclass
from typing import IO, Any

from twisted.internet.interfaces import IReactorFromThreads
from twisted.logger import (
    FilteringLogObserver,
    ILogObserver,
    LegacyLogObserverWrapper,
    LogLevel,
    LogLevelFilterPredicate,
    textFileLogObserver,
)
from twisted.python.logfile import LogFile

_ROTATE_BYTES = 16 * 1024 * 1024
_KEPT_FILES = 10

OBSERVER_NAME = f"{__name__}.observer"  #: what to say to twistd's ``--logger``


@dataclass(frozen=True, slots=True, kw_only=True)
class LogChoice:
    """What was chosen on the command line and in the configuration.

    :ivar level: the least important level that is written.
    :ivar path: a file, or ``None`` for standard output.
    :ivar syslog_prefix: log to syslog under this name instead, unless ``None``.
    """

    level: str = "info"
    path: str | None = None
    syslog_prefix: str | None = None


_chosen = LogChoice()


def choose(choice: LogChoice) -> None:
    """Keep what :func:`observer` is to make."""
    global _chosen
    _chosen = choice


def observer() -> ILogObserver:
    """Make the process's log observer; twistd calls this once, before it forks."""
    return make_observer(_chosen)


def make_observer(choice: LogChoice) -> ILogObserver:
    """Make an observer that writes what the choice lets through."""
    level = LogLevel.lookupByName(choice.level)
    filtered: ILogObserver = FilteringLogObserver(_sink(choice), [LogLevelFilterPredicate(defaultLogLevel=level)])
    return filtered


def _sink(choice: LogChoice) -> ILogObserver:
    if choice.syslog_prefix is not None:
        from twisted.python import syslog

        return LegacyLogObserverWrapper(syslog.SyslogObserver(choice.syslog_prefix).emit)  # type: ignore[arg-type] # a function will do
    if choice.path is None:
        return textFileLogObserver(sys.stdout)
    try:
        file = LogFile.fromFullPath(choice.path, rotateLength=_ROTATE_BYTES, maxRotatedFiles=_KEPT_FILES)
    except OSError as error:
        raise SystemExit(f"raftkv: log file {choice.path}: cannot be written: {error.strerror}") from None
    _rotate_on_signal(file)
    return textFileLogObserver(_as_text(file))


def _as_text(file: LogFile) -> IO[Any]:
    # LogFile has just the methods of a file that the observer calls, and no more.
    return file  # type: ignore[return-value]


def _rotate_on_signal(file: LogFile) -> None:
    """Start a new file on SIGUSR1, as twistd's own observer does."""

    def rotate(_signal: int, _frame: object) -> None:
        from twisted.internet import reactor

        # Python runs this between two bytecodes of whatever the reactor's thread is doing, maybe of a write.
        IReactorFromThreads(reactor).callFromThread(file.rotate)

    if not signal.getsignal(signal.SIGUSR1):
        signal.signal(signal.SIGUSR1, rotate)
