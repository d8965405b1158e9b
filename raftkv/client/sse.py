"""Server-Sent Events: messages out of bytes, however the bytes are cut. Sans-I/O."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

MAX_MESSAGE_BYTES: Final = 64 * 1024 * 1024  #: many times two of the largest values in JSON's longest spelling

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")


@dataclass(frozen=True, slots=True, kw_only=True)
class Message:
    """One message of a stream.

    :ivar event: its name, ``"message"`` where it has none.
    :ivar data: its lines of data, joined.
    :ivar id: what it says its place in the stream is; ``None`` where it says nothing.
    """

    event: str
    data: str
    id: str | None


class MessageParser:
    """Reads one stream.

    :param max_bytes: of one message that has not ended yet.
    """

    def __init__(self, *, max_bytes: int = MAX_MESSAGE_BYTES) -> None:
        self._max_bytes = max_bytes
        self._parts: list[bytes] = []  # of a line that has not ended
        self._held_bytes = 0  # of the message that has not ended
        self._skip_line_feed = False  # the last piece ended in a carriage return
        self._is_first_line = True
        self._event = ""
        self._data: list[str] = []
        self._id: str | None = None

    def feed(self, piece: bytes) -> Iterator[Message]:
        """Yield the messages that end in a piece.

        :raises ValueError: a message is too large, or its text is not UTF-8.
        """
        if self._skip_line_feed and piece:
            self._skip_line_feed = False
            piece = piece.removeprefix(b"\n")
        self._held_bytes += len(piece)
        begin = 0
        for found in _LINE_END.finditer(piece):
            self._parts.append(piece[begin : found.start()])
            begin = found.end()
            message = self._take_line(b"".join(self._parts))
            self._parts.clear()
            if message is not None:
                self._held_bytes = len(piece) - begin
                yield message
        if piece.endswith(b"\r"):
            self._skip_line_feed = True
        if begin < len(piece):
            self._parts.append(piece[begin:])
        if self._held_bytes > self._max_bytes:
            raise ValueError("a message of the stream is too large")

    def _take_line(self, line: bytes) -> Message | None:
        text = line.decode("utf-8")
        if self._is_first_line:
            self._is_first_line = False
            text = text.removeprefix("\ufeff")
        if not text:
            return self._finish()
        name, _, value = text.partition(":")
        value = value.removeprefix(" ")
        if name == "data":
            self._data.append(value)
        elif name == "event":
            self._event = value
        elif name == "id" and "\0" not in value:
            self._id = value
        # Others mean nothing here: a comment has no name, and how soon to come back is for us to decide.
        return None

    def _finish(self) -> Message | None:
        event, data, number = self._event or "message", self._data, self._id
        self._event, self._data, self._id = "", [], None
        return Message(event=event, data="\n".join(data), id=number) if data else None
