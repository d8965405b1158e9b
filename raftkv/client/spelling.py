"""A transaction taken apart and checked, once for all who send it: as JSON, or as a command.

Knows what a part may be; how it is written is told by a :class:`Spelling`.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, Final, Protocol, TypeVar

from raftkv.client.model import LeaseLike
from raftkv.client.requests import Compare, Delete, DeleteRange, Get, Put, Range, Transaction, TransactionOperation
from raftkv.client.results import key_bytes, text_bytes, value_bytes
from raftkv.errors import BadRequest

T = TypeVar("T")

MAX_INTEGER: Final = 2**63 - 1  #: of revisions, leases and tokens

Edges = Mapping[str, bytes]  #: ``prefix``, or ``start`` and ``end``, those that were given; empty for none of them


class Spelling(Protocol[T]):
    """How the parts of a transaction are written; ``T`` is a part, or all of it."""

    def compare(self, where: bytes | Edges, target: str, op: str, operand: bytes | int | None) -> T:
        """Write a condition.

        :param where: a key, or the edges of a range.
        """
        ...

    def put(self, key: bytes, value: bytes, lease: int | None) -> T:
        """Write a put."""
        ...

    def get(self, key: bytes, revision: int | None) -> T:
        """Write a read of a key."""
        ...

    def delete(self, key: bytes) -> T:
        """Write a delete of a key."""
        ...

    def delete_range(self, edges: Edges) -> T:
        """Write a delete of a range, which is named by at least one edge."""
        ...

    def range(self, edges: Edges, operation: Range) -> T:
        """Write a read of a range; the rest of ``operation`` has been checked."""
        ...

    def nested(self, whole: T) -> T:
        """Write a transaction as an operation of another one."""
        ...

    def transaction(self, compare: list[T], success: list[T], failure: list[T]) -> T:
        """Write a whole transaction."""
        ...


def spelled(whole: Transaction, spelling: Spelling[T]) -> T:
    """Write a transaction.

    :raises BadRequest: a part of it makes no sense.
    :raises TypeError: that is none, or a part is none.
    """
    if not isinstance(whole, Transaction):
        raise TypeError(f"transaction: expected a Transaction, not {type(whole).__name__}")
    return spelling.transaction(
        [_compare(compare, spelling) for compare in whole.compare],
        [_operation(operation, spelling) for operation in whole.success],
        [_operation(operation, spelling) for operation in whole.failure],
    )


def _compare(compare: Compare, spelling: Spelling[T]) -> T:
    if not isinstance(compare, Compare):
        raise TypeError(f"compare: expected a Compare, not {type(compare).__name__}")
    edges = range_edges(compare.prefix, compare.start, compare.end)
    if (compare.key is None) is not bool(edges):
        raise BadRequest("compare: give either key, or prefix, or start and end")
    where = edges if compare.key is None else key_bytes(compare.key)
    return spelling.compare(where, compare.target, compare.op, _operand(compare))


def _operand(compare: Compare) -> bytes | int | None:
    value = compare.value
    if compare.target != "value":
        if isinstance(value, bool) or not isinstance(value, int) or not -MAX_INTEGER - 1 <= value <= MAX_INTEGER:
            raise BadRequest(f"compare: found {value!r}, expected a whole number of 64 bits, as {compare.target} is")
        return value
    if isinstance(value, int):
        raise BadRequest(f"compare: found {value!r}, expected str, bytes or None, which a value is")
    return None if value is None else value_bytes(value)


def _operation(operation: TransactionOperation, spelling: Spelling[T]) -> T:
    if isinstance(operation, Put):
        lease = None if operation.lease is None else lease_number(operation.lease)
        return spelling.put(key_bytes(operation.key), value_bytes(operation.value), lease)
    if isinstance(operation, Get):
        return spelling.get(key_bytes(operation.key), _revision(operation.revision))
    if isinstance(operation, Delete):
        return spelling.delete(key_bytes(operation.key))
    if isinstance(operation, DeleteRange):
        edges = range_edges(operation.prefix, operation.start, operation.end)
        if not edges:
            raise BadRequest("delete: give prefix, start or end; prefix='' is every key")
        return spelling.delete_range(edges)
    if isinstance(operation, Range):
        if operation.limit is not None:
            positive("limit", operation.limit)
        _revision(operation.revision)
        return spelling.range(range_edges(operation.prefix, operation.start, operation.end), operation)
    if isinstance(operation, Transaction):
        return spelling.nested(spelled(operation, spelling))
    raise TypeError(f"a transaction is made of Put, Get, Delete, ..., not of {type(operation).__name__}")


def _revision(revision: int | None) -> int | None:
    return None if revision is None else positive("revision", revision)


# -- fields ------------------------------------------------------------------------------------------------------------


def range_edges(prefix: str | bytes | None, start: str | bytes | None, end: str | bytes | None) -> dict[str, bytes]:
    """Return what names a range, each part by its name.

    :raises BadRequest: ``prefix`` together with one of the others, or what is no text.
    """
    if prefix is not None and (start is not None or end is not None):
        raise BadRequest("prefix: give either prefix, or start and end")
    given: dict[str, Any] = {"prefix": prefix, "start": start, "end": end}
    return {name: text_bytes(found, name) for name, found in given.items() if found is not None}


def lease_number(lease: LeaseLike) -> int:
    """Return the number of a lease, given as such or as an object that has it.

    :raises BadRequest: it is none.
    """
    return positive("lease", lease if isinstance(lease, int) else lease.id)


def positive(name: str, number: int) -> int:
    """Check a revision, a lease, a token or a limit.

    :raises BadRequest: it is no whole number from 1.
    """
    if isinstance(number, bool) or not isinstance(number, int) or not 0 < number <= MAX_INTEGER:
        raise BadRequest(f"{name}: found {number!r}, expected a whole number from 1")
    return number
