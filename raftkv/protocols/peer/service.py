"""The Raft port, and the connections to the other members: who listens, who dials, and to whom what comes is given."""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from random import Random
from typing import Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IAddress, IReactorTime, IStreamClientEndpoint, IStreamServerEndpoint
from twisted.logger import Logger
from zope.interface import implementer

from raftkv.interfaces import Identity, IPeerReceiver, IPeerTransport
from raftkv.protocols.connecting import ListeningPort
from raftkv.protocols.framing import MessageLineReceiver
from raftkv.protocols.peer.acquaintances import Acquaintances
from raftkv.protocols.peer.incoming import IncomingPeer
from raftkv.protocols.peer.links import Links
from raftkv.protocols.peer.outgoing import PeerLink
from raftkv.protocols.peer.settings import PeerSettings
from raftkv.protocols.presence import Presence
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource, SnapshotReceiver
from raftkv.protocols.transfers import OutgoingSnapshots
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import (
    AppendEntriesResponse,
    HeartbeatResponse,
    InstallSnapshot,
    Message,
    RequestVoteResponse,
)

_ANSWERS: Final = (AppendEntriesResponse, HeartbeatResponse, RequestVoteResponse)


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
        self._clock = clock
        self._settings = settings
        self._sink = sink
        self._current_term = current_term
        self._acquaintances = Acquaintances(node_id=identity.node_id, learned=learned)
        self._warnings = RateLimitedLog(self._log, clock=clock)
        self._receiver: IPeerReceiver | None = None
        self.has_left = False
        self._incoming: dict[str, IncomingPeer] = {}  # the newest Raft connection of each member
        self._presence = Presence(gone=self._gone)
        self._links = Links(
            identity=identity,
            acquaintances=self._acquaintances,
            connect=connect,
            settings=settings,
            clock=clock,
            random=random,
            warnings=self._warnings,
            unreachable=self._unreachable,
            presence=self._presence,
        )
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
        closing = [*self._links.close_all(), self._outgoing_snapshots.stop(), self._port.stop(_abort)]
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
            link = self._links.open.get(peer) or self._guest_link(peer)
            if link is not None:
                link.send(theirs)

    def set_members(self, configuration: Configuration) -> None:
        """Connect to exactly the members of this configuration (but oneself)."""
        self._acquaintances.set_members(configuration.members)
        self._connect_members()

    def leave(self) -> None:
        """Talk to nobody any more: close every connection, and refuse those that come."""
        self.has_left = True
        self._receiver = None
        self._acquaintances.set_members({})
        self._connect_members()
        for connection in list(self._incoming.values()):
            connection.abort()

    def send_snapshot(self, peer: str) -> None:
        """Send the newest snapshot file; the receiver hears of the end by ``snapshot_sent``."""
        address = self._acquaintances.address_of(peer)
        known = bool(address) and peer != self._identity.node_id and bool(self.running)
        self._outgoing_snapshots.send(peer, self._links.endpoint(peer, address) if known else None)

    def known_peers(self) -> Mapping[str, Identity]:
        """Return what each peer last said of itself, by member id."""
        return dict(self._acquaintances.known)

    def connected_peers(self) -> frozenset[str]:
        """Return the members that we can send to at the moment."""
        return frozenset(peer for peer, link in self._links.open.items() if link.is_connected)

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
        if not self._acquaintances.is_member(sender):
            requests = [message for message in messages if not isinstance(message, _ANSWERS)]
            if len(requests) < len(messages):
                self._warnings.warn(
                    "ignored an answer of {peer}, which has another data directory", peer=sender.node_id
                )
            messages = requests
        self.received(messages)

    def peer_came(self, connection: IncomingPeer, identity: Identity) -> None:
        """A member has opened its connection to us; it replaces an older one, which is surely dead."""
        older = self._incoming.get(identity.node_id)
        holder = older.theirs if older is not None else None
        is_member = self._acquaintances.is_member(identity)
        if holder is not None and not is_member and self._acquaintances.is_member(holder.identity):
            # An earlier node of that name, which has not heard that it was removed. It is listened to, as anybody is,
            # but must not break the connection of the one that took its name.
            return
        self._incoming[identity.node_id] = connection
        if is_member:
            self._presence.opened(identity.node_id, connection)
        if older is not None:
            older.abort()
        self._acquaintances.learn(identity)
        if self._acquaintances.note_move(identity):
            self._connect_members()
        if (link := self._links.open.get(identity.node_id)) is not None:
            link.hurry()

    def peer_went(self, connection: IncomingPeer) -> None:
        """An incoming connection is gone."""
        peer = next((name for name, incoming in self._incoming.items() if incoming is connection), None)
        if peer is None:
            return
        del self._incoming[peer]
        if peer in self._links.open and peer not in self._acquaintances.addresses:
            self._links.disconnect(peer)

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
        member = self._acquaintances.members.get(asker.node_id)
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

    # -- links ---------------------------------------------------------------------------------------------------

    def _build_incoming(self) -> IncomingPeer:
        return IncomingPeer(
            service=self,
            identity=self._identity,
            clock=self._clock,
            limits=self._settings.limits,
            warnings=self._warnings,
        )

    def _connect_members(self) -> None:
        if self.running:
            self._links.connect_members()

    def _guest_link(self, peer: str) -> PeerLink | None:
        """Connect to somebody who is no member as far as we know, while it is connected to us.

        A node that joins, or one that has missed a change, has to answer a leader that its configuration lacks.
        """
        identity = self._acquaintances.known.get(peer)
        if peer not in self._incoming or identity is None or not identity.raft_addr or not self.running:
            return None
        return self._links.open_link(peer, identity.raft_addr)


def _abort(connection: MessageLineReceiver) -> None:
    connection.abort()
