"""Which commands are let in on the RPC port.

A malformed command that reached the log would stop every node at apply, so everything is looked at here: shapes,
exact types (``True`` is no number), ranges and sizes. This runs for each command of every native client, so the
common shapes cost one comparison of types in C.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final

from raftkv.errors import BadRequest, TooLarge
from raftkv.kvstore.commands import ANY, DELETE, EXISTS, EXPIRE_SESSIONS, PUT, SESSION

_NUMBER_LIMIT: Final = 2**63
_FINGERPRINT_BYTES: Final = 8

_PUT_TYPES: Final = (int, int, bytes, bytes)
_PUT_IF_TYPES: Final = (int, int, bytes, bytes, int)
_DELETE_TYPES: Final = (int, int, bytes)
_DELETE_IF_TYPES: Final = (int, int, bytes, int)
_SESSION_TYPES: Final = (int, bytes, int, bytes, tuple)
_EXPIRE_TYPES: Final = (int, int)


@dataclass(frozen=True, slots=True, kw_only=True)
class CommandRules:
    """The sizes that are allowed, and the checks.

    :ivar max_key_bytes: longest key.
    :ivar max_value_bytes: longest value.
    :ivar max_client_id_bytes: longest id of a session.
    """

    max_key_bytes: int = 4096
    max_value_bytes: int = 1024 * 1024
    max_client_id_bytes: int = 256

    def check(self, commands: tuple[Any, ...], *, from_node: bool) -> int:
        """Look at each command.

        :param commands: as the unpacker found them.
        :param from_node: a node forwarded them, which may also send commands that no client may.
        :return: the bytes of all keys and values.
        :raises BadRequest: one is malformed, or is not for clients.
        :raises TooLarge: a key or value is too long.
        """
        max_key_bytes, max_value_bytes = self.max_key_bytes, self.max_value_bytes
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
        if type(key) is not bytes or not key:
            raise BadRequest("key: must be bin of at least one byte")
        if len(key) > self.max_key_bytes:
            raise TooLarge(f"key: {len(key)} bytes, at most {self.max_key_bytes} are allowed")
        if not key.isascii():
            try:
                key.decode("utf-8")
            except UnicodeDecodeError:
                raise BadRequest("key: must be UTF-8") from None

    def _check_any(self, command: tuple[Any, ...], *, from_node: bool) -> int:
        types = tuple(map(type, command))
        if types == _SESSION_TYPES and command[0] == SESSION:
            return self._check_session(command)
        if types == _EXPIRE_TYPES and command[0] == EXPIRE_SESSIONS:
            if not from_node:
                raise BadRequest("this command is not for clients")
            _check_number(command[1], "before_ms", lowest=0)
            return 0
        return self._check_plain(command, types)

    def _check_session(self, command: tuple[Any, ...]) -> int:
        _, client_id, sequence, fingerprint, inner = command
        if not 0 < len(client_id) <= self.max_client_id_bytes:
            raise BadRequest(f"client id: must have 1 to {self.max_client_id_bytes} bytes, found {len(client_id)}")
        _check_number(sequence, "sequence", lowest=0)
        if len(fingerprint) != _FINGERPRINT_BYTES:
            raise BadRequest(f"fingerprint: must have {_FINGERPRINT_BYTES} bytes, found {len(fingerprint)}")
        return len(client_id) + self._check_plain(inner, tuple(map(type, inner)))

    def _check_plain(self, command: tuple[Any, ...], types: tuple[type, ...]) -> int:
        """Look at a command that a session may wrap; return the bytes of its key and value."""
        if types in (_PUT_TYPES, _PUT_IF_TYPES) and command[0] == PUT:
            value_bytes = len(command[3])
            expect = command[4] if len(command) == 5 else ANY
        elif types in (_DELETE_TYPES, _DELETE_IF_TYPES) and command[0] == DELETE:
            value_bytes = 0
            expect = command[3] if len(command) == 4 else ANY
        else:
            raise BadRequest("a command of unknown code or shape")
        if command[1] != 0:
            raise BadRequest(f"namespace: must be 0, found {command[1]}")
        self.check_key(command[2])
        if value_bytes > self.max_value_bytes:
            raise TooLarge(f"value: {value_bytes} bytes, at most {self.max_value_bytes} are allowed")
        _check_number(expect, "expect", lowest=EXISTS)
        return len(command[2]) + value_bytes


def _check_number(number: int, field: str, *, lowest: int) -> None:
    if not lowest <= number < _NUMBER_LIMIT:
        raise BadRequest(f"{field}: must be from {lowest} to 2**63 - 1, found {number}")
