"""The Raft port: hello, delivery, reconnection, and what is dropped."""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import Deferred, succeed
from twisted.internet.error import ConnectionDone, ConnectionLost, TCPTimedOutError
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from raftkv.interfaces import Identity, IPeerReceiver, IPeerTransport, Standing
from raftkv.protocols.asking import ask_standing
from raftkv.protocols.codec import MAX_ENTRIES, encode
from raftkv.protocols.framing import FrameLimits, MessageLineReceiver, pack
from raftkv.protocols.hello import HELLO, Hello, Purpose, encode_hello
from raftkv.protocols.peer import PeerService, PeerSettings
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import (
    AppendEntries,
    AppendEntriesResponse,
    Entry,
    EntryKind,
    Heartbeat,
    InstallSnapshot,
    Message,
    SnapshotMeta,
)

from .support import Lines, Network, identity, warnings

SETTINGS = PeerSettings(max_unsent_bytes=1000, max_connections=8)


def members(*names: str, **addresses: str) -> Configuration:
    """Return a configuration of voters."""
    return Configuration(
        members={name: Member(id=name, raft_addr=addresses.get(name, f"{name}:raft")) for name in names},
        voters=frozenset(names),
    )


def heartbeat(sender: str, to: str, commit_index: int = 1) -> Heartbeat:
    """Return a message."""
    return Heartbeat(term=1, sender=sender, to=to, commit_index=commit_index)


@implementer(IPeerReceiver)
class Receiver:
    """Notes what a driver would be told."""

    def __init__(self) -> None:
        self.messages: list[Message] = []
        self.unreachable: list[str] = []
        self.closed: list[str] = []
        self.snapshots: list[tuple[str, int, bool]] = []

    def received(self, messages: Sequence[Message]) -> None:
        self.messages.extend(messages)

    def peer_unreachable(self, peer: str) -> None:
        self.unreachable.append(peer)

    def peer_closed(self, peer: str) -> None:
        self.closed.append(peer)

    def snapshot_sent(self, peer: str, index: int, delivered: bool) -> None:
        self.snapshots.append((peer, index, delivered))


class NoSnapshots:
    """Neither has nor takes any."""

    def newest(self) -> None:
        return None

    def begin(self, meta: SnapshotMeta, size: int, checksum: int) -> Deferred[int]:
        return succeed(0)

    def abort(self) -> None:
        pass


class RawDialer(MessageLineReceiver):
    """Says what it is told to, and keeps the answers."""

    def __init__(self, clock: Clock, *first: Any) -> None:
        super().__init__(clock=clock, limits=FrameLimits(), warnings=None)  # type: ignore[arg-type]
        self.first = first
        self.messages: list[Any] = []
        self.lost = False

    def connectionMade(self) -> None:
        super().connectionMade()
        for message in self.first:
            self.send_message(message)

    def message_received(self, message: Any) -> None:
        self.messages.append(message)

    def connectionLost(self, reason: Any = None) -> None:
        super().connectionLost(reason)
        self.lost = True


class PeerTestCase(SynchronousTestCase):
    """Nodes in one memory network."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.nodes: dict[str, PeerService] = {}
        self.receivers: dict[str, Receiver] = {}
        self.lines: dict[str, Lines] = {}
        self.learned: list[Identity] = []
        self.terms: dict[str, int] = {}
        self.addCleanup(self.stop_all)

    def node(self, name: str, *, who: Identity | None = None, settings: PeerSettings = SETTINGS) -> PeerService:
        """Start a node."""
        snapshots = NoSnapshots()
        service = PeerService(
            identity=who or identity(name),
            endpoint=self.network.server(f"{name}:raft"),
            connect=self.network.client,
            clock=self.clock,
            random=random.Random(name),
            settings=settings,
            source=snapshots,
            sink=snapshots,
            current_term=lambda: self.terms.get(name, 1),
            learned=self.learned.append,
        )
        lines = self.lines[name] = Lines()
        service._warnings._log = lines.logger
        self.nodes[name] = service
        self.receivers[name] = Receiver()
        service.start(self.receivers[name])
        service.startService()
        return service

    def cluster(self, *names: str) -> None:
        """Start connected nodes."""
        for name in names:
            self.node(name).set_members(members(*names))
        self.network.advance(1)

    def dial(self, name: str, *first: Any) -> RawDialer:
        """Connect to a node and speak as we like."""
        dialer = RawDialer(self.clock, *first)
        factory = type("Factory", (), {"buildProtocol": lambda _, address: dialer})()
        self.network.client(f"{name}:raft").connect(factory)
        self.network.flush()
        return dialer

    def stop_all(self) -> None:
        """Stop every node, and see that nothing is left."""
        stopped = [node.stopService() for node in self.nodes.values() if node.running]
        self.network.flush()
        self.network.advance(SETTINGS.limits.linger_seconds)
        for each in stopped:
            self.successResultOf(each)
        self.network.flush()
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.network.listening, {})


def hello(name: str, *, cluster_id: str = "c1", purpose: Purpose = Purpose.RAFT, **versions: int) -> tuple[Any, ...]:
    """Return a hello."""
    return encode_hello(Hello(identity=identity(name, cluster_id), purpose=purpose, **versions))


class DeliveryTests(PeerTestCase):
    """Messages between members."""

    def test_interface(self) -> None:
        """The service is the transport that the driver asks for."""
        verifyObject(IPeerTransport, self.node("a"))

    def test_messages_arrive_in_order(self) -> None:
        """Messages arrive in order, and bear the ids that the hellos gave, whatever the sender claims."""
        self.cluster("a", "b")
        sent = [heartbeat("a", "b", number) for number in range(10)]
        self.nodes["a"].send(sent)
        self.network.flush()
        self.assertEqual(self.receivers["b"].messages, sent)
        self.nodes["a"].send([heartbeat("somebody", "b")])
        self.network.flush()
        self.assertEqual(self.receivers["b"].messages[-1].sender, "a")

    def test_one_write_for_each_peer(self) -> None:
        """All messages of one call to one member leave in one write, and none to oneself."""
        self.cluster("a", "b", "c")
        writes: list[tuple[str, int]] = []
        for peer, link in self.nodes["a"]._links.open.items():
            connection = link._connection
            assert connection is not None
            connection.transport.write = lambda data, peer=peer: writes.append((peer, data.count(b"\n")))
        self.nodes["a"].send([heartbeat("a", to, 1) for to in "bcabcb"])
        self.assertEqual(sorted(writes), [("b", 3), ("c", 2)])

    def test_many_small_entries(self) -> None:
        """An AppendEntries with more entries than the framing lets an array have arrives, in parts."""
        self.cluster("a", "b")
        entries = tuple(Entry(index=i, term=1, kind=EntryKind.NOOP, payload=b"") for i in range(1, 3 * MAX_ENTRIES + 2))
        self.nodes["a"].send(
            [
                AppendEntries(
                    term=1, sender="a", to="b", prev_log_index=0, prev_log_term=0, leader_commit=0, entries=entries
                )
            ]
        )
        self.network.flush()
        arrived = self.receivers["b"].messages
        self.assertEqual([entry.index for part in arrived for entry in part.entries], [e.index for e in entries])

    def test_identities(self) -> None:
        """Both sides learn who the other is, once; a new incarnation or address is learned again."""
        self.cluster("a", "b")
        self.assertEqual(dict(self.nodes["a"].known_peers()), {"b": identity("b")})
        self.assertEqual(dict(self.nodes["b"].known_peers()), {"a": identity("a")})
        self.assertEqual(len(self.learned), 2)
        self.assertEqual(self.nodes["a"].connected_peers(), {"b"})

    def test_nothing_after_stop(self) -> None:
        """A stopped service delivers nothing, and can be started again."""
        self.cluster("a", "b")
        stopped = self.nodes["b"].stopService()
        self.network.flush()
        self.successResultOf(stopped)
        self.assertEqual(self.receivers["b"].unreachable, [])
        self.assertEqual(self.receivers["a"].unreachable, ["b"])
        self.nodes["b"].startService()
        self.network.advance(2)
        self.nodes["a"].send([heartbeat("a", "b")])
        self.nodes["b"].send([heartbeat("b", "a")])
        self.network.flush()
        self.assertEqual(self.receivers["b"].messages, [heartbeat("a", "b")])
        self.assertEqual(self.receivers["a"].messages, [heartbeat("b", "a")])

    def test_answer_to_a_stranger(self) -> None:
        """A node that joins answers a leader that its own configuration does not hold, while that is connected."""
        self.node("new")
        self.node("leader").set_members(members("leader", "new"))
        self.network.advance(1)
        self.nodes["leader"].send([heartbeat("leader", "new")])
        self.network.flush()
        self.nodes["new"].send([heartbeat("new", "leader")])
        self.network.advance(0.2)
        self.nodes["new"].send([heartbeat("new", "leader", 2)])
        self.network.flush()
        self.assertEqual(self.receivers["leader"].messages, [heartbeat("new", "leader", 2)])
        self.nodes["leader"].set_members(members("leader"))
        self.network.flush()
        self.assertEqual(self.nodes["new"].connected_peers(), frozenset())

    def test_members_change(self) -> None:
        """Connections follow the configuration: removed members are left, changed addresses dialed anew."""
        self.cluster("a", "b", "c")
        self.nodes["a"].set_members(members("a", "c", c="elsewhere:raft"))
        self.network.advance(0.2)
        self.assertEqual(self.nodes["a"].connected_peers(), frozenset())
        self.assertIn("elsewhere:raft", self.network.attempts)
        self.nodes["a"].set_members(members("a", "b", "c"))
        self.network.advance(0.2)
        self.assertEqual(self.nodes["a"].connected_peers(), {"b", "c"})

    def test_member_moved(self) -> None:
        """A member that comes back at another address is dialed there, until the configuration says otherwise."""
        self.cluster("a", "b")
        stopped = self.nodes["b"].stopService()
        self.network.flush()
        self.successResultOf(stopped)
        self.network.advance(1)
        moved = dataclasses.replace(identity("b"), raft_addr="new:raft")
        self.node("new", who=moved).set_members(members("a", "b"))
        self.network.advance(2)
        self.nodes["a"].send([heartbeat("a", "b")])
        self.network.flush()
        self.assertEqual(self.receivers["new"].messages, [heartbeat("a", "b")])
        self.nodes["a"].set_members(members("a", "b", b="third:raft"))
        self.network.advance(1)
        self.assertIn("third:raft", self.network.attempts)

    def test_answers_of_another_incarnation(self) -> None:
        """B24: an answer counts only if it comes from the incarnation that the configuration names."""
        self.cluster("a", "b")
        configuration = members("a", "b")
        of_another = dataclasses.replace(configuration.members["b"], incarnation="another")
        self.nodes["a"].set_members(
            dataclasses.replace(configuration, members={**configuration.members, "b": of_another})
        )
        answer = AppendEntriesResponse(term=1, sender="b", to="a", success=True, match_index=9)
        self.nodes["b"].send([answer, heartbeat("b", "a")])
        self.network.flush()
        self.assertEqual(self.receivers["a"].messages, [heartbeat("b", "a")])

    def test_former_member_displaces_nobody(self) -> None:
        """B23: a removed node that still runs under a name which another one has by now does not break the connection
        of that one; until there is another one it is the peer of that name."""
        self.cluster("a", "b")
        of_another = dataclasses.replace(members("b").members["b"], incarnation="another")
        configuration = dataclasses.replace(members("a", "b"), members={**members("a").members, "b": of_another})
        former = self.dial("a", hello("b"))
        self.nodes["a"].set_members(configuration)
        newer = dataclasses.replace(identity("b"), incarnation="another")
        member = self.dial("a", encode_hello(Hello(identity=newer, purpose=Purpose.RAFT)))
        self.assertEqual((former.lost, member.lost), (True, False))
        former = self.dial("a", hello("b"))
        self.assertEqual((former.lost, member.lost), (False, False))
        self.assertEqual(self.nodes["a"].known_peers()["b"].incarnation, "another")

    def test_nothing_for_another_incarnation(self) -> None:
        """B24: what is meant for a member does not reach a node with another data directory under its name."""
        self.cluster("a", "b")
        configuration = members("a", "b")
        for incarnation, reached in (("another", False), ("inc-b", True), ("", True)):
            named = dataclasses.replace(configuration.members["b"], incarnation=incarnation)
            self.nodes["a"].set_members(
                dataclasses.replace(configuration, members={**configuration.members, "b": named})
            )
            self.network.advance(2)
            self.receivers["b"].messages.clear()
            self.nodes["a"].send([heartbeat("a", "b")])
            self.network.flush()
            self.assertEqual(self.receivers["b"].messages, [heartbeat("a", "b")] if reached else [], incarnation)

    def test_asked(self) -> None:
        """B24: a running node knows of something once it has been in a term; before that, where it has not met who
        asks, it cannot tell."""
        self.cluster("a")
        configuration = members("a", "b")
        for term, met, holds in ((0, "draft", False), (0, "former", None), (0, "", None), (3, "draft", True)):
            self.terms["a"] = term
            named = dataclasses.replace(configuration.members["b"], incarnation=met)
            self.nodes["a"].set_members(
                dataclasses.replace(configuration, members={**configuration.members, "b": named})
            )
            asked = ask_standing(
                self.network.client("a:raft"),
                peer="a",
                identity=dataclasses.replace(identity("b"), incarnation="draft"),
                clock=self.clock,
                limits=FrameLimits(),
                warnings=warnings(self.clock)[1],
            )
            self.network.flush()
            self.assertEqual(self.successResultOf(asked), Standing(identity=identity("a"), holds=holds))
        self.assertEqual(self.nodes["a"].known_peers(), {})

    def test_left(self) -> None:
        """B7: a node that was removed hears nobody, reaches nobody, and is told to nobody as a peer."""
        self.cluster("a", "b")
        self.nodes["b"].leave()
        self.network.advance(2)
        self.assertEqual((self.nodes["a"].connected_peers(), self.nodes["b"].connected_peers()), (frozenset(),) * 2)
        self.nodes["a"].send([heartbeat("a", "b")])
        self.nodes["b"].send([heartbeat("b", "a")])
        self.network.advance(1)
        self.assertEqual((self.receivers["a"].messages, self.receivers["b"].messages), ([], []))


class EndedProcessTests(PeerTestCase):
    """Which ends of connections say that a process has ended."""

    def closed(self, name: str) -> list[str]:
        """Return whose end a node has seen."""
        return self.receivers[name].closed

    def test_process_ends(self) -> None:
        """When both connections with a member are closed by it, that is told once, and not to the one that ends."""
        self.cluster("a", "b", "c")
        self.nodes["b"].stopService()
        self.network.flush()
        self.assertEqual((self.closed("a"), self.closed("b"), self.closed("c")), (["b"], [], ["b"]))
        self.network.advance(5)
        self.assertEqual(self.closed("a"), ["b"])

    def test_one_of_two(self) -> None:
        """A member that has closed one connection lives as long as the other one stands, whichever it is."""
        self.cluster("a", "b")
        for _ in range(3):
            self.network.cut("b:raft")
            self.network.advance(1)
            self.network.cut("a:raft")
            self.network.advance(1)
        self.assertEqual((self.closed("a"), self.closed("b")), ([], []))

    def test_both_reset(self) -> None:
        """Connections that are both reset look the same, whoever did it; it is told each time."""
        self.cluster("a", "b")
        for count in range(1, 4):
            self.network.cut("b:raft")
            self.network.cut("a:raft")
            self.assertEqual((self.closed("a"), self.closed("b")), (["b"] * count, ["a"] * count))
            self.network.advance(1)

    def test_not_our_own_doing(self) -> None:
        """That we hang up on a member says nothing of it."""
        self.cluster("a", "b")
        self.nodes["a"]._incoming["b"].abort()
        self.nodes["a"].set_members(members("a"))
        self.network.flush()
        self.assertEqual((self.closed("a"), self.closed("b")), ([], ["a"]))

    def test_time_out(self) -> None:
        """A connection that ends by a time-out, or by an error of TLS, has not been closed by anybody."""
        for error, told in ((TCPTimedOutError(), []), (ConnectionLost(), ["b"]), (ConnectionDone(), ["b"])):
            self.setUp()
            self.cluster("a", "b")
            self.network.cut("b:raft")
            self.nodes["a"]._incoming["b"].connectionLost(Failure(error))
            self.assertEqual(self.closed("a"), told)
            self.stop_all()

    def test_never_good(self) -> None:
        """Who refuses a connection, or closes it before its hello, has not ended."""
        self.node("a").set_members(members("a", "b"))
        self.network.advance(3)
        self.dial("a").transport.loseConnection()
        self.dial("a", hello("b", cluster_id="another"))
        self.network.advance(3)
        self.assertEqual(self.closed("a"), [])

    def test_somebody_of_that_name(self) -> None:
        """A node with another data directory under a member's name may come and go."""
        self.node("a")
        of_another = dataclasses.replace(members("b").members["b"], incarnation="another")
        self.nodes["a"].set_members(
            dataclasses.replace(members("a", "b"), members={**members("a").members, "b": of_another})
        )
        stranger = self.dial("a", hello("b"))
        stranger.transport.loseConnection()
        self.network.flush()
        self.assertEqual(self.closed("a"), [])


class ReconnectTests(PeerTestCase):
    """Broken connections."""

    def test_quick_return(self) -> None:
        """A broken connection is back within a heartbeat, however often good ones broke before."""
        self.cluster("a", "b")
        for count in range(1, 11):
            self.network.cut("b:raft")
            self.assertEqual(self.receivers["a"].unreachable, ["b"] * count)
            self.network.advance(0.1)
            self.assertEqual(self.nodes["a"].connected_peers(), {"b"})

    def test_dead_member(self) -> None:
        """A member that is away is told of once, dialed at least once a second, and not without end."""
        self.node("a").set_members(members("a", "b"))
        for _ in range(5):
            self.nodes["a"].send([heartbeat("a", "b")])
        self.assertEqual(self.receivers["a"].unreachable, ["b"])
        before = len(self.network.attempts)
        self.network.advance(10)
        self.assertTrue(10 <= len(self.network.attempts) - before <= 30, len(self.network.attempts))
        self.node("b")
        self.network.advance(1.1)
        self.assertEqual(self.nodes["a"].connected_peers(), {"b"})

    def test_sign_of_life(self) -> None:
        """A member that connects to us after a long absence is dialed at once, without the wait between attempts."""
        self.node("a").set_members(members("a", "b"))
        self.network.advance(30)
        self.node("b").set_members(members("a", "b"))
        self.network.advance(0.06)
        self.assertEqual(self.nodes["b"].connected_peers(), {"a"})
        self.assertEqual(self.nodes["a"].connected_peers(), {"b"})

    def test_unreachable_again(self) -> None:
        """Each break of a good connection is told once."""
        self.cluster("a", "b")
        for _ in range(3):
            self.network.cut("b:raft")
            self.nodes["a"].send([heartbeat("a", "b")] * 3)
            self.network.advance(1)
        self.assertEqual(self.receivers["a"].unreachable, ["b"] * 3)

    def test_bounded_backlog(self) -> None:
        """What a member does not take is dropped past a limit, told once; it goes on when all has been taken."""
        self.cluster("a", "b")
        link = self.nodes["a"]._links.open["b"]
        connection = link._connection
        assert connection is not None
        written: list[bytes] = []
        connection.transport.write = written.append
        connection.pauseProducing()
        for _ in range(1000):
            self.nodes["a"].send([heartbeat("a", "b")])
        self.assertTrue(1000 < sum(map(len, written)) < 1100)
        self.assertEqual(self.receivers["a"].unreachable, ["b"])
        connection.resumeProducing()
        self.nodes["a"].send([heartbeat("a", "b")])
        self.assertEqual(self.receivers["a"].unreachable, ["b"])
        self.assertTrue(sum(map(len, written)) < 1120)


class HelloTests(PeerTestCase):
    """Who may speak, and what must come first."""

    def test_first_message_is_no_hello(self) -> None:
        """A first message that is no hello ends the connection, with one line and no answer."""
        good = hello("b")
        for wrong in (
            encode(heartbeat("b", "a")),
            5,
            None,
            (),
            good[:-1],
            (True, *good[1:]),
            (False, *good[1:]),
            (HELLO, "raft", *good[2:]),
            (*good[:2], 2, 1, *good[4:]),
            (*good[:2], True, True, *good[4:]),
            (*good[:4], "cheese", *good[5:]),
            (*good[:6], "", *good[7:]),
            (*good[:6], b"b", *good[7:]),
            (*good[:6], "b" * 10_000, *good[7:]),
            hello("b", purpose=Purpose.CLIENT),
            hello("b", purpose=Purpose.NODE),
        ):
            node = self.node("a")
            dialer = self.dial("a", wrong)
            self.assertTrue(dialer.lost, wrong)
            self.assertEqual(dialer.messages, [], wrong)
            self.assertEqual(len(self.lines["a"].events), 1, self.lines["a"].texts())
            node.stopService()
            self.network.flush()

    def test_longer_hello(self) -> None:
        """A hello of a later version may say more of itself."""
        self.node("a")
        self.assertFalse(self.dial("a", (*hello("b"), "more")).lost)

    def test_foreign_cluster(self) -> None:
        """A foreign cluster is told why, closed and logged once; nothing of it reaches the core."""
        self.node("a")
        dialer = self.dial("a", hello("b", cluster_id="other"), encode(heartbeat("b", "a")))
        self.assertTrue(dialer.lost)
        self.assertEqual([message[0] for message in dialer.messages], [1])
        self.assertIn("cluster", dialer.messages[0][1])
        self.assertEqual((self.receivers["a"].messages, len(self.lines["a"].events)), ([], 1))
        self.assertTrue(self.dial("a", hello("b", cluster_id="")).lost)

    def test_incompatible_version(self) -> None:
        """A node of versions that we do not speak is told so before its connection is closed."""
        self.node("a")
        dialer = self.dial("a", hello("b", min_version=7, max_version=9))
        self.assertTrue(dialer.lost)
        self.assertIn("versions 7 to 9", dialer.messages[0][1])
        self.assertFalse(self.dial("a", hello("b", min_version=1, max_version=9)).lost)

    def test_refused_dialer(self) -> None:
        """A member that refuses us is dialed again, but ever more slowly, and logs stay bounded."""
        self.node("b", who=identity("b", "other"))
        self.node("a").set_members(members("a", "b"))
        self.network.advance(60)
        self.assertTrue(60 <= len(self.network.attempts) <= 130, len(self.network.attempts))
        self.assertLessEqual(len(self.lines["a"].events), 40)
        self.assertEqual(self.nodes["a"].connected_peers(), frozenset())

    def test_wrong_member(self) -> None:
        """An address where somebody else answers is no connection to the member."""
        self.node("c")
        self.node("a").set_members(members("a", "b", b="c:raft"))
        self.network.advance(1)
        self.assertEqual(self.nodes["a"].connected_peers(), frozenset())
        self.nodes["a"].send([heartbeat("a", "b")])
        self.network.flush()
        self.assertEqual(self.receivers["c"].messages, [])

    def test_ourselves(self) -> None:
        """A node that bears our own name is refused."""
        self.node("a")
        self.assertTrue(self.dial("a", hello("a")).lost)

    def test_silent_connection(self) -> None:
        """B70: a connection that says no hello is closed after the limit."""
        self.node("a")
        dialer = self.dial("a")
        self.network.advance(SETTINGS.limits.hello_seconds - 0.1)
        self.assertFalse(dialer.lost)
        self.network.advance(0.2)
        self.assertTrue(dialer.lost)

    def test_too_many_connections(self) -> None:
        """B70: connections past the limit are closed at once."""
        self.node("a")
        dialers = [self.dial("a") for _ in range(SETTINGS.max_connections)]
        self.assertFalse(any(dialer.lost for dialer in dialers))
        before = len(self.network.pumps)
        dialer = RawDialer(self.clock)
        factory = type("Factory", (), {"buildProtocol": lambda _, address: dialer})()
        self.failureResultOf(self.network.client("a:raft").connect(factory))
        self.assertEqual(len(self.network.pumps), before)

    def test_newest_connection_counts(self) -> None:
        """A second connection of a member replaces the first, which is surely dead."""
        self.node("a")
        first = self.dial("a", hello("b"))
        second = self.dial("a", hello("b"))
        self.assertEqual((first.lost, second.lost), (True, False))


class HostileMemberTests(PeerTestCase):
    """What a connection that said hello may still not do."""

    def test_snapshot_without_file(self) -> None:
        """An InstallSnapshot that did not come as a file never reaches the core."""
        self.node("a")
        meta = SnapshotMeta(index=9, term=1, configuration=members("a", "b"), configuration_index=0)
        dialer = self.dial("a", hello("b"), encode(InstallSnapshot(term=1, sender="b", to="a", snapshot=meta)))
        self.assertTrue(dialer.lost)
        self.assertEqual(self.receivers["a"].messages, [])

    def test_garbage_behind_the_hello(self) -> None:
        """B72: bytes that other systems would unpickle close the connection, and the node goes on."""
        self.node("a")
        for seed in range(50):
            chance = random.Random(seed)
            dialer = self.dial("a", hello("b"))
            dialer.transport.write(b"\x80\x04cposix\nsystem\n(S'true'\ntR." if seed == 0 else chance.randbytes(300))
            self.network.flush()
            self.network.advance(SETTINGS.limits.partial_message_seconds, step=1)
            self.assertTrue(dialer.lost, seed)
        self.assertEqual(self.receivers["a"].messages, [])
        self.assertLessEqual(len(self.lines["a"].events), 200)
        self.assertFalse(self.dial("a", hello("b")).lost)

    def test_nonsense_for_an_address(self) -> None:
        """Who gives no usable address of itself is not answered; neither that nor a configuration that holds such an
        address stops the node."""
        node = self.node("a")
        stranger = dataclasses.replace(identity("x"), raft_addr="nonsense")
        self.dial("a", encode_hello(Hello(identity=stranger, purpose=Purpose.RAFT)), encode(heartbeat("x", "a")))
        self.assertEqual(len(self.receivers["a"].messages), 1)
        node.send([heartbeat("a", "x")])
        node.set_members(members("a", "b", "c", b="nonsense"))
        self.node("c")
        node.send_snapshot("b")
        self.network.advance(1)
        self.assertEqual(self.receivers["a"].snapshots, [("b", 0, False)])
        self.assertEqual(node.connected_peers(), {"c"})

    def test_talk_on_our_connection(self) -> None:
        """The other side of our own connection says nothing behind its hello."""
        self.cluster("a", "b")
        (incoming,) = self.nodes["b"]._port.connections
        incoming.send_packed([pack(encode(heartbeat("b", "a")))])
        self.network.flush()
        self.assertEqual(self.receivers["a"].messages, [])
        self.assertEqual(self.receivers["a"].unreachable, ["b"])
