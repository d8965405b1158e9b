"""The commands of the state machine and their answers, as plain tuples that msgpack packs in C.

A command is ``(code, namespace, ...)``: tuples, because a batch of them is packed by one call and unpacked by one
call on every node, with no object for each in between. ``namespace`` is 0, the only one there is so far: its place is
kept so that the format need not change. Trailing elements that have their default are left out. The encoding is part
of the log's format: ``FORMAT_VERSION`` stands in every payload.

An answer is ``(status, ...)``, made by the state machine and carried unchanged to the caller.
"""

from __future__ import annotations

import hashlib
from collections.abc import Sequence
from typing import Any, Final

import msgpack

Command = tuple[Any, ...]
Result = tuple[Any, ...]

FORMAT_VERSION: Final = 1

# Codes of commands: part of the format.
PUT: Final = 1  # (PUT, namespace, key, value[, expect])       -> (OK, revision)
DELETE: Final = 2  # (DELETE, namespace, key[, expect])        -> (OK, revision, deleted)
SESSION: Final = 3  # (SESSION, client_id, sequence, fingerprint, command) -> the answer of the command
EXPIRE_SESSIONS: Final = 4  # (EXPIRE_SESSIONS, before_ms)     -> (OK, dropped)

# ``expect``: a mod revision that the key must have, or one of these.
ANY: Final = -1  # no condition
EXISTS: Final = -2  # the key must exist
ABSENT: Final = 0  # the key must not exist

# Statuses of answers: part of the format.
OK: Final = 0
PRECONDITION_FAILED: Final = 1  # (PRECONDITION_FAILED, mod_revision)
SEQUENCE_TOO_OLD: Final = 2  # (SEQUENCE_TOO_OLD,)
SEQUENCE_REUSED: Final = 3  # (SEQUENCE_REUSED,)

SESSION_WINDOW: Final = 1024  # answers kept for each client: part of the format, for all nodes must agree
FINGERPRINT_BYTES: Final = 8  # of the fingerprint of a command in a session: part of the format

# Limits of the format itself, for the unpacker. They lie far above every configurable limit, which is checked before
# a command is proposed: a limit that differed between nodes would make their states differ.
MAX_ARRAY_ELEMENTS: Final = 2**20  # commands of a batch, and elements of a command
MAX_BIN_BYTES: Final = 2**30  # a key or a value


def put(key: bytes, value: bytes, expect: int = ANY) -> Command:
    """Make a command that sets ``key``, if ``expect`` holds."""
    return (PUT, 0, key, value) if expect == ANY else (PUT, 0, key, value, expect)


def delete(key: bytes, expect: int = ANY) -> Command:
    """Make a command that deletes ``key``, if ``expect`` holds."""
    return (DELETE, 0, key) if expect == ANY else (DELETE, 0, key, expect)


def in_session(client_id: bytes, sequence: int, command: Command) -> Command:
    """Wrap a command so that it is applied once however often it is sent.

    :param sequence: from 0; a new number for each write of that client.
    """
    fingerprint = hashlib.blake2b(msgpack.packb(command), digest_size=FINGERPRINT_BYTES).digest()
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
