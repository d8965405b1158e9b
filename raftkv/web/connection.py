"""One HTTP/1.1 connection: where requests are read, bounded, served one after the other, and answered.

Knows bytes, limits and deadlines; leaves to :class:`raftkv.web.app.Api` what a request means. Routes with the fast
lane are answered from here; for any other, this object is the channel of a ``twisted.web`` request.

It stands in for Twisted's ``HTTPChannel``, which answers what it cannot read with a bare 400, sends ``100 Continue``
to a body that will be refused, counts time from the last byte instead of the first, and costs more than half of a
small request.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import TYPE_CHECKING, Any, Final, cast

from twisted.internet.interfaces import IAddress, IPushProducer, ISSLTransport, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from twisted.web.http_headers import Headers as TwistedHeaders
from zope.interface import implementer

from raftkv.errors import BadRequest, Overloaded, RaftKVError, TooLarge
from raftkv.web.app import body_too_large
from raftkv.web.errors import SlowRequest, error_answer, internal_error
from raftkv.web.exchange import JSON, READING_METHODS, Answer, Exchange
from raftkv.web.framing import ChunkedDecoder, HeaderBlock, parse_headers, parse_request_line
from raftkv.web.heads import BODILESS, STATUS_LINES, header_lines
from raftkv.web.request import ApiRequest
from raftkv.web.settings import SETTING_NAMES

if TYPE_CHECKING:
    from raftkv.web.site import ApiSite

MAX_PIPELINED_BYTES: Final = 64 * 1024  #: read ahead of a request that is being served
MAX_REMEMBERED_BYTES: Final = 1024  #: of a header block that is kept to recognise the next one

_CLOSE: Final = b"Connection: close\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
_JSON_LINES: Final = header_lines(JSON)
_NO_HEADERS: Final = parse_headers(b"")


@implementer(IPushProducer)
class HttpConnection(Protocol):
    """One connection. It reads a request, serves it, and only then reads the next one.

    ``_read`` is the state: the method that makes something of what has arrived, and returns whether to go on.
    ``_expired`` is what happens when the deadline passes in that state.

    :ivar deadline: when to call :meth:`expire`, by the site's coarse clock; ``None`` while a request is served.
    """

    _log = Logger()

    def __init__(self, site: ApiSite) -> None:
        self._site = site
        self._settings = site.api.settings
        self._buffer = b""
        self._position = 0
        self._out: list[bytes] = []
        self._read: Callable[[], bool] = self._read_head
        self._expired: Callable[[], None] = self._close
        self.deadline: float | None = None
        self._is_advancing = False
        self._is_closing = False
        self._is_choked = False  # the client does not read its answers
        self._is_reading = True
        self._producer: IPushProducer | None = None
        self._request: ApiRequest | None = None
        self._exchange: Exchange | None = None
        # The request that is being read or served:
        self._method = b"-"
        self._target = b"-"
        self._minor = b"1"
        self._block = b""
        self._head: HeaderBlock = _NO_HEADERS
        self._keeps_open = False
        self._connection_line = _CLOSE
        self._body = bytearray()
        self._held_bytes = 0
        self._body_limit = (0, "")
        self._decoder: ChunkedDecoder | None = None

    # -- the transport ------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Begin to read, unless there are too many connections already."""
        # ITransport and IConsumer, with abortConnection; no interface of Twisted has all that TCP and TLS share.
        self._tcp = cast(Any, self.transport)
        if ITCPTransport.providedBy(self._tcp):
            self._tcp.setTcpNoDelay(True)
        self._tcp.registerProducer(self, True)
        if self._site.admit(self):
            self._wait(self._settings.idle_timeout_seconds, self._close)
        else:
            limit = self._settings.max_connections
            self._refuse(Overloaded(f"{limit} connections are open; {SETTING_NAMES['max_connections']} allows no more"))
            self._flush()

    def dataReceived(self, data: bytes) -> None:
        """Go on with what has arrived."""
        if self._position < len(self._buffer):
            data = self._buffer[self._position :] + data
        self._buffer = data
        self._position = 0
        self._advance()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Give up what was going on; an answer that comes later goes nowhere."""
        self._read = self._discard
        self.deadline = None
        self._drop_body()
        self._buffer = b""
        exchange, self._exchange = self._exchange, None
        request, self._request = self._request, None
        if exchange is not None:
            exchange.abandon()
        if request is not None:
            request.connectionLost(reason)
        self._site.forget(self)

    def pauseProducing(self) -> None:
        """The client does not read: serve it nothing more until it does."""
        self._is_choked = True
        if self._producer is not None:
            self._producer.pauseProducing()
        if self.deadline is None or self._expired == self._close:
            self._wait(self._settings.idle_timeout_seconds, self.abort)
        self._choose_to_read()

    def resumeProducing(self) -> None:
        """The client reads again."""
        self._is_choked = False
        if self._read == self._hold:
            self.deadline = None
        elif self._read == self._read_head:
            self._wait(self._settings.idle_timeout_seconds, self._close)
        if self._producer is not None:
            self._producer.resumeProducing()
        self._advance()

    def stopProducing(self) -> None:
        """Nothing to do: :meth:`connectionLost` follows."""

    # -- progress -----------------------------------------------------------------------------------------------------

    def _advance(self) -> None:
        """Read and serve as far as possible, then write all the answers at once."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while not self._is_choked and self._read():
                pass
        except RaftKVError as error:
            self._refuse(error)
        finally:
            self._is_advancing = False
            self._flush()
        self._choose_to_read()

    def _flush(self) -> None:
        if self._out:
            out, self._out = self._out, []
            self._tcp.write(b"".join(out))
        if self._is_closing:
            self._is_closing = False
            # A registered producer would keep the transport open for as long as it is paused.
            self._tcp.unregisterProducer()
            self._tcp.loseConnection()

    def _choose_to_read(self) -> None:
        """Let the kernel hold what we could only pile up."""
        waiting = len(self._buffer) - self._position
        should_read = not self._is_choked and not (waiting > MAX_PIPELINED_BYTES and self.deadline is None)
        if should_read != self._is_reading:
            self._is_reading = should_read
            if should_read:
                self._tcp.resumeProducing()
            else:
                self._tcp.pauseProducing()

    def _wait(self, seconds: float, expired: Callable[[], None]) -> None:
        self.deadline = self._site.now_seconds + seconds
        self._expired = expired

    def expire(self) -> None:
        """The deadline has passed."""
        self.deadline = None
        self._expired()

    # -- reading ------------------------------------------------------------------------------------------------------

    def _read_head(self) -> bool:
        buffer, start = self._buffer, self._position
        if start == len(buffer):
            return False
        while buffer.startswith(b"\r\n", start):
            start = self._position = start + 2  # some clients send an empty line after a body (RFC 9112, 2.2)
        end = buffer.find(b"\r\n\r\n", start)
        if end < 0 or end - start > self._settings.max_header_bytes:
            return self._await_head(start)
        line_end = buffer.find(b"\r\n", start, end)
        if line_end < 0:
            line_end = end
        self._method, self._target, self._minor = parse_request_line(buffer, start, line_end)
        block = buffer[line_end + 2 : end]
        if block != self._block:
            self._head = parse_headers(block)
            # The next request on a connection often has the very same headers, which then need no parsing.
            self._block = block if len(block) <= MAX_REMEMBERED_BYTES else b"\r\n"
        self._position = end + 4
        return self._begin(self._head)

    def _await_head(self, start: int) -> bool:
        """Wait for the rest of a head, if it can still become one."""
        waiting = len(self._buffer) - start
        limit = self._settings.max_header_bytes
        if waiting > limit:
            raise TooLarge(
                f"request line and headers: more than the {limit} bytes of {SETTING_NAMES['max_header_bytes']}"
            )
        line_feed = self._buffer.find(b"\n", start)
        if line_feed >= 0 and self._buffer[line_feed - 1 : line_feed] != b"\r":
            raise BadRequest("request line and headers: each line must end with CR LF")
        if waiting and self._expired != self._slow_head:
            # Counted from the first byte, so that one byte now and then keeps no connection open.
            self._wait(self._settings.header_timeout_seconds, self._slow_head)
        return False

    def _begin(self, head: HeaderBlock) -> bool:
        """The head is complete: see how the body comes."""
        if self._minor == b"1":
            if not head.has_host:
                raise BadRequest("Host: missing")
            self._keeps_open = not head.says_close
            self._connection_line = b"" if self._keeps_open else _CLOSE
        else:
            if head.is_chunked:
                raise BadRequest("Transfer-Encoding: not known to HTTP/1.0")
            self._keeps_open = head.says_keep_alive
            self._connection_line = _KEEP_ALIVE if self._keeps_open else _CLOSE
        length = head.content_length
        if not length and not head.is_chunked:
            self._serve(b"")
            return True
        self._body_limit = self._site.api.max_body_bytes(self._method, self._target)
        if length > self._body_limit[0]:
            raise body_too_large(length, *self._body_limit)
        if not head.is_chunked:
            end = self._position + length
            if end <= len(self._buffer):
                body = self._buffer[self._position : end]
                self._position = end
                self._serve(body)
                return True
            self._read = self._read_sized
        else:
            self._decoder = ChunkedDecoder()
            self._read = self._read_chunked
        self._wait(self._settings.body_timeout_seconds, self._slow_body)
        if head.expects_continue and self._minor == b"1" and self._position == len(self._buffer):
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_sized(self) -> bool:
        missing = self._head.content_length - len(self._body)
        piece = self._buffer[self._position : self._position + missing]
        self._position += len(piece)
        self._body += piece
        if len(piece) < missing:
            self._hold_body()
            return False
        self._serve(self._drop_body())
        return True

    def _read_chunked(self) -> bool:
        decoder = self._decoder
        if decoder is None:
            raise RuntimeError("there is no chunked body to read")
        self._position, is_complete = decoder.decode(self._buffer, self._position, self._body)
        if len(self._body) > self._body_limit[0]:
            raise body_too_large(None, *self._body_limit)
        if not is_complete:
            self._hold_body()
            return False
        self._serve(self._drop_body())
        return True

    def _hold_body(self) -> None:
        """Have what has come of the body counted until it is complete."""
        added, self._held_bytes = len(self._body) - self._held_bytes, len(self._body)
        self._site.hold_body(added)

    def _drop_body(self) -> bytes:
        """Return what there is of the body, and give its memory back."""
        body = bytes(self._body)
        self._site.release_body(self._held_bytes)
        self._held_bytes = 0
        self._body = bytearray()
        self._decoder = None
        return body

    def _hold(self) -> bool:
        """What arrives while a request is served waits for its turn."""
        return False

    def _discard(self) -> bool:
        """What arrives after the last answer is of no interest."""
        self._position = len(self._buffer)
        return False

    # -- serving ------------------------------------------------------------------------------------------------------

    def _serve(self, body: bytes) -> None:
        self._read = self._hold
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
        request = self._request = ApiRequest(self)
        request.receive(self._method, target, self._minor, self._head.headers, body)
        request.render_with(site.resource)

    def _answer(self, answer: Answer) -> None:
        """Write the answer of a request on the fast lane."""
        self._exchange = None
        self._write_answer(answer)
        self._finish()

    def _write_answer(self, answer: Answer) -> None:
        status, headers, body = answer
        if self._site.is_stopping:
            self._announce_close()
        out = self._out
        out.append(STATUS_LINES[status])
        out.append(self._site.api.common_headers.lines())
        out.append(_JSON_LINES if headers is JSON else header_lines(headers))
        if status not in BODILESS:
            out.append(b"Content-Length: %d\r\n" % len(body))
        out.append(self._connection_line)
        out.append(b"\r\n")
        if self._method != b"HEAD":
            out.append(body)
        if self._settings.access_log:
            self._log_access(status, len(body))

    def _announce_close(self) -> None:
        self._keeps_open = False
        self._connection_line = _CLOSE

    def _finish(self) -> None:
        """The request has been answered: read the next one, or close."""
        if self._keeps_open:
            self._read = self._read_head
            self._wait(self._settings.idle_timeout_seconds, self.abort if self._is_choked else self._close)
        else:
            self._end()
        self._advance()

    def _end(self) -> None:
        self._read = self._discard
        self._is_closing = True
        self._wait(self._settings.idle_timeout_seconds, self.abort)

    def _refuse(self, error: RaftKVError) -> None:
        """Answer a request that cannot be read to its end, and close."""
        self._announce_close()
        self._drop_body()
        answer = error_answer(error, is_write=self._method not in READING_METHODS)
        self._site.api.metrics.count("other", self._method, answer.status)
        self._write_answer(answer)
        self._read = self._discard
        self._wait(self._settings.linger_seconds, self._close)

    def _log_access(self, status: int, size_bytes: int) -> None:
        self._log.info(
            "{peer} {method} {target} {status} {size_bytes}",
            peer=getattr(self._tcp.getPeer(), "host", "-"),
            method=self._method.decode("ascii"),
            target=self._target.decode("utf-8", "backslashreplace"),
            status=status,
            size_bytes=size_bytes,
        )

    # -- ends ---------------------------------------------------------------------------------------------------------

    def drain(self) -> None:
        """The server is stopping: close where nothing is going on; what is going on will close after its answer."""
        if self._read == self._read_head and self._position == len(self._buffer):
            self._close()

    def abort(self) -> None:
        """Close at once, whatever is going on."""
        self._tcp.abortConnection()

    def _close(self) -> None:
        self._end()
        self._flush()

    def _slow_head(self) -> None:
        self._refuse_slow("the headers did not arrive", "header_timeout_seconds")

    def _slow_body(self) -> None:
        self._refuse_slow("the body did not arrive", "body_timeout_seconds")

    def _refuse_slow(self, what: str, setting: str) -> None:
        seconds = getattr(self._settings, setting)
        self._refuse(SlowRequest(f"{what} within {seconds:g} seconds ({SETTING_NAMES[setting]})", "not_applied"))
        self._flush()

    # -- the channel of a twisted.web request -------------------------------------------------------------------------

    def getPeer(self) -> IAddress:
        """Return the client's address."""
        peer: IAddress = self._tcp.getPeer()
        return peer

    def getHost(self) -> IAddress:
        """Return our own address."""
        host: IAddress = self._tcp.getHost()
        return host

    def isSecure(self) -> bool:
        """Tell whether this is TLS."""
        return ISSLTransport.providedBy(self.transport)

    def writeHeaders(self, version: bytes, code: bytes, reason: bytes, headers: TwistedHeaders) -> None:
        """Write the head of an answer; it leaves together with what follows it."""
        if self._site.is_stopping:
            self._announce_close()
        out = self._out
        out.append(b"HTTP/1.1 %b %b\r\n" % (code, reason))
        for name, values in headers.getAllRawHeaders():
            out.extend([b"%b: %b\r\n" % (name, value) for value in values])
        out.append(self._connection_line)
        out.append(b"\r\n")

    def write(self, data: bytes) -> None:
        """Write a part of a body."""
        self._out.append(data)
        if not self._is_advancing:
            self._flush()

    def writeSequence(self, data: Iterable[bytes]) -> None:
        """Write several parts of a body."""
        self.write(b"".join(data))

    def requestDone(self, request: ApiRequest) -> None:
        """The request has written its whole answer."""
        self._request = None
        if self._settings.access_log:
            self._log_access(request.code, request.sentLength)
        self._finish()

    def fail(self, request: ApiRequest) -> None:
        """The request met a fault of ours: say so, or break the connection where its answer has begun."""
        if request is not self._request:
            return
        self._request = None
        if request.startedWriting:
            self.abort()
            return
        self._announce_close()
        self._write_answer(internal_error(is_write=self._method not in READING_METHODS))
        self._finish()

    def registerProducer(self, producer: IPushProducer, streaming: bool) -> None:
        """Have a producer of a long answer paused and resumed with the transport.

        :raises ValueError: it is a pull producer, or there is one already.
        """
        if not streaming or self._producer is not None:
            raise ValueError("one push producer at a time")
        self._producer = producer
        if self._is_choked:
            producer.pauseProducing()

    def unregisterProducer(self) -> None:
        """Forget the producer."""
        self._producer = None

    def loseConnection(self) -> None:
        """Close once everything is written."""
        self._close()
