"""The commands of the state machine and their answers, as plain tuples that msgpack packs in C.

A command is ``(code, namespace, ...)``: tuples, because a batch of them is packed by one call and unpacked by one
call on every node, with no object for each in between. ``namespace`` is 0, the only one there is so far: its place is
kept so that the format need not change. Trailing elements that have their default are left out. The encoding is part
of the log's format: ``FORMAT_VERSION`` stands in every payload.

An answer is ``(status, ...)``, made by the state machine and carried unchanged to the caller. Where a command has a
``lease`` or a ``revision`` that is not there any more (or not yet), nothing has changed and the answer says so.

A range is ``start, end``: ``start <= key < end``, where ``end`` is ``b""`` for "no upper end".
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Sequence
from typing import Any, Final

import msgpack

from raftkv.kvstore.keys import prefix_end

Command = tuple[Any, ...]
Result = tuple[Any, ...]
Operation = tuple[Any, ...]  #: what a transaction does: a PUT, DELETE, DELETE_RANGE or TXN as below, a GET or a RANGE
Compare = tuple[
    int, int, bytes, bytes | None, bytes | int | None
]  #: target, operator, key, end (None: that key), operand

FORMAT_VERSION: Final = 2

# Codes of commands: part of the format.
PUT: Final = (
    1  # (PUT, ns, key, value[, expect[, lease[, ttl_ms]]]) -> (OK, revision), with ttl_ms (OK, revision, lease)
)
DELETE: Final = 2  # (DELETE, ns, key[, expect])               -> (OK, revision, deleted)
SESSION: Final = 3  # (SESSION, client_id, sequence, fingerprint, command) -> the answer of the command
EXPIRE_SESSIONS: Final = 4  # (EXPIRE_SESSIONS, before_ms)     -> (OK, dropped)
GET: Final = 5  # (GET, ns, key[, revision]), only in a transaction
RANGE: Final = 6  # (RANGE, ns, start, end, limit, flags[, revision]), only in a transaction
DELETE_RANGE: Final = 7  # (DELETE_RANGE, ns, start, end)      -> (OK, revision, how many)
TXN: Final = 8  # (TXN, ns, compares, success, failure)        -> (OK, revision, succeeded, results)
INCREMENT: Final = 9  # (INCREMENT, ns, key, by)               -> (OK, revision, value)
COMPACT: Final = 10  # (COMPACT, ns, revision)                 -> (OK, compact_revision)
GRANT: Final = 11  # (GRANT, ns, ttl_ms)                       -> (OK, lease)
KEEPALIVE: Final = 12  # (KEEPALIVE, ns, lease)                -> (OK, ttl_ms)
REVOKE: Final = 13  # (REVOKE, ns, lease)                      -> (OK, revision, keys deleted)
EXPIRE: Final = 14  # (EXPIRE, limit)                          -> (OK, ended, whether more are due)
LOCK: Final = (
    15  # (LOCK, ns, name, lease, ttl_ms, wait_ms[, key, value]) -> (OK, token, lease, ticket); token 0: it waits
)
UNLOCK: Final = 16  # (UNLOCK, ns, name, token, ticket)        -> (OK, revision, released)
FENCED: Final = 17  # (FENCED, ns, name, token, command)       -> the answer of the command

# ``expect``: a mod revision that the key must have, or one of these.
ANY: Final = -1  # no condition
EXISTS: Final = -2  # the key must exist
ABSENT: Final = 0  # the key must not exist

# ``lease`` of a put: the lease whose end deletes the key, or one of these.
NO_LEASE: Final = 0
KEEP_LEASE: Final = -1  # the one that the key has had

# ``flags`` of a RANGE.
REVERSE: Final = 1  # from the end
KEYS_ONLY: Final = 2  # values come as b""
COUNT_ONLY: Final = 4  # no records, only their number

# Operators of a compare. Its target is the place of the field in a record.
EQUAL: Final = 0
NOT_EQUAL: Final = 1
LESS: Final = 2
GREATER: Final = 3
TARGET_VALUE: Final = (
    0  # of a key that is not there: None, which equals nothing but None and is neither less nor greater
)
TARGET_CREATE_REVISION: Final = 1  # of a key that is not there: 0; likewise those below
TARGET_MOD_REVISION: Final = 2
TARGET_VERSION: Final = 3
TARGET_LEASE: Final = 4

#: What people call targets and operators.
TARGETS: Final[dict[str, int]] = {
    "value": TARGET_VALUE,
    "version": TARGET_VERSION,
    "create_revision": TARGET_CREATE_REVISION,
    "mod_revision": TARGET_MOD_REVISION,
    "lease": TARGET_LEASE,
}
OPERATORS: Final[dict[str, int]] = {"=": EQUAL, "!=": NOT_EQUAL, "<": LESS, ">": GREATER}

# Statuses of answers: part of the format.
OK: Final = 0
PRECONDITION_FAILED: Final = 1  # (PRECONDITION_FAILED, mod_revision)
SEQUENCE_TOO_OLD: Final = 2  # (SEQUENCE_TOO_OLD,)
SEQUENCE_REUSED: Final = 3  # (SEQUENCE_REUSED,)
LEASE_NOT_FOUND: Final = 4  # (LEASE_NOT_FOUND, lease): it has ended, or there never was one
COMPACTED: Final = 5  # (COMPACTED, compact_revision): a revision is no longer kept
FUTURE_REVISION: Final = 6  # (FUTURE_REVISION, revision): there has been no such revision yet; the store's own
NOT_A_NUMBER: Final = 7  # (NOT_A_NUMBER,): an increment found something else
OUT_OF_RANGE: Final = 8  # (OUT_OF_RANGE,): an increment would leave the numbers of 64 bits
LOCK_HELD: Final = 9  # (LOCK_HELD, token): somebody else holds it, and no wait was asked for
LOCK_NOT_HELD: Final = 10  # (LOCK_NOT_HELD, token): with that token it is not; the present holder's, 0 for nobody
ANSWER_NOT_KEPT: Final = (
    11  # (ANSWER_NOT_KEPT, revision): a repeat of what was applied, whose answer was too large to keep
)
TRANSACTION_REFUSED: Final = 12  # (TRANSACTION_REFUSED,): two of the operations that were to run write to one key
ANSWER_TOO_LARGE: Final = 13  # (ANSWER_TOO_LARGE,): what the operations read would be more than MAX_READ_BYTES

SESSION_WINDOW: Final = 1024  # answers kept for each client: part of the format, for all nodes must agree
FINGERPRINT_BYTES: Final = 8  # of the fingerprint of a command in a session: part of the format
MAX_KEPT_ANSWER_BYTES: Final = 16 * 1024  # larger answers are not kept for a repeat: part of the format
MAX_RANGE_BYTES: Final = 1024 * 1024  # of keys and values in one RANGE of a transaction, which then ends early
MAX_READ_BYTES: Final = 4 * 1024 * 1024  # of keys and values that a transaction reads, so that a message can hold them
MAX_DEPTH: Final = 16  # of transactions in transactions: part of the format

# Limits of the format itself, for the unpacker. They lie far above every configurable limit, which is checked before
# a command is proposed: a limit that differed between nodes would make their states differ.
MAX_ARRAY_ELEMENTS: Final = 2**20  # commands of a batch, and elements of a command
MAX_BIN_BYTES: Final = 2**30  # a key or a value
_ENVELOPE_BYTES: Final = 32  # what stands in front of the commands of a batch, at most


def put(key: bytes, value: bytes, expect: int = ANY, *, lease: int = NO_LEASE, ttl_ms: int = 0) -> Command:
    """Make a command that sets ``key``, if ``expect`` holds.

    :param lease: its end deletes the key; it must exist.
    :param ttl_ms: makes a lease for this key alone instead, which ends with the key if not by time; 0 for none.
    """
    if ttl_ms:
        return (PUT, 0, key, value, expect, NO_LEASE, ttl_ms)
    if lease:
        return (PUT, 0, key, value, expect, lease)
    return (PUT, 0, key, value) if expect == ANY else (PUT, 0, key, value, expect)


def plain_put(key: bytes, value: bytes) -> Command:
    """Make the commonest command, :func:`put` without more, in half the time."""
    return (PUT, 0, key, value)


def delete(key: bytes, expect: int = ANY) -> Command:
    """Make a command that deletes ``key``, if ``expect`` holds."""
    return (DELETE, 0, key) if expect == ANY else (DELETE, 0, key, expect)


def delete_range(start: bytes, end: bytes) -> Command:
    """Make a command that deletes all keys of a range, in one revision."""
    return (DELETE_RANGE, 0, start, end)


def prefix_range(prefix: bytes) -> tuple[bytes, bytes]:
    """Return the range of everything that starts with ``prefix``."""
    return prefix, prefix_end(prefix) or b""


def increment(key: bytes, by: int) -> Command:
    """Make a command that adds to the decimal number in a value; no key counts as 0. The key keeps its lease."""
    return (INCREMENT, 0, key, by)


def get(key: bytes, revision: int = 0) -> Operation:
    """Make the operation of a transaction that reads a key, as of a revision unless that is 0.

    Its result is ``(GET, record or None)``.
    """
    return (GET, 0, key, revision) if revision else (GET, 0, key)


def range_of(start: bytes, end: bytes, limit: int, flags: int = 0, revision: int = 0) -> Operation:
    """Make the operation of a transaction that reads a range; ``limit`` records at most, from 1.

    Its result is ``(RANGE, ((key, record), ...), count of the whole range, where the next page begins or None)``.
    """
    return (RANGE, 0, start, end, limit, flags, revision) if revision else (RANGE, 0, start, end, limit, flags)


def compare(
    target: int, operator: int, key: bytes, operand: bytes | int | None, *, end: bytes | None = None
) -> Compare:
    """Make a condition of a transaction on a key or, with ``end``, on every key of a range (it holds for none)."""
    return (target, operator, key, end, operand)


def transaction(
    compares: Sequence[Compare], success: Sequence[Operation], failure: Sequence[Operation] = ()
) -> Command:
    """Make a command that carries out one of two lists of operations, all of it in one revision.

    The results are those of the list that ran: ``(PUT,)``, ``(DELETE, deleted)``, ``(DELETE_RANGE, how many)``, those
    of :func:`get` and :func:`range_of`, and ``(TXN, succeeded, results)``. It is an operation of another one too.
    """
    return (TXN, 0, tuple(compares), tuple(success), tuple(failure))


def compact(revision: int) -> Command:
    """Make a command that lets go of what only reads and watches below ``revision`` would need."""
    return (COMPACT, 0, revision)


def grant(ttl_ms: int) -> Command:
    """Make a command that makes a lease, of ``ttl_ms`` (from 1) of cluster time."""
    return (GRANT, 0, ttl_ms)


def keepalive(lease: int) -> Command:
    """Make a command that gives a lease its whole time to live again, counted from now."""
    return (KEEPALIVE, 0, lease)


def revoke(lease: int) -> Command:
    """Make a command that ends a lease, with its keys and locks."""
    return (REVOKE, 0, lease)


def expire(limit: int) -> Command:
    """Make a command that ends what has come to its time: leases, and waits for locks; ``limit`` at most.

    What is due is decided by the entry's cluster time where it is applied, so that it does no harm whoever sends it,
    however late (B35).
    """
    return (EXPIRE, limit)


def lock(
    name: bytes,
    *,
    ttl_ms: int = 0,
    lease: int = NO_LEASE,
    wait_ms: int = 0,
    key: bytes = b"",
    value: bytes = b"",
) -> Command:
    """Make a command that takes a lock, or a ticket in its queue.

    :param ttl_ms: for a lease of its own, which begins when the lock is taken; or else
    :param lease: one that exists, whose end frees the lock or ends the wait. It is answered at once if it has it.
    :param wait_ms: how long a ticket waits, in cluster time; 0 takes the lock now or not at all.
    :param key: set to ``value``, with the lock's lease, in the revision that is the token; ``b""`` for none.
    """
    command = (LOCK, 0, name, lease, ttl_ms, wait_ms)
    return (*command, key, value) if key else command


def unlock(name: bytes, *, token: int = 0, ticket: int = 0) -> Command:
    """Make a command that frees a lock, or ends a wait; with neither given, whoever holds it loses it.

    :param token: that of the holder.
    :param ticket: that of the holder, or of who waits.
    """
    return (UNLOCK, 0, name, token, ticket)


def fenced(name: bytes, token: int, command: Command) -> Command:
    """Make a command that is carried out only while a lock is held with that token (B62)."""
    return (FENCED, 0, name, token, command)


def in_session(
    client_id: bytes, sequence: int, command: Command, *, pack: Callable[[Command], bytes] = msgpack.packb
) -> Command:
    """Wrap a command so that it is applied once however often it is sent.

    :param sequence: from 0; a new number for each write of that client.
    :param pack: packs as ``msgpack.packb`` does; a packer that exists already, which threads must not share, is faster.
    """
    fingerprint = hashlib.blake2b(pack(command), digest_size=FINGERPRINT_BYTES).digest()
    return (SESSION, client_id, sequence, fingerprint, command)


def expire_sessions(before_ms: int) -> Command:
    """Make a command that drops sessions whose last write is older than a cluster time."""
    return (EXPIRE_SESSIONS, before_ms)


def pack_batch(cluster_time_ms: int, wall_time_ms: int, commands: Sequence[Command]) -> bytes:
    """Pack the payload of one log entry.

    :param cluster_time_ms: the leader's continuation of the cluster's clock; all that a command may know of time.
    :param wall_time_ms: Unix time in milliseconds, for people and for point-in-time restore only.
    """
    packed: bytes = msgpack.packb((FORMAT_VERSION, cluster_time_ms, wall_time_ms, commands))
    return packed


def unpack_batch(payload: bytes) -> tuple[int, tuple[Command, ...]]:
    """Return the cluster time and the commands of a payload that :func:`pack_batch` made.

    Only the envelope is checked; each command is checked where it is applied.

    :raises ValueError: the bytes are no such payload, or of a format version that is not known here.
    """
    try:
        batch = msgpack.unpackb(
            payload,
            use_list=False,
            max_array_len=MAX_ARRAY_ELEMENTS,
            max_bin_len=MAX_BIN_BYTES,
            max_map_len=0,
            max_ext_len=0,
        )
    except Exception as error:
        # Unpacking raises half a dozen classes without a common base; none of them leaves anything to apply.
        raise ValueError(f"not msgpack within the limits of the format: {error!r}") from error
    if not isinstance(batch, tuple) or not batch or batch[0] != FORMAT_VERSION:
        raise ValueError(f"not a batch of format version {FORMAT_VERSION}: {str(batch)[:80]}")
    if len(batch) != 4:
        raise ValueError(f"a batch has 4 elements, not {len(batch)}")
    _, cluster_time_ms, _, commands = batch
    if type(cluster_time_ms) is not int or type(commands) is not tuple:
        raise ValueError("a batch holds a cluster time and a list of commands")
    return cluster_time_ms, commands


def wall_time_ms(payload: bytes) -> int:
    """Return the Unix time in milliseconds at which the leader packed a payload, without looking at its commands.

    :raises ValueError: the bytes are no such payload, or of a format version that is not known here.
    """
    unpacker = msgpack.Unpacker()
    unpacker.feed(payload[:_ENVELOPE_BYTES])
    try:
        length, version = unpacker.read_array_header(), unpacker.unpack()
        _, wall_ms = unpacker.unpack(), unpacker.unpack()
    except Exception as error:  # as in unpack_batch
        raise ValueError(f"not the beginning of a batch: {error!r}") from error
    if length != 4 or version != FORMAT_VERSION or type(wall_ms) is not int:
        raise ValueError(f"not a batch of format version {FORMAT_VERSION}: {payload[:_ENVELOPE_BYTES]!r}")
    return wall_ms
