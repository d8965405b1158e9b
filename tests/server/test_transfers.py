"""The snapshot files of a node as the transfer between members sees them."""

from __future__ import annotations

import errno
import random
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface.verify import verifyObject

from raftkv.errors import Conflict, CorruptData, ShuttingDown, StorageError
from raftkv.persistence.calls import BlockingCalls
from raftkv.protocols.snapshots import ISnapshotFile, ISnapshotSink, ISnapshotSource
from raftkv.raft.configuration import Configuration, Member
from raftkv.raft.messages import SnapshotMeta
from raftkv.server.transfers import OpenSnapshot, SnapshotSink, SnapshotSource
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.worker import ClockWorker

CONFIGURATION = Configuration(members={"a": Member(id="a")}, voters=frozenset({"a"}))
PIECE_BYTES = 700


class Side:
    """The snapshots of one node: its disk, its folder, its worker."""

    def __init__(self, clock: Clock) -> None:
        self.disk = MemoryDisk()
        self.disk.make_folder("snapshots")
        self.directory = SnapshotDirectory(self.disk, cluster_id="c", unreadable=lambda error: None)
        self.calls = BlockingCalls(ClockWorker(clock, lambda items: 0.01))
        self.calls.start()
        self.fatal: list[BaseException] = []
        self.committed = 0
        self.found: list[int] = []
        self.source = SnapshotSource(self.directory, self.calls, found=self.found.append, fatal=self.fatal.append)
        self.sink = SnapshotSink(
            self.directory,
            self.calls,
            is_wanted=lambda snapshot: snapshot.index > self.committed,
            fatal=self.fatal.append,
        )

    def take(self, index: int) -> None:
        """Write a snapshot."""
        meta = SnapshotMeta(index=index, term=1, configuration=CONFIGURATION, configuration_index=1)
        writer = self.directory.create(meta, revision=index)
        for number in range(5):
            writer.write(random.Random(number).randbytes(500))
        writer.commit()


class TransferTestCase(SynchronousTestCase):
    """One node that sends and one that receives."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.leader, self.member = Side(self.clock), Side(self.clock)
        self.leader.take(7)

    def result(self, deferred: Deferred[Any]) -> Any:
        """Let the workers work, and return what a Deferred fires with."""
        self.clock.pump([0.01] * 10)
        return self.successResultOf(deferred)

    def newest(self) -> OpenSnapshot:
        """Open what the leader would send."""
        file = self.result(self.leader.source.newest())
        assert isinstance(file, OpenSnapshot)
        return file

    def begin(self, file: OpenSnapshot) -> Deferred[int]:
        """Offer a file to the member."""
        return self.member.sink.begin(file.meta, file.size, file.digest)

    def send(self, file: OpenSnapshot, start: int, stop: int) -> None:
        """Send a part of the file."""
        for offset in range(start, stop, PIECE_BYTES):
            data = self.result(file.read(offset, min(PIECE_BYTES, stop - offset)))
            self.result(self.member.sink.write(offset, data))


class SendingTests(TransferTestCase):
    """The leader's side."""

    def test_interfaces(self) -> None:
        """Both sides are what the transfer expects."""
        verifyObject(ISnapshotSource, self.leader.source)
        verifyObject(ISnapshotSink, self.member.sink)
        verifyObject(ISnapshotFile, self.newest())

    def test_none(self) -> None:
        """A leader without a snapshot has none to send."""
        self.assertIsNone(self.result(self.member.source.newest()))
        self.assertEqual(self.member.found, [0])

    def test_rotten(self) -> None:
        """A snapshot that has rotted is not offered but the one before it, and whoever takes snapshots hears of it."""
        self.leader.take(9)
        self.leader.disk.flip_bit(f"snapshots/{self.leader.directory.list()[0].name}", 1500)
        self.assertEqual(self.newest().meta.index, 7)
        self.assertEqual(self.leader.found, [7])

    def test_disk_fails(self) -> None:
        """A disk that does not give a snapshot back stops the node (B43)."""
        self.leader.disk.fail_next("read", "snapshots")
        opening = self.leader.source.newest()
        self.clock.pump([0.01] * 10)
        self.failureResultOf(opening, StorageError)
        self.assertEqual(len(self.leader.fatal), 1)

    def test_pruned_while_it_is_sent(self) -> None:
        """A snapshot that is pruned while it is sent is sent to its end, and the next transfer takes the newest."""
        file = self.newest()
        self.result(self.begin(file))
        self.send(file, 0, PIECE_BYTES)
        self.leader.take(8)
        self.leader.take(9)
        self.leader.directory.prune(1)
        self.send(file, PIECE_BYTES, file.size)
        self.assertEqual(self.result(self.member.sink.finish()).index, 7)
        file.close()
        self.assertEqual(self.newest().meta.index, 9)

    def test_read_after_the_stop(self) -> None:
        """A read for a transfer that outlives the worker fails, as everything does that comes too late."""
        file = self.newest()
        self.leader.calls.stop()
        self.failureResultOf(file.read(0, 10), ShuttingDown)


class ReceivingTests(TransferTestCase):
    """The member's side."""

    def test_whole(self) -> None:
        """A file that arrived is the file that was sent, under its name, verified."""
        file = self.newest()
        self.assertEqual(self.result(self.begin(file)), 0)
        self.send(file, 0, file.size)
        self.assertEqual(self.result(self.member.sink.finish()), file.meta)
        self.assertEqual(self.member.disk.names("snapshots"), self.leader.disk.names("snapshots"))

    def test_resumed(self) -> None:
        """A transfer that broke goes on where it was, on the next connection."""
        file = self.newest()
        self.result(self.begin(file))
        self.send(file, 0, 2 * PIECE_BYTES)
        self.member.sink.abort()
        self.assertEqual(self.result(self.begin(file)), 2 * PIECE_BYTES)
        self.send(file, 2 * PIECE_BYTES, file.size)
        self.assertEqual(self.result(self.member.sink.finish()), file.meta)

    def test_given_up_while_it_begins(self) -> None:
        """A transfer that is given up before its file is open leaves nothing behind; the one after it is not mixed up
        with it."""
        file = self.newest()
        first = self.begin(file)
        self.member.sink.abort()
        second = self.begin(file)
        self.assertEqual(self.result(second), 0)
        self.failureResultOf(first, Conflict)
        self.send(file, 0, file.size)
        self.assertEqual(self.result(self.member.sink.finish()), file.meta)
        self.assertEqual(self.member.fatal, [])

    def test_not_wanted(self) -> None:
        """A snapshot that brings nothing new is refused at the offer (B46)."""
        self.member.committed = 7
        self.failureResultOf(self.begin(self.newest()), Conflict)

    def test_damaged_on_the_way(self) -> None:
        """A file that is not what was announced is refused, and that is the sender's matter: the node goes on."""
        file = self.newest()
        self.result(self.begin(file))
        for offset in range(0, file.size, PIECE_BYTES):
            self.result(self.member.sink.write(offset, bytes(min(PIECE_BYTES, file.size - offset))))
        finishing = self.member.sink.finish()
        self.clock.pump([0.01] * 10)
        self.failureResultOf(finishing, CorruptData)
        self.assertEqual(self.member.fatal, [])
        self.assertEqual(self.result(self.begin(file)), 0)

    def test_own_disk_fails(self) -> None:
        """A disk that fails under a snapshot that arrives stops the node, and leaves nothing to go on with (B43)."""
        file = self.newest()
        for number, (operation, sent) in enumerate((("write", 0), ("sync", file.size), ("read", file.size)), 1):
            self.assertEqual(self.result(self.begin(file)), 0)
            self.send(file, 0, sent)
            self.member.disk.fail_next(operation, ".partial")
            failing = self.member.sink.finish() if sent else self.member.sink.write(0, b"x")
            self.clock.pump([0.01] * 10)
            self.failureResultOf(failing, StorageError)
            self.assertEqual((len(self.member.fatal), self.member.disk.names("snapshots")), (number, []), operation)

    def test_no_room(self) -> None:
        """Where there is no room for a snapshot that arrives the transfer ends, and nothing of it is gone on with: what
        a failed sync has left reads as if it were there (B43)."""
        file = self.newest()
        for operation, sent in (("write", 0), ("sync", file.size)):
            self.assertEqual(self.result(self.begin(file)), 0)
            self.send(file, 0, sent)
            self.member.disk.fail_next(operation, ".partial", code=errno.ENOSPC)
            failing = self.member.sink.finish() if sent else self.member.sink.write(0, b"x")
            self.clock.pump([0.01] * 10)
            self.failureResultOf(failing, StorageError)
            self.assertEqual((self.member.fatal, self.member.disk.names("snapshots")), ([], []), operation)
            self.assertRaises(Conflict, self.member.sink.write, 0, b"x")

    def test_set_aside_badly(self) -> None:
        """B43: what there is no room for when a connection breaks is not gone on with either."""
        file = self.newest()
        self.result(self.begin(file))
        self.send(file, 0, PIECE_BYTES)
        self.member.disk.fail_next("sync", ".partial", code=errno.ENOSPC)
        self.member.sink.abort()
        self.clock.pump([0.01] * 10)
        self.assertEqual((self.member.fatal, self.member.disk.names("snapshots")), ([], []))

    def test_folder_in_doubt(self) -> None:
        """A snapshot that has arrived and cannot be given its name stops the node (B43)."""
        file = self.newest()
        self.result(self.begin(file))
        self.send(file, 0, file.size)
        self.member.disk.fail_next("sync_folder", "snapshots")
        finishing = self.member.sink.finish()
        self.clock.pump([0.01] * 10)
        self.failureResultOf(finishing, StorageError)
        self.assertEqual(len(self.member.fatal), 1)

    def test_out_of_turn(self) -> None:
        """Without a transfer there is nothing to write to or to finish, and nothing to give up."""
        self.assertRaises(Conflict, self.member.sink.write, 0, b"x")
        self.assertRaises(Conflict, self.member.sink.finish)
        self.member.sink.abort()

    def test_after_the_stop(self) -> None:
        """A transfer may outlive the worker by a moment: what it still brings fails, and its end raises nothing."""
        file = self.newest()
        self.result(self.begin(file))
        self.member.calls.stop()
        self.failureResultOf(self.member.sink.write(0, b"x"), ShuttingDown)
        self.member.sink.abort()
        self.failureResultOf(self.begin(file), ShuttingDown)
        self.assertEqual(self.member.fatal, [])
