"""The endpoints of ranges: ``GET`` and ``DELETE /v1/kv``.

A range is read at one revision, that of its first page; a small answer is made at once, and a large one leaves in
pieces as the client reads them (:mod:`raftkv.web.rangereading`).
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial
from typing import TYPE_CHECKING

from twisted.internet.defer import Deferred

from raftkv.errors import BadRequest, FutureRevision, RaftKVError
from raftkv.interfaces import Result
from raftkv.kvstore import commands
from raftkv.web.access import Access, staleness_header
from raftkv.web.documents import json_bytes
from raftkv.web.exchange import JSON, Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.parameters import consistency_of, max_stale_of
from raftkv.web.queries import Parameters, flag_of, number_of, range_of, text_of
from raftkv.web.rangereading import RangePosition, RangeReading, RangeRequest
from raftkv.web.streaming import PieceSource, Streamed
from raftkv.web.tokens import ContinueTokens, not_ours
from raftkv.web.turns import Turns

if TYPE_CHECKING:
    pass


class RangeOperations:
    """Reads and deletes of many keys.

    :param turns: where all ranges have their turns, a step at a time.
    """

    def __init__(self, access: Access, tokens: ContinueTokens, turns: Turns) -> None:
        self._access = access
        self._tokens = tokens
        self._turns = turns

    # -- the endpoints ----------------------------------------------------------------------------------------------

    def get(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/kv``."""
        asked = _Asked(self._request(parameters), parameters)
        if asked.token is not None:
            asked.position = self._position(asked)
        self._read(exchange, parameters, asked)

    def delete(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/kv``."""
        found = self._range(parameters)
        if found is None:
            raise BadRequest("prefix: missing; expected prefix, or start and end (prefix= means every key)")
        self._access.write(exchange, commands.delete_range(*found), _deleted)

    # -- what is asked ----------------------------------------------------------------------------------------------

    def _range(self, parameters: Parameters) -> tuple[bytes, bytes] | None:
        limit = self._access.settings.max_key_bytes
        prefix, start, end = (text_of(parameters, name, limit) for name in ("prefix", "start", "end"))
        return range_of(prefix, start, end)

    def _request(self, parameters: Parameters) -> RangeRequest:
        start, end = self._range(parameters) or (b"", b"")
        delimiter = text_of(parameters, "delimiter", self._access.settings.max_key_bytes)
        if delimiter == b"":
            raise BadRequest("delimiter: must not be empty")
        return RangeRequest(
            start=start,
            end=end,
            reverse=flag_of(parameters, "reverse"),
            keys_only=flag_of(parameters, "keys_only"),
            prefix=parameters.get("prefix", b""),
            delimiter=delimiter or b"",
        )

    def _position(self, asked: _Asked) -> RangePosition:
        token = asked.token or b""
        position = RangePosition(*self._tokens.open(asked.request.identity(), token, (int, int, bytes)))
        is_same = asked.revision in (0, position.revision) and not asked.count_only
        if not is_same or position.revision < 1 or not asked.request.holds(position.place):
            raise not_ours(token)
        return position

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read(self, exchange: Exchange, parameters: Parameters, asked: _Asked) -> None:
        consistency = consistency_of(parameters)
        max_stale = max_stale_of(parameters, consistency)
        key_value = self._access.key_value

        def readable(error: RaftKVError | None) -> None:
            if error is None and self._is_ahead(asked) and not asked.has_caught_up:
                # Another node made the token, and this one has not come so far: that is for the leader to say.
                asked.has_caught_up = True
                key_value.barrier("lease", readable)
            else:
                # Read a little later, the state is a later one, and no less consistent.
                self._turns.soon(lambda: answer(error))

        def answer(error: RaftKVError | None) -> None:
            staleness: Headers = ()
            try:
                if error is not None:
                    raise error
                if consistency == "stale":
                    staleness = staleness_header(key_value.staleness())
                self._answer(exchange, asked, staleness)
            except Exception as problem:
                fail(exchange, problem, staleness)

        key_value.barrier(consistency, readable, max_stale_seconds=max_stale)

    def _is_ahead(self, asked: _Asked) -> bool:
        return asked.position is not None and asked.position.revision > self._access.key_value.revision()

    def _answer(self, exchange: Exchange, asked: _Asked, headers: Headers) -> None:
        state = self._access.key_value.state
        position = asked.position
        revision = asked.revision or state().revision if position is None else position.revision
        if revision > state().revision:
            raise FutureRevision(state().revision)
        reading = RangeReading(
            asked.request,
            state,
            revision=revision,
            limit=asked.limit,
            position=position,
            seal=partial(self._tokens.seal, asked.request.identity()),
        )
        pieces = reading.count_alone() if asked.count_only else reading.pieces()
        first = next(pieces)
        if reading.is_done:
            exchange.answer(Answer(200, JSON + headers, first))
        else:
            drawing = _Drawing(self._access, reading, pieces, first, self._turns)
            exchange.stream(Streamed(200, JSON + headers, PieceSource(drawing.next_piece)))


class _Asked:
    """What one request wants to know.

    :ivar limit: 0 for all.
    :ivar revision: 0 for the present one, or that of the token.
    :ivar has_caught_up: whether the leader was asked how far this node must have come.
    """

    def __init__(self, request: RangeRequest, parameters: Parameters) -> None:
        self.request = request
        self.limit = number_of(parameters, "limit")
        self.revision = number_of(parameters, "revision")
        self.count_only = flag_of(parameters, "count_only")
        self.token = parameters.get("continue")
        self.position: RangePosition | None = None
        self.has_caught_up = False


class _Drawing:
    """The pieces of a large answer, each of which is drawn when the client has room for it."""

    def __init__(
        self, access: Access, reading: RangeReading, pieces: Iterator[bytes], first: bytes, turns: Turns
    ) -> None:
        self._access = access
        self._reading = reading
        self._pieces = pieces
        self._first = first
        self._turns = turns

    def next_piece(self) -> bytes | Deferred[bytes | None] | None:
        """Return the next piece, ``None`` behind the last one.

        It comes a turn of the reactor later: a client that reads as fast as we write is not the only one.
        """
        first, self._first = self._first, b""
        if first:
            return first
        if self._reading.is_done:
            return None
        awaited: Deferred[bytes | None] = Deferred()
        self._turns.later(lambda: self._draw(awaited))
        return awaited

    def _draw(self, awaited: Deferred[bytes | None]) -> None:
        if awaited.called:
            return  # the client has gone

        def readable(error: RaftKVError | None) -> None:
            # What was promised at the beginning holds for the revision; but the node may have been removed since, or
            # its state been found to be wrong.
            try:
                if error is not None:
                    raise error
                piece = next(self._pieces)
            except Exception as problem:
                awaited.errback(problem)
                return
            if piece:
                awaited.callback(piece)
            else:
                self._turns.later(lambda: self._draw(awaited))

        self._access.key_value.barrier("stale", readable)


def _deleted(result: Result) -> Answer:
    return Answer(200, JSON, json_bytes({"deleted": result[2], "revision": result[1]}))
