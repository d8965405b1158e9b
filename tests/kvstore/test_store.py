"""Revisions, conditions, the log's index and time, and what a malformed entry does."""

from __future__ import annotations

import msgpack
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    ABSENT,
    EXISTS,
    OK,
    PRECONDITION_FAILED,
    Command,
    delete,
    expire_sessions,
    in_session,
    pack_batch,
    put,
    transaction,
)
from tests.kvstore.helpers import apply


class RevisionTests(SynchronousTestCase):
    def test_empty(self) -> None:
        """A new store is at revision 0 and holds nothing."""
        store = Store()
        self.assertEqual((store.revision, store.key_count, store.applied_index, store.get(b"a")), (0, 0, 0, None))

    def test_create_and_overwrite(self) -> None:
        """Each put takes the next revision; the version counts the writes of one life of the key."""
        store = Store()
        answers = apply(store, put(b"a", b"1"), put(b"b", b"2"), put(b"a", b"1"))
        self.assertEqual(answers, [(OK, 1), (OK, 2), (OK, 3)])
        self.assertEqual(store.get(b"a"), (b"1", 1, 3, 2, 0))
        self.assertEqual(store.get(b"b"), (b"2", 2, 2, 1, 0))

    def test_life_ends_with_delete(self) -> None:
        """After a delete a key starts again at version 1 with a new create revision."""
        store = Store()
        answers = apply(store, put(b"a", b"1"), put(b"a", b"2"), delete(b"a"), put(b"a", b"3"))
        self.assertEqual(answers[2], (OK, 3, True))
        self.assertEqual(store.get(b"a"), (b"3", 4, 4, 1, 0))

    def test_delete_of_nothing(self) -> None:
        """A delete that finds nothing takes no revision and answers the current one."""
        store = Store()
        self.assertEqual(apply(store, put(b"a", b"1"), delete(b"b")), [(OK, 1), (OK, 1, False)])
        self.assertEqual(store.revision, 1)

    def test_records_are_exact_tuples(self) -> None:
        """Records are plain tuples of immutable things, live or restored, so that the garbage collector skips them."""
        store = Store()
        apply(store, put(b"a", b"1"), put(b"a", b"2"))
        self.assertIs(type(store.get(b"a")), tuple)


class ConditionTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        apply(self.store, put(b"a", b"1"), put(b"a", b"2"))

    def test_mod_revision(self) -> None:
        """A write with a mod revision succeeds at exactly that one, and else answers the key's."""
        self.assertEqual(apply(self.store, put(b"a", b"x", 1), delete(b"a", 1)), [(PRECONDITION_FAILED, 2)] * 2)
        self.assertEqual(apply(self.store, put(b"a", b"x", 2), delete(b"a", 3)), [(OK, 3), (OK, 4, True)])

    def test_mod_revision_without_key(self) -> None:
        """Where there is no key, no mod revision matches and the answer says 0."""
        answers = apply(self.store, put(b"b", b"x", 2), delete(b"b", 2), delete(b"b", EXISTS), put(b"b", b"x", EXISTS))
        self.assertEqual(answers, [(PRECONDITION_FAILED, 0)] * 4)

    def test_absent(self) -> None:
        """A put that wants no key creates one, and fails where there is one."""
        self.assertEqual(apply(self.store, put(b"a", b"x", ABSENT)), [(PRECONDITION_FAILED, 2)])
        self.assertEqual(apply(self.store, put(b"b", b"x", ABSENT)), [(OK, 3)])

    def test_exists(self) -> None:
        """A write that wants the key succeeds at any mod revision."""
        self.assertEqual(apply(self.store, put(b"a", b"x", EXISTS), delete(b"a", EXISTS)), [(OK, 3), (OK, 4, True)])

    def test_failure_changes_nothing(self) -> None:
        """B38: a condition that fails leaves state, revision and digest as they were; its entry counts as applied."""
        before = (self.store.digest(), self.store.revision, self.store.get(b"a"))
        index = self.store.applied_index
        apply(self.store, put(b"a", b"x", 1), put(b"a", b"x", ABSENT), delete(b"a", 1), delete(b"b", EXISTS))
        self.assertEqual((self.store.digest(), self.store.revision, self.store.get(b"a")), before)
        self.assertEqual(self.store.applied_index, index + 1)


class LogTests(SynchronousTestCase):
    def test_double_apply(self) -> None:
        """B39: an entry that the state already includes is never applied again, but stops the node."""
        store = Store()
        payload = pack_batch(0, 0, [put(b"a", b"1")])
        store.apply(5, payload)
        for index in (5, 4):
            self.assertRaises(InvariantViolation, store.apply, index, payload)
            self.assertRaises(InvariantViolation, store.skip, index)
        self.assertEqual((store.applied_index, store.revision), (5, 1))

    def test_skip(self) -> None:
        """An entry without commands moves the applied index and nothing else."""
        store = Store()
        digest = store.digest()
        store.skip(3)
        self.assertEqual((store.applied_index, store.revision, store.digest()), (3, 0, digest))

    def test_cluster_time_never_goes_back(self) -> None:
        """Cluster time is the largest of all entries, whatever a later leader's clock said."""
        store = Store()
        for at_ms, expected in ((100, 100), (50, 100), (101, 101)):
            apply(store, at_ms=at_ms)
            self.assertEqual(store.cluster_time_ms, expected)


def nested(depth: int) -> Command:
    """Return transactions in one another."""
    command = transaction([], [])
    for _ in range(depth - 1):
        command = transaction([], [command])
    return command


class MalformedTests(SynchronousTestCase):
    def refuse(self, payload: bytes) -> None:
        store = Store()
        with self.assertRaises(InvariantViolation):
            store.apply(1, payload)
        self.assertEqual(store.applied_index, 0)

    def test_payload(self) -> None:
        """A payload that is no batch of a known format version stops the node rather than being skipped."""
        batches: tuple[object, ...] = (
            (1, 0, 0, ()),
            (3, 0, 0, ()),
            (2, 0, 0),
            (2, 0, 0, (), 0),
            (2, "0", 0, ()),
            (2, 0, 0, 7),
            (),
            7,
            {1: 0},
            (2, 0, 0, {}),
        )
        for batch in batches:
            self.refuse(msgpack.packb(batch))
        whole = pack_batch(0, 0, [put(b"a", b"1")])
        for payload in (b"", whole[:-1], whole + b"\n", b"\xc1", b"\xdf\xff\xff\xff\xff", msgpack.packb((2, b"x" * 9))):
            self.refuse(payload)

    def test_timestamp(self) -> None:
        """Extension types are no part of the format."""
        self.refuse(msgpack.packb((2, 0, 0, ((1, 0, b"k", msgpack.Timestamp(1)),))))

    def test_command(self) -> None:
        """A command that is unknown or malformed stops the node rather than being skipped."""
        session = in_session(b"c", 0, put(b"a", b"1"))
        commands = (
            7,
            (),
            (99,),
            (None,),
            ("put", 0, b"a", b"1"),
            (1, 0, b"a"),
            (1, 0, b"a", b"1", -1, "1"),
            (1, 0, b"a", b"1", -1, 1, 1),
            (1, 0, b"a", b"1", -1, 0, 0),
            (1, 0, b"a", "1", -1, 0, 1),
            (1, 1, b"a", b"1", -1, 0, 1),
            (1, 1, b"a", b"1"),
            (1, 0, "a", b"1"),
            (1, 0, b"a", "1"),
            (1, 0, b"a", None),
            (1, 0, b"a", b"1", -3),
            (1, 0, b"a", b"1", None),
            (1, 0, "a", b"1", EXISTS),
            (2, 0),
            (2, 1, b"a"),
            (2, 0, "a"),
            (2, 0, b"a", -3),
            (2, 0, b"a", 1, 1),
            (3, b"c", 0, b"12345678"),
            (3, "c", 0, b"12345678", put(b"a", b"1")),
            (3, b"c", -1, b"12345678", put(b"a", b"1")),
            (3, b"c", 0, b"1234567", put(b"a", b"1")),
            (3, b"c", 0, "12345678", put(b"a", b"1")),
            (3, b"c", 0, b"12345678", session),
            (3, b"c", 0, b"12345678", expire_sessions(1)),
            (3, b"c", 0, b"12345678", ()),
            (4,),
            (4, "1"),
            (5, 0, b"a"),
            (6, 0, b"a", b"b", 1, 0),
            (7, 1, b"a", b"b"),
            (7, 0, b"a", None),
            (8, 0, (), ()),
            (8, 1, (), (), ()),
            (8, 0, ((5, 0, b"a", None, b""),), (), ()),
            (8, 0, ((0, 4, b"a", None, b""),), (), ()),
            (8, 0, ((0, 0, b"a"),), (), ()),
            (8, 0, (), ((99, 0),), ()),
            (8, 0, (), ((1, 1, b"a", b""),), ()),
            (8, 0, (), ((1, 0, b"a", b"", 1),), ()),
            (8, 0, (), ((1, 0, b"a", b"", -1, 0, 9),), ()),
            (8, 0, (), ((9, 0, b"a", 1),), ()),
            nested(17),
            (9, 0, b"a", "1"),
            (9, 0, "a", 1),
            (9, 1, b"a", 1),
            (10, 0, 0),
            (10, 1, 1),
            (11, 0, 0),
            (11, 1, 1),
            (12, 1, 1),
            (13, 1, 1),
            (14, 0),
            (14, "1"),
            (15, 0, b"l", 0, 0, 0),
            (15, 0, b"l", 1, 1, 0),
            (15, 0, b"l", 0, 1, -1),
            (15, 0, "l", 0, 1, 0),
            (15, 1, b"l", 0, 1, 0),
            (16, 0, b"l", -1, 0),
            (16, 1, b"l", 0, 0),
            (17, 0, b"l", "1", put(b"a", b"1")),
            (17, 1, b"l", 1, put(b"a", b"1")),
            (17, 0, b"l", 1, (17, 0, b"l", 1, put(b"a", b"1"))),
        )
        for command in commands:
            self.refuse(pack_batch(0, 0, [command]))  # type: ignore[list-item]  # that is the point


class ScanTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.store = Store()
        apply(self.store, *(put(key, key.upper()) for key in (b"d", b"a", b"c", b"b", b"a/1")))

    def keys(self, start: bytes, end: bytes | None, limit: int = 100) -> list[bytes]:
        return [key for key, _ in self.store.scan(start, end, limit)]

    def test_order_and_bounds(self) -> None:
        """A scan yields start inclusive, end exclusive, in the order of bytes, up to the limit."""
        self.assertEqual(self.keys(b"", None), [b"a", b"a/1", b"b", b"c", b"d"])
        self.assertEqual(self.keys(b"a/1", b"c"), [b"a/1", b"b"])
        self.assertEqual(self.keys(b"aa", None, 2), [b"b", b"c"])
        self.assertEqual(self.keys(b"c", b"b"), [])
        self.assertEqual((self.keys(b"", None, 0), self.keys(b"", None, -1)), ([], []))

    def test_count(self) -> None:
        """The count is that of the whole range."""
        self.assertEqual(
            [self.store.count(*bounds) for bounds in ((b"", None), (b"a/1", b"c"), (b"c", b"b"), (b"x", None))],
            [5, 2, 0, 0],
        )

    def test_records(self) -> None:
        """A scan yields the records that get returns."""
        for key, record in self.store.scan(b"", None, 10):
            self.assertEqual(record, self.store.get(key))

    def test_writes_in_between(self) -> None:
        """A scan that is drawn over several entries skips what was deleted meanwhile."""
        scan = self.store.scan(b"", None, 10)
        self.assertEqual(next(scan)[0], b"a")
        apply(self.store, delete(b"b"), put(b"c", b"new"))
        self.assertEqual([(key, record[0]) for key, record in scan], [(b"a/1", b"A/1"), (b"c", b"new"), (b"d", b"D")])

    def test_discard(self) -> None:
        """A store that is no longer used is freed in portions until nothing is left."""
        apply(self.store, in_session(b"c", 0, put(b"a", b"1")))
        portions = 1
        while self.store.discard(2):
            portions += 1
        self.assertEqual((self.store.key_count, self.store.session_count, portions), (0, 0, 4))
