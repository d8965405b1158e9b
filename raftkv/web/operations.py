"""The key-value operations of the HTTP API: a request in, its answer out, the same for both lanes.

Callback style: no Deferred and no coroutine for each request. Knows the store through
:class:`raftkv.interfaces.IKeyValue`; leaves to others how requests are read, routed and answered.
"""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping, Sequence
from typing import Final

import orjson

from raftkv.errors import (
    BadRequest,
    InvariantViolation,
    KeyNotFound,
    PreconditionFailed,
    RaftKVError,
    SequenceReused,
    SequenceTooOld,
)
from raftkv.interfaces import Command, IKeyValue, Record, Result
from raftkv.kvstore import commands
from raftkv.web.documents import LINE, check_value, json_object, record_document, text_field, value_field
from raftkv.web.exchange import JSON, Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.parameters import (
    check_encoding,
    check_json_type,
    checked_key,
    consistency_of,
    entity_tag,
    expectation_of,
    max_stale_of,
    percent_decoded,
    refuse_conditions,
    session_of,
    tag_is_listed,
    wants_raw_bytes,
)
from raftkv.web.settings import WebSettings

KEY_PREFIX: Final = b"/v1/kv/"

Parameters = Mapping[str, bytes]

_RAW: Final[Headers] = ((b"Content-Type", b"application/octet-stream"), (b"X-Content-Type-Options", b"nosniff"))
_SET_FIELDS: Final = frozenset({"key", "value", "value_base64"})


class KeyValueOperations:
    """Reads and writes of single keys."""

    def __init__(self, key_value: IKeyValue, settings: WebSettings) -> None:
        self._key_value = key_value
        self._max_key_bytes = settings.max_key_bytes
        self._max_value_bytes = settings.max_value_bytes

    # -- the endpoints ----------------------------------------------------------------------------------------------

    def get(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /get?key=K``."""
        key, text = self._key_parameter(parameters)
        self._read(exchange, key, text, parameters, _plain_answer)

    def set(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /set``."""
        headers = exchange.headers
        check_json_type(headers)
        refuse_conditions(headers)
        document = json_object(exchange.body, _SET_FIELDS)
        text = text_field(document, "key")
        key, _ = checked_key(text.encode("utf-8"), self._max_key_bytes)
        value = value_field(document, self._max_value_bytes)
        self._write(exchange, text, commands.put(key, value), _set_answer)

    def delete(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /delete?key=K``."""
        refuse_conditions(exchange.headers)
        key, text = self._key_parameter(parameters)
        self._write(exchange, text, commands.delete(key), _delete_answer)

    def get_key(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/kv/{key}``."""
        key, text = self._key_of_path(exchange)
        self._read(exchange, key, text, parameters, _tagged_answer)

    def put_key(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``PUT /v1/kv/{key}``."""
        key, text = self._key_of_path(exchange)
        check_encoding(exchange.headers)
        check_value(exchange.body, self._max_value_bytes)
        command = commands.put(key, exchange.body, expectation_of(exchange.headers))
        self._write(exchange, text, command, _set_answer)

    def delete_key(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/kv/{key}``."""
        key, text = self._key_of_path(exchange)
        if b"if-none-match" in exchange.headers:
            raise BadRequest("If-None-Match: has no meaning for a DELETE; use If-Match")
        command = commands.delete(key, expectation_of(exchange.headers))
        self._write(exchange, text, command, _delete_answer)

    # -- what they share --------------------------------------------------------------------------------------------

    def _key_parameter(self, parameters: Parameters) -> tuple[bytes, str]:
        key = parameters.get("key")
        if key is None:
            raise BadRequest("key: missing; expected the query parameter key=K")
        return checked_key(key, self._max_key_bytes)

    def _key_of_path(self, exchange: Exchange) -> tuple[bytes, str]:
        # From the raw path: routers merge slashes and cannot tell a%2Fb from a/b.
        return checked_key(percent_decoded("key", exchange.path[len(KEY_PREFIX) :]), self._max_key_bytes)

    def _read(
        self,
        exchange: Exchange,
        key: bytes,
        text: str,
        parameters: Parameters,
        render: Callable[[Exchange, str, Record], Answer],
    ) -> None:
        consistency = consistency_of(parameters)
        max_stale = max_stale_of(parameters, consistency)

        def readable(error: RaftKVError | None) -> None:
            staleness: Headers = ()
            # Whatever goes wrong here is this request's matter, not that of whoever called us back.
            try:
                if error is not None:
                    raise error
                if consistency == "stale":
                    staleness = _staleness_header(self._key_value.staleness())
                record = self._key_value.get(key)
                if record is None:
                    raise KeyNotFound(key)
                answer = render(exchange, text, record)
                exchange.answer(answer._replace(headers=answer.headers + staleness) if staleness else answer)
            except Exception as problem:
                fail(exchange, problem, staleness)

        self._key_value.barrier(consistency, readable, max_stale_seconds=max_stale)

    def _write(self, exchange: Exchange, text: str, command: Command, render: Callable[[str, Result], Answer]) -> None:
        session = session_of(exchange.headers)
        if session is not None:
            command = commands.in_session(session[0], session[1], command)

        exchange.body = b""  # the command has what it needs of it

        def written(outcome: Sequence[Result] | RaftKVError) -> None:
            try:
                if isinstance(outcome, RaftKVError):
                    raise outcome
                (result,) = outcome
                if result[0] != commands.OK:
                    raise _refusal(result)
                exchange.answer(render(text, result))
            except Exception as problem:
                fail(exchange, problem)

        self._key_value.write((command,), written)


def _staleness_header(seconds: float | None) -> Headers:
    """Return the header that says how old the state is that was read; rounded up, for it is a bound."""
    value = b"unknown" if seconds is None else b"%.3f" % (math.ceil(seconds * 1000) / 1000)
    return ((b"X-Raft-Staleness", value),)


def _plain_answer(exchange: Exchange, text: str, record: Record) -> Answer:
    return Answer(200, JSON, record_document(text, record))


def _tagged_answer(exchange: Exchange, text: str, record: Record) -> Answer:
    headers = exchange.headers
    tag = entity_tag(record[2])
    if b"if-match" in headers and not tag_is_listed(headers[b"if-match"], tag, weakly=False):
        raise PreconditionFailed(record[2])
    # The two forms of one record share the tag, so a cache must be told what else the answer depends on.
    validators = ((b"ETag", tag), (b"Vary", b"Accept"))
    if b"if-none-match" in headers and tag_is_listed(headers[b"if-none-match"], tag, weakly=True):
        return Answer(304, validators, b"")
    if b"accept" in headers and wants_raw_bytes(headers):
        return Answer(200, _RAW + validators, record[0])
    return Answer(200, JSON + validators, record_document(text, record))


def _set_answer(text: str, result: Result) -> Answer:
    return Answer(200, JSON, orjson.dumps({"key": text, "revision": result[1]}, None, LINE))


def _delete_answer(text: str, result: Result) -> Answer:
    return Answer(200, JSON, orjson.dumps({"key": text, "deleted": bool(result[2]), "revision": result[1]}, None, LINE))


def _refusal(result: Result) -> Exception:
    """Return the error that an answer of the state machine stands for."""
    if result[0] == commands.PRECONDITION_FAILED:
        return PreconditionFailed(result[1])
    if result[0] == commands.SEQUENCE_TOO_OLD:
        return SequenceTooOld()
    if result[0] == commands.SEQUENCE_REUSED:
        return SequenceReused()
    return InvariantViolation(f"the state machine answered a write of a key with {result!r}")
