"""The endpoints of leases.

The time that is left of a lease is told by the cluster's clock as the log has it, which lags behind by up to about a
second while nothing is written: a lease ends no earlier than it says.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from raftkv.errors import LeaseNotFound
from raftkv.interfaces import Result
from raftkv.kvstore import commands
from raftkv.kvstore.views import LeaseView
from raftkv.web.access import Access
from raftkv.web.documents import json_bytes, json_object, milliseconds_field, seconds_of
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.operations import TTL_SETTINGS
from raftkv.web.pages import after_of, limit_of, next_of
from raftkv.web.parameters import check_json_type
from raftkv.web.queries import Parameters, number
from raftkv.web.tokens import ContinueTokens

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
            found = state.lease(lease)
            if found is None or found.deadline_ms <= state.cluster_time_ms:
                raise LeaseNotFound(lease)
            keys = [key.decode("utf-8") for key in state.lease_keys(lease, limit=limit)]
            document = {**_lease_document(found, state), "keys": keys, "count": found.keys}
            return Answer(200, JSON, json_bytes(document))

        self._access.read(exchange, parameters, serve)

    def list(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/leases``."""
        limit = limit_of(parameters)
        after = after_of(parameters, self._tokens, "leases", 0)

        def serve(state: Reader) -> Answer:
            found = state.leases(after, limit=limit)
            token = next_of(len(found), limit, found[-1].lease, self._tokens, "leases") if found else None
            now_ms = state.cluster_time_ms
            listed = [
                {**_lease_document(lease, state), "count": lease.keys} for lease in found if lease.deadline_ms > now_ms
            ]
            return Answer(200, JSON, json_bytes({"leases": listed, "count": state.lease_count, "continue": token}))

        self._access.read(exchange, parameters, serve)


def remaining_ms(lease: LeaseView | None, state: Reader) -> int:
    """Return how long a lease has still to live; 0 where there is none, or its time has come."""
    return 0 if lease is None else max(0, lease.deadline_ms - state.cluster_time_ms)


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
