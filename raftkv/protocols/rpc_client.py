"""One pipelined connection to an RPC port: for the forwarder between nodes and for the native client.

Callbacks inside, no Deferred for an operation. Requests of one turn of the reactor leave in one write. Every request
ends exactly once: with its answer, with the error that the node told, with a time-out, or with the loss of the
connection, where it matters whether the request may have left. Dialing, and which node to ask, is left to the owner.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.python.failure import Failure

from raftkv.errors import OutcomeUnknown, ProtocolViolation, RaftKVError, RequestTimeout, TooLarge
from raftkv.interfaces import Command, Consistency, Identity
from raftkv.protocols.framing import TERMINATOR, FrameLimits, pack
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose
from raftkv.protocols.rpc_errors import Unreachable, decode_error
from raftkv.protocols.rpc_frames import (
    CALL,
    CONSISTENCY_NUMBERS,
    ERROR,
    FORWARDED,
    GET,
    MAX_ITEMS,
    PING,
    RESULT,
    RPC_LIMITS,
    WRITE,
)
from raftkv.protocols.warnings import RateLimitedLog

#: Called once with the value of the answer (for writes and reads a tuple, one element for each item) or the error.
Done = Callable[[Any], None]

_ANY_VALUE: Final = -1  # in place of the number of items that an answer must have


class AgedRecords(tuple[Any, ...]):
    """The answer to a stale read: records, and how old the state was that they are of.

    :ivar staleness: seconds, at the most; ``None`` where the node did not know.
    """

    staleness: float | None = None


class RpcConnection(GreetingReceiver):
    """A connection that asks. :attr:`is_ready` once both sides have said hello; before, requests fail at once."""

    def __init__(
        self,
        *,
        identity: Identity,
        purpose: Purpose,
        ready: Callable[[RpcConnection], None],
        clock: IReactorTime,
        warnings: RateLimitedLog,
        request_timeout_seconds: float,
        limits: FrameLimits = RPC_LIMITS,
    ) -> None:
        """Take what is needed.

        :param identity: a node's own, or :func:`raftkv.protocols.hello.client_identity`.
        :param purpose: ``NODE`` or ``CLIENT``.
        :param ready: called once, when requests may be made. For the end see ``when_closed``.
        :param request_timeout_seconds: from a request to its :exc:`~raftkv.errors.RequestTimeout`; the same for all.
        """
        super().__init__(
            identity=identity,
            dials_for=purpose,
            accepts=(purpose,),
            clock=clock,
            limits=limits,
            warnings=warnings,
        )
        self.refusal = ""  # why the other side, or we, would not talk
        self._ready = ready
        self._request_timeout_seconds = request_timeout_seconds
        # By request id, hence in the order of sending: done, when, whether it may change something, items expected.
        self._pending: dict[int, tuple[Done, float, bool, int]] = {}
        self._next_id = 0
        self._unsent_from = 0  # requests from this id on have not been given to the transport
        self._now = 0.0  # of the turn in which the first queued request was made
        self._last_heard = 0.0
        self._timeout_call: IDelayedCall | None = None
        self._last_requests: list[Callable[[], None]] = []
        self._is_flushing = False

    # -- requests ------------------------------------------------------------------------------------------------

    @property
    def is_ready(self) -> bool:
        """Whether requests can be made."""
        return self.theirs is not None and not self.closing

    @property
    def outstanding(self) -> int:
        """How many requests have no answer yet."""
        return len(self._pending)

    def write(self, commands: Sequence[Command], done: Done, *, forwarded: bool = False) -> None:
        """Ask for commands to be replicated, together.

        :param commands: 1 to ``MAX_ITEMS`` of them.
        :param done: gets a tuple of results, or the error of all of them.
        :param forwarded: we are a node, and this is not to be forwarded again.
        """
        if len(commands) > MAX_ITEMS:
            done(TooLarge(f"{len(commands)} commands in one request, at most {MAX_ITEMS} are allowed"))
            return
        self._ask(WRITE, (commands, FORWARDED if forwarded else 0), done, changes=True, items=len(commands))

    def get(
        self, keys: Sequence[bytes], consistency: Consistency, done: Done, *, max_stale_seconds: float | None = None
    ) -> None:
        """Ask for records.

        :param keys: 1 to ``MAX_ITEMS`` of them.
        :param max_stale_seconds: how old the state may be that a stale read sees; rounded down to milliseconds.
        :param done: gets a tuple of records, ``None`` for a key that is not there (for a stale read
            :class:`AgedRecords`); or the error.
        """
        if len(keys) > MAX_ITEMS:
            done(TooLarge(f"{len(keys)} keys in one request, at most {MAX_ITEMS} are allowed"))
            return
        rest: tuple[Any, ...] = (keys, CONSISTENCY_NUMBERS[consistency])
        if consistency == "stale":
            rest = (*rest, None if max_stale_seconds is None else int(max_stale_seconds * 1000))
        self._ask(GET, rest, done, changes=False, items=len(keys))

    def call(self, name: str, arguments: Mapping[str, Any], done: Done, *, changes: bool = True) -> None:
        """Ask for something rare; ``done`` gets its value, arrays as tuples, or the error.

        :param changes: whether it may change something, so that its loss leaves that unknown.
        """
        self._ask(CALL, (name, arguments), done, changes=changes, items=_ANY_VALUE)

    def ping(self, done: Done) -> None:
        """Ask for a sign of life; ``done`` gets ``None``, or the error."""
        self._ask(PING, (), done, changes=False, items=_ANY_VALUE)

    def before_flush(self, make_requests: Callable[[], None]) -> None:
        """Have requests made at the last moment: when those of this turn are sent, or the connection has been lost.

        :param make_requests: called once.
        """
        self._last_requests.append(make_requests)
        if not self.closing:
            self._flush_later()
        elif self._lost:
            self._make_last_requests()

    def _flush_later(self) -> None:
        if self._flush_call is None and not self._is_flushing:
            self._now = self._clock.seconds()
            self._flush_call = self._clock.callLater(0, self._flush_turn)

    def _make_last_requests(self) -> None:
        makers, self._last_requests = self._last_requests, []
        for make_requests in makers:
            make_requests()

    def _ask(self, kind: int, rest: tuple[Any, ...], done: Done, *, changes: bool, items: int) -> None:
        if self.theirs is None or self.closing:
            done(Unreachable(self.refusal or f"not connected to {self.peer_name()}"))
            return
        request_id = self._next_id
        # Packed first: what cannot be packed is the caller's mistake, and leaves nothing behind. As queue_message does.
        frame = pack((kind, request_id, *rest))
        if len(frame) > self._limits.max_message_bytes:
            # The other side would close the connection, and with it all that is on its way.
            done(
                TooLarge(f"the request takes {len(frame)} bytes, at most {self._limits.max_message_bytes} can be sent")
            )
            return
        self._queue += (frame, TERMINATOR)
        self._flush_later()
        self._next_id = request_id + 1
        self._pending[request_id] = (done, self._now, changes, items)
        if self._timeout_call is None:
            self._timeout_call = self._clock.callLater(self._request_timeout_seconds, self._check_timeouts)

    def _write_queue(self) -> None:
        self._is_flushing = True  # which is later than later
        try:
            while self._last_requests:  # those may lead to others
                self._make_last_requests()
        finally:
            self._is_flushing = False
        if not self.closing:
            self._unsent_from = self._next_id
        super()._write_queue()

    # -- answers -------------------------------------------------------------------------------------------------

    def greeted(self, hello: Hello) -> None:
        """Tell the owner."""
        self._ready(self)

    def refused(self, reason: str) -> None:
        """Keep the reason for those who ask."""
        self.refusal = f"{self.peer_name()}: {reason}"

    def messages_received(self, messages: list[Any]) -> None:
        """Take the answers of one read: a result, as nearly all are, in a few steps."""
        if self.theirs is None:
            super().messages_received(messages)
            return
        pending = self._pending
        for message in messages:
            if self.closing:
                return
            if type(message) is tuple and len(message) == 3:
                kind, request_id, value = message
                if type(kind) is int and kind == RESULT and type(request_id) is int and type(value) is tuple:
                    asked = pending.get(request_id)
                    if asked is not None and asked[3] == len(value):
                        del pending[request_id]
                        asked[0](value)
                        continue
            self.request_received(message)

    def request_received(self, message: Any) -> None:
        """Take an answer."""
        if type(message) is not tuple or len(message) < 3 or type(message[0]) is not int:
            raise ProtocolViolation("an answer that is no array with its type first")
        kind, request_id = message[0], message[1]
        if type(request_id) is not int or not 0 <= request_id < self._next_id:
            raise ProtocolViolation("an answer to a request that was never made")
        pending = self._pending.pop(request_id, None)
        if pending is None:
            return  # it has timed out
        done, _, changes, items = pending
        if kind == RESULT and len(message) == 3:
            value = message[2]
            if items == _ANY_VALUE or (type(value) is tuple and len(value) == items):
                done(value)
                return
        elif kind == RESULT and len(message) == 4:
            records = _aged_records(message[2], message[3])
            if records is not None and len(records) == items:
                done(records)
                return
        elif kind == ERROR and len(message) == 6:
            error = _decode_or_none(message)
            if error is not None:
                done(error)
                return
        done(_lost(changes, "the answer made no sense"))
        raise ProtocolViolation("an answer of unknown type, or with the wrong elements")

    def read_finished(self) -> None:
        """Note that the other side lives, and send what its answers have led to."""
        self._last_heard = self._clock.seconds()
        self.flush()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """End every request; called by Twisted."""
        if self._timeout_call is not None:
            self._timeout_call.cancel()
            self._timeout_call = None
        self.closing = True
        pending, self._pending = self._pending, {}
        for request_id, (done, _, changes, _) in pending.items():
            sent = request_id < self._unsent_from
            done(_lost(changes and sent, f"the connection to {self.peer_name()} was lost"))
        super().connectionLost(reason)
        self._make_last_requests()

    # -- time-outs -----------------------------------------------------------------------------------------------

    def _check_timeouts(self) -> None:
        """End the requests that have waited too long; one timer looks after all of them, oldest first."""
        self._timeout_call = None
        now = self._clock.seconds()
        expired: list[tuple[Done, bool]] = []
        oldest_sent = now
        for request_id, (done, sent, changes, _) in list(self._pending.items()):
            if sent + self._request_timeout_seconds > now:
                wait = sent + self._request_timeout_seconds - now
                self._timeout_call = self._clock.callLater(wait, self._check_timeouts)
                break
            del self._pending[request_id]
            oldest_sent = min(oldest_sent, sent)
            expired.append((done, changes))
        message = f"no answer of {self.peer_name()} within {self._request_timeout_seconds} s"
        for done, changes in expired:
            done(RequestTimeout(message, "unknown" if changes else "not_applied"))
        if expired and self._last_heard <= oldest_sent:
            # Not a word since: the other side may be gone without a trace, and a new connection would show it.
            self.abort()


def _lost(may_have_applied: bool, reason: str) -> RaftKVError:
    return OutcomeUnknown(f"{reason}; the request may have taken effect") if may_have_applied else Unreachable(reason)


def _aged_records(records: Any, staleness_ms: Any) -> AgedRecords | None:
    if type(records) is not tuple or type(staleness_ms) not in (int, type(None)):
        return None
    answer = AgedRecords(records)
    answer.staleness = None if staleness_ms is None else staleness_ms / 1000
    return answer


def _decode_or_none(message: tuple[Any, ...]) -> RaftKVError | None:
    try:
        return decode_error(*message[2:])
    except ProtocolViolation:
        return None
