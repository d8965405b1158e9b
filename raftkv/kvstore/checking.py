"""Which commands are let into the log: whatever comes from outside is looked at here first.

A malformed command that reached the log would stop every node at apply, so everything is checked: shapes, exact types
(``True`` is no number), ranges and sizes. What depends on the state (a lease that has ended, a condition) is no matter
of this. The limits are settings; at apply nothing depends on them.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

from raftkv.errors import BadRequest, TooLarge
from raftkv.kvstore import commands
from raftkv.kvstore.commands import ANY, EXISTS, Command
from raftkv.kvstore.overlaps import writes_of

NUMBER_LIMIT: Final = 2**63
MAX_RANGE_RECORDS: Final = 1_000  #: of one range of a transaction
MAX_DEPTH: Final = 8  #: of transactions in one another; below commands.MAX_DEPTH


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandLimits:
    """The sizes and times that are allowed; the names are those of the settings."""

    max_key_bytes: int = 4096
    max_value_bytes: int = 1024 * 1024
    max_transaction_operations: int = 128
    max_transaction_bytes: int = 3 * 512 * 1024
    min_lease_ttl_seconds: float = 1.0
    max_lease_ttl_seconds: float = 86_400 * 365.0
    max_lock_wait_seconds: float = 3600.0


class CommandChecker:
    """Checks commands, and counts the bytes of their keys and values.

    :ivar limits: what is allowed.
    """

    def __init__(self, limits: CommandLimits) -> None:
        self.limits = limits
        self._checks: dict[int, Callable[[Command], int]] = {
            commands.PUT: self._put,
            commands.DELETE: self._delete,
            commands.DELETE_RANGE: self._delete_range,
            commands.INCREMENT: self._increment,
            commands.TXN: self._transaction,
            commands.COMPACT: self._compact,
            commands.GRANT: self._grant,
            commands.KEEPALIVE: self._lease_alone,
            commands.REVOKE: self._lease_alone,
            commands.LOCK: self._lock,
            commands.UNLOCK: self._unlock,
            commands.FENCED: self._fenced,
        }

    def check(self, command: Any) -> int:
        """Look at a command that may stand in a session, or alone.

        :return: the bytes of its keys and values.
        :raises BadRequest: it is malformed, or none of these; the message names the field.
        :raises TooLarge: a key, a value or a transaction is too large.
        """
        if type(command) is not tuple or len(command) < 2 or type(command[0]) is not int:
            raise BadRequest("a command of unknown code or shape")
        check = self._checks.get(command[0])
        if check is None:
            raise BadRequest("a command of unknown code or shape")
        if type(command[1]) is not int or command[1] != 0:
            raise BadRequest(f"namespace: must be 0, found {command[1]!r}")
        return check(command)

    def check_key(self, key: Any, field: str = "key") -> int:
        """Look at a key, or at a name, and return its bytes.

        :raises BadRequest: it is empty, not ``bin``, or not UTF-8.
        :raises TooLarge: it is too long.
        """
        if type(key) is not bytes or not key:
            raise BadRequest(f"{field}: must be bin of at least one byte")
        if len(key) > self.limits.max_key_bytes:
            raise TooLarge(f"{field}: {len(key)} bytes, at most {self.limits.max_key_bytes} are allowed")
        if not key.isascii():
            try:
                key.decode("utf-8")
            except UnicodeDecodeError:
                raise BadRequest(f"{field}: must be UTF-8") from None
        return len(key)

    # -- single commands -----------------------------------------------------------------------------------------

    def _put(self, command: Command) -> int:
        _, _, key, value, expect, lease, ttl_ms = _filled(command, 4, (ANY, commands.NO_LEASE, 0))
        size = self.check_key(key) + self._check_value(value)
        check_number(expect, "expect", lowest=EXISTS)
        check_number(lease, "lease", lowest=commands.KEEP_LEASE)
        if len(command) == 7:
            self._check_ttl(ttl_ms)
            if lease:
                raise BadRequest("lease: a key has either a lease or a time to live of its own")
        return size

    def _delete(self, command: Command) -> int:
        _, _, key, expect = _filled(command, 3, (ANY,))
        check_number(expect, "expect", lowest=EXISTS)
        return self.check_key(key)

    def _delete_range(self, command: Command) -> int:
        _, _, start, end = _filled(command, 4, ())
        return self._check_range(start, end)

    def _increment(self, command: Command) -> int:
        _, _, key, by = _filled(command, 4, ())
        check_number(by, "by", lowest=-NUMBER_LIMIT)
        return self.check_key(key)

    def _compact(self, command: Command) -> int:
        _, _, revision = _filled(command, 3, ())
        check_number(revision, "revision", lowest=1)
        return 0

    def _grant(self, command: Command) -> int:
        _, _, ttl_ms = _filled(command, 3, ())
        self._check_ttl(ttl_ms)
        return 0

    def _lease_alone(self, command: Command) -> int:
        _, _, lease = _filled(command, 3, ())
        check_number(lease, "lease", lowest=1)
        return 0

    def _lock(self, command: Command) -> int:
        if len(command) == 7:
            raise BadRequest("lock: a key that is to be set has a value, too")
        _, _, name, lease, ttl_ms, wait_ms, key, value = _filled(command, 6, (b"", b""))
        size = self.check_key(name, "name") + self._check_value(value)
        check_number(lease, "lease", lowest=commands.NO_LEASE)
        check_number(wait_ms, "wait", lowest=0)
        if wait_ms > self.limits.max_lock_wait_seconds * 1000:
            raise BadRequest(f"wait: must be at most {self.limits.max_lock_wait_seconds:g} seconds")
        if lease:
            check_number(ttl_ms, "ttl", lowest=0)
            if ttl_ms:
                raise BadRequest("ttl: a lock is held with a lease or with a time to live of its own")
        else:
            self._check_ttl(ttl_ms)
        return size + (self.check_key(key) if len(command) > 6 else 0)

    def _unlock(self, command: Command) -> int:
        _, _, name, token, ticket = _filled(command, 5, ())
        check_number(token, "token", lowest=0)
        check_number(ticket, "ticket", lowest=0)
        return self.check_key(name, "name")

    def _fenced(self, command: Command) -> int:
        _, _, name, token, inner = _filled(command, 5, ())
        check_number(token, "token", lowest=1)
        if type(inner) is tuple and inner[:1] == (commands.FENCED,):
            raise BadRequest("a write is fenced by one lock")
        return self.check_key(name, "name") + self.check(inner)

    # -- transactions --------------------------------------------------------------------------------------------

    def _transaction(self, command: Command) -> int:
        count = _Count(self.limits.max_transaction_operations)
        size = self._branches(command, count, 1)
        if size > self.limits.max_transaction_bytes:
            limit = self.limits.max_transaction_bytes
            raise TooLarge(f"the transaction has {size} bytes of keys and values, at most {limit} are allowed")
        writes_of(command)
        return size

    def _branches(self, command: Command, count: _Count, depth: int) -> int:
        _, _, compares, success, failure = _filled(command, 5, ())
        if depth > MAX_DEPTH:
            raise BadRequest(f"txn: at most {MAX_DEPTH} transactions may stand in one another")
        for field, items in (("compare", compares), ("success", success), ("failure", failure)):
            if type(items) is not tuple:
                raise BadRequest(f"{field}: must be an array")
        count.compares(len(compares))
        count.operations(len(success) + len(failure))
        size = sum(self._compare(compare) for compare in compares)
        return size + sum(self._operation(each, count, depth) for each in (*success, *failure))

    def _compare(self, compare: Any) -> int:
        if type(compare) is not tuple or len(compare) != 5:
            raise BadRequest("compare: must be an array of five")
        target, operator, key, end, operand = compare
        if type(target) is not int or not commands.TARGET_VALUE <= target <= commands.TARGET_LEASE:
            raise BadRequest(f"compare: unknown target {target!r}")
        if type(operator) is not int or not commands.EQUAL <= operator <= commands.GREATER:
            raise BadRequest(f"compare: unknown op {operator!r}")
        size = self.check_key(key) if end is None else self._check_range(key, end)
        if target != commands.TARGET_VALUE:
            check_number(operand, "value", lowest=0)
            return size
        return size + (0 if operand is None else self._check_value(operand))

    def _operation(self, operation: Any, count: _Count, depth: int) -> int:
        if type(operation) is not tuple or len(operation) < 3 or type(operation[0]) is not int:
            raise BadRequest("op: an operation of unknown code or shape")
        code, namespace = operation[:2]
        if type(namespace) is not int or namespace != 0:
            raise BadRequest(f"namespace: must be 0, found {namespace!r}")
        if code == commands.PUT:
            if len(operation) > 6 or operation[4:5] not in ((), (ANY,)):
                raise BadRequest("op: a put in a transaction has no condition and no time to live of its own")
            return self._put(operation)
        if code == commands.DELETE and len(operation) == 3:
            return self._delete(operation)
        if code == commands.DELETE_RANGE:
            return self._delete_range(operation)
        if code == commands.GET:
            _, _, key, revision = _filled(operation, 3, (0,))
            check_number(revision, "revision", lowest=0)
            return self.check_key(key)
        if code == commands.RANGE:
            return self._range(operation)
        if code == commands.TXN:
            return self._branches(operation, count, depth + 1)
        raise BadRequest(f"op: no operation of a transaction: {code}")

    def _range(self, operation: Command) -> int:
        _, _, start, end, limit, flags, revision = _filled(operation, 6, (0,))
        check_number(limit, "limit", lowest=1)
        if limit > MAX_RANGE_RECORDS:
            raise BadRequest(f"limit: at most {MAX_RANGE_RECORDS} in a transaction, found {limit}")
        check_number(flags, "flags", lowest=0)
        if flags > commands.REVERSE | commands.KEYS_ONLY | commands.COUNT_ONLY:
            raise BadRequest(f"flags: unknown, {flags}")
        check_number(revision, "revision", lowest=0)
        return self._check_range(start, end)

    # -- fields --------------------------------------------------------------------------------------------------

    def _check_value(self, value: Any) -> int:
        if type(value) is not bytes:
            raise BadRequest("value: must be bin")
        if len(value) > self.limits.max_value_bytes:
            raise TooLarge(f"value: {len(value)} bytes, at most {self.limits.max_value_bytes} are allowed")
        return len(value)

    def _check_range(self, start: Any, end: Any) -> int:
        for field, edge in (("start", start), ("end", end)):
            if type(edge) is not bytes:
                raise BadRequest(f"{field}: must be bin")
            if len(edge) > self.limits.max_key_bytes:
                raise TooLarge(f"{field}: {len(edge)} bytes, at most {self.limits.max_key_bytes} are allowed")
        return len(start) + len(end)

    def _check_ttl(self, ttl_ms: Any) -> None:
        check_number(ttl_ms, "ttl", lowest=1)
        lowest, highest = self.limits.min_lease_ttl_seconds, self.limits.max_lease_ttl_seconds
        if not lowest * 1000 <= ttl_ms <= highest * 1000:
            raise BadRequest(f"ttl: must be from {lowest:g} to {highest:g} seconds, found {ttl_ms / 1000:g}")


class _Count:
    """How many compares and operations a transaction has had so far, those nested included."""

    def __init__(self, limit: int) -> None:
        self._limit = limit
        self._compares = 0
        self._operations = 0

    def compares(self, count: int) -> None:
        self._compares += count
        self._check("compare", self._compares)

    def operations(self, count: int) -> None:
        self._operations += count
        self._check("op", self._operations)

    def _check(self, field: str, count: int) -> None:
        if count > self._limit:
            raise BadRequest(
                f"{field}: a transaction has at most {self._limit} (limits.maxTransactionOperations), found {count}"
            )


def check_number(number: Any, field: str, *, lowest: int) -> None:
    """Look at a number of 64 bits.

    :raises BadRequest: it is none, or out of range.
    """
    if type(number) is not int or not lowest <= number < NUMBER_LIMIT:
        raise BadRequest(f"{field}: must be a number from {lowest} to 2**63 - 1, found {number!r}")


def named_range(
    prefix: bytes | None, start: bytes | None, end: bytes | None, where: str = ""
) -> tuple[bytes, bytes] | None:
    """Return the range that prefix, or start and end, name; ``None`` where there is none of them.

    :param where: what stands before the names in a message.
    :raises BadRequest: they contradict each other, or the end is empty: nobody means that nothing is below it.
    """
    if prefix is not None:
        if start is not None or end is not None:
            raise BadRequest(f"{where}prefix: cannot be combined with start or end")
        return commands.prefix_range(prefix)
    if end == b"":
        raise BadRequest(f"{where}end: must not be empty; leave it out for no upper end")
    if start is None and end is None:
        return None
    return start or b"", end or b""


def size_of(command: Any) -> int:
    """Return the bytes of all keys and values of a command that was checked."""
    if type(command) is bytes:
        return len(command)
    return sum(map(size_of, command)) if type(command) is tuple else 0


def _filled(command: Command, required: int, defaults: Sequence[Any]) -> tuple[Any, ...]:
    """Return a command with the trailing elements that it left out."""
    if not required <= len(command) <= required + len(defaults):
        raise BadRequest("a command of unknown code or shape")
    return (*command, *defaults[len(command) - required :])
