"""The limits of the Raft port."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftkv.protocols.connecting import RetryPolicy
from raftkv.protocols.framing import MIB, FrameLimits
from raftkv.protocols.snapshots import TransferSettings


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """The limits of the Raft port.

    :ivar limits: of each connection.
    :ivar retry: when to dial again.
    :ivar transfer: how snapshots travel.
    :ivar max_unsent_bytes: what may wait for one member beyond what its transport holds; more than the core's own
        bound of bytes in flight, so that only heartbeats to a dead connection are ever dropped here.
    :ivar max_connections: incoming ones.
    """

    limits: FrameLimits = field(default_factory=FrameLimits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    max_unsent_bytes: int = 16 * MIB
    max_connections: int = 256
