"""What is known of the entries of a log that is not whole: which there are, where they lie, and where a gap was."""

from __future__ import annotations

from dataclasses import dataclass


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
    :ivar seams: indexes of entries of which it is not known what came before them (see the package), in order.
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
