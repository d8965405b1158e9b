"""Leases, locks and elections, in every flavour of the client against the contract."""

from __future__ import annotations

from typing import Any

from raftkv import errors
from raftkv.client import Fence, Leader, LockInfo
from tests.client.driving import FlavouredTestCase, in_all_flavours

SHORT = 1.0  # a time to live of which a test may wait for the end, and that a busy machine does not miss


class LeaseTests(FlavouredTestCase):
    """Leases."""

    def test_calls(self) -> None:
        """A lease is granted, shown, kept alive and revoked."""
        client = self.client
        lease = self.run_call(lambda: client.grant_lease(10))
        self.assertEqual(lease.ttl, 10)
        self.run_call(lambda: client.set("a", "1", lease=lease.id))
        self.cluster.do(lambda contract: contract.advance(4))
        info = self.run_call(lambda: client.lease_info(lease.id))
        self.assertEqual((info.ttl, info.remaining, info.count, info.keys), (10, 6, 1, ("a",)))
        self.assertEqual(self.run_call(lambda: client.keep_alive(lease.id)), lease)
        self.assertEqual(self.run_call(lambda: client.lease_info(lease.id)).remaining, 10)
        self.assertEqual(self.run_call(lambda: client.revoke_lease(lease.id)).deleted, 1)
        for call in (client.keep_alive, client.revoke_lease, client.lease_info):
            self.fails(errors.LeaseNotFound, lambda call=call: call(lease.id))

    def test_list(self) -> None:
        """All leases are listed, over as many pages as it takes."""
        made = [self.run_call(lambda: self.client.grant_lease(9)).id for _ in range(5)]
        self.assertEqual([lease.id for lease in self.all_of(self.client.leases(page_size=2))], made)

    def test_block(self) -> None:
        """A lease lives as long as a block, and its keys with it; it stands wherever a lease can."""
        lease = self.enter(self.client.lease(10))
        self.run_call(lambda: self.client.set("a", "1", lease=lease))
        self.assertEqual((lease.ttl, lease.lost), (10, False))
        self.assertTrue(9 < lease.remaining <= 10)
        self.leave(lease)
        self.assertIsNone(self.run_call(lambda: self.client.get("a")))
        self.assertFalse(lease.lost)

    def test_kept_alive(self) -> None:
        """A lease that nobody ends is kept alive, over answers that are lost."""
        lease = self.enter(self.client.lease(SHORT))
        for trouble in ("lose request", "lose answer", "no leader"):
            self.cluster.plan(trouble, f"POST /v1/leases/{lease.id}/keepalive")

        def signs() -> int:
            return sum(seen.line.endswith("/keepalive") for seen in self.cluster.seen)

        self.cluster.wait_for(lambda: signs() > 5)
        self.assertFalse(lease.lost)
        self.leave(lease)
        self.assertFalse(self.run_call(lambda: lease.when_lost(0.0)))

    def test_lost(self) -> None:
        """B37: a lease that has ended is told to its holder, who is also told at the end of the block."""
        lease = self.enter(self.client.lease(SHORT))
        waiting = self.driver.start(lease.when_lost)
        self.cluster.do(lambda contract: contract.advance(SHORT))
        self.assertTrue(waiting.result(10))
        self.assertTrue(lease.lost)
        self.assertEqual(lease.remaining, 0)
        self.fails(errors.LeaseNotFound, lambda: self.client.set("k", "v", lease=lease))
        found = self.fails(errors.LeaseNotFound, self.leaving(lease))
        self.assertEqual(found.lease, lease.id)

    def test_error_of_the_body(self) -> None:
        """An error of the body is not hidden behind that of the lease."""
        lease = self.enter(self.client.lease(10))
        self.run_call(lambda: self.client.revoke_lease(lease))
        self.assertFalse(self.leave(lease, ValueError))

    def test_end_without_contact(self) -> None:
        """A block that ends while no node answers says so, but not in place of an error of its body."""
        client = self.make(timeout=0.2)
        blocks = [client.lease(10), client.lock("l"), client.lease(10), client.lock("m")]
        for block in blocks:
            self.enter(block)
        self.cluster.close()
        for block in blocks[:2]:
            self.assertFalse(self.leave(block, ValueError))
        for block in blocks[2:]:
            self.fails(errors.RequestTimeout, self.leaving(block))

    def test_no_contact(self) -> None:
        """B62: without contact a lease counts as lost once its time is over since the last sign of life was sent."""
        lease = self.enter(self.client.lease(SHORT))
        self.cluster.close()
        self.assertTrue(self.run_call(lease.when_lost))

    def test_before_start(self) -> None:
        """A lease that was not granted yet says so."""
        lease = self.client.lease(10)
        with self.assertRaises(errors.Conflict):
            lease.id  # noqa: B018
        self.enter(lease)
        self.fails(errors.Conflict, lease.start)
        self.leave(lease)

    def test_client_closed(self) -> None:
        """B66: the end of the client is the end of its leases, and whoever waits to hear of that hears it."""
        client = self.make()
        lease = self.enter(client.lease(10))
        waiting = self.driver.start(lease.when_lost)
        self.run_call(client.close)
        self.assertTrue(waiting.result(10))


class LockTests(FlavouredTestCase):
    """Locks."""

    def test_block(self) -> None:
        """A lock is held as long as a block, with a token that fences writes."""
        lock = self.enter(self.client.lock("jobs/1"))
        self.assertEqual(lock.fence, Fence(name="jobs/1", token=lock.token))
        self.run_call(lambda: self.client.set("k", "v", lock=lock))
        info = self.run_call(lambda: self.client.lock_info("jobs/1"))
        self.assertEqual((info.token, info.lease, info.waiting, info.is_held), (lock.token, lock.lease, 0, True))
        self.leave(lock)
        free = LockInfo(name="jobs/1", token=None, lease=None, remaining=None, waiting=0)
        self.assertEqual(self.run_call(lambda: self.client.lock_info("jobs/1")), free)
        self.fails(errors.LockNotHeld, lambda: self.client.set("k", "v", lock=lock))

    def test_held_by_another(self) -> None:
        """A lock that is held is not to be had at once, nor within too short a time."""
        first = self.enter(self.client.lock("l"))
        for wait in (0, 0.05):
            other = self.client.lock("l", wait=wait)
            waiting = self.driver.start(other.acquire)
            while not waiting.done():
                # It may be earlier here than for the client, who then asks again for what is left.
                self.cluster.wait_for(
                    lambda waiting=waiting: waiting.done() or self.cluster.contract.store.ticket_count == 2
                )
                self.cluster.do(lambda contract, wait=wait: contract.advance(wait))
            error = waiting.exception(10)
            assert isinstance(error, errors.LockHeld)
            self.assertEqual((error.name, error.token), (b"l", first.token))
        self.leave(first)

    def test_first_come_first_served(self) -> None:
        """Whoever asks first has it first, each with a larger token."""
        holder = self.enter(self.client.lock("l"))
        locks = [self.client.lock("l", wait=None) for _ in range(3)]
        waiting = []
        for number, lock in enumerate(locks):
            waiting.append(self.driver.start(lock.acquire))
            self.cluster.wait_for(lambda number=number: self.cluster.contract.store.ticket_count == number + 2)
        tokens = [holder.token]
        for lock, asked in zip(locks, waiting, strict=True):
            self.run_call(holder.release)
            self.assertIs(asked.result(10), lock)
            holder = lock
            tokens.append(lock.token)
        self.assertEqual(tokens, sorted(set(tokens)))
        self.run_call(holder.release)

    def test_trouble_while_waiting(self) -> None:
        """Whatever breaks while a lock is waited for, it is asked for again, and had in the end."""
        for trouble in ("lose request", "lose answer", "no leader"):
            holder = self.enter(self.client.lock("l"))
            lock = self.client.lock("l", wait=None)
            self.cluster.plan(trouble, "POST /v1/locks/l")
            waiting = self.driver.start(lock.acquire)
            self.cluster.wait_for(lambda: self.cluster.contract.store.ticket_count == 2)
            self.run_call(holder.release)
            waiting.result(10)
            self.assertTrue(self.run_call(lock.release))
            numbers = {seen.number for seen in self.cluster.seen if seen.line == "POST /v1/locks/l"}
            self.cluster.seen.clear()
            self.assertEqual(len(numbers), 2, "one for each lock, and the same for a repeat")

    def test_waiting_holds_up_nothing(self) -> None:
        """A client that waits for locks goes on with everything else, also with its only connection."""
        client = self.make(max_connections=1)
        holder = self.enter(self.client.lock("l"))
        waiting = []
        for number in range(3):
            waiting.append(self.driver.start(client.lock("l", wait=None).acquire))
            self.cluster.wait_for(lambda number=number: self.cluster.contract.store.ticket_count == number + 2)
        self.run_call(lambda: client.set("k", "v"))
        own, others = (
            {seen.number[0] for seen in self.cluster.seen if seen.line == "PUT /v1/kv/k"},
            {seen.number[0] for seen in self.cluster.seen if seen.line == "POST /v1/locks/l"},
        )
        self.assertEqual(own & others, set(), "a row of numbers of their own")
        for asked in waiting:
            self.run_call(holder.release)
            holder = asked.result(10)
        self.run_call(holder.release)

    def test_given_up(self) -> None:
        """Whoever is cancelled while waiting gives up the place."""
        if self.driver_class.__name__ == "BlockingDriver":
            self.skipTest("a blocked thread cannot be cancelled")
        holder = self.enter(self.client.lock("l"))
        waiting = self.driver.start(self.client.lock("l").acquire)
        self.cluster.wait_for(lambda: self.cluster.contract.store.ticket_count == 2)
        waiting.cancel()
        self.cluster.wait_for(lambda: self.cluster.contract.store.ticket_count == 1)
        self.leave(holder)

    def test_taken_away(self) -> None:
        """B62: a lock that somebody frees is lost at the next sign of life, and no write gets past it before that."""
        lock = self.enter(self.client.lock("l", ttl=SHORT))
        waiting = self.driver.start(lock.when_lost)
        self.assertTrue(self.run_call(lambda: self.client.unlock("l")).released)
        self.fails(errors.LockNotHeld, lambda: self.client.set("k", "v", lock=lock))
        self.assertTrue(waiting.result(10))
        self.assertTrue(lock.lost)
        self.fails(errors.LockNotHeld, self.leaving(lock))
        self.assertFalse(self.run_call(lambda: self.client.unlock("l")).released)

    def test_had_after_a_wait(self) -> None:
        """B62: a lock that was waited for is believed in only from a sign of life on, for it may be old already."""
        holder = self.enter(self.client.lock("l", ttl=60))
        lock = self.client.lock("l", ttl=SHORT, wait=None)
        waiting = self.driver.start(lock.acquire)
        self.cluster.wait_for(lambda: self.cluster.contract.store.ticket_count == 2)
        with self.cluster.changed:  # let a time to live pass
            self.cluster.changed.wait_for(lambda: False, SHORT)
        self.cluster.seen.clear()
        self.run_call(holder.release)
        waiting.result(10)
        lines = [seen.line for seen in self.cluster.seen]
        self.assertIn(f"POST /v1/leases/{lock.lease}/keepalive", lines)
        self.assertFalse(lock.lost)
        self.run_call(lock.release)

    def test_with_a_lease(self) -> None:
        """A lock may hang on a lease that is there already, whose end is the lock's."""
        lease = self.enter(self.client.lease(SHORT))
        lock = self.enter(self.client.lock("l", lease=lease))
        self.assertEqual(lock.lease, lease.id)
        self.assertFalse(lock.lost)
        self.leave(lock)
        self.assertFalse(lease.lost)
        again = self.enter(self.client.lock("l", lease=lease))
        self.cluster.do(lambda contract: contract.advance(SHORT))
        self.assertTrue(self.run_call(again.when_lost))

    def test_list(self) -> None:
        """All held locks are listed."""
        names = ["a", "b/c", "d"]
        locks = [self.enter(self.client.lock(name)) for name in names]
        self.assertEqual([found.name for found in self.all_of(self.client.locks(page_size=2))], names)
        for lock in locks:
            self.leave(lock)

    def test_asked_twice(self) -> None:
        """One object is one lock."""
        lock = self.enter(self.client.lock("l"))
        self.fails(errors.Conflict, lock.acquire)
        self.leave(lock)
        self.assertFalse(self.run_call(lock.release))


class ElectionTests(FlavouredTestCase):
    """Elections."""

    def test_campaign(self) -> None:
        """Who is elected is shown, may proclaim, and is followed by the next one."""
        election = self.client.election("shard/1")
        first = self.enter(election.campaign("alice"))
        second = election.campaign(b"\xff")
        waiting = self.driver.start(second.campaign)
        self.cluster.wait_for(lambda: self.cluster.contract.store.ticket_count == 2)
        info = self.run_call(election.info)
        self.assertEqual(info.leader, Leader(value=b"alice", token=first.token, lease=first.lease))
        self.assertEqual(info.candidates, 1)
        self.run_call(lambda: first.proclaim("bob"))
        self.assertEqual(self.run_call(election.info).leader.text, "bob")
        self.run_call(lambda: self.client.set("k", "v", lock=first))
        self.assertTrue(self.run_call(first.resign))
        waiting.result(10)
        self.assertGreater(second.token, first.token)
        self.fails(errors.LockNotHeld, lambda: first.proclaim("carol"))
        self.leave(second)
        self.assertIsNone(self.run_call(election.info).leader)

    def test_observe(self) -> None:
        """Whoever observes hears of every leader, over streams that break, also of what is proclaimed."""
        election = self.client.election("e")
        leaders = election.observe()
        self.assertIsNone(self.next_of(leaders))
        leader = self.enter(election.campaign("a"))
        self.assertEqual(self.next_of(leaders), Leader(value=b"a", token=leader.token, lease=leader.lease))
        self.cluster.break_streams()
        self.run_call(lambda: leader.proclaim("b"))
        self.assertEqual(self.next_of(leaders).value, b"b")
        self.leave(leader)
        self.assertIsNone(self.next_of(leaders))
        self.run_call(leaders.close)
        self.fails(StopAsyncIteration, self.step(leaders))

    def test_observe_past_a_compaction(self) -> None:
        """An observer who comes too late for some leaders hears of the present one."""
        election = self.client.election("e")
        leaders = election.observe()
        self.assertIsNone(self.next_of(leaders))
        for name in ("a", "b"):
            leader = self.enter(election.campaign(name))
            if name == "a":
                self.leave(leader)
        revision = self.run_call(lambda: self.client.set("k", "v")).revision
        self.run_call(lambda: self.client.compact(revision))
        self.assertEqual(self.next_of(leaders), Leader(value=b"b", token=leader.token, lease=leader.lease))
        self.leave(leader)

    def test_lead(self) -> None:
        """Work is done while elected, and its result is the result."""
        election = self.client.election("e")

        def work(leadership: Any) -> Any:
            return self.client.set("done", "by the leader", lock=leadership)

        written = self.run_call(lambda: election.lead(work, "me"))
        self.assertEqual(self.run_call(lambda: self.client.get_record("done")).mod_revision, written.revision)
        self.assertIsNone(self.run_call(election.info).leader)

    def test_lead_again(self) -> None:
        """Work whose leadership is lost is begun anew, in the next one."""
        election = self.client.election("e")
        tokens: list[int] = []

        def work(leadership: Any) -> Any:
            tokens.append(leadership.token)
            return leadership.when_lost() if len(tokens) == 1 else self.client.get("k")

        leading = self.driver.start(lambda: election.lead(work, "me", ttl=SHORT))
        self.cluster.wait_for(lambda: self.cluster.contract.store.lease_count == 1)
        self.run_call(lambda: self.client.unlock("elections/e"))
        self.assertIsNone(leading.result(10))
        self.assertEqual(len(tokens), 2)
        self.assertGreater(tokens[1], tokens[0])

    def test_error_of_the_work(self) -> None:
        """An error of the work ends it, and the leadership with it."""
        election = self.client.election("e")

        def work(_: Any) -> Any:
            raise ZeroDivisionError

        self.fails(ZeroDivisionError, lambda: election.lead(work, "me"))
        self.assertIsNone(self.run_call(election.info).leader)


in_all_flavours(globals(), LeaseTests, LockTests, ElectionTests)
