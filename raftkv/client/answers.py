"""What a server's HTTP answer means: the object in its body, or one of the typed errors of :mod:`raftkv.errors`.

Sans-I/O. An answer comes from outside: every field is checked before it is believed, and what does not look like
raftkv's API becomes :class:`~raftkv.client.results.UnexpectedAnswer`.
"""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any, Final

from raftkv.client.results import UnexpectedAnswer
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
    Outcome,
    OutcomeUnknown,
    Overloaded,
    PreconditionFailed,
    RaftKVError,
    Removed,
    RequestTimeout,
    SequenceReused,
    SequenceTooOld,
    StateBehind,
    TooLarge,
    UnsupportedMediaType,
)

_SHOWN_BYTES: Final = 200  # of an answer that makes no sense, in the message


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """An HTTP answer as any transport can give it.

    :ivar headers: by lower-case name; the last one where a header is repeated.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes


class Fields:
    """A JSON object of which each field is checked as it is read.

    :param answer: where it came from, for the error.
    :param found: the object, or whatever stands in its place.
    :param where: the path to it, for messages; empty for the whole body.
    """

    def __init__(self, answer: Answer, found: object, where: str = "") -> None:
        if not isinstance(found, dict):
            raise UnexpectedAnswer(answer.status, f"{where or 'the body'} is no JSON object: {_excerpt(answer.body)}")
        self._answer = answer
        self._where = where
        self.raw: Mapping[str, Any] = found

    def integer(self, name: str) -> int:
        """Return a whole number."""
        found = self.raw.get(name)
        if isinstance(found, int) and not isinstance(found, bool):
            return found
        raise self._wrong(name, "a whole number")

    def number(self, name: str) -> float:
        """Return a number."""
        found = self.raw.get(name)
        if isinstance(found, int | float) and not isinstance(found, bool):
            return float(found)
        raise self._wrong(name, "a number")

    def text(self, name: str) -> str:
        """Return a string."""
        found = self.raw.get(name)
        if isinstance(found, str):
            return found
        raise self._wrong(name, "a string")

    def boolean(self, name: str) -> bool:
        """Return true or false."""
        found = self.raw.get(name)
        if isinstance(found, bool):
            return found
        raise self._wrong(name, "true or false")

    def objects(self, name: str) -> list[Fields]:
        """Return a list of objects."""
        found = self.raw.get(name)
        if isinstance(found, list):
            return [Fields(self._answer, item, f"{name}[{index}]") for index, item in enumerate(found)]
        raise self._wrong(name, "a list")

    def object(self, name: str) -> Fields:
        """Return an object in this one."""
        return Fields(self._answer, self.raw.get(name), f"{self._where}.{name}" if self._where else name)

    def items(self, name: str) -> list[Callable[[], Fields] | None]:
        """Return a list of objects and nulls: for each object what reads it, for each null ``None``."""
        found = self.raw.get(name)
        if not isinstance(found, list):
            raise self._wrong(name, "a list")
        return [
            None if item is None else partial(Fields, self._answer, item, f"{name}[{index}]")
            for index, item in enumerate(found)
        ]

    def has(self, name: str) -> bool:
        """Tell whether there is such a field and it is not null."""
        return self.raw.get(name) is not None

    def wrong(self, name: str, expected: str) -> UnexpectedAnswer:
        """Make the error for a field that the caller could not read."""
        return self._wrong(name, expected)

    def _wrong(self, name: str, expected: str) -> UnexpectedAnswer:
        path = f"{self._where}.{name}" if self._where else name
        return UnexpectedAnswer(self._answer.status, f"{path}: found {self.raw.get(name)!r:.80}, expected {expected}")


def fields_of(answer: Answer) -> Fields:
    """Read the body as a JSON object.

    :raises UnexpectedAnswer: it is none.
    """
    try:
        found = json.loads(answer.body)
    except (ValueError, RecursionError):
        raise UnexpectedAnswer(answer.status, f"the body is no JSON: {_excerpt(answer.body)}") from None
    return Fields(answer, found)


def error_of(answer: Answer, *, is_write: bool, key: bytes = b"", lock: bytes = b"", lease: int = 0) -> RaftKVError:
    """Make the typed error that an answer stands for.

    :param key: of the request, for the errors that name it; likewise ``lock`` and ``lease``.
    :param is_write: a write whose outcome the answer does not tell is taken for ``unknown``.
    """
    try:
        body = fields_of(answer)
        error = Fields(answer, body.raw.get("error"), "error")
        code, message = error.text("code"), error.text("message")
        outcome = _outcome(error)
        make = _MAKERS.get(code)
        made = make(_Told(body, message, outcome, key, lock, lease)) if make else None
    except UnexpectedAnswer as unexpected:
        unexpected.outcome = "unknown" if is_write else "not_applied"
        made = unexpected
    else:
        if made is None:
            made = UnexpectedAnswer(answer.status, f"{code}: {message}", outcome)
        elif made.outcome != outcome:
            # The class says what a code usually means; the server said what it means this time.
            made.outcome = outcome
    retry_after = _retry_after(answer)
    if retry_after is not None:
        made.retry_after_seconds = retry_after
    return made


@dataclass(frozen=True, slots=True)
class _Told:
    """What an error in JSON says."""

    body: Fields
    message: str
    outcome: Outcome
    key: bytes
    lock: bytes
    lease: int


_MAKERS: Final[Mapping[str, Callable[[_Told], RaftKVError]]] = {
    BadRequest.code: lambda told: BadRequest(told.message),
    Forbidden.code: lambda told: Forbidden(told.message),
    KeyNotFound.code: lambda told: KeyNotFound(told.key),
    NotFound.code: lambda told: NotFound(told.message),
    MethodNotAllowed.code: lambda told: MethodNotAllowed(told.message, ()),
    Conflict.code: lambda told: Conflict(told.message),
    SequenceTooOld.code: lambda told: SequenceTooOld(told.message),
    SequenceReused.code: lambda told: SequenceReused(told.message),
    PreconditionFailed.code: lambda told: PreconditionFailed(told.body.integer("mod_revision")),
    FutureRevision.code: lambda told: FutureRevision(told.body.integer("revision")),
    LeaseNotFound.code: lambda told: LeaseNotFound(told.lease),
    LockHeld.code: lambda told: LockHeld(told.lock, told.body.integer("token")),
    LockNotHeld.code: lambda told: LockNotHeld(told.lock, told.body.integer("token")),
    AnswerNotKept.code: lambda told: AnswerNotKept(told.body.integer("revision")),
    TooLarge.code: lambda told: TooLarge(told.message),
    UnsupportedMediaType.code: lambda told: UnsupportedMediaType(told.message),
    Overloaded.code: lambda told: Overloaded(told.message),
    DiskFull.code: lambda told: DiskFull(told.message),
    Compacted.code: lambda told: Compacted(told.body.integer("compact_revision")),
    NoLeader.code: lambda told: NoLeader(told.message),
    Removed.code: lambda told: Removed(told.message),
    Fenced.code: lambda told: Fenced(told.message),
    DigestTie.code: lambda told: DigestTie(told.message),
    StateBehind.code: lambda told: StateBehind(told.message),
    OutcomeUnknown.code: lambda told: OutcomeUnknown(told.message),
    RequestTimeout.code: lambda told: RequestTimeout(told.message, told.outcome),
}


def _outcome(error: Fields) -> Outcome:
    found = error.raw.get("outcome")
    if found == "not_applied" or found == "unknown":
        return "unknown" if found == "unknown" else "not_applied"
    raise error.wrong("outcome", "not_applied or unknown")


def _retry_after(answer: Answer) -> float | None:
    """Read ``Retry-After`` in seconds; its other form, a date, is for wall clocks and taken for absent."""
    try:
        seconds = float(answer.headers.get("retry-after", ""))
    except ValueError:
        return None
    return seconds if math.isfinite(seconds) and seconds >= 0 else None


def _excerpt(body: bytes) -> str:
    shown = body[:_SHOWN_BYTES].decode("utf-8", "backslashreplace")
    return repr(shown) + ("..." if len(body) > _SHOWN_BYTES else "")
