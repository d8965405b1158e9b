"""The endpoints of ranges: ``GET`` and ``DELETE /v1/kv``.

A range is read at one revision, that of its first page; a small answer is made at once, and a large one leaves in
pieces as the client reads them (:mod:`raftkv.web.rangereading`). When it may be read is told by
:mod:`raftkv.reading.opening`.
"""

from __future__ import annotations

from collections.abc import Iterator
from functools import partial

from twisted.internet.defer import Deferred

from raftkv.errors import BadRequest, RaftKVError
from raftkv.interfaces import Result
from raftkv.kvstore import commands
from raftkv.kvstore.checking import named_range
from raftkv.reading.opening import RangeQuestion, Ranges
from raftkv.reading.ranges import RangePosition, RangeRequest
from raftkv.web.access import Access, staleness_header
from raftkv.web.documents import json_bytes
from raftkv.web.exchange import JSON, Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.parameters import consistency_of, max_stale_of
from raftkv.web.queries import Parameters, flag_of, number_of, text_of
from raftkv.web.rangereading import RangeReading
from raftkv.web.streaming import PieceSource, Streamed


class RangeOperations:
    """Reads and deletes of many keys."""

    def __init__(self, access: Access, ranges: Ranges) -> None:
        self._access = access
        self._ranges = ranges

    # -- the endpoints ----------------------------------------------------------------------------------------------

    def get(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/kv``."""
        question = RangeQuestion(
            request=self._request(parameters),
            limit=number_of(parameters, "limit"),
            revision=number_of(parameters, "revision"),
            count_only=flag_of(parameters, "count_only"),
            token=parameters.get("continue"),
        )
        self._read(exchange, parameters, question, self._ranges.position_of(question))

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
        return named_range(prefix, start, end)

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

    # -- reading ----------------------------------------------------------------------------------------------------

    def _read(
        self, exchange: Exchange, parameters: Parameters, question: RangeQuestion, position: RangePosition | None
    ) -> None:
        consistency = consistency_of(parameters)
        max_stale = max_stale_of(parameters, consistency)

        def answer(error: RaftKVError | None) -> None:
            staleness: Headers = ()
            try:
                if error is not None:
                    raise error
                if consistency == "stale":
                    staleness = staleness_header(self._access.key_value.staleness())
                self._answer(exchange, question, position, staleness)
            except Exception as problem:
                fail(exchange, problem, staleness)

        self._ranges.when_readable(position, consistency, max_stale, answer)

    def _answer(
        self, exchange: Exchange, question: RangeQuestion, position: RangePosition | None, headers: Headers
    ) -> None:
        reading = RangeReading(
            self._ranges.begin(question, position),
            limit=question.limit,
            seal=partial(self._ranges.seal, question.request),
        )
        pieces = reading.count_alone() if question.count_only else reading.pieces()
        first = next(pieces)
        if reading.is_done:
            exchange.answer(Answer(200, JSON + headers, first))
        else:
            drawing = _Drawing(self._ranges, reading, pieces, first)
            exchange.stream(Streamed(200, JSON + headers, PieceSource(drawing.next_piece)))


class _Drawing:
    """The pieces of a large answer, each of which is drawn when the client has room for it."""

    def __init__(self, ranges: Ranges, reading: RangeReading, pieces: Iterator[bytes], first: bytes) -> None:
        self._ranges = ranges
        self._reading = reading
        self._pieces = pieces
        self._first = first

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
        self._draw_later(awaited)
        return awaited

    def _draw_later(self, awaited: Deferred[bytes | None]) -> None:
        def readable(error: RaftKVError | None) -> None:
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
                self._draw_later(awaited)

        self._ranges.go_on(readable, is_wanted=lambda: not awaited.called)  # or else the client has gone


def _deleted(result: Result) -> Answer:
    return Answer(200, JSON, json_bytes({"deleted": result[2], "revision": result[1]}))
