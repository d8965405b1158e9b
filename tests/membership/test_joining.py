"""How a node asks to be taken in."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.errors import Conflict, NoLeader, RequestTimeout
from raftkv.interfaces import IForwarder, Joined
from raftkv.membership import Joining, JoinRefused
from raftkv.raft.configuration import Configuration, Member

CONFIGURATION = Configuration(members={"a": Member(id="a", raft_addr="a:1")}, voters=frozenset("a"))
ANSWER = {"cluster_id": "c1", "configuration": CONFIGURATION.encode().decode(), "configuration_index": 7}


@implementer(IForwarder)
class Cluster:
    """Answers what a test says, one answer for each question; the last one again and again."""

    def __init__(self, *answers: Any) -> None:
        self.answers = list(answers)
        self.asked: list[tuple[str, str, Mapping[str, Any]]] = []

    def call(self, rpc_addr: str, name: str, arguments: Mapping[str, Any]) -> Deferred[Any]:
        self.asked.append((rpc_addr, name, arguments))
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        fired: Deferred[Any] = Deferred()
        if answer is not None:
            (fired.errback if isinstance(answer, Exception) else fired.callback)(answer)
        return fired

    def write(self, rpc_addr: str, commands: Any, done: Any) -> None:
        raise AssertionError("a node that joins writes nothing")

    def stop(self) -> Deferred[None]:
        return succeed(None)


class JoiningTests(SynchronousTestCase):
    """The service."""

    def start(self, *answers: Any) -> None:
        """Start it against a cluster that gives these answers."""
        self.clock = Clock()
        self.joined: list[Joined] = []
        self.refused: list[Exception] = []
        self.cluster = Cluster(*answers)
        self.service = Joining(
            request={"id": "n4", "incarnation": "ab"},
            addresses=lambda: ("a:1", "b:1"),
            forwarder=self.cluster,
            clock=self.clock,
            joined=self.joined.append,
            refused=self.refused.append,
        )
        self.service.startService()

    def test_taken_in(self) -> None:
        """The first answer is enough, and says where to begin."""
        self.start(ANSWER)
        expected = Joined(incarnation="ab", cluster_id="c1", configuration=CONFIGURATION, configuration_index=7)
        self.assertEqual(self.joined, [expected])
        self.assertEqual(self.cluster.asked, [("a:1", "join", {"id": "n4", "incarnation": "ab"})])
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_asks_again(self) -> None:
        """While nobody answers, or nobody leads, or the answer makes no sense, all addresses are asked again."""
        self.start(NoLeader(), RequestTimeout("slow", "unknown"), {"cluster_id": ""}, {"cluster_id": "c1"}, ANSWER)
        self.assertEqual(self.joined, [])
        self.assertIn("slow", self.service.reason)
        for _ in range(4):
            self.clock.advance(4)
        self.assertEqual(len(self.joined), 1)
        self.assertEqual([address for address, _, _ in self.cluster.asked], ["a:1", "b:1", "a:1", "b:1", "a:1"])

    def test_refused(self) -> None:
        """A name that is taken ends it with one sentence."""
        self.start(Conflict("n4 is a member already"))
        self.assertEqual([type(error) for error in self.refused], [JoinRefused])
        self.assertIn("n4 cannot join: a:1 refused: n4 is a member already", str(self.refused[0]))
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_stopped(self) -> None:
        """A service that is stopped asks no more, whether it waits for an answer or for the next attempt."""
        for answer in (None, NoLeader()):
            self.start(answer)
            self.successResultOf(self.service.stopService())
            self.clock.advance(10)
            self.assertLessEqual(len(self.cluster.asked), 2)
            self.assertEqual((self.joined, self.refused, self.clock.getDelayedCalls()), ([], [], []))
