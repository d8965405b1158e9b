"""The reading half of an HTTP connection: from bytes to requests, one after the other, each bounded and in time.

Knows how a request is made up and what may be kept of those that are on their way; leaves the syntax to
:mod:`raftkv.web.framing` and :mod:`raftkv.web.bodies`, and what becomes of a request to
:class:`raftkv.web.connection.HttpConnection`, which is built on it.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import replace
from typing import TYPE_CHECKING, Final

from raftkv.errors import BadRequest, Overloaded, RaftKVError, TooLarge
from raftkv.web.bodies import IncomingBody, body_too_large
from raftkv.web.framing import HeaderBlock, parse_headers, parse_request_line
from raftkv.web.settings import SETTING_NAMES
from raftkv.web.stream import MAX_UNSENT_BYTES, HttpStream

if TYPE_CHECKING:
    from raftkv.web.site import ApiSite

MAX_PIPELINED_BYTES: Final = 64 * 1024  #: read ahead of a request that is being served
MAX_REMEMBERED_BYTES: Final = 1024  #: of a header block that is kept to recognise the next one

CLOSE: Final = b"Connection: close\r\n"
_KEEP_ALIVE: Final = b"Connection: keep-alive\r\n"
_NO_HEADERS: Final = parse_headers(b"")
_FORGOTTEN: Final = b"\r\n"  #: in place of a header block, and equal to none


class RequestReader(HttpStream):
    """One connection, as a sequence of requests.

    ``_read`` is the state: the method that makes something of what has arrived, and returns whether to go on.
    ``_expired`` is what happens when the deadline passes in that state; there is none while a request is served.
    """

    def __init__(self, site: ApiSite) -> None:
        super().__init__(site)
        self._buffer = b""
        self._position = 0
        self._held_bytes = 0  # what the site counts as ours
        self._read: Callable[[], bool] = self._read_head
        self._is_advancing = False
        self._has_dropped = False  # the client has sent more than we shall serve
        # The request that is being read or served:
        self._method = b"-"
        self._target = b"-"
        self._minor = b"1"
        self._block = b""
        self._head: HeaderBlock = _NO_HEADERS
        self._keeps_open = False
        self._connection_line = CLOSE
        self._body: IncomingBody | None = None

    # -- for the upper half to implement ------------------------------------------------------------------------------

    def _serve(self, body: bytes) -> None:
        """The request is complete; :meth:`_next_request` once it has been answered."""
        raise NotImplementedError

    def _refuse(self, error: RaftKVError) -> None:
        """The request cannot be read to its end: say why, and close."""
        raise NotImplementedError

    def _announce_close(self) -> None:
        """The answer that comes next is the last one."""
        raise NotImplementedError

    def _slow_head(self) -> None:
        """The headers did not arrive in time."""
        raise NotImplementedError

    def _slow_body(self) -> None:
        """The body did not arrive in time."""
        raise NotImplementedError

    def close(self) -> None:
        """Close once everything is written."""
        raise NotImplementedError

    # -- progress -----------------------------------------------------------------------------------------------------

    def dataReceived(self, data: bytes) -> None:
        """Go on with what has arrived."""
        self._buffer = self._buffer + data if self._buffer else data
        self._advance()

    def _advance(self) -> None:
        """Read and serve as far as possible, then write all the answers at once."""
        if self._is_advancing:
            return
        self._is_advancing = True
        try:
            while not self._is_choked and self._read():
                if self._position == len(self._buffer):
                    break
                if self._out_bytes > MAX_UNSENT_BYTES:
                    # The transport says here when it has enough: a few bytes can ask for a gigabyte.
                    self._flush()
        except RaftKVError as error:
            self._refuse(error)
        finally:
            self._is_advancing = False
            self._flush()
        if self._position:
            self._buffer = self._buffer[self._position :]
            self._position = 0
        if self._buffer or self._held_bytes or self._body is not None:
            self._count_held()
        if self._buffer or self._is_choked or not self._is_reading:
            self._choose_to_read()

    def _choose_to_read(self) -> None:
        waiting = len(self._buffer) - self._position
        self._let_read(not self._is_choked and not (waiting > MAX_PIPELINED_BYTES and self.deadline is None))

    def _count_held(self) -> None:
        """Have what we keep of requests that are not yet served counted with that of the other connections."""
        held_bytes = len(self._buffer) + (len(self._body.data) if self._body is not None else 0)
        added, self._held_bytes = held_bytes - self._held_bytes, held_bytes
        if not added or self._site.hold(added):
            return
        if self._read == self._await_answer:
            # Only requests behind the present one have to go: it will be answered, and then the connection ends.
            self._announce_close()
            self._await_answer()
        else:
            setting, limit = SETTING_NAMES["max_buffered_body_bytes"], self._settings.max_buffered_body_bytes
            self._refuse(Overloaded(f"requests on their way take more than {setting} ({limit} bytes)"))
            self._flush()

    def _drop_input(self) -> None:
        """Forget what has come and is not served."""
        self._buffer = b""
        self._position = 0
        self._body = None
        if self._held_bytes:
            self._site.hold(-self._held_bytes)
            self._held_bytes = 0

    def _next_request(self) -> None:
        """Read the next request; the connection may go if there is none for a while."""
        if self._block is _FORGOTTEN:
            self._head = _NO_HEADERS  # too large to keep while the client thinks of its next request
            self._block = b""
        self._read = self._read_head
        self.deadline = self._site.now_seconds + self._settings.idle_timeout_seconds
        self._expired = self.abort if self._is_choked else self.close

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
        try:
            self._method, self._target, self._minor, authority = parse_request_line(buffer, start, line_end)
        except BadRequest:
            self._method = self._target = b"-"  # the refusal is not that of the request before
            raise
        block = buffer[line_end + 2 : end]
        if block != self._block:
            self._head = parse_headers(block)
            # The next request on a connection often has the very same headers, which then need no parsing.
            self._block = block if len(block) <= MAX_REMEMBERED_BYTES else _FORGOTTEN
        if authority and self._head.has_host:
            self._head = replace(self._head, headers={**self._head.headers, b"host": authority})
            self._block = _FORGOTTEN
        self._position = end + 4
        return self._begin(self._head)

    def _await_head(self, start: int) -> bool:
        """Wait for the rest of a head, if it can still become one."""
        self._method = self._target = b"-"
        waiting = len(self._buffer) - start
        limit = self._settings.max_header_bytes
        line_feed = self._buffer.find(b"\n", start, start + limit)
        if line_feed >= 0 and self._buffer[line_feed - 1 : line_feed] != b"\r":
            raise BadRequest("request line and headers: each line must end with CR LF")
        if waiting > limit:
            raise TooLarge(
                f"request line and headers: more than the {limit} bytes of {SETTING_NAMES['max_header_bytes']}"
            )
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
            self._connection_line = b"" if self._keeps_open else CLOSE
        else:
            if head.is_chunked:
                raise BadRequest("Transfer-Encoding: not known to HTTP/1.0")
            self._keeps_open = head.says_keep_alive
            self._connection_line = _KEEP_ALIVE if self._keeps_open else CLOSE
        length = head.content_length
        if not length and not head.is_chunked:
            self._serve(b"")
            return True
        limit = self._site.api.max_body_bytes(self._method, self._target)
        if length > limit[0]:
            raise body_too_large(length, *limit)
        end = self._position + length
        if not head.is_chunked and end <= len(self._buffer):
            body = self._buffer[self._position : end]
            self._position = end
            self._serve(body)
            return True
        self._body = IncomingBody(None if head.is_chunked else length, limit)
        self._read = self._read_body
        self._wait(self._settings.body_timeout_seconds, self._slow_body)
        if head.expects_continue and self._minor == b"1" and self._position == len(self._buffer):
            self._out.append(b"HTTP/1.1 100 Continue\r\n\r\n")
        return True

    def _read_body(self) -> bool:
        body = self._body
        if body is None:
            raise RuntimeError("there is no body to read")
        self._position, is_complete = body.read(self._buffer, self._position)
        if is_complete:
            self._body = None
            self._serve(bytes(body.data))
        return is_complete

    def _await_answer(self) -> bool:
        """What arrives while a request is served waits for its turn."""
        if not self._keeps_open and self._position < len(self._buffer):
            self._has_dropped = True
            self._drop_input()
        return False

    def _discard(self) -> bool:
        """What arrives after the last answer is of no interest."""
        self._drop_input()
        return False
