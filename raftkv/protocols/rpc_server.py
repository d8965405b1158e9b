"""One connection to the RPC port: requests are pipelined, and answered in any order.

All writes of one read from a connection become one call of the store, and all its reads share one barrier; answers
that become ready in one turn of the reactor leave in one write. Knows frames and limits; what a command does is the
store's, and who leads its matter too.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from raftkv.errors import BadRequest, DiskFull, InvariantViolation, ProtocolViolation, RaftKVError, ShuttingDown
from raftkv.interfaces import Command, Result
from raftkv.protocols.hello import Hello, Purpose
from raftkv.protocols.rpc_errors import encode_error
from raftkv.protocols.rpc_frames import (
    CALL,
    ERROR,
    FORWARDED,
    GET,
    MAX_ITEMS,
    MAX_REQUEST_ID,
    PING,
    RESULT,
    WRITE,
    pack_results,
)
from raftkv.protocols.rpc_gets import GetConnection

_WRITE_TYPES: Final = (int, int, tuple, int)
_GET_TYPES: Final = (int, int, tuple, int)
_STALE_GET_TYPES: Final = ((int, int, tuple, int, int), (int, int, tuple, int, type(None)))
_CALL_TYPES: Final = (int, int, str, dict)
_PING_TYPES: Final = (int, int)
_BULKY_LENGTH: Final = 4  # of results that may hold what was read: those of transactions, and a few small others


class RpcServerProtocol(GetConnection):
    """One connection of a client or of another node."""

    def __init__(self, **parts: Any) -> None:
        """Take what is needed; see :class:`raftkv.protocols.rpc_answers.AnsweringConnection`."""
        super().__init__(**parts)
        self._check_commands = self._settings.rules.check
        self._stopping = False
        # Of the read that is being taken apart:
        self._write_ids: list[tuple[int, int]] = []  # (request_id, number of commands)
        self._write_commands: list[Command] = []
        self._write_bytes = 0
        self._write_forwarded = False

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
        self._start_all_gets()
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

    # -- writes --------------------------------------------------------------------------------------------------

    def _start_writes(self) -> None:
        """Make one call of the store from the separate writes: one log entry will hold them all."""
        ids, commands = self._write_ids, self._write_commands
        if not ids:
            return
        self._write_ids, self._write_commands, self._write_bytes = [], [], 0
        self._outstanding += len(commands)
        self._write(ids, commands, forwarded=self._write_forwarded)

    def _write(self, ids: list[tuple[int, int]], commands: list[Command], *, forwarded: bool) -> None:
        def written(outcome: Sequence[Result] | RaftKVError) -> None:
            if isinstance(outcome, DiskFull) and len(ids) > 1 and not self.closing:
                self._write_separately(ids, commands, forwarded=forwarded)
            else:
                self._written(ids, len(commands), outcome)

        self._key_value.write(commands, written, forwarded=forwarded)

    def _write_separately(self, ids: list[tuple[int, int]], commands: list[Command], *, forwarded: bool) -> None:
        """Let the requests that need no room have their way beside those for which all of them were refused.

        They may come behind what the connection has asked for since; that it asked before having an answer says that
        the order does not matter.
        """
        start = 0
        for request_id, count in ids:
            self._write([(request_id, count)], commands[start : start + count], forwarded=forwarded)
            start += count

    def _written(self, ids: list[tuple[int, int]], total: int, outcome: Sequence[Result] | RaftKVError) -> None:
        if isinstance(outcome, RaftKVError):
            error = encode_error(outcome)
            for request_id, _ in ids:
                self._answer((ERROR, request_id, *error))
        elif len(outcome) != total:
            raise InvariantViolation(f"{len(outcome)} results for {total} commands")
        elif len(ids) == total and max(map(len, outcome)) < _BULKY_LENGTH:
            if not self.closing:
                self.queue_packed([pack_results(ids, outcome)], self._key_value.at_turn_end)
        else:
            start = 0
            for request_id, count in ids:
                self._ready_results.append((request_id, outcome[start : start + count], 0))
                start += count
            self._serve_results()
            return
        self._settled(total)

    # -- stopping ------------------------------------------------------------------------------------------------

    def refuse_new(self) -> None:
        """Refuse what is new, and answer what is in flight; close where nobody has said hello yet."""
        self._stopping = True
        if self.theirs is None:
            self.close()
