"""What nodes without a data directory ask, and are told, on the Raft port."""

from __future__ import annotations

from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.interfaces import Standing
from raftkv.protocols.asking import AnsweringPort, ask_standing
from raftkv.protocols.framing import FrameLimits, MessageLineReceiver
from raftkv.protocols.hello import Hello, Purpose, encode_hello
from raftkv.protocols.rpc_errors import Unreachable
from tests.protocols.support import Network, identity, warnings


class Says(MessageLineReceiver):
    """A listener that answers whatever comes with some messages."""

    def __init__(self, clock: Clock, *messages: Any) -> None:
        super().__init__(clock=clock, limits=FrameLimits(), warnings=warnings(clock)[1])
        self._messages = messages

    def message_received(self, message: Any) -> None:
        for each in self._messages:
            self.send_message(each)


class AskingTests(SynchronousTestCase):
    """Questions and answers."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.port = AnsweringPort(
            identity=identity("b"), endpoint=self.network.server("b:raft"), clock=self.clock, limits=FrameLimits()
        )
        self.port.startService()

    def ask(self, name: str = "a", cluster_id: str = "c1", address: str = "b:raft", peer: str = "b") -> list[Any]:
        """Ask; the list gets the answer, or the error."""
        answers: list[Any] = []
        asked = ask_standing(
            self.network.client(address),
            peer=peer,
            identity=identity(name, cluster_id),
            clock=self.clock,
            limits=FrameLimits(),
            warnings=warnings(self.clock)[1],
        )
        asked.addErrback(lambda failure: failure.value).addCallback(answers.append)
        self.network.flush()
        return answers

    def test_empty(self) -> None:
        """A node that has not begun says who it will be, and that it holds nothing."""
        self.assertEqual(self.ask(), [Standing(identity=identity("b"), holds=False)])

    def test_refusals(self) -> None:
        """The wrong node, another cluster, a twin and nobody at all are told apart."""
        for arguments, words in (
            ({"peer": "c"}, "it is 'b', not 'c'"),
            ({"cluster_id": "c2"}, "belongs to cluster 'c2'"),
            ({"name": "b"}, "calls itself 'b'"),
            ({"address": "nowhere:1"}, ""),
        ):
            (answer,) = self.ask(**arguments)
            self.assertIsInstance(answer, Unreachable)
            self.assertIn(words, str(answer))

    def test_nonsense(self) -> None:
        """An answer that says nothing is none."""
        hello = encode_hello(Hello(identity=identity("b"), purpose=Purpose.ASK))
        self.successResultOf(self.port.stopService())
        for message in ((0,), (0, 1), (1, True), 5, [True], (False, True)):
            connection = Says(self.clock, hello, message)
            factory = type("Factory", (), {"buildProtocol": lambda self, addr, made=connection: made})()
            self.network.listening["b:raft"] = factory
            (answer,) = self.ask()
            self.assertIsInstance(answer, Unreachable, message)

    def test_cancelled(self) -> None:
        """Who no longer wants to know is not told, and the connection goes."""
        answers: list[Any] = []
        asked = ask_standing(
            self.network.client("b:raft"),
            peer="b",
            identity=identity("a"),
            clock=self.clock,
            limits=FrameLimits(),
            warnings=warnings(self.clock)[1],
        )
        asked.addBoth(answers.append)
        asked.cancel()
        self.network.flush()
        self.assertEqual(len(answers), 1)

    def tearDown(self) -> None:
        stopped = self.port.stopService() if self.port.running else None
        self.network.advance(1)
        if stopped is not None:
            self.successResultOf(stopped)
        self.network.advance(30)
        self.assertEqual(self.clock.getDelayedCalls(), [])
