"""The snapshots of a running node, as an operator takes and fetches them."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred

from raftkv.errors import Conflict, Fenced, NoLeader, ShuttingDown
from raftkv.kvstore.commands import put
from raftkv.server.backups import NoBackups
from tests.server.test_replica import ReplicaTestCase


class BackupsTestCase(ReplicaTestCase):
    """A node alone, with something in it."""

    def setUp(self) -> None:
        super().setUp()
        self.run_for(3)
        self.write(put(b"k", b"v"))
        self.run_for(0.1)
        self.backups = self.replica.backups

    def result(self, waiting: Deferred[Any]) -> Any:
        """Return what something fires with, after a while."""
        self.run_for(1)
        return self.successResultOf(waiting)

    def content(self, backup: Any) -> bytes:
        """Read a backup to its end."""
        data: bytes = self.result(backup.read(0, 1 << 20))
        return data


class TakeTests(BackupsTestCase):
    """One now."""

    def test_described(self) -> None:
        """What was taken is on disk, and told."""
        facts = self.result(self.backups.take("linearizable"))
        node = self.replica.driver.node
        self.assertEqual(
            (facts["index"], facts["revision"], facts["term"]), (node.snapshot_index, 1, node.current_term)
        )
        (name,) = self.disk.names("snapshots")
        self.assertEqual((facts["bytes"], len(facts["checksum"])), (len(self.disk.read(f"snapshots/{name}")), 32))
        self.assertEqual(self.result(self.backups.list()), [facts])

    def test_nothing_new(self) -> None:
        """Where the newest one holds all there is, it is looked through and told again; a rotten one is replaced."""
        facts = self.result(self.backups.take("linearizable"))
        self.assertEqual(self.result(self.backups.take("linearizable")), facts)
        self.assertEqual(self.replica.snapshotter.taken, 1)
        self.disk.flip_bit(f"snapshots/{self.disk.names('snapshots')[0]}", 300)
        self.assertEqual(self.result(self.backups.take("linearizable")), facts)
        self.assertEqual(self.replica.snapshotter.taken, 2)

    def test_shared(self) -> None:
        """Those who ask while one is being taken share the next one, which holds what was written before they asked."""
        self.snapshot_worker.stall()
        self.write(put(b"k", b"v"))
        self.run_for(0.1)
        first = self.backups.take("linearizable")
        self.run_for(0.1)
        self.write(put(b"k", b"w"))
        self.run_for(0.1)
        others = [self.backups.take("linearizable") for _ in range(3)]
        self.run_for(0.1)
        self.assertNoResult(first)
        self.snapshot_worker.resume()
        self.run_for(1)
        self.assertEqual(self.successResultOf(first)["revision"], 2)
        self.assertEqual([self.successResultOf(each)["revision"] for each in others], [3, 3, 3])
        self.assertEqual(self.replica.snapshotter.taken, 2)

    def test_waits_for_a_barrier(self) -> None:
        """A snapshot that is asked for waits until a read would be served, and is refused where a read would be."""
        asked: list[tuple[Any, Any]] = []
        self.patch(self.backups, "_barrier", lambda consistency, done: asked.append((consistency, done)))
        taking = self.backups.take("lease")
        self.run_for(1)
        self.assertNoResult(taking)
        ((consistency, done),) = asked
        self.assertEqual((consistency, self.disk.names("snapshots")), ("lease", []))
        done(NoLeader())
        self.failureResultOf(taking, NoLeader)
        self.assertEqual(self.disk.names("snapshots"), [])

    def test_fenced(self) -> None:
        """A state that is known to be wrong is no backup."""
        self.patch(self.backups, "_may_give", lambda: False)
        for asked in (self.backups.list(), self.backups.open(None), self.backups.open_again("00" * 16)):
            self.failureResultOf(asked, Fenced)

    def test_stopped(self) -> None:
        """A node that stops while it takes one says so."""
        taking = self.backups.take("linearizable")
        self.run_for(0.01)
        stopping = self.stop()
        self.failureResultOf(taking, Conflict, ShuttingDown, NoLeader)
        self.successResultOf(stopping)
        self.failureResultOf(self.backups.list(), ShuttingDown)
        self.assertEqual(self.fatal, [])

    def test_disk_fails(self) -> None:
        """An error of the disk stops the node, and whoever asked is sent elsewhere."""
        self.disk.fail_next("sync", "snapshots")
        taking = self.backups.take("linearizable")
        self.run_for(1)
        self.failureResultOf(taking, ShuttingDown)
        self.assertEqual(len(self.fatal), 1)


class OpenTests(BackupsTestCase):
    """The bytes of one."""

    def test_newest(self) -> None:
        """The newest one is read as it lies on the disk; where there is none yet, one is taken."""
        backup = self.result(self.backups.open(None))
        (name,) = self.disk.names("snapshots")
        self.assertEqual(self.content(backup), self.disk.read(f"snapshots/{name}"))
        self.write(put(b"k", b"w"))
        self.run_for(0.1)
        self.assertEqual(self.result(self.backups.open(None)).facts, backup.facts)
        self.assertEqual(self.result(self.backups.open("linearizable")).facts["revision"], 2)
        self.assertEqual(self.result(self.backups.open("stale")).facts["revision"], 2)

    def take_more(self, count: int) -> None:
        """Take snapshots, so that older ones go."""
        for number in range(count):
            self.write(put(b"k", b"%d" % number))
            self.run_for(0.1)
            self.result(self.backups.take("linearizable"))

    def test_stays_while_it_is_read(self) -> None:
        """A snapshot that is being read stays, name and all, whatever is taken meanwhile; afterwards it goes."""
        backup = self.result(self.backups.open(None))
        content = self.content(backup)
        name = self.disk.names("snapshots")[0]
        self.take_more(4)
        self.assertIn(name, self.disk.names("snapshots"))
        again = self.result(self.backups.open_again(backup.facts["checksum"]))
        backup.close()
        backup.close()
        self.take_more(1)
        self.assertEqual(self.content(again), content)
        self.assertIn(name, self.disk.names("snapshots"))
        again.close()
        self.take_more(1)
        self.assertNotIn(name, self.disk.names("snapshots"))
        self.assertEqual(len(self.disk.names("snapshots")), 2)
        self.assertIsNone(self.result(self.backups.open_again(backup.facts["checksum"])))

    def test_taken_back(self) -> None:
        """What is being read is given no further once the state is known to be wrong, or it was closed."""
        backup = self.result(self.backups.open(None))
        self.patch(backup, "_may_give", lambda: False)
        self.failureResultOf(backup.read(0, 10), Fenced)
        backup.close()
        self.failureResultOf(backup.read(0, 10), Fenced)

    def test_doubted_meanwhile(self) -> None:
        """What was opened before the state was found to be wrong stays doubtful when it is right again."""
        backup = self.result(self.backups.open(None))
        self.replica.fence.closed += 1
        self.failureResultOf(backup.read(0, 10), Fenced)
        again = self.result(self.backups.open(None))
        self.assertEqual(len(self.result(again.read(0, 10))), 10)

    def test_closed_after_the_stop(self) -> None:
        """A backup that is still open when the node stops is let go of, and leaves nothing behind."""
        backup = self.result(self.backups.open(None))
        self.successResultOf(self.stop())
        self.failureResultOf(backup.read(0, 10), ShuttingDown)
        backup.close()
        self.assertEqual(self.clock.getDelayedCalls(), [])


class NoBackupsTests(BackupsTestCase):
    """A node that has not begun."""

    def test_refuses(self) -> None:
        """It says why."""
        backups = NoBackups(NoLeader)
        for asked in (backups.take("stale"), backups.list(), backups.open(None), backups.open_again("")):
            self.failureResultOf(asked, NoLeader)
