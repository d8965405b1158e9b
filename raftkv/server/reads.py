"""Reads on their way: a barrier for each turn of the reactor, confirmed by ReadIndex (thesis 6.4) or by a lease.

All reads of one turn share one context of the core, which in turn lets contexts share rounds; those that trust a lease
have one of their own. Reads that may be stale wait for nothing as long as the state is known to be fresh enough.
Nothing is read here: when a barrier falls, its caller reads the state machine in that very call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial
from typing import Final

from twisted.logger import Logger

from raftkv.errors import NoLeader, Overloaded, RaftKVError, RequestTimeout, ShuttingDown, StateBehind
from raftkv.interfaces import Consistency
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import ReadState, SoftState
from raftkv.server.freshness import Freshness
from raftkv.server.statemachine import StateMachine

_KEEP_FRESH_SECONDS: Final = 10.0  # after a stale read, for the next one, which seldom comes alone

Done = Callable[[RaftKVError | None], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReadLimits:
    """Bounds on what may wait.

    :ivar request_timeout_seconds: how long a read may take altogether.
    :ivar leader_wait_seconds: how long it may wait for a leader to be known.
    :ivar ask_again_seconds: how long an unanswered question to the leader stands before it is asked anew; a message
        may be lost.
    :ivar max_pending_reads: reads that may wait on this node.
    """

    request_timeout_seconds: float
    leader_wait_seconds: float
    ask_again_seconds: float
    max_pending_reads: int


@dataclass(slots=True, eq=False)
class _Read:
    done: Done
    arrived: float
    may_lease: bool
    answered: bool = False


@dataclass(slots=True)
class _Asked:
    """A question, and then the wait for its answer to be applied.

    :ivar asked_steady: when, by the clock of leases: the answer holds whatever was committed then.
    """

    reads: list[_Read]
    asked: float
    asked_steady: float


class Reads:
    """The reads of one node, however consistent.

    :param node: confirms the read index, as leader or through the leader.
    :param state_machine: knows when an index has been applied.
    :param seconds: the monotonic clock that time-outs are measured by.
    :param freshness: remembers since when the state is known to be complete.
    :param wake: asks the driver for a turn.
    :param first_context: a number drawn anew for each start of the process: an answer to a question of the life before
        must not pass for one of this life, whose question came later.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        state_machine: StateMachine,
        seconds: Callable[[], float],
        freshness: Freshness,
        wake: Callable[[], None],
        limits: ReadLimits,
        first_context: int,
    ) -> None:
        self._node = node
        self._state_machine = state_machine
        self._seconds = seconds
        self._freshness = freshness
        self._wake = wake
        self._limits = limits
        self._gathered: list[_Read] = []
        self._asked: dict[int, _Asked] = {}
        self._applying: dict[int, _Asked] = {}  # by the index that they wait for
        self._next_context = first_context
        self._pending = 0
        self._refusing = False
        self._stale_read_came = False
        self._keep_fresh_until = 0.0
        self._refresh_due = False
        self.barriers = 0
        self.rounds_asked = 0
        self.served_by_lease = 0
        self.served_stale = 0

    def barrier(self, consistency: Consistency, done: Done, *, max_stale_seconds: float | None = None) -> None:
        """Wait until a read may be served; see :meth:`raftkv.interfaces.IKeyValue.barrier`."""
        self.barriers += 1
        if self._refusing:
            done(ShuttingDown())
        elif consistency == "stale" and max_stale_seconds is None:
            self._stale_read_came = True
            self.served_stale += 1
            done(NoLeader() if self._state_machine.is_restoring else None)
        elif consistency == "lease" and self._leads_by_lease():
            self.served_by_lease += 1
            done(None)
        elif consistency == "stale" and self._is_fresher_than(max_stale_seconds or 0.0):
            self.served_stale += 1
            done(None)
        elif self._pending >= self._limits.max_pending_reads:
            done(Overloaded(f"{self._pending} reads wait already; the limit is {self._limits.max_pending_reads}"))
        else:
            self._pending += 1
            self._gathered.append(_Read(done, self._seconds(), may_lease=consistency != "linearizable"))
            self._wake()

    def staleness(self) -> float | None:
        """Return how old the own state may be; see :meth:`raftkv.interfaces.IKeyValue.staleness`."""
        return 0.0 if self._leads_by_lease() else self._freshness.age()

    def _leads_by_lease(self) -> bool:
        """Tell whether a lease of ours proves, at this very moment, that the own state is the newest there is."""
        # The clock is read here and now, when the read is there and about to be served: a process that was paused a
        # moment ago finds its lease expired (B30).
        index = self._node.lease_index(self._freshness.now())
        state_machine = self._state_machine
        return index is not None and not state_machine.is_restoring and state_machine.store.applied_index >= index

    def _is_fresher_than(self, max_stale_seconds: float) -> bool:
        self._stale_read_came = True
        age = self.staleness()
        return age is not None and age <= max_stale_seconds

    # -- the driver's turn ---------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Ask for one read index for everything that came in during this turn, and one where a lease will do."""
        if self._node.leader is None:
            return
        if self._gathered:
            gathered, self._gathered = self._gathered, []
            self._ask([read for read in gathered if not read.may_lease], lease=False)
            self._ask([read for read in gathered if read.may_lease], lease=True)
        if self._refresh_due and not self._asked:
            self._ask([], lease=True, is_refresh=True)
        self._refresh_due = False

    def _ask(self, reads: list[_Read], *, lease: bool, is_refresh: bool = False) -> None:
        if not reads and not is_refresh:
            return
        context, self._next_context = self._next_context, self._next_context + 1
        self._asked[context] = _Asked(reads, self._seconds(), self._freshness.now())
        self.rounds_asked += 1
        self._node.read_index(context, lease=lease)

    def resolved(self, states: tuple[ReadState, ...]) -> None:
        """The core answered some contexts."""
        for state in states:
            asked = self._asked.pop(state.context, None)
            if asked is None:
                continue
            if state.index is None:
                self._gathered.extend(asked.reads)
            else:
                self._serve(asked, state.index)
        # What was lost is asked anew by the next tick or change of leader, not in a loop.

    def _serve(self, asked: _Asked, index: int) -> None:
        waiting = self._applying.get(index)
        if waiting is not None:
            waiting.reads.extend(asked.reads)
            waiting.asked_steady = max(waiting.asked_steady, asked.asked_steady)
            return
        # One waiter for each index: while a snapshot is restored reads come and time out for minutes.
        self._applying[index] = asked
        self._state_machine.when_applied(index, partial(self._applied, index))

    def _applied(self, index: int) -> None:
        waiting = self._applying.pop(index, None)
        if waiting is None:
            return
        self._freshness.confirmed(waiting.asked_steady)
        for read in waiting.reads:
            self._answer(read, None)

    def soft_state_changed(self, state: SoftState) -> None:
        """With a new leader, what was asked of the old one is asked anew."""
        for context in list(self._asked):
            self._gathered.extend(self._asked.pop(context).reads)
        if self._gathered:
            self._wake()

    def tick(self) -> None:
        """Give up what has waited too long, and ask again what got no answer."""
        now = self._seconds()
        for context, asked in list(self._asked.items()):
            if now - asked.asked >= self._limits.ask_again_seconds:
                del self._asked[context]
                self._gathered.extend(asked.reads)
        self._expire(now)
        self._keep_fresh(now)
        if self._gathered or self._refresh_due:
            self._wake()

    def _keep_fresh(self, now: float) -> None:
        """Confirm once a tick how fresh the state is, while stale reads come: they are told, and may have a bound."""
        if self._stale_read_came:
            self._stale_read_came = False
            self._keep_fresh_until = now + _KEEP_FRESH_SECONDS
        self._refresh_due = now < self._keep_fresh_until and not self._asked and not self._leads_by_lease()

    def _expire(self, now: float) -> None:
        limits = self._limits
        message = (
            f"the read was not confirmed within {limits.request_timeout_seconds:g} seconds (limits.requestTimeout)"
        )
        for read in self._gathered:
            if now - read.arrived >= limits.request_timeout_seconds:
                self._answer(read, RequestTimeout(message, "not_applied"))
            elif self._node.leader is None and now - read.arrived >= limits.leader_wait_seconds:
                self._answer(read, NoLeader())
        self._gathered = [read for read in self._gathered if not read.answered]
        for index, asked in self._applying.items():
            # The leader spares a disk without room: what this waits for may be long in coming.
            is_spared = self._node.disk_is_full and self._node.last_index < index
            for read in asked.reads:
                if now - read.arrived >= limits.request_timeout_seconds:
                    self._answer(read, RequestTimeout(message, "not_applied"))
                elif is_spared and now - read.arrived >= limits.ask_again_seconds:
                    self._answer(read, StateBehind())
            asked.reads = [read for read in asked.reads if not read.answered]

    def _answer(self, read: _Read, error: RaftKVError | None) -> None:
        if read.answered:
            return
        read.answered = True
        self._pending -= 1
        try:
            read.done(error)
        except Exception:
            # One caller's mistake is one caller's matter; the others wait for their answers.
            self._log.failure("the receiver of a read barrier failed")

    # -- stopping ------------------------------------------------------------------------------------------------

    def refuse(self, reason: type[RaftKVError] = ShuttingDown) -> None:
        """Take nothing new, and answer everything that waits: a read can be asked elsewhere.

        :param reason: what they are told.
        """
        self._refusing = True
        self.interrupt(reason)

    def interrupt(self, reason: type[RaftKVError]) -> None:
        """Answer everything that waits with an error; what comes later is taken again."""
        waiting = list(self._gathered)
        for asked in (*self._applying.values(), *self._asked.values()):
            waiting.extend(asked.reads)
        self._gathered, self._applying, self._asked = [], {}, {}
        for read in waiting:
            self._answer(read, reason())
