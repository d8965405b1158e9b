"""The server on ``rpcAddr``: native clients, and writes that other nodes forward.

Requests are pipelined and answered in any order. All writes of one read from a connection become one call of the
store, and all its reads share one barrier; answers that become ready in one turn of the reactor leave in one write.
Knows frames, limits and back-pressure; what a command does is the store's, and who leads its matter too.
"""

from __future__ import annotations

import math
from collections import deque
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.application.service import Service
from twisted.internet.defer import Deferred, maybeDeferred
from twisted.internet.interfaces import IAddress, IDelayedCall, IReactorTime, IStreamServerEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import (
    BadRequest,
    InvariantViolation,
    NotFound,
    OutcomeUnknown,
    ProtocolViolation,
    RaftKVError,
    ShuttingDown,
    TooLarge,
)
from raftkv.interfaces import Command, Consistency, Identity, IKeyValue, INode, Result
from raftkv.protocols.command_rules import CommandRules
from raftkv.protocols.connecting import ListeningPort
from raftkv.protocols.framing import KIB, MIB, FrameLimits, MessageLineReceiver, pack
from raftkv.protocols.hello import GreetingReceiver, Hello, Purpose
from raftkv.protocols.rpc_errors import RemoteError, encode_error
from raftkv.protocols.rpc_frames import (
    CALL,
    CONSISTENCIES,
    CONSISTENCY_NUMBERS,
    ERROR,
    FORWARDED,
    GET,
    MAX_ITEMS,
    MAX_REQUEST_ID,
    MAX_STALE_MS,
    PING,
    RESULT,
    RPC_LIMITS,
    WRITE,
    pack_results,
)
from raftkv.protocols.warnings import RateLimitedLog

_WRITE_TYPES: Final = (int, int, tuple, int)
_GET_TYPES: Final = (int, int, tuple, int)
_STALE_GET_TYPES: Final = ((int, int, tuple, int, int), (int, int, tuple, int, type(None)))
_CALL_TYPES: Final = (int, int, str, dict)
_PING_TYPES: Final = (int, int)

#: A rare request: takes its arguments, returns what msgpack can carry, or a Deferred of it, or raises RaftKVError.
Call = Callable[[Mapping[str, Any]], object]


@dataclass(frozen=True, slots=True, kw_only=True)
class RpcSettings:
    """The limits of the RPC port.

    :ivar limits: of each connection's frames.
    :ivar rules: which commands are let in.
    :ivar max_connections: one more is closed at once.
    :ivar max_outstanding: commands and keys of one connection that wait for their answer before nothing more is read
        from it; one read may exceed it.
    :ivar max_group_bytes: keys and values of separate writes that are joined into one call of the store.
    :ivar max_answer_bytes: of one GET of several keys.
    :ivar farewell_seconds: how long a stopping server still tells those who ask that it stops, before it closes what is
        idle: a request that meets a closed connection has an unknown outcome.
    :ivar drain_seconds: how long a stopping server waits for what is in flight.
    """

    limits: FrameLimits = RPC_LIMITS
    rules: CommandRules = field(default_factory=CommandRules)
    max_connections: int = 1024
    max_outstanding: int = 8192
    max_group_bytes: int = 256 * KIB
    max_answer_bytes: int = 4 * MIB
    farewell_seconds: float = 0.2
    drain_seconds: float = 5.0


def node_calls(node: INode) -> dict[str, Call]:
    """Return the calls that tell about a node, as far as it knows by itself."""

    def leader(_: Mapping[str, Any]) -> object:
        known = node.leadership()
        return {
            "node_id": known.node_id,
            "term": known.term,
            "leader": known.leader,
            "http_addr": known.leader_http_addr,
            "rpc_addr": known.leader_rpc_addr,
            "is_leader": known.is_leader,
        }

    return {"leader": leader, "cluster": lambda _: node.local_cluster(), "status": lambda _: node.status()}


class RpcServerProtocol(GreetingReceiver):
    """One connection of a client or of another node."""

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
    ) -> None:
        """Take what is needed."""
        super().__init__(
            identity=identity,
            dials_for=None,
            accepts=(Purpose.CLIENT, Purpose.NODE),
            clock=clock,
            limits=settings.limits,
            warnings=warnings,
        )
        self._key_value = key_value
        self._calls = calls
        self._settings = settings
        self._check_commands = settings.rules.check
        self._max_group_bytes = settings.max_group_bytes
        self._from_node = False
        self._stopping = False
        self._leaving = False
        self._outstanding = 0
        # Of the read that is being taken apart:
        self._write_ids: list[tuple[int, int]] = []  # (request_id, number of commands)
        self._write_commands: list[Command] = []
        self._write_bytes = 0
        self._write_forwarded = False
        self._gets: tuple[list[tuple[int, tuple[bytes, ...]]], ...] = ([], [], [])  # by number of consistency
        self._stale_gets: dict[int | None, list[tuple[int, tuple[bytes, ...]]]] = {}  # by milliseconds; told the age
        # Reads that may be served, but whose answers the other side must take first; and whether they are told the age.
        self._ready_gets: deque[tuple[int, tuple[bytes, ...], bool]] = deque()

    # -- requests ------------------------------------------------------------------------------------------------

    def greeted(self, hello: Hello) -> None:
        """Note whether it is a node."""
        self._from_node = hello.purpose is Purpose.NODE

    def messages_received(self, messages: list[Any]) -> None:
        """Take the requests of one read: a write of one command, as nearly all are, in a few steps."""
        if self.theirs is None or self._stopping:
            super().messages_received(messages)
            return
        check, from_node = self._check_commands, self._from_node
        for message in messages:
            if type(message) is tuple and len(message) == 4:
                kind, request_id, commands, flags = message
                if (
                    type(kind) is int
                    and kind == WRITE
                    and type(request_id) is int
                    and 0 <= request_id < MAX_REQUEST_ID
                    and type(commands) is tuple
                    and len(commands) == 1
                    and type(flags) is int
                    and flags == 0
                    and not self._write_forwarded
                ):
                    try:
                        self._add_write(request_id, commands, check(commands, from_node=from_node))
                    except RaftKVError as error:
                        self._answer_error(request_id, error)
                    continue
            if self.closing:
                return
            self.request_received(message)

    def request_received(self, message: Any) -> None:
        """Take a request; a frame that is none ends the connection, a bad request in a good frame is answered."""
        types = tuple(map(type, message)) if type(message) is tuple else ()
        if types[:2] != (int, int) or not 0 <= message[1] < MAX_REQUEST_ID:
            raise ProtocolViolation("a request that is no array with its type and number first")
        kind, request_id = message[0], message[1]
        if self._stopping:
            self._answer_error(request_id, ShuttingDown())
            return
        try:
            if types == _WRITE_TYPES and kind == WRITE:
                self._take_write(request_id, message[2], message[3])
            elif types == _GET_TYPES and kind == GET:
                self._take_get(request_id, message[2], message[3])
            elif types in _STALE_GET_TYPES and kind == GET:
                self._take_stale_get(request_id, message[2], message[3], message[4])
            elif types == _CALL_TYPES and kind == CALL:
                self._take_call(request_id, message[2], message[3])
            elif types == _PING_TYPES and kind == PING:
                self.queue_message((RESULT, request_id, None))
            else:
                raise ProtocolViolation(f"a request of unknown type {kind}, or with the wrong elements")
        except RaftKVError as error:
            self._answer_error(request_id, error)

    def read_finished(self) -> None:
        """Hand over what one read has brought."""
        self._start_writes()
        for number, gets in enumerate(self._gets):
            if gets:
                self._start_gets(CONSISTENCIES[number], gets.copy())
                gets.clear()
        stale, self._stale_gets = self._stale_gets, {}
        for max_stale_ms, gets in stale.items():
            bound = None if max_stale_ms is None else max_stale_ms / 1000
            self._start_gets("stale", gets, max_stale_seconds=bound, tells_age=True)
        self.flush()  # what could be answered at once
        self._update_reading()

    def _take_write(self, request_id: int, commands: tuple[Any, ...], flags: int) -> None:
        forwarded = flags == FORWARDED
        if flags and not forwarded:
            raise BadRequest(f"flags: unknown, found {flags}")
        if forwarded and not self._from_node:
            raise BadRequest("flags: only a node forwards")
        if not 0 < len(commands) <= MAX_ITEMS:
            raise BadRequest(f"commands: must be 1 to {MAX_ITEMS}, found {len(commands)}")
        size_bytes = self._check_commands(commands, from_node=self._from_node)
        if forwarded != self._write_forwarded:
            self._start_writes()
            self._write_forwarded = forwarded
        self._add_write(request_id, commands, size_bytes)

    def _add_write(self, request_id: int, commands: tuple[Any, ...], size_bytes: int) -> None:
        """Let a write go with those before it, unless they become too much."""
        if self._write_ids and (
            self._write_bytes + size_bytes > self._max_group_bytes
            or len(self._write_commands) + len(commands) > MAX_ITEMS
        ):
            self._start_writes()
        self._write_bytes += size_bytes
        self._write_ids.append((request_id, len(commands)))
        self._write_commands += commands

    def _take_get(self, request_id: int, keys: tuple[Any, ...], consistency: int) -> None:
        if not 0 <= consistency < len(CONSISTENCIES):
            raise BadRequest(f"consistency: unknown, found {consistency}")
        self._admit_get(keys)
        self._gets[consistency].append((request_id, keys))

    def _take_stale_get(
        self, request_id: int, keys: tuple[Any, ...], consistency: int, max_stale_ms: int | None
    ) -> None:
        if consistency != CONSISTENCY_NUMBERS["stale"]:
            raise BadRequest("max_stale: only for stale reads")
        if max_stale_ms is not None and not 0 <= max_stale_ms <= MAX_STALE_MS:
            raise BadRequest(f"max_stale: must be 0 to {MAX_STALE_MS} ms, found {max_stale_ms}")
        self._admit_get(keys)
        self._stale_gets.setdefault(max_stale_ms, []).append((request_id, keys))

    def _admit_get(self, keys: tuple[Any, ...]) -> None:
        if not 0 < len(keys) <= MAX_ITEMS:
            raise BadRequest(f"keys: must be 1 to {MAX_ITEMS}, found {len(keys)}")
        for key in keys:
            self._settings.rules.check_key(key)
        self._outstanding += len(keys)

    def _take_call(self, request_id: int, name: str, arguments: dict[str, Any]) -> None:
        call = self._calls.get(name)
        if call is None:
            raise NotFound(f"there is no call {name[:64]!r}")
        self._outstanding += 1
        answer: Deferred[None] = maybeDeferred(call, arguments).addCallback(self._called, request_id)
        answer.addErrback(self._call_failed, request_id, name)
        answer.addCallback(lambda _: self._settled(1))

    # -- writes --------------------------------------------------------------------------------------------------

    def _start_writes(self) -> None:
        """Make one call of the store from the separate writes: one log entry will hold them all."""
        ids, commands = self._write_ids, self._write_commands
        if not ids:
            return
        self._write_ids, self._write_commands, self._write_bytes = [], [], 0
        self._outstanding += len(commands)
        self._key_value.write(
            commands, lambda outcome: self._written(ids, len(commands), outcome), forwarded=self._write_forwarded
        )

    def _written(self, ids: list[tuple[int, int]], total: int, outcome: Sequence[Result] | RaftKVError) -> None:
        if isinstance(outcome, RaftKVError):
            error = encode_error(outcome)
            for request_id, _ in ids:
                self._answer((ERROR, request_id, *error))
        elif len(outcome) != total:
            raise InvariantViolation(f"{len(outcome)} results for {total} commands")
        elif len(ids) == total:
            if not self.closing:
                self.queue_packed([pack_results(ids, outcome)], self._key_value.at_turn_end)
        else:
            start = 0
            for request_id, count in ids:
                self._answer_results(request_id, outcome[start : start + count])
                start += count
        self._settled(total)

    def _answer_results(self, request_id: int, results: Sequence[Result]) -> None:
        frame = pack((RESULT, request_id, results))
        if len(frame) > self._settings.limits.max_message_bytes:
            # The other side would close the connection, and with it all that is on its way.
            error = OutcomeUnknown("the commands were carried out, but a message cannot hold their answers")
            frame = pack((ERROR, request_id, *encode_error(error)))
        if not self.closing:
            self.queue_packed([frame], self._key_value.at_turn_end)

    # -- reads ---------------------------------------------------------------------------------------------------

    def _start_gets(
        self,
        consistency: Consistency,
        gets: list[tuple[int, tuple[bytes, ...]]],
        *,
        max_stale_seconds: float | None = None,
        tells_age: bool = False,
    ) -> None:
        """Wait once for all of them."""
        self._key_value.barrier(
            consistency,
            lambda error: self._may_read(gets, error, tells_age=tells_age),
            max_stale_seconds=max_stale_seconds,
        )

    def _may_read(
        self, gets: list[tuple[int, tuple[bytes, ...]]], error: RaftKVError | None, *, tells_age: bool
    ) -> None:
        if error is not None:
            encoded = encode_error(error)
            for request_id, keys in gets:
                self._answer((ERROR, request_id, *encoded))
                self._settled(len(keys))
        elif not self.closing:
            self._ready_gets.extend((request_id, keys, tells_age) for request_id, keys in gets)
            self._serve_gets()

    def _serve_gets(self) -> None:
        """Read and answer, as long as the other side takes the answers.

        A small request may have a large answer, so they are not all made at once. A read that is served later than
        its barrier sees a later state, which is as linearizable.
        """
        get, ready = self._key_value.get, self._ready_gets
        frames: list[bytes] = []
        served = 0
        size_bytes = 0
        while ready and not self.output_paused and not self.closing:
            request_id, keys, tells_age = ready.popleft()
            served += len(keys)
            age = (self._age_ms(),) if tells_age else ()
            one = len(keys) == 1
            frame = pack((RESULT, request_id, (get(keys[0]),), *age)) if one else self._get_many(request_id, keys, age)
            frames.append(frame)
            size_bytes += len(frame)
            if size_bytes > self._settings.max_group_bytes:
                self.send_packed(frames)
                frames, size_bytes = [], 0
        if frames and not self.closing:
            self.queue_packed(frames, self._key_value.at_turn_end)
        self._settled(served)

    def _age_ms(self) -> int | None:
        """Return how old the state may be that is read now; rounded up, for it is a bound."""
        staleness = self._key_value.staleness()
        return None if staleness is None else math.ceil(staleness * 1000)

    def _get_many(self, request_id: int, keys: tuple[bytes, ...], age: tuple[int | None, ...]) -> bytes:
        get, limit = self._key_value.get, self._settings.max_answer_bytes
        records = []
        size_bytes = 0
        for key in keys:
            record = get(key)
            records.append(record)
            if record is not None:
                size_bytes += len(record[0])
                if size_bytes > limit:
                    error = TooLarge(f"the values of these {len(keys)} keys exceed {limit} bytes; ask for fewer")
                    return pack((ERROR, request_id, *encode_error(error)))
        return pack((RESULT, request_id, records, *age))

    # -- calls ---------------------------------------------------------------------------------------------------

    def _called(self, value: object, request_id: int) -> None:
        self._answer((RESULT, request_id, value))

    def _call_failed(self, failure: Failure, request_id: int, name: str) -> None:
        if isinstance(failure.value, RaftKVError):
            self._answer_error(request_id, failure.value)
            return
        self._log.failure("the call {name} failed", failure, name=name)
        error = RemoteError(f"the call {name!r} failed; the node's log says why", "internal")
        error.outcome = "unknown"
        self._answer_error(request_id, error)

    # -- answers -------------------------------------------------------------------------------------------------

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

    # -- back-pressure -------------------------------------------------------------------------------------------

    def output_stuck(self) -> None:
        """Read nothing more from who does not take our answers."""
        self._update_reading()

    def output_drained(self) -> None:
        """Go on."""
        self._serve_gets()
        self._update_reading()

    def _update_reading(self) -> None:
        limit = self._settings.max_outstanding
        if self.output_paused or self._outstanding >= (limit // 2 if self.reading_paused else limit):
            self.pause_reading()
        else:
            self.resume_reading()

    # -- stopping ------------------------------------------------------------------------------------------------

    def refuse_new(self) -> None:
        """Refuse what is new, and answer what is in flight; close where nobody has said hello yet."""
        self._stopping = True
        if self.theirs is None:
            self.close()

    def finish(self) -> None:
        """Close, once what is in flight has been answered."""
        self._leaving = True
        if self._outstanding == 0:
            self.close()


class RpcService(Service):
    """The RPC port."""

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        endpoint: IStreamServerEndpoint,
        clock: IReactorTime,
        key_value: IKeyValue,
        calls: Mapping[str, Call],
        settings: RpcSettings,
    ) -> None:
        """Take what is needed.

        :param identity: who this node is.
        :param endpoint: listens on ``rpcAddr``: anything with ``listen(factory)``.
        :param clock: the reactor.
        :param key_value: the store.
        :param calls: what CALL can ask for, by name; see :func:`node_calls`.
        """
        self._identity = identity
        self._clock = clock
        self._key_value = key_value
        self._calls = calls
        self._settings = settings
        self._warnings = RateLimitedLog(self._log, clock=clock)
        self._port = ListeningPort(
            endpoint=endpoint,
            build=self._build,
            max_connections=settings.max_connections,
            warnings=self._warnings,
        )
        self._stop_timers: list[IDelayedCall] = []

    def startService(self) -> None:
        """Listen.

        :raises twisted.internet.error.CannotListenError: the endpoint fails at once.
        """
        super().startService()
        self._port.start()

    def stopService(self) -> Deferred[None]:
        """Take no connections, refuse new requests, finish what is in flight, and fire once all are closed."""
        super().stopService()
        settings = self._settings
        self._stop_timers = [
            self._clock.callLater(settings.farewell_seconds, self._farewell_said),
            self._clock.callLater(settings.drain_seconds, self._drain_ended),
        ]
        return self._port.stop(_refuse_new).addBoth(self._stopped)

    def address(self) -> IAddress | None:
        """Return where it listens, ``None`` where it does not."""
        return self._port.address()

    def connection_count(self) -> int:
        """Return the number of open connections."""
        return len(self._port.connections)

    def _build(self) -> RpcServerProtocol:
        return RpcServerProtocol(
            key_value=self._key_value,
            calls=self._calls,
            settings=self._settings,
            identity=self._identity,
            clock=self._clock,
            warnings=self._warnings,
        )

    def _farewell_said(self) -> None:
        for connection in list(self._port.connections):
            if isinstance(connection, RpcServerProtocol):
                connection.finish()

    def _drain_ended(self) -> None:
        for connection in list(self._port.connections):
            connection.abort()

    def _stopped(self, result: Failure | None) -> Failure | None:
        for timer in self._stop_timers:
            if timer.active():
                timer.cancel()
        self._stop_timers.clear()
        return result


def _refuse_new(connection: MessageLineReceiver) -> None:
    if isinstance(connection, RpcServerProtocol):
        connection.refuse_new()
