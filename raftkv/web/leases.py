"""The endpoints of leases; what is told of them is put together in :mod:`raftkv.reading.leases`."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from raftkv.interfaces import Result
from raftkv.kvstore import commands
from raftkv.kvstore.views import LeaseView
from raftkv.reading.leases import listed_leases, living_lease, remaining_ms
from raftkv.reading.tokens import ContinueTokens
from raftkv.web.access import Access
from raftkv.web.documents import json_bytes, json_object, milliseconds_field, seconds_of
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.operations import TTL_SETTINGS
from raftkv.web.pages import after_of, limit_of
from raftkv.web.parameters import check_json_type
from raftkv.web.queries import Parameters, number

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

LEASES_PATH: Final = b"/v1/leases/"

_GRANT_FIELDS: Final = frozenset({"ttl"})


class LeaseOperations:
    """Grant, keepalive, revoke, and what there is."""

    def __init__(self, access: Access, tokens: ContinueTokens) -> None:
        self._access = access
        self._tokens = tokens

    def grant(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/leases``."""
        check_json_type(exchange.headers)
        document = json_object(exchange.body, _GRANT_FIELDS)
        limits = self._access.limits
        lowest, highest = limits.min_lease_ttl_seconds, limits.max_lease_ttl_seconds
        ttl_ms = milliseconds_field(document, "ttl", lowest=lowest, highest=highest, settings=TTL_SETTINGS)
        self._access.write(exchange, commands.grant(ttl_ms), partial(_granted, ttl_ms))

    def keep_alive(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/leases/{id}/keepalive``."""
        lease = _lease_of_path(exchange)
        self._access.write(exchange, commands.keepalive(lease), partial(_kept_alive, lease))

    def revoke(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/leases/{id}``."""
        lease = _lease_of_path(exchange)
        self._access.write(exchange, commands.revoke(lease), partial(_revoked, lease))

    def get(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/leases/{id}``."""
        lease = _lease_of_path(exchange)
        limit = limit_of(parameters)

        def serve(state: Reader) -> Answer:
            found = living_lease(state, lease)
            keys = [key.decode("utf-8") for key in state.lease_keys(lease, limit=limit)]
            document = {**_lease_document(found, state), "keys": keys, "count": found.keys}
            return Answer(200, JSON, json_bytes(document))

        self._access.read(exchange, parameters, serve)

    def list(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/leases``."""
        limit = limit_of(parameters)
        after = after_of(parameters, self._tokens, "leases", 0)

        def serve(state: Reader) -> Answer:
            found = listed_leases(state, after, limit)
            token = None if found.last is None else self._tokens.seal(("leases",), (found.last,))
            listed = [{**_lease_document(lease, state), "count": lease.keys} for lease in found.leases]
            return Answer(200, JSON, json_bytes({"leases": listed, "count": state.lease_count, "continue": token}))

        self._access.read(exchange, parameters, serve)


def _lease_of_path(exchange: Exchange) -> int:
    return number("lease", exchange.path[len(LEASES_PATH) :].partition(b"/")[0])


def _lease_document(lease: LeaseView, state: Reader) -> dict[str, object]:
    return {
        "lease": lease.lease,
        "ttl": seconds_of(lease.ttl_ms),
        "remaining": seconds_of(remaining_ms(lease, state)),
    }


def _granted(ttl_ms: int, result: Result) -> Answer:
    return Answer(200, JSON, json_bytes({"lease": result[1], "ttl": seconds_of(ttl_ms)}))


def _kept_alive(lease: int, result: Result) -> Answer:
    return Answer(200, JSON, json_bytes({"lease": lease, "ttl": seconds_of(result[1])}))


def _revoked(lease: int, result: Result) -> Answer:
    return Answer(200, JSON, json_bytes({"lease": lease, "deleted": result[2], "revision": result[1]}))
