"""A watch: one row of events, in order, each once, over as many connections and nodes as it takes.

What makes it whole: events are handed out by whole revisions only, for a stream that breaks within a revision tells
all of it again; the place in the row is what the stream itself has said (``id``), and never goes back (B54); what was
told before is dropped (B55, B58). What ends it: the past that it would need is compacted, which is raised; no node
gives a stream for longer than it has patience. What keeps it from hanging (B66): the server says something every few
seconds, and a stream that is silent for longer is given up for another.

Sending nothing of its own, it takes from the network only what is asked for: a reader that is slow makes the server
wait, then cut the stream with ``overflow``, and the next one resumes where this one was.
"""

from __future__ import annotations

import json
import math
from collections import deque
from collections.abc import Callable
from dataclasses import replace
from typing import Final, NoReturn, TypeVar

from raftkv.client.answers import Answer, Fields
from raftkv.client.core import HTTPCall
from raftkv.client.model import Event
from raftkv.client.operations import Operation
from raftkv.client.operations.watching import read_event
from raftkv.client.programs.engine import Engine
from raftkv.client.results import ClientClosed, UnexpectedAnswer
from raftkv.client.runtime import ExchangeFailed, Signal, Stopped, Stream
from raftkv.client.sse import Message, MessageParser
from raftkv.errors import BadRequest, Compacted

T = TypeVar("T")

PROGRESS_PER_SILENCE: Final = 3  #: signs of life that a server is asked for within the time of silence
MIN_SILENCE_SECONDS: Final = 0.3  #: a server gives them from every 0.1 to every 3,600 seconds
MAX_SILENCE_SECONDS: Final = 10_800


class WatchProgram:
    """One watch.

    :param make: makes the operation that opens a stream, given how often the server shall show signs of life.
    :param from_revision: the first revision to be told; ``None``: what comes from now on.
    :param silence_seconds: how long a stream may say nothing at all.
    :param patience_seconds: how long there may be no stream; ``inf`` for ever.
    """

    def __init__(
        self,
        engine: Engine,
        make: Callable[[float], Operation[NoReturn]],
        *,
        from_revision: int | None,
        silence_seconds: float,
        patience_seconds: float,
    ) -> None:
        if not MIN_SILENCE_SECONDS <= silence_seconds <= MAX_SILENCE_SECONDS:
            expected = f"expected a number of seconds from {MIN_SILENCE_SECONDS} to {MAX_SILENCE_SECONDS}"
            raise BadRequest(f"silence: found {silence_seconds!r}, {expected}")
        if not patience_seconds > 0:
            raise BadRequest(f"patience: found {patience_seconds!r}, expected more than 0 seconds")
        make(silence_seconds / PROGRESS_PER_SILENCE)  # what is wrong with it is told here, where it was written
        self._engine = engine
        self._make = make
        self._from_revision = from_revision
        self._silence_seconds = silence_seconds
        self._patience_seconds = patience_seconds
        self._call: HTTPCall[NoReturn] | None = None  # the attempts to have a stream
        self._stream: Stream | None = None
        self._has_spoken = False  # the stream that is open
        self._parser = MessageParser()
        self._position: int | None = None if from_revision is None else from_revision - 1
        self._is_resumable = False  # whether a stream has told the position, so that it may be told to another
        self._part: list[Event] = []  # of a revision that has not ended
        self._events: deque[Event] = deque()
        self._stop = Signal()
        self._forget_closing: Callable[[], None] = lambda: None
        self._forget_closing = engine.closing.on_set(self.close)

    @property
    def revision(self) -> int | None:
        """Everything up to here has been told, but for what :meth:`next` has yet to hand out; ``None`` at first."""
        return self._position

    async def ready(self) -> int:
        """Wait until a stream is open; return the revision behind which it tells everything.

        :raises ClientClosed: the watch or the client was closed; else what :meth:`next` raises.
        """
        while not self._is_resumable:
            if self._stop.is_set:
                raise ClientClosed
            await self._step()
        return self._position or 0

    async def next(self) -> Event:
        """Return the next event.

        :raises StopAsyncIteration: the watch was closed.
        :raises ClientClosed: the client was closed.
        :raises raftkv.errors.Compacted: events that have not been told are no longer kept.
        :raises raftkv.errors.FutureRevision: the store has never been where the watch is: it was restored (B61).
        :raises raftkv.errors.RequestTimeout: there was no stream for as long as the watch has patience.
        """
        while not self._events:
            if self._stop.is_set:
                raise ClientClosed if self._engine.closing.is_set else StopAsyncIteration
            await self._step()
        return self._events.popleft()

    async def next_revision(self) -> tuple[Event, ...]:
        """Return all events of the next revision.

        :raises ClientClosed: the watch or the client was closed; else what :meth:`next` raises.
        """
        try:
            events = [await self.next()]
        except StopAsyncIteration:
            raise ClientClosed from None
        while not events[-1].is_last:
            events.append(self._events.popleft())  # they came together
        return tuple(events)

    async def enter(self, handle: T) -> T:
        """Wait until the watch has begun; return ``handle``."""
        await self.ready()
        return handle

    async def leave(self) -> None:
        """End the watch."""
        self.close()

    def close(self) -> None:
        """End the watch and its connection, now; whoever waits for an event is told that there is none."""
        self._stop.set()
        self._forget_closing()
        self._hang_up()

    async def _step(self) -> None:
        """Go on by one piece of a stream, or by one stream."""
        try:
            if self._stream is None:
                await self._connect()
            else:
                await self._read(self._stream)
        except Stopped:
            pass  # which the caller looks at
        except BaseException:
            # An error of the watch, or the caller was cancelled: the next step begins with a stream of its own.
            self._hang_up()
            self._call = None
            raise

    async def _connect(self) -> None:
        operation = self._make(self._silence_seconds / PROGRESS_PER_SILENCE)
        if self._is_resumable:
            headers = {**operation.headers, "Last-Event-ID": str(self._position)}
            operation = replace(operation, headers=headers)
        if self._call is None:
            now = self._engine.runtime.now()
            self._call = self._engine.core.call(operation, timeout_seconds=self._patience_seconds, now=now)
        else:
            self._call.ask(operation)
        self._stream = await self._engine.open(self._call, self._stop)
        self._has_spoken = False
        self._parser = MessageParser()

    async def _read(self, stream: Stream) -> None:
        try:
            piece = await stream.read(self._silence_seconds, self._stop)
            if not piece:
                raise ExchangeFailed("the node ended the stream", maybe_received=True)
            for message in self._parser.feed(piece):
                self._take(message)
        except (ExchangeFailed, ValueError) as error:
            broken = error if isinstance(error, ExchangeFailed) else ExchangeFailed(str(error), maybe_received=True)
        else:
            return
        await self._go_on(broken)

    async def _go_on(self, broken: ExchangeFailed) -> None:
        """Open another stream in the place of one that broke; its node is to be asked last."""
        self._hang_up()
        if self._call is not None:  # which gave the stream
            if self._has_spoken:
                self._call.renew(self._engine.runtime.now())
            await self._engine.rest(self._engine.broke(self._call, broken), self._stop)
        await self._connect()

    def _hang_up(self) -> None:
        stream, self._stream = self._stream, None
        self._part.clear()
        if stream is not None:
            stream.close()

    # -- what a stream says --------------------------------------------------------------------------------------------

    def _take(self, message: Message) -> None:
        take = _TAKERS.get(message.event)
        if take is None:
            return  # of a newer server
        try:
            body = Fields(_ANSWER, json.loads(message.data))
        except (ValueError, RecursionError):
            raise UnexpectedAnswer(200, f"an event's data is no JSON: {message.data[:80]!r}") from None
        self._has_spoken = True
        take(self, message, body)

    def _take_event(self, message: Message, body: Fields) -> None:
        self._part.append(read_event(body))
        if message.id is None:
            return
        revision = _revision_of(message.id)
        events = [event for event in self._part if not self._is_told(event.revision)]
        self._part.clear()
        self._move_to(revision)
        self._events.extend(events[:-1])
        self._events.extend(replace(event, is_last=True) for event in events[-1:])

    def _take_progress(self, message: Message, body: Fields) -> None:
        self._part.clear()
        self._move_to(body.integer("revision"))

    def _take_compacted(self, message: Message, body: Fields) -> None:
        raise Compacted(body.integer("compact_revision"))

    def _take_overflow(self, message: Message, body: Fields) -> None:
        self._part.clear()
        self._move_to(body.integer("revision"))
        raise ExchangeFailed("the node cut the stream, which was not read fast enough", maybe_received=True)

    def _is_told(self, revision: int) -> bool:
        return self._position is not None and revision <= self._position

    def _move_to(self, revision: int) -> None:
        self._position = max(revision, -1 if self._position is None else self._position)
        self._is_resumable = True


_TAKERS: Final[dict[str, Callable[[WatchProgram, Message, Fields], None]]] = {
    "put": WatchProgram._take_event,
    "delete": WatchProgram._take_event,
    "progress": WatchProgram._take_progress,
    "compacted": WatchProgram._take_compacted,
    "overflow": WatchProgram._take_overflow,
}
_ANSWER: Final = Answer(status=200, headers={}, body=b"")


def _revision_of(number: str) -> int:
    if number.isascii() and number.isdigit():
        return int(number)
    raise UnexpectedAnswer(200, f"id: found {number!r:.80}, expected a revision")


def patience(seconds: float | None) -> float:
    """Return how long there may be no stream; ``None`` is for ever."""
    return math.inf if seconds is None else seconds
