"""What a simulated process holds in its hands of the network: the way to its peers, and requests that are answered.

Faults are the network's; here is only what each side is told of them.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping, Sequence
from typing import Any

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from zope.interface import implementer

from raftkv.errors import NoLeader, OutcomeUnknown, RaftKVError
from raftkv.interfaces import Command, Identity, IForwarder, IPeerReceiver, IPeerTransport, Result
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Message
from raftkv.testing.clock import NodeClock
from raftkv.testing.network import Process, SimulatedNetwork
from raftkv.testing.transfers import send_snapshot


class RemoteCall:
    """A request to a process and its answer, on their way.

    :param origin: who asks, for the partitions.
    :param clock: the asking process, ``None`` for one outside of the cluster.
    :param ask: runs in the process that is asked, with a callable for the answer.
    :param answered: gets the answer, :exc:`NoLeader` where the request never arrived, or :exc:`OutcomeUnknown` where
        contact was lost in between; exactly once, unless the asking process dies.
    """

    def __init__(
        self,
        network: SimulatedNetwork,
        *,
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
        """Send the request."""
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
        process.open_calls[ticket] = (self._origin, self._broken)
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


def call_process(process: Process, name: str, arguments: Mapping[str, Any], answer: Callable[[Any], None]) -> None:
    """Ask a process for something rare, as its RPC port would; ``answer`` gets the value or the error."""
    if name not in process.calls:
        answer(NoLeader())
        return
    asked = maybeDeferred(process.calls[name], arguments)
    asked.addErrback(lambda failure: failure.trap(RaftKVError) and failure.value)
    asked.addCallback(answer)


@implementer(IPeerTransport)
class SimulatedTransport:
    """The way of one process to its peers."""

    def __init__(self, network: SimulatedNetwork, process: Process) -> None:
        self._network = network
        self._process = process

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

    def leave(self) -> None:
        """See :class:`IPeerTransport`."""
        self._process.receiver = None
        self._process.members = frozenset()
        self._process.known.clear()

    def send_snapshot(self, peer: str) -> None:
        """See :class:`IPeerTransport`."""
        send_snapshot(self._network, self._process, peer)

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
        fired: Deferred[Any] = Deferred()

        def ask(process: Process, answer: Callable[[Any], None]) -> None:
            call_process(process, name, arguments, answer)

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
        RemoteCall(self._network, origin=origin, clock=self._process.clock, to=to, ask=ask, answered=answered).depart()
