"""The blocking flavour of what the client's programs need: threads and sockets with deadlines.

A program never suspends here: each of its waits blocks the thread that runs it. One lock belongs to the client. Whoever
runs a program holds it, except while waiting; so no program is disturbed between two waits, and any number of threads
may use the client, just as any number of tasks may use the others.
"""

from __future__ import annotations

import inspect
import math
import select
import socket
import ssl
import threading
from collections.abc import Awaitable, Callable, Coroutine, Iterator, Mapping
from contextlib import contextmanager, suppress
from typing import Any, Final, TypeVar

from raftkv.client.answers import Answer
from raftkv.client.clock import unset_clock
from raftkv.client.core import Send
from raftkv.client.programs.engine import Engine
from raftkv.client.runtime import ExchangeFailed, Signal, Stopped
from raftkv.client.sockets import keep_watch
from raftkv.client.wire import Connections, Origin, Progress, WireStream

T = TypeVar("T")

_READ_BYTES: Final = 64 * 1024


class BlockingRuntime:
    """Runs the programs of one client, each in the thread that calls.

    :param tls: for addresses with ``https``; ``None`` is what the system trusts.
    """

    def __init__(self, *, max_idle: int, connect_timeout_seconds: float, tls: ssl.SSLContext | None) -> None:
        self.now = unset_clock()
        self._connect_timeout_seconds = connect_timeout_seconds
        self._tls = tls
        self._lock = threading.Lock()
        self._limits = threading.local()
        self._connections = Connections(self._dial, max_idle=max_idle)
        self._beside: set[threading.Thread] = set()

    def run(self, program: Coroutine[Any, Any, T]) -> T:
        """Run a program from its beginning to its end.

        :raises StopIteration: it raised :exc:`StopAsyncIteration`.
        """
        with self._lock:
            try:
                program.send(None)
            except StopIteration as end:
                result: T = end.value
                return result
            except StopAsyncIteration:
                pass
            else:
                program.close()
                raise RuntimeError("a program of the client waited for what is not the client's")
        raise StopIteration

    async def wait(self, signal: Signal, timeout_seconds: float) -> bool:
        """See :class:`raftkv.client.runtime.Runtime`; likewise the other methods."""
        if signal.is_set:
            return True
        told = threading.Event()
        forget = signal.on_set(told.set)
        try:
            with self._unlocked():
                told.wait(min(max(0.0, timeout_seconds), threading.TIMEOUT_MAX))
        finally:
            forget()
        return signal.is_set

    async def exchange(self, send: Send, stop: Signal) -> Answer:
        progress = Progress()
        with self._limited(send.timeout_seconds, stop, progress):
            return await self._connections.exchange(send, progress)

    async def open(self, send: Send, stop: Signal) -> BlockingStream:
        progress = Progress()
        with self._limited(send.timeout_seconds, stop, progress):
            return BlockingStream(self, await self._connections.open(send, progress))

    def spawn(self, program: Coroutine[Any, Any, None]) -> None:
        thread = threading.Thread(target=self._run_beside, args=(program,), name="raftkv client", daemon=True)
        self._beside.add(thread)
        thread.start()

    async def interruptible(self, work: Callable[[], Awaitable[T] | T], stop: Signal) -> T:
        with self._unlocked():
            result = work()
        if inspect.isawaitable(result):
            raise TypeError("the blocking client is given plain functions, not coroutines")
        return result

    async def close(self) -> None:
        self._connections.close()
        for thread in self._beside - {threading.current_thread()}:
            with self._unlocked():
                thread.join()

    def _run_beside(self, program: Coroutine[Any, Any, None]) -> None:
        try:
            self.run(program)
        finally:
            self._beside.discard(threading.current_thread())

    @contextmanager
    def _unlocked(self) -> Iterator[None]:
        self._lock.release()
        try:
            yield
        finally:
            self._lock.acquire()

    # -- what bounds an exchange ---------------------------------------------------------------------------------------

    @contextmanager
    def _limited(self, timeout_seconds: float, stop: Signal, progress: Progress) -> Iterator[None]:
        """Let the reads and writes of this thread last for so long and until ``stop`` is set, all together."""
        if stop.is_set:
            raise Stopped
        self._limits.current = limit = _Limit(self.now() + timeout_seconds)
        forget = stop.on_set(limit.stop)
        try:
            yield
        except ExchangeFailed as failed:
            if not stop.is_set and not limit.is_over(self.now()):
                raise
            reason = failed
        else:
            return
        finally:
            forget()
        if stop.is_set:
            raise Stopped
        raise ExchangeFailed("no answer in time", maybe_received=progress.is_sent, timed_out=True) from reason

    async def _dial(self, origin: Origin) -> _SocketPipe:
        limit: _Limit = self._limits.current
        with self._unlocked():
            return _SocketPipe(self, self._connect(origin, limit))

    def _connect(self, origin: Origin, limit: _Limit) -> socket.socket:
        deadline = min(limit.deadline, self.now() + self._connect_timeout_seconds)
        error: OSError = OSError(f"{origin.host}: no address")
        for family, kind, protocol, _, address in socket.getaddrinfo(origin.host, origin.port, 0, socket.SOCK_STREAM):
            connecting = socket.socket(family, kind, protocol)
            try:
                connecting.settimeout(max(0.001, deadline - self.now()))
                connecting.connect(address)
                keep_watch(connecting)
                if origin.scheme != "https":
                    return connecting
                self._tls = self._tls or ssl.create_default_context()
                return self._tls.wrap_socket(connecting, server_hostname=origin.host)
            except OSError as failed:
                connecting.close()
                error = failed
            except BaseException:
                connecting.close()
                raise
        raise error


def run(engine: Engine, program: Coroutine[Any, Any, T]) -> T:
    """Run a program of a blocking client from its beginning to its end."""
    runtime = engine.runtime
    if not isinstance(runtime, BlockingRuntime):
        raise TypeError("this object belongs to another flavour of the client")
    return runtime.run(program)


class _Limit:
    """Until when the waits of one exchange may last.

    :ivar deadline: on the clock of the runtime.
    """

    def __init__(self, deadline: float) -> None:
        self.deadline = deadline
        self.is_stopped = False
        self.waiting: socket.socket | None = None  # that a thread waits for just now

    def stop(self) -> None:
        """Wake the thread that waits."""
        self.is_stopped = True
        if self.waiting is not None:
            _cut(self.waiting)

    def is_over(self, now: float) -> bool:
        """Tell whether the time is over."""
        return now >= self.deadline


class BlockingStream:
    """See :class:`raftkv.client.runtime.Stream`."""

    def __init__(self, runtime: BlockingRuntime, stream: WireStream) -> None:
        self._runtime = runtime
        self._stream = stream

    @property
    def status(self) -> int:
        return self._stream.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._stream.headers

    async def read(self, timeout_seconds: float, stop: Signal) -> bytes:
        with self._runtime._limited(timeout_seconds, stop, Progress(is_sent=True)):
            return await self._stream.piece()

    def close(self) -> None:
        self._stream.close()


class _SocketPipe:
    """See :class:`raftkv.client.wire.Pipe`. Its waits end with the limit of the thread's exchange."""

    def __init__(self, runtime: BlockingRuntime, connected: socket.socket) -> None:
        self._runtime = runtime
        self._socket = connected

    async def write(self, data: bytes) -> None:
        with self._waiting():
            self._socket.sendall(data)

    async def read(self) -> bytes:
        with self._waiting():
            return self._socket.recv(_READ_BYTES)

    def is_quiet(self) -> bool:
        looking = select.poll()  # unlike select(), it takes any number of open files
        try:
            looking.register(self._socket, select.POLLIN)
            return not looking.poll(0)
        except (OSError, ValueError):
            return False

    def close(self) -> None:
        # First cut, so that a thread that waits for it is woken: to close alone would leave it waiting.
        _cut(self._socket)
        with suppress(OSError):
            self._socket.close()

    @contextmanager
    def _waiting(self) -> Iterator[None]:
        limit: _Limit = self._runtime._limits.current
        left = limit.deadline - self._runtime.now()
        limit.waiting = self._socket  # before asking whether it was stopped, lest a stop in between be missed
        try:
            if limit.is_stopped or left <= 0:
                raise OSError("the time is over")
            self._socket.settimeout(None if left == math.inf else left)
            with self._runtime._unlocked():
                yield
        finally:
            limit.waiting = None


def _cut(connected: socket.socket) -> None:
    with suppress(OSError):
        # Not the method of a TLS socket, which would take its state from under the thread that reads.
        socket.socket.shutdown(connected, socket.SHUT_RDWR)
