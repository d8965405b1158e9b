"""Just enough of each protocol to ask for one key at a time and to see whether that went well.

A conversation is one connection's. It numbers its requests 0, 1, 2, … and packs them into bytes; the bytes that come
back it turns into the numbers of those that are answered. Sockets, clocks and who asks when are the loops' matter.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final, Protocol

from benchmarks.load.grpc import GrpcConversation
from benchmarks.load.specification import Load
from raftkv.kvstore.commands import OK, put
from raftkv.protocols.framing import MIB, FrameLimits, make_unpacker, pack
from raftkv.protocols.hello import HELLO, Hello, Purpose, client_identity, encode_hello
from raftkv.protocols.rpc_frames import CONSISTENCY_NUMBERS, GET, MAX_ITEMS, RESULT, WRITE


class Conversation(Protocol):
    """One connection, without the connection."""

    def greeting(self) -> bytes:
        """Return what is sent first."""

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Return the bytes that ask for keys, a request each; they get the next numbers."""

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take what came.

        :return: the numbers of the requests that succeeded, of those that failed, and what must be sent at once.
        """


class RpcConversation:
    """raftkv's own protocol: line-delimited msgpack."""

    def __init__(self, load: Load) -> None:
        self._is_put = load.operation == "put"
        self._value = load.value
        consistency = CONSISTENCY_NUMBERS["stale" if load.operation == "get-stale" else "linearizable"]
        self._consistency = consistency
        self._next = 0
        limits = FrameLimits(max_message_bytes=64 * MIB, max_array_length=MAX_ITEMS)
        self._unpacker = make_unpacker(limits)

    def greeting(self) -> bytes:
        """Say hello; requests may follow at once."""
        return pack(encode_hello(Hello(identity=client_identity(), purpose=Purpose.CLIENT))) + b"\n"

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a message for each key."""
        first = self._next
        self._next += len(keys)
        if self._is_put:
            value = self._value
            frames = [pack((WRITE, first + n, (put(key, value),), 0)) for n, key in enumerate(keys)]
        else:
            consistency = self._consistency
            frames = [pack((GET, first + n, (key,), consistency)) for n, key in enumerate(keys)]
        frames.append(b"")
        return b"\n".join(frames)

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take answers."""
        good: list[int] = []
        bad: list[int] = []
        unpacker = self._unpacker
        unpacker.feed(data)
        is_put = self._is_put
        for message in unpacker:
            if message == 10:
                continue
            if message[0] == RESULT:
                result = message[2][0]
                (good if (result[0] == OK if is_put else result is not None) else bad).append(message[1])
            elif message[0] != HELLO:
                bad.append(message[1])
        return good, bad, b""


class RespConversation:
    """Redis' protocol; answers come in order."""

    def __init__(self, load: Load) -> None:
        self._is_put = load.operation == "put"
        self._value = load.value
        self._next = 0
        self._oldest = 0
        self._buffer = b""

    def greeting(self) -> bytes:
        """Redis expects none."""
        return b""

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a command for each key."""
        self._next += len(keys)
        if self._is_put:
            value = b"$%d\r\n%b\r\n" % (len(self._value), self._value)
            return b"".join(b"*3\r\n$3\r\nSET\r\n$%d\r\n%b\r\n%b" % (len(key), key, value) for key in keys)
        return b"".join(b"*2\r\n$3\r\nGET\r\n$%d\r\n%b\r\n" % (len(key), key) for key in keys)

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take answers."""
        good: list[int] = []
        bad: list[int] = []
        buffer = self._buffer + data
        at = 0
        while (end := buffer.find(b"\r\n", at)) >= 0:
            kind = buffer[at : at + 1]
            is_good = kind in (b"+", b"$")
            after = end + 2
            if kind == b"$":
                length = int(buffer[at + 1 : end])
                is_good = length >= 0
                after += length + 2 if length >= 0 else 0
                if after > len(buffer):
                    break
            (good if is_good else bad).append(self._oldest)
            self._oldest += 1
            at = after
        self._buffer = buffer[at:]
        return good, bad, b""


class HttpConversation:
    """HTTP/1.1, keep-alive, answers with a Content-Length; where there is no ``wrk``."""

    def __init__(self, load: Load) -> None:
        from benchmarks.load.doors import request  # which doors there are concerns HTTP alone

        self._request = request
        self._load = load
        self._oldest = 0
        self._buffer = b""

    def greeting(self) -> bytes:
        """HTTP has none."""
        return b""

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a request for each key."""
        return b"".join(self._request(self._load, key).to_bytes() for key in keys)

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take answers."""
        good: list[int] = []
        bad: list[int] = []
        buffer = self._buffer + data
        while (end := buffer.find(b"\r\n\r\n")) >= 0:
            head = buffer[:end].lower()
            at = head.find(b"content-length:")
            if at < 0:
                raise RuntimeError(f"an answer without Content-Length: {head!r:.200}")
            after = end + 4 + int(head[at + 15 :].split(b"\r\n", 1)[0])
            if after > len(buffer):
                break
            (good if head[9:10] == b"2" else bad).append(self._oldest)
            self._oldest += 1
            buffer = buffer[after:]
        self._buffer = buffer
        return good, bad, b""


_CONVERSATIONS: Final[dict[str, Any]] = {
    "rpc": RpcConversation,
    "grpc": GrpcConversation,
    "resp": RespConversation,
    "http": HttpConversation,
}


def conversation(load: Load) -> Conversation:
    """Return a new conversation in the protocol of a load."""
    made: Conversation = _CONVERSATIONS[load.protocol](load)
    return made
