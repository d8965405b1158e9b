"""Leases: time out of the log, keys that go with them, and what a late keepalive is told."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    KEEP_LEASE,
    LEASE_NOT_FOUND,
    OK,
    delete,
    expire,
    grant,
    keepalive,
    put,
    revoke,
    transaction,
)
from tests.kvstore.helpers import apply, restore, snapshot


class LeaseTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        apply(self.store, grant(1000), grant(5000), at_ms=100)

    def test_grant(self) -> None:
        """Leases are numbered in the order of the log, take no revision, and end a time to live from now."""
        self.assertEqual(self.store.leases(limit=9), [(1, 1000, 1100, 0), (2, 5000, 5100, 0)])
        self.assertEqual((self.store.revision, self.store.next_deadline_ms), (0, 1100))

    def test_end_deletes_keys(self) -> None:
        """The end of a lease deletes its keys in one revision, in their order, and no others."""
        apply(self.store, put(b"b", b"", lease=1), put(b"a", b"", lease=1), put(b"c", b"", lease=2), put(b"d", b""))
        self.assertEqual(self.store.lease_keys(1, limit=9), [b"a", b"b"])
        self.assertEqual(apply(self.store, revoke(1)), [(OK, 5, 2)])
        self.assertEqual(
            [(key, record) for key, record, _ in self.store.changes(5, 1)[0][1]], [(b"a", None), (b"b", None)]
        )
        self.assertEqual([key for key, _ in self.store.scan(b"", None, 9)], [b"c", b"d"])
        self.assertEqual(apply(self.store, revoke(1)), [(LEASE_NOT_FOUND, 1)])

    def test_end_without_keys(self) -> None:
        """A lease without keys ends without a revision."""
        self.assertEqual((apply(self.store, revoke(1)), self.store.revision), ([(OK, 0, 0)], 0))

    def test_only_time_of_the_log_counts(self) -> None:
        """B34: a lease ends by a command of the log at the cluster time of that entry, and by nothing else."""
        apply(self.store, put(b"a", b"", lease=1))
        self.assertEqual(apply(self.store, expire(9), at_ms=1099), [(OK, 0, False)])
        apply(self.store, put(b"b", b""), at_ms=1100)
        self.assertIsNotNone(self.store.get(b"a"))
        self.assertEqual(apply(self.store, expire(9)), [(OK, 1, False)])
        self.assertEqual((self.store.get(b"a"), self.store.lease_count), (None, 1))

    def test_late_expiry_of_a_renewed_lease(self) -> None:
        """B35: whoever proposed it, and however long ago, an expiry ends nothing that has been renewed since."""
        apply(self.store, keepalive(1), at_ms=1099)
        self.assertEqual(apply(self.store, expire(9), at_ms=1500), [(OK, 0, False)])
        self.assertEqual(self.store.lease(1), (1, 1000, 2099, 0))

    def test_remaining_time_survives(self) -> None:
        """B36: a snapshot, or a leader whose clock begins anew, leaves a lease its end and does not begin it again."""
        apply(self.store, put(b"a", b"", lease=1), at_ms=900)
        restored = restore(snapshot(self.store))
        apply(restored, at_ms=500)
        self.assertEqual((restored.lease(1), restored.next_deadline_ms), ((1, 1000, 1100, 1), 1100))
        self.assertEqual(apply(restored, expire(9), at_ms=1100), [(OK, 1, False)])
        self.assertIsNone(restored.get(b"a"))

    def test_late_keepalive(self) -> None:
        """B37: a keepalive is refused once the time has come, whether or not the end was proposed yet."""
        self.assertEqual(apply(self.store, keepalive(1), at_ms=1099), [(OK, 1000)])
        self.assertEqual(apply(self.store, keepalive(1), at_ms=2099), [(LEASE_NOT_FOUND, 1)])
        self.assertEqual(apply(self.store, put(b"a", b"", lease=1), revoke(1)), [(LEASE_NOT_FOUND, 1)] * 2)
        apply(self.store, expire(9))
        self.assertEqual(apply(self.store, keepalive(1), keepalive(77)), [(LEASE_NOT_FOUND, 1), (LEASE_NOT_FOUND, 77)])

    def test_ends_in_portions(self) -> None:
        """Many leases that are due end in the order of their times, as many at once as the command says."""
        apply(self.store, *(grant(10 - n) for n in range(5)))
        self.assertEqual(apply(self.store, expire(2), at_ms=200), [(OK, 2, True)])
        self.assertEqual([lease for lease, *_ in self.store.leases(limit=9)], [1, 2, 3, 4, 5])
        self.assertEqual(apply(self.store, expire(3)), [(OK, 3, False)])

    def test_put_moves_a_key(self) -> None:
        """A put without a lease takes the key off the one it had, another one moves it, KEEP leaves it."""
        apply(self.store, *(put(key, b"", lease=1) for key in (b"a", b"b", b"c", b"d")))
        apply(self.store, put(b"a", b""), put(b"b", b"", lease=2), put(b"c", b"", lease=KEEP_LEASE), delete(b"d"))
        self.assertEqual([self.store.lease_keys(n, limit=9) for n in (1, 2)], [[b"c"], [b"b"]])
        apply(self.store, transaction([], [put(b"c", b"", lease=2)]))
        self.assertEqual([self.store.lease_keys(n, limit=9) for n in (1, 2)], [[], [b"b", b"c"]])

    def test_time_to_live_of_a_key(self) -> None:
        """A put with a time to live has a lease of its own, which goes with the key."""
        self.assertEqual(apply(self.store, put(b"a", b"", ttl_ms=50)), [(OK, 1, 3)])
        self.assertEqual(self.store.lease(3), (3, 50, 150, 1))
        self.assertEqual(apply(self.store, put(b"a", b"", ttl_ms=60)), [(OK, 2, 4)])
        self.assertIsNone(self.store.lease(3))
        apply(self.store, delete(b"a"))
        self.assertEqual(self.store.lease_count, 2)
        apply(self.store, put(b"a", b"", ttl_ms=50))
        self.assertEqual(apply(self.store, expire(9), at_ms=150), [(OK, 1, False)])
        self.assertEqual((self.store.get(b"a"), self.store.lease_count), (None, 2))

    def test_renewals_cost_no_memory(self) -> None:
        """What is noted of deadlines stays in proportion to the leases there are."""
        for n in range(2000):
            apply(self.store, put(b"a", b"", ttl_ms=10**6), keepalive(2), at_ms=100 + n)
        self.assertLess(len(self.store._tenures.leases._deadlines._heap), 200)
        self.assertEqual(self.store.next_deadline_ms, 1100)

    def test_digest(self) -> None:
        """Leases are part of the digest: number, time to live, and when they end."""
        digests = [self.store.digest()]
        for command, at_ms in ((keepalive(1), 100), (keepalive(1), 101), (grant(1), 101), (revoke(2), 101)):
            apply(self.store, command, at_ms=at_ms)
            digests.append(self.store.digest())
        self.assertEqual([digests[0] == digests[1], len(set(digests))], [True, 4])
