"""Requests for locks that have to wait: each node lets its own wait, whoever leads.

The queue of a lock is part of the replicated state, so a wait goes on over changes of leader: it ends when this node's
own state says so. What is left to do here is to notice it, to tell nobody that a lock is theirs which they have lost
by now (B62), and to give up the places of those who are no longer there.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Sequence
from itertools import count

from twisted.logger import Logger

from raftkv.errors import OutcomeUnknown, RaftKVError, RequestTimeout, ShuttingDown
from raftkv.interfaces import Command, Consistency, Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import FENCED, LEASE_NOT_FOUND, LOCK_HELD, OK, SESSION, unlock
from raftkv.raft.messages import Entry
from raftkv.raft.ready import SoftState

Done = Callable[[Result | RaftKVError], None]
Submit = Callable[[Sequence[Command], Callable[[Sequence[Result] | RaftKVError], None]], None]
Barrier = Callable[[Consistency, Callable[[RaftKVError | None], None]], None]


class _Request:
    """Somebody who wants a lock.

    :ivar done: to be told; ``None`` once that was done, or nobody is there any more.
    :ivar in_session: whether a repeat of the request would get the same ticket.
    :ivar name: of the lock.
    :ivar lease: the lease to hold it with, 0 for one of its own.
    :ivar wait_seconds: how long to wait, in cluster time.
    :ivar arrived: when, on the monotonic clock.
    :ivar ticket: its place in the queue; 0 while that is not known.
    """

    __slots__ = ("arrived", "done", "in_session", "lease", "name", "ticket", "wait_seconds")

    def __init__(self, command: Command, done: Done, arrived: float) -> None:
        self.in_session = command[0] == SESSION
        while command[0] in (SESSION, FENCED):
            command = command[4]
        _, _, self.name, self.lease, _, wait_ms, *_ = command
        self.wait_seconds: float = wait_ms / 1000
        self.done: Done | None = done
        self.arrived = arrived
        self.ticket = 0


class Tickets:
    """Those who wait for locks on one node; takes part in the driver's turn.

    :param store: returns the present state.
    :param submit: takes commands, as :meth:`raftkv.server.proposals.Proposals.submit` does.
    :param barrier: waits until the state may be read, as :meth:`raftkv.server.reads.Reads.barrier` does.
    :param seconds: the monotonic clock.
    :param patience_seconds: how long beyond its time a wait may last by our own clock. Its time is the cluster's, which
        stands still while nobody leads.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: Callable[[], Store],
        submit: Submit,
        barrier: Barrier,
        seconds: Callable[[], float],
        patience_seconds: float,
    ) -> None:
        self._store = store
        self._submit = submit
        self._barrier = barrier
        self._seconds = seconds
        self._patience_seconds = patience_seconds
        self._waiting: dict[int, list[_Request]] = {}  # by ticket
        self._unconfirmed: dict[int, bool] = {}  # tickets that seem to have their lock, and whether we are asking
        self._leaving: dict[int, bytes] = {}  # tickets that could not be given up yet, and their locks
        self._deadlines: list[tuple[float, int, _Request]] = []
        self._tie_breaks = count()
        self._is_refusing = False

    # -- asking --------------------------------------------------------------------------------------------------

    def acquire(self, command: Command, done: Done) -> Callable[[], None]:
        """Have a lock taken; see :meth:`raftkv.interfaces.IKeyValue.acquire`."""
        request = _Request(command, done, self._seconds())
        if self._is_refusing:
            self._finish(request, ShuttingDown())
        else:
            self._submit((command,), lambda outcome: self._asked(request, outcome))
        return lambda: self._abandon(request)

    def _asked(self, request: _Request, outcome: Sequence[Result] | RaftKVError) -> None:
        """The command was answered, maybe with nothing but a place in the queue."""
        if isinstance(outcome, RaftKVError):
            self._finish(request, outcome)
            return
        (result,) = outcome
        status, token, *_ = result
        if status == OK:
            request.ticket = result[3]
        if status != OK or token:
            if status == OK and request.done is None and not request.in_session:
                self._leave(request)  # nobody will ever know the token; in a session, a repeat is told
            self._finish(request, result)
        elif request.done is None:
            self._leave(request)
        elif not request.wait_seconds:  # the lease has a place already, for which somebody else waits
            self._finish(request, (LOCK_HELD, self._holder(request.name)))
        else:
            self._wait(request)

    def _wait(self, request: _Request) -> None:
        self._waiting.setdefault(request.ticket, []).append(request)
        self._note_deadline(request)
        if self._is_refusing:
            self._refuse(request)
        else:
            self._look_at(request.ticket)

    def _note_deadline(self, request: _Request) -> None:
        deadlines = self._deadlines
        if len(deadlines) > 2 * len(self._waiting) + 64:
            deadlines = self._deadlines = [each for each in deadlines if each[2].done is not None]
            heapq.heapify(deadlines)
        deadline = request.arrived + request.wait_seconds + self._patience_seconds
        heapq.heappush(deadlines, (deadline, next(self._tie_breaks), request))

    # -- the state -----------------------------------------------------------------------------------------------

    def applied(self, entry: Entry, results: Sequence[Result]) -> None:
        """An entry was applied: see whose wait has come to an end."""
        for ticket in self._store().take_settled():
            if ticket in self._waiting:
                self._look_at(ticket)

    def restored(self, index: int) -> None:
        """Another state has taken the place of the one that we knew."""
        for ticket in [*self._waiting]:
            self._look_at(ticket)

    def _look_at(self, ticket: int) -> None:
        store = self._store()
        if store.last_number < ticket:
            return  # what gave it out has not been applied here yet
        found = store.ticket(ticket)
        if found is None:
            self._settle(ticket)
        elif found.token and ticket not in self._unconfirmed:
            # We may lag behind, and the lock be lost again already: a round to the leader, and then it is certain.
            self._confirm(ticket)

    def _confirm(self, ticket: int) -> None:
        def readable(error: RaftKVError | None) -> None:
            if ticket not in self._unconfirmed:
                return  # nobody waits for it any more
            if error is None:
                self._settle(ticket)
            else:
                self._unconfirmed[ticket] = False  # the next tick asks again

        self._unconfirmed[ticket] = True
        self._barrier("linearizable", readable)

    def _settle(self, ticket: int) -> None:
        """Tell those who wait with a ticket what has become of it."""
        self._unconfirmed.pop(ticket, None)
        store = self._store()
        found = store.ticket(ticket)
        for request in self._waiting.pop(ticket, ()):
            if found is not None:
                self._finish(request, (OK, found.token, found.lease, ticket))
            elif request.lease and store.lease(request.lease) is None:
                self._finish(request, (LEASE_NOT_FOUND, request.lease))
            else:
                self._finish(request, (LOCK_HELD, self._holder(request.name)))

    def _holder(self, name: bytes) -> int:
        lock = self._store().lock(name)
        return 0 if lock is None else lock.token

    # -- the driver's turn ---------------------------------------------------------------------------------------

    def soft_state_changed(self, state: SoftState) -> None:
        """A change of leader changes nothing: the queue is in the state."""

    def tick(self) -> None:
        """Ask again what could not be confirmed, and give up what takes too long."""
        for ticket, is_asking in [*self._unconfirmed.items()]:
            if not is_asking:
                self._confirm(ticket)
        leaving, self._leaving = self._leaving, {}
        for ticket, name in leaving.items():
            if self._store().ticket(ticket) is not None:
                self._unlock(ticket, name)
        now = self._seconds()
        while self._deadlines and (self._deadlines[0][0] <= now or self._deadlines[0][2].done is None):
            request = heapq.heappop(self._deadlines)[2]
            if request.done is not None:
                self._give_up(request)

    def _give_up(self, request: _Request) -> None:
        """The wait should have ended by now, and it is not known that it has: end it."""

        def left(error: RaftKVError | None) -> None:
            if error is None:
                self._finish(request, (LOCK_HELD, self._holder(request.name)))
            else:
                message = (
                    f"the lock was not free within {request.wait_seconds:g} seconds, and may be taken yet: {error}"
                )
                self._finish(request, RequestTimeout(message, "unknown"))

        self._forget(request)
        self._leave(request, left)

    # -- leaving -------------------------------------------------------------------------------------------------

    def _abandon(self, request: _Request) -> None:
        """Whoever asked is no longer there."""
        if request.done is None:
            return
        request.done = None
        if request.ticket:
            self._forget(request)
            self._leave(request)

    def _forget(self, request: _Request) -> None:
        others = [other for other in self._waiting.pop(request.ticket, ()) if other is not request]
        if others:
            self._waiting[request.ticket] = others
        else:
            self._unconfirmed.pop(request.ticket, None)

    def _leave(self, request: _Request, left: Callable[[RaftKVError | None], None] = lambda _: None) -> None:
        """Give up a place in the queue, or the lock, unless somebody else here has the same ticket."""
        if request.ticket in self._waiting:
            left(None)
        else:
            self._unlock(request.ticket, request.name, left)

    def _unlock(self, ticket: int, name: bytes, left: Callable[[RaftKVError | None], None] = lambda _: None) -> None:
        def answered(outcome: Sequence[Result] | RaftKVError) -> None:
            error = outcome if isinstance(outcome, RaftKVError) else None
            if error is not None:
                self._leaving[ticket] = name  # the next tick tries again
                self._log.debug("ticket {ticket} for a lock is given up later: {reason}", ticket=ticket, reason=error)
            left(error)

        self._submit((unlock(name, ticket=ticket),), answered)

    # -- stopping ------------------------------------------------------------------------------------------------

    def refuse(self) -> None:
        """Let nobody wait here any longer: this node is about to stop, and others go on.

        Who can repeat the request elsewhere keeps the place.
        """
        self._is_refusing = True
        for requests in [*self._waiting.values()]:
            for request in [*requests]:
                self._refuse(request)

    def _refuse(self, request: _Request) -> None:
        kept = OutcomeUnknown("this node is shutting down; the place in the queue is kept for a repeat of the request")
        self._forget(request)
        if request.in_session:
            self._finish(request, kept)
            return
        lost = OutcomeUnknown("this node is shutting down, and the place in the queue could not be given up")
        self._leave(request, lambda error: self._finish(request, ShuttingDown() if error is None else lost))

    def interrupt(self, reason: str) -> None:
        """Answer everybody who waits: this node will not know what becomes of their places.

        :param reason: for the message.
        """
        waiting, self._waiting = self._waiting, {}
        self._unconfirmed = {}
        self._leaving = {}
        for requests in waiting.values():
            for request in requests:
                self._finish(request, OutcomeUnknown(f"{reason}; the lock may be taken yet"))

    def _finish(self, request: _Request, outcome: Result | RaftKVError) -> None:
        done, request.done = request.done, None
        if done is None:
            return
        try:
            done(outcome)
        except Exception:
            # One caller's mistake is one caller's matter.
            self._log.failure("the receiver of a lock's answer failed")
