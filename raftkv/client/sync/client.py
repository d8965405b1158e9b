"""``KVClient`` that blocks."""

from __future__ import annotations

import os
import ssl
from collections.abc import Callable, Iterable
from random import Random
from types import TracebackType

from raftkv.client.core import make_core
from raftkv.client.programs.engine import Engine
from raftkv.client.sync.calls import Calls
from raftkv.client.sync.runtime import BlockingRuntime


class KVClient(Calls):
    """A cluster of raftkv as one object, whose methods return when they are done. ``with`` closes it.

    Calls fail with a :class:`raftkv.errors.RaftKVError`, whose ``outcome`` tells whether a write may have taken
    effect. Any number of threads may use one client at once. Leases and locks are kept alive by threads of their own,
    which end with them.

    :param addresses: the nodes' URLs: one such as ``"http://localhost:8080"``, several with commas between them, or
        several strings or a list.
    :param timeout: seconds that a call may take with everything it needs, at most 600.
    :param attempt_timeout: seconds after which an attempt is given up for another one.
    :param connect_timeout: seconds that a node may take to accept a connection.
    :param max_connections: calls on their way at once; the others wait for their turn, within ``timeout``. Watches and
        waits for locks have connections of their own beside these.
    :param follow_leader: whether nodes may send the client to a leader whose address was not given.
    :param tls: for addresses with ``https``; ``None``: what the system trusts.
    :param random: for the back-off.
    :param entropy: gives random bytes for the id under which the writes of this client are told from others'.
    :raises ValueError: an address or a number that makes no sense, named.
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        *more_addresses: str,
        timeout: float = 10.0,
        attempt_timeout: float = 3.0,
        connect_timeout: float = 1.0,
        max_connections: int = 64,
        follow_leader: bool = True,
        tls: ssl.SSLContext | None = None,
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
        runtime = BlockingRuntime(max_idle=max_connections, connect_timeout_seconds=connect_timeout, tls=tls)
        super().__init__(Engine(core, runtime, max_running=max_connections))

    def __enter__(self) -> KVClient:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.close()
