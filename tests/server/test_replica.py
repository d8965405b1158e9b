"""One node, whole, on virtual time and a disk in memory: what it promises, what it keeps, how it ends."""

from __future__ import annotations

import random
from collections.abc import Sequence
from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.config import Limits, NodeConfig
from raftkv.errors import Conflict, InvariantViolation, OutcomeUnknown, ShuttingDown, StorageError
from raftkv.interfaces import Identity, IPeerReceiver, IPeerTransport
from raftkv.kvstore.commands import in_session, pack_batch, put
from raftkv.persistence.log import LogSettings
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Message
from raftkv.server.assembly import Assembled, Surroundings, assemble
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.worker import ClockWorker
from tests.server.fakes import FakeForwarder


@implementer(IPeerTransport)
class Nobody:
    """The network of a node that is alone."""

    def start(self, receiver: IPeerReceiver) -> None:
        pass

    def send(self, messages: Sequence[Message]) -> None:
        raise AssertionError(f"a node alone has nobody to talk to: {messages}")

    def set_members(self, configuration: Configuration) -> None:
        pass

    def leave(self) -> None:
        pass

    def send_snapshot(self, peer: str) -> None:
        raise AssertionError(f"a node alone has nobody to send a snapshot to: {peer}")

    def known_peers(self) -> dict[str, Identity]:
        return {}


class ReplicaTestCase(SynchronousTestCase):
    """A cluster of one."""

    config = NodeConfig(
        node_id="a",
        data_dir="memory",
        disk_reserve_bytes=0,
        snapshot_threshold_bytes=4000,
        snapshot_interval_seconds=1.0,
        max_snapshots=2,
        limits=Limits(session_ttl_seconds=120.0),
    )

    def setUp(self) -> None:
        self.clock = Clock()
        self.disk = MemoryDisk()
        self.fatal: list[BaseException] = []
        self.start()

    def start(self) -> None:
        """Begin a life of the node on the disk as it is."""
        self.log_worker = ClockWorker(self.clock, lambda items: 0.002)
        self.log_reader = ClockWorker(self.clock, lambda items: 0.002)
        self.snapshot_worker = ClockWorker(self.clock, lambda items: 0.002)
        self.node: Assembled = assemble(
            self.config,
            Surroundings(
                clock=self.clock,
                random=random.Random(1),
                steady_seconds=self.clock.seconds,
                wall_seconds=lambda: 1_000_000.0,
                disk=self.disk,
                log_worker=self.log_worker,
                log_reader=self.log_reader,
                snapshot_worker=self.snapshot_worker,
                transport=lambda *_: Nobody(),
                forwarder=lambda identity: FakeForwarder(),
                make_id=lambda: "ab" * 16,
                fatal=self.fatal.append,
                progress=lambda done, total: None,
                log_settings=LogSettings(segment_bytes=4096),
                unreadable=lambda error: None,
                **self.more_surroundings(),
            ),
        )
        self.replica = self.node.replica
        self.replica.startService()

    def more_surroundings(self) -> dict[str, Any]:
        """Return what else the node meets, in a life that begins."""
        return {}

    def crash(self) -> None:
        """End a life as a power failure does: what was not synced is lost."""
        self.log_worker.crash()
        self.log_reader.crash()
        self.snapshot_worker.crash()
        for call in self.clock.getDelayedCalls():
            call.cancel()
        self.disk.crash(random.Random(2))

    def run_for(self, seconds: float) -> None:
        """Let time pass in steps of a hundredth."""
        for _ in range(round(seconds * 100)):
            self.clock.advance(0.01)

    def write(self, command: Any) -> list[Any]:
        """Submit one command; the list gets its answer."""
        answers: list[Any] = []
        self.replica.write([command], answers.append)
        return answers

    def read(self, key: bytes) -> Any:
        """Read a key linearizably."""
        records: list[Any] = []
        self.replica.barrier("linearizable", lambda error: records.append(error or self.replica.get(key)))
        self.run_for(0.1)
        return records[0]

    def stop(self) -> Deferred[None]:
        """Stop the node and let it finish."""
        stopping = self.replica.stopService()
        self.run_for(1)
        return stopping


class DurabilityTests(ReplicaTestCase):
    """Nothing is said before it is on the disk, and nothing that was said is lost."""

    def test_not_before_the_sync(self) -> None:
        """A node alone does not answer a write before its own sync has returned (B4)."""
        self.run_for(3)
        self.log_worker.stall()
        answers = self.write(put(b"k", b"v"))
        self.run_for(1)
        self.assertEqual(answers, [])
        self.log_worker.resume()
        self.run_for(0.1)
        self.assertEqual(answers, [[(0, 1)]])

    def test_power_failure(self) -> None:
        """What was answered before a power failure is there after it; the state was volatile, the log was not (B51)."""
        self.run_for(3)
        answers = [self.write(put(b"k%d" % number, b"v")) for number in range(20)]
        self.run_for(0.1)
        self.assertTrue(all(answers))
        self.crash()
        self.start()
        self.run_for(3)
        self.assertEqual([self.read(b"k%d" % number)[1] for number in range(20)], list(range(1, 21)))

    def test_session_survives(self) -> None:
        """A write that is repeated after a restart gets its first answer and is not applied again (B63)."""
        self.run_for(3)
        command = in_session(b"client", 1, put(b"k", b"v"))
        first = self.write(command)
        self.run_for(0.1)
        self.crash()
        self.start()
        self.run_for(3)
        again = self.write(command)
        self.run_for(0.1)
        self.assertEqual((first, again), ([[(0, 1)]], [[(0, 1)]]))
        self.assertEqual(self.replica.revision(), 1)

    def test_disk_fails(self) -> None:
        """An error of the disk stops the node: it is reported once, nothing is answered as done, nothing is tried
        again (B43, B49)."""
        self.run_for(3)
        self.disk.fail_next("sync", "log")
        answers = self.write(put(b"k", b"v"))
        self.run_for(2)
        (error,) = self.fatal
        self.assertIsInstance(error, StorageError)
        self.assertFalse(self.replica.is_ready()[0])
        (answer,) = answers
        self.assertIsInstance(answer, OutcomeUnknown)
        self.stop()

    def test_nobody_waits_for_a_failed_node(self) -> None:
        """A node that has failed answers all who wait, at once and truly, and refuses who comes later, also those who
        would be content with an old state: nobody knows what it holds."""
        self.run_for(3)
        self.log_worker.stall()
        proposed = self.write(put(b"k", b"v"))
        self.clock.advance(0)
        answers: list[Any] = []
        self.replica.barrier("linearizable", answers.append)
        gathered = self.write(put(b"k", b"v"))
        self.replica.driver.fail(InvariantViolation("for this test"))
        late = self.write(put(b"k", b"v"))
        for consistency in ("linearizable", "stale"):
            self.replica.barrier(consistency, answers.append)  # type: ignore[arg-type]
        self.assertEqual([each[0].outcome for each in (proposed, gathered, late)], ["unknown"] + ["not_applied"] * 2)
        self.assertEqual([type(answer) for answer in answers], [ShuttingDown] * 3)
        self.log_worker.resume()
        self.successResultOf(self.stop())
        self.assertEqual([len(each) for each in (proposed, gathered, late)], [1, 1, 1])

    def test_whatever_fails(self) -> None:
        """What fails elsewhere in the node, such as the disk under a snapshot, silences the whole node."""
        self.run_for(3)
        self.write(put(b"k", b"v"))
        self.run_for(0.1)
        self.disk.fail_next("sync_folder", "snapshots")
        self.failureResultOf(self._take(), StorageError)
        self.assertEqual([type(error) for error in self.fatal], [StorageError])
        self.assertIs(self.replica.driver.failure, self.fatal[0])

    def test_half_an_entry(self) -> None:
        """An entry that cannot be applied stops the node, and what it has left of the state is in no snapshot: there
        it would survive the restart, and the whole entry would be applied on top of it (B39)."""
        self.run_for(3)
        for number in range(40):
            self.write(put(b"k", b"%d" % number * 50))
            self.run_for(0.02)
        self.replica.driver.node.propose(pack_batch(1, 1, [put(b"half", b"applied"), (99, b"of a later version")]))
        self.replica.driver.wake()
        self.run_for(0.1)
        self.assertEqual([type(error) for error in self.fatal], [InvariantViolation])
        self.assertIsNotNone(self.replica.get(b"half"))
        before = self.disk.names("snapshots")
        self.replica.snapshotter.look()
        self.failureResultOf(self.replica.snapshotter.take(), ShuttingDown)
        self.run_for(5)
        self.assertEqual(self.disk.names("snapshots"), before)
        self.successResultOf(self.stop())

    def test_snapshot_under_way(self) -> None:
        """A snapshot that is being taken when the node fails is given up."""
        self.run_for(3)
        self.write(put(b"k", b"v"))
        self.run_for(0.1)
        taking = self.replica.snapshotter.take()
        self.clock.advance(0)
        self.replica.driver.fail(InvariantViolation("for this test"))
        self.run_for(0.5)
        self.failureResultOf(taking, CancelledError)
        self.assertEqual(self.disk.names("snapshots"), [])
        self.successResultOf(self.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def _take(self) -> Deferred[Any]:
        taking = self.replica.snapshotter.take()
        self.run_for(0.5)
        return taking


class SnapshotTests(ReplicaTestCase):
    """State is written out, the log is cut, and both together are the state again."""

    def fill(self, writes: int) -> None:
        """Write one key many times, and others."""
        for number in range(writes):
            self.write(put(b"k%d" % (number % 7), b"%d" % number * 20))
            self.run_for(0.02)
        self.run_for(3)

    def test_taken_and_compacted(self) -> None:
        """Snapshots come with the bytes of log, no more are kept than configured, and the log in front of them goes."""
        self.run_for(3)
        self.fill(400)
        self.assertEqual(len(self.disk.names("snapshots")), 2)
        status = self.replica.status()
        self.assertGreater(status["snapshot_index"], 200)
        self.assertGreater(self.replica.counters()["snapshots_taken"], 2)

    def test_restart_from_a_snapshot(self) -> None:
        """A node that starts from snapshot and log has the very state that it had (digest and answers)."""
        self.run_for(3)
        self.fill(300)
        before = self.replica.status()
        self.crash()
        self.start()
        self.run_for(3)
        after = self.replica.status()
        self.assertEqual(
            [before[name] for name in ("digest", "revision", "keys")],
            [after[name] for name in ("digest", "revision", "keys")],
        )
        self.assertGreater(after["snapshot_index"], 0)

    def test_unreadable_newest(self) -> None:
        """A damaged newest snapshot falls back to the one before it, for the log still reaches that far (B45)."""
        self.run_for(3)
        self.fill(300)
        before = self.replica.status()
        self.crash()
        newest = self.disk.names("snapshots")[-1]
        self.disk.flip_bit(f"snapshots/{newest}", 100)
        self.start()
        self.run_for(3)
        self.assertEqual(self.replica.status()["digest"], before["digest"])

    def test_by_request(self) -> None:
        """A snapshot can be asked for; with nothing new since the last one there is a conflict."""
        self.run_for(3)
        self.write(put(b"k", b"v"))
        self.run_for(0.1)
        taking = self.replica.snapshotter.take()
        self.failureResultOf(self.replica.snapshotter.take(), Conflict)
        self.run_for(0.5)
        self.assertEqual(self.successResultOf(taking).revision, 1)
        self.failureResultOf(self.replica.snapshotter.take(), Conflict)


class SessionExpiryTests(ReplicaTestCase):
    """Sessions end by a command of the log, an interval after their last write at the earliest."""

    def test_idle_session(self) -> None:
        """A session lives for its time in cluster time, is dropped soon after, and one that is used stays."""
        self.run_for(3)
        self.write(in_session(b"idle", 1, put(b"k", b"v")))
        for number in range(14):
            self.write(in_session(b"busy", number, put(b"k", b"v")))
            self.run_for(10)
            if number < 11:
                self.assertTrue(self.replica.state_machine.store.has_session(b"idle"))
        self.assertFalse(self.replica.state_machine.store.has_session(b"idle"))
        self.assertTrue(self.replica.state_machine.store.has_session(b"busy"))


class StoppingTests(ReplicaTestCase):
    """A stop that was asked for finishes what was taken and leaves nothing behind."""

    def test_finishes(self) -> None:
        """A write that was taken before the stop is answered as done; one that comes later is refused."""
        self.run_for(3)
        answers = self.write(put(b"k", b"v"))
        stopping = self.replica.stopService()
        late = self.write(put(b"l", b"v"))
        self.run_for(1)
        self.successResultOf(stopping)
        self.assertEqual(answers, [[(0, 1)]])
        self.assertIsInstance(late[0], ShuttingDown)
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def test_while_a_snapshot_is_taken(self) -> None:
        """A snapshot that is being taken is given up, without a trace."""
        self.run_for(3)
        self.write(put(b"k", b"v"))
        self.run_for(0.1)
        taking = self.replica.snapshotter.take()
        taking.addErrback(lambda failure: None)
        self.successResultOf(self.stop())
        self.assertEqual(self.disk.names("snapshots"), [])
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.fatal, [])


class StatusTests(ReplicaTestCase):
    """What a node says of itself."""

    def test_ready(self) -> None:
        """A node is ready once it knows a leader and has applied what the leader has committed."""
        self.assertEqual(self.replica.is_ready(), (False, "no leader is known"))
        self.run_for(3)
        self.assertEqual(self.replica.is_ready(), (True, "ready"))
        self.stop()
        self.assertFalse(self.replica.is_ready()[0])

    def test_cluster(self) -> None:
        """The leader announces its own addresses and incarnation in the configuration."""
        self.run_for(5)
        cluster = self.successResultOf(self.replica.cluster())
        (member,) = cluster["members"]
        self.assertEqual((member["id"], member["role"], member["leader"]), ("a", "voter", True))
        self.assertEqual(member["http_addr"], "127.0.0.1:8080")
        self.assertEqual(self.replica.driver.node.configuration.members["a"].incarnation, "ab" * 16)

    def test_status(self) -> None:
        """The status has every field of the contract."""
        self.run_for(3)
        wanted = (
            "node_id cluster_id role term leader commit_index applied_index first_index last_index snapshot_index "
            "revision compact_revision keys digest uptime version alarms"
        )
        self.assertEqual(sorted(self.replica.status()), sorted(wanted.split()))
