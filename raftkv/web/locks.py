"""The endpoints of locks: a request that waits, who holds what, and letting go."""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Any, Final

from raftkv.errors import BadRequest
from raftkv.interfaces import Result
from raftkv.kvstore import commands
from raftkv.kvstore.checking import CommandLimits
from raftkv.kvstore.views import LockView
from raftkv.reading.leases import remaining_ms
from raftkv.reading.tokens import ContinueTokens
from raftkv.web.access import Access
from raftkv.web.documents import json_bytes, json_object, milliseconds_field, number_field, seconds_of
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.operations import TTL_SETTINGS
from raftkv.web.pages import after_of, limit_of, next_of
from raftkv.web.parameters import check_json_type, checked_key, percent_decoded
from raftkv.web.queries import Parameters, number_of

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

LOCKS_PATH: Final = b"/v1/locks/"
TENURE_FIELDS: Final = frozenset({"ttl", "lease", "wait"})

_DEFAULT_TTL_SECONDS: Final = 10.0


class LockOperations:
    """Take, free, and who holds what."""

    def __init__(self, access: Access, tokens: ContinueTokens) -> None:
        self._access = access
        self._tokens = tokens

    def acquire(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/locks/{name}``; the body may be missing."""
        name, text = self._name(exchange)
        check_json_type(exchange.headers)
        document = json_object(exchange.body, TENURE_FIELDS) if exchange.body else {}
        lease, ttl_ms, wait_ms = tenure_of(document, self._access.limits)
        command = commands.lock(name, lease=lease, ttl_ms=ttl_ms, wait_ms=wait_ms)
        self._access.acquire(exchange, command, partial(acquired, text))

    def release(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/locks/{name}``."""
        name, text = self._name(exchange)
        token = number_of(parameters, "token")
        self._access.write(exchange, commands.unlock(name, token=token), partial(released, text))

    def get(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/locks/{name}``."""
        name, text = self._name(exchange)

        def serve(state: Reader) -> Answer:
            return Answer(200, JSON, json_bytes(_lock_document(text, state.lock(name), state)))

        self._access.read(exchange, parameters, serve)

    def list(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/locks``."""
        limit = limit_of(parameters)
        after = after_of(parameters, self._tokens, "locks", b"")

        def serve(state: Reader) -> Answer:
            found = state.locks(after, limit=limit)
            token = next_of(len(found), limit, found[-1].name, self._tokens, "locks") if found else None
            listed = [_lock_document(lock.name.decode("utf-8"), lock, state) for lock in found]
            return Answer(200, JSON, json_bytes({"locks": listed, "continue": token}))

        self._access.read(exchange, parameters, serve)

    def _name(self, exchange: Exchange) -> tuple[bytes, str]:
        name = percent_decoded("name", exchange.path[len(LOCKS_PATH) :])
        return checked_key(name, self._access.settings.max_key_bytes, "name")


def tenure_of(document: dict[str, Any], limits: CommandLimits) -> tuple[int, int, int]:
    """Return the lease that a lock is to be held with, or else its time to live, and how long one would wait.

    :raises BadRequest: they are not as they should be.
    """
    if "lease" in document and "ttl" in document:
        raise BadRequest("ttl: a lock is held either with a lease that exists or with a time to live of its own")
    wait_ms = milliseconds_field(
        document, "wait", lowest=0, highest=limits.max_lock_wait_seconds, settings="limits.maxLockWait", default=0
    )
    if "lease" in document:
        return number_field(document, "lease", lowest=1), 0, wait_ms
    lowest, highest = limits.min_lease_ttl_seconds, limits.max_lease_ttl_seconds
    default = min(max(_DEFAULT_TTL_SECONDS, lowest), highest)
    ttl_ms = milliseconds_field(document, "ttl", lowest=lowest, highest=highest, settings=TTL_SETTINGS, default=default)
    return 0, ttl_ms, wait_ms


def holder_of(lock: LockView | None, state: Reader) -> tuple[LockView, int] | None:
    """Return a lock and how many milliseconds its lease has left; ``None`` where it is free, or about to be."""
    left_ms = 0 if lock is None else remaining_ms(state.lease(lock.lease), state)
    return (lock, left_ms) if lock is not None and left_ms else None


def acquired(text: str, result: Result) -> Answer:
    """Make the answer to who has got a lock."""
    return Answer(200, JSON, json_bytes({"name": text, "token": result[1], "lease": result[2]}))


def released(text: str, result: Result) -> Answer:
    """Make the answer to who has freed one."""
    return Answer(200, JSON, json_bytes({"name": text, "released": bool(result[2]), "revision": result[1]}))


def _lock_document(text: str, lock: LockView | None, state: Reader) -> dict[str, object]:
    holder = holder_of(lock, state)
    return {
        "name": text,
        "token": holder[0].token if holder else None,
        "lease": holder[0].lease if holder else None,
        "remaining": seconds_of(holder[1]) if holder else None,
        "waiting": 0 if lock is None else lock.waiting,
    }
