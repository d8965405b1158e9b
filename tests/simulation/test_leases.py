"""Leases and the age of states under faults: clocks within and beyond their bound, and rules that are broken."""

from __future__ import annotations

import dataclasses
import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore.commands import OK, delete, in_session, pack_batch, put
from raftkv.raft import replication
from raftkv.raft.leadership import Leadership
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.freshness import Freshness
from raftkv.testing import simulation
from raftkv.testing.checkers import Violation
from raftkv.testing.cluster import ClusterSettings
from raftkv.testing.history import History, Operation
from raftkv.testing.simulation import run_seed
from raftkv.testing.staleness import TimeLines
from raftkv.testing.watching import WatcherSettings
from raftkv.testing.workload import WorkloadSettings

DRIFT = 0.7  # far beyond what any clock does, so that few stories suffice


class LeaseTestCase(SynchronousTestCase):
    """Stories whose clocks and reads a test chooses."""

    def choose(self, *, bound: float, lease_share: float, drift: float = DRIFT) -> None:
        """Let clocks be off by ``drift``, nodes believe in ``bound``, and reads be lease reads or else stale ones."""

        def draw_leases(chance: random.Random, settings: ClusterSettings) -> ClusterSettings:
            return dataclasses.replace(settings, lease_reads=True, drift=drift, clock_drift_bound=bound)

        def draw_reads(chance: random.Random, settings: WorkloadSettings) -> WorkloadSettings:
            return dataclasses.replace(settings, lease_share=lease_share, stale_share=1 - lease_share)

        self.patch(simulation, "draw_leases", draw_leases)
        self.patch(simulation, "draw_reads", draw_reads)

    def assert_caught(self, *rules: str, start: int, within: int = 40) -> None:
        """Demand that one of some stories fails, and by one of these checks."""
        for seed in range(start, start + within):
            failure = run_seed(seed).failure
            # With clocks like these a cluster may get nowhere, too, which proves nothing about the check in question.
            if failure and not failure.startswith("Violation: liveness"):
                self.assertTrue(any(rule in failure for rule in rules), f"seed {seed} was caught by {failure}")
                self.flushLoggedErrors()
                return
        self.fail(f"not caught by any of {within} seeds")


class ClockTests(LeaseTestCase):
    """How bad the clocks may be."""

    def test_within_the_bound(self) -> None:
        """Clocks that differ by a factor of five or more break nothing where the nodes know how bad they may be."""
        for lease_share, seeds in ((1.0, (10, 11, 12)), (0.0, (3, 4))):
            self.choose(bound=DRIFT, lease_share=lease_share)
            for seed in seeds:
                self.assertEqual(run_seed(seed).failure, "", seed)

    def test_leases_beyond_the_bound(self) -> None:
        """Where clocks are worse than the nodes believe, lease reads miss writes, and the judge sees it."""
        self.choose(bound=0.0, lease_share=1.0)
        self.assert_caught("linearizability", "read misses a write", start=3)

    def test_ages_beyond_the_bound(self) -> None:
        """Where clocks are worse than the nodes believe, states are older than they say, and the check sees it."""
        self.choose(bound=0.0, lease_share=0.0)
        self.assert_caught("staler than told", "staler than asked", start=30)


class BiteTests(LeaseTestCase):
    """One broken rule each."""

    def setUp(self) -> None:
        # What watchers find out is not what is asked for here; they have tests of their own.
        self.patch(simulation, "draw_watchers", lambda chance: WatcherSettings(watchers=0))

    def test_longer_than_promised(self) -> None:
        """A leader that counts on a promise for longer than it was given for is found (B31)."""
        self.patch(
            replication, "lease_end", lambda answer, *, drift_bound: answer.sent_at + 3 * answer.promised_seconds
        )
        self.choose(bound=DRIFT, lease_share=1.0)
        self.assert_caught("linearizability", "read misses a write", start=3)

    def test_before_the_first_commit(self) -> None:
        """A new leader that answers by its lease before it has committed in its term is found (B29)."""
        self.patch(Leadership, "_has_committed_in_term", lambda leadership: True)
        stale = ("linearizability", "read misses a write", "staler than told", "staler than asked")
        self.assert_caught(*stale, "InvariantViolation", "ProposalDropped", start=1)

    def test_counted_from_the_answer(self) -> None:
        """A state whose age counts from when the answer came, and not from when the question was asked, is found."""
        self.patch(
            Freshness, "confirmed", lambda fresh, asked: setattr(fresh, "_complete_as_of", fresh._steady_seconds())
        )
        self.choose(bound=0.0, lease_share=0.0, drift=0.0)
        self.assert_caught("staler than told", "staler than asked", start=0)


class TimeLineTests(SynchronousTestCase):
    """The judge of stale reads itself."""

    def setUp(self) -> None:
        self.lines = TimeLines()
        self.history = History()
        batches = (
            (10.0, put(b"k", b"one"), (OK, 1)),
            (20.0, in_session(b"c", 1, put(b"k", b"two")), (OK, 2)),
            (21.0, in_session(b"c", 1, put(b"k", b"two")), (OK, 2)),
            (30.0, delete(b"k"), (OK, 3, True)),
            (31.0, delete(b"k"), (OK, 3, False)),
        )
        for index, (now, command, result) in enumerate(batches, 1):
            payload = pack_batch(0, 0, [command])
            self.lines.note(Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=payload), [result], now=now)

    def read(
        self, at: float, record: tuple[bytes, int] | None, *, bound: float | None = None, told: float | None = None
    ) -> Operation:
        """Note a stale read that was served in the instant at which it was invoked."""
        operation = self.history.invoke(
            client="c", kind="get", key=b"k", now=at, consistency="stale", max_stale_seconds=bound
        )
        operation.staleness_seconds, operation.served_at = told, at
        full = None if record is None else (record[0], 1, record[1], 1, 0)
        self.history.read(operation, full, now=at)
        return operation

    def assert_rule(self, rule: str) -> None:
        self.assertEqual(self.assertRaises(Violation, self.lines.check, self.history).rule, rule)

    def test_as_told(self) -> None:
        """What was replaced within the age that was told, or asked for, may be seen; without either, anything."""
        self.read(21.0, (b"one", 1), told=1.5, bound=1.5)
        self.read(31.0, (b"two", 2), told=1.5)
        self.read(31.0, None, told=0.0, bound=0.0)
        self.read(5.0, None, told=0.0)
        self.read(99.0, (b"one", 1))
        self.assertEqual(self.lines.check(self.history), 5)

    def test_staler_than_told(self) -> None:
        """A read that missed a write from before the age that it was told is found."""
        self.read(22.0, (b"one", 1), told=1.5)
        self.assert_rule("staler than told")

    def test_staler_than_asked(self) -> None:
        """A read that missed a write from before its bound is found, whatever it was told."""
        self.read(22.0, (b"one", 1), bound=1.5, told=9.0)
        self.assert_rule("staler than asked")

    def test_what_never_was(self) -> None:
        """A read of what the key never held is found."""
        self.read(22.0, (b"three", 2))
        self.assert_rule("stale read of nothing")
