"""The operations of the HTTP API as values: the request that each one is, and how its answer is read.

Sans-I/O, so that the Deferred, asyncio and blocking flavours are built on the same table. A new endpoint is one
function here and one method of the client. By subject: ``keys`` (one key), ``ranges``, ``transactions``, ``leases``,
``locks`` (and elections), ``watching``, ``members``; ``base`` is what they share.
"""

from raftkv.client.operations.base import Operation
from raftkv.client.operations.keys import (
    compact,
    delete_key,
    get_bytes,
    get_record,
    get_text,
    increment,
    set_value,
)
from raftkv.client.operations.leases import grant_lease, keep_alive, lease_info, leases, revoke_lease
from raftkv.client.operations.locks import (
    campaign,
    election_info,
    lock,
    lock_info,
    locks,
    proclaim,
    resign,
    unlock,
)
from raftkv.client.operations.members import change_members, cluster, status, transfer_leadership
from raftkv.client.operations.ranges import count, delete_range, page
from raftkv.client.operations.transactions import transaction
from raftkv.client.operations.watching import watch

__all__ = [
    "Operation",
    "campaign",
    "change_members",
    "cluster",
    "compact",
    "count",
    "delete_key",
    "delete_range",
    "election_info",
    "get_bytes",
    "get_record",
    "get_text",
    "grant_lease",
    "increment",
    "keep_alive",
    "lease_info",
    "leases",
    "lock",
    "lock_info",
    "locks",
    "page",
    "proclaim",
    "resign",
    "revoke_lease",
    "set_value",
    "status",
    "transaction",
    "transfer_leadership",
    "unlock",
    "watch",
]
