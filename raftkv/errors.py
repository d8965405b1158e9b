"""Every error that a caller of raftkv can meet, and what became of the write that met it.

The class alone tells the two outcomes apart: ``not_applied`` (the write did not and will not take effect) or
``unknown`` (it may have). Interfaces translate by ``code``, which is the one of the HTTP API. Attributes carry the
facts, ``str()`` makes the sentence. Errors without a code never reach a caller: :class:`ProtocolViolation` ends a
connection, :class:`InvariantViolation` and :class:`StorageError` end the process.
"""

from __future__ import annotations

from typing import ClassVar, Literal

Outcome = Literal["not_applied", "unknown"]


class RaftKVError(Exception):
    """The base of what a caller can be told.

    :ivar code: the ``code`` of the error in the HTTP API and on the RPC port.
    :ivar outcome: whether a write that met this error may have taken effect; a read is always ``not_applied``.
    :ivar retry_after_seconds: how long a caller should wait before it tries again, or ``None``.
    """

    code: ClassVar[str] = "internal"
    outcome: Outcome = "not_applied"
    retry_after_seconds: float | None = None


class BadRequest(RaftKVError):
    """The request is malformed; the message names the field, what was found and what would be right."""

    code = "bad_request"


class Forbidden(RaftKVError):
    """The request may not be made from where it came."""

    code = "forbidden"


class KeyNotFound(RaftKVError):
    """There is no such key."""

    code = "key_not_found"

    def __init__(self, key: bytes) -> None:
        super().__init__(key)
        self.key = key

    def __str__(self) -> str:
        return f"there is no key {self.key.decode('utf-8', 'backslashreplace')!r}"


class NotFound(RaftKVError):
    """There is nothing under this path."""

    code = "not_found"


class MethodNotAllowed(RaftKVError):
    """The path exists, but not with this method.

    :ivar allowed: the methods that it does have.
    """

    code = "method_not_allowed"

    def __init__(self, method: str, allowed: tuple[str, ...]) -> None:
        super().__init__(method, allowed)
        self.method = method
        self.allowed = allowed

    def __str__(self) -> str:
        return f"{self.method} is not allowed here; allowed: {', '.join(self.allowed)}"


class Conflict(RaftKVError):
    """The request contradicts the present state, for instance a second membership change at once."""

    code = "conflict"


class SequenceTooOld(RaftKVError):
    """The sequence number lies below the window of answers that are kept, so nobody knows what became of it."""

    code = "sequence_too_old"
    outcome: Outcome = "unknown"

    def __str__(self) -> str:
        return "the sequence number is older than the last 1024 of this client; its answer is no longer known"


class SequenceReused(RaftKVError):
    """The sequence number was used before, for a different request."""

    code = "sequence_reused"

    def __str__(self) -> str:
        return "the sequence number was already used for a different request; take a new one for each write"


class PreconditionFailed(RaftKVError):
    """A conditional write found another state.

    :ivar mod_revision: the key's present mod revision, 0 where there is no key.
    """

    code = "precondition_failed"

    def __init__(self, mod_revision: int) -> None:
        super().__init__(mod_revision)
        self.mod_revision = mod_revision

    def __str__(self) -> str:
        if self.mod_revision == 0:
            return "the condition does not hold: there is no such key"
        return f"the condition does not hold: the key's mod_revision is {self.mod_revision}"


class TooLarge(RaftKVError):
    """A key, value, body or batch exceeds its limit; the message names both sizes and the setting."""

    code = "too_large"


class UnsupportedMediaType(RaftKVError):
    """The body's content type is not one that is read here."""

    code = "unsupported_media_type"


class Overloaded(RaftKVError):
    """A bound on what may wait was reached; try again a little later."""

    code = "overloaded"
    retry_after_seconds = 1.0


class DiskFull(RaftKVError):
    """The disks of so many nodes are full that a write which needs room would not be safe, or not be committed.

    Reads are served, and writes that free something are taken.
    """

    code = "disk_full"
    retry_after_seconds = 5.0

    def __str__(self) -> str:
        return "there is no room on the disk of the leader, or of too many others; what frees room is still taken"


class SnapshotFailed(RaftKVError):
    """There is no room for a snapshot. Nothing is left of it, and the node goes on with the one before and its log."""

    code = "snapshot_failed"


class Compacted(RaftKVError):
    """The revision asked for is no longer kept.

    :ivar compact_revision: the oldest revision that can still be read.
    """

    code = "compacted"

    def __init__(self, compact_revision: int) -> None:
        super().__init__(compact_revision)
        self.compact_revision = compact_revision

    def __str__(self) -> str:
        return f"revisions below {self.compact_revision} have been compacted"


class Overflow(RaftKVError):
    """A watch was cut off because its reader was too slow.

    :ivar revision: up to which everything was told; it can be resumed behind that.
    """

    code = "overflow"

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision

    def __str__(self) -> str:
        return f"the watch was read too slowly, and nothing behind revision {self.revision} was told"


class FutureRevision(RaftKVError):
    """The revision asked for has not been yet.

    :ivar revision: the store's own.
    """

    code = "future_revision"

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision

    def __str__(self) -> str:
        return f"revision: there has been no such revision yet; the store's is {self.revision}"


class LeaseNotFound(RaftKVError):
    """There is no such lease, or its time has come.

    :ivar lease: its number.
    """

    code = "lease_not_found"

    def __init__(self, lease: int) -> None:
        super().__init__(lease)
        self.lease = lease

    def __str__(self) -> str:
        return f"lease: there is no lease {self.lease}, or it has ended"


class LockHeld(RaftKVError):
    """Somebody else holds the lock, and did so for as long as the caller would wait.

    :ivar name: of the lock.
    :ivar token: the holder's; 0 where the lock is free, and it was the wait that ended before its time.
    """

    code = "lock_held"

    def __init__(self, name: bytes, token: int) -> None:
        super().__init__(name, token)
        self.name = name
        self.token = token

    def __str__(self) -> str:
        name = self.name.decode("utf-8", "backslashreplace")
        if not self.token:
            return f"the wait for the lock {name!r} has ended, and nobody holds it"
        return f"the lock {name!r} is held, with token {self.token}"


class LockNotHeld(RaftKVError):
    """The lock is not held with the token that the request named.

    :ivar name: of the lock.
    :ivar token: the present holder's, 0 where nobody holds it.
    """

    code = "lock_not_held"

    def __init__(self, name: bytes, token: int) -> None:
        super().__init__(name, token)
        self.name = name
        self.token = token

    def __str__(self) -> str:
        holder = f"the holder's token is {self.token}" if self.token else "nobody holds it"
        return f"the lock {self.name.decode('utf-8', 'backslashreplace')!r} is not held with this token: {holder}"


class AnswerNotKept(RaftKVError):
    """A repeat of a write that was applied, whose answer was too large to be kept; the repeat did nothing.

    :ivar revision: of the answer that was given then.
    """

    code = "answer_not_kept"

    def __init__(self, revision: int) -> None:
        super().__init__(revision)
        self.revision = revision

    def __str__(self) -> str:
        return f"the write was applied, at revision {self.revision}; its answer was too large to be kept for a repeat"


class NoLeader(RaftKVError):
    """No leader is known; an election is probably under way."""

    code = "no_leader"
    retry_after_seconds: float | None = 1.0

    def __str__(self) -> str:
        return "no leader is known; an election may be under way"


class NotLeader(NoLeader):
    """This node does not lead, and the request was not to be forwarded (again).

    :ivar leader_hint: id of the leader as far as this node knows, or ``None``.
    :ivar term: the node's current term.
    """

    def __init__(self, leader_hint: str | None, term: int) -> None:
        super().__init__(leader_hint, term)
        self.leader_hint = leader_hint
        self.term = term

    def __str__(self) -> str:
        return f"this node does not lead in term {self.term}; it takes {self.leader_hint!r} for the leader"


class ProposalDropped(NoLeader):
    """The proposal was given up before it entered any log, or its entry was replaced by another leader's."""

    def __str__(self) -> str:
        return "the write was dropped before it took effect; it is safe to send it again"


class ShuttingDown(NoLeader):
    """The node is stopping and takes nothing new."""

    def __str__(self) -> str:
        return "this node is shutting down; ask another one"


class Removed(NoLeader):
    """The node was removed from the cluster; it will never answer again, others do."""

    code = "removed"
    retry_after_seconds = None

    def __str__(self) -> str:
        return "this node was removed from the cluster; ask another one"


class Fenced(NoLeader):
    """The state of this node differs from the majority's: it serves nothing until it has fetched theirs."""

    code = "fenced"

    def __str__(self) -> str:
        return "this node's state differs from the majority's and is being fetched anew; ask another node"


class StateBehind(NoLeader):
    """The disk of this node is full, so that it no longer gets what is written: it cannot tell what is true now."""

    code = "behind"

    def __str__(self) -> str:
        return "this node's disk is full, so that its state falls behind; ask another node"


class DigestTie(NoLeader):
    """The states of the nodes differ, and no majority agrees on one: nobody can tell which is right."""

    code = "digest_tie"

    def __str__(self) -> str:
        return "the states of the nodes differ and no majority agrees on one; an operator has to decide"


class OutcomeUnknown(RaftKVError):
    """The connection or the leader was lost after the write had been sent: it may have taken effect, or may yet."""

    code = "unavailable"
    outcome: Outcome = "unknown"

    def __str__(self) -> str:
        return super().__str__() or "contact was lost after the write was sent; it may have taken effect"


class RequestTimeout(RaftKVError):
    """No answer within the time allowed.

    :param message: what was waited for, and for how long.
    :param outcome: ``not_applied`` for a read and for a write that was never proposed, else ``unknown``.
    """

    code = "timeout"

    def __init__(self, message: str, outcome: Outcome) -> None:
        super().__init__(message, outcome)
        self.message = message
        self.outcome = outcome

    def __str__(self) -> str:
        return self.message


class ConfigurationError(Exception):
    """The configuration, the data directory or a port is wrong: one sentence that names where, what and what else.

    Raised before the process becomes a daemon; the command line prints the sentence and exits non-zero.
    """


class ProtocolViolation(Exception):
    """The other side sent what cannot be a message; its connection is closed, and nothing more."""


class InvariantViolation(Exception):
    """Something that Raft or our own code rules out has happened. Nobody catches this to carry on."""


class StorageError(Exception):
    """A write, sync or read of our own disk failed. The process stops; a sync is never tried again (fsyncgate).

    :ivar path: the file or folder.
    :ivar operation: what was tried, such as ``"fdatasync"``.
    """

    def __init__(self, operation: str, path: str, reason: str) -> None:
        super().__init__(operation, path, reason)
        self.operation = operation
        self.path = path
        self.reason = reason

    def __str__(self) -> str:
        return f"{self.operation} of {self.path} failed: {self.reason}"


class NoRoom(StorageError):
    """There is no room on the disk. What was to be written is in doubt, as with every failed write."""


class CorruptData(StorageError):
    """Bytes on our disk fail their checksum or make no sense; ``offset`` says where in ``path``."""

    def __init__(self, path: str, offset: int, reason: str) -> None:
        super().__init__("read", path, f"at offset {offset}: {reason}")
        self.offset = offset


class DamagedLog(CorruptData):
    """The log lacks records that had been written, and may have been committed: whoever has them can supply them."""
