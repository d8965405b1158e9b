"""Values to commands of the state machine: with the checks of the HTTP clients, and of what a message can carry."""

from __future__ import annotations

from typing import Final

from raftkv.client.model import FenceLike, LeaseLike
from raftkv.client.operations.base import seconds_number
from raftkv.client.requests import Range, Transaction
from raftkv.client.results import key_bytes, value_bytes
from raftkv.client.spelling import MAX_INTEGER, Edges, lease_number, positive, range_edges, spelled
from raftkv.errors import BadRequest, TooLarge
from raftkv.kvstore import commands
from raftkv.kvstore.checking import MAX_RANGE_RECORDS, named_range, size_of
from raftkv.kvstore.commands import Command, Compare, Operation
from raftkv.protocols.rpc_frames import MAX_ITEMS, RPC_LIMITS

_MAX_COMMAND_BYTES: Final = RPC_LIMITS.max_message_bytes // 2  # of keys and values; several times what servers take
_MAX_MILLISECONDS: Final = 2.0**62  # which no server takes, but a command can say


def expectation(if_mod_revision: int | None, *, if_exists: bool = False, if_absent: bool = False) -> int:
    """Return a condition as commands have it.

    :raises BadRequest: a revision below 0, or two conditions at once.
    """
    if if_mod_revision is None and not if_absent:
        return commands.EXISTS if if_exists else commands.ANY
    if (if_mod_revision is not None) + if_exists + if_absent > 1:
        raise BadRequest("if_exists: give only one of if_mod_revision, if_exists and if_absent")
    if if_mod_revision is None:
        return commands.ABSENT
    if (
        isinstance(if_mod_revision, bool)
        or not isinstance(if_mod_revision, int)
        or not 0 <= if_mod_revision <= MAX_INTEGER
    ):
        raise BadRequest(f"if_mod_revision: found {if_mod_revision!r}, expected a whole number from 0 to {MAX_INTEGER}")
    return if_mod_revision


def put(
    key: str | bytes,
    value: str | bytes,
    expect: int = commands.ANY,
    *,
    lease: LeaseLike | None = None,
    ttl: float | None = None,
    lock: FenceLike | None = None,
) -> Command:
    """Make a put that may hang on a lease or a lock.

    :raises BadRequest: what is asked for makes no sense.
    """
    if lease is not None and ttl is not None:
        raise BadRequest("ttl: give either lease or ttl, not both")
    number = commands.NO_LEASE if lease is None else lease_number(lease)
    ttl_ms = 0 if ttl is None else milliseconds("ttl", ttl)
    made = commands.put(key_bytes(key), value_bytes(value), expect, lease=number, ttl_ms=ttl_ms)
    check_size(len(made[2]) + len(made[3]))
    return fenced(made, lock)


def plain_put(key: str | bytes, value: str | bytes) -> Command:
    """Make a put without more, in few steps."""
    made = commands.plain_put(key_bytes(key), value_bytes(value))
    size_bytes = len(made[2]) + len(made[3])
    if size_bytes > _MAX_COMMAND_BYTES:  # asked here as well: a call is a part of these few steps
        check_size(size_bytes)
    return made


def check_size(size_bytes: int) -> None:
    """Refuse what no message could carry: the server would close the connection, and with it all that is on its way.

    :param size_bytes: of keys and values.
    :raises TooLarge: that is it.
    """
    if size_bytes > _MAX_COMMAND_BYTES:
        raise TooLarge(f"the write has {size_bytes} bytes of keys and values, at most {_MAX_COMMAND_BYTES} can be sent")


def delete(key: str | bytes, if_mod_revision: int | None, *, if_exists: bool, lock: FenceLike | None = None) -> Command:
    """Make a delete.

    :raises BadRequest: what is asked for makes no sense.
    """
    if if_mod_revision == 0:
        raise BadRequest("if_mod_revision: found 0, which stands for a missing key; there is nothing to delete then")
    name = key_bytes(key)
    check_size(len(name))
    return fenced(commands.delete(name, expectation(if_mod_revision, if_exists=if_exists)), lock)


def delete_range(
    prefix: str | bytes | None, start: str | bytes | None, end: str | bytes | None, lock: FenceLike | None
) -> Command:
    """Make a delete of a range.

    :raises BadRequest: nothing says which; an empty ``prefix`` is every key.
    """
    edges = range_edges(prefix, start, end)
    if not edges:
        raise BadRequest("prefix: give prefix, start or end; prefix='' is every key")
    start_key, end_key = _named(edges)
    check_size(len(start_key) + len(end_key))
    return fenced(commands.delete_range(start_key, end_key), lock)


def increment(key: str | bytes, by: int, lock: FenceLike | None) -> Command:
    """Make an increment.

    :raises BadRequest: ``by`` does not fit into 64 bits.
    """
    if isinstance(by, bool) or not isinstance(by, int) or not -MAX_INTEGER - 1 <= by <= MAX_INTEGER:
        raise BadRequest(f"by: found {by!r}, expected a whole number of 64 bits")
    name = key_bytes(key)
    check_size(len(name))
    return fenced(commands.increment(name, by), lock)


def transaction(whole: Transaction, lock: FenceLike | None = None) -> Command:
    """Make a transaction.

    :raises BadRequest: a part of it makes no sense.
    :raises TooLarge: no message could carry it.
    """
    command: Command = spelled(whole, _Commands())
    check_size(size_of(command))
    return fenced(command, lock)


def fenced(command: Command, lock: FenceLike | None) -> Command:
    """Make a command that is carried out only while a lock is held.

    :raises BadRequest: that is no lock that can be held.
    """
    if lock is None:
        return command
    fence = lock.fence
    return commands.fenced(key_bytes(fence.name, "lock"), positive("token", fence.token), command)


def milliseconds(name: str, seconds: float) -> int:
    """Return a number of seconds as commands have it.

    :raises BadRequest: it is no number, or less than a thousandth.
    """
    return round(min(seconds_number(name, seconds) * 1000, _MAX_MILLISECONDS))


def _named(edges: Edges) -> tuple[bytes, bytes]:
    return named_range(edges.get("prefix"), edges.get("start"), edges.get("end")) or (b"", b"")


class _Commands:
    """Writes a transaction as a command."""

    def compare(self, where: bytes | Edges, target: str, op: str, operand: bytes | int | None) -> Compare:
        if target not in commands.TARGETS:
            raise BadRequest(f"compare: {target!r:.80} is not one of {', '.join(commands.TARGETS)}")
        if op not in commands.OPERATORS:
            raise BadRequest(f"compare: {op!r:.80} is not one of {', '.join(commands.OPERATORS)}")
        start, end = (where, None) if isinstance(where, bytes) else _named(where)
        return commands.compare(commands.TARGETS[target], commands.OPERATORS[op], start, operand, end=end)

    def put(self, key: bytes, value: bytes, lease: int | None) -> Operation:
        return commands.put(key, value, lease=lease or commands.NO_LEASE)

    def get(self, key: bytes, revision: int | None) -> Operation:
        return commands.get(key, revision or 0)

    def delete(self, key: bytes) -> Operation:
        return commands.delete(key)

    def delete_range(self, edges: Edges) -> Operation:
        return commands.delete_range(*_named(edges))

    def range(self, edges: Edges, operation: Range) -> Operation:
        flags = commands.REVERSE if operation.reverse else 0
        flags |= commands.KEYS_ONLY if operation.keys_only else 0
        flags |= commands.COUNT_ONLY if operation.count_only else 0
        limit = MAX_RANGE_RECORDS if operation.limit is None else operation.limit
        return commands.range_of(*_named(edges), limit, flags, operation.revision or 0)

    def nested(self, whole: Operation) -> Operation:
        return whole

    def transaction(self, compare: list[Compare], success: list[Operation], failure: list[Operation]) -> Command:
        for field, items in (("compare", compare), ("success", success), ("failure", failure)):
            if len(items) > MAX_ITEMS:
                raise BadRequest(f"{field}: found {len(items)}, more than the {MAX_ITEMS} that a message can carry")
        return commands.transaction(compare, success, failure)
