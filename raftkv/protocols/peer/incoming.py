"""What a member, or a stranger, says to us: connections that only bring."""

from __future__ import annotations

from typing import TYPE_CHECKING, Any

from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from raftkv.errors import ProtocolViolation
from raftkv.interfaces import Identity
from raftkv.protocols.asking import tell_standing
from raftkv.protocols.codec import decode
from raftkv.protocols.framing import FrameLimits
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose, Refused
from raftkv.protocols.snapshots import SnapshotReceiver
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.raft.messages import InstallSnapshot, Message

if TYPE_CHECKING:
    from raftkv.protocols.peer.service import PeerService


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

    def messages_received(self, messages: list[Any]) -> None:
        """Take what one read has brought: messages of Raft, as nearly always, in few steps."""
        theirs = self.theirs
        if theirs is None or theirs.purpose is not Purpose.RAFT:
            super().messages_received(messages)
            return
        sender, to, arrived = self._sender, self._identity.node_id, self._arrived
        for message in messages:
            arrived.append(_decoded(message, sender, to))

    def request_received(self, message: Any) -> None:
        """Pass a message on."""
        if self.theirs is not None and self.theirs.purpose is Purpose.ASK:
            raise ProtocolViolation("a message of somebody who only asks")
        if self._snapshot is not None:
            self._snapshot.message_received(message)
            return
        self._arrived.append(_decoded(message, self._sender, self._identity.node_id))

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


def _decoded(message: Any, sender: str, to: str) -> Message:
    decoded = decode(message, sender=sender, to=to)
    if type(decoded) is InstallSnapshot:
        # It stands for a file that has arrived; here there is none, and the core would drop its log.
        raise ProtocolViolation("an InstallSnapshot without its file")
    return decoded
