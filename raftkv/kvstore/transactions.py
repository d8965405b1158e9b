"""Transactions: conditions, then one of two lists of operations, all of it in one revision or not at all.

Operations change the records as they go, so that later ones see what earlier ones did; where one cannot be carried out
(its lease has ended, its revision is compacted: B33) everything is undone and the answer says why. Which of the lists
runs is decided by the state alone, and what may be read of the past by the compact revision alone, which is the same
on all nodes however much of the past each of them has freed already.
"""

from __future__ import annotations

from typing import Any

from raftkv.kvstore import ranges
from raftkv.kvstore.commands import (
    ANSWER_TOO_LARGE,
    COMPACTED,
    COUNT_ONLY,
    DELETE,
    DELETE_RANGE,
    EQUAL,
    FUTURE_REVISION,
    GET,
    GREATER,
    KEEP_LEASE,
    KEYS_ONLY,
    LEASE_NOT_FOUND,
    LESS,
    MAX_DEPTH,
    MAX_RANGE_BYTES,
    MAX_READ_BYTES,
    NO_LEASE,
    NOT_EQUAL,
    OK,
    PUT,
    RANGE,
    REVERSE,
    TARGET_LEASE,
    TARGET_VALUE,
    TRANSACTION_REFUSED,
    TXN,
    Command,
    Operation,
    Result,
)
from raftkv.kvstore.digest import Record
from raftkv.kvstore.leases import Leases
from raftkv.kvstore.records import Records
from raftkv.kvstore.views import Page

_ABSENT: Record = (b"", 0, 0, 0, 0)


class _Refused(Exception):
    """The transaction cannot be carried out; the answer is the only argument."""


class Transaction:
    """One transaction being carried out.

    :param compact_revision: the oldest revision that may be read.
    :param now_ms: cluster time.
    """

    def __init__(self, *, records: Records, leases: Leases, compact_revision: int, now_ms: int) -> None:
        self._records = records
        self._leases = leases
        self._compact_revision = compact_revision
        self._now_ms = now_ms
        self._read_bytes = 0

    def carry_out(self, command: Command) -> Result:
        """Return the answer to a ``TXN``.

        :raises ValueError: it is malformed; likewise :exc:`TypeError`. What it had changed is undone.
        """
        records = self._records
        slots = records.open_slots
        try:
            succeeded, results = self._run(command, 1)
        except _Refused as refused:
            records.revert(list(slots.values()))
            answer: Result = refused.args[0]
            return answer
        except BaseException:
            records.revert(list(slots.values()))
            raise
        else:
            revision = records.commit(list(slots.values())) if slots else records.revision
            return (OK, revision, succeeded, results)
        finally:
            slots.clear()

    def _run(self, command: Command, depth: int) -> tuple[bool, Result]:
        _, namespace, compares, success, failure = command
        if namespace != 0 or depth > MAX_DEPTH:
            raise ValueError(f"not a transaction of this namespace and depth: {namespace!r}, {depth}")
        succeeded = all(tuple([self._holds(*compare) for compare in compares]))  # a malformed one is found in any case
        return succeeded, tuple([self._carry_out(each, depth) for each in (success if succeeded else failure)])

    # -- conditions ----------------------------------------------------------------------------------------------

    def _holds(self, target: int, operator: int, key: bytes, end: bytes | None, operand: Any) -> bool:
        if type(target) is not int or not TARGET_VALUE <= target <= TARGET_LEASE:
            raise ValueError(f"unknown target {target!r}")
        if end is None:
            return _compare(self._field(self._records.get(key), target), operator, operand)
        found = ranges.items(self._records, key, end or None, 0, reverse=False)
        return all(_compare(record[target], operator, operand) for _, record in found)

    def _field(self, record: Record | None, target: int) -> bytes | int | None:
        if record is not None:
            return record[target]
        return None if target == TARGET_VALUE else 0

    # -- operations ----------------------------------------------------------------------------------------------

    def _carry_out(self, operation: Operation, depth: int) -> Result:
        code, namespace = operation[:2]
        if namespace != 0:
            raise ValueError(f"unknown namespace {namespace!r}")
        if code == PUT:
            return self._put(*operation[2:])
        if code == GET:
            return self._get(*operation[2:])
        if code == DELETE:
            _, _, key = operation
            return (DELETE, self._remove(key))
        if code == RANGE:
            return self._range(*operation[2:])
        if code == DELETE_RANGE:
            return self._delete_range(*operation[2:])
        if code == TXN:
            return (TXN, *self._run(operation, depth + 1))
        raise ValueError(f"unknown operation {code!r}")

    def _put(self, key: bytes, value: bytes, expect: int = -1, lease: int = NO_LEASE) -> Result:
        if expect != -1 or type(lease) is not int or lease < KEEP_LEASE:
            raise ValueError(f"a put in a transaction has neither condition nor such a lease: {expect!r}, {lease!r}")
        if lease > NO_LEASE and not self._leases.is_alive(lease, self._now_ms):
            raise _Refused((LEASE_NOT_FOUND, lease))
        self._refuse_twice(key)
        self._records.open_slots[key] = self._records.change(key, value, lease)
        return (PUT,)

    def _get(self, key: bytes, revision: int = 0) -> Result:
        if revision:
            self._check_revision(revision)
        record = self._records.get_at(key, revision) if revision else self._records.get(key)
        if record is not None:
            self._count_read(len(key) + len(record[0]))
        return (GET, record)

    def _range(self, start: bytes, end: bytes, limit: int, flags: int, revision: int = 0) -> Result:
        if revision:
            self._check_revision(revision)
        count = ranges.count(self._records, start, end or None, revision)
        if flags & COUNT_ONLY:
            return (RANGE, (), count, None)
        found: Page = ranges.page(
            self._records,
            start,
            end or None,
            limit,
            revision=revision,
            reverse=bool(flags & REVERSE),
            max_bytes=MAX_RANGE_BYTES,
        )
        items = [(key, (b"", *record[1:])) for key, record in found.items] if flags & KEYS_ONLY else found.items
        self._count_read(sum([len(key) + len(record[0]) for key, record in items]))
        return (RANGE, tuple(items), count, found.next)

    def _count_read(self, size_bytes: int) -> None:
        self._read_bytes += size_bytes
        if self._read_bytes > MAX_READ_BYTES:
            raise _Refused((ANSWER_TOO_LARGE,))

    def _remove(self, key: bytes) -> bool:
        self._refuse_twice(key)
        slot = self._records.remove(key)
        if slot is None:
            return False
        self._records.open_slots[key] = slot
        return True

    def _delete_range(self, start: bytes, end: bytes) -> Result:
        keys = list(self._records.keys(start, end or None, reverse=False))
        for key in keys:
            self._remove(key)
        return (DELETE_RANGE, len(keys))

    def _refuse_twice(self, key: bytes) -> None:
        if key in self._records.open_slots:
            raise _Refused((TRANSACTION_REFUSED,))

    def _check_revision(self, revision: int) -> None:
        if type(revision) is not int or revision < 0:
            raise ValueError(f"not a revision: {revision!r}")
        if revision > self._records.revision:
            raise _Refused((FUTURE_REVISION, self._records.revision))
        if revision < self._compact_revision:
            raise _Refused((COMPACTED, self._compact_revision))


def _compare(found: Any, operator: int, operand: Any) -> bool:
    """Tell whether a comparison holds; nothing at all equals only nothing, and is neither less nor greater."""
    if operator == EQUAL:
        return bool(found == operand)
    if operator == NOT_EQUAL:
        return bool(found != operand)
    if operator not in (LESS, GREATER):
        raise ValueError(f"unknown operator {operator!r}")
    if found is None or operand is None:
        return False
    return bool(found < operand if operator == LESS else found > operand)
