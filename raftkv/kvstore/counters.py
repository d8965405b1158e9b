"""Counters: decimal numbers in values."""

from __future__ import annotations

from typing import Final

from raftkv.kvstore.commands import KEEP_LEASE, NOT_A_NUMBER, OK, OUT_OF_RANGE, Command, Result
from raftkv.kvstore.records import Records

_LOWEST: Final = -(2**63)
_HIGHEST: Final = 2**63 - 1
_MAX_DIGITS: Final = 19  # of a number of 64 bits


def increment(records: Records, command: Command) -> Result:
    """Carry out an ``INCREMENT``: no key counts as 0, and a key keeps its lease.

    :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
    """
    _, namespace, key, by = command
    if namespace != 0 or type(key) is not bytes or type(by) is not int:
        raise ValueError(f"not a key of this namespace and a number: {namespace!r}, {key!r}, {by!r}")
    record = records.get(key)
    number = 0 if record is None else _number_of(record[0])
    if number is None:
        return (NOT_A_NUMBER,)
    number += by
    if not _LOWEST <= number <= _HIGHEST:
        return (OUT_OF_RANGE,)
    return (OK, records.commit([records.change(key, b"%d" % number, KEEP_LEASE)]), number)


def _number_of(value: bytes) -> int | None:
    """Return the decimal number that a value is; not what else Python would take for one (spaces, underscores)."""
    digits = value.removeprefix(b"-")
    if not digits.isdigit() or len(digits) > _MAX_DIGITS:
        return None
    number = int(value)
    return number if _LOWEST <= number <= _HIGHEST else None
