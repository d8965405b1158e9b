"""Which commands are let in on the RPC port.

A malformed command that reached the log would stop every node at apply, so everything is looked at here. What a plain
command may be is known to :mod:`raftkv.kvstore.checking`; sessions, and commands that only nodes send, are added here.
This runs for each command of every native client, so the commonest shape costs one comparison of types in C.
"""

from __future__ import annotations

from typing import Any, Final

from raftkv.errors import BadRequest
from raftkv.kvstore.checking import CommandChecker, CommandLimits, check_number
from raftkv.kvstore.commands import EXPIRE, EXPIRE_SESSIONS, FINGERPRINT_BYTES, PUT, SESSION

_PUT_TYPES: Final = (int, int, bytes, bytes)
_SESSION_TYPES: Final = (int, bytes, int, bytes, tuple)
_NODES_TYPES: Final = (int, int)


class CommandRules:
    """The sizes that are allowed, and the checks.

    :param limits: those of keys, values, transactions and leases.
    :param max_client_id_bytes: longest id of a session.
    """

    def __init__(self, limits: CommandLimits | None = None, *, max_client_id_bytes: int = 256) -> None:
        self._checker = CommandChecker(limits or CommandLimits())
        self._limits = self._checker.limits
        self._max_client_id_bytes = max_client_id_bytes

    def check(self, commands: tuple[Any, ...], *, from_node: bool) -> int:
        """Look at each command.

        :param commands: as the unpacker found them.
        :param from_node: a node forwarded them, which may also send commands that no client may.
        :return: the bytes of all keys and values.
        :raises BadRequest: one is malformed, or is not for clients.
        :raises TooLarge: a key or value is too long.
        """
        max_key_bytes, max_value_bytes = self._limits.max_key_bytes, self._limits.max_value_bytes
        total_bytes = 0
        for command in commands:
            if type(command) is not tuple:
                raise BadRequest(f"a command must be an array, found {type(command).__name__}")
            if tuple(map(type, command)) == _PUT_TYPES:
                code, namespace, key, value = command
                key_bytes, value_bytes = len(key), len(value)
                if (
                    code == PUT
                    and namespace == 0
                    and 0 < key_bytes <= max_key_bytes
                    and value_bytes <= max_value_bytes
                    and key.isascii()
                ):
                    total_bytes += key_bytes + value_bytes
                    continue
            total_bytes += self._check_any(command, from_node=from_node)
        return total_bytes

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
