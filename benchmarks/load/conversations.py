"""Redis' protocol, the doors of HTTP that are not raftkv's ``/v1/kv/``, and which contestant is spoken to how.

raftkv's own conversations are in :mod:`raftkv.bench`, etcd's is in ``grpc``.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence

from benchmarks.load.doors import OWN_DOORS, request
from benchmarks.load.grpc import GrpcConversation
from raftkv.bench.conversations import KEY_NOT_FOUND, Conversation
from raftkv.bench.conversations import conversation as own_conversation
from raftkv.bench.http import HttpAnswers
from raftkv.bench.specification import Load


class RespConversation:
    """Redis' protocol; answers come in order."""

    ends = False  # it has no such word

    def __init__(self, load: Load) -> None:
        self.codes: Counter[str] = Counter()
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
            if is_good:
                good.append(self._oldest)
            else:
                bad.append(self._oldest)
                self.codes[KEY_NOT_FOUND if kind == b"$" else "error"] += 1
            self._oldest += 1
            at = after
        self._buffer = buffer[at:]
        return good, bad, b""


class DoorConversation(HttpAnswers):
    """HTTP by any door; where there is no ``wrk``."""

    def __init__(self, load: Load) -> None:
        super().__init__()
        self._load = load

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a request for each key."""
        return b"".join(request(self._load, key).to_bytes() for key in keys)


def conversation(load: Load) -> Conversation:
    """Return a new conversation in the protocol of a load."""
    if load.protocol == "grpc":
        return GrpcConversation(load)
    if load.protocol == "resp":
        return RespConversation(load)
    if load.protocol == "http" and load.door not in OWN_DOORS:
        return DoorConversation(load)
    return own_conversation(load)
