"""Reads on their way: a barrier for each turn of the reactor, confirmed by ReadIndex (thesis 6.4).

All reads of one turn share one context of the core, which in turn lets contexts share rounds. Nothing is read here:
when a barrier falls, its caller reads the state machine in that very call.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from functools import partial

from twisted.logger import Logger

from raftkv.errors import NoLeader, Overloaded, RaftKVError, RequestTimeout, ShuttingDown
from raftkv.interfaces import Consistency
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import ReadState, SoftState
from raftkv.server.statemachine import StateMachine

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
    answered: bool = False


@dataclass(frozen=True, slots=True)
class _Asked:
    reads: list[_Read]
    asked: float


class Reads:
    """The linearizable reads of one node.

    :param node: confirms the read index, as leader or through the leader.
    :param state_machine: knows when an index has been applied.
    :param seconds: the monotonic clock that time-outs are measured by.
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
        wake: Callable[[], None],
        limits: ReadLimits,
        first_context: int,
    ) -> None:
        self._node = node
        self._state_machine = state_machine
        self._seconds = seconds
        self._wake = wake
        self._limits = limits
        self._gathered: list[_Read] = []
        self._asked: dict[int, _Asked] = {}
        self._applying: dict[int, list[_Read]] = {}  # by the index that they wait for
        self._next_context = first_context
        self._pending = 0
        self._refusing = False
        self.barriers = 0
        self.rounds_asked = 0

    def barrier(self, consistency: Consistency, done: Done) -> None:
        """Wait until a read may be served; see :meth:`raftkv.interfaces.IKeyValue.barrier`."""
        self.barriers += 1
        if self._refusing:
            done(ShuttingDown())
        elif consistency == "stale":
            done(NoLeader() if self._state_machine.is_restoring else None)
        elif self._pending >= self._limits.max_pending_reads:
            done(Overloaded(f"{self._pending} reads wait already; the limit is {self._limits.max_pending_reads}"))
        else:
            self._pending += 1
            self._gathered.append(_Read(done, self._seconds()))
            self._wake()

    # -- the driver's turn ---------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Ask for one read index for everything that came in during this turn."""
        if not self._gathered or self._node.leader is None:
            return
        context, self._next_context = self._next_context, self._next_context + 1
        self._asked[context] = _Asked(self._gathered, self._seconds())
        self._gathered = []
        self.rounds_asked += 1
        self._node.read_index(context)

    def resolved(self, states: tuple[ReadState, ...]) -> None:
        """The core answered some contexts."""
        for state in states:
            asked = self._asked.pop(state.context, None)
            if asked is None:
                continue
            if state.index is None:
                self._gathered.extend(asked.reads)
            else:
                self._serve(asked.reads, state.index)
        # What was lost is asked anew by the next tick or change of leader, not in a loop.

    def _serve(self, reads: list[_Read], index: int) -> None:
        waiting = self._applying.get(index)
        if waiting is not None:
            waiting.extend(reads)
            return
        # One waiter for each index: while a snapshot is restored reads come and time out for minutes.
        self._applying[index] = reads
        self._state_machine.when_applied(index, partial(self._applied, index))

    def _applied(self, index: int) -> None:
        for read in self._applying.pop(index, ()):
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
        if self._gathered:
            self._wake()

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
        for reads in self._applying.values():
            for read in reads:
                if now - read.arrived >= limits.request_timeout_seconds:
                    self._answer(read, RequestTimeout(message, "not_applied"))
            reads[:] = [read for read in reads if not read.answered]

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
        waiting = list(self._gathered)
        for reads in (*self._applying.values(), *(asked.reads for asked in self._asked.values())):
            waiting.extend(reads)
        self._gathered, self._applying, self._asked = [], {}, {}
        for read in waiting:
            self._answer(read, reason())
