"""The bounds that the HTTP server keeps, and the names under which users set them."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Final

from raftkv.kvstore.checking import CommandLimits

KIB: Final = 1024
MIB: Final = 1024 * KIB


@dataclass(frozen=True, slots=True, kw_only=True)
class WebSettings:
    """What one node's HTTP server allows.

    Each refusal names the configuration key in :data:`SETTING_NAMES`, so that whoever reads it knows what to change.

    :ivar max_key_bytes: the longest key, in bytes of UTF-8.
    :ivar max_value_bytes: the largest value.
    :ivar max_body_bytes: the largest JSON body; a value may take six times its size there (``\\u00e9``).
    :ivar max_header_bytes: request line and headers together.
    :ivar header_timeout_seconds: from the first byte of a request to the end of its headers.
    :ivar body_timeout_seconds: from the end of the headers to the end of the body.
    :ivar idle_timeout_seconds: how long a connection may stay open without a request, or may leave an answer unread.
    :ivar max_connections: connections open at once.
    :ivar max_buffered_body_bytes: the memory that requests still on their way may take together, over all connections:
        their bodies, and what is sent ahead of an answer.
    :ivar max_unread_bytes: the memory that answers may take together that their clients do not read.
    :ivar watch_buffer_bytes: how much of what a watch was told may wait for its client to read it.
    :ivar linger_seconds: how long a connection that is about to be closed is still read from. To close with unread
        bytes resets the connection, and the client may then lose the answer that says why.
    :ivar farewell_seconds: how long a stopping server keeps connections that wait for a request: one that is on its way
        is answered, and told that it was the last.
    :ivar stop_timeout_seconds: how long a stopping server waits for the requests in flight.
    :ivar access_log: whether each request is logged.
    :ivar commands: the bounds of transactions, leases and locks; those of keys and values are the two above.
    """

    max_key_bytes: int = 4 * KIB
    max_value_bytes: int = MIB
    max_body_bytes: int = 8 * MIB
    max_header_bytes: int = 32 * KIB
    header_timeout_seconds: float = 10.0
    body_timeout_seconds: float = 30.0
    idle_timeout_seconds: float = 75.0
    max_connections: int = 10_000
    max_buffered_body_bytes: int = 64 * MIB
    max_unread_bytes: int = 256 * MIB
    watch_buffer_bytes: int = 64 * KIB
    linger_seconds: float = 2.0
    farewell_seconds: float = 0.2
    stop_timeout_seconds: float = 10.0
    access_log: bool = False
    commands: CommandLimits = field(default_factory=CommandLimits)


SETTING_NAMES: Final = {
    "max_key_bytes": "limits.maxKeyBytes",
    "max_value_bytes": "limits.maxValueBytes",
    "max_body_bytes": "limits.maxBodyBytes",
    "max_header_bytes": "limits.maxHeaderBytes",
    "header_timeout_seconds": "limits.headerTimeout",
    "body_timeout_seconds": "limits.bodyTimeout",
    "idle_timeout_seconds": "limits.idleTimeout",
    "max_connections": "limits.maxConnections",
    "max_buffered_body_bytes": "limits.maxBufferedBodyBytes",
    "max_unread_bytes": "limits.maxUnreadBytes",
    "access_log": "httpAccessLog",
}
