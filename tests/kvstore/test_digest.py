"""The digest: equal for equal states, different for different ones, and the sum that it says it is."""

from __future__ import annotations

import itertools

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import Store, digest
from raftkv.kvstore.commands import delete, grant, in_session, put
from tests.kvstore.helpers import apply


class DigestTests(SynchronousTestCase):
    def test_format_is_pinned(self) -> None:
        """The digest is part of what nodes of different versions compare: the same commands give these digits."""
        store = Store()
        self.assertEqual(store.digest(), "0000000000000000")
        apply(store, put(b"a", b"1"), put(b"b", b"2"), put(b"a", b"3"), delete(b"b"))
        apply(store, in_session(b"c", 1, put(b"c", b"")), at_ms=1234)
        self.assertEqual(store.digest(), "8e2d3ddda78be652")

    def test_sum_is_kept(self) -> None:
        """What is added and subtracted command by command is the sum over the records that are there."""
        store = Store()
        for n in range(300):
            key = b"%d" % (n * n % 31)
            apply(store, delete(key) if n % 5 == 0 else put(key, b"v%d" % n))
        total = sum(digest.token(key) * digest.weight(record) for key, record in store.scan(b"", None, 100))
        self.assertEqual(store._records.weight, total)

    def test_lease_counts(self) -> None:
        """The lease is among the fields that count, and an overwrite takes its part out again."""
        record = (b"v", 1, 1, 1, 0)
        self.assertNotEqual(digest.weight(record), digest.weight((*record[:4], 7)))
        store = Store()
        apply(store, grant(1000), put(b"a", b"v", lease=1), put(b"a", b"w"))
        self.assertEqual(store._records.weight, digest.token(b"a") * digest.weight((b"w", 1, 2, 2, 0)))

    def test_every_field_counts(self) -> None:
        """States that differ in one field of one record, or in who holds which, have different digests."""
        records = [(b"v", 1, 1, 1, 0), (b"w", 1, 1, 1, 0), (b"v", 2, 1, 1, 0), (b"v", 1, 2, 1, 0), (b"v", 1, 1, 2, 0)]
        sums = {
            digest.token(b"a") * digest.weight(one) + digest.token(b"b") * digest.weight(other)
            for one, other in itertools.product(records, records)
        }
        self.assertEqual(len({total % digest.MODULUS for total in sums}), len(records) ** 2)

    def test_histories_differ(self) -> None:
        """States with the same keys and values that came about by different writes are different states."""
        writes = [put(b"a", b"1"), put(b"b", b"2")]
        digests = set()
        for batch in (writes, writes[::-1], [*writes, writes[0]], [*writes, writes[1]], [writes[0], *writes]):
            store = Store()
            apply(store, *batch)
            digests.add(store.digest())
        self.assertEqual(len(digests), 5)

    def test_sessions_count(self) -> None:
        """Client, number, fingerprint, answer and last write time of a session all make a difference."""
        digests = set()
        for client, sequence, value, before, at_ms in itertools.product(
            (b"c", b"d"), (1, 2), (b"1", b"2"), (0, 1), (5, 6)
        ):
            store = Store()
            apply(store, *[put(b"x", b"")] * (2 - before), at_ms=at_ms)
            apply(store, in_session(client, sequence, put(b"a", value)), delete(b"a"), delete(b"x"))
            digests.add(store.digest())
        self.assertEqual(len(digests), 2**5)
