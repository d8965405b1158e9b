"""Reading entries back while the log goes on: where each of them lies, and the way from there to the entries.

The one part of the log that two threads share: the log's worker says what it has written, another one reads, so that
a sync never waits for an entry that only a far-behind follower needs. Nothing that was written is ever overwritten and
only entries that are on the medium are asked for, so that what was found under the lock may be read without it; a
segment that is removed in between is noticed, and then its entries are gone for good.
"""

from __future__ import annotations

import threading
from bisect import bisect_right
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

from raftkv.errors import DamagedLog
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.record import Record, RecordType, decode_header, payload_checks_out
from raftkv.raft.log import entry_size
from raftkv.raft.messages import Entry, EntryKind

_STRETCH_BYTES: Final = 64 * 1024  # what has to be read at most to find an entry
_KINDS: Final = {int(kind): kind for kind in EntryKind}


@dataclass(slots=True, kw_only=True)
class Stretch:
    """Valid entries that lie side by side in one segment.

    :ivar segment: name of the file, with its folder.
    :ivar start: offset of the first record; ``end`` is that behind the last one.
    :ivar first_index: of the entry at ``start``.
    """

    segment: str
    start: int
    end: int
    first_index: int


class EntryMap:
    """Where the entries of a log lie on the disk. May be used by any thread."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._stretches: list[Stretch] = []
        self._firsts: list[int] = []  # the first index of each stretch
        self._last_index = 0

    def note(self, index: int, segment: str, start: int, end: int) -> None:
        """An entry was written, behind all others."""
        with self._lock:
            newest = self._stretches[-1] if self._stretches else None
            if (
                newest is not None
                and (newest.segment, newest.end, self._last_index) == (segment, start, index - 1)
                and end - newest.start <= _STRETCH_BYTES
            ):
                newest.end = end
            else:
                self._stretches.append(Stretch(segment=segment, start=start, end=end, first_index=index))
                self._firsts.append(index)
            self._last_index = index

    def cut_behind(self, index: int) -> None:
        """What lies behind ``index`` is void."""
        with self._lock:
            while self._firsts and self._firsts[-1] > index:
                self._firsts.pop()
                self._stretches.pop()
            self._last_index = index

    def forget_through(self, index: int) -> None:
        """What lies at or before ``index``, which ends a segment, is about to be removed."""
        with self._lock:
            count = bisect_right(self._firsts, index)
            del self._firsts[:count], self._stretches[:count]

    def find(self, index: int) -> tuple[Stretch, int] | None:
        """Return the stretch in which an entry lies and the index behind its last one; ``None`` for no such entry."""
        with self._lock:
            place = bisect_right(self._firsts, index)
            if place == 0 or index > self._last_index:
                return None
            found = self._stretches[place - 1]
            stop = self._firsts[place] if place < len(self._firsts) else self._last_index + 1
            copy = Stretch(segment=found.segment, start=found.start, end=found.end, first_index=found.first_index)
            return copy, stop


class EntryReader:
    """Reads entries back; everything here blocks.

    :param disk: the data directory.
    :param entries: where they are.
    :param salt: of the log's checksums.
    """

    def __init__(self, disk: IDisk, entries: EntryMap, *, salt: int) -> None:
        self._disk = disk
        self._map = entries
        self._salt = salt

    def read(self, start: int, stop: int, max_bytes: int) -> tuple[Entry, ...]:
        """Return entries with ``start <= index < stop``, as many as fit in ``max_bytes``, at least one of them.

        :return: nothing where the first of them is not in the log (any more).
        :raises raftkv.errors.StorageError: the disk does not give them back.
        :raises raftkv.errors.DamagedLog: what it gives back was never written. The next start finds the same damage,
            and has it repaired.
        """
        found: list[Entry] = []
        room = max_bytes
        for entry in self._entries_from(start, stop):
            room -= entry_size(entry)
            if found and room < 0:
                break
            found.append(entry)
        return tuple(found)

    def _entries_from(self, start: int, stop: int) -> Iterator[Entry]:
        index = start
        while index < stop and (place := self._map.find(index)) is not None:
            stretch, end_index = place
            data = self._bytes(stretch)
            if data is None:
                return
            yield from self._decode(data, stretch, index, min(end_index, stop))
            index = end_index

    def _bytes(self, stretch: Stretch) -> bytes | None:
        path = f"{self._disk.root}/{stretch.segment}"
        with storage_errors("read", path):
            try:
                file = self._disk.open(stretch.segment)
            except FileNotFoundError:
                if self._map.find(stretch.first_index) is None:
                    return None  # removed since we looked
                raise
            try:
                data: bytes = file.read_at(stretch.start, stretch.end - stretch.start)
            finally:
                file.close()
        return data

    def _decode(self, data: bytes, stretch: Stretch, start: int, stop: int) -> Iterator[Entry]:
        """Yield entries of a stretch; payloads of those in front are skipped, not looked at."""
        offset = 0
        for index in range(stretch.first_index, stop):
            record = decode_header(data, offset, self._salt)
            if record is None or record.type != RecordType.ENTRY or record.index != index or record.kind not in _KINDS:
                raise self._damage(stretch, offset)
            if index >= start:
                yield self._entry(data, record, stretch)
            offset = record.end

    def _entry(self, data: bytes, record: Record, stretch: Stretch) -> Entry:
        payload = data[record.payload_start : record.payload_end]
        if not payload_checks_out(data, record, payload):
            raise self._damage(stretch, record.start)
        return Entry(index=record.index, term=record.term, kind=_KINDS[record.kind], payload=payload)

    def _damage(self, stretch: Stretch, offset: int) -> DamagedLog:
        path = f"{self._disk.root}/{stretch.segment}"
        what = "a record that had been written does not check out any more; a start asks the other members for it"
        return DamagedLog(path, stretch.start + offset, what)
