"""``NativeClient``: the client for programs on Twisted over the RPC port, pipelined on one connection.

Turns keys and values into commands and answers into results; sending, repeating and ending is the pipeline's matter.
A Deferred is made for each call of the user's, and nowhere inside.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping, Sequence
from random import Random, SystemRandom
from typing import Any, Final, TypeVar

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from raftkv.client.clock import steady_clock
from raftkv.client.link import Link, parse_rpc_address
from raftkv.client.pipeline import Pipeline, Request
from raftkv.client.results import (
    Consistency,
    Deleted,
    NotReached,
    Record,
    UnexpectedAnswer,
    Written,
    check_consistency,
    key_bytes,
    value_bytes,
)
from raftkv.client.retry import RetryPolicy
from raftkv.client.route import Route
from raftkv.client.session import SESSION_WINDOW, Session
from raftkv.errors import BadRequest, PreconditionFailed, RaftKVError, SequenceReused, SequenceTooOld
from raftkv.kvstore import commands
from raftkv.protocols.rpc_client import AgedRecords, RpcConnection

T = TypeVar("T")

_BATCH_ITEMS: Final = 256  # of one request of put_many or get_many: a quarter of the window, so that several overlap
_BATCHES_UNDER_WAY: Final = 8  # of one call; more than the window holds, so that it is always full
_BATCH_BYTES: Final = 512 * 1024  # of keys and values in one request of put_many


class NativeClient:
    """A cluster of raftkv as one object, over its fast protocol. Every method returns a Deferred.

    Results, errors, retries and exactly-once are those of :class:`raftkv.client.KVClient`.

    :param addresses: the nodes' ``rpcAddr``: one such as ``"localhost:8081"``, several with commas between them, or
        several strings or a list.
    :param reactor: the reactor; ``None`` is the one and only.
    :param timeout: seconds that a call may take with everything it needs, at most 600.
    :param attempt_timeout: seconds after which an attempt is given up for another one.
    :param connect_timeout: seconds that a node may take to accept a connection and to say hello.
    :param max_outstanding: commands and keys on their way at once; the others wait for their turn, within ``timeout``.
    :param follow_leader: whether nodes may send the client to a leader whose address was not given.
    :param connect: makes an endpoint for a ``host:port``; ``None`` is TCP.
    :param random: for the back-off.
    :param entropy: gives random bytes for the id under which the writes of this client are told from others'.
    :raises ValueError: an address or a number that makes no sense, named.
    """

    def __init__(
        self,
        addresses: str | Iterable[str],
        *more_addresses: str,
        reactor: Any = None,
        timeout: float = 10.0,
        attempt_timeout: float = 3.0,
        connect_timeout: float = 1.0,
        max_outstanding: int = SESSION_WINDOW,
        follow_leader: bool = True,
        connect: Callable[[str], IStreamClientEndpoint] | None = None,
        random: Random | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if max_outstanding < 1:
            raise ValueError(f"max_outstanding: found {max_outstanding!r}, expected at least 1")
        if reactor is None:
            from twisted.internet import reactor
        first = [addresses] if isinstance(addresses, str) else addresses
        route = Route(parse_rpc_addresses([*first, *more_addresses]), follow_leader=follow_leader)
        policy = RetryPolicy(timeout_seconds=timeout, attempt_timeout_seconds=attempt_timeout)
        drawn = SystemRandom() if random is None else random
        dial = connect or (lambda address: _tcp_endpoint(reactor, address, connect_timeout))
        self._now = now = steady_clock(reactor)

        def make_link(ready: Callable[[RpcConnection], None], unreachable: Callable[[NotReached], None]) -> Link:
            return Link(
                route=route,
                policy=policy,
                connect=dial,
                connect_timeout_seconds=connect_timeout,
                reactor=reactor,
                now=now,
                random=drawn,
                ready=ready,
                unreachable=unreachable,
            )

        self._pipeline = Pipeline(
            route=route,
            session=Session(entropy=entropy),
            policy=policy,
            random=drawn,
            reactor=reactor,
            now=now,
            max_outstanding=max_outstanding,
            make_link=make_link,
        )

    def get(
        self, key: str | bytes, *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[str | None]:
        """Fire with the value as text, or ``None`` where there is no such key.

        :param max_stale: for ``consistency="stale"``: the answer holds everything that was written so many seconds ago.

        A value that is not UTF-8 fails with :exc:`~raftkv.client.ValueNotText`; see :meth:`get_bytes`.
        """
        return self._get(key, consistency, max_stale, lambda record: record.text)

    def get_bytes(
        self, key: str | bytes, *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[bytes | None]:
        """Fire with the value as it is stored, or ``None`` where there is no such key."""
        return self._get(key, consistency, max_stale, lambda record: record.value)

    def get_record(
        self, key: str | bytes, *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[Record | None]:
        """Fire with the value and its revisions, or ``None`` where there is no such key."""
        return self._get(key, consistency, max_stale, lambda record: record)

    def get_many(
        self, keys: Iterable[str | bytes], *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[list[Record | None]]:
        """Fire with a record for each key, in order, ``None`` for those that do not exist.

        Each is as consistent as a read by itself; they are not read at one moment.
        """
        try:
            check_consistency(consistency, max_stale)
            encoded = [key_bytes(key) for key in keys]
        except Exception:
            return fail(Failure())
        return self._gather(_slices(encoded), consistency, _record_or_none, max_stale)

    def set(
        self, key: str | bytes, value: str | bytes, *, if_mod_revision: int | None = None, if_exists: bool = False
    ) -> Deferred[Written]:
        """Set a key; fires once a majority has it on disk. Applied once, however often it had to be sent.

        :param if_mod_revision: compare-and-set: only if the key's ``mod_revision`` is this one; 0: only if there is
            no such key.
        :param if_exists: only if there is such a key.
        :raises raftkv.errors.PreconditionFailed: (by the Deferred) the condition does not hold.
        """
        try:
            expect = _expectation(if_mod_revision, if_exists=if_exists)
            command = commands.put(key_bytes(key), value_bytes(value), expect)
        except Exception:
            return fail(Failure())
        return self._one(command, None, _written)

    def put_many(
        self, items: Mapping[str, str | bytes] | Iterable[tuple[str | bytes, str | bytes]]
    ) -> Deferred[list[Written]]:
        """Set many keys, for bulk loads; fires with the result of each, in order.

        Each is a write by itself: they are not applied as one, and where the Deferred fails, with the first error
        that there was, others may have been applied. The time-out of a call counts for each part that travels
        together, not for the whole.
        """
        try:
            pairs = items.items() if isinstance(items, Mapping) else items
            made = [commands.put(key_bytes(key), value_bytes(value)) for key, value in pairs]
        except Exception:
            return fail(Failure())
        return self._gather(_slices_of_commands(made), None, _written)

    def delete(
        self, key: str | bytes, *, if_mod_revision: int | None = None, if_exists: bool = False
    ) -> Deferred[Deleted]:
        """Delete a key; fires once a majority has it on disk. A missing key is no error: ``deleted`` is then false.

        :param if_mod_revision: compare-and-delete: only if the key's ``mod_revision`` is this one.
        :param if_exists: only if there is such a key; a missing one is then an error.
        :raises raftkv.errors.PreconditionFailed: (by the Deferred) the condition does not hold.
        """
        try:
            if if_mod_revision == 0:
                raise BadRequest("if_mod_revision: found 0, which stands for a missing key; nothing to delete then")
            command = commands.delete(key_bytes(key), _expectation(if_mod_revision, if_exists=if_exists))
        except Exception:
            return fail(Failure())
        return self._one(command, None, _deleted)

    def close(self) -> Deferred[None]:
        """Give up what is pending, close the connection, leave no timer behind; fires once that is done.

        Calls that were never sent fail with :exc:`~raftkv.client.ClientClosed`, writes on their way with
        :exc:`raftkv.errors.OutcomeUnknown`. Closing twice is allowed.
        """
        self._pipeline.close()
        return self._pipeline.link.stop()

    def _get(
        self, key: str | bytes, consistency: Consistency, max_stale: float | None, pick: Callable[[Record], T]
    ) -> Deferred[T | None]:
        try:
            check_consistency(consistency, max_stale)
            encoded = key_bytes(key)
        except Exception:
            return fail(Failure())

        def read(asked: Any, answer: Any, staleness: float | None) -> T | None:
            record = _record_or_none(asked, answer, staleness)
            return None if record is None else pick(record)

        return self._one(encoded, consistency, read, max_stale)

    def _one(
        self,
        item: Any,
        consistency: Consistency | None,
        read: Callable[[Any, Any, float | None], T],
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
                value = read(item, answer[0], _staleness_of(answer))
            except Exception:
                result.errback(Failure())
            else:
                result.callback(value)

        request = Request((item,), consistency=consistency, done=done, started=self._now(), max_stale=max_stale)
        result: Deferred[T] = Deferred(lambda _: pipeline.forget([request]))
        pipeline.submit(request)
        return result

    def _gather(
        self,
        slices: Sequence[tuple[Any, ...]],
        consistency: Consistency | None,
        read: Callable[[Any, Any, float | None], T],
        max_stale: float | None = None,
    ) -> Deferred[list[T]]:
        """Submit several requests whose answers make one result."""
        if not slices:
            return succeed([])
        return _Gathering(slices, consistency, read, max_stale, pipeline=self._pipeline, now=self._now).result


class _Gathering:
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
        self._slices = slices
        self._consistency = consistency
        self._max_stale = max_stale
        self._read = read
        self._pipeline = pipeline
        self._now = now
        self._results: list[list[Any]] = [[] for _ in slices]
        self._next = 0
        self._missing = len(slices)
        self._under_way: set[Request] = set()
        self._is_over = False
        for _ in range(min(_BATCHES_UNDER_WAY, len(slices))):
            self._submit()

    def _submit(self) -> None:
        if self._is_over or self._next == len(self._slices):
            return
        number = self._next
        self._next += 1
        request = Request(
            self._slices[number],
            consistency=self._consistency,
            max_stale=self._max_stale,
            done=lambda answer: self._answered(request, number, answer),
            started=self._now(),
        )
        self._under_way.add(request)
        self._pipeline.submit(request)

    def _answered(self, request: Request, number: int, answer: Any) -> None:
        self._under_way.discard(request)
        if self._is_over:
            return
        if isinstance(answer, RaftKVError):
            self._fail(Failure(answer))
            return
        try:
            staleness = _staleness_of(answer)
            self._results[number] = [
                self._read(item, part, staleness) for item, part in zip(request.items, answer, strict=True)
            ]
        except Exception:
            self._fail(Failure())
            return
        self._missing -= 1
        if self._missing:
            self._submit()
            return
        self._is_over = True
        self.result.callback([result for part in self._results for result in part])

    def _fail(self, failure: Failure) -> None:
        self._stop()
        self.result.errback(failure)

    def _cancelled(self, _: Deferred[list[Any]]) -> None:
        self._stop()

    def _stop(self) -> None:
        self._is_over = True
        self._pipeline.forget(self._under_way)


def parse_rpc_addresses(addresses: Iterable[str]) -> tuple[str, ...]:
    """Read the ``rpcAddr`` of several nodes.

    :raises ValueError: one is none, named.
    """
    parsed: list[str] = []
    for text in addresses:
        if not isinstance(text, str):
            raise ValueError(f"address {text!r}: expected a string such as 'localhost:8081'")
        parsed.extend(parse_rpc_address(part) for part in text.split(",") if part.strip())
    if not parsed:
        raise ValueError("no address given; expected something like 'localhost:8081'")
    return tuple(parsed)


def _tcp_endpoint(reactor: Any, address: str, timeout_seconds: float) -> IStreamClientEndpoint:
    host, _, port = address.rpartition(":")
    return HostnameEndpoint(reactor, host.strip("[]"), int(port), timeout=timeout_seconds)


def _expectation(if_mod_revision: int | None, *, if_exists: bool) -> int:
    """Return a condition as commands have it.

    :raises BadRequest: a revision below 0, or two conditions at once.
    """
    if if_mod_revision is None:
        return commands.EXISTS if if_exists else commands.ANY
    if isinstance(if_mod_revision, bool) or not isinstance(if_mod_revision, int) or if_mod_revision < 0:
        raise BadRequest(f"if_mod_revision: found {if_mod_revision!r}, expected a whole number that is not negative")
    if if_exists:
        raise BadRequest("if_exists: give either if_exists or if_mod_revision, not both")
    return if_mod_revision


def _slices(items: Sequence[Any]) -> list[tuple[Any, ...]]:
    return [tuple(items[start : start + _BATCH_ITEMS]) for start in range(0, len(items), _BATCH_ITEMS)]


def _slices_of_commands(made: Sequence[commands.Command]) -> list[tuple[Any, ...]]:
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


# -- answers -----------------------------------------------------------------------------------------------------


def _staleness_of(answer: Any) -> float | None:
    return answer.staleness if isinstance(answer, AgedRecords) else None


def _record_or_none(key: bytes, found: Any, staleness: float | None) -> Record | None:
    if found is None:
        return None
    if type(found) is not tuple or tuple(map(type, found)) != (bytes, int, int, int, int):
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


def _written(_: Any, answer: Any, __: float | None) -> Written:
    if type(answer) is tuple and len(answer) >= 2 and answer[0] == commands.OK and type(answer[1]) is int:
        return Written(revision=answer[1])
    raise _refusal_of(answer)


def _deleted(_: Any, answer: Any, __: float | None) -> Deleted:
    if type(answer) is tuple and len(answer) >= 3 and answer[0] == commands.OK and type(answer[1]) is int:
        return Deleted(deleted=bool(answer[2]), revision=answer[1])
    raise _refusal_of(answer)


def _refusal_of(answer: Any) -> RaftKVError:
    """Make the error that a result of the state machine stands for."""
    status = answer[0] if type(answer) is tuple and answer else None
    if status == commands.PRECONDITION_FAILED and len(answer) == 2 and type(answer[1]) is int:
        return PreconditionFailed(answer[1])
    if status == commands.SEQUENCE_TOO_OLD:
        return SequenceTooOld()
    if status == commands.SEQUENCE_REUSED:
        return SequenceReused()
    return UnexpectedAnswer(0, f"a result that is none: {answer!r:.80}", "unknown")
