"""``NativeClient`` and the rest of the key-value model: transactions, ranges, leases, the past."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

from twisted.internet.defer import Deferred

from raftkv import errors
from raftkv.client import (
    Compare,
    Delete,
    DeleteRange,
    Fence,
    Get,
    KVClient,
    Put,
    Range,
    Transaction,
    UnexpectedAnswer,
    Written,
    exists,
    missing,
)
from raftkv.client.rpc import making, telling
from raftkv.kvstore import commands
from raftkv.protocols.rpc_calls import MAX_LISTED_AT_ONCE
from tests.client.fakes import FixedRandom
from tests.client.onenode import OneNode
from tests.client.test_native import A, NativeTestCase

FACTS = ("outcome", "mod_revision", "compact_revision", "revision", "token", "name")
ALL_READS = {
    "everything": {},
    "prefix": {"prefix": "p/"},
    "edges": {"start": "a", "end": "p/2"},
    "reverse": {"prefix": "p/", "reverse": True, "limit": 2},
    "keys": {"keys_only": True, "limit": 3},
    "folders": {"prefix": "p/", "delimiter": "/"},
    "folders in parts": {"prefix": "p/", "delimiter": "/", "limit": 3},
    "past": {"revision": 3},
    "stale": {"consistency": "stale", "max_stale": 1.5},
    "lease": {"consistency": "lease"},
}


class AgreementTestCase(NativeTestCase):
    """A client over RPC and one over HTTP, each before a node of its own, which get the same calls."""

    def setUp(self) -> None:
        super().setUp()
        self.other = OneNode()
        self.http = KVClient(
            "http://127.0.0.1:8080",
            reactor=self.clock,
            treq_client=self.other.treq(self.clock),
            random=FixedRandom(),  # type: ignore[arg-type]
            entropy=bytes,
        )
        self.addCleanup(lambda: self.successResultOf(self.http.close()))

    def both(self, call: Callable[[Any], Deferred[Any]]) -> Any:
        """Have a call answered by both clients; return what both of them say."""
        said = [self.outcome_of(call(client)) for client in (self.client, self.http)]
        self.assertEqual(said[0], said[1])
        return said[0]

    def outcome_of(self, call: Deferred[Any]) -> Any:
        """Return the result, or class and facts of the error."""
        self.clock.pump([0.01] * 20)
        told: list[Any] = []
        call.addCallbacks(told.append, lambda failure: told.append(failure.value))
        self.assertEqual(len(told), 1, "no answer")
        if not isinstance(told[0], BaseException):
            return told[0]
        return (type(told[0]), *[getattr(told[0], fact, None) for fact in FACTS])

    def fill(self) -> None:
        """Set some keys."""
        for key in ("a", "p/1", "p/2", "p/x/1", "p/x/2", "p/y/1", "q", "é"):
            self.both(lambda client, key=key: client.set(key, b"\xff" + key.encode()))  # type: ignore[misc]


class AgreementTests(AgreementTestCase):
    """What the two say."""

    def test_keys(self) -> None:
        """Writes and reads of one key, with conditions, leases, fences and of the past, are the same over both."""
        lease = self.both(lambda client: client.grant_lease(30))
        calls: list[Callable[[Any], Deferred[Any]]] = [
            lambda client: client.set("k", "1", if_absent=True),
            lambda client: client.set("k", "1", if_absent=True),
            lambda client: client.set("k", "2", if_exists=True, lease=lease),
            lambda client: client.set("k", "2", if_mod_revision=1, lease=lease.id),
            lambda client: client.set("t", "2", ttl=2.5),
            lambda client: client.set("t", "2", ttl=0.5),
            lambda client: client.set("t", "2", ttl=2, lease=lease),
            lambda client: client.set("t", "2", lease=99),
            lambda client: client.set("t", "2", if_exists=True, if_absent=True),
            lambda client: client.set("t", "2", lock=Fence(name="l", token=7)),
            lambda client: client.delete("t", lock=Fence(name="l", token=7)),
            lambda client: client.delete("t", if_mod_revision=0),
            lambda client: client.increment("n"),
            lambda client: client.increment("n", -3),
            lambda client: client.increment("n", 2**63 - 1),
            lambda client: client.increment("n", 2**63),
            lambda client: client.increment("k", lock=Fence(name="l", token=7)),
            lambda client: client.increment("t/none", 2**63 - 1),
            lambda client: client.increment("t/none"),
            lambda client: client.get("k", revision=1),
            lambda client: client.get("nothing", revision=1),
            lambda client: client.get_bytes("k", revision=2),
            lambda client: client.get_record("k", revision=2, consistency="stale"),
            lambda client: client.get_record("k", revision=200),
            lambda client: client.get_record("k", revision=0),
            lambda client: client.get_record("k", revision=2, max_stale=2),
            lambda client: client.compact(2),
            lambda client: client.get("k", revision=1),
            lambda client: client.compact(1),
            lambda client: client.compact(0),
            lambda client: client.delete("k"),
        ]
        for number, call in enumerate(calls):
            with self.subTest(number):
                self.both(call)
        self.assertEqual(self.node.store.digest(), self.other.store.digest())

    def test_staleness(self) -> None:
        """A stale read of the past tells how old the state may be."""
        self.fill()
        for age in (0.25, None):
            self.node.age = self.other.age = age
            record = self.both(lambda client: client.get_record("a", revision=1, consistency="stale", max_stale=9))
            self.assertEqual(record.value, b"\xffa")
            self.clock.advance(0)
            call = self.client.get_record("a", revision=1, consistency="stale", max_stale=9)
            self.assertEqual(self.run_call(call).staleness, age)
        self.assertIn(9.0, self.node.bounds)

    def test_transactions(self) -> None:
        """Transactions of every operation give the same results, and leave the same state."""
        self.fill()
        lease = self.both(lambda client: client.grant_lease(30))
        inner = Transaction(compare=[exists("a")], success=[Get("a"), Put("in", "1")], failure=[Delete("a")])
        whole: dict[str, Any] = {
            "compare": [
                missing("new"),
                Compare("a", "value", "=", b"\xffa"),
                Compare(None, "lease", "=", 0, prefix="p"),
            ],
            "success": [
                Put("new", "v", lease=lease),
                Get("new"),
                Get("nothing"),
                Get("a", revision=1),
                Delete("q"),
                Delete("nothing"),
                DeleteRange(prefix="p/x/"),
                Range(prefix="p/"),
                Range(start="p/", end="q", reverse=True, keys_only=True, limit=1),
                Range(count_only=True),
                Range(limit=2, revision=4),
                inner,
            ],
            "failure": [Get("a"), Transaction(success=[inner])],
        }
        result = self.both(lambda client: client.transaction(**whole))
        self.assertTrue(result.succeeded)
        self.assertEqual(len(result.results), 12)
        self.assertFalse(self.both(lambda client: client.transaction(**whole)).succeeded)
        for number in (8, 10):  # pages that go on
            self.assertIsNotNone(result.results[number].next)
        self.both(lambda client: client.page(limit=2, revision=4, continue_from=result.results[10].next))
        self.assertEqual(self.node.store.digest(), self.other.store.digest())

    def test_bad_transactions(self) -> None:
        """Transactions that are refused are refused alike."""
        self.fill()
        value = "v" * 1024 * 1024
        wrong: list[dict[str, Any]] = [
            {"success": [Put("a", "1"), Put("a", "2")]},
            {"success": [Get("a")] * 129},
            {"success": [Range(limit=1001)]},
            {"success": [Range(limit=0)]},
            {"success": [Put("a", value), Put("b", value)]},
            {"success": [Put("a", value + "v")]},
            {"success": [Put("k" * 4097, "")]},
            {"success": [Put("a", "1", lease=99)]},
            {"success": [Get("a", revision=99)]},
            {"success": [DeleteRange()]},
            {"success": [Range(start="a", end="")]},
            {"compare": [Compare("a", "value", "=", 1)]},
            {"compare": [Compare("a", "version", "=", "1")]},
            {"compare": [Compare("a", "version", "=", -1)]},
            {"compare": [Compare("a", "age", "=", 1)]},
            {"compare": [Compare("a", "version", "~", 1)]},
            {"compare": [Compare(None, "version", "=", 1)]},
            {"compare": [Compare("a", "version", "=", 1, prefix="a")]},
            {"success": ["a"]},
            {"success": [Put("a", "1")], "lock": Fence(name="l", token=7)},
            {"success": [Put("a", "1")], "lock": Fence(name="l", token=0)},
        ]
        for number, whole in enumerate(wrong):
            with self.subTest(number):
                said = self.both(lambda client, whole=whole: client.transaction(**whole))  # type: ignore[misc]
                self.assertIsInstance(said, tuple, "it was carried out")
        self.assertEqual(self.node.store.revision, 8)

    def test_ranges(self) -> None:
        """Pages of every kind, and what follows on them, are the same, their tokens too."""
        self.fill()
        for name, parameters in ALL_READS.items():
            with self.subTest(name):
                page = self.both(lambda client, p=parameters: client.page(**p))  # type: ignore[misc]
                while page.next is not None:
                    page = self.both(
                        lambda client, p=parameters, t=page.next: client.page(**p, continue_from=t)  # type: ignore[misc]
                    )

    def test_counts_and_deletes(self) -> None:
        """Counts, deletes of ranges, and the iterators are the same."""
        self.fill()
        for call in (
            lambda client: client.count(),
            lambda client: client.count(prefix="p/"),
            lambda client: client.count(start="b", revision=3),
            lambda client: client.count(revision=99),
            lambda client: listed(client.range(prefix="p/", page_size=2)),
            lambda client: listed(client.keys(reverse=True, page_size=3)),
            lambda client: listed(client.pages(prefix="p/", delimiter="/", keys_only=True, page_size=2)),
            lambda client: listed(client.range(consistency="strong")),
            lambda client: client.delete_prefix("p/x/"),
            lambda client: client.delete_range(start="p/", end="p/2"),
            lambda client: client.delete_range(),
            lambda client: client.delete_prefix("", lock=Fence(name="l", token=1)),
            lambda client: client.delete_prefix(""),
            lambda client: client.delete_prefix(""),
        ):
            self.both(call)
        self.assertEqual(self.node.store.key_count, 0)

    def test_bad_ranges(self) -> None:
        """Questions about ranges that make no sense are refused alike."""
        self.fill()
        token = self.both(lambda client: client.page(limit=2)).next
        wrong: list[dict[str, Any]] = [
            {"prefix": "a", "start": "b"},
            {"limit": 0},
            {"end": ""},
            {"delimiter": ""},
            {"revision": 0},
            {"revision": 99},
            {"prefix": "k" * 4097},
            {"prefix": b"\xff"},
            {"consistency": "strong"},
            {"max_stale": 1},
            {"continue_from": "nonsense"},
            {"continue_from": "é€" * 2},
            {"continue_from": token, "prefix": "p/"},
            {"continue_from": token, "revision": 3},
            {"continue_from": token, "keys_only": True},
        ]
        for parameters in wrong:
            with self.subTest(str(parameters)[:40]):
                said = self.both(lambda client, p=parameters: client.page(**p))  # type: ignore[misc]
                self.assertIsInstance(said, tuple)

    def test_leases(self) -> None:
        """Leases are granted, kept alive, looked at, listed and revoked alike."""
        leases = [self.both(lambda client, ttl=ttl: client.grant_lease(ttl)) for ttl in (1, 2.5, 90)]  # type: ignore[misc]
        for number in range(5):
            self.both(lambda client, n=number: client.set(f"k{n}", "", lease=leases[1]))  # type: ignore[misc]
        for call in (
            lambda client: client.keep_alive(leases[0]),
            lambda client: client.keep_alive(99),
            lambda client: client.keep_alive(0),
            lambda client: client.lease_info(leases[1]),
            lambda client: client.lease_info(leases[1], limit=2),
            lambda client: client.lease_info(leases[1], limit=0),
            lambda client: client.lease_info(leases[1], limit=2501),
            lambda client: client.lease_info(99),
            lambda client: listed(client.leases()),
            lambda client: listed(client.leases(page_size=2)),
            lambda client: listed(client.leases(page_size=2501)),
            lambda client: client.revoke_lease(leases[1]),
            lambda client: client.revoke_lease(leases[1]),
            lambda client: client.grant_lease(0.5),
            lambda client: client.grant_lease(float("inf")),
            lambda client: client.grant_lease(1e300),
        ):
            self.both(call)
        self.assertEqual(self.node.store.digest(), self.other.store.digest())


class ModelTests(NativeTestCase):
    """What there is on this client alone."""

    def run_long(self, call: Deferred[Any]) -> Any:
        self.turns(300)
        return self.successResultOf(call)

    def test_pages_of_many_parts(self) -> None:
        """A page that no answer holds is put together from several, all of one moment."""
        total = 2 * MAX_LISTED_AT_ONCE + 500
        self.run_long(self.client.put_many([(f"k{number:05}", "v") for number in range(total)]))
        barrier, barriers = self.node.barrier, []

        def change(consistency: Any, done: Any, **bounds: Any) -> None:
            barriers.append(consistency)
            if len(barriers) == 2:
                self.node.write([commands.delete_range(b"k", b"l")], lambda _: None)
            barrier(consistency, done, **bounds)

        self.patch(self.node, "barrier", change)
        page = self.run_long(self.client.page())
        self.assertEqual(self.node.store.key_count, 0)
        # Steps of 400 records, three for each part, of which the first is as consistent as was asked for.
        self.assertEqual(barriers, ["linearizable", "stale", "stale"] * 2 + ["linearizable", "stale"])
        self.assertEqual((len(page.records), page.count, page.next), (total, total, None))
        self.assertEqual(page.keys, tuple(f"k{number:05}" for number in range(total)))
        part = self.run_long(self.client.page(limit=1500, revision=total))
        rest = self.run_long(self.client.page(continue_from=part.next))
        self.assertEqual((len(part.records), part.keys + rest.keys), (1500, page.keys))

    def test_large_values(self) -> None:
        """An answer ends before a message could not hold it, whatever the limit."""
        value = b"v" * 1024 * 1024
        for number in range(9):
            self.run_long(self.client.set(f"k{number}", value))
        page = self.run_long(self.client.page(limit=9))
        self.assertEqual([len(record.value) for record in page.records], [len(value)] * 9)

    def test_keys_of_a_lease(self) -> None:
        """The keys of a lease come in parts where they are many, and as many as were wanted."""
        lease = self.run_call(self.client.grant_lease(30))
        self.run_long(self.client.put_many([(f"k{number:05}", "v") for number in range(2100)], lease=lease))
        for limit, expected in ((None, 1000), (1001, 1001), (2500, 2100)):
            info = self.run_long(self.client.lease_info(lease, limit=limit))
            self.assertEqual((info.count, info.keys), (2100, tuple(f"k{n:05}" for n in range(expected))))
        self.assertEqual(self.run_long(self.client.revoke_lease(lease)).deleted, 2100)

    def test_put_many_on_no_lease(self) -> None:
        """A load of keys on a lease that is not there fails as a whole, with its own error."""
        error = self.error_of(self.client.put_many({"a": "1", "b": "2"}, lease=7), errors.LeaseNotFound)
        self.assertEqual(error.lease, 7)
        self.assertEqual(self.node.store.key_count, 0)

    def test_many_transactions(self) -> None:
        """Many transactions travel together, each atomic by itself; those that read travel alone."""
        made = [Transaction(success=[Put(f"k{number}", "v"), Delete("x")]) for number in range(600)]
        reading = Transaction(success=[Range(prefix="k5"), Transaction(success=[Get("k5")])])
        entries = self.node.applied
        results = self.run_long(self.client.transact_many([*made, reading, *made]))
        self.assertEqual([result.revision for result in results], [*range(1, 601), 600, *range(601, 1201)])
        self.assertEqual(results[600].results[1].results[0].text, "v")
        self.assertLess(self.node.applied - entries, 12)
        self.assertEqual(self.run_call(self.client.transact_many([])), [])
        self.error_of(self.client.transact_many([Transaction(success=[Put("", "")])]), errors.BadRequest)
        none = self.client.transact_many([[Put("a", "1")]])  # type: ignore[list-item]  # unchecked callers do
        self.assertIn("expected a Transaction, not list", str(self.failureResultOf(none, TypeError).value))
        fenced = self.client.transact_many(made, lock=Fence(name="l", token=1))
        self.turns(300)
        self.failureResultOf(fenced, errors.LockNotHeld)

    def test_too_large_to_send(self) -> None:
        """What no message can carry is refused here, and does not cost the connection."""
        self.run_call(self.client.set("a", "1"))
        value = "v" * 1024 * 1024
        self.error_of(self.client.transaction(success=[Put(f"k{n}", value) for n in range(9)]), errors.TooLarge)
        self.error_of(self.client.transaction(success=[Get("k")] * 1025), errors.BadRequest)
        self.assertEqual(len(self.network.wires), 1)
        self.assertEqual(len(self.network.open_to(A)), 1)


class FaultTests(NativeTestCase):
    """Lost answers, old nodes, answers that make no sense."""

    def lose_answer(self, call: Callable[[], Deferred[Any]]) -> Any:
        """Make a call whose first answer is lost with its connection."""
        self.run_call(self.client.get("k"))
        self.node.after_write = lambda: self.network.cut(A)
        outcome = call()
        self.clock.pump([0.1] * 10)
        self.turns()
        return outcome

    def test_transaction_exactly_once(self) -> None:
        """B63: a transaction whose answer is lost is repeated under its number, and gets what the first one did."""
        first = self.lose_answer(
            lambda: self.client.transaction(compare=[missing("k")], success=[Put("k", "v"), Get("k")])
        )
        result = self.successResultOf(first)
        self.assertEqual((result.succeeded, result.results[1].text), (True, "v"))
        self.assertEqual((self.node.applied, self.node.store.revision), (2, 1))

    def test_others_exactly_once(self) -> None:
        """B63: increments, deletes of ranges, grants and revocations are carried out once, however often they come."""
        self.assertEqual(self.successResultOf(self.lose_answer(lambda: self.client.increment("n", 5))).value, 5)
        deleted = self.successResultOf(self.lose_answer(lambda: self.client.delete_prefix("n")))
        self.assertEqual(deleted.deleted, 1)
        lease = self.successResultOf(self.lose_answer(lambda: self.client.grant_lease(9)))
        self.assertEqual(self.node.store.lease_count, 1)
        self.successResultOf(self.lose_answer(lambda: self.client.set("k", "v", lease=lease)))
        self.assertEqual(self.successResultOf(self.lose_answer(lambda: self.client.revoke_lease(lease))).deleted, 1)

    def test_answer_not_kept(self) -> None:
        """B63: a large answer that is lost is told as such: the transaction was carried out, at this revision."""
        self.run_call(self.client.set("large", "v" * 20_000))
        call = self.lose_answer(lambda: self.client.transaction(success=[Get("large"), Put("k", "1")]))
        error = self.failureResultOf(call, errors.AnswerNotKept).value
        self.assertEqual((error.outcome, error.revision), ("unknown", 2))
        self.assertEqual(self.run_call(self.client.get("k")), "1")

    def test_keepalive_is_sent_again(self) -> None:
        """A keepalive whose answer is lost is a new keepalive, without a number."""
        lease = self.run_call(self.client.grant_lease(9))
        call = self.lose_answer(lambda: self.client.keep_alive(lease))
        self.assertEqual(self.successResultOf(call), lease)
        # One session's write, and two of nobody's.
        self.assertEqual((self.node.applied, self.node.store.session_count), (3, 1))

    def test_lost_read(self) -> None:
        """A read that is lost with its connection is asked again."""
        self.run_call(self.client.set("k", "v"))
        call = self.client.page()
        self.network.cut(A)
        self.clock.pump([0.1] * 20)
        self.assertEqual(self.successResultOf(call).keys, ("k",))

    def test_lost_for_good(self) -> None:
        """Without any node a read ends as not applied, and a keepalive that was sent with an unknown outcome."""
        lease = self.run_call(self.client.grant_lease(9))
        self.node.after_write = lambda: self.network.kill(A)
        self.network.nodes.pop("b:8081")
        alive, read = self.client.keep_alive(lease), self.client.count()
        self.clock.pump([0.5] * 25)
        self.assertEqual(self.failureResultOf(alive, errors.RequestTimeout).value.outcome, "unknown")
        error = self.failureResultOf(read, errors.RequestTimeout).value
        self.assertEqual(error.outcome, "not_applied")
        self.assertNotIn("taken effect", str(error))

    def test_old_node(self) -> None:
        """A node that does not know these reads says so, and the client says what to do; the rest goes on."""
        self.network.old = {A}
        self.run_call(self.client.set("k", "v"))
        for call in (
            self.client.page(),
            self.client.count(),
            self.client.get("k", revision=1),
            self.client.lease_info(1),
            self.client.leases().__anext__(),
            self.client.range().__anext__(),
        ):
            error = self.error_of(call, errors.NotFound)
            self.assertIn("older version", str(error))
            self.assertEqual(error.outcome, "not_applied")
        self.assertEqual(self.run_call(self.client.transaction(success=[Get("k")])).results[0].text, "v")
        self.assertEqual(len(self.network.wires), 1)

    def test_cancel(self) -> None:
        """Cancelling a page of many parts asks for no more of them."""
        call = self.client.page()
        call.cancel()
        self.turns()
        self.failureResultOf(call)
        self.assertEqual(self.run_call(self.client.set("k", "v")), Written(revision=1))

    def test_nonsense(self) -> None:
        """Answers that make no sense are told as such, and for a write the outcome is unknown."""
        get = making.transaction(Transaction(success=[Get("k")]))
        reader = telling.TransactionReader(lambda: "c0")
        for command, answer, read in (
            (commands.put(b"k", b""), (0,), telling.written),
            (commands.put(b"k", b"", ttl_ms=9), (0, 1), telling.written_with_lease),
            (commands.increment(b"k", 1), (0, 1, b"1"), telling.counter),
            (commands.increment(b"k", 1), (1,), telling.counter),
            (commands.increment(b"k", 1), (99, 1), telling.counter),
            (commands.increment(b"k", 1), "no", telling.counter),
            (get, (0, 1, True, ()), reader.read),
            (get, (0, 1, 1, ((commands.GET, None),)), reader.read),
            (get, (0, 1, True, ((commands.PUT,),)), reader.read),
            (get, (0, 1, True, ((commands.GET, (b"", 1)),)), reader.read),
            (get, (0, 1, True, ((commands.GET, b""),)), reader.read),
        ):
            with self.subTest(str(answer)):
                error = self.assertRaises(UnexpectedAnswer, read, command, answer, None)
                self.assertEqual(error.outcome, "unknown")
        page = {"items": (), "folders": (), "count": 0, "revision": 0, "continue": None}
        self.assertEqual(telling.page(page).keys, ())
        for wrong in (
            {"items": None},
            {"items": ((b"k",),)},
            {"items": ((b"k", None),)},
            {"folders": (1,)},
            {"count": "1"},
        ):
            with self.subTest(str(wrong)):
                error = self.assertRaises(UnexpectedAnswer, telling.page, {**page, **wrong})
                self.assertEqual(error.outcome, "not_applied")
        self.assertRaises(UnexpectedAnswer, telling.count, None)
        self.assertRaises(UnexpectedAnswer, telling.lease_page, {"leases": ((1, 2),), "count": 1})


def listed(iterator: Any) -> Deferred[list[Any]]:
    """Collect what an iterator gives."""

    async def collect() -> list[Any]:
        return [item async for item in iterator]

    return Deferred.fromCoroutine(collect())
