"""Raft traffic between members, on ``raft.bindAddr``.

Every node dials every other member and says what it has to say on its own outgoing connection; incoming ones only
bring. Knows connections, who is at their other end, and how much may wait to be sent; what the messages mean is
Raft's. Losing messages is allowed, waiting is not: what cannot be sent now is dropped, and the receiver is told once.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from random import Random
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import (
    IAddress,
    IReactorTime,
    IStreamClientEndpoint,
    IStreamServerEndpoint,
)
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.errors import ProtocolViolation
from raftkv.interfaces import Identity, IPeerReceiver, IPeerTransport
from raftkv.protocols.asking import tell_standing
from raftkv.protocols.codec import INSTALL_SNAPSHOT, MAX_ENTRIES, decode, encode, split
from raftkv.protocols.connecting import ListeningPort, Reconnector, RetryPolicy
from raftkv.protocols.framing import MIB, FrameLimits, MessageLineReceiver, pack
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose, Refused
from raftkv.protocols.presence import Presence
from raftkv.protocols.snapshots import (
    ISnapshotSink,
    ISnapshotSource,
    SnapshotReceiver,
    TransferSettings,
)
from raftkv.protocols.transfers import OutgoingSnapshots
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    RequestVoteResponse,
)

_ANSWERS: Final = (AppendEntriesResponse, HeartbeatResponse, RequestVoteResponse)
_MAX_REMEMBERED: Final = 256  # peers whose identity is kept; strangers must not fill the memory


@dataclass(frozen=True, slots=True, kw_only=True)
class PeerSettings:
    """The limits of the Raft port.

    :ivar limits: of each connection.
    :ivar retry: when to dial again.
    :ivar transfer: how snapshots travel.
    :ivar max_unsent_bytes: what may wait for one member beyond what its transport holds; more than the core's own
        bound of bytes in flight, so that only heartbeats to a dead connection are ever dropped here.
    :ivar max_connections: incoming ones.
    """

    limits: FrameLimits = field(default_factory=FrameLimits)
    retry: RetryPolicy = field(default_factory=RetryPolicy)
    transfer: TransferSettings = field(default_factory=TransferSettings)
    max_unsent_bytes: int = 16 * MIB
    max_connections: int = 256


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


class IncomingPeer(GreetingReceiver):
    """A connection that another member made: it brings messages of Raft, or one snapshot."""

    def __init__(
        self,
        *,
        service: PeerService,
        identity: Identity,
        clock: IReactorTime,
        limits: FrameLimits,
        warnings: RateLimitedLog,
    ) -> None:
        """Take what is needed."""
        super().__init__(
            identity=identity,
            dials_for=None,
            accepts=(Purpose.RAFT, Purpose.SNAPSHOT, Purpose.ASK),
            clock=clock,
            limits=limits,
            warnings=warnings,
        )
        self._service = service
        self._snapshot: SnapshotReceiver | None = None
        self._sender = ""
        self._arrived: list[Message] = []  # of the read that is being taken apart

    def check_hello(self, hello: Hello) -> None:
        """Refuse ourselves: an address that leads back here, or a second node under our name."""
        if self._service.has_left:
            raise Refused(f"{self._identity.node_id!r} was removed from the cluster")
        if hello.identity.node_id == self._identity.node_id:
            raise Refused(f"it calls itself {hello.identity.node_id!r}, as this node does")
        if hello.purpose is Purpose.SNAPSHOT and self._service.is_installing():
            raise Refused("another snapshot is being installed")

    def greeted(self, hello: Hello) -> None:
        """Learn who it is; who only asks is nobody yet."""
        self._sender = hello.identity.node_id
        if hello.purpose is Purpose.ASK:
            tell_standing(self, holds=self._service.holds_something(hello.identity))
        elif hello.purpose is Purpose.SNAPSHOT:
            self._snapshot = self._service.snapshot_coming(self, hello.identity)
        else:
            self._service.peer_came(self, hello.identity)

    def request_received(self, message: Any) -> None:
        """Pass a message on."""
        if self.theirs is not None and self.theirs.purpose is Purpose.ASK:
            raise ProtocolViolation("a message of somebody who only asks")
        if self._snapshot is not None:
            self._snapshot.message_received(message)
            return
        decoded = decode(message, sender=self._sender, to=self._identity.node_id)
        if message[0] == INSTALL_SNAPSHOT:
            # It stands for a file that has arrived; here there is none, and the core would drop its log.
            raise ProtocolViolation("an InstallSnapshot without its file")
        self._arrived.append(decoded)

    def read_finished(self) -> None:
        """Hand over what one read has brought."""
        if self._arrived:
            arrived, self._arrived = self._arrived, []
            self._service.received_from(self._identity_of_sender(), arrived)

    def _identity_of_sender(self) -> Identity:
        if self.theirs is None:
            raise ProtocolViolation("a message before the hello")
        return self.theirs.identity

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End what was under way; called by Twisted."""
        super().connectionLost(reason)
        if self._snapshot is not None:
            self._snapshot.connection_lost()
        self._service.peer_went(self)


@implementer(IPeerTransport)
class PeerService(Service):
    """The Raft port, and the connections to the other members.

    ``start`` may come before or after ``startService``; messages that arrive before it are dropped.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        endpoint: IStreamServerEndpoint,
        connect: Callable[[str], IStreamClientEndpoint],
        clock: IReactorTime,
        random: Random,
        settings: PeerSettings,
        source: ISnapshotSource,
        sink: ISnapshotSink,
        current_term: Callable[[], int],
        learned: Callable[[Identity], None] | None = None,
    ) -> None:
        """Take what is needed.

        :param identity: who this node is.
        :param endpoint: listens on ``raft.bindAddr``: anything with ``listen(factory)``.
        :param connect: makes an endpoint for a member's ``host:port``, or raises :exc:`ValueError` for what is none.
            Its attempts should end within about a second.
        :param clock: the reactor.
        :param random: draws the waits between attempts.
        :param source: the snapshot files to send.
        :param sink: where a snapshot that arrives goes.
        :param current_term: the core's term, which an offered snapshot bears.
        :param learned: told when a member says something new of itself: met first, a new incarnation, an address.
        """
        self._identity = identity
        self._connect = connect
        self._clock = clock
        self._random = random
        self._settings = settings
        self._source = source
        self._sink = sink
        self._current_term = current_term
        self._identity_learned = learned
        self._warnings = RateLimitedLog(self._log, clock=clock)
        self._receiver: IPeerReceiver | None = None
        self.has_left = False
        self._members: Mapping[str, Member] = {}
        self._moved: dict[str, str] = {}  # where members said to be since the configuration was written
        self._addresses: dict[str, str] = {}
        self._links: dict[str, PeerLink] = {}
        self._closing_links: set[Deferred[None]] = set()
        self._known: dict[str, Identity] = {}
        self._incoming: dict[str, IncomingPeer] = {}  # the newest Raft connection of each member
        self._presence = Presence(gone=self._gone)
        self._receiving: tuple[IncomingPeer, SnapshotReceiver] | None = None  # the newest transfer to us
        self._outgoing_snapshots = OutgoingSnapshots(
            identity=identity,
            source=source,
            current_term=current_term,
            ended=self._snapshot_ended,
            clock=clock,
            limits=settings.limits,
            settings=settings.transfer,
            warnings=self._warnings,
        )
        self._port = ListeningPort(
            endpoint=endpoint,
            build=self._build_incoming,
            max_connections=settings.max_connections,
            warnings=self._warnings,
        )

    # -- Service -------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Listen, and connect to the members.

        :raises twisted.internet.error.CannotListenError: the endpoint fails at once.
        """
        super().startService()
        self._port.start()
        self._connect_members()

    def stopService(self) -> Deferred[None]:
        """Close everything, and fire once no connection or timer is left; it can be started again."""
        super().stopService()
        for peer in list(self._links):
            self._disconnect(peer)
        closing = [*self._closing_links, self._outgoing_snapshots.stop(), self._port.stop(_abort)]
        return gatherResults(closing, consumeErrors=True).addCallback(lambda _: None)

    def address(self) -> IAddress | None:
        """Return where the Raft port listens, ``None`` where it does not."""
        return self._port.address()

    # -- IPeerTransport ------------------------------------------------------------------------------------------

    def start(self, receiver: IPeerReceiver) -> None:
        """Begin to deliver."""
        self._receiver = receiver

    def send(self, messages: Sequence[Message]) -> None:
        """Send each message to its ``to``: one write for each member; what cannot be sent now is dropped."""
        by_peer: dict[str, list[Message]] = {}
        for message in messages:
            by_peer.setdefault(message.to, []).append(message)
        for peer, theirs in by_peer.items():
            link = self._links.get(peer) or self._guest_link(peer)
            if link is not None:
                link.send(theirs)

    def set_members(self, configuration: Configuration) -> None:
        """Connect to exactly the members of this configuration (but oneself)."""
        before, self._members = self._members, configuration.members
        for name, member in configuration.members.items():
            if name not in before or before[name].raft_addr != member.raft_addr:
                self._moved.pop(name, None)
        self._find_addresses()

    def leave(self) -> None:
        """Talk to nobody any more: close every connection, and refuse those that come."""
        self.has_left = True
        self._members = {}
        self._receiver = None
        self._find_addresses()
        for connection in list(self._incoming.values()):
            connection.abort()

    def send_snapshot(self, peer: str) -> None:
        """Send the newest snapshot file; the receiver hears of the end by ``snapshot_sent``."""
        address = self._address_of(peer)
        known = bool(address) and peer != self._identity.node_id and bool(self.running)
        self._outgoing_snapshots.send(peer, self._endpoint(peer, address) if known else None)

    def known_peers(self) -> Mapping[str, Identity]:
        """Return what each peer last said of itself, by member id."""
        return dict(self._known)

    def connected_peers(self) -> frozenset[str]:
        """Return the members that we can send to at the moment."""
        return frozenset(peer for peer, link in self._links.items() if link.is_connected)

    # -- what connections report ---------------------------------------------------------------------------------

    def received(self, messages: Sequence[Message]) -> None:
        """Messages arrived."""
        if self._receiver is not None and self.running:
            self._receiver.received(messages)

    def received_from(self, sender: Identity, messages: Sequence[Message]) -> None:
        """Messages arrived together from somebody who said who it is.

        An answer counts towards majorities, so it must come from the member itself, and not from an earlier one of
        its name (B23, B24). A request is about the sender's own claim, which the core judges.
        """
        if not self._is_member(sender):
            requests = [message for message in messages if not isinstance(message, _ANSWERS)]
            if len(requests) < len(messages):
                self._warnings.warn(
                    "ignored an answer of {peer}, which has another data directory", peer=sender.node_id
                )
            messages = requests
        self.received(messages)

    def _is_member(self, identity: Identity) -> bool:
        member = self._members.get(identity.node_id)
        return member is None or member.incarnation in ("", identity.incarnation)

    def peer_came(self, connection: IncomingPeer, identity: Identity) -> None:
        """A member has opened its connection to us; it replaces an older one, which is surely dead."""
        older = self._incoming.get(identity.node_id)
        holder = older.theirs if older is not None else None
        if holder is not None and self._is_member(holder.identity) and not self._is_member(identity):
            # An earlier node of that name, which has not heard that it was removed. It is listened to, as anybody is,
            # but must not break the connection of the one that took its name.
            return
        self._incoming[identity.node_id] = connection
        if self._is_member(identity):
            self._presence.opened(identity.node_id, connection)
        if older is not None:
            older.abort()
        self._learn(identity)
        self._note_move(identity)
        if (link := self._links.get(identity.node_id)) is not None:
            link.hurry()

    def peer_went(self, connection: IncomingPeer) -> None:
        """An incoming connection is gone."""
        peer = next((name for name, incoming in self._incoming.items() if incoming is connection), None)
        if peer is None:
            return
        del self._incoming[peer]
        if peer in self._links and peer not in self._addresses:
            self._disconnect(peer)

    def snapshot_coming(self, connection: IncomingPeer, identity: Identity) -> SnapshotReceiver:
        """A member wants to send a snapshot: its transfer replaces one that is under way."""
        if self._receiving is not None:
            older, transfer = self._receiving
            transfer.connection_lost()
            older.abort()
        receiver = SnapshotReceiver(
            connection=connection,
            sender=identity.node_id,
            to=self._identity.node_id,
            sink=self._sink,
            installed=self._installed,
            settings=self._settings.transfer,
            clock=self._clock,
        )
        self._receiving = (connection, receiver)
        return receiver

    def holds_something(self, asker: Identity) -> bool | None:
        """Tell whether this node knows of anything that somebody with an empty directory may have forgotten.

        Every vote and every entry is of some term. Before the first term, a founder still knows whom it has met: one
        that comes with another incarnation, or that it has not met, may have begun without it and lost its disk since.
        Or it has not, and nobody has begun: this node cannot tell, and says ``None``.
        """
        if self._current_term() > 0:
            return True
        member = self._members.get(asker.node_id)
        return False if member is not None and member.incarnation == asker.incarnation else None

    def is_installing(self) -> bool:
        """Tell whether a snapshot is here as a whole and is being made safe."""
        return self._receiving is not None and self._receiving[1].is_finishing

    def _installed(self, message: InstallSnapshot) -> None:
        self.received([message])

    def _snapshot_ended(self, peer: str, index: int, delivered: bool) -> None:
        if self._receiver is not None:
            self._receiver.snapshot_sent(peer, index, delivered)

    def _unreachable(self, peer: str) -> None:
        if self._receiver is not None and self.running:
            self._receiver.peer_unreachable(peer)

    def _gone(self, peer: str) -> None:
        if self._receiver is not None and self.running:
            self._receiver.peer_closed(peer)

    def _learn(self, identity: Identity) -> None:
        before = self._known.get(identity.node_id)
        if before == identity:
            return
        if before is None and len(self._known) >= _MAX_REMEMBERED and identity.node_id not in self._addresses:
            return
        self._known[identity.node_id] = identity
        if before is not None and before.incarnation != identity.incarnation:
            self._log.warn("{peer} comes back with another data directory", peer=identity.node_id)
        if self._identity_learned is not None:
            self._identity_learned(identity)

    def _note_move(self, identity: Identity) -> None:
        """A member that was started at another address says so to those whom it reaches: dial it there.

        What it says on a connection that we made changes nothing, for there we have reached it already.
        """
        member = self._members.get(identity.node_id)
        if member is None or not identity.raft_addr or not self._is_member(identity):
            return
        if self._addresses.get(identity.node_id) != identity.raft_addr:
            self._log.info("{peer} is at {address} now", peer=identity.node_id, address=identity.raft_addr)
            self._moved[identity.node_id] = identity.raft_addr
            self._find_addresses()

    # -- links ---------------------------------------------------------------------------------------------------

    def _build_incoming(self) -> IncomingPeer:
        return IncomingPeer(
            service=self,
            identity=self._identity,
            clock=self._clock,
            limits=self._settings.limits,
            warnings=self._warnings,
        )

    def _address_of(self, peer: str) -> str:
        if peer in self._addresses:
            return self._addresses[peer]
        return self._known[peer].raft_addr if peer in self._known else ""

    def _find_addresses(self) -> None:
        self._addresses = {
            name: self._moved.get(name, member.raft_addr)
            for name, member in self._members.items()
            if name != self._identity.node_id and (member.raft_addr or name in self._moved)
        }
        if self.running:
            self._connect_members()

    def _connect_members(self) -> None:
        for peer, link in list(self._links.items()):
            if self._addresses.get(peer) != link.address:
                self._disconnect(peer)
            else:
                link.look_again()
        for peer, address in self._addresses.items():
            if peer not in self._links:
                self._open_link(peer, address)

    def _guest_link(self, peer: str) -> PeerLink | None:
        """Connect to somebody who is no member as far as we know, while it is connected to us.

        A node that joins, or one that has missed a change, has to answer a leader that its configuration lacks.
        """
        identity = self._known.get(peer)
        if peer not in self._incoming or identity is None or not identity.raft_addr or not self.running:
            return None
        return self._open_link(peer, identity.raft_addr)

    def _endpoint(self, peer: str, address: str) -> IStreamClientEndpoint | None:
        try:
            return self._connect(address)
        except ValueError as reason:
            # A stranger may call itself what it likes; who has no address cannot be answered, that is all.
            self._warnings.warn("there is no way to {peer}: {reason}", peer=peer, reason=reason)
            return None

    def _open_link(self, peer: str, address: str) -> PeerLink | None:
        endpoint = self._endpoint(peer, address)
        if endpoint is None:
            return None
        link = self._links[peer] = PeerLink(
            peer=peer,
            address=address,
            is_member=self._is_member,
            endpoint=endpoint,
            identity=self._identity,
            settings=self._settings,
            clock=self._clock,
            random=self._random,
            warnings=self._warnings,
            learned=self._learn,
            unreachable=self._unreachable,
            presence=self._presence,
        )
        link.start()
        return link

    def _disconnect(self, peer: str) -> None:
        closing = self._links.pop(peer).stop()
        self._closing_links.add(closing)
        # Chained behind gatherResults of stopService, which may wait for the same Deferred.
        closing.addBoth(self._link_closed, closing)

    def _link_closed(self, result: None, closing: Deferred[None]) -> None:
        self._closing_links.discard(closing)


def _abort(connection: MessageLineReceiver) -> None:
    connection.abort()
