"""The log on disk, as long as nothing is damaged."""

from __future__ import annotations

import contextlib
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import InvariantViolation, StorageError
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog, create_log
from raftkv.persistence.record import (
    SECTOR_BYTES,
    RecordType,
    decode_header,
    decode_map,
    encode_map,
    encode_record,
    map_bytes,
    sector_parts,
    zero_parts,
)
from raftkv.persistence.segment import used_bytes
from raftkv.testing.disk import MemoryDisk
from tests.persistence.test_damage import IDENTITY, entries, open_log

SETTINGS = LogSettings(segment_bytes=2048, max_batch_bytes=1024, zero_ahead_bytes=256)


class RecordTests(SynchronousTestCase):
    """Records as bytes."""

    def encode(self, position: int, payload: bytes) -> bytes:
        """Return a record at an offset of a file that holds nothing else."""
        pieces, size, _checksum = encode_record(
            position=position,
            salt=1,
            previous=7,
            batch=3,
            record_type=RecordType.ENTRY,
            index=5,
            term=2,
            kind=0,
            payload=payload,
            last=True,
        )
        data = bytes(position) + b"".join(pieces)
        self.assertEqual(len(data), position + size)
        return data

    def test_pinned_bytes(self) -> None:
        """The bytes of a record are part of the format."""
        self.assertEqual(
            self.encode(0, b"hello").hex(),
            "a7524b01"
            "05000000"
            "0300000000000000"
            "0500000000000000"
            "0200000000000000"
            "01000100"
            "4cbb719a"
            "07000000" + self.encode(0, b"hello")[44:48].hex() + "68656c6c6f" + "00" * 11,
        )

    def test_no_sector_is_zeros(self) -> None:
        """No part of a record in one sector is zeros but those that its map names, wherever the record lies."""
        for position in range(0, 512, 16):
            for payload in (b"", b"\0", b"x" * 500, bytes(1500), b"x" + bytes(5000), bytes(90) + b"x" * 900 + bytes(9)):
                data = self.encode(position, payload)
                record = decode_header(data, position, 1)
                self.assertIsNotNone(record)
                if record is None or record.zero_parts is None:
                    self.fail("the record or its map does not check out")
                self.assertEqual(data[record.payload_start : record.payload_end], payload)
                for start, stop in sector_parts(position, record.payload_start):
                    self.assertTrue(data[start:stop].strip(b"\0"))
                for number, (start, stop) in enumerate(sector_parts(record.payload_start, record.payload_end)):
                    self.assertEqual(not data[start:stop].strip(b"\0"), number in record.zero_parts)

    def test_zero_parts_agree_with_a_plain_twin(self) -> None:
        """The shortcut that finds zero sectors finds the same as looking at each of them."""
        payloads = [b"", b"\0", b"a", bytes(2000), b"a" * 511 + bytes(513), bytes(3) + b"a" * 700, b"a" * 1024 + b"\0"]
        for payload in payloads:
            for position in range(0, 512, 16):
                parts = list(sector_parts(position, position + len(payload)))
                plain = [n for n, (a, b) in enumerate(parts) if not payload[a - position : b - position].strip(b"\0")]
                self.assertEqual(zero_parts(payload, position), plain)

    def test_map(self) -> None:
        """A map names its parts, has no zero byte, and shows a flipped bit."""
        size = map_bytes(100 * SECTOR_BYTES)
        image = encode_map([0, 6, 7, 99], size)
        self.assertEqual(decode_map(image), frozenset({0, 6, 7, 99}))
        self.assertNotIn(0, image)
        for place in range(size * 8):
            spoilt = bytearray(image)
            spoilt[place // 8] ^= 1 << place % 8
            self.assertIsNone(decode_map(bytes(spoilt)))


class LogTests(SynchronousTestCase):
    """Appending, replacing, compacting and starting anew."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        create_log(self.disk, IDENTITY, SETTINGS)
        self.log, _ = open_log(self.disk, SETTINGS)

    def append(self, first: int, count: int = 1, term: int = 1, size: int = 100) -> None:
        """Append entries in a batch of their own."""
        self.log.append(entries(first, [b"%d" % term * size] * count, term))
        self.log.commit()

    def reopened(self) -> list[tuple[int, int]]:
        """Return index and term of the entries that come back."""
        self.log.close()
        self.log, found = open_log(self.disk, SETTINGS)
        self.assertEqual(self.log.last_index, found[-1].index if found else self.log.base_index)
        return [(entry.index, entry.term) for entry in found]

    def test_comes_back(self) -> None:
        """Entries come back as they were written, across segments."""
        for index in range(1, 40):
            self.append(index)
        self.assertGreater(len(self.disk.names(LOG_FOLDER)), 2)
        self.assertEqual(self.reopened(), [(index, 1) for index in range(1, 40)])
        self.append(40)
        self.assertEqual(len(self.reopened()), 40)

    def test_segment_whose_name_was_not_synced(self) -> None:
        """B44: what a restart finds in a new segment stays, also where the folder had not been synced before."""
        for seed in range(10):
            self.setUp()
            self.disk.fail_next("sync_folder", LOG_FOLDER)
            index = 0
            with contextlib.suppress(StorageError):
                while True:
                    index += 1
                    self.append(index)
            found = self.reopened()
            self.append(len(found) + 1)
            self.disk.crash(random.Random(seed))
            self.assertEqual(len(self.reopened()), len(found) + 1)

    def test_one_sync_a_batch(self) -> None:
        """A batch costs one sync of the log, and nothing costs none."""
        before = sum(self.disk.syncs.values())
        self.append(1, count=3)
        self.log.commit()
        self.assertEqual(sum(self.disk.syncs.values()) - before, 1)

    def test_much_at_once_is_several_batches(self) -> None:
        """What exceeds the bound of a batch is synced in parts, each before the next is written."""
        before = sum(self.disk.syncs.values())
        self.append(1, count=10, size=300)
        self.assertGreaterEqual(sum(self.disk.syncs.values()) - before, 4)
        self.assertEqual(len(self.reopened()), 10)

    def test_large_entry(self) -> None:
        """An entry larger than a segment gets a segment of its size."""
        self.append(1, size=10_000)
        self.append(2)
        self.assertEqual(self.reopened(), [(1, 1), (2, 1)])

    def test_room_while_a_segment_is_begun(self) -> None:
        """B50: whoever asks for the room while the log goes from a large segment to a smaller one is told no more than
        either has."""

        class Overtaken(SegmentedLog):
            def __getattribute__(self, name: str) -> Any:
                value = super().__getattribute__(name)
                if name in ("_capacity", "_end") and begins:
                    begins.pop()()
                return value

        self.append(1, size=10_000)
        begins = [lambda: self.append(2, size=2_000)]
        most = self.log.room_bytes
        self.log.__class__ = Overtaken
        self.assertLessEqual(self.log.room_bytes, most)
        self.assertEqual((begins, self.log.last_index), ([], 2))

    def test_replaces(self) -> None:
        """Entries replace those from their first index on (section 5.3), also when those lie in older segments."""
        for index in range(1, 40):
            self.append(index)
        self.append(5, count=2, term=3)
        self.assertEqual(self.reopened(), [(index, 1) for index in range(1, 5)] + [(5, 3), (6, 3)])

    def test_gap(self) -> None:
        """Entries that would leave a gap, or replace what has been compacted, are refused."""
        self.append(1)
        self.assertRaises(InvariantViolation, self.log.append, entries(3, [b""]))
        self.log.install_snapshot(10, 2)
        self.log.commit()
        self.assertRaises(InvariantViolation, self.log.append, entries(10, [b""], 2))

    def test_compacts(self) -> None:
        """Whole segments go once all their entries may; what is kept comes back, and the base is where it begins."""
        for index in range(1, 40):
            self.append(index)
        segments = len(self.disk.names(LOG_FOLDER))
        self.log.compact(20)
        self.assertLess(len(self.disk.names(LOG_FOLDER)), segments)
        found = self.reopened()
        self.assertLessEqual(found[0][0], 21)
        self.assertEqual(found[-1][0], 39)
        self.assertEqual((self.log.base_index, self.log.base_term), (found[0][0] - 1, 1))
        self.log.compact(1000)
        self.assertEqual(len(self.disk.names(LOG_FOLDER)), 1)

    def test_compacts_replaced_entries(self) -> None:
        """A segment whose entries were all replaced can go although their indexes are large."""
        for index in range(1, 40):
            self.append(index)
        self.append(5, count=2, term=3)
        self.log.compact(5)
        self.assertEqual(len(self.disk.names(LOG_FOLDER)), 1)
        self.assertEqual(self.reopened(), [(5, 3), (6, 3)])

    def test_snapshot_of_what_the_log_holds(self) -> None:
        """B46: a snapshot whose last entry the log holds drops nothing behind it."""
        self.append(1, count=5)
        self.log.install_snapshot(3, 1)
        self.log.commit()
        self.assertEqual(self.reopened(), [(index, 1) for index in range(1, 6)])

    def test_snapshot_against_the_log(self) -> None:
        """B46: a snapshot whose last entry the log holds with another term drops the whole log."""
        self.append(1, count=5)
        self.log.install_snapshot(3, 2)
        self.log.commit()
        self.assertEqual(self.reopened(), [])
        self.append(4, term=2)
        self.assertEqual(self.reopened(), [(4, 2)])

    def test_snapshot_behind_the_log(self) -> None:
        """B45: after a snapshot past its end the log goes on behind the snapshot."""
        self.append(1, count=5)
        self.log.install_snapshot(50, 2)
        self.log.commit()
        self.log.compact(50)
        self.append(51, term=2)
        self.assertEqual(self.reopened(), [(51, 2)])
        self.assertEqual((self.log.base_index, self.log.base_term), (50, 2))

    def test_failed_sync(self) -> None:
        """B43: a sync that fails is an error that names operation and file."""
        self.disk.fail_next("sync", LOG_FOLDER)
        error = self.assertRaises(StorageError, self.append, 1)
        self.assertEqual(error.operation, "fdatasync")
        self.assertIn(LOG_FOLDER, error.path)


class UsedBytesTests(SynchronousTestCase):
    """How far a file has been written."""

    def test_against_plain_twin(self) -> None:
        """The last byte that is not zero is found wherever it is, and nothing before the start is looked at."""
        chance = random.Random(1)
        chunk = 64 * 1024
        for size in (0, 1, 100, chunk - 1, chunk, chunk + 1, 3 * chunk):
            for _ in range(10):
                data = bytearray(size)
                for _ in range(chance.randrange(3) if size else 0):
                    data[chance.randrange(size)] = 1
                start = chance.randint(0, size)
                plain = start + len(bytes(data[start:]).rstrip(b"\0"))
                self.assertEqual(used_bytes(bytes(data), start), plain)
