"""When state is written out, when it is read back, and when the log behind it goes.

The policy is ``snapshot.policy``'s, the files are ``snapshot.files``'; this service knows the order: a snapshot is
whole on disk before the log hears of it, and the log is cut before an older snapshot that covers it goes.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from functools import partial

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import Conflict, CorruptData, Fenced, InvariantViolation, ShuttingDown, SnapshotFailed
from raftkv.interfaces import IStorage
from raftkv.kvstore import Restorer, Store
from raftkv.persistence.calls import BlockingCalls
from raftkv.raft.messages import SnapshotMeta
from raftkv.raft.node import RaftNode
from raftkv.server.chores import Chores
from raftkv.server.progress import Progress
from raftkv.server.rota import Rota
from raftkv.server.statemachine import StateMachine
from raftkv.snapshot.files import SnapshotDirectory
from raftkv.snapshot.policy import compaction_index, snapshot_is_due
from raftkv.snapshot.reading import SnapshotInfo
from raftkv.snapshot.restoring import SnapshotRestorer
from raftkv.snapshot.slices import SliceSettings
from raftkv.snapshot.taking import SnapshotTaker

_DISCARDED_AT_ONCE = 5_000  # records of a replaced store that are freed in one turn, a few milliseconds' worth
_STABLE_LOOK_SECONDS = 0.005  # between two looks at whether our own disk has caught up with what a snapshot holds
_FORGOTTEN_AT_ONCE = 10_000  # likewise, entries of the log in memory


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotSettings:
    """When and how many.

    :ivar interval_seconds: between two looks at whether a snapshot is due.
    :ivar threshold_bytes: of log since the last snapshot that make one due.
    :ivar max_snapshots: how many are kept.
    :ivar trailing_entries: entries kept in the log behind a snapshot, for followers that are a little late.
    :ivar relief_bytes: of log since the last snapshot that make one due where the disk is full.
    """

    interval_seconds: float
    threshold_bytes: int
    max_snapshots: int
    trailing_entries: int = 1024
    relief_bytes: int = 1024 * 1024


class Snapshotter(Service):
    """Takes, restores and prunes the snapshots of one node.

    :param calls: runs what blocks on the folder of snapshots; started and stopped here.
    :param fatal: called with an error that makes it unsafe to go on.
    :param is_trusted: tells whether the state is fit to be kept. While it is not, the log stays as it is too.
    :param may_forget: returns up to where the log may go at most, given up to where it is needed for nothing else.
    :ivar taken: how many snapshots were taken since the start; ``failed`` likewise.
    :ivar has_failed: whether the last one could not be written.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        state_machine: Callable[[], StateMachine],
        storage: IStorage,
        directory: SnapshotDirectory,
        calls: BlockingCalls,
        clock: IReactorTime,
        settings: SnapshotSettings,
        fatal: Callable[[BaseException], None],
        is_trusted: Callable[[], bool] = lambda: True,
        may_forget: Callable[[int], int] = lambda index: index,
        slices: SliceSettings | None = None,
    ) -> None:
        self.taken = 0
        self.failed = 0
        self.has_failed = False
        self._newest_bytes: int | None = None  # size of the newest snapshot; None where that was not seen yet
        self._lacked_room = False  # when the last one was taken
        self._is_lean = False  # one snapshot is left, and the log behind it
        self._relief_seconds = 0.0  # when the next one may be taken because the disk is full
        self._node = node
        self._state_machine = state_machine
        self._storage = storage
        self._directory = directory
        self._calls = calls
        self._clock = clock
        self._settings = settings
        self._fatal = fatal
        self._is_trusted = is_trusted
        self._may_forget = may_forget
        self._compacted_index = 0  # of the log on the disk; in memory it may follow a little later
        self._taker = SnapshotTaker(clock, calls, directory, slices or SliceSettings())
        slices = slices or SliceSettings()
        self._restorer = SnapshotRestorer(clock, calls, directory, slices)
        # Where there is no state yet nobody can be served, so nobody is kept waiting.
        self._first_restorer = SnapshotRestorer(clock, calls, directory, replace(slices, pause_seconds=0.0))
        self._rota = Rota(node=node, seconds=clock.seconds, interval_seconds=settings.interval_seconds)
        self._next_look: IDelayedCall | None = None
        self._chores = Chores(clock)
        self._given_up = False
        self._waiting: tuple[Deferred[None], IDelayedCall] | None = None  # for our own disk, with a state captured
        self._idle: list[Deferred[None]] = []

    # -- life ----------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start to look, once in each interval, when it is this node's turn."""
        super().startService()
        self._calls.start()
        self._look_later()

    def _look_later(self) -> None:
        wait = self._rota.seconds_until_turn(self._state_machine().store.cluster_time_ms)
        self._next_look = self._clock.callLater(wait, self._look_again)

    def _look_again(self) -> None:
        self._next_look = None
        try:
            self.look()
        except Exception as error:
            self._fatal(error)
        else:
            self._look_later()

    def stopService(self) -> Deferred[None]:
        """Give up a snapshot that is being taken; fires once nothing runs any more."""
        super().stopService()
        return ensureDeferred(self._stop())

    async def _stop(self) -> None:
        await self.give_up()
        await self._calls.stop()

    def give_up(self) -> Deferred[None]:
        """Take no snapshot any more, and give up one that is being taken; fires once nothing is left of it.

        For a stop, and at once when the node has failed: what its state holds then is in no log, and must not survive.
        """
        self._given_up = True
        if self._next_look is not None:
            self._next_look.cancel()
            self._next_look = None
        self._chores.stop()
        self._stop_waiting()
        return self._taker.cancel()

    # -- taking --------------------------------------------------------------------------------------------------

    def look(self) -> None:
        """Take a snapshot if one is due, and it is this node's turn."""
        state_machine = self._state_machine()
        if self._given_up or self.is_busy or state_machine.is_restoring or not self._is_trusted():
            return
        due = snapshot_is_due(
            log_bytes=self._storage.log_bytes(),
            threshold_bytes=self._settings.threshold_bytes,
            stable_applied_index=min(state_machine.store.applied_index, self._node.stable_index),
            snapshot_index=self._node.snapshot_index,
        )
        if self._rota.may_take(state_machine.store.cluster_time_ms, is_due=due):
            self._take_quietly()

    @property
    def is_busy(self) -> bool:
        """Whether a snapshot is being taken."""
        return self._taker.is_busy or self._waiting is not None

    @property
    def expected_bytes(self) -> int | None:
        """About how much a snapshot of the present state takes at most; ``None`` where nothing tells.

        The newest one, and all of the log since.
        """
        return None if self._newest_bytes is None else self._newest_bytes + self._storage.log_bytes()

    @property
    def lacked_room(self) -> bool:
        """Whether there was no room for the last snapshot."""
        return self._lacked_room

    def when_idle(self) -> Deferred[None]:
        """Fire once no snapshot is being taken, whatever became of it."""
        idle: Deferred[None] = Deferred()
        if self.is_busy:
            self._idle.append(idle)
        else:
            idle.callback(None)
        return idle

    def _ended(self, result: SnapshotInfo | Failure) -> SnapshotInfo | Failure:
        idle, self._idle = self._idle, []
        for waiter in idle:
            waiter.callback(None)
        return result

    def found(self, index: int) -> None:
        """Take another snapshot, of the same state if need be, where the newest one has rotted.

        :param index: of the newest one that checks out, 0 for none.
        """
        if index < self._node.snapshot_index and not self.is_busy:
            self._log.warn(
                "{node_id}: the snapshot at index {index} has rotted; another is taken",
                node_id=self._node.node_id,
                index=self._node.snapshot_index,
            )
            self._take_quietly(renews=True)

    def relieve(self) -> None:
        """The disk is full: keep one snapshot alone, and the log behind it; then take one by which more can go.

        To be called again and again for as long as it is. All that the older snapshots were kept for is that the newest
        one may rot; it was read back when it was written.
        """
        if self._given_up or self.is_busy or not self._is_trusted():
            return
        if not self._is_lean:
            self.tidy()
        elif self._storage.log_bytes() >= self._settings.relief_bytes and self._clock.seconds() >= self._relief_seconds:
            store, node = self._state_machine().store, self._node
            if min(store.applied_index, node.stable_index) > node.snapshot_index:
                self._relief_seconds = self._clock.seconds() + self._settings.interval_seconds
                self._take_quietly()

    def _take_quietly(self, *, renews: bool = False) -> None:
        # Its failure has been told, or has stopped the node, by the time it comes here.
        self.take(renews=renews).addErrback(
            lambda failure: self._log.debug("no snapshot: {reason}", reason=failure.value)
        )

    def take(self, *, renews: bool = False) -> Deferred[SnapshotInfo]:
        """Take a snapshot of the present state.

        Entries may be applied before our own disk has them, and on a slow disk there may never be a moment when it has
        them all. So the state is captured now, and written once the disk has caught up with it: a snapshot is never
        ahead of our log.

        :param renews: whether it may take the place of the newest one, which is of no use.
        :return: fires with its description once it is whole on disk; fails with
            :exc:`raftkv.errors.Conflict` where one is being taken or restored, or there is nothing new.
        """
        store = self._state_machine().store
        index = store.applied_index
        term = self._node.term_at(index)
        refused: Deferred[SnapshotInfo] = Deferred()
        if self._given_up:
            refused.errback(ShuttingDown())
            return refused
        if not self._is_trusted():
            refused.errback(Fenced())
            return refused
        if self.is_busy or self._state_machine().is_restoring:
            refused.errback(Conflict("a snapshot is being taken or restored already"))
            return refused
        newest = self._node.snapshot_index
        if index < newest or (index == newest and not renews) or term is None:
            refused.errback(Conflict(f"there is nothing new since the snapshot at {newest}"))
            return refused
        configuration, configuration_index = self._node.committed_configuration(index)
        meta = SnapshotMeta(
            index=index, term=term, configuration=configuration, configuration_index=configuration_index
        )
        view, revision = store.capture(), store.revision

        def write(_: None) -> Deferred[SnapshotInfo]:
            return self._taker.take(view, meta, revision)

        def give_up(failure: Failure) -> Failure:
            view.close()
            return failure

        taking: Deferred[SnapshotInfo] = self._when_stable(index).addCallbacks(write, give_up)
        return taking.addCallback(self._took).addErrback(self._did_not_take).addBoth(self._ended)

    def _when_stable(self, index: int) -> Deferred[None]:
        stable: Deferred[None] = Deferred()

        def look() -> None:
            if self._node.stable_index >= index:
                self._waiting = None
                stable.callback(None)
            else:
                self._waiting = (stable, self._clock.callLater(_STABLE_LOOK_SECONDS, look))

        look()
        return stable

    def _stop_waiting(self) -> None:
        if self._waiting is not None:
            (stable, call), self._waiting = self._waiting, None
            call.cancel()
            stable.errback(CancelledError("the snapshot was given up"))

    def _took(self, info: SnapshotInfo) -> SnapshotInfo:
        self.taken += 1
        self._newest_bytes = info.size_bytes
        index = info.meta.index
        self._log.info(
            "{node_id}: snapshot at index {index}, revision {revision}, {size} bytes",
            node_id=self._node.node_id,
            index=index,
            revision=info.revision,
            size=info.size_bytes,
        )
        if index > self._node.snapshot_index:
            self._node.snapshot_taken(index)
            self._storage.snapshot_taken(index)
        self.has_failed = self._lacked_room = False
        self.tidy()
        return info

    def _did_not_take(self, failure: Failure) -> Failure:
        self.failed += 1
        error = failure.value
        if not isinstance(error, SnapshotFailed):
            # The disk failed, or the state could not be packed: both mean that this node must not go on.
            self._disk_failed(failure)
            return failure
        # Nobody counts on a file without a name; the log still holds all that it would have held.
        self.has_failed = self._lacked_room = True
        self._log.warn("{node_id}: {reason}", node_id=self._node.node_id, reason=error)
        self.tidy()  # older snapshots make room for the next attempt
        return failure

    def _disk_failed(self, failure: Failure) -> None:
        if failure.check(CancelledError, ShuttingDown):
            return  # it was not the disk: we are stopping, or another state has come
        assert failure.value is not None  # for mypy: a failure always holds an exception
        self._fatal(failure.value)

    def tidy(self) -> None:
        """Drop log that is covered, then snapshots that are too many."""
        # Where nothing but the newest is to be kept, it is read first: it may have been written long ago.
        listing = self._directory.list_sound if self._is_short else self._directory.list
        self._calls.run(listing).addCallback(self._cut_log).addErrback(self._disk_failed)

    @property
    def _is_short(self) -> bool:
        return self._node.disk_is_full or self._lacked_room

    def _cut_log(self, snapshots: Sequence[SnapshotInfo]) -> None:
        if not self.running or not self._is_trusted():
            return
        self._is_lean = is_short = self._is_short
        if not snapshots:
            return
        kept = 1 if is_short else self._settings.max_snapshots
        keeps_several = kept > 1
        previous = (snapshots[1].meta.index if len(snapshots) > 1 else 0) if keeps_several else None
        index = compaction_index(
            snapshot_index=min(snapshots[0].meta.index, self._node.snapshot_index),
            previous_snapshot_index=previous,
            trailing_entries=0 if is_short else self._settings.trailing_entries,
        )
        index = self._may_forget(index)
        if index >= self._node.first_index:
            self._compacted_index = max(self._compacted_index, index)
            self._storage.compact(index)
            # Half a million entries at once are a pause.
            self._chores.add(partial(self._forget_some, index))
        self._calls.run(partial(self._directory.prune, kept)).addErrback(self._disk_failed)

    def _forget_some(self, index: int) -> bool:
        # A snapshot that is installed meanwhile drops everything in front of it, and then nothing is left to do here.
        self._node.compact(min(index, self._node.first_index + _FORGOTTEN_AT_ONCE - 1))
        return self._node.first_index <= index

    # -- a state that is not to be trusted -------------------------------------------------------------------------

    def cancel(self) -> None:
        """Give up a snapshot that is being taken."""
        self._stop_waiting()
        self._taker.cancel()

    @property
    def log_follows(self) -> int:
        """The smallest index of a snapshot that the log can carry on from."""
        return max(self._node.first_index - 1, self._compacted_index)

    def keep_only(self, meta: SnapshotMeta) -> Deferred[None]:
        """Remove every snapshot but this one, which the log must be able to carry on from."""
        if meta.index < self.log_follows:
            raise InvariantViolation(f"the log begins behind {self.log_follows}, the snapshot ends at {meta.index}")
        return self._calls.run(partial(self._directory.keep_only, meta))

    # -- restoring -----------------------------------------------------------------------------------------------

    def load(self, meta: SnapshotMeta) -> Deferred[Store]:
        """Read the snapshot of this meta into a store of its own; cancel to give up."""
        # A snapshot of the state that is about to be replaced would hold on to it, and is older than the installed one.
        self.cancel()

        def found(info: SnapshotInfo) -> Deferred[Store]:
            what = f"restored {{percent}} % of the snapshot at index {meta.index}"
            self._newest_bytes = info.size_bytes
            is_first = self._state_machine().store.applied_index == 0
            restorer = self._first_restorer if is_first else self._restorer
            return restorer.restore(info, Restorer(), Progress(what, seconds=self._clock.seconds))

        finding: Deferred[SnapshotInfo] = self._calls.run(partial(self._find, meta))
        return finding.addCallback(found).addCallback(self._check, meta)

    def _find(self, meta: SnapshotMeta) -> SnapshotInfo:
        for info in self._directory.list():
            if (info.meta.index, info.meta.term) == (meta.index, meta.term):
                return info
        raise CorruptData(f"snapshots at index {meta.index}", 0, "the snapshot that was installed is gone")

    def _check(self, store: Store, meta: SnapshotMeta) -> Store:
        if store.applied_index != meta.index:
            raise InvariantViolation(f"the snapshot at index {meta.index} holds the state of {store.applied_index}")
        return store

    def discard(self, store: Store) -> None:
        """Free a store that another has replaced, a little in each turn: a million records at once are a pause."""
        self._chores.add(partial(store.discard, _DISCARDED_AT_ONCE))
