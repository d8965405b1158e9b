"""Errors on the RPC port, both ways: one table of what each class says of itself.

On the wire an error is (code, message, outcome, details). Several classes may share a code of the HTTP API; ``kind``
in the details tells them apart. What a newer node sends and this one does not know becomes a :class:`RemoteError`
with the outcome that it said.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any, Final, cast

from raftkv.errors import (
    AnswerNotKept,
    BadRequest,
    Compacted,
    Conflict,
    DigestTie,
    DiskFull,
    Fenced,
    Forbidden,
    FutureRevision,
    KeyNotFound,
    LeaseNotFound,
    LockHeld,
    LockNotHeld,
    MethodNotAllowed,
    NoLeader,
    NotFound,
    NotLeader,
    Outcome,
    OutcomeUnknown,
    Overflow,
    Overloaded,
    PreconditionFailed,
    ProposalDropped,
    ProtocolViolation,
    RaftKVError,
    Removed,
    RequestTimeout,
    SequenceReused,
    SequenceTooOld,
    ShuttingDown,
    SnapshotFailed,
    StateBehind,
    TooLarge,
    UnsupportedMediaType,
)

_MAX_TEXT: Final = 4096


class RemoteError(RaftKVError):
    """Another node answered with an error that this version has no class for.

    :ivar remote_code: the code as it came.
    """

    def __init__(self, message: str, remote_code: str) -> None:
        super().__init__(message)
        self.remote_code = remote_code

    def __str__(self) -> str:
        return f"{self.args[0]} ({self.remote_code})"


class Unreachable(NoLeader):
    """A node could not be reached, so the request was never sent, or was a read and had no answer."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason

    def __str__(self) -> str:
        return self.reason


@dataclass(frozen=True, slots=True)
class _Row:
    """How one class travels.

    :ivar fields: attributes that travel in the details, with their types, in the order of the constructor; where
        there are none the constructor takes the message.
    """

    cls: type[RaftKVError]
    kind: str = ""
    fields: tuple[tuple[str, tuple[type, ...]], ...] = ()


_ROWS: Final = (
    _Row(BadRequest),
    _Row(Forbidden),
    _Row(KeyNotFound, "", (("key", (bytes,)),)),
    _Row(NotFound),
    _Row(MethodNotAllowed, "", (("method", (str,)), ("allowed", (tuple,)))),
    _Row(Conflict),
    _Row(SequenceTooOld),
    _Row(SequenceReused),
    _Row(PreconditionFailed, "", (("mod_revision", (int,)),)),
    _Row(TooLarge),
    _Row(UnsupportedMediaType),
    _Row(Overloaded),
    _Row(DiskFull),
    _Row(SnapshotFailed),
    _Row(Compacted, "", (("compact_revision", (int,)),)),
    _Row(Overflow, "", (("revision", (int,)),)),
    _Row(FutureRevision, "", (("revision", (int,)),)),
    _Row(LeaseNotFound, "", (("lease", (int,)),)),
    _Row(LockHeld, "", (("name", (bytes,)), ("token", (int,)))),
    _Row(LockNotHeld, "", (("name", (bytes,)), ("token", (int,)))),
    _Row(AnswerNotKept, "", (("revision", (int,)),)),
    _Row(NoLeader),
    _Row(NotLeader, "not_leader", (("leader_hint", (str, type(None))), ("term", (int,)))),
    _Row(ProposalDropped, "proposal_dropped"),
    _Row(ShuttingDown, "shutting_down"),
    _Row(Removed),
    _Row(Fenced),
    _Row(DigestTie),
    _Row(StateBehind),
    _Row(Unreachable, "unreachable", (("reason", (str,)),)),
    _Row(OutcomeUnknown),
    _Row(RequestTimeout, "", (("message", (str,)), ("outcome", (str,)))),
)
_BY_CLASS: Final = {row.cls: row for row in _ROWS}
_BY_NAME: Final = {(row.cls.code, row.kind): row for row in _ROWS}


def encode_error(error: RaftKVError) -> tuple[str, str, str, dict[str, Any]]:
    """Return code, message, outcome and details of an error."""
    row = next((_BY_CLASS[cls] for cls in type(error).__mro__ if cls in _BY_CLASS), None)
    details: dict[str, Any] = {}
    if row is not None:
        details = {name: getattr(error, name) for name, _ in row.fields}
        if row.kind:
            details["kind"] = row.kind
    if error.retry_after_seconds != type(error).retry_after_seconds:
        details["retry_after_seconds"] = error.retry_after_seconds
    return error.code, str(error)[:_MAX_TEXT], error.outcome, details


def decode_error(code: Any, message: Any, outcome: Any, details: Any) -> RaftKVError:
    """Return the error that another node told.

    :raises ProtocolViolation: it is no error at all; one of an unknown code is.
    """
    if type(code) is not str or type(message) is not str or type(details) is not dict:
        raise ProtocolViolation("an error with the wrong elements")
    if outcome not in ("not_applied", "unknown"):
        raise ProtocolViolation("an error without a known outcome")
    row = _BY_NAME.get((code, details.get("kind", ""))) or _BY_NAME.get((code, ""))
    error = _build(row, message, details) if row is not None else None
    if error is None:
        error = RemoteError(message, code)
    # A write's fate is said by who knows it, not by the class that this version has for the code.
    if error.outcome != outcome:
        error.outcome = cast(Outcome, outcome)
    wait = details.get("retry_after_seconds")
    if type(wait) is float or type(wait) is int:
        error.retry_after_seconds = float(wait)
    return error


def _build(row: _Row, message: str, details: dict[str, Any]) -> RaftKVError | None:
    if not row.fields:
        return row.cls(message)
    values = [details.get(name) for name, _ in row.fields]
    if any(type(value) not in types for value, (_, types) in zip(values, row.fields, strict=True)):
        return None
    return row.cls(*values)
