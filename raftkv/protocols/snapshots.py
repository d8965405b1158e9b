"""Snapshot files between members: each on a connection of its own, so that heartbeats never queue behind one.

The leader's side dials the member's Raft port, offers the newest file, and sends it from the offset that the member
asks for (it may hold a part from a broken transfer). The member acknowledges every chunk once it is written; a bounded
number is under way. Knows the conversation, its time-outs and its rate; the files belong to the two objects handed
in, and what an installed snapshot means to the core.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure
from zope.interface import Attribute, Interface

from raftkv.errors import ProtocolViolation
from raftkv.interfaces import Identity
from raftkv.protocols.codec import decode_snapshot_meta, encode_snapshot_meta
from raftkv.protocols.framing import KIB, FrameLimits
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose, Refused
from raftkv.protocols.warnings import RateLimitedLog
from raftkv.raft.messages import InstallSnapshot, SnapshotMeta

OFFER: Final = 40  # (OFFER, term, size, digest, meta): the sender has this file
ACCEPT: Final = 41  # (ACCEPT, offset): send it from there
CHUNK: Final = 42  # (CHUNK, offset, bytes)
WRITTEN: Final = 43  # (WRITTEN, offset): everything below is written
INSTALLED: Final = 44  # (INSTALLED,): the file is whole, verified and safe on disk
FAILED: Final = 45  # (FAILED, sentence): not this time
ALIVE: Final = 46  # (ALIVE,): the member is at work

_LIMIT: Final = 2**63
_MAX_SENTENCE: Final = 1024
_MAX_DIGEST: Final = 128


class ISnapshotFile(Interface):
    """A snapshot file that is open for sending. It stays readable until closed, even if it is deleted meanwhile."""

    meta = Attribute("What it replaces of the log, a SnapshotMeta.")
    size = Attribute("Its length in bytes.")
    digest = Attribute("Hex; names its content, equal for equal files.")

    def read(offset: int, length: int) -> Deferred[bytes]:
        """Fire with exactly ``length`` bytes, or fail."""

    def close() -> None:
        """Give the file back; called once."""


class ISnapshotSource(Interface):
    """Where the leader finds what to send."""

    def newest() -> Deferred[ISnapshotFile | None]:
        """Fire with the newest snapshot that checks out as a whole, open, or with ``None`` where there is none."""


class ISnapshotSink(Interface):
    """Where a member puts what arrives. One transfer at a time: :meth:`begin` ends in :meth:`finish`, a failure, or
    :meth:`abort`; only :meth:`abort`, and a :meth:`begin` after it, may be called while a Deferred is pending."""

    def begin(meta: SnapshotMeta, size: int, digest: str) -> Deferred[int]:
        """Prepare to receive a file; fire with the offset from which to go on: 0, or how much of this very file
        (same meta, size and digest) an earlier transfer has left. Fail where it is not wanted."""

    def write(offset: int, data: bytes) -> Deferred[None]:
        """Fire once the bytes are written (not synced). Offsets are contiguous."""

    def finish() -> Deferred[SnapshotMeta]:
        """Verify the whole file, make it safe on disk under its final name, and fire with its meta; or fail, and
        forget it."""

    def abort() -> None:
        """The transfer broke; keep what was written, so that the next one can go on from there. Never called once
        :meth:`finish` has been: a file that is whole is finished whatever becomes of the connection."""


@dataclass(frozen=True, slots=True, kw_only=True)
class TransferSettings:
    """How a snapshot travels.

    :ivar chunk_bytes: payload of one chunk.
    :ivar window_chunks: chunks that may be under way without an acknowledgement.
    :ivar bytes_per_second: bound of the rate of one transfer; ``None`` for none.
    :ivar silence_seconds: a transfer ends when the other side says nothing for so long while something is due.
    """

    chunk_bytes: int = 256 * KIB
    window_chunks: int = 4
    bytes_per_second: float | None = None
    silence_seconds: float = 10.0


class _Silence:
    """Calls back when the other side has said nothing for too long."""

    def __init__(self, clock: IReactorTime, seconds: float, silent: Callable[[], None]) -> None:
        self._clock = clock
        self._seconds = seconds
        self._silent = silent
        self._timer: IDelayedCall | None = None

    def restart(self) -> None:
        """There was a sign of life, or the first one is due."""
        if self._timer is None:
            self._timer = self._clock.callLater(self._seconds, self._fire)
        else:
            self._timer.reset(self._seconds)

    def stop(self) -> None:
        """Nothing is due any more."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None

    def _fire(self) -> None:
        self._timer = None
        self._silent()


class SnapshotSender(GreetingReceiver):
    """The leader's side of one transfer: the protocol of the connection that it dials."""

    _log = Logger()

    def __init__(
        self,
        *,
        peer: str,
        term: int,
        file: ISnapshotFile,
        settings: TransferSettings,
        done: Callable[[bool], None],
        identity: Identity,
        clock: IReactorTime,
        limits: FrameLimits,
        warnings: RateLimitedLog,
    ) -> None:
        """Take what is needed.

        :param peer: the member that must be at the other end.
        :param term: our term as a leader, the one of the :class:`InstallSnapshot` that this stands for.
        :param file: left open; the caller closes it once no read is pending (see ``done``).
        :param done: called once, with whether the member has installed it, when the connection is gone and the file
            is no longer read.
        """
        super().__init__(
            identity=identity,
            dials_for=Purpose.SNAPSHOT,
            accepts=(Purpose.SNAPSHOT,),
            clock=clock,
            limits=limits,
            warnings=warnings,
        )
        self._peer = peer
        self._term = term
        self._file = file
        self._settings = settings
        self._done = done
        self._silence = _Silence(clock, settings.silence_seconds, self._silent)
        self._installed = False
        self._accepted = False
        self._next_offset = 0  # of the next chunk to read
        self._written_offset = 0  # acknowledged
        self._reading = False
        self._not_before = 0.0  # when the rate allows the next chunk
        self._rate_timer: IDelayedCall | None = None

    def check_hello(self, hello: Hello) -> None:
        """Make sure that the right member is at the other end."""
        if hello.identity.node_id != self._peer:
            raise Refused(f"it is {hello.identity.node_id!r}, not {self._peer!r}")

    def greeted(self, hello: Hello) -> None:
        """Offer the file."""
        meta = encode_snapshot_meta(self._file.meta)
        self.send_message((OFFER, self._term, self._file.size, self._file.digest, meta))
        self._silence.restart()

    def request_received(self, message: Any) -> None:
        """Take an answer of the member."""
        kind = _kind(message)
        if kind == ACCEPT and not self._accepted:
            self._accepted = True
            self._next_offset = self._written_offset = _offset(message, lowest=0, highest=self._file.size)
        elif kind == WRITTEN and self._accepted:
            self._written_offset = _offset(message, lowest=self._written_offset, highest=self._next_offset)
        elif kind == INSTALLED and self._accepted and self._next_offset == self._file.size:
            self._installed = True
            self.close()
        elif kind == FAILED and len(message) == 2 and type(message[1]) is str:
            self._log.warn(
                "{peer} did not take the snapshot at index {index}: {reason}",
                peer=self._peer,
                index=self._file.meta.index,
                reason=message[1][:_MAX_SENTENCE],
            )
            self.close()
        elif kind != ALIVE:
            raise ProtocolViolation("an answer to a snapshot that was not due")
        if not self.closing:
            self._silence.restart()
            self._send_more()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """The transfer is over, one way or the other; called by Twisted."""
        self._stop_timers()
        super().connectionLost(reason)
        self._report()

    def _send_more(self) -> None:
        if self.closing or self._reading or self._rate_timer is not None or not self._accepted:
            return
        length = min(self._chunk_bytes(), self._file.size - self._next_offset)
        window_bytes = self._settings.window_chunks * self._settings.chunk_bytes
        if length <= 0 or self._next_offset + length > self._written_offset + window_bytes:
            return
        wait = self._not_before - self._clock.seconds()
        if wait > 0:
            self._rate_timer = self._clock.callLater(wait, self._rate_allows)
            return
        self._reading = True
        reading = maybeDeferred(self._file.read, self._next_offset, length)
        reading.addCallbacks(self._send_chunk, self._read_failed, (length,))

    def _chunk_bytes(self) -> int:
        """Return the size of a chunk: smaller at a low rate, where a whole one would look like silence."""
        rate = self._settings.bytes_per_second
        if rate is None:
            return self._settings.chunk_bytes
        return max(1, min(self._settings.chunk_bytes, int(rate * self._settings.silence_seconds / 4)))

    def _rate_allows(self) -> None:
        self._rate_timer = None
        self._send_more()

    def _send_chunk(self, data: bytes, length: int) -> None:
        self._reading = False
        if self.closing:
            self._report()
            return
        if len(data) != length:
            self._log.error("the snapshot file at index {index} is shorter than it was", index=self._file.meta.index)
            self.abort()
            return
        self.send_message((CHUNK, self._next_offset, data))
        self._next_offset += length
        if self._settings.bytes_per_second is not None:
            begin = max(self._not_before, self._clock.seconds())
            self._not_before = begin + length / self._settings.bytes_per_second
        self._send_more()

    def _read_failed(self, failure: Failure) -> None:
        self._reading = False
        self._log.failure("cannot read the snapshot at index {index}", failure, index=self._file.meta.index)
        self.abort()
        self._report()

    def _report(self) -> None:
        """Tell the outcome, once neither the connection nor a read is left."""
        if self._lost and not self._reading:
            self._done(self._installed)

    def _silent(self) -> None:
        self.violation(f"a snapshot transfer heard nothing for {self._settings.silence_seconds} s")

    def _stop(self) -> None:
        self._stop_timers()
        super()._stop()

    def _stop_timers(self) -> None:
        self._silence.stop()
        if self._rate_timer is not None:
            self._rate_timer.cancel()
            self._rate_timer = None


class SnapshotReceiver:
    """The member's side of one transfer, on a connection that came in for it.

    The sink is asked for one thing at a time; chunks that arrive meanwhile wait, no more of them than fit the window
    that both sides know. While the sink works, a sign of life goes out now and then.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        connection: GreetingReceiver,
        sender: str,
        to: str,
        sink: ISnapshotSink,
        installed: Callable[[InstallSnapshot], None],
        settings: TransferSettings,
        clock: IReactorTime,
    ) -> None:
        """Take what is needed, and wait for the offer.

        :param sender: the member at the other end, as its hello said.
        :param to: this node.
        :param installed: called once the file is safe on disk, with the message for the core.
        """
        self._connection = connection
        self._sender = sender
        self._to = to
        self._sink = sink
        self._installed = installed
        self._settings = settings
        self._silence = _Silence(clock, settings.silence_seconds, self._silent)
        self._alive = LoopingCall(lambda: connection.send_message((ALIVE,)))
        self._alive.clock = clock
        self._offer: tuple[int, int, SnapshotMeta] | None = None  # term, size, meta
        self._received_offset = 0
        self._waiting: deque[tuple[int, bytes]] = deque()
        self._busy = False  # the sink owes us an answer
        self._accepted = False
        self._finishing = False
        self._over = False
        self._silence.restart()

    @property
    def is_finishing(self) -> bool:
        """Whether the whole file is here and is being verified: too late to be replaced by another transfer."""
        return self._finishing

    def message_received(self, message: Any) -> None:
        """Take a message of the sender.

        :raises ProtocolViolation: it was not due, or makes no sense.
        """
        if self._over:
            return
        kind = _kind(message)
        if kind == OFFER and self._offer is None:
            self._take_offer(message)
        elif kind == CHUNK and self._accepted and not self._finishing:
            self._take_chunk(message)
        else:
            raise ProtocolViolation("a message of a snapshot transfer that was not due")
        self._watch_sender()

    def connection_lost(self) -> None:
        """The connection is gone, so the transfer is over."""
        self._end()

    def _take_offer(self, message: Any) -> None:
        if tuple(map(type, message)) != (int, int, int, str, tuple):
            raise ProtocolViolation("an offer of a snapshot with the wrong elements")
        _, term, size, digest, meta_value = message
        if not (0 < term < _LIMIT and 0 <= size < _LIMIT and len(digest) <= _MAX_DIGEST):
            raise ProtocolViolation("an offer of a snapshot with impossible numbers")
        meta = decode_snapshot_meta(meta_value)
        if meta.term > term:
            raise ProtocolViolation("an offer of a snapshot of a later term than the sender's")
        self._offer = (term, size, meta)
        self._alive.start(self._settings.silence_seconds / 3, now=False)
        self._busy = True
        maybeDeferred(self._sink.begin, meta, size, digest).addCallbacks(self._accept, self._failed)

    def _accept(self, offset: int) -> None:
        self._busy = False
        if self._over or self._offer is None:
            return
        self._accepted = True
        self._received_offset = offset
        self._connection.send_message((ACCEPT, offset))
        if offset == self._offer[1]:
            self._finish()
        self._watch_sender()

    def _take_chunk(self, message: Any) -> None:
        if tuple(map(type, message)) != (int, int, bytes) or self._offer is None:
            raise ProtocolViolation("a chunk of a snapshot with the wrong elements")
        _, offset, data = message
        size = self._offer[1]
        window_bytes = self._settings.window_chunks * self._settings.chunk_bytes
        if offset != self._received_offset or not data or offset + len(data) > size:
            raise ProtocolViolation("a chunk that does not follow the one before it")
        if sum(len(waiting) for _, waiting in self._waiting) + len(data) > window_bytes:
            raise ProtocolViolation("more chunks at once than the window allows")
        self._received_offset += len(data)
        self._waiting.append((offset, data))
        self._write_next()

    def _write_next(self) -> None:
        if self._busy or self._over:
            return
        if not self._waiting:
            if self._offer is not None and self._received_offset == self._offer[1]:
                self._finish()
            return
        offset, data = self._waiting.popleft()
        self._busy = True
        written = maybeDeferred(self._sink.write, offset, data)
        written.addCallbacks(lambda _: self._written(offset + len(data)), self._failed)

    def _written(self, offset: int) -> None:
        self._busy = False
        if not self._over:
            self._connection.send_message((WRITTEN, offset))
            self._write_next()
            self._watch_sender()

    def _finish(self) -> None:
        self._busy = self._finishing = True
        maybeDeferred(self._sink.finish).addCallbacks(self._finished, self._failed)

    def _finished(self, meta: SnapshotMeta) -> None:
        """Tell the core even where the connection is gone by now: the file is here."""
        self._busy = self._finishing = False
        if self._offer is None:
            return
        term = self._offer[0]
        if not self._over:
            self._over = True
            self._stop_timers()
            self._connection.send_message((INSTALLED,))
        self._installed(InstallSnapshot(term=term, sender=self._sender, to=self._to, snapshot=meta))

    def _failed(self, failure: Failure) -> None:
        self._busy = self._finishing = False
        if self._over:
            return
        self._over = True
        self._stop_timers()
        self._log.warn(
            "could not take a snapshot from {peer}: {reason}", peer=self._sender, reason=failure.getErrorMessage()
        )
        self._connection.send_message((FAILED, failure.getErrorMessage()[:_MAX_SENTENCE]))
        self._connection.close()

    def _silent(self) -> None:
        self._connection.violation(f"a snapshot transfer heard nothing for {self._settings.silence_seconds} s")
        self._end()

    def _end(self) -> None:
        self._stop_timers()
        self._waiting.clear()
        if self._over:
            return
        self._over = True
        if self._offer is not None and not self._finishing:
            self._sink.abort()

    def _watch_sender(self) -> None:
        """Expect the sender to say something, unless it is our own sink that everybody waits for."""
        if self._over or self._busy:
            self._silence.stop()
        else:
            self._silence.restart()

    def _stop_timers(self) -> None:
        self._silence.stop()
        if self._alive.running:
            self._alive.stop()


def _kind(message: Any) -> int:
    if type(message) is not tuple or not message or type(message[0]) is not int:
        raise ProtocolViolation("a message that is no array with a number first")
    return message[0]


def _offset(message: Any, *, lowest: int, highest: int) -> int:
    if len(message) != 2 or type(message[1]) is not int or not lowest <= message[1] <= highest:
        raise ProtocolViolation("an offset outside of what was sent of the snapshot")
    return message[1]
