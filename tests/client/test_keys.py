"""Keys, ranges, transactions and history, in every flavour of the client against the contract."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from raftkv import errors
from raftkv.client import (
    ClientClosed,
    Compare,
    Counter,
    Delete,
    Deleted,
    DeletedRange,
    DeleteRange,
    Fence,
    Get,
    Page,
    Put,
    Range,
    Record,
    Transaction,
    TransactionResult,
    ValueNotText,
    Written,
    exists,
    missing,
)
from tests.client.driving import FlavouredTestCase, in_all_flavours


class KeyTests(FlavouredTestCase):
    """One key."""

    def test_life_of_a_key(self) -> None:
        """A key is set, read, overwritten, deleted and gone."""
        client = self.client
        self.assertEqual(self.run_call(lambda: client.set("a/b", "väl")), Written(revision=1))
        self.assertEqual(self.run_call(lambda: client.get("a/b")), "väl")
        self.run_call(lambda: client.set("a/b", b"\xff"))
        self.assertEqual(self.run_call(lambda: client.get_bytes("a/b")), b"\xff")
        self.fails(ValueNotText, lambda: client.get("a/b"))
        record = Record(key="a/b", value=b"\xff", create_revision=1, mod_revision=2, version=2)
        self.assertEqual(self.run_call(lambda: client.get_record("a/b")), record)
        self.assertEqual(self.run_call(lambda: client.delete("a/b")), Deleted(deleted=True, revision=3))
        for read in (client.get, client.get_bytes, client.get_record):
            self.assertIsNone(self.run_call(lambda read=read: read("a/b")))

    def test_past(self) -> None:
        """A key is read as it was; what is compacted or has not been is told as such."""
        client = self.client
        for value in ("1", "2", "3"):
            self.run_call(lambda value=value: client.set("k", value))
        self.assertEqual(self.run_call(lambda: client.get("k", revision=1)), "1")
        self.assertEqual(self.run_call(lambda: client.get_bytes("k", revision=2)), b"2")
        self.assertEqual(self.run_call(lambda: client.compact(3)), 3)
        self.assertEqual(self.fails(errors.Compacted, lambda: client.get("k", revision=2)).compact_revision, 3)
        self.assertEqual(self.fails(errors.FutureRevision, lambda: client.get("k", revision=9)).revision, 3)
        self.fails(errors.Compacted, lambda: client.compact(1))

    def test_conditions(self) -> None:
        """A write may depend on the key's revision, on its being there, and on its not being there."""
        client = self.client
        self.run_call(lambda: client.set("k", "1", if_absent=True))
        found = self.fails(errors.PreconditionFailed, lambda: client.set("k", "2", if_absent=True))
        self.assertEqual(found.mod_revision, 1)
        self.run_call(lambda: client.set("k", "2", if_mod_revision=1))
        self.fails(errors.PreconditionFailed, lambda: client.set("k", "3", if_mod_revision=1))
        self.run_call(lambda: client.set("k", "3", if_exists=True))
        self.fails(errors.PreconditionFailed, lambda: client.set("l", "3", if_exists=True))
        self.fails(errors.PreconditionFailed, lambda: client.delete("l", if_exists=True))
        self.fails(errors.BadRequest, lambda: client.set("k", "4", if_exists=True, if_absent=True))

    def test_leases(self) -> None:
        """A key may hang on a lease, or be given a time to live; the end of either deletes it."""
        client = self.client
        granted = self.run_call(lambda: client.grant_lease(5))
        self.run_call(lambda: client.set("a", "1", lease=granted.id))
        written = self.run_call(lambda: client.set("b", "2", ttl=1.5))
        self.assertEqual(self.run_call(lambda: client.get_record("a")).lease, granted.id)
        self.assertEqual(self.run_call(lambda: client.get_record("b")).lease, written.lease)
        self.cluster.do(lambda contract: contract.advance(2))
        self.assertIsNone(self.run_call(lambda: client.get("b")))
        self.cluster.do(lambda contract: contract.advance(4))
        self.assertIsNone(self.run_call(lambda: client.get("a")))
        lost = self.fails(errors.LeaseNotFound, lambda: client.set("a", "1", lease=granted.id))
        self.assertEqual(lost.lease, granted.id)

    def test_fence(self) -> None:
        """Every write can be fenced, and is refused without the lock."""
        client, wrong = self.client, Fence(name="l/1 ä", token=99)
        for write in (
            lambda: client.set("k", "v", lock=wrong),
            lambda: client.delete("k", lock=wrong),
            lambda: client.increment("n", lock=wrong),
            lambda: client.delete_prefix("", lock=wrong),
            lambda: client.delete_range(start="a", lock=wrong),
            lambda: client.transaction(success=[Put("k", "v")], lock=wrong),
        ):
            error = self.fails(errors.LockNotHeld, write)
            self.assertEqual((error.name, error.token, error.outcome), ("l/1 ä".encode(), 0, "not_applied"))
        self.assertEqual(self.cluster.contract.store.revision, 0)

    def test_increment(self) -> None:
        """A counter begins at 0, goes up and down, and is a number for ever."""
        client = self.client
        self.assertEqual(self.run_call(lambda: client.increment("n")), Counter(value=1, revision=1))
        self.assertEqual(self.run_call(lambda: client.increment("n", -3)).value, -2)
        self.run_call(lambda: client.set("n", "many"))
        self.fails(errors.Conflict, lambda: client.increment("n"))
        self.fails(errors.BadRequest, lambda: client.increment("n", 2**63))

    def test_arguments(self) -> None:
        """What makes no sense is refused before anything is sent."""
        client = self.client
        for kind, call in (
            (errors.BadRequest, lambda: client.get("")),
            (errors.BadRequest, lambda: client.get("k", revision=0)),
            (errors.BadRequest, lambda: client.set("k", "v", ttl=0)),
            (errors.BadRequest, lambda: client.set("k", "v", ttl=float("inf"))),
            (errors.BadRequest, lambda: client.set("k", "v", ttl=1, lease=1)),
            (errors.BadRequest, lambda: client.set("k", "v", lease=0)),
            (errors.BadRequest, lambda: client.page(prefix="a", start="b")),
            (errors.BadRequest, lambda: client.page(limit=0)),
            (errors.BadRequest, lambda: client.page(delimiter="")),
            (errors.BadRequest, lambda: client.delete_range()),
            (errors.BadRequest, lambda: client.compact(-1)),
            (errors.BadRequest, lambda: client.grant_lease(-1)),
            (errors.BadRequest, lambda: client.keep_alive(0)),
            (errors.BadRequest, lambda: client.watch(key="k", prefix="p")),
            (errors.BadRequest, lambda: client.watch(only="puts")),
            (errors.BadRequest, lambda: client.watch(silence=0)),
            (errors.BadRequest, lambda: client.lock("l", wait=-1)),
            (errors.BadRequest, lambda: client.lock("l", ttl=0)),
            (errors.BadRequest, lambda: client.transaction(compare=[Compare("k", "version", "=", "1")])),
            (errors.BadRequest, lambda: client.transaction(compare=[Compare(None, "version", "=", 1)])),
            (errors.BadRequest, lambda: client.transaction(success=[DeleteRange()])),
            (errors.BadRequest, lambda: client.page(prefix="\ud800")),
            (errors.BadRequest, lambda: client.page(start=b"\xff")),
            (errors.BadRequest, lambda: client.page(continue_from="\ud800")),
            (errors.BadRequest, lambda: client.lock("")),
            (errors.BadRequest, lambda: client.election("")),
            (TypeError, lambda: client.page(end=1)),
            (TypeError, lambda: client.transaction(success=["put"])),
            (TypeError, lambda: client.set("k", 1)),
        ):
            self.fails(kind, call)
        self.assertEqual(self.cluster.seen, [])

    def test_after_close(self) -> None:
        """A client that was closed answers at once that it is."""
        client = self.make()
        self.run_call(lambda: client.get("k"))
        self.run_call(client.close)
        self.fails(ClientClosed, lambda: client.get("k"))
        self.run_call(client.close)


class RangeTests(FlavouredTestCase):
    """Ranges, a page at a time."""

    def setUp(self) -> None:
        super().setUp()
        for key in ("a", "p/1", "p/2", "p/d/1", "p/d/2", "p/e/1", "z"):
            self.run_call(lambda key=key: self.client.set(key, key.upper()))

    def test_records(self) -> None:
        """A prefix, a range, or all: in key order, over as many pages as it takes, or backwards."""
        client = self.client
        everything = [record.text for record in self.all_of(client.range(page_size=2))]
        self.assertEqual(everything, ["A", "P/1", "P/2", "P/D/1", "P/D/2", "P/E/1", "Z"])
        self.assertEqual([record.key for record in self.all_of(client.range(prefix="p/d"))], ["p/d/1", "p/d/2"])
        self.assertEqual(self.all_of(client.keys(start="p/2", end="p/e", page_size=1)), ["p/2", "p/d/1", "p/d/2"])
        self.assertEqual(self.all_of(client.keys(prefix="p/d", reverse=True, page_size=1)), ["p/d/2", "p/d/1"])
        self.assertEqual(self.all_of(client.keys(prefix="nothing")), [])

    def test_one_moment(self) -> None:
        """All pages show the moment of the first one, whatever is written meanwhile."""
        records = self.client.range(prefix="p/", page_size=2)
        keys = [self.next_of(records).key]
        self.run_call(lambda: self.client.delete_prefix("p/"))
        keys += [record.key for record in self.all_of(records)]
        self.assertEqual(keys, ["p/1", "p/2", "p/d/1", "p/d/2", "p/e/1"])

    def test_compacted_between_pages(self) -> None:
        """Where that moment is no longer kept, iterating says so."""
        records = self.client.range(page_size=1)
        self.next_of(records)
        self.run_call(lambda: self.client.set("b", ""))
        self.run_call(lambda: self.client.compact(8))
        self.fails(errors.Compacted, self.step(records))

    def test_folders(self) -> None:
        """A delimiter shows one level, with what lies deeper as folders."""
        (page,) = self.all_of(self.client.pages(prefix="p/", delimiter="/", keys_only=True))
        self.assertEqual((page.keys, page.folders, page.count), (("p/1", "p/2"), ("p/d/", "p/e/"), 5))
        self.assertEqual(page.records[0].value, b"")

    def test_page_by_page(self) -> None:
        """Whoever keeps the place himself goes on where the page before ended."""
        first = self.run_call(lambda: self.client.page(prefix="p/", limit=3))
        self.assertIsInstance(first, Page)
        self.assertEqual((first.keys, first.count, first.revision), (("p/1", "p/2", "p/d/1"), 5, 7))
        second = self.run_call(lambda: self.client.page(prefix="p/", limit=3, continue_from=first.next))
        self.assertEqual((second.keys, second.next), (("p/d/2", "p/e/1"), None))

    def test_count(self) -> None:
        """Counting needs no records."""
        self.assertEqual(self.run_call(lambda: self.client.count(prefix="p/")), 5)
        self.assertEqual(self.run_call(lambda: self.client.count(revision=2)), 2)

    def test_delete(self) -> None:
        """A prefix or a range is deleted in one revision."""
        deleted = self.run_call(lambda: self.client.delete_prefix("p/d"))
        self.assertEqual(deleted, DeletedRange(deleted=2, revision=8))
        self.assertEqual(self.run_call(lambda: self.client.delete_range(start="p", end="q")).deleted, 3)
        self.assertEqual(self.run_call(lambda: self.client.delete_prefix("")).deleted, 2)


class TransactionTests(FlavouredTestCase):
    """Several operations as one."""

    def test_every_operation(self) -> None:
        """Each operation gives a result of its own class, with what the earlier ones did."""
        client = self.client
        self.run_call(lambda: client.set("b", b"\xff"))
        lease = self.run_call(lambda: client.grant_lease(9)).id
        result = self.run_call(
            lambda: client.transaction(
                compare=[exists("b"), missing("a"), Compare("b", "value", "=", b"\xff"), Compare("b", "lease", "=", 0)],
                success=[
                    Put("a", "1", lease=lease),
                    Get("a"),
                    Get("nothing"),
                    Get("b", revision=1),
                    Range(prefix="", limit=1, keys_only=True),
                    Range(count_only=True),
                    Delete("b"),
                    Transaction(compare=[exists("b")], failure=[Put("c", "2"), DeleteRange(prefix="x")]),
                ],
                failure=[Put("never", "")],
            )
        )
        record = Record(key="a", value=b"1", create_revision=2, mod_revision=2, version=1, lease=lease)
        old = Record(key="b", value=b"\xff", create_revision=1, mod_revision=1, version=1)
        inner = TransactionResult(
            succeeded=False, revision=2, results=(Written(revision=2), DeletedRange(deleted=0, revision=2))
        )
        found = result.results
        self.assertEqual((result.succeeded, result.revision), (True, 2))
        self.assertEqual(found[:4], (Written(revision=2), record, None, old))
        self.assertEqual((found[4].keys, found[4].count, found[5].count), (("a",), 2, 2))
        self.assertEqual(found[6:], (Deleted(deleted=True, revision=2), inner))

    def test_failure_branch(self) -> None:
        """Where a compare does not hold, the other list runs, and its results are read by it."""
        result = self.run_call(
            lambda: self.client.transaction(
                compare=[Compare("k", "value", "=", "x")], success=[Put("k", "1")], failure=[Get("k")]
            )
        )
        self.assertEqual(result, TransactionResult(succeeded=False, revision=0, results=(None,)))

    def test_ranges_compared(self) -> None:
        """A compare may be of every key of a range."""
        client = self.client
        self.run_call(lambda: client.set("p/1", "x"))
        for value, holds in (("x", True), ("y", False)):
            compare = [Compare(None, "value", "=", value, prefix="p/")]
            result = self.run_call(lambda compare=compare: client.transaction(compare=compare))
            self.assertEqual(result.succeeded, holds)


class TroubleTests(FlavouredTestCase):
    """Failover in the middle of every operation."""

    READS: tuple[Callable[[Any], Any], ...] = (
        lambda client: client.get("k"),
        lambda client: client.page(prefix=""),
        lambda client: client.count(),
        lambda client: client.lease_info(1),
        lambda client: client.lock_info("l"),
    )
    WRITES: tuple[Callable[[Any], Any], ...] = (
        lambda client: client.set("k", "v", if_mod_revision=1),
        lambda client: client.delete("k", if_mod_revision=1),
        lambda client: client.increment("n", 5),
        lambda client: client.delete_prefix(""),
        lambda client: client.transaction(compare=[Compare("k", "mod_revision", "=", 1)], success=[Put("k", "2")]),
        lambda client: client.compact(1),
        lambda client: client.grant_lease(5),
        lambda client: client.keep_alive(1),
        lambda client: client.revoke_lease(1),
        lambda client: client.unlock("l"),
    )

    def setUp(self) -> None:
        super().setUp()
        self.prepare()

    def prepare(self) -> None:
        """Make a store with a key, a lease and a lock."""
        for call in (
            lambda: self.client.set("k", "0"),
            lambda: self.client.grant_lease(60),
            lambda: self.client.set("l", "0", lease=1),
            lambda: self.client.lock("l", lease=1).acquire(),
        ):
            self.run_call(call)

    def test_reads(self) -> None:
        """A read is asked again elsewhere, however its first attempt is lost."""
        for read in self.READS:
            whole = self.run_call(lambda read=read: read(self.client))
            for trouble in ("lose request", "lose answer", "cut answer", "no leader"):
                self.cluster.seen.clear()
                self.cluster.plan(trouble)
                self.assertEqual(self.run_call(lambda read=read: read(self.client)), whole)
                self.assertEqual(len(self.cluster.seen), 2)
                self.assertNotEqual(self.cluster.seen[0].node, self.cluster.seen[1].node)

    def test_writes(self) -> None:
        """B63: a write whose answer is lost is applied once, and gets the answer of its first attempt."""
        for place in range(len(self.WRITES)):
            expected = self.outcome(place, None)
            for trouble in ("lose request", "lose answer", "cut answer", "no leader"):
                self.assertEqual(self.outcome(place, trouble), expected, f"write {place}, {trouble}")
                numbers = {seen.number for seen in self.cluster.seen[-2:]}
                self.assertEqual(len(numbers), 1, "the same number")

    def outcome(self, place: int, trouble: Any) -> Any:
        """Carry a write out on a new store, and return its result and what became of the store."""
        store = type(self.cluster.contract)
        self.cluster.do(lambda contract: contract.__init__(wrote=contract.wrote))
        self.assertIsInstance(self.cluster.contract, store)
        self.client = self.make()
        self.prepare()
        if trouble is not None:
            self.cluster.plan(trouble)
        result = self.run_call(lambda: self.WRITES[place](self.client))
        contents = self.cluster.do(lambda contract: list(contract.store.scan(b"", None, 100)))
        return result, contents, self.cluster.contract.store.revision

    def test_node_that_hangs(self) -> None:
        """B66: a node that takes the request and says nothing is given up for another one."""
        client = self.make(attempt_timeout=0.2)
        self.cluster.plan("hang")
        self.assertEqual(self.run_call(lambda: client.set("k", "v")).revision, 4)
        self.assertEqual(len({seen.node for seen in self.cluster.seen[-2:]}), 2)

    def test_time_is_over(self) -> None:
        """B66: where no node answers, the call ends, and says that it may have been applied."""
        client = self.make(timeout=0.3, attempt_timeout=0.1)
        for _ in range(9):
            self.cluster.plan("hang")
        self.assertEqual(self.fails(errors.RequestTimeout, lambda: client.set("k", "v")).outcome, "unknown")

    def test_nobody_there(self) -> None:
        """Where nobody listens, a write was not applied."""
        client = self.make(timeout=0.2)
        self.cluster.close()
        self.assertEqual(self.fails(errors.RequestTimeout, lambda: client.set("k", "v")).outcome, "not_applied")

    def test_answer_not_kept(self) -> None:
        """B63: a repeat whose first answer was too large to be kept says that the write was applied, and when."""
        client = self.client
        self.run_call(lambda: client.set("large", "x" * 20_000))
        self.cluster.plan("lose answer")
        error = self.fails(errors.AnswerNotKept, lambda: client.transaction(success=[Get("large"), Put("small", "1")]))
        self.assertEqual((error.revision, error.outcome), (5, "unknown"))
        self.assertEqual(self.run_call(lambda: client.get("small")), "1")

    def test_cancelled(self) -> None:
        """Cancelling a call closes the connection that carries it, and nothing more is sent."""
        if self.driver_class.__name__ == "BlockingDriver":
            self.skipTest("a blocked thread cannot be cancelled")
        self.cluster.plan("hang", "PUT /v1/kv/k")
        before = len(self.cluster._open)
        call = self.driver.start(lambda: self.client.set("k", "v"))
        self.cluster.wait_for(lambda: self.cluster.seen[-1].line == "PUT /v1/kv/k")
        call.cancel()
        self.cluster.wait_for(lambda: len(self.cluster._open) < before)
        self.run_call(lambda: self.client.get("k"))
        self.assertEqual(sum(seen.line == "PUT /v1/kv/k" for seen in self.cluster.seen[4:]), 1)

    def test_many_at_once(self) -> None:
        """B63: hundreds of calls at once, from threads in the blocking flavour, are each applied once."""
        client = self.make(max_connections=8)
        for number in range(40):
            self.cluster.plan(
                ("lose request", "lose answer", "cut answer", "no leader")[number % 4], "POST /v1/increment"
            )
        calls = [self.driver.start(lambda: client.increment("n")) for _ in range(300)]
        self.assertEqual(sorted(call.result(20).value for call in calls), list(range(1, 301)))

    def test_closed_meanwhile(self) -> None:
        """B66: closing ends what is pending: what was sent may have been applied, what was not was not."""
        client = self.make(max_connections=1)
        self.cluster.plan("hang", "PUT /v1/kv/hangs")
        sent = self.driver.start(lambda: client.set("hangs", "v"))
        self.cluster.wait_for(lambda: any(seen.line.endswith("/hangs") for seen in self.cluster.seen))
        waits = self.driver.start(lambda: client.set("waits", "v"))
        self.run_call(client.close)
        self.assertIsInstance(sent.exception(10), errors.OutcomeUnknown)
        self.assertIsInstance(waits.exception(10), ClientClosed)


in_all_flavours(globals(), KeyTests, RangeTests, TransactionTests, TroubleTests)
