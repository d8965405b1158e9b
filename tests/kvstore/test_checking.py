"""What is let into the log: every command that the state machine knows, and nothing malformed."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import BadRequest, RaftKVError, TooLarge
from raftkv.kvstore import Store, checking
from raftkv.kvstore.checking import CommandChecker, CommandLimits, size_of
from raftkv.kvstore.commands import (
    Command,
    compact,
    compare,
    delete,
    delete_range,
    fenced,
    get,
    grant,
    increment,
    keepalive,
    lock,
    pack_batch,
    put,
    range_of,
    revoke,
    transaction,
    unlock,
)
from raftkv.kvstore.overlaps import writes_of
from tests.kvstore.test_stateful import FENCED, PLAIN

SETTINGS = settings(derandomize=True, database=None, deadline=None, max_examples=300)
LIMITS = CommandLimits(
    max_key_bytes=8,
    max_value_bytes=20,
    max_transaction_operations=4,
    max_transaction_bytes=50,
    min_lease_ttl_seconds=0.001,
    max_lease_ttl_seconds=5,
    max_lock_wait_seconds=60,
)
ODD = st.one_of(st.none(), st.booleans(), st.floats(), st.text(), st.just(()), st.just(-9), st.just(2**70), st.just({}))


class CheckingTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.checker = CommandChecker(LIMITS)

    def refuse(self, command: Any, word: str, error: type[RaftKVError] = BadRequest) -> None:
        self.assertIn(word, str(self.assertRaises(error, self.checker.check, command)))

    def test_sizes(self) -> None:
        """A command is let in, and the bytes of its keys and values are counted."""
        for command, size in (
            (put(b"key", b"value"), 8),
            (put(b"key", b"", lease=3), 3),
            (put(b"key", b"", ttl_ms=1), 3),
            (delete(b"key", 4), 3),
            (delete_range(b"", b""), 0),
            (increment(b"key", -(2**63)), 3),
            (compact(1), 0),
            (grant(5000), 0),
            (keepalive(1), 0),
            (revoke(1), 0),
            (lock(b"name", ttl_ms=1, wait_ms=60_000, key=b"k", value=b"v"), 6),
            (unlock(b"name"), 4),
            (fenced(b"name", 1, put(b"k", b"v")), 6),
            (transaction([compare(0, 0, b"k", b"v")], [put(b"k", b"v")], [get(b"k"), range_of(b"a", b"b", 1)]), 7),
        ):
            self.assertEqual((self.checker.check(command), size_of(command)), (size, size), command)

    def test_fields_are_named(self) -> None:
        """What is wrong is said with the name of the field."""
        for command, word in (
            (None, "shape"),
            ((1,), "shape"),
            ((1, 1, b"k", b"v"), "namespace"),
            ((1, 0, b"k", b"v", -1, 0, 1, 1), "shape"),
            (put(b"", b""), "key"),
            (put(b"\xff", b""), "UTF-8"),
            ((1, 0, b"k", b"v", -1, -2), "lease"),
            ((1, 0, b"k", b"v", -1, 1, 1), "lease"),
            (put(b"k", b"", ttl_ms=5001), "ttl"),
            (grant(0), "ttl"),
            (keepalive(0), "lease"),
            (compact(0), "revision"),
            (increment(b"k", 2**63), "by"),
            (lock(b"", ttl_ms=1), "name"),
            (lock(b"l"), "ttl"),
            (lock(b"l", ttl_ms=1, lease=1), "ttl"),
            (lock(b"l", ttl_ms=1, wait_ms=60_001), "wait"),
            (lock(b"l", ttl_ms=1, key=b"k", value=b"v")[:7], "value"),
            (unlock(b"l", token=-1), "token"),
            (fenced(b"l", 0, put(b"k", b"")), "token"),
            (fenced(b"l", 1, fenced(b"l", 1, put(b"k", b""))), "one lock"),
            ((8, 0, 1, (), ()), "compare"),
            (transaction([], [put(b"k", b"", 3)]), "condition"),
            (transaction([], [put(b"k", b"", ttl_ms=1)]), "condition"),
            (transaction([], [increment(b"k", 1)]), "op"),
            (transaction([], [delete(b"k", 3)]), "op"),
            (transaction([], [get(b"k", -1)]), "revision"),
            (transaction([], [range_of(b"", b"", 0)]), "limit"),
            (transaction([], [range_of(b"", b"", 1001)]), "limit"),
            (transaction([], [range_of(b"", b"", 1, 8)]), "flags"),
            (transaction([(5, 0, b"k", None, 0)], []), "target"),
            (transaction([(1, 4, b"k", None, 0)], []), "op"),
            (transaction([(1, 0, b"k", None, b"x")], []), "value"),
            (transaction([(0, 0, b"k", None, 0)], []), "value"),
            (transaction([compare(1, 0, b"k", 0)] * 5, []), "limits.maxTransactionOperations"),
            (transaction([], [get(b"k")] * 2, [transaction([], [get(b"k")] * 2)]), "limits.maxTransactionOperations"),
        ):
            self.refuse(command, word)
        self.refuse(put(b"k" * 9, b""), "9 bytes", TooLarge)
        self.refuse(put(b"k", b"v" * 21), "21 bytes", TooLarge)
        self.refuse(transaction([], [put(b"%d" % n, b"v" * 20) for n in range(3)]), "63 bytes", TooLarge)

    def test_depth(self) -> None:
        """Transactions stand in one another only so deep."""
        self.patch(self.checker, "limits", CommandLimits())
        command = transaction([], [])
        for _ in range(7):
            command = transaction([], [command])
        self.checker.check(command)
        self.refuse(transaction([], [command]), "one another")

    @SETTINGS
    @given(PLAIN | FENCED)
    def test_what_is_let_in_can_be_applied(self, command: Command) -> None:
        """Whatever passes the check is carried out or refused by the state machine, and never stops a node."""
        try:
            self.checker.check(command)
        except (BadRequest, TooLarge):
            return
        Store().apply(1, pack_batch(0, 0, [command]))

    @SETTINGS
    @given(PLAIN | FENCED, st.lists(st.integers(0, 6), max_size=4), ODD)
    def test_what_is_twisted_is_let_in_only_if_it_can_be_applied(
        self, command: Command, path: list[int], odd: Any
    ) -> None:
        """A command with something odd at any place is refused at the door, unless the state machine can take it."""
        twisted = replaced(command, path, odd)
        try:
            self.checker.check(twisted)
        except (BadRequest, TooLarge):
            return
        Store().apply(1, pack_batch(0, 0, [twisted]))

    def test_what_is_cut_is_let_in_only_if_it_can_be_applied(self) -> None:
        """A command that ends early, or a part of one, is refused at the door, unless the state machine can take it."""
        let_in = 0
        operations = [(1, 0, b"a", b"v", -1, 1), get(b"b", 1), delete(b"c"), range_of(b"a", b"b", 1, 1, 1)]
        for command in (
            put(b"k", b"v", 0, ttl_ms=1000),
            put(b"k", b"v", 0, lease=1),
            delete(b"k", 1),
            (7, 0, b"a", b"b"),
            increment(b"k", 1),
            transaction([compare(0, 0, b"k", b"v", end=b"l")], operations, [transaction([], [delete(b"d")])]),
            compact(1),
            grant(1000),
            keepalive(1),
            revoke(1),
            lock(b"l", ttl_ms=1000, wait_ms=1, key=b"k", value=b"v"),
            unlock(b"l", token=1, ticket=1),
            fenced(b"l", 1, put(b"k", b"v", 0, ttl_ms=1000)),
        ):
            for cut in cuts(command):
                try:
                    self.checker.check(cut)
                except BadRequest:
                    continue
                let_in += 1
                Store().apply(1, pack_batch(0, 0, [cut]))
        self.assertGreater(let_in, 20)


def cuts(thing: Any) -> list[Any]:
    """Return what is left of a nested tuple that ends early, it or a tuple in it; itself comes last."""
    inner = [
        (*thing[:at], cut, *thing[at + 1 :])
        for at, part in enumerate(thing)
        if type(part) is tuple
        for cut in cuts(part)
    ]
    return inner + [thing[:length] for length in range(len(thing) + 1)]


def replaced(thing: Any, path: list[int], odd: Any) -> Any:
    """Return a nested tuple with the element at a path replaced, as far down as there is one."""
    if not path or type(thing) is not tuple or not thing:
        return odd
    at = path[0] % len(thing)
    return (*thing[:at], replaced(thing[at], path[1:], odd), *thing[at + 1 :])


NAMES = st.sampled_from([b"a", b"b", b"c", b"d"])
RANGES = st.tuples(st.sampled_from([b"", b"a", b"b", b"c"]), st.sampled_from([b"", b"b", b"c", b"d"]))
WRITES = st.builds(put, NAMES, st.just(b"")) | st.builds(delete, NAMES) | st.builds(lambda r: delete_range(*r), RANGES)
NESTED = st.recursive(
    WRITES | st.builds(get, NAMES),
    lambda inner: st.builds(
        lambda s, f: transaction([], s, f), st.lists(inner, max_size=3), st.lists(inner, max_size=3)
    ),
    max_leaves=6,
)


class OverlapTests(SynchronousTestCase):
    @SETTINGS
    @given(st.builds(lambda operations: transaction([], operations), st.lists(NESTED, max_size=4)))
    def test_against_the_keys_themselves(self, command: Command) -> None:
        """A transaction is refused exactly where two operations of one list write the same key."""
        try:
            writes_of(command)
        except BadRequest:
            self.assertTrue(twice(command))
        else:
            self.assertFalse(twice(command))

    def test_branches(self) -> None:
        """The two lists of one transaction may write the same key, what stands beside them may not."""
        inner = transaction([], [put(b"a", b"")], [put(b"a", b"")])
        writes_of(transaction([], [inner, put(b"b", b"")]))
        for other in (put(b"a", b""), delete(b"a"), delete_range(b"", b"b"), inner):
            self.assertRaises(BadRequest, writes_of, transaction([], [inner, other]))
        self.assertRaises(BadRequest, checking.CommandChecker(LIMITS).check, transaction([], [delete(b"a")] * 2))


UNIVERSE = [b"", b"a", b"a0", b"b", b"c", b"c\x00", b"d", b"e"]


def written(operation: Command) -> set[bytes]:
    """Return the keys, of a small universe, that an operation may write."""
    match operation:
        case (1 | 2, 0, key, *_):
            return {key}
        case (7, 0, start, end):
            return {key for key in UNIVERSE if key >= start and (not end or key < end)}
        case (8, 0, _, success, failure):
            return set().union(*map(written, (*success, *failure)))
    return set()


def twice(operation: Command) -> bool:
    """Tell whether some list in an operation writes a key twice."""
    if operation[0] != 8:
        return False
    for operations in operation[3:5]:
        keys = [key for each in operations for key in written(each)]
        if len(keys) != len(set(keys)) or any(map(twice, operations)):
            return True
    return False
