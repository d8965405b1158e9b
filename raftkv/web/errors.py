"""The one table from exceptions to status codes, and the JSON that an error is told in.

Knows every error of :mod:`raftkv.errors`; leaves to others where in a request it arose.
"""

from __future__ import annotations

import math
from typing import Final

from raftkv import errors
from raftkv.web.documents import json_bytes
from raftkv.web.exchange import JSON, Answer, Headers

STATUS_CODES: Final[dict[str, int]] = {
    errors.BadRequest.code: 400,
    errors.FutureRevision.code: 400,
    errors.Forbidden.code: 403,
    errors.KeyNotFound.code: 404,
    errors.NotFound.code: 404,
    errors.LeaseNotFound.code: 404,
    errors.MethodNotAllowed.code: 405,
    errors.Conflict.code: 409,
    errors.SequenceTooOld.code: 409,
    errors.SequenceReused.code: 409,
    errors.LockHeld.code: 409,
    errors.AnswerNotKept.code: 409,
    errors.Compacted.code: 410,
    errors.PreconditionFailed.code: 412,
    errors.LockNotHeld.code: 412,
    errors.TooLarge.code: 413,
    errors.UnsupportedMediaType.code: 415,
    errors.Overloaded.code: 429,
    errors.NoLeader.code: 503,
    errors.Removed.code: 503,
    errors.Fenced.code: 503,
    errors.DigestTie.code: 503,
    errors.StateBehind.code: 503,
    "not_ready": 503,
    errors.SnapshotFailed.code: 503,
    errors.OutcomeUnknown.code: 503,
    errors.Overflow.code: 503,
    errors.RequestTimeout.code: 504,
    errors.DiskFull.code: 507,
}  #: by ``code``, which subclasses share with the class that a caller has to tell apart

_FACTS: Final[dict[type[errors.RaftKVError], str]] = {
    errors.PreconditionFailed: "mod_revision",
    errors.Compacted: "compact_revision",
    errors.FutureRevision: "revision",
    errors.Overflow: "revision",
    errors.AnswerNotKept: "revision",
    errors.LockHeld: "token",
    errors.LockNotHeld: "token",
}  #: what stands beside the error in its document

INTERNAL: Final = 500  #: for a code that is not in the table: a fault of ours


class SlowRequest(errors.RequestTimeout):
    """The client took too long to send its request: the one time-out that is not ours, hence 408 and not 504."""


def status_code(error: errors.RaftKVError) -> int:
    """Return the HTTP status code of an error."""
    if isinstance(error, SlowRequest):
        return 408
    return STATUS_CODES.get(error.code, INTERNAL)


def error_answer(error: errors.RaftKVError, *, is_write: bool) -> Answer:
    """Make the answer that tells an error.

    :param is_write: whether the request could have changed anything; a read fails with ``not_applied``, whatever the
        error says of writes.
    """
    document: dict[str, object] = {
        "error": {
            "code": error.code,
            "message": str(error) or error.code,
            "outcome": error.outcome if is_write else "not_applied",
        }
    }
    headers: Headers = JSON
    for cls, fact in _FACTS.items():
        if isinstance(error, cls):
            document[fact] = getattr(error, fact)
    if isinstance(error, errors.MethodNotAllowed):
        headers = (*headers, (b"Allow", ", ".join(error.allowed).encode("ascii")))
    if error.retry_after_seconds is not None:
        # The header has whole seconds only, and to come back too early would be refused again.
        headers = (*headers, (b"Retry-After", b"%d" % math.ceil(error.retry_after_seconds)))
    return Answer(status_code(error), headers, json_bytes(document))


def internal_error(*, is_write: bool) -> Answer:
    """Make the answer for a fault of our own: it says nothing of the fault, which is in the log."""
    document = {
        "error": {
            "code": "internal",
            "message": "an error of the server; its log has the details",
            # Nobody knows how far the request got before the fault.
            "outcome": "unknown" if is_write else "not_applied",
        }
    }
    return Answer(INTERNAL, JSON, json_bytes(document))
