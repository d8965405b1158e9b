"""The endpoints that change who is in the cluster and who leads it.

What a change may hold is checked where it is carried out, so that every way in has the same rules; here is only how it
is spelled in HTTP.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from raftkv.errors import BadRequest
from raftkv.interfaces import INode
from raftkv.web.documents import json_bytes, json_object
from raftkv.web.exchange import JSON, Answer, Exchange
from raftkv.web.failures import fail
from raftkv.web.parameters import check_json_type, percent_decoded, refuse_lock, shown
from raftkv.web.queries import Parameters, flag_of

MEMBERS_PATH: Final = b"/v1/cluster/members/"

_CHANGE_FIELDS: Final = frozenset(
    ("id", "raft_addr", "rpc_addr", "http_addr", "role", "add", "remove", "promote", "demote", "force")
)


class MemberOperations:
    """Each of them is answered once it is done, by whichever node was asked."""

    def __init__(self, node: INode) -> None:
        self._node = node

    def change(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/cluster/members``."""
        refuse_lock(exchange.headers)
        check_json_type(exchange.headers)
        _answer_when_done(exchange, self._node.change_members(json_object(exchange.body, _CHANGE_FIELDS)))

    def remove(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``DELETE /v1/cluster/members/{id}``."""
        refuse_lock(exchange.headers)
        document = {"remove": [_member_of_path(exchange)], "force": flag_of(parameters, "force")}
        _answer_when_done(exchange, self._node.change_members(document))

    def promote(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/cluster/members/{id}/promote``."""
        refuse_lock(exchange.headers)
        document = {"promote": [_member_of_path(exchange)], "force": flag_of(parameters, "force")}
        _answer_when_done(exchange, self._node.change_members(document))

    def transfer(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``POST /v1/cluster/transfer-leadership``; the body may be missing."""
        refuse_lock(exchange.headers)
        check_json_type(exchange.headers)
        document = json_object(exchange.body, ("to",)) if exchange.body else {}
        _answer_when_done(exchange, self._node.transfer_leadership(document))


def _member_of_path(exchange: Exchange) -> str:
    raw = exchange.path[len(MEMBERS_PATH) :].partition(b"/")[0]
    try:
        return percent_decoded("id", raw).decode("utf-8")
    except UnicodeDecodeError:
        raise BadRequest(f"id: not valid UTF-8: {shown(raw)}") from None


def _answer_when_done(exchange: Exchange, done: Deferred[dict[str, Any]]) -> None:
    def answered(document: dict[str, Any]) -> None:
        exchange.answer(Answer(200, JSON, json_bytes(document)))

    def failed(failure: Failure) -> None:
        problem = failure.value
        fail(exchange, problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))

    done.addCallback(answered).addErrback(failed)
