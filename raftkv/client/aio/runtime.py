"""The asyncio flavour of what the client's programs need: tasks, streams, time-outs."""

from __future__ import annotations

import asyncio
import inspect
import math
import ssl
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from contextlib import suppress
from functools import partial
from typing import Any, Final, TypeVar

from raftkv.client.answers import Answer
from raftkv.client.clock import unset_clock
from raftkv.client.core import Send
from raftkv.client.runtime import ExchangeFailed, Signal, Stopped
from raftkv.client.sockets import keep_watch
from raftkv.client.wire import Connections, Origin, Progress, WireStream

T = TypeVar("T")

_READ_BYTES: Final = 64 * 1024


class AsyncioRuntime:
    """Runs the programs of one client as parts of the tasks that call it.

    :param tls: for addresses with ``https``; ``None`` is what the system trusts.
    """

    def __init__(self, *, max_idle: int, connect_timeout_seconds: float, tls: ssl.SSLContext | None) -> None:
        self.now = unset_clock()
        self._connect_timeout_seconds = connect_timeout_seconds
        self._tls = tls
        self._connections = Connections(self._dial, max_idle=max_idle)
        self._beside: set[asyncio.Task[None]] = set()

    async def wait(self, signal: Signal, timeout_seconds: float) -> bool:
        """See :class:`raftkv.client.runtime.Runtime`; likewise the other methods."""
        if signal.is_set:
            return True
        told: asyncio.Future[None] = asyncio.get_running_loop().create_future()

        def tell() -> None:
            if not told.done():
                told.set_result(None)

        forget = signal.on_set(tell)
        try:
            async with asyncio.timeout(None if timeout_seconds == math.inf else max(0.0, timeout_seconds)):
                await told
        except TimeoutError:
            pass
        finally:
            forget()
        return signal.is_set

    async def exchange(self, send: Send, stop: Signal) -> Answer:
        progress = Progress()
        return await _bounded(self._connections.exchange(send, progress), send.timeout_seconds, stop, progress)

    async def open(self, send: Send, stop: Signal) -> AsyncioStream:
        progress = Progress()
        opening = self._connections.open(send, progress)
        return AsyncioStream(await _bounded(opening, send.timeout_seconds, stop, progress))

    def spawn(self, program: Coroutine[Any, Any, None]) -> None:
        task = asyncio.get_running_loop().create_task(program)
        self._beside.add(task)  # the loop itself keeps only weak references
        task.add_done_callback(self._beside.discard)

    async def interruptible(self, work: Callable[[], Awaitable[T] | T], stop: Signal) -> T:
        task = asyncio.ensure_future(_awaited(work))
        forget = stop.on_set(task.cancel)
        try:
            return await task
        except asyncio.CancelledError:
            current = asyncio.current_task()
            if stop.is_set and not (current is not None and current.cancelling()):
                raise Stopped from None
            raise
        finally:
            forget()

    async def close(self) -> None:
        self._connections.close()
        beside = self._beside - {asyncio.current_task()}
        if beside:
            await asyncio.wait(beside)

    async def _dial(self, origin: Origin) -> _StreamPipe:
        tls = (self._tls or True) if origin.scheme == "https" else None
        try:
            async with asyncio.timeout(self._connect_timeout_seconds):
                reader, writer = await asyncio.open_connection(origin.host, origin.port, ssl=tls, limit=_READ_BYTES)
        except TimeoutError:
            raise OSError(f"no connection within {self._connect_timeout_seconds:g} s") from None
        keep_watch(writer.get_extra_info("socket"))
        return _StreamPipe(reader, writer)


class AsyncioStream:
    """See :class:`raftkv.client.runtime.Stream`."""

    def __init__(self, stream: WireStream) -> None:
        self._stream = stream

    @property
    def status(self) -> int:
        return self._stream.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._stream.headers

    async def read(self, timeout_seconds: float, stop: Signal) -> bytes:
        return await _bounded(self._stream.piece(), timeout_seconds, stop, Progress(is_sent=True))

    def close(self) -> None:
        self._stream.close()


class _StreamPipe:
    """See :class:`raftkv.client.wire.Pipe`. asyncio's reader stops reading from the socket while it holds enough."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self._reader = reader
        self._writer = writer

    async def write(self, data: bytes) -> None:
        self._writer.write(data)
        await self._writer.drain()

    async def read(self) -> bytes:
        return await self._reader.read(_READ_BYTES)

    def is_quiet(self) -> bool:
        return not self._reader.at_eof() and not self._writer.is_closing()

    def close(self) -> None:
        with suppress(RuntimeError):  # the loop is closed, and every socket with it
            self._writer.transport.abort()


async def _bounded(work: Coroutine[Any, Any, T], timeout_seconds: float, stop: Signal, progress: Progress) -> T:
    """Wait for something, for so long and until ``stop`` is set."""
    if stop.is_set:
        work.close()
        raise Stopped
    try:
        async with asyncio.timeout(max(0.0, timeout_seconds)) as scope:
            forget = stop.on_set(partial(_expire, scope))
            try:
                return await work
            finally:
                forget()
    except TimeoutError:
        pass
    if stop.is_set:
        raise Stopped
    raise ExchangeFailed("no answer in time", maybe_received=progress.is_sent, timed_out=True)


def _expire(scope: asyncio.Timeout) -> None:
    if not scope.expired():
        scope.reschedule(asyncio.get_running_loop().time())


async def _awaited(work: Callable[[], Awaitable[T] | T]) -> T:
    result = work()
    if inspect.isawaitable(result):
        awaited: T = await result
        return awaited
    return result
