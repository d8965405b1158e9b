"""Transactions: their documents, and the reading of their results by what was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raftkv.client.answers import Fields, fields_of
from raftkv.client.model import DeletedRange, FenceLike, OperationResult, Page, TransactionResult
from raftkv.client.operations.base import (
    JSON_HEADERS,
    Operation,
    fence_headers,
    fence_name,
    json_body,
    lease_number,
    positive,
    range_fields,
    read_record,
    value_fields,
)
from raftkv.client.operations.ranges import read_page
from raftkv.client.requests import Compare, Delete, DeleteRange, Get, Put, Range, Transaction, TransactionOperation
from raftkv.client.results import Deleted, Written, key_bytes, value_bytes
from raftkv.errors import BadRequest


def transaction(whole: Transaction, *, lock: FenceLike | None = None) -> Operation[TransactionResult]:
    """Make a transaction.

    :raises BadRequest: a part of it makes no sense.
    """
    return Operation(
        method="POST",
        target="/v1/txn",
        headers={**JSON_HEADERS, **fence_headers(lock)},
        body=json_body(_transaction(whole)),
        read=lambda answer: _read_transaction(fields_of(answer), whole),
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=fence_name(lock),
    )


# -- documents ---------------------------------------------------------------------------------------------------------


def _transaction(whole: Transaction) -> dict[str, Any]:
    return {
        "compare": [_compare(compare) for compare in whole.compare],
        "success": [_operation(operation) for operation in whole.success],
        "failure": [_operation(operation) for operation in whole.failure],
    }


def _compare(compare: Compare) -> dict[str, Any]:
    if not isinstance(compare, Compare):
        raise TypeError(f"compare: expected a Compare, not {type(compare).__name__}")
    where = _range(compare) if compare.key is None else {"key": _key(compare.key)}
    if not where or (compare.key is not None and _range(compare)):
        raise BadRequest("compare: give either key, or prefix, or start and end")
    value = compare.value
    if compare.target != "value":
        if isinstance(value, bool) or not isinstance(value, int):
            raise BadRequest(f"compare: found {value!r}, expected a whole number, which {compare.target} is")
        told: dict[str, Any] = {"value": value}
    elif value is None:
        told = {"value": None}
    elif isinstance(value, int):
        raise BadRequest(f"compare: found {value!r}, expected str, bytes or None, which a value is")
    else:
        told = dict(value_fields(value_bytes(value)))
    return {**where, "target": compare.target, "op": compare.op, **told}


def _operation(operation: TransactionOperation) -> dict[str, Any]:
    if isinstance(operation, Put):
        lease = {} if operation.lease is None else {"lease": lease_number(operation.lease)}
        return {"op": "put", "key": _key(operation.key), **value_fields(value_bytes(operation.value)), **lease}
    if isinstance(operation, Get):
        return {"op": "get", "key": _key(operation.key), **_revision(operation.revision)}
    if isinstance(operation, Delete):
        return {"op": "delete", "key": _key(operation.key)}
    if isinstance(operation, DeleteRange):
        where = _range(operation)
        if not where:
            raise BadRequest("delete: give prefix, start or end; prefix='' is every key")
        return {"op": "delete", **where}
    if isinstance(operation, Range):
        limit = {} if operation.limit is None else {"limit": positive("limit", operation.limit)}
        flags = {name: True for name in ("reverse", "keys_only", "count_only") if getattr(operation, name)}
        where = _range(operation) or {"prefix": ""}
        return {"op": "range", **where, **limit, **flags, **_revision(operation.revision)}
    if isinstance(operation, Transaction):
        return {"op": "txn", **_transaction(operation)}
    raise TypeError(f"a transaction is made of Put, Get, Delete, ..., not of {type(operation).__name__}")


def _key(key: str | bytes) -> str:
    return key_bytes(key).decode("utf-8")


def _range(found: Compare | DeleteRange | Range) -> dict[str, str]:
    return range_fields(found.prefix, found.start, found.end)


def _revision(revision: int | None) -> dict[str, int]:
    return {} if revision is None else {"revision": positive("revision", revision)}


# -- results -----------------------------------------------------------------------------------------------------------


def _read_transaction(body: Fields, whole: Transaction) -> TransactionResult:
    succeeded = body.boolean("succeeded")
    ran: Sequence[TransactionOperation] = whole.success if succeeded else whole.failure
    found = body.items("results")
    if len(found) != len(ran) or not all(
        result is not None or isinstance(operation, Get) for operation, result in zip(ran, found, strict=True)
    ):
        raise body.wrong("results", f"{len(ran)} results")
    return TransactionResult(
        succeeded=succeeded,
        revision=body.integer("revision"),
        results=tuple(_read_result(operation, result) for operation, result in zip(ran, found, strict=True)),
    )


def _read_result(operation: TransactionOperation, result: Callable[[], Fields] | None) -> OperationResult:
    """Read one result.

    :param result: gives its object; ``None`` for null, which only a ``Get`` may have.
    """
    if result is None:
        return None
    body = result()
    if isinstance(operation, Get):
        return read_record(body)
    if isinstance(operation, Put):
        return Written(revision=body.integer("revision"))
    if isinstance(operation, Delete):
        return Deleted(deleted=body.boolean("deleted"), revision=body.integer("revision"))
    if isinstance(operation, DeleteRange):
        return DeletedRange(deleted=body.integer("deleted"), revision=body.integer("revision"))
    if isinstance(operation, Transaction):
        return _read_transaction(body, operation)
    if operation.count_only:
        return Page(records=(), count=body.integer("count"), revision=body.integer("revision"))
    return read_page(body, with_values=not operation.keys_only)
