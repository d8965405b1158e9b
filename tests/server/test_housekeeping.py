"""Sessions whose clients have long gone: when their end is proposed, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    COMPACT,
    EXPIRE,
    EXPIRE_SESSIONS,
    compact,
    grant,
    in_session,
    keepalive,
    lock,
    pack_batch,
    put,
)
from raftkv.raft.ready import Role
from raftkv.server.housekeeping import Compaction, SessionExpiry, TenureExpiry
from tests.server.fakes import FakeNode

TTL_SECONDS = 600.0
TTL_MS = 600_000
LOOK_TICKS = 100  # a sixtieth of the time to live, in ticks of a tenth of a second


class SessionExpiryTests(SynchronousTestCase):
    """Expiry over a fake node and a real store."""

    def setUp(self) -> None:
        self.node = FakeNode()
        self.store = Store()
        self.submitted: list[tuple[Sequence[Any], Any]] = []
        self.expiry = SessionExpiry(
            node=self.node,  # type: ignore[arg-type]
            store=lambda: self.store,
            submit=lambda commands, done: self.submitted.append((commands, done)),
            session_ttl_seconds=TTL_SECONDS,
            tick_interval_seconds=0.1,
        )

    def apply(self, cluster_time_ms: int, *commands: Any) -> list[Any]:
        """Apply commands at a cluster time."""
        return self.store.apply(self.store.applied_index + 1, pack_batch(cluster_time_ms, 0, commands))

    def look(self) -> None:
        """Let enough ticks pass for a look."""
        for _ in range(LOOK_TICKS):
            self.expiry.tick()

    def test_by_cluster_time(self) -> None:
        """A session's end is proposed once its last write lies a whole time to live behind cluster time."""
        self.apply(1_000, in_session(b"c", 1, put(b"k", b"v")))
        self.apply(1_000 + TTL_MS, put(b"k", b"w"))
        self.look()
        self.assertEqual(self.submitted, [])
        self.apply(1_001 + TTL_MS, put(b"k", b"x"))
        self.look()
        ((commands, done),) = self.submitted
        self.assertEqual(commands, [(EXPIRE_SESSIONS, 1_001)])
        done(self.apply(1_001 + TTL_MS, *commands))
        self.assertEqual(self.store.session_count, 0)

    def test_leader_only(self) -> None:
        """Only a leader proposes it."""
        self.node.role = Role.FOLLOWER
        self.apply(1, in_session(b"c", 1, put(b"k", b"v")))
        self.apply(2 * TTL_MS, put(b"k", b"w"))
        self.look()
        self.assertEqual(self.submitted, [])

    def test_one_at_a_time(self) -> None:
        """No second proposal is made before the first was answered, and one that failed is made again."""
        self.apply(1, in_session(b"c", 1, put(b"k", b"v")))
        self.apply(2 * TTL_MS, put(b"k", b"w"))
        self.look()
        self.look()
        self.assertEqual(len(self.submitted), 1)
        self.submitted[0][1](NoLeader())
        self.look()
        self.assertEqual(len(self.submitted), 2)

    def test_nothing_to_forget(self) -> None:
        """Without an idle session nothing is written into the log, however often one looks."""
        self.apply(5 * TTL_MS, in_session(b"c", 1, put(b"k", b"v")))
        for _ in range(10):
            self.look()
        self.assertEqual(self.submitted, [])

    def test_refused_at_once(self) -> None:
        """A proposal that is answered before the call returns is no different from one that is answered later."""
        self.expiry._submit = lambda commands, done: done(NoLeader())
        self.apply(1, in_session(b"c", 1, put(b"k", b"v")))
        self.apply(2 * TTL_MS, put(b"k", b"w"))
        self.look()
        self.expiry._submit = lambda commands, done: self.submitted.append((commands, done))
        self.look()
        self.assertEqual(len(self.submitted), 1)


class HousekeepingTestCase(SynchronousTestCase):
    """A fake node that leads, a real store, and a clock of the cluster that the test sets."""

    def setUp(self) -> None:
        self.node = FakeNode()
        self.store = Store()
        self.now_ms = 0
        self.submitted: list[tuple[Sequence[Any], Any]] = []

    def submit(self, commands: Sequence[Any], done: Any) -> None:
        self.submitted.append((commands, done))

    def apply(self, *commands: Any) -> list[Any]:
        """Apply commands now."""
        return self.store.apply(self.store.applied_index + 1, pack_batch(self.now_ms, 0, commands))

    def carry_out(self) -> None:
        """Apply the one write that was submitted, and answer it."""
        ((commands, done),) = self.submitted
        self.submitted.clear()
        done(self.apply(*commands))


class TenureExpiryTests(HousekeepingTestCase):
    def setUp(self) -> None:
        super().setUp()
        self.expiry = TenureExpiry(
            node=self.node,  # type: ignore[arg-type]
            store=lambda: self.store,
            now_ms=lambda: self.now_ms,
            submit=self.submit,
        )

    def look(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.expiry.tick()

    def test_due(self) -> None:
        """The end of a lease is proposed as soon as its time has come, once, and comes about."""
        self.apply(grant(700))
        self.look(699)
        self.assertEqual(self.submitted, [])
        self.look(700)
        self.look(700)
        self.assertEqual([command[0] for (command,), _ in self.submitted], [EXPIRE])
        self.carry_out()
        self.assertEqual(self.store.lease_count, 0)
        self.look(9000)
        self.assertEqual(self.submitted, [])

    def test_waits(self) -> None:
        """Waits for locks end in the same way."""
        self.apply(lock(b"l", ttl_ms=9000), lock(b"l", ttl_ms=9000, wait_ms=300))
        self.look(300)
        self.carry_out()
        self.assertEqual(self.store.ticket_count, 1)

    def test_many(self) -> None:
        """What is left over when many end at once follows at once."""
        self.apply(*[grant(100)] * 1500)
        self.look(100)
        self.carry_out()
        self.assertEqual(self.store.lease_count, 500)
        self.carry_out()
        self.assertEqual((self.store.lease_count, self.submitted), (0, []))

    def test_time_is_told(self) -> None:
        """B36: while a lease runs the log is told the time, or with every change of leader it would begin anew."""
        self.apply(grant(60_000))
        self.look(999)
        self.assertEqual(self.submitted, [])
        self.look(1000)
        self.carry_out()
        self.assertEqual((self.store.cluster_time_ms, self.store.lease_count), (1000, 1))

    def test_renewed_meanwhile(self) -> None:
        """B35: a proposal that comes into the log behind a keepalive, from whomever, ends nothing."""
        self.apply(grant(1000))
        self.look(1000)
        self.now_ms = 999
        self.apply(keepalive(1))
        self.now_ms = 1000
        self.carry_out()
        self.assertEqual(self.store.lease_count, 1)

    def test_leader_only(self) -> None:
        """B35: who does not lead proposes nothing, and who failed tries again."""
        self.apply(grant(100))
        self.node.role = Role.FOLLOWER
        self.look(100)
        self.assertEqual(self.submitted, [])
        self.node.role = Role.LEADER
        self.look(100)
        self.submitted.pop()[1](NoLeader())
        self.look(100)
        self.assertEqual(len(self.submitted), 1)


class CompactionTests(HousekeepingTestCase):
    def compaction(self, *, revisions: int = 0, size_bytes: int = 0, age_seconds: float = 0) -> Compaction:
        return Compaction(
            node=self.node,  # type: ignore[arg-type]
            store=lambda: self.store,
            now_ms=lambda: self.now_ms,
            submit=self.submit,
            max_revisions=revisions,
            max_bytes=size_bytes,
            max_age_seconds=age_seconds,
            tick_interval_seconds=0.5,
        )

    def look(self, compaction: Compaction) -> None:
        compaction.tick()
        compaction.tick()

    def put_many(self, count: int) -> None:
        for n in range(count):
            self.apply(put(b"a", b"%d" % n))

    def store_much(self, count: int) -> None:
        for _ in range(count):
            self.apply(put(b"a", b"x" * 100_000))

    def test_by_number(self) -> None:
        """More revisions than are to be kept are compacted, but not one by one."""
        compaction = self.compaction(revisions=100)
        self.put_many(106)
        self.look(compaction)
        self.assertEqual(self.submitted, [])
        self.put_many(20)
        self.look(compaction)
        self.carry_out()
        self.assertEqual((self.store.compact_revision, self.store.history_revisions), (26, 100))

    def test_by_size(self) -> None:
        """The oldest revisions are compacted until what is left is small enough."""
        compaction = self.compaction(size_bytes=3_000_000)
        self.store_much(100)
        self.look(compaction)
        self.carry_out()
        self.assertTrue(1_500_000 < self.store.history_bytes <= 3_000_000, self.store.history_bytes)

    def test_much_at_once(self) -> None:
        """What is far beyond the bound does not wait for the next look; what is a little beyond it does."""
        compaction = self.compaction(size_bytes=3_000_000)
        self.store_much(33)
        compaction.tick()
        self.assertEqual(self.submitted, [])
        compaction = self.compaction(size_bytes=3_000_000)
        self.store_much(33)
        compaction.tick()
        self.carry_out()
        self.assertLessEqual(self.store.history_bytes, 3_000_000)

    def test_by_age(self) -> None:
        """Revisions that were over so long ago are compacted."""
        compaction = self.compaction(age_seconds=10)
        for second in range(30):
            self.now_ms = 1000 * second
            self.apply(put(b"a", b""))
        self.look(compaction)
        self.carry_out()
        self.assertEqual(self.store.compact_revision, 20)

    def test_no_bounds(self) -> None:
        """Without a bound nothing is compacted."""
        self.put_many(500)
        self.look(self.compaction())
        self.assertEqual(self.submitted, [])

    def test_leader_only(self) -> None:
        """Only a leader proposes it, one at a time, and again after a failure."""
        compaction = self.compaction(revisions=10)
        self.put_many(100)
        self.node.role = Role.FOLLOWER
        self.look(compaction)
        self.assertEqual(self.submitted, [])
        self.node.role = Role.LEADER
        self.look(compaction)
        self.look(compaction)
        ((commands, done),) = self.submitted
        self.assertEqual(commands, [(COMPACT, 0, 90)])
        done(NoLeader())
        self.look(compaction)
        self.assertEqual(len(self.submitted), 2)

    def test_memory_is_freed_everywhere(self) -> None:
        """Each node frees what was compacted as time goes by, whether it leads or not."""
        self.node.role = Role.FOLLOWER
        self.apply(*(put(b"a", b"") for _ in range(5000)))
        self.apply(compact(5000))
        compaction = self.compaction()
        for _ in range(3):
            compaction.tick()
        self.assertFalse(self.store.tidy(1))
