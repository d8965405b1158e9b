"""The operations on one key, and those on the store's history."""

from __future__ import annotations

from collections.abc import Callable

from raftkv.client.answers import Answer, fields_of
from raftkv.client.model import Counter, FenceLike, LeaseLike
from raftkv.client.operations.base import (
    JSON_HEADERS,
    RAW,
    Operation,
    Query,
    T,
    fence_headers,
    fence_name,
    json_body,
    path_segment,
    query_string,
    read_query,
    read_record,
    seconds_text,
)
from raftkv.client.results import (
    Consistency,
    Deleted,
    Record,
    UnexpectedAnswer,
    Written,
    key_bytes,
    value_bytes,
)
from raftkv.client.spelling import MAX_INTEGER, lease_number, positive
from raftkv.errors import BadRequest


def set_value(
    key: str | bytes,
    value: str | bytes,
    *,
    if_mod_revision: int | None = None,
    if_exists: bool = False,
    if_absent: bool = False,
    lease: LeaseLike | None = None,
    ttl: float | None = None,
    lock: FenceLike | None = None,
) -> Operation[Written]:
    """Set a key.

    :param if_mod_revision: only if the key's mod revision is this one; 0: only if there is no such key.
    :param if_exists: only if there is such a key.
    :param if_absent: only if there is no such key.
    :param lease: the lease that the key is to hang on.
    :param ttl: seconds after which the key goes, by a lease of its own.
    :param lock: only while this lock is held.
    :raises BadRequest: what is asked for makes no sense.
    """
    encoded = key_bytes(key)
    query: Query = []
    if lease is not None:
        if ttl is not None:
            raise BadRequest("ttl: give either lease or ttl, not both")
        query.append(("lease", str(lease_number(lease))))
    if ttl is not None:
        query.append(("ttl", seconds_text("ttl", ttl)))
    return Operation(
        method="PUT",
        target=_path_of(encoded) + query_string(query),
        headers={
            "Content-Type": RAW,
            **condition_headers(if_mod_revision, if_exists=if_exists, if_absent=if_absent),
            **fence_headers(lock),
        },
        body=value_bytes(value),
        read=_read_written,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        key=encoded,
        lock=fence_name(lock),
        lease=0 if lease is None else lease_number(lease),
    )


def delete_key(
    key: str | bytes,
    *,
    if_mod_revision: int | None = None,
    if_exists: bool = False,
    lock: FenceLike | None = None,
) -> Operation[Deleted]:
    """Delete a key.

    :param if_mod_revision: only if the key's mod revision is this one.
    :param if_exists: only if there is such a key: a missing one is then an error.
    :param lock: only while this lock is held.
    :raises BadRequest: what is asked for makes no sense.
    """
    encoded = key_bytes(key)
    if if_mod_revision == 0:
        raise BadRequest("if_mod_revision: found 0, which stands for a missing key; there is nothing to delete then")
    return Operation(
        method="DELETE",
        target=_path_of(encoded),
        headers={**condition_headers(if_mod_revision, if_exists=if_exists), **fence_headers(lock)},
        read=_read_deleted,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        key=encoded,
        lock=fence_name(lock),
    )


def get_record(
    key: str | bytes,
    consistency: Consistency = "linearizable",
    max_stale: float | None = None,
    revision: int | None = None,
) -> Operation[Record]:
    """Read a key with its revisions.

    :param revision: as it was then.
    :raises BadRequest: what is asked for makes no sense.
    """

    def read(answer: Answer) -> Record:
        return read_record(fields_of(answer), staleness=_read_staleness(answer))

    return _get(key, consistency, max_stale, revision, accept="application/json", read=read)


def get_text(
    key: str | bytes,
    consistency: Consistency = "linearizable",
    max_stale: float | None = None,
    revision: int | None = None,
) -> Operation[str]:
    """Read a value as text; reading the answer raises :exc:`~raftkv.client.results.ValueNotText` where it is none."""

    def read(answer: Answer) -> str:
        return read_record(fields_of(answer)).text

    return _get(key, consistency, max_stale, revision, accept="application/json", read=read)


def get_bytes(
    key: str | bytes,
    consistency: Consistency = "linearizable",
    max_stale: float | None = None,
    revision: int | None = None,
) -> Operation[bytes]:
    """Read a value as it is stored, without the detour over base64."""
    return _get(key, consistency, max_stale, revision, accept=RAW, read=_read_raw)


def increment(key: str | bytes, by: int = 1, *, lock: FenceLike | None = None) -> Operation[Counter]:
    """Add to the decimal number in a value.

    :param by: what to add, which may be negative.
    :param lock: only while this lock is held.
    :raises BadRequest: ``by`` does not fit into 64 bits.
    """
    encoded = key_bytes(key)
    if isinstance(by, bool) or not isinstance(by, int) or not -MAX_INTEGER - 1 <= by <= MAX_INTEGER:
        raise BadRequest(f"by: found {by!r}, expected a whole number of 64 bits")
    return Operation(
        method="POST",
        target="/v1/increment",
        headers={**JSON_HEADERS, **fence_headers(lock)},
        body=json_body({"key": encoded.decode("utf-8"), "by": by}),
        read=_read_counter,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        key=encoded,
        lock=fence_name(lock),
    )


def compact(revision: int) -> Operation[int]:
    """Let go of what was before a revision; its result is the oldest revision that can be read from then on.

    :raises BadRequest: it is no revision.
    """
    return Operation(
        method="POST",
        target="/v1/compact",
        headers=JSON_HEADERS,
        body=json_body({"revision": positive("revision", revision)}),
        read=lambda answer: fields_of(answer).integer("compact_revision"),
        is_write=True,
        sessioned=True,
        prefer_leader=True,
    )


def condition_headers(
    if_mod_revision: int | None, *, if_exists: bool = False, if_absent: bool = False
) -> dict[str, str]:
    """Make the headers that hold a write to a condition.

    :raises BadRequest: a revision below 0, or two conditions at once.
    """
    if (if_mod_revision is not None) + if_exists + if_absent > 1:
        raise BadRequest("if_exists: give only one of if_mod_revision, if_exists and if_absent")
    if if_mod_revision is None:
        return {"If-Match": "*"} if if_exists else {"If-None-Match": "*"} if if_absent else {}
    if isinstance(if_mod_revision, bool) or not isinstance(if_mod_revision, int) or if_mod_revision < 0:
        raise BadRequest(f"if_mod_revision: found {if_mod_revision!r}, expected a whole number that is not negative")
    return {"If-Match": f'"{if_mod_revision}"'} if if_mod_revision else {"If-None-Match": "*"}


def _get(
    key: str | bytes,
    consistency: Consistency,
    max_stale: float | None,
    revision: int | None,
    *,
    accept: str,
    read: Callable[[Answer], T],
) -> Operation[T]:
    encoded = key_bytes(key)
    return Operation(
        method="GET",
        target=_path_of(encoded) + query_string(read_query(consistency, max_stale, revision)),
        headers={"Accept": accept},
        read=read,
        prefer_leader=consistency != "stale",
        key=encoded,
    )


def _path_of(key: bytes) -> str:
    return "/v1/kv/" + path_segment(key)


def _read_written(answer: Answer) -> Written:
    body = fields_of(answer)
    return Written(revision=body.integer("revision"), lease=body.integer("lease") if body.has("lease") else None)


def _read_counter(answer: Answer) -> Counter:
    body = fields_of(answer)
    return Counter(value=body.integer("value"), revision=body.integer("revision"))


def _read_deleted(answer: Answer) -> Deleted:
    body = fields_of(answer)
    return Deleted(deleted=body.boolean("deleted"), revision=body.integer("revision"))


def _read_staleness(answer: Answer) -> float | None:
    try:
        return float(answer.headers.get("x-raft-staleness", ""))
    except ValueError:
        return None


def _read_raw(answer: Answer) -> bytes:
    # Any page of any server would do for raw bytes, so the type is what tells a value from it.
    found = answer.headers.get("content-type", "")
    if found.partition(";")[0].strip().lower() != RAW:
        raise UnexpectedAnswer(answer.status, f"Content-Type: found {found!r}, expected {RAW!r}")
    return answer.body
