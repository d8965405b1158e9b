"""Transactions: their documents, and the reading of their results by what was asked."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from raftkv.client.answers import Fields, fields_of
from raftkv.client.model import DeletedRange, FenceLike, OperationResult, Page, TransactionResult
from raftkv.client.operations.base import (
    JSON_HEADERS,
    Operation,
    edge_fields,
    fence_headers,
    fence_name,
    json_body,
    read_record,
    value_fields,
)
from raftkv.client.operations.ranges import read_page
from raftkv.client.requests import Delete, DeleteRange, Get, Put, Range, Transaction, TransactionOperation
from raftkv.client.results import Deleted, Written
from raftkv.client.spelling import Edges, spelled


def transaction(whole: Transaction, *, lock: FenceLike | None = None) -> Operation[TransactionResult]:
    """Make a transaction.

    :raises BadRequest: a part of it makes no sense.
    """
    document: dict[str, Any] = spelled(whole, _Documents())
    return Operation(
        method="POST",
        target="/v1/txn",
        headers={**JSON_HEADERS, **fence_headers(lock)},
        body=json_body(document),
        read=lambda answer: _read_transaction(fields_of(answer), whole),
        is_write=True,
        sessioned=True,
        prefer_leader=True,
        lock=fence_name(lock),
    )


# -- documents ---------------------------------------------------------------------------------------------------------


class _Documents:
    """Writes a transaction as the JSON of ``POST /v1/txn``."""

    def compare(self, where: bytes | Edges, target: str, op: str, operand: bytes | int | None) -> dict[str, Any]:
        place = {"key": where.decode("utf-8")} if isinstance(where, bytes) else edge_fields(where)
        value = value_fields(operand) if isinstance(operand, bytes) else {"value": operand}
        return {**place, "target": target, "op": op, **value}

    def put(self, key: bytes, value: bytes, lease: int | None) -> dict[str, Any]:
        tenure = {} if lease is None else {"lease": lease}
        return {"op": "put", "key": key.decode("utf-8"), **value_fields(value), **tenure}

    def get(self, key: bytes, revision: int | None) -> dict[str, Any]:
        return {"op": "get", "key": key.decode("utf-8"), **_revision(revision)}

    def delete(self, key: bytes) -> dict[str, Any]:
        return {"op": "delete", "key": key.decode("utf-8")}

    def delete_range(self, edges: Edges) -> dict[str, Any]:
        return {"op": "delete", **edge_fields(edges)}

    def range(self, edges: Edges, operation: Range) -> dict[str, Any]:
        limit = {} if operation.limit is None else {"limit": operation.limit}
        flags = {name: True for name in ("reverse", "keys_only", "count_only") if getattr(operation, name)}
        where = edge_fields(edges) or {"prefix": ""}
        return {"op": "range", **where, **limit, **flags, **_revision(operation.revision)}

    def nested(self, whole: dict[str, Any]) -> dict[str, Any]:
        return {"op": "txn", **whole}

    def transaction(
        self, compare: list[dict[str, Any]], success: list[dict[str, Any]], failure: list[dict[str, Any]]
    ) -> dict[str, Any]:
        return {"compare": compare, "success": success, "failure": failure}


def _revision(revision: int | None) -> dict[str, int]:
    return {} if revision is None else {"revision": revision}


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
