"""What is said on ``rpcAddr``: the numbers of requests and answers. They are part of the protocol.

Every request bears a number of the asking side's choice, and its answer bears the same; answers come in any order.

A native client writes with WRITE: every command that :mod:`raftkv.kvstore.commands` lists, transactions and those of
leases too, but for ``EXPIRE`` and ``EXPIRE_SESSIONS``; it reads keys with GET, and everything else with a CALL:

- ``record``: ``key`` (bin), ``revision`` -> ``record`` or nil, for stale reads with ``staleness_ms``.
- ``range``: ``prefix``, or ``start`` and ``end`` (bin); ``delimiter`` (bin), ``limit``, ``continue`` (str),
  ``reverse``, ``keys_only``, ``revision`` -> ``items`` (each key and record), ``folders``, ``count`` of all keys of
  the range, ``continue`` (str or nil), ``revision``. An answer ends early, with a ``continue``, after 1,000 records
  and folders or 1 MiB. With ``count_only`` -> ``count``, ``revision``.
- ``lease``: ``lease``, ``limit`` of keys, ``after`` (bin) which -> ``ttl_ms``, ``remaining_ms``, ``count`` of keys,
  ``keys``, at most 1,000 at once.
- ``leases``: ``limit``, ``continue`` -> ``leases`` (each number, ttl_ms, remaining_ms, count of keys), ``count``,
  ``continue``; at most 1,000 at once.

All of them take ``consistency`` and ``max_stale_ms`` as GET does. Whatever is absent or nil has no bound, or is that of
now; an argument that the node does not know is refused. A node of an older version answers ``not_found`` to a CALL that
it does not know. The tokens of ``continue`` are those of the HTTP API. Locks, elections and watches are not to be had
here. There are the calls ``leader``, ``cluster``, ``status`` and, for a node that is to become a member, ``join``, too;
whatever else nodes ask of each other is ``forbidden`` to a client. The arguments of a CALL are 256 KiB at most.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from raftkv.errors import OutcomeUnknown
from raftkv.interfaces import Consistency, Result
from raftkv.kvstore.commands import OK
from raftkv.protocols.framing import MIB, FrameLimits, pack
from raftkv.protocols.rpc_errors import encode_error

# Requests. 0 and 1 are the hello and its refusal.
WRITE: Final = 2  # (WRITE, request_id, commands, flags)       -> results, one for each command
GET: Final = 3  # (GET, request_id, keys, consistency)         -> records, nil where there is no such key
#                 (GET, request_id, keys, stale, max_stale_ms) -> the same, of a state that is no older (nil for any),
#                                                                 with how old it is at the most
CALL: Final = 4  # (CALL, request_id, name, arguments)         -> whatever that call answers
PING: Final = 5  # (PING, request_id)                          -> nil

# Answers.
RESULT: Final = 20  # (RESULT, request_id, value)
#                     (RESULT, request_id, records, staleness_ms or nil), to a GET with max_stale_ms
ERROR: Final = 21  # (ERROR, request_id, code, message, outcome, details)

FORWARDED: Final = 1  # flag of a WRITE: another node sent it here, so it is not to be forwarded again (B64)

CONSISTENCIES: Final[tuple[Consistency, ...]] = ("linearizable", "lease", "stale")  # a GET has the position here
CONSISTENCY_NUMBERS: Final[dict[Consistency, int]] = {name: number for number, name in enumerate(CONSISTENCIES)}

MAX_STALE_MS: Final = 31_536_000_000  #: a year, which nobody means
MAX_ITEMS: Final = 1024  #: commands of one WRITE, keys of one GET
MAX_REQUEST_ID: Final = 2**63

#: For both sides; a node's settings may replace it on its own port.
RPC_LIMITS: Final = FrameLimits(max_message_bytes=8 * MIB, max_array_length=MAX_ITEMS, max_map_length=256)

# (RESULT, request id, ((OK, revision),)) with numbers of eight bytes, which msgpack reads as it does shorter ones.
_WRITTEN: Final = struct.Struct(">3sQ4sQ")
_WRITTEN_START: Final = bytes((0x93, RESULT, 0xCF))
_WRITTEN_MIDDLE: Final = bytes((0x91, 0x92, OK, 0xCF))


def pack_result(request_id: int, results: Sequence[Result], max_bytes: int) -> bytes:
    """Pack the answer to one write; where it is too large for a message, the other side would close the connection, and
    with it all that is on its way, so that an error is told in its place."""
    frame = pack((RESULT, request_id, results))
    if len(frame) > max_bytes:
        error = OutcomeUnknown("the commands were carried out, but a message cannot hold their answers")
        frame = pack((ERROR, request_id, *encode_error(error)))
    return frame


def pack_results(ids: Sequence[tuple[int, int]], results: Sequence[Result]) -> bytes:
    """Pack the answers to writes of one command each: newlines between them, and none behind the last.

    Nearly all results are those of a put. Those are put together here, in half of the time that msgpack takes.

    :param ids: request ids first; what follows is not looked at.
    :param results: one for each.
    """
    written, start, middle = _WRITTEN.pack, _WRITTEN_START, _WRITTEN_MIDDLE
    return b"\n".join(
        [
            written(start, each[0], middle, result[1])
            if len(result) == 2 and result[0] == OK and type(result[1]) is int
            else pack((RESULT, each[0], (result,)))
            for each, result in zip(ids, results, strict=True)
        ]
    )
