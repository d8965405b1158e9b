"""Requests over one pipelined connection: admitted in order, repeated under the same numbers, ended exactly once.

Knows numbers, deadlines and retries; which connection there is at the moment is the link's matter, and what a request
means its owner's. Callbacks inside, no Deferred for a request.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Iterable
from functools import partial
from itertools import count
from random import Random
from typing import Any

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from raftkv.client.link import Link
from raftkv.client.results import ClientClosed, NotReached
from raftkv.client.retry import Call, GiveUp, RetryPolicy, worth_retrying
from raftkv.client.route import Route
from raftkv.client.rpc.batch import WriteBatch, may_share
from raftkv.client.rpc.request import Errand, Request
from raftkv.client.session import Session
from raftkv.errors import BadRequest, Overloaded, RaftKVError
from raftkv.kvstore.commands import in_session
from raftkv.protocols.framing import pack
from raftkv.protocols.rpc_client import RpcConnection
from raftkv.protocols.rpc_errors import Unreachable


class Pipeline:
    """The requests of one client.

    :param max_outstanding: commands and keys under way at once; the rest waits its turn.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        route: Route,
        session: Session,
        policy: RetryPolicy,
        random: Random,
        reactor: IReactorTime,
        now: Callable[[], float],
        max_outstanding: int,
        make_link: Callable[[Callable[[RpcConnection], None], Callable[[NotReached], None]], Link],
    ) -> None:
        self._route = route
        self._session = session
        self._client_id = session.client_id.encode("ascii")
        self._policy = policy
        self._random = random
        self._reactor = reactor
        self._now = now
        self._max_outstanding = max_outstanding
        self._outstanding = 0  # commands and keys that have been admitted
        self._waiting: deque[Request] = deque()  # for admission
        self._unsent: deque[Request] = deque()  # admitted, and there is no connection
        self._pending: dict[Request, None] = {}  # all that are not over, in the order of their deadlines
        self._resting: list[tuple[float, int, Request]] = []  # heap, by when they are tried again
        self._ties = count()
        self._deadline_timer: IDelayedCall | None = None
        self._rest_timer: IDelayedCall | None = None
        self._not_reached: NotReached | None = None  # why there is no connection
        self._closed = False
        self._batch: WriteBatch | None = None  # of the connection that was used last
        self.link = make_link(self._ready, self._cannot_reach)

    def submit(self, request: Request) -> None:
        """Take a request; its ``done`` is called in any case, possibly at once."""
        if self._closed:
            self._end(request, ClientClosed())
            return
        self._pending[request] = None
        if self._deadline_timer is None:
            self._watch_deadlines()
        if not self._waiting and self._admits(request):
            if not request.is_over:
                self._send(request)
        else:
            self._waiting.append(request)
            self._admit()

    def forget(self, requests: Iterable[Request]) -> None:
        """Nobody waits for these requests any more; they are not tried again."""
        # All of them before anything is admitted, or one of them would be sent in the place of another.
        for request in requests:
            if not request.is_over:
                self._release(request)
        self._admit()

    def close(self) -> None:
        """End every request honestly, and leave no timer behind."""
        self._closed = True
        if self._batch is not None:
            for request in self._batch.withdraw():
                request.connection = None  # it has not left
        for timer in (self._deadline_timer, self._rest_timer):
            if timer is not None:
                timer.cancel()
        self._deadline_timer = self._rest_timer = None
        for request in list(self._pending):
            if not request.is_over:
                call = self._call_of(request)
                self._finish(request, call.abandoned(under_way=request.is_under_way, otherwise=ClientClosed()))
        self._waiting.clear()
        self._unsent.clear()
        self._resting.clear()

    # -- admission -----------------------------------------------------------------------------------------------

    def _admit(self) -> None:
        """Let in what there is room for, in order: one write that must wait for numbers waits before all others."""
        waiting = self._waiting
        while waiting and not self._closed:
            # Taken out first: to refuse it, or to send it, may end it at once, and call back into here.
            request = waiting.popleft()
            if not request.is_over and not self._admits(request):
                waiting.appendleft(request)
                return
            if not request.is_over:
                self._send(request)

    def _admits(self, request: Request) -> bool:
        """Let a request in if there is room for it, and numbers."""
        size = len(request.items)
        if self._outstanding and self._outstanding + size > self._max_outstanding:
            return False
        if request.consistency is None:
            try:
                if not self._number(request):
                    return False
            except (TypeError, ValueError, OverflowError) as error:
                # Nothing of it may stay: whoever waits behind it would wait for ever.
                self._finish(request, BadRequest(f"the write cannot be packed: {error}"))
                return True
        self._outstanding += size
        request.is_admitted = True
        return True

    def _number(self, request: Request) -> bool:
        """Give a write its numbers; return whether there were enough."""
        client_id, items = self._client_id, request.items
        if len(items) == 1:
            number = self._session.take()
            if number is None:
                return False
            request.numbers = (number,)  # which it gives back however it ends
            request.commands = (in_session(client_id, number, items[0], pack=pack),)
            return True
        numbers = self._session.take_many(len(items))
        if numbers is None:
            return False
        request.numbers = numbers
        request.commands = tuple(
            in_session(client_id, number, command, pack=pack) for number, command in zip(numbers, items, strict=True)
        )
        return True

    # -- sending -------------------------------------------------------------------------------------------------

    def _send(self, request: Request) -> None:
        connection = self.link.connection
        if connection is None or connection.closing:
            self._unsent.append(request)
            self.link.want()
            return
        request.connection = connection
        address = self.link.address
        batch = self._batch
        if request.call is None and request.consistency is None and may_share(request.items):
            # The first time only: one that was refused may be the reason why the others were, and goes alone then.
            if batch is None or batch.connection is not connection:
                self._batch = batch = WriteBatch(connection, address, self._answered_together)
            batch.add(request)
            return
        if batch is not None:
            batch.send()  # before this one, as they were asked for
        if request.call is not None:
            request.call.attempted(address)

        answered = partial(self._answered, request, connection, address)
        try:
            if request.consistency is None:
                connection.write(request.commands, answered)
            elif isinstance(request, Errand):
                request.send(connection, answered)
            else:
                connection.get(request.items, request.consistency, answered, max_stale_seconds=request.max_stale)
        except (TypeError, ValueError, OverflowError) as error:
            # Nothing of it has left. Whoever sends several must get to the others, and its room be had again.
            self._finish(request, BadRequest(f"the {request.describe()} cannot be packed: {error}"))
            self._admit()

    def _ready(self, _: RpcConnection) -> None:
        self._not_reached = None
        unsent, self._unsent = self._unsent, deque()
        now = self._now()
        for request in unsent:
            if not request.is_over:
                self._send_in_time(request, now)

    def _cannot_reach(self, error: NotReached) -> None:
        self._not_reached = error

    def _answered_together(self, requests: list[Request], connection: RpcConnection, address: str, answer: Any) -> None:
        if type(answer) is tuple:
            self._end_together(requests, connection, answer)
        elif len(requests) > 1 and not worth_retrying(answer) and answer.outcome == "not_applied":
            # One of them is at fault, and its error is not for the others: each is asked for alone.
            for request in requests:
                if not request.is_over and request.connection is connection:
                    request.connection = None  # it is on its way no more, where there is no other connection yet
                    self._begin_call(request, address)
                    self._send(request)
        else:
            for request in requests:
                self._answered(request, connection, address, answer)

    def _end_together(self, requests: list[Request], connection: RpcConnection, results: tuple[Any, ...]) -> None:
        """Do what :meth:`_answered` does for a result, in fewer steps: nearly all writes end here."""
        pending, give_back = self._pending, self._session.give_back
        for request, result in zip(requests, results, strict=True):
            if request.is_over or request.connection is not connection:
                continue
            request.is_over = True
            request.connection = None
            del pending[request]
            give_back(request.numbers[0])
            self._outstanding -= 1
            self._end(request, (result,))
        if self._waiting:
            self._admit()

    def _answered(self, request: Request, connection: RpcConnection, address: str, answer: Any) -> None:
        if request.is_over or request.connection is not connection:
            return
        request.connection = None
        if type(answer) is tuple or not isinstance(answer, RaftKVError):
            self._release(request)
            self._end(request, answer)
            if self._waiting:
                self._admit()
            return
        if isinstance(answer, Unreachable):
            answer = NotReached(str(answer))  # of this connection, which the link will make again
        call = request.call or self._begin_call(request, address)
        verdict = call.failed(self._now(), answer, maybe_received=answer.outcome == "unknown")
        if isinstance(verdict, GiveUp):
            self._finish(request, verdict.error)
            self._admit()
            return
        if not isinstance(answer, Overloaded):
            self.link.leave(connection)
        self._rest(request, verdict.delay_seconds)

    def _begin_call(self, request: Request, address: str) -> Call:
        call = self._call_of(request)
        call.attempted(address)
        return call

    def _call_of(self, request: Request) -> Call:
        """Return the state of a request's retries, begun where there is none yet."""
        if request.call is None:
            request.call = Call(
                request.describe(),
                route=self._route,
                policy=self._policy,
                random=self._random,
                is_write=request.is_write,
                repeatable=True,
                prefer_leader=True,
                started=request.started,
            )
        return request.call

    # -- trying again ----------------------------------------------------------------------------------------------

    def _rest(self, request: Request, delay_seconds: float) -> None:
        """Send a request again after a while; never from within the loss of a connection, which is not over yet."""
        due = self._now() + delay_seconds
        heapq.heappush(self._resting, (due, next(self._ties), request))
        if self._rest_timer is None or self._resting[0][2] is request:
            self._watch_resting()

    def _watch_resting(self) -> None:
        if self._rest_timer is not None:
            self._rest_timer.cancel()
            self._rest_timer = None
        if self._resting and not self._closed:
            self._rest_timer = self._reactor.callLater(max(0.0, self._resting[0][0] - self._now()), self._rested)

    def _rested(self) -> None:
        self._rest_timer = None
        now = self._now()
        rested: list[Request] = []
        while self._resting and self._resting[0][0] <= now:
            rested.append(heapq.heappop(self._resting)[2])
        self._watch_resting()
        for request in rested:
            if not request.is_over:
                self._send_in_time(request, now)
        self._admit()

    def _send_in_time(self, request: Request, now: float) -> None:
        """Send a request that may have been sent before, unless its time is over and the timer that says so is late.

        The process may have been stopped: a repetition could come after the session has ended, and be applied twice.
        """
        if now >= self._deadline_of(request):
            self._finish(request, self._call_of(request).timed_out())
        else:
            self._send(request)

    # -- ends ----------------------------------------------------------------------------------------------------

    def _watch_deadlines(self) -> None:
        if self._deadline_timer is None and self._pending and not self._closed:
            wait = self._deadline_of(next(iter(self._pending))) - self._now()
            self._deadline_timer = self._reactor.callLater(max(0.0, wait), self._look_at_deadlines)

    def _look_at_deadlines(self) -> None:
        """End the requests whose time is over; one timer looks after all, since all have the same time."""
        self._deadline_timer = None
        now = self._now()
        late: list[Request] = []
        for request in self._pending:
            if self._deadline_of(request) > now:
                break
            late.append(request)
        for request in late:
            if not request.is_over:
                call = self._call_of(request)
                error = call.timed_out(under_way=request.is_under_way, unconnected=self._not_reached)
                self._finish(request, error)
        self._watch_deadlines()
        self._admit()

    def _deadline_of(self, request: Request) -> float:
        return request.started + self._policy.timeout_seconds

    def _finish(self, request: Request, answer: Any) -> None:
        self._release(request)
        self._end(request, answer)

    def _release(self, request: Request) -> None:
        """Give back what a request holds."""
        request.is_over = True
        request.connection = None
        del self._pending[request]
        for number in request.numbers:
            self._session.give_back(number)
        if request.is_admitted:
            self._outstanding -= len(request.items)

    def _end(self, request: Request, answer: Any) -> None:
        request.is_over = True
        try:
            request.done(answer)
        except Exception:
            # One caller's mistake must not keep the others from their answers.
            self._log.failure("the callback of a {what} failed", what=request.describe())
