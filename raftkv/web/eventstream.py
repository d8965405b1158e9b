"""A watch as a stream of Server-Sent Events: one answer that goes on for as long as both sides like."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Final

from raftkv.errors import Compacted, Overflow, RaftKVError
from raftkv.watches import IWatch, WatchEvent
from raftkv.web.eventforms import compacted_text, event_text, overflow_text, progress_text
from raftkv.web.exchange import Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.streaming import BodySource, OutgoingBody, Streamed

EVENT_STREAM: Final[Headers] = (
    (b"Content-Type", b"text/event-stream; charset=utf-8"),
    (b"Cache-Control", b"no-store"),
    (b"X-Accel-Buffering", b"no"),  # proxies of nginx's kind would hold events back
)


class EventStream(BodySource):
    """Receives what one watch is told (:class:`raftkv.watches.WatchReceiver`), and is the source of its answer.

    :ivar watch: to be set before it is begun.
    """

    __slots__ = ("_body", "_buffer_bytes", "_exchange", "_is_over", "_with_previous", "watch")

    def __init__(self, exchange: Exchange, *, with_previous: bool, buffer_bytes: int) -> None:
        """
        :param buffer_bytes: how much may wait for the client before it is told no more.
        """
        self._buffer_bytes = buffer_bytes
        self.watch: IWatch | None = None
        self._exchange: Exchange | None = exchange
        self._with_previous = with_previous
        self._body: OutgoingBody | None = None
        self._is_over = False

    # -- from the watch ----------------------------------------------------------------------------------------------

    def begun(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._open()
        self._write(progress_text(revision))

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        """See :class:`raftkv.watches.WatchReceiver`."""
        body, with_previous = self._body, self._with_previous
        if body is None:
            return False
        if len(events) == 1:
            body.write(event_text(events[0], with_previous=with_previous, is_last=is_whole))
        else:
            pieces = [event_text(event, with_previous=with_previous, is_last=False) for event in events[:-1]]
            pieces.append(event_text(events[-1], with_previous=with_previous, is_last=is_whole))
            body.write(b"".join(pieces))
        return body.has_room

    def progress(self, revision: int) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        self._write(progress_text(revision))

    def ended(self, error: RaftKVError) -> None:
        """See :class:`raftkv.watches.WatchReceiver`."""
        if self._body is None and not isinstance(error, Compacted):
            self._is_over = True
            if self._exchange is not None:
                fail(self._exchange, error)
            return
        self._open()
        if isinstance(error, Compacted):
            self._write(compacted_text(error.compact_revision))
        elif isinstance(error, Overflow):
            self._write(overflow_text(error.revision))
        # Whatever else it is, the client resumes behind what it was told, here or on another node.
        self._finish()

    # -- from the answer ---------------------------------------------------------------------------------------------

    def resume(self, body: OutgoingBody) -> None:
        """See :class:`BodySource`."""
        if self._body is None:
            self._body = body
        elif self.watch is not None:
            self.watch.go_on()

    def gone(self) -> None:
        """See :class:`BodySource`."""
        self._is_over = True
        self._body = None
        if self.watch is not None:
            self.watch.cancel()

    def stopping(self) -> None:
        """See :class:`BodySource`."""
        if self.watch is not None:
            self.watch.cancel()
        self._finish()

    # -- the answer ---------------------------------------------------------------------------------------------------

    def _open(self) -> None:
        exchange, self._exchange = self._exchange, None
        if exchange is not None and not self._is_over:
            exchange.stream(Streamed(200, EVENT_STREAM, self, buffer_bytes=self._buffer_bytes))

    def _write(self, data: bytes) -> None:
        if self._body is not None:
            self._body.write(data)

    def _finish(self) -> None:
        body, self._body = self._body, None
        self._is_over = True
        if body is not None:
            body.finish()
