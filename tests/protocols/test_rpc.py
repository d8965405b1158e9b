"""The RPC port: requests and answers, what is let in, errors, forwarding, limits."""

from __future__ import annotations

import random
from collections.abc import Callable, Sequence
from functools import partial
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from raftkv import errors
from raftkv.errors import RaftKVError
from raftkv.interfaces import Command, IForwarder, IKeyValue
from raftkv.kvstore import Store
from raftkv.kvstore.checking import CommandLimits
from raftkv.kvstore.commands import (
    compare,
    delete,
    expire,
    expire_sessions,
    get,
    in_session,
    lock,
    put,
    transaction,
)
from raftkv.protocols.command_rules import CommandRules
from raftkv.protocols.forwarding import RpcForwarder
from raftkv.protocols.framing import MIB, FrameLimits, make_unpacker, pack
from raftkv.protocols.hello import Hello, Purpose, client_identity, encode_hello
from raftkv.protocols.rpc import RpcService, RpcSettings
from raftkv.protocols.rpc_arguments import MAX_ARGUMENT_BYTES
from raftkv.protocols.rpc_client import AgedRecords, RpcConnection
from raftkv.protocols.rpc_errors import RemoteError, Unreachable, decode_error, encode_error
from raftkv.protocols.rpc_frames import CALL, ERROR, GET, MAX_ITEMS, PING, RESULT, RPC_LIMITS, WRITE, pack_results
from raftkv.protocols.rpc_settings import frame_limits

from .support import Lines, Network, identity, warnings
from .test_peer import RawDialer

SETTINGS = RpcSettings(
    rules=CommandRules(CommandLimits(max_key_bytes=16, max_value_bytes=5000), max_client_id_bytes=8),
    max_connections=5,
    max_outstanding=100,
    max_group_bytes=10_000,
    max_answer_bytes=20_000,
)
TIMEOUT = 5.0


@implementer(IKeyValue)
class FakeKeyValue:
    """Keeps what it is asked for, and answers when told to."""

    def __init__(self) -> None:
        self.writes: list[tuple[list[Command], Any, bool]] = []
        self.barriers: list[tuple[str, Any]] = []
        self.bounds: list[float | None] = []
        self.records: dict[bytes, Any] = {}
        self.age: float | None = None
        self.endings: list[Callable[[], None]] | None = None  # while a turn is under way

    def at_turn_end(self, call: Callable[[], None]) -> bool:
        if self.endings is not None:
            self.endings.append(call)
        return self.endings is not None

    def write(self, commands: Sequence[Command], done: Any, *, forwarded: bool = False) -> None:
        self.writes.append((list(commands), done, forwarded))

    def barrier(self, consistency: str, done: Any, *, max_stale_seconds: float | None = None) -> None:
        self.barriers.append((consistency, done))
        self.bounds.append(max_stale_seconds)

    def staleness(self) -> float | None:
        return self.age

    def get(self, key: bytes) -> Any:
        return self.records.get(key)

    def acquire(self, command: Command, done: Any) -> Any:
        raise NotImplementedError("nobody takes locks here")

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Any:
        return iter(())

    def revision(self) -> int:
        return 0

    def state(self) -> Store:
        return Store()

    def watch(self, request: Any, receiver: Any) -> Any:
        raise NotImplementedError

    def commit(self, error: RaftKVError | None = None) -> None:
        """Answer every write: with its key as a result, or with an error."""
        writes, self.writes = self.writes, []
        for commands, done, _ in writes:
            done(error or [(0, command[2] if command[0] != 3 else command[4][2]) for command in commands])

    def confirm(self, error: RaftKVError | None = None) -> None:
        """Let every read through, or fail it."""
        barriers, self.barriers = self.barriers, []
        for _, done in barriers:
            done(error)


class RpcTestCase(SynchronousTestCase):
    """One server in a memory network, and whoever talks to it."""

    settings = SETTINGS

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.key_value = self.make_key_value()
        self.calls: dict[str, Any] = {}
        self.service = RpcService(
            identity=identity("a"),
            endpoint=self.network.server("a:rpc"),
            clock=self.clock,
            key_value=self.key_value,
            calls=self.calls,
            settings=self.settings,
        )
        self.lines = Lines()
        self.service._warnings._log = self.lines.logger
        self.service.startService()
        self.forwarder = RpcForwarder(
            identity=identity("f"), connect=self.network.client, clock=self.clock, request_timeout_seconds=TIMEOUT
        )
        self.addCleanup(self.stop_all)

    def make_key_value(self) -> FakeKeyValue:
        """Return what the server stands before."""
        return FakeKeyValue()

    def stop_all(self) -> None:
        """Stop everything, and see that nothing is left."""
        stopped = [self.forwarder.stop()]
        if self.service.running:
            stopped.append(self.service.stopService())
        self.network.flush()
        self.network.advance(10, step=1)
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def client(self, purpose: Purpose = Purpose.CLIENT) -> RpcConnection:
        """Return a connection that is ready."""
        connections: list[RpcConnection] = []
        connection = RpcConnection(
            identity=client_identity() if purpose is Purpose.CLIENT else identity("b"),
            purpose=purpose,
            ready=connections.append,
            clock=self.clock,
            warnings=warnings(self.clock)[1],
            request_timeout_seconds=TIMEOUT,
        )
        self.connect(connection)
        self.assertEqual(connections, [connection])
        return connection

    def connect(self, protocol: Any) -> None:
        """Dial the server."""
        self.network.client("a:rpc").connect(type("F", (), {"buildProtocol": lambda _, address: protocol})())
        self.network.flush()

    def raw(self, *messages: Any, purpose: Purpose = Purpose.CLIENT) -> RawDialer:
        """Say hello and then anything."""
        who = client_identity() if purpose is Purpose.CLIENT else identity("b")
        dialer = RawDialer(self.clock, encode_hello(Hello(identity=who, purpose=purpose)), *messages)
        self.connect(dialer)
        return dialer

    def server_connection(self) -> Any:
        """Return the server's side of the only connection."""
        (connection,) = self.service._port.connections
        return connection


class RequestTests(RpcTestCase):
    """Requests and their answers."""

    def test_interfaces(self) -> None:
        """The fake of the store and the forwarder have the shape of their interfaces."""
        verifyObject(IKeyValue, self.key_value)
        verifyObject(IForwarder, self.forwarder)

    def test_write(self) -> None:
        """A write reaches the store as it was made, and its results come back."""
        done: list[Any] = []
        commands = [put(b"a", b"1"), delete(b"b", 7), in_session(b"c", 5, put(b"d", b"2"))]
        self.client().write(commands, done.append)
        self.network.flush()
        self.assertEqual([(c, f) for c, _, f in self.key_value.writes], [(commands, False)])
        self.key_value.commit()
        self.network.flush()
        self.assertEqual(done, [((0, b"a"), (0, b"b"), (0, b"d"))])

    def test_writes_of_one_read_are_one_call(self) -> None:
        """Separate writes that arrive together become one call of the store; each gets its own results."""
        done: list[Any] = []
        client = self.client()
        for number in range(5):
            commands = [put(b"%d-%d" % (number, i), b"") for i in range(1 + number % 2)]
            client.write(commands, lambda outcome, number=number: done.append((number, outcome)))
        self.network.flush()
        self.assertEqual([len(commands) for commands, _, _ in self.key_value.writes], [7])
        self.key_value.commit()
        self.network.flush()
        expected = [(n, tuple((0, b"%d-%d" % (n, i)) for i in range(1 + n % 2))) for n in range(5)]
        self.assertEqual(done, expected)

    def test_no_room_for_all_of_them(self) -> None:
        """What came together and was refused for want of room is asked for separately: some of it may need none."""
        done: list[Any] = []
        client = self.client()
        for key in (b"a", b"b"):
            client.write([put(key, b""), put(key, b"")], lambda outcome: done.append(outcome))
        self.network.flush()
        self.key_value.commit(errors.DiskFull())
        ((first, refuse, _), (second, answer, _)) = self.key_value.writes
        self.assertEqual([[command[2] for command in each] for each in (first, second)], [[b"a", b"a"], [b"b", b"b"]])
        refuse(errors.DiskFull())
        answer([(0, b"b"), (0, b"b")])
        self.network.flush()
        self.assertIsInstance(done[0], errors.DiskFull)
        self.assertEqual(done[1], ((0, b"b"), (0, b"b")))
        self.assertEqual(self.server_connection()._outstanding, 0)

    def test_last_requests(self) -> None:
        """What is to be asked at the last moment leaves with what was asked before, in one write."""
        client = self.client()
        done: list[Any] = []
        made: list[str] = []

        def make() -> None:
            made.append("once")
            client.write([put(b"b", b"")], done.append)

        client.before_flush(make)
        client.write([put(b"a", b"")], done.append)
        self.assertEqual(made, [])
        self.network.flush()
        self.assertEqual(
            [[command[2] for command in commands] for commands, _, _ in self.key_value.writes], [[b"a", b"b"]]
        )
        self.key_value.commit()
        self.network.flush()
        self.assertEqual((done, made), ([((0, b"a"),), ((0, b"b"),)], ["once"]))

    def test_last_requests_of_a_lost_connection(self) -> None:
        """They are made all the same, whenever they were announced, and fail as never sent."""
        client = self.client()
        done: list[Any] = []
        for _ in range(2):
            client.before_flush(lambda: client.write([put(b"a", b"")], done.append))
            client.abort()
            self.network.flush()
        self.assertEqual([type(error) for error in done], [Unreachable, Unreachable])
        self.assertEqual(self.key_value.writes, [])

    def test_answers_that_no_message_holds(self) -> None:
        """Answers that are too large together are told as an unknown outcome, and the connection goes on."""
        done: list[Any] = []
        client = self.client()
        client.write([put(b"a", b""), put(b"b", b"")], done.append)
        self.network.flush()
        ((_, answer, _),) = self.key_value.writes
        answer([(0, b"x" * 5 * MIB)] * 2)
        client.write([put(b"c", b"")], done.append)
        self.network.flush()
        self.key_value.writes.pop(0)
        self.key_value.commit()
        self.network.flush()
        self.assertIsInstance(done[0], errors.OutcomeUnknown)
        self.assertEqual(done[1], ((0, b"c"),))

    def test_groups_are_bounded(self) -> None:
        """Writes are joined up to a number of bytes and of commands."""
        client = self.client()
        for _ in range(5):
            client.write([put(b"k", b"x" * 4000)], lambda outcome: None)
        self.network.flush()
        self.assertEqual([len(commands) for commands, _, _ in self.key_value.writes], [2, 2, 1])
        self.key_value.writes.clear()
        for _ in range(3):
            client.write([put(b"k", b"")] * 600, lambda outcome: None)
        self.network.flush()
        self.assertEqual([len(commands) for commands, _, _ in self.key_value.writes], [600, 600, 600])

    def test_answers_of_one_turn_are_one_write(self) -> None:
        """All answers of one connection that become ready in one turn leave in one write."""
        client = self.client()
        for _ in range(10):
            client.write([put(b"k", b"")], lambda outcome: None)
            client.get([b"k"], "stale", lambda outcome: None)
            self.network.flush()
        transport = self.server_connection().transport
        sent: list[bytes] = []
        transport.write = sent.append
        self.key_value.commit()
        self.key_value.confirm()
        self.assertEqual(sent, [])
        self.clock.advance(0)
        self.assertEqual(len(sent), 1)
        client.dataReceived(sent[0])
        self.assertEqual(client.outstanding, 0)

    def test_answers_leave_with_the_turn(self) -> None:
        """What is answered in a turn of the store leaves when that turn ends, in one write, and waits for nothing
        else."""
        client = self.client()
        for _ in range(10):
            client.write([put(b"k", b"")], lambda outcome: None)
            client.get([b"k"], "stale", lambda outcome: None)
            self.network.flush()
        sent: list[bytes] = []
        self.server_connection().transport.write = sent.append
        self.key_value.endings = endings = []
        self.key_value.commit()
        self.key_value.confirm()
        self.assertEqual(sent, [])
        for ending in endings:
            ending()
        self.assertEqual(len(sent), 1)
        client.dataReceived(sent[0])
        self.assertEqual(client.outstanding, 0)

    def test_what_answers_lead_to_leaves_with_them(self) -> None:
        """Requests that are made while answers are taken leave when all of the read has been taken, in one write."""
        client = self.client()

        def ask(_: Any) -> None:
            client.write([put(b"k", b"")], lambda outcome: None)

        for _ in range(3):
            client.write([put(b"k", b"")], ask)
        self.network.flush()
        sent: list[bytes] = []
        client.transport.write = sent.append
        self.key_value.commit()
        self.network.flush()
        self.assertEqual((len(sent), client.outstanding), (1, 3))

    def test_packed_results(self) -> None:
        """Results of every kind, packed together, read as those packed by themselves, with nothing behind them."""
        results = [(0, 0), (0, 7), (0, 2**63 - 1), (0, 7, True), (1, 7), (2,), (0, b"x"), (0, 2**32)]
        ids = [(number * 2**60, 1) for number in range(len(results))]
        unpacker = make_unpacker(FrameLimits())
        unpacker.feed(pack_results(ids, results))
        wanted: list[Any] = []
        for (request_id, _), result in zip(ids, results, strict=True):
            wanted += [(RESULT, request_id, (result,)), 10]
        self.assertEqual(list(unpacker), wanted[:-1])

    def test_answered_at_once(self) -> None:
        """What needs no waiting is answered in one write, as soon as the requests have been read."""
        client = self.client()
        sent: list[bytes] = []
        server = self.server_connection()
        server.transport.write = sent.append
        self.key_value.barrier = lambda consistency, done, **_: done(None)  # type: ignore[method-assign]
        for _ in range(5):
            client.get([b"k"], "stale", lambda outcome: None)
            client.get([b"k"], "lease", lambda outcome: None)
        self.network.flush()
        self.assertEqual(len(sent), 1)
        client.dataReceived(sent[0])
        self.assertEqual(client.outstanding, 0)

    def test_get(self) -> None:
        """Reads share a barrier for each consistency, and are served in it."""
        self.key_value.records[b"a"] = (b"v", 1, 2, 3, 0)
        done: list[Any] = []
        client = self.client()
        client.get([b"a"], "linearizable", done.append)
        client.get([b"b", b"a"], "linearizable", done.append)
        client.get([b"b"], "stale", done.append)
        client.get([b"b"], "lease", done.append)
        self.network.flush()
        self.assertEqual([name for name, _ in self.key_value.barriers], ["linearizable", "lease", "stale"])
        self.key_value.confirm()
        self.network.flush()
        record = (b"v", 1, 2, 3, 0)
        self.assertEqual(done, [(record,), (None, record), (None,), (None,)])

    def test_get_within_a_bound(self) -> None:
        """Stale reads that bound the age of the state share a barrier for each bound."""
        done: list[Any] = []
        client = self.client()
        for bound in (0.25, None, 0.25, 1.0):
            client.get([b"b"], "stale", done.append, max_stale_seconds=bound)
        self.network.flush()
        self.assertEqual([name for name, _ in self.key_value.barriers], ["stale"] * 3)
        self.assertEqual(self.key_value.bounds, [0.25, None, 1.0])
        self.key_value.confirm()
        self.network.flush()
        self.assertEqual(done, [(None,)] * 4)

    def test_stale_answers_tell_the_age(self) -> None:
        """The answer to a stale read says how old the state may be, rounded up; that to any other read does not."""
        done: list[Any] = []
        client = self.client()
        for age in (1.2341, None):
            self.key_value.age = age
            for keys in ([b"a"], [b"a", b"b"]):
                client.get(keys, "stale", done.append)
            client.get([b"a"], "lease", done.append)
            self.network.flush()
            self.key_value.confirm()
            self.network.flush()
        ages = [answer.staleness if isinstance(answer, AgedRecords) else "untold" for answer in done]
        self.assertEqual(ages, ["untold", 1.235, 1.235, "untold", None, None])

    def test_errors_of_the_store(self) -> None:
        """An error of the store reaches each request that it befell, with its class, outcome and facts."""
        done: list[Any] = []
        client = self.client()
        client.write([put(b"a", b"")], done.append)
        client.write([put(b"b", b"")], done.append)
        client.get([b"a"], "linearizable", done.append)
        self.network.flush()
        self.key_value.commit(errors.OutcomeUnknown())
        self.key_value.confirm(errors.NotLeader("n2", 7))
        self.network.flush()
        self.assertEqual([type(error).__name__ for error in done], ["OutcomeUnknown"] * 2 + ["NotLeader"])
        self.assertEqual((done[2].leader_hint, done[2].term, done[0].outcome), ("n2", 7, "unknown"))

    def test_calls(self) -> None:
        """A call answers a value, later or now, or an error; a bug in it is logged and told without detail."""
        later: Deferred[Any] = Deferred()

        def conflict(_: Any) -> None:
            raise errors.Conflict("one is under way")

        def bug(_: Any) -> None:
            raise ZeroDivisionError

        self.calls.update(
            now=lambda arguments: {"got": dict(arguments)},
            later=lambda _: later,
            conflict=conflict,
            bug=bug,
            unpackable=lambda _: object(),
        )
        done: list[Any] = []
        client = self.client(Purpose.NODE)
        for name in ("now", "later", "conflict", "bug", "unpackable", "missing"):
            client.call(name, {"x": [1]}, lambda outcome, name=name: done.append((name, outcome)))
        client.ping(lambda outcome: done.append(("ping", outcome)))
        self.network.flush()
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)
        self.assertEqual(len(self.flushLoggedErrors(TypeError)), 1)
        answers = dict(done)
        self.assertEqual(answers.pop("now"), {"got": {"x": (1,)}})
        self.assertIsNone(answers.pop("ping"))
        self.assertEqual(
            {name: type(error) for name, error in answers.items()},
            {"conflict": errors.Conflict, "bug": RemoteError, "unpackable": RemoteError, "missing": errors.NotFound},
        )
        self.assertEqual(answers["bug"].outcome, "unknown")
        later.callback([1, 2])
        self.network.flush()
        self.assertEqual(done[-1], ("later", (1, 2)))


class DoorTests(RpcTestCase):
    """A malformed command must not come in: at apply it would stop every node."""

    def test_bad_commands(self) -> None:
        """Every malformed command is answered with what is wrong, and the connection goes on."""
        session = in_session(b"c", 0, put(b"k", b"v"))
        bad: list[tuple[Any, str]] = [
            ((), "shape"),
            ((99, 0, b"k", b"v"), "shape"),
            ((True, 0, b"k", b"v"), "shape"),
            ((1, False, b"k", b"v"), "namespace"),
            ((1, 0.0, b"k", b"v"), "namespace"),
            ((1, 1, b"k", b"v"), "namespace"),
            ((1, 0, "k", b"v"), "key"),
            ((1, 0, b"k", "v"), "value"),
            ((1, 0, b"k"), "shape"),
            ((1, 0, b"k", b"v", 0, 0, 0), "ttl"),
            ((1, 0, b"k", b"v", None), "expect"),
            ((1, 0, b"k", b"v", True), "expect"),
            ((1, 0, b"", b"v"), "key"),
            ((1, 0, b"\xff", b"v"), "UTF-8"),
            ((1, 0, b"k" * 17, b"v"), "17 bytes"),
            ((1, 0, b"k", b"v" * 5001), "5001 bytes"),
            ((1, 0, b"k", b"v", -3), "expect"),
            ((1, 0, b"k", b"v", 2**63), "expect"),
            ((2, 0, b"k", b"v"), "expect"),
            ((2, 0, b""), "key"),
            ((2, 0, b"k", -3), "expect"),
            ((2, 0), "shape"),
            (expire_sessions(5), "not for clients"),
            (expire(5), "not for clients"),
            ((3, b"", *session[2:]), "client id"),
            ((3, b"c" * 9, *session[2:]), "client id"),
            ((3, "c", *session[2:]), "shape"),
            ((*session[:2], -1, *session[3:]), "sequence"),
            ((*session[:2], 2**63, *session[3:]), "sequence"),
            ((*session[:2], True, *session[3:]), "shape"),
            ((*session[:3], b"short", session[4]), "fingerprint"),
            ((*session[:4], session), "shape"),
            ((*session[:4], expire_sessions(5)), "shape"),
            ((*session[:4], (1, 0, b"", b"v")), "key"),
            ((*session[:4], ()), "shape"),
            (5, "array"),
            (None, "array"),
        ]
        for before in ((put(b"k", b"v"),), ()):
            dialer = self.raw(*[(WRITE, number, (*before, command), 0) for number, (command, _) in enumerate(bad)])
            answers = dialer.messages[1:]
            self.assertEqual(len(answers), len(bad))
            for (command, word), answer in zip(bad, answers, strict=True):
                self.assertEqual(answer[0], ERROR)
                self.assertIn(answer[2], ("bad_request", "too_large"))
                self.assertIn(word, answer[3], command)
                self.assertEqual(answer[4], "not_applied")
            self.assertFalse(dialer.lost)
        self.assertEqual(self.key_value.writes, [])

    def test_good_commands(self) -> None:
        """Every command that the format knows comes in, up to the very limits."""
        good = [
            put(b"k" * 16, b"v" * 5000),
            put("ключ".encode(), b""),
            put(b"k", b"v", 0),
            put(b"k", b"v", -2),
            put(b"k", b"v", 2**63 - 1),
            delete(b"k"),
            delete(b"k", 4),
            in_session(b"c" * 8, 2**63 - 1, delete(b"k")),
            in_session(b"c", 1, transaction([compare(3, 0, b"k", 0)], [put(b"k", b"v")], [get(b"k")])),
            lock(b"l", ttl_ms=1000),
        ]
        self.raw((WRITE, 0, tuple(good), 0))
        self.assertEqual(self.key_value.writes[0][0], good)

    def test_bad_requests(self) -> None:
        """Requests with wrong numbers or keys in a good frame are answered."""
        many = tuple(put(b"k", b"") for _ in range(MAX_ITEMS))
        requests = [
            (WRITE, 0, (), 0),
            (WRITE, 0, many[:1], 2),
            (WRITE, 0, many[:1], -1),
            (GET, 0, (), 0),
            (GET, 0, (b"",), 0),
            (GET, 0, ("k",), 0),
            (GET, 0, (b"k" * 17,), 0),
            (GET, 0, (b"k",), 3),
            (GET, 0, (b"k",), -1),
            (GET, 0, (b"k",), 0, 1000),
            (GET, 0, (b"k",), 1, 1000),
            (GET, 0, (b"k",), 2, -1),
            (GET, 0, (b"k",), 2, 2**60),
            (GET, 0, (), 2, 1000),
        ]
        dialer = self.raw(*requests)
        self.assertEqual([answer[0] for answer in dialer.messages[1:]], [ERROR] * len(requests))
        self.assertEqual((self.key_value.writes, self.key_value.barriers), ([], []))

    def test_bad_frames(self) -> None:
        """A frame that is no request ends the connection with one line."""
        for frame in (
            None,
            5,
            (),
            (WRITE,),
            (True, 0),
            (PING, -1),
            (PING, 2**63),
            (PING, True),
            (PING, 0, 0),
            (99, 0),
            (RESULT, 0, None),
            (WRITE, 0, {}, 0),
            (WRITE, 0, (put(b"k", b""),), False),
            (GET, 0, (b"k",), True),
            (4, 0, b"leader", {}),
            (4, 0, "leader", ()),
        ):
            self.lines.events.clear()
            self.assertTrue(self.raw(frame).lost, frame)
            self.assertEqual(len(self.lines.events), 1, frame)
            self.service._warnings._written = 0

    def test_garbage(self) -> None:
        """B72: random bytes and pickles behind the hello never reach the store."""
        for seed in range(60):
            dialer = self.raw()
            dialer.transport.write(random.Random(seed).randbytes(400) if seed else b"\x80\x04cos\nsystem\n(S'x'\ntR.")
            self.network.flush()
            self.network.advance(SETTINGS.limits.partial_message_seconds, step=1)
            self.assertTrue(dialer.lost, seed)
        self.assertEqual((self.key_value.writes, self.key_value.barriers), ([], []))

    def test_only_nodes_forward(self) -> None:
        """B64: a node's write is marked as forwarded, so it goes no further; a client cannot mark one."""
        write = (WRITE, 0, (put(b"k", b""), expire_sessions(3)), 1)
        self.raw(write, purpose=Purpose.NODE)
        self.assertEqual([forwarded for _, _, forwarded in self.key_value.writes], [True])
        dialer = self.raw((WRITE, 0, (put(b"k", b""),), 1))
        self.assertEqual(dialer.messages[1][2], "bad_request")
        self.assertEqual(len(self.key_value.writes), 1)

    def test_only_nodes_call(self) -> None:
        """What nodes ask of each other is refused to a client, before it is looked at; what is for everybody is not."""
        asked: list[tuple[str, Any]] = []
        for name in ("compare_state", "lend_state", "log_entries", "change_members", "leader", "join"):
            self.calls[name] = lambda found, name=name: asked.append((name, found))
        for purpose, allowed in ((Purpose.CLIENT, {"leader", "join"}), (Purpose.NODE, set(self.calls))):
            done: dict[str, Any] = {}
            asked.clear()
            client = self.client(purpose)
            for name in self.calls:
                client.call(name, {}, partial(done.__setitem__, name))
            self.network.flush()
            self.assertEqual({name for name, _ in asked}, allowed)
            self.assertEqual({name for name, answer in done.items() if answer is None}, allowed)
            refused = [answer for name, answer in done.items() if name not in allowed]
            self.assertEqual(
                {(type(answer), answer.outcome) for answer in refused} - {(errors.Forbidden, "not_applied")}, set()
            )

    def test_weight_of_arguments(self) -> None:
        """Arguments that are too large, in whatever they are nested, are refused before the call hears of them."""
        asked: list[Any] = []
        self.calls["leader"] = asked.append
        deep: Any = b"x" * MAX_ARGUMENT_BYTES
        for _ in range(1000):
            deep = (deep,)
        heavy = (
            {"x": b"x" * MAX_ARGUMENT_BYTES},
            {"x": ({"y": "x" * MAX_ARGUMENT_BYTES},)},
            {"x": {"k" * MAX_ARGUMENT_BYTES: 0}},
            {"x": ((0,) * 500,) * 100},
            {"x": deep},
        )
        dialer = self.raw(
            *[(CALL, number, "leader", found) for number, found in enumerate(heavy)], (CALL, 9, "leader", {"x": ((),)})
        )
        self.assertEqual([answer[2] for answer in dialer.messages[1:-1]], ["too_large"] * len(heavy))
        self.assertEqual((dialer.messages[-1], asked), ((RESULT, 9, None), [{"x": ((),)}]))

    def test_foreign_cluster(self) -> None:
        """A client that names another cluster is refused; one that names none is let in."""
        foreign = RawDialer(
            self.clock, encode_hello(Hello(identity=client_identity("other"), purpose=Purpose.CLIENT)), (PING, 1)
        )
        self.connect(foreign)
        self.assertTrue(foreign.lost)
        self.assertIn("cluster", foreign.messages[0][1])
        self.assertEqual(self.raw((PING, 1)).messages[1], (RESULT, 1, None))


class LimitTests(RpcTestCase):
    """What one connection may cost."""

    def test_outstanding(self) -> None:
        """B70: nothing more is read from a connection with too much unanswered, until half of it is answered."""
        client = self.client()
        server = self.server_connection()
        for _ in range(100):
            client.write([put(b"k", b"")], lambda outcome: None)
        self.network.flush()
        self.assertTrue(server.reading_paused)
        writes, self.key_value.writes = self.key_value.writes, []
        for commands, done, _ in writes:
            done([(0,)] * len(commands))
        self.assertFalse(server.reading_paused)

    def test_client_that_does_not_read(self) -> None:
        """B70: who does not take answers is not read from, and large answers are not all made at once."""
        self.key_value.records[b"a"] = (b"v" * 5000, 1, 2, 3, 0)
        client = self.client()
        done: list[Any] = []
        for _ in range(90):
            client.get([b"a"], "stale", done.append)
        self.network.flush()
        server = self.server_connection()
        server.pauseProducing()  # as a full transport does
        self.assertTrue(server.reading_paused)
        self.key_value.confirm()
        self.network.flush()
        self.assertEqual(done, [])
        server.resumeProducing()
        self.key_value.confirm()
        self.network.flush()
        self.assertEqual(len(done), 90)
        self.assertFalse(server.reading_paused)

    def test_state_that_was_given_up_meanwhile(self) -> None:
        """A read that waits until others' answers are taken is not served from a state that serves nothing any more,
        whatever its barrier said when it fell."""
        self.key_value.records[b"a"] = (b"v", 1, 2, 3, 0)
        client = self.client()
        done: list[Any] = []
        client.get([b"a", b"b"], "linearizable", done.append)
        client.get([b"a"], "linearizable", done.append)
        self.network.flush()
        server = self.server_connection()
        server.pauseProducing()  # as a full transport does
        self.key_value.confirm()
        server.resumeProducing()
        self.network.flush()
        self.assertEqual(done, [])
        self.assertEqual([consistency for consistency, _ in self.key_value.barriers], ["stale"])
        self.key_value.confirm(errors.Fenced())
        self.network.flush()
        self.assertEqual([type(answer) for answer in done], [errors.Fenced] * 2)
        self.assertEqual(server._outstanding, 0)

    def test_large_answers(self) -> None:
        """A GET whose values exceed the limit of an answer is refused."""
        self.key_value.records[b"a"] = (b"v" * 5000, 1, 2, 3, 0)
        done: list[Any] = []
        self.client().get([b"a"] * 5, "stale", done.append)
        self.network.flush()
        self.key_value.confirm()
        self.network.flush()
        self.assertIsInstance(done[0], errors.TooLarge)

    def test_connections(self) -> None:
        """B70: connections past the limit are closed at once."""
        for _ in range(SETTINGS.max_connections):
            self.client()
        self.assertEqual(self.service.connection_count(), SETTINGS.max_connections)
        refused = self.network.client("a:rpc").connect(None)
        self.failureResultOf(refused)

    def test_stop(self) -> None:
        """A stopping server refuses what is new as not applied, answers what is in flight, and closes a little later:
        what meets a closed connection has an unknown outcome."""
        done: list[Any] = []
        client = self.client()
        client.write([put(b"k", b"")], done.append)
        self.network.flush()
        stopped = self.service.stopService()
        client.write([put(b"l", b"")], done.append)
        self.network.flush()
        self.assertIsInstance(done[0], errors.ShuttingDown)
        self.assertNoResult(stopped)
        self.key_value.commit()
        self.network.flush()
        self.assertEqual(done[1], ((0, b"k"),))
        self.assertNoResult(stopped)
        client.write([put(b"m", b"")], done.append)
        self.network.flush()
        self.assertIsInstance(done[2], errors.ShuttingDown)
        self.network.advance(SETTINGS.farewell_seconds + 0.01)
        self.successResultOf(stopped)
        self.service.startService()
        self.client()

    def test_stop_does_not_wait_for_ever(self) -> None:
        """A stopping server cuts what is not answered in time."""
        self.client().write([put(b"k", b"")], lambda outcome: None)
        self.network.flush()
        stopped = self.service.stopService()
        self.network.advance(SETTINGS.drain_seconds + 0.1)
        self.successResultOf(stopped)


class ConnectionTests(RpcTestCase):
    """The asking side."""

    def test_lost_connection(self) -> None:
        """A sent write is of unknown outcome, a read or an unsent write certainly was not applied."""
        done: list[Any] = []
        client = self.client()
        client.write([put(b"k", b"")], done.append)
        client.get([b"k"], "stale", done.append)
        self.network.flush()
        client.write([put(b"l", b"")], done.append)
        client.connectionLost()
        self.assertEqual([type(error) for error in done], [errors.OutcomeUnknown, Unreachable, Unreachable])
        self.assertEqual([error.outcome for error in done], ["unknown", "not_applied", "not_applied"])
        client.write([put(b"m", b"")], done.append)
        self.assertIsInstance(done[3], Unreachable)

    def test_timeouts(self) -> None:
        """Requests without an answer end after the limit, each by itself; an answer that comes later is ignored."""
        done: list[Any] = []
        client = self.client()
        client.write([put(b"k", b"")], done.append)
        self.network.advance(3)
        client.ping(lambda outcome: None)
        client.get([b"k"], "stale", done.append)
        self.network.advance(TIMEOUT - 3 - 0.1)
        self.assertEqual(done, [])
        self.network.advance(0.2)
        self.assertEqual([(type(error), error.outcome) for error in done], [(errors.RequestTimeout, "unknown")])
        self.network.advance(3)
        self.assertEqual((len(done), done[1].outcome, client.outstanding), (2, "not_applied", 0))
        self.key_value.commit()
        self.network.flush()
        self.assertEqual((len(done), client.closing), (2, False))

    def test_silent_server(self) -> None:
        """A connection on which nothing was heard since a request that timed out is cut."""
        client = self.client()
        client.write([put(b"k", b"")], lambda outcome: None)
        self.network.advance(TIMEOUT + 0.1)
        self.assertTrue(client.closing)

    def test_answers_that_make_no_sense(self) -> None:
        """Answers of wrong shape, or to nothing, end the connection; each request still ends once."""
        for answer in (
            (RESULT, 5, ()),
            (RESULT, True, ((0,),)),
            (RESULT, 0, ()),
            (RESULT, 0, ((0,), (0,))),
            (RESULT, 0, None),
            (77, 0, ((0,),)),
            (ERROR, 0, "c", "m"),
            (ERROR, 0, "c", "m", "perhaps", {}),
            None,
        ):
            done: list[Any] = []
            client = self.client()
            client.write([put(b"k", b"")], done.append)
            self.clock.advance(0)
            client.dataReceived(pack(answer) + b"\n")
            client.connectionLost()
            self.network.flush()
            self.assertTrue(client.closing, answer)
            self.assertEqual([error.outcome for error in done], ["unknown"], answer)
            for connection in list(self.service._port.connections):
                connection.abort()
            self.network.flush()

    def test_too_many_items(self) -> None:
        """More items than a request may hold fail at once."""
        done: list[Any] = []
        client = self.client()
        client.write([put(b"k", b"")] * (MAX_ITEMS + 1), done.append)
        client.get([b"k"] * (MAX_ITEMS + 1), "stale", done.append)
        self.assertEqual([type(error) for error in done], [errors.TooLarge] * 2)


class ForwarderTests(RpcTestCase):
    """Requests from node to node."""

    def test_forward(self) -> None:
        """B64: forwarded writes share one connection and arrive marked, so that they are not forwarded again."""
        done: list[Any] = []
        for key in (b"a", b"b"):
            self.forwarder.write("a:rpc", [put(key, b"")], done.append)
        self.network.flush()
        self.assertEqual([forwarded for _, _, forwarded in self.key_value.writes], [True])
        self.key_value.commit()
        self.network.flush()
        self.assertEqual(done, [((0, b"a"),), ((0, b"b"),)])
        self.assertEqual(self.network.attempts, ["a:rpc"])

    def test_many_commands(self) -> None:
        """More commands than a request holds travel in parts and are answered as one."""
        done: list[Any] = []
        self.forwarder.write("a:rpc", [put(b"%d" % i, b"") for i in range(2500)], done.append)
        self.network.flush()
        self.key_value.commit()
        self.network.flush()
        self.assertEqual(done, [[(0, b"%d" % i) for i in range(2500)]])
        self.forwarder.write("a:rpc", [put(b"%d" % i, b"") for i in range(2500)], done.append)
        self.network.flush()
        (_, last, _) = self.key_value.writes.pop()
        last(errors.ProposalDropped())
        self.key_value.commit()
        self.network.flush()
        self.assertEqual((type(done[1]), done[1].outcome), (errors.ProposalDropped, "unknown"))

    def test_nobody_there(self) -> None:
        """A request that could not be sent says NoLeader, not applied; the next one dials again."""
        done: list[Any] = []
        self.forwarder.write("z:rpc", [put(b"k", b"")], done.append)
        self.assertIsInstance(done[0], errors.NoLeader)
        self.assertEqual((done[0].outcome, done[0].code), ("not_applied", "no_leader"))
        self.forwarder.write("z:rpc", [put(b"k", b"")], done.append)
        self.assertEqual(self.network.attempts, ["z:rpc"] * 2)
        failure = self.failureResultOf(self.forwarder.call("z:rpc", "cluster", {}))
        self.assertIsInstance(failure.value, errors.NoLeader)

    def test_nonsense_for_an_address(self) -> None:
        """What is no address cannot be reached: the request was certainly not sent."""
        done: list[Any] = []
        self.forwarder.write("nonsense", [put(b"k", b"")], done.append)
        self.assertIsInstance(done[0], errors.NoLeader)
        self.assertEqual(done[0].outcome, "not_applied")

    def test_break_after_sending(self) -> None:
        """A connection that breaks after sending leaves the outcome unknown; the next request makes a new one."""
        done: list[Any] = []
        self.forwarder.write("a:rpc", [put(b"k", b"")], done.append)
        self.network.flush()
        self.network.cut("a:rpc")
        self.assertIsInstance(done[0], errors.OutcomeUnknown)
        self.forwarder.write("a:rpc", [put(b"l", b"")], done.append)
        self.network.flush()
        self.key_value.commit()
        self.network.flush()
        self.assertEqual(done[1], ((0, b"l"),))

    def test_call(self) -> None:
        """A call fires with its value or fails with the other node's error."""
        self.calls["cluster"] = lambda _: {"members": []}
        answer = self.forwarder.call("a:rpc", "cluster", {})
        missing = self.forwarder.call("a:rpc", "missing", {})
        self.network.flush()
        self.assertEqual(self.successResultOf(answer), {"members": ()})
        self.assertIsInstance(self.failureResultOf(missing).value, errors.NotFound)

    def test_foreign_node(self) -> None:
        """An address that now belongs to another cluster fails as unreachable, with the reason."""
        done: list[Any] = []
        other = RpcForwarder(
            identity=identity("f", "other"), connect=self.network.client, clock=self.clock, request_timeout_seconds=5
        )
        lines = Lines()
        other._warnings._log = lines.logger
        other.write("a:rpc", [put(b"k", b"")], done.append)
        self.network.flush()
        self.assertIsInstance(done[0], Unreachable)
        self.assertIn("cluster", str(done[0]))
        self.assertEqual(len(lines.events), 1)

    def test_stop(self) -> None:
        """Stopping ends what is in flight and closes every connection."""
        done: list[Any] = []
        self.forwarder.write("a:rpc", [put(b"k", b"")], done.append)
        self.network.flush()
        stopped = self.forwarder.stop()
        self.forwarder.write("a:rpc", [put(b"l", b"")], done.append)
        self.assertIsInstance(done[0], errors.ShuttingDown)
        self.network.flush()
        self.successResultOf(stopped)
        self.assertIsInstance(done[1], errors.OutcomeUnknown)


class ErrorTests(SynchronousTestCase):
    """Errors on the wire."""

    def test_round_trips(self) -> None:
        """Every error of raftkv arrives as its class, with its sentence, outcome and facts."""
        samples = [
            errors.BadRequest("no"),
            errors.Forbidden("no"),
            errors.KeyNotFound(b"k"),
            errors.NotFound("no"),
            errors.MethodNotAllowed("PUT", ("GET",)),
            errors.Conflict("no"),
            errors.SequenceTooOld(),
            errors.SequenceReused(),
            errors.PreconditionFailed(5),
            errors.TooLarge("no"),
            errors.UnsupportedMediaType("no"),
            errors.Overloaded("no"),
            errors.DiskFull(),
            errors.SnapshotFailed("no"),
            errors.StateBehind(),
            errors.Compacted(9),
            errors.Overflow(9),
            errors.FutureRevision(9),
            errors.LeaseNotFound(9),
            errors.LockHeld(b"name", 9),
            errors.LockNotHeld(b"name", 0),
            errors.AnswerNotKept(9),
            errors.NoLeader(),
            errors.NotLeader(None, 3),
            errors.ProposalDropped(),
            errors.ShuttingDown(),
            errors.Removed(),
            errors.Fenced(),
            errors.DigestTie(),
            errors.OutcomeUnknown(),
            errors.RequestTimeout("slow", "not_applied"),
            Unreachable("gone"),
        ]
        for error in samples:
            arrived = decode_error(*encode_error(error))
            self.assertIs(type(arrived), type(error))
            self.assertEqual((str(arrived), arrived.outcome), (str(error), error.outcome))
            for name, value in vars(error).items():
                self.assertEqual(getattr(arrived, name), value)
        covered = {type(error) for error in samples}
        missing = {
            cls
            for cls in vars(errors).values()
            if isinstance(cls, type) and issubclass(cls, RaftKVError) and cls is not RaftKVError and cls not in covered
        }
        self.assertEqual(missing, set())

    def test_unknown_code(self) -> None:
        """An error that this version does not know keeps its outcome, sentence and wait."""
        arrived = decode_error("new_thing", "so it is", "unknown", {"retry_after_seconds": 3})
        self.assertIsInstance(arrived, RemoteError)
        self.assertEqual(
            (arrived.outcome, str(arrived), arrived.retry_after_seconds), ("unknown", "so it is (new_thing)", 3.0)
        )

    def test_outcome_wins(self) -> None:
        """The outcome that was said wins over the one of the class, and changes no other error."""
        self.assertEqual(decode_error("overloaded", "m", "unknown", {}).outcome, "unknown")
        self.assertEqual(errors.Overloaded().outcome, "not_applied")

    def test_facts_that_make_no_sense(self) -> None:
        """An error whose facts are missing or of a wrong type is still an error."""
        arrived = decode_error("precondition_failed", "m", "not_applied", {"mod_revision": "5"})
        self.assertIsInstance(arrived, RemoteError)


class SmallFrameTests(RpcTestCase):
    """A port whose messages are bounded lower."""

    settings = RpcSettings(limits=FrameLimits(max_message_bytes=2000, max_array_length=8))

    def test_frame_limit(self) -> None:
        """B70: a frame beyond the limit ends the connection before the store hears of it."""
        self.assertTrue(self.raw((WRITE, 0, (put(b"k", b"v" * 3000),), 0)).lost)
        self.assertTrue(self.raw((WRITE, 0, tuple(put(b"k", b"") for _ in range(9)), 0)).lost)
        self.assertEqual(self.key_value.writes, [])


class SmallMessageTests(RpcTestCase):
    """A port whose messages are smaller than a request may be."""

    settings = RpcSettings(limits=FrameLimits(max_message_bytes=2000))

    def test_request_beyond_the_limit(self) -> None:
        """A request that the other side would take for hostile is refused here, and costs nobody the connection."""
        connection = self.client()
        connection._limits = self.settings.limits
        answers: list[Any] = []
        connection.write([put(b"k", b"v" * 1990)], answers.append)
        connection.write([put(b"k", b"v" * 1980)], answers.append)
        self.network.flush()
        (error,) = answers
        self.assertIsInstance(error, errors.TooLarge)
        self.assertEqual(error.outcome, "not_applied")
        self.key_value.commit()
        self.network.flush()
        self.assertEqual(answers[1], ((0, b"k"),))


class LongTransactionTests(RpcTestCase):
    """A cluster that lets in transactions of more operations than a request has items."""

    operations = 3 * MAX_ITEMS
    limits = frame_limits(max_transaction_operations=operations)
    settings = RpcSettings(limits=limits, rules=CommandRules(CommandLimits(max_transaction_operations=operations)))

    def test_forwarded(self) -> None:
        """The longest one is forwarded, and answered, beside others."""
        done: list[Any] = []
        forwarder = RpcForwarder(
            identity=identity("f"),
            connect=self.network.client,
            clock=self.clock,
            request_timeout_seconds=TIMEOUT,
            limits=self.limits,
        )
        longest = transaction([], [put(b"k%d" % number, b"") for number in range(self.operations)], [])
        forwarder.write("a:rpc", [longest], done.append)
        self.network.flush()
        (((arrived,), answered, _),) = self.key_value.writes
        self.assertEqual(arrived, longest)
        results = [(0, 1, True, tuple((1,) for _ in range(self.operations)))]
        answered(results)
        self.network.flush()
        self.assertEqual(done, [tuple(results)])
        stopped = forwarder.stop()
        self.network.flush()
        self.successResultOf(stopped)

    def test_usual(self) -> None:
        """Where transactions are shorter than requests, frames are as ever."""
        self.assertEqual(frame_limits(max_transaction_operations=128), RPC_LIMITS)
