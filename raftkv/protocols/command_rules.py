"""Which commands are let in on the RPC port.

A malformed command that reached the log would stop every node at apply, so everything is looked at here. What a plain
command may be is known to :mod:`raftkv.kvstore.checking`; sessions, and commands that only nodes send, are added here.
This runs for each command of every native client, so the commonest shapes come first, and are looked at in one piece.
"""

from __future__ import annotations

from typing import Any, Final

from raftkv.errors import BadRequest
from raftkv.kvstore.checking import NUMBER_LIMIT, CommandChecker, CommandLimits, check_number
from raftkv.kvstore.commands import EXPIRE, EXPIRE_SESSIONS, FINGERPRINT_BYTES, PUT, SESSION

_SESSION_TYPES: Final = (int, bytes, int, bytes, tuple)
_NODES_TYPES: Final = (int, int)


class CommandRules:
    """The sizes that are allowed, and the checks.

    :param limits: those of keys, values, transactions and leases.
    :param max_client_id_bytes: longest id of a session.
    :ivar max_key_bytes: longest key.
    """

    def __init__(self, limits: CommandLimits | None = None, *, max_client_id_bytes: int = 256) -> None:
        self._checker = CommandChecker(limits or CommandLimits())
        self._limits = self._checker.limits
        self._max_client_id_bytes = max_client_id_bytes
        self.max_key_bytes = self._limits.max_key_bytes
        self._max_key_bytes, self._max_value_bytes = self._limits.max_key_bytes, self._limits.max_value_bytes

    def check(self, commands: tuple[Any, ...], *, from_node: bool) -> int:
        """Look at each command.

        :param commands: as the unpacker found them.
        :param from_node: a node forwarded them, which may also send commands that no client may.
        :return: the bytes of all keys and values.
        :raises BadRequest: one is malformed, or is not for clients.
        :raises TooLarge: a key or value is too long.
        """
        total_bytes = 0
        for command in commands:
            size_bytes = self._plain_bytes(command)
            if not size_bytes:
                if type(command) is not tuple:
                    raise BadRequest(f"a command must be an array, found {type(command).__name__}")
                size_bytes = self._check_any(command, from_node=from_node)
            total_bytes += size_bytes
        return total_bytes

    def _plain_bytes(self, command: Any) -> int:
        """Return the bytes of a put without more that is in order, in a session or alone; 0 for anything else."""
        client_bytes = 0
        if type(command) is tuple and len(command) == 5:
            code, client_id, sequence, fingerprint, inner = command
            if (
                type(code) is int
                and code == SESSION
                and type(client_id) is bytes
                and 0 < len(client_id) <= self._max_client_id_bytes
                and type(sequence) is int
                and 0 <= sequence < NUMBER_LIMIT
                and type(fingerprint) is bytes
                and len(fingerprint) == FINGERPRINT_BYTES
            ):
                command = inner
                client_bytes = len(client_id)
        if type(command) is not tuple or len(command) != 4:
            return 0
        code, namespace, key, value = command
        if (
            type(code) is int
            and code == PUT
            and type(namespace) is int
            and namespace == 0
            and type(key) is bytes
            and 0 < len(key) <= self._max_key_bytes
            and key.isascii()
            and type(value) is bytes
            and len(value) <= self._max_value_bytes
        ):
            return client_bytes + len(key) + len(value)
        return 0

    def check_key(self, key: Any) -> None:
        """Look at a key.

        :raises BadRequest: it is empty, not ``bin``, or not UTF-8.
        :raises TooLarge: it is too long.
        """
        self._checker.check_key(key)

    def _check_any(self, command: tuple[Any, ...], *, from_node: bool) -> int:
        types = tuple(map(type, command))
        if types == _SESSION_TYPES and command[0] == SESSION:
            return self._check_session(command)
        if types == _NODES_TYPES and command[0] in (EXPIRE_SESSIONS, EXPIRE):
            if not from_node:
                raise BadRequest("this command is not for clients")
            if command[0] == EXPIRE:
                check_number(command[1], "limit", lowest=1)
            else:
                check_number(command[1], "before_ms", lowest=0)
            return 0
        return self._checker.check(command)

    def _check_session(self, command: tuple[Any, ...]) -> int:
        _, client_id, sequence, fingerprint, inner = command
        if not 0 < len(client_id) <= self._max_client_id_bytes:
            raise BadRequest(f"client id: must have 1 to {self._max_client_id_bytes} bytes, found {len(client_id)}")
        check_number(sequence, "sequence", lowest=0)
        if len(fingerprint) != FINGERPRINT_BYTES:
            raise BadRequest(f"fingerprint: must have {FINGERPRINT_BYTES} bytes, found {len(fingerprint)}")
        return len(client_id) + self._checker.check(inner)
