"""A log that is torn, cut, rotten or incomplete: it comes back whole, ends where a torn batch began, or is refused.

Wrong data never comes back (B41).
"""

from __future__ import annotations

import itertools
import random
from collections.abc import Sequence

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import CorruptData, StorageError
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog, create_log
from raftkv.persistence.record import HEADER_BYTES as RECORD_HEADER_BYTES
from raftkv.persistence.record import MAGIC, SECTOR_BYTES
from raftkv.persistence.segment import HEADER_BYTES, log_identity, segment_name
from raftkv.raft.messages import Entry, EntryKind
from raftkv.testing.disk import MemoryDisk

SETTINGS = LogSettings(segment_bytes=8192, max_batch_bytes=8192, zero_ahead_bytes=0)
IDENTITY = log_identity("cluster", "incarnation")
FIRST = f"{LOG_FOLDER}/{segment_name(1)}"

#: payloads of three batches, with zeros by nature in the middle, at the end, and as the whole of a payload
BATCHES = (
    (b"one", b"two" * 100),
    (b"a" * 100 + bytes(1300) + b"z" * 30, b"", b"tail\0"),
    (b"last" * 200, bytes(700), b"end"),
)


def entries(first: int, payloads: Sequence[bytes], term: int = 1) -> tuple[Entry, ...]:
    """Make entries of these payloads."""
    return tuple(
        Entry(index=index, term=term, kind=EntryKind.COMMANDS, payload=payload)
        for index, payload in enumerate(payloads, first)
    )


def open_log(disk: MemoryDisk, settings: LogSettings = SETTINGS) -> tuple[SegmentedLog, list[Entry]]:
    """Recover the log on a disk."""
    log = SegmentedLog(disk, IDENTITY, settings)
    return log, list(log.recover(lambda _done, _all: None).entries)


class DamageTests(SynchronousTestCase):
    """Everything that can happen to a small log of one segment and three batches."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        create_log(self.disk, IDENTITY, SETTINGS)
        log, _ = open_log(self.disk)
        self.ends = [HEADER_BYTES]
        self.whole: list[Entry] = []
        self.counts = [0]
        for payloads in BATCHES:
            added = entries(len(self.whole) + 1, payloads)
            log.append(added)
            log.commit()
            self.whole += added
            self.counts.append(len(self.whole))
            self.ends.append(log._end.offset)
        log.close()
        self.image = self.disk.read(FIRST)

    def recover(self, image: bytes) -> list[Entry] | None:
        """Return what is recovered from these bytes, or ``None`` where they are refused."""
        self.disk.replace(FIRST, image)
        try:
            log, found = open_log(self.disk)
        except CorruptData as error:
            self.assertIn(FIRST, error.path)
            self.assertIn(str(error.offset), str(error))
            return None
        log.close()
        return found

    def test_flipped_bits(self) -> None:
        """B41: a bit that flips anywhere in synced records yields the whole log or refusal, never less or other."""
        refused = 0
        for offset in range(self.ends[-1]):
            image = bytearray(self.image)
            image[offset] ^= 1 << offset % 8
            found = self.recover(bytes(image))
            refused += found is None
            self.assertIn(found, (None, self.whole), f"a flipped bit at {offset}")
        self.assertGreater(refused, (self.ends[-1] - HEADER_BYTES) * 9 // 10)

    def test_flipped_bits_in_unused_room(self) -> None:
        """A bit that flips behind the end of the log takes nothing away, and is overwritten."""
        for offset in range(self.ends[-1] + RECORD_HEADER_BYTES, len(self.image), 61):
            image = bytearray(self.image)
            image[offset] ^= 4
            self.assertEqual(self.recover(bytes(image)), self.whole)
            self.assertEqual(self.disk.read(FIRST), self.image)

    def test_truncations(self) -> None:
        """B41: a file cut short yields a prefix that ends with a batch, or refusal."""
        prefixes = [None, *(self.whole[:count] for count in self.counts)]
        for length in range(0, len(self.image), 1):
            found = self.recover(self.image[:length])
            self.assertIn(found, prefixes, f"cut to {length} bytes")
            if length >= self.ends[-1]:
                self.assertEqual(found, self.whole, f"cut to {length} bytes")

    def test_torn_last_batch(self) -> None:
        """B41: whichever sectors of the last batch a crash kept, the batch is there whole or not at all, and the log
        is never refused."""
        start, end = self.ends[-2], self.ends[-1]
        sectors = range(start // SECTOR_BYTES, -(-end // SECTOR_BYTES))
        before = self.image[:start].ljust(len(self.image), b"\0")
        outcomes = set()
        for kept in itertools.product((False, True), repeat=len(sectors)):
            image = bytearray(before)
            for sector, is_kept in zip(sectors, kept, strict=True):
                place = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
                if is_kept:
                    image[place] = self.image[place]
            found = self.recover(bytes(image))
            expected = self.whole if bytes(image) == self.image else self.whole[: self.counts[-2]]
            self.assertEqual(found, expected, f"kept {kept}")
            self.assertEqual(self.disk.read(FIRST)[start:].strip(b"\0") == b"", found != self.whole)
            outcomes.add(len(expected))
        self.assertEqual(len(outcomes), 2)

    def test_lost_sector_before_the_last_batch(self) -> None:
        """B41: a sector that is missing from an earlier batch is damage, not a torn end."""
        for sector in range(1, self.ends[-2] // SECTOR_BYTES):
            place = slice(sector * SECTOR_BYTES, (sector + 1) * SECTOR_BYTES)
            if self.image[place].strip(b"\0"):
                image = bytearray(self.image)
                image[place] = bytes(SECTOR_BYTES)
                self.assertIsNone(self.recover(bytes(image)), f"sector {sector}")

    def test_missing_and_repeated_blocks(self) -> None:
        """A block that is missing or there twice is seen, though each of its records checks out by itself."""
        second, third = self.ends[1], self.ends[2]
        missing = self.image[:second] + self.image[third:]
        repeated = self.image[:third] + self.image[second:third] + self.image[third:]
        for image in (missing, repeated):
            self.assertIsNone(self.recover(image[: len(self.image)].ljust(len(self.image), b"\0")))

    def test_older_content_of_a_block(self) -> None:
        """B41: a block that holds what was written there before, and was cut since, is seen although each of its
        records checks out by itself and is of the right batch."""
        first, second = self.ends[1], self.ends[2]
        self.disk.replace(FIRST, self.image[:first].ljust(len(self.image), b"\0"))
        log, found = open_log(self.disk)
        log.append(entries(found[-1].index + 1, [payload.swapcase() for payload in BATCHES[1]]))
        log.commit()
        self.assertEqual(log._end.offset, second)
        log.close()
        mixed = self.disk.read(FIRST)[:second] + self.image[second:]
        self.assertIsNone(self.recover(mixed))

    def test_append_after_a_cut(self) -> None:
        """What is written where a torn batch was cut comes back, also after being torn itself."""
        start = self.ends[-2]
        image = bytearray(self.image)
        image[start : start + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        self.recover(bytes(image))
        log, found = open_log(self.disk)
        log.append(entries(found[-1].index + 1, [b"new"], term=2))
        log.commit()
        log.close()
        self.assertEqual([entry.payload for entry in open_log(self.disk)[1]][-1], b"new")
        self.disk.replace(FIRST, self.disk.read(FIRST)[:start].ljust(len(self.image), b"\0"))
        self.assertEqual(open_log(self.disk)[1], found)

    def test_cut_that_failed(self) -> None:
        """B43: what a start could not cut of a torn batch, and takes for cut, does not come back behind newer records
        when the power goes."""
        start = self.ends[-2]
        image = bytearray(self.image)
        place = (start // SECTOR_BYTES + 1) * SECTOR_BYTES
        image[place : place + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        self.disk.replace(FIRST, bytes(image))
        self.disk.fail_next("sync", FIRST)
        self.assertRaises(StorageError, open_log, self.disk)
        log, found = open_log(self.disk)
        # Up to where what is left of the torn batch would be taken for the next record.
        added = entries(found[-1].index + 1, [b"n" * (place + SECTOR_BYTES - start - RECORD_HEADER_BYTES)])
        log.append(added)
        log.commit()
        log.close()
        self.assertEqual(log._end.offset, place + SECTOR_BYTES)
        self.disk.crash(random.Random(2))  # which loses what was not synced
        self.assertEqual([*found, *added], open_log(self.disk)[1])

    def test_image_of_a_record_in_a_value(self) -> None:
        """The image of another log's record inside a payload is not taken for a record when the end is torn."""
        foreign = MemoryDisk()
        create_log(foreign, log_identity("other", "other"), SETTINGS)
        other = SegmentedLog(foreign, log_identity("other", "other"), SETTINGS)
        other.recover(lambda _done, _all: None)
        for index in range(1, 9):
            other.append(entries(index, [b"fake"]))
            other.commit()
        fake = foreign.read(FIRST)[HEADER_BYTES:1536]
        log, _ = open_log(self.disk)
        log.append(entries(len(self.whole) + 1, [b"x" * (-RECORD_HEADER_BYTES % 16) + fake + b"y" * 600]))
        log.commit()
        image = bytearray(self.disk.read(FIRST))
        start = (log._end.offset - 500) // SECTOR_BYTES * SECTOR_BYTES
        image[start : start + SECTOR_BYTES] = bytes(SECTOR_BYTES)
        self.assertIn(MAGIC, bytes(image[self.ends[-1] + RECORD_HEADER_BYTES :]))
        self.assertEqual(self.recover(bytes(image)), self.whole)


class SegmentDamageTests(SynchronousTestCase):
    """A log of several segments."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        settings = LogSettings(segment_bytes=1024, max_batch_bytes=1024, zero_ahead_bytes=0)
        create_log(self.disk, IDENTITY, settings)
        log, _ = open_log(self.disk, settings)
        for index in range(1, 9):
            log.append(entries(index, [b"%d" % index * 200]))
            log.commit()
        log.close()
        self.names = [f"{LOG_FOLDER}/{name}" for name in self.disk.names(LOG_FOLDER)]
        self.assertGreater(len(self.names), 3)

    def refused(self) -> CorruptData:
        """Return the error with which the log is refused."""
        return self.assertRaises(CorruptData, open_log, self.disk)

    def test_missing_segment(self) -> None:
        """A segment that is missing in the middle is named by what comes before it."""
        self.disk.remove(self.names[1])
        self.assertIn(self.names[0], str(self.refused()))

    def test_no_segment(self) -> None:
        """A folder without segments is not an empty log."""
        for name in self.names:
            self.disk.remove(name)
        self.assertIn(LOG_FOLDER, str(self.refused()))

    def test_torn_end_of_an_older_segment(self) -> None:
        """B41: what would be a torn end in the newest segment is damage in an older one."""
        image = self.disk.read(self.names[0])
        used = len(image.rstrip(b"\0"))
        for cut in (used - 1, used - 10, used - 200):
            self.disk.replace(self.names[0], image[:cut].ljust(len(image), b"\0"))
            self.assertIn(self.names[0], str(self.refused()))

    def test_shortened_older_segment(self) -> None:
        """B41: an older segment that was cut short is refused wherever the cut took something away."""
        image = self.disk.read(self.names[0])
        for length in range(0, len(image.rstrip(b"\0")) - 1, 7):
            self.disk.replace(self.names[0], image[:length])
            self.refused()

    def test_segment_of_another_node(self) -> None:
        """A segment that was copied from elsewhere is refused."""
        other = MemoryDisk()
        create_log(other, log_identity("cluster", "another"), SETTINGS)
        self.disk.replace(self.names[0], other.read(FIRST))
        self.assertIn("another node", str(self.refused()))

    def test_leftover_temporary_file(self) -> None:
        """A segment that a crash left without its name is removed."""
        self.disk.open(f"{LOG_FOLDER}/{segment_name(99)}.tmp", create=True)
        open_log(self.disk)
        self.assertEqual(len(self.disk.names(LOG_FOLDER)), len(self.names))
