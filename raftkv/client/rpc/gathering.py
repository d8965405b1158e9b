"""Calls of many items: cut into requests that travel beside each other, and put together again."""

from __future__ import annotations

from collections import deque
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from raftkv.client.pipeline import Pipeline
from raftkv.client.results import Consistency
from raftkv.client.rpc.request import Request
from raftkv.errors import RaftKVError, TooLarge
from raftkv.kvstore import commands
from raftkv.kvstore.checking import size_of
from raftkv.protocols.rpc_client import AgedRecords

_BATCH_ITEMS: Final = 256  # of one request of put_many or get_many: a quarter of the window, so that several overlap
_BATCHES_UNDER_WAY: Final = 8  # of one call; more than the window holds, so that it is always full
_BATCH_BYTES: Final = 512 * 1024  # of keys and values in one request of put_many
_READING: Final = frozenset({commands.GET, commands.RANGE})


class Gathering:
    """The requests of one call that was cut into several.

    Only some are handed to the pipeline at a time, and the time of each counts from then: a bulk load may take
    longer than a call may, as long as its parts do not.

    :ivar result: fires with all results, in order, or with the first error, after which nothing more is sent.
    """

    def __init__(
        self,
        slices: Sequence[tuple[Any, ...]],
        consistency: Consistency | None,
        read: Callable[[Any, Any, float | None], Any],
        max_stale: float | None,
        *,
        pipeline: Pipeline,
        now: Callable[[], float],
    ) -> None:
        self.result: Deferred[list[Any]] = Deferred(self._cancelled)
        self._waiting: deque[tuple[int, tuple[Any, ...]]] = deque()  # where in the result, and what
        total = 0
        for items in slices:
            self._waiting.append((total, items))
            total += len(items)
        self._consistency = consistency
        self._max_stale = max_stale
        self._read = read
        self._pipeline = pipeline
        self._now = now
        self._results: list[Any] = [None] * total
        self._missing = total
        self._under_way: set[Request] = set()
        self._is_over = False
        self._submit()

    def _submit(self) -> None:
        while self._waiting and not self._is_over and len(self._under_way) < _BATCHES_UNDER_WAY:
            self._submit_one(*self._waiting.popleft())

    def _submit_one(self, place: int, items: tuple[Any, ...]) -> None:
        request = Request(
            items,
            self._consistency,
            lambda answer: self._answered(request, place, answer),
            self._now(),
            self._max_stale,
        )
        self._under_way.add(request)
        self._pipeline.submit(request)

    def _answered(self, request: Request, place: int, answer: Any) -> None:
        self._under_way.discard(request)
        if self._is_over:
            return
        items = request.items
        if isinstance(answer, TooLarge) and self._consistency is not None and len(items) > 1:
            middle = len(items) // 2  # the values of so many keys are more than one answer holds
            self._waiting.extendleft(((place + middle, items[middle:]), (place, items[:middle])))
            self._submit()
            return
        if isinstance(answer, RaftKVError):
            self._fail(Failure(answer))
            return
        try:
            staleness = staleness_of(answer)
            self._results[place : place + len(items)] = [
                self._read(item, part, staleness) for item, part in zip(items, answer, strict=True)
            ]
        except Exception:
            self._fail(Failure())
            return
        self._missing -= len(items)
        if self._missing:
            self._submit()
            return
        self._is_over = True
        self.result.callback(self._results)

    def _fail(self, failure: Failure) -> None:
        self._stop()
        self.result.errback(failure)

    def _cancelled(self, _: Deferred[list[Any]]) -> None:
        self._stop()

    def _stop(self) -> None:
        self._is_over = True
        self._pipeline.forget(self._under_way)


def slices_of(items: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(items[start : start + _BATCH_ITEMS]) for start in range(0, len(items), _BATCH_ITEMS)]


def slices_of_commands(made: Sequence[commands.Command]) -> list[tuple[Any, ...]]:
    slices: list[tuple[Any, ...]] = []
    part: list[commands.Command] = []
    size_bytes = 0
    for command in made:
        added_bytes = len(command[2]) + len(command[3])
        if part and (len(part) == _BATCH_ITEMS or size_bytes + added_bytes > _BATCH_BYTES):
            slices.append(tuple(part))
            part, size_bytes = [], 0
        part.append(command)
        size_bytes += added_bytes
    if part:
        slices.append(tuple(part))
    return slices


def slices_of_transactions(made: Sequence[commands.Command]) -> list[tuple[Any, ...]]:
    """Cut a row of transactions so that a message can hold the answers: one that reads travels alone."""
    slices: list[tuple[Any, ...]] = []
    part: list[commands.Command] = []
    size_bytes = 0
    for command in made:
        added_bytes = size_of(command)
        is_alone = _reads(command)
        if part and (is_alone or len(part) == _BATCH_ITEMS or size_bytes + added_bytes > _BATCH_BYTES):
            slices.append(tuple(part))
            part, size_bytes = [], 0
        if is_alone:
            slices.append((command,))
            continue
        part.append(command)
        size_bytes += added_bytes
    if part:
        slices.append(tuple(part))
    return slices


def _reads(command: commands.Command) -> bool:
    if command[0] == commands.FENCED:
        return _reads(command[4])
    if command[0] == commands.TXN:
        return any(map(_reads, command[3])) or any(map(_reads, command[4]))
    return command[0] in _READING


def staleness_of(answer: Any) -> float | None:
    """Return how old the state may be that an answer is of, in seconds; ``None`` where it does not say."""
    return answer.staleness if isinstance(answer, AgedRecords) else None
