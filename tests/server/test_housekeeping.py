"""Sessions whose clients have long gone: when their end is proposed, and by whom."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader
from raftkv.kvstore import Store
from raftkv.kvstore.commands import EXPIRE_SESSIONS, in_session, pack_batch, put
from raftkv.raft.ready import Role
from raftkv.server.housekeeping import SessionExpiry
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
