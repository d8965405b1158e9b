"""Answers of the RPC port to values. What does not look like one becomes :exc:`~raftkv.client.UnexpectedAnswer`.

A result of the state machine is read by the command that it answers; that of a call by its names.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any, Final

from raftkv.client.model import (
    Counter,
    DeletedRange,
    GrantedLease,
    LeaseInfo,
    LeasePage,
    OperationResult,
    Page,
    RevokedLease,
    TransactionResult,
)
from raftkv.client.results import Deleted, Record, UnexpectedAnswer, Written
from raftkv.errors import AnswerNotKept, InvariantViolation, RaftKVError
from raftkv.kvstore import commands
from raftkv.kvstore.commands import Command, Operation
from raftkv.kvstore.refusals import refusal_of
from raftkv.reading.ranges import RangePosition, RangeRequest
from raftkv.reading.tokens import ContinueTokens

_RECORD: Final = (bytes, int, int, int, int)


# -- writes ------------------------------------------------------------------------------------------------------------


def written(command: Command, answer: Any, _: float | None) -> Written:
    """Read the answer to a put."""
    if type(answer) is tuple and len(answer) >= 2 and answer[0] == commands.OK and type(answer[1]) is int:
        return Written(revision=answer[1])
    raise refused(command, answer)


def written_with_lease(command: Command, answer: Any, _: float | None) -> Written:
    """Read the answer to a put with a time to live of its own."""
    _, revision, lease = _checked(command, answer, (int, int, int))
    return Written(revision=revision, lease=lease)


def deleted(command: Command, answer: Any, _: float | None) -> Deleted:
    """Read the answer to a delete."""
    if type(answer) is tuple and len(answer) >= 3 and answer[0] == commands.OK and type(answer[1]) is int:
        return Deleted(deleted=bool(answer[2]), revision=answer[1])
    raise refused(command, answer)


def deleted_range(command: Command, answer: Any, _: float | None) -> DeletedRange:
    """Read the answer to a delete of a range."""
    _, revision, count = _checked(command, answer, (int, int, int))
    return DeletedRange(deleted=count, revision=revision)


def counter(command: Command, answer: Any, _: float | None) -> Counter:
    """Read the answer to an increment."""
    _, revision, value = _checked(command, answer, (int, int, int))
    return Counter(value=value, revision=revision)


def compacted(command: Command, answer: Any, _: float | None) -> int:
    """Read the answer to a compaction."""
    revision: int = _checked(command, answer, (int, int))[1]
    return revision


def granted(command: Command, answer: Any, _: float | None) -> GrantedLease:
    """Read the answer to a grant."""
    return GrantedLease(id=_checked(command, answer, (int, int))[1], ttl=command[2] / 1000)


def kept_alive(command: Command, answer: Any, _: float | None) -> GrantedLease:
    """Read the answer to a keepalive."""
    return GrantedLease(id=command[2], ttl=_checked(command, answer, (int, int))[1] / 1000)


def revoked(command: Command, answer: Any, _: float | None) -> RevokedLease:
    """Read the answer to a revocation."""
    _, revision, count = _checked(command, answer, (int, int, int))
    return RevokedLease(deleted=count, revision=revision)


def refused(command: Command, answer: Any) -> RaftKVError:
    """Return the error that a result of the state machine stands for."""
    if type(answer) is tuple and answer and all(type(part) is int for part in answer):
        try:
            error = refusal_of(command, answer)
        except (InvariantViolation, IndexError):
            error = None  # of a status that is not known here, or with too little behind it: told below
        if error is not None:
            if isinstance(error, AnswerNotKept):
                error.outcome = "unknown"  # the repeat did nothing, but it was this client's own write that did
            return error
    return UnexpectedAnswer(0, f"a result that is none: {answer!r:.80}", "unknown")


def _checked(command: Command, answer: Any, types: tuple[type, ...]) -> tuple[Any, ...]:
    if type(answer) is tuple and tuple(map(type, answer)) == types and answer[0] == commands.OK:
        return answer
    raise refused(command, answer)


# -- transactions ------------------------------------------------------------------------------------------------------


class TransactionReader:
    """Reads the answers to transactions.

    :param cluster_id: returns the id of the cluster that answers, for the tokens of pages.
    """

    def __init__(self, cluster_id: Callable[[], str]) -> None:
        self._tokens = ContinueTokens(cluster_id)

    def read(self, command: Command, answer: Any, _: float | None) -> TransactionResult:
        """Read the answer to a transaction, which may be fenced."""
        _, revision, succeeded, results = _checked(command, answer, (int, int, bool, tuple))
        whole = command[4] if command[0] == commands.FENCED else command
        try:
            return self._outcome(whole, revision, succeeded, results)
        except UnexpectedAnswer as unexpected:
            unexpected.outcome = "unknown"  # it was carried out, and we cannot read what came of it
            raise

    def _outcome(self, whole: Operation, revision: int, succeeded: bool, results: Sequence[Any]) -> TransactionResult:
        ran = whole[3] if succeeded else whole[4]
        if len(results) != len(ran):
            raise UnexpectedAnswer(0, f"{len(results)} results of {len(ran)} operations")
        told = tuple(self._result(operation, result, revision) for operation, result in zip(ran, results, strict=True))
        return TransactionResult(succeeded=succeeded, revision=revision, results=told)

    def _result(self, operation: Operation, result: Any, revision: int) -> OperationResult:
        code = operation[0]
        if type(result) is not tuple or result[:1] != (code,) or tuple(map(type, result[1:])) not in _RESULTS[code]:
            raise UnexpectedAnswer(0, f"a result of an operation that is none: {result!r:.80}")
        if code == commands.GET:
            return record(operation[2], result[1], None)
        if code == commands.RANGE:
            return self._page(operation, result, revision)
        if code == commands.TXN:
            return self._outcome(operation, revision, result[1], result[2])
        if code == commands.DELETE_RANGE:
            return DeletedRange(deleted=result[1], revision=revision)
        if code == commands.DELETE:
            return Deleted(deleted=result[1], revision=revision)
        return Written(revision=revision)

    def _page(self, operation: Operation, result: tuple[Any, ...], revision: int) -> Page:
        _, _, start, end, _, flags, *of_past = operation
        _, items, count, place = result
        token = None
        if place is not None:
            request = RangeRequest(
                start=start,
                end=end,
                reverse=bool(flags & commands.REVERSE),
                keys_only=bool(flags & commands.KEYS_ONLY),
            )
            position = RangePosition(of_past[0] if of_past else revision, count, place)
            token = self._tokens.seal(request.identity(), position)
        return Page(records=records(items), count=count, revision=revision, next=token)


_NONE: Final = type(None)
_RESULTS: Final[dict[int, tuple[tuple[type, ...], ...]]] = {
    commands.PUT: ((),),
    commands.GET: ((tuple,), (_NONE,)),
    commands.DELETE: ((bool,),),
    commands.DELETE_RANGE: ((int,),),
    commands.RANGE: ((tuple, int, bytes), (tuple, int, _NONE)),
    commands.TXN: ((bool, tuple),),
}


# -- reads -------------------------------------------------------------------------------------------------------------


def record(key: bytes, found: Any, staleness: float | None) -> Record | None:
    """Read a record, ``None`` where there is no such key."""
    if found is None:
        return None
    if type(found) is not tuple or tuple(map(type, found)) != _RECORD:
        raise UnexpectedAnswer(0, f"a record that is none: {found!r:.80}")
    value, create_revision, mod_revision, version, lease = found
    return Record(
        key=key.decode(),
        value=value,
        create_revision=create_revision,
        mod_revision=mod_revision,
        version=version,
        lease=lease,
        staleness=staleness,
    )


def records(items: Sequence[Any]) -> tuple[Record, ...]:
    """Read keys with their records."""
    told: list[Record] = []
    for item in items:
        if type(item) is not tuple or len(item) != 2 or type(item[0]) is not bytes or item[1] is None:
            raise UnexpectedAnswer(0, f"a key with its record that is none: {item!r:.80}")
        found = record(item[0], item[1], None)
        assert found is not None  # for mypy: only of nothing is nothing made
        told.append(found)
    return tuple(told)


class Told:
    """The answer to a call: a map, of which each value is checked as it is read."""

    def __init__(self, found: Any) -> None:
        if type(found) is not dict:
            raise UnexpectedAnswer(0, f"an answer that is no map: {found!r:.80}")
        self._found = found

    def integer(self, name: str) -> int:
        """Return a whole number."""
        number: int = self._of_type(name, int)
        return number

    def integer_or_none(self, name: str) -> int | None:
        """Return a whole number, or ``None`` where there is none."""
        return None if self._found.get(name) is None else self.integer(name)

    def array(self, name: str) -> tuple[Any, ...]:
        """Return an array."""
        items: tuple[Any, ...] = self._of_type(name, tuple)
        return items

    def texts(self, name: str) -> tuple[str, ...]:
        """Return an array of bytes as texts."""
        items = self.array(name)
        if not all(type(item) is bytes for item in items):
            raise self._wrong(name)
        return tuple(item.decode("utf-8", "replace") for item in items)

    def token(self) -> str | None:
        """Return what says where to go on, ``None`` where this is the end."""
        token: str | None = None if self._found.get("continue") is None else self._of_type("continue", str)
        return token

    def raw(self, name: str) -> Any:
        """Return a value of any type, ``None`` where there is none."""
        return self._found.get(name)

    def _of_type(self, name: str, expected: type) -> Any:
        found = self._found.get(name)
        if type(found) is not expected:
            raise self._wrong(name)
        return found

    def _wrong(self, name: str) -> UnexpectedAnswer:
        return UnexpectedAnswer(0, f"{name}: found {self._found.get(name)!r:.80}, which it cannot be")


def record_of_past(key: bytes, answer: Any) -> Record | None:
    """Read the answer to ``record``."""
    told = Told(answer)
    age_ms = told.integer_or_none("staleness_ms")
    return record(key, told.raw("record"), None if age_ms is None else age_ms / 1000)


def page(answer: Any) -> Page:
    """Read the answer to ``range``."""
    told = Told(answer)
    return Page(
        records=records(told.array("items")),
        folders=told.texts("folders"),
        count=told.integer("count"),
        revision=told.integer("revision"),
        next=told.token(),
    )


def count(answer: Any) -> int:
    """Read the answer to ``range``, where only the number was asked for."""
    return Told(answer).integer("count")


def lease_info(number: int, answer: Any) -> LeaseInfo:
    """Read the answer to ``lease``."""
    told = Told(answer)
    ttl, remaining = told.integer("ttl_ms") / 1000, told.integer("remaining_ms") / 1000
    return LeaseInfo(id=number, ttl=ttl, remaining=remaining, count=told.integer("count"), keys=told.texts("keys"))


def lease_page(answer: Any) -> LeasePage:
    """Read the answer to ``leases``."""
    told = Told(answer)
    leases: list[LeaseInfo] = []
    for each in told.array("leases"):
        if type(each) is not tuple or tuple(map(type, each)) != (int, int, int, int):
            raise UnexpectedAnswer(0, f"a lease that is none: {each!r:.80}")
        number, ttl_ms, remaining_ms, held = each
        leases.append(LeaseInfo(id=number, ttl=ttl_ms / 1000, remaining=remaining_ms / 1000, count=held))
    return LeasePage(leases=tuple(leases), count=told.integer("count"), next=told.token())
