"""The judge of leases and locks, on logs and histories made by hand: what it lets pass, and what it finds."""

from __future__ import annotations

from typing import Any

from raftkv.interfaces import Command
from raftkv.kvstore.commands import (
    LEASE_NOT_FOUND,
    LOCK_HELD,
    LOCK_NOT_HELD,
    OK,
    fenced,
    grant,
    keepalive,
    lock,
    put,
    revoke,
    transaction,
    unlock,
)
from raftkv.testing.queries import LeaseOf, LockOf, Query, TicketOf
from raftkv.testing.replay import Applied
from raftkv.testing.tenancies import Tenancies
from tests.simulation.test_replay import StoryTestCase


class TenancyTestCase(StoryTestCase):
    """A log whose answers a test chooses: the judge does not ask whether a store would have given them."""

    def applied(
        self, command: Command, *result: Any, at_ms: int, name: Any = None, revision: int | None = None
    ) -> None:
        """Let the log have a command at a cluster time, with an answer; the clock of the world shows the same time."""
        self.now = at_ms / 1000
        plain = self.replay.plain
        plain.cluster_time_ms = at_ms
        if revision is not None:
            plain.revision = revision
            plain.past[revision] = {}
        self.replay._carry_out(self.entry(at_ms=at_ms), self.now)
        place = len(self.replay.applied)
        self.replay.applied.append(
            Applied(name or ("w", place), place, self.replay.index, self.now, at_ms, command, result)
        )

    def asked(self, command: Command, *result: Any, sequence: int, invoked_ms: int, at_ms: int) -> None:
        """Likewise, for a client that had asked for it at some moment."""
        operation = self.history.invoke(
            client="c", kind="write", command=command, sequence=sequence, now=invoked_ms / 1000
        )
        self.applied(command, *result, at_ms=at_ms, name=(b"c", sequence))
        self.history.answered(operation, result, now=self.now)

    def showed(self, query: Query, answer: Any, *, at_ms: int) -> None:
        """Let a client be shown something by a node that is up to date."""
        self.now = at_ms / 1000
        operation = self.ask(query)
        self.now = at_ms / 1000
        operation.served_at = self.now
        self.history.read(operation, answer, now=self.now, index=self.replay.index)

    def check(self, drift: float = 0.0) -> int:
        return Tenancies(self.history, self.replay, drift=drift).check()


class LeaseTests(TenancyTestCase):
    def test_whole_life(self) -> None:
        """A lease that is renewed, and found to have ended once its time is over, is as it should be."""
        self.asked(grant(1000), OK, 1, sequence=1, invoked_ms=90, at_ms=100)
        self.applied(keepalive(1), OK, 1000, at_ms=1099)
        self.applied(put(b"m", b"", lease=1), OK, 1, at_ms=2098)
        self.applied(keepalive(1), LEASE_NOT_FOUND, 1, at_ms=2099)
        self.showed(LeaseOf(lease=1), None, at_ms=2099)
        self.assertEqual(self.check(), 4)

    def test_ended_early(self) -> None:
        """A lease that is refused before its time is over by the cluster's clock is found (B34, B35)."""
        self.applied(grant(1000), OK, 1, at_ms=100)
        for command in (keepalive(1), put(b"m", b"", lease=1), revoke(1), transaction([], [put(b"m", b"", lease=1)])):
            self.applied(command, LEASE_NOT_FOUND, 1, at_ms=1099)
            self.assert_breach("lease ended early", self.check)
            self.replay.applied.pop()

    def test_renewal_counts(self) -> None:
        """What ended by the time that it had before it was renewed ended early."""
        self.applied(grant(1000), OK, 1, at_ms=100)
        self.applied(keepalive(1), OK, 1000, at_ms=900)
        self.applied(keepalive(1), LEASE_NOT_FOUND, 1, at_ms=1100)
        self.assert_breach("lease ended early", self.check)

    def test_seen_to_be_gone(self) -> None:
        """A reader that finds no lease before its time is over has found a breach, too."""
        self.applied(grant(1000), OK, 1, at_ms=100)
        self.applied(grant(1), OK, 2, at_ms=1000)
        self.showed(LeaseOf(lease=1), None, at_ms=1000)
        self.assert_breach("lease ended early", self.check)

    def test_clock_of_the_world(self) -> None:
        """A cluster time that runs ahead ends leases early for those who count from when they asked."""
        self.asked(grant(1000), OK, 1, sequence=1, invoked_ms=90, at_ms=100)
        self.applied(keepalive(1), LEASE_NOT_FOUND, 1, at_ms=1100)
        self.check()
        self.replay.applied.pop()
        early = Applied((b"w", 1), 1, 2, 0.95, 1100, keepalive(1), (LEASE_NOT_FOUND, 1))
        self.replay.applied.append(early)
        self.assert_breach("lease ended early", self.check)
        self.check(drift=0.2)  # of which a client has to think

    def test_outlives_its_time(self) -> None:
        """Whatever is accepted for a lease whose time is over is found (B36, B37)."""
        self.applied(grant(1000), OK, 1, at_ms=100)
        for command, result in (
            (keepalive(1), (OK, 1000)),
            (put(b"m", b"", lease=1), (OK, 1)),
            (revoke(1), (OK, 0, 0)),
            (lock(b"x", lease=1, wait_ms=5), (OK, 1, 1, 2)),
        ):
            self.applied(command, *result, at_ms=1100)
            self.assert_breach("lease outlives its time", self.check)
            self.replay.applied.pop()

    def test_lease_of_a_key(self) -> None:
        """That of a key ends with the key, so its end may come at any time; a renewal may not come too late."""
        self.applied(put(b"m", b"", ttl_ms=1000), OK, 1, 1, at_ms=100)
        self.applied(keepalive(1), LEASE_NOT_FOUND, 1, at_ms=200)
        self.check()
        self.applied(keepalive(1), OK, 1000, at_ms=1100)
        self.assert_breach("lease outlives its time", self.check)

    def test_ended_on_purpose(self) -> None:
        """A lease that was revoked, or whose lock was given back, may be gone at once."""
        self.applied(grant(1000), OK, 1, at_ms=100)
        self.applied(revoke(1), OK, 0, 0, at_ms=200)
        self.applied(keepalive(1), LEASE_NOT_FOUND, 1, at_ms=300)
        self.applied(lock(b"x", ttl_ms=1000), OK, 1, 2, 2, at_ms=300)
        self.applied(unlock(b"x", token=1), OK, 1, True, at_ms=400)
        self.applied(keepalive(2), LEASE_NOT_FOUND, 2, at_ms=500)
        self.check()


class LockTests(TenancyTestCase):
    def test_one_after_the_other(self) -> None:
        """A lock goes on once it is given back, or once its lease is over."""
        self.applied(lock(b"x", ttl_ms=1000), OK, 1, 1, 1, at_ms=100, revision=1)
        self.applied(fenced(b"x", 1, put(b"p", b"1")), OK, 2, at_ms=150, revision=2)
        self.applied(unlock(b"x", token=1), OK, 2, True, at_ms=200)
        self.applied(lock(b"x", ttl_ms=1000), OK, 3, 2, 2, at_ms=200, revision=3)
        self.applied(lock(b"x", ttl_ms=1000), LOCK_HELD, 3, at_ms=300)
        self.applied(lock(b"x", ttl_ms=1000), OK, 4, 3, 3, at_ms=1200, revision=4)
        self.applied(fenced(b"x", 3, put(b"p", b"2")), LOCK_NOT_HELD, 4, at_ms=1300)
        self.check()

    def test_two_holders(self) -> None:
        """A lock that is taken while the lease of who holds it lives is found, also where only readers saw it (B62)."""
        self.applied(lock(b"x", ttl_ms=1000), OK, 1, 1, 1, at_ms=100, revision=1)
        self.applied(keepalive(1), OK, 1000, at_ms=900)
        self.applied(put(b"m", b""), OK, 2, at_ms=1500, revision=2)
        self.check()
        for query, answer in ((LockOf(name=b"x"), (2, 2, 2, 0)), (TicketOf(ticket=2), (b"x", 2, 2))):
            self.showed(query, answer, at_ms=1600)
            self.assert_breach("lock exclusion", self.check)
            self.history._operations.pop()
        self.applied(lock(b"x", ttl_ms=1000), OK, 3, 3, 3, at_ms=1899, revision=3)
        self.assert_breach("lock exclusion", self.check)

    def test_token_order(self) -> None:
        """A token that is not larger than all before it is found."""
        self.applied(lock(b"x", ttl_ms=10), OK, 2, 1, 1, at_ms=100, revision=2)
        self.applied(unlock(b"x"), OK, 2, True, at_ms=110)
        self.applied(lock(b"x", ttl_ms=10), OK, 2, 2, 2, at_ms=200)
        self.assert_breach("token order", self.check)

    def test_token_of_the_future(self) -> None:
        """A token is a revision, so that there is no larger one than that of the log."""
        self.applied(lock(b"x", ttl_ms=10), OK, 1, 1, 1, at_ms=100, revision=1)
        self.applied(unlock(b"x", token=9), LOCK_NOT_HELD, 7, at_ms=110)
        self.assert_breach("token of the future", self.check)

    def test_former_holder_writes(self) -> None:
        """A fenced write with an old token that takes effect after the lock was taken anew is found (B62)."""
        self.applied(lock(b"x", ttl_ms=10), OK, 1, 1, 1, at_ms=100, revision=1)
        self.applied(lock(b"x", ttl_ms=10), OK, 2, 2, 2, at_ms=200, revision=2)
        self.applied(fenced(b"x", 1, put(b"p", b"1")), OK, 3, at_ms=205, revision=3)
        self.assert_breach("fenced write of a former holder", self.check)

    def test_own_lease(self) -> None:
        """Whoever asks again with the lease that has the lock is answered with the token that it has."""
        self.applied(grant(1000), OK, 1, at_ms=100)
        for at_ms in (200, 300):
            self.applied(lock(b"x", lease=1, wait_ms=9), OK, 1, 1, 2, at_ms=at_ms, revision=1)
        self.check()
