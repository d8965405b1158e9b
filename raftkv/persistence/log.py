"""The log on disk: segments in the folder ``log``, appended to in batches, cut at the front by whole files.

It knows what the segments together mean: which entries are valid after truncations and resets, where the next batch
goes, which files can go. Bytes are the matter of :mod:`~raftkv.persistence.segment` and
:mod:`~raftkv.persistence.record`; when to sync what else first is that of :mod:`~raftkv.persistence.storage`.

Nothing is ever overwritten: an entry that replaces others (section 5.3) comes behind a ``TRUNCATE`` record, so that a
crash in between leaves one or the other. Everything here blocks.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

from raftkv.errors import DamagedLog, InvariantViolation, NoRoom, StorageError
from raftkv.interfaces import IDisk, IFile
from raftkv.persistence.faults import NoRoomForFile, storage_error, storage_errors
from raftkv.persistence.files import TEMPORARY_SUFFIX, read_whole, remove_temporary_files
from raftkv.persistence.loading import STRETCH_BYTES, LoadedLog
from raftkv.persistence.reading import EntryMap, EntryReader
from raftkv.persistence.record import HEADER_BYTES as RECORD_HEADER_BYTES
from raftkv.persistence.record import Record, RecordType, aligned, encode_record, map_bytes
from raftkv.persistence.segment import (
    HEADER_BYTES,
    SegmentEnd,
    SegmentHeader,
    begins_log,
    decode_segment_header,
    encode_segment_header,
    log_salt,
    read_segment,
    segment_name,
)
from raftkv.raft.messages import Entry, EntryKind
from raftkv.raft.terms import TermRuns

LOG_FOLDER = "log"
MIB = 1024 * 1024

Progress = Callable[[int, int], None]  #: bytes read, bytes in all


@dataclass(frozen=True, slots=True, kw_only=True)
class LogSettings:
    """How the log uses its disk.

    :ivar segment_bytes: size of a segment; one that a single batch would not fit into is made larger.
    :ivar max_batch_bytes: what one sync covers at most, but for a single larger record.
    :ivar cache_bytes: how much of the log recovery loads; the rest is read where it is needed.
    :ivar zero_ahead_bytes: how far zeros are written ahead of small batches, for their sync not to have to note that
        an extent is now in use; 0 for none.
    """

    segment_bytes: int = 64 * MIB
    max_batch_bytes: int = 8 * MIB
    zero_ahead_bytes: int = MIB // 4
    cache_bytes: int = 32 * MIB

    @classmethod
    def sized(cls, segment_bytes: int) -> LogSettings:
        """Return settings for segments of a size; a sync covers no more than a part of one."""
        return cls(segment_bytes=segment_bytes, max_batch_bytes=min(8 * MIB, segment_bytes // 4))


@dataclass(slots=True, kw_only=True)
class _Segment:
    """A file of the log.

    :ivar file: its name, with the folder.
    :ivar last_index: index of the last valid entry in it, 0 where it holds none (any more).
    """

    sequence: int
    file: str = ""
    last_index: int = 0

    def __post_init__(self) -> None:
        self.file = f"{LOG_FOLDER}/{segment_name(self.sequence)}"


@dataclass(slots=True)  # not frozen, which takes three times as long to make
class _Staged:
    """A record that waits for :meth:`SegmentedLog.commit`."""

    type: RecordType
    index: int
    term: int
    kind: int
    payload: bytes


def create_log(disk: IDisk, identity: bytes, settings: LogSettings) -> None:
    """Make the first segment of a new node's log, anew where a crash left one half made."""
    with storage_errors("create", f"{disk.root}/{LOG_FOLDER}"):
        disk.make_folder(LOG_FOLDER)
        disk.sync_folder("")
    header = SegmentHeader(
        sequence=1,
        capacity=settings.segment_bytes,
        first_index=1,
        previous_term=0,
        next_batch=1,
        previous=0,
        identity=identity,
    )
    _create_segment(disk, header).close()


class SegmentedLog:
    """The log of one node, open for appending once :meth:`recover` has read it.

    :param disk: the data directory.
    :param identity: whose log it is; a segment of another's is refused.
    :param settings: see there.
    :param make_room: called with the size of another segment where there is no room for it; gives so much of the disk
        back that was kept for this, and returns whether there was any.
    :ivar terms: of the entries that the segments hold, staged ones included.
    :ivar reader: reads entries back, in whatever thread.
    :ivar last_batch: number of the last batch that is on the medium.
    :ivar lost_term: see :class:`~raftkv.persistence.segment.SegmentHeader`.
    """

    def __init__(
        self,
        disk: IDisk,
        identity: bytes,
        settings: LogSettings,
        *,
        make_room: Callable[[int], bool] = lambda log_bytes: False,
    ) -> None:
        self._disk = disk
        self._make_room = make_room
        self._identity = identity
        self._salt = log_salt(identity)
        self._settings = settings
        self._segments: list[_Segment] = []
        self._file: IFile | None = None
        self._path = ""
        self._capacity = 0
        self._zeroed = 0  # below this offset the file has been written: a sync need not note extents as used
        self._end = SegmentEnd(offset=HEADER_BYTES, batch_start=HEADER_BYTES, next_batch=1, previous=0, torn_bytes=0)
        self._staged: list[_Staged] = []
        self._compacted_index = 0
        self._written_index = 0  # where the log ends that has been written, which is behind what is staged
        self._written_term = 0
        self._map = EntryMap()
        self.reader = EntryReader(disk, self._map, salt=self._salt)
        self.terms = TermRuns()
        self.lost_term = 0

    @property
    def base_index(self) -> int:
        """Index of the entry before the first one."""
        return self.terms.previous_index

    @property
    def base_term(self) -> int:
        """Term of that entry."""
        return self.terms.previous_term

    @property
    def last_index(self) -> int:
        """Index of the last entry, staged ones included."""
        return self.terms.last_index

    @property
    def last_batch(self) -> int:
        """See the class."""
        return self._end.next_batch - 1

    @property
    def room_bytes(self) -> int:
        """What fits into the newest segment; may be asked by any thread."""
        # The end first: when a segment is begun its capacity is set before the end moves into it. The new end with the
        # old capacity, which may have been larger, would promise too much.
        end = self._end
        return max(0, self._capacity - end.offset)

    def term_at(self, index: int) -> int | None:
        """Return the term of an entry, also of that before the first; ``None`` where the log does not reach."""
        return self.terms.term_at(index)

    # -- recovery ----------------------------------------------------------------------------------------------------

    def recover(self, progress: Progress, *, durable_batch: int = 0) -> LoadedLog:
        """Read the segments and open the newest for appending; return what was loaded of the valid entries.

        A torn end is cut, and what is returned is on the medium.

        :param durable_batch: a batch that is known to be on the medium, and those before it with it.
        :raises raftkv.errors.DamagedLog: damage that must not be cut.
        """
        folder = f"{self._disk.root}/{LOG_FOLDER}"
        remove_temporary_files(self._disk, LOG_FOLDER)
        with storage_errors("read", folder):
            names = self._disk.names(LOG_FOLDER)
        if not names:
            raise DamagedLog(folder, 0, "the log is gone: there is not one segment in its folder")
        names = names[self._void_segments(names) :]
        loaded = LoadedLog(
            self._settings.cache_bytes, stretch_bytes=min(STRETCH_BYTES, self._settings.segment_bytes // 64)
        )
        sizes = [self._size_of(name) for name in names]
        end: SegmentEnd | None = None
        header: SegmentHeader | None = None
        data = b""
        for number, name in enumerate(names):
            path = f"{folder}/{name}"
            data = b""  # one segment at a time in memory, not two
            data = self._read_segment(name)
            header = decode_segment_header(data, path)
            self._check_follows(header, end, name, path)
            self.lost_term = header.lost_term
            if end is None:
                self._begin_behind(header.first_index - 1, header.previous_term)
                loaded.begin_behind(header.first_index - 1)
                self._written_index, self._written_term = self.base_index, self.base_term
            elif (header.first_index, header.previous_term) != (self.last_index + 1, self.term_at(self.last_index)):
                raise DamagedLog(path, 0, "the segment does not go on where the one before it ends")
            self._segments.append(_Segment(sequence=header.sequence))
            visit = self._replay_into(loaded, path)
            end = read_segment(data, path=path, header=header, is_newest=number == len(names) - 1, visit=visit)
            progress(sum(sizes[: number + 1]), sum(sizes))
        if header is not None and end is not None:
            last_batch = b"" if end.next_batch - 1 <= durable_batch else data[end.batch_start : end.offset]
            self._open_newest(header, end, last_batch)
        return loaded

    def _read_segment(self, name: str) -> bytes:
        try:
            return read_whole(self._disk, f"{LOG_FOLDER}/{name}")
        except StorageError as error:
            # What the medium no longer gives back is as damaged as what it gives back wrongly.
            raise DamagedLog(error.path, 0, f"not all of it can be read: {error.reason}") from error

    def _void_segments(self, names: list[str]) -> int:
        """Remove the segments in front of the newest one at which the log begins anew; return how many there were.

        Oldest first: a crash leaves some of them in front of it, to be removed the next time.
        """
        for number in range(len(names) - 1, 0, -1):
            name = f"{LOG_FOLDER}/{names[number]}"
            with storage_errors("read", f"{self._disk.root}/{name}"):
                file = self._disk.open(name)
                sector = file.read_at(0, HEADER_BYTES)
                file.close()
            if begins_log(sector):
                self._remove(names[:number])
                return number
        return 0

    def _remove(self, names: list[str]) -> None:
        for name in names:
            with storage_errors("remove", f"{self._disk.root}/{LOG_FOLDER}/{name}"):
                self._disk.remove(f"{LOG_FOLDER}/{name}")
                self._disk.sync_folder(LOG_FOLDER)

    def _size_of(self, name: str) -> int:
        with storage_errors("read", f"{self._disk.root}/{LOG_FOLDER}/{name}"):
            file = self._disk.open(f"{LOG_FOLDER}/{name}")
            size: int = file.size()
            file.close()
        return size

    def _check_follows(self, header: SegmentHeader, end: SegmentEnd | None, name: str, path: str) -> None:
        if header.identity != self._identity:
            raise DamagedLog(path, 0, "the segment belongs to another node or to an earlier life of this one")
        if segment_name(header.sequence) != name:
            raise DamagedLog(path, 0, f"the segment is number {header.sequence}, its file has another's name")
        if end is not None and (
            header.sequence != self._segments[-1].sequence + 1
            or header.next_batch != end.next_batch
            or header.previous != end.previous
        ):
            before = f"{self._disk.root}/{LOG_FOLDER}/{segment_name(self._segments[-1].sequence)}"
            raise DamagedLog(before, end.offset, f"records are missing between here and the start of {name}")

    def _replay_into(self, loaded: LoadedLog, path: str) -> Callable[[Record, bytes], None]:
        kinds = {int(kind): kind for kind in EntryKind}
        terms, newest, entry_type = self.terms, self._segments[-1], int(RecordType.ENTRY)

        def visit(record: Record, payload: bytes) -> None:
            if record.type == entry_type and record.kind in kinds:
                index, term = record.index, record.term
                if index != terms.last_index + 1:
                    raise DamagedLog(path, record.start, f"entry {index} comes after entry {self.last_index}")
                loaded.append(index, term, kinds[record.kind], payload)
                terms.append(term)
                # What _note_written does for an entry: a start does this a million times.
                self._written_index, self._written_term = index, term
                newest.last_index = index
                self._map.note(index, newest.file, record.start, record.end)
                return
            if record.type == RecordType.TRUNCATE and self.term_at(record.index) in (record.term, None):
                self._cut_behind(record.index, record.term)
                loaded.cut_behind(record.index)
            elif record.type == RecordType.RESET:
                self._begin_behind(record.index, record.term)
                loaded.begin_behind(record.index)
            else:
                raise DamagedLog(path, record.start, f"a record of type {record.type} makes no sense here")
            self._note_written(record.type, record.index, record.term, record.start, record.end)

        return visit

    def _open_newest(self, header: SegmentHeader, end: SegmentEnd, last_batch: bytes) -> None:
        """Open the newest segment, and put on the medium what was read of its end before anybody trusts it.

        A process that was killed, or whose sync failed, may have left it in memory only, and the system takes for clean
        what it once failed to sync: to sync again would not help, so it is written anew. That holds for the last batch,
        since the syncs of those before it have returned, and for the zeros behind it: where an earlier start failed to
        cut a torn batch, its remains may still be on the medium.
        """
        name = segment_name(header.sequence)
        self._path = f"{self._disk.root}/{LOG_FOLDER}/{name}"
        # A batch that is larger than usual has a segment of its own that is larger than usual: see _write_batch.
        is_usual = header.capacity <= self._settings.segment_bytes
        torn_at_most = max(self._settings.max_batch_bytes, end.torn_bytes) if is_usual else header.capacity
        stop = min(header.capacity, end.offset + torn_at_most)
        with storage_errors("open", self._path):
            self._file = self._disk.open(f"{LOG_FOLDER}/{name}")
            self._file.allocate(header.capacity)  # nothing to do unless somebody has shortened it
            self._file.write_at(end.offset - len(last_batch), last_batch + bytes(stop - end.offset))
            self._file.sync()
        self._capacity = header.capacity
        self._zeroed = stop
        self._end = end

    # -- appending ---------------------------------------------------------------------------------------------------

    def append(self, entries: Sequence[Entry]) -> None:
        """Stage entries; those that the log held from ``entries[0].index`` on are dropped first.

        :raises raftkv.errors.InvariantViolation: they would leave a gap, or replace what has been compacted.
        """
        first = entries[0].index
        if first <= self.last_index:
            kept_term = self.term_at(first - 1)
            if kept_term is None:
                raise InvariantViolation(f"entry {first} would replace one at or before {self.base_index}")
            self._staged.append(_Staged(RecordType.TRUNCATE, first - 1, kept_term, 0, b""))
            self._cut_behind(first - 1, kept_term)
        for entry in entries:
            if entry.index != self.last_index + 1:
                raise InvariantViolation(f"entry {entry.index} would come after entry {self.last_index}")
            self._staged.append(_Staged(RecordType.ENTRY, entry.index, entry.term, entry.kind, entry.payload))
            self.terms.append(entry.term)

    def install_snapshot(self, index: int, term: int) -> None:
        """Stage what a snapshot of another member's does to the log: keep it where it holds the snapshot's last entry
        (an older snapshot must not drop newer matching entries), else begin anew behind that (B46)."""
        if self.term_at(index) == term or index <= self.base_index:
            return
        self._staged.append(_Staged(RecordType.RESET, index, term, 0, b""))
        self._begin_behind(index, term)

    def commit(self) -> None:
        """Write what is staged and return once it is on the medium: one sync, unless it is very much.

        :raises raftkv.errors.StorageError: some of it may be there or not; the node has to stop (B43).
        """
        staged, self._staged = self._staged, []
        batch: list[_Staged] = []
        size = 0
        for record in staged:
            bound = size_bound(len(record.payload))
            if batch and size + bound > self._settings.max_batch_bytes:
                self._write_batch(batch, size)
                batch, size = [], 0
            batch.append(record)
            size += bound
        if batch:
            self._write_batch(batch, size)

    def _write_batch(self, batch: list[_Staged], size_bound: int) -> None:
        is_large = size_bound > self._settings.max_batch_bytes
        if self._end.offset + size_bound > self._capacity or (is_large and self._end.offset > HEADER_BYTES):
            self._rotate(size_bound)
        file = self._opened()
        start = self._end.offset
        position, previous, number = start, self._end.previous, self._end.next_batch
        pieces: list[bytes] = []
        ends: list[int] = []
        for place, record in enumerate(batch, 1):
            parts, size, previous = encode_record(
                position=position,
                salt=self._salt,
                previous=previous,
                batch=number,
                record_type=record.type,
                index=record.index,
                term=record.term,
                kind=record.kind,
                payload=record.payload,
                last=place == len(batch),
            )
            pieces += parts
            position += size
            ends.append(position)
        step = "write"
        try:
            file.write_at(start, b"".join(pieces))
            if position > self._zeroed:
                self._zero_ahead(file, start, position)
            step = "fdatasync"
            file.sync()
        except OSError as error:
            raise storage_error(step, self._path, error) from error
        self._end = SegmentEnd(
            offset=position, batch_start=start, next_batch=number + 1, previous=previous, torn_bytes=0
        )
        for record, end in zip(batch, ends, strict=True):
            self._note_written(record.type, record.index, record.term, start, end)
            start = end

    def _zero_ahead(self, file: IFile, start: int, end: int) -> None:
        ahead = self._settings.zero_ahead_bytes
        self._zeroed = end
        if end - start <= ahead // 4:  # for a large batch the zeros would cost more than they save
            stop = min(self._capacity, end + ahead)
            file.write_at(end, bytes(stop - end))
            self._zeroed = stop

    def _note_written(self, record_type: int, index: int, term: int, start: int, end: int) -> None:
        """Keep account of where the written log ends, and of where which valid entries lie."""
        self._written_index, self._written_term = index, term
        newest = self._segments[-1]
        if record_type == RecordType.ENTRY:
            newest.last_index = index
            self._map.note(index, newest.file, start, end)
            return
        kept = index if record_type == RecordType.TRUNCATE else 0
        self._map.cut_behind(kept)
        for segment in self._segments:
            segment.last_index = min(segment.last_index, kept)

    def _rotate(self, batch_bytes: int) -> None:
        """Go on in a new segment, which is safe on the medium before anything is written to it."""
        usual = self._settings.segment_bytes
        room = HEADER_BYTES + aligned(batch_bytes)
        header = SegmentHeader(
            sequence=self._segments[-1].sequence + 1,
            capacity=usual if room <= usual and batch_bytes <= self._settings.max_batch_bytes else usual + room,
            first_index=self._written_index + 1,
            previous_term=self._written_term,
            next_batch=self._end.next_batch,
            previous=self._end.previous,
            identity=self._identity,
            lost_term=self.lost_term if self._written_term <= self.lost_term else 0,
        )
        file = self._create(header)
        self.close()
        self._file = file
        self._path = f"{self._disk.root}/{LOG_FOLDER}/{segment_name(header.sequence)}"
        self._capacity = header.capacity
        self._zeroed = HEADER_BYTES
        self._end = SegmentEnd(
            offset=HEADER_BYTES,
            batch_start=HEADER_BYTES,
            next_batch=header.next_batch,
            previous=header.previous,
            torn_bytes=0,
        )
        self._segments.append(_Segment(sequence=header.sequence))

    def _create(self, header: SegmentHeader) -> IFile:
        """Make a segment, if need be with what was kept in reserve.

        That is no repetition of a write that failed: of the first attempt nothing is left, not even its file. Somebody
        else may be quicker to take what was given back.
        """
        while True:
            try:
                return _create_segment(self._disk, header)
            except NoRoomForFile:
                if not self._make_room(header.capacity):
                    raise

    # -- compaction --------------------------------------------------------------------------------------------------

    def compact(self, index: int) -> None:
        """Remove the segments whose valid entries all lie at or before ``index``, but never the newest.

        One at a time, oldest first, each safe on the medium before the next: a crash leaves no gap.
        """
        self._compacted_index = max(self._compacted_index, index)
        while len(self._segments) > 1 and self._segments[0].last_index <= self._compacted_index:
            file = self._segments[0].file
            self._map.forget_through(self._segments[0].last_index)  # before the file is gone: who misses it looks here
            with storage_errors("remove", f"{self._disk.root}/{file}"):
                self._disk.remove(file)
                self._disk.sync_folder(LOG_FOLDER)
            self._forget_through(self._segments.pop(0).last_index)

    def _cut_behind(self, index: int, term: int) -> None:
        if index < self.base_index:
            self._begin_behind(index, term)
        elif index < self.last_index:
            self.terms.truncate_from(index + 1)

    def _begin_behind(self, index: int, term: int) -> None:
        self.terms.begin_behind(index, term)

    def _forget_through(self, index: int) -> None:
        if self.base_index < index <= self.last_index:
            self.terms.forget_through(index)

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        file, self._file = self._file, None
        if file is not None:
            file.close()

    def _opened(self) -> IFile:
        if self._file is None:
            raise InvariantViolation("the log is not open")
        return self._file


def size_bound(payload_bytes: int) -> int:
    """Return what the record of a payload takes at most; one that takes more than a batch has a segment of its own."""
    return aligned(RECORD_HEADER_BYTES + map_bytes(payload_bytes) + payload_bytes)


def _create_segment(disk: IDisk, header: SegmentHeader) -> IFile:
    """Make a segment with nothing in it, safe on the medium under its name, and return it open."""
    name = f"{LOG_FOLDER}/{segment_name(header.sequence)}"
    file = _allocated(disk, name + TEMPORARY_SUFFIX, header.capacity)
    with storage_errors("create", f"{disk.root}/{name}"):
        file.write_at(0, encode_segment_header(header))
        file.sync()
        disk.rename(name + TEMPORARY_SUFFIX, name)
        disk.sync_folder(LOG_FOLDER)
    return file


def _allocated(disk: IDisk, name: str, size_bytes: int) -> IFile:
    """Return a new file that has its room on the disk.

    :raises NoRoomForFile: there is none; nothing of the file is left.
    """
    path = f"{disk.root}/{name}"
    with storage_errors("create", path):
        file: IFile = disk.open(name, create=True)
        file.truncate(0)
    try:
        with storage_errors("allocate", path):
            file.allocate(size_bytes)
    except NoRoom as error:
        file.close()
        with storage_errors("remove", path):
            disk.remove(name)
        raise NoRoomForFile(error.operation, error.path, error.reason) from error
    return file
