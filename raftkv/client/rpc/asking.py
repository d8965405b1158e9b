"""What the native client's methods are built on: a write in the session, a write that needs none, a read by a call.

Each submits one request to the pipeline and makes a Deferred of its end.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.python.failure import Failure

from raftkv.client.pipeline import Pipeline
from raftkv.client.results import Consistency, check_consistency
from raftkv.client.rpc.gathering import Gathering, staleness_of
from raftkv.client.rpc.request import Errand, Request
from raftkv.errors import NotFound, RaftKVError
from raftkv.kvstore.commands import Command
from raftkv.protocols.rpc_client import Done, RpcConnection
from raftkv.protocols.rpc_frames import CONSISTENCY_NUMBERS

T = TypeVar("T")
Read = Callable[[Any, Any, float | None], T]  #: makes a result of what was asked, the answer, and how old it may be


class Asking:
    """A client, as its methods see it."""

    _pipeline: Pipeline
    _now: Callable[[], float]

    def _one(
        self,
        item: Any,
        consistency: Consistency | None,
        read: Read[T],
        max_stale: float | None = None,
    ) -> Deferred[T]:
        """Submit one command or key.

        :param read: makes the result from the item, its part of the answer, and how old the state was that it is of.
        """
        pipeline = self._pipeline

        def done(answer: Any) -> None:
            if isinstance(answer, RaftKVError):
                result.errback(answer)
                return
            try:
                value = read(item, answer[0], None if type(answer) is tuple else staleness_of(answer))
            except Exception:  # told to whoever called, and to nobody else
                result.errback(Failure())
            else:
                result.callback(value)

        request = Request((item,), consistency, done, self._now(), max_stale)
        result: Deferred[T] = Deferred(lambda _: pipeline.forget([request]))
        pipeline.submit(request)
        return result

    def _write(self, make: Callable[[], Command], read: Read[T]) -> Deferred[T]:
        """Have a command carried out once.

        :param make: makes it; what it raises fails the Deferred.
        """
        try:
            command = make()
        except Exception:
            return fail(Failure())
        return self._one(command, None, read)

    def _rewrite(self, make: Callable[[], Command], read: Read[T]) -> Deferred[T]:
        """Have a command carried out that does no harm if it is carried out twice, without a number.

        :param make: as for :meth:`_write`.
        """
        try:
            command = make()
        except Exception:
            return fail(Failure())

        def send(connection: RpcConnection, answered: Done) -> None:
            connection.write((command,), answered)

        return self._run(send, lambda answer: read(command, answer[0], None), what="write", is_write=True)

    def _read(self, name: str, make: Callable[[], Mapping[str, Any]], read: Callable[[Any], T]) -> Deferred[T]:
        """Have a call answered that reads.

        :param make: makes its arguments, as for :meth:`_write`; those that are ``None`` or ``False`` are left out.
        """
        try:
            arguments = {key: value for key, value in make().items() if value is not None and value is not False}
        except Exception:
            return fail(Failure())

        def send(connection: RpcConnection, answered: Done) -> None:
            connection.call(name, arguments, answered, changes=False)

        return self._run(send, read, what=name, is_write=False)

    def _run(
        self,
        send: Callable[[RpcConnection, Done], None],
        read: Callable[[Any], T],
        *,
        what: str,
        is_write: bool,
    ) -> Deferred[T]:
        pipeline = self._pipeline

        def done(answer: Any) -> None:
            if type(answer) is NotFound:
                result.errback(_too_old(what, answer))
                return
            if isinstance(answer, RaftKVError):
                result.errback(answer)
                return
            try:
                value = read(answer)
            except Exception:  # told to whoever called, and to nobody else
                result.errback(Failure())
            else:
                result.callback(value)

        errand = Errand(send, what=what, is_write=is_write, done=done, started=self._now())
        result: Deferred[T] = Deferred(lambda _: pipeline.forget([errand]))
        pipeline.submit(errand)
        return result

    def _gather(
        self,
        slices: Sequence[tuple[Any, ...]],
        consistency: Consistency | None,
        read: Read[T],
        max_stale: float | None = None,
    ) -> Deferred[list[T]]:
        """Submit several requests whose answers make one result."""
        if not slices:
            return succeed([])
        return Gathering(slices, consistency, read, max_stale, pipeline=self._pipeline, now=self._now).result


def read_arguments(consistency: Consistency, max_stale: float | None) -> dict[str, int | None]:
    """Return the arguments that all reads by a call have.

    :raises BadRequest: they make no sense.
    """
    check_consistency(consistency, max_stale)
    return {
        "consistency": CONSISTENCY_NUMBERS[consistency] or None,
        # Rounded down: no answer may be older than was asked for.
        "max_stale_ms": None if max_stale is None else int(max_stale * 1000),
    }


def _too_old(what: str, answer: NotFound) -> NotFound:
    error = NotFound(
        f"{what}: the node does not know this read over its RPC port, since it is of an older version; upgrade it, or "
        f"use KVClient ({answer})"
    )
    error.__cause__ = answer
    return error
