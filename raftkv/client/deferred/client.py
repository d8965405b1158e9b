"""``KVClient`` for programs on Twisted, over HTTP with treq."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from random import Random
from types import TracebackType
from typing import Any

from raftkv.client.core import make_core
from raftkv.client.deferred.calls import Calls
from raftkv.client.deferred.runtime import TwistedRuntime
from raftkv.client.programs.engine import Engine
from raftkv.client.transport import HTTPTransport, Requester


class KVClient(Calls):
    """A cluster of raftkv as one object. Every call returns a :class:`~twisted.internet.defer.Deferred`.

    Calls fail with a :class:`raftkv.errors.RaftKVError`, whose ``outcome`` tells whether a write may have taken
    effect. Cancelling a call's Deferred closes the connection that carries it; a write that was on its way may have
    taken effect. ``async with`` closes the client.

    :param addresses: the nodes' URLs: one such as ``"http://localhost:8080"``, several with commas between them, or
        several strings or a list.
    :param reactor: the reactor; ``None`` is the one and only.
    :param timeout: seconds that a call may take with everything it needs, at most 600.
    :param attempt_timeout: seconds after which an attempt is given up for another one.
    :param connect_timeout: seconds that a node may take to accept a connection.
    :param max_connections: calls on their way at once; the others wait for their turn, within ``timeout``. Watches and
        waits for locks have connections of their own beside these.
    :param follow_leader: whether nodes may send the client to a leader whose address was not given.
    :param treq_client: a treq client to send with (:class:`treq.testing.StubTreq` in tests).
    :param random: for the back-off.
    :param entropy: gives random bytes for the id under which the writes of this client are told from others'.
    :raises ValueError: an address or a number that makes no sense, named.
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        *more_addresses: str,
        reactor: Any = None,
        timeout: float = 10.0,
        attempt_timeout: float = 3.0,
        connect_timeout: float = 1.0,
        max_connections: int = 64,
        follow_leader: bool = True,
        treq_client: Requester | None = None,
        random: Random | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        core = make_core(
            addresses,
            *more_addresses,
            timeout=timeout,
            attempt_timeout=attempt_timeout,
            follow_leader=follow_leader,
            random=random,
            entropy=entropy,
        )
        if reactor is None:
            from twisted.internet import reactor
        transport = HTTPTransport(
            reactor,
            requester=treq_client,
            max_connections=max_connections,
            connect_timeout_seconds=connect_timeout,
        )
        super().__init__(Engine(core, TwistedRuntime(reactor, transport), max_running=max_connections))

    async def __aenter__(self) -> KVClient:
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        await self.close()
