"""HTTP/1.1 on the way in: request lines, header blocks and chunked bodies (RFC 9110 and 9112).

Pure: bytes in, values out. Strict where two readers of one stream could disagree on where a request ends, for that is
how requests are smuggled past a proxy: no folded lines, no bare line feeds, no ``Content-Length`` beside a
``Transfer-Encoding``, no length given twice.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from raftkv.errors import BadRequest
from raftkv.web.parameters import shown

MAX_CHUNK_LINE_BYTES: Final = 256  #: a chunk's size with its extensions
MAX_TRAILER_BYTES: Final = 8192  #: all trailer fields of a chunked body together; they are read and dropped

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/1\.([01])")
_FIELD_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+):[ \t]*([^\x00-\x08\x0a-\x1f\x7f]*)")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]*")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})[ \t]*(?:;[^\x00-\x08\x0a-\x1f\x7f]*)?")
_ABSOLUTE_FORM: Final = re.compile(rb"https?://[^/?]*", re.IGNORECASE)


class RequestLine(NamedTuple):
    """The first line of a request.

    :ivar target: path and query, as sent; ``b"*"`` for the server as a whole.
    :ivar minor: the digit behind ``HTTP/1.``.
    """

    method: bytes
    target: bytes
    minor: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderBlock:
    """The headers of a request, and what they say of how to read it.

    :ivar headers: names in lower case; values of a repeated name are joined by ``", "``.
    :ivar content_length: of the body; 0 where there is none or it is chunked.
    :ivar is_chunked: whether the body is.
    :ivar expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
    :ivar says_close: whether ``Connection`` lists ``close``.
    :ivar says_keep_alive: whether it lists ``keep-alive``.
    :ivar has_host: whether there is a ``Host``.
    """

    headers: Mapping[bytes, bytes]
    content_length: int
    is_chunked: bool
    expects_continue: bool
    says_close: bool
    says_keep_alive: bool
    has_host: bool


def parse_request_line(data: bytes, start: int, end: int) -> RequestLine:
    """Take a request line apart.

    :param data: what has been received; the line is ``data[start:end]``.
    :raises BadRequest: it is malformed.
    """
    found = _REQUEST_LINE.fullmatch(data, start, end)
    if found is None:
        raise BadRequest(f"request line: expected METHOD /path HTTP/1.1, found {shown(data[start:end])}")
    method, target, minor = found.groups()
    if target[0] == 0x2F:  # "/"
        return RequestLine(method, target, minor)
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is not None:
        rest = target[absolute.end() :]
        return RequestLine(method, rest if rest[:1] == b"/" else b"/" + rest, minor)
    if target == b"*" and method == b"OPTIONS":
        return RequestLine(method, target, minor)
    raise BadRequest(f"request line: expected a path that starts with /, found {shown(target)}")


def parse_headers(block: bytes) -> HeaderBlock:
    """Take a header block apart.

    :param block: the lines between the request line and the empty one, without the line end of the last.
    :raises BadRequest: it is malformed, or it is not certain how long the request is.
    """
    headers: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n") if block else ():
        found = _FIELD_LINE.fullmatch(line)
        if found is None:
            raise BadRequest(f"header: expected Name: value on one line, found {shown(line)}")
        name, value = found.groups()
        name = name.lower()
        value = value.rstrip(b" \t")
        headers[name] = headers[name] + b", " + value if name in headers else value
    host = headers.get(b"host")
    if host is not None and _HOST.fullmatch(host) is None:
        raise BadRequest(f"Host: expected one host and port, found {shown(host)}")
    connection = headers.get(b"connection", b"").lower()
    tokens = [token.strip(b" \t") for token in connection.split(b",")]
    return HeaderBlock(
        headers=headers,
        content_length=_content_length(headers),
        is_chunked=b"transfer-encoding" in headers,
        expects_continue=headers.get(b"expect", b"").lower() == b"100-continue",
        says_close=b"close" in tokens,
        says_keep_alive=b"keep-alive" in tokens,
        has_host=host is not None,
    )


def _content_length(headers: Mapping[bytes, bytes]) -> int:
    coding = headers.get(b"transfer-encoding")
    length = headers.get(b"content-length")
    if coding is not None:
        if length is not None:
            raise BadRequest("Content-Length: cannot be combined with Transfer-Encoding")
        if coding.lower() != b"chunked":
            raise BadRequest(f"Transfer-Encoding: only chunked is understood, found {shown(coding)}")
        return 0
    if length is None:
        return 0
    if _LENGTH.fullmatch(length) is None:
        raise BadRequest(f"Content-Length: expected one number, found {shown(length)}")
    return int(length)


class ChunkedDecoder:
    """Reads one chunked body."""

    __slots__ = ("_next", "_remaining", "_trailer_bytes")

    def __init__(self) -> None:
        self._next = self._size
        self._remaining = 0
        self._trailer_bytes = 0

    def decode(self, data: bytes, position: int, body: bytearray) -> tuple[int, bool]:
        """Read as far as the data goes.

        :param position: where to start in ``data``.
        :param body: gets what the chunks hold; it grows by no more than there is in ``data``.
        :return: where to go on, and whether the body is complete.
        :raises BadRequest: this is not the chunked coding.
        """
        while True:
            reached = self._next(data, position, body)
            if reached < 0:
                return -reached - 1, False
            position = reached
            if self._next == self._end:
                return position, True

    # Each of these returns where to go on, or ``-1 - position`` where more data is needed first.

    def _size(self, data: bytes, position: int, body: bytearray) -> int:
        end = _line_end(data, position, MAX_CHUNK_LINE_BYTES, "chunk size")
        if end < 0:
            return -position - 1
        found = _CHUNK_SIZE.fullmatch(data, position, end)
        if found is None:
            raise BadRequest(f"chunk size: expected a hexadecimal number, found {shown(data[position:end])}")
        self._remaining = int(found[1], 16)
        self._next = self._data if self._remaining else self._trailer
        return end + 2

    def _data(self, data: bytes, position: int, body: bytearray) -> int:
        piece = data[position : position + self._remaining]
        body += piece
        position += len(piece)
        self._remaining -= len(piece)
        if self._remaining:
            return -position - 1
        self._next = self._data_end
        return position

    def _data_end(self, data: bytes, position: int, body: bytearray) -> int:
        found = data[position : position + 2]
        if not b"\r\n".startswith(found):
            raise BadRequest("chunk: longer than its size says")
        if len(found) < 2:
            return -position - 1
        self._next = self._size
        return position + 2

    def _trailer(self, data: bytes, position: int, body: bytearray) -> int:
        end = _line_end(data, position, MAX_TRAILER_BYTES - self._trailer_bytes, "trailers")
        if end < 0:
            return -position - 1
        self._trailer_bytes += end + 2 - position
        if end == position:
            self._next = self._end
        elif _FIELD_LINE.fullmatch(data, position, end) is None:
            raise BadRequest(f"trailer: expected Name: value, found {shown(data[position:end])}")
        return end + 2

    def _end(self, data: bytes, position: int, body: bytearray) -> int:
        raise AssertionError("a body that has ended is not read on")


def _line_end(data: bytes, position: int, limit: int, what: str) -> int:
    """Return where the line that starts at ``position`` ends, -1 where more data is needed first."""
    end = data.find(b"\r\n", position)
    if (end if end >= 0 else len(data)) - position > limit:
        raise BadRequest(f"{what}: longer than {limit} bytes")
    return end
