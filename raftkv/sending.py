"""Bytes that leave at once.

Knows one thing of Twisted's transports of TCP: whether something waits in them. What is written to one leaves in the
next turn of the reactor, which has to begin and to end watching the socket for it: two system calls for each write, and
the time of a turn. What waits for nothing can as well be sent in the very call.
"""

from __future__ import annotations

from typing import Any, Final

from twisted.internet import tcp

_OWN_SOCKET: Final = frozenset({tcp.Server, tcp.Client})  # and no class made of them, nor TLS: those do more than send


def send_at_once(transport: Any, data: bytes) -> None:
    """Write to a transport of whatever kind; one of TCP sends what the kernel takes before this returns.

    What is left is the transport's matter, as is an error: it meets the same one, and ends the connection in a turn of
    its own. So nothing of the connection's end happens within this call.
    """
    if (
        type(transport) in _OWN_SOCKET
        and transport.connected
        and not (transport._tempDataBuffer or transport.dataBuffer or transport.disconnecting or transport.TLS)
    ):
        try:
            sent = transport.socket.send(data)
        except OSError:
            sent = 0
        if sent == len(data):
            return
        data = data[sent:]
    transport.write(data)
