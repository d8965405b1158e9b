"""The log carried out once more on the plain store, and the judges that compare with it, on stories made by hand."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.interfaces import Command, Consistency
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    LOCK_NOT_HELD,
    OK,
    PRECONDITION_FAILED,
    compact,
    delete,
    delete_range,
    get,
    in_session,
    increment,
    pack_batch,
    put,
    transaction,
)
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.checkers import Violation
from raftkv.testing.history import History, Operation
from raftkv.testing.ordering import check_reads, check_real_time
from raftkv.testing.queries import Changes, Count, Get, Page, Query, answer_of
from raftkv.testing.replay import Replay
from raftkv.testing.sameness import difference, past_difference
from raftkv.testing.witness import AppliedWrites


class StoryTestCase(SynchronousTestCase):
    """A log, the clients' history, and real stores that serve reads; one moment later with everything that happens."""

    def setUp(self) -> None:
        self.replay, self.witness, self.history = Replay(), AppliedWrites(), History()
        self.store = Store()
        self.now = 0.0

    def pass_time(self) -> float:
        self.now = round(self.now + 1.0, 3)
        return self.now

    def entry(self, *commands: Command, at_ms: int | None = None) -> Entry:
        """Return the next entry of the log."""
        at_ms = int(self.now * 1000) if at_ms is None else at_ms
        payload = pack_batch(at_ms, 0, commands)
        return Entry(index=self.replay.index + 1, term=1, kind=EntryKind.COMMANDS, payload=payload)

    def apply(self, *commands: Command, at_ms: int | None = None) -> list[Any]:
        """Let the cluster apply an entry; return the answers."""
        self.pass_time()
        entry = self.entry(*commands, at_ms=at_ms)
        results = self.store.apply(entry.index, entry.payload)
        self.replay.note("n1", entry, results, now=self.now, is_excused=False)
        self.witness.note(entry, results)
        return results

    def begin(self, command: Command, *, sequence: int | None = None) -> Operation:
        """Let a client ask for a write."""
        now = self.pass_time()
        return self.history.invoke(client="c", kind="write", command=command, sequence=sequence, now=now)

    def tell(self, operation: Operation, *result: Any) -> Operation:
        """Let a client be answered."""
        self.history.answered(operation, result, now=self.pass_time())
        return operation

    def write(self, command: Command) -> Operation:
        """Let a client ask for a write, and let all go well."""
        operation = self.begin(command)
        return self.tell(operation, *self.apply(command)[0])

    def ask(self, query: Query, *, consistency: Consistency = "linearizable", bound: float | None = None) -> Operation:
        """Let a client begin to read."""
        return self.history.invoke(
            client="r", kind="read", query=query, consistency=consistency, max_stale_seconds=bound, now=self.pass_time()
        )

    def serve(self, operation: Operation, answer: Any = None, *, store: Store | None = None) -> Operation:
        """Let a node answer a read, with what its store holds or else with something else."""
        store = self.store if store is None else store
        assert operation.query is not None
        found = answer_of(operation.query, store) if answer is None else answer
        operation.served_at = self.now
        self.history.read(operation, found, now=self.pass_time(), revision=store.revision, index=store.applied_index)
        return operation

    def assert_breach(self, rule: str, function: Any, *arguments: Any, **keywords: Any) -> None:
        """Demand that a rule is broken, and which."""
        self.assertEqual(rule, self.assertRaises(Violation, function, *arguments, **keywords).rule)

    def settled(self) -> History:
        return self.witness.testify(self.history, self.replay.excused)


class ReplayTests(StoryTestCase):
    def note(self, name: str, entry: Entry, results: Sequence[Any], *, is_excused: bool = False) -> None:
        self.replay.note(name, entry, results, now=self.now, is_excused=is_excused)

    def test_right_answers(self) -> None:
        """Whoever answers as the plain store does is right, first or not; of each entry is known what was behind it."""
        entry = self.entry(put(b"m", b"1"), increment(b"m", 4), transaction([], [get(b"m", 1)]))
        results = [(OK, 1), (OK, 2, 5), (OK, 2, True, ((5, (b"1", 1, 1, 1, 0)),))]
        for name in ("n1", "n2"):
            self.note(name, entry, results)
        self.assertEqual((self.replay.moment(0).revision, self.replay.moment(1).revision), (0, 2))
        self.assertEqual([each.index for each in self.replay.applied], [1, 1, 1])
        self.assertEqual((self.replay.index_of_revision(2), self.replay.index_of_revision(3)), (1, 2))

    def test_wrong_result(self) -> None:
        """A node that answers anything else is wrong, even if all others do so, too (B33, B38)."""
        entry = self.entry(put(b"m", b"1"), delete_range(b"m", b""))
        self.assert_breach("wrong result", self.note, "n1", entry, [(OK, 1), (OK, 2, 0)])
        self.note("n2", entry, [(OK, 1), (OK, 2, 1)])
        self.assert_breach("wrong result", self.note, "n3", entry, [(OK, 1), (OK, 1, 1)])

    def test_excused(self) -> None:
        """What a node says whose state was made wrong on purpose is set aside, by the write that it was said to."""
        command = delete_range(b"m", b"")
        asked = self.begin(command, sequence=3)
        entry = self.entry(in_session(b"c", 3, command))
        self.note("n1", entry, [(OK, 1, 1)], is_excused=True)
        self.assertEqual(self.replay.results(1), [(OK, 0, 0)])
        self.witness.note(entry, self.replay.results(1))
        self.tell(asked, OK, 1, 1)
        self.assertEqual([each.result for each in self.settled()], [(OK, 0, 0)])

    def test_repeats(self) -> None:
        """A repeat in a session has no place of its own."""
        command = in_session(b"c", 1, increment(b"n", 1))
        self.apply(command)
        self.apply(command)
        self.assertEqual([(each.index, each.command) for each in self.replay.applied], [(1, increment(b"n", 1))])

    def test_compared_stores(self) -> None:
        """A store that holds anything else than the log says is found, in the present and in the past."""
        self.apply(put(b"m", b"1"), put(b"m", b"2"), put(b"n", b"3"))
        self.assertEqual(
            difference(self.store, self.replay.plain) or past_difference(self.store, self.replay.plain), ""
        )
        other = Store()
        other.apply(1, pack_batch(1000, 0, [put(b"m", b"9"), put(b"m", b"2"), put(b"n", b"3")]))
        self.assertEqual(difference(other, self.replay.plain), "")
        self.assertIn("revision=1", past_difference(other, self.replay.plain))
        other.apply(2, pack_batch(1000, 0, [delete(b"n")]))
        self.assertIn("revision", difference(other, self.replay.plain))


class ReadTests(StoryTestCase):
    """Reads against the log."""

    def setUp(self) -> None:
        super().setUp()
        self.write(put(b"m/a", b"1"))
        self.write(put(b"m/b", b"2"))
        self.old = Store()
        self.old.apply(1, pack_batch(0, 0, [put(b"m/a", b"1")]))

    def check(self) -> int:
        return check_reads(self.history, self.replay)

    def test_right(self) -> None:
        """Pages, counts, changes, keys of now and of the past, and refusals are compared."""
        self.apply(compact(2))
        queries: list[Query] = [
            Page(start=b"m/", end=b"m0", limit=1),
            Page(start=b"", end=b"", limit=1, prefix=b"", delimiter=b"/", reverse=True),
            Count(start=b"m/b", end=b"", revision=2),
            Changes(from_revision=2, limit=9),
            Get(key=b"m/a", revision=2),
            Get(key=b"m/a", revision=1),
            Get(key=b"m/a", revision=3),
        ]
        answers = [self.serve(self.ask(query)).answer for query in queries]
        self.assertEqual(self.check(), len(queries))
        self.assertEqual(answers[0][2], b"m/b")
        self.assertEqual(answers[1][1], [b"m/"])
        self.assertEqual(answers[5:], [("compacted", 2), ("future_revision", 2)])

    def test_wrong_page(self) -> None:
        """A range that lacks a key, or has one too many, is found."""
        self.serve(self.ask(Page(start=b"m", end=b"", limit=9)), ([(b"m/a", (b"1", 1, 1, 1, 0))], [], None))
        self.assert_breach("wrong read", self.check)

    def test_wrong_past(self) -> None:
        """A read of a revision that gives what was there later is found."""
        self.serve(self.ask(Count(start=b"m", end=b"", revision=1)), 2)
        self.assert_breach("wrong read", self.check)

    def test_compacted_but_read(self) -> None:
        """A revision that is compacted in the log is refused from there on, also where it is still in memory."""
        asked = self.ask(Get(key=b"m/a", revision=1))
        self.apply(compact(2))
        self.serve(asked, (b"1", 1, 1, 1, 0))
        self.assert_breach("wrong read", self.check)

    def test_refused_but_kept(self) -> None:
        """A revision that is kept is not refused."""
        self.serve(self.ask(Get(key=b"m/a", revision=2)), ("compacted", 3))
        self.assert_breach("wrong read", self.check)

    def test_wrong_revision(self) -> None:
        """The revision that a read was told is that of the state which it saw."""
        asked = self.ask(Count(start=b"m", end=b""))
        self.history.read(asked, 2, now=self.now, revision=1, index=2)
        self.assert_breach("wrong read", self.check)

    def test_wrong_plain_read(self) -> None:
        """A plain get is compared, too."""
        asked = self.history.invoke(client="r", kind="get", key=b"k", now=self.now)
        self.history.read(asked, (b"x", 1, 1, 1, 0), now=self.now, revision=2, index=2)
        self.assert_breach("wrong read", self.check)

    def test_stale_within_its_bound(self) -> None:
        """A stale read of an old state is right as long as that is young enough: the next entry came at 5 seconds."""
        self.serve(self.ask(Count(start=b"m", end=b""), consistency="stale", bound=9.0), store=self.old)
        self.assertEqual(self.check(), 1)

    def test_staler_than_asked(self) -> None:
        """One that lacks what was applied anywhere before its bound is found."""
        self.serve(self.ask(Count(start=b"m", end=b""), consistency="stale", bound=1.5), store=self.old)
        self.assert_breach("staler than asked", self.check)

    def test_staler_than_told(self) -> None:
        """Likewise for the age that it was told."""
        asked = self.ask(Count(start=b"m", end=b""), consistency="stale")
        asked.staleness_seconds = 1.5
        self.serve(asked, store=self.old)
        self.assert_breach("staler than told", self.check)


class RealTimeTests(StoryTestCase):
    """Places in the log against the order in which things were asked and answered."""

    def check(self) -> int:
        return check_real_time(self.settled(), self.replay)

    def test_in_order(self) -> None:
        """Operations that overlap may come in any order; one of unknown outcome may be there, late, or not at all."""
        lost, late, other = (self.begin(put(b"m", value)) for value in (b"lost", b"late", b"other"))
        for each in (lost, late):
            self.history.failed(each, "unknown", now=self.now)
        self.tell(other, *self.apply(put(b"m", b"other"))[0])
        self.apply(put(b"m", b"late"))
        self.serve(self.ask(Count(start=b"m", end=b"")))
        self.assertEqual(self.check(), 3)

    def test_write_before_its_time(self) -> None:
        """A write that comes in the log in front of one that had been answered before it began is found."""
        first = self.begin(put(b"m", b"1"))
        (early, result) = self.apply(put(b"m", b"2"), put(b"m", b"1"))
        self.tell(first, *result)
        self.tell(self.begin(put(b"m", b"2")), *early)
        self.assert_breach("revision order", self.check)

    def test_write_behind_a_read(self) -> None:
        """A write may not come in front of what a read has shown before it began."""
        self.apply(put(b"m", b"2"))
        self.serve(self.ask(Count(start=b"m", end=b"")))
        self.tell(self.begin(put(b"m", b"2")), OK, 1)
        self.assert_breach("revision order", self.check)

    def test_unknown_before_its_time(self) -> None:
        """A write of unknown outcome may come as late as it likes, but not before it began."""
        self.apply(put(b"m", b"2"), put(b"m", b"1"))
        self.tell(self.begin(put(b"m", b"1")), OK, 2)
        self.history.failed(self.begin(put(b"m", b"2")), "unknown", now=self.now)
        self.assert_breach("revision order", self.check)

    def test_nameless_delete(self) -> None:
        """A plain delete outside of a session is placed by its revision."""
        self.write(put(b"k", b"1"))
        asked = self.history.invoke(client="c", kind="delete", key=b"k", now=self.now)
        (deleted,) = self.apply(delete(b"k"))
        self.tell(asked, *deleted)
        self.assertEqual(self.check(), 2)
        again = self.history.invoke(client="c", kind="put", key=b"k", value=b"2", now=self.now)
        self.apply(put(b"k", b"2"))
        self.tell(again, OK, 3)
        self.assertEqual(self.check(), 3)

    def test_stale_read(self) -> None:
        """A read that is to be linearizable and does not see an acknowledged write is found, a stale one is not."""
        behind = Store()
        self.write(put(b"m", b"1"))
        self.serve(self.ask(Count(start=b"x", end=b""), consistency="stale"), store=behind)
        self.check()
        self.serve(self.ask(Count(start=b"x", end=b""), consistency="lease"), store=behind)
        self.assert_breach("read misses a write", self.check)

    def test_read_behind_a_read(self) -> None:
        """What one client was shown no later read may lack, whether or not the writer was answered (B54)."""
        behind = Store()
        self.apply(put(b"m", b"1"))
        self.serve(self.ask(Count(start=b"x", end=b""), consistency="stale"))
        self.serve(self.ask(Count(start=b"x", end=b"")), store=behind)
        self.assert_breach("read misses a write", self.check)


class AnswerTests(StoryTestCase):
    """What clients were told, of writes of any kind."""

    def test_transaction(self) -> None:
        """An answer that differs anywhere in it is found."""
        command = transaction([], [put(b"m", b"1"), get(b"m")])
        asked = self.begin(command)
        ((_, _, _, results),) = self.apply(command)
        self.tell(asked, OK, 1, True, results)
        self.settled()
        asked.result = (OK, 1, True, (*results[:1], (5, None)))
        self.assert_breach("wrong answer", self.settled)

    def test_incremented_twice(self) -> None:
        """An increment outside of a session that is in the log twice was sent twice (B63)."""
        self.apply(increment(b"n", 7))
        self.assert_breach("applied twice", self.apply, increment(b"n", 7))

    def test_not_applied(self) -> None:
        """Of writes that were said to have no effect none must have had one; a refusal is none."""
        for number, command in enumerate((increment(b"n", 1), delete_range(b"n", b""), put(b"m", b"1", 9))):
            self.history.failed(self.begin(command, sequence=number), "not_applied", now=self.now)
        self.assertEqual(self.apply(in_session(b"c", 2, put(b"m", b"1", 9))), [(PRECONDITION_FAILED, 0)])
        self.apply(in_session(b"c", 1, delete_range(b"n", b"")))
        self.settled()
        self.apply(in_session(b"c", 0, increment(b"n", 1)))
        self.assert_breach("applied after all", self.settled)

    def test_unnamed_lock(self) -> None:
        """An answer of the fence is compared as any other."""
        asked = self.begin(in_session(b"c", 1, put(b"m", b"1"))[4], sequence=1)
        self.apply(in_session(b"c", 1, put(b"m", b"1")))
        self.tell(asked, LOCK_NOT_HELD, 4)
        self.assert_breach("wrong answer", self.settled)
