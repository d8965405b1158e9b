"""Whether our own disk keeps up: how long the oldest write that was handed to it has been under way.

Knows ticks and write ids; what follows from a stall is decided by ``election`` and ``leadership``. Time is that of the
core: a process that stood still has lived through one tick, so that its absence is not taken for its disk's.
"""

from __future__ import annotations

from collections import deque
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class _Look:
    """What had been handed to the disk at a tick.

    :ivar write_id: the last write.
    :ivar last_index: where the log ended then.
    """

    write_id: int
    last_index: int


class DiskWatch:
    """Looks at the writes under way, once a tick.

    A stall begins when a write is not done within an election timeout. It is over only after an election timeout in
    which none took longer than half of one: a disk that limps would else let a node lead and give way in turns.

    :ivar stalled: whether the disk keeps us from doing a leader's work.
    """

    def __init__(self, *, patience_ticks: int) -> None:
        """
        :param patience_ticks: an election timeout.
        """
        self.stalled = False
        self._patience_ticks = patience_ticks
        self._looks: deque[_Look] = deque(maxlen=patience_ticks + 1)
        self._calm_ticks = 0

    def tick(self, *, write_id: int, done_write_id: int, last_index: int) -> bool:
        """Count one tick.

        :param write_id: the last write that was handed to the disk.
        :param done_write_id: the last one that it has finished.
        :param last_index: of the log.
        :return: whether :attr:`stalled` changed.
        """
        self._looks.append(_Look(write_id, last_index))
        before = self.stalled
        if self._waits_since(self._patience_ticks, done_write_id):
            self.stalled = True
        self._calm_ticks = 0 if self._waits_since(self._half_ticks, done_write_id) else self._calm_ticks + 1
        if self._calm_ticks >= self._patience_ticks:
            self.stalled = False
        return self.stalled is not before

    def is_outpaced(self, commit_index: int) -> bool:
        """Tell whether others do without our disk: all that the log held half an election timeout ago is committed.

        Where the disk stalls, that was done by the others alone; where all disks are equally slow, it is not so.
        """
        look = self._look(self._half_ticks)
        return self.stalled and look is not None and commit_index >= look.last_index

    @property
    def _half_ticks(self) -> int:
        return max(self._patience_ticks // 2, 1)

    def _look(self, ticks_ago: int) -> _Look | None:
        return self._looks[-1 - ticks_ago] if ticks_ago < len(self._looks) else None

    def _waits_since(self, ticks_ago: int, done_write_id: int) -> bool:
        """Tell whether a write is under way that was handed over that many ticks ago."""
        look = self._look(ticks_ago)
        return look is not None and look.write_id > done_write_id
