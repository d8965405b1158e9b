"""Watches of three whole nodes: what each of them is told, wherever it is."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from raftkv.errors import Fenced, NoLeader, RaftKVError, Removed, ShuttingDown
from raftkv.kvstore.commands import compact, put
from raftkv.server.waiting import NotBegun, Waiting
from raftkv.testing.cluster import ClusterSettings
from raftkv.watches import IWatch, WatchEvent, WatchRequest
from tests.server.trio import NAMES, TrioTestCase


class Listener:
    """Notes what it is told."""

    def __init__(self) -> None:
        self.begun_at: int | None = None
        self.values: list[bytes] = []
        self.error: RaftKVError | None = None
        self.told = 0

    def begun(self, revision: int) -> None:
        self.begun_at = revision

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        self.values += [event.change.record[0] for event in events if event.change.record is not None]
        return True

    def progress(self, revision: int) -> None:
        self.told = revision

    def ended(self, error: RaftKVError) -> None:
        self.error = error


class WatchTests(TrioTestCase):
    """A follower that hears nothing for a while."""

    settings = ClusterSettings(
        snapshot_interval_seconds=0.2, snapshot_threshold_bytes=512, trailing_entries=2, history_max_revisions=1000
    )

    def watch(self, name: str, **request: Any) -> Listener:
        """Begin a watch on a node."""
        listener = Listener()
        watches: list[IWatch] = []

        def begin() -> None:
            watches.append(self.replica(name).watch(WatchRequest(progress_seconds=0.5, **request), listener))
            watches[0].begin()

        self.run_in(name, begin)
        return listener

    def write_all(self, name: str, first: int, last: int) -> None:
        """Write numbers, one after the other, through a node."""
        for number in range(first, last):
            answers = self.write(name, put(b"k", b"%d" % number))
            self.assertTrue(self.cluster.clock.run_while(lambda answers=answers: not answers, limit_seconds=10))
            self.assertNotIsInstance(answers[0], RaftKVError)

    def test_each_node_tells_the_same(self) -> None:
        """A write through any node is told by every node, at its revision."""
        listeners = [self.watch(name) for name in NAMES]
        self.run_for(0.5)
        for number, name in enumerate(NAMES):
            self.write_all(name, number, number + 1)
        self.run_for(1.0)
        for listener in listeners:
            self.assertEqual((listener.begun_at, listener.values, listener.told), (0, [b"0", b"1", b"2"], 3))

    def test_snapshot_in_place_of_entries(self) -> None:
        """A follower that was cut off, and gets a snapshot rather than the entries, tells what it had not applied."""
        leader = self.settle()
        behind = next(name for name in NAMES if name != leader)
        listener, of_others = self.watch(behind), self.watch(behind, start=b"other")
        self.run_for(0.5)
        self.cluster.network.partition([behind], [name for name in NAMES if name != behind])
        for first in (0, 20):  # the log stays from the last snapshot but one on
            self.write_all(leader, first, first + 20)
            self.run_for(2.0)
        self.assertEqual(listener.values, [])
        late = self.watch(behind, from_revision=21)
        resumed = self.watch(behind, from_revision=31, resumes=True)
        self.cluster.network.heal()
        self.run_for(3.0)
        snapshots = self.cluster.network.counts["snapshots"]
        self.assertGreater(snapshots, 0, "the follower was to need a snapshot")
        self.assertEqual(listener.values, [b"%d" % number for number in range(40)])
        self.assertEqual(late.values, [b"%d" % number for number in range(20, 40)])
        self.assertEqual((of_others.values, of_others.told), ([], 40))
        if resumed.error is None:  # it may have waited for longer than a read is allowed to
            self.assertEqual(resumed.values, [b"%d" % number for number in range(30, 40)])
        else:
            self.assertIsInstance(resumed.error, NoLeader)

    def test_cut_off_node_begins_no_watch_in_the_past(self) -> None:
        """B54: a node that cannot ask the leader begins no watch without a revision: it does not know where."""
        leader = self.settle()
        behind = next(name for name in NAMES if name != leader)
        self.cluster.network.partition([behind], [name for name in NAMES if name != behind])
        self.write_all(leader, 0, 3)
        listener = self.watch(behind)
        self.run_for(8.0)
        self.assertIsNone(listener.begun_at)
        self.assertIsNotNone(listener.error)

    def test_compaction_is_told_by_each(self) -> None:
        """What the log has compacted no node tells, and each says so."""
        leader = self.settle()
        self.write_all(leader, 0, 5)
        answers = self.write(leader, compact(4))
        self.run_for(0.5)
        self.assertEqual(len(answers), 1)
        for name in NAMES:
            listener = self.watch(name, from_revision=3)
            self.assertEqual(getattr(listener.error, "compact_revision", None), 4)
            self.assertEqual(self.watch(name, from_revision=4).error, None)

    def test_stops(self) -> None:
        """Watches end where the node stops, is removed, or finds its state to be wrong; then none begins."""
        ends: tuple[tuple[str, Any, type[RaftKVError]], ...] = (
            ("n1", lambda: self.replica("n1").interrupt(Fenced), Fenced),
            ("n2", lambda: self.replica("n2").retire(), Removed),
            ("n3", lambda: self.replica("n3").stopService(), ShuttingDown),
        )
        for name, end, expected in ends:
            listener = self.watch(name, from_revision=1)
            self.run_in(name, end)
            self.assertIsInstance(listener.error, expected)
        self.assertIsInstance(self.watch("n2", from_revision=1).error, Removed)
        self.assertIsInstance(self.watch("n3", from_revision=1).error, ShuttingDown)

    def test_fenced(self) -> None:
        """A node whose state is known to be wrong begins no watch."""
        self.replica("n1").fence.is_fenced = True
        self.assertIsInstance(self.watch("n1", from_revision=1).error, Fenced)

    def test_counters(self) -> None:
        """What was told is counted."""
        self.watch("n1", from_revision=1)
        self.write_all("n1", 0, 3)
        self.run_for(0.5)
        counters = self.replica("n1").counters()
        self.assertEqual((counters["watches_begun"], counters["watch_events"]), (1, 3))


class WaitingTests(TrioTestCase):
    """A node that has not begun."""

    def test_refuses(self) -> None:
        """A node that takes no part in its cluster yet tells why there is nothing to watch."""
        waiting = Waiting(node_id="n9", reason=lambda: "nobody answers", seconds=lambda: 0.0)
        listener = Listener()
        watch = waiting.watch(WatchRequest(), listener)
        watch.begin()
        watch.ask_progress()
        watch.go_on()
        watch.cancel()
        self.assertIsInstance(listener.error, NotBegun)
        self.assertEqual(watch.told_revision, 0)
