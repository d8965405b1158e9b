"""Snapshots between members: offered, resumed, bounded, timed, reported."""

from __future__ import annotations

import random
from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer
from zope.interface.verify import verifyObject

from raftkv.protocols.codec import encode_snapshot_meta
from raftkv.protocols.hello import Purpose
from raftkv.protocols.peer import PeerService, PeerSettings
from raftkv.protocols.snapshots import (
    ALIVE,
    CHUNK,
    FAILED,
    OFFER,
    ISnapshotFile,
    ISnapshotSink,
    ISnapshotSource,
    TransferSettings,
)
from raftkv.raft.messages import InstallSnapshot, SnapshotMeta

from .support import Network, identity
from .test_peer import RawDialer, Receiver, hello, members

CONFIGURATION = members("a", "b")
META = SnapshotMeta(index=9, term=2, configuration=CONFIGURATION, configuration_index=4)
CONTENT = bytes(range(256)) * 40
TRANSFER = TransferSettings(chunk_bytes=1000, window_chunks=3, silence_seconds=10)


@implementer(ISnapshotFile)
class MemoryFile:
    """A snapshot in memory."""

    def __init__(self, content: bytes = CONTENT) -> None:
        self.meta = META
        self.content = content
        self.size = len(content)
        self.digest = "ab12"
        self.closed = 0
        self.slow: list[Deferred[bytes]] | None = None

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        if self.slow is not None:
            pending: Deferred[bytes] = Deferred()
            self.slow.append(pending)
            return pending
        return succeed(self.content[offset : offset + length])

    def close(self) -> None:
        self.closed += 1


@implementer(ISnapshotSource)
class Source:
    """Has a file, or none."""

    def __init__(self) -> None:
        self.file: MemoryFile | None = MemoryFile()
        self.opening: Deferred[MemoryFile | None] | None = None  # handed out instead, to be fired by a test

    def newest(self) -> Deferred[MemoryFile | None]:
        return succeed(self.file) if self.opening is None else self.opening


@implementer(ISnapshotSink)
class Sink:
    """Keeps what arrives; answers at once, or when told to."""

    def __init__(self) -> None:
        self.data = b""
        self.events: list[str] = []
        self.pending: list[tuple[str, Deferred[Any], Any]] = []
        self.hold: set[str] = set()
        self.broken: str = ""
        self.largest = 0

    def _answer(self, name: str, value: Any) -> Deferred[Any]:
        if self.broken == f"{name} at once":
            raise ValueError(f"no {name}")
        if self.broken == name:
            return fail(OSError(f"no {name}"))
        if name in self.hold:
            pending: Deferred[Any] = Deferred()
            self.pending.append((name, pending, value))
            return pending
        return succeed(value)

    def release(self) -> None:
        pending, self.pending = self.pending, []
        for _, deferred, value in pending:
            deferred.callback(value)

    def begin(self, meta: SnapshotMeta, size: int, digest: str) -> Deferred[int]:
        self.events.append(f"begin {meta.index} {size} {digest}")
        return self._answer("begin", len(self.data))

    def write(self, offset: int, data: bytes) -> Deferred[None]:
        assert offset == len(self.data)
        self.data += data
        self.largest = max(self.largest, len(data))
        return self._answer("write", None)

    def finish(self) -> Deferred[SnapshotMeta]:
        self.events.append("finish")
        return self._answer("finish", META)

    def abort(self) -> None:
        self.events.append("abort")


class TransferTests(SynchronousTestCase):
    """A leader "a" and a member "b"."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.network = Network(self.clock)
        self.source, self.sink = Source(), Sink()
        self.receivers = {name: Receiver() for name in "ab"}
        self.nodes: dict[str, PeerService] = {}
        self.start()
        self.addCleanup(self.stop)

    def start(self, transfer: TransferSettings = TRANSFER) -> None:
        """Start both nodes."""
        for name in "ab":
            service = self.nodes[name] = PeerService(
                identity=identity(name),
                endpoint=self.network.server(f"{name}:raft"),
                connect=self.network.client,
                clock=self.clock,
                random=random.Random(name),
                settings=PeerSettings(transfer=transfer),
                source=self.source,
                sink=self.sink,
                current_term=lambda: 5,
            )
            service.start(self.receivers[name])
            service.startService()
            service.set_members(CONFIGURATION)
        self.network.advance(1)

    def stop(self) -> None:
        """Stop both, and see that nothing is left."""
        stopped = [node.stopService() for node in self.nodes.values()]
        self.network.flush()
        self.network.advance(10, step=1)
        for each in stopped:
            self.successResultOf(each)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def assert_delivered(self) -> None:
        """Assert that the file is there, the core was told once, and the leader too."""
        self.assertEqual(self.sink.data, CONTENT)
        expected = InstallSnapshot(term=5, sender="a", to="b", snapshot=META)
        self.assertEqual(self.receivers["b"].messages, [expected])
        self.assertEqual(self.receivers["a"].snapshots, [("b", 9, True)])

    def raw(self, *messages: Any) -> RawDialer:
        """Connect to the member as a leader "a" would, and say anything."""
        dialer = RawDialer(self.clock, hello("a", purpose=Purpose.SNAPSHOT), *messages)
        factory = type("Factory", (), {"buildProtocol": lambda _, address: dialer})()
        self.network.client("b:raft").connect(factory)
        self.network.flush()
        return dialer

    def test_interfaces(self) -> None:
        """The fakes have the shape of the interfaces."""
        verifyObject(ISnapshotFile, self.source.file)
        verifyObject(ISnapshotSource, self.source)
        verifyObject(ISnapshotSink, self.sink)

    def test_delivery(self) -> None:
        """A file arrives whole, in chunks, once; the core gets an InstallSnapshot of the sender's term."""
        self.nodes["a"].send_snapshot("b")
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        self.assert_delivered()
        self.assertEqual(self.sink.events, [f"begin 9 {len(CONTENT)} ab12", "finish"])
        self.assertEqual(self.sink.largest, TRANSFER.chunk_bytes)
        assert self.source.file is not None
        self.assertEqual(self.source.file.closed, 1)

    def test_resume(self) -> None:
        """A broken transfer is told as failed after a while, and the next one goes on where it broke."""
        self.sink.hold = {"write"}
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        self.sink.release()
        self.network.flush()
        held = len(self.sink.data)
        self.assertTrue(0 < held < len(CONTENT))
        self.network.cut("b:raft")
        self.assertEqual(self.sink.events[-1], "abort")
        self.assertEqual(self.receivers["a"].snapshots, [])
        self.network.advance(0.6)
        self.assertEqual(self.receivers["a"].snapshots, [("b", 9, False)])
        self.sink.hold, self.sink.pending = set(), []
        self.receivers["a"].snapshots.clear()
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        self.assert_delivered()

    def test_nothing_missing(self) -> None:
        """A member that holds the whole file already is sent nothing, and installs it."""
        self.sink.data = CONTENT
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        self.assert_delivered()
        self.assertEqual(self.sink.largest, 0)

    def test_window(self) -> None:
        """No more than the window is under way while the member writes slowly."""
        self.sink.hold = {"write"}
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        (transfer,) = (each for each in [self.nodes["b"]._receiving] if each)
        waiting = sum(len(data) for _, data in transfer[1]._waiting)
        self.assertEqual(waiting + len(self.sink.data), TRANSFER.window_chunks * TRANSFER.chunk_bytes)
        while self.sink.pending:
            self.sink.release()
            self.network.flush()
        self.assert_delivered()

    def test_slow_member(self) -> None:
        """A member that is busy for long says so now and then, and the transfer goes on."""
        for held in ("begin", "write", "finish"):
            with self.subTest(held):
                self.sink.hold = {held}
                self.nodes["a"].send_snapshot("b")
                self.network.advance(35, step=1)
                while self.sink.pending:
                    self.sink.release()
                    self.network.flush()
                self.assert_delivered()
                for receiver in self.receivers.values():
                    receiver.messages.clear()
                    receiver.snapshots.clear()
                self.sink.data = b""

    def test_rate(self) -> None:
        """A rate is kept by the clock, also one at which a whole chunk would look like silence."""
        self.stop()
        for rate in (2000.0, 100.0):
            self.start(TransferSettings(chunk_bytes=1000, window_chunks=3, silence_seconds=10, bytes_per_second=rate))
            self.sink.data = b""
            self.receivers["a"].snapshots.clear()
            self.receivers["b"].messages.clear()
            self.nodes["a"].send_snapshot("b")
            self.network.advance(len(CONTENT) / rate - 11, step=0.5)
            self.assertEqual(self.receivers["a"].snapshots, [])
            self.network.advance(12, step=0.5)
            self.assert_delivered()
            self.stop()
        self.start()

    def test_slow_to_open(self) -> None:
        """A file that takes a while to be verified is sent then; one that cannot be is a failure like any other."""
        self.source.opening = opening = Deferred()
        self.nodes["a"].send_snapshot("b")
        self.nodes["a"].send_snapshot("b")
        self.network.advance(3)
        self.assertEqual((self.sink.events, self.receivers["a"].snapshots), ([], []))
        opening.callback(self.source.file)
        self.network.advance(1)
        self.assert_delivered()
        self.receivers["a"].snapshots.clear()
        self.source.opening = fail(OSError("no disk"))
        self.nodes["a"].send_snapshot("b")
        self.network.advance(1)
        self.assertEqual(self.receivers["a"].snapshots, [("b", 0, False)])

    def test_stopped_while_it_opens(self) -> None:
        """A stop waits for a file that is being opened, and closes it; nothing is sent."""
        self.source.opening = opening = Deferred()
        self.nodes["a"].send_snapshot("b")
        stopping = self.nodes["a"].stopService()
        self.network.advance(1)
        self.assertNoResult(stopping)
        file = self.source.file
        assert file is not None
        opening.callback(file)
        self.network.advance(1)
        self.successResultOf(stopping)
        self.assertEqual((file.closed, self.receivers["a"].snapshots), (1, []))

    def test_failures(self) -> None:
        """A member that cannot take it says so; the leader is told of the failure, and the core hears nothing."""
        for broken in ("begin", "write", "finish", "begin at once", "write at once", "finish at once"):
            self.sink.broken = broken
            self.sink.data = b""
            self.nodes["a"].send_snapshot("b")
            self.network.advance(1)
            self.assertEqual(self.receivers["a"].snapshots.pop(), ("b", 9, False))
            self.assertEqual(self.receivers["b"].messages, [])

    def test_nobody_and_nothing(self) -> None:
        """Without a file, an address or a listener the transfer is told as failed, after a wait."""
        self.network.listening.pop("b:raft")
        for peer in ("b", "z"):
            self.nodes["a"].send_snapshot(peer)
            self.assertEqual(self.receivers["a"].snapshots, [])
        self.source.file = None
        self.nodes["a"].send_snapshot("a")
        self.network.advance(1)
        self.assertEqual(sorted(self.receivers["a"].snapshots), [("a", 0, False), ("b", 9, False), ("z", 0, False)])
        self.network.listening["b:raft"] = self.nodes["b"]._port._factory

    def test_silent_sender(self) -> None:
        """A sender that says nothing for too long is cut, and what was written is kept for later."""
        offer = (OFFER, 5, len(CONTENT), "ab12", encode_snapshot_meta(META))
        dialer = self.raw(offer, (CHUNK, 0, CONTENT[:500]))
        self.assertFalse(dialer.lost)
        dialer = self.raw(offer)
        dialer.send_message((CHUNK, 0, CONTENT[:500]))
        self.network.advance(11, step=1)
        self.assertTrue(dialer.lost)
        self.assertEqual(self.sink.events[-1], "abort")
        self.assertEqual(self.sink.data, CONTENT[:500])

    def test_unreadable_file(self) -> None:
        """A file that cannot be read ends the transfer as failed, and is closed only then."""
        assert self.source.file is not None
        self.source.file.slow = []
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        self.network.cut("b:raft")
        self.network.advance(1)
        self.assertEqual((self.source.file.closed, self.receivers["a"].snapshots), (0, []))
        self.source.file.slow[0].errback(OSError("gone"))
        self.network.advance(1)
        self.assertEqual((self.source.file.closed, self.receivers["a"].snapshots), (1, [("b", 9, False)]))
        self.flushLoggedErrors(OSError)

    def test_newer_transfer(self) -> None:
        """B47: a second transfer replaces one under way, but not one that is being made safe."""
        offer = (OFFER, 5, 4, "ab12", encode_snapshot_meta(META))
        first = self.raw(offer)
        second = self.raw(offer)
        self.assertEqual((first.lost, second.lost), (True, False))
        self.assertEqual([event.split()[0] for event in self.sink.events], ["begin", "abort", "begin"])
        self.sink.hold = {"finish"}
        second.send_message((CHUNK, 0, b"data"))
        self.network.flush()
        third = self.raw(offer)
        self.assertTrue(third.lost)
        self.assertIn("being installed", third.messages[0][1])
        second.abort()
        self.network.flush()
        self.sink.release()
        self.assertEqual(len(self.receivers["b"].messages), 1)
        self.assertNotIn("abort", self.sink.events[3:])

    def test_bad_conversations(self) -> None:
        """Offers and chunks that make no sense end the connection, and the core hears nothing."""
        meta = encode_snapshot_meta(META)
        offer = (OFFER, 5, 4, "ab12", meta)
        for messages in (
            [(CHUNK, 0, b"x")],
            [(OFFER, 0, 4, "ab12", meta)],
            [(OFFER, 1, 4, "ab12", meta)],
            [(OFFER, 5, -1, "ab12", meta)],
            [(OFFER, 5, 4, "a" * 129, meta)],
            [(OFFER, 5, 4, 77, meta)],
            [(OFFER, 5, 4, "ab12", (9, 2, b"{}", 4))],
            [(OFFER, 5, 4, "ab12")],
            [offer, offer],
            [offer, (CHUNK, 1, b"x")],
            [offer, (CHUNK, 0, b"")],
            [offer, (CHUNK, 0, b"12345")],
            [offer, (CHUNK, 0, "1")],
            [(OFFER, 5, 10_000, "ab12", meta), (CHUNK, 0, b"x" * 3001)],
            [offer, (FAILED, "x")],
            [offer, (ALIVE,)],
            [offer, 5],
        ):
            self.sink.data = b""
            self.assertTrue(self.raw(*messages).lost, messages)
        self.assertEqual(self.receivers["b"].messages, [])

    def test_stop_in_the_middle(self) -> None:
        """Stopping cuts a transfer, closes the file and reports nothing."""
        self.sink.hold = {"write"}
        self.nodes["a"].send_snapshot("b")
        self.network.flush()
        self.successResultOf(self.flushed(self.nodes["a"].stopService()))
        assert self.source.file is not None
        self.assertEqual((self.source.file.closed, self.receivers["a"].snapshots), (1, []))
        self.nodes["a"].startService()

    def flushed(self, result: Deferred[None]) -> Deferred[None]:
        """Let everything move first."""
        self.network.flush()
        return result
