"""The Twisted flavour of what the client's programs need: Deferreds, delayed calls, treq."""

from __future__ import annotations

import math
from collections.abc import Awaitable, Callable, Coroutine, Mapping
from inspect import isawaitable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, DeferredList
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.client.answers import Answer
from raftkv.client.clock import steady_clock
from raftkv.client.core import Send
from raftkv.client.runtime import ExchangeFailed, Signal, Stopped
from raftkv.client.transport import BodyStream, HTTPTransport

T = TypeVar("T")


class TwistedRuntime:
    """Runs the programs of one client on a reactor."""

    _log = Logger()

    def __init__(self, reactor: Any, transport: HTTPTransport) -> None:
        self.now = steady_clock(reactor)
        self._reactor = reactor
        self._transport = transport
        self._beside: dict[Deferred[None], None] = {}

    async def wait(self, signal: Signal, timeout_seconds: float) -> bool:
        """See :class:`raftkv.client.runtime.Runtime`; likewise the other methods."""
        if signal.is_set:
            return True
        told: Deferred[None] = Deferred()
        forget = signal.on_set(lambda: told.callback(None))
        timer: IDelayedCall | None = None
        if timeout_seconds != math.inf:
            timer = self._reactor.callLater(max(0.0, timeout_seconds), told.callback, None)
        try:
            await told
        finally:
            forget()
            if timer is not None and timer.active():
                timer.cancel()
        return signal.is_set

    async def exchange(self, send: Send, stop: Signal) -> Answer:
        if stop.is_set:
            raise Stopped
        work = self._transport.exchange(send.method, send.url, send.headers, send.body)
        return await _Bounded(work, self._reactor, send.timeout_seconds, stop).result

    async def open(self, send: Send, stop: Signal) -> TwistedStream:
        if stop.is_set:
            raise Stopped
        work = self._transport.open(send.method, send.url, send.headers)
        body = await _Bounded(work, self._reactor, send.timeout_seconds, stop).result
        return TwistedStream(body, self._reactor)

    def spawn(self, program: Coroutine[Any, Any, None]) -> None:
        running = Deferred.fromCoroutine(program)
        if running.called:
            running.addErrback(self._failed)
            return
        ended: Deferred[None] = Deferred()
        self._beside[ended] = None

        def end(_: object) -> None:
            del self._beside[ended]
            ended.callback(None)

        running.addErrback(self._failed).addCallback(end)

    async def interruptible(self, work: Callable[[], Awaitable[T] | T], stop: Signal) -> T:
        running = Deferred.fromCoroutine(_awaited(work))
        return await _Bounded(running, self._reactor, math.inf, stop).result

    async def close(self) -> None:
        closing = self._transport.close()
        await DeferredList(list(self._beside))
        await closing

    def _failed(self, failure: Failure) -> None:
        self._log.failure("a part of the client failed", failure)


class TwistedStream:
    """See :class:`raftkv.client.runtime.Stream`."""

    def __init__(self, body: BodyStream, reactor: IReactorTime) -> None:
        self._body = body
        self._reactor = reactor

    @property
    def status(self) -> int:
        return self._body.status

    @property
    def headers(self) -> Mapping[str, str]:
        return self._body.headers

    async def read(self, timeout_seconds: float, stop: Signal) -> bytes:
        if stop.is_set:
            raise Stopped
        return await _Bounded(self._body.read(), self._reactor, timeout_seconds, stop).result

    def close(self) -> None:
        self._body.close()


class _Bounded(Generic[T]):
    """Waits for a Deferred for so long, and until a signal is set; then cancels it.

    :ivar result: fires as the Deferred does, or fails with :exc:`ExchangeFailed` or :exc:`Stopped`. Cancelling it
        cancels the Deferred, whatever that makes of it.
    """

    def __init__(self, work: Deferred[T], reactor: IReactorTime, timeout_seconds: float, stop: Signal) -> None:
        self.result: Deferred[T] = Deferred(lambda _: self._abort())
        self._work = work
        self._timed_out = False
        self._stopped = False
        self._is_over = False
        self._timer: IDelayedCall | None = None
        if timeout_seconds != math.inf:
            self._timer = reactor.callLater(max(0.0, timeout_seconds), self._out_of_time)
        self._forget = stop.on_set(self._stop)
        work.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, value: T) -> None:
        if not self._is_over:
            self._end()
            self.result.callback(value)

    def _failed(self, failure: Failure) -> None:
        if self._is_over:
            return
        self._end()
        broken = failure.value
        if self._stopped:
            failure = Failure(Stopped())
        elif self._timed_out:
            maybe_received = not isinstance(broken, ExchangeFailed) or broken.maybe_received
            reason = str(broken) if isinstance(broken, ExchangeFailed) else "no answer in time"
            failure = Failure(ExchangeFailed(reason, maybe_received=maybe_received, timed_out=True))
        self.result.errback(failure)

    def _out_of_time(self) -> None:
        self._timed_out = True
        self._work.cancel()  # which ends in _failed

    def _stop(self) -> None:
        self._stopped = True
        self._work.cancel()

    def _abort(self) -> None:
        self._end()
        self._work.cancel()  # result then fails with CancelledError by itself

    def _end(self) -> None:
        self._is_over = True
        self._forget()
        if self._timer is not None and self._timer.active():
            self._timer.cancel()


async def _awaited(work: Callable[[], Awaitable[T] | T]) -> T:
    result = work()
    if isawaitable(result):
        awaited: T = await result
        return awaited
    return result
