"""Damaged logs made whole with the help of others: what is asked, what is believed, and what is given up."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import ConfigurationError, CorruptData, DamagedLog
from raftkv.interfaces import EntriesAnswer, EntriesRequest
from raftkv.persistence.hardstate import HardStateFile, create_hard_state
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog, create_log
from raftkv.persistence.repair import LogRepair
from raftkv.persistence.segment import (
    HEADER_BYTES,
    SegmentHeader,
    decode_segment_header,
    encode_segment_header,
    log_identity,
)
from raftkv.persistence.survey import survey_log
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta
from raftkv.testing.disk import MemoryDisk

SETTINGS = LogSettings(segment_bytes=2048, max_batch_bytes=1024, zero_ahead_bytes=0)
IDENTITY = log_identity("cluster", "incarnation")


def snapshot(index: int, term: int) -> SnapshotMeta:
    """Return the meta of a snapshot."""
    return SnapshotMeta(index=index, term=term, configuration=Configuration(), configuration_index=0)


def entry(index: int, term: int, size: int = 90) -> Entry:
    """Return an entry that no other of its index and term differs from."""
    return Entry(index=index, term=term, kind=EntryKind.COMMANDS, payload=b"%d.%d " % (index, term) * (size // 5))


class LogCase(SynchronousTestCase):
    """A disk with a log."""

    def setUp(self) -> None:
        self.disk = MemoryDisk()
        create_hard_state(self.disk)
        create_log(self.disk, IDENTITY, SETTINGS)
        self.log = SegmentedLog(self.disk, IDENTITY, SETTINGS)
        self.log.recover(lambda done, all_of_it: None)
        self.addCleanup(self.log.close)

    def append(self, *entries: Entry) -> None:
        """Append entries in one batch."""
        self.log.append(entries)
        self.log.commit()

    def vote(self, term: int) -> None:
        """Store a hard state, as every log has one of its last term at least."""
        file = HardStateFile(self.disk)
        file.store(HardState(term=term, voted_for="a"), log_batch=0)
        file.close()

    def hard_state(self, disk: MemoryDisk) -> HardState:
        """Return the term and vote on a disk."""
        file = HardStateFile(disk)
        file.close()
        return file.newest.hard_state

    def read(self, disk: MemoryDisk) -> tuple[list[Entry], int]:
        """Return the entries of a sound log, and the term of what it may have lost."""
        log = SegmentedLog(disk, IDENTITY, SETTINGS)
        loaded = log.recover(lambda done, all_of_it: None)
        log.close()
        return list(loaded.entries), log.lost_term

    def repair(self, disk: MemoryDisk, meta: SnapshotMeta | None = None) -> LogRepair:
        """Return the repair of a log."""
        return LogRepair(disk, IDENTITY, snapshot=meta, settings=SETTINGS)

    def ask(self, repair: LogRepair, *peers: LogRepair) -> int:
        """Ask until nothing is missing, or nobody knows; return how many answers were of use."""
        useful = 0
        while (request := repair.request()) is not None:
            if not any(repair.take(request, peer.answer(request, max_bytes=300)) for peer in peers):
                break
            useful += 1
        return useful

    def spoil(self, disk: MemoryDisk, place: bytes, length: int = 1) -> None:
        """Overwrite what begins with these bytes in the log."""
        for name in disk.names(LOG_FOLDER):
            image = bytearray(disk.read(f"{LOG_FOLDER}/{name}"))
            offset = image.find(place)
            if offset >= 0:
                image[offset : offset + length] = b"\xee" * min(length, len(image) - offset)
                disk.replace(f"{LOG_FOLDER}/{name}", bytes(image))
                return
        self.fail(f"{place!r} is not in the log")


class RepairTests(LogCase):
    """What is missing, and who has it."""

    def setUp(self) -> None:
        super().setUp()
        self.whole = [entry(index, 1 if index < 6 else 2) for index in range(1, 21)]
        for each in self.whole:
            self.append(each)
        self.vote(2)
        self.damaged = self.disk.copy()

    def test_payload(self) -> None:
        """B41: of an entry whose payload is damaged, index, term and checksum are known: that one is asked for."""
        self.spoil(self.damaged, entry(4, 1).payload)
        repair = self.repair(self.damaged)
        self.assertEqual([4], repair.missing())
        self.assertEqual(EntriesRequest(anchor_index=4, anchor_term=1, first=4, stop=5), repair.request())
        self.assertIn("entry 4 of term 1", str(repair.first_damage))
        self.assertEqual(1, self.ask(repair, self.repair(self.disk)))
        self.assertEqual(20, repair.write())
        self.assertEqual((self.whole, 0), self.read(self.damaged))
        self.assertEqual(HardState(term=2, voted_for="a"), self.hard_state(self.damaged))

    def test_wrong_answers(self) -> None:
        """B41: an entry of another checksum, term, index or place is not taken, whoever sends it."""
        self.spoil(self.damaged, entry(4, 1).payload)
        repair = self.repair(self.damaged)
        request = repair.request()
        assert request is not None
        for wrong in (
            EntriesAnswer(),
            EntriesAnswer(previous_term=1),
            EntriesAnswer(previous_term=1, entries=(entry(4, 1, size=50),)),
            EntriesAnswer(previous_term=1, entries=(entry(4, 2),)),
            EntriesAnswer(previous_term=1, entries=(entry(5, 1),)),
            EntriesAnswer(previous_term=1, entries=(entry(4, 1), entry(5, 1))),
            EntriesAnswer(previous_term=2, entries=(entry(4, 1),)),
        ):
            self.assertFalse(repair.take(request, wrong), wrong)
        self.assertEqual([4], repair.missing())

    def test_headers(self) -> None:
        """B41: where headers cannot be read, what came before is confirmed by whoever holds what comes behind."""
        self.spoil(self.damaged, entry(3, 1).payload[:20], 250)
        repair = self.repair(self.damaged)
        self.assertEqual(range(1, 6), range(1, max(repair.missing()) + 1))
        request = repair.request()
        assert request is not None
        self.assertEqual((6, 2, 6), (request.anchor_index, request.anchor_term, request.stop))
        self.ask(repair, self.repair(self.disk))
        self.assertEqual([], repair.missing())
        repair.write()
        self.assertEqual((self.whole, 0), self.read(self.damaged))

    def test_void_entries_in_front_of_a_gap(self) -> None:
        """B41: an entry in front of a gap that had been replaced in it does not come back."""
        self.append(entry(19, 3), entry(20, 3, size=400))
        self.append(entry(21, 3))
        self.vote(3)
        damaged = self.disk.copy()
        self.spoil(damaged, b"20.2 20.2 ", 400)  # the last old entry, the truncation, and what replaced it
        repair = self.repair(damaged)
        self.ask(repair, self.repair(self.disk))
        self.assertEqual([], repair.missing())
        repair.write()
        self.assertEqual(self.read(self.disk), self.read(damaged))

    def test_two_help_each_other(self) -> None:
        """B41: logs that are damaged in different places make each other whole."""
        other = self.disk.copy()
        self.spoil(self.damaged, entry(4, 1).payload)
        self.spoil(other, entry(8, 2).payload[:20], 200)
        one, two = self.repair(self.damaged), self.repair(other)
        self.assertEqual((1, True), (self.ask(one, two), self.ask(two, one) > 0))
        for repair, disk in ((one, self.damaged), (two, other)):
            repair.write()
            self.assertEqual((self.whole, 0), self.read(disk))

    def test_nothing_across_a_gap(self) -> None:
        """B41: what lies before a gap of our own may not be of the log that goes on behind it: nobody is given that."""
        self.spoil(self.damaged, entry(3, 1).payload[:20], 250)
        repair = self.repair(self.damaged)
        across = EntriesRequest(anchor_index=8, anchor_term=2, first=2, stop=3)
        self.assertEqual(repair.answer(across, max_bytes=300), EntriesAnswer(is_damaged=True))
        behind = EntriesRequest(anchor_index=8, anchor_term=2, first=7, stop=8)
        self.assertEqual(repair.answer(behind, max_bytes=300).entries, (entry(7, 2),))

    def test_given_up(self) -> None:
        """B41, B42: what nobody has is given up with the right to vote: in a new term, and the log says so, also after
        another repair."""
        self.spoil(self.damaged, entry(9, 2).payload)
        repair = self.repair(self.damaged)
        self.assertEqual(0, self.ask(repair))
        self.assertEqual(8, repair.write())
        self.assertEqual((self.whole[:8], 2), self.read(self.damaged))
        self.assertEqual(HardState(term=3), self.hard_state(self.damaged))
        self.spoil(self.damaged, entry(2, 1).payload)
        again = self.repair(self.damaged)
        self.ask(again, self.repair(self.disk))
        again.write()
        self.assertEqual((self.whole[:8], 2), self.read(self.damaged))

    def test_loss_is_remembered(self) -> None:
        """B42: that something is missing is remembered in later segments, until an entry of a later term is there."""
        self.spoil(self.damaged, entry(9, 2).payload)
        self.repair(self.damaged).write()
        log = SegmentedLog(self.damaged, IDENTITY, SETTINGS)
        log.recover(lambda done, all_of_it: None)
        for index in range(9, 40):
            log.append([entry(index, 2)])
            log.commit()
        log.compact(30)
        log.close()
        self.assertEqual(2, self.read(self.damaged)[1])
        log = SegmentedLog(self.damaged, IDENTITY, SETTINGS)
        log.recover(lambda done, all_of_it: None)
        for index in range(40, 70):
            log.append([entry(index, 4)])
            log.commit()
        log.close()
        self.assertEqual(0, self.read(self.damaged)[1])

    def test_lost_end(self) -> None:
        """B41: a log of which the end is gone, and that knows it, goes on without a vote."""
        file = HardStateFile(self.damaged)
        file.store(HardState(term=2, voted_for="a"), log_batch=22)
        file.close()
        repair = self.repair(self.damaged)
        self.assertTrue(repair.end_is_lost)
        self.assertIn("its end has been lost", str(repair.first_damage))
        self.assertIsNone(repair.request())
        repair.write()
        self.assertEqual((self.whole, 2), self.read(self.damaged))

    def test_snapshot_covers_the_damage(self) -> None:
        """B45: what a snapshot includes is not asked for; what others may lack is kept."""
        self.spoil(self.damaged, entry(4, 1).payload)
        repair = self.repair(self.damaged, snapshot(7, 2))
        self.assertEqual([], repair.missing())
        repair.write()
        self.assertEqual((self.whole[4:], 0), self.read(self.damaged))

    def test_snapshot_of_another_log(self) -> None:
        """B45: where the snapshot ends in another entry than the log has there, the log is void."""
        self.spoil(self.damaged, entry(4, 1).payload)
        repair = self.repair(self.damaged, snapshot(8, 3))
        repair.write()
        self.assertEqual(([], 0), self.read(self.damaged))

    def test_log_begins_too_late(self) -> None:
        """B45: entries between a snapshot and a log that begins later are asked for."""
        self.log.compact(12)
        self.assertGreater(self.log.base_index, 2)
        repair = self.repair(self.disk.copy(), snapshot(2, 1))
        self.assertEqual(list(range(3, self.log.base_index + 1)), repair.missing())
        self.assertGreater(self.ask(repair, self.repair(self.damaged)), 0)
        self.assertEqual([], repair.missing())

    def test_missing_segment(self) -> None:
        """B41: a segment that is gone is supplied by others."""
        self.damaged.remove(f"{LOG_FOLDER}/{self.damaged.names(LOG_FOLDER)[0]}")
        repair = self.repair(self.damaged)
        self.ask(repair, self.repair(self.disk))
        repair.write()
        self.assertEqual((self.whole, 0), self.read(self.damaged))

    def test_medium_that_gives_nothing_back(self) -> None:
        """B41: what cannot be read is as damaged as what is read wrongly."""
        for _ in range(1 + 1 + 3):  # its head, the whole file, and its first block as often as it is tried
            self.damaged.fail_next("read", "0001.segment")
        repair = self.repair(self.damaged)
        self.assertIn("does not give this back", repair.survey.gaps[0].reason)
        self.ask(repair, self.repair(self.disk))
        repair.write()
        self.assertEqual((self.whole, 0), self.read(self.damaged))

    def test_crash_once_it_is_written(self) -> None:
        """B44: once the repair has come to its end no loss of power brings the damaged log back."""
        self.spoil(self.damaged, entry(4, 1).payload)
        for seed in range(10):
            disk = self.damaged.copy()
            repair = self.repair(disk)
            self.ask(repair, self.repair(self.disk))
            repair.write()
            disk.crash(random.Random(seed))
            self.assertEqual((self.whole, 0), self.read(disk))

    def test_crash_while_it_is_written(self) -> None:
        """B41, B44: a loss of power leaves the damaged log, or the repaired one."""
        self.spoil(self.damaged, entry(4, 1).payload)
        outcomes = set()
        for operations in range(14):
            for seed in range(3):
                disk = self.damaged.copy()
                repair = self.repair(disk)
                self.ask(repair, self.repair(self.disk))
                disk.lose_power_after(operations)
                try:
                    repair.write()
                except BaseException as error:
                    self.assertEqual("PowerLoss", type(error).__name__)
                disk.crash(random.Random(seed))
                try:
                    self.assertEqual((self.whole, 0), self.read(disk))
                    outcomes.add("repaired")
                except CorruptData:
                    self.assertEqual([4], self.repair(disk).missing())
                    outcomes.add("damaged")
        self.assertEqual({"repaired", "damaged"}, outcomes)


class HistoryTests(LogCase):
    """Logs with a past, damaged anywhere."""

    def test_any_damage(self) -> None:
        """B41, B42: whatever is damaged, a log comes back as it was, or says that it may have lost something; and with
        somebody who has everything only the end can be lost."""
        outcomes = {"whole": 0, "lost": 0}
        for seed in range(120):
            chance = random.Random(seed)
            self.setUp()
            expected, history = self.live(chance)
            damaged = self.disk.copy()
            for _ in range(chance.choice((1, 1, 2, 4))):
                name = f"{LOG_FOLDER}/{chance.choice(damaged.names(LOG_FOLDER))}"
                image = bytearray(damaged.read(name))
                start = chance.randrange(len(image))
                length = chance.choice((1, 20, 300, 700))
                image[start : start + length] = chance.randbytes(len(image[start : start + length]))
                damaged.replace(name, bytes(image))
            repair = self.repair(damaged)
            self.ask(repair, self.repair(self.disk))
            is_lost = repair.end_is_lost
            self.assertTrue(is_lost or not repair.missing(), f"seed {seed}")
            repair.write()
            found, lost_term = self.read(damaged)
            if is_lost:
                self.assertGreater(lost_term, 0, f"seed {seed}")
                self.assertLessEqual({(each.index, each.term, each.payload) for each in found}, history, f"seed {seed}")
            else:
                self.assertEqual(found, expected, f"seed {seed}")
            outcomes["lost" if is_lost else "whole"] += 1
        self.assertGreater(outcomes["whole"], 30)
        self.assertGreater(outcomes["lost"], 10)

    def live(self, chance: random.Random) -> tuple[list[Entry], set[tuple[int, int, bytes]]]:
        """Write a log, with entries that replace others; return what it holds in the end, and all that it ever held."""
        entries: list[Entry] = []
        history: set[tuple[int, int, bytes]] = set()
        term = 1
        for _ in range(chance.randint(5, 25)):
            first = len(entries) + 1
            if entries and chance.random() < 0.2:
                term += 1
                first = chance.randint(max(1, len(entries) - 4), len(entries))
            stop = first + chance.randint(1, 4)
            added = [entry(index, term, chance.choice((0, 40, 400))) for index in range(first, stop)]
            entries = [*entries[: first - 1], *added]
            history |= {(each.index, each.term, each.payload) for each in added}
            self.append(*added)
        self.vote(term)
        return entries, history


class FormatTests(SynchronousTestCase):
    """The header of a segment."""

    HEADER = SegmentHeader(
        sequence=3,
        capacity=4096,
        first_index=7,
        previous_term=2,
        next_batch=5,
        previous=99,
        identity=IDENTITY,
        begins=True,
        lost_term=4,
    )

    def test_round_trip(self) -> None:
        """What was written is read."""
        image = encode_segment_header(self.HEADER)
        self.assertEqual(HEADER_BYTES, len(image))
        self.assertEqual(self.HEADER, decode_segment_header(image, "x"))

    def test_every_bit_is_checked(self) -> None:
        """A bit that flips anywhere in the sector of the header is noticed."""
        image = encode_segment_header(self.HEADER)
        for offset in range(len(image)):
            changed = bytearray(image)
            changed[offset] ^= 1 << offset % 8
            self.assertRaises(DamagedLog, decode_segment_header, bytes(changed), "x")

    def test_other_versions(self) -> None:
        """A log of an older or a newer program is refused in words that tell it from a damaged one."""
        from raftkv.persistence import segment

        self.patch(segment, "FORMAT_VERSION", 3)
        newer = encode_segment_header(self.HEADER)
        self.patch(segment, "FORMAT_VERSION", 2)
        error = self.assertRaises(ConfigurationError, decode_segment_header, newer, "log/3")
        self.assertEqual(
            "log/3 is of format version 3, which a newer raftkv wrote; this one reads version 2: start the version "
            "that wrote it, or give this node an empty data directory",
            str(error),
        )
        fields = (segment.SEGMENT_MAGIC, 1, 0, 1, 4096, 1, 0, 1, 0, IDENTITY)
        checksum = segment.google_crc32c.value(segment._HEADER_1.pack(*fields, 0))
        older = segment._HEADER_1.pack(*fields, checksum).ljust(HEADER_BYTES, b"\0")
        self.assertIn("an older raftkv", str(self.assertRaises(ConfigurationError, decode_segment_header, older, "")))

    def test_survey_of_nothing(self) -> None:
        """A folder without segments is a log that has lost everything."""
        found = survey_log(MemoryDisk(), IDENTITY)
        self.assertTrue(found.end_lost)
        self.assertIn("not one segment", found.gaps[0].reason)
