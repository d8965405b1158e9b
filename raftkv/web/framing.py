"""HTTP/1.1 on the way in: request lines and header blocks (RFC 9110 and 9112).

Pure: bytes in, values out; :mod:`raftkv.web.bodies` reads what follows. Strict where two readers of one stream could
disagree on where a request ends, for that is how requests are smuggled past a proxy: no folded lines, no bare line
feeds, no ``Content-Length`` beside a ``Transfer-Encoding``, no length given twice.

Every expression is linear in what it reads: a repetition that its neighbour could share is possessive (``*+``), or a
header of 32 KiB of spaces would keep the node busy for seconds.
"""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final, NamedTuple

from raftkv.errors import BadRequest, TooLarge
from raftkv.web.parameters import shown

MAX_HEADER_LINES: Final = 128  #: each costs many times its bytes in memory, for as long as the connection is open

_REQUEST_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]+) ([!-~\x80-\xff]+) HTTP/1\.([01])")
FIELD_LINE: Final = re.compile(rb"([!#$%&'*+.^_`|~0-9A-Za-z-]++):[ \t]*+([^\x00-\x08\x0a-\x1f\x7f]*+)")
_HOST: Final = re.compile(rb"[A-Za-z0-9._~!$&'()*+;=%:\[\]-]*+")
_LENGTH: Final = re.compile(rb"[0-9]{1,18}")
_ABSOLUTE_FORM: Final = re.compile(rb"https?://([^/?]*+)", re.IGNORECASE)


class RequestLine(NamedTuple):
    """The first line of a request.

    :ivar target: path and query, as sent; ``b"*"`` for the server as a whole.
    :ivar minor: the digit behind ``HTTP/1.``.
    :ivar authority: the host that a target in absolute form names, which counts more than ``Host`` (RFC 9112, 3.2.2);
        empty for the usual form.
    """

    method: bytes
    target: bytes
    minor: bytes
    authority: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class HeaderBlock:
    """The headers of a request, and what they say of how to read it.

    :ivar headers: names in lower case; values of a repeated name are joined by ``", "``.
    :ivar content_length: of the body; 0 where there is none or it is chunked.
    :ivar is_chunked: whether the body is.
    :ivar expects_continue: whether the client waits for ``100 Continue`` before it sends the body.
    :ivar says_close: whether ``Connection`` lists ``close``.
    :ivar says_keep_alive: whether it lists ``keep-alive`` and no ``close``, which counts more (RFC 9112, 9.3).
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
        return RequestLine(method, target, minor, b"")
    absolute = _ABSOLUTE_FORM.match(target)
    if absolute is not None:
        authority, rest = absolute[1], target[absolute.end() :]
        if not authority or _HOST.fullmatch(authority) is None:
            raise BadRequest(f"request line: expected one host and port, found {shown(authority)}")
        return RequestLine(method, rest if rest[:1] == b"/" else b"/" + rest, minor, authority)
    if target == b"*" and method == b"OPTIONS":
        return RequestLine(method, target, minor, b"")
    raise BadRequest(f"request line: expected a path that starts with /, found {shown(target)}")


def parse_headers(block: bytes) -> HeaderBlock:
    """Take a header block apart.

    :param block: the lines between the request line and the empty one, without the line end of the last.
    :raises BadRequest: it is malformed, or it is not certain how long the request is.
    :raises TooLarge: there are too many lines.
    """
    if block.count(b"\r\n") >= MAX_HEADER_LINES:
        raise TooLarge(f"headers: more than {MAX_HEADER_LINES} lines")
    headers: dict[bytes, bytes] = {}
    for line in block.split(b"\r\n") if block else ():
        found = FIELD_LINE.fullmatch(line)
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
        says_keep_alive=b"keep-alive" in tokens and b"close" not in tokens,
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
