"""Blocking calls on a worker, one after the other, each with a Deferred of its own."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from raftkv.errors import ShuttingDown
from raftkv.interfaces import IBatchWorker

T = TypeVar("T")


class _Call(Generic[T]):
    """One call: what to do, who waits, and what became of it."""

    __slots__ = ("done", "failure", "function", "result")

    def __init__(self, function: Callable[[], T]) -> None:
        self.function = function
        self.done: Deferred[T] = Deferred()
        self.failure: Failure | None = None
        self.result: T | None = None

    def run(self) -> None:
        try:
            self.result = self.function()
        except Exception:  # it belongs to whoever waits for this call, not to the worker
            self.failure = Failure()

    def report(self) -> None:
        if self.failure is not None:
            self.done.errback(self.failure)
        else:
            self.done.callback(self.result)  # type: ignore[arg-type]  # set by run(), None only if that is the result


class BlockingCalls:
    """Runs functions away from the reactor, in the order in which they were handed in.

    :param worker: used by nobody else.
    """

    def __init__(self, worker: IBatchWorker) -> None:
        self._worker = worker
        self._is_stopping = False

    def start(self) -> None:
        """Begin to take calls."""
        self._is_stopping = False
        self._worker.start(_process, _report)

    def run(self, function: Callable[[], T]) -> Deferred[T]:
        """Run a function away from the reactor; fires in the reactor with its result or error.

        Once :meth:`stop` was called it fails with :exc:`raftkv.errors.ShuttingDown`: a connection may still bring
        something to do.
        """
        if self._is_stopping:
            return fail(ShuttingDown())
        call = _Call(function)
        self._worker.submit(call)
        return call.done

    def stop(self) -> Deferred[None]:
        """Take no more; fire once every call has been run and reported."""
        self._is_stopping = True
        return self._worker.stop()


def _process(calls: list[Any]) -> None:
    for call in calls:
        call.run()


def _report(calls: list[Any], error: BaseException | None) -> None:
    for call in calls:
        if error is not None and call.failure is None:
            call.failure = Failure(error)
        call.report()
