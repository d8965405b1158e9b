"""The archive of a node's log: what goes there, when, and what happens where it cannot."""

from __future__ import annotations

import dataclasses
import errno
import random
from typing import Any

from twisted.internet.defer import Deferred

from raftkv.config import NodeConfig
from raftkv.errors import Conflict, NotFound, ShuttingDown
from raftkv.kvstore.commands import put
from raftkv.server.archiving import ArchiveSurroundings
from raftkv.server.replay import Rebuilt, Target, rebuild
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.worker import ClockWorker
from tests.server.test_replica import ReplicaTestCase

INTERVAL_SECONDS = 2.0


class ArchivingTestCase(ReplicaTestCase):
    """A node alone that archives its log every two seconds, in files of 3000 bytes."""

    config = dataclasses.replace(
        ReplicaTestCase.config,
        archive_dir="archive",
        archive_interval_seconds=INTERVAL_SECONDS,
        archive_max_lag_bytes=40_000,
    )

    def setUp(self) -> None:
        self.archive = MemoryDisk("/archive")
        super().setUp()
        self.run_for(3)

    def more_surroundings(self) -> dict[str, Any]:
        self.archive_worker = ClockWorker(self.clock, lambda items: 0.002)
        archive = ArchiveSurroundings(disk=self.archive, worker=self.archive_worker, file_bytes=3000)
        return {"archive": archive, "trailing_entries": 5}

    @property
    def archiver(self) -> Any:
        """The one that is tested."""
        assert self.replica.archiver is not None
        return self.replica.archiver

    @property
    def folder(self) -> str:
        """Where its files are."""
        return f"{self.node.identity.cluster_id}/a"

    def names(self) -> list[str]:
        """Return the files of the archive."""
        return self.archive.names(self.folder)

    def ranges(self) -> list[tuple[int, int]]:
        """Return which entries the files hold."""
        found = [name.split("-") for name in self.names() if name.endswith(".entries")]
        return [(int(first), int(last)) for first, last, _ in found]

    def write_some(self, count: int, size: int = 200) -> None:
        """Write entries, one after the other."""
        for number in range(count):
            self.write(put(b"k%d" % (number % 7), b"%d " % number + b"v" * size))
            self.run_for(0.02)

    def rebuilt(self) -> Rebuilt:
        """Make the state that the archive holds."""
        return rebuild(base=None, archives=[self.archive], target=Target(), progress=lambda *_: None)

    def assert_complete(self) -> None:
        """Check that what the archive holds makes the state of the node."""
        self.run_for(INTERVAL_SECONDS + 1)
        store = self.replica.state_machine.store
        rebuilt = self.rebuilt().store
        self.assertEqual((rebuilt.applied_index, rebuilt.digest()), (store.applied_index, store.digest()))

    def restart(self) -> None:
        """End this life in order, and begin another."""
        self.successResultOf(self.stop())
        self.start()
        self.run_for(3)

    def crash(self) -> None:
        self.archive_worker.crash()
        super().crash()

    def assert_no_alarm(self) -> None:
        """Check that all is well."""
        self.assertEqual(self.replica.status()["alarms"], [])


class TimingTests(ArchivingTestCase):
    """What goes there, and when."""

    def test_interval(self) -> None:
        """Whatever is committed is archived within the interval, and nothing new makes no file."""
        self.run_for(5)
        before = len(self.names())
        self.run_for(10)
        self.assertEqual(len(self.names()), before)
        self.write(put(b"k", b"v"))
        self.run_for(1)
        for number in range(3):
            self.write(put(b"k", b"%d" % number))
            self.run_for(0.1)
        self.assertEqual(len(self.names()), before)
        self.run_for(INTERVAL_SECONDS)
        self.assertEqual(len(self.names()), before + 1)
        self.assertEqual(self.replica.status()["archived_index"], self.replica.status()["applied_index"])
        self.assert_complete()
        self.assert_no_alarm()

    def test_much(self) -> None:
        """A long log makes several files, without waiting for the interval; they follow each other without a gap."""
        self.write_some(60)
        self.run_for(0.6)
        ranges = self.ranges()
        self.assertGreater(len(ranges), 3)
        self.assertEqual([first for first, _ in ranges], [1, *(last + 1 for _, last in ranges[:-1])])
        self.assert_complete()
        counters = self.replica.counters()
        self.assertEqual(counters["archived_entries"], self.replica.status()["archived_index"])
        self.assertEqual(counters["archive_files"], len(self.names()))

    def test_only_what_is_committed(self) -> None:
        """An entry that is on our disk and not committed does not go there: another may take its place."""
        self.write_some(3)
        self.run_for(INTERVAL_SECONDS + 1)
        node = self.replica.driver.node
        before = self.ranges()
        self.patch(type(node), "commit_index", property(lambda _: before[-1][1]))
        self.write(put(b"k", b"w"))
        self.run_for(2 * INTERVAL_SECONDS)
        self.assertGreater(node.stable_index, before[-1][1])
        self.assertEqual(self.ranges(), before)

    def test_now(self) -> None:
        """On request everything that is committed goes there at once."""
        self.write_some(3)
        self.run_for(INTERVAL_SECONDS + 1)
        self.write_some(1)
        self.run_for(0.1)
        asked = self.replica.backups.archive()
        self.assertNoResult(asked)
        self.run_for(0.2)
        facts = self.successResultOf(asked)
        self.assertEqual(facts["archived_index"], self.replica.status()["applied_index"])
        self.assertEqual((facts["lag_bytes"], facts["failure"]), (0, None))
        again = self.replica.backups.archive()
        self.run_for(0.1)
        self.assertEqual(self.successResultOf(again), facts)

    def test_goes_on(self) -> None:
        """Another life goes on where the last one ended, be it a stop or a loss of power in the middle of a file."""
        self.write_some(20)
        self.restart()
        self.write_some(10)
        self.archive.lose_power_after(3)
        self.run_for(INTERVAL_SECONDS + 1)
        self.crash()
        self.archive.crash(random.Random(5))
        self.start()
        self.run_for(3)
        self.write_some(10)
        self.assert_complete()
        self.assertEqual(self.ranges(), sorted(set(self.ranges())))
        self.assertNotIn(".tmp", " ".join(self.names()))
        self.assert_no_alarm()

    def test_stopped_in_between(self) -> None:
        """A stop does not wait for a file, and leaves nothing running; whoever waits is told."""
        self.write_some(10)
        self.archive_worker.stall()
        asked = self.replica.backups.archive()
        self.run_for(0.1)
        stopping = self.stop()
        self.failureResultOf(asked, ShuttingDown)
        self.archive_worker.resume()
        self.run_for(0.1)
        self.successResultOf(stopping)
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.failureResultOf(self.replica.backups.archive(), ShuttingDown)


class TroubleTests(ArchivingTestCase):
    """An archive that cannot be written."""

    def test_no_directory(self) -> None:
        """A directory that is not there is not made: the alarm is raised, writes go on, and it ends by itself."""
        self.archive._folders.clear()
        self.write_some(5)
        self.run_for(INTERVAL_SECONDS + 1)
        self.assertEqual(self.replica.status()["alarms"], ["archive_failed"])
        self.assertGreater(self.replica.counters()["archive_failures"], 0)
        self.assertEqual(self.successResultOf(self.asked_now(errors=True)), None)
        self.archive._folders.add("")
        self.run_for(INTERVAL_SECONDS + 1)
        self.assert_no_alarm()
        self.assert_complete()
        self.assertEqual(self.fatal, [])

    def asked_now(self, *, errors: bool) -> Deferred[Any]:
        """Ask for everything to be archived, and wait for the answer."""
        asked = self.replica.backups.archive()
        if errors:
            asked.addErrback(lambda failure: failure.trap(Conflict) and None)
        self.run_for(0.2)
        return asked

    def test_every_operation(self) -> None:
        """An error at any step, or a full disk, loses nothing and stops nothing: the same entries are tried again."""
        for operation, code in (
            ("create", errno.ENOSPC),
            ("truncate", errno.EIO),
            ("write", errno.ENOSPC),
            ("read", errno.EIO),
            ("sync", errno.EIO),
            ("rename", errno.EIO),
            ("sync_folder", errno.EIO),
        ):
            self.write_some(2)
            self.archive.fail_next(operation, self.folder, code=code)
            self.successResultOf(self.asked_now(errors=True))
            self.assertEqual(self.replica.status()["alarms"], ["archive_failed"], operation)
            self.run_for(2 * INTERVAL_SECONDS + 1)
            self.assert_no_alarm()
            self.assert_complete()
        self.assertEqual(self.fatal, [])
        self.assertEqual(self.replica.counters()["archive_gaps"], 0)

    def test_log_waits(self) -> None:
        """The log is not compacted as long as the archive lacks it, and goes once the archive has it."""
        self.archive_worker.stall()
        first = self.replica.status()["first_index"]
        self.write_some(100)
        status = self.replica.status()
        self.assertGreater(status["snapshot_index"], first)
        self.assertEqual(status["first_index"], first)
        self.archive_worker.resume()
        self.run_for(3)
        self.assertGreater(self.replica.status()["first_index"], first)
        self.assert_complete()
        self.assertEqual(self.replica.counters()["archive_gaps"], 0)

    def test_disk_nearly_full(self) -> None:
        """The log does not wait on a disk that has no room for it: that would stop the node."""
        self.archive_worker.stall()
        self.write_some(60)
        first = self.replica.status()["first_index"]
        self.patch(type(self.replica.driver.node), "disk_lacks_room", property(lambda _: True))
        self.write_some(60)
        self.assertGreater(self.replica.status()["first_index"], first)
        self.assertIn("archive_behind", self.replica.status()["alarms"])

    def test_log_waits_no_longer(self) -> None:
        """Past the bound the log goes all the same, with an alarm; a snapshot then replaces what is missing."""
        self.archive_worker.stall()
        self.write_some(250)
        status = self.replica.status()
        self.assertIn("archive_behind", status["alarms"])
        self.assertGreater(status["first_index"], status["archived_index"] + 1)
        self.archive_worker.resume()
        self.run_for(3)
        gaps = self.replica.counters()["archive_gaps"]
        self.assertGreater(gaps, 0)
        self.assert_no_alarm()
        self.assertEqual(len([name for name in self.names() if name.endswith(".snapshot")]), gaps)
        self.assert_complete()
        rebuilt = self.rebuilt()
        self.assertTrue(rebuilt.base.endswith(".snapshot"), rebuilt.base)
        # Everybody who looks for the alarm finds it in the log, too.
        self.assertEqual(self.fatal, [])

    def test_gap_without_a_snapshot(self) -> None:
        """As long as no snapshot can be copied, the gap is an alarm of its own."""
        self.archive_worker.stall()
        self.write_some(250)
        self.patch(self.archiver, "_may_copy", lambda: False)
        self.archive_worker.resume()
        self.run_for(3)
        self.assertEqual(self.replica.status()["alarms"], ["archive_behind", "archive_failed", "archive_gap"])
        self.patch(self.archiver, "_may_copy", lambda: True)
        self.run_for(INTERVAL_SECONDS + 1)
        self.assert_no_alarm()
        self.assert_complete()

    def test_moved_away(self) -> None:
        """Files that the operator has taken elsewhere are not missed; another life begins with a snapshot."""
        self.write_some(120)
        self.run_for(INTERVAL_SECONDS + 1)
        self.archive = MemoryDisk("/archive")
        self.restart()
        self.write_some(3)
        self.assert_complete()
        self.assertEqual(len([name for name in self.names() if name.endswith(".snapshot")]), 1)
        self.assert_no_alarm()

    def test_damaged_file(self) -> None:
        """A file whose end has been damaged does not count: what it held is archived again, or replaced."""
        self.write_some(5)
        self.run_for(INTERVAL_SECONDS + 1)
        name = self.names()[-1]
        self.archive.flip_bit(f"{self.folder}/{name}", len(self.archive.read(f"{self.folder}/{name}")) - 1)
        self.restart()
        self.write_some(1)
        self.assert_complete()

    def test_another_history(self) -> None:
        """An archive whose last entry is not that of our log is left alone."""
        self.write_some(5)
        self.run_for(INTERVAL_SECONDS + 1)
        self.successResultOf(self.stop())
        before = self.names()
        node_term = type(self.replica.driver.node).term_at
        last = self.ranges()[-1][1]
        self.start()
        self.patch(
            type(self.replica.driver.node),
            "term_at",
            lambda node, index: 99 if index == last else node_term(node, index),
        )
        self.archiver.look()
        self.clock.advance(0.1)
        self.clock.advance(0.1)
        self.assertEqual(self.replica.status()["alarms"], ["archive_failed"])
        self.assertIn("another history", self.archiver.facts()["failure"])
        self.assertEqual(self.names(), before)


class WithoutArchiveTests(ReplicaTestCase):
    """A node that archives nothing."""

    config = NodeConfig(node_id="a", data_dir="memory")

    def test_not_found(self) -> None:
        """It says so, shows nothing about it, and compacts its log as ever."""
        self.run_for(3)
        self.failureResultOf(self.replica.backups.archive(), NotFound)
        self.assertNotIn("archived_index", self.replica.status())
        self.assertNotIn("archive_files", self.replica.counters())
