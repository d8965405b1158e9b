"""What we say to one member: our connection to it, which comes back, and how much may wait to be sent on it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from random import Random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime, IStreamClientEndpoint

from raftkv.errors import ProtocolViolation
from raftkv.interfaces import Identity
from raftkv.protocols.codec import MAX_ENTRIES, encode, split
from raftkv.protocols.connecting import Reconnector
from raftkv.protocols.framing import FrameLimits, MessageLineReceiver, pack
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose, Refused
from raftkv.protocols.peer.settings import PeerSettings
from raftkv.protocols.presence import Presence
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.raft.messages import AppendEntries, Message


class OutgoingPeer(GreetingReceiver):
    """Our connection to one member, on which we speak."""

    def __init__(
        self,
        *,
        peer: str,
        is_member: Callable[[Identity], bool],
        ready: Callable[[OutgoingPeer, Hello], None],
        drained: Callable[[], None],
        identity: Identity,
        clock: IReactorTime,
        limits: FrameLimits,
        warnings: RateLimitedLog,
    ) -> None:
        """Take what is needed.

        :param peer: the member that must be at the other end.
        :param is_member: tells whether who says so is that very member, by its incarnation.
        :param ready: both sides have said hello.
        :param drained: all that waited has been sent.
        """
        super().__init__(
            identity=identity,
            dials_for=Purpose.RAFT,
            accepts=(Purpose.RAFT,),
            clock=clock,
            limits=limits,
            warnings=warnings,
        )
        self._peer = peer
        self._is_member = is_member
        self._ready = ready
        self._drained = drained

    def check_hello(self, hello: Hello) -> None:
        """Make sure that the right member is at the other end: an address may have a new owner, a name another disk.

        What is meant for a member must not reach a node that only bears its name (B24); and one that was replaced has
        to find itself without a leader, or it would never ask why (B7).
        """
        if hello.identity.node_id != self._peer:
            raise Refused(f"it is {hello.identity.node_id!r}, not {self._peer!r}")
        if not self._is_member(hello.identity):
            raise Refused(f"{self._peer} has another data directory than the member of this name")

    def greeted(self, hello: Hello) -> None:
        """Tell the link."""
        self._ready(self, hello)

    def request_received(self, message: Any) -> None:
        """Refuse: members answer on connections of their own."""
        raise ProtocolViolation("a message on a connection that only we speak on")

    def output_drained(self) -> None:
        """Tell the link."""
        self._drained()


class PeerLink:
    """Everything about sending to one member: the connection that comes back, and what may wait on it."""

    def __init__(
        self,
        *,
        peer: str,
        address: str,
        is_member: Callable[[Identity], bool],
        endpoint: IStreamClientEndpoint,
        identity: Identity,
        settings: PeerSettings,
        clock: IReactorTime,
        random: Random,
        warnings: RateLimitedLog,
        learned: Callable[[Identity], None],
        unreachable: Callable[[str], None],
        presence: Presence,
    ) -> None:
        """Take what is needed.

        :param address: for comparison when the configuration changes.
        :param learned: gets what the member says of itself.
        :param unreachable: called with ``peer`` when a good connection breaks, and at the first message of each
            spell in which messages are dropped.
        :param presence: told of each good connection.
        """
        self.peer = peer
        self.address = address
        self._is_member = is_member
        self._identity = identity
        self._settings = settings
        self._clock = clock
        self._warnings = warnings
        self._learned = learned
        self._unreachable = unreachable
        self._presence = presence
        self._connection: OutgoingPeer | None = None
        self._unsent_bytes = 0  # written since the transport was full
        self._reported = False  # the receiver knows that what we send is lost
        self._reconnector = Reconnector(
            endpoint=endpoint, build=self._build, clock=clock, random=random, policy=settings.retry
        )

    def start(self) -> None:
        """Connect."""
        self._reconnector.start()

    def hurry(self) -> None:
        """The member has connected to us, so it can surely be reached: do not wait any longer."""
        self._reconnector.hurry()

    def stop(self) -> Deferred[None]:
        """Disconnect, and fire once nothing is left."""
        self._reported = True  # nobody is to hear of a connection that we close ourselves
        return self._reconnector.stop()

    @property
    def is_connected(self) -> bool:
        """Whether both sides have said hello and the connection stands."""
        return self._connection is not None and not self._connection.closing

    def look_again(self) -> None:
        """Hang up on who is not the member that it was taken for, now that more is known."""
        connection = self._connection
        if connection is not None and connection.theirs is not None and not self._is_member(connection.theirs.identity):
            connection.close()

    def send(self, messages: Sequence[Message]) -> None:
        """Send in one write, or drop."""
        connection = self._connection
        if connection is None or connection.closing:
            self._report()
            return
        if not connection.output_paused:
            self._unsent_bytes = 0
        elif self._unsent_bytes > self._settings.max_unsent_bytes:
            self._report()
            return
        frames = _frames(messages)
        if connection.output_paused:
            self._unsent_bytes += sum(map(len, frames)) + len(frames)
        connection.send_packed(frames)

    def _build(self) -> MessageLineReceiver:
        connection = OutgoingPeer(
            peer=self.peer,
            is_member=self._is_member,
            ready=self._ready,
            drained=self._drained,
            identity=self._identity,
            clock=self._clock,
            limits=self._settings.limits,
            warnings=self._warnings,
        )
        connection.when_closed(lambda: self._closed(connection))
        return connection

    def _ready(self, connection: OutgoingPeer, hello: Hello) -> None:
        self._connection = connection
        self._unsent_bytes = 0
        self._reported = False
        self._reconnector.succeeded()
        self._presence.opened(self.peer, connection)
        self._learned(hello.identity)

    def _drained(self) -> None:
        self._unsent_bytes = 0
        self._reported = False

    def _closed(self, connection: OutgoingPeer) -> None:
        if connection is self._connection:
            self._connection = None
            self._report()

    def _report(self) -> None:
        if not self._reported:
            self._reported = True
            self._unreachable(self.peer)


def _frames(messages: Sequence[Message]) -> list[bytes]:
    frames: list[bytes] = []
    for message in messages:
        if type(message) is AppendEntries and len(message.entries) > MAX_ENTRIES:
            frames.extend(pack(encode(part)) for part in split(message))
        else:
            frames.append(pack(encode(message)))
    return frames
