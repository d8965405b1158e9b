"""The answering half of a connection to the RPC port: no more is made at once than the other side takes.

A small request may have a large answer: what a transaction has read, a page of a range. Such answers wait until those
before them are on their way, and of what has to be worked out for one connection only some is under way at a time.
Which requests there are, and what they mean, is left to :class:`raftkv.protocols.rpc_server.RpcServerProtocol`.
"""

from __future__ import annotations

from collections import deque
from collections.abc import Mapping, Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred, maybeDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.internet.protocol import connectionDone
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import Forbidden, NotFound, Outcome, Overloaded, RaftKVError, TooLarge
from raftkv.interfaces import Identity, IKeyValue, Result
from raftkv.kvstore.checking import size_of
from raftkv.protocols.framing import pack
from raftkv.protocols.hello import Purpose
from raftkv.protocols.rpc_arguments import check_weight
from raftkv.protocols.rpc_bounds import BoundedConnection, PortBounds
from raftkv.protocols.rpc_calls import CLIENT_CALLS, Call
from raftkv.protocols.rpc_errors import RemoteError, encode_error
from raftkv.protocols.rpc_frames import ERROR, RESULT, pack_result
from raftkv.protocols.rpc_settings import RpcSettings
from raftkv.protocols.warnings import RateLimitedLog


class AnsweringConnection(BoundedConnection):
    """A connection that answers calls, and sends results of writes."""

    _log = Logger()

    def __init__(
        self,
        *,
        key_value: IKeyValue,
        calls: Mapping[str, Call],
        settings: RpcSettings,
        identity: Identity,
        clock: IReactorTime,
        warnings: RateLimitedLog,
        reads: Mapping[str, Call] | None = None,
        bounds: PortBounds | None = None,
    ) -> None:
        """Take what is needed.

        :param calls: what CALL can ask for, by name, which takes little to answer; clients only what is among
            :data:`raftkv.protocols.rpc_calls.CLIENT_CALLS`.
        :param reads: likewise, what takes time and room: see :class:`raftkv.protocols.rpc_calls.StoreCalls`.
        :param bounds: what it may hold together with others; ``None`` where there are no others.
        """
        super().__init__(
            identity=identity,
            dials_for=None,
            accepts=(Purpose.CLIENT, Purpose.NODE),
            clock=clock,
            settings=settings,
            warnings=warnings,
            bounds=bounds or PortBounds(settings),
        )
        self._key_value = key_value
        self._calls = calls
        self._reads = reads or {}
        self._max_message_bytes = settings.limits.max_message_bytes
        self._max_group_bytes = settings.max_group_bytes
        self._from_node = False
        self._leaving = False
        self._outstanding = 0
        # Results whose answers the other side must take first: request id, results, their bytes once they are counted.
        self._ready_results: deque[tuple[int, Sequence[Result], int]] = deque()
        self._result_bytes = 0
        self._waiting_reads: deque[tuple[int, str, Mapping[str, Any], int]] = deque()  # the last are their bytes
        self._waiting_read_bytes = 0
        self._reads_under_way: dict[Deferred[None], None] = {}
        self._is_beginning = False

    # -- results of writes -------------------------------------------------------------------------------------------

    def _serve_results(self) -> None:
        """Send the results that are ready, as long as the other side takes them."""
        ready, limit = self._ready_results, self._max_message_bytes
        frames: list[bytes] = []
        served = size_bytes = 0
        while ready and not self.output_paused and not self.closing:
            request_id, results, _ = ready.popleft()
            served += len(results)
            frames.append(pack_result(request_id, results, limit))
            size_bytes += len(frames[-1])
            if size_bytes > self._max_group_bytes:
                self.send_packed(frames)
                frames, size_bytes = [], 0
        if frames and not self.closing:
            self.queue_packed(frames, self._key_value.at_turn_end)
        self._count_results()
        self._settled(served)

    def _count_results(self) -> None:
        """Have the results that could not be sent counted: the state may hold the records in them no longer."""
        ready = self._ready_results
        if self.closing:
            ready.clear()  # nobody will ever have them
        if ready or self._result_bytes:
            sized = [(each[0], each[1], each[2] or size_of(tuple(each[1]))) for each in ready]
            ready.clear()
            ready.extend(sized)
            self._result_bytes = sum([each[2] for each in sized])
            self._count_kept()

    def _count_kept(self) -> None:
        if not self.closing:
            self.keep_answers(self._kept())

    def _kept(self) -> int:
        """Return the bytes of what waits for other answers to be taken."""
        return self._result_bytes + self._waiting_read_bytes

    # -- calls -------------------------------------------------------------------------------------------------------

    def _take_call(self, request_id: int, name: str, arguments: dict[str, Any]) -> None:
        call = self._calls.get(name)
        if call is not None:
            if not self._from_node and name not in CLIENT_CALLS:
                raise Forbidden(f"the call {name!r} is not for clients")
            check_weight(arguments, nested=True)
            self._outstanding += 1
            answer: Deferred[None] = maybeDeferred(call, arguments).addCallback(self._called, request_id)
            answer.addErrback(self._call_failed, request_id, name)
            answer.addCallback(lambda _: self._settled(1))
        elif name in self._reads:
            size_bytes = check_weight(arguments, nested=False)  # now, since it may have to wait
            self._outstanding += 1
            self._waiting_reads.append((request_id, name, arguments, size_bytes))
            self._waiting_read_bytes += size_bytes
            self._begin_reads()
            if self._waiting_reads:
                self._count_kept()
        else:
            raise NotFound(f"there is no call {name[:64]!r}")

    def _begin_reads(self) -> None:
        """Begin reads that wait, as long as the other side takes the answers."""
        if self._is_beginning:
            return  # one has ended at once, and the loop goes on below us
        self._is_beginning = True
        waiting, under_way = self._waiting_reads, self._reads_under_way
        while waiting and len(under_way) < self._settings.max_reads and not self.output_paused and not self.closing:
            request_id, name, arguments, size_bytes = waiting.popleft()
            self._waiting_read_bytes -= size_bytes
            reading: Deferred[None] = maybeDeferred(self._reads[name], arguments).addCallback(self._read, request_id)
            reading.addErrback(self._call_failed, request_id, name, outcome="not_applied")
            under_way[reading] = None
            reading.addCallback(self._read_ended, reading)
        self._is_beginning = False

    def _read(self, value: object, request_id: int) -> None:
        frame = pack((RESULT, request_id, value))
        if len(frame) > self._max_message_bytes:
            raise TooLarge(f"the answer has {len(frame)} bytes, more than a message can hold; ask for fewer")
        if not self.closing:
            self.queue_packed([frame], self._key_value.at_turn_end)

    def _read_ended(self, _: None, reading: Deferred[None]) -> None:
        del self._reads_under_way[reading]
        self._settled(1)
        self._begin_reads()
        if self._kept_bytes and not self.output_paused and not self.closing:
            self._count_kept()
            self.got_on()

    def _called(self, value: object, request_id: int) -> None:
        self._answer((RESULT, request_id, value))

    def _call_failed(self, failure: Failure, request_id: int, name: str, *, outcome: Outcome = "unknown") -> None:
        if self.closing and failure.check(CancelledError):
            return
        if isinstance(failure.value, RaftKVError):
            self._answer_error(request_id, failure.value)
            return
        self._log.failure("the call {name} failed", failure, name=name)
        error = RemoteError(f"the call {name!r} failed; the node's log says why", "internal")
        error.outcome = outcome
        self._answer_error(request_id, error)

    # -- answers -----------------------------------------------------------------------------------------------------

    def _answer(self, message: tuple[Any, ...]) -> None:
        if not self.closing:
            self.queue_message(message)

    def _answer_error(self, request_id: int, error: RaftKVError) -> None:
        self._answer((ERROR, request_id, *encode_error(error)))

    def _settled(self, count: int) -> None:
        """So many commands or keys have their answer."""
        self._outstanding -= count
        if self.reading_paused:
            self._update_reading()
        if self._leaving and self._outstanding == 0:
            self.close()

    # -- back-pressure -----------------------------------------------------------------------------------------------

    def output_stuck(self) -> None:
        """Read nothing more from who does not take our answers."""
        super().output_stuck()
        self._update_reading()

    def output_drained(self) -> None:
        """Go on."""
        super().output_drained()
        self._serve()
        self._update_reading()

    def _serve(self) -> None:
        """Make the answers that waited for those before them to be taken."""
        self._serve_results()
        self._begin_reads()

    def _update_reading(self) -> None:
        share = 2 if self.reading_paused else 1
        if (
            self.output_paused
            or self._outstanding >= self._settings.max_outstanding // share
            or len(self._waiting_reads) >= self._settings.max_waiting_reads // share
        ):
            self.pause_reading()
        else:
            self.resume_reading()

    # -- the end -----------------------------------------------------------------------------------------------------

    def input_given_up(self, request_id: int | None, error: Overloaded) -> None:
        """See :class:`raftkv.protocols.rpc_bounds.BoundedConnection`."""
        if request_id is not None:
            self._answer_error(request_id, error)
        self.finish()

    def finish(self) -> None:
        """Close, once what is in flight has been answered."""
        self._leaving = True
        if self._outstanding == 0:
            self.close()

    def connectionLost(self, reason: Failure = connectionDone) -> None:
        """Read nothing more for who has gone; called by Twisted."""
        super().connectionLost(reason)
        for reading in list(self._reads_under_way):
            reading.cancel()
