"""What is said on ``rpcAddr``: the numbers of requests and answers. They are part of the protocol.

Every request bears a number of the asking side's choice, and its answer bears the same; answers come in any order.
"""

from __future__ import annotations

from typing import Final

from raftkv.interfaces import Consistency
from raftkv.protocols.framing import MIB, FrameLimits

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
