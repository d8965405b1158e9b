"""Requests for locks that wait: on one node by itself, and on three over a change of leader."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader, OutcomeUnknown, RaftKVError, RequestTimeout, ShuttingDown
from raftkv.interfaces import Command, Consistency, Result
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    LEASE_NOT_FOUND,
    LOCK_HELD,
    LOCK_NOT_HELD,
    OK,
    UNLOCK,
    expire,
    fenced,
    grant,
    in_session,
    lock,
    pack_batch,
    put,
    revoke,
    unlock,
)
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.tickets import Tickets
from tests.server.trio import NAMES, TrioTestCase

PATIENCE_SECONDS = 5.0


class TicketsTests(SynchronousTestCase):
    """One node; what it submits is applied when the test says so.

    :ivar submitted: commands that wait to be applied, with who is to be told.
    :ivar barriers: reads that wait to be confirmed.
    """

    def setUp(self) -> None:
        self.store = Store()
        self.now_ms = 0
        self.now_seconds = 0.0
        self.submitted: list[tuple[Command, Callable[[Any], None]]] = []
        self.barriers: list[Callable[[RaftKVError | None], None]] = []
        self.tickets = Tickets(
            store=lambda: self.store,
            submit=self.submit,
            barrier=self.barrier,
            seconds=lambda: self.now_seconds,
            patience_seconds=PATIENCE_SECONDS,
        )
        self.apply(lock(b"l", ttl_ms=60_000))

    def submit(self, commands: Sequence[Command], done: Callable[[Any], None]) -> None:
        """Take a write."""
        (command,) = commands
        self.submitted.append((command, done))

    def barrier(self, consistency: Consistency, done: Callable[[RaftKVError | None], None]) -> None:
        """Take a read."""
        self.assertEqual(consistency, "linearizable")
        self.barriers.append(done)

    def apply(self, *commands: Command) -> list[Result]:
        """Apply an entry."""
        payload = pack_batch(self.now_ms, 0, commands)
        entry = Entry(index=self.store.applied_index + 1, term=1, kind=EntryKind.COMMANDS, payload=payload)
        results = self.store.apply(entry.index, entry.payload)
        self.tickets.applied(entry, results)
        return results

    def commit(self) -> None:
        """Apply what was submitted, each in an entry of its own, and answer it."""
        submitted, self.submitted = self.submitted, []
        for command, done in submitted:
            done(self.apply(command))

    def fail(self, error: RaftKVError) -> None:  # type: ignore[override]
        """Answer what was submitted with an error."""
        submitted, self.submitted = self.submitted, []
        for _, done in submitted:
            done(error)

    def confirm(self, error: RaftKVError | None = None) -> None:
        """Let the reads through."""
        barriers, self.barriers = self.barriers, []
        for done in barriers:
            done(error)

    def acquire(self, command: Command) -> tuple[list[Any], Callable[[], None]]:
        """Ask for a lock; return the list that gets the answer, and what gives it up."""
        answers: list[Any] = []
        return answers, self.tickets.acquire(command, answers.append)

    def waiting(self, command: Command | None = None) -> tuple[list[Any], Callable[[], None]]:
        """Ask, and wait in the queue."""
        answers, give_up = self.acquire(command or lock(b"l", ttl_ms=5_000, wait_ms=10_000))
        self.commit()
        self.assertEqual(answers, [])
        return answers, give_up

    def test_at_once(self) -> None:
        """A free lock is answered as it comes, and so is a refusal."""
        for command, answer in (
            (lock(b"free", ttl_ms=5_000), (OK, 2, 2, 2)),
            (lock(b"l", ttl_ms=5_000), (LOCK_HELD, 1)),
            (lock(b"m", lease=77), (LEASE_NOT_FOUND, 77)),
            (fenced(b"l", 9, lock(b"m", ttl_ms=5_000)), (LOCK_NOT_HELD, 1)),
        ):
            answers, _ = self.acquire(command)
            self.commit()
            self.assertEqual(answers, [answer])

    def test_error_of_the_write(self) -> None:
        """What befalls the write is told as it is."""
        answers, _ = self.acquire(lock(b"l", ttl_ms=5_000, wait_ms=10_000))
        self.fail(OutcomeUnknown())
        self.assertIsInstance(answers[0], OutcomeUnknown)

    def test_node_that_lags_behind(self) -> None:
        """Where the entry of the place in the queue has not been applied yet, its absence means nothing."""
        answers, _ = self.acquire(lock(b"l", ttl_ms=5_000, wait_ms=10_000))
        ((command, done),) = self.submitted
        done([(OK, 0, 0, 2)])  # the leader has applied it, we have not
        self.assertEqual((answers, self.barriers), ([], []))
        self.apply(command)
        self.apply(unlock(b"l", token=1))
        self.confirm()
        self.assertEqual(answers, [(OK, 2, 2, 2)])

    def test_confirmed_before_it_is_told(self) -> None:
        """Only what is still so once the leader was asked is told (B62)."""
        answers, _ = self.waiting()
        self.apply(unlock(b"l"))
        self.assertEqual(answers, [])
        self.apply(revoke(2))
        self.confirm()
        self.assertEqual(answers, [(LOCK_HELD, 0)])

    def test_asked_once_at_a_time(self) -> None:
        """One question to the leader at a time, and another one after a tick where that failed."""
        answers, _ = self.waiting()
        self.apply(unlock(b"l"))
        for _ in range(3):
            self.tickets.tick()
            self.assertEqual(len(self.barriers), 1)
        self.confirm(NoLeader())
        self.assertEqual(self.barriers, [])
        self.tickets.tick()
        self.confirm()
        self.assertEqual(answers, [(OK, 2, 2, 2)])

    def test_two_with_one_lease(self) -> None:
        """Two requests with one lease have one place: it is kept until both have gone, and both are answered."""
        self.apply(grant(60_000))
        command = lock(b"l", lease=2, wait_ms=10_000)
        (first, leave), (second, _) = self.waiting(command), self.waiting(command)
        self.assertEqual(self.store.ticket_count, 2)
        leave()
        self.assertEqual(self.submitted, [])
        third, _ = self.waiting(command)
        self.apply(unlock(b"l"))
        self.confirm()
        self.assertEqual((first, second, third), ([], [(OK, 2, 2, 3)], [(OK, 2, 2, 3)]))

    def test_place_that_another_waits_for(self) -> None:
        """Who does not want to wait is told so, although the lease has a place in the queue."""
        self.apply(grant(60_000))
        self.waiting(lock(b"l", lease=2, wait_ms=10_000))
        answers, _ = self.acquire(lock(b"l", lease=2))
        self.commit()
        self.assertEqual(answers, [(LOCK_HELD, 1)])

    def test_giving_up(self) -> None:
        """A place is given up by its ticket, once, and nobody is told anything any more."""
        answers, give_up = self.waiting()
        give_up()
        give_up()
        self.assertEqual([command for command, _ in self.submitted], [unlock(b"l", ticket=2)])
        self.commit()
        self.apply(unlock(b"l"))
        self.confirm()
        self.assertEqual((answers, self.store.ticket_count), ([], 0))

    def test_giving_up_without_a_leader(self) -> None:
        """It is tried again until it is done."""
        _, give_up = self.waiting()
        give_up()
        for _ in range(3):
            self.fail(NoLeader())
            self.assertEqual(self.submitted, [])
            self.tickets.tick()
        self.commit()
        self.assertEqual(self.store.ticket_count, 1)
        self.tickets.tick()
        self.assertEqual(self.submitted, [])

    def test_giving_up_what_has_ended(self) -> None:
        """There is nothing to give up where the wait has ended meanwhile."""
        _, give_up = self.waiting()
        give_up()
        self.fail(NoLeader())
        self.now_ms = 10_000
        self.apply(expire(9))
        self.tickets.tick()
        self.assertEqual(self.submitted, [])

    def test_giving_up_too_late(self) -> None:
        """Once the answer was given it is too late."""
        answers, give_up = self.waiting()
        self.apply(unlock(b"l"))
        self.confirm()
        give_up()
        self.assertEqual((len(answers), self.submitted), (1, []))

    def test_own_clock(self) -> None:
        """What has not ended some seconds beyond its time is ended, whatever the cluster's time is."""
        answers, _ = self.waiting()
        self.now_seconds = 10 + PATIENCE_SECONDS - 0.1
        self.tickets.tick()
        self.assertEqual(self.submitted, [])
        self.now_seconds += 0.1
        self.tickets.tick()
        self.commit()
        self.assertEqual(answers, [(LOCK_HELD, 1)])

    def test_own_clock_without_a_leader(self) -> None:
        """Where that cannot be done either, the outcome is unknown."""
        answers, _ = self.waiting()
        self.now_seconds = 10 + PATIENCE_SECONDS
        self.tickets.tick()
        self.fail(NoLeader())
        (error,) = answers
        self.assertIsInstance(error, RequestTimeout)
        self.assertEqual(error.outcome, "unknown")

    def test_restored(self) -> None:
        """A restored state that has the answer gives it; one that has lost the place does too."""
        (first, _), (second, _) = self.waiting(), self.waiting()
        other = Store()
        commands = (lock(b"l", ttl_ms=60_000), *[lock(b"l", ttl_ms=5_000, wait_ms=10_000)] * 2)
        other.apply(9, pack_batch(0, 0, (*commands, unlock(b"l", ticket=2), unlock(b"l"))))
        self.store = other
        self.tickets.restored(9)
        self.confirm()
        self.assertEqual((first, second), ([(LOCK_HELD, 2)], [(OK, 2, 3, 3)]))

    def test_interrupted(self) -> None:
        """Where this node will not know what becomes of them, all are told that the outcome is unknown."""
        answers, give_up = self.waiting()
        self.tickets.interrupt("the node was removed")
        (error,) = answers
        self.assertIsInstance(error, OutcomeUnknown)
        self.assertIn("removed", str(error))
        give_up()
        self.assertEqual(self.submitted, [])

    def test_stopping(self) -> None:
        """The place is given up, and then told so; one that cannot be given up has an unknown outcome."""
        (first, _), (second, _) = self.waiting(), self.waiting()
        self.tickets.refuse()
        self.assertEqual([command[0] for command, _ in self.submitted], [UNLOCK, UNLOCK])
        self.submitted, rest = self.submitted[:1], self.submitted[1:]
        self.commit()
        self.submitted = rest
        self.fail(NoLeader())
        self.assertIsInstance(first[0], ShuttingDown)
        self.assertIsInstance(second[0], OutcomeUnknown)
        late, _ = self.acquire(lock(b"l", ttl_ms=5_000))
        self.assertIsInstance(late[0], ShuttingDown)

    def test_stopping_between_question_and_place(self) -> None:
        """So is a place that comes when nobody may wait here any more; in a session it is kept."""
        first, _ = self.acquire(lock(b"l", ttl_ms=5_000, wait_ms=10_000))
        second, _ = self.acquire(in_session(b"c", 1, lock(b"l", ttl_ms=5_000, wait_ms=10_000)))
        self.tickets.refuse()
        self.commit()
        self.commit()
        self.assertIsInstance(first[0], ShuttingDown)
        self.assertIsInstance(second[0], OutcomeUnknown)
        self.assertEqual(self.store.ticket_count, 2)

    def test_nothing_is_kept_of_what_is_over(self) -> None:
        """However many have waited for however long, what is over takes no memory."""
        for _ in range(500):
            _, give_up = self.waiting(lock(b"l", ttl_ms=5_000, wait_ms=3_600_000))
            give_up()
            self.commit()
        self.assertLess(len(self.tickets._deadlines), 100)
        self.assertEqual((self.tickets._waiting, self.tickets._leaving), ({}, {}))
        self.assertEqual(self.store.take_settled(), [])

    def test_receiver_that_fails(self) -> None:
        """One caller's mistake is not that of the others."""

        def broken(outcome: object) -> None:
            raise KeyError(outcome)

        self.tickets.acquire(lock(b"l", ttl_ms=5_000, wait_ms=10_000), broken)
        answers, _ = self.waiting()
        self.apply(unlock(b"l", token=1))
        self.confirm()
        self.assertEqual(len(self.flushLoggedErrors(KeyError)), 1)
        self.apply(unlock(b"l"))
        self.confirm()
        self.assertEqual(answers, [(OK, 3, 3, 3)])


class TrioTests(TrioTestCase):
    """Three nodes, in virtual time."""

    def setUp(self) -> None:
        super().setUp()
        self.leader = self.settle()
        self.others = [name for name in NAMES if name != self.leader]

    def acquire(self, name: str, command: Command) -> tuple[list[Any], Callable[[], None]]:
        """Ask a node for a lock."""
        answers: list[Any] = []
        give_up: list[Callable[[], None]] = []
        self.run_in(name, lambda: give_up.append(self.replica(name).acquire(command, answers.append)))
        return answers, lambda: self.run_in(name, give_up[0])

    def until(self, condition: Callable[[], Any], limit_seconds: float = 20) -> None:
        """Let time pass until something holds."""
        self.assertTrue(self.cluster.clock.run_while(lambda: not condition(), limit_seconds=limit_seconds), "in vain")

    def hold(self, ttl_ms: int = 3_600_000) -> int:
        """Have somebody hold the lock; return the token."""
        answers, _ = self.acquire(self.leader, lock(b"l", ttl_ms=ttl_ms))
        self.until(lambda: answers)
        token: int = answers[0][1]
        return token

    def test_waits_on_each_node(self) -> None:
        """Whichever node one waits on, the lock comes in the order in which it was asked for (B62)."""
        held = self.hold()
        order: list[str] = []
        tokens = []
        for number, name in enumerate((*self.others, self.leader)):
            answers, _ = self.acquire(name, lock(b"l", ttl_ms=60_000 + number, wait_ms=60_000))
            tokens.append((name, answers))
            self.run_for(0.3)
        for name, answers in tokens:
            self.write(self.others[0], unlock(b"l", token=held))
            self.until(lambda answers=answers: answers)  # type: ignore[misc]
            held = answers[0][1]
            order.append(name)
            self.run_for(0.3)
        self.assertEqual(order, [*self.others, self.leader])
        found = [answers[0][1] for _, answers in tokens]
        self.assertEqual((found, len(set(found))), (sorted(found), 3))

    def test_leader_dies_during_the_wait(self) -> None:
        """A wait on another node goes on over the end of the leader, and ends when the lock is free."""
        self.hold(ttl_ms=10_000)
        answers, _ = self.acquire(self.others[0], lock(b"l", ttl_ms=60_000, wait_ms=60_000))
        self.run_for(1)
        self.cluster.crash(self.leader, power_loss=True)
        self.settle()
        self.run_for(4)
        self.assertEqual(answers, [])
        self.until(lambda: answers)
        self.assertEqual(answers[0][0], OK)
        self.cluster.start(self.leader)
        self.settle()
        self.assertEqual(self.replica(self.leader).identity.node_id, self.leader)

    def test_node_that_is_cut_off(self) -> None:
        """A node that hears nothing any more lets nobody wait for ever; the place ends by the cluster's time."""
        self.hold()
        cut_off = self.others[0]
        answers, _ = self.acquire(cut_off, lock(b"l", ttl_ms=60_000, wait_ms=5_000))
        self.run_for(1)
        self.cluster.network.partition([cut_off], [name for name in NAMES if name != cut_off])
        self.until(lambda: answers, limit_seconds=60)
        self.assertIsInstance(answers[0], RequestTimeout)
        self.assertEqual(answers[0].outcome, "unknown")
        self.assertEqual(self.replica(self.leader).state().lock(b"l").waiting, 0)  # type: ignore[union-attr]

    def test_giving_up_on_a_follower(self) -> None:
        """Who leaves gives up the place, wherever they waited."""
        self.hold()
        _, give_up = self.acquire(self.others[0], lock(b"l", ttl_ms=60_000, wait_ms=60_000))
        self.until(lambda: self.replica(self.leader).state().ticket_count == 2)
        give_up()
        self.until(lambda: self.replica(self.leader).state().ticket_count == 1)

    def test_holder_that_was_paused(self) -> None:
        """A holder that was paused past its lease writes nothing under its token, whoever it asks (B62)."""
        token = self.hold(ttl_ms=2_000)
        answers, _ = self.acquire(self.others[1], lock(b"l", ttl_ms=60_000, wait_ms=60_000))
        self.until(lambda: answers)
        for name in NAMES:
            late = self.write(name, fenced(b"l", token, put(b"guarded", name.encode())))
            self.until(lambda late=late: late)  # type: ignore[misc]
            self.assertEqual(late[0][0], (LOCK_NOT_HELD, answers[0][1]))
        self.assertIsNone(self.read(self.others[0], b"guarded"))

    def test_stopping_node(self) -> None:
        """A node that stops gives up the places of those who wait on it before it goes."""
        self.hold()
        answers, _ = self.acquire(self.others[0], lock(b"l", ttl_ms=60_000, wait_ms=60_000))
        self.run_for(1)
        self.cluster.stop(self.others[0])
        self.until(lambda: answers)
        self.assertIsInstance(answers[0], ShuttingDown)
        self.until(lambda: self.replica(self.leader).state().ticket_count == 1)
