"""What the tests of the protocols share: identities, a network in memory, a log that can be read."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError
from twisted.internet.interfaces import IListeningPort, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.test.iosim import FakeTransport, IOPump, connect
from zope.interface import implementer

from raftkv.interfaces import Identity
from raftkv.protocols.warnings import RateLimitedLog


def identity(name: str, cluster_id: str = "c1") -> Identity:
    """Return the identity of a node."""
    return Identity(
        cluster_id=cluster_id,
        node_id=name,
        incarnation=f"inc-{name}",
        raft_addr=f"{name}:raft",
        rpc_addr=f"{name}:rpc",
        http_addr=f"{name}:http",
    )


class Lines:
    """An observer that keeps the events of one logger."""

    def __init__(self) -> None:
        self.events: list[dict[str, Any]] = []
        self.logger = Logger(namespace="test", observer=self.events.append)

    def texts(self) -> list[str]:
        """Return each line as people see it."""
        from twisted.logger import formatEvent

        return [formatEvent(event) for event in self.events]


def warnings(clock: Clock) -> tuple[Lines, RateLimitedLog]:
    """Return a log of warnings and what it has written."""
    lines = Lines()
    return lines, RateLimitedLog(lines.logger, clock=clock)


@implementer(IListeningPort)
class MemoryPort:
    """A listening port of a :class:`Network`."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address

    def startListening(self) -> None:
        """Do nothing."""

    def stopListening(self) -> Deferred[None]:
        """Take no more connections."""
        del self._network.listening[self._address]
        return succeed(None)

    def getHost(self) -> str:
        """Return the address."""
        return self._address


@implementer(IStreamServerEndpoint)
class ServerEndpoint:
    """Listens in a :class:`Network`."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address

    def listen(self, protocolFactory: Any) -> Deferred[MemoryPort]:
        """Listen."""
        self._network.listening[self._address] = protocolFactory
        return succeed(MemoryPort(self._network, self._address))


@implementer(IStreamClientEndpoint)
class ClientEndpoint:
    """Connects in a :class:`Network`."""

    def __init__(self, network: Network, address: str) -> None:
        self._network, self._address = network, address

    def connect(self, protocolFactory: Any) -> Deferred[Any]:
        """Connect, or be refused."""
        network = self._network
        network.attempts.append(self._address)
        factory = network.listening.get(self._address)
        server = None if factory is None else factory.buildProtocol(None)
        if server is None:
            return fail(ConnectError())
        client = protocolFactory.buildProtocol(None)
        pump = connect(
            server, FakeTransport(server, isServer=True), client, FakeTransport(client, isServer=False), greet=False
        )
        network.pumps.append((self._address, pump))
        return succeed(client)


class Network:
    """Addresses where something listens, and connections between them that move when pumped."""

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.listening: dict[str, Any] = {}
        self.pumps: list[tuple[str, IOPump]] = []
        self.attempts: list[str] = []

    def server(self, address: str) -> ServerEndpoint:
        """Return where to listen."""
        return ServerEndpoint(self, address)

    def client(self, address: str) -> ClientEndpoint:
        """Return where to connect."""
        if ":" not in address:
            raise ValueError(f"{address!r} is no address")
        return ClientEndpoint(self, address)

    def flush(self) -> None:
        """Move bytes until all is quiet, without any time passing."""
        moved = True
        while moved:
            self.clock.advance(0)
            moved = False
            for _, pump in list(self.pumps):
                moved = bool(pump.pump()) or moved

    def advance(self, seconds: float, step: float = 0.05) -> None:
        """Let time pass in small steps, moving bytes in between."""
        for _ in range(round(seconds / step)):
            self.clock.advance(step)
            self.flush()

    def cut(self, address: str) -> None:
        """Break every connection to an address."""
        for target, pump in self.pumps:
            if target == address:
                for transport in (pump.clientIO, pump.serverIO):
                    transport.loseConnection()
        self.flush()
        self.pumps = [(target, pump) for target, pump in self.pumps if target != address]
