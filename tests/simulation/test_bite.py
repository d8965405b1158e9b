"""The simulator bites: a node that breaks a rule is found out within a few seeds, and by the right check."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.config import NodeConfig
from raftkv.errors import OutcomeUnknown
from raftkv.interfaces import Command, IStorage, Recovered, Result
from raftkv.kvstore.store import Store
from raftkv.membership import founding
from raftkv.persistence import reading, segment
from raftkv.persistence.storage import Storage
from raftkv.raft import follower, quorum
from raftkv.raft.election import Election
from raftkv.raft.leadership import Leadership
from raftkv.raft.messages import Entry, HardState, RequestVote
from raftkv.raft.ready import Write
from raftkv.raft.replication import Replication
from raftkv.raft.state import State
from raftkv.server.assembly import Assembled, Surroundings, assemble
from raftkv.server.driver import Driver
from raftkv.server.proposals import Proposals
from raftkv.server.statemachine import StateMachine
from raftkv.testing import simulation
from raftkv.testing.churn import ChurnSettings
from raftkv.testing.cluster import Composition
from raftkv.testing.faults import FaultSettings
from raftkv.testing.simulation import run_seed
from raftkv.testing.watching import WatcherSettings


@implementer(IStorage)
class LyingStorage:
    """A storage that does one thing wrong, over a real one."""

    def __init__(self, inner: IStorage) -> None:
        self.inner = inner

    def recover(self) -> Recovered:
        return self.inner.recover()

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        self.inner.start(durable, failed)

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        self.inner.write(write, may_wait=may_wait)

    def read(self, start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        self.inner.read(start, stop, max_bytes, done)

    def compact(self, index: int) -> None:
        self.inner.compact(index)

    def snapshot_taken(self, index: int) -> None:
        self.inner.snapshot_taken(index)

    def room_bytes(self) -> int:
        return self.inner.room_bytes()

    def log_bytes(self) -> int:
        return self.inner.log_bytes()

    def log_bytes_behind(self, index: int) -> int:
        return self.inner.log_bytes_behind(index)

    def stop(self) -> Deferred[None]:
        return self.inner.stop()


class HastyStorage(LyingStorage):
    """Says "durable" when a write was queued."""

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        self.durable = durable
        self.inner.start(lambda write_id: None, failed)

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        self.inner.write(write, may_wait=may_wait)
        self.durable(write.write_id)


class ForgetfulStorage(LyingStorage):
    """Keeps the term and forgets the vote."""

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        hard_state = write.hard_state and HardState(term=write.hard_state.term)
        self.inner.write(dataclasses.replace(write, hard_state=hard_state), may_wait=may_wait)


def with_storage(lying: Callable[[IStorage], IStorage]) -> Composition:
    """Return a composition of nodes whose storage lies; the checkers look at what the node is told."""

    def compose(config: NodeConfig, world: Surroundings) -> Assembled:
        return assemble(config, dataclasses.replace(world, watch=lambda storage: world.watch(lying(storage))))

    return compose


class BiteTestCase(SynchronousTestCase):
    """Nodes that break a rule."""

    def setUp(self) -> None:
        # What watchers find out is not what is asked for here; they have tests of their own.
        self.patch(simulation, "draw_watchers", lambda chance: WatcherSettings(watchers=0))

    def assert_caught(self, *rules: str, start: int = 0, within: int = 20, compose: Composition = assemble) -> None:
        """Demand that one of some seeds fails, and by one of these checks.

        :param start: the first seed; a breach that shows seldom begins near where it does, to save time.
        """
        for seed in range(start, start + within):
            failure = run_seed(seed, compose).failure
            # A cluster that never gets anywhere is caught too, but proves nothing about the check in question.
            if failure and (not failure.startswith("Violation: liveness") or "liveness" in rules):
                self.assertTrue(any(rule in failure for rule in rules), f"seed {seed} was caught by {failure}")
                self.flushLoggedErrors()
                return
        self.fail(f"not caught by any of {within} seeds")

    def only(self, *kinds: str) -> None:
        """Let these faults come, often, and no others, in a cluster whose members stay."""
        faults = FaultSettings(pause_seconds=0.5, mean_seconds=0.5, weights=dict.fromkeys(kinds, 1.0))
        self.patch(simulation, "draw_faults", lambda chance: faults)
        self.patch(simulation, "draw_churn", lambda chance: (0, ChurnSettings(pause_seconds=1.0, weights={})))


class BiteTests(BiteTestCase):
    """One broken rule each."""

    def test_durable_before_sync(self) -> None:
        """A storage that reports a write before it is synced is found when a crash forgets it (B4)."""
        self.assert_caught("durable entry lost", "durable hard state lost", start=8, compose=with_storage(HastyStorage))

    def test_vote_forgotten(self) -> None:
        """A vote that is not on the disk after a crash is found (B1)."""
        self.assert_caught("durable hard state lost", compose=with_storage(ForgetfulStorage))

    def test_said_before_sync(self) -> None:
        """A core that lets votes and acknowledgements out before the sync is found at once (B4)."""
        self.patch(State, "send_once_durable", lambda state, message: state.send(message))
        self.assert_caught("vote before sync", "acknowledged before sync")

    def test_damage_cut(self) -> None:
        """A log that cuts off what does not check out, as if every end were torn, is found when bits flip (B41)."""
        self.patch(segment, "_refuse_damage", lambda data, **keywords: None)
        self.patch(Storage, "_check_hard_state", lambda storage, hard_state, log: None)
        self.only("flipped_bits", "kill")
        self.assert_caught("durable entry lost")

    def test_rot_unnoticed(self) -> None:
        """A log that does not look at its checksums is found when bits flip (B41)."""
        for reader in (segment, reading):
            self.patch(reader, "payload_checks_out", lambda data, record, payload: True)
        self.only("flipped_bits", "kill")
        self.assert_caught("entry forged")

    def test_disk_error_ignored(self) -> None:
        """A node that carries on after an error of its disk is found (B43)."""
        self.patch(Driver, "fail", lambda driver, error: None)
        self.assert_caught("disk error believed", "durable hard state lost")

    def test_two_votes_in_a_term(self) -> None:
        """A voter that votes for whoever asks is found (B1, B2)."""
        honest = Election.would_grant

        def would_grant(election: Election, request: RequestVote) -> bool:
            if not request.pre_vote:
                election._state.durability.hard_state = dataclasses.replace(
                    election._state.durability.hard_state, voted_for=None
                )
            return honest(election, request)

        self.patch(Election, "would_grant", would_grant)
        self.assert_caught("hard state goes back", "one vote", "election safety", "two leaders", "vote before sync")

    def test_old_log_wins(self) -> None:
        """A voter that does not compare logs lets a node lead that lacks committed entries (section 5.4.1)."""
        self.patch(
            Election, "would_grant", lambda election, request: election._state.voted_for in (None, request.sender)
        )
        self.assert_caught("leader completeness", "committed entry overwritten", "state machine safety", within=60)

    def test_old_entries_counted(self) -> None:
        """A leader that commits entries of an earlier term by counting is found (Figure 8, B11)."""

        def committable_index(replication: Replication) -> int:
            state = replication._state
            configuration = state.configuration
            index = quorum.committed_index(configuration.voters, configuration.outgoing_voters, replication.match_index)
            return max(index, state.commit_index)

        self.patch(Replication, "committable_index", committable_index)
        self.assert_caught("old entry counted")

    def test_commit_without_majority(self) -> None:
        """A leader that commits what only its own disk has is found."""

        def committable_index(replication: Replication) -> int:
            state = replication._state
            index = state.log.stable_index
            return index if state.log.term_at(index) == state.current_term else state.commit_index

        self.patch(Replication, "committable_index", committable_index)
        self.assert_caught("committed without majority")

    def test_own_disk_counted_before_sync(self) -> None:
        """A leader that counts its own copy before its sync has returned is found (B4)."""
        honest = Replication.match_index

        def match_index(replication: Replication, member: str) -> int:
            state = replication._state
            return state.log.last_index if member == state.node_id else honest(replication, member)

        self.patch(Replication, "match_index", match_index)
        self.assert_caught("committed without majority")

    def test_no_consistency_check(self) -> None:
        """A follower that takes entries without looking at what is before them is found (section 5.3)."""
        self.patch(follower, "_matches", lambda state, index, term: index <= state.log.last_index)
        rules = ("log matching", "committed", "state machine safety", "InvariantViolation", "CorruptData")
        self.assert_caught(*rules, within=60)

    def test_late_message_truncates(self) -> None:
        """A follower that drops what is behind a repeated message is found (B14)."""

        def take_over(state: State, entries: tuple[Any, ...]) -> int:
            if entries and entries[0].index > state.commit_index:
                if entries[0].index <= state.log.last_index:
                    state.truncate_from(entries[0].index)
                state.append(entries)
            return len(entries)

        self.patch(follower, "_take_over", take_over)
        self.assert_caught(
            "committed", "durable", "acknowledged", "InvariantViolation", "leader completeness", within=60
        )

    def test_reads_without_confirmation(self) -> None:
        """A leader that answers reads without asking whether it still leads serves stale ones (B28), and misjudges
        their age."""
        self.patch(Replication, "echoed", lambda replication, read_round: True)
        self.assert_caught("linearizability", "read misses a write", "staler than told", "staler than asked", within=60)

    def test_reads_before_the_first_commit(self) -> None:
        """A new leader that answers reads before it has committed in its term serves stale ones (B29)."""
        self.patch(Leadership, "_round_wanted", property(lambda leadership: leadership._reads.wanted))
        self.assert_caught("linearizability", "read misses a write", within=100)

    def test_reads_before_apply(self) -> None:
        """A read that is served before its index has been applied is stale (B32)."""
        self.patch(StateMachine, "when_applied", lambda machine, index, ready: ready())
        self.assert_caught("linearizability", "read misses a write", within=60)

    def test_repeats_applied(self) -> None:
        """A store that applies a repeated write of a session again is found (B63)."""

        def in_session(store: Store, command: Command) -> Result:
            return store._write(command[4])

        self.patch(Store, "_in_session", in_session)
        self.assert_caught("wrong result", "wrong answer", "wrong state", "linearizability")

    def test_answers_of_another_entry(self) -> None:
        """A waiter that is given the answer of whatever was applied at its index is found (B65)."""

        def applied(proposals: Proposals, entry: Any, results: Any) -> None:
            proposed = proposals._proposed.pop(entry.index, None)
            if proposed is not None and results:
                proposals._share_out(proposed.submissions[: len(results)], results)

        self.patch(Proposals, "applied", applied)
        self.assert_caught("wrong answer", "liveness", "linearizability", within=60)

    def test_unknown_called_not_applied(self) -> None:
        """An interface that says "not applied" of a write that may be, is found."""
        self.patch(OutcomeUnknown, "outcome", "not_applied")
        self.assert_caught("applied after all", "linearizability", within=60)

    def test_states_that_differ(self) -> None:
        """A state machine that counts something of its own is found (B38, B40)."""
        honest = Store.apply

        def apply(store: Store, index: int, payload: bytes) -> list[Result]:
            results = honest(store, index, payload)
            if index % 50 == 7:
                store._records.put((1, 0, b"only here", b"%d" % id(store)))
            return results

        self.patch(Store, "apply", apply)
        self.assert_caught("states diverge", "wrong result")

    def test_silent_leader(self) -> None:
        """A core that never notices the loss of its followers' votes makes no progress, and that is a failure too."""

        def tick(election: Election) -> bool:
            return False

        self.patch(Election, "tick", tick)
        self.assert_caught("liveness", within=1)

    def test_wiped_voter(self) -> None:
        """A node that comes back with an empty disk and votes as if it had never been here is found (B24)."""
        decide, deaf_ear = founding.decide, Election.turns_deaf_ear

        def begins_again(own: Any, peers: Any, answers: Any, **more: Any) -> Any:
            forgotten = {name: dataclasses.replace(standing, holds=False) for name, standing in answers.items()}
            return decide(own, peers, forgotten, **more)

        def anybody(election: Election, request: RequestVote) -> str | None:
            return deaf_ear(election, dataclasses.replace(request, to_incarnation=election._state.incarnation))

        self.patch(founding, "decide", begins_again)
        self.patch(Election, "turns_deaf_ear", anybody)
        self.assert_caught("leader completeness", "committed entry overwritten", "one vote", start=26, within=2)
