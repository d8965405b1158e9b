"""``NativeClient``: the client for programs on Twisted over the RPC port, pipelined on one connection.

The client itself, and what it does with single keys; the other methods, and how values become commands and answers
values again, are in :mod:`raftkv.client.rpc`. Sending, repeating and ending is the pipeline's matter.
"""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable, Mapping
from random import Random, SystemRandom
from typing import Any, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.endpoints import HostnameEndpoint
from twisted.internet.interfaces import IStreamClientEndpoint
from twisted.python.failure import Failure

from raftkv.client.clock import steady_clock
from raftkv.client.link import Link, parse_rpc_addresses
from raftkv.client.model import Counter, FenceLike, LeaseLike
from raftkv.client.pipeline import Pipeline
from raftkv.client.results import (
    Consistency,
    Deleted,
    NotReached,
    Record,
    Written,
    check_consistency,
    key_bytes,
)
from raftkv.client.retry import RetryPolicy
from raftkv.client.route import Route
from raftkv.client.rpc import making, telling
from raftkv.client.rpc.asking import read_arguments
from raftkv.client.rpc.gathering import slices_of, slices_of_commands
from raftkv.client.rpc.leases import LeaseCalls
from raftkv.client.rpc.ranges import RangeCalls
from raftkv.client.rpc.telling import written
from raftkv.client.rpc.transactions import TransactionCalls
from raftkv.client.session import SESSION_WINDOW, Session
from raftkv.client.spelling import lease_number, positive
from raftkv.protocols.rpc_client import RpcConnection

T = TypeVar("T")


class NativeClient(TransactionCalls, RangeCalls, LeaseCalls):
    """A cluster of raftkv as one object, over its fast protocol. Every method returns a Deferred.

    Calls, results, errors, retries and exactly-once are those of :class:`raftkv.client.KVClient`, as far as keys,
    ranges, transactions and leases go. Watches, locks, elections, leases that are kept alive by themselves, and what
    tells of nodes and members are on that client only; a lock or an election of its can fence writes of this one.

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
        self,
        key: str | bytes,
        *,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
        revision: int | None = None,
    ) -> Deferred[str | None]:
        """Fire with the value as text, or ``None`` where there is no such key.

        :param max_stale: for ``consistency="stale"``: the answer holds everything that was written so many seconds ago.
        :param revision: as it was at this revision.

        A value that is not UTF-8 fails with :exc:`~raftkv.client.ValueNotText`; see :meth:`get_bytes`.
        """
        return self._get(key, consistency, max_stale, revision, lambda record: record.text)

    def get_bytes(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
        revision: int | None = None,
    ) -> Deferred[bytes | None]:
        """Fire with the value as it is stored, or ``None`` where there is no such key. See :meth:`get`."""
        return self._get(key, consistency, max_stale, revision, lambda record: record.value)

    def get_record(
        self,
        key: str | bytes,
        *,
        consistency: Consistency = "linearizable",
        max_stale: float | None = None,
        revision: int | None = None,
    ) -> Deferred[Record | None]:
        """Fire with the value and its revisions, or ``None`` where there is no such key. See :meth:`get`."""
        return self._get(key, consistency, max_stale, revision, lambda record: record)

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
        return self._gather(slices_of(encoded), consistency, telling.record, max_stale)

    def set(
        self,
        key: str | bytes,
        value: str | bytes,
        *,
        if_mod_revision: int | None = None,
        if_exists: bool = False,
        if_absent: bool = False,
        lease: LeaseLike | None = None,
        ttl: float | None = None,
        lock: FenceLike | None = None,
    ) -> Deferred[Written]:
        """Set a key; fires once a majority has it on disk. Applied once, however often it had to be sent.

        :param if_mod_revision: compare-and-set: only if the key's ``mod_revision`` is this one; 0: only if there is
            no such key.
        :param if_exists: only if there is such a key.
        :param if_absent: only if there is no such key.
        :param lease: the lease that the key is to end with, by its number or as an object that has it.
        :param ttl: seconds after which the key is to end, by a lease of its own.
        :param lock: a lock (or a leadership) without which the write is refused.
        :raises raftkv.errors.PreconditionFailed: (by the Deferred) the condition does not hold.
        :raises raftkv.errors.LeaseNotFound: (likewise) there is no such lease, or it has ended.
        :raises raftkv.errors.LockNotHeld: (likewise) the lock is not held, or by somebody else.
        """
        has_condition = if_mod_revision is not None or if_exists or if_absent
        try:
            if not has_condition and lease is None and ttl is None and lock is None:  # as nearly all are
                command = making.plain_put(key, value)
            else:
                expect = making.expectation(if_mod_revision, if_exists=if_exists, if_absent=if_absent)
                command = making.put(key, value, expect, lease=lease, ttl=ttl, lock=lock)
        except Exception:
            return fail(Failure())
        return self._one(command, None, written if ttl is None else telling.written_with_lease)

    def put_many(
        self,
        items: Mapping[str, str | bytes] | Iterable[tuple[str | bytes, str | bytes]],
        *,
        lease: LeaseLike | None = None,
    ) -> Deferred[list[Written]]:
        """Set many keys, for bulk loads; fires with the result of each, in order.

        Each is a write by itself: they are not applied as one, and where the Deferred fails, with the first error
        that there was, others may have been applied. The time-out of a call counts for each part that travels
        together, not for the whole. What is to be applied as one is a :meth:`transaction`.

        :param lease: the lease that all of the keys are to end with.
        """
        try:
            pairs = items.items() if isinstance(items, Mapping) else items
            number = None if lease is None else lease_number(lease)
            made = [making.put(key, value, lease=number) for key, value in pairs]
        except Exception:
            return fail(Failure())
        return self._gather(slices_of_commands(made), None, written)

    def delete(
        self,
        key: str | bytes,
        *,
        if_mod_revision: int | None = None,
        if_exists: bool = False,
        lock: FenceLike | None = None,
    ) -> Deferred[Deleted]:
        """Delete a key; fires once a majority has it on disk. A missing key is no error: ``deleted`` is then false.

        :param if_mod_revision: compare-and-delete: only if the key's ``mod_revision`` is this one.
        :param if_exists: only if there is such a key; a missing one is then an error.
        :param lock: a lock without which the delete is refused.
        :raises raftkv.errors.PreconditionFailed: (by the Deferred) the condition does not hold.
        """
        return self._write(lambda: making.delete(key, if_mod_revision, if_exists=if_exists, lock=lock), telling.deleted)

    def increment(self, key: str | bytes, by: int = 1, *, lock: FenceLike | None = None) -> Deferred[Counter]:
        """Add to the decimal number in a value; no key counts as 0.

        :param by: what to add, which may be negative.
        :param lock: a lock without which it is refused.
        :raises raftkv.errors.Conflict: (by the Deferred) the value is no number, or the sum would not fit into 64 bits.
        """
        return self._write(lambda: making.increment(key, by, lock), telling.counter)

    def close(self) -> Deferred[None]:
        """Give up what is pending, close the connection, leave no timer behind; fires once that is done.

        Calls that were never sent fail with :exc:`~raftkv.client.ClientClosed`, writes on their way with
        :exc:`raftkv.errors.OutcomeUnknown`. Closing twice is allowed.
        """
        self._pipeline.close()
        return self._pipeline.link.stop()

    def _get(
        self,
        key: str | bytes,
        consistency: Consistency,
        max_stale: float | None,
        revision: int | None,
        pick: Callable[[Record], T],
    ) -> Deferred[T | None]:
        try:
            check_consistency(consistency, max_stale)
            encoded = key_bytes(key)
        except Exception:
            return fail(Failure())

        def picked(record: Record | None) -> T | None:
            return None if record is None else pick(record)

        if revision is not None:
            return self._read(
                "record",
                lambda: {
                    "key": encoded,
                    "revision": positive("revision", revision),
                    **read_arguments(consistency, max_stale),
                },
                lambda answer: picked(telling.record_of_past(encoded, answer)),
            )

        def read(asked: Any, answer: Any, staleness: float | None) -> T | None:
            return picked(telling.record(asked, answer, staleness))

        return self._one(encoded, consistency, read, max_stale)


def _tcp_endpoint(reactor: Any, address: str, timeout_seconds: float) -> IStreamClientEndpoint:
    host, _, port = address.rpartition(":")
    return HostnameEndpoint(reactor, host.strip("[]"), int(port), timeout=timeout_seconds)
