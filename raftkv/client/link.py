"""The native client's connection: one at a time, to the leader where it is known, made again when it is lost.

Knows how to dial, whom to ask next, and when to move; what travels over the connection is left to its owner.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import replace
from random import Random
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.client.results import NotReached
from raftkv.client.retry import RetryPolicy
from raftkv.client.route import Route
from raftkv.protocols.connecting import ProtocolFactory
from raftkv.protocols.hello import Purpose, client_identity
from raftkv.protocols.rpc_client import RpcConnection
from raftkv.protocols.rpc_frames import RPC_LIMITS
from raftkv.protocols.warnings import RateLimitedLog

LOOK_SECONDS: Final = 1.0  #: how often a connection in use is asked who leads
_MAX_HOPS: Final = 3  # from one node that names another to the next, before the one at hand is good enough


class Link:
    """Keeps the best connection, from the first :meth:`want` to :meth:`stop`.

    :param route: the addresses; learns from what nodes say.
    :param connect: makes an endpoint for a ``host:port``.
    :param ready: called with a connection that may be used from now on.
    :param unreachable: called when every address has been tried in vain; the link goes on trying.
    :ivar connection: the one to use, or ``None`` while there is none.
    :ivar address: of ``connection``.
    :ivar cluster_id: that of the last node that said hello; empty before.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        route: Route,
        policy: RetryPolicy,
        connect: Callable[[str], IStreamClientEndpoint],
        connect_timeout_seconds: float,
        reactor: IReactorTime,
        now: Callable[[], float],
        random: Random,
        ready: Callable[[RpcConnection], None],
        unreachable: Callable[[NotReached], None],
    ) -> None:
        self.connection: RpcConnection | None = None
        self.address = ""
        self.cluster_id = ""
        self._route = route
        self._policy = policy
        self._connect = connect
        # A node that is stopped still accepts, in its kernel; only its hello shows that it lives.
        self._limits = replace(RPC_LIMITS, hello_seconds=connect_timeout_seconds)
        self._reactor = reactor
        self._now = now
        self._random = random
        self._announce = ready
        self._unreachable = unreachable
        self._warnings = RateLimitedLog(self._log, clock=reactor)
        self._attempt: Deferred[IProtocol] | None = None
        self._making: RpcConnection | None = None  # TCP has it; the hello, or who leads, is not known yet
        self._retired: set[RpcConnection] = set()  # still owe answers
        self._alive: dict[RpcConnection, Deferred[None]] = {}
        self._timer: IDelayedCall | None = None  # to dial again
        self._look_timer: IDelayedCall | None = None
        self._failures = 0  # in a row
        self._hops = 0
        self._stopped = False

    def want(self) -> None:
        """See to it that there will be a connection."""
        if not (self._stopped or self._is_dialing or self.connection is not None or self._timer is not None):
            self._dial()

    def leave(self, connection: RpcConnection) -> None:
        """Use another connection than this one, whose node cannot serve at present; it may still give answers."""
        if connection is self.connection and len(self._route.candidates(self._now(), prefer_leader=True)) > 1:
            self._retire()
            self.want()

    def stop(self) -> Deferred[None]:
        """Close everything; fires once no connection and no timer is left."""
        self._stopped = True
        for timer in (self._timer, self._look_timer):
            if timer is not None:
                timer.cancel()
        self._timer = self._look_timer = None
        self.connection = None
        if self._attempt is not None:
            self._attempt.cancel()
        for connection in list(self._alive):
            connection.close()
        return gatherResults(list(self._alive.values())).addCallback(lambda _: None)

    # -- dialing -------------------------------------------------------------------------------------------------

    @property
    def _is_dialing(self) -> bool:
        return self._making is not None or self._attempt is not None

    def _dial(self) -> None:
        self._timer = None
        address = self._route.choose(self._now(), prefer_leader=True)
        attempt = self._attempt = self._connect(address).connect(ProtocolFactory(lambda: self._build(address)))
        attempt.addCallbacks(self._connected, self._not_connected, callbackArgs=(address,), errbackArgs=(address,))

    def _build(self, address: str) -> RpcConnection:
        connection = RpcConnection(
            identity=client_identity(),
            purpose=Purpose.CLIENT,
            ready=lambda connection: self._greeted(connection, address),
            clock=self._reactor,
            warnings=self._warnings,
            request_timeout_seconds=self._policy.attempt_timeout_seconds,
            limits=self._limits,
        )
        self._making = connection
        return connection

    def _connected(self, protocol: IProtocol, address: str) -> None:
        self._attempt = None
        if not isinstance(protocol, RpcConnection):
            raise TypeError(f"the endpoint connected {protocol!r}, which this did not build")
        self._alive[protocol] = Deferred()
        protocol.when_closed(lambda: self._lost(protocol, address))
        if self._stopped:
            protocol.close()

    def _not_connected(self, failure: Failure, address: str) -> None:
        self._attempt = self._making = None
        self._failed(address, failure.getErrorMessage())

    def _failed(self, address: str, reason: str) -> None:
        """Try the next address: at once while there is one that has not failed, else after a pause."""
        if self._stopped:
            return
        self._route.failed(address, self._now())
        self._hops = 0
        if self.connection is not None:
            return  # it was to be replaced by a better one, and goes on serving
        self._failures += 1
        rounds, left = divmod(self._failures, len(self._route.addresses))
        if left:
            self._dial()
            return
        self._timer = self._reactor.callLater(self._policy.backoff_seconds(rounds, self._random), self._dial)
        self._unreachable(NotReached(f"{address}: {reason}"))

    # -- a connection's life ---------------------------------------------------------------------------------------

    def _greeted(self, connection: RpcConnection, address: str) -> None:
        if connection.theirs is not None:
            self.cluster_id = connection.theirs.identity.cluster_id
        connection.call("leader", {}, lambda answer: self._told(connection, address, answer))

    def _told(self, connection: RpcConnection, address: str, answer: Any) -> None:
        """A connection, new or in use, has said who leads."""
        if self._stopped or connection.closing or connection in self._retired:
            return
        elsewhere = self._learn(address, answer)
        if elsewhere and self._hops < _MAX_HOPS:
            if connection is not self.connection:
                self._making = None
                connection.close()
            if not self._is_dialing:
                self._hops += 1
                self._dial()  # a connection in use serves until the better one is proven
        elif connection is not self.connection:
            self._retire()
            self._hops = 0
            self._failures = 0
            self._making = None
            self.connection = connection
            self.address = address
            self._start_looking()
            self._announce(connection)

    def _learn(self, address: str, answer: Any) -> bool:
        """Take in who leads; tell whether it is somebody that should be asked instead."""
        if not isinstance(answer, dict):
            return False  # a node that does not tell serves as well
        leader, term, leads = answer.get("rpc_addr"), answer.get("term"), answer.get("is_leader")
        named = address if leads is True else parse_rpc_address_or_none(leader)
        self._route.heard(address, leader=named, term=term if isinstance(term, int) else 0)
        return self._route.choose(self._now(), prefer_leader=True) == self._route.leader != address

    def _lost(self, connection: RpcConnection, address: str) -> None:
        gone = self._alive.pop(connection)
        self._retired.discard(connection)
        reason = connection.refusal or "the connection was lost"
        if connection is self._making:
            self._making = None
            self._failed(address, reason)
        elif connection is self.connection:
            self.connection = None
            # A connection that was good says nothing against its address but that it should not be the first again.
            if self._is_dialing:
                self._route.failed(address, self._now())
            else:
                self._failed(address, reason)
        gone.callback(None)

    def _retire(self) -> None:
        """Use the connection no more; it is closed once it owes no answers."""
        connection, self.connection = self.connection, None
        if connection is not None:
            self._retired.add(connection)

    def _look(self) -> None:
        """Ask the connection who leads, and close what is no longer needed."""
        self._look_timer = None
        for connection in list(self._retired):
            if not connection.outstanding:
                connection.close()
        if self.connection is not None:
            connection, address = self.connection, self.address
            self._hops = 0
            connection.call("leader", {}, lambda answer: self._told(connection, address, answer))
        if self._alive:
            self._start_looking()

    def _start_looking(self) -> None:
        if self._look_timer is None:
            self._look_timer = self._reactor.callLater(LOOK_SECONDS, self._look)


def parse_rpc_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Read the ``rpcAddr`` of several nodes.

    :raises ValueError: one is none, named.
    """
    parsed: list[str] = []
    for text in addresses:
        if not isinstance(text, str):
            raise ValueError(f"address {text!r}: expected a string such as 'localhost:8081'")
        parsed.extend(parse_rpc_address(part) for part in text.split(",") if part.strip())
    if not parsed:
        raise ValueError("no address given; expected something like 'localhost:8081'")
    return tuple(parsed)


def parse_rpc_address(text: str) -> str:
    """Check a ``host:port``.

    :raises ValueError: it is none, named.
    """
    host, _, port = text.strip().rpartition(":")
    bare = host.removeprefix("[").removesuffix("]")
    bracketed = host.startswith("[") and host.endswith("]")
    if "://" in text:
        raise ValueError(f"address {text!r}: expected the rpcAddr of a node, such as 'localhost:8081', not a URL")
    if (
        not bare
        or ((":" in bare) is not bracketed)
        or not (port.isascii() and port.isdigit() and 0 < int(port) < 65536)
        or not bare.isascii()
        or any(character.isspace() or character in "/?#@,[]" for character in bare)
    ):
        raise ValueError(f"address {text!r}: expected something like 'localhost:8081'")
    return f"{host}:{int(port)}"


def parse_rpc_address_or_none(text: object) -> str | None:
    """Read an address that a node named; what is none is taken for absent."""
    if not isinstance(text, str) or not text:
        return None
    try:
        return parse_rpc_address(text)
    except ValueError:
        return None
