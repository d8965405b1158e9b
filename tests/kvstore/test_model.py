"""The store against its plain twin, with snapshots taken and restored in between."""

from __future__ import annotations

from hypothesis import given, settings
from hypothesis import strategies as st
from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import Restorer, Store, commands, snapshotting
from raftkv.kvstore import keys as keys_module
from raftkv.kvstore.commands import ABSENT, ANY, EXISTS, Command, delete, expire_sessions, in_session, put
from raftkv.testing.plainstore import PlainStore
from raftkv.testing.sameness import difference
from tests.kvstore.helpers import apply, restore, snapshot

KEYS = st.sampled_from([b"a", b"b", b"c", b"d/1", b"d/2", b"\xff"]) | st.binary(min_size=1, max_size=1)
EXPECTED = st.sampled_from([ANY, ANY, EXISTS, ABSENT]) | st.integers(1, 20)
WRITES = st.builds(put, KEYS, st.binary(max_size=3), EXPECTED) | st.builds(delete, KEYS, EXPECTED)
IN_SESSIONS = st.builds(in_session, st.sampled_from([b"x", b"y", b"z"]), st.integers(0, 12), WRITES)
COMMANDS = WRITES | IN_SESSIONS | st.builds(expire_sessions, st.integers(0, 100))
ENTRIES = st.lists(st.tuples(st.integers(0, 100), st.lists(COMMANDS, max_size=6)), max_size=25)
SETTINGS = settings(derandomize=True, database=None, deadline=None, max_examples=80)


class ModelTests(SynchronousTestCase):
    def setUp(self) -> None:
        # So small that a few commands fill a window, split blocks and make several chunks.
        self.patch(commands, "SESSION_WINDOW", 4)
        for module in ("sessions", "store"):
            self.patch(__import__(f"raftkv.kvstore.{module}", fromlist=["_"]), "SESSION_WINDOW", 4)
        self.patch(keys_module, "BLOCK_KEYS", 4)
        self.patch(keys_module, "CHANGES_LIMIT", 3)
        self.patch(snapshotting, "CHUNK_RECORDS", 2)
        self.patch(snapshotting, "CHUNK_ANSWERS", 2)

    def check(self, store: Store, model: PlainStore) -> None:
        self.assertEqual(difference(store, model), "")
        self.assertEqual(list(store.scan(b"b", b"d/2", 999)), model.range(b"b", b"d/2"))
        self.assertEqual(store.count(b"b", b"d/2"), len(model.range(b"b", b"d/2")))

    @SETTINGS
    @given(ENTRIES)
    def test_answers_and_state(self, entries: list[tuple[int, list[Command]]]) -> None:
        """Every answer and every record is that of the plain twin."""
        store, model = Store(), PlainStore()
        for at_ms, batch in entries:
            self.assertEqual(apply(store, *batch, at_ms=at_ms), model.apply(at_ms, batch))
        self.check(store, model)

    @SETTINGS
    @given(ENTRIES, st.integers(0, 25), st.integers(1, 3))
    def test_snapshot_in_between(self, entries: list[tuple[int, list[Command]]], at: int, drawn: int) -> None:
        """B48: drawn while entries go on, restored, and given the entries since, a snapshot leads to the same state."""
        store, twin = Store(), Store()
        for at_ms, batch in entries[:at]:
            apply(store, *batch, at_ms=at_ms)
            apply(twin, *batch, at_ms=at_ms)
        view = store.capture()
        chunks = iter(view)
        restorer = Restorer()
        for at_ms, batch in entries[at:]:
            for _ in range(drawn):
                for chunk in (c for c in [next(chunks, None)] if c is not None):
                    restorer.feed(chunk)
            self.assertEqual(apply(store, *batch, at_ms=at_ms), apply(twin, *batch, at_ms=at_ms))
        for chunk in chunks:
            restorer.feed(chunk)
        restored = restorer.finish()
        for at_ms, batch in entries[at:]:
            apply(restored, *batch, at_ms=at_ms)
        self.assertEqual(restored.digest(), twin.digest())
        self.assertEqual(snapshot(restored), snapshot(twin))
        self.assertEqual(snapshot(store), snapshot(twin))

    @SETTINGS
    @given(ENTRIES)
    def test_digest_from_scratch(self, entries: list[tuple[int, list[Command]]]) -> None:
        """The digest that was kept command by command is the one that a state built anew has."""
        store = Store()
        for at_ms, batch in entries:
            apply(store, *batch, at_ms=at_ms)
        self.assertEqual(restore(snapshot(store)).digest(), store.digest())
