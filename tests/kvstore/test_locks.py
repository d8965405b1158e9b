"""Locks: one holder, a fair queue, tokens that fence; the key that shows who was elected."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    KEEP_LEASE,
    LEASE_NOT_FOUND,
    LOCK_HELD,
    LOCK_NOT_HELD,
    OK,
    delete,
    expire,
    fenced,
    grant,
    in_session,
    keepalive,
    lock,
    put,
    revoke,
    unlock,
)
from tests.kvstore.helpers import apply, restore, snapshot


class LockTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        (self.first,) = apply(self.store, lock(b"l", ttl_ms=1000), at_ms=100)

    def token(self) -> int:
        found = self.store.lock(b"l")
        return 0 if found is None else found.token

    def test_taken(self) -> None:
        """A free lock is taken at once: the token is a revision of its own, and the lease begins now."""
        self.assertEqual(self.first, (OK, 1, 1, 1))
        self.assertEqual((self.store.revision, self.store.changes(1, 1)), (1, [(1, [])]))
        self.assertEqual(self.store.lock(b"l"), (b"l", 1, 1, 1, 0))
        self.assertEqual(self.store.lease(1), (1, 1000, 1100, 0))

    def test_held(self) -> None:
        """Who does not wait is told who holds it, and leaves nothing behind."""
        before = self.store.digest()
        self.assertEqual(apply(self.store, lock(b"l", ttl_ms=1000)), [(LOCK_HELD, 1)])
        self.assertEqual(self.store.digest(), before)

    def test_first_come_first_served(self) -> None:
        """Waiters have the lock in the order of the log, each with a larger token, and a lease that begins then."""
        waits = apply(self.store, *[lock(b"l", ttl_ms=1000, wait_ms=9000)] * 3)
        self.assertEqual(waits, [(OK, 0, 0, 2), (OK, 0, 0, 3), (OK, 0, 0, 4)])
        self.assertEqual(self.store.take_settled(), [1])
        apply(self.store, put(b"x", b""), unlock(b"l", token=1), at_ms=500)
        self.assertEqual((self.store.lock(b"l"), self.store.lease(2)), ((b"l", 3, 2, 2, 2), (2, 1000, 1500, 0)))
        self.assertEqual(self.store.take_settled(), [1, 2])
        self.assertEqual(self.store.ticket(3), (3, b"l", 0, 0, 9100))
        apply(self.store, unlock(b"l", ticket=3), unlock(b"l", ticket=2))
        self.assertEqual((self.token(), self.store.lock(b"l")), (4, (b"l", 4, 4, 4, 0)))

    def test_the_end_of_the_lease_frees(self) -> None:
        """A lock is free once its lease has ended, by time or by hand, and the next one has it in that very entry."""
        apply(self.store, lock(b"l", ttl_ms=1000, wait_ms=9000), lock(b"l", ttl_ms=1000, wait_ms=9000))
        self.assertEqual(apply(self.store, expire(9), at_ms=1100), [(OK, 1, False)])
        self.assertEqual(self.token(), 2)
        apply(self.store, revoke(2))
        self.assertEqual(self.token(), 3)

    def test_due_but_not_expired(self) -> None:
        """A lock whose lease is due is free for whoever asks, though nobody has proposed its end yet."""
        self.assertEqual(apply(self.store, lock(b"l", ttl_ms=5), at_ms=1100), [(OK, 2, 2, 2)])

    def test_waits_end(self) -> None:
        """A wait ends by cluster time; who is dropped never has the lock, not even where the end comes late."""
        apply(self.store, lock(b"l", ttl_ms=1000, wait_ms=50), lock(b"l", ttl_ms=1000, wait_ms=9000))
        self.assertEqual(self.store.next_deadline_ms, 150)
        apply(self.store, unlock(b"l", token=1), at_ms=150)
        self.assertEqual((self.store.ticket(2), self.store.lock(b"l")), (None, (b"l", 2, 3, 3, 0)))
        apply(self.store, lock(b"l", ttl_ms=1000, wait_ms=50))
        self.assertEqual(apply(self.store, expire(9), at_ms=200), [(OK, 1, False)])
        self.assertEqual((self.store.ticket(4), self.token()), (None, 2))

    def test_waiter_past_its_lease(self) -> None:
        """B62: who waits with a lease that is due never has the lock, though nobody has ended that lease yet."""
        apply(self.store, grant(500), lock(b"l", lease=2, wait_ms=9000), lock(b"l", ttl_ms=1000, wait_ms=9000))
        apply(self.store, unlock(b"l", token=1), at_ms=600)
        self.assertEqual((self.store.ticket(3), self.store.lock(b"l")), (None, (b"l", 2, 4, 4, 0)))

    def test_fencing(self) -> None:
        """B62: a write with the token of a holder that is not one any more changes nothing, whenever it arrives."""
        write = put(b"a", b"mine")
        self.assertEqual(apply(self.store, fenced(b"l", 1, write)), [(OK, 2)])
        self.assertEqual(apply(self.store, fenced(b"l", 2, write)), [(LOCK_NOT_HELD, 1)])
        self.assertEqual(apply(self.store, fenced(b"m", 1, write)), [(LOCK_NOT_HELD, 0)])
        # Past its lease, and nobody has noticed yet.
        self.assertEqual(apply(self.store, fenced(b"l", 1, write), at_ms=1100), [(LOCK_NOT_HELD, 0)])
        apply(self.store, expire(9), lock(b"l", ttl_ms=1000))
        self.assertEqual(apply(self.store, fenced(b"l", 1, write)), [(LOCK_NOT_HELD, 3)])
        self.assertEqual(apply(self.store, fenced(b"l", 3, in_order := delete(b"a"))), [(OK, 4, True)], in_order)

    def test_keepalive(self) -> None:
        """The lease of a lock is kept alive like any other."""
        apply(self.store, keepalive(1), at_ms=1000)
        apply(self.store, expire(9), at_ms=1999)
        self.assertEqual(self.token(), 1)

    def test_unlock(self) -> None:
        """Only the holder's token frees a lock; without one it is taken from whoever holds it."""
        self.assertEqual(
            apply(self.store, unlock(b"l", token=7), unlock(b"m", token=1)), [(LOCK_NOT_HELD, 1), (LOCK_NOT_HELD, 0)]
        )
        apply(self.store, lock(b"m", ttl_ms=1000))
        self.assertEqual(apply(self.store, unlock(b"l", ticket=9), unlock(b"l", ticket=2)), [(LOCK_NOT_HELD, 1)] * 2)
        apply(self.store, unlock(b"m", ticket=2))
        self.assertEqual(apply(self.store, unlock(b"l"), unlock(b"l")), [(OK, 2, True), (OK, 2, False)])
        self.assertEqual((self.store.lease_count, self.store.ticket_count), (0, 0))

    def test_own_lease(self) -> None:
        """A lock can be held with a lease that exists: asked again it is the same, and freeing leaves the lease."""
        apply(self.store, grant(500))
        take = lock(b"m", lease=2, wait_ms=100)
        self.assertEqual(apply(self.store, take, take), [(OK, 2, 2, 3)] * 2)
        apply(self.store, lock(b"l", lease=2, wait_ms=9000), unlock(b"m", token=2))
        self.assertEqual((self.store.lock(b"m"), self.store.lease(2)), (None, (2, 500, 600, 0)))
        apply(self.store, expire(9), at_ms=600)
        self.assertEqual((self.store.ticket(4), self.token()), (None, 1))
        self.assertEqual(apply(self.store, take), [(LEASE_NOT_FOUND, 2)])

    def test_lease_of_a_key(self) -> None:
        """B62: the lease of a key stays while a lock is held with it, or the lock would be held by nobody for ever."""
        apply(self.store, put(b"k", b"", ttl_ms=500), unlock(b"l"))
        self.assertEqual(apply(self.store, lock(b"l", lease=2, wait_ms=9)), [(OK, 3, 2, 3)])
        apply(self.store, lock(b"l", ttl_ms=1000, wait_ms=9000), lock(b"m", lease=2), put(b"k", b""))
        self.assertEqual((self.store.lease(2), self.token()), ((2, 500, 600, 0), 3))
        apply(self.store, expire(9), at_ms=600)
        self.assertEqual(
            (self.store.lease(2), self.store.lock(b"m"), self.store.lock(b"l")), (None, None, (b"l", 6, 4, 4, 0))
        )

    def test_lease_of_a_key_goes_with_its_last_lock(self) -> None:
        """What has neither key nor lock any more is gone, with whichever goes last."""
        apply(self.store, put(b"k", b"", ttl_ms=500), unlock(b"l"), lock(b"l", lease=2), lock(b"m", lease=2))
        apply(self.store, delete(b"k"), unlock(b"m"))
        self.assertIsNotNone(self.store.lease(2))
        apply(self.store, unlock(b"l"))
        self.assertEqual((self.store.lease(2), self.store.lease_count), (None, 0))

    def test_exactly_once(self) -> None:
        """B63: asking again for a lock with the same number is the same request, not another place in the queue."""
        ask = in_session(b"c", 1, lock(b"l", ttl_ms=1000, wait_ms=500))
        self.assertEqual(apply(self.store, ask, ask), [(OK, 0, 0, 2)] * 2)
        self.assertEqual(self.store.ticket_count, 2)

    def test_snapshot(self) -> None:
        """Holders and queues survive a snapshot, and go on as they would have."""
        apply(self.store, lock(b"l", ttl_ms=70, wait_ms=900, key=b"e", value=b"me"), lock(b"m", ttl_ms=5))
        restored = restore(snapshot(self.store))
        for store in (self.store, restored):
            apply(store, unlock(b"l"), at_ms=200)
        self.assertEqual(snapshot(restored), snapshot(self.store))
        self.assertEqual(restored.get(b"e"), (b"me", 3, 3, 1, 2))


class ElectionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        campaigns = [lock(b"e", ttl_ms=1000, wait_ms=9000, key=b"e", value=who) for who in (b"x", b"y", b"z")]
        apply(self.store, *campaigns, at_ms=100)

    def leader(self) -> bytes | None:
        record = self.store.get(b"e")
        return None if record is None else record[0]

    def test_key_shows_the_leader(self) -> None:
        """The key appears with the lease in the revision that is the token, goes with it, and shows who is next."""
        self.assertEqual(self.store.get(b"e"), (b"x", 1, 1, 1, 1))
        apply(self.store, unlock(b"e", token=1))
        self.assertEqual(
            [(r, [c.record for c in found]) for r, found in self.store.changes(2, 9)],
            [(2, [None]), (3, [(b"y", 3, 3, 1, 2)])],
        )
        apply(self.store, expire(9), at_ms=1100)
        self.assertEqual(self.leader(), b"z")

    def test_proclaim(self) -> None:
        """A leader changes its value under its own token, and the key stays with the lease."""
        proclaim = put(b"e", b"new", lease=KEEP_LEASE)
        self.assertEqual(apply(self.store, fenced(b"e", 1, proclaim)), [(OK, 2)])
        apply(self.store, expire(9), at_ms=1100)
        self.assertEqual(self.leader(), b"y")

    def test_with_a_lease_that_stays(self) -> None:
        """Resigning deletes the key also where the lease goes on, but not what somebody else has put there."""
        apply(self.store, grant(9000), *[unlock(b"e")] * 3)
        apply(self.store, lock(b"e", lease=4, wait_ms=1, key=b"e", value=b"v"), unlock(b"e"))
        self.assertIsNone(self.leader())
        apply(self.store, lock(b"e", lease=4, wait_ms=1, key=b"e", value=b"v"), put(b"e", b"other"), unlock(b"e"))
        self.assertEqual(self.leader(), b"other")
