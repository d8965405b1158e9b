"""What is said on ``rpcAddr``: the numbers of requests and answers. They are part of the protocol.

Every request bears a number of the asking side's choice, and its answer bears the same; answers come in any order.
"""

from __future__ import annotations

import struct
from collections.abc import Sequence
from typing import Final

from raftkv.interfaces import Consistency, Result
from raftkv.kvstore.commands import OK
from raftkv.protocols.framing import MIB, FrameLimits, pack

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
