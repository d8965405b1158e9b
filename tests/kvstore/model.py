"""The plain, slow twin of the store: what the HTTP API promises of revisions and sessions, in the fewest words."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftkv.kvstore import commands
from raftkv.kvstore.commands import Command, Result


class Model:
    """Dictionaries that are searched from end to end; no digest, no window arithmetic in place.

    :ivar records: key to value, create revision, mod revision, version, lease.
    :ivar sessions: client to its last write time and all its answers, by sequence number, within the window.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.cluster_time_ms = 0
        self.records: dict[bytes, tuple[bytes, int, int, int, int]] = {}
        self.sessions: dict[bytes, tuple[int, dict[int, tuple[bytes, Result]]]] = {}

    def apply(self, cluster_time_ms: int, batch: Sequence[Command]) -> list[Result]:
        self.cluster_time_ms = max(self.cluster_time_ms, cluster_time_ms)
        return [self._command(command) for command in batch]

    def range(self, start: bytes, end: bytes | None) -> list[tuple[bytes, Any]]:
        return [(k, self.records[k]) for k in sorted(self.records) if k >= start and (end is None or k < end)]

    def _command(self, command: Command) -> Result:
        match command:
            case (commands.PUT, 0, key, value):
                return self._put(key, value, commands.ANY)
            case (commands.PUT, 0, key, value, expect):
                return self._put(key, value, expect)
            case (commands.DELETE, 0, key):
                return self._delete(key, commands.ANY)
            case (commands.DELETE, 0, key, expect):
                return self._delete(key, expect)
            case (commands.EXPIRE_SESSIONS, before_ms):
                idle = [client for client, (last_ms, _) in self.sessions.items() if last_ms < before_ms]
                for client in idle:
                    del self.sessions[client]
                return (commands.OK, len(idle))
            case (commands.SESSION, client, sequence, fingerprint, inner):
                return self._in_session(client, sequence, fingerprint, inner)
        raise AssertionError(command)

    def _holds(self, key: bytes, expect: int) -> bool:
        mod_revision = self.records[key][2] if key in self.records else 0
        if expect == commands.ANY:
            return True
        if expect == commands.EXISTS:
            return mod_revision > 0
        return mod_revision == expect

    def _failed(self, key: bytes) -> Result:
        return (commands.PRECONDITION_FAILED, self.records[key][2] if key in self.records else 0)

    def _put(self, key: bytes, value: bytes, expect: int) -> Result:
        if not self._holds(key, expect):
            return self._failed(key)
        self.revision += 1
        _, created, _, version, _ = self.records.get(key, (b"", self.revision, 0, 0, 0))
        self.records[key] = (value, created, self.revision, version + 1, 0)
        return (commands.OK, self.revision)

    def _delete(self, key: bytes, expect: int) -> Result:
        if not self._holds(key, expect):
            return self._failed(key)
        if key not in self.records:
            return (commands.OK, self.revision, False)
        self.revision += 1
        del self.records[key]
        return (commands.OK, self.revision, True)

    def _in_session(self, client: bytes, sequence: int, fingerprint: bytes, inner: Command) -> Result:
        _, answers = self.sessions.get(client, (0, {}))
        self.sessions[client] = (self.cluster_time_ms, answers)
        if answers and sequence <= max(answers) - commands.SESSION_WINDOW:
            return (commands.SEQUENCE_TOO_OLD,)
        if sequence not in answers:
            answers[sequence] = (fingerprint, self._command(inner))
            for old in [s for s in answers if s <= max(answers) - commands.SESSION_WINDOW]:
                del answers[old]
        known, answer = answers[sequence]
        return answer if known == fingerprint else (commands.SEQUENCE_REUSED,)
