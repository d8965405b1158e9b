"""Options of sockets, for the flavours that have sockets."""

from __future__ import annotations

import socket
from contextlib import suppress
from typing import Final

# A host that is gone says nothing. The system asks it now and then, so that also whoever only waits finds out.
_PROBE_AFTER_SECONDS: Final = 10
_PROBE_EVERY_SECONDS: Final = 5
_PROBES: Final = 3


def keep_watch(connected: socket.socket | None) -> None:
    """Send small writes at once, and have the system notice when the other host is gone."""
    if connected is None:
        return
    with suppress(OSError):
        connected.setsockopt(socket.IPPROTO_TCP, socket.TCP_NODELAY, 1)
        connected.setsockopt(socket.SOL_SOCKET, socket.SO_KEEPALIVE, 1)
        for name, value in (
            ("TCP_KEEPIDLE", _PROBE_AFTER_SECONDS),
            ("TCP_KEEPINTVL", _PROBE_EVERY_SECONDS),
            ("TCP_KEEPCNT", _PROBES),
        ):
            if hasattr(socket, name):
                connected.setsockopt(socket.IPPROTO_TCP, getattr(socket, name), value)
