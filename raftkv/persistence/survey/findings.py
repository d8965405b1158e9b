"""What a survey tells: the entries, the segments, and the damage."""

from __future__ import annotations

from dataclasses import dataclass, field

from raftkv.errors import CorruptData
from raftkv.persistence.segment import SegmentHeader
from raftkv.persistence.survey.slots import Slots


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
