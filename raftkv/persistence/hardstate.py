"""The file of the hard state: the latest term and vote, in slots written in turn.

The file has two slots, and each change goes into the one that holds the older state, so that a torn write leaves the
newer one whole. Each slot is one sector, written twice: a flipped bit then spoils a copy, not the vote (going back to
the other slot would forget a vote that was given, B1). All four sectors together read as the newest that checks out.
"""

from __future__ import annotations

import struct
from dataclasses import dataclass

import google_crc32c

from raftkv.errors import CorruptData, InvariantViolation
from raftkv.interfaces import IDisk, IFile
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import write_whole
from raftkv.raft.messages import HardState

HARD_STATE_FILE = "hardstate"
MAGIC = b"RKVHARD1"
SECTOR_BYTES = 512
SLOT_STRIDE = 4096  # a slot never shares a physical sector with the other, whatever the size of those
FILE_BYTES = 2 * SLOT_STRIDE

_FIELDS = struct.Struct("<8sQQQiI")  # magic, generation, term, log batch, length of the vote (-1: none), CRC
_MAX_VOTE_BYTES = SECTOR_BYTES - _FIELDS.size


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What one slot says.

    :ivar generation: grows by one with each write; its lowest bit tells the slot.
    :ivar hard_state: term and vote.
    :ivar log_batch: number of the last batch of the log that was on disk by then: a log that ends before it has lost
        its end.
    """

    generation: int
    hard_state: HardState
    log_batch: int


def encode_slot(slot: Slot) -> bytes:
    """Return the sector of a slot."""
    vote = b"" if slot.hard_state.voted_for is None else slot.hard_state.voted_for.encode()
    length = -1 if slot.hard_state.voted_for is None else len(vote)
    if len(vote) > _MAX_VOTE_BYTES:
        raise InvariantViolation(f"a member id of {len(vote)} bytes does not fit into the hard state")
    fields = (MAGIC, slot.generation, slot.hard_state.term, slot.log_batch, length)
    checksum = google_crc32c.extend(google_crc32c.value(_FIELDS.pack(*fields, 0)), vote)
    return (_FIELDS.pack(*fields, checksum) + vote).ljust(SECTOR_BYTES, b"\0")


def decode_slot(sector: bytes) -> Slot | None:
    """Return what a sector says, or ``None`` where it does not check out."""
    if len(sector) < SECTOR_BYTES:
        return None
    magic, generation, term, log_batch, length, checksum = _FIELDS.unpack_from(sector)
    if magic != MAGIC or not -1 <= length <= _MAX_VOTE_BYTES:
        return None
    vote = sector[_FIELDS.size : _FIELDS.size + max(0, length)]
    fields = _FIELDS.pack(magic, generation, term, log_batch, length, 0)
    if google_crc32c.extend(google_crc32c.value(fields), vote) != checksum:
        return None
    voted_for = None if length < 0 else vote.decode()
    return Slot(generation=generation, hard_state=HardState(term=term, voted_for=voted_for), log_batch=log_batch)


def newest_slot(image: bytes) -> Slot | None:
    """Return what the whole file says, or ``None`` where none of its copies checks out."""
    slots = [
        slot
        for start in (0, SLOT_STRIDE)
        for offset in (start, start + SECTOR_BYTES)
        if (slot := decode_slot(image[offset : offset + SECTOR_BYTES])) is not None
    ]
    return max(slots, key=lambda slot: slot.generation, default=None)


def create_hard_state(disk: IDisk) -> None:
    """Make the file of a new node: term 0, no vote, in both slots."""
    image = bytearray(FILE_BYTES)
    for generation in (0, 1):
        sector = encode_slot(Slot(generation=generation, hard_state=HardState(), log_batch=0))
        offset = generation * SLOT_STRIDE
        image[offset : offset + 2 * SECTOR_BYTES] = sector * 2
    write_whole(disk, HARD_STATE_FILE, bytes(image))


class HardStateFile:
    """The open file; blocks.

    :param disk: the data directory.
    :raises raftkv.errors.CorruptData: no slot can be read: what this node promised is not known, so that it must not
        vote under its old name.
    :raises raftkv.errors.StorageError: it cannot be made sure of.
    """

    def __init__(self, disk: IDisk) -> None:
        self._path = f"{disk.root}/{HARD_STATE_FILE}"
        with storage_errors("open", self._path):
            self._file: IFile = disk.open(HARD_STATE_FILE)
            image = self._file.read_at(0, FILE_BYTES)
        newest = newest_slot(image)
        if newest is None:
            self._file.close()
            raise CorruptData(self._path, 0, "no slot of the hard state can be read, so this node's vote is not known")
        self._newest = newest
        self._make_sure()

    @property
    def newest(self) -> Slot:
        """What was last stored."""
        return self._newest

    def store(self, hard_state: HardState, *, log_batch: int) -> None:
        """Return once the new state is on the medium.

        :param log_batch: see :class:`Slot`.
        :raises raftkv.errors.StorageError: it may be there or not; the node has to stop (B43).
        """
        slot = Slot(generation=self._newest.generation + 1, hard_state=hard_state, log_batch=log_batch)
        with storage_errors("write", self._path):
            self._file.write_at(slot.generation % 2 * SLOT_STRIDE, encode_slot(slot) * 2)
        with storage_errors("fdatasync", self._path):
            self._file.sync()
        self._newest = slot

    def _make_sure(self) -> None:
        """Put what was read on the medium before anybody trusts it.

        A process that was killed, or whose sync failed, may have left it in memory only, and the system takes for clean
        what it once failed to sync: so it is written anew. One copy after the other, for the slot may be good already.
        """
        sector = encode_slot(self._newest)
        start = self._newest.generation % 2 * SLOT_STRIDE
        for offset in (start, start + SECTOR_BYTES):
            with storage_errors("write", self._path):
                self._file.write_at(offset, sector)
            with storage_errors("fdatasync", self._path):
                self._file.sync()

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        self._file.close()
