"""How much room there is on the disk for the log to go on, and what follows where there is little.

It looks now and then, and at once where the log has used up half of what the last look found; it sets the reserve aside
again once there is room for it, and tells the core, which knows who should lead and what is still to be written. It
refuses nothing itself, and frees nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from functools import partial
from typing import Final

from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import ShuttingDown
from raftkv.interfaces import IDisk, IStorage
from raftkv.persistence.calls import BlockingCalls
from raftkv.persistence.reserve import Reserve
from raftkv.raft.node import RaftNode
from raftkv.raft.ready import SoftState
from raftkv.raft.room import LogRoom, Room

_SPARE_SHARE: Final = 8  # of the reserve: that much is to be left beside it when it is set aside again
_KEPT_SHARE: Final = 16  # of a segment: so much is for entries without commands, which are appended in any case
_OTHERS_BYTES: Final = 1024 * 1024 * 1024  # more than anybody else is likely to write between two looks
_LEAST_OTHERS_BYTES: Final = 16 * 1024 * 1024  # however small a snapshot is expected
_PLENTY: Final = 4  # times that: where so much is free the log cannot use up the rest before the next look returns


@dataclass(frozen=True, slots=True)
class Look:
    """What one look at the disk has found.

    :ivar free_bytes: what anybody may take.
    :ivar is_whole: whether everything is set aside that is to be.
    :ivar log_bytes: what the log can take without any more of the disk.
    :ivar kept_bytes: how much of what is set aside is the log's.
    """

    free_bytes: int
    is_whole: bool
    log_bytes: int
    kept_bytes: int = 0


def look(disk: IDisk, storage: IStorage, reserve: Reserve) -> Look:
    """Look, and set the reserve aside again where there is room for it. Blocks."""
    is_whole = reserve.is_whole or reserve.fill(spare_bytes=reserve.size_bytes // _SPARE_SHARE)
    # The segment first: what is taken for another one in between is then missing twice, and not counted twice.
    log_bytes = storage.room_bytes()
    return Look(disk.free_bytes(), is_whole, log_bytes, reserve.log_bytes)


class SpaceWatch:
    """Looks each election timeout, and at once when the reserve was drawn on, or when half of what the last look found
    for the log is used up; takes part in the driver's turn.

    What the log is told that it may take is there when it comes to write it: room in its segment, its part of what is
    set aside, and of what is free so much as nobody else takes meanwhile.

    :param calls: runs what blocks.
    :param look: returns what there is; blocks.
    :param log_bytes: returns what the log can take without any more of the disk.
    :param reserve: what is kept in reserve.
    :param segment_bytes: what the log takes next; from twice that on there is room again.
    :param batch_bytes: what the log writes at once at most.
    :param others_write: tells whether something else is being written that may be large.
    :param others_bytes: returns about how much that is; ``None`` where nothing tells. Twice that is left to it.
    :param snapshot_lacks_room: tells whether the last snapshot found no room.
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
        batch_bytes: int,
        others_write: Callable[[], bool],
        others_bytes: Callable[[], int | None],
        snapshot_lacks_room: Callable[[], bool],
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
        self._batch_bytes = batch_bytes
        self._others_write = others_write
        self._others_bytes = others_bytes
        self._snapshot_lacks_room = snapshot_lacks_room
        self._relieve = relieve
        self._wake = wake
        self._fatal = fatal
        self._election_ticks = election_ticks
        self._ticks = 0
        self._level = Room.AMPLE
        self._looking = False
        self._is_stale = False  # the look that is under way
        self._free_bytes = 0  # as the node was told last
        self._counts_free = False  # whether the node was told that what is free is the log's, as nobody else writes

    def begin(self) -> None:
        """Tell the node what its log can take before the first look: what it has already."""
        self._node.note_room(self._level, self._budget(self._at_once(), self._level))

    def gather(self) -> None:
        """Tell the node at once where the log has just drawn on the reserve; what is left of that a look finds out.

        Whoever looks may be busy with a snapshot for a while, in which the log could use up the rest.
        """
        if self._level is Room.NONE:
            return
        if not self._reserve.is_whole:
            self._take_at_once()
            self._begin_to_look()
        elif self._node.wants_look:
            self._begin_to_look()

    def soft_state_changed(self, state: SoftState) -> None:
        """Whoever leads looks as often as anybody else."""

    def tick(self) -> None:
        """Look, at the first tick and then each election timeout; a look that takes longer is not repeated."""
        if self._counts_free and self._others_write():
            if not self._has_plenty:  # the look may have to wait for the snapshot, and then writes are refused
                self._take_at_once()
            self._begin_to_look()
        elif self._ticks % self._election_ticks == 0:
            self._begin_to_look()
        else:
            self.gather()
        self._ticks += 1

    @property
    def _has_plenty(self) -> bool:
        """Whether there is all that the log can take until the next look returns, whatever others write meanwhile."""
        return self._free_bytes >= _PLENTY * _OTHERS_BYTES and not self._node.wants_look

    def _begin_to_look(self) -> None:
        if not self._looking:
            self._looking = True
            self._node.begin_look()
            self._calls.run(self._look).addCallbacks(self._found, self._failed)

    def _take_at_once(self) -> None:
        """Tell the node what can be told without a look: nothing of what is free."""
        self._is_stale = self._looking
        self._node.begin_look()
        found = self._at_once()
        self._take(found, self._level if found.is_whole else Room.NONE)

    def _at_once(self) -> Look:
        return Look(0, self._reserve.is_whole, self._log_bytes(), self._reserve.log_bytes)

    def _found(self, found: Look) -> None:
        self._looking = False
        if self._is_stale:  # the node was told something since it began, and does not know what was taken before that
            self._is_stale = False
            self._begin_to_look()
            return
        level = self._judge(found)
        if level is not Room.NONE and self._falls_short(found, level):
            # Not what the log needs next is missing, but what an entry needs that is waiting. A snapshot may cut the
            # log, and the part of the reserve that is not the log's is what it can be written to.
            self._calls.run(self._reserve.release).addErrback(self._failed)
            level = Room.NONE
        if level is Room.NONE and found.kept_bytes and self._snapshot_lacks_room():
            self._give_up_for_a_snapshot(found)
        else:
            self._take(found, level)

    def _give_up_for_a_snapshot(self, found: Look) -> None:
        """Leave the log's part of the reserve to the next snapshot: without one nothing would ever be cut.

        Nothing more is promised of it, and it goes where nothing has been that waits to be written. A segment that is
        nearly full promises nothing, but not less than nothing: else another would count as promised.
        """
        least_bytes = self._segment_bytes // _KEPT_SHARE if found.log_bytes >= 0 else found.log_bytes
        self._take(replace(found, log_bytes=max(found.log_bytes, least_bytes), kept_bytes=0), Room.NONE)
        if not self._node.has_overdrawn:
            self._calls.run(partial(self._reserve.release, found.kept_bytes)).addErrback(self._failed)

    def _take(self, found: Look, level: Room) -> None:
        is_news = level is not self._level or level is Room.NONE or self._node.wants_look
        if level is not self._level:
            self._tell(level, found)
        self._level, self._free_bytes = level, found.free_bytes
        self._node.note_room(level, self._budget(found, level))
        if is_news:
            self._wake()
        if level is Room.NONE:
            self._relieve()

    def _judge(self, found: Look) -> Room:
        if not (found.is_whole and self._reserve.is_whole):  # it may have been drawn on since the look
            return Room.NONE
        needed_bytes = self._segment_bytes * (1 if self._level is Room.AMPLE else 2)
        return Room.SCARCE if found.free_bytes < needed_bytes else Room.AMPLE

    def _falls_short(self, found: Look, level: Room) -> bool:
        """Tell whether the log needs more than there is; not as long as something waits, which may take less than it
        was reckoned to, and not while a snapshot is written: what is spared for that is not missing, and it may make
        room."""
        if self._others_write():
            return False
        budget = self._budget(found, level)
        return budget is not None and found.log_bytes >= 0 and self._node.lacks_room_within(budget)

    def _budget(self, found: Look, level: Room) -> LogRoom | None:
        """Return what the log may take until the next look; ``None`` for whatever comes, where nothing is in reserve.

        Where there is no room what is free is left to the snapshot that is to make some.
        """
        if not self._reserve.size_bytes:
            return None
        self._counts_free = level is not Room.NONE and not self._others_write()
        free_bytes = 0
        if level is not Room.NONE:
            spared_bytes = self._reserve.size_bytes // _SPARE_SHARE if self._counts_free else self._most_others_write()
            free_bytes = max(0, found.free_bytes - spared_bytes)
        return LogRoom(
            begun_bytes=found.log_bytes - self._segment_bytes // _KEPT_SHARE,
            more_bytes=found.kept_bytes + free_bytes,
            segment_bytes=self._segment_bytes,
            batch_bytes=self._batch_bytes,
        )

    def _most_others_write(self) -> int:
        expected_bytes = self._others_bytes()
        if expected_bytes is None:
            return _OTHERS_BYTES
        return min(_OTHERS_BYTES, max(_LEAST_OTHERS_BYTES, 2 * expected_bytes))

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
