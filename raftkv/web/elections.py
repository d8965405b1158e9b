"""The endpoints of elections: a lock, and a key that shows who holds it.

The lock ``elections/{name}`` is taken, kept and freed like any other; the key of the same name appears in the revision
that is its token, and goes with it.
"""

from __future__ import annotations

from functools import partial
from typing import TYPE_CHECKING, Final

from raftkv.errors import BadRequest
from raftkv.interfaces import Result
from raftkv.kvstore import commands
from raftkv.web.access import Access
from raftkv.web.documents import json_bytes, json_object, record_document, seconds_of, value_field
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.locks import TENURE_FIELDS, acquired, holder_of, released, tenure_of
from raftkv.web.parameters import check_json_type, checked_key, percent_decoded
from raftkv.web.queries import Parameters, number_of

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

ELECTIONS_PATH: Final = b"/v1/elections/"
ELECTION_PREFIX: Final = b"elections/"  #: of the lock, and of the key

_VALUE_FIELDS: Final = frozenset({"value", "value_base64"})
_CAMPAIGN_FIELDS: Final = _VALUE_FIELDS | TENURE_FIELDS


class ElectionOperations:
    """Campaign, proclaim, resign, and who is elected."""

    def __init__(self, access: Access) -> None:
        self._access = access

    def campaign(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/elections/{name}``; the body may be missing."""
        name, text = self._name(exchange)
        check_json_type(exchange.headers)
        document = json_object(exchange.body, _CAMPAIGN_FIELDS) if exchange.body else {}
        value = b""
        if not _VALUE_FIELDS.isdisjoint(document):
            value = value_field(document, self._access.settings.max_value_bytes)
        lease, ttl_ms, wait_ms = tenure_of(document, self._access.limits)
        command = commands.lock(name, lease=lease, ttl_ms=ttl_ms, wait_ms=wait_ms, key=name, value=value)
        self._access.acquire(exchange, command, partial(acquired, text))

    def proclaim(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``PUT /v1/elections/{name}``."""
        name, text = self._name(exchange)
        token = number_of(parameters, "token")
        if not token:
            raise BadRequest("token: missing; expected the query parameter token=T")
        check_json_type(exchange.headers)
        value = value_field(json_object(exchange.body, _VALUE_FIELDS), self._access.settings.max_value_bytes)
        # The key has the lock's lease, and must keep it: a key that somebody has deleted would come back without.
        shown = commands.put(name, value, commands.EXISTS, lease=commands.KEEP_LEASE)
        self._access.write(exchange, commands.fenced(name, token, shown), partial(_proclaimed, text))

    def resign(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/elections/{name}``."""
        name, text = self._name(exchange)
        token = number_of(parameters, "token")
        self._access.write(exchange, commands.unlock(name, token=token), partial(released, text))

    def get(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/elections/{name}``."""
        name, text = self._name(exchange)

        def serve(state: Reader) -> Answer:
            lock = state.lock(name)
            holder = holder_of(lock, state)
            record = state.get(name)
            leader: dict[str, object] | None = None
            if holder is not None:
                is_shown = record is not None and record[4] == holder[0].lease
                shown = record_document("", record) if record is not None and is_shown else {"value": None}
                leader = {field: shown[field] for field in ("value", "value_base64") if field in shown}
                leader |= {"token": holder[0].token, "lease": holder[0].lease, "remaining": seconds_of(holder[1])}
            candidates = 0 if lock is None else lock.waiting
            return Answer(200, JSON, json_bytes({"name": text, "leader": leader, "candidates": candidates}))

        self._access.read(exchange, parameters, serve)

    def _name(self, exchange: Exchange) -> tuple[bytes, str]:
        """Return the name of the lock, and that of the election."""
        name = percent_decoded("name", exchange.path[len(ELECTIONS_PATH) :])
        room = self._access.settings.max_key_bytes - len(ELECTION_PREFIX)
        _, text = checked_key(name, room, "name")
        return ELECTION_PREFIX + name, text


def _proclaimed(text: str, result: Result) -> Answer:
    return Answer(200, JSON, json_bytes({"name": text, "revision": result[1]}))
