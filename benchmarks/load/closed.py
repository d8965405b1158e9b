"""A closed loop over raw sockets: so many requests outstanding, each answer makes room for the next request.

One thread, no framework, no object for a request: what comes in one read is answered with one write. It takes the same
few microseconds for a request whichever contestant it talks to, so that it bends no ratio.
"""

from __future__ import annotations

import itertools
import selectors
import socket
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.load.conversations import Conversation, conversation
from benchmarks.load.specification import Load, figures

_READ_BYTES = 1024 * 1024
_DRAIN_SECONDS = 10.0


def connect(address: str) -> socket.socket:
    """Return a connection that does not block."""
    host, _, port = address.rpartition(":")
    made = socket.create_connection((host, int(port)), timeout=10)
    made.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
    made.setblocking(False)
    return made


class Link:
    """One connection of a loop, with what is under way on it.

    :ivar sent: when each request that is under way was sent, by its number.
    """

    def __init__(self, address: str, talk: Conversation) -> None:
        self.socket = connect(address)
        self.talk = talk
        self.sent: dict[int, float] = {}
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
        """Return the numbers of the requests that have succeeded, and of those that have failed."""
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


class Loop:
    """The requests of one load.

    :param begun: called when the warm-up is over.
    """

    def __init__(self, load: Load, begun: Callable[[], None]) -> None:
        self._load = load
        self._begun = begun
        self._keys = self._make_keys()
        self._selector = selectors.DefaultSelector()
        self._links: list[Link] = []
        self._latencies: list[float] = []
        self._errors = 0

    def _make_keys(self) -> Iterator[bytes]:
        known = [self._load.key(number) for number in range(self._load.keys)]
        endless = itertools.cycle(known)
        return itertools.islice(endless, self._load.requests) if self._load.requests else endless

    def run(self) -> dict[str, Any]:
        """Run to the end, and return the figures."""
        load = self._load
        connections = min(load.connections, load.outstanding)
        for number in range(connections):
            link = Link(load.addresses[number % len(load.addresses)], conversation(load))
            self._links.append(link)
            self._selector.register(link.socket, selectors.EVENT_READ, link)
        for number, link in enumerate(self._links):
            share = load.outstanding // connections + (number < load.outstanding % connections)
            link.ask(list(itertools.islice(self._keys, share)))
        if load.requests:
            return self._until_all_are_answered()
        self._turns(time.perf_counter() + load.warmup_seconds)
        self._latencies.clear()
        self._errors = 0
        self._begun()
        began = time.perf_counter()
        self._turns(began + load.seconds)
        elapsed = time.perf_counter() - began
        return self._end(elapsed)

    def _until_all_are_answered(self) -> dict[str, Any]:
        self._begun()
        began = time.perf_counter()
        while self._under_way():
            if not self._turn(time.perf_counter() + 60):
                raise RuntimeError("no answer for a minute")
        return self._end(time.perf_counter() - began)

    def _end(self, elapsed: float) -> dict[str, Any]:
        """Count what is still under way as nothing, unless it never comes: then it is an error."""
        measured = figures(self._latencies, elapsed, self._errors)
        give_up = time.perf_counter() + _DRAIN_SECONDS
        self._keys = iter(())
        while self._under_way() and self._turn(give_up):
            pass
        measured["errors"] += self._under_way()
        for link in self._links:
            link.socket.close()
        return measured

    def _under_way(self) -> int:
        return sum(len(link.sent) for link in self._links)

    def _turns(self, end: float) -> None:
        while self._turn(end):
            pass

    def _turn(self, end: float) -> bool:
        """Take what has come; return whether it came before the end."""
        for link in self._links:
            events = selectors.EVENT_READ | (selectors.EVENT_WRITE if link.is_blocked else 0)
            if self._selector.get_key(link.socket).events != events:
                self._selector.modify(link.socket, events, link)
        ready = self._selector.select(max(0.0, end - time.perf_counter()))
        for key, events in ready:
            link = key.data
            if events & selectors.EVENT_WRITE:
                link.send(b"")
            if events & selectors.EVENT_READ:
                self._take(link)
        return time.perf_counter() < end

    def _take(self, link: Link) -> None:
        good, bad = link.receive()
        now = time.perf_counter()
        pop = link.sent.pop
        self._latencies += [now - pop(number) for number in good]
        for number in bad:
            pop(number, None)
        self._errors += len(bad)
        if good or bad:
            keys = list(itertools.islice(self._keys, len(good) + len(bad)))
            if keys:
                link.ask(keys)


def run(load: Load, begun: Callable[[], None]) -> dict[str, Any]:
    """Run a load in a closed loop."""
    return Loop(load, begun).run()
