"""The whole key-value model against its plain twin: every command, with compaction, time, snapshots in between."""

from __future__ import annotations

from typing import Any

from hypothesis import HealthCheck, settings
from hypothesis import strategies as st
from hypothesis.stateful import (
    RuleBasedStateMachine,
    initialize,
    invariant,
    precondition,
    rule,
    run_state_machine_as_test,
)
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Compacted, FutureRevision
from raftkv.kvstore import Restorer, SnapshotView, Store, commands, history, revisiontimes, snapshotting
from raftkv.kvstore import keys as keys_module
from raftkv.kvstore.commands import (
    ABSENT,
    ANY,
    EXISTS,
    Command,
    compact,
    compare,
    delete,
    delete_range,
    expire,
    expire_sessions,
    fenced,
    get,
    grant,
    in_session,
    increment,
    keepalive,
    lock,
    put,
    range_of,
    revoke,
    transaction,
    unlock,
)
from raftkv.testing.plainstore import PlainStore
from raftkv.testing.queries import Moment, Page, answer_of
from raftkv.testing.sameness import difference
from tests.kvstore.helpers import apply, restore, snapshot

ALL_KEYS = (b"a", b"a/1", b"a/1/x", b"a/2", b"b", b"b/1", b"\xff")
KEYS = st.sampled_from(ALL_KEYS)
VALUES = st.sampled_from([b"", b"1", b"-7", b"9223372036854775807", b"x"])
EDGES = st.sampled_from([b"", b"a", b"a/", b"a/1", b"a0", b"b", b"\xff"])
RANGES = st.tuples(EDGES, EDGES)
NUMBERS = st.integers(1, 12)  # leases, tickets, revisions: some that are there, and some that are not
NAMES = st.sampled_from([b"l", b"m"])
TIMES = st.integers(1, 40)
EXPECTED = st.sampled_from([ANY, ANY, EXISTS, ABSENT]) | st.integers(1, 20)

PUTS = (
    st.builds(put, KEYS, VALUES, EXPECTED)
    | st.builds(put, KEYS, VALUES)
    | st.builds(lambda k, v, lease: put(k, v, lease=lease), KEYS, VALUES, st.just(-1) | NUMBERS)
    | st.builds(lambda k, v, ttl_ms: put(k, v, ttl_ms=ttl_ms), KEYS, VALUES, TIMES)
)
COMPARES = st.one_of(
    st.builds(compare, st.just(0), st.integers(0, 3), KEYS, VALUES | st.none()),
    st.builds(compare, st.integers(1, 4), st.integers(0, 3), KEYS, st.integers(0, 9)),
    st.builds(
        lambda target, operator, edges, operand: compare(target, operator, edges[0], operand, end=edges[1]),
        *(st.integers(1, 4), st.integers(0, 3), RANGES, st.integers(0, 9)),
    ),
)
READS = st.builds(get, KEYS, st.just(0) | st.integers(0, 25)) | st.builds(
    lambda edges, limit, flags, revision: range_of(edges[0], edges[1], limit, flags, revision),
    *(RANGES, st.integers(1, 4), st.integers(0, 7), st.just(0) | st.integers(0, 25)),
)
WRITES_IN_TXN = st.one_of(
    st.builds(put, KEYS, VALUES),
    st.builds(lambda k, v, lease: put(k, v, lease=lease), KEYS, VALUES, st.just(-1) | NUMBERS),
    st.builds(delete, KEYS),
    st.builds(lambda edges: delete_range(*edges), RANGES),
)
OPERATIONS = st.recursive(
    READS | WRITES_IN_TXN,
    lambda inner: st.builds(
        transaction, st.lists(COMPARES, max_size=1), st.lists(inner, max_size=2), st.lists(inner, max_size=2)
    ),
    max_leaves=4,
)
TRANSACTIONS = st.builds(
    transaction, st.lists(COMPARES, max_size=2), st.lists(OPERATIONS, max_size=4), st.lists(OPERATIONS, max_size=4)
)
LOCKS = st.one_of(
    st.builds(lambda n, t, w: lock(n, ttl_ms=t, wait_ms=w), NAMES, TIMES, st.just(0) | TIMES),
    st.builds(lambda n, le, w: lock(n, lease=le, wait_ms=w), NAMES, NUMBERS, st.just(0) | TIMES),
    st.builds(lambda n, t, w, k: lock(n, ttl_ms=t, wait_ms=w, key=k, value=b"me"), NAMES, TIMES, TIMES, KEYS),
    st.builds(lambda n, le, w, k: lock(n, lease=le, wait_ms=w, key=k), NAMES, NUMBERS, TIMES, KEYS),
    st.builds(lambda n, t, k: unlock(n, token=t, ticket=k), NAMES, st.integers(0, 25), st.just(0) | NUMBERS),
    st.builds(unlock, NAMES),
)
TENURES = st.builds(grant, TIMES) | st.builds(keepalive, NUMBERS) | st.builds(revoke, NUMBERS) | LOCKS
PLAIN = st.one_of(
    PUTS,
    st.builds(delete, KEYS, EXPECTED),
    st.builds(lambda edges: delete_range(*edges), RANGES),
    st.builds(increment, KEYS, st.sampled_from([1, -1, 2**62])),
    st.builds(compact, st.integers(1, 30)),
    TENURES,
    TENURES,
    TRANSACTIONS,
    TRANSACTIONS,
)
FENCED = st.builds(fenced, NAMES, st.integers(0, 25), PUTS | TRANSACTIONS)
IN_SESSIONS = st.builds(in_session, st.sampled_from([b"x", b"y", b"z"]), st.integers(0, 12), PLAIN | FENCED)
COMMANDS = st.one_of(
    PLAIN,
    PLAIN,
    FENCED,
    IN_SESSIONS,
    st.builds(expire, st.integers(1, 3)),
    st.builds(expire_sessions, st.integers(0, 100)),
)


class StoreMachine(RuleBasedStateMachine):
    """A store, one restored from its snapshots, and the plain model: all three are told the same."""

    def __init__(self) -> None:
        super().__init__()
        self.store, self.other, self.model = Store(), Store(), PlainStore()
        self.view: SnapshotView | None = None
        self.restorer: Restorer | None = None
        self.since: list[tuple[int, list[Command]]] = []
        self.at_capture: tuple[int, str] | None = None

    @initialize()
    def fill(self) -> None:
        """Begin with all keys: in an empty store there is little to go wrong."""
        self.apply(0, [put(key, b"%d" % number) for number, key in enumerate(ALL_KEYS)])

    @rule(passed_ms=st.integers(0, 15), keys=st.lists(KEYS, min_size=1, max_size=4, unique=True))
    def fill_up(self, passed_ms: int, keys: list[bytes]) -> None:
        """Set some keys, which so many commands would delete."""
        self.apply(passed_ms, [put(key, b"7") for key in keys])

    @rule(passed_ms=st.integers(0, 15), batch=st.lists(COMMANDS, min_size=1, max_size=5))
    def apply(self, passed_ms: int, batch: list[Command]) -> None:
        at_ms = self.model.cluster_time_ms + passed_ms
        expected = self.model.apply(at_ms, batch)
        assert apply(self.store, *batch, at_ms=at_ms) == expected, batch
        assert apply(self.other, *batch, at_ms=at_ms) == expected, batch
        self.since.append((at_ms, batch))

    @rule(limit=st.integers(1, 5))
    def tidy(self, limit: int) -> None:
        """Memory is freed on one node only."""
        self.store.tidy(limit)

    @rule(back=st.integers(0, 6))
    def compact(self, back: int) -> None:
        if self.model.revision > back:
            self.apply(0, [compact(self.model.revision - back)])

    @rule()
    def expire(self) -> None:
        self.apply(10, [expire(100)])

    @precondition(lambda self: self.view is None)
    @rule()
    def capture(self) -> None:
        self.view = self.store.capture()
        self.restorer = Restorer()
        self.since = []
        self.at_capture = (self.store.revision, self.store.digest())

    @precondition(lambda self: self.view is not None)
    @rule(chunks=st.integers(1, 6))
    def draw(self, chunks: int) -> None:
        """The snapshot goes on; once it is whole it takes the place of the other store, and catches up."""
        assert self.view is not None
        assert self.restorer is not None
        for _ in range(chunks):
            chunk = next(iter(self.view), None)
            if chunk is None:
                restored = self.restorer.finish()
                assert (restored.revision, restored.digest()) == self.at_capture
                for at_ms, batch in self.since:
                    apply(restored, *batch, at_ms=at_ms)
                while self.other.discard(3):
                    pass
                self.other = restored
                self.view = None
                return
            self.restorer.feed(chunk)

    @precondition(lambda self: self.view is not None)
    @rule()
    def give_up_snapshot(self) -> None:
        assert self.view is not None
        self.view.close()
        self.view = None

    @rule()
    def twin(self) -> None:
        """Two stores with the same state give the same snapshot, whatever each has freed; and it can be read again."""
        if self.view is None:
            chunks = snapshot(self.store)
            assert chunks == snapshot(self.other)
            assert snapshot(restore(chunks)) == chunks

    @rule(edges=RANGES, revision=st.integers(-8, 2), limit=st.integers(1, 4), reverse=st.booleans())
    def read_past(self, edges: tuple[bytes, bytes], revision: int, limit: int, reverse: bool) -> None:
        revision = max(self.model.revision + revision, 1)
        for store in (self.store, self.other):
            if revision > self.model.revision:
                self.refuses(FutureRevision, store, edges, revision)
            elif revision < self.model.compact_revision:
                self.refuses(Compacted, store, edges, revision)
            else:
                expected = self.model.range(*edges, revision)
                assert store.count(*edges, revision) == len(expected)
                assert self.pages(store, edges, limit, revision=revision, reverse=reverse) == expected
                for key in (b"a", b"b", b"\xff"):
                    assert store.get(key, revision) == self.model.past[revision].get(key)

    def refuses(self, error: type[Exception], store: Store, edges: tuple[bytes, bytes], revision: int) -> None:
        for read in (store.get, lambda _, r: store.page(*edges, 1, revision=r), lambda _, r: store.count(*edges, r)):
            try:
                read(b"a", revision)
            except error:
                continue
            raise AssertionError(f"revision {revision} was read")

    def pages(self, store: Store, edges: tuple[bytes, bytes], limit: int, **options: Any) -> list[tuple[bytes, Any]]:
        """Return a range read page by page, in the order of keys."""
        start, end = edges
        found = []
        while True:
            page = store.page(start, end, limit, **options)
            assert len(page.items) <= limit
            found += page.items
            if page.next is None:
                return found[::-1] if options["reverse"] else found
            assert len(page.items) == limit
            if options["reverse"]:
                end = page.next
            else:
                start = page.next

    @rule(prefix=st.sampled_from([b"", b"a/", b"a/1", b"b"]), limit=st.integers(1, 3), reverse=st.booleans())
    def read_folders(self, prefix: bytes, limit: int, reverse: bool) -> None:
        revision, moment = self.model.revision, Moment.of(self.model)
        start, end = prefix, keys_module.prefix_end(prefix) or b""
        folders: list[bytes] = []
        while revision:
            page = Page(
                start=start,
                end=end,
                limit=limit,
                revision=revision,
                reverse=reverse,
                prefix=prefix,
                delimiter=b"/",
            )
            items, more, following = answer_of(page, self.store)
            assert (items, more, following) == answer_of(page, moment)
            folders += more
            if following is None:
                break
            start, end = (start, following) if reverse else (following, end)
        assert folders == sorted(set(folders), reverse=reverse)

    @rule(back=st.integers(0, 12), limit=st.integers(1, 20))
    def watch(self, back: int, limit: int) -> None:
        first = max(self.model.revision - back, 1)
        for store in (self.store, self.other):
            if first < self.model.compact_revision:
                try:
                    store.changes(first, limit)
                except Compacted:
                    continue
                raise AssertionError("events that were compacted")
            last = min(first + limit, self.model.revision + 1)
            expected = [(revision, self.model.changes(revision)) for revision in range(first, last)]
            assert [
                (revision, [tuple(c) for c in found]) for revision, found in store.changes(first, limit)
            ] == expected

    @invariant()
    def same_state(self) -> None:
        assert self.store.digest() == self.other.digest()
        for store in (self.store, self.other):
            assert not (found := difference(store, self.model)), found
        holders = [queue[0] for queue in self.model.queues.values() if queue]
        assert all(holder.token and holder.lease in self.model.leases for holder in holders)

    def teardown(self) -> None:
        while self.store.tidy(2):
            pass
        if self.model.compact_revision == self.model.revision > 0:
            assert not self.store._records.ghosts.revisions.keys() - set(self.model.order[self.model.revision])


class StatefulTests(SynchronousTestCase):
    def setUp(self) -> None:
        # So small that a few commands fill a window, split blocks, end segments and make several chunks.
        self.patch(commands, "SESSION_WINDOW", 4)
        for module in ("sessions", "store"):
            self.patch(__import__(f"raftkv.kvstore.{module}", fromlist=["_"]), "SESSION_WINDOW", 4)
        for module in ("commands", "transactions"):
            self.patch(__import__(f"raftkv.kvstore.{module}", fromlist=["_"]), "MAX_RANGE_BYTES", 6)
        for module in ("commands", "sessions"):
            self.patch(__import__(f"raftkv.kvstore.{module}", fromlist=["_"]), "MAX_KEPT_ANSWER_BYTES", 40)
        self.patch(keys_module, "BLOCK_KEYS", 4)
        self.patch(keys_module, "CHANGES_LIMIT", 3)
        self.patch(history, "SEGMENT_REVISIONS", 3)
        self.patch(__import__("raftkv.kvstore.rewinding", fromlist=["_"]), "SEGMENT_REVISIONS", 3)
        self.patch(revisiontimes, "INTERVAL_MS", 10)
        self.patch(revisiontimes, "MAX_MARKS", 4)
        self.patch(__import__("raftkv.kvstore.store", fromlist=["_"]), "_TIDIED_AT_ONCE", 0)
        for name in ("CHUNK_RECORDS", "CHUNK_CHANGES", "CHUNK_NUMBERS", "CHUNK_ANSWERS"):
            self.patch(snapshotting, name, 2)

    def test_model(self) -> None:
        """B33, B34, B37, B48, B57: every answer, every read of every revision and every event is the plain model's."""
        run_state_machine_as_test(
            StoreMachine,
            settings=settings(
                derandomize=True,
                database=None,
                deadline=None,
                max_examples=60,
                stateful_step_count=40,
                suppress_health_check=list(HealthCheck),
            ),
        )
