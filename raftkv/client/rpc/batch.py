"""Writes of one turn of the reactor that leave in one request: a request each would cost both sides several times more.

Knows what may travel together and how much of it; what becomes of the answer is its owner's matter.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Final

from raftkv.client.rpc.request import Request
from raftkv.kvstore.commands import DELETE, INCREMENT, PUT, Command
from raftkv.protocols.rpc_client import RpcConnection

# Of keys and values in one request of several: a larger write costs hardly more in a request of its own.
_MAX_BYTES: Final = 64 * 1024
# So many leave before the turn ends, and the servers need not wait for those that follow. With fewer the entries of the
# log become so small that they cost more than the waiting.
_LEAVING: Final = 96
_SHORT_ANSWERED: Final = frozenset({PUT, DELETE, INCREMENT})  # what is read by transactions may fill a message


def may_share(items: tuple[Command, ...]) -> bool:
    """Tell whether a write may travel with others: one command, with a short answer."""
    return len(items) == 1 and items[0][0] in _SHORT_ANSWERED


class WriteBatch:
    """Writes that wait for the end of the turn on one connection.

    :param address: where the connection leads.
    :param answered: called once for what was sent together, with the batch's requests and the answer.
    """

    __slots__ = ("_answered", "_bytes", "_requests", "_staying", "address", "connection")

    def __init__(
        self,
        connection: RpcConnection,
        address: str,
        answered: Callable[[list[Request], RpcConnection, str, Any], None],
    ) -> None:
        self.connection = connection
        self.address = address
        self._answered = answered
        self._requests: list[Request] = []
        self._bytes = 0
        self._staying = 0  # writes of this turn that have not left yet

    def add(self, request: Request) -> None:
        """Take a write that may share, numbered."""
        item = request.items[0]
        size_bytes = len(item[2]) + (len(item[3]) if item[0] == PUT else 0)
        if self._bytes + size_bytes > _MAX_BYTES:
            self.send()
        self._requests.append(request)
        self._bytes += size_bytes
        self._staying += 1
        if self._staying == 1:
            self.connection.before_flush(self._leave)
        elif self._staying == _LEAVING:
            self.connection.flush()

    def withdraw(self) -> list[Request]:
        """Return what has not been sent, and send none of it."""
        requests, self._requests = self._requests, []
        self._bytes = 0
        return requests

    def send(self) -> None:
        """Send what there is, unless nobody waits for it any more; it leaves with the turn."""
        requests = [request for request in self.withdraw() if not request.is_over]
        if requests:
            connection, address, answered = self.connection, self.address, self._answered
            connection.write(
                [request.commands[0] for request in requests],
                lambda answer: answered(requests, connection, address, answer),
            )

    def _leave(self) -> None:
        self._staying = 0
        self.send()
