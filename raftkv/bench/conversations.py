"""What a conversation is, and the one in raftkv's own protocol: just enough to ask for keys and to see how that went.

A conversation is one connection's. It numbers its requests 0, 1, 2, … and packs them into bytes; the bytes that come
back it turns into the numbers of those that are answered. Sockets, clocks and who asks when are the loops' matter.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence
from typing import Protocol, TypeAlias

from raftkv.bench.specification import Load
from raftkv.kvstore.commands import OK, put
from raftkv.protocols.framing import MIB, FrameLimits, make_unpacker, pack
from raftkv.protocols.hello import HELLO, REFUSAL, Hello, Purpose, client_identity, encode_hello
from raftkv.protocols.rpc_frames import CONSISTENCY_NUMBERS, ERROR, GET, MAX_ITEMS, RESULT, WRITE


class NotUnderstood(Exception):
    """What answers at this address does not speak the protocol of the load, or will not; the message is for users."""


class Conversation(Protocol):
    """One connection, without the connection.

    :ivar codes: how many requests have failed, by the code of the error; who reads it may clear it.
    :ivar ends: whether the other side has said that it answers nothing more on this connection.
    """

    codes: Counter[str]
    ends: bool

    def greeting(self) -> bytes:
        """Return what is sent first."""

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Return the bytes that ask for keys, a request each; they get the next numbers."""

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take what came.

        :return: the numbers of the requests that succeeded, of those that failed, and what must be sent at once.
        :raises NotUnderstood: it is no answer in this protocol.
        """


Talk: TypeAlias = Callable[[Load], Conversation]  #: makes the conversation of a new connection

KEY_NOT_FOUND = "key_not_found"  #: the code of a read that finds nothing: every load knows that its keys are there


class RpcConversation:
    """raftkv's own protocol: line-delimited msgpack."""

    ends = False  # it has no such word

    def __init__(self, load: Load) -> None:
        self.codes: Counter[str] = Counter()
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
        try:
            for message in unpacker:
                if message == 10:
                    continue
                if message[0] == RESULT:
                    result = message[2][0]
                    if result[0] == OK if is_put else result is not None:
                        good.append(message[1])
                    else:
                        bad.append(message[1])
                        self._note(result)
                elif message[0] != HELLO:
                    self._refused(message, bad)
        except (TypeError, ValueError, IndexError) as error:
            raise NotUnderstood("what listens there does not speak raftkv's RPC protocol") from error
        return good, bad, b""

    def _note(self, result: tuple[int, ...] | None) -> None:
        self.codes[KEY_NOT_FOUND if result is None else f"status_{result[0]}"] += 1

    def _refused(self, message: tuple[object, ...], bad: list[int]) -> None:
        if message[0] == REFUSAL:
            raise NotUnderstood(f"the node refuses the connection: {message[1]}")
        kind, number, code = message[:3]
        if kind != ERROR or type(number) is not int:
            raise NotUnderstood(f"the node sends a message of unknown type {kind!r}")
        bad.append(number)
        self.codes[str(code)] += 1


class MixedRpcConversation(RpcConversation):
    """The same for a mixed load; apart from the other, so that this costs no more for each request."""

    def __init__(self, load: Load) -> None:
        super().__init__(load)
        self._mix = load.mix()

    def ask(self, keys: Sequence[bytes]) -> bytes:
        """Make a message for each key: a read or a write, as the mix says."""
        first = self._next
        self._next += len(keys)
        value, consistency = self._value, self._consistency
        frames = [
            pack((GET, first + n, (key,), consistency)) if is_read else pack((WRITE, first + n, (put(key, value),), 0))
            for n, (key, is_read) in enumerate(zip(keys, self._mix, strict=False))
        ]
        frames.append(b"")
        return b"\n".join(frames)

    def hear(self, data: bytes) -> tuple[list[int], list[int], bytes]:
        """Take answers; a record begins with its value, the result of a write with a status."""
        good: list[int] = []
        bad: list[int] = []
        unpacker = self._unpacker
        unpacker.feed(data)
        try:
            for message in unpacker:
                if message == 10:
                    continue
                if message[0] == RESULT:
                    result = message[2][0]
                    if result is not None and (type(result[0]) is bytes or result[0] == OK):
                        good.append(message[1])
                    else:
                        bad.append(message[1])
                        self._note(result)
                elif message[0] != HELLO:
                    self._refused(message, bad)
        except (TypeError, ValueError, IndexError) as error:
            raise NotUnderstood("what listens there does not speak raftkv's RPC protocol") from error
        return good, bad, b""


def conversation(load: Load) -> Conversation:
    """Return a new conversation with a node of raftkv.

    :raises ValueError: there is no such protocol here.
    """
    if load.protocol == "rpc":
        return MixedRpcConversation(load) if load.operation == "mixed" else RpcConversation(load)
    if load.protocol == "http":
        from raftkv.bench.http import HttpConversation, MixedHttpConversation

        return MixedHttpConversation(load) if load.operation == "mixed" else HttpConversation(load)
    raise ValueError(f"no protocol {load.protocol!r}")
