"""The operations on leases."""

from __future__ import annotations

from raftkv.client.answers import Answer, Fields, fields_of
from raftkv.client.model import GrantedLease, LeaseInfo, LeaseLike, LeasePage, RevokedLease
from raftkv.client.operations.base import (
    JSON_HEADERS,
    Operation,
    Query,
    json_body,
    query_string,
    seconds_number,
    texts,
)
from raftkv.client.results import text_bytes
from raftkv.client.spelling import lease_number, positive


def grant_lease(ttl: float) -> Operation[GrantedLease]:
    """Make a lease.

    :param ttl: seconds until it ends, unless it is kept alive.
    """
    return Operation(
        method="POST",
        target="/v1/leases",
        headers=JSON_HEADERS,
        body=json_body({"ttl": seconds_number("ttl", ttl)}),
        read=_read_granted,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
    )


def keep_alive(lease: LeaseLike, *, queues: bool = True) -> Operation[GrantedLease]:
    """Give a lease its whole time again.

    It goes without a number: the second of two is as good as the first, and the kept answer of a first one would be
    none.

    :param queues: whether it waits for its turn among other calls.
    """
    number = lease_number(lease)
    return Operation(
        method="POST",
        lease=number,
        target=f"/v1/leases/{number}/keepalive",
        read=_read_granted,
        is_write=True,
        idempotent=True,
        prefer_leader=True,
        queues=queues,
    )


def revoke_lease(lease: LeaseLike) -> Operation[RevokedLease]:
    """End a lease with all its keys."""
    number = lease_number(lease)
    return Operation(
        method="DELETE",
        lease=number,
        target=f"/v1/leases/{number}",
        read=_read_revoked,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
    )


def lease_info(lease: LeaseLike, *, limit: int | None = None) -> Operation[LeaseInfo]:
    """Ask what a lease has left, and which keys it holds.

    :param limit: how many of its keys are told at most.
    """
    query: Query = [] if limit is None else [("limit", str(positive("limit", limit)))]
    number = lease_number(lease)
    return Operation(
        method="GET",
        lease=number,
        target=f"/v1/leases/{number}" + query_string(query),
        read=lambda answer: _read_info(fields_of(answer)),
        prefer_leader=True,
    )


def leases(*, limit: int | None = None, continue_from: str | None = None) -> Operation[LeasePage]:
    """Ask which leases there are, a page at a time."""
    query: Query = [] if limit is None else [("limit", str(positive("limit", limit)))]
    if continue_from is not None:
        query.append(("continue", text_bytes(continue_from, "continue_from")))
    return Operation(method="GET", target="/v1/leases" + query_string(query), read=_read_page, prefer_leader=True)


def _read_granted(answer: Answer) -> GrantedLease:
    body = fields_of(answer)
    return GrantedLease(id=body.integer("lease"), ttl=body.number("ttl"))


def _read_revoked(answer: Answer) -> RevokedLease:
    body = fields_of(answer)
    return RevokedLease(deleted=body.integer("deleted"), revision=body.integer("revision"))


def _read_info(body: Fields) -> LeaseInfo:
    keys = body.raw.get("keys") or ()
    if not isinstance(keys, list | tuple):
        raise body.wrong("keys", "a list of strings")
    return LeaseInfo(
        id=body.integer("lease"),
        ttl=body.number("ttl"),
        remaining=body.number("remaining"),
        count=body.integer("count"),
        keys=texts(keys, body, "keys"),
    )


def _read_page(answer: Answer) -> LeasePage:
    body = fields_of(answer)
    return LeasePage(
        leases=tuple(_read_info(lease) for lease in body.objects("leases")),
        count=body.integer("count"),
        next=body.text("continue") if body.has("continue") else None,
    )
