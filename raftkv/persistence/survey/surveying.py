"""One survey: segment after segment, each record is taken for what it says, and what does not fit is a gap."""

from __future__ import annotations

from collections.abc import Callable
from functools import partial

from raftkv.errors import CorruptData
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.log import LOG_FOLDER
from raftkv.persistence.record import Record, RecordType, payload_checks_out
from raftkv.persistence.segment import (
    HEADER_BYTES,
    SegmentHeader,
    begins_log,
    decode_segment_header,
    log_salt,
    mended_segment_header,
)
from raftkv.persistence.survey.findings import Gap, SegmentReport, Survey
from raftkv.persistence.survey.media import read_all, read_head
from raftkv.persistence.survey.scanning import End, Hole, scan
from raftkv.persistence.survey.slots import Slot

Visit = Callable[[str, Record, bool], None]  #: name of the segment, a record of it, whether its payload checks out


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
        begin = max((number for number, name in enumerate(names) if begins_log(read_head(self._disk, name))), default=0)
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
            data = read_all(self._disk, file, partial(self._note, file))
            header, reason = self._header(file, data)
            self._take_segment(file, data, header, reason, is_newest=name == names[-1])
        found.end_lost = found.log.gap_pending or not found.segments or found.segments[-1].header is None
        return found

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
        for item in scan(data, salt=self._salt, batch=self._batch, previous=self._previous, is_newest=is_newest):
            if isinstance(item, Hole):
                self._gap(file, item.start, item.stop, item.reason)
            elif isinstance(item, End):
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
