"""The replicated state: what the entries of the log make of it, the same on every node.

Everything that :meth:`Store.apply` uses is in the entry or in the state: no clock, no chance, no order of a
dictionary or set (B40). Limits on sizes and counts are checked before a command is proposed, never here, where a
setting that differs between two nodes would make them differ for ever.

Reading is plain: nobody but ``apply`` changes the state, and what a caller may read when is decided elsewhere
(ReadIndex).
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import NoReturn

from raftkv.errors import InvariantViolation
from raftkv.kvstore import digest
from raftkv.kvstore.commands import (
    DELETE,
    EXPIRE_SESSIONS,
    FINGERPRINT_BYTES,
    OK,
    PUT,
    SEQUENCE_TOO_OLD,
    SESSION,
    SESSION_WINDOW,
    Command,
    Result,
    unpack_batch,
)
from raftkv.kvstore.digest import Record
from raftkv.kvstore.records import Records
from raftkv.kvstore.sessions import Sessions, recall
from raftkv.kvstore.snapshotting import SnapshotHeader, SnapshotView


class Store:
    """The state machine: records with one revision counter, sessions, the cluster's clock."""

    __slots__ = (
        "_applied_index",
        "_capture",
        "_cluster_time_ms",
        "_compact_revision",
        "_records",
        "_sessions",
    )

    def __init__(self) -> None:
        self._start(Records(), Sessions())

    def _start(self, records: Records, sessions: Sessions) -> None:
        self._records = records
        self._sessions = sessions
        self._compact_revision = 0
        self._cluster_time_ms = 0  # the largest of all entries: it never goes back, whoever leads
        self._applied_index = 0
        self._capture: SnapshotView | None = None

    # -- the log -------------------------------------------------------------------------------------------------

    def apply(self, index: int, payload: bytes) -> list[Result]:
        """Apply one entry of commands and return the answer to each.

        :param index: the entry's index in the log.
        :param payload: as :func:`raftkv.kvstore.commands.pack_batch` made it.
        :raises InvariantViolation: the entry was applied before (B39), is malformed, or holds a command or format
            version that this node does not know. The state is then of no further use: the node must stop, for a
            command that one node skips and another applies makes them differ.
        """
        if index <= self._applied_index:
            self._refuse_again(index)
        try:
            cluster_time_ms, commands = unpack_batch(payload)
            if cluster_time_ms > self._cluster_time_ms:
                self._cluster_time_ms = cluster_time_ms
            put = self._records.put
            results = [put(command) if command[0] == PUT else self._execute(command) for command in commands]
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise InvariantViolation(f"entry {index} cannot be applied: {error!r}") from error
        self._applied_index = index
        self._sessions.reap()
        return results

    def skip(self, index: int) -> None:
        """Take note of an entry without commands (a new leader's first, a configuration).

        :raises InvariantViolation: the entry was applied before (B39).
        """
        if index <= self._applied_index:
            self._refuse_again(index)
        self._applied_index = index

    def _refuse_again(self, index: int) -> NoReturn:
        raise InvariantViolation(f"entry {index} was applied before: the state includes entry {self._applied_index}")

    # -- reading -------------------------------------------------------------------------------------------------

    @property
    def revision(self) -> int:
        """The revision of the last change, 0 before the first."""
        return self._records.revision

    @property
    def compact_revision(self) -> int:
        """The oldest revision that can be read; 0 while nothing was compacted."""
        return self._compact_revision

    @property
    def applied_index(self) -> int:
        """The log entry up to which the state includes everything."""
        return self._applied_index

    @property
    def cluster_time_ms(self) -> int:
        """The cluster's clock as the log has it: milliseconds, never going back."""
        return self._cluster_time_ms

    @property
    def key_count(self) -> int:
        """How many keys there are."""
        return len(self._records)

    def __len__(self) -> int:
        return len(self._records)

    @property
    def session_count(self) -> int:
        """How many clients have a session."""
        return len(self._sessions)

    def has_session(self, client_id: bytes) -> bool:
        """Tell whether a client has a session, so that a write of its makes no new one."""
        return client_id in self._sessions

    def idle_sessions(self, before_ms: int) -> int:
        """Return how many sessions :func:`raftkv.kvstore.commands.expire_sessions` would drop now."""
        return self._sessions.idle_since(before_ms)

    def get(self, key: bytes) -> Record | None:
        """Return the record of a key, or ``None`` where there is none."""
        return self._records.get(key)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        """Yield up to ``limit`` records with ``start <= key`` and, unless ``end`` is ``None``, ``key < end``, in order.

        A caller that wants the state of one moment draws all of it before the next entry is applied. One that draws
        later meets every key that was there all the time, once and in order, with its record of that later moment.

        :param limit: 0 or less yields nothing.
        """
        return self._records.scan(start, end, limit)

    def count(self, start: bytes, end: bytes | None) -> int:
        """Return how many keys :meth:`scan` would yield without a limit."""
        return self._records.count(start, end)

    def digest(self) -> str:
        """Return 16 hex digits over keys, records, revisions and sessions: equal for equal states, however reached."""
        return digest.combine(
            records_sum=self._records.weight,
            sessions_sum=self._sessions.weight,
            revision=self._records.revision,
            compact_revision=self._compact_revision,
        )

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> SnapshotView:
        """Return a view of the state as it is now, to be drawn while entries go on being applied (B48).

        :raises InvariantViolation: the previous view is not drawn to its end and was not closed.
        """
        if self._capture is not None:
            raise InvariantViolation("a snapshot is being taken already")
        header = SnapshotHeader(
            revision=self._records.revision,
            applied_index=self._applied_index,
            cluster_time_ms=self._cluster_time_ms,
            compact_revision=self._compact_revision,
            keys=len(self._records),
            sessions=len(self._sessions),
            digest=self.digest(),
        )
        self._capture = SnapshotView(
            header=header,
            records=self._records.capture(),
            sessions=self._sessions.capture(),
            closed=self._capture_ended,
        )
        return self._capture

    def _capture_ended(self) -> None:
        self._capture = None
        self._records.end_capture()
        self._sessions.end_capture()

    def discard(self, limit: int) -> bool:
        """Free some of a store that another has replaced, for freeing a million records at once is a pause.

        :param limit: about how many records to free.
        :return: whether more are left. From the first call on the store must not be used otherwise.
        """
        records_left = self._records.discard(limit)
        sessions_left = self._sessions.discard(limit // SESSION_WINDOW + 1)
        return records_left or sessions_left

    @classmethod
    def restored(cls, header: SnapshotHeader, records: Records, sessions: Sessions) -> Store:
        """Return the store that a snapshot describes; for :mod:`raftkv.kvstore.restoring`, which checks the parts.

        :param records: taken over, as is ``sessions``.
        """
        store = cls()
        records.revision = header.revision
        store._start(records, sessions)
        store._compact_revision = header.compact_revision
        store._cluster_time_ms = header.cluster_time_ms
        store._applied_index = header.applied_index
        return store

    # -- commands ------------------------------------------------------------------------------------------------

    def _execute(self, command: Command) -> Result:
        code = command[0]
        if code == SESSION:
            return self._in_session(command)
        if code == EXPIRE_SESSIONS:
            return self._expire_sessions(command)
        return self._write(command)

    def _write(self, command: Command) -> Result:
        """Carry out one of the commands that may be in a session."""
        code = command[0]
        if code == PUT:
            return self._records.put(command)
        if code == DELETE:
            return self._records.delete(command)
        raise ValueError(f"unknown command {code!r}")

    def _in_session(self, command: Command) -> Result:
        _, client_id, sequence, fingerprint, inner = command
        if type(sequence) is not int or sequence < 0 or len(fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(f"not a sequence number and a fingerprint: {sequence!r}, {fingerprint!r}")
        session = self._sessions.touch(client_id, self._cluster_time_ms)
        kept = session.answers.get(sequence)
        if kept is not None:
            return recall(kept, fingerprint)
        if sequence <= session.highest - SESSION_WINDOW:
            return (SEQUENCE_TOO_OLD,)
        result = self._write(inner)
        self._sessions.remember(session, sequence, fingerprint, result)
        return result

    def _expire_sessions(self, command: Command) -> Result:
        _, before_ms = command
        if type(before_ms) is not int:
            raise ValueError(f"not a cluster time: {before_ms!r}")
        return (OK, self._sessions.expire(before_ms))
