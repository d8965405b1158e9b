"""What is in the data directory of a stopped node: its log, its vote, its snapshots, and what of them is damaged.

Reads only, and blocks; how it is told to people is the command line's business.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any

from raftkv.errors import ConfigurationError, CorruptData
from raftkv.interfaces import IDisk
from raftkv.persistence.files import read_whole
from raftkv.persistence.hardstate import HARD_STATE_FILE, Slot, newest_slot
from raftkv.persistence.meta import Meta, load_meta
from raftkv.persistence.record import Flag, Record, RecordType
from raftkv.persistence.segment import log_identity
from raftkv.persistence.survey import Survey, Visit, survey_log
from raftkv.raft.messages import EntryKind
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.reading import SnapshotInfo


@dataclass(kw_only=True)
class Findings:
    """What was found in a data directory.

    :ivar damage: what is wrong and what that means, one sentence each, beside the damage in the log itself.
    """

    meta: Meta
    hard_state: Slot | None
    survey: Survey
    snapshots: Sequence[SnapshotInfo]
    damage: list[str] = field(default_factory=list)

    @property
    def is_sound(self) -> bool:
        """Whether the node would start on it as it is."""
        return not self.damage and not self.survey.gaps

    def missing(self) -> list[tuple[int, int]]:
        """Return the ranges of entries behind the snapshot that are missing, as first and last index."""
        covered = self._covered_index()
        ranges: list[tuple[int, int]] = []
        for slot in self.survey.log.slots:
            if slot.index <= covered or slot.is_readable:
                continue
            if ranges and ranges[-1][1] == slot.index - 1:
                ranges[-1] = (ranges[-1][0], slot.index)
            else:
                ranges.append((slot.index, slot.index))
        return ranges

    def doubt(self) -> int:
        """Return the index of the entry of which it is not known what came before it, behind the snapshot; 0 for none.

        Headers that cannot be read may have said that entries in front of them are void.
        """
        seam = max(self.survey.log.seams, default=0)
        return seam if seam > self._covered_index() + 1 else 0

    def _covered_index(self) -> int:
        return max((info.meta.index for info in self.snapshots), default=0)


def _meta(disk: IDisk) -> Meta:
    meta = load_meta(disk)
    if meta is None:
        raise ConfigurationError(f"{disk.root} holds no file meta: it is not the data directory of a node")
    return meta


def _identity(meta: Meta) -> bytes:
    return log_identity(meta.log_cluster_id or meta.cluster_id, meta.log_incarnation or meta.incarnation)


def inspect(disk: IDisk) -> Findings:
    """Read a data directory.

    :raises raftkv.errors.ConfigurationError: it is none, or one of another version.
    :raises raftkv.errors.StorageError: not even what says whose it is can be read.
    """
    meta = _meta(disk)
    unreadable: list[str] = []

    def note(error: CorruptData) -> None:
        unreadable.append(f"{error.path}: {error.reason}")

    hard_state = newest_slot(read_whole(disk, HARD_STATE_FILE)) if disk.exists(HARD_STATE_FILE) else None
    directory = SnapshotDirectory(disk, cluster_id=meta.cluster_id, unreadable=note)
    snapshots = [info for info in directory.list() if _checks_out(directory, info, note)]
    findings = Findings(meta=meta, hard_state=hard_state, survey=survey_log(disk, _identity(meta)), snapshots=snapshots)
    findings.damage += unreadable
    if hard_state is None:
        findings.damage.append(
            f"{disk.root}/{HARD_STATE_FILE}: no copy checks out: what the node promised is not known"
        )
    elif hard_state.log_batch > findings.survey.last_batch:
        findings.damage.append(
            f"the log ends with batch {findings.survey.last_batch}, but batch {hard_state.log_batch} had been written: "
            "its end is lost"
        )
    covered = max((info.meta.index for info in snapshots), default=0)
    if findings.survey.log.base_index > covered:
        findings.damage.append(
            f"the log begins behind entry {findings.survey.log.base_index}, but what can be read of snapshots ends at "
            f"entry {covered}"
        )
    return findings


def records(disk: IDisk, visit: Visit) -> Survey:
    """Read the log alone, and show each of its records.

    :raises raftkv.errors.ConfigurationError: as for :func:`inspect`; likewise :exc:`raftkv.errors.StorageError`.
    """
    return survey_log(disk, _identity(_meta(disk)), visit)


def _checks_out(directory: SnapshotDirectory, info: SnapshotInfo, note: Callable[[CorruptData], None]) -> bool:
    try:
        reader = directory.open(info)
        try:
            reader.verify()
        finally:
            reader.close()
    except CorruptData as error:
        note(error)
        return False
    return True


def facts(findings: Findings) -> dict[str, Any]:
    """Return what was found, as a JSON object."""
    meta, survey, log = findings.meta, findings.survey, findings.survey.log
    slot = findings.hard_state
    return {
        "node_id": meta.node_id,
        "cluster_id": meta.cluster_id,
        "incarnation": meta.incarnation,
        "sound": findings.is_sound,
        "hard_state": slot
        and {"term": slot.hard_state.term, "voted_for": slot.hard_state.voted_for, "log_batch": slot.log_batch},
        "first_index": log.base_index + 1,
        "last_index": log.last_index,
        "last_term": log.term_at(log.last_index),
        "last_batch": survey.last_batch,
        "lost_term": survey.lost_term,
        "end_lost": survey.end_lost,
        "segments": [
            {
                "file": each.file,
                "first_index": each.first_index,
                "last_index": each.last_index,
                "first_term": each.first_term,
                "last_term": each.last_term,
                "records": each.records,
                "batches": each.batches,
                "used_bytes": each.used_bytes,
                "size_bytes": each.size_bytes,
                "torn_bytes": each.torn_bytes,
            }
            for each in survey.segments
        ],
        "void_segments": survey.void,
        "snapshots": [
            {
                "file": info.name,
                "index": info.meta.index,
                "term": info.meta.term,
                "revision": info.revision,
                "size_bytes": info.size_bytes,
            }
            for info in findings.snapshots
        ],
        "damage": [
            *({"path": gap.path, "start": gap.start, "stop": gap.stop, "reason": gap.reason} for gap in survey.gaps),
            *({"reason": what} for what in findings.damage),
        ],
        "missing": [list(each) for each in findings.missing()],
        "in_doubt_before": findings.doubt(),
    }


def record_facts(file: str, record: Record, is_readable: bool) -> dict[str, Any]:
    """Return what a record says, as a JSON object; the arguments are those of a visit."""
    is_entry = record.type == RecordType.ENTRY
    kinds = {int(kind): kind.name.lower() for kind in EntryKind}
    return {
        "segment": file,
        "offset": record.start,
        "batch": record.batch,
        "type": RecordType(record.type).name.lower() if record.type in list(RecordType) else str(record.type),
        "index": record.index,
        "term": record.term,
        "kind": kinds.get(record.kind, str(record.kind)) if is_entry else "",
        "payload_bytes": record.payload_end - record.payload_start,
        "ends_batch": bool(record.flags & Flag.LAST),
        "damaged": not is_readable or record.is_mended,
    }
