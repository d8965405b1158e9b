"""The simulated network: what arrives, what does not, and who is told."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.errors import NoLeader, OutcomeUnknown
from raftkv.interfaces import Identity, IPeerReceiver
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import HeartbeatResponse, Message
from raftkv.testing.clock import NodeClock, VirtualClock
from raftkv.testing.network import NetworkSettings, Process, SimulatedNetwork
from raftkv.testing.trace import Trace
from raftkv.testing.transport import SimulatedForwarder, SimulatedTransport


@implementer(IPeerReceiver)
class Receiver:
    """Notes what a driver would get."""

    def __init__(self) -> None:
        self.rounds: list[int] = []
        self.unreachable: list[str] = []
        self.closed: list[str] = []
        self.snapshots: list[tuple[str, int, bool]] = []

    def received(self, messages: Sequence[Message]) -> None:
        self.rounds += [message.read_round for message in messages if isinstance(message, HeartbeatResponse)]

    def peer_unreachable(self, peer: str) -> None:
        self.unreachable.append(peer)

    def peer_closed(self, peer: str) -> None:
        self.closed.append(peer)

    def snapshot_sent(self, peer: str, index: int, delivered: bool) -> None:
        self.snapshots.append((peer, index, delivered))


class Store:
    """Answers writes as it is told, later or never."""

    def __init__(self) -> None:
        self.waiting: list[Any] = []

    def write(self, commands: Any, done: Any, *, forwarded: bool = False) -> None:
        self.waiting.append(done)


class NetworkTestCase(SynchronousTestCase):
    """Three processes that know each other."""

    def setUp(self) -> None:
        self.clock = VirtualClock()
        self.network = SimulatedNetwork(
            clock=self.clock,
            random=random.Random(1),
            settings=NetworkSettings(),
            trace=Trace(self.clock.seconds),
        )
        self.receivers: dict[str, Receiver] = {}
        self.processes: dict[str, Process] = {}
        self.transports: dict[str, SimulatedTransport] = {}
        for name in "abc":
            self.join(name)
        self.clock.advance(1)

    def join(self, name: str) -> None:
        """Start a process."""
        identity = Identity(
            cluster_id="c", node_id=name, incarnation="1", raft_addr=f"{name}:2", rpc_addr=f"{name}:1", http_addr=""
        )
        process = self.network.join(identity, NodeClock(self.clock, name=name))
        transport = SimulatedTransport(self.network, process)
        receiver = Receiver()
        transport.set_members(Configuration(members={each: Member(id=each) for each in "abc"}))
        transport.start(receiver)
        self.processes[name], self.transports[name], self.receivers[name] = process, transport, receiver

    def kill(self, name: str, *, silently: bool = False) -> None:
        """End a process, or a whole machine."""
        self.processes[name].clock.die()
        self.network.leave(name, silently=silently)

    def send(self, sender: str, to: str, *rounds: int) -> None:
        """Send numbered messages, one after the other."""
        for number in rounds:
            self.transports[sender].send([HeartbeatResponse(term=1, sender=sender, to=to, read_round=number)])


class MessageTests(NetworkTestCase):
    """Messages and their fates."""

    def test_order(self) -> None:
        """Messages arrive, late, and in the order in which they were sent."""
        self.send("a", "b", *range(50))
        self.assertEqual([], self.receivers["b"].rounds)
        self.clock.advance(1)
        self.assertEqual(list(range(50)), self.receivers["b"].rounds)

    def test_blocked_one_way(self) -> None:
        """A link that is blocked in one direction works in the other, and nobody is told."""
        self.network.block("a", "b")
        self.send("a", "b", 1)
        self.send("b", "a", 2)
        self.clock.advance(5)
        self.assertEqual(([], [2]), (self.receivers["b"].rounds, self.receivers["a"].rounds))
        self.assertEqual([], self.receivers["a"].unreachable)

    def test_partition_and_bridge(self) -> None:
        """Nodes that share a group of a partition can talk, others cannot; afterwards all can again."""
        self.network.partition("ab", "bc")
        self.send("a", "b", 1)
        self.send("a", "c", 1)
        self.send("c", "b", 2)
        self.clock.advance(1)
        self.assertEqual(([1, 2], []), (sorted(self.receivers["b"].rounds), self.receivers["c"].rounds))
        self.network.heal()
        self.send("a", "c", 3)
        self.clock.advance(1)
        self.assertEqual([3], self.receivers["c"].rounds)

    def test_broken_connection(self) -> None:
        """What is in flight on a connection that breaks is lost, and both ends notice."""
        self.send("a", "b", 1)
        self.network.break_connections("a", "b")
        self.clock.advance(2)
        self.assertEqual([], self.receivers["b"].rounds)
        self.assertEqual((["b"], ["a"]), (self.receivers["a"].unreachable, self.receivers["b"].unreachable))
        self.assertEqual((["b"], ["a"]), (self.receivers["a"].closed, self.receivers["b"].closed))
        self.send("a", "b", 2)
        self.clock.advance(1)
        self.assertEqual([2], self.receivers["b"].rounds)

    def test_dead_process(self) -> None:
        """A message to a process that is down is refused, which its sender notices once."""
        self.kill("b")
        self.send("a", "b", 1, 2, 3)
        self.clock.advance(2)
        self.assertEqual(["b"], self.receivers["a"].unreachable)

    def test_closed_connections(self) -> None:
        """The connections of a process that ends are closed: who is not cut off from its machine sees it at once. Those
        of a machine that is gone are silent."""
        self.network.block("b", "c")
        self.kill("b")
        self.clock.advance(0.01)
        self.assertEqual((["b"], []), (self.receivers["a"].closed, self.receivers["c"].closed))
        self.kill("a", silently=True)
        self.clock.advance(9)
        self.assertEqual([], self.receivers["c"].closed)

    def test_paused_process(self) -> None:
        """A paused process gets its messages when it goes on."""
        self.processes["b"].clock.pause()
        self.send("a", "b", 1, 2)
        self.clock.advance(5)
        self.assertEqual([], self.receivers["b"].rounds)
        self.processes["b"].clock.resume()
        self.clock.advance(0)
        self.assertEqual([1, 2], self.receivers["b"].rounds)

    def test_strangers(self) -> None:
        """Nothing is sent to a node that is not a member, unless it is connected to us because we are one of its."""
        without_b = Configuration(members={"a": Member(id="a"), "c": Member(id="c")})
        self.transports["a"].set_members(without_b)
        self.send("a", "b", 1)
        self.clock.advance(1)
        self.assertEqual([1], self.receivers["b"].rounds)
        self.transports["b"].set_members(Configuration(members={"b": Member(id="b"), "c": Member(id="c")}))
        self.send("a", "b", 2)
        self.clock.advance(1)
        self.assertEqual([1], self.receivers["b"].rounds)

    def test_bad_network(self) -> None:
        """Messages are lost, doubled and overtaken as often as the settings say."""
        self.network.settings = dataclasses.replace(self.network.settings, loss=0.2, duplication=0.2, reordering=0.2)
        self.send("a", "b", *range(500))
        self.clock.advance(5)
        arrived = self.receivers["b"].rounds
        self.assertTrue(300 < len(set(arrived)) < 450, len(set(arrived)))
        self.assertGreater(len(arrived), len(set(arrived)) + 40)
        self.assertNotEqual(sorted(arrived), arrived)

    def test_echo(self) -> None:
        """What is doubled may come again long after."""
        self.network.settings = dataclasses.replace(self.network.settings, duplication=1.0, echo_seconds=60.0)
        self.send("a", "b", *range(20))
        self.clock.advance(1)
        early = len(self.receivers["b"].rounds)
        self.assertTrue(20 <= early < 30, early)
        self.clock.advance(60)
        self.assertEqual(40, len(self.receivers["b"].rounds))

    def test_known_peers(self) -> None:
        """Processes know each other once both directions worked."""
        self.assertEqual({"b", "c"}, set(self.transports["a"].known_peers()))
        self.kill("b")
        self.network.block("b", "a")
        self.join("b")
        self.clock.advance(1)
        self.assertEqual({"c"}, set(self.transports["b"].known_peers()))
        self.network.heal()
        self.clock.advance(1)
        self.assertEqual({"a", "c"}, set(self.transports["b"].known_peers()))


class ForwarderTests(NetworkTestCase):
    """Writes that are carried to another node."""

    def setUp(self) -> None:
        super().setUp()
        self.store = Store()
        self.processes["b"].key_value = self.store  # type: ignore[assignment]  # no more of it is used here
        self.answers: list[Any] = []
        SimulatedForwarder(self.network, self.processes["a"]).write("b:1", [], self.answers.append)

    def test_answered(self) -> None:
        """The answer comes back."""
        self.clock.advance(1)
        self.store.waiting[0]([(0, 1)])
        self.assertEqual([], self.answers)
        self.clock.advance(1)
        self.assertEqual([[(0, 1)]], self.answers)

    def test_never_arrived(self) -> None:
        """A write that finds nobody certainly had no effect."""
        self.kill("b")
        self.clock.advance(2)
        self.assertIsInstance(self.answers[0], NoLeader)

    def test_died_in_between(self) -> None:
        """If the other side dies before it answers, the outcome is unknown."""
        self.clock.advance(1)
        self.kill("b")
        self.clock.advance(2)
        self.assertIsInstance(self.answers[0], OutcomeUnknown)

    def test_answer_lost(self) -> None:
        """If the answer cannot come back, the outcome is unknown."""
        self.clock.advance(1)
        self.network.block("b", "a")
        self.store.waiting[0]([(0, 1)])
        self.clock.advance(2)
        self.assertIsInstance(self.answers[0], OutcomeUnknown)

    def test_connection_breaks(self) -> None:
        """If the connection breaks, the outcome is unknown, and a late answer changes nothing."""
        self.clock.advance(1)
        self.network.break_connections("a", "b")
        self.clock.advance(2)
        self.store.waiting[0]([(0, 1)])
        self.clock.advance(2)
        self.assertEqual(1, len(self.answers))
        self.assertIsInstance(self.answers[0], OutcomeUnknown)
