"""The driver feeds the Raft node and carries out its ``Ready``: the one place where core, disk and network meet.

It owns the turn: whatever arrives during one turn of the reactor (messages, proposals, reads, finished writes) is
handed to the node and answered by one ``Ready``. It decides nothing that Raft decides, and knows nothing of commands.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from random import Random
from typing import Any, Final, Protocol, runtime_checkable

from twisted.application.service import Service
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from zope.interface import implementer

from raftkv.errors import StorageError
from raftkv.interfaces import IPeerReceiver, IPeerTransport, IStorage
from raftkv.raft.configuration import Member
from raftkv.raft.messages import Entry, Message, SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import EntriesWanted, ReadState, Ready, Role, SoftState

#: Followers hear within twice this time what is committed. It mostly travels with the next entries, which under load
#: come sooner; a message of its own, and its answer, for each entry are a third of what a lone write costs.
NEWS_SECONDS: Final = 0.002


class Participant(Protocol):
    """What lives by the driver's time. Both are called in the reactor and must not block."""

    def tick(self) -> None:
        """One tick of Raft's time went by."""

    def soft_state_changed(self, state: SoftState) -> None:
        """The role, the term or the leader changed."""


@runtime_checkable
class Gatherer(Protocol):
    """A participant that takes part in each turn, too."""

    def gather(self) -> None:
        """A turn is about to end: hand the node what has come in."""


class Applier(Protocol):
    """What the driver needs of the state machine."""

    def apply(self, entries: tuple[Entry, ...]) -> None:
        """Apply committed entries, in order."""

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Replace the state by that of an installed snapshot; entries that follow wait for it."""

    @property
    def is_behind(self) -> bool:
        """Whether entries wait already, so that more should not come before it wakes the driver."""


@implementer(IPeerReceiver)
class Driver(Service):
    """Runs one Raft node.

    :param node: the core; nobody else calls its ``take_ready`` or ``advance``.
    :param clock: the reactor, or a test's clock.
    :param storage: the durable log.
    :param transport: the way to the other members.
    :param applier: the state machine.
    :param random: draws how long a follower whose leader is gone lets others go first.
    :param tick_interval_seconds: length of a tick.
    :param steady_seconds: the clock of leases; it never goes back, and goes on while the machine sleeps.
    :param fatal: called once with the error that makes it unsafe to go on; the process must stop.
    :ivar leaders_gone: how often a leader's process was seen to end.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        clock: IReactorTime,
        storage: IStorage,
        transport: IPeerTransport,
        applier: Applier,
        random: Random,
        tick_interval_seconds: float,
        steady_seconds: Callable[[], float],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.node = node
        self.failure: BaseException | None = None
        self._clock = clock
        self._storage = storage
        self._transport = transport
        self._applier = applier
        self._random = random
        self._tick_interval_seconds = tick_interval_seconds
        self._steady_seconds = steady_seconds
        self._fatal = fatal
        self._participants: list[Participant] = []
        self._gatherers: list[Callable[[], None]] = []
        self._on_reads: Callable[[tuple[ReadState, ...]], None] = lambda reads: None
        self._ticking = LoopingCall(self._tick)
        self._ticking.clock = clock
        # Of the node's own reactor; any other clock has callLater.
        self._call_soon: Callable[[Callable[[], None]], object] = getattr(
            clock, "call_soon", lambda call: clock.callLater(0, call)
        )
        self._turn_is_due = False
        self._news: IDelayedCall | None = None
        self._news_index = 0  # what was committed when that was scheduled
        self._early_campaign: IDelayedCall | None = None
        self._draining = False
        self._disk_is_done = False  # within the present turn
        self._wanted_again = False
        self._endings: list[Callable[[], None]] = []  # of this turn
        self._on_failure: Callable[[], None] = lambda: None
        self._silent = False
        self._reached: Mapping[str, Member] = {}
        self.messages_received = 0
        self.messages_sent = 0
        self.leaders_gone = 0

    def add_participant(self, participant: Participant) -> None:
        """Let ``participant`` live by the driver's time, and take part in its turns where it gathers something."""
        self._participants.append(participant)
        if isinstance(participant, Gatherer):
            self._gatherers.append(participant.gather)

    def deliver_reads_to(self, receiver: Callable[[tuple[ReadState, ...]], None]) -> None:
        """Say who gets the read states."""
        self._on_reads = receiver

    def when_failed(self, give_up: Callable[[], None]) -> None:
        """Say who answers those that wait, for a node that has failed moves nothing on."""
        self._on_failure = give_up

    def startService(self) -> None:
        """Start the disk, the network and time, in this order."""
        super().startService()
        self._storage.start(self._durable, self.fail)
        self._connect()
        self._transport.start(self)
        # Twisted's LoopingCall skips what it missed: a paused process must not live through its absence in a burst.
        self._ticking.start(self._tick_interval_seconds, now=False).addErrback(self._tick_failed)
        self.wake()

    def stopService(self) -> Deferred[None]:
        """Stop time, then wait for the disk; fires once all that was queued is durable."""
        self.take_nothing_more()
        return self._storage.stop()

    def take_nothing_more(self) -> None:
        """Stop time and turns: what arrives from now on is lost, as with a dead process."""
        super().stopService()
        self._stop_turning()

    def _stop_turning(self) -> None:
        if self._ticking.running:
            self._ticking.stop()
        for call in (self._news, self._early_campaign):
            if call is not None:
                call.cancel()
        self._turn_is_due = False
        self._news = self._early_campaign = None

    # -- what arrives --------------------------------------------------------------------------------------------

    def wake(self) -> None:
        """Make sure that a turn comes; cheap, called for everything that arrives."""
        if self._draining:
            self._wanted_again = True
        elif not self._turn_is_due and self.running and self.failure is None:
            self._turn_is_due = True
            self._call_soon(self._run_due_turn)

    def at_turn_end(self, call: Callable[[], None]) -> bool:
        """Call this when the present turn has done all that it does: for what many may add to and then leaves at once.

        :return: whether there is a turn; nothing is called where there is none.
        """
        if self._draining:
            self._endings.append(call)
        return self._draining

    def received(self, messages: Sequence[Message]) -> None:
        """See :class:`IPeerReceiver`.

        A follower acts on them at once: it has but one leader to hear. A leader waits for the end of the reactor's
        turn, for what clients and other followers say in it belongs to the same turn of ours.
        """
        self.messages_received += len(messages)
        if self._silent or not self.running or self.failure is not None:
            return
        try:
            self.node.time_is(self._steady_seconds())
            for message in messages:
                self.node.step(message)
        except Exception as error:
            # Not to carry on: what the core refuses to do once must stop the node, whoever called.
            self.fail(error)
            return
        if self.node.has_ready():
            if self._draining or self._turn_is_due or self.node.role is Role.LEADER:
                self.wake()
            else:
                self._run_turn()

    def peer_unreachable(self, peer: str) -> None:
        """See :class:`IPeerReceiver`."""
        self._feed(self.node.report_unreachable, peer)

    def peer_closed(self, peer: str) -> None:
        """See :class:`IPeerReceiver`: where it led, somebody else is to lead soon.

        All followers see that at the same time, and who asks for votes together with another one may split them. A
        heartbeat interval is long in comparison with the way of a question, and ticks would be too coarse.
        """
        if peer != self.node.leader or self._silent or not self.running or self.failure is not None:
            return
        self.leaders_gone += 1
        self._feed(self.node.report_closed, peer)
        if self._early_campaign is None and self.failure is None:
            wait_seconds = self._random.random() * self._tick_interval_seconds
            self._early_campaign = self._clock.callLater(wait_seconds, self._campaign_early)

    def _campaign_early(self) -> None:
        self._early_campaign = None
        self._feed(self.node.campaign_early)

    def snapshot_sent(self, peer: str, index: int, delivered: bool) -> None:
        """See :class:`IPeerReceiver`."""
        self._feed(self.node.report_snapshot, peer, index, delivered)

    def _feed(self, method: Callable[..., None], *arguments: Any) -> None:
        if not self._silent:
            self._hand_in(method, *arguments)

    def _hand_in(self, method: Callable[..., None], *arguments: Any) -> None:
        if not self.running or self.failure is not None:
            return
        try:
            self.node.time_is(self._steady_seconds())
            method(*arguments)
        except Exception as error:
            self.fail(error)
        else:
            if self.node.has_ready():
                self.wake()

    def _durable(self, write_id: int) -> None:
        if self.failure is not None:
            return
        try:
            self.node.time_is(self._steady_seconds())
            self.node.advance(write_id)
            self.node.may_apply(not self._applier.is_behind)
        except Exception as error:
            self.fail(error)
            return
        if self._draining:
            self._disk_is_done = True
        elif self.running and self.node.has_ready():
            # At once rather than in a turn of its own: acknowledgements and commits wait for nothing else.
            self._run_turn()

    def _tick(self) -> None:
        self._feed(self.node.tick)
        self._connect()
        for participant in self._participants:
            if self.failure is None:
                participant.tick()

    # -- the turn ------------------------------------------------------------------------------------------------

    def _run_due_turn(self) -> None:
        if self._turn_is_due:  # else it has been had meanwhile, or this node has stopped
            self._run_turn()

    def _run_turn(self) -> None:
        self._turn_is_due = False
        self._draining = True
        self._wanted_again = False
        try:
            # After everything that this turn answers had arrived, and before anything that it sends (B30, B31).
            self.node.time_is(self._steady_seconds())
            for gather in self._gatherers:
                gather()
            # A follower acknowledges before it applies: the leader waits for that, and nobody for this. The turn in
            # which its disk is done, or the next without anything to write, applies what this one leaves.
            acknowledges_first = self.node.role is Role.FOLLOWER and self.node.has_unwritten
            self.node.may_apply(not acknowledges_first and not self._applier.is_behind)
            if self.node.has_ready():
                self._carry_out(self.node.take_ready())
            if self._disk_is_done:
                # It was waited for. A turn of its own would come after the next messages, which bring more to write:
                # acknowledgements would be late by a sync each time, and nothing would ever be applied.
                self._disk_is_done = False
                if self.failure is None and self.node.has_ready():
                    self._carry_out(self.node.take_ready())  # the acknowledgement first, then what is committed
        except Exception as error:
            self.fail(error)
        finally:
            self._draining = False
        if self._endings:
            endings, self._endings = self._endings, []
            for ending in endings:
                try:
                    ending()
                except Exception:
                    # Nothing that the cluster agreed on has gone wrong, and others wait for what they wrote to leave.
                    self._log.failure("what was left for the end of a turn failed")
        if self._wanted_again or self.node.has_ready():
            self.wake()
        if self._news is None and self.node.has_untold_news:
            self._watch_news()

    def _watch_news(self) -> None:
        if self.running and self.failure is None:
            self._news_index = self.node.commit_index
            self._news = self._clock.callLater(NEWS_SECONDS, self._look_at_news)

    def _look_at_news(self) -> None:
        """Let the followers know what is committed, unless entries that came since have told them."""
        self._news = None
        if self.node.told_index < self._news_index:
            self._feed(self.node.tell_news)
        elif self.node.has_untold_news:
            self._watch_news()

    def _carry_out(self, ready: Ready) -> None:
        if ready.configuration_changed:
            self._connect()
        if ready.write is not None:
            # First: the log's worker begins while this thread is in the system calls that send. A follower that waits
            # for its disk keeps nobody else waiting; a leader goes on with two others while its own disk hangs.
            self._storage.write(ready.write, may_wait=self.node.role is Role.FOLLOWER)
            if self.failure is not None:
                return
            if ready.write.snapshot is not None:
                self._applier.restore(ready.write.snapshot)
        if ready.messages:
            self.messages_sent += len(ready.messages)
            self._transport.send(ready.messages)
        for peer in ready.send_snapshots:
            self._transport.send_snapshot(peer)
        for event in ready.events:
            self._log.info("{node_id}: {event}", node_id=self.node.node_id, event=event)
        if ready.soft_state is not None:
            self._announce(ready.soft_state)
        if ready.committed:
            self._applier.apply(ready.committed)
        for wanted in ready.entries_wanted:
            self._read_back(wanted)
        if ready.reads:
            self._on_reads(ready.reads)

    def _read_back(self, wanted: EntriesWanted) -> None:
        def read(entries: Sequence[Entry]) -> None:
            # Also where this node was removed: what was committed while it was a member is applied to the end.
            self._hand_in(self.node.entries_read, wanted, entries)

        self._storage.read(wanted.start, wanted.stop, wanted.max_bytes, read)

    def _announce(self, state: SoftState) -> None:
        self._log.info(
            "{node_id} is {role} in term {term}, leader: {leader}",
            node_id=self.node.node_id,
            role=state.role.value,
            term=state.term,
            leader=state.leader,
        )
        for participant in self._participants:
            participant.soft_state_changed(state)

    def _connect(self) -> None:
        """Keep in touch with everybody who counts: members, and those who are being told that they are none any more.

        A configuration is in force once it is appended, yet whoever it leaves out still has a voice until it is
        committed; and the leader goes on sending to it until it has heard of that (B7, B22).
        """
        if self._silent:
            return
        node = self.node
        members = {**node.committed_configuration()[0].members, **node.configuration.members}
        for peer in node.progress():
            if peer not in members and peer in self._reached:
                members[peer] = self._reached[peer]
        if members != self._reached:
            self._reached = members
            self._transport.set_members(replace(node.configuration, members=members))

    # -- the end -------------------------------------------------------------------------------------------------

    def fall_silent(self) -> None:
        """Take part in nothing any more, but stay: this node was removed, and whoever asks it is to hear so."""
        self._silent = True
        self._transport.leave()

    def _tick_failed(self, failure: Any) -> None:
        self.fail(failure.value)

    def fail(self, error: BaseException) -> None:
        """Stop for good: a silent node is safe and a wrong one is not."""
        if self.failure is not None:
            return
        self.failure = error
        # A turn that is due would carry out what a core in an unknown state asks for.
        self._stop_turning()
        # Where the disk failed the core is sound, and another may lead at once (B50).
        may_speak = isinstance(error, StorageError) and self.running and not self._silent
        if may_speak and (words := self.node.resign()):
            self._transport.send(words)
        self._fatal(error)
        self._on_failure()
