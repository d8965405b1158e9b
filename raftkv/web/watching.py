"""The endpoints of watches: what a request asks for, checked, and who answers it.

Knows the watches through :meth:`raftkv.interfaces.IKeyValue.watch`; :mod:`~raftkv.web.eventstream` and
:mod:`~raftkv.web.polling` are the two ways to answer.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Final

from raftkv.errors import BadRequest, TooLarge
from raftkv.interfaces import IKeyValue
from raftkv.watches import PROGRESS_SECONDS, WatchRequest
from raftkv.web.eventstream import EVENT_STREAM, EventStream
from raftkv.web.exchange import Exchange
from raftkv.web.parameters import LARGEST_INTEGER, checked_key, percent_decoded, shown
from raftkv.web.polling import Poll
from raftkv.web.queries import Parameters
from raftkv.web.settings import SETTING_NAMES, WebSettings
from raftkv.web.streaming import Streamed

WATCH_PARAMETERS: Final = frozenset({"from_revision", "filter", "prev_kv", "progress", "poll"})
SPAN_PARAMETERS: Final = frozenset({"key", "prefix", "start", "end"})
ELECTIONS_PATH: Final = b"/v1/elections/"
OBSERVE_SUFFIX: Final = b"/observe"

MIN_PROGRESS_SECONDS: Final = 0.1
MAX_PROGRESS_SECONDS: Final = 3600.0
MAX_POLL_SECONDS: Final = 60.0

_NUMBER: Final = re.compile(rb"[0-9]{1,19}")
_DECIMAL: Final = re.compile(rb"[0-9]{1,9}(\.[0-9]{1,9})?")
_FILTERS: Final = {None: (True, True), b"put": (True, False), b"delete": (False, True)}


class WatchOperations:
    """``GET /v1/watch`` and ``GET /v1/elections/{name}/observe``."""

    def __init__(self, key_value: IKeyValue, settings: WebSettings) -> None:
        self._key_value = key_value
        self._max_key_bytes = settings.max_key_bytes
        self._buffer_bytes = settings.watch_buffer_bytes

    def watch(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/watch``."""
        self._serve(exchange, parameters, *self._span(parameters))

    def observe(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/elections/{name}/observe``: a watch of the key that shows who is elected."""
        raw = exchange.path[len(ELECTIONS_PATH) : -len(OBSERVE_SUFFIX)]
        name, _ = checked_key(percent_decoded("name", raw), self._max_key_bytes, "name")
        key, _ = checked_key(b"elections/" + name, self._max_key_bytes)
        self._serve(exchange, parameters, key, key + b"\0")

    def _serve(self, exchange: Exchange, parameters: Parameters, start: bytes, end: bytes) -> None:
        poll_seconds = _seconds(parameters, "poll", 0.0, MAX_POLL_SECONDS)
        progress_seconds = _seconds(parameters, "progress", MIN_PROGRESS_SECONDS, MAX_PROGRESS_SECONDS)
        if poll_seconds is not None and progress_seconds is not None:
            raise BadRequest("progress: only for streams; the answer to a poll tells the revision")
        with_previous = _flag(parameters, "prev_kv")
        from_revision, resumes = _beginning(exchange.headers, parameters)
        puts, deletes = _filter(parameters)
        if poll_seconds is not None:
            interval_seconds = max(poll_seconds, MIN_PROGRESS_SECONDS)
        else:
            interval_seconds = progress_seconds or PROGRESS_SECONDS
        request = WatchRequest(
            start=start,
            end=end,
            from_revision=from_revision,
            resumes=resumes,
            puts=puts,
            deletes=deletes,
            progress_seconds=interval_seconds,
            is_progress_regular=progress_seconds is not None,
        )
        if poll_seconds is not None:
            poll = Poll(exchange, with_previous=with_previous, waits=poll_seconds > 0)
            poll.watch = self._key_value.watch(request, poll)
            poll.watch.begin()
            exchange.when_abandoned(poll.abandoned)
            return
        stream = EventStream(exchange, with_previous=with_previous, buffer_bytes=self._buffer_bytes)
        if exchange.method == b"HEAD":
            exchange.stream(Streamed(200, EVENT_STREAM, stream))  # of which nothing but the head will be wanted
            return
        stream.watch = self._key_value.watch(request, stream)
        stream.watch.begin()
        exchange.when_abandoned(stream.gone)

    def _span(self, parameters: Parameters) -> tuple[bytes, bytes]:
        """Return the keys to watch, as the first one and the end."""
        key, prefix = parameters.get("key"), parameters.get("prefix")
        has_range = "start" in parameters or "end" in parameters
        if (key is not None) + (prefix is not None) + has_range > 1:
            raise BadRequest("key, prefix, start: give one of key, prefix, or start and end")
        if key is not None:
            found, _ = checked_key(key, self._max_key_bytes)
            return found, found + b"\0"
        if prefix is not None:
            return self._edge("prefix", prefix), _end_of_prefix(prefix)
        start, end = (self._edge(name, parameters.get(name, b"")) for name in ("start", "end"))
        if end and end <= start:
            raise BadRequest("end: must be above start")
        return start, end

    def _edge(self, name: str, edge: bytes) -> bytes:
        if len(edge) > self._max_key_bytes:
            setting = SETTING_NAMES["max_key_bytes"]
            raise TooLarge(f"{name}: {len(edge)} bytes; {setting} allows {self._max_key_bytes}")
        try:
            edge.decode("utf-8")
        except UnicodeDecodeError as error:
            raise BadRequest(f"{name}: not valid UTF-8 at byte {error.start}: {shown(edge)}") from None
        return edge


def _end_of_prefix(prefix: bytes) -> bytes:
    """Return the end of the range of all keys with a prefix, which is UTF-8; ``b""`` for no upper end."""
    return prefix[:-1] + bytes((prefix[-1] + 1,)) if prefix else b""


def _beginning(headers: Mapping[bytes, bytes], parameters: Parameters) -> tuple[int | None, bool]:
    """Return the first revision to tell, and whether those below it were told before."""
    raw_first = parameters.get("from_revision")
    first = None
    if raw_first is not None:
        first = int(raw_first) if _NUMBER.fullmatch(raw_first) else 0
        if not 0 < first <= LARGEST_INTEGER:
            raise BadRequest(f"from_revision: expected a number from 1 to {LARGEST_INTEGER}, found {shown(raw_first)}")
    raw_last = headers.get(b"last-event-id")
    if not raw_last:
        return first, False
    if _NUMBER.fullmatch(raw_last) is None or int(raw_last) >= LARGEST_INTEGER:
        raise BadRequest(f"Last-Event-ID: expected the id of an event, a revision, found {shown(raw_last)}")
    resumed = int(raw_last) + 1
    # A stream from a revision that is yet to be begins with the id in front of it: that was no revision of anything.
    return resumed, resumed != first


def _filter(parameters: Parameters) -> tuple[bool, bool]:
    found = _FILTERS.get(parameters.get("filter"))
    if found is None:
        raise BadRequest(f"filter: expected put or delete, found {shown(parameters['filter'])}")
    return found


def _flag(parameters: Parameters, name: str) -> bool:
    raw = parameters.get(name, b"true")
    if raw not in (b"true", b"false"):
        raise BadRequest(f"{name}: expected true or false, found {shown(raw)}")
    return raw == b"true"


def _seconds(parameters: Parameters, name: str, lowest: float, highest: float) -> float | None:
    raw = parameters.get(name)
    if raw is None:
        return None
    seconds = float(raw) if _DECIMAL.fullmatch(raw) else -1.0
    if not lowest <= seconds <= highest:
        raise BadRequest(f"{name}: expected a number of seconds from {lowest:g} to {highest:g}, found {shown(raw)}")
    return seconds
