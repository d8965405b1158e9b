"""Every truncation and every flipped bit of a small log: what a start makes of it, counted.

``python -m tests.persistence.offsets`` tries all of them and prints how many there were and what came of each; the
tests try some. Three questions are asked of each damaged log: is it read, as what; if not, can
its node repair it alone; and can it with a member that holds the whole log.
"""

from __future__ import annotations

import sys
import time
from collections import Counter
from collections.abc import Iterator, Sequence
from dataclasses import dataclass

from raftkv.errors import CorruptData
from raftkv.persistence.hardstate import HARD_STATE_FILE, HardStateFile, create_hard_state
from raftkv.persistence.log import LOG_FOLDER, LogSettings, SegmentedLog, create_log
from raftkv.persistence.repair import LogRepair
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, EntryKind, HardState
from raftkv.testing.disk import MemoryDisk

SETTINGS = LogSettings(segment_bytes=2048, max_batch_bytes=2048, zero_ahead_bytes=0)
IDENTITY = log_identity("cluster", "incarnation")
TERM = 3

#: payloads of each batch: empty, small, larger than a sector, with zeros by nature, and lone bits in a sector
BATCHES: tuple[tuple[bytes, ...], ...] = (
    (b"one", b"two" * 100),
    (b"a" * 100 + bytes(800) + b"z" * 30, b"", b"tail\0"),
    (b"last" * 200, bytes(300), b"middle"),
    (b"end", bytes(600) + b"\x01" + bytes(200)),
)


@dataclass(frozen=True, slots=True)
class SmallLog:
    """A log of two segments, whose last batch had been reported durable.

    :ivar prefixes: the log after each batch.
    :ivar used: how many bytes of each segment are in use.
    """

    disk: MemoryDisk
    prefixes: list[list[Entry]]
    used: dict[str, int]

    @property
    def whole(self) -> list[Entry]:
        """All entries."""
        return self.prefixes[-1]


def make_small_log(batches: Sequence[Sequence[bytes]] = BATCHES) -> SmallLog:
    """Write a log."""
    disk = MemoryDisk("node")
    create_hard_state(disk)
    create_log(disk, IDENTITY, SETTINGS)
    log = SegmentedLog(disk, IDENTITY, SETTINGS)
    log.recover(lambda done, all_of_it: None)
    entries: list[Entry] = []
    prefixes: list[list[Entry]] = [[]]
    for number, payloads in enumerate(batches):
        added = [
            Entry(index=index, term=1 + number // 2, kind=EntryKind.COMMANDS, payload=payload)
            for index, payload in enumerate(payloads, len(entries) + 1)
        ]
        log.append(added)
        log.commit()
        entries += added
        prefixes.append(list(entries))
    log.close()
    hard_state = HardStateFile(disk)
    hard_state.store(HardState(term=TERM), log_batch=log.last_batch - 1)
    hard_state.close()
    names = [f"{LOG_FOLDER}/{name}" for name in disk.names(LOG_FOLDER)]
    return SmallLog(disk, prefixes, {name: len(disk.read(name).rstrip(b"\0")) for name in names})


def read_log(disk: MemoryDisk) -> tuple[list[Entry], int]:
    """Return what a start reads of a log, and the term of what it may have lost.

    :raises raftkv.errors.CorruptData: the log is refused.
    """
    hard_state = HardStateFile(disk)
    hard_state.close()
    log = SegmentedLog(disk, IDENTITY, SETTINGS)
    loaded = log.recover(lambda done, all_of_it: None, durable_batch=hard_state.newest.log_batch)
    log.close()
    if hard_state.newest.log_batch > log.last_batch:
        raise CorruptData(f"{disk.root}/{LOG_FOLDER}", 0, "its end has been lost")
    lost_term = log.lost_term if log.terms.last_term <= log.lost_term else 0
    return list(loaded.entries), lost_term


def repair_log(disk: MemoryDisk, peers: Sequence[LogRepair]) -> bool:
    """Repair a damaged log, with the help of others; return whether nothing is missing any more."""
    repair = LogRepair(disk, IDENTITY, snapshot=None, settings=SETTINGS)
    while (request := repair.request()) is not None:
        if not any(repair.take(request, peer.answer(request, max_bytes=400)) for peer in peers):
            break
    is_whole = not repair.missing() and not repair.end_is_lost
    repair.write()
    return is_whole


class WrongData(Exception):
    """A log came back that is neither whole nor what it was before: the worst there is."""


def judge(small: SmallLog, damaged: MemoryDisk, peer: LogRepair, what: str, *, may_be_shorter: bool) -> str:
    """Return what comes of a damaged log.

    :param may_be_shorter: whether a prefix is lawful without saying that something was lost.
    :raises WrongData: see there.
    """
    try:
        found, _ = read_log(damaged.copy())
    except CorruptData as error:
        if str(error.offset) not in str(error) or not error.path:
            raise WrongData(f"{what}: the refusal does not say where: {error}") from None
    else:
        if found == small.whole:
            return "read whole"
        if may_be_shorter and found in small.prefixes:
            return "read up to the end of a batch"
        raise WrongData(f"{what}: read {len(found)} of {len(small.whole)} entries")
    outcome = ""
    for kind, peers in (("refused alone, repaired from a peer", [peer]), ("repaired alone", [])):
        disk = damaged.copy()
        is_whole = repair_log(disk, peers)
        found, lost_term = read_log(disk)
        if found == small.whole and not lost_term:
            outcome = kind
        elif is_whole or lost_term != TERM or found != small.whole[: len(found)]:
            raise WrongData(f"{what}, {kind}: {len(found)} entries, lost term {lost_term}, whole: {is_whole}")
    return outcome or "refused alone, without a vote in a cluster until it has caught up"


def flipped(small: SmallLog, bits: Sequence[int], step: int = 1) -> Iterator[tuple[str, MemoryDisk]]:
    """Yield the log with one bit flipped, each in turn."""
    for name, used in small.used.items():
        for offset in range(0, used, step):
            for bit in bits:
                disk = small.disk.copy()
                disk.flip_bit(name, offset, (offset + bit) % 8)
                yield f"bit {(offset + bit) % 8} of byte {offset} of {name}", disk


def truncated(small: SmallLog, step: int = 1) -> Iterator[tuple[str, MemoryDisk]]:
    """Yield the log with one of its files cut short, each in turn."""
    for name in small.used:
        image = small.disk.read(name)
        for length in range(0, len(image), step):
            disk = small.disk.copy()
            disk.replace(name, image[:length])
            yield f"{name} cut to {length} bytes", disk


def count_outcomes(
    bits: Sequence[int], batches: Sequence[Sequence[bytes]] = BATCHES, *, step: int = 1
) -> dict[str, Counter[str]]:
    """Try everything; return how often what came of it, for flipped bits and for truncations.

    :param bits: how many bits of each byte, as numbers from 0.
    :param step: between two offsets that are tried.
    :raises WrongData: see there.
    """
    small = make_small_log(batches)
    peer = LogRepair(small.disk.copy(), IDENTITY, snapshot=None, settings=SETTINGS)
    flips = Counter(judge(small, disk, peer, what, may_be_shorter=False) for what, disk in flipped(small, bits, step))
    # The hard state notes all batches but the last: of a cut that takes more the log itself shows no trace.
    cuts = Counter(judge(small, disk, peer, what, may_be_shorter=True) for what, disk in truncated(small, step))
    return {"flipped bits": flips, "truncations": cuts}


def main() -> None:
    """Print the table."""
    began = time.monotonic()
    small = make_small_log()
    sizes = ", ".join(f"{used} bytes" for used in small.used.values())
    print(f"a log of {len(small.whole)} entries in {len(BATCHES)} batches; segments: {sizes}; {HARD_STATE_FILE} sound")
    for what, outcomes in count_outcomes(range(8)).items():
        print(f"{sum(outcomes.values())} {what}:")
        for outcome, count in outcomes.most_common():
            print(f"  {count:6}  {outcome}")
    print(f"wrong data: never ({time.monotonic() - began:.0f} s)")


if __name__ == "__main__":
    sys.exit(main())
