"""A state that goes on as that of another cluster, and one that is made up to a revision in the past."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import Compacted, InvariantViolation
from raftkv.kvstore import Store
from raftkv.kvstore.commands import (
    LOCK_NOT_HELD,
    OK,
    Command,
    delete,
    expire,
    fenced,
    grant,
    in_session,
    keepalive,
    lock,
    pack_batch,
    put,
    unlock,
    wall_time_ms,
)
from tests.kvstore.helpers import apply, restore, snapshot

MARGIN = 1000


def a_life(store: Store) -> None:
    """Let a bit of everything happen."""
    apply(store, put(b"a", b"1"), put(b"b", b"2"), put(b"gone", b"3"), at_ms=5000)
    apply(store, put(b"a", b"4"), delete(b"gone"), grant(60_000), at_ms=6500)
    apply(store, put(b"c", b"5", lease=1), in_session(b"client", 7, put(b"d", b"6")), at_ms=7000)
    apply(store, lock(b"l", ttl_ms=60_000), at_ms=9000)


class BeginAnewTests(SynchronousTestCase):
    """The state of a restored cluster."""

    def setUp(self) -> None:
        self.store = Store()
        a_life(self.store)
        self.old_revision = self.store.revision
        self.store.begin_anew(MARGIN)

    def test_watchers_of_the_old_cluster(self) -> None:
        """B61: whoever asks for changes or a state of the old cluster's revisions is told that they are compacted."""
        store = self.store
        self.assertEqual((store.revision, store.compact_revision), (self.old_revision + MARGIN,) * 2)
        for revision in (1, self.old_revision, self.old_revision + 1, store.revision - 1):
            self.assertRaises(Compacted, store.changes, revision, 10)
            self.assertRaises(Compacted, store.get, b"a", revision)
        self.assertEqual(store.changes(store.revision, 10), [(store.revision, [])])
        self.assertEqual(store.get(b"a", store.revision), store.get(b"a"))
        answers = apply(store, put(b"a", b"new"))
        self.assertEqual(answers, [(OK, self.old_revision + MARGIN + 1)])
        self.assertEqual([n for n, _ in store.changes(store.compact_revision + 1, 10)], [store.revision])

    def test_what_stays(self) -> None:
        """Records keep their revisions, leases their time, locks their tokens, sessions their answers."""
        twin = Store()
        a_life(twin)
        self.assertEqual(
            [self.store.get(key) for key in (b"a", b"b", b"c", b"d", b"gone")],
            [twin.get(key) for key in (b"a", b"b", b"c", b"d", b"gone")],
        )
        self.assertEqual(self.store.leases(limit=9), twin.leases(limit=9))
        self.assertEqual(self.store.locks(limit=9), twin.locks(limit=9))
        token = self.store.locks(limit=9)[0].token
        again = apply(self.store, in_session(b"client", 7, put(b"d", b"6")), fenced(b"l", token, put(b"e", b"")))
        self.assertEqual(again, [(OK, 7), (OK, self.store.revision)])

    def test_numbers(self) -> None:
        """A lease or a lock that the old cluster gave out afterwards is nobody's in the new one."""
        old = Store()
        a_life(old)
        ((_, granted), (_, taken, _, ticket)) = apply(old, grant(60_000), lock(b"m", ttl_ms=60_000), at_ms=9500)
        ((_, fresh), (_, token, _, fresh_ticket)) = apply(self.store, grant(60_000), lock(b"m", ttl_ms=60_000))
        self.assertTrue(fresh > granted + 900 and token > taken + 900 and fresh_ticket > ticket + 900)
        refused = apply(self.store, keepalive(granted), unlock(b"m", token=taken), fenced(b"m", taken, put(b"x", b"")))
        self.assertNotIn(OK, [status for status, *_ in refused])
        self.assertEqual(refused[2], (LOCK_NOT_HELD, token))

    def test_snapshot(self) -> None:
        """It can be written and read back, also after more has happened to it, and gives the same bytes again."""
        self.assertEqual(snapshot(restore(snapshot(self.store))), snapshot(self.store))
        apply(self.store, delete(b"a"), put(b"a", b"7"), put(b"z", b"8"), at_ms=10_000)
        self.store.tidy(1000)
        twin = restore(snapshot(self.store))
        self.assertEqual((twin.digest(), snapshot(twin)), (self.store.digest(), snapshot(self.store)))
        self.assertEqual(twin.changes(twin.compact_revision, 10), self.store.changes(twin.compact_revision, 10))

    def test_refused(self) -> None:
        """It must leave something behind, and not a reader of the state."""
        self.assertRaises(InvariantViolation, self.store.begin_anew, 0)
        view = self.store.capture()
        self.assertRaises(InvariantViolation, self.store.begin_anew, 1)
        view.close()


class UpToTests(SynchronousTestCase):
    """Entries applied in part."""

    def test_middle_of_an_entry(self) -> None:
        """The commands of an entry are applied up to the one that takes the revision, those behind it are not."""
        commands = [put(b"a", b"1"), delete(b"none"), put(b"b", b"2"), grant(1000), put(b"c", b"3")]
        payload = pack_batch(50, 0, commands)
        store, twin = Store(), Store()
        self.assertFalse(store.apply_up_to(1, payload, 2))
        twin.apply(1, pack_batch(50, 0, commands[:3]))
        self.assertEqual((store.digest(), store.applied_index), (twin.digest(), 1))
        self.assertEqual(store.cluster_time_ms, 50)
        self.assertRaises(InvariantViolation, store.apply_up_to, 1, payload, 2)
        self.assertRaises(InvariantViolation, store.apply_up_to, 2, b"\xc1", 9)

    def test_whole_entry(self) -> None:
        """An entry that does not take the revision is applied like any other."""
        store, twin = Store(), Store()
        a_life(twin)
        entries: tuple[tuple[int, list[Command]], ...] = (
            (5000, [put(b"a", b"1"), put(b"b", b"2"), put(b"gone", b"3")]),
            (6500, [put(b"a", b"4"), delete(b"gone"), grant(60_000)]),
            (7000, [put(b"c", b"5", lease=1), in_session(b"client", 7, put(b"d", b"6"))]),
            (9000, [lock(b"l", ttl_ms=60_000)]),
        )
        for index, (at_ms, commands) in enumerate(entries, 1):
            self.assertTrue(store.apply_up_to(index, pack_batch(at_ms, 0, commands), 99))
        self.assertEqual(snapshot(store), snapshot(twin))

    def test_several_revisions_at_once(self) -> None:
        """A command that takes more than one revision may go past the one asked for; that shows."""
        store = Store()
        apply(store, grant(1000), grant(1000), put(b"a", b"", lease=1), put(b"b", b"", lease=2))
        store.apply_up_to(2, pack_batch(5000, 0, [expire(9)]), 3)
        self.assertEqual(store.revision, 4)


class WallTimeTests(SynchronousTestCase):
    """When an entry was made."""

    def test_read_without_the_commands(self) -> None:
        """The wall time of a payload is found without unpacking its commands."""
        for cluster, wall in ((0, 0), (2**40, 1_795_408_000_123), (2**63, 2**63)):
            self.assertEqual(wall_time_ms(pack_batch(cluster, wall, [put(b"k", b"v" * 10_000)])), wall)
            self.assertEqual(wall_time_ms(pack_batch(cluster, wall, [])), wall)

    def test_garbage(self) -> None:
        """What is no payload is refused."""
        for payload in (
            b"",
            b"\x94\x02",
            b"\xc1" * 40,
            b"\x93\x02\x00\x00",
            b"\x94\x01\x00\x00\x90",
            b"\x94\x02\x00\xa0\x90",
        ):
            self.assertRaises(ValueError, wall_time_ms, payload)
