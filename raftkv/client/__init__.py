"""Clients of a cluster. A map:

- :class:`KVClient`: over HTTP with treq; every method returns a Deferred.
- :class:`NativeClient`: over the RPC port, pipelined on one connection; the same calls, and batches.
- :class:`Record`, :class:`Written`, :class:`Deleted`, :class:`Status`, :class:`Cluster`, :class:`Member`: what the
  calls give.
- Calls fail with a :class:`RaftKVError`; those of the server are in :mod:`raftkv.errors`, and the common ones are
  here too.

Inside: ``core`` is the client without a network (over ``operations``, ``answers``, ``session``, ``route`` and
``retry``), which every flavour shares; ``http`` and ``transport`` are the one for Twisted over HTTP. ``native``,
``pipeline`` and ``link`` are the native client, on the same ``session``, ``route`` and ``retry``.
"""

from raftkv.client.http import KVClient
from raftkv.client.native import NativeClient
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
    BadRequest,
    NoLeader,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    RaftKVError,
    RequestTimeout,
    SequenceTooOld,
    TooLarge,
)

__all__ = [
    "BadRequest",
    "ClientClosed",
    "Cluster",
    "Consistency",
    "Deleted",
    "KVClient",
    "Member",
    "NativeClient",
    "NoLeader",
    "NotReached",
    "OutcomeUnknown",
    "Overloaded",
    "PreconditionFailed",
    "RaftKVError",
    "Record",
    "RequestTimeout",
    "SequenceTooOld",
    "Status",
    "TooLarge",
    "UnexpectedAnswer",
    "ValueNotText",
    "Written",
]
