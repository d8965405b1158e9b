"""What all connections to the RPC port may hold together, and who has to go where it is too much.

Counted is what piles up: bytes of messages that are not complete, and answers that the other side does not read. A
connection that holds little of either is not counted, so that a busy one pays nothing. Past a limit the connection
goes that has held its share for the longest time: to turn away whoever comes last instead would let a few strangers,
who never finish and never read, stop all the others. What requests and answers mean is left to subclasses.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, ClassVar, Final, Generic, TypeVar

import msgpack
from twisted.internet.interfaces import IDelayedCall
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from raftkv.errors import Overloaded
from raftkv.protocols.hello import GreetingReceiver
from raftkv.protocols.rpc_frames import MAX_REQUEST_ID
from raftkv.protocols.rpc_settings import RpcSettings

HolderT = TypeVar("HolderT")

# What the operator knows the limits as.
_UNFINISHED_SETTING: Final = "limits.maxBufferedBodyBytes"
_UNREAD_SETTING: Final = "limits.maxUnreadBytes"
_PATIENCE_SETTING: Final = "limits.idleTimeout"


class Holding(Generic[HolderT]):
    """How many bytes each of many holds of one kind, in the order in which they began to.

    :param limit_bytes: of all together.
    :param let_go: called with one that has to give up what it holds; it is not counted any more by then.
    :ivar total_bytes: of all together, which is at most the limit whenever nobody is being told to go.
    """

    def __init__(self, limit_bytes: int, let_go: Callable[[HolderT], None]) -> None:
        self.limit_bytes = limit_bytes
        self.total_bytes = 0
        self._let_go = let_go
        self._held_bytes: dict[HolderT, int] = {}  # a dictionary for its order

    def hold(self, holder: HolderT, size_bytes: int) -> None:
        """Note how much somebody holds now. Past the limit whoever has held something for the longest time goes."""
        held_bytes = self._held_bytes
        before = held_bytes.get(holder, 0)
        if size_bytes:
            held_bytes[holder] = size_bytes
        elif before:
            del held_bytes[holder]
        self.total_bytes += size_bytes - before
        while self.total_bytes > self.limit_bytes:
            first = next(iter(held_bytes))
            self.total_bytes -= held_bytes.pop(first)
            self._let_go(first)


class PortBounds:
    """The totals of one port.

    :ivar unfinished: the connections with messages that are not complete.
    :ivar unread: those whose answers wait to be read.
    :ivar waiting_bytes: keys of reads that wait until they are allowed, which they all are, or not, before long.
    """

    def __init__(self, settings: RpcSettings) -> None:
        self.unfinished: Holding[BoundedConnection] = Holding(
            settings.max_unfinished_bytes, BoundedConnection.give_up_unfinished
        )
        self.unread: Holding[BoundedConnection] = Holding(settings.max_unread_bytes, BoundedConnection.give_up_unread)
        self.waiting_bytes = 0

    def begin_waiting(self, size_bytes: int) -> None:
        """Count keys of reads, until ``waiting_bytes`` is made smaller by as much.

        :raises Overloaded: there are too many.
        """
        limit = self.unfinished.limit_bytes
        if self.waiting_bytes + size_bytes > limit:
            raise Overloaded(f"reads that wait take more than {limit} bytes together ({_UNFINISHED_SETTING})")
        self.waiting_bytes += size_bytes


class BoundedConnection(GreetingReceiver):
    """A connection that is counted with the others of its port, and closed where it reads nothing for too long."""

    gives_room_back: ClassVar[bool] = True

    def __init__(self, *, bounds: PortBounds, settings: RpcSettings, **parts: Any) -> None:
        """Take what is needed.

        :param bounds: the totals that it counts towards.
        """
        super().__init__(limits=settings.limits, **parts)
        self._bounds = bounds
        self._settings = settings
        self._stuck_bytes = 0  # written since the transport has had more than it likes
        self._kept_bytes = 0  # not written yet, since the other side does not read
        self._unread_timer: IDelayedCall | None = None

    # -- for subclasses ------------------------------------------------------------------------------------------

    def input_given_up(self, request_id: int | None, error: Overloaded) -> None:
        """Nothing more is read: close. Who has answers to give overrides this, and gives those under way before.

        :param request_id: of the request that was not complete, so that it certainly had no effect; ``None`` where
            that is not known.
        :param error: what to answer it.
        """
        self.close()

    def keep_answers(self, size_bytes: int) -> None:
        """Count what is kept of answers, and of requests for them, until others have been read; 0 for nothing."""
        self._kept_bytes = size_bytes
        self._count_unread()

    def got_on(self) -> None:
        """Begin anew with what is held: others have not been getting on for longer."""
        self._bounds.unread.hold(self, 0)
        self._count_unread()

    # -- messages that are not complete --------------------------------------------------------------------------

    def unfinished_changed(self, size_bytes: int) -> None:
        """See :class:`raftkv.protocols.framing.MessageLineReceiver`."""
        self._bounds.unfinished.hold(self, size_bytes)

    def give_up_unfinished(self) -> None:
        """All unfinished messages take too much, and ours has been under way for the longest time."""
        limit = self._bounds.unfinished.limit_bytes
        reason = f"messages that are not complete take more than {limit} bytes together ({_UNFINISHED_SETTING})"
        request_id = _request_id_of(self.unfinished_head)
        self.ignore_input()
        if self.theirs is None:
            self._refuse(reason)
            return
        self._warnings.warn("closed the connection of {peer}: {reason}", peer=self.peer_name(), reason=reason)
        # What is under way has its answer within this time, or none at all; close() has a shorter one.
        self._linger_timer = self._clock.callLater(self._settings.drain_seconds, self._linger_ended)
        self.input_given_up(request_id, Overloaded(reason))

    # -- answers that are not read -------------------------------------------------------------------------------

    def output_stuck(self) -> None:
        """The other side does not read: it has so much time for it."""
        if self._unread_timer is None:
            self._unread_timer = self._clock.callLater(self._settings.unread_seconds, self._not_read)

    def output_waits(self, size_bytes: int) -> None:
        """Count what was written on top of what is not read."""
        self._stuck_bytes += size_bytes
        self._count_unread()

    def output_drained(self) -> None:
        """The other side has read everything."""
        self._stop_unread_timer()
        self._stuck_bytes = 0
        self.got_on()

    def give_up_unread(self) -> None:
        """All unread answers take too much, and nobody has read nothing for longer."""
        self._cut_unread(
            f"answers that are not read take more than {self._bounds.unread.limit_bytes} bytes together "
            f"({_UNREAD_SETTING})"
        )

    def _not_read(self) -> None:
        self._unread_timer = None
        self._cut_unread(f"its answers were not read within {self._settings.unread_seconds} s ({_PATIENCE_SETTING})")

    def _cut_unread(self, reason: str) -> None:
        if self.closing:
            self.abort()  # it only waits for the answers to leave
        else:
            self.violation(reason)

    def _count_unread(self) -> None:
        self._bounds.unread.hold(self, self._stuck_bytes + self._kept_bytes)

    # -- the end -------------------------------------------------------------------------------------------------

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Hold nothing any more; called by Twisted."""
        super().connectionLost(reason)
        self._stop_unread_timer()
        self._stuck_bytes = 0
        self.keep_answers(0)
        self.unfinished_changed(0)

    def _stop(self) -> None:
        super()._stop()
        self._stop_unread_timer()  # from here on another one runs
        self.unfinished_changed(0)

    def _stop_unread_timer(self) -> None:
        if self._unread_timer is not None:
            self._unread_timer.cancel()
            self._unread_timer = None


def _request_id_of(head: bytes) -> int | None:
    """Return the number of the request that a message begins, ``None`` where that cannot be told."""
    unpacker = msgpack.Unpacker()
    unpacker.feed(head)
    try:
        unpacker.read_array_header()
        kind, request_id = unpacker.unpack(), unpacker.unpack()
    except (msgpack.UnpackException, ValueError):
        return None
    known = type(kind) is int and type(request_id) is int and 0 <= request_id < MAX_REQUEST_ID
    return request_id if known else None
