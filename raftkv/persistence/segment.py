"""Segments: the files of the log as bytes, and the rule that tells a torn end from damage. Pure functions.

A segment is a header in a sector of its own, then records (:mod:`raftkv.persistence.record`), then the zeros that it
was allocated with. The header says what a reader must know of the records before, so that older segments can go.

**The rule** (B41). Reading stops at the first record that does not check out or does not follow its predecessor. If
everything behind is zeros, that is the end of the log. Otherwise, if a record of a later batch lies behind, or a later
segment, the record had been synced: it is damage. In the last batch it is torn where a crash can have kept a sector of
it from being written (:func:`~raftkv.persistence.record.is_torn`), else damage. A torn batch was never reported
durable; all of it is cut, so that batches are whole or absent and the next one finds zeros.
"""

from __future__ import annotations

import hashlib
import struct
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final, NamedTuple, NoReturn

import google_crc32c

from raftkv.errors import ConfigurationError, DamagedLog
from raftkv.persistence.record import (
    ALIGNMENT,
    MAGIC,
    SECTOR_BYTES,
    Record,
    decode_header,
    is_torn,
    payload_checks_out,
)

SEGMENT_MAGIC: Final = b"RKVSEGM1"
FORMAT_VERSION: Final = 2
HEADER_BYTES: Final = SECTOR_BYTES  # the first record must not share a sector with the header

_HEADER: Final = struct.Struct("<8sIIQQQQQQI16s")
_HEADER_1: Final = struct.Struct("<8sIIQQQQQI16sI")
_CHECKSUM: Final = struct.Struct("<I")  # the last bytes of the sector, whatever the version
_CHECKED_BYTES: Final = SECTOR_BYTES - _CHECKSUM.size
_BEGINS: Final = 1
_ZEROS: Final = bytes(64 * 1024)


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentHeader:
    """The state of the log where a segment begins.

    :ivar sequence: number of the segment, from 1 without gaps.
    :ivar capacity: length of the file in bytes.
    :ivar first_index: index of the entry that would come next.
    :ivar previous_term: term of the entry before it, 0 where there is none.
    :ivar next_batch: number of the segment's first batch.
    :ivar previous: header checksum of the record before, 0 at first.
    :ivar identity: digest of whose log it is (:func:`log_identity`).
    :ivar begins: whether the log begins here, and what earlier segments hold is void: it was written anew after damage.
    :ivar lost_term: entries that this node acknowledged in terms up to this may be missing from the log where it has
        no entry of a later one; 0 for none.
    """

    sequence: int
    capacity: int
    first_index: int
    previous_term: int
    next_batch: int
    previous: int
    identity: bytes
    begins: bool = False
    lost_term: int = 0

    @property
    def salt(self) -> int:
        """What header checksums of this log begin with."""
        return log_salt(self.identity)


def log_identity(cluster_id: str, incarnation: str) -> bytes:
    """Return the digest that ties the segments of a log to one data directory."""
    return hashlib.blake2b(f"{cluster_id}/{incarnation}".encode(), digest_size=16).digest()


def log_salt(identity: bytes) -> int:
    """Return what header checksums of a log begin with."""
    salt: int = google_crc32c.value(identity)
    return salt


def segment_name(sequence: int) -> str:
    """Return the name of a segment's file, which sorts by sequence."""
    return f"{sequence:016d}.segment"


def encode_segment_header(header: SegmentHeader) -> bytes:
    """Return the first sector of a segment."""
    fields = _HEADER.pack(
        SEGMENT_MAGIC,
        FORMAT_VERSION,
        _BEGINS if header.begins else 0,
        header.sequence,
        header.capacity,
        header.first_index,
        header.previous_term,
        header.next_batch,
        header.lost_term,
        header.previous,
        header.identity,
    ).ljust(_CHECKED_BYTES, b"\0")
    return fields + _CHECKSUM.pack(google_crc32c.value(fields))


def decode_segment_header(data: bytes, path: str) -> SegmentHeader:
    """Return the header at the start of a segment.

    :param path: of the file, for the error.
    :raises raftkv.errors.DamagedLog: it does not check out. Files get their names only once their header is on the
        medium, so this is damage, never a crash.
    :raises raftkv.errors.ConfigurationError: another version of the program wrote it.
    """
    if len(data) < HEADER_BYTES:
        raise DamagedLog(path, len(data), "the file ends inside the header of the segment")
    sector = data[:SECTOR_BYTES]
    if _is_version_1(sector):
        _refuse_version(path, 1)
    magic, version, flags, sequence, capacity, first_index, previous_term, next_batch, lost_term, previous, identity = (
        _HEADER.unpack_from(sector)
    )
    if (
        magic != SEGMENT_MAGIC
        or google_crc32c.value(sector[:_CHECKED_BYTES]) != (_CHECKSUM.unpack_from(sector, _CHECKED_BYTES)[0])
    ):
        raise DamagedLog(path, 0, "the header of the segment does not check out")
    if version != FORMAT_VERSION:
        _refuse_version(path, version)
    return SegmentHeader(
        sequence=sequence,
        capacity=capacity,
        first_index=first_index,
        previous_term=previous_term,
        next_batch=next_batch,
        previous=previous,
        identity=identity,
        begins=bool(flags & _BEGINS),
        lost_term=lost_term,
    )


def mended_segment_header(data: bytes) -> SegmentHeader | None:
    """Return the header that differs by one flipped bit from what stands at the start of a segment, or ``None``.

    As for :func:`~raftkv.persistence.record.mended_header`: no two sectors with their checksums differ by less than six
    bits. Slow, for damage only.
    """
    sector = bytearray(data[:SECTOR_BYTES])
    if len(sector) < SECTOR_BYTES:
        return None
    for bit in range(8 * SECTOR_BYTES):
        sector[bit // 8] ^= 1 << bit % 8
        checksum: int = _CHECKSUM.unpack_from(sector, _CHECKED_BYTES)[0]
        if google_crc32c.value(bytes(sector[:_CHECKED_BYTES])) == checksum:
            try:
                return decode_segment_header(bytes(sector), "")
            except (DamagedLog, ConfigurationError):
                return None
        sector[bit // 8] ^= 1 << bit % 8
    return None


def begins_log(sector: bytes) -> bool:
    """Tell whether the header of a segment checks out, and says that the log begins with it."""
    try:
        header = decode_segment_header(sector, "")
    except DamagedLog:
        return False  # met again, with its place, by whoever reads the segment
    begins: bool = header.begins
    return begins


def _is_version_1(sector: bytes) -> bool:
    """Tell whether a header is of the first version, whose checksum stood elsewhere."""
    magic, version, *_, checksum = _HEADER_1.unpack_from(sector)
    fields = sector[: _HEADER_1.size - _CHECKSUM.size] + bytes(_CHECKSUM.size)
    return magic == SEGMENT_MAGIC and version == 1 and bool(google_crc32c.value(fields) == checksum)


def _refuse_version(path: str, version: int) -> NoReturn:
    age = "an older" if version < FORMAT_VERSION else "a newer"
    raise ConfigurationError(
        f"{path} is of format version {version}, which {age} raftkv wrote; this one reads version {FORMAT_VERSION}: "
        "start the version that wrote it, or give this node an empty data directory"
    )


class SegmentEnd(NamedTuple):
    """Where the whole batches of a segment end. A tuple: each sync makes one.

    :ivar offset: of the next record.
    :ivar batch_start: offset of the last whole batch, equal to ``offset`` where there is none.
    :ivar next_batch: number of the batch that it will begin.
    :ivar previous: header checksum of the last record.
    :ivar torn_bytes: what lies behind ``offset`` of a batch that a crash tore, up to the last byte that is not zero;
        0 for a clean end. It has to be overwritten with zeros before anything is written there.
    """

    offset: int
    batch_start: int
    next_batch: int
    previous: int
    torn_bytes: int


def read_segment(
    data: bytes,
    *,
    path: str,
    header: SegmentHeader,
    is_newest: bool,
    visit: Callable[[Record, bytes], None],
) -> SegmentEnd:
    """Read the records of a segment, and judge its end by the rule of this module.

    :param data: the whole file.
    :param path: for the error.
    :param is_newest: whether no segment follows, so that its end may be torn.
    :param visit: called with each record of a whole batch, in order, and its payload.
    :raises raftkv.errors.DamagedLog: there is damage that must not be cut.
    """
    salt = header.salt
    offset, previous, batch = HEADER_BYTES, header.previous, header.next_batch
    end = SegmentEnd(offset=offset, batch_start=offset, next_batch=batch, previous=previous, torn_bytes=0)
    gathered: list[tuple[Record, bytes]] = []  # of a batch whose end has not been met
    while True:
        record = decode_header(data, offset, salt)
        if record is None or record.batch != batch or record.previous != previous:
            break
        payload = data[record.payload_start : record.payload_end]
        if not payload_checks_out(data, record, payload):
            break
        gathered.append((record, payload))
        offset, previous = record.end, record.checksum
        if record.ends_batch:
            for each in gathered:
                visit(*each)
            gathered.clear()
            batch += 1
            end = SegmentEnd(offset=offset, batch_start=end.offset, next_batch=batch, previous=previous, torn_bytes=0)
    used = used_bytes(data, end.offset)
    if used == end.offset:
        return end  # nothing but zeros behind: the log ends here
    if not is_newest:
        raise DamagedLog(path, offset, "a record does not check out, and a later segment follows")
    _refuse_damage(data, offset=offset, batch=batch, previous=previous, path=path, salt=salt)
    return end._replace(torn_bytes=used - end.offset)


def used_bytes(data: bytes, start: int) -> int:
    """Return the offset behind the last byte from ``start`` on that is not zero, or ``start``."""
    stop = len(data)
    # Most of a young segment is zeros: to compare them, where they are, is several times as fast as to strip them.
    while stop - start >= len(_ZEROS) and data.startswith(_ZEROS, stop - len(_ZEROS)):
        stop -= len(_ZEROS)
    while stop > start:
        begin = max(start, stop - len(_ZEROS))
        kept = len(data[begin:stop].rstrip(b"\0"))
        if kept:
            return begin + kept
        stop = begin
    return start


def _refuse_damage(data: bytes, *, offset: int, batch: int, previous: int, path: str, salt: int) -> None:
    """Raise unless the batch that does not check out at ``offset`` may have been torn by a crash."""
    start = offset + ALIGNMENT
    while (position := data.find(MAGIC, start)) >= 0:
        start = position + 1
        behind = decode_header(data, position, salt) if position % ALIGNMENT == 0 else None
        if behind is not None and behind.batch > batch:
            raise DamagedLog(
                path, offset, f"a record of batch {batch} does not check out, and batch {behind.batch} follows it"
            )
    here = decode_header(data, offset, salt)
    if here is not None and (here.batch != batch or here.previous != previous):
        raise DamagedLog(path, offset, "a record does not follow the one before it: a part of the log is missing")
    if not is_torn(data, offset, salt):
        raise DamagedLog(path, offset, f"a record of batch {batch}, which had been written, does not check out")
