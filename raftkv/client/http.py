"""``KVClient``: the client for programs on Twisted, over HTTP with treq.

Sends, waits and hands over; what to send, when to try again and what an answer means is decided in
:mod:`raftkv.client.core`.
"""

from __future__ import annotations

import os
from collections import deque
from collections.abc import Callable, Iterable, Mapping
from random import Random, SystemRandom
from typing import Any, Generic, TypeVar

from twisted.internet.defer import Deferred, fail
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.python.failure import Failure

from raftkv.client import operations
from raftkv.client.answers import Answer
from raftkv.client.clock import steady_clock
from raftkv.client.core import Core, Finished, HTTPCall
from raftkv.client.operations import Operation
from raftkv.client.results import ClientClosed, Cluster, Consistency, Deleted, Record, Status, Written
from raftkv.client.retry import Again, GiveUp, RetryPolicy
from raftkv.client.transport import ExchangeFailed, HTTPTransport, Requester

T = TypeVar("T")


class KVClient:
    """A cluster of raftkv as one object. Every method returns a :class:`~twisted.internet.defer.Deferred`.

    Calls fail with a :class:`raftkv.errors.RaftKVError`, whose ``outcome`` tells whether a write may have taken
    effect. Cancelling a call's Deferred closes the connection that carries it; a write that was on its way may have
    taken effect.

    :param addresses: the nodes' URLs: one such as ``"http://localhost:8080"``, several with commas between them, or
        several strings or a list.
    :param reactor: the reactor; ``None`` is the one and only.
    :param timeout: seconds that a call may take with everything it needs, at most 600.
    :param attempt_timeout: seconds after which an attempt is given up for another one.
    :param connect_timeout: seconds that a node may take to accept a connection.
    :param max_connections: calls on their way at once; the others wait for their turn, within ``timeout``.
    :param follow_leader: whether nodes may send the client to a leader whose address was not given.
    :param treq_client: a treq client to send with (:class:`treq.testing.StubTreq` in tests).
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
        max_connections: int = 64,
        follow_leader: bool = True,
        treq_client: Requester | None = None,
        random: Random | None = None,
        entropy: Callable[[int], bytes] = os.urandom,
    ) -> None:
        if max_connections < 1:
            raise ValueError(f"max_connections: found {max_connections!r}, expected at least 1")
        first = [addresses] if isinstance(addresses, str) else addresses
        self._core = Core(
            [*first, *more_addresses],
            policy=RetryPolicy(timeout_seconds=timeout, attempt_timeout_seconds=attempt_timeout),
            follow_leader=follow_leader,
            random=SystemRandom() if random is None else random,
            entropy=entropy,
        )
        if reactor is None:
            from twisted.internet import reactor
        self._reactor = reactor
        self._now = steady_clock(reactor)
        self._transport = HTTPTransport(
            reactor,
            requester=treq_client,
            max_connections=max_connections,
            connect_timeout_seconds=connect_timeout,
        )
        self._max_running = max_connections
        self._running: dict[_Running[Any], None] = {}
        self._waiting: deque[_Running[Any]] = deque()
        self._waiting_for_number: deque[_Running[Any]] = deque()
        self._closed = False

    def get(
        self, key: str | bytes, *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[str | None]:
        """Fire with the value as text, or ``None`` where there is no such key.

        A value that is not UTF-8 fails with :exc:`~raftkv.client.ValueNotText` rather than turn up as another type;
        :meth:`get_bytes` reads any value.

        :param consistency: ``"linearizable"``, ``"lease"``, or ``"stale"`` for what the asked node has at hand.
        :param max_stale: for ``"stale"``: the answer holds everything that was written so many seconds ago.
        """
        return self._optional(lambda: operations.get_text(key, consistency, max_stale))

    def get_bytes(
        self, key: str | bytes, *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[bytes | None]:
        """Fire with the value as it is stored, or ``None`` where there is no such key."""
        return self._optional(lambda: operations.get_bytes(key, consistency, max_stale))

    def get_record(
        self, key: str | bytes, *, consistency: Consistency = "linearizable", max_stale: float | None = None
    ) -> Deferred[Record | None]:
        """Fire with the value and its revisions, or ``None`` where there is no such key."""
        return self._optional(lambda: operations.get_record(key, consistency, max_stale))

    def set(
        self, key: str | bytes, value: str | bytes, *, if_mod_revision: int | None = None, if_exists: bool = False
    ) -> Deferred[Written]:
        """Set a key; fires once a majority has it on disk. Applied once, however often it had to be sent.

        :param if_mod_revision: compare-and-set: only if the key's ``mod_revision`` is this one; 0: only if there is
            no such key.
        :param if_exists: only if there is such a key.
        :raises raftkv.errors.PreconditionFailed: (by the Deferred) the condition does not hold.
        """
        return self._required(
            lambda: operations.set_value(key, value, if_mod_revision=if_mod_revision, if_exists=if_exists)
        )

    def delete(
        self, key: str | bytes, *, if_mod_revision: int | None = None, if_exists: bool = False
    ) -> Deferred[Deleted]:
        """Delete a key; fires once a majority has it on disk. A missing key is no error: ``deleted`` is then false.

        :param if_mod_revision: compare-and-delete: only if the key's ``mod_revision`` is this one.
        :param if_exists: only if there is such a key; a missing one is then an error.
        :raises raftkv.errors.PreconditionFailed: (by the Deferred) the condition does not hold.
        """
        return self._required(lambda: operations.delete_key(key, if_mod_revision=if_mod_revision, if_exists=if_exists))

    def status(self) -> Deferred[Status]:
        """Fire with what one node (the one that the client uses at present) says of itself."""
        return self._required(operations.status)

    def cluster(self) -> Deferred[Cluster]:
        """Fire with the members of the cluster and how they are."""
        return self._required(operations.cluster)

    def change_members(self, document: Mapping[str, Any]) -> Deferred[Cluster]:
        """Fire with the members once a change of them is committed.

        :param document: the body of ``POST /v1/cluster/members``.
        """
        return self._required(lambda: operations.change_members(document))

    def transfer_leadership(self, to: str | None = None) -> Deferred[str]:
        """Fire with who leads, once leadership has been handed over.

        :param to: the member that is to lead; ``None`` leaves the choice to the leader.
        """
        return self._required(lambda: operations.transfer_leadership(to))

    def close(self) -> Deferred[None]:
        """Give up what is pending, close the connections, leave no timer behind; fires once that is done.

        Calls that were never sent fail with :exc:`~raftkv.client.ClientClosed`, writes on their way with
        :exc:`raftkv.errors.OutcomeUnknown`. Closing twice is allowed.
        """
        self._closed = True
        for running in [*self._running, *self._waiting, *self._waiting_for_number]:
            running.abandon()
        return self._transport.close()

    def _required(self, make: Callable[[], Operation[T]]) -> Deferred[T]:
        return self._begin(make, none_if_missing=False)

    def _optional(self, make: Callable[[], Operation[T]]) -> Deferred[T | None]:
        return self._begin(make, none_if_missing=True)

    def _begin(self, make: Callable[[], Operation[Any]], *, none_if_missing: bool) -> Deferred[Any]:
        if self._closed:
            return fail(ClientClosed())
        try:
            operation = make()
        except Exception:
            return fail(Failure())
        call = self._core.call(operation, none_if_missing=none_if_missing, now=self._now())
        running: _Running[Any] = _Running(
            call, reactor=self._reactor, now=self._now, transport=self._transport, over=self._over
        )
        self._waiting.append(running)
        self._admit()
        return running.result

    def _over(self, running: _Running[Any]) -> None:
        self._running.pop(running, None)
        self._admit()

    def _admit(self) -> None:
        """Start what may start, in the order of arrival; a write that must wait for a number holds up no read."""
        while len(self._running) < self._max_running and not self._closed:
            running = self._next()
            if running is None:
                return
            self._running[running] = None
            running.start()

    def _next(self) -> _Running[Any] | None:
        while self._waiting_for_number:
            first = self._waiting_for_number[0]
            if not first.is_over and not first.call.admit():
                break
            self._waiting_for_number.popleft()
            if not first.is_over:
                return first
        while self._waiting:
            running = self._waiting.popleft()
            if running.is_over:
                continue
            if running.call.admit():
                return running
            self._waiting_for_number.append(running)
        return None


class _Running(Generic[T]):
    """Carries out one call: sends, waits, and fires ``result`` in the end.

    At any moment it waits for one thing only: its turn, an exchange, or the end of a back-off.

    :ivar result: the caller's Deferred.
    :ivar is_over: whether ``result`` has been given its end.
    """

    def __init__(
        self,
        call: HTTPCall[T],
        *,
        reactor: IReactorTime,
        now: Callable[[], float],
        transport: HTTPTransport,
        over: Callable[[_Running[Any]], None],
    ) -> None:
        self.call = call
        self.is_over = False
        self.result: Deferred[T | None] = Deferred(self._cancelled)
        self._reactor = reactor
        self._now = now
        self._transport = transport
        self._over = over
        self._exchange: Deferred[Answer] | None = None
        self._attempt_timed_out = False
        self._timer: IDelayedCall | None = None
        self._wake_in(call.deadline - now(), self._never_started)

    def start(self) -> None:
        """Make an attempt."""
        self._stop_timer()
        send = self.call.send(self._now())
        if isinstance(send, GiveUp):
            self._fail(send.error)
            return
        self._attempt_timed_out = False
        self._wake_in(send.timeout_seconds, self._out_of_time)
        self._exchange = self._transport.exchange(send.method, send.url, send.headers, send.body)
        # The last errback is for errors of our own: the caller must hear of them rather than wait for ever.
        self._exchange.addCallbacks(self._answered, self._broke).addErrback(self._fail_with)

    def abandon(self) -> None:
        """The client is being closed."""
        if not self.is_over:
            self._fail(self.call.abandoned(under_way=self._exchange is not None))

    def _answered(self, answer: Answer) -> None:
        self._exchange = None
        if self.is_over:
            return
        verdict = self.call.answered(self._now(), answer)
        if isinstance(verdict, Finished):
            self._finish()
            self.result.callback(verdict.value)
        else:
            self._go_on(verdict)

    def _broke(self, failure: Failure) -> None:
        self._exchange = None
        if self.is_over:
            return
        broken = failure.value
        if not isinstance(broken, ExchangeFailed):
            self._fail_with(failure)  # an error of our own
        elif self._attempt_timed_out and broken.maybe_received:
            self._go_on(self.call.timed_out(self._now()))
        else:
            self._go_on(self.call.broke(self._now(), str(broken), maybe_received=broken.maybe_received))

    def _go_on(self, verdict: Again | GiveUp) -> None:
        if isinstance(verdict, GiveUp):
            self._fail(verdict.error)
        elif verdict.delay_seconds > 0:
            self._wake_in(verdict.delay_seconds, self.start)
        else:
            self.start()

    def _out_of_time(self) -> None:
        self._timer = None
        self._attempt_timed_out = True
        self._cancel_exchange()  # which ends in _broke

    def _never_started(self) -> None:
        self._timer = None
        self._fail(self.call.too_late())

    def _cancelled(self, _: Deferred[T | None]) -> None:
        self._finish()  # the Deferred then fails with CancelledError by itself

    def _fail(self, error: BaseException) -> None:
        self._fail_with(Failure(error))

    def _fail_with(self, failure: Failure) -> None:
        if not self.is_over:
            self._finish()
            self.result.errback(failure)

    def _finish(self) -> None:
        self.is_over = True
        self._stop_timer()
        self._cancel_exchange()
        self.call.end()
        self._over(self)

    def _cancel_exchange(self) -> None:
        if self._exchange is not None:
            exchange, self._exchange = self._exchange, None
            exchange.cancel()

    def _wake_in(self, seconds: float, what: Callable[[], None]) -> None:
        self._stop_timer()
        self._timer = self._reactor.callLater(max(0.0, seconds), what)

    def _stop_timer(self) -> None:
        if self._timer is not None and self._timer.active():
            self._timer.cancel()
        self._timer = None
