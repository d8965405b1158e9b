"""The records of one segment, with the holes between them: from bytes to what a strict reader would stop at.

What a hole leaves open, and what the records say of the log, is judged in :mod:`raftkv.persistence.survey.surveying`.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from raftkv.persistence.record import (
    ALIGNMENT,
    MAGIC,
    Record,
    decode_header,
    is_torn,
    mended_header,
    payload_checks_out,
)
from raftkv.persistence.segment import HEADER_BYTES, used_bytes


@dataclass(frozen=True, slots=True)
class Hole:
    """Bytes that hold no record which surely belongs to the log, from ``start`` up to ``stop``, and why."""

    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class End:
    """Where the last whole batch ends, and how much of another a crash has torn."""

    offset: int
    torn_bytes: int


def scan(
    data: bytes, *, salt: int, batch: int | None, previous: int | None, is_newest: bool
) -> Iterator[Record | Hole | End]:
    """Yield the records of whole batches and the holes between them, and at last where it ends.

    A record whose payload does not check out is yielded like any other.

    :param batch: number of the first batch, and ``previous``, the header checksum of the record before; ``None`` where
        they are not known.
    """
    offset = end = HEADER_BYTES
    gathered: list[Record | Hole] = []
    while True:
        record = _record_at(data, offset, salt, batch, previous)
        whole = record is not None and payload_checks_out(data, record, data[record.payload_start : record.payload_end])
        if record is None or not whole:
            used = used_bytes(data, end)
            if used <= offset:
                break
            later = _next_record(data, offset, salt, (0 if batch is None else batch) + 1)
            if is_newest and later is None and is_torn(data, offset, salt):
                break
            if record is None or record.payload_end > len(data):
                hole, resume = _hole_at(data, offset, salt, 0 if batch is None else batch, later, used)
                gathered.append(hole)
                if resume is None:
                    if is_newest:
                        gathered = [hole]  # the batch may never have been reported durable
                    yield from gathered
                    yield End(end, 0)
                    return
                offset, batch, previous = resume.start, resume.batch, None
                continue
        gathered.append(record)
        offset, batch, previous = record.end, record.batch, record.checksum
        if record.ends_batch:
            yield from gathered
            gathered.clear()
            end, batch = offset, batch + 1
    if not is_newest:
        yield from gathered
    used = used_bytes(data, end)
    yield End(end, max(0, used - end))


def _record_at(data: bytes, offset: int, salt: int, batch: int | None, previous: int | None) -> Record | None:
    """Return the record that begins here and follows the one before, perhaps with one bit turned back."""
    for decode in (decode_header, mended_header):
        if decode is mended_header and not data[offset : offset + ALIGNMENT].strip(b"\0"):
            return None
        record = decode(data, offset, salt)
        if record is not None:
            follows = batch in (None, record.batch) and previous in (None, record.previous)
            return record if follows else None
    return None


def _hole_at(
    data: bytes, offset: int, salt: int, batch: int, later: Record | None, used: int
) -> tuple[Hole, Record | None]:
    """Return a hole that begins here, and the record that comes behind it; ``None`` where nothing surely does."""
    if later is None:
        return Hole(
            offset, max(used, offset), f"a record of batch {batch} does not check out, and none follows it"
        ), None
    resume = _next_record(data, offset, salt, batch + (decode_header(data, offset, salt) is not None)) or later
    if resume.start == offset:
        return Hole(offset, offset, "a record does not follow the one before it: a part of the log is missing"), resume
    return Hole(offset, resume.start, f"a record of batch {batch} does not check out"), resume


def _next_record(data: bytes, start: int, salt: int, batch: int) -> Record | None:
    """Return the first record from an offset on whose header checks out, of this batch or a later one."""
    while (position := data.find(MAGIC, start)) >= 0:
        start = position + 1
        if position % ALIGNMENT == 0:
            record = decode_header(data, position, salt)
            if record is not None and record.batch >= batch:
                return record
    return None
