"""A network between simulated nodes: it delays, loses, doubles and reorders, and it can be cut in any direction.

It carries messages between processes in virtual time and knows nothing of what they mean; requests with answers, and
what a node holds in its hands of all this, are in :mod:`raftkv.testing.transport`. A connection that breaks is reported
to whoever used it, a link that swallows everything is not: nobody learns of that but by waiting.
"""

from __future__ import annotations

import random
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from raftkv.interfaces import Identity, IKeyValue, INode, IPeerReceiver
from raftkv.protocols.snapshots import ISnapshotSink, ISnapshotSource
from raftkv.raft.messages import Message
from raftkv.testing.clock import NodeClock, VirtualClock
from raftkv.testing.trace import Trace

_COUNTED = (
    *("delivered", "lost", "doubled", "reordered", "blocked", "refused", "broken", "closed"),
    *("snapshots", "cut snapshots"),
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NetworkSettings:
    """How well the network works. Probabilities are for each group of messages sent together.

    :ivar min_delay_seconds: the least that a message takes; likewise ``max_delay_seconds``.
    :ivar loss: probability that a message vanishes without notice.
    :ivar duplication: probability that it arrives twice; ``echo_seconds`` is by how much later at most, 0 for at once.
    :ivar reordering: probability that it may be overtaken, by up to ten times the largest delay.
    :ivar notice_seconds: the longest that a broken connection takes to be noticed.
    """

    min_delay_seconds: float = 0.0005
    max_delay_seconds: float = 0.002
    loss: float = 0.0
    duplication: float = 0.0
    echo_seconds: float = 0.0
    reordering: float = 0.0
    notice_seconds: float = 1.0


@dataclass(slots=True, kw_only=True, eq=False)
class Process:
    """One running process as the network sees it.

    :ivar receiver: gets the messages, from the moment its transport is started.
    :ivar key_value: gets the requests; ``calls`` the rare ones, by name.
    :ivar source: the snapshots that it can send, ``sink`` where those of others go; ``incoming`` ends the transfer
        that is arriving.
    :ivar is_fenced: tells whether it knows that its state is wrong.
    :ivar open_calls: what to do for each answer that it owes if its connection breaks first, and who waits for it.
    """

    identity: Identity
    clock: NodeClock
    known: dict[str, Identity] = field(default_factory=dict)
    members: frozenset[str] = frozenset()
    receiver: IPeerReceiver | None = None
    key_value: IKeyValue | None = None
    node: INode | None = None
    calls: Mapping[str, Callable[[Mapping[str, Any]], object]] = field(default_factory=dict)
    source: ISnapshotSource | None = None
    sink: ISnapshotSink | None = None
    incoming: Callable[[], None] | None = None
    current_term: Callable[[], int] = lambda: 0
    is_fenced: Callable[[], bool] = lambda: False
    open_calls: dict[int, tuple[str, Callable[[], None]]] = field(default_factory=dict)


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
        self.counts = dict.fromkeys(_COUNTED, 0)
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

    def generation(self, sender: str, to: str) -> int:
        """Return a number that changes whenever the connection from one node to another breaks."""
        return self._link(sender, to).generation

    def break_connections(self, one: str, other: str) -> None:
        """Reset the connections between two nodes: what is in flight is lost, and both are told.

        To each of them it looks as if the process of the other had ended.
        """
        for sender, to in ((one, other), (other, one)):
            self._link(sender, to).generation += 1
            self.counts["broken"] += 1
            self._report_unreachable(sender, to)
            self._report_closed(sender, to)
            self._break_calls(sender, to)

    def _break_calls(self, origin: str, to: str) -> None:
        process = self.processes.get(to)
        if process is None:
            return
        for ticket, (caller, broken) in list(process.open_calls.items()):
            if caller == origin:
                del process.open_calls[ticket]
                broken()

    # -- processes -----------------------------------------------------------------------------------------------

    def join(self, identity: Identity, clock: NodeClock) -> Process:
        """Put a starting process on the network, in place of its earlier life."""
        process = Process(identity=identity, clock=clock)
        self.processes[identity.node_id] = process
        for other in self.processes.values():
            if identity.node_id in other.members:
                # Whoever was connected to its earlier life dials again.
                self.clock.callLater(self.delay(), self.greet, other, identity.node_id)
        return process

    def leave(self, node_id: str, *, silently: bool = False) -> None:
        """Take a dead process off the network: whoever waits for it notices.

        :param silently: its machine is gone as well, so that nobody is left to close its connections.
        """
        process = self.processes.pop(node_id)
        open_calls, process.open_calls = process.open_calls, {}
        for _, broken in open_calls.values():
            broken()
        for other in self.processes:
            self._link(node_id, other).generation += 1
            self._report_unreachable(other, node_id)
            if not silently:
                self._report_closed(other, node_id)

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
        if to not in process.members and not self._is_guest(process, to):
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
        self._arrive_at(arrival, link, sender, to, group)
        if settings.duplication and chance.random() < settings.duplication:
            self.counts["doubled"] += 1
            later = chance.uniform(0.0, settings.echo_seconds) if settings.echo_seconds else self.delay()
            self._arrive_at(arrival + later, link, sender, to, group)

    def _is_guest(self, process: Process, peer: str) -> bool:
        """Tell whether somebody who is no member is connected to us: who missed a change answers such a leader."""
        other = self.processes.get(peer)
        return other is not None and peer in process.known and process.identity.node_id in other.members

    def _arrive_at(self, time: float, link: _Link, sender: str, to: str, group: list[Message]) -> None:
        wait = max(0.0, time - self.clock.seconds())
        self.clock.callLater(wait, self._deliver, link, link.generation, sender, to, group)

    def _deliver(self, link: _Link, generation: int, sender: str, to: str, group: list[Message]) -> None:
        if link.generation != generation:
            self.counts["lost"] += 1
        elif (sender, to) in self._blocked:
            self.counts["blocked"] += 1
        elif (target := self.processes.get(to)) is None or target.receiver is None:
            self.counts["refused"] += 1
            self._report_unreachable(sender, to)
        else:
            target.clock.run(partial(self._hand_over, target.receiver, group))

    def _hand_over(self, receiver: IPeerReceiver, group: list[Message]) -> None:
        self.counts["delivered"] += len(group)
        trace = self.trace
        for message in group:
            if trace.keeps_lines:
                trace.note(str(message))
            else:
                trace.note(f"{message.sender} {message.to} {message.term} {type(message).__name__}")
            if self.on_delivery is not None:
                self.on_delivery(message)
        receiver.received(group)

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

    def _report_closed(self, name: str, peer: str) -> None:
        """Tell a process that a peer has closed its connections; what cuts them off keeps that from it, too."""
        process = self.processes.get(name)
        if process is None or peer not in process.members:
            return

        def report() -> None:
            is_there = process.receiver is not None and not process.clock.is_dead
            if is_there and not self.is_blocked(peer, name):
                self.counts["closed"] += 1
                process.clock.run(partial(self._hear_closed, process, peer))

        self.clock.callLater(self.delay(), report)

    def _hear_closed(self, process: Process, peer: str) -> None:
        if process.receiver is not None:
            self.trace.note(f"{process.identity.node_id} sees {peer} close its connections")
            process.receiver.peer_closed(peer)

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

    def next_ticket(self) -> int:
        """Return a number that was not used before."""
        self._tickets += 1
        return self._tickets
