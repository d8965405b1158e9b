"""What should not happen and is only logged: the end of a story that looked well."""

from __future__ import annotations

from twisted.logger import ILogObserver, LogEvent, LogLevel, formatEvent
from zope.interface import implementer


@implementer(ILogObserver)
class LoggedFailures:
    """Keeps what should not happen: log events at error and above.

    :param alarms_count: whether alarms are among them; where states are changed on purpose they are what is wanted.
    """

    def __init__(self, *, alarms_count: bool) -> None:
        self.events: list[LogEvent] = []
        self._alarms_count = alarms_count

    def __call__(self, event: LogEvent) -> None:
        # An archive that a full disk has overtaken goes on behind a snapshot, which is looked at by itself.
        is_excused = "alarm" in event and (not self._alarms_count or event["alarm"] == "archive_behind")
        if event.get("log_level") in (LogLevel.error, LogLevel.critical) and not is_excused:
            self.events.append(event)


def describe_event(event: LogEvent) -> str:
    """Return a log event in words, with the error that it holds."""
    failure = event.get("log_failure")
    return formatEvent(event) + (f" ({failure.getTraceback()})" if failure is not None else "")
