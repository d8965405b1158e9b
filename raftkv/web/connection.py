"""One HTTP/1.1 connection: requests are served one after the other, and answered.

Built on :mod:`raftkv.web.reading`, which reads them. Leaves to :class:`raftkv.web.app.Api` what a request means.
Routes with the fast lane are answered from here; any other is a ``twisted.web`` request, see
:mod:`raftkv.web.request`.

It stands in for Twisted's ``HTTPChannel``, which answers what it cannot read with a bare 400, sends ``100 Continue``
to a body that will be refused, counts time from the last byte instead of the first, and costs more than half of a
small request.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final

from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import Overloaded, RaftKVError
from raftkv.web.errors import SlowRequest, error_answer
from raftkv.web.exchange import JSON, READING_METHODS, Answer, Exchange, Headers
from raftkv.web.heads import BODILESS, STATUS_LINES, header_lines
from raftkv.web.reading import CLOSE, RequestReader
from raftkv.web.request import RequestChannel
from raftkv.web.settings import SETTING_NAMES
from raftkv.web.stream import MAX_UNSENT_BYTES
from raftkv.web.streaming import OutgoingBody, Streamed

if TYPE_CHECKING:
    from raftkv.web.site import ApiSite

MAX_SLOW_REQUESTS: Final = 8  #: served of one connection without the others having their turn

_JSON_LINES: Final = header_lines(JSON)


class HttpConnection(RequestReader):
    """One connection. It reads a request, serves it, and only then reads the next one."""

    _log = Logger()

    def __init__(self, site: ApiSite) -> None:
        super().__init__(site)
        self._slow_requests = 0
        self._next_turn: IDelayedCall | None = None
        self._exchange: Exchange | None = None
        self._channel: RequestChannel | None = None
        self._outgoing: OutgoingBody | None = None
        self._is_chunked = False

    # -- the transport ------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin to read, unless there are too many connections already."""
        super().connectionMade()
        if self._site.admit(self):
            self._wait(self._settings.idle_timeout_seconds, self.close)
        else:
            limit = self._settings.max_connections
            self._refuse(Overloaded(f"{limit} connections are open; {SETTING_NAMES['max_connections']} allows no more"))
            self._flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what was going on; an answer that comes later goes nowhere."""
        self._read = self._discard
        self.deadline = None
        self._drop_input()
        if self._next_turn is not None:
            self._next_turn.cancel()
            self._next_turn = None
        exchange, self._exchange = self._exchange, None
        outgoing, self._outgoing = self._outgoing, None
        channel, self._channel = self._channel, None
        if exchange is not None:
            exchange.abandon()
        if outgoing is not None:
            outgoing.lost()
        if channel is not None:
            channel.connection_lost(reason)
        self._site.forget(self)

    def _stalled(self) -> None:
        if self._outgoing is not None:
            self._outgoing.pause()
        if self._channel is not None:
            self._channel.pause()
        if self.deadline is None or self._expired == self.close:
            self._wait(self._settings.idle_timeout_seconds, self.abort)
        self._choose_to_read()

    def _resumed(self) -> None:
        if self._read == self._await_answer:
            self.deadline = None
        elif self._read == self._read_head:
            self._wait(self._settings.idle_timeout_seconds, self.close)
        if self._outgoing is not None:
            self._outgoing.resume()
        if self._channel is not None:
            self._channel.resume()
        self._advance()

    # -- serving ------------------------------------------------------------------------------------------------------

    def _serve(self, body: bytes) -> None:
        self._read = self._await_answer
        self.deadline = None
        site = self._site
        target = self._target
        path, _, query = target.partition(b"?")
        route = site.api.fast_route(path) if site.has_fast_lane else None
        if route is not None:
            exchange = self._exchange = Exchange(
                self._method, path, query, self._head.headers, body, site.api.seconds(), self._answer
            )
            site.api.serve(route, exchange)
            return
        self._slow_requests += 1
        channel = self._channel = RequestChannel(self)
        channel.request.receive(self._method, target, self._minor, self._head.headers, body)
        channel.request.render_with(site.resource)

    def _answer(self, answer: Answer | Streamed) -> None:
        """Write the answer of a request on the fast lane."""
        self._exchange = None
        if type(answer) is Answer:
            self._write_answer(answer)
            self._finish()
        elif isinstance(answer, Streamed):  # for mypy, which draws nothing from the above
            self._begin_body(answer)

    def _write_answer(self, answer: Answer) -> None:
        status, headers, body = answer
        self._write_head(status, headers, b"" if status in BODILESS else b"Content-Length: %d\r\n" % len(body))
        if self._method != b"HEAD":
            self._out.append(body)
            self._out_bytes += len(body)
        if self._settings.access_log:
            self._log_access(status, len(body))

    def _write_head(self, status: int, headers: Headers, framing: bytes) -> None:
        if self._site.is_stopping:
            self._announce_close()
        out = self._out
        out.append(STATUS_LINES[status])
        out.append(self._site.api.common_headers.lines())
        out.append(_JSON_LINES if headers is JSON else header_lines(headers))
        out.append(framing)
        out.append(self._connection_line)
        out.append(b"\r\n")

    # -- answers in pieces --------------------------------------------------------------------------------------------

    def _begin_body(self, streamed: Streamed) -> None:
        length, has_body = streamed.length, self._method != b"HEAD"
        framing = b""
        if length is not None:
            framing = b"Content-Length: %d\r\n" % length
        elif has_body:
            framing = self._frame_body()
        self._write_head(streamed.status, streamed.headers, framing)
        body = OutgoingBody(streamed, self, self._site.api.open_bodies)
        self._outgoing = body
        if not has_body:
            body.lost()
            self.body_finished()
            return
        if not self._is_advancing:
            self._flush()
        if streamed.buffer_bytes is not None:
            self._buffer_at_most(streamed.buffer_bytes)
        if self._is_choked:
            body.pause()
        body.begin()

    def _frame_body(self) -> bytes:
        """Decide where a body of unknown length ends, and return the header that says so."""
        if self._minor == b"1":
            self._is_chunked = True
            return b"Transfer-Encoding: chunked\r\n"
        self._announce_close()
        return b""

    def write_piece(self, data: bytes) -> None:
        """Write a piece of a body; see :class:`raftkv.web.streaming.BodyLane`."""
        self.write(b"%x\r\n%b\r\n" % (len(data), data) if self._is_chunked else data)

    def body_finished(self) -> None:
        """All of a body has been written."""
        if self._is_chunked:
            self._is_chunked = False
            self.write(b"0\r\n\r\n")
        body, self._outgoing = self._outgoing, None
        self._buffer_at_most(None)
        if self._settings.access_log and body is not None:
            self._log_access(body.status, body.size_bytes)
        self._finish()

    def break_off(self) -> None:
        """The rest of a body will not come."""
        self._outgoing = None
        self.abort()

    # -- ends of answers ----------------------------------------------------------------------------------------------

    def _announce_close(self) -> None:
        self._keeps_open = False
        self._connection_line = CLOSE

    def _finish(self) -> None:
        """The request has been answered: read the next one, or close."""
        if self._site.is_stopping and self._keeps_open:
            # The head of a long answer had left before: what came behind its request is not served any more.
            self._announce_close()
            self._await_answer()
        if self._keeps_open:
            self._next_request()
        elif self._has_dropped:
            self._linger()
        else:
            self._end()
        if not self._is_advancing:
            self._advance()

    def _refuse(self, error: RaftKVError) -> None:
        """Answer a request that cannot be read to its end, and close."""
        self._announce_close()
        answer = error_answer(error, is_write=self._method not in READING_METHODS)
        self._site.api.metrics.count("other", self._method, answer.status)
        self._write_answer(answer)
        self._linger()

    def _log_access(self, status: int, size_bytes: int) -> None:
        self._log.info(
            "{peer} {method} {target} {status} {size_bytes}",
            peer=getattr(self._tcp.getPeer(), "host", "-"),
            method=self._method.decode("ascii"),
            # Not as UTF-8, which has characters that end lines and steer terminals.
            target=self._target.decode("ascii", "backslashreplace"),
            status=status,
            size_bytes=size_bytes,
        )

    # -- for the slow lane --------------------------------------------------------------------------------------------

    @property
    def is_choked(self) -> bool:
        """Whether the client does not read its answers."""
        return self._is_choked

    def end_with_answer(self) -> None:
        """The end of the connection is to be that of the answer, whose length is not known."""
        self._announce_close()

    def write_head(self, lines: list[bytes]) -> None:
        """Write status line and headers; they leave together with what follows them."""
        if self._site.is_stopping:
            self._announce_close()
        self._out += (*lines, self._connection_line, b"\r\n")

    def write(self, data: bytes) -> None:
        """Write a part of a body."""
        self._out.append(data)
        self._out_bytes += len(data)
        if not self._is_advancing or self._out_bytes > MAX_UNSENT_BYTES:
            # The transport says here when it has enough, also to whoever writes a lot in the very call that served it.
            self._flush()

    def slow_lane_done(self, status: int, size_bytes: int) -> None:
        """The whole answer has been written."""
        self._channel = None
        if self._settings.access_log:
            self._log_access(status, size_bytes)
        if self._slow_requests >= MAX_SLOW_REQUESTS and self._position < len(self._buffer) and self._keeps_open:
            # Two thousand requests for /metrics fit into one piece of data, and take seconds.
            self._next_turn = self._site.next_turn(self._take_turn)
        else:
            self._finish()

    def _take_turn(self) -> None:
        self._next_turn = None
        self._slow_requests = 0
        self._finish()

    def fail(self, answer: Answer) -> None:
        """Give the answer for a fault of ours, and close."""
        self._channel = None
        self._announce_close()
        self._write_answer(answer)
        self._finish()

    # -- ends ---------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is stopping: close where nothing is going on; what is going on will close after its answer."""
        if self._read == self._read_head and self._position == len(self._buffer):
            self.close()

    def close(self) -> None:
        """Close once everything is written."""
        self._end()
        self._flush()

    def _end(self) -> None:
        self._read = self._discard
        self._is_closing = True
        self._wait(self._settings.idle_timeout_seconds, self.abort)

    def _linger(self) -> None:
        """Close, but not before the client has read why: unread bytes would reset the connection (RFC 9112, 9.6)."""
        self._read = self._discard
        self._drop_input()
        self._wait(self._settings.linger_seconds, self.close)

    def _slow_head(self) -> None:
        self._refuse_slow("the headers did not arrive", "header_timeout_seconds")

    def _slow_body(self) -> None:
        self._refuse_slow("the body did not arrive", "body_timeout_seconds")

    def _refuse_slow(self, what: str, setting: str) -> None:
        seconds = getattr(self._settings, setting)
        self._refuse(SlowRequest(f"{what} within {seconds:g} seconds ({SETTING_NAMES[setting]})", "not_applied"))
        self._flush()
