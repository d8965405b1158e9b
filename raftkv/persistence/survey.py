"""Reading a log of which parts do not check out: what is there, what is missing, and what is not known to be ours.

The strict reader (:mod:`~raftkv.persistence.log`) stops at the first damage. This one goes on behind it, for those who
repair a log or tell an operator about it. It changes nothing, and blocks.

**What a gap leaves open.** Where a header cannot be read nobody knows what its record said: an entry, or that entries
before it are void. So what lies in front of a gap may no longer have been part of the log when what lies behind it was
written: there is a *seam* between them, until somebody who holds the entry behind it confirms what came before it (two
logs that hold the same entry are equal up to it, section 5.3). Where only a payload cannot be read, its header says
which entry is missing, and there is no seam.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from typing import Final

from raftkv.errors import CorruptData
from raftkv.interfaces import IDisk, IFile
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.log import LOG_FOLDER
from raftkv.persistence.record import (
    ALIGNMENT,
    MAGIC,
    Record,
    RecordType,
    decode_header,
    is_torn,
    mended_header,
    payload_checks_out,
)
from raftkv.persistence.segment import (
    HEADER_BYTES,
    SegmentHeader,
    begins_log,
    decode_segment_header,
    log_salt,
    mended_segment_header,
    used_bytes,
)

_BLOCK_BYTES: Final = 4096  # what a medium that cannot be read is tried in
_READ_ATTEMPTS: Final = 3
_UNREADABLE: Final = b"\xff"  # in place of what it does not give back; zeros could pass for a torn write

Visit = Callable[[str, Record, bool], None]  #: name of the segment, a record of it, whether its payload checks out


@dataclass(frozen=True, slots=True, kw_only=True)
class Gap:
    """A part of a segment that does not check out.

    :ivar path: of the file.
    :ivar start: offset of the first byte; ``stop`` is that behind the last one, equal to it where something is missing
        in between.
    :ivar reason: what is wrong, as a part of a sentence.
    """

    path: str
    start: int
    stop: int
    reason: str

    def error(self) -> CorruptData:
        """Return the error that tells of it."""
        return CorruptData(self.path, self.start, self.reason)


@dataclass(frozen=True, slots=True, kw_only=True)
class Slot:
    """What is known of one entry of the log.

    :ivar term: ``None`` where not even that is known.
    :ivar kind: with ``checksum``, the CRC-32C of the payload, and ``length``, -1 where they are not known.
    :ivar file: where the payload lies, with the folder, at ``offset``; empty where it cannot be read.
    """

    index: int
    term: int | None = None
    kind: int = -1
    checksum: int = -1
    length: int = -1
    file: str = ""
    offset: int = 0

    @property
    def is_readable(self) -> bool:
        """Whether the entry is there."""
        return bool(self.file)


class Slots:
    """The log as far as it is known: what its records say, one after the other.

    :ivar base_index: index of the entry before the first one, with its term ``base_term``.
    :ivar slots: one for each entry behind it.
    :ivar seams: indexes of entries of which it is not known what came before them (see the module), in order.
    :ivar gap_pending: whether there is a gap behind all that is known so far.
    """

    def __init__(self, base_index: int, base_term: int) -> None:
        self.base_index = base_index
        self.base_term = base_term
        self.slots: list[Slot] = []
        self.seams: list[int] = []
        self.gap_pending = False

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return self.base_index + len(self.slots)

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, also of that before the first; ``None`` where it is not known."""
        if index == self.base_index:
            return self.base_term
        return self.at(index).term if self.base_index < index <= self.last_index else None

    def at(self, index: int) -> Slot:
        """Return what is known of an entry."""
        return self.slots[index - self.base_index - 1]

    def put(self, slot: Slot) -> None:
        """Replace what is known of an entry."""
        self.slots[slot.index - self.base_index - 1] = slot

    def append(self, slot: Slot) -> None:
        """The log grew by an entry.

        :raises ValueError: it cannot have.
        """
        if slot.index <= self.base_index or (slot.index != self.last_index + 1 and not self.gap_pending):
            raise ValueError(f"entry {slot.index} comes after entry {self.last_index}")
        if self.gap_pending:
            self._resume_at(slot)
        else:
            self.slots.append(slot)

    def truncate(self, index: int, term: int) -> None:
        """What lies behind an entry is void.

        :raises ValueError: there is no such entry.
        """
        if index < self.base_index:
            self.reset(index, term)
            return
        known = self.term_at(index)
        if known == term:
            # Equal logs up to there, whatever stood in a gap before this was said.
            self._cut_behind(index)
            self.gap_pending = False
        elif self.gap_pending and index > self.base_index:
            self._resume_at(Slot(index=index, term=term))
        else:
            raise ValueError(f"entry {index} of term {term} is said to be there, but is of term {known}")

    def reset(self, index: int, term: int) -> None:
        """The log was emptied, and goes on behind an entry."""
        self.base_index, self.base_term = index, term
        self.slots.clear()
        self.seams.clear()
        self.gap_pending = False

    def reach_down_to(self, index: int, term: int) -> None:
        """The log must begin behind an earlier entry: what is between is missing."""
        missing = [Slot(index=each) for each in range(index + 1, self.base_index)]
        self.slots[:0] = [*missing, Slot(index=self.base_index, term=self.base_term)]
        self.seams.insert(0, self.base_index)
        self.base_index, self.base_term = index, term

    def begin_at(self, index: int, term: int) -> None:
        """The log may begin behind a later entry, of which this is known: what lies before is not needed."""
        del self.slots[: index - self.base_index]
        self.base_index, self.base_term = index, term
        # What comes before the first entry behind it is known now.
        self.seams = [seam for seam in self.seams if seam > index + 1]

    def _resume_at(self, slot: Slot) -> None:
        self._cut_behind(min(slot.index - 1, self.last_index))
        self.slots += [Slot(index=index) for index in range(self.last_index + 1, slot.index)]
        self.slots.append(slot)
        self.seams.append(slot.index)
        self.gap_pending = False

    def _cut_behind(self, index: int) -> None:
        del self.slots[index - self.base_index :]
        while self.seams and self.seams[-1] > index:
            self.seams.pop()


@dataclass(slots=True, kw_only=True)
class SegmentReport:
    """What there is in one segment.

    :ivar file: its name, with the folder.
    :ivar header: ``None`` where it cannot be read.
    :ivar records: how many check out; likewise ``batches`` that are whole, ``entries``.
    :ivar first_index: of the entries in it, void ones included; likewise ``last_index``, ``first_term``, ``last_term``;
        0 for none.
    :ivar used_bytes: up to the end of the last whole batch.
    :ivar size_bytes: of the file.
    :ivar torn_bytes: of a batch at its end that a crash tore, and that the next start cuts.
    """

    file: str
    header: SegmentHeader | None = None
    records: int = 0
    batches: int = 0
    entries: int = 0
    first_index: int = 0
    last_index: int = 0
    first_term: int = 0
    last_term: int = 0
    used_bytes: int = 0
    size_bytes: int = 0
    torn_bytes: int = 0


@dataclass(slots=True, kw_only=True)
class Survey:
    """What was found in the folder of a log.

    :ivar log: the entries.
    :ivar gaps: the damage, in order.
    :ivar void: names of segments that a repair has made void, and that a start removes.
    :ivar end_lost: whether the log ends in damage, so that nobody knows what else was in it; likewise where the header
        of the newest segment is gone, and with it what that says of ``lost_term``.
    :ivar last_batch: the greatest number of a batch that was met.
    :ivar lost_term: see :class:`~raftkv.persistence.segment.SegmentHeader`.
    :ivar next_sequence: number of the segment that would come next.
    """

    log: Slots = field(default_factory=lambda: Slots(0, 0))
    segments: list[SegmentReport] = field(default_factory=list)
    gaps: list[Gap] = field(default_factory=list)
    void: list[str] = field(default_factory=list)
    end_lost: bool = False
    last_batch: int = 0
    lost_term: int = 0
    next_sequence: int = 1


def survey_log(disk: IDisk, identity: bytes, visit: Visit | None = None) -> Survey:
    """Read all there is of a log.

    :param identity: whose log it is; a segment of another's is a gap.
    :param visit: called with each record of a whole batch, in order.
    :raises raftkv.errors.ConfigurationError: another version of the program wrote it.
    :raises raftkv.errors.StorageError: the folder cannot be read.
    """
    return _Surveyor(disk, identity, visit).survey()


class _Surveyor:
    """One survey."""

    def __init__(self, disk: IDisk, identity: bytes, visit: Visit | None) -> None:
        self._disk = disk
        self._identity = identity
        self._salt = log_salt(identity)
        self._visit = visit
        self._found = Survey()
        self._is_first = True
        self._batch: int | None = None  # number of the batch that comes next; None where it is not known
        self._previous: int | None = None  # header checksum of the last record, likewise

    def survey(self) -> Survey:
        found = self._found
        with storage_errors("read", f"{self._disk.root}/{LOG_FOLDER}"):
            names = [name for name in self._disk.names(LOG_FOLDER) if name.endswith(".segment")]
        begin = max((number for number, name in enumerate(names) if begins_log(self._head(name))), default=0)
        found.void = [f"{LOG_FOLDER}/{name}" for name in names[:begin]]
        if not names:
            self._gap(LOG_FOLDER, 0, 0, "the log is gone: there is not one segment in its folder")
        for name in names[begin:]:
            file = f"{LOG_FOLDER}/{name}"
            number = name.partition(".")[0]
            sequence = int(number) if number.isdigit() else found.next_sequence
            if not self._is_first and sequence != found.next_sequence:
                self._gap(file, 0, 0, "a segment before this one is missing")
            found.next_sequence = sequence + 1
            data = self._bytes(file)
            header, reason = self._header(file, data)
            self._take_segment(file, data, header, reason, is_newest=name == names[-1])
        found.end_lost = found.log.gap_pending or not found.segments or found.segments[-1].header is None
        return found

    def _head(self, name: str) -> bytes:
        """Return where the header of a segment is, nothing where it cannot be read."""
        with storage_errors("open", f"{self._disk.root}/{LOG_FOLDER}/{name}"):
            file: IFile = self._disk.open(f"{LOG_FOLDER}/{name}")
        try:
            data: bytes = file.read_at(0, HEADER_BYTES)
        except OSError:
            return b""
        finally:
            file.close()
        return data

    def _header(self, file: str, data: bytes) -> tuple[SegmentHeader | None, str]:
        """Return the header of a segment, or what is wrong with it."""
        try:
            header = decode_segment_header(data, f"{self._disk.root}/{file}")
        except CorruptData:
            mended = mended_segment_header(data)
            if mended is None:
                return None, "the header of the segment does not check out"
            self._note(file, 0, 0, "one bit of the header of the segment has flipped; the rest tells which one")
            header = mended
        if header.identity != self._identity:
            return None, "the segment belongs to another node or to an earlier life of this one"
        return header, ""

    def _bytes(self, file: str) -> bytes:
        """Return a file, with something else in place of what the medium does not give back."""
        with storage_errors("open", f"{self._disk.root}/{file}"):
            opened: IFile = self._disk.open(file)
            size = opened.size()
        try:
            try:
                data: bytes = opened.read_at(0, size)
            except OSError:
                data = b"".join(
                    self._block(opened, start, min(_BLOCK_BYTES, size - start), file)
                    for start in range(0, size, _BLOCK_BYTES)
                )
        finally:
            opened.close()
        return data

    def _block(self, opened: IFile, start: int, length: int, file: str) -> bytes:
        for attempt in range(_READ_ATTEMPTS):
            try:
                data: bytes = opened.read_at(start, length)
            except OSError as error:
                reason = error.strerror or str(error)
                if attempt + 1 < _READ_ATTEMPTS:
                    continue  # to read again is harmless, unlike to sync again
            else:
                return data
            self._found.gaps.append(
                Gap(
                    path=f"{self._disk.root}/{file}",
                    start=start,
                    stop=start + length,
                    reason=f"the medium does not give this back: {reason}",
                )
            )
        return _UNREADABLE * length

    def _gap(self, file: str, start: int, stop: int, reason: str) -> None:
        self._found.gaps.append(Gap(path=f"{self._disk.root}/{file}", start=start, stop=stop, reason=reason))
        self._found.log.gap_pending = True
        self._previous = None

    def _take_segment(
        self, file: str, data: bytes, header: SegmentHeader | None, reason: str, *, is_newest: bool
    ) -> None:
        found, log = self._found, self._found.log
        report = SegmentReport(file=file, header=header, size_bytes=len(data))
        found.segments.append(report)
        if header is None:
            self._gap(file, 0, HEADER_BYTES, reason)
            self._batch = None
        else:
            found.lost_term = header.lost_term
            if self._is_first:
                log.reset(header.first_index - 1, header.previous_term)
            elif not log.gap_pending and (self._batch, self._previous) != (header.next_batch, header.previous):
                before = found.segments[-2]
                self._gap(before.file, before.used_bytes, before.used_bytes, "records are missing behind this")
            if not self._is_first:
                self._say(file, 0, lambda: log.truncate(header.first_index - 1, header.previous_term))
            self._batch, self._previous = header.next_batch, header.previous
            found.last_batch = max(found.last_batch, header.next_batch - 1)
        self._is_first = False
        for item in _scan(data, salt=self._salt, batch=self._batch, previous=self._previous, is_newest=is_newest):
            if isinstance(item, _Hole):
                self._gap(file, item.start, item.stop, item.reason)
            elif isinstance(item, _End):
                report.used_bytes, report.torn_bytes = item.offset, item.torn_bytes
            else:
                self._take_record(file, data, item, report)

    def _take_record(self, file: str, data: bytes, record: Record, report: SegmentReport) -> None:
        found, log = self._found, self._found.log
        payload = data[record.payload_start : record.payload_end]
        is_readable = payload_checks_out(data, record, payload)
        report.records += 1
        report.batches += record.ends_batch
        found.last_batch = max(found.last_batch, record.batch)
        self._batch = record.batch + 1 if record.ends_batch else record.batch
        self._previous = record.checksum
        if record.is_mended:
            self._note(file, record.start, record.start, "one bit of a header has flipped; the rest tells which one")
        if record.type == RecordType.ENTRY:
            report.entries += 1
            report.first_index = report.first_index or record.index
            report.first_term = report.first_term or record.term
            report.last_index, report.last_term = record.index, record.term
            if not is_readable:
                reason = f"the payload of entry {record.index} of term {record.term} does not check out"
                self._note(file, record.payload_start, record.payload_end, reason)
            slot = Slot(
                index=record.index,
                term=record.term,
                kind=record.kind,
                checksum=record.payload_checksum,
                length=record.payload_end - record.payload_start,
                file=file if is_readable else "",
                offset=record.payload_start,
            )
            self._say(file, record.start, lambda: log.append(slot))
        elif record.type == RecordType.TRUNCATE:
            self._say(file, record.start, lambda: log.truncate(record.index, record.term))
        elif record.type == RecordType.RESET:
            log.reset(record.index, record.term)
        else:
            self._gap(file, record.start, record.end, f"a record of type {record.type} makes no sense here")
        if self._visit is not None:
            self._visit(file, record, is_readable)

    def _say(self, file: str, offset: int, what: Callable[[], None]) -> None:
        try:
            what()
        except ValueError as error:
            self._gap(file, offset, offset, str(error))

    def _note(self, file: str, start: int, stop: int, reason: str) -> None:
        self._found.gaps.append(Gap(path=f"{self._disk.root}/{file}", start=start, stop=stop, reason=reason))


@dataclass(frozen=True, slots=True)
class _Hole:
    start: int
    stop: int
    reason: str


@dataclass(frozen=True, slots=True)
class _End:
    offset: int
    torn_bytes: int


def _scan(
    data: bytes, *, salt: int, batch: int | None, previous: int | None, is_newest: bool
) -> Iterator[Record | _Hole | _End]:
    """Yield the records of whole batches and the holes between them, and at last where it ends.

    A record whose payload does not check out is yielded like any other.

    :param batch: number of the first batch, and ``previous``, the header checksum of the record before; ``None`` where
        they are not known.
    """
    offset = end = HEADER_BYTES
    gathered: list[Record | _Hole] = []
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
                    yield _End(end, 0)
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
    yield _End(end, max(0, used - end))


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
) -> tuple[_Hole, Record | None]:
    """Return a hole that begins here, and the record that comes behind it; ``None`` where nothing surely does."""
    if later is None:
        return _Hole(
            offset, max(used, offset), f"a record of batch {batch} does not check out, and none follows it"
        ), None
    resume = _next_record(data, offset, salt, batch + (decode_header(data, offset, salt) is not None)) or later
    if resume.start == offset:
        return _Hole(offset, offset, "a record does not follow the one before it: a part of the log is missing"), resume
    return _Hole(offset, resume.start, f"a record of batch {batch} does not check out"), resume


def _next_record(data: bytes, start: int, salt: int, batch: int) -> Record | None:
    """Return the first record from an offset on whose header checks out, of this batch or a later one."""
    while (position := data.find(MAGIC, start)) >= 0:
        start = position + 1
        if position % ALIGNMENT == 0:
            record = decode_header(data, position, salt)
            if record is not None and record.batch >= batch:
                return record
    return None
