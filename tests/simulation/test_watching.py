"""The simulated watchers: what they take for a violation, and that nodes which commit one are found out."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.config import NodeConfig
from raftkv.errors import Compacted, FutureRevision, Overflow
from raftkv.kvstore.commands import compact, delete, pack_batch, put, transaction
from raftkv.kvstore.views import Change
from raftkv.raft.messages import Entry, EntryKind
from raftkv.server.assembly import Assembled, Surroundings, assemble
from raftkv.server.watching import Watches
from raftkv.testing.checkers import Violation
from raftkv.testing.simulation import Simulation, run_seed
from raftkv.testing.watchtruth import Transcript, WatchTruth
from raftkv.watches import WatchEvent, WatchReceiver, WatchRequest


class TranscriptTests(SynchronousTestCase):
    """Revisions 1 to 6: a, b, a and b together, a deleted, c, a."""

    def setUp(self) -> None:
        self.truth = WatchTruth()
        for commands in (
            [put(b"a", b"1")],
            [put(b"b", b"2")],
            [transaction([], [put(b"a", b"3"), put(b"b", b"3")], [])],
            [delete(b"a"), put(b"c", b"5")],
            [put(b"a", b"6"), compact(3)],
        ):
            self.apply(*commands)
        self.transcript = Transcript("w", WatchRequest(start=b"a", end=b"c"), self.truth)

    def apply(self, *commands: Any) -> None:
        index = self.truth._store.applied_index + 1
        self.truth.applied(Entry(index=index, term=1, kind=EntryKind.COMMANDS, payload=pack_batch(0, 0, commands)))

    def changes(self, revision: int) -> list[tuple[int, Change]]:
        found = self.truth.matching(self.transcript._request, revision - 1, revision)
        return [(number, change) for number, changes in found for change in changes]

    def violates(self, rule: str, call: Callable[[], object]) -> None:
        violation = self.assertRaises(Violation, call)
        self.assertIn(rule, str(violation))

    def begin(self, first: int = 1) -> None:
        self.transcript.stream_over()
        self.transcript.asked_from(first)
        self.assertEqual(self.transcript.begun(first - 1), first - 1)

    def hear(self, *revisions: int) -> None:
        for revision in revisions:
            self.assertEqual(self.transcript.changed(self.changes(revision), is_whole=True), revision)

    def test_compacted_in_one_entry(self) -> None:
        """What an entry writes and a command behind that compacts is part of the true history all the same."""
        self.apply(put(b"a", b"7"), put(b"b", b"8"), compact(8), put(b"a", b"9"))
        self.assertEqual((self.truth.revision, self.truth.compact_revision), (9, 8))
        self.begin(7)
        self.hear(7, 8, 9)

    def test_all_is_well(self) -> None:
        """What is true passes, over several streams, in parts, with progress in between."""
        self.begin()
        self.hear(1, 2, 3, 4)
        self.transcript.stream_over()
        self.transcript.begun(4)
        self.transcript.progress(5)
        self.hear(6)
        self.transcript.progress(6)
        self.begin(3)
        both = self.changes(3)
        self.assertIsNone(self.transcript.changed(both[:1], is_whole=False))
        self.transcript.stream_over()
        self.transcript.begun(2)
        self.assertIsNone(self.transcript.changed(both[:1], is_whole=False))
        self.assertEqual(self.transcript.changed(both[1:], is_whole=True), 3)

    def test_ordered_and_unique(self) -> None:
        """A revision again, or one that is older."""
        self.begin()
        self.hear(1, 2)
        for revision in (1, 2):
            self.violates("watch unique", lambda revision=revision: self.hear(revision))

    def test_reliable(self) -> None:
        """A revision left out, or one that did not happen, or with another value, or another previous one."""
        self.begin()
        self.hear(1)
        self.violates("watch reliable", lambda: self.hear(3))
        ((_, change),) = self.changes(2)
        for wrong in (
            change._replace(key=b"bb"),
            change._replace(record=None),
            change._replace(record=(b"x", 2, 2, 1, 0)),
            change._replace(previous=(b"x", 1, 1, 1, 0)),
        ):
            self.setUp()
            self.begin(2)
            call = lambda wrong=wrong: self.transcript.changed([(2, wrong)], is_whole=True)  # noqa: E731
            self.violates("watch reliable", call)

    def test_atomic(self) -> None:
        """A revision that was divided, or mixed with another, or interrupted by progress."""
        self.begin(3)
        both = self.changes(3)
        self.violates("watch reliable", lambda: self.transcript.changed(both[:1], is_whole=True))
        self.setUp()
        self.begin(3)
        self.violates("watch atomic", lambda: self.transcript.changed([*both, *self.changes(4)], is_whole=True))
        self.transcript.changed(both[:1], is_whole=False)
        self.violates("watch atomic", lambda: self.hear(4))
        self.violates("watch atomic", lambda: self.transcript.progress(3))

    def test_resumable(self) -> None:
        """A stream that goes on somewhere else than behind the last id."""
        self.begin()
        self.hear(1, 2)
        for revision in (1, 3):
            self.transcript.stream_over()
            self.violates("watch resumed", lambda revision=revision: self.transcript.begun(revision))
        self.violates("watch resumed", lambda: self.transcript.ended(FutureRevision(1)))

    def test_bookmarkable(self) -> None:
        """Progress ahead of the events, or behind them."""
        self.begin()
        self.hear(1, 2)
        self.violates("watch bookmark", lambda: self.transcript.progress(3))
        self.violates("watch order", lambda: self.transcript.progress(1))

    def test_beginning(self) -> None:
        """A watch that begins before what somebody was told, or ahead of everything, or not where it asked to."""
        self.transcript.asked_now(at_least=4)
        self.violates("stale watch", lambda: self.transcript.begun(3))
        self.transcript.stream_over()
        self.violates("stale watch", lambda: self.transcript.begun(7))
        self.transcript.stream_over()
        self.assertEqual(self.transcript.begun(5), 5)
        self.violates("watch order", lambda: self.transcript.begun(5))
        self.setUp()
        self.transcript.asked_from(4)
        self.violates("watch begun", lambda: self.transcript.begun(4))
        self.transcript.stream_over()
        self.violates("watch order", lambda: self.hear(4))

    def test_ends(self) -> None:
        """An end for no reason, or one that claims more than was told."""
        self.begin()
        self.transcript.ended(Compacted(3))
        self.violates("watch compacted", lambda: self.transcript.ended(Compacted(4)))
        self.hear(1, 2)
        self.violates("watch compacted", lambda: self.transcript.ended(Compacted(3)))
        self.transcript.ended(Overflow(2))
        self.violates("watch overflow", lambda: self.transcript.ended(Overflow(3)))

    def test_truth_has_no_gap(self) -> None:
        """An entry that nobody was seen to apply is noticed."""
        entry = Entry(index=99, term=1, kind=EntryKind.COMMANDS, payload=b"")
        self.assertRaises(ValueError, self.truth.applied, entry)


class Lying:
    """A receiver between the node and the one that asked, for a node that tells something wrong."""

    def __init__(self, inner: WatchReceiver) -> None:
        self.inner = inner

    def begun(self, revision: int) -> None:
        self.inner.begun(revision)

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        return self.inner.changed(events, is_whole=is_whole)

    def progress(self, revision: int) -> None:
        self.inner.progress(revision)

    def ended(self, error: Any) -> None:
        self.inner.ended(error)


class Forgetful(Lying):
    """Does not tell one revision in ten."""

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        return bool(events[0].revision % 10 == 0) or super().changed(events, is_whole=is_whole)


class Repeating(Lying):
    """Tells one revision in ten twice."""

    def changed(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        if events[0].revision % 10 == 0:
            super().changed(events, is_whole=is_whole)
        return super().changed(events, is_whole=is_whole)


class Hurried(Lying):
    """Says that it has told one more than it has."""

    def progress(self, revision: int) -> None:
        super().progress(revision + 1)


def lying_node(liar: type[Lying]) -> Callable[[NodeConfig, Surroundings], Assembled]:
    """Return a composition of nodes whose watches lie."""

    def compose(config: NodeConfig, world: Surroundings) -> Assembled:
        assembled = assemble(config, world)
        watch = assembled.replica.watch
        assembled.replica.watch = lambda request, receiver: watch(request, liar(receiver))  # type: ignore[method-assign]
        return assembled

    return compose


class StoryTests(SynchronousTestCase):
    """Whole stories with watchers."""

    def story(self, seed: int, compose: Any = assemble, **settings: Any) -> Simulation:
        """Return a story of which nothing was told yet, with watchers for certain."""
        simulation = Simulation(seed, compose)
        if not simulation.watchers.settings.watchers:
            self.fail(f"seed {seed} has no watchers")
        simulation.watchers.settings = dataclasses.replace(simulation.watchers.settings, **settings)
        return simulation

    def seeds(self, count: int, start: int = 0) -> list[int]:
        """Return seeds that have watchers."""
        found = [seed for seed in range(start, start + 8 * count) if Simulation(seed).watchers.settings.watchers]
        return found[:count]

    def test_nodes_that_lie(self) -> None:
        """A node that leaves out, repeats, or is ahead of itself is found out within a few seeds."""
        for liar, rules in (
            (Forgetful, ("watch reliable", "watch bookmark")),
            (Repeating, ("watch unique",)),
            (Hurried, ("watch bookmark", "watch unique", "watch order", "watch resumed", "stale watch")),
        ):
            composition = lying_node(liar)
            failure = next((found for seed in self.seeds(6) if (found := run_seed(seed, composition).failure)), "")
            self.assertTrue(any(rule in failure for rule in rules), f"{liar.__name__}: {failure}")

    def test_node_that_begins_in_the_past(self) -> None:
        """B54: a node that begins watches at its own state, however old, is found out."""

        begin = Watches.begin

        def at_once(watches: Watches, watch: Any) -> None:
            barrier = watches._barrier
            watches._barrier = lambda done: done(None)
            try:
                begin(watches, watch)
            finally:
                watches._barrier = barrier

        self.patch(Watches, "begin", at_once)
        failure = next((failure for seed in self.seeds(12) if (failure := run_seed(seed).failure)), "")
        self.assertTrue(any(rule in failure for rule in ("stale watch", "watch resumed")), failure)

    def test_much_happens(self) -> None:
        """A story with slow, restless watchers goes well, and their streams end for several reasons."""
        simulation = self.story(
            self.seeds(2)[1], reading_seconds=1.0, window=1, stay_seconds=3.0, break_share=0.02, away_share=0.3
        )
        outcome = simulation.run()
        self.assertEqual(outcome.failure, "")
        counts = simulation.watchers.counts
        self.assertGreater(counts["watches: left"], 3)
        self.assertGreater(counts["watches: refused or interrupted"], 1)
        self.assertGreater(simulation.watchers.truth.revision, 5)
        self.assertGreater(simulation.watchers.heard_revision, 1)

    def test_without_watchers(self) -> None:
        """A story may have none."""
        seed = next(seed for seed in range(100) if not Simulation(seed).watchers.settings.watchers)
        self.assertEqual(Simulation(seed).watchers.truth.revision, 0)
