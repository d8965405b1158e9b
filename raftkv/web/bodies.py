"""The bodies of requests on their way in: sized and chunked (RFC 9112, 6 and 7.1).

Pure, and bounded: a body never takes more than its limit, the lines of the chunked coding have bounds of their own.
"""

from __future__ import annotations

import re
from typing import Final

from raftkv.errors import BadRequest, TooLarge
from raftkv.web.framing import FIELD_LINE
from raftkv.web.parameters import shown

MAX_CHUNK_LINE_BYTES: Final = 256  #: a chunk's size with its extensions
MAX_TRAILER_BYTES: Final = 8192  #: all trailer fields of a chunked body together; they are read and dropped

_CHUNK_SIZE: Final = re.compile(rb"([0-9A-Fa-f]{1,15})(?:[ \t]*+;[^\x00-\x08\x0a-\x1f\x7f]*+)?")


def body_too_large(size: int | None, limit: int, setting: str) -> TooLarge:
    """Make the error for a body over its limit.

    :param size: what it would have been, ``None`` where that is not known.
    """
    found = f"{size} bytes" if size is not None else "more than fits"
    return TooLarge(f"body: {found}; {setting} allows {limit}")


class IncomingBody:
    """What has come so far of one body.

    :ivar data: its bytes.
    """

    __slots__ = ("_decoder", "_length", "_limit", "data")

    def __init__(self, length: int | None, limit: tuple[int, str]) -> None:
        """
        :param length: of the whole body; ``None`` where it is chunked.
        :param limit: how long it may be, and the name of the setting that says so.
        """
        self.data = bytearray()
        self._length = length
        self._limit = limit
        self._decoder = ChunkedDecoder() if length is None else None

    def read(self, data: bytes, position: int) -> tuple[int, bool]:
        """Take what belongs to the body.

        :param position: where to start in ``data``.
        :return: where to go on, and whether the body is complete.
        :raises BadRequest: this is not the chunked coding.
        :raises TooLarge: a chunked body exceeds its limit; one of known length is refused before it comes.
        """
        if self._decoder is not None:
            position, is_complete = self._decoder.decode(data, position, self.data)
            if len(self.data) > self._limit[0]:
                raise body_too_large(None, *self._limit)
            return position, is_complete
        missing = (self._length or 0) - len(self.data)
        piece = data[position : position + missing]
        self.data += piece
        return position + len(piece), len(piece) == missing


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
        elif FIELD_LINE.fullmatch(data, position, end) is None:
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
