"""What must be on our disk before what may be said.

Knows the hard state, the writes under way and the messages that wait for them; not why something is written or said.
A message held here leaves once everything that the node knew when it was made is on disk: a vote or an
acknowledgement that a crash forgets could be given twice (section 5.2).
"""

from __future__ import annotations

from collections import deque

from raftkv.errors import InvariantViolation
from raftkv.raft.log import Log
from raftkv.raft.messages import HardState, Message, SnapshotMeta
from raftkv.raft.ready import Write


class Durability:
    """The writes of one run of the process, in order, and what waits for them.

    :ivar hard_state: the present term and vote, on disk or not.
    :ivar snapshot: an installed snapshot that the next write makes part of the log on disk.
    """

    def __init__(self, *, hard_state: HardState, log: Log) -> None:
        self.hard_state = hard_state
        self.snapshot: SnapshotMeta | None = None
        self._written_hard_state = hard_state
        self._log = log
        self._last_write_id = 0
        self._done_write_id = 0
        self._hard_state_write_id = 0
        self._held: deque[tuple[int, Message]] = deque()

    @property
    def write_wanted(self) -> bool:
        """Whether something is known that the disk was not yet given."""
        return self._log.has_unwritten or self.hard_state is not self._written_hard_state or self.snapshot is not None

    @property
    def nothing_pending(self) -> bool:
        """Whether everything that is known is on disk."""
        return self._done_write_id == self._last_write_id and not self.write_wanted

    @property
    def last_write_id(self) -> int:
        """The last write that was handed to the disk; 0 for none."""
        return self._last_write_id

    @property
    def done_write_id(self) -> int:
        """The last write that the disk has finished; 0 for none."""
        return self._done_write_id

    @property
    def hard_state_is_durable(self) -> bool:
        """Whether the present term and vote are on disk, whatever else is not."""
        written = self.hard_state is self._written_hard_state
        return written and self._done_write_id >= self._hard_state_write_id

    def hold(self, message: Message) -> None:
        """Keep a message until all that is known now is on disk; only where something is pending."""
        self._held.append((self._last_write_id + self.write_wanted, message))

    def take_write(self) -> Write | None:
        """Return what the disk was not yet given, and take it as given; ``None`` for nothing."""
        if not self.write_wanted:
            return None
        self._last_write_id += 1
        changed = self.hard_state is not self._written_hard_state
        write = Write(
            write_id=self._last_write_id,
            hard_state=self.hard_state if changed else None,
            snapshot=self.snapshot,
            entries=self._log.take_unwritten(),
        )
        self._log.write_pending(self._last_write_id)
        if changed:
            self._hard_state_write_id = self._last_write_id
        self._written_hard_state = self.hard_state
        self.snapshot = None
        return write

    def done(self, write_id: int) -> list[Message]:
        """Note that this write and those before it are on disk; return the messages that waited for them.

        :raises InvariantViolation: there was no such write.
        """
        if write_id > self._last_write_id:
            raise InvariantViolation(f"write {write_id} was never asked for; the last one is {self._last_write_id}")
        self._done_write_id = max(self._done_write_id, write_id)
        self._log.write_done(write_id)
        released = []
        while self._held and self._held[0][0] <= self._done_write_id:
            released.append(self._held.popleft()[1])
        return released
