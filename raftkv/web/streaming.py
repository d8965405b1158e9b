"""Answers whose body comes in pieces: large ones that are never whole in memory, and those that have no end.

An operation gives its exchange a :class:`BodySource`, and the source writes to an :class:`OutgoingBody` as long as the
client keeps up. How the pieces are framed is the lane's: chunked for HTTP/1.1, up to the end of the connection for
HTTP/1.0, as they are where the length was told.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import NamedTuple, Protocol

from twisted.internet.defer import Deferred
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import InvariantViolation, RaftKVError, StorageError
from raftkv.web.exchange import Headers


class BodySource:
    """Where the pieces of a body come from. It is asked for nothing that the client has no room for.

    All of it is called in the reactor's thread. Whatever :meth:`resume` raises breaks the connection off.
    """

    __slots__ = ()

    def resume(self, body: OutgoingBody) -> None:
        """Write pieces now, or later, until ``body.has_room`` says no.

        Called when the head has been sent, and each time that there is room again. A source that has nothing to tell
        at the moment returns, and writes once it has: no time-out cuts a body that is quiet.
        """
        raise NotImplementedError

    def gone(self) -> None:
        """Nothing more is wanted: the client has gone, or it asked for the head alone.

        Called at most once, and not after the source has ended the body itself.
        """

    def stopping(self) -> None:
        """The server is stopping: finish before long, for what has not finished after a while is broken off.

        A source that has no end ends here, so that its client goes on elsewhere.
        """


class Streamed(NamedTuple):
    """An answer whose body comes in pieces.

    :ivar status: one that allows a body.
    :ivar headers: as in :class:`raftkv.web.exchange.Answer`.
    :ivar length: of the body, where it is known: it is told, and not a byte more or less may come.
    :ivar buffer_bytes: how much may wait for the client before there is no room; ``None`` for what transports hold.
    """

    status: int
    headers: Headers
    source: BodySource
    length: int | None = None
    buffer_bytes: int | None = None


class BodyLane(Protocol):
    """What a body needs of the connection that it is sent on."""

    def write_piece(self, data: bytes) -> None:
        """Send a piece, which is not empty."""

    def body_finished(self) -> None:
        """All pieces have been written; the connection goes on to its next request."""

    def break_off(self) -> None:
        """Close the connection so that the client sees that something is missing."""


class OutgoingBody:
    """One body on its way to its client.

    :ivar has_room: whether the client keeps up. What is written all the same is sent too, but fills the memory.
    :ivar is_over: whether it has ended, in one way or another; what is written then goes nowhere.
    :ivar size_bytes: how much has been written.
    :ivar status: of the answer.
    """

    __slots__ = ("_lane", "_open", "_remaining_bytes", "_source", "has_room", "is_over", "size_bytes", "status")

    _log = Logger()

    def __init__(self, streamed: Streamed, lane: BodyLane, open_bodies: OpenBodies) -> None:
        self._source = streamed.source
        self._lane = lane
        self._open = open_bodies
        self._remaining_bytes = streamed.length
        self.has_room = True
        self.is_over = False
        self.size_bytes = 0
        self.status = streamed.status

    # -- from the source ----------------------------------------------------------------------------------------------

    def write(self, data: bytes) -> None:
        """Send a piece.

        :raises ValueError: it is more than the length that was told.
        """
        if self.is_over or not data:  # an empty chunk would be the last one
            return
        if self._remaining_bytes is not None:
            if len(data) > self._remaining_bytes:
                raise ValueError(f"{len(data)} bytes of a body of which {self._remaining_bytes} are left")
            self._remaining_bytes -= len(data)
        self.size_bytes += len(data)
        self._lane.write_piece(data)

    def finish(self) -> None:
        """The body is complete."""
        if self.is_over:
            return
        if self._remaining_bytes:
            self._log.error("a body ended {count} bytes before its end", count=self._remaining_bytes)
            self.break_off()
            return
        self._end()
        self._lane.body_finished()

    def break_off(self, reason: Exception | None = None) -> None:
        """The rest of the body cannot be told: the client must not take what it has got for the whole.

        :param reason: an error that may befall a request is merely noted; any other is a fault of ours, and logged.
        """
        if self.is_over:
            return
        if isinstance(reason, RaftKVError):
            self._log.debug("the rest of an answer cannot be told: {reason}", reason=reason)
        elif reason is not None:
            self._log.failure("the source of an answer failed", Failure(reason))
        self._end()
        self._lane.break_off()

    # -- from the lane ------------------------------------------------------------------------------------------------

    def begin(self) -> None:
        """The head has been sent."""
        self._open.add(self)
        if self.has_room:
            self.resume()
        if self._open.are_stopping:
            self.stop()

    def pause(self) -> None:
        """The client does not read."""
        self.has_room = False

    def resume(self) -> None:
        """The client reads."""
        self.has_room = True
        if not self.is_over:
            self._guard(lambda: self._source.resume(self))

    def lost(self) -> None:
        """The client has gone."""
        if not self.is_over:
            self._end()
            self._guard(self._source.gone)

    def stop(self) -> None:
        """The server is stopping."""
        if not self.is_over:
            self._guard(self._source.stopping)

    def _end(self) -> None:
        self.is_over = True
        self._open.discard(self)

    def _guard(self, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception as error:
            if self.is_over:
                self._log.failure("the source of an answer failed", Failure(error))
            else:
                self.break_off(error)
                self._guard(self._source.gone)
            if isinstance(error, (InvariantViolation, StorageError)):
                raise  # they stop the node, and whoever called us has to see them


class OpenBodies:
    """The bodies of one server that are on their way.

    :ivar are_stopping: whether those that have no end are to end.
    """

    def __init__(self) -> None:
        # A dictionary for its order: whoever came first is told first, in every run.
        self._bodies: dict[OutgoingBody, None] = {}
        self.are_stopping = False

    def __len__(self) -> int:
        return len(self._bodies)

    def add(self, body: OutgoingBody) -> None:
        """A body begins."""
        self._bodies[body] = None

    def discard(self, body: OutgoingBody) -> None:
        """A body has ended."""
        self._bodies.pop(body, None)

    def stop(self) -> None:
        """Have all of them end, and those that are yet to begin."""
        self.are_stopping = True
        for body in [*self._bodies]:
            body.stop()

    def go_on(self) -> None:
        """The server serves again."""
        self.are_stopping = False


class PieceSource(BodySource):
    """A source that has an end, and draws one piece after the other.

    :param next_piece: returns the next piece, or fires with it later; ``None`` behind the last one. It is called only
        when there is room, and not again before the piece is there. What it raises breaks the connection off.
    :param closed: called once, when nothing more will be drawn: everything was told, or the client has gone, or a piece
        could not be had. A piece that was still awaited is cancelled then.
    """

    def __init__(
        self,
        next_piece: Callable[[], bytes | Deferred[bytes | None] | None],
        closed: Callable[[], object] = lambda: None,
    ) -> None:
        self._next_piece = next_piece
        self._closed: Callable[[], object] | None = closed
        self._awaited: Deferred[bytes | None] | None = None
        self._is_drawing = False

    def resume(self, body: OutgoingBody) -> None:
        """See :class:`BodySource`."""
        if self._is_drawing or self._awaited is not None:
            return
        self._is_drawing = True
        try:
            while body.has_room and self._awaited is None and not body.is_over:
                piece = self._next_piece()
                if isinstance(piece, Deferred):
                    self._awaited = piece
                    piece.addCallback(self._arrived, body).addErrback(self._failed, body)
                else:
                    self._take(piece, body)
        finally:
            self._is_drawing = False

    def gone(self) -> None:
        """See :class:`BodySource`."""
        awaited, self._awaited = self._awaited, None
        self._close()
        if awaited is not None:
            awaited.cancel()

    def _arrived(self, piece: bytes | None, body: OutgoingBody) -> None:
        self._awaited = None
        self._take(piece, body)
        if body.has_room:
            self.resume(body)

    def _take(self, piece: bytes | None, body: OutgoingBody) -> None:
        if piece is not None:
            body.write(piece)
        elif not body.is_over:
            self._close()
            body.finish()

    def _failed(self, failure: Failure, body: OutgoingBody) -> None:
        self._awaited = None
        if not body.is_over:
            self._close()
            body.break_off(failure.value if isinstance(failure.value, Exception) else RuntimeError(repr(failure.value)))

    def _close(self) -> None:
        closed, self._closed = self._closed, None
        if closed is not None:
            closed()
