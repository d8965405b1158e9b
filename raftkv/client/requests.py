"""What a transaction is made of: compares, operations, transactions in transactions.

Values only; how they travel is told in :mod:`raftkv.client.operations.transactions`.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Literal, TypeAlias

from raftkv.client.model import LeaseLike

Target = Literal["value", "version", "create_revision", "mod_revision", "lease"]
Comparison = Literal["=", "!=", "<", ">"]


@dataclass(frozen=True, slots=True)
class Compare:
    """A condition on a key: ``Compare("a", "mod_revision", "=", 3)``.

    A key that does not exist has the numbers 0 and the value ``None``, which equals only ``None``.

    :ivar key: ``None`` for a condition on each key of a range.
    :ivar value: a number, or for the target ``"value"`` a ``str``, ``bytes`` or ``None``.
    :ivar prefix: in place of a key: every key that begins so; likewise ``start`` and ``end``.
    """

    key: str | bytes | None
    target: Target
    op: Comparison
    value: int | str | bytes | None
    prefix: str | bytes | None = None
    start: str | bytes | None = None
    end: str | bytes | None = None


def exists(key: str | bytes) -> Compare:
    """Make the condition that there is such a key."""
    return Compare(key, "version", "!=", 0)


def missing(key: str | bytes) -> Compare:
    """Make the condition that there is no such key."""
    return Compare(key, "version", "=", 0)


@dataclass(frozen=True, slots=True)
class Put:
    """Set a key. Its result is a :class:`~raftkv.client.Written`.

    :ivar lease: the lease that the key is to hang on.
    """

    key: str | bytes
    value: str | bytes
    lease: LeaseLike | None = None


@dataclass(frozen=True, slots=True)
class Get:
    """Read a key. Its result is a :class:`~raftkv.client.Record`, or ``None``.

    :ivar revision: as it was then; ``None``: as it is, with what the transaction did so far.
    """

    key: str | bytes
    revision: int | None = None


@dataclass(frozen=True, slots=True)
class Delete:
    """Delete a key. Its result is a :class:`~raftkv.client.Deleted`."""

    key: str | bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class DeleteRange:
    """Delete a range. Its result is a :class:`~raftkv.client.DeletedRange`."""

    prefix: str | bytes | None = None
    start: str | bytes | None = None
    end: str | bytes | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Range:
    """Read a range. Its result is a :class:`~raftkv.client.Page`.

    :ivar limit: at most so many keys, up to 1,000, which is what ``None`` means.
    """

    prefix: str | bytes | None = None
    start: str | bytes | None = None
    end: str | bytes | None = None
    limit: int | None = None
    reverse: bool = False
    keys_only: bool = False
    count_only: bool = False
    revision: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """A transaction in a transaction. Its result is a :class:`~raftkv.client.TransactionResult`."""

    compare: Sequence[Compare] = ()
    success: Sequence[TransactionOperation] = ()
    failure: Sequence[TransactionOperation] = ()


TransactionOperation: TypeAlias = "Put | Get | Delete | DeleteRange | Range | Transaction"
