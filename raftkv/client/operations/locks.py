"""The operations on locks and on elections, which are locks that show a value."""

from __future__ import annotations

from typing import Any

from raftkv.client.answers import Answer, Fields, fields_of
from raftkv.client.model import ElectionInfo, HeldLock, Leader, LeaseLike, LockInfo, LockPage, Unlocked
from raftkv.client.operations.base import (
    JSON_HEADERS,
    Operation,
    Query,
    json_body,
    path_segment,
    query_string,
    read_value,
    seconds_number,
    value_fields,
)
from raftkv.client.results import key_bytes, text_bytes, value_bytes
from raftkv.client.spelling import lease_number, positive

ELECTIONS = "elections/"  #: begins the name of the lock, and the key, of every election


def lock(
    name: str | bytes, *, ttl: float | None = None, lease: LeaseLike | None = None, wait: float = 0.0
) -> Operation[HeldLock]:
    """Ask for a lock.

    :param ttl: seconds until it is free again, unless its lease is kept alive.
    :param lease: the lease to hold it with, in place of ``ttl``.
    :param wait: seconds to wait for it.
    """
    return _ask("/v1/locks/", name, {}, ttl=ttl, lease=lease, wait=wait)


def unlock(name: str | bytes, *, token: int | None = None) -> Operation[Unlocked]:
    """Free a lock.

    :param token: with which it is held; ``None`` takes it from whoever holds it.
    """
    encoded = key_bytes(name, "name")
    query: Query = [] if token is None else [("token", str(positive("token", token)))]
    return Operation(
        method="DELETE",
        target="/v1/locks/" + path_segment(encoded) + query_string(query),
        read=_read_unlocked,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=encoded,
    )


def lock_info(name: str | bytes) -> Operation[LockInfo]:
    """Ask who holds a lock."""
    encoded = key_bytes(name, "name")
    return Operation(
        method="GET",
        target="/v1/locks/" + path_segment(encoded),
        read=lambda answer: _read_lock_info(fields_of(answer)),
        prefer_leader=True,
        lock=encoded,
    )


def locks(*, limit: int | None = None, continue_from: str | None = None) -> Operation[LockPage]:
    """Ask which locks are held, a page at a time."""
    query: Query = [] if limit is None else [("limit", str(positive("limit", limit)))]
    if continue_from is not None:
        query.append(("continue", text_bytes(continue_from, "continue_from")))
    return Operation(method="GET", target="/v1/locks" + query_string(query), read=_read_locks, prefer_leader=True)


def campaign(
    name: str | bytes,
    value: str | bytes,
    *,
    ttl: float | None = None,
    lease: LeaseLike | None = None,
    wait: float = 0.0,
) -> Operation[HeldLock]:
    """Ask to be elected; see :func:`lock`.

    :param value: what to proclaim once elected.
    """
    return _ask("/v1/elections/", name, dict(value_fields(value_bytes(value))), ttl=ttl, lease=lease, wait=wait)


def proclaim(name: str | bytes, value: str | bytes, *, token: int) -> Operation[int]:
    """Proclaim another value while elected; its result is the revision."""
    encoded = key_bytes(name, "name")
    return Operation(
        method="PUT",
        target=f"/v1/elections/{path_segment(encoded)}?token={positive('token', token)}",
        headers=JSON_HEADERS,
        body=json_body(value_fields(value_bytes(value))),
        read=lambda answer: fields_of(answer).integer("revision"),
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=encoded,
    )


def resign(name: str | bytes, *, token: int) -> Operation[Unlocked]:
    """Give the leadership of an election up."""
    encoded = key_bytes(name, "name")
    return Operation(
        method="DELETE",
        target=f"/v1/elections/{path_segment(encoded)}?token={positive('token', token)}",
        read=_read_unlocked,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=encoded,
    )


def election_info(name: str | bytes) -> Operation[ElectionInfo]:
    """Ask who is elected."""
    encoded = key_bytes(name, "name")
    return Operation(
        method="GET",
        target="/v1/elections/" + path_segment(encoded),
        read=_read_election,
        prefer_leader=True,
        lock=encoded,
    )


def _ask(
    path: str,
    name: str | bytes,
    document: dict[str, Any],
    *,
    ttl: float | None,
    lease: LeaseLike | None,
    wait: float,
) -> Operation[HeldLock]:
    encoded = key_bytes(name, "name")
    number = 0 if lease is None else lease_number(lease)
    if number:
        document["lease"] = number
    elif ttl is not None:
        document["ttl"] = seconds_number("ttl", ttl)
    if seconds_number("wait", wait, at_least=0) > 0:
        document["wait"] = round(wait, 3)
    return Operation(
        method="POST",
        target=path + path_segment(encoded),
        headers=JSON_HEADERS,
        body=json_body(document),
        read=_read_held,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=encoded,
        lease=number,
        queues=wait <= 0,
        wait_seconds=wait,
    )


def _read_held(answer: Answer) -> HeldLock:
    body = fields_of(answer)
    return HeldLock(name=body.text("name"), token=body.integer("token"), lease=body.integer("lease"))


def _read_unlocked(answer: Answer) -> Unlocked:
    body = fields_of(answer)
    return Unlocked(released=body.boolean("released"), revision=body.integer("revision"))


def _read_lock_info(body: Fields) -> LockInfo:
    return LockInfo(
        name=body.text("name"),
        token=body.integer("token") if body.has("token") else None,
        lease=body.integer("lease") if body.has("lease") else None,
        remaining=body.number("remaining") if body.has("remaining") else None,
        waiting=body.integer("waiting"),
    )


def _read_locks(answer: Answer) -> LockPage:
    body = fields_of(answer)
    return LockPage(
        locks=tuple(_read_lock_info(found) for found in body.objects("locks")),
        next=body.text("continue") if body.has("continue") else None,
    )


def _read_election(answer: Answer) -> ElectionInfo:
    body = fields_of(answer)
    leader = body.object("leader") if body.has("leader") else None
    return ElectionInfo(
        name=body.text("name"),
        leader=None if leader is None else _read_leader(leader),
        candidates=body.integer("candidates"),
    )


def _read_leader(body: Fields) -> Leader:
    return Leader(
        # Null where somebody has deleted the key that shows it.
        value=read_value(body) if body.has("value") or body.has("value_base64") else b"",
        token=body.integer("token"),
        lease=body.integer("lease"),
        remaining=body.number("remaining") if body.has("remaining") else None,
    )
