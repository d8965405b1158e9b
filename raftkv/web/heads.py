"""The headers that every answer bears, and status lines: made once, sent often."""

from __future__ import annotations

import re
from collections.abc import Callable
from email.utils import formatdate
from http import HTTPStatus
from typing import Final

from raftkv.interfaces import INode, Leadership
from raftkv.web.exchange import Headers

REASONS: Final = {status.value: status.phrase.encode("ascii") for status in HTTPStatus}
STATUS_LINES: Final = {status: b"HTTP/1.1 %d %s\r\n" % (status, reason) for status, reason in REASONS.items()}
_CONTROLS: Final = re.compile(rb"[\x00-\x1f\x7f]")
BODILESS: Final = frozenset({204, 304})  #: statuses without a body (RFC 9110, 6.4.1), and here without its length


def header_lines(headers: Headers) -> bytes:
    """Return headers as they are sent."""
    return b"".join([b"%b: %b\r\n" % header for header in headers])


def _one_line(text: str) -> bytes:
    """Return what a peer says of itself as a value that can neither end its line nor the head."""
    return _CONTROLS.sub(b"?", text.encode("utf-8", "replace"))


class CommonHeaders:
    """``Server``, ``Date`` and the three that say who leads.

    Both forms are kept until the second or the leadership changes. The ``Server`` names no version: it would be of
    use only to those who look for an old one.
    """

    def __init__(self, node: INode, wall_seconds: Callable[[], float]) -> None:
        """
        :param wall_seconds: Unix time, for ``Date`` alone.
        """
        self._node = node
        self._wall_seconds = wall_seconds
        self._second = -1
        self._leadership: Leadership | None = None
        self._pairs: Headers = ()
        self._lines = b""

    def pairs(self) -> Headers:
        """Return names and values."""
        self._renew()
        return self._pairs

    def lines(self) -> bytes:
        """Return them as they are sent."""
        self._renew()
        return self._lines

    def _renew(self) -> None:
        second = int(self._wall_seconds())
        leadership = self._node.leadership()
        if second == self._second and (leadership is self._leadership or leadership == self._leadership):
            return
        self._second = second
        self._leadership = leadership
        self._pairs = (
            (b"Server", b"raftkv"),
            (b"Date", formatdate(second, usegmt=True).encode("ascii")),
            (b"X-Raft-Node", _one_line(leadership.node_id)),
            (b"X-Raft-Term", b"%d" % leadership.term),
            (b"X-Raft-Leader", _one_line(leadership.leader_http_addr)),
        )
        self._lines = header_lines(self._pairs)
