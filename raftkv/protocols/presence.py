"""Whose processes hold connections with this one, and when one of them has closed its last.

A kernel closes the connections of a process that dies, within the same moment; one that lives keeps at least one of
them, unless somebody in between resets them all. Knows connections that were good and how they ended; what that says
of a member is Raft's to judge.
"""

from __future__ import annotations

from collections.abc import Callable

from raftkv.protocols.framing import MessageLineReceiver


class Presence:
    """The good connections between this process and those of other members, whoever dialled.

    :param gone: called with the name of a member when its process has ended the last of them.
    """

    def __init__(self, *, gone: Callable[[str], None]) -> None:
        self._gone = gone
        self._standing: dict[str, set[MessageLineReceiver]] = {}

    def opened(self, peer: str, connection: MessageLineReceiver) -> None:
        """Both sides have said hello on a connection."""
        self._standing.setdefault(peer, set()).add(connection)
        connection.when_closed(lambda: self._closed(peer, connection))

    def _closed(self, peer: str, connection: MessageLineReceiver) -> None:
        standing = self._standing[peer]
        standing.discard(connection)
        if standing:
            return  # one of several: a listener was restarted, or something broke
        del self._standing[peer]
        if connection.ended_by_peer:
            self._gone(peer)
