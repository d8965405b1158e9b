"""What a node with an empty data directory asks the others, and is asked by them, on ``raft.bindAddr``.

The hello says who speaks; one message behind it says whether the listening side holds anything: a term, a vote, a log.
What follows from the answers is decided in :mod:`raftkv.membership.founding`.
"""

from __future__ import annotations

from collections.abc import Callable
from types import NoneType
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import ProtocolViolation
from raftkv.interfaces import Identity, Standing
from raftkv.protocols.connecting import ListeningPort, ProtocolFactory
from raftkv.protocols.framing import FrameLimits, MessageLineReceiver
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose, Refused
from raftkv.protocols.rpc_errors import Unreachable
from raftkv.protocols.warnings import RateLimitedLog

STANDING: Final = 0  # (STANDING, holds)
_MAX_CONNECTIONS: Final = 256


def tell_standing(connection: GreetingReceiver, *, holds: bool | None) -> None:
    """Answer somebody who asks, and close.

    :param holds: see :class:`~raftkv.interfaces.Standing`.
    """
    connection.send_message((STANDING, holds))
    connection.close()


class Asking(GreetingReceiver):
    """A connection that asks one peer what it holds.

    :param peer: the member that must be at the other end.
    :param answered: called once, with the answer, or with what went wrong.
    """

    def __init__(
        self,
        *,
        peer: str,
        answered: Callable[[Standing | Unreachable], None],
        identity: Identity,
        clock: IReactorTime,
        limits: FrameLimits,
        warnings: RateLimitedLog,
    ) -> None:
        super().__init__(
            identity=identity,
            dials_for=Purpose.ASK,
            accepts=(Purpose.ASK,),
            clock=clock,
            limits=limits,
            warnings=warnings,
        )
        self._peer = peer
        self._answered = answered
        self._reason = "the connection was lost"

    def check_hello(self, hello: Hello) -> None:
        """Make sure that the right node is at the other end."""
        if hello.identity.node_id != self._peer:
            raise Refused(f"it is {hello.identity.node_id!r}, not {self._peer!r}")

    def refused(self, reason: str) -> None:
        """Keep the reason."""
        self._reason = reason

    def request_received(self, message: Any) -> None:
        """Take the answer."""
        types = tuple(map(type, message)) if type(message) is tuple else ()
        if types[:2] not in ((int, bool), (int, NoneType)) or message[0] != STANDING or self.theirs is None:
            raise ProtocolViolation("an answer that does not say what the node holds")
        self._end(Standing(identity=self.theirs.identity, holds=message[1]))
        self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End without an answer, unless there was one; called by Twisted."""
        super().connectionLost(reason)
        self._end(Unreachable(self._reason))

    def _end(self, answer: Standing | Unreachable) -> None:
        answered, self._answered = self._answered, lambda _: None
        answered(answer)


def ask_standing(
    endpoint: IStreamClientEndpoint,
    *,
    peer: str,
    identity: Identity,
    clock: IReactorTime,
    limits: FrameLimits,
    warnings: RateLimitedLog,
) -> Deferred[Standing]:
    """Ask a peer what it holds.

    :return: fires with the answer, or fails with :exc:`~raftkv.protocols.rpc_errors.Unreachable`.
    """
    connections: list[Asking] = []
    result: Deferred[Standing] = Deferred(lambda _: stop())

    def stop() -> None:
        attempt.cancel()
        for connection in connections:
            connection.abort()

    def answered(answer: Standing | Unreachable) -> None:
        if result.called:
            return
        if isinstance(answer, Standing):
            result.callback(answer)
        else:
            result.errback(answer)

    def build() -> MessageLineReceiver:
        connection = Asking(
            peer=peer, answered=answered, identity=identity, clock=clock, limits=limits, warnings=warnings
        )
        connections.append(connection)
        return connection

    attempt = endpoint.connect(ProtocolFactory(build))
    attempt.addErrback(lambda failure: answered(Unreachable(failure.getErrorMessage())))
    return result


class Answering(GreetingReceiver):
    """A connection to a node that has not begun yet: it holds nothing, says so, and has nothing else to say."""

    def check_hello(self, hello: Hello) -> None:
        """Refuse what only a member can take."""
        if hello.identity.node_id == self._identity.node_id:
            raise Refused(f"it calls itself {hello.identity.node_id!r}, as this node does")
        if hello.purpose is not Purpose.ASK:
            raise Refused(f"{self._identity.node_id!r} has not begun yet; its data directory is empty")

    def greeted(self, hello: Hello) -> None:
        """Answer."""
        tell_standing(self, holds=False)

    def request_received(self, message: Any) -> None:
        """Refuse: everything has been said."""
        raise ProtocolViolation("a message of somebody who only asks")


class AnsweringPort(Service):
    """The Raft port of a node that has not begun yet.

    :param identity: who it will be, if it begins.
    :param endpoint: listens on ``raft.bindAddr``.
    """

    _log = Logger()

    def __init__(
        self, *, identity: Identity, endpoint: IStreamServerEndpoint, clock: IReactorTime, limits: FrameLimits
    ) -> None:
        self._identity = identity
        self._clock = clock
        self._limits = limits
        self._warnings = RateLimitedLog(self._log, clock=clock)
        self._port = ListeningPort(
            endpoint=endpoint, build=self._build, max_connections=_MAX_CONNECTIONS, warnings=self._warnings
        )

    def startService(self) -> None:
        """Listen."""
        super().startService()
        self._port.start()

    def stopService(self) -> Deferred[None]:
        """Listen no more, and fire once every connection is closed."""
        super().stopService()
        return self._port.stop(lambda connection: connection.abort())

    def _build(self) -> Answering:
        return Answering(
            identity=self._identity,
            dials_for=None,
            accepts=(Purpose.RAFT, Purpose.SNAPSHOT, Purpose.ASK),
            clock=self._clock,
            limits=self._limits,
            warnings=self._warnings,
        )
