"""The plain, slow twin of the store's records: what each command makes of them, in the fewest words.

It copies the whole of its records for every revision and searches everything from end to end, so that there is nothing
in it that could be wrong in the same way as in :mod:`raftkv.kvstore`. Leases, locks and sessions are in
:mod:`raftkv.testing.plainstore`; here is of leases only which there are.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from raftkv.kvstore import commands
from raftkv.kvstore.commands import Command, Result

Row = tuple[bytes, int, int, int, int]  #: value, create revision, mod revision, version, lease
Rows = dict[bytes, Row]
Write = tuple[bytes, bytes | None, int]  #: key, value (``None`` deletes), lease (-1: the one that it has)

ASKED_FOR = "asked for"  #: what a lease was made for: somebody asked
OF_KEY = "a key"  #: a put with a time to live
OF_LOCK = "a lock"

_NOTHING = (None, 0, 0, 0, 0)


class Refusal(Exception):
    """A transaction cannot be carried out; the answer is the only argument."""


class PlainRecords:
    """Dictionaries that are searched from end to end.

    :ivar records: what every key holds.
    :ivar past: the records of every revision there has been, compacted or not.
    :ivar order: for each revision, its keys in the order of their changes.
    :ivar leases: number to time to live, end in cluster time, and what it was made for.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.compact_revision = 0
        self.cluster_time_ms = 0
        self.records: Rows = {}
        self.past: dict[int, Rows] = {0: {}}
        self.order: dict[int, list[bytes]] = {}
        self.leases: dict[int, tuple[int, int, str]] = {}

    # -- reads ---------------------------------------------------------------------------------------------------

    def range(self, start: bytes, end: bytes | None, revision: int | None = None) -> list[tuple[bytes, Row]]:
        """Return all of a range in order, as of a revision."""
        return in_range(self.records if revision is None else self.past[revision], start, end)

    def changes(self, revision: int) -> list[tuple[bytes, Row | None, Row | None]]:
        """Return what a revision changed: each key, what it has held since, and what it held before."""
        before, after = self.past[revision - 1], self.past[revision]
        return [(key, after.get(key), before.get(key)) for key in self.order[revision]]

    def is_alive(self, lease: int) -> bool:
        """Tell whether there is such a lease whose time has not come."""
        return lease in self.leases and self.leases[lease][1] > self.cluster_time_ms

    # -- writes --------------------------------------------------------------------------------------------------

    def commit(self, writes: Iterable[Write], always: bool = False) -> int:
        """Write keys in one revision and return how many that changed; without a change there is no revision.

        :param always: take a revision all the same.
        """
        changed = []
        before = self.records
        after = before.copy()
        for key, value, lease in writes:
            old = before.get(key)
            if value is not None:
                _, created, _, version, had = old or (b"", self.revision + 1, 0, 0, 0)
                after[key] = (value, created, self.revision + 1, version + 1, had if lease == -1 else lease)
            elif old is None:
                continue
            else:
                del after[key]
            changed.append(key)
        if changed or always:
            self.revision += 1
            self.records = after
            self.past[self.revision] = after
            self.order[self.revision] = changed
            self.forget_unused_leases()
        return len(changed)

    def forget_unused_leases(self) -> None:
        """Let go of the leases that were made for a key, and have nothing any more."""
        used = self.used_leases()
        self.leases = {n: lease for n, lease in self.leases.items() if lease[2] != OF_KEY or n in used}

    def used_leases(self) -> set[int]:
        """Return the leases that something names."""
        return {row[4] for row in self.records.values()}

    def delete(self, key: bytes, expect: int = commands.ANY) -> Result:
        """Carry out a ``DELETE``."""
        if not self.holds(key, expect):
            return self.failed(key)
        deleted = self.commit([(key, None, 0)])
        return (commands.OK, self.revision, bool(deleted))

    def delete_range(self, start: bytes, end: bytes) -> Result:
        """Carry out a ``DELETE_RANGE``."""
        deleted = self.commit([(key, None, 0) for key, _ in self.range(start, end)])
        return (commands.OK, self.revision, deleted)

    def holds(self, key: bytes, expect: int) -> bool:
        """Tell whether a condition holds."""
        mod_revision = self.records[key][2] if key in self.records else 0
        if expect == commands.ANY:
            return True
        if expect == commands.EXISTS:
            return mod_revision > 0
        return mod_revision == expect

    def failed(self, key: bytes) -> Result:
        """Return the answer to a write whose condition does not hold."""
        return (commands.PRECONDITION_FAILED, self.records[key][2] if key in self.records else 0)

    def increment(self, key: bytes, by: int) -> Result:
        """Carry out an ``INCREMENT``."""
        value = self.records[key][0] if key in self.records else b"0"
        if not all(48 <= c <= 57 for c in value.removeprefix(b"-")) or not value.removeprefix(b"-"):
            return (commands.NOT_A_NUMBER,)
        total = int(value) + by
        if not -(2**63) <= total < 2**63:
            return (commands.OUT_OF_RANGE,)
        self.commit([(key, str(total).encode(), -1)])
        return (commands.OK, self.revision, total)

    def compact(self, revision: int) -> Result:
        """Carry out a ``COMPACT``; nothing is freed here."""
        if revision > self.revision:
            return (commands.FUTURE_REVISION, self.revision)
        if revision < self.compact_revision:
            return (commands.COMPACTED, self.compact_revision)
        self.compact_revision = revision
        return (commands.OK, revision)

    # -- transactions --------------------------------------------------------------------------------------------

    def transaction(self, command: Command) -> Result:
        """Carry out a ``TXN``: nothing is written before all of it is known."""
        staged: dict[bytes, Write] = {}
        try:
            succeeded, results = self._branch(command, staged)
        except Refusal as refusal:
            answer: Result = refusal.args[0]
            return answer
        self.commit(staged.values())
        return (commands.OK, self.revision, succeeded, results)

    def _branch(self, command: Command, staged: dict[bytes, Write]) -> tuple[bool, Result]:
        _, _, compares, success, failure = command
        rows = self._with(staged)
        succeeded = all(_compare(rows, *compare) for compare in compares)
        return succeeded, tuple(self._operation(op, staged) for op in (success if succeeded else failure))

    def _with(self, staged: dict[bytes, Write]) -> Rows:
        """Return what the records would be if what is staged were committed now."""
        if not staged:
            return self.records
        trial = PlainRecords()
        trial.records, trial.revision = self.records, self.revision
        trial.commit(staged.values())
        return trial.records

    def _operation(self, operation: Command, staged: dict[bytes, Write]) -> Result:
        rows = self._with(staged)
        match operation:
            case (commands.PUT, 0, key, value, *rest):
                lease = rest[1] if len(rest) > 1 else 0
                if lease > 0 and not self.is_alive(lease):
                    raise Refusal((commands.LEASE_NOT_FOUND, lease))
                _stage(staged, key, value, lease)
                return (commands.PUT,)
            case (commands.DELETE, 0, key):
                if key in rows or key in staged:
                    _stage(staged, key, None, 0)
                return (commands.DELETE, key in rows)
            case (commands.DELETE_RANGE, 0, start, end):
                keys = [key for key, _ in in_range(rows, start, end)]
                for key in keys:
                    _stage(staged, key, None, 0)
                return (commands.DELETE_RANGE, len(keys))
            case (commands.GET, 0, key, *revision):
                return (commands.GET, self._rows_at(rows, *revision).get(key))
            case (commands.RANGE, 0, start, end, limit, flags, *revision):
                return _range(in_range(self._rows_at(rows, *revision), start, end), limit, flags)
            case (commands.TXN, 0, _, _, _):
                return (commands.TXN, *self._branch(operation, staged))
        raise AssertionError(operation)

    def _rows_at(self, rows: Rows, revision: int = 0) -> Rows:
        if not revision:
            return rows
        if revision > self.revision:
            raise Refusal((commands.FUTURE_REVISION, self.revision))
        if revision < self.compact_revision:
            raise Refusal((commands.COMPACTED, self.compact_revision))
        return self.past[revision]


def in_range(rows: Rows, start: bytes, end: bytes | None) -> list[tuple[bytes, Row]]:
    """Return the rows of a range in the order of their keys; without an end where that is empty."""
    return [(key, rows[key]) for key in sorted(rows) if key >= start and (not end or key < end)]


def _range(found: list[tuple[bytes, Row]], limit: int, flags: int) -> Result:
    if flags & commands.COUNT_ONLY:
        return (commands.RANGE, (), len(found), None)
    if flags & commands.REVERSE:
        found.reverse()
    count, following, shown, size = len(found), None, found[:0], 0
    for key, row in found:
        if len(shown) == limit or size >= commands.MAX_RANGE_BYTES:
            following = shown[-1][0] if flags & commands.REVERSE else key
            break
        shown.append((key, row))
        size += len(key) + len(row[0])
    if flags & commands.KEYS_ONLY:
        shown = [(key, (b"", *row[1:])) for key, row in shown]
    return (commands.RANGE, tuple(shown), count, following)


def _compare(rows: Rows, target: int, operator: int, key: bytes, end: bytes | None, operand: Any) -> bool:
    found = [rows.get(key, _NOTHING)] if end is None else [row for _, row in in_range(rows, key, end)]
    compare: Callable[[Any], bool] = {
        commands.EQUAL: lambda field: bool(field == operand),
        commands.NOT_EQUAL: lambda field: bool(field != operand),
        commands.LESS: lambda field: field is not None and operand is not None and field < operand,
        commands.GREATER: lambda field: field is not None and operand is not None and field > operand,
    }[operator]
    return all(compare(row[target]) for row in found)


def _stage(staged: dict[bytes, Write], key: bytes, value: bytes | None, lease: int) -> None:
    if key in staged:
        raise Refusal((commands.TRANSACTION_REFUSED,))
    staged[key] = (key, value, lease)
