"""Line-delimited msgpack: where a message ends on a stream, and what a stream may cost us.

A message is one msgpack value followed by a newline. A newline byte read as msgpack is the integer 10, so the
unpacker, in C, finds value, 10, value, 10, … by itself; each 10 is checked, which tells at once when the two sides
have lost step. Knows bytes, limits and time-outs; what a message means is left to its subclasses.

What a stranger can make us hold is bounded: the bytes of one unfinished message (which subclasses can count together
with those of other connections), the room that array and map headers
reserve before their elements arrive, and the time that a half-sent message may wait (a declared length of 4 GiB would
otherwise just wait). Every error ends the connection, for none can be recovered from.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass
from typing import Any, ClassVar, Final, NoReturn

import msgpack
from twisted.internet.error import ConnectionDone, ConnectionLost
from twisted.internet.interfaces import IDelayedCall, IPushProducer, IReactorTime, ITCPTransport
from twisted.internet.protocol import Protocol, connectionDone
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.errors import ProtocolViolation
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.sending import send_at_once

KIB: Final = 1024
MIB: Final = 1024 * KIB

TRANSPORT_BUFFER_BYTES: Final = 256 * KIB  #: read at once, and kept unsent before a producer is paused
_UNPACKER_BUFFER_BYTES: Final = 16 * KIB  # at first; msgpack would take 1 MiB for each connection
UNCOUNTED_BYTES: Final = _UNPACKER_BUFFER_BYTES  #: of an unfinished message, which takes no more than any connection
_HEAD_BYTES: Final = 24  # of an unfinished message: an array's header and two numbers of the largest kind

TERMINATOR: Final = b"\n"
_NEWLINE: Final = 10
_NOTHING: Final = object()
_NEVER: Final = float("inf")

#: Packs one message; shared, since all protocols run in the reactor's thread.
pack: Final[Callable[[Any], bytes]] = msgpack.Packer(use_bin_type=True).pack


#: Arranges for a call when everything that is to be sent together has been queued, or says no: then the end of the
#: reactor's turn has to do.
AtTurnEnd = Callable[[Callable[[], None]], bool]


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameLimits:
    """What one connection may cost.

    :ivar max_message_bytes: the largest message that is read.
    :ivar max_array_length: elements of one array; with msgpack's 1,024 levels of nesting a hostile message of 3 kB
        makes us reserve at most 8 KiB times this.
    :ivar max_map_length: pairs of one map.
    :ivar partial_message_seconds: how long a message may be under way once its first bytes are here.
    :ivar hello_seconds: how long the other side may take for its first message.
    :ivar linger_seconds: how long a connection that is being closed may take to send what it holds.
    """

    max_message_bytes: int = 8 * MIB
    max_array_length: int = 512
    max_map_length: int = 256
    partial_message_seconds: float = 10.0
    hello_seconds: float = 5.0
    linger_seconds: float = 5.0


def _refuse_extension(code: int, data: bytes) -> NoReturn:
    raise ProtocolViolation(f"a msgpack extension of type {code}")


def make_unpacker(limits: FrameLimits) -> Any:
    """Return an unpacker that yields tuples, and bytes for ``bin``, within limits.

    Its buffer counts all that is unread, so it must hold the largest message and one read.
    """
    return msgpack.Unpacker(
        None,
        read_size=_UNPACKER_BUFFER_BYTES,
        use_list=False,
        raw=False,
        strict_map_key=True,
        ext_hook=_refuse_extension,
        max_buffer_size=limits.max_message_bytes + TRANSPORT_BUFFER_BYTES,
        max_str_len=limits.max_message_bytes,
        max_bin_len=limits.max_message_bytes,
        max_array_len=limits.max_array_length,
        max_map_len=limits.max_map_length,
        max_ext_len=0,
    )


@implementer(IPushProducer)
class MessageLineReceiver(Protocol):
    """One connection that carries line-delimited msgpack both ways.

    Subclasses override :meth:`message_received`, and where it helps :meth:`read_finished`. As a producer for its own
    transport it learns when more waits to be sent than the transport likes to hold (``output_paused``).

    :cvar gives_room_back: whether the room that large messages have taken is given back with each, as is right where
        there are many connections; on a few busy ones it is soon needed again.
    :ivar closing: nothing more is read or written: the connection is gone or on its way.
    :ivar ended_by_peer: the connection is gone, and it was not we who closed it, nor a time-out of ours.
    :ivar reading_paused: we read nothing for the time being.
    :ivar output_paused: the transport holds more than ``TRANSPORT_BUFFER_BYTES`` that the other side does not take.
    :ivar unfinished_head: the first bytes of the latest message that was not complete at the end of a read.
    """

    gives_room_back: ClassVar[bool] = False
    transport: Any  # of TCP, TLS or a test; which interfaces it has differs, and is asked where it matters

    def __init__(self, *, clock: IReactorTime, limits: FrameLimits, warnings: RateLimitedLog) -> None:
        """Take what is needed.

        :param clock: for time-outs, and to gather what is queued in one turn of the reactor.
        :param limits: what the other side may cost.
        :param warnings: gets one line for a connection that ends by a violation.
        """
        self.closing = False
        self.ended_by_peer = False
        self.output_paused = False
        self.reading_paused = False
        self.unfinished_head = b""
        self._lost = False
        self._cut = False  # aborted or lost: the transport is not to be touched
        self._clock = clock
        self._limits = limits
        self._warnings = warnings
        self._unpacker = make_unpacker(limits)
        self._is_swollen = False  # the unpacker has room for more than it began with, and keeps that
        self._is_deaf = False  # what arrives is of no interest
        self._received_bytes = 0  # of the whole stream, or since the unpacker was replaced
        self._complete_bytes = 0  # of those, up to the end of the last whole message
        self._unterminated: Any = _NOTHING  # a value whose newline has not arrived
        self._partial_since = _NEVER  # when the unfinished message began
        self._partial_timer: IDelayedCall | None = None
        self._linger_timer: IDelayedCall | None = None
        self._queue: list[bytes] = []
        self._flush_call: IDelayedCall | None = None
        self._closed_callbacks: list[Callable[[], None]] = []

    # -- for subclasses ------------------------------------------------------------------------------------------

    def message_received(self, message: Any) -> None:
        """Take one message; tuples for arrays.

        :raises ProtocolViolation: it makes no sense; the connection is closed.
        """
        raise NotImplementedError

    def messages_received(self, messages: list[Any]) -> None:
        """Take the whole messages of one read; here by :meth:`message_received`, one after the other."""
        for message in messages:
            if self.closing:
                return
            self.message_received(message)

    def read_finished(self) -> None:
        """All whole messages of one read have been given to :meth:`message_received`."""

    def unfinished_changed(self, size_bytes: int) -> None:
        """A read has ended with so many bytes of a message that is not complete; told where they are more than
        ``UNCOUNTED_BYTES``, and once, with 0, when they are no longer."""

    def output_waits(self, size_bytes: int) -> None:
        """So many bytes were written while ``output_paused`` is true, or have made it so."""

    def output_drained(self) -> None:
        """Everything that waited to be sent is on its way: ``output_paused`` has become false."""

    def output_stuck(self) -> None:
        """The other side does not read as fast as we write: ``output_paused`` has become true."""

    def peer_name(self) -> str:
        """Return the name of the other side for a line in the log."""
        peer = self.transport.getPeer() if self.transport is not None else None
        host, port = getattr(peer, "host", None), getattr(peer, "port", None)
        return f"{host}:{port}" if host is not None else str(peer)

    # -- sending -------------------------------------------------------------------------------------------------

    def send_message(self, message: Any) -> None:
        """Send one message now, behind what is queued."""
        self.queue_message(message)
        self.flush()

    def send_packed(self, frames: Iterable[bytes]) -> None:
        """Send messages that are already packed, in one write.

        :param frames: what :func:`pack` made of each, without the newline.
        """
        for frame in frames:
            self._queue.append(frame)
            self._queue.append(TERMINATOR)
        self.flush()

    def queue_message(self, message: Any) -> None:
        """Send one message together with all others that are queued in this turn of the reactor, in one write."""
        queue = self._queue
        queue.append(pack(message))
        queue.append(TERMINATOR)
        if self._flush_call is None:
            self._flush_call = self._clock.callLater(0, self._flush_turn)

    def queue_packed(self, frames: Iterable[bytes], at_turn_end: AtTurnEnd) -> None:
        """As :meth:`queue_message`, for messages that are already packed.

        :param at_turn_end: see there; these messages are sent as soon as it calls.
        """
        queue = self._queue
        is_first = not queue
        for frame in frames:
            queue.append(frame)
            queue.append(TERMINATOR)
        if is_first and not at_turn_end(self.flush):
            self._flush_call = self._clock.callLater(0, self._flush_turn)

    def flush(self) -> None:
        """Write what is queued."""
        if self._flush_call is not None:
            self._flush_call.cancel()
            self._flush_call = None
        self._write_queue()

    def _flush_turn(self) -> None:
        self._flush_call = None
        self._write_queue()

    def _write_queue(self) -> None:
        if self._queue and not self.closing and self.transport is not None:
            data = b"".join(self._queue)
            send_at_once(self.transport, data)
            if self.output_paused:
                self.output_waits(len(data))
        self._queue.clear()

    # -- closing -------------------------------------------------------------------------------------------------

    def when_closed(self, callback: Callable[[], None]) -> None:
        """Call back once the connection is lost, after this protocol has dealt with that; now, where it is already."""
        if self._lost:
            callback()
        else:
            self._closed_callbacks.append(callback)

    def close(self) -> None:
        """Send what is queued and close; read nothing more. Cut after ``linger_seconds``."""
        if self.closing or self.transport is None:
            return
        self.flush()
        if self.closing:
            return  # what was to be sent was one thing too many
        self._stop()
        self._linger_timer = self._clock.callLater(self._limits.linger_seconds, self._linger_ended)
        self.transport.loseConnection()

    def abort(self) -> None:
        """Cut the connection, also one that is being closed; what is queued or unsent is lost."""
        if self.transport is None or self._cut:
            return
        self._cut = True
        if not self.closing:
            self._stop()
        self._cancel_timers()
        self.transport.abortConnection()

    def violation(self, reason: str) -> None:
        """Cut the connection, because the other side broke the rules, and log one line that names it."""
        if self.closing:
            return
        self._warnings.warn("closed the connection of {peer}: {reason}", peer=self.peer_name(), reason=reason)
        self.abort()

    def _stop(self) -> None:
        self.closing = True
        if self.transport is not None:
            self.transport.unregisterProducer()
        self._queue.clear()
        self._shrink(b"")
        self._cancel_timers()

    def _cancel_timers(self) -> None:
        for timer in (self._partial_timer, self._linger_timer, self._flush_call):
            if timer is not None and timer.active():
                timer.cancel()
        self._partial_timer = self._linger_timer = self._flush_call = None

    def _linger_ended(self) -> None:
        self._linger_timer = None
        self.abort()

    # -- what the transport calls --------------------------------------------------------------------------------

    def connectionMade(self) -> None:
        """Set the socket up; called by Twisted."""
        self.transport.bufferSize = TRANSPORT_BUFFER_BYTES
        if ITCPTransport.providedBy(self.transport):
            self.transport.setTcpNoDelay(True)
            self.transport.setTcpKeepAlive(True)
        self.transport.registerProducer(self, True)

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Forget everything; called by Twisted, once."""
        self.ended_by_peer = not self.closing and reason.check(ConnectionDone, ConnectionLost) is not None
        self.closing = self._cut = self._lost = True
        self._queue.clear()
        self._cancel_timers()
        callbacks, self._closed_callbacks = self._closed_callbacks, []
        for callback in callbacks:
            callback()

    def dataReceived(self, data: bytes) -> None:
        """Take bytes; called by Twisted."""
        if len(data) <= TRANSPORT_BUFFER_BYTES:
            self._take(data)
            return
        # Some transports (TLS, tests) hand over more than one read; the unpacker's buffer has room for one.
        view = memoryview(data)
        for start in range(0, len(data), TRANSPORT_BUFFER_BYTES):
            self._take(view[start : start + TRANSPORT_BUFFER_BYTES])

    def _take(self, data: bytes | memoryview) -> None:
        if self.closing or self._is_deaf:
            return
        messages: list[Any] = []
        broken = self._unpack(data, messages)
        self._deliver(messages)
        if broken is not None:
            self.violation(broken)
        elif not self.closing:
            self._watch_partial(data, completed=bool(messages))

    def _unpack(self, data: bytes | memoryview, messages: list[Any]) -> str | None:
        """Append each whole message; return what is wrong with the stream, or ``None``."""
        unpacker = self._unpacker
        value = self._unterminated
        try:
            # In pieces, for the unpacker keeps as much room as it has ever needed, on every connection.
            size_bytes = len(data)
            for start in range(0, size_bytes, _UNPACKER_BUFFER_BYTES):
                piece = data if size_bytes <= _UNPACKER_BUFFER_BYTES else data[start : start + _UNPACKER_BUFFER_BYTES]
                self._received_bytes += len(piece)
                unpacker.feed(piece)
                for found in unpacker:
                    if value is _NOTHING:
                        value = found
                    elif type(found) is int and found == _NEWLINE:
                        messages.append(value)
                        value = _NOTHING
                        self._complete_bytes = unpacker.tell()
                    else:
                        return f"{_brief(found)} in place of the newline that ends a message"
                if self._received_bytes - self._complete_bytes > UNCOUNTED_BYTES:
                    self._is_swollen = True
        # Whatever msgpack raises, from ValueError to RuntimeError, the stream cannot be read any further.
        except Exception as unreadable:
            return f"unreadable msgpack: {type(unreadable).__name__}: {unreadable}"
        self._unterminated = value
        if self._received_bytes - self._complete_bytes > self._limits.max_message_bytes:
            return f"a message of more than {self._limits.max_message_bytes} bytes"
        return None

    def _deliver(self, messages: list[Any]) -> None:
        try:
            self.messages_received(messages)
            if messages and not self.closing:
                self.read_finished()
        except ProtocolViolation as violation:
            self.violation(str(violation))

    # -- the time limit of a half-sent message -----------------------------------------------------------------------

    def _watch_partial(self, data: bytes | memoryview, *, completed: bool) -> None:
        """Start to count the time of an unfinished message, and tell how large it is.

        One timer looks back at when the present one began: scheduling and cancelling one with each read would cost
        more than the reading.
        """
        unfinished_bytes = self._received_bytes - self._complete_bytes
        beginning = len(data) - unfinished_bytes
        if not unfinished_bytes:
            self._partial_since = _NEVER
        elif completed or self._partial_since == _NEVER:
            self._partial_since = self._clock.seconds()
            head = data[beginning : beginning + _HEAD_BYTES]
            self.unfinished_head = head if type(head) is bytes else bytes(head)
            if self._partial_timer is None:
                self._check_partial()
        elif len(self.unfinished_head) < _HEAD_BYTES:
            self.unfinished_head += bytes(data[: _HEAD_BYTES - len(self.unfinished_head)])
        if self._is_swollen:
            if completed and self.gives_room_back:
                self._shrink(data[beginning:])
            self._is_swollen = unfinished_bytes > UNCOUNTED_BYTES
            self.unfinished_changed(unfinished_bytes if self._is_swollen else 0)

    def _shrink(self, unfinished: bytes | memoryview) -> None:
        """Give back the room that a large message has taken; what has come of the one behind it is read again."""
        self._unpacker = make_unpacker(self._limits)
        self._unpacker.feed(unfinished)
        self._received_bytes, self._complete_bytes = len(unfinished), 0
        self._unterminated = _NOTHING

    def _check_partial(self) -> None:
        self._partial_timer = None
        if self._partial_since == _NEVER or self.reading_paused:
            return
        remaining = self._partial_since + self._limits.partial_message_seconds - self._clock.seconds()
        if remaining > 0:
            self._partial_timer = self._clock.callLater(remaining, self._check_partial)
        else:
            self.violation(f"a message was still unfinished after {self._limits.partial_message_seconds} s")

    def ignore_input(self) -> None:
        """Forget what has come of a message, and take no further one; what is to be sent leaves all the same.

        What still comes is read all the same: to close with unread bytes would reset the connection.
        """
        self._is_deaf = True
        self._is_swollen = False
        self._partial_since = _NEVER
        self._shrink(b"")

    def pause_reading(self) -> None:
        """Leave what the other side sends where it is, for the time being."""
        if not self.reading_paused and not self.closing:
            self.reading_paused = True
            self.transport.pauseProducing()

    def resume_reading(self) -> None:
        """Read on. The time of a half-sent message begins anew, for it was we who did not read."""
        if not self.reading_paused or self.closing:
            return
        self.reading_paused = False
        if self._partial_since != _NEVER:
            self._partial_since = self._clock.seconds()
            if self._partial_timer is None:
                self._check_partial()
        self.transport.resumeProducing()

    # -- IPushProducer: the transport tells how full it is -------------------------------------------------------------

    def pauseProducing(self) -> None:
        """The transport holds much that is unsent; called by Twisted."""
        self.output_paused = True
        self.output_stuck()

    def resumeProducing(self) -> None:
        """The transport has sent everything; called by Twisted."""
        if self.output_paused:
            self.output_paused = False
            self.output_drained()

    def stopProducing(self) -> None:
        """The transport takes nothing more; ``connectionLost`` follows."""


def _brief(value: Any) -> str:
    text = repr(value)
    return text if len(text) <= 40 else text[:40] + "…"
