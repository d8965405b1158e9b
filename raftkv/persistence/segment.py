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
from dataclasses import dataclass, replace
from typing import Final

import google_crc32c

from raftkv.errors import CorruptData
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
FORMAT_VERSION: Final = 1
HEADER_BYTES: Final = SECTOR_BYTES  # the first record must not share a sector with the header

_HEADER: Final = struct.Struct("<8sIIQQQQQI16sI")


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
    """

    sequence: int
    capacity: int
    first_index: int
    previous_term: int
    next_batch: int
    previous: int
    identity: bytes

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
    fields = (
        SEGMENT_MAGIC,
        FORMAT_VERSION,
        0,
        header.sequence,
        header.capacity,
        header.first_index,
        header.previous_term,
        header.next_batch,
        header.previous,
        header.identity,
    )
    checksum = google_crc32c.value(_HEADER.pack(*fields, 0))
    return _HEADER.pack(*fields, checksum).ljust(HEADER_BYTES, b"\0")


def decode_segment_header(data: bytes, path: str) -> SegmentHeader:
    """Return the header at the start of a segment.

    :param path: of the file, for the error.
    :raises raftkv.errors.CorruptData: it does not check out. Files get their names only once their header is on the
        medium, so this is damage, never a crash.
    """
    if len(data) < HEADER_BYTES:
        raise CorruptData(path, len(data), "the file ends inside the header of the segment")
    (
        magic,
        version,
        reserved,
        sequence,
        capacity,
        first_index,
        previous_term,
        next_batch,
        previous,
        identity,
        checksum,
    ) = _HEADER.unpack_from(data)
    if google_crc32c.value(data[: _HEADER.size - 4] + bytes(4)) != checksum or magic != SEGMENT_MAGIC or reserved:
        raise CorruptData(path, 0, "the header of the segment does not check out")
    if version != FORMAT_VERSION:
        raise CorruptData(path, 0, f"the segment is of format version {version}, this program reads {FORMAT_VERSION}")
    return SegmentHeader(
        sequence=sequence,
        capacity=capacity,
        first_index=first_index,
        previous_term=previous_term,
        next_batch=next_batch,
        previous=previous,
        identity=identity,
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class SegmentEnd:
    """Where the whole batches of a segment end.

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
    :raises raftkv.errors.CorruptData: there is damage that must not be cut.
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
    used = _used_bytes(data, end.offset)
    if used == end.offset:
        return end  # nothing but zeros behind: the log ends here
    if not is_newest:
        raise CorruptData(path, offset, "a record does not check out, and a later segment follows")
    _refuse_damage(data, offset=offset, batch=batch, previous=previous, path=path, salt=salt)
    return replace(end, torn_bytes=used - end.offset)


def _used_bytes(data: bytes, start: int) -> int:
    """Return the offset behind the last byte from ``start`` on that is not zero, or ``start``."""
    step = 1 << 20
    stop = len(data)
    while stop > start:
        begin = max(start, stop - step)
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
            raise CorruptData(
                path, offset, f"a record of batch {batch} does not check out, and batch {behind.batch} follows it"
            )
    here = decode_header(data, offset, salt)
    if here is not None and (here.batch != batch or here.previous != previous):
        raise CorruptData(path, offset, "a record does not follow the one before it: a part of the log is missing")
    if not is_torn(data, offset, salt):
        raise CorruptData(path, offset, f"a record of batch {batch}, which had been written, does not check out")
