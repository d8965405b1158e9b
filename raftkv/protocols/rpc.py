"""The server on ``rpcAddr``: native clients, and writes that other nodes forward.

Listens, lets in so many, and lets go of them; what is said on one connection is :mod:`raftkv.protocols.rpc_server`'s
matter, and what the numbers mean is told in :mod:`raftkv.protocols.rpc_frames`.
"""

from __future__ import annotations

from collections.abc import Mapping

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.interfaces import Identity, IKeyValue
from raftkv.protocols.connecting import ListeningPort
from raftkv.protocols.framing import MessageLineReceiver
from raftkv.protocols.rpc_bounds import PortBounds
from raftkv.protocols.rpc_calls import Call, StoreCalls, node_calls
from raftkv.protocols.rpc_server import RpcServerProtocol
from raftkv.protocols.rpc_settings import RpcSettings
from raftkv.protocols.warnings import RateLimitedLog

__all__ = ["RpcServerProtocol", "RpcService", "RpcSettings", "node_calls"]


class RpcService(Service):
    """The RPC port."""

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        endpoint: IStreamServerEndpoint,
        clock: IReactorTime,
        key_value: IKeyValue,
        calls: Mapping[str, Call],
        settings: RpcSettings,
    ) -> None:
        """Take what is needed.

        :param identity: who this node is.
        :param endpoint: listens on ``rpcAddr``: anything with ``listen(factory)``.
        :param clock: the reactor.
        :param key_value: the store.
        :param calls: what CALL can ask for, by name; see :func:`node_calls`. The reads of the store are added here.
        """
        self._identity = identity
        self._clock = clock
        self._key_value = key_value
        self._calls = calls
        self._settings = settings
        self._reads = StoreCalls(key_value, cluster_id=identity.cluster_id, rules=settings.rules, clock=clock).table()
        self._warnings = RateLimitedLog(self._log, clock=clock)
        self._bounds = PortBounds(settings)
        self._port = ListeningPort(
            endpoint=endpoint,
            build=self._build,
            max_connections=settings.max_connections,
            warnings=self._warnings,
        )
        self._stop_timers: list[IDelayedCall] = []

    def startService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: the endpoint fails at once.
        """
        super().startService()
        self._port.start()

    def stopService(self) -> Deferred[None]:
        """Take no connections, refuse new requests, finish what is in flight, and fire once all are closed."""
        super().stopService()
        settings = self._settings
        self._stop_timers = [
            self._clock.callLater(settings.farewell_seconds, self._farewell_said),
            self._clock.callLater(settings.drain_seconds, self._drain_ended),
        ]
        return self._port.stop(_refuse_new).addBoth(self._stopped)

    def address(self) -> IAddress | None:
        """Return where it listens, ``None`` where it does not."""
        return self._port.address()

    def connection_count(self) -> int:
        """Return the number of open connections."""
        return len(self._port.connections)

    def _build(self) -> RpcServerProtocol:
        return RpcServerProtocol(
            key_value=self._key_value,
            calls=self._calls,
            reads=self._reads,
            settings=self._settings,
            identity=self._identity,
            clock=self._clock,
            warnings=self._warnings,
            bounds=self._bounds,
        )

    def _farewell_said(self) -> None:
        for connection in list(self._port.connections):
            if isinstance(connection, RpcServerProtocol):
                connection.finish()

    def _drain_ended(self) -> None:
        for connection in list(self._port.connections):
            connection.abort()

    def _stopped(self, result: Failure | None) -> Failure | None:
        for timer in self._stop_timers:
            if timer.active():
                timer.cancel()
        self._stop_timers.clear()
        return result


def _refuse_new(connection: MessageLineReceiver) -> None:
    if isinstance(connection, RpcServerProtocol):
        connection.refuse_new()
