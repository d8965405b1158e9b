"""Writes on their way: gathered into one entry a turn, forwarded to the leader, and answered when applied.

A write waits in one of three places: ``_gathered`` (it came in this turn, or there is no leader to give it to),
``_proposed`` (it is in this node's log, at an index and a term), or with the forwarder. Whatever happens, its ``done``
is called exactly once: with its results, or with an error whose ``outcome`` is true.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass

from twisted.internet.defer import Deferred, succeed
from twisted.logger import Logger

from raftkv.errors import (
    BadRequest,
    DiskFull,
    NoLeader,
    NotLeader,
    OutcomeUnknown,
    Overloaded,
    ProposalDropped,
    RaftKVError,
    RequestTimeout,
    ShuttingDown,
    TooLarge,
)
from raftkv.interfaces import Command, IForwarder, Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import SESSION, pack_batch
from raftkv.protocols.rpc_frames import MAX_ITEMS
from raftkv.raft.messages import Entry
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import Role, SoftState
from raftkv.server.batching import (
    MAX_ENTRY_BYTES,
    MAX_WRITE_BYTES,
    Done,
    Submission,
    batches,
    commands_of,
    makes_lease,
    makes_ticket,
    may_answer_much,
    measure,
    needs_room,
)
from raftkv.server.clustertime import ClusterClock


@dataclass(frozen=True, slots=True, kw_only=True)
class WriteLimits:
    """Bounds on what may wait.

    :ivar request_timeout_seconds: how long a write may take altogether.
    :ivar leader_wait_seconds: how long it may wait for a leader to be known.
    :ivar max_batch_bytes: bytes of keys and values that are put into one entry.
    :ivar max_batch_commands: commands that are put into one entry.
    :ivar max_pending_writes: commands that may wait on this node.
    :ivar max_pending_bytes: bytes that writes may take which wait on this node: their keys and values, and a fixed cost
        of each command and each operation.
    :ivar max_sessions: clients whose answers are kept; a new one is refused past it.
    :ivar max_leases: leases that there may be; likewise.
    :ivar max_lock_waiters: how many may hold locks or wait for them; likewise.
    """

    request_timeout_seconds: float
    leader_wait_seconds: float
    max_batch_bytes: int
    max_batch_commands: int
    max_pending_writes: int
    max_pending_bytes: int
    max_sessions: int
    max_leases: int
    max_lock_waiters: int


@dataclass(frozen=True, slots=True)
class _Proposed:
    term: int
    submissions: list[Submission]


class Proposals:
    """The writes of one node.

    :param node: proposes for as long as it leads.
    :param store: returns the present state, for the room that is left for sessions.
    :param forwarder: carries writes to the leader, when that is another node.
    :param leader_rpc_addr: returns where the leader's RPC server is; empty where unknown.
    :param cluster_clock: stamps the entries.
    :param seconds: the monotonic clock that time-outs are measured by.
    :param wake: asks the driver for a turn.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        store: Callable[[], Store],
        forwarder: IForwarder,
        leader_rpc_addr: Callable[[], str],
        cluster_clock: ClusterClock,
        seconds: Callable[[], float],
        wake: Callable[[], None],
        limits: WriteLimits,
    ) -> None:
        self._node = node
        self._store = store
        self._forwarder = forwarder
        self._leader_rpc_addr = leader_rpc_addr
        self._cluster_clock = cluster_clock
        self._seconds = seconds
        self._wake = wake
        self._limits = limits
        self._gathered: list[Submission] = []
        self._waiting: list[Submission] = []
        self._proposed: dict[int, _Proposed] = {}
        self._clock_term = 0
        self._pending_commands = 0
        self._pending_bytes = 0
        self._refusal_class: type[RaftKVError] | None = None
        self._idle: list[Deferred[None]] = []
        self.proposed_entries = 0
        self.proposed_commands = 0
        self.forwarded_commands = 0

    @property
    def pending_commands(self) -> int:
        """Commands that were taken and not answered yet."""
        return self._pending_commands

    def submit(self, commands: Sequence[Command], done: Done, *, forwarded: bool = False) -> None:
        """Take a write; see :meth:`raftkv.interfaces.IKeyValue.write`."""
        size_bytes, weight_bytes = measure(commands)
        refusal = self._refusal(len(commands), size_bytes, weight_bytes)
        if refusal is not None:
            done(refusal)
            return
        self._pending_commands += len(commands)
        self._pending_bytes += weight_bytes
        self._gathered.append(
            Submission(
                commands=commands,
                done=done,
                forwarded=forwarded,
                size_bytes=size_bytes,
                weight_bytes=weight_bytes,
                arrived=self._seconds(),
            )
        )
        self._wake()

    def _refusal(self, commands: int, size_bytes: int, weight_bytes: int) -> RaftKVError | None:
        limits = self._limits
        if self._refusal_class is not None:
            return self._refusal_class()
        if size_bytes > MAX_WRITE_BYTES:
            return TooLarge(f"the keys and values of a write are {size_bytes} bytes, at most {MAX_WRITE_BYTES} fit")
        if self._pending_commands + commands > limits.max_pending_writes:
            return Overloaded(f"{self._pending_commands} writes wait already; the limit is {limits.max_pending_writes}")
        if self._pending_bytes + weight_bytes > limits.max_pending_bytes:
            return Overloaded(
                f"{self._pending_bytes} bytes of writes wait already, and this one takes {weight_bytes}; the limit is "
                f"{limits.max_pending_bytes} (limits.maxPendingBytes)"
            )
        return None

    # -- the driver's turn ---------------------------------------------------------------------------------------

    def gather(self) -> None:
        """Hand over everything that came in during this turn."""
        if not self._gathered:
            return
        gathered, self._gathered = self._gathered, []
        if self._node.role is Role.LEADER:
            self._propose(gathered)
        else:
            self._pass_on(gathered)

    def soft_state_changed(self, state: SoftState) -> None:
        """A change of leader gives those who wait for one another try."""
        if state.role is Role.LEADER:
            self._continue_cluster_time()
        self._try_again()

    def tick(self) -> None:
        """Give up what has waited too long, and let the others try again."""
        now = self._seconds()
        self._expire_waiting(now)
        self._expire_proposed(now)
        self._try_again()

    def _try_again(self) -> None:
        if self._waiting:
            self._gathered = self._waiting + self._gathered
            self._waiting = []
            self._wake()

    # -- leading -------------------------------------------------------------------------------------------------

    def _propose(self, submissions: list[Submission]) -> None:
        self._continue_cluster_time()
        lacks_room = self._node.cluster_lacks_room
        if lacks_room or self._is_crowded:
            submissions = [s for s in submissions if self._admit(s, lacks_room=lacks_room)]
        for batch in self._batches(submissions, self._limits.max_batch_commands):
            self._propose_batch(batch, lacks_room=lacks_room)

    def _continue_cluster_time(self) -> None:
        # Once in a leadership, whichever comes first: its first entries can be proposed in the very turn in which it
        # began, and that is announced at the end of the turn.
        if self._clock_term != self._node.current_term:
            self._clock_term = self._node.current_term
            self._cluster_clock.restart()

    def cluster_time_ms(self) -> int:
        """Return the cluster time that an entry proposed now would bear; only while the node leads."""
        self._continue_cluster_time()
        return self._cluster_clock.now_ms()

    def _batches(self, submissions: list[Submission], max_commands: int) -> Iterator[list[Submission]]:
        return batches(submissions, max_bytes=self._limits.max_batch_bytes, max_commands=max_commands)

    def _propose_batch(self, batch: list[Submission], *, lacks_room: bool) -> None:
        commands = commands_of(batch)
        payload = pack_batch(self._cluster_clock.now_ms(), self._cluster_clock.wall_ms(), commands)
        if len(payload) > MAX_ENTRY_BYTES:
            self._propose_in_parts(batch, len(payload), lacks_room=lacks_room)
            return
        try:
            entry = self._node.propose(payload, needs_room=not lacks_room)
        except (NotLeader, ProposalDropped):
            # Leadership is being handed over: these wait for the successor rather than fail.
            self._wait(batch)
        except (Overloaded, DiskFull) as error:
            self._finish(batch, error)
        else:
            self._forget_replaced(entry.index)
            self._proposed[entry.index] = _Proposed(entry.term, batch)
            self.proposed_entries += 1
            self.proposed_commands += len(commands)

    def _propose_in_parts(self, batch: list[Submission], payload_bytes: int, *, lacks_room: bool) -> None:
        """Small commands in large wrappings (sessions) can exceed an entry though their keys and values do not."""
        if len(batch) == 1:
            self._finish(batch, TooLarge(f"the write takes {payload_bytes} bytes, at most {MAX_ENTRY_BYTES} fit"))
            return
        middle = len(batch) // 2
        self._propose_batch(batch[:middle], lacks_room=lacks_room)
        self._propose_batch(batch[middle:], lacks_room=lacks_room)

    def _forget_replaced(self, index: int) -> None:
        """An entry of an earlier leadership of ours stood here: our log lost it, others may yet commit it."""
        replaced = self._proposed.pop(index, None)
        if replaced is not None:
            self._finish(replaced.submissions, OutcomeUnknown("leadership was lost before the write was committed"))

    def checkpoint(self) -> None:
        """Propose an entry without commands, where we lead: behind it every node notes the digest of its state."""
        if self._node.role is not Role.LEADER:
            return
        self._continue_cluster_time()
        payload = pack_batch(self._cluster_clock.now_ms(), self._cluster_clock.wall_ms(), ())
        try:
            index = self._node.propose(payload, needs_room=False).index
        except (NotLeader, ProposalDropped, Overloaded, DiskFull) as reason:
            self._log.debug("no checkpoint for now: {reason}", reason=reason)
        else:
            self._forget_replaced(index)
            self._wake()

    def _admit(self, submission: Submission, *, lacks_room: bool) -> bool:
        if lacks_room and needs_room(submission.commands):
            self._finish([submission], DiskFull())
            return False
        shortage = self._shortage(submission)
        if shortage:
            self._finish([submission], Overloaded(f"there is no room for another {shortage}"))
        return not shortage

    @property
    def _is_crowded(self) -> bool:
        """Whether there may be a shortage for somebody: asked once a turn, for nearly always there is none."""
        store, limits = self._store(), self._limits
        return (
            store.session_count >= limits.max_sessions
            or store.lease_count >= limits.max_leases
            or store.ticket_count >= limits.max_lock_waiters
        )

    def _shortage(self, submission: Submission) -> str:
        """Return what a write would make that there is no room for, and the limit; empty where there is room."""
        store, limits = self._store(), self._limits
        commands = submission.commands
        if store.session_count >= limits.max_sessions and any(
            command[0] == SESSION and not store.has_session(command[1]) for command in commands
        ):
            return f"session; the limit is {limits.max_sessions} (limits.maxSessions)"
        if store.lease_count >= limits.max_leases and any(map(makes_lease, commands)):
            return f"lease; the limit is {limits.max_leases} (limits.maxLeases)"
        if store.ticket_count >= limits.max_lock_waiters and any(map(makes_ticket, commands)):
            return f"lock, or wait for one; the limit is {limits.max_lock_waiters} (limits.maxLockWaiters)"
        return ""

    def applied(self, entry: Entry, results: Sequence[Result]) -> None:
        """An entry was applied: answer those who proposed it, if it is theirs (B65)."""
        proposed = self._proposed.pop(entry.index, None)
        if proposed is None:
            return
        if proposed.term != entry.term:
            # Another leader's entry is committed in this place, so ours never will be: it is safe to try again.
            self._dropped(proposed.submissions)
            return
        self._share_out(proposed.submissions, results)

    def restored(self, index: int) -> None:
        """A snapshot took the place of entries up to ``index``: whether ours were among them cannot be known."""
        for proposed_index in [i for i in self._proposed if i <= index]:
            proposed = self._proposed.pop(proposed_index)
            self._finish(
                proposed.submissions, OutcomeUnknown("the entry was covered by a snapshot from another leader")
            )

    def _dropped(self, submissions: list[Submission]) -> None:
        self._finish([s for s in submissions if s.forwarded], ProposalDropped())
        self._wait([s for s in submissions if not s.forwarded])

    # -- following -----------------------------------------------------------------------------------------------

    def _pass_on(self, submissions: list[Submission]) -> None:
        # A write that was forwarded once is never forwarded again: its first node tries anew (B64).
        not_leader = NotLeader(self._node.leader, self._node.current_term)
        self._finish([s for s in submissions if s.forwarded], not_leader)
        own = [s for s in submissions if not s.forwarded]
        address = self._leader_rpc_addr()
        if not own:
            return
        if not address or self._node.leader in (None, self._node.node_id):
            self._wait(own)
        else:
            # A request has one outcome: who will probably be refused for want of room goes apart from the others, and
            # no batch travels in parts. That our own state may be a little behind the leader's matters little here.
            # So does one whose answer may fill a message.
            groups: tuple[list[Submission], list[Submission]] = ([], [])
            is_crowded = self._is_crowded
            for submission in own:
                if may_answer_much(submission.commands):
                    self._forward(address, [submission])
                else:
                    groups[is_crowded and bool(self._shortage(submission))].append(submission)
            for group in groups:
                for batch in self._batches(group, min(self._limits.max_batch_commands, MAX_ITEMS)):
                    self._forward(address, batch)

    def _forward(self, address: str, submissions: list[Submission]) -> None:
        commands = commands_of(submissions)
        self.forwarded_commands += len(commands)

        def answered(outcome: Sequence[Result] | RaftKVError) -> None:
            if isinstance(outcome, NoLeader) and outcome.outcome == "not_applied":
                self._wait(submissions)
            elif isinstance(outcome, DiskFull):
                self._forward_frugal(address, submissions, outcome)
            elif isinstance(outcome, BadRequest | TooLarge) and outcome.outcome == "not_applied" and submissions[1:]:
                self._forward_in_parts(address, submissions)
            elif isinstance(outcome, RaftKVError):
                self._finish(submissions, outcome)
            else:
                self._share_out(submissions, outcome)

        self._forwarder.write(address, commands, answered)

    def _forward_in_parts(self, address: str, submissions: list[Submission]) -> None:
        """No message or entry holds them together (see :meth:`_propose_in_parts`), or the leader does not take one.

        What is taken differs where settings or versions do. Others are not to suffer from what came in with them.
        """
        middle = len(submissions) // 2
        self._forward(address, submissions[:middle])
        self._forward(address, submissions[middle:])

    def _forward_frugal(self, address: str, submissions: list[Submission], error: DiskFull) -> None:
        """The leader lacks room for a batch as a whole: what needs none is sent again by itself."""
        frugal: list[Submission] = []
        refused: list[Submission] = []
        for submission in submissions:
            (refused if needs_room(submission.commands) else frugal).append(submission)
        self._finish(refused or frugal, error)
        if refused and frugal:
            self._forward(address, frugal)

    def _share_out(self, submissions: list[Submission], results: Sequence[Result]) -> None:
        start = 0
        for submission in submissions:
            stop = start + len(submission.commands)
            self._answer(submission, results[start:stop])
            start = stop

    # -- waiting and giving up -----------------------------------------------------------------------------------

    def _wait(self, submissions: list[Submission]) -> None:
        if self._refusal_class is not None:
            self._finish(submissions, self._refusal_class())
        else:
            self._waiting.extend(submissions)

    def _expire_waiting(self, now: float) -> None:
        if not self._waiting:
            return
        limit = min(self._limits.leader_wait_seconds, self._limits.request_timeout_seconds)
        expired = [s for s in self._waiting if now - s.arrived >= limit]
        self._waiting = [s for s in self._waiting if now - s.arrived < limit]
        self._finish(expired, NoLeader())

    def _expire_proposed(self, now: float) -> None:
        limit = self._limits.request_timeout_seconds
        for index in list(self._proposed):
            # In the order of the log, which is that of time: the first one that is young enough ends the search.
            if now - self._proposed[index].submissions[-1].arrived < limit:
                return
            proposed = self._proposed.pop(index)
            message = f"the write was not committed within {limit:g} seconds (limits.requestTimeout); it may be yet"
            self._finish(proposed.submissions, RequestTimeout(message, "unknown"))

    def _finish(self, submissions: list[Submission], error: RaftKVError) -> None:
        for submission in submissions:
            self._answer(submission, error)

    def _answer(self, submission: Submission, outcome: Sequence[Result] | RaftKVError) -> None:
        self._pending_commands -= len(submission.commands)
        self._pending_bytes -= submission.weight_bytes
        try:
            submission.done(outcome)
        except Exception:
            # One caller's mistake is one caller's matter: the entry is applied, the others want their answers.
            self._log.failure("the receiver of a write's answer failed")
        if self._idle and not self._pending_commands:
            idle, self._idle = self._idle, []
            for waiter in idle:
                waiter.callback(None)

    # -- stopping ------------------------------------------------------------------------------------------------

    def refuse(self) -> Deferred[None]:
        """Take nothing new from now on; fires once everything that was taken has been answered."""
        self._refusal_class = self._refusal_class or ShuttingDown
        waiting, self._waiting = self._waiting, []
        self._finish(waiting, self._refusal_class())
        if not self._pending_commands:
            return succeed(None)
        done: Deferred[None] = Deferred()
        self._idle.append(done)
        return done

    def abandon(self, reason: type[RaftKVError] = ShuttingDown) -> None:
        """Answer everything that still waits; what is in a log has an unknown outcome.

        :param reason: what the rest is told, and everybody who comes later.
        """
        self._refusal_class = reason
        self._answer_all(reason, "the node stopped before the write was committed")

    def interrupt(self, reason: type[RaftKVError]) -> None:
        """Answer everything that waits, for this node's state is not to be trusted; what comes later is taken again.

        :param reason: what those are told whose writes are in no log.
        """
        self._answer_all(reason, "the node had to stop serving before the write was applied")

    def _answer_all(self, reason: type[RaftKVError], unknown: str) -> None:
        gathered, self._gathered = self._gathered + self._waiting, []
        self._waiting = []
        self._finish(gathered, reason())
        proposed, self._proposed = self._proposed, {}
        for each in proposed.values():
            self._finish(each.submissions, OutcomeUnknown(unknown))
