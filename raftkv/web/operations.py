"""The operations on single keys: a request in, its answer out, the same for both lanes.

Knows the store through :class:`raftkv.web.access.Access`; leaves to others how requests are read, routed and answered.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import TYPE_CHECKING, Any, Final

import orjson

from raftkv.errors import BadRequest, KeyNotFound, PreconditionFailed
from raftkv.interfaces import Command, Record, Result
from raftkv.kvstore import commands
from raftkv.web.access import Access
from raftkv.web.documents import (
    LINE,
    check_value,
    json_object,
    milliseconds_field,
    number_field,
    record_document,
    text_field,
    value_field,
)
from raftkv.web.exchange import JSON, Answer, Exchange, Headers
from raftkv.web.parameters import (
    check_encoding,
    check_json_type,
    checked_key,
    entity_tag,
    expectation_of,
    percent_decoded,
    refuse_conditions,
    tag_is_listed,
    wants_raw_bytes,
)
from raftkv.web.queries import Parameters, milliseconds_of, number_of

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

KEY_PREFIX: Final = b"/v1/kv/"
TTL_SETTINGS: Final = "limits.minLeaseTTL and limits.maxLeaseTTL"

_RAW: Final[Headers] = ((b"Content-Type", b"application/octet-stream"), (b"X-Content-Type-Options", b"nosniff"))
_SET_FIELDS: Final = frozenset({"key", "value", "value_base64", "lease", "ttl"})
_INCREMENT_FIELDS: Final = frozenset({"key", "by"})
_LOWEST_INTEGER: Final = -(2**63)


class KeyValueOperations:
    """Reads and writes of single keys."""

    def __init__(self, access: Access) -> None:
        self._access = access
        self._max_key_bytes = access.settings.max_key_bytes
        self._max_value_bytes = access.settings.max_value_bytes

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
        lease, ttl_ms = self._tenure_of(document) if len(document) > 2 else (0, 0)
        command = commands.put(key, value, lease=lease, ttl_ms=ttl_ms)
        self._access.write_checked(exchange, command, partial(_set_answer, text))

    def delete(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /delete?key=K``."""
        refuse_conditions(exchange.headers)
        key, text = self._key_parameter(parameters)
        self._access.write_checked(exchange, commands.delete(key), partial(_delete_answer, text))

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
        if parameters:
            command = self._with_tenure(command, parameters)
        self._access.write_checked(exchange, command, partial(_set_answer, text))

    def delete_key(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/kv/{key}``."""
        key, text = self._key_of_path(exchange)
        if b"if-none-match" in exchange.headers:
            raise BadRequest("If-None-Match: has no meaning for a DELETE; use If-Match")
        command = commands.delete(key, expectation_of(exchange.headers))
        self._access.write_checked(exchange, command, partial(_delete_answer, text))

    def increment(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/increment``."""
        check_json_type(exchange.headers)
        document = json_object(exchange.body, _INCREMENT_FIELDS)
        text = text_field(document, "key")
        key, _ = checked_key(text.encode("utf-8"), self._max_key_bytes)
        by = number_field(document, "by", lowest=_LOWEST_INTEGER, default=1)
        self._access.write(exchange, commands.increment(key, by), partial(_increment_answer, text))

    # -- what they share --------------------------------------------------------------------------------------------

    def _key_parameter(self, parameters: Parameters) -> tuple[bytes, str]:
        key = parameters.get("key")
        if key is None:
            raise BadRequest("key: missing; expected the query parameter key=K")
        return checked_key(key, self._max_key_bytes)

    def _key_of_path(self, exchange: Exchange) -> tuple[bytes, str]:
        # From the raw path: routers merge slashes and cannot tell a%2Fb from a/b.
        return checked_key(percent_decoded("key", exchange.path[len(KEY_PREFIX) :]), self._max_key_bytes)

    def _tenure_of(self, document: dict[str, Any]) -> tuple[int, int]:
        """Return the lease of a put and its time to live, 0 where there is none."""
        if "lease" in document and "ttl" in document:
            raise BadRequest("ttl: a key has either a lease or a time to live of its own")
        if "ttl" not in document:
            return number_field(document, "lease", lowest=0, default=0), 0
        limits = self._access.limits
        lowest, highest = limits.min_lease_ttl_seconds, limits.max_lease_ttl_seconds
        return 0, milliseconds_field(document, "ttl", lowest=lowest, highest=highest, settings=TTL_SETTINGS)

    def _with_tenure(self, command: Command, parameters: Parameters) -> Command:
        if len(parameters) > 1:
            raise BadRequest("ttl: a key has either a lease or a time to live of its own")
        limits = self._access.limits
        lowest, highest = limits.min_lease_ttl_seconds, limits.max_lease_ttl_seconds
        ttl_ms = milliseconds_of(parameters, "ttl", lowest=lowest, highest=highest, settings=TTL_SETTINGS)
        lease = number_of(parameters, "lease", lowest=0)
        _, _, key, value, *expect = command
        return commands.put(key, value, *expect, lease=lease, ttl_ms=ttl_ms)

    def _read(
        self,
        exchange: Exchange,
        key: bytes,
        text: str,
        parameters: Parameters,
        render: Callable[[Exchange, str, Record], Answer],
    ) -> None:
        revision = number_of(parameters, "revision") if "revision" in parameters else 0

        def serve(state: Reader) -> Answer:
            record = state.get(key, revision)
            if record is None:
                raise KeyNotFound(key)
            return render(exchange, text, record)

        self._access.read(exchange, parameters, serve)


def _plain_answer(exchange: Exchange, text: str, record: Record) -> Answer:
    return Answer(200, JSON, orjson.dumps(record_document(text, record), None, LINE))


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
    return Answer(200, JSON + validators, orjson.dumps(record_document(text, record), None, LINE))


def _set_answer(text: str, result: Result) -> Answer:
    document = {"key": text, "revision": result[1]}
    if len(result) > 2:
        document["lease"] = result[2]  # the one that was made for this key
    return Answer(200, JSON, orjson.dumps(document, None, LINE))


def _delete_answer(text: str, result: Result) -> Answer:
    return Answer(200, JSON, orjson.dumps({"key": text, "deleted": bool(result[2]), "revision": result[1]}, None, LINE))


def _increment_answer(text: str, result: Result) -> Answer:
    return Answer(200, JSON, orjson.dumps({"key": text, "value": result[2], "revision": result[1]}, None, LINE))
