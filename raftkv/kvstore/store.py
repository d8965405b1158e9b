"""The replicated state: what the entries of the log make of it, the same on every node.

Everything that :meth:`Store.apply` uses is in the entry or in the state: no clock, no chance, no order of a
dictionary or set (B40). Limits on sizes and counts are checked before a command is proposed, never here, where a
setting that differs between two nodes would make them differ for ever.

Here are the log and the commands; :mod:`~raftkv.kvstore.reading` has what can be read.
"""

from __future__ import annotations

from typing import Final, NoReturn

from raftkv.errors import InvariantViolation
from raftkv.kvstore.commands import (
    COMPACT,
    COMPACTED,
    DELETE,
    DELETE_RANGE,
    EXPIRE,
    EXPIRE_SESSIONS,
    FENCED,
    FINGERPRINT_BYTES,
    FUTURE_REVISION,
    GRANT,
    INCREMENT,
    KEEPALIVE,
    LOCK,
    OK,
    PUT,
    REVOKE,
    SEQUENCE_TOO_OLD,
    SESSION,
    SESSION_WINDOW,
    TXN,
    UNLOCK,
    Command,
    Result,
    unpack_batch,
)
from raftkv.kvstore.counters import increment
from raftkv.kvstore.leases import Leases
from raftkv.kvstore.locks import Locks
from raftkv.kvstore.reading import Reader
from raftkv.kvstore.records import Records
from raftkv.kvstore.revisiontimes import RevisionTimes
from raftkv.kvstore.sessions import Sessions, recall
from raftkv.kvstore.snapshotting import SnapshotHeader, SnapshotView
from raftkv.kvstore.tenures import Tenures
from raftkv.kvstore.transactions import Transaction

_TIDIED_AT_ONCE: Final = 64  # compacted revisions that are freed with each entry, beyond as many as it may have made


class Store(Reader):
    """The state machine: records with one revision counter and their past, sessions, leases and locks, the clock."""

    __slots__ = ("_capture",)

    def __init__(self) -> None:
        leases = Leases()
        records = Records(leases)
        self._start(records, Tenures(records=records, leases=leases, locks=Locks(), last_number=0), Sessions())

    def _start(self, records: Records, tenures: Tenures, sessions: Sessions) -> None:
        self._records = records
        self._tenures = tenures
        self._sessions = sessions
        self._revision_times = RevisionTimes()
        self._compact_revision = 0
        self._cluster_time_ms = 0
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
            put, other = self._records.put, self._execute
            if commands and commands[0][0] == SESSION:
                results = self._sessions.carry_out(commands, self._cluster_time_ms, put=put, other=other)
            else:
                results = [
                    put(command) if len(command) == 4 and command[0] == PUT else other(command) for command in commands
                ]
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise InvariantViolation(f"entry {index} cannot be applied: {error!r}") from error
        self._applied_index = index
        self._end_entry(len(payload), len(results))
        return results

    def _end_entry(self, size_bytes: int, commands: int) -> None:
        records = self._records
        records.history.grow(size_bytes)
        if self._cluster_time_ms >= self._revision_times.next_ms:
            self._revision_times.note(self._cluster_time_ms, records.revision)
        self._sessions.reap()
        records.tidy(commands + _TIDIED_AT_ONCE)

    def skip(self, index: int) -> None:
        """Take note of an entry without commands (a new leader's first, a configuration).

        :raises InvariantViolation: the entry was applied before (B39).
        """
        if index <= self._applied_index:
            self._refuse_again(index)
        self._applied_index = index

    def _refuse_again(self, index: int) -> NoReturn:
        raise InvariantViolation(f"entry {index} was applied before: the state includes entry {self._applied_index}")

    def take_settled(self) -> list[int]:
        """Return the tickets that took their lock, or went, since the last call: so many callers as there is one."""
        locks = self._tenures.locks
        settled, locks.settled = locks.settled, []
        return settled

    def tidy(self, limit: int) -> bool:
        """Free about ``limit`` revisions of what was compacted; return whether more are left.

        Nobody can tell from the state how much of it was freed. Applying entries does some of it too.
        """
        return self._records.tidy(limit)

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> SnapshotView:
        """Return a view of the state as it is now, to be drawn while entries go on being applied (B48).

        :raises InvariantViolation: the previous view is not drawn to its end and was not closed.
        """
        if self._capture is not None:
            raise InvariantViolation("a snapshot is being taken already")
        tenures = self._tenures
        header = SnapshotHeader(
            revision=self._records.revision,
            applied_index=self._applied_index,
            cluster_time_ms=self._cluster_time_ms,
            compact_revision=self._compact_revision,
            last_number=tenures.last_number,
            keys=len(self._records),
            leases=len(tenures.leases),
            tickets=len(tenures.locks),
            sessions=len(self._sessions),
            digest=self.digest(),
        )
        self._capture = SnapshotView(
            header=header,
            records=self._records.capture(),
            history=self._records.history.capture(),
            leases=tenures.leases.capture(),
            tickets=tenures.locks.capture(),
            marks=self._revision_times.marks(),
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
        left = [
            self._records.discard(limit),
            self._tenures.leases.discard(limit),
            self._tenures.locks.discard(limit),
            self._sessions.discard(limit // SESSION_WINDOW + 1),
        ]
        return any(left)

    @classmethod
    def restored(
        cls,
        header: SnapshotHeader,
        *,
        records: Records,
        leases: Leases,
        locks: Locks,
        sessions: Sessions,
        revision_times: RevisionTimes,
    ) -> Store:
        """Return the store that a snapshot describes; for :mod:`raftkv.kvstore.restoring`, which checks the parts.

        :param records: taken over, as are the others.
        """
        store = cls()
        records.revision = header.revision
        tenures = Tenures(records=records, leases=leases, locks=locks, last_number=header.last_number)
        store._start(records, tenures, sessions)
        store._revision_times = revision_times
        store._compact_revision = header.compact_revision
        store._cluster_time_ms = header.cluster_time_ms
        store._applied_index = header.applied_index
        return store

    # -- another cluster ------------------------------------------------------------------------------------------

    def begin_anew(self, margin: int) -> None:
        """Go on as the state of another cluster: no revision, and no number, is one that the old cluster has given out.

        The revision rises by the margin, and everything before is compacted: whoever watches from a revision of the old
        cluster is told so, and cannot take other changes for those that it waits for (B61). Numbers of leases and
        tickets rise likewise, so that nobody who had one of the old cluster after this state ends another's. What is
        in the state stays: records with their revisions, leases with the time that they have left, locks, sessions.

        :param margin: more than the old cluster has made of either since; at least 1.
        :raises InvariantViolation: it is not, or a snapshot is being taken.
        """
        if margin < 1 or self._capture is not None:
            raise InvariantViolation(f"a state cannot begin anew by {margin} revisions, or while it is being captured")
        records = self._records
        records.begin_anew(records.revision + margin)
        self._tenures.last_number += margin
        self._compact_revision = records.revision
        self._revision_times = RevisionTimes()

    def apply_up_to(self, index: int, payload: bytes, last_revision: int) -> bool:
        """Apply the commands of an entry until a revision is reached, for a point in the past (never on a live node).

        :param last_revision: no command is applied once there has been that revision.
        :return: whether all of them were applied.
        :raises InvariantViolation: as :meth:`apply`.
        """
        if index <= self._applied_index:
            self._refuse_again(index)
        done = 0
        try:
            cluster_time_ms, commands = unpack_batch(payload)
            self._cluster_time_ms = max(self._cluster_time_ms, cluster_time_ms)
            for command in commands:
                if self.revision >= last_revision:
                    break
                self._execute(command)
                done += 1
        except (ValueError, TypeError, LookupError, OverflowError) as error:
            raise InvariantViolation(f"entry {index} cannot be applied: {error!r}") from error
        self._applied_index = index
        self._end_entry(len(payload), done)
        return done == len(commands)

    # -- commands ------------------------------------------------------------------------------------------------

    def _execute(self, command: Command) -> Result:
        code = command[0]
        if code == SESSION:
            return self._in_session(command)
        if code == EXPIRE:
            return self._tenures.expire(command, self._cluster_time_ms)
        if code == EXPIRE_SESSIONS:
            return self._expire_sessions(command)
        return self._write(command)

    def _write(self, command: Command) -> Result:
        """Carry out one of the commands that may be in a session."""
        code = command[0]
        if code == PUT:
            if len(command) == 4:
                return self._records.put(command)
            if len(command) == 5:
                return self._records.put_if(command)
            return self._tenures.put(command, self._cluster_time_ms)
        if code == DELETE:
            return self._records.delete(command)
        if code == FENCED:
            return self._fenced(command)
        return self._write_rarely(command)

    def _write_rarely(self, command: Command) -> Result:
        code, now_ms, tenures = command[0], self._cluster_time_ms, self._tenures
        if code == TXN:
            return Transaction(
                records=self._records,
                leases=tenures.leases,
                compact_revision=self._compact_revision,
                now_ms=now_ms,
            ).carry_out(command)
        if code == KEEPALIVE:
            return tenures.keep_alive(command, now_ms)
        if code == INCREMENT:
            return increment(self._records, command)
        if code == DELETE_RANGE:
            return self._delete_range(command)
        if code == GRANT:
            return tenures.grant(command, now_ms)
        if code == REVOKE:
            return tenures.revoke(command, now_ms)
        if code == LOCK:
            return tenures.lock(command, now_ms)
        if code == UNLOCK:
            return tenures.unlock(command, now_ms)
        if code == COMPACT:
            return self._compact(command)
        raise ValueError(f"unknown command {code!r}")

    def _fenced(self, command: Command) -> Result:
        _, namespace, name, token, inner = command
        if namespace != 0 or inner[0] == FENCED:
            raise ValueError(f"not a fenced command of this namespace: {namespace!r}, {inner[0]!r}")
        refusal = self._tenures.against_fence(name, token, self._cluster_time_ms)
        return self._write(inner) if refusal is None else refusal

    def _delete_range(self, command: Command) -> Result:
        _, namespace, start, end = command
        if namespace != 0 or type(start) is not bytes or type(end) is not bytes:
            raise ValueError(f"not a range of this namespace: {namespace!r}, {start!r}, {end!r}")
        records = self._records
        keys = list(records.keys(start, end or None, reverse=False))
        slots = [slot for key in keys if (slot := records.remove(key)) is not None]
        return (OK, records.commit(slots) if slots else records.revision, len(slots))

    def _compact(self, command: Command) -> Result:
        _, namespace, revision = command
        if namespace != 0 or type(revision) is not int or revision <= 0:
            raise ValueError(f"not a revision of this namespace: {namespace!r}, {revision!r}")
        if revision > self._records.revision:
            return (FUTURE_REVISION, self._records.revision)
        if revision < self._compact_revision:
            return (COMPACTED, self._compact_revision)
        self._compact_revision = revision
        self._records.history.compact(revision)
        self._revision_times.compact(revision)
        return (OK, revision)

    def _in_session(self, command: Command) -> Result:
        _, client_id, sequence, fingerprint, inner = command
        if type(sequence) is not int or sequence < 0 or len(fingerprint) != FINGERPRINT_BYTES:
            raise ValueError(f"not a sequence number and a fingerprint: {sequence!r}, {fingerprint!r}")
        session = self._sessions.touch(client_id, self._cluster_time_ms)
        if sequence <= session.highest:
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
