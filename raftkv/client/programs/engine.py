"""The calls of one client, from the first attempt to the last: who may send now, what to do next, and the end of all.

A program in the sense of :mod:`raftkv.client.runtime`. What to send and what an answer means is decided in
:mod:`raftkv.client.core`; here it is carried out, in the same way for every flavour.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Coroutine
from typing import Any, Final, TypeVar

from raftkv.client.answers import Answer
from raftkv.client.core import Core, Finished, HTTPCall
from raftkv.client.operations import Operation
from raftkv.client.results import ClientClosed, UnexpectedAnswer
from raftkv.client.retry import Again, GiveUp
from raftkv.client.runtime import ExchangeFailed, Runtime, Signal, Stopped, Stream
from raftkv.errors import RaftKVError

T = TypeVar("T")

_MAX_ERROR_BYTES: Final = 1024 * 1024  # of an error in place of a stream


class Engine:
    """What the calls, watches and leases of one client are carried out by.

    :param max_running: calls on their way at once; the others wait for their turn.
    :ivar closing: set when the client is closed; whatever runs beside the calls ends then.
    """

    def __init__(self, core: Core, runtime: Runtime, *, max_running: int) -> None:
        if max_running < 1:
            raise ValueError(f"max_connections: found {max_running!r}, expected at least 1")
        self.core = core
        self.runtime = runtime
        self.closing = Signal()
        self._gate = _Gate(max_running)
        self._running: dict[Signal, None] = {}

    async def call(self, make: Callable[[], Operation[T]], *, timeout_seconds: float | None = None) -> T:
        """Carry out an operation.

        :param make: makes it; what it raises is raised here, where the caller waits.
        :param timeout_seconds: for all of it; ``None`` is what the client has for all.
        """
        call = self._begin(make(), none_if_missing=False, timeout_seconds=timeout_seconds)
        result: T = await self._carry_out(call)
        return result

    async def optional(self, make: Callable[[], Operation[T]]) -> T | None:
        """Carry out an operation for which a key that does not exist is no error."""
        call = self._begin(make(), none_if_missing=True, timeout_seconds=None)
        result: T | None = await self._carry_out(call)
        return result

    async def open(self, call: HTTPCall[Any], stop: Signal) -> Stream:
        """Open a stream, with as many attempts as it takes.

        :param call: begun by the caller, who goes on with it when the stream breaks.
        :raises RaftKVError: no node gives it.
        :raises Stopped: ``stop`` was set.
        """
        while True:
            opened = await self._open_once(call, stop)
            if not isinstance(opened, Again | GiveUp):
                return opened
            await self.rest(opened, stop)

    async def rest(self, verdict: Again | GiveUp, stop: Signal) -> None:
        """Wait as long as there is to wait before another attempt.

        :raises RaftKVError: there shall be none.
        :raises Stopped: ``stop`` was set.
        """
        if isinstance(verdict, GiveUp):
            raise verdict.error
        if stop.is_set or (verdict.delay_seconds > 0 and await self.runtime.wait(stop, verdict.delay_seconds)):
            raise Stopped

    def spawn(self, program: Coroutine[Any, Any, None]) -> None:
        """Run a program beside the calls, until it ends by itself; it must heed :attr:`closing`."""
        self.runtime.spawn(program)

    async def close(self) -> None:
        """Give up what is pending, close the connections, leave nothing behind. Closing twice is allowed."""
        self.closing.set()
        for stop in list(self._running):
            stop.set()
        self._gate.close()
        await self.runtime.close()

    # -- one call ----------------------------------------------------------------------------------------------------

    def _begin(self, operation: Operation[T], *, none_if_missing: bool, timeout_seconds: float | None) -> HTTPCall[T]:
        return self.core.call(
            operation, none_if_missing=none_if_missing, timeout_seconds=timeout_seconds, now=self.runtime.now()
        )

    async def _carry_out(self, call: HTTPCall[Any]) -> Any:
        if self.closing.is_set:
            raise ClientClosed
        place = self._gate.enter(call)
        stop = Signal()
        try:
            if not place.turn.is_set:
                await self.runtime.wait(place.turn, call.deadline - self.runtime.now())
            if self.closing.is_set:
                raise call.abandoned(under_way=False)
            if not place.turn.is_set:
                raise call.too_late()
            self._running[stop] = None
            return await self._attempts(call, stop)
        finally:
            self._running.pop(stop, None)
            call.end()
            self._gate.leave(place)

    async def _attempts(self, call: HTTPCall[Any], stop: Signal) -> Any:
        under_way = True
        while True:
            verdict: Finished[Any] | Again | GiveUp | None = await self._attempt(call, stop)
            if verdict is not None:
                if isinstance(verdict, Finished):
                    return verdict.value
                if isinstance(verdict, GiveUp):
                    raise verdict.error
                if verdict.delay_seconds <= 0 or not await self.runtime.wait(stop, verdict.delay_seconds):
                    continue
                under_way = False
            raise call.abandoned(under_way=under_way)

    async def _attempt(self, call: HTTPCall[Any], stop: Signal) -> Finished[Any] | Again | GiveUp | None:
        """Make an attempt.

        :return: what is next; ``None`` where ``stop`` was set meanwhile.
        """
        send = call.send(self.runtime.now())
        if isinstance(send, GiveUp):
            return send
        try:
            answer = await self.runtime.exchange(send, stop)
        except Stopped:
            return None
        except ExchangeFailed as broken:
            return self.broke(call, broken)
        return call.answered(self.runtime.now(), answer)

    def broke(self, call: HTTPCall[Any], broken: ExchangeFailed) -> Again | GiveUp:
        """Tell a call that its exchange, or its stream, broke."""
        now = self.runtime.now()
        if broken.timed_out and broken.maybe_received:
            return call.timed_out(now)
        return call.broke(now, str(broken), maybe_received=broken.maybe_received)

    async def _open_once(self, call: HTTPCall[Any], stop: Signal) -> Stream | Again | GiveUp:
        send = call.send(self.runtime.now())
        if isinstance(send, GiveUp):
            return send
        try:
            stream = await self.runtime.open(send, stop)
        except ExchangeFailed as broken:
            return self.broke(call, broken)
        call.heard(stream.headers)
        kind = stream.headers.get("content-type", "").partition(";")[0].strip().lower()
        if stream.status == 200 and kind == "text/event-stream":
            return stream
        try:
            answer = await _whole(stream, send.timeout_seconds, stop)
        except ExchangeFailed as broken:
            return self.broke(call, broken)
        finally:
            stream.close()
        verdict = call.answered(self.runtime.now(), answer)
        return GiveUp(_no_stream(answer)) if isinstance(verdict, Finished) else verdict


class _Place:
    """One call's place before the gate.

    :ivar turn: set when the call may send.
    """

    __slots__ = ("call", "is_inside", "is_over", "turn")

    def __init__(self, call: HTTPCall[Any]) -> None:
        self.call = call
        self.turn = Signal()
        self.is_inside = False
        self.is_over = False


class _Gate:
    """Lets calls in, in the order of arrival; a write that must wait for a number holds up no read."""

    def __init__(self, max_inside: int) -> None:
        self._max_inside = max_inside
        self._inside = 0
        self._waiting: deque[_Place] = deque()
        self._waiting_for_number: deque[_Place] = deque()
        self._is_closed = False

    def enter(self, call: HTTPCall[Any]) -> _Place:
        """Take a place; its turn may have come at once."""
        place = _Place(call)
        if not call.queues and call.admit():
            place.turn.set()
            return place
        self._waiting.append(place)
        self._admit()
        return place

    def leave(self, place: _Place) -> None:
        """Give a place up, wherever it is."""
        place.is_over = True
        if place.is_inside:
            place.is_inside = False
            self._inside -= 1
        self._admit()

    def close(self) -> None:
        """Wake all who wait; they find the client closed."""
        self._is_closed = True
        for place in [*self._waiting, *self._waiting_for_number]:
            place.turn.set()

    def _admit(self) -> None:
        while self._inside < self._max_inside and not self._is_closed:
            place = self._next()
            if place is None:
                return
            place.is_inside = True
            self._inside += 1
            place.turn.set()

    def _next(self) -> _Place | None:
        while self._waiting_for_number:
            first = self._waiting_for_number[0]
            if not first.is_over and not first.call.admit():
                break
            self._waiting_for_number.popleft()
            if not first.is_over:
                return first
        while self._waiting:
            place = self._waiting.popleft()
            if place.is_over:
                continue
            if place.call.admit():
                return place
            self._waiting_for_number.append(place)
        return None


async def _whole(stream: Stream, timeout_seconds: float, stop: Signal) -> Answer:
    """Collect what was to be a stream, and is an answer like others."""
    parts: list[bytes] = []
    size = 0
    while part := await stream.read(timeout_seconds, stop):
        parts.append(part)
        size += len(part)
        if size > _MAX_ERROR_BYTES:
            raise ExchangeFailed("the answer is too large", maybe_received=True)
    return Answer(status=stream.status, headers=stream.headers, body=b"".join(parts))


def _no_stream(answer: Answer) -> RaftKVError:
    return UnexpectedAnswer(answer.status, "expected a stream of events, and this answer is none")
