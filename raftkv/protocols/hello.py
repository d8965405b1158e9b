"""The first message both ways on both ports: who speaks, for which cluster, for what, in which versions.

The dialing side speaks first; the listening side answers with its own hello, or refuses with a sentence and closes.
Nothing else is read before. What is said afterwards is left to subclasses of :class:`GreetingReceiver`.
"""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from raftkv.errors import ProtocolViolation
from raftkv.interfaces import Identity
from raftkv.protocols.framing import FrameLimits, MessageLineReceiver
from raftkv.protocols.warnings import RateLimitedLog

MAGIC: Final = "raftkv"
MIN_VERSION: Final = 1  #: oldest version of everything behind the hello that this code speaks
MAX_VERSION: Final = 1  #: newest one

# The first elements of the two messages that never change, whatever the version.
HELLO: Final = 0  # (HELLO, magic, min, max, purpose, cluster_id, node_id, incarnation, raft, rpc, http)
REFUSAL: Final = 1  # (REFUSAL, sentence)

_HELLO_LENGTH: Final = 11
_MAX_TEXT: Final = 512  # characters of each name and address
_MAX_SENTENCE: Final = 1024


class Purpose(Enum):
    """What a connection is for. The values are part of the protocol."""

    RAFT = "raft"  #: messages of Raft, to the listening side only
    SNAPSHOT = "snapshot"  #: one snapshot file, to the listening side
    ASK = "ask"  #: a node with an empty directory asks what the listening side holds; see ``asking``
    NODE = "rpc-node"  #: requests of another node, such as forwarded writes
    CLIENT = "client"  #: requests of a client


@dataclass(frozen=True, slots=True, kw_only=True)
class Hello:
    """What one side says first.

    :ivar identity: who speaks; a client's is empty, but may name the cluster that it wants.
    :ivar purpose: what the connection is for; the listening side repeats that of the dialing side.
    :ivar min_version: oldest version that it speaks.
    :ivar max_version: newest version that it speaks.
    """

    identity: Identity
    purpose: Purpose
    min_version: int = MIN_VERSION
    max_version: int = MAX_VERSION


class Refused(Exception):
    """A well-formed hello that is not for us; the sentence tells the other side why."""


def client_identity(cluster_id: str = "") -> Identity:
    """Return the identity of a client, which has no name.

    :param cluster_id: the only cluster it wants to talk to; empty for any.
    """
    return Identity(cluster_id=cluster_id, node_id="", incarnation="", raft_addr="", rpc_addr="", http_addr="")


def encode_hello(hello: Hello) -> tuple[Any, ...]:
    """Return the message that says hello."""
    who = hello.identity
    return (
        HELLO,
        MAGIC,
        hello.min_version,
        hello.max_version,
        hello.purpose.value,
        who.cluster_id,
        who.node_id,
        who.incarnation,
        who.raft_addr,
        who.rpc_addr,
        who.http_addr,
    )


def decode_hello(message: Any) -> Hello:
    """Return the hello in a connection's first message.

    Elements beyond the known ones are ignored: a later version may say more of itself.

    :raises ProtocolViolation: it is none.
    """
    if type(message) is not tuple or len(message) < _HELLO_LENGTH or message[:2] != (HELLO, MAGIC):
        raise ProtocolViolation("the first message is no hello")
    if type(message[0]) is not int:
        raise ProtocolViolation("the first message is no hello")
    lowest, highest, *texts = message[2:_HELLO_LENGTH]
    if type(lowest) is not int or type(highest) is not int or not 1 <= lowest <= highest < 2**31:
        raise ProtocolViolation("a hello whose versions make no sense")
    if any(type(text) is not str or len(text) > _MAX_TEXT for text in texts):
        raise ProtocolViolation("a hello whose names are not short texts")
    purpose, cluster_id, node_id, incarnation, raft_addr, rpc_addr, http_addr = texts
    if purpose not in _PURPOSES:
        raise ProtocolViolation("a hello whose purpose is not known")
    if not node_id and purpose != Purpose.CLIENT.value:
        raise ProtocolViolation("a hello of a node without a name")
    identity = Identity(
        cluster_id=cluster_id,
        node_id=node_id,
        incarnation=incarnation,
        raft_addr=raft_addr,
        rpc_addr=rpc_addr,
        http_addr=http_addr,
    )
    return Hello(identity=identity, purpose=_PURPOSES[purpose], min_version=lowest, max_version=highest)


_PURPOSES: Final = {purpose.value: purpose for purpose in Purpose}


def agree(*, ours: Hello, theirs: Hello) -> int:
    """Return the version that both sides shall speak: the newest that both know.

    An empty cluster id of a client fits every cluster, whichever side it is on.

    :raises Refused: there is no such version, or the other side belongs to another cluster.
    """
    wanted, found = ours.identity.cluster_id, theirs.identity.cluster_id
    is_client = Purpose.CLIENT in (ours.purpose, theirs.purpose)
    if wanted != found and not (is_client and not (wanted and found)):
        raise Refused(f"it belongs to cluster {found[:64]!r}, this side to {wanted[:64]!r}")
    version = min(ours.max_version, theirs.max_version)
    if version < max(ours.min_version, theirs.min_version):
        raise Refused(
            f"it speaks protocol versions {theirs.min_version} to {theirs.max_version}, "
            f"this side {ours.min_version} to {ours.max_version}"
        )
    return version


class GreetingReceiver(MessageLineReceiver):
    """A connection that begins with a hello both ways.

    Subclasses override :meth:`greeted` and :meth:`request_received`, and may narrow :meth:`check_hello`.

    :ivar theirs: what the other side said, ``None`` before.
    :ivar version: the version agreed upon, 0 before.
    """

    def __init__(
        self,
        *,
        identity: Identity,
        dials_for: Purpose | None,
        accepts: Collection[Purpose],
        clock: IReactorTime,
        limits: FrameLimits,
        warnings: RateLimitedLog,
    ) -> None:
        """Take what is needed.

        :param identity: who we are.
        :param dials_for: our purpose where we dial, and speak first; ``None`` where we listen.
        :param accepts: what the other side may want.
        """
        super().__init__(clock=clock, limits=limits, warnings=warnings)
        self.theirs: Hello | None = None
        self.version = 0
        self._identity = identity
        self._dials_for = dials_for
        self._accepts = accepts
        self._hello_timer: IDelayedCall | None = None

    # -- for subclasses ------------------------------------------------------------------------------------------

    def check_hello(self, hello: Hello) -> None:
        """Look at a hello of our own cluster and of a version that we speak.

        :raises Refused: it is not for us after all.
        """

    def greeted(self, hello: Hello) -> None:
        """Both sides have said hello; messages may be sent from now on."""

    def refused(self, reason: str) -> None:
        """The other side, or we, will not talk; the connection is about to close."""

    def request_received(self, message: Any) -> None:
        """Take a message behind the hello.

        :raises ProtocolViolation: it makes no sense.
        """
        raise NotImplementedError

    def peer_name(self) -> str:
        """Return the other side's node id, where it has said one, and its address."""
        name = super().peer_name()
        if self.theirs is not None and self.theirs.identity.node_id:
            return f"{self.theirs.identity.node_id} at {name}"
        return name

    # -- the greeting ------------------------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Say hello where we dial, and wait for theirs; called by Twisted."""
        super().connectionMade()
        self._hello_timer = self._clock.callLater(self._limits.hello_seconds, self._hello_missing)
        if self._dials_for is not None:
            self.send_message(encode_hello(Hello(identity=self._identity, purpose=self._dials_for)))

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Stop waiting; called by Twisted."""
        self._stop_waiting()
        super().connectionLost(reason)

    def message_received(self, message: Any) -> None:
        """Take the hello, and pass on what follows it."""
        if self.theirs is not None:
            self.request_received(message)
        elif self._dials_for is not None and _is_refusal(message):
            self._refused_by_them(message[1])
        else:
            self._greet(decode_hello(message))

    def _greet(self, hello: Hello) -> None:
        if hello.purpose not in self._accepts:
            raise ProtocolViolation(f"a connection for {hello.purpose.value!r} does not belong on this port")
        ours = Hello(identity=self._identity, purpose=hello.purpose)
        try:
            version = agree(ours=ours, theirs=hello)
            self.check_hello(hello)
        except Refused as refusal:
            self._refuse(str(refusal))
            return
        self.version = version
        self.theirs = hello
        self._stop_waiting()
        if self._dials_for is None:
            self.send_message(encode_hello(ours))
        self.greeted(hello)

    def _refuse(self, reason: str) -> None:
        self._warnings.warn("refused {peer}: {reason}", peer=self.peer_name(), reason=reason)
        self._stop_waiting()
        self.refused(reason)
        if self._dials_for is None:
            self.send_message((REFUSAL, f"refused: {reason}"))
        self.close()

    def _refused_by_them(self, reason: str) -> None:
        self._warnings.warn("{peer} refused the connection: {reason}", peer=self.peer_name(), reason=reason)
        self._stop_waiting()
        self.refused(reason)
        self.close()

    def _hello_missing(self) -> None:
        self._hello_timer = None
        self.violation(f"no hello within {self._limits.hello_seconds} s")

    def _stop_waiting(self) -> None:
        if self._hello_timer is not None:
            self._hello_timer.cancel()
            self._hello_timer = None

    def _stop(self) -> None:
        self._stop_waiting()
        super()._stop()


def _is_refusal(message: Any) -> bool:
    return (
        type(message) is tuple
        and len(message) >= 2
        and type(message[0]) is int
        and message[0] == REFUSAL
        and type(message[1]) is str
        and len(message[1]) <= _MAX_SENTENCE
    )
