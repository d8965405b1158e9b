"""Transactions: one revision or nothing, as in etcd; counters; exactly once."""

from __future__ import annotations

from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    ANSWER_NOT_KEPT,
    ANSWER_TOO_LARGE,
    COUNT_ONLY,
    DELETE,
    DELETE_RANGE,
    EQUAL,
    GET,
    GREATER,
    KEYS_ONLY,
    LEASE_NOT_FOUND,
    LESS,
    MAX_RANGE_BYTES,
    NOT_A_NUMBER,
    NOT_EQUAL,
    OK,
    OUT_OF_RANGE,
    PUT,
    RANGE,
    REVERSE,
    SEQUENCE_REUSED,
    TARGET_LEASE,
    TARGET_MOD_REVISION,
    TARGET_VALUE,
    TARGET_VERSION,
    TRANSACTION_REFUSED,
    TXN,
    compare,
    delete,
    delete_range,
    get,
    grant,
    in_session,
    increment,
    put,
    range_of,
    transaction,
)
from tests.kvstore.helpers import apply, restore, snapshot


class TransactionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        apply(self.store, put(b"a", b"1"), put(b"p/1", b"x"), put(b"p/2", b"y"))

    def holds(self, *conditions: Any) -> bool:
        ((status, _, succeeded, _),) = apply(self.store, transaction(conditions, []))
        self.assertEqual(status, OK)
        return bool(succeeded)

    def test_answers_are_bounded(self) -> None:
        """What a transaction reads fits into a message; more undoes everything, also what nested ones have read."""
        apply(self.store, *(put(b"v/%d" % n, b"x" * 1024 * 1024) for n in range(4)))
        digest = self.store.digest()
        three = [get(b"v/%d" % n) for n in range(3)]
        ((status, *_),) = apply(self.store, transaction([], [put(b"new", b""), *three, get(b"none")]))
        self.assertEqual(status, OK)
        apply(self.store, delete(b"new"))
        digest = self.store.digest()
        for more in (get(b"v/3"), range_of(b"v/", b"", 9), transaction([], [get(b"v/3")]), get(b"v/3", 7)):
            answer = apply(self.store, transaction([], [put(b"new", b""), *three, more]))
            self.assertEqual((more, answer), (more, [(ANSWER_TOO_LARGE,)]))
            self.assertEqual(self.store.digest(), digest)
        ((status, *_),) = apply(self.store, transaction([], [*three, range_of(b"v/", b"", 9, KEYS_ONLY)]))
        self.assertEqual(status, OK)

    def test_one_revision(self) -> None:
        """All writes share one revision, reads see the writes before them, and results come in order."""
        command = transaction(
            [compare(TARGET_VALUE, EQUAL, b"a", b"1")],
            [
                get(b"b"),
                put(b"b", b"2"),
                get(b"b"),
                delete(b"a"),
                delete(b"none"),
                delete_range(b"p/", b"p0"),
                range_of(b"", b"", 9),
            ],
        )
        (answer,) = apply(self.store, command)
        new = (b"2", 4, 4, 1, 0)
        results = (
            *((GET, None), (PUT,), (GET, new), (DELETE, True), (DELETE, False), (DELETE_RANGE, 2)),
            (RANGE, ((b"b", new),), 1, None),
        )
        self.assertEqual(answer, (OK, 4, True, results))
        self.assertEqual(len(self.store.changes(4, 1)[0][1]), 4)

    def test_no_change_no_revision(self) -> None:
        """A transaction that changes nothing takes no revision."""
        (answer,) = apply(self.store, transaction([], [get(b"a"), delete(b"none")]))
        self.assertEqual((answer[:3], self.store.revision), ((OK, 3, True), 3))

    def test_failure(self) -> None:
        """Where a condition does not hold, the other list runs."""
        command = transaction([compare(TARGET_VERSION, EQUAL, b"a", 0)], [put(b"a", b"x")], [put(b"a", b"y")])
        self.assertEqual(apply(self.store, command), [(OK, 4, False, ((PUT,),))])
        self.assertEqual(self.store.get(b"a"), (b"y", 1, 4, 2, 0))

    def test_absent_keys(self) -> None:
        """A key that is not there has numbers 0 and the value None, which is only equal to None."""
        self.assertTrue(self.holds(compare(TARGET_VERSION, EQUAL, b"none", 0)))
        self.assertTrue(self.holds(compare(TARGET_MOD_REVISION, LESS, b"none", 1)))
        self.assertTrue(self.holds(compare(TARGET_VALUE, EQUAL, b"none", None)))
        self.assertTrue(self.holds(compare(TARGET_VALUE, NOT_EQUAL, b"none", b"")))
        self.assertTrue(self.holds(compare(TARGET_VALUE, NOT_EQUAL, b"a", None)))
        for operator in (LESS, GREATER):
            self.assertFalse(self.holds(compare(TARGET_VALUE, operator, b"none", b"")))
            self.assertFalse(self.holds(compare(TARGET_VALUE, operator, b"a", None)))

    def test_operators(self) -> None:
        """The four operators compare values as bytes and numbers as numbers."""
        for operator, truths in ((EQUAL, "010"), (NOT_EQUAL, "101"), (LESS, "001"), (GREATER, "100")):
            found = [self.holds(compare(TARGET_VALUE, operator, b"p/1", operand)) for operand in (b"w", b"x", b"y")]
            self.assertEqual("".join("01"[truth] for truth in found), truths)
            found = [self.holds(compare(TARGET_MOD_REVISION, operator, b"p/1", operand)) for operand in (1, 2, 10)]
            self.assertEqual("".join("01"[truth] for truth in found), truths)

    def test_prefixes(self) -> None:
        """A condition on a range must hold for every key in it, and holds for none."""
        self.assertTrue(self.holds(compare(TARGET_VERSION, EQUAL, b"p/", 1, end=b"p0")))
        self.assertFalse(self.holds(compare(TARGET_VALUE, EQUAL, b"p/", b"x", end=b"p0")))
        self.assertTrue(self.holds(compare(TARGET_VALUE, EQUAL, b"q/", b"x", end=b"q0")))
        self.assertFalse(self.holds(compare(TARGET_LEASE, EQUAL, b"a", 7), compare(TARGET_VERSION, EQUAL, b"a", 1)))

    def test_nested(self) -> None:
        """Nested transactions see what came before them, share the revision, and nest their results."""
        inner = transaction([compare(TARGET_VALUE, EQUAL, b"a", b"2")], [put(b"b", b"3")], [put(b"b", b"4")])
        (answer,) = apply(self.store, transaction([], [put(b"a", b"2"), inner, get(b"b")]))
        self.assertEqual(answer, (OK, 4, True, ((PUT,), (TXN, True, ((PUT,),)), (GET, (b"3", 4, 4, 1, 0)))))

    def test_ranges(self) -> None:
        """A range has its limit, the count of all, the way back, keys alone or the count alone, also of the past."""
        reads = [
            range_of(b"p/", b"p0", 1),
            range_of(b"p/", b"p0", 1, REVERSE),
            range_of(b"p/", b"p0", 9, KEYS_ONLY),
            range_of(b"p/", b"p0", 9, COUNT_ONLY),
            range_of(b"", b"", 9, 0, 1),
        ]
        ((_, _, _, results),) = apply(self.store, transaction([], [delete(b"a"), *reads]))
        one, two = (b"p/1", (b"x", 2, 2, 1, 0)), (b"p/2", (b"y", 3, 3, 1, 0))
        self.assertEqual(
            results[1:],
            (
                (RANGE, (one,), 2, b"p/2"),
                (RANGE, (two,), 2, b"p/2"),
                (RANGE, ((b"p/1", (b"", 2, 2, 1, 0)), (b"p/2", (b"", 3, 3, 1, 0))), 2, None),
                (RANGE, (), 2, None),
                (RANGE, ((b"a", (b"1", 1, 1, 1, 0)),), 1, None),
            ),
        )

    def test_range_delete(self) -> None:
        """A range is deleted in one revision, its end not included; one without an end reaches to the last key."""
        self.assertEqual(
            apply(self.store, delete_range(b"a", b"p/2"), delete_range(b"a", b"p/2")), [(OK, 4, 2), (OK, 4, 0)]
        )
        self.assertEqual([key for key, _ in self.store.scan(b"", None, 9)], [b"p/2"])
        self.assertEqual(apply(self.store, put(b"z", b""), delete_range(b"p/3", b"")), [(OK, 5), (OK, 6, 1)])

    def test_large_range(self) -> None:
        """B70: a range ends early once it is large, however many keys may follow: an answer has to fit somewhere."""
        large = b"v" * (MAX_RANGE_BYTES // 2)
        apply(self.store, *(put(b"q/%d" % number, large) for number in range(4)))
        reads = [range_of(b"q/", b"q0", 9), range_of(b"q/", b"q0", 9, REVERSE), range_of(b"q/2", b"q0", 9)]
        ((_, _, _, results),) = apply(self.store, transaction([], reads))
        shown = [([key for key, _ in found], count, following) for _, found, count, following in results]
        self.assertEqual(
            shown, [([b"q/0", b"q/1"], 4, b"q/2"), ([b"q/3", b"q/2"], 4, b"q/2"), ([b"q/2", b"q/3"], 2, None)]
        )

    def test_all_or_nothing(self) -> None:
        """A transaction that cannot be carried out to its end leaves nothing behind, not even in the digest."""
        apply(self.store, grant(1000), put(b"l", b"", lease=1), put(b"t", b"", ttl_ms=1000), delete(b"p/2"))
        before = (self.store.digest(), snapshot(self.store)[1:])
        for last in (put(b"z", b"", lease=99), get(b"a", 1000), put(b"a", b"again")):
            operations = [
                put(b"a", b"9"),
                delete(b"l"),
                delete(b"t"),
                put(b"p/2", b"back"),
                put(b"m", b"", lease=1),
                last,
            ]
            ((status, *_),) = apply(self.store, transaction([], [delete_range(b"p/", b"p0"), *operations]))
            self.assertNotEqual(status, OK)
            after = snapshot(self.store)[1:]
            self.assertEqual((self.store.digest(), after[:-1]), (before[0], before[1][:-1]))
        self.assertEqual(apply(self.store, put(b"l", b"", lease=99)), [(LEASE_NOT_FOUND, 99)])

    def test_written_twice(self) -> None:
        """Two writes of one key, which nothing that checks commands lets in, are refused rather than carried out."""
        for twice in ([put(b"a", b""), delete(b"a")], [delete_range(b"p/", b"p0"), put(b"p/1", b"")]):
            self.assertEqual(apply(self.store, transaction([], twice)), [(TRANSACTION_REFUSED,)])
        self.assertEqual(self.store.revision, 3)


class CounterTests(SynchronousTestCase):
    def test_counting(self) -> None:
        """A counter begins at 0 where there is no key, goes both ways, and is written as a decimal number."""
        store = Store()
        self.assertEqual(apply(store, increment(b"n", 5), increment(b"n", -7)), [(OK, 1, 5), (OK, 2, -2)])
        self.assertEqual(store.get(b"n"), (b"-2", 1, 2, 2, 0))

    def test_keeps_the_lease(self) -> None:
        """Counting does not take a key off its lease."""
        store = Store()
        apply(store, put(b"n", b"1", ttl_ms=1000), increment(b"n", 1))
        self.assertEqual((store.get(b"n"), store.lease_count), ((b"2", 1, 2, 2, 1), 1))

    def test_no_number(self) -> None:
        """What is no decimal number, or would not be one of 64 bits, stays as it is."""
        store = Store()
        for value in (b"", b"-", b"x", b" 1", b"1_0", b"+1", b"1.0", b"\xd9\xa1", b"9" * 30):
            self.assertEqual(apply(store, put(b"n", value), increment(b"n", 1))[1], (NOT_A_NUMBER,), value)
        apply(store, put(b"n", b"%d" % (2**63 - 1)), put(b"m", b"%d" % -(2**63)))
        self.assertEqual(apply(store, increment(b"n", 1), increment(b"m", -1)), [(OUT_OF_RANGE,)] * 2)


class ExactlyOnceTests(SynchronousTestCase):
    def test_repeats(self) -> None:
        """B63: a repeated transaction or increment is not carried out again, also after a snapshot."""
        store = Store()
        commands = [in_session(b"c", 1, increment(b"n", 1)), in_session(b"c", 2, transaction([], [put(b"a", b"")]))]
        answers = apply(store, *commands)
        for each in (store, restore(snapshot(store))):
            self.assertEqual((apply(each, *commands), each.revision), (answers, 2))
            self.assertEqual(apply(each, in_session(b"c", 1, increment(b"n", 2))), [(SEQUENCE_REUSED,)])

    def test_large_answers(self) -> None:
        """An answer too large to be kept is told once; its repeat is told that it was carried out, and at which
        revision."""
        store = Store()
        apply(store, put(b"large", b"x" * 20_000))
        command = in_session(b"c", 1, transaction([], [put(b"a", b""), get(b"large")]))
        self.assertEqual(apply(store, command)[0][:3], (OK, 2, True))
        self.assertEqual((apply(store, command), store.revision), ([(ANSWER_NOT_KEPT, 2)], 2))
