"""The limits of the RPC port."""

from __future__ import annotations

from dataclasses import dataclass, field, replace

from raftkv.protocols.command_rules import CommandRules
from raftkv.protocols.framing import KIB, MIB, FrameLimits
from raftkv.protocols.rpc_frames import RPC_LIMITS


def frame_limits(*, max_transaction_operations: int) -> FrameLimits:
    """Return the limits of frames that can carry every transaction that is let in, and its answer.

    For both sides of what is said between nodes: an array that is too long ends the connection, and with it whatever
    others have on their way.
    """
    return replace(RPC_LIMITS, max_array_length=max(RPC_LIMITS.max_array_length, max_transaction_operations))


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """The limits of the RPC port.

    :ivar limits: of each connection's frames.
    :ivar rules: which commands are let in.
    :ivar max_connections: one more is closed at once.
    :ivar max_unfinished_bytes: of messages that are not complete, over all connections; see
        :mod:`raftkv.protocols.rpc_bounds`. A connection holds 16 KiB of one without being counted.
    :ivar max_unread_bytes: of answers that are not read, over all connections. A connection holds 256 KiB of them
        without being counted, as long as it is let have more.
    :ivar unread_seconds: how long a connection may take to read the answers it has, once they are more than that.
    :ivar max_outstanding: commands and keys of one connection that wait for their answer before nothing more is read
        from it; one read may exceed it.
    :ivar max_group_bytes: keys and values of separate writes that are joined into one call of the store.
    :ivar max_answer_bytes: of one GET of several keys.
    :ivar max_reads: reads of the store by CALL that one connection has under way; the others wait behind them.
    :ivar max_waiting_reads: reads that wait so before nothing more is read from the connection.
    :ivar farewell_seconds: how long a stopping server still tells those who ask that it stops, before it closes what is
        idle: a request that meets a closed connection has an unknown outcome.
    :ivar drain_seconds: how long a stopping server waits for what is in flight.
    """

    limits: FrameLimits = RPC_LIMITS
    rules: CommandRules = field(default_factory=CommandRules)
    max_connections: int = 1024
    max_unfinished_bytes: int = 64 * MIB
    max_unread_bytes: int = 256 * MIB
    unread_seconds: float = 75.0
    max_outstanding: int = 8192
    max_group_bytes: int = 256 * KIB
    max_answer_bytes: int = 4 * MIB
    max_reads: int = 4
    max_waiting_reads: int = 64
    farewell_seconds: float = 0.2
    drain_seconds: float = 5.0
