"""What a flavour of the client does for the programs that all flavours share: tell the time, wait, carry bytes.

The programs (a call with its attempts, a watch, the keeping of a lease) are written once, as coroutines that wait for
nothing but the methods of a :class:`Runtime`. On Twisted those give Deferreds and in asyncio they suspend the task; in
the blocking flavour they block, so that a program runs from its beginning to its end without ever being suspended.

Between two waits no other program of the same client runs: none of them needs a lock.
"""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Coroutine, Mapping
from typing import Any, Protocol, TypeVar

from raftkv.client.answers import Answer
from raftkv.client.core import Send

T = TypeVar("T")


class ExchangeFailed(Exception):
    """There was no whole answer.

    :ivar maybe_received: whether a server may have got the request.
    :ivar timed_out: whether the time was over, rather than anything broken.
    """

    def __init__(self, reason: str, *, maybe_received: bool, timed_out: bool = False) -> None:
        super().__init__(reason)
        self.maybe_received = maybe_received
        self.timed_out = timed_out


class Stopped(Exception):
    """The signal that a program had to heed was set while it waited for something else."""


class Signal:
    """Something that happens once, that some wait for and others tell.

    :ivar is_set: whether it has happened.
    """

    __slots__ = ("_callbacks", "is_set")

    def __init__(self) -> None:
        self.is_set = False
        self._callbacks: dict[object, Callable[[], object]] = {}

    def set(self) -> None:
        """Let it happen; a second time means nothing. May be called in any thread."""
        self.is_set = True
        # One by one: another thread may be adding one, which then finds it set, or is found here.
        while self._callbacks:
            try:
                _, callback = self._callbacks.popitem()
            except KeyError:
                return
            callback()

    def on_set(self, callback: Callable[[], object]) -> Callable[[], None]:
        """Call back once it happens, now if it has.

        :return: takes the callback back; to call it twice, or too late, does nothing.
        """
        handle = object()
        self._callbacks[handle] = callback
        if self.is_set and self._callbacks.pop(handle, None) is not None:
            callback()
        return lambda: self._callbacks.pop(handle, None) and None


class Stream(Protocol):
    """An answer whose body comes in pieces."""

    @property
    def status(self) -> int:
        """The status of the answer."""
        ...

    @property
    def headers(self) -> Mapping[str, str]:
        """The headers, by lower-case name."""
        ...

    async def read(self, timeout_seconds: float, stop: Signal) -> bytes:
        """Wait for the next piece; empty at the end of the body.

        Nothing more is taken from the network than is asked for, but for a buffer.

        :raises ExchangeFailed: the connection broke, or there was nothing within the time.
        :raises Stopped: ``stop`` was set.
        """
        ...

    def close(self) -> None:
        """End it, and its connection; at any time, from any thread."""
        ...


class Runtime(Protocol):
    """See the module."""

    def now(self) -> float:
        """Tell the time in seconds, on a clock that nobody sets."""
        ...

    async def wait(self, signal: Signal, timeout_seconds: float) -> bool:
        """Wait for a signal.

        :return: whether it is set; ``False`` once the time is over.
        """
        ...

    async def exchange(self, send: Send, stop: Signal) -> Answer:
        """Send a request and collect the answer, within the time that the request has.

        :raises ExchangeFailed: there was none.
        :raises Stopped: ``stop`` was set.
        """
        ...

    async def open(self, send: Send, stop: Signal) -> Stream:
        """Send a request and wait for the head of its answer only, on a connection of its own.

        :raises ExchangeFailed: there was none.
        :raises Stopped: ``stop`` was set.
        """
        ...

    def spawn(self, program: Coroutine[Any, Any, None]) -> None:
        """Run a program beside the others; it ends by itself, before the client is closed."""
        ...

    async def interruptible(self, work: Callable[[], Awaitable[T] | T], stop: Signal) -> T:
        """Run something of the user's, and cancel it when a signal is set; the blocking flavour cannot, and waits.

        :raises Stopped: it was cancelled.
        """
        ...

    async def close(self) -> None:
        """Close the connections that are kept, and wait for the programs beside."""
        ...
