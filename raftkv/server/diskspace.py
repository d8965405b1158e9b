"""How much room there is on the disk for the log to go on, and what follows where there is little.

It looks now and then, sets the reserve aside again once there is room for it, and tells the core, which knows who
should lead and what is still to be written. It refuses nothing itself, and frees nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import ShuttingDown
from raftkv.interfaces import IDisk, IStorage
from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.reserve import Reserve
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import SoftState
from raftkv.raft.room import Room

_SPARE_SHARE: Final = 8  # of the reserve: that much is to be left beside it when it is set aside again
_KEPT_SHARE: Final = 4  # likewise: that much of it is not for the log, but for votes, snapshots and short files


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the disk has found.

    :ivar free_bytes: what anybody may take.
    :ivar is_whole: whether everything is set aside that is to be.
    :ivar log_bytes: what the log can take without any more of the disk.
    """

    free_bytes: int
    is_whole: bool
    log_bytes: int


def look(disk: IDisk, storage: IStorage, reserve: Reserve) -> Look:
    """Look, and set the reserve aside again where there is room for it. Blocks."""
    is_whole = reserve.is_whole or reserve.fill(spare_bytes=reserve.size_bytes // _SPARE_SHARE)
    return Look(disk.free_bytes(), is_whole, storage.room_bytes())


class SpaceWatch:
    """Looks each election timeout, and at once when the reserve was drawn on; takes part in the driver's turn.

    :param calls: runs what blocks.
    :param look: returns what there is; blocks.
    :param log_bytes: returns what the log can take without any more of the disk.
    :param reserve: what is kept in reserve.
    :param segment_bytes: what the log takes next; from twice that on there is room again.
    :param relieve: called after each look that has found no room: frees some, if it can.
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
        look: Callable[[], Look],
        log_bytes: Callable[[], int],
        reserve: Reserve,
        segment_bytes: int,
        relieve: Callable[[], None],
        wake: Callable[[], None],
        fatal: Callable[[BaseException], None],
        election_ticks: int,
    ) -> None:
        self._node = node
        self._calls = calls
        self._look = look
        self._log_bytes = log_bytes
        self._reserve = reserve
        self._segment_bytes = segment_bytes
        self._relieve = relieve
        self._wake = wake
        self._fatal = fatal
        self._election_ticks = election_ticks
        self._ticks = 0
        self._level = Room.AMPLE
        self._looking = False

    def gather(self) -> None:
        """Tell the node at once where the log has just drawn on the reserve; what is left of that a look finds out.

        Whoever looks may be busy with a snapshot for a while, in which the log could use up the rest.
        """
        if not self._reserve.is_whole and self._level is not Room.NONE:
            self._take(Look(0, False, self._log_bytes()))
            self._begin_to_look()

    def soft_state_changed(self, state: SoftState) -> None:
        """Whoever leads looks as often as anybody else."""

    def tick(self) -> None:
        """Look, at the first tick and then each election timeout; a look that takes longer is not repeated."""
        if self._ticks % self._election_ticks == 0:
            self._begin_to_look()
        self._ticks += 1

    def _begin_to_look(self) -> None:
        if not self._looking:
            self._looking = True
            self._calls.run(self._look).addCallbacks(self._found, self._failed)

    def _found(self, found: Look) -> None:
        self._looking = False
        self._take(found)

    def _take(self, found: Look) -> None:
        level = self._judge(found)
        if level is not self._level:
            self._tell(level, found)
        if level is not self._level or level is Room.NONE:
            self._level = level
            self._node.note_room(level, budget_bytes=self._budget_bytes(found))
            self._wake()
        if level is Room.NONE:
            self._relieve()

    def _judge(self, found: Look) -> Room:
        if not (found.is_whole and self._reserve.is_whole):  # it may have been drawn on since the look
            return Room.NONE
        needed_bytes = self._segment_bytes * (1 if self._level is Room.AMPLE else 2)
        return Room.SCARCE if found.free_bytes < needed_bytes else Room.AMPLE

    def _budget_bytes(self, found: Look) -> int:
        """Return what the log may take as long as there is no room: whole segments of what is left, and no more."""
        left = max(0, found.free_bytes - self._reserve.size_bytes // _KEPT_SHARE)
        return found.log_bytes + left // self._segment_bytes * self._segment_bytes

    def _tell(self, level: Room, found: Look) -> None:
        facts = {"node_id": self._node.node_id, "free": found.free_bytes}
        if level is Room.NONE:
            self._log.warn(
                "{node_id}: the disk is full: {free} bytes are left, {reserve} are wanted in reserve; until there is "
                "room for these this node takes no write that needs some",
                reserve=self._reserve.size_bytes,
                **facts,
            )
        elif level is Room.SCARCE:
            self._log.warn(
                "{node_id}: {free} bytes are left on the disk; the log needs {needed} next",
                needed=self._segment_bytes,
                **facts,
            )
        else:
            self._log.info("{node_id}: there is room on the disk again: {free} bytes", **facts)

    def _failed(self, failure: Failure) -> None:
        if not failure.check(ShuttingDown):
            assert failure.value is not None  # for mypy: a failure always holds an exception
            self._fatal(failure.value)
