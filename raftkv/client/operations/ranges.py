"""The operations on ranges of keys."""

from __future__ import annotations

from collections.abc import Mapping

from raftkv.client.answers import Answer, Fields, fields_of
from raftkv.client.model import DeletedRange, FenceLike, Page
from raftkv.client.operations.base import (
    Operation,
    Query,
    fence_headers,
    fence_name,
    query_string,
    range_fields,
    read_query,
    read_record,
    texts,
)
from raftkv.client.results import Consistency, key_bytes, text_bytes
from raftkv.client.spelling import positive
from raftkv.errors import BadRequest

_JSON_ONLY: Mapping[str, str] = {"Accept": "application/json"}


def page(
    *,
    prefix: str | bytes | None = None,
    start: str | bytes | None = None,
    end: str | bytes | None = None,
    limit: int | None = None,
    continue_from: str | None = None,
    reverse: bool = False,
    keys_only: bool = False,
    delimiter: str | None = None,
    revision: int | None = None,
    consistency: Consistency = "linearizable",
    max_stale: float | None = None,
) -> Operation[Page]:
    """Read a page of a range.

    :param limit: at most so many keys and folders; ``None``: all there are.
    :param continue_from: ``next`` of the page before; all else must be as it was, but for ``limit``.
    :param delimiter: tell what lies behind it as folders, one level deep.
    :param revision: as it was then.
    :raises BadRequest: what is asked for makes no sense.
    """
    query: Query = list(range_fields(prefix, start, end).items())
    if limit is not None:
        query.append(("limit", str(positive("limit", limit))))
    if continue_from is not None:
        query.append(("continue", text_bytes(continue_from, "continue_from")))
    query += [(name, "true") for name, given in (("reverse", reverse), ("keys_only", keys_only)) if given]
    if delimiter is not None:
        query.append(("delimiter", key_bytes(delimiter, "delimiter")))
    query += read_query(consistency, max_stale, revision)
    return Operation(
        method="GET",
        target="/v1/kv" + query_string(query),
        headers=_JSON_ONLY,
        read=lambda answer: read_page(fields_of(answer), with_values=not keys_only),
        prefer_leader=consistency != "stale",
    )


def count(
    *,
    prefix: str | bytes | None = None,
    start: str | bytes | None = None,
    end: str | bytes | None = None,
    revision: int | None = None,
    consistency: Consistency = "linearizable",
    max_stale: float | None = None,
) -> Operation[int]:
    """Count the keys of a range.

    :raises BadRequest: what is asked for makes no sense.
    """
    query: Query = [*range_fields(prefix, start, end).items(), ("count_only", "true")]
    return Operation(
        method="GET",
        target="/v1/kv" + query_string(query + read_query(consistency, max_stale, revision)),
        headers=_JSON_ONLY,
        read=lambda answer: fields_of(answer).integer("count"),
        prefer_leader=consistency != "stale",
    )


def delete_range(
    *,
    prefix: str | bytes | None = None,
    start: str | bytes | None = None,
    end: str | bytes | None = None,
    lock: FenceLike | None = None,
) -> Operation[DeletedRange]:
    """Delete a range, in one revision.

    :raises BadRequest: nothing says which; an empty ``prefix`` is every key.
    """
    fields = range_fields(prefix, start, end)
    if not fields:
        raise BadRequest("prefix: give prefix, start or end; prefix='' is every key")
    return Operation(
        method="DELETE",
        target="/v1/kv" + query_string(list(fields.items())),
        headers=fence_headers(lock),
        read=_read_deleted_range,
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=fence_name(lock),
    )


def read_page(body: Fields, *, with_values: bool = True) -> Page:
    """Read a page, of an answer or of a transaction's results."""
    folders = body.raw.get("folders") or ()
    if not isinstance(folders, list | tuple):
        raise body.wrong("folders", "a list of strings")
    return Page(
        records=tuple(read_record(record, with_value=with_values) for record in body.objects("kvs")),
        folders=texts(folders, body, "folders"),
        count=body.integer("count"),
        next=body.text("continue") if body.has("continue") else None,
        revision=body.integer("revision"),
    )


def _read_deleted_range(answer: Answer) -> DeletedRange:
    body = fields_of(answer)
    return DeletedRange(deleted=body.integer("deleted"), revision=body.integer("revision"))
