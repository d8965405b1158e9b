"""Snapshots: of one moment, whole or refused, and the same bytes for the same state."""

from __future__ import annotations

import functools
from typing import Any

import msgpack
from google_crc32c import extend
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation
from raftkv.kvstore import Restorer, SnapshotError, Store, snapshotting
from raftkv.kvstore.commands import delete, expire_sessions, in_session, put, transaction
from raftkv.kvstore.snapshotting import CHUNK_BYTES, END, HEADER, HISTORY, MARKS, RECORDS, SESSIONS
from tests.kvstore.helpers import apply, restore, snapshot


def filled() -> Store:
    """Return a store with fifty keys and five sessions."""
    store = Store()
    apply(store, *(put(b"key%02d" % n, b"value%d" % n) for n in range(50)), at_ms=100)
    apply(store, *(in_session(b"client%d" % n, n, put(b"key%02d" % n, b"again")) for n in range(5)), at_ms=200)
    return store


class PointInTimeTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(snapshotting, "CHUNK_RECORDS", 7)
        self.patch(snapshotting, "CHUNK_ANSWERS", 3)

    def test_writes_go_on(self) -> None:
        """B48: overwrites, deletes, new keys, lives ended and begun between two chunks are not in the snapshot."""
        expected = snapshot(filled())
        store = filled()
        taken = []
        for n, chunk in enumerate(store.capture()):
            taken.append(chunk)
            apply(store, *(put(b"key%02d" % m, b"new") for m in range(n % 3, 50, 3)))
            apply(store, *(delete(b"key%02d" % m) for m in range(n % 7, 50, 7)))
            apply(store, *(put(b"key%02d" % m, b"reborn") for m in range(n % 14, 50, 14)))
            apply(store, *(put(b"key%02d+%d" % (m, n), b"") for m in range(50)))
        self.assertEqual(taken, expected)

    def test_sessions_go_on(self) -> None:
        """B48: sessions that are made, used, dropped or begun anew between two chunks are as they were."""
        expected = snapshot(filled())
        store = filled()
        taken = []
        for n, chunk in enumerate(store.capture()):
            taken.append(chunk)
            writes = [in_session(b"client%d" % m, 100 + n, put(b"a", b"")) for m in range(n % 2, 8, 2)]
            apply(store, *writes, at_ms=300 + n)
            if n % 3 == 1:
                apply(store, expire_sessions(300 + n))
                apply(store, *writes, at_ms=300 + n)
        self.assertEqual(taken, expected)

    def test_state_is_not_touched(self) -> None:
        """A store that a snapshot was taken of goes on as one that none was taken of."""
        plain, captured = filled(), filled()
        view = captured.capture()
        for _ in view:
            for store in (plain, captured):
                apply(store, *(put(b"key%02d" % n, b"new") for n in range(0, 50, 3)), delete(b"key01"), put(b"n", b""))
        self.assertEqual(snapshot(captured), snapshot(plain))

    def test_nothing_is_kept_afterwards(self) -> None:
        """Once a view is drawn or closed, writers put nothing aside any longer."""
        store = filled()
        view = store.capture()
        chunks = iter(view)
        next(chunks)
        apply(store, put(b"key00", b""))
        self.assertEqual(list(store._records._preserved), [b"key00"])
        view.close()
        view.close()
        self.assertEqual(list(chunks), [])
        for _ in store.capture():
            pass
        apply(store, put(b"key01", b""), in_session(b"client1", 9, put(b"key02", b"")))
        self.assertEqual((store._records._preserved, store._sessions._captured), ({}, None))

    def test_passed_keys_are_not_kept(self) -> None:
        """A key that the view has passed is not put aside: memory goes down as the snapshot advances."""
        store = filled()
        chunks = iter(store.capture())
        next(chunks)
        next(chunks)
        apply(store, *(put(b"key%02d" % n, b"") for n in range(50)))
        self.assertNotIn(b"key00", store._records._preserved)
        list(chunks)
        self.assertEqual(store._records._preserved, {})

    def test_one_at_a_time(self) -> None:
        """A second snapshot at once is refused; after the first is closed it is not."""
        store = filled()
        view = store.capture()
        self.assertRaises(InvariantViolation, store.capture)
        view.close()
        self.assertEqual(snapshot(store), snapshot(filled()))


class FormatTests(SynchronousTestCase):
    def test_header(self) -> None:
        """The first chunk says what is in the snapshot and where in the log it stands."""
        store = filled()
        view = store.capture()
        header = msgpack.unpackb(next(iter(view)), use_list=False)
        self.assertEqual(header, (HEADER, 2, 55, 2, 200, 0, 0, 50, 0, 0, 5, store.digest()))
        self.assertEqual((view.header.applied_index, view.header.revision), (2, 55))

    def test_format_is_pinned(self) -> None:
        """The bytes of a small snapshot are these: another version reads them."""
        store = Store()
        apply(store, put(b"a", b"1"), put(b"a", b"2"))
        apply(store, in_session(b"c", 3, delete(b"b")), at_ms=5)
        self.assertEqual(
            [chunk.hex() for chunk in snapshot(store)],
            [
                "9c0002020205000001000001b034303938393338303339346639656630",
                "94010091c401619195c4013201020200",
                "930400929402c4016195c4013101010100c29401c40161c0c2",
                "920791920002",
                "92029193c4016305919203c40c92f0f7d51835794c930002c2",
                "930305cecf7d2da1",
            ],
        )

    def test_order_of_events(self) -> None:
        """B40: equal states give equal bytes and digests, whatever order brought them about."""
        writes = [in_session(client, n, delete(b"nothing")) for client in (b"c", b"d", b"e") for n in (1, 2, 3)]
        stores = [Store(), Store()]
        apply(stores[0], *writes)
        apply(stores[1], *writes[::-1])
        self.assertEqual(stores[0].digest(), stores[1].digest())
        self.assertEqual(snapshot(stores[0]), snapshot(stores[1]))

    def test_large_values(self) -> None:
        """Chunks are bounded in bytes too: a large value ends its chunk."""
        store = Store()
        apply(store, *(put(b"%d" % n, b"x" * (CHUNK_BYTES // 2)) for n in range(9)))
        chunks = snapshot(store)
        self.assertEqual([msgpack.unpackb(chunk)[0] for chunk in chunks], [HEADER, *[RECORDS] * 5, HISTORY, MARKS, END])
        self.assertLess(max(map(len, chunks)), 2 * CHUNK_BYTES)

    def test_empty(self) -> None:
        """A store without keys has a snapshot too."""
        store = Store()
        store.skip(1)
        self.assertEqual(restore(snapshot(store)).applied_index, 1)


class RestoreTests(SynchronousTestCase):
    def setUp(self) -> None:
        self.patch(snapshotting, "CHUNK_RECORDS", 7)
        self.chunks = snapshot(filled())

    def refuse(self, chunks: list[bytes]) -> None:
        self.assertRaises(SnapshotError, restore, chunks)

    def changed(self, n: int, *path_and_value: Any) -> list[bytes]:
        """Return the chunks with one element, found by its path, replaced."""
        *path, last, value = path_and_value
        chunk = msgpack.unpackb(self.chunks[n])
        place = chunk
        for step in path:
            place = place[step]
        place[last] = value
        chunks = [*self.chunks[:n], msgpack.packb(chunk), *self.chunks[n + 1 :]]
        if n < len(chunks) - 1:
            checksum = functools.reduce(extend, chunks[:-1], 0)
            chunks[-1] = msgpack.packb((END, len(chunks) - 1, checksum))
        return chunks

    def test_round_trip(self) -> None:
        """A restored store is in every respect the one that the snapshot was taken of."""
        store, original = restore(self.chunks), filled()
        for name in ("revision", "applied_index", "cluster_time_ms", "compact_revision", "key_count", "session_count"):
            self.assertEqual(getattr(store, name), getattr(original, name))
        self.assertEqual(list(store.scan(b"", None, 99)), list(original.scan(b"", None, 99)))
        self.assertEqual(store.count(b"key1", b"key2"), 10)
        self.assertIs(type(store.get(b"key00")), tuple)
        self.assertEqual((store.digest(), snapshot(store)), (original.digest(), self.chunks))

    def test_past(self) -> None:
        """B48, B60: the past is restored: keys that are no more, and the changes of a revision in their order."""
        store = Store()
        apply(store, put(b"a", b"1"), put(b"b", b"2"), delete(b"a"))
        apply(store, transaction([], [put(b"z", b"3"), put(b"c", b"4"), delete(b"b")]))
        restored = restore(snapshot(store))
        self.assertEqual([key for key, _ in restored.page(b"", b"", 9, revision=2).items], [b"a", b"b"])
        ((_, changes),) = restored.changes(4, 1)
        self.assertEqual([change.key for change in changes], [b"z", b"c", b"b"])

    def test_applied_index_is_in_the_state(self) -> None:
        """B39: a restored store refuses the entries that its snapshot includes."""
        store = restore(self.chunks)
        self.assertRaises(InvariantViolation, store.skip, 2)
        store.skip(3)

    def test_cut_short(self) -> None:
        """A snapshot that lacks a chunk, has one twice, or goes on after its end is refused."""
        for n in range(len(self.chunks)):
            self.refuse(self.chunks[:n])
            self.refuse(self.chunks[:n] + self.chunks[n + 1 :])
            self.refuse([*self.chunks[: n + 1], *self.chunks[n:]])
        self.refuse([*self.chunks, self.chunks[-1]])

    def test_every_bit(self) -> None:
        """No snapshot with a flipped bit is restored."""
        self.patch(snapshotting, "CHUNK_RECORDS", 1000)
        store = Store()
        apply(store, put(b"a", b"1"), in_session(b"c", 1, put(b"b", b"2")), at_ms=7)
        chunks = snapshot(store)
        for n, chunk in enumerate(chunks):
            for bit in range(len(chunk) * 8):
                flipped = bytearray(chunk)
                flipped[bit // 8] ^= 1 << bit % 8
                self.refuse([*chunks[:n], bytes(flipped), *chunks[n + 1 :]])

    def test_wrong_contents(self) -> None:
        """Counts, digests, values and orders that do not fit together are refused."""
        for n, *change in (
            (0, 1, 1),
            (0, 1, 3),
            (0, 2, 54),
            (0, 2, 56),
            (0, 5, 1),
            (0, 6, 1),
            (0, 7, 49),
            (0, 8, 1),
            (0, 9, 1),
            (0, 10, 4),
            (0, 11, "0" * 16),
            (0, 3, -1),
            (0, 3, "2"),
            (1, 0, 99),
            (1, 1, 1),
            (1, 2, 0, b"key01"),
            (1, 2, 0, "key00"),
            (1, 3, 0, 0, b"other"),
            (1, 3, 0, 4, 1),
            (1, 3, 0, [b"short", 1, 1, 1]),
            (1, 3, []),
            (1, 3, 7),
            (9, 1, 1),
            (9, 2, 0, 0, 54),
            (9, 2, 0, 1, b"key05"),
            (9, 2, 0, 2, None),
            (9, 2, 0, 2, 2, 6),
            (9, 2, 0, 3, True),
            (9, 2, 5, 2, 49),
            (9, 2, []),
            (10, 1, [[200, 55], [100, 55]]),
            (-2, 1, 0, 0, b"client9"),
            (-2, 1, 0, 0, b"client1"),
            (-2, 1, 0, 2, 0, 0, 77),
            (-2, 1, 0, 2, 0, [5]),
            (-2, 1, 1, 2, [[0, b"x"], [9999, b"y"]]),
            (-1, 1, 1),
            (-1, 2, 1),
        ):
            self.refuse(self.changed(n % len(self.chunks), *change))

    def test_garbage(self) -> None:
        """What is no chunk at all is refused with the same error."""
        for chunk in (b"", b"\xc1", b"\x07", b"\x90", msgpack.packb({}), self.chunks[0][:-1], self.chunks[0] + b"\0"):
            self.refuse([chunk, *self.chunks[1:]])
            self.refuse([self.chunks[0], chunk, *self.chunks[2:]])

    def test_not_finished(self) -> None:
        """A restorer that has not seen everything gives out no store."""
        restorer = Restorer()
        self.assertRaises(SnapshotError, restorer.finish)
        restorer.feed(self.chunks[0])
        assert restorer.header is not None
        self.assertEqual(restorer.header.keys, 50)
        self.assertRaises(SnapshotError, restorer.finish)

    def test_kinds(self) -> None:
        """The chunks come as header, records, history, marks, sessions, end."""
        kinds = [msgpack.unpackb(chunk)[0] for chunk in self.chunks]
        self.assertEqual(kinds, [HEADER, *[RECORDS] * 8, HISTORY, MARKS, SESSIONS, END])
