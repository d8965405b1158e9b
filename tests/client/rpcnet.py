"""RPC ports in memory: real server protocols behind addresses, and connections that a test can stall and cut."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.error import ConnectError, ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.interfaces import Identity
from raftkv.protocols.rpc import RpcServerProtocol, RpcSettings, node_calls
from raftkv.protocols.rpc_calls import StoreCalls
from raftkv.protocols.warnings import RateLimitedLog
from tests.client.onenode import OneNode


class Side:
    """One end of a connection; bytes arrive at the other a turn later."""

    bufferSize = 0

    def __init__(self, clock: Clock, wire: Wire) -> None:
        self.protocol: Any = None
        self.other: Side
        self.written: list[bytes] = []
        self._clock = clock
        self._wire = wire

    def write(self, data: bytes) -> None:
        if self._wire.is_open:
            self.written.append(data)
            self._clock.callLater(0, self._deliver, data)

    def _deliver(self, data: bytes) -> None:
        if not self._wire.is_open:
            return
        if self._wire.stalled:
            self._wire.held.append((self, data))
        else:
            self.other.protocol.dataReceived(data)

    def loseConnection(self) -> None:
        self._clock.callLater(0, self._wire.cut, ConnectionDone())

    def abortConnection(self) -> None:
        self._clock.callLater(0, self._wire.cut, ConnectionLost())

    def getPeer(self) -> str:
        return self._wire.address

    def registerProducer(self, producer: object, streaming: bool) -> None:
        """Nothing is ever full here."""

    def unregisterProducer(self) -> None:
        """Likewise."""

    def pauseProducing(self) -> None:
        """Likewise."""

    def resumeProducing(self) -> None:
        """Likewise."""


class Wire:
    """A connection.

    :ivar stalled: whether bytes are held back, as by a stopped process.
    """

    def __init__(self, clock: Clock, address: str, client: Protocol, server: Protocol) -> None:
        self.address = address
        self.is_open = True
        self.stalled = False
        self.held: list[tuple[Side, bytes]] = []
        self.client, self.server = Side(clock, self), Side(clock, self)
        self.client.other, self.server.other = self.server, self.client
        for side, protocol in ((self.client, client), (self.server, server)):
            side.protocol = protocol
            protocol.makeConnection(side)

    def release(self) -> None:
        """Let what was held back arrive, and all that comes."""
        self.stalled = False
        held, self.held = self.held, []
        for side, data in held:
            side.other.protocol.dataReceived(data)

    def cut(self, reason: Exception | None = None) -> None:
        """End it at both ends."""
        if self.is_open:
            self.is_open = False
            for side in (self.client, self.server):
                side.protocol.connectionLost(Failure(reason or ConnectionLost()))


class RpcNetwork:
    """Nodes by address.

    :ivar nodes: who listens where; an address without a node refuses connections.
    :ivar wires: every connection ever made.
    :ivar stalled: addresses that accept and then say nothing.
    :ivar old: addresses of nodes that know no reads but those of keys.
    """

    _log = Logger()

    def __init__(self, clock: Clock) -> None:
        self.clock = clock
        self.nodes: dict[str, OneNode] = {}
        self.wires: list[Wire] = []
        self.stalled: set[str] = set()
        self.old: set[str] = set()

    def endpoint(self, address: str) -> IStreamClientEndpoint:
        return _Endpoint(lambda factory: self._connect(address, factory))

    def open_to(self, address: str) -> list[Wire]:
        """Return the open connections to an address."""
        return [wire for wire in self.wires if wire.is_open and wire.address == address]

    def cut(self, address: str) -> None:
        for wire in self.open_to(address):
            wire.cut()

    def kill(self, address: str) -> None:
        """The node is gone, its connections too."""
        del self.nodes[address]
        self.cut(address)

    def _connect(self, address: str, factory: Factory) -> Deferred[Any]:
        node = self.nodes.get(address)
        if node is None:
            return fail(ConnectError(string="refused"))
        reads = StoreCalls(node, cluster_id="c0", rules=RpcSettings().rules, clock=self.clock).table()
        server = RpcServerProtocol(
            key_value=node,
            calls=node_calls(node),
            reads={} if address in self.old else reads,
            settings=RpcSettings(),
            identity=Identity(
                cluster_id="c0", node_id="node1", incarnation="i", raft_addr="h:1", rpc_addr=address, http_addr="h:3"
            ),
            clock=self.clock,
            warnings=RateLimitedLog(self._log, clock=self.clock),
        )
        client: Any = factory.buildProtocol(None)
        wire = Wire(self.clock, address, client, server)
        wire.stalled = address in self.stalled
        self.wires.append(wire)
        return succeed(client)


@implementer(IStreamClientEndpoint)
class _Endpoint:
    def __init__(self, connect: Callable[[Factory], Deferred[Any]]) -> None:
        self._connect = connect

    def connect(self, factory: Factory) -> Deferred[Any]:
        return self._connect(factory)
