"""etcd's protocol, gRPC over HTTP/2, as lean as the other conversations: no library, and no work for each header.

A library for gRPC costs a Python program more for a request than etcd itself needs to serve it, so that it would be the
generator that is measured. Here the headers of a request are six bytes, indexes into the table that the first request
has filled, and the bodies are protocol buffers of two fields that are put together by hand. Flow control is honoured in
both directions. An answer counts as good if it has a message: an error has none, only trailers.
"""

from __future__ import annotations

import struct
from collections import Counter, deque
from collections.abc import Sequence
from typing import Final

from raftkv.bench.specification import Load

_DATA, _HEADERS, _RST_STREAM, _SETTINGS, _PING, _GOAWAY, _WINDOW_UPDATE = 0, 1, 3, 4, 6, 7, 8
_END_STREAM, _END_HEADERS, _ACK = 0x1, 0x4, 0x1
_HEADER_TABLE_SIZE, _ENABLE_PUSH, _INITIAL_WINDOW_SIZE, _MAX_FRAME_SIZE = 1, 2, 4, 5
_PREFACE: Final = b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n"
_LARGE_WINDOW: Final = 2**31 - 1
_FIRST_WINDOW: Final = 65535  # of a connection, until it is raised (RFC 9113, 6.9.2)
_RAISE_AFTER_BYTES: Final = 2**24
_FRAME_HEAD = struct.Struct(">BHBBI")

_PATHS: Final = {
    "put": b"/etcdserverpb.KV/Put",
    "get": b"/etcdserverpb.KV/Range",
    "get-stale": b"/etcdserverpb.KV/Range",
}


def frame(kind: int, flags: int, stream: int, payload: bytes) -> bytes:
    """Return one frame of HTTP/2."""
    size = len(payload)
    return _FRAME_HEAD.pack(size >> 16, size & 0xFFFF, kind, flags, stream) + payload


def varint(number: int) -> bytes:
    """Return a number as protocol buffers have it."""
    out = bytearray()
    while number > 0x7F:
        out.append(number & 0x7F | 0x80)
        number >>= 7
    out.append(number)
    return bytes(out)


def field(number: int, value: bytes) -> bytes:
    """Return a field of bytes of a protocol buffer."""
    return varint(number << 3 | 2) + varint(len(value)) + value


def body(operation: str, key: bytes, value: bytes) -> bytes:
    """Return a PutRequest or a RangeRequest; a stale read is what etcd calls a serializable one."""
    if operation == "put":
        return field(1, key) + field(2, value)
    return field(1, key) + (b"\x38\x01" if operation == "get-stale" else b"")


def _text(value: bytes) -> bytes:
    """Return a header's string, not compressed; under 127 bytes."""
    return bytes([len(value)]) + value


def first_headers(path: bytes, authority: bytes) -> bytes:
    """Return the headers of the first request, four of which enter the table (RFC 7541, 6.2.1)."""
    return (
        b"\x83\x86"  # :method POST, :scheme http
        + (b"\x44" + _text(path))
        + (b"\x41" + _text(authority))
        + (b"\x5f" + _text(b"application/grpc"))
        + (b"\x40" + _text(b"te") + _text(b"trailers"))
    )


#: The same as indexes: the latest that entered the table is 62.
LATER_HEADERS: Final = b"\x83\x86\xc1\xc0\xbf\xbe"


class GrpcConversation:
    """One connection to etcd."""

    ends = False  # etcd is not stopped while it is measured

    def __init__(self, load: Load) -> None:
        self.codes: Counter[str] = Counter()
        self._operation = load.operation
        self._value = load.value
        self._path = _PATHS[load.operation]
        self._authority = load.addresses[0].encode()
        self._next = 0
        self._buffer = b""
        self._unconfirmed = 0  # bytes that came since the window was last raised
        self._answered: set[int] = set()  # streams of which a message has come
        self._window = _FIRST_WINDOW  # what the other side takes on this connection
        self._stream_window = _FIRST_WINDOW  # what it takes on a new stream
        self._stream_windows: dict[int, int] = {}  # only of those that wait
        self._max_frame_bytes = 16384
        self._waiting: deque[tuple[int, bytes]] = deque()  # bodies that wait for room, in order
        # The indexes may be used only once the first request has filled the table, so it goes alone in front.
        self._headers = first_headers(self._path, self._authority)

    def greeting(self) -> bytes:
        """Begin, and take back every limit on what may be sent to us."""
        settings = struct.pack(">HIHIHI", _HEADER_TABLE_SIZE, 0, _ENABLE_PUSH, 0, _INITIAL_WINDOW_SIZE, _LARGE_WINDOW)
        raised = struct.pack(">I", _LARGE_WINDOW - _FIRST_WINDOW)
        return _PREFACE + frame(_SETTINGS, 0, 0, settings) + frame(_WINDOW_UPDATE, 0, 0, raised)

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a stream for each key."""
        frames: list[bytes] = []
        for key in keys:
            stream = 2 * self._next + 1
            self._next += 1
            frames.append(frame(_HEADERS, _END_HEADERS, stream, self._headers))
            self._headers = LATER_HEADERS
            message = body(self._operation, key, self._value)
            message = b"\0" + struct.pack(">I", len(message)) + message
            fits = len(message) <= min(self._window, self._stream_window, self._max_frame_bytes)
            if fits and not self._waiting:
                self._window -= len(message)
                frames.append(frame(_DATA, _END_STREAM, stream, message))
            else:
                self._waiting.append((stream, message))
        frames.append(self._send_waiting())
        return b"".join(frames)

    def _send_waiting(self) -> bytes:
        """Return as much of the bodies that wait as the other side takes now."""
        frames: list[bytes] = []
        while self._waiting:
            stream, rest = self._waiting[0]
            room = min(self._window, self._stream_windows.get(stream, self._stream_window), self._max_frame_bytes)
            if room <= 0:
                break
            piece, rest = rest[:room], rest[room:]
            frames.append(frame(_DATA, 0 if rest else _END_STREAM, stream, piece))
            self._window -= len(piece)
            if rest:
                self._waiting[0] = (stream, rest)
                known = self._stream_windows.get(stream, self._stream_window)
                self._stream_windows[stream] = known - len(piece)
            else:
                self._waiting.popleft()
                self._stream_windows.pop(stream, None)
        return b"".join(frames)

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take frames."""
        good: list[int] = []
        bad: list[int] = []
        reply: list[bytes] = []
        buffer = self._buffer + data
        at, end = 0, len(buffer)
        answered = self._answered
        while end - at >= 9:
            high, low, kind, flags, stream = _FRAME_HEAD.unpack_from(buffer, at)
            after = at + 9 + (high << 16 | low)
            if after > end:
                break
            if kind == _DATA:
                answered.add(stream)
                self._unconfirmed += after - at - 9
            elif kind == _HEADERS:
                if flags & _END_STREAM:
                    if stream in answered:
                        answered.discard(stream)
                        good.append(stream >> 1)
                    else:
                        bad.append(stream >> 1)
                        self.codes["error"] += 1
            else:
                reply.append(self._other_frame(kind, flags, stream, buffer[at + 9 : after], bad))
            at = after
        self._buffer = buffer[at:]
        if self._unconfirmed > _RAISE_AFTER_BYTES:
            reply.append(frame(_WINDOW_UPDATE, 0, 0, struct.pack(">I", self._unconfirmed)))
            self._unconfirmed = 0
        return good, bad, b"".join(reply)

    def _other_frame(self, kind: int, flags: int, stream: int, payload: bytes, bad: list[int]) -> bytes:
        if kind == _SETTINGS and not flags & _ACK:
            for at in range(0, len(payload), 6):
                name, value = struct.unpack_from(">HI", payload, at)
                if name == _INITIAL_WINDOW_SIZE:
                    for each in self._stream_windows:
                        self._stream_windows[each] += value - self._stream_window
                    self._stream_window = value
                elif name == _MAX_FRAME_SIZE:
                    self._max_frame_bytes = value
            return frame(_SETTINGS, _ACK, 0, b"") + self._send_waiting()
        if kind == _PING and not flags & _ACK:
            return frame(_PING, _ACK, 0, payload)
        if kind == _WINDOW_UPDATE:
            (added,) = struct.unpack(">I", payload)
            if stream == 0:
                self._window += added
            elif stream in self._stream_windows:
                self._stream_windows[stream] += added
            return self._send_waiting()
        if kind == _RST_STREAM:
            self._answered.discard(stream)
            bad.append(stream >> 1)
            self.codes["reset"] += 1
        elif kind == _GOAWAY:
            raise RuntimeError(f"etcd closes the connection: {payload[8:]!r:.200}")
        return b""
