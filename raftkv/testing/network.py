"""A network between simulated nodes: it delays, loses, doubles and reorders, and it can be cut in any direction.

It carries messages, snapshot files and forwarded requests between processes in virtual time, and knows nothing of what
they mean. A connection that breaks is reported to whoever used it, a link that swallows everything is not: nobody
learns of that but by waiting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from twisted.internet.defer import Deferred, succeed
from zope.interface import implementer

from raftkv.errors import NoLeader, OutcomeUnknown, RaftKVError
from raftkv.interfaces import Command, Identity, IForwarder, IKeyValue, INode, IPeerReceiver, IPeerTransport, Result
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Message
from raftkv.testing.clock import NodeClock, VirtualClock
from raftkv.testing.trace import Trace


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """How well the network works. Probabilities are for each group of messages sent together.

    :ivar min_delay_seconds: the least that a message takes; likewise ``max_delay_seconds``.
    :ivar loss: probability that a message vanishes without notice.
    :ivar duplication: probability that it arrives twice.
    :ivar reordering: probability that it may be overtaken, by up to ten times the largest delay.
    :ivar notice_seconds: the longest that a broken connection takes to be noticed.
    """

    min_delay_seconds: float = 0.0005
    max_delay_seconds: float = 0.002
    loss: float = 0.0
    duplication: float = 0.0
    reordering: float = 0.0
    notice_seconds: float = 1.0


Transfer = Callable[[Callable[[bool], None]], None]


@dataclass(slots=True, kw_only=True, eq=False)
class Process:
    """One running process as the network sees it.

    :ivar receiver: gets the messages, from the moment its transport is started.
    :ivar key_value: gets the requests.
    :ivar open_calls: answers that it owes; each is called with ``None`` if the process dies first.
    """

    identity: Identity
    clock: NodeClock
    known: dict[str, Identity] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    receiver: IPeerReceiver | None = None
    key_value: IKeyValue | None = None
    node: INode | None = None
    open_calls: dict[int, Callable[[], None]] = field(default_factory=dict)


@dataclass(slots=True)
class _Link:
    """One direction between two nodes; ``generation`` changes when its connection breaks."""

    generation: int = 0
    free_at: float = 0.0
    report_pending: bool = False


class SimulatedNetwork:
    """All links between all nodes.

    :param clock: the time of the world.
    :param random: draws every delay and every fault.
    :ivar settings: may be replaced at any time.
    :ivar counts: what happened to messages, by kind, for the statistics.
    """

    def __init__(self, *, clock: VirtualClock, random: random.Random, settings: NetworkSettings, trace: Trace) -> None:
        self.clock = clock
        self.settings = settings
        self.trace = trace
        self.processes: dict[str, Process] = {}
        self.on_delivery: Callable[[Message], None] | None = None
        self.on_send: Callable[[Message], None] | None = None
        self.counts = dict.fromkeys(("delivered", "lost", "doubled", "reordered", "blocked", "refused", "broken"), 0)
        self._random = random
        self._links: dict[tuple[str, str], _Link] = {}
        self._blocked: set[tuple[str, str]] = set()
        self._tickets = 0

    # -- faults --------------------------------------------------------------------------------------------------

    def block(self, sender: str, to: str) -> None:
        """Let everything that one node sends to another vanish."""
        self._blocked.add((sender, to))

    def partition(self, *groups: Iterable[str]) -> None:
        """Block both directions between nodes that share no group; a node may be in several, as a bridge."""
        sets = [frozenset(group) for group in groups]
        everybody = sorted(frozenset().union(*sets))
        for one in everybody:
            for other in everybody:
                if one != other and not any(one in group and other in group for group in sets):
                    self.block(one, other)

    def heal(self) -> None:
        """Unblock every link."""
        self._blocked.clear()

    def is_blocked(self, sender: str, to: str) -> bool:
        """Tell whether what ``sender`` says to ``to`` vanishes."""
        return (sender, to) in self._blocked

    def break_connections(self, one: str, other: str) -> None:
        """Break the connections between two nodes: what is in flight is lost, and both are told."""
        for sender, to in ((one, other), (other, one)):
            self._link(sender, to).generation += 1
            self.counts["broken"] += 1
            self._report_unreachable(sender, to)

    # -- processes -----------------------------------------------------------------------------------------------

    def join(self, identity: Identity, clock: NodeClock) -> Process:
        """Put a starting process on the network, in place of its earlier life."""
        process = Process(identity=identity, clock=clock)
        self.processes[identity.node_id] = process
        return process

    def leave(self, node_id: str) -> None:
        """Take a dead process off the network: whoever waits for it notices."""
        process = self.processes.pop(node_id)
        open_calls, process.open_calls = process.open_calls, {}
        for broken in open_calls.values():
            broken()
        for other in self.processes:
            self._link(node_id, other).generation += 1
            self._report_unreachable(other, node_id)

    def delay(self) -> float:
        """Draw how long something takes to arrive."""
        return self._random.uniform(self.settings.min_delay_seconds, self.settings.max_delay_seconds)

    def notice_delay(self) -> float:
        """Draw how long it takes to notice that a connection is broken."""
        return self._random.uniform(0.0, self.settings.notice_seconds)

    # -- messages ------------------------------------------------------------------------------------------------

    def send(self, process: Process, messages: Sequence[Message]) -> None:
        """Carry messages of one process; those for one destination travel together."""
        groups: dict[str, list[Message]] = {}
        for message in messages:
            if self.on_send is not None:
                self.on_send(message)
            groups.setdefault(message.to, []).append(message)
        for to, group in groups.items():
            self._send_group(process, to, group)

    def _send_group(self, process: Process, to: str, group: list[Message]) -> None:
        settings, chance, sender = self.settings, self._random, process.identity.node_id
        if to not in process.members:
            self.counts["refused"] += 1
            return
        if self.is_blocked(sender, to):
            self.counts["blocked"] += 1
            return
        if settings.loss and chance.random() < settings.loss:
            self.counts["lost"] += 1
            return
        link, now = self._link(sender, to), self.clock.seconds()
        arrival = now + self.delay()
        if settings.reordering and chance.random() < settings.reordering:
            self.counts["reordered"] += 1
            arrival += chance.uniform(0.0, 10 * settings.max_delay_seconds)
        else:
            arrival = link.free_at = max(arrival, link.free_at)
        self._arrive_at(arrival, sender, to, group)
        if settings.duplication and chance.random() < settings.duplication:
            self.counts["doubled"] += 1
            self._arrive_at(arrival + self.delay(), sender, to, group)

    def _arrive_at(self, time: float, sender: str, to: str, group: list[Message]) -> None:
        generation = self._link(sender, to).generation
        self.clock.callLater(max(0.0, time - self.clock.seconds()), self._deliver, sender, to, generation, group)

    def _deliver(self, sender: str, to: str, generation: int, group: list[Message]) -> None:
        if self._link(sender, to).generation != generation:
            self.counts["lost"] += 1
        elif self.is_blocked(sender, to):
            self.counts["blocked"] += 1
        elif (target := self.processes.get(to)) is None or target.receiver is None:
            self.counts["refused"] += 1
            self._report_unreachable(sender, to)
        else:
            receiver = target.receiver
            target.clock.run(lambda: self._hand_over(receiver, group))

    def _hand_over(self, receiver: IPeerReceiver, group: list[Message]) -> None:
        for message in group:
            self.counts["delivered"] += 1
            if self.trace.keeps_lines:
                self.trace.note(str(message))
            else:
                self.trace.note(f"{message.sender} {message.to} {message.term} {type(message).__name__}")
            if self.on_delivery is not None:
                self.on_delivery(message)
            receiver.step(message)

    def _report_unreachable(self, sender: str, to: str) -> None:
        """Tell a sender, after a while and once, that its connection broke or was refused."""
        link = self._link(sender, to)
        process = self.processes.get(sender)
        if process is None or link.report_pending:
            return
        link.report_pending = True

        def report() -> None:
            link.report_pending = False
            if process.receiver is not None and to in process.members and not process.clock.is_dead:
                receiver = process.receiver
                process.clock.run(lambda: receiver.peer_unreachable(to))

        self.clock.callLater(self.notice_delay(), report)

    def _link(self, sender: str, to: str) -> _Link:
        link = self._links.get((sender, to))
        if link is None:
            link = self._links[sender, to] = _Link()
        return link

    # -- getting to know each other ------------------------------------------------------------------------------

    def greet(self, process: Process, peer: str) -> None:
        """Exchange the first words of a connection with a peer as soon as both directions work."""
        if process.clock.is_dead or peer not in process.members:
            return
        other, name = self.processes.get(peer), process.identity.node_id
        if other is None or self.is_blocked(name, peer) or self.is_blocked(peer, name):
            self.clock.callLater(self._random.uniform(0.2, 0.6), self.greet, process, peer)
            return
        process.known[peer] = other.identity
        other.known[name] = process.identity

    # -- requests ------------------------------------------------------------------------------------------------

    def call(
        self,
        *,
        origin: str,
        clock: NodeClock | None,
        to: str,
        ask: Callable[[Process, Callable[[Any], None]], None],
        answered: Callable[[Any], None],
    ) -> None:
        """Carry a request to a process and its answer back.

        :param origin: who asks, for the partitions.
        :param clock: the asking process, ``None`` for one outside of the cluster.
        :param ask: runs in the process that is asked, with a callable for the answer.
        :param answered: gets the answer, :exc:`NoLeader` where the request never arrived, or :exc:`OutcomeUnknown`
            where contact was lost in between; exactly once, unless the asking process dies.
        """
        _Call(self, origin, clock, to, ask, answered).depart()

    def next_ticket(self) -> int:
        """Return a number that was not used before."""
        self._tickets += 1
        return self._tickets


class _Call:
    """A request and its answer on their way."""

    def __init__(
        self,
        network: SimulatedNetwork,
        origin: str,
        clock: NodeClock | None,
        to: str,
        ask: Callable[[Process, Callable[[Any], None]], None],
        answered: Callable[[Any], None],
    ) -> None:
        self._network = network
        self._origin = origin
        self._clock = clock
        self._to = to
        self._ask = ask
        self._answered = answered
        self._ended = False

    def depart(self) -> None:
        if self._network.is_blocked(self._origin, self._to):
            # Whether the connection was up already (so that the request may have got through) nobody can tell here.
            self._later(self._network.notice_delay(), NoLeader())
        else:
            self._network.clock.callLater(self._network.delay(), self._arrive)

    def _arrive(self) -> None:
        network = self._network
        process = network.processes.get(self._to)
        if process is None or process.key_value is None:
            self._later(network.delay(), NoLeader())
            return
        if network.is_blocked(self._origin, self._to):
            self._later(network.notice_delay(), OutcomeUnknown())
            return
        ticket = network.next_ticket()
        process.open_calls[ticket] = self._broken
        network.trace.note(f"{self._origin} calls {self._to}")
        process.clock.run(lambda: self._ask(process, lambda answer: self._return(process, ticket, answer)))

    def _return(self, process: Process, ticket: int, answer: Any) -> None:
        if process.open_calls.pop(ticket, None) is None:
            return
        if self._network.is_blocked(self._to, self._origin):
            self._broken()
        else:
            self._later(self._network.delay(), answer)

    def _broken(self) -> None:
        self._later(self._network.notice_delay(), OutcomeUnknown())

    def _later(self, seconds: float, answer: Any) -> None:
        self._network.clock.callLater(seconds, self._end, answer)

    def _end(self, answer: Any) -> None:
        if self._ended:
            return
        self._ended = True
        if self._clock is None:
            self._answered(answer)
        else:
            self._clock.run(lambda: self._answered(answer))


@implementer(IPeerTransport)
class SimulatedTransport:
    """The way of one process to its peers.

    :param copy_snapshot: copies the newest snapshot to a peer in virtual time; see :class:`SnapshotTransfers`.
    """

    def __init__(
        self, network: SimulatedNetwork, process: Process, copy_snapshot: Callable[[Process, str], None]
    ) -> None:
        self._network = network
        self._process = process
        self._copy_snapshot = copy_snapshot

    def start(self, receiver: IPeerReceiver) -> None:
        """See :class:`IPeerTransport`."""
        self._process.receiver = receiver

    def send(self, messages: Sequence[Message]) -> None:
        """See :class:`IPeerTransport`."""
        self._network.send(self._process, messages)

    def set_members(self, configuration: Configuration) -> None:
        """See :class:`IPeerTransport`."""
        process = self._process
        members = frozenset(configuration.members) - {process.identity.node_id}
        for peer in sorted(members - process.members):
            self._network.clock.callLater(self._network.delay(), self._network.greet, process, peer)
        process.members = members

    def send_snapshot(self, peer: str) -> None:
        """See :class:`IPeerTransport`."""
        self._copy_snapshot(self._process, peer)

    def known_peers(self) -> Mapping[str, Identity]:
        """See :class:`IPeerTransport`."""
        return self._process.known


@implementer(IForwarder)
class SimulatedForwarder:
    """Carries one process's requests to the others' RPC ports."""

    def __init__(self, network: SimulatedNetwork, process: Process) -> None:
        self._network = network
        self._process = process

    def write(
        self, rpc_addr: str, commands: Sequence[Command], done: Callable[[Sequence[Result] | RaftKVError], None]
    ) -> None:
        """See :class:`IForwarder`."""

        def ask(process: Process, answer: Callable[[Any], None]) -> None:
            if process.key_value is not None:
                process.key_value.write(commands, answer, forwarded=True)

        self._call(rpc_addr, ask, done)

    def call(self, rpc_addr: str, name: str, arguments: Mapping[str, Any]) -> Deferred[Any]:
        """See :class:`IForwarder`."""
        if name != "cluster":
            raise ValueError(f"nothing answers to {name!r}")
        fired: Deferred[Any] = Deferred()

        def ask(process: Process, answer: Callable[[Any], None]) -> None:
            answer(process.node.local_cluster() if process.node is not None else NoLeader())

        def answered(answer: Any) -> None:
            if isinstance(answer, RaftKVError):
                fired.errback(answer)
            else:
                fired.callback(answer)

        self._call(rpc_addr, ask, answered)
        return fired

    def stop(self) -> Deferred[None]:
        """See :class:`IForwarder`."""
        return succeed(None)

    def _call(
        self,
        rpc_addr: str,
        ask: Callable[[Process, Callable[[Any], None]], None],
        answered: Callable[[Any], None],
    ) -> None:
        to = next(
            (name for name, each in self._network.processes.items() if each.identity.rpc_addr == rpc_addr), rpc_addr
        )
        origin = self._process.identity.node_id
        self._network.call(origin=origin, clock=self._process.clock, to=to, ask=ask, answered=answered)
