"""The records of the log as bytes: pure functions between values and bytes, no files.

A record is a header, a map where its payload needs one, the payload, and zeros up to the next multiple of 16. Numbers
are little endian.

==========  ====  ==========================================================================================
offset      size  what
==========  ====  ==========================================================================================
0           4     magic, so that a scan finds the next record behind a damaged one
4           4     length of the payload in bytes
8           8     number of the batch: of all that was made durable by one sync
16          8     index
24          8     term
32          1     type (:class:`RecordType`)
33          1     kind of the entry
34          2     flags (:class:`Flag`)
36          4     CRC-32C of the payload: the same on every node that has the entry
40          4     header checksum of the record before: the chain, which shows a missing or repeated block
44          4     header checksum: CRC-32C of bytes 0 to 43, begun with the log's salt
==========  ====  ==========================================================================================

A header checks out by itself, so that a scan can tell a record even behind one that cannot be read. The salt differs
from log to log: a client that puts the image of a record into a value cannot pass it off as one.

**Zero sectors.** What a crash kept of an unsynced write is known by the sectors that are still all zeros. So no part
of a record that lies in one sector of the file may be zeros by nature: headers never are, and where a payload has such
parts, flag ``ZEROS`` is set and a map with its own checksum stands in front of it, seven bits to a byte, the high bit
always set so that the map has no zeros itself.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator
from enum import IntEnum, IntFlag
from typing import Final, NamedTuple

import google_crc32c

SECTOR_BYTES: Final = 512
ALIGNMENT: Final = 16
MAGIC: Final = b"\xa7RK\x01"
HEADER: Final = struct.Struct("<4sIQQQBBHIII")
HEADER_BYTES: Final = HEADER.size
MAX_PAYLOAD_BYTES: Final = 1 << 30  # beyond it a length is surely not one

_CHECKSUM: Final = struct.Struct("<I")
_CHECKED_BYTES: Final = HEADER_BYTES - _CHECKSUM.size
_MAP_CHECKSUM_BYTES: Final = 5  # 32 bits, seven to a byte
_ZERO_SECTOR: Final = bytes(SECTOR_BYTES)
_PADDING: Final = tuple(bytes(-length % ALIGNMENT) for length in range(ALIGNMENT))


class RecordType(IntEnum):
    """What a record says. The numbers are part of the format; none is zero."""

    ENTRY = 1  #: the log grows by this entry
    TRUNCATE = 2  #: entries behind ``index``, whose term is ``term``, are void (a conflict, section 5.3)
    RESET = 3  #: the log is empty; it goes on behind ``index``, whose term is ``term`` (a snapshot was installed)


class Flag(IntFlag):
    """Bits of a record's flags."""

    LAST = 1  #: the batch ends with this record
    ZEROS = 2  #: a map of the payload's zero sectors stands in front of it


_LAST: Final = int(Flag.LAST)  # flags of enum are slow, and a start looks at those of each record
_ZEROS: Final = int(Flag.ZEROS)
_NOTHING: Final[frozenset[int]] = frozenset()


class Record(NamedTuple):
    """A header that checked out, and where its payload lies. A tuple: a start makes a million of them.

    :ivar start: offset of the record; likewise ``payload_start``, ``payload_end``, and ``end`` (of the padding).
    :ivar zero_parts: numbers of the payload's sector parts that are zeros by nature; ``None`` where the map that says
        so does not check out.
    :ivar is_mended: whether one bit of the header had to be turned back: see :func:`mended_header`.
    """

    start: int
    payload_start: int
    payload_end: int
    end: int
    batch: int
    index: int  # type: ignore[assignment]  # a tuple's method of that name is not missed
    term: int
    type: int
    kind: int
    flags: int
    payload_checksum: int
    previous: int
    checksum: int
    zero_parts: frozenset[int] | None = _NOTHING
    is_mended: bool = False

    @property
    def ends_batch(self) -> bool:
        """Whether its batch ends with it."""
        return self.flags & _LAST != 0


def aligned(offset: int) -> int:
    """Return the first offset from here on at which a record may start."""
    return offset + -offset % ALIGNMENT


def sector_parts(start: int, end: int) -> Iterator[tuple[int, int]]:
    """Yield the parts of a range of a file that lie in one sector each."""
    while start < end:
        stop = min(end, (start // SECTOR_BYTES + 1) * SECTOR_BYTES)
        yield start, stop
        start = stop


def zero_parts(payload: bytes, position: int) -> list[int]:
    """Return the numbers of the sector parts of a payload that are all zeros.

    :param position: where in the file the payload begins.
    """
    length = len(payload)
    first_end = min(length, -position % SECTOR_BYTES or SECTOR_BYTES)
    last_start = max(0, length - ((position + length) % SECTOR_BYTES or SECTOR_BYTES))
    # Nearly all payloads have no zeros where a part begins: look at those bytes before cutting out whole parts.
    if payload[:1] != b"\0" and payload[last_start : last_start + 1] != b"\0":
        starts = payload[first_end::SECTOR_BYTES]
        if b"\0" not in starts:
            return []
    return [
        number
        for number, (start, stop) in enumerate(sector_parts(position, position + length))
        if payload[start - position : stop - position] == _ZERO_SECTOR[: stop - start]
    ]


def map_bytes(payload_length: int) -> int:
    """Return the size of the map of a payload: room for as many parts as it can have wherever it lies."""
    parts = payload_length // SECTOR_BYTES + 2
    return aligned(-(-parts // 7) + _MAP_CHECKSUM_BYTES)


def encode_map(parts: list[int], size: int) -> bytes:
    """Return the map that names these parts, with its checksum at its end."""
    image = bytearray(b"\x80" * (size - _MAP_CHECKSUM_BYTES))
    for part in parts:
        image[part // 7] |= 1 << part % 7
    return bytes(image) + _map_checksum(image)


def decode_map(image: bytes) -> frozenset[int] | None:
    """Return the parts that a map names, or ``None`` where it does not check out."""
    body, checksum = image[:-_MAP_CHECKSUM_BYTES], image[-_MAP_CHECKSUM_BYTES:]
    if checksum != _map_checksum(body):
        return None
    return frozenset(
        number * 7 + bit for number, byte in enumerate(body) if byte != 0x80 for bit in range(7) if byte >> bit & 1
    )


def _map_checksum(body: bytes | bytearray) -> bytes:
    checksum = google_crc32c.value(bytes(body))
    return bytes(0x80 | checksum >> shift & 0x7F for shift in range(0, 7 * _MAP_CHECKSUM_BYTES, 7))


def encode_record(
    *,
    position: int,
    salt: int,
    previous: int,
    batch: int,
    record_type: RecordType,
    index: int,
    term: int,
    kind: int,
    payload: bytes,
    last: bool,
) -> tuple[list[bytes], int, int]:
    """Return a record in pieces, so that the payload is not copied; its size; and its header checksum.

    :param position: where in the file it begins, a multiple of 16.
    :param salt: see the module.
    :param previous: header checksum of the record before.
    :param last: whether the batch ends with it.
    """
    length = len(payload)
    flags = _LAST if last else 0
    zeros = b""
    if length and zero_parts(payload, position + HEADER_BYTES):
        flags |= _ZEROS
        size = map_bytes(length)
        zeros = encode_map(zero_parts(payload, position + HEADER_BYTES + size), size)
    header = HEADER.pack(
        MAGIC, length, batch, index, term, record_type, kind, flags, google_crc32c.value(payload), previous, 0
    )[:_CHECKED_BYTES]
    checksum = google_crc32c.extend(salt, header)
    pieces = [header, _CHECKSUM.pack(checksum), zeros, payload, _PADDING[length % ALIGNMENT]]
    return pieces, aligned(HEADER_BYTES + len(zeros) + length), checksum


def decode_header(data: bytes, start: int, salt: int) -> Record | None:
    """Return the record whose header begins at an offset, or ``None`` where it does not check out.

    The payload is not looked at, and may run past the end of ``data``.
    """
    if start + HEADER_BYTES > len(data):
        return None
    (magic, length, batch, index, term, record_type, kind, flags, payload_checksum, previous, checksum) = (
        HEADER.unpack_from(data, start)
    )
    if magic != MAGIC or length > MAX_PAYLOAD_BYTES:
        return None
    payload_start = start + HEADER_BYTES
    if google_crc32c.extend(salt, data[start : start + _CHECKED_BYTES]) != checksum:
        return None
    parts: frozenset[int] | None = _NOTHING
    if flags & _ZEROS:
        payload_start += map_bytes(length)
        parts = decode_map(data[start + HEADER_BYTES : payload_start])
    return Record(
        start,
        payload_start,
        payload_start + length,
        aligned(payload_start + length),
        batch,
        index,
        term,
        record_type,
        kind,
        flags,
        payload_checksum,
        previous,
        checksum,
        parts,
    )


def mended_header(data: bytes, start: int, salt: int) -> Record | None:
    """Return the record whose header differs by one flipped bit from what stands at an offset, or ``None``.

    Over so few bytes no two headers with their checksums differ by less than six bits: what is found with one bit
    turned back is what was written, unless five bits have flipped. Slow, for damage only.
    """
    image = bytearray(data[start : start + HEADER_BYTES])
    if len(image) < HEADER_BYTES:
        return None
    for bit in range(8 * len(image)):
        image[bit // 8] ^= 1 << bit % 8
        if (
            bytes(image[:4]) == MAGIC
            and google_crc32c.extend(salt, bytes(image[:_CHECKED_BYTES]))
            == (_CHECKSUM.unpack_from(image, _CHECKED_BYTES)[0])
        ):
            record = decode_header(data[:start] + bytes(image) + data[start + HEADER_BYTES :], start, salt)
            return record._replace(is_mended=True) if record is not None else None
        image[bit // 8] ^= 1 << bit % 8
    return None


def payload_checks_out(data: bytes, record: Record, payload: bytes) -> bool:
    """Tell whether a payload that was cut out of ``data`` is whole and unchanged.

    Its map may be neither: that only says which of the payload's zeros a crash may have left.
    """
    return record.payload_end <= len(data) and google_crc32c.value(payload) == record.payload_checksum


def is_torn(data: bytes, start: int, salt: int) -> bool:
    """Tell whether the record at an offset, which does not check out, is one that a crash kept from being written.

    It is if it runs past the end of the file, or if a part of it that lies in one sector is still all zeros although
    it would not be by nature, and not for want of one flipped bit. Otherwise it is damage: something changed it after
    it had been written (B41).
    """
    if start + HEADER_BYTES > len(data):
        return True
    record = decode_header(data, start, salt)
    if record is None:
        return _has_zero_part(data, start, start + HEADER_BYTES, frozenset())
    if record.payload_end > len(data):
        return True
    if record.zero_parts is None:
        return _has_zero_part(data, start + HEADER_BYTES, record.payload_start, frozenset())
    zeros = _zero_parts_of(data, record.payload_start, record.payload_end, record.zero_parts)
    return len(zeros) > 1 or (len(zeros) == 1 and not _lacks_one_bit(data, record, *zeros[0]))


def _lacks_one_bit(data: bytes, record: Record, start: int, stop: int) -> bool:
    """Tell whether a payload checks out once one bit in a part of zeros is set: that bit was the only one there."""
    before = google_crc32c.value(data[record.payload_start : start])
    behind = data[stop : record.payload_end]
    part = bytearray(stop - start)
    for bit in range(8 * len(part)):
        part[bit // 8] = 1 << bit % 8
        if google_crc32c.extend(google_crc32c.extend(before, bytes(part)), behind) == record.payload_checksum:
            return True
        part[bit // 8] = 0
    return False


def _has_zero_part(data: bytes, start: int, end: int, by_nature: frozenset[int]) -> bool:
    return bool(_zero_parts_of(data, start, end, by_nature))


def _zero_parts_of(data: bytes, start: int, end: int, by_nature: frozenset[int]) -> list[tuple[int, int]]:
    return [
        (begin, stop)
        for number, (begin, stop) in enumerate(sector_parts(start, end))
        if number not in by_nature and data[begin:stop] == _ZERO_SECTOR[: stop - begin]
    ]
