"""One connection of a loop over raw sockets, with what is under way on it."""

from __future__ import annotations

import socket
import time
from collections.abc import Sequence
from typing import Final

from raftkv.bench.conversations import Conversation

_READ_BYTES: Final = 1024 * 1024


def connect(address: str, timeout: float = 10.0) -> socket.socket:
    """Return a connection that does not block.

    :param address: ``host:port``; of IPv6 ``[host]:port``.
    :param timeout: seconds that the other side may take to accept it.
    :raises OSError: it cannot be made.
    """
    host, _, port = address.rpartition(":")
    made = socket.create_connection((host.strip("[]"), int(port)), timeout=timeout)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


class Link:
    """One connection of a loop, with what is under way on it.

    :ivar sent: when each request that is under way was sent (or was due), by its number.
    :ivar heard: when something came last, or nothing was under way; kept by the loop.
    :ivar is_leaving: only answers are still awaited here; the loop asks another one.
    :ivar place: the loop's own number for it.
    """

    def __init__(self, address: str, talk: Conversation, *, timeout: float = 10.0, place: int = 0) -> None:
        self.address = address
        self.socket = connect(address, timeout)
        self.talk = talk
        self.sent: dict[int, float] = {}
        self.heard = time.perf_counter()
        self.is_leaving = False
        self.place = place
        self._next = 0
        self._unsent = memoryview(b"")
        self.send(talk.greeting())

    @property
    def is_blocked(self) -> bool:
        """Whether there is something that the other side has not taken yet."""
        return bool(self._unsent)

    def ask(self, keys: list[bytes]) -> None:
        """Send a request for each key."""
        now = time.perf_counter()
        for number in range(self._next, self._next + len(keys)):
            self.sent[number] = now
        self._next += len(keys)
        self.send(self.talk.ask(keys))

    def ask_due(self, keys: Sequence[bytes], due: Sequence[float]) -> None:
        """Send a request for each key, whose latency counts from when it was due."""
        self.sent.update(enumerate(due, self._next))
        self._next += len(keys)
        self.send(self.talk.ask(keys))

    def send(self, data: bytes) -> None:
        """Send what can be sent, and keep the rest."""
        if self._unsent:
            data = bytes(self._unsent) + data
        self._unsent = memoryview(data)
        while self._unsent:
            try:
                count = self.socket.send(self._unsent)
            except BlockingIOError:
                return
            self._unsent = self._unsent[count:]

    def receive(self) -> tuple[list[int], list[int]]:
        """Return the numbers of the requests that have succeeded, and of those that have failed.

        :raises ConnectionError: the connection is gone.
        :raises raftkv.bench.conversations.NotUnderstood: what has come is no answer.
        """
        try:
            data = self.socket.recv(_READ_BYTES)
        except BlockingIOError:
            return [], []
        if not data:
            raise ConnectionError("the server has closed the connection")
        good, bad, reply = self.talk.hear(data)
        if reply:
            self.send(reply)
        return good, bad
