"""Clients of a cluster. A map:

- :class:`KVClient`: over HTTP with treq, for programs on Twisted; every call returns a Deferred.
- :class:`raftkv.client.aio.KVClient`: the same for asyncio; :class:`raftkv.client.sync.KVClient`: the same, blocking.
- :class:`NativeClient`: for Twisted over the RPC port, pipelined on one connection: keys and batches of them,
  transactions, ranges, leases.
- :class:`Record`, :class:`Written`, :class:`Page`, :class:`Event` and so on: what the calls give, in every flavour.
- :class:`Compare`, :class:`Put`, :class:`Get` and so on: what a transaction is made of.
- Calls fail with a :class:`RaftKVError`; those of the server are in :mod:`raftkv.errors`, and the common ones are
  here too.

Inside, from the bottom: ``operations`` (requests and the reading of their ``answers``, with the values of
``results``, ``model`` and ``requests``), ``session``, ``route``, ``retry``, and over them ``core``: one call as values
in and values out. ``programs`` is what takes time: attempts, pages, watches, leases, locks, elections, once for all
flavours, over the few things that ``runtime`` lists. A flavour (``deferred``, ``aio``, ``sync``) is a runtime, and
methods that call the programs; the methods are written for ``aio``, and the others are made from them. ``transport``
carries HTTP over treq, ``wire`` over h11. ``native``, ``rpc``, ``pipeline`` and ``link`` are the native client, on the
same ``session``, ``route`` and ``retry``; ``spelling`` is what transactions have in common over either way.

Twisted and treq are imported only when one of the two clients for Twisted is asked for.
"""

from typing import TYPE_CHECKING

from raftkv.client.model import (
    Counter,
    DeletedRange,
    ElectionInfo,
    Event,
    Fence,
    GrantedLease,
    Leader,
    LeaseInfo,
    LockInfo,
    Page,
    RevokedLease,
    TransactionResult,
    Unlocked,
)
from raftkv.client.requests import Compare, Delete, DeleteRange, Get, Put, Range, Transaction, exists, missing
from raftkv.client.results import (
    ClientClosed,
    Cluster,
    Consistency,
    Deleted,
    Member,
    NotReached,
    Record,
    Status,
    UnexpectedAnswer,
    ValueNotText,
    Written,
)
from raftkv.errors import (
    AnswerNotKept,
    BadRequest,
    Compacted,
    Conflict,
    FutureRevision,
    LeaseNotFound,
    LockHeld,
    LockNotHeld,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    RaftKVError,
    RequestTimeout,
    SequenceTooOld,
    TooLarge,
)

if TYPE_CHECKING:
    from raftkv.client.deferred import KVClient
    from raftkv.client.native import NativeClient

__all__ = [
    "AnswerNotKept",
    "BadRequest",
    "ClientClosed",
    "Cluster",
    "Compacted",
    "Compare",
    "Conflict",
    "Consistency",
    "Counter",
    "Delete",
    "DeleteRange",
    "Deleted",
    "DeletedRange",
    "ElectionInfo",
    "Event",
    "Fence",
    "FutureRevision",
    "Get",
    "GrantedLease",
    "KVClient",
    "Leader",
    "LeaseInfo",
    "LeaseNotFound",
    "LockHeld",
    "LockInfo",
    "LockNotHeld",
    "Member",
    "NativeClient",
    "NoLeader",
    "NotReached",
    "OutcomeUnknown",
    "Overloaded",
    "Page",
    "PreconditionFailed",
    "Put",
    "RaftKVError",
    "Range",
    "Record",
    "RequestTimeout",
    "RevokedLease",
    "SequenceTooOld",
    "Status",
    "TooLarge",
    "Transaction",
    "TransactionResult",
    "UnexpectedAnswer",
    "Unlocked",
    "ValueNotText",
    "Written",
    "exists",
    "missing",
]


def __getattr__(name: str) -> object:
    """Import the clients for Twisted when they are asked for."""
    if name == "KVClient":
        from raftkv.client.deferred import KVClient

        return KVClient
    if name == "NativeClient":
        from raftkv.client.native import NativeClient

        return NativeClient
    raise AttributeError(f"module {__name__!r} has no attribute {name!r}")
