"""Whether there is room on the disk for the log to go on; where there is not, this node should not be the leader.

It looks now and then and tells the core, which knows what follows. It refuses nothing: a node whose disk is full in
the end stops, as with every error of its disk.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import ShuttingDown
from raftkv.persistence.calls import BlockingCalls
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import SoftState


class SpaceWatch:
    """Looks at the room that is left, each election timeout; takes part in the driver's turn.

    :param calls: runs what blocks.
    :param free_bytes: returns the room that is left; blocks.
    :param needed_bytes: what the log takes next; from twice that on there is room again.
    :param wake: asks for a turn.
    :param fatal: called with an error of the disk.
    :param election_ticks: between two looks.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        calls: BlockingCalls,
        free_bytes: Callable[[], int],
        needed_bytes: int,
        wake: Callable[[], None],
        fatal: Callable[[BaseException], None],
        election_ticks: int,
    ) -> None:
        self._node = node
        self._calls = calls
        self._free_bytes = free_bytes
        self._needed_bytes = needed_bytes
        self._wake = wake
        self._fatal = fatal
        self._election_ticks = election_ticks
        self._ticks = 0
        self._looking = False

    def gather(self) -> None:
        """Nothing comes in through here."""

    def soft_state_changed(self, state: SoftState) -> None:
        """Whoever leads looks as often as anybody else."""

    def tick(self) -> None:
        """Look, at the first tick and then each election timeout; a look that takes longer is not repeated."""
        if self._ticks % self._election_ticks == 0 and not self._looking:
            self._looking = True
            self._calls.run(self._free_bytes).addCallbacks(self._found, self._failed)
        self._ticks += 1

    def _found(self, free_bytes: int) -> None:
        self._looking = False
        lacked = self._node.disk_lacks_room
        lacks = free_bytes < self._needed_bytes * (2 if lacked else 1)
        if lacks != lacked:
            if lacks:
                self._log.warn(
                    "{free} bytes are left on the disk; the log needs {needed} next", **self._sizes(free_bytes)
                )
            self._node.note_room(lacking=lacks)
            self._wake()

    def _sizes(self, free_bytes: int) -> dict[str, int]:
        return {"free": free_bytes, "needed": self._needed_bytes}

    def _failed(self, failure: Failure) -> None:
        if not failure.check(ShuttingDown):
            assert failure.value is not None  # for mypy: a failure always holds an exception
            self._fatal(failure.value)
