"""A damaged log made whole: which entries are missing, what to ask of others, and the log written anew.

It follows "Protocol-Aware Recovery for Consensus-Based Storage" (FAST 2018): a record that may have been committed is
fetched from a member that has it; it is never cut because it cannot be read. What nobody can supply is given up only
together with the right to vote: see :meth:`LogRepair.write`.

**Written anew.** Nothing is mended in place. The whole log, which is no longer than what lies behind the last snapshot
and little more, is written to one new segment that gets its name once all of it is on the medium, and whose header says
that the log begins there. A crash leaves the damaged log or the repaired one; the old segments are removed by the next
start. Whoever reads a log strictly never meets damage that was repaired.

Everything here but the asking blocks.
"""

from __future__ import annotations

from collections.abc import Iterator

import google_crc32c

from raftkv.errors import CorruptData, InvariantViolation
from raftkv.interfaces import EntriesAnswer, EntriesRequest, IDisk, IFile
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import TEMPORARY_SUFFIX
from raftkv.persistence.hardstate import HardStateFile
from raftkv.persistence.log import LOG_FOLDER, LogSettings
from raftkv.persistence.record import HEADER_BYTES as RECORD_HEADER_BYTES
from raftkv.persistence.record import RecordType, aligned, encode_record, map_bytes
from raftkv.persistence.segment import HEADER_BYTES, SegmentHeader, encode_segment_header, log_salt, segment_name
from raftkv.persistence.survey import Slot, Survey, survey_log
from raftkv.raft.messages import Entry, EntryKind, HardState, SnapshotMeta

_IN_MEMORY = "memory"  # where the payload of an entry lies that another member has supplied
_KINDS = {int(kind): kind for kind in EntryKind}


class LogRepair:
    """The repair of one log.

    :param disk: the data directory.
    :param identity: whose log it is.
    :param snapshot: the newest readable one; entries that it includes are not needed.
    :param settings: of the log.
    :raises raftkv.errors.CorruptData: the hard state cannot be read either.
    :raises raftkv.errors.StorageError: the disk fails.
    """

    def __init__(self, disk: IDisk, identity: bytes, *, snapshot: SnapshotMeta | None, settings: LogSettings) -> None:
        self._disk = disk
        self._identity = identity
        self._settings = settings
        file = HardStateFile(disk)
        self._hard_state = file.newest
        file.close()
        self.survey: Survey = survey_log(disk, identity)
        self._log = self.survey.log
        self._supplied: dict[int, Entry] = {}
        self._low = 0  # from where on the entries before the last seam are asked for; 0 for not yet known
        self._step = 1
        self._end_lost = self.survey.end_lost or self._hard_state.log_batch > self.survey.last_batch
        self._begin_behind(snapshot)

    def _begin_behind(self, snapshot: SnapshotMeta | None) -> None:
        log = self._log
        index, term = (0, 0) if snapshot is None else (snapshot.index, snapshot.term)
        certain_from = max(log.seams, default=0)
        known = log.term_at(index)
        if log.base_index > index:
            log.reach_down_to(index, term)
        elif certain_from <= index and known not in (None, term):
            log.reset(index, term)  # the snapshot came from a leader whose log is another one
        else:
            # What the snapshot includes is not needed here, but others may lack it: all behind the last hole is kept.
            hole = max((hole for hole in self._holes() if hole <= index), default=0)
            if hole:
                known = log.term_at(hole)
                log.begin_at(*((index, term) if known is None else (hole, known)))
        log.seams = [seam for seam in log.seams if seam > log.base_index + 1]  # what comes before the first is known

    # -- what is missing ---------------------------------------------------------------------------------------------

    @property
    def first_damage(self) -> CorruptData:
        """The error that tells where the log cannot be read."""
        if self.survey.gaps:
            return self.survey.gaps[0].error()
        return CorruptData(
            f"{self._disk.root}/{LOG_FOLDER}",
            0,
            f"the log ends with batch {self.survey.last_batch}, but batch {self._hard_state.log_batch} had been "
            "written: its end has been lost",
        )

    @property
    def end_is_lost(self) -> bool:
        """Whether the end of the log is gone, and nobody knows what was in it."""
        return self._end_lost

    @property
    def term(self) -> int:
        """The latest term that this node has seen."""
        return self._hard_state.hard_state.term

    def missing(self) -> list[int]:
        """Return the indexes of the entries that are missing, or not known to be part of the log."""
        last_seam = max(self._log.seams, default=0)
        return [slot.index for slot in self._log.slots if not slot.is_readable or slot.index < last_seam]

    def _holes(self) -> list[int]:
        """Return the indexes of entries that are missing, or of which it is not known what came before them."""
        return [*(slot.index for slot in self._log.slots if not slot.is_readable), *self._log.seams]

    def configurations(self) -> Iterator[Entry]:
        """Yield the entries that can be read and hold a configuration, oldest first."""
        for slot in self._log.slots:
            if slot.is_readable and slot.kind == EntryKind.CONFIGURATION:
                yield self._entry(slot)

    # -- asking ------------------------------------------------------------------------------------------------------

    def request(self) -> EntriesRequest | None:
        """Return what to ask next; ``None`` where nothing is missing that anybody could know."""
        log = self._log
        if log.seams:
            seam = log.seams[-1]
            if not self._low:
                self._low = seam
                while self._low - 1 > log.base_index and log.at(self._low - 1).term is None:
                    self._low -= 1
            return EntriesRequest(anchor_index=seam, anchor_term=self._term_of(seam), first=self._low, stop=seam)
        for slot in log.slots:
            if not slot.is_readable:
                return EntriesRequest(
                    anchor_index=slot.index,
                    anchor_term=self._term_of(slot.index),
                    first=slot.index,
                    stop=slot.index + 1,
                )
        return None

    def take(self, request: EntriesRequest, answer: EntriesAnswer) -> bool:
        """Take an answer to what :meth:`request` returned last; return whether it was of use."""
        if answer.previous_term is None or not self._makes_sense(request, answer):
            return False
        log = self._log
        if request.anchor_index not in log.seams:
            if not answer.entries or not self._is_missing_one(answer.entries[0]):
                return False
            self._put(answer.entries[0])
            return True
        before = request.first - 1
        if log.term_at(before) != answer.previous_term:
            if before == log.base_index:
                return False  # that is known for sure, so that this cannot be the log that ours was
            # The logs part before that: look further down.
            self._step *= 2
            self._low = max(log.base_index + 1, request.first - self._step)
            return True
        for entry in answer.entries:
            self._put(entry)
        done = request.first + len(answer.entries)
        if done < request.stop and not answer.entries:
            return False
        self._low, self._step = done, 1
        if done == request.stop:
            log.seams.remove(request.anchor_index)
            self._low = 0
        return True

    def _makes_sense(self, request: EntriesRequest, answer: EntriesAnswer) -> bool:
        term = answer.previous_term or 0
        for index, entry in enumerate(answer.entries, request.first):
            if entry.index != index or not term <= entry.term <= request.anchor_term or index >= request.stop:
                return False
            term = entry.term
        return True

    def _is_missing_one(self, entry: Entry) -> bool:
        slot = self._log.at(entry.index)
        return slot.term == entry.term and (
            slot.checksum < 0
            or (slot.kind, slot.length, slot.checksum)
            == (int(entry.kind), len(entry.payload), google_crc32c.value(entry.payload))
        )

    def _put(self, entry: Entry) -> None:
        self._supplied[entry.index] = entry
        self._log.put(Slot(index=entry.index, term=entry.term, kind=int(entry.kind), file=_IN_MEMORY))

    def _term_of(self, index: int) -> int:
        term = self._log.at(index).term
        if term is None:
            raise InvariantViolation(f"nobody knows the term of entry {index}, behind which the log goes on")
        return term

    # -- answering others that are damaged too -------------------------------------------------------------------------

    def answer(self, request: EntriesRequest, *, max_bytes: int) -> EntriesAnswer:
        """Return what this log has of what another member asks for. Blocks."""
        log = self._log
        nothing = EntriesAnswer(is_damaged=True)
        if not (log.base_index < request.first <= request.stop <= request.anchor_index + 1 <= log.last_index + 1):
            return nothing
        if log.term_at(request.anchor_index) != request.anchor_term:
            return nothing
        if any(request.first <= seam <= request.anchor_index for seam in log.seams):
            return nothing
        previous_term = log.term_at(request.first - 1)
        found: list[Entry] = []
        room = max_bytes
        for index in range(request.first, request.stop):
            slot = log.at(index)
            room -= max(0, slot.length)
            if not slot.is_readable:
                return nothing
            if found and room < 0:
                break
            found.append(self._entry(slot))
        return EntriesAnswer(previous_term=previous_term, entries=tuple(found), is_damaged=True)

    # -- the end -----------------------------------------------------------------------------------------------------

    def write(self) -> int:
        """Write the log anew, as far as it is known; return the index of its last entry.

        Where something is missing the log ends before it, and the node may have acknowledged what is lost. So it goes
        on in a later term, in which it has voted for nobody, and the log says that it may vote and lead only once it
        holds an entry of a later term than those it knew: then whatever was committed is in it again, because the
        leader of that term was elected without its vote (section 5.4.3). A leader that counts on what this node had
        steps down for the later term, and counts anew.

        :raises raftkv.errors.StorageError: the disk fails; the log is the damaged one or the new one.
        """
        log = self._log
        holes = self._holes()
        if holes:
            # What lies in front of the first one was the whole log once.
            log.truncate(min(holes) - 1, log.term_at(min(holes) - 1) or 0)
        lost_term = self.survey.lost_term
        if (holes or self._end_lost) and self.term:  # in term 0 nothing was ever acknowledged
            file = HardStateFile(self._disk)
            try:
                lost_term = max(lost_term, file.newest.hard_state.term)
                file.store(HardState(term=lost_term + 1), log_batch=file.newest.log_batch)
            finally:
                file.close()
        self._write_segment(lost_term)
        return log.last_index

    def _write_segment(self, lost_term: int) -> None:
        log, usual = self._log, self._settings.segment_bytes
        room = HEADER_BYTES + sum(
            aligned(RECORD_HEADER_BYTES + map_bytes(length) + length)
            for length in (
                len(self._supplied[slot.index].payload) if slot.file == _IN_MEMORY else slot.length
                for slot in log.slots
            )
        )
        header = SegmentHeader(
            sequence=self.survey.next_sequence,
            capacity=usual if room <= usual else room,
            first_index=log.base_index + 1,
            previous_term=log.base_term,
            next_batch=max(self.survey.last_batch, self._hard_state.log_batch) + 1,
            previous=0,
            identity=self._identity,
            begins=True,
            lost_term=lost_term,
        )
        name = f"{LOG_FOLDER}/{segment_name(header.sequence)}"
        with storage_errors("create", f"{self._disk.root}/{name}"):
            file: IFile = self._disk.open(name + TEMPORARY_SUFFIX, create=True)
            try:
                file.truncate(0)
                file.allocate(header.capacity)
                file.write_at(0, encode_segment_header(header))
                self._write_entries(file, header)
                file.sync()
            finally:
                file.close()
            self._disk.rename(name + TEMPORARY_SUFFIX, name)
            self._disk.sync_folder(LOG_FOLDER)

    def _write_entries(self, file: IFile, header: SegmentHeader) -> None:
        position, previous, batch = HEADER_BYTES, 0, header.next_batch
        salt = log_salt(self._identity)
        gathered: list[bytes] = []
        size = start = 0
        slots = self._log.slots
        for number, slot in enumerate(slots, 1):
            entry = self._entry(slot)
            following = slots[number].length if number < len(slots) else 0
            is_last = number == len(slots) or size + len(entry.payload) + following > self._settings.max_batch_bytes
            parts, length, previous = encode_record(
                position=position,
                salt=salt,
                previous=previous,
                batch=batch,
                record_type=RecordType.ENTRY,
                index=entry.index,
                term=entry.term,
                kind=entry.kind,
                payload=entry.payload,
                last=is_last,
            )
            start = start or position
            gathered += parts
            position += length
            size += length
            if is_last:
                file.write_at(start, b"".join(gathered))
                gathered, size, start = [], 0, 0
                batch += 1

    def _entry(self, slot: Slot) -> Entry:
        """Read an entry back."""
        if slot.file == _IN_MEMORY:
            return self._supplied[slot.index]
        if not slot.is_readable or slot.term is None:
            raise InvariantViolation(f"entry {slot.index} is missing, and is read")
        path = f"{self._disk.root}/{slot.file}"
        with storage_errors("read", path):
            file: IFile = self._disk.open(slot.file)
            try:
                payload = file.read_at(slot.offset, slot.length)
            finally:
                file.close()
        if google_crc32c.value(payload) != slot.checksum:
            raise CorruptData(path, slot.offset, f"the payload of entry {slot.index} no longer checks out")
        return Entry(index=slot.index, term=slot.term, kind=_KINDS[slot.kind], payload=payload)
