"""All watches of one node: who is to be told of what was applied, and who has to wait.

A watch that is up to date costs nothing but its place in an index, until a change concerns it, of which it is told in
the next turn of the reactor (:mod:`~raftkv.server.watching.fresh`). Those that begin in the past, or whose readers are
slow, are told from the history (:mod:`~raftkv.server.watching.catchup`), and never have a queue of their own. Those of
them that are nearly up to date have a pass for themselves: they need not wait for somebody who begins a long way back.

Only what this node has applied is told, which is committed. A watch begins behind a linearizable read, or where its
client says; so it never goes back in time, whichever node it is on (B54).
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Final

from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger

from raftkv.errors import Compacted, FutureRevision, Overflow, Overloaded, RaftKVError, ShuttingDown
from raftkv.interfaces import Result
from raftkv.kvstore import Store
from raftkv.raft.messages import Entry
from raftkv.server.watching.catchup import CatchUp
from raftkv.server.watching.fresh import MAX_PENDING, Fresh
from raftkv.server.watching.heaps import WatchHeap
from raftkv.server.watching.heartbeats import Heartbeats
from raftkv.server.watching.index import WatchIndex
from raftkv.server.watching.watch import State, Watch
from raftkv.watches import WatchEvent, WatchReceiver, WatchRequest

NEAR_REVISIONS: Final = 1_000  #: a watch that is no further behind is as good as up to date
MANY_CHANGES: Final = 256  #: of one revision: who is concerned is then found slice by slice

Barrier = Callable[[Callable[[RaftKVError | None], None]], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class WatchLimits:
    """Bounds on watches.

    :ivar max_watchers: how many may be open on this node.
    :ivar stall_seconds: how long a receiver may have no room before the watch is cut off.
    """

    max_watchers: int = 10_000
    stall_seconds: float = 30.0


class Watches:
    """The watches of one node.

    :param store: returns the present state; it may be replaced as a whole (see :meth:`restored`).
    :param barrier: waits until a linearizable read may be served here.
    :param refusal: returns why this node may tell nobody anything, ``None`` where it may.
    :ivar begun: how many have begun since the start.
    :ivar told_events: how many events were told, to all of them together.
    :ivar overflowed: how many were cut off because their readers were too slow.
    :ivar compacted_watches: how many ended because what they would have been told was no longer kept.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: Callable[[], Store],
        barrier: Barrier,
        refusal: Callable[[], RaftKVError | None],
        clock: IReactorTime,
        limits: WatchLimits,
    ) -> None:
        self.begun = 0
        self.told_events = 0
        self.overflowed = 0
        self.compacted_watches = 0
        self._store = store
        self._barrier = barrier
        self._refusal = refusal
        self._clock = clock
        self._limits = limits
        self._open: dict[Watch, None] = {}  # in the order in which they began
        self._revision = store().revision  # everything up to it has been looked at for those that are synced
        self._synced = WatchIndex()
        self._fresh = Fresh()
        self._ahead = WatchHeap()  # by the revisions that they wait for
        self._near = CatchUp(store=store, host=self)
        self._far = CatchUp(store=store, host=self)
        self._telling: Watch | None = None  # its cursor is true at the moment
        self._turn: IDelayedCall | None = None
        self._heartbeats = Heartbeats(clock=clock, look=self._look)
        self._refused: type[RaftKVError] | None = None

    def __len__(self) -> int:
        return len(self._open)

    def open(self, request: WatchRequest, receiver: WatchReceiver) -> Watch:
        """Make a watch, which then has to be begun."""
        return Watch(request, receiver, self)

    # -- from the state machine --------------------------------------------------------------------------------------

    def applied(self, entry: Entry, results: Sequence[Result]) -> None:
        """An entry has been applied: find out who is to be told of it."""
        store = self._store()
        revision = store.revision
        if revision == self._revision:
            return
        first, self._revision = self._revision + 1, revision
        if self._synced.count:
            self._find_concerned(store, first)
        if self._ahead:
            self._call_up()
        self._wake()

    def restored(self, index: int) -> None:
        """A snapshot has taken the place of the state: everybody's cursor is to be found in its history, or not."""
        synced, self._synced = self._synced, WatchIndex()
        for watch in synced:
            self._settle(watch)
        uprooted = [*synced, *self._near.clear(), *self._far.clear()]
        self._revision = self._store().revision
        for watch in uprooted:
            self._place(watch)
        self._call_up()
        self._wake()

    def _find_concerned(self, store: Store, first: int) -> None:
        synced, fresh = self._synced, self._fresh
        for revision in range(first, self._revision + 1):
            # What was applied and compacted in one entry cannot be told, which is to be told them.
            changes = store.changes_of(revision, 0, MANY_CHANGES) if revision >= store.compact_revision else None
            if changes is None or len(changes) == MANY_CHANGES:
                self._fall_behind([*synced], revision)
                return
            for place, change in enumerate(changes):
                groups = synced.concerned(change.key, is_delete=change.record is None)
                if groups:
                    fresh.add(groups, WatchEvent(revision, place, change))
        if fresh.count > MAX_PENDING:
            self._fall_behind([*fresh], self._revision + 1)

    def _fall_behind(self, watches: Sequence[Watch], revision: int) -> None:
        """Have watches that are synced told from the history what they have not been told.

        :param revision: the first one that was not looked at for them.
        """
        for watch in watches:
            self._synced.discard(watch)
            self._settle(watch, revision)
            self._near.add(watch)

    def _settle(self, watch: Watch, revision: int | None = None) -> None:
        """Put the cursor of a watch that is synced in front of the first thing that it was not told."""
        pending = self._fresh.first(watch)
        watch.move_to(pending.revision if pending else self._revision + 1 if revision is None else revision)
        self._fresh.drop(watch)

    def _call_up(self) -> None:
        """Look for watches whose first revision has come."""
        while (first := self._ahead.first()) is not None and first <= self._revision + 1:
            self._place(self._ahead.pop())

    # -- from the watches --------------------------------------------------------------------------------------------

    def begin(self, watch: Watch) -> None:
        """See :class:`raftkv.server.watching.watch.Keeper`."""
        if watch.state is not State.NEW or watch in self._open:
            raise ValueError("a watch begins once")
        refusal = self._refused() if self._refused is not None else self._refusal()
        if refusal is None and len(self._open) >= self._limits.max_watchers:
            refusal = Overloaded(f"{len(self._open)} watches are open; limits.maxWatchers allows no more")
        if refusal is not None:
            watch.state = State.ENDED
            watch.receiver.ended(refusal)
            return
        self._open[watch] = None
        request = watch.request
        first = request.from_revision
        if first is None or (request.resumes and first > self._revision + 1):
            self._barrier(partial(self._may_begin, watch))
        else:
            self._begin_at(watch, first)

    def _may_begin(self, watch: Watch, error: RaftKVError | None) -> None:
        """A linearizable read could be served: whatever was told of this history, by whomever, is in the state."""
        if watch.state is State.ENDED:
            return
        revision = self._store().revision
        first = watch.request.from_revision
        if error is not None:
            self._end(watch, error)
        elif first is None:
            self._begin_at(watch, revision + 1)
        elif first > revision + 1:
            # It was told of revisions that this history does not have: that was another one, before a restore (B61).
            self._end(watch, FutureRevision(revision))
        else:
            self._begin_at(watch, first)

    def _begin_at(self, watch: Watch, first: int) -> None:
        if first < self._store().compact_revision:
            self.compacted(watch, self._store().compact_revision)
            return
        now = self._clock.seconds()
        self.begun += 1
        watch.move_to(first)
        watch.quiet_since = watch.reported_at = now
        self._say(watch, lambda: watch.receiver.begun(first - 1))
        if watch.state is State.NEW:
            self._heartbeats.add(watch, now + watch.request.progress_seconds)
            self._place(watch)
            self._wake()

    def forget(self, watch: Watch) -> None:
        """See :class:`raftkv.server.watching.watch.Keeper`."""
        watch.move_to(self.told(watch) + 1)
        if watch.state is State.SYNCED:
            self._synced.discard(watch)
            self._fresh.drop(watch)
        elif watch.lane is not None:
            watch.lane.discard(watch)
        was_ahead = watch.state is State.AHEAD
        watch.state, watch.lane = State.ENDED, None
        self._open.pop(watch, None)
        if not self._open:
            self._rest()
            return
        self._heartbeats.one_ended()
        if was_ahead:
            self._ahead.one_ended()

    def go_on(self, watch: Watch) -> None:
        """See :class:`raftkv.server.watching.watch.Keeper`."""
        self._place(watch)
        self._wake()

    def hasten(self, watch: Watch) -> None:
        """See :class:`raftkv.server.watching.watch.Keeper`."""
        if watch is self._telling:
            return  # what it is being told now may not be all
        if watch.state is State.AHEAD or (watch.state is State.SYNCED and self._fresh.first(watch) is None):
            self._report(watch)

    def told(self, watch: Watch) -> int:
        """See :class:`raftkv.server.watching.watch.Keeper`."""
        if watch is self._telling:
            return watch.revision - 1
        if watch.state is State.SYNCED:
            pending = self._fresh.first(watch)
            return pending.revision - 1 if pending else max(self._revision, watch.revision - 1)
        if watch.state is State.CATCHING_UP and watch.lane is not None:
            return watch.lane.told(watch)
        return watch.revision - 1

    # -- where they stand --------------------------------------------------------------------------------------------

    def _place(self, watch: Watch) -> None:
        """Let a watch be told what follows its cursor."""
        revision, watch.lane = watch.revision, None
        if revision > self._revision + 1:
            watch.state = State.AHEAD
            self._ahead.push(revision, watch)
            self._tell_progress_wanted(watch)
        elif revision > self._revision:
            watch.state = State.SYNCED
            self._synced.add(watch)
            self._tell_progress_wanted(watch)
        else:
            lane = self._near if self._revision - revision < NEAR_REVISIONS else self._far
            lane.add(watch)

    def synced(self, watches: WatchIndex) -> None:
        """See :class:`raftkv.server.watching.catchup.Host`."""
        impatient = []
        for group in [*watches.groups()]:
            for watch in group.watches:
                watch.state = State.SYNCED
                watch.lane = None
                if watch.wants_progress:
                    impatient.append(watch)
            self._synced.merge(group)
        for watch in impatient:
            self._tell_progress_wanted(watch)

    def _set_aside(self, watch: Watch) -> None:
        """The receiver of a watch has no room: it is looked at again when it has, or when its time is over."""
        if watch.state is State.SYNCED:
            self._synced.discard(watch)
            self._fresh.drop(watch)
        elif watch.lane is not None:
            watch.lane.discard(watch)
        watch.state, watch.lane = State.FULL, None
        watch.full_since = self._clock.seconds()
        self._heartbeats.add(watch, watch.full_since + self._limits.stall_seconds)

    # -- what they are told ------------------------------------------------------------------------------------------

    def tell(self, watch: Watch, events: list[WatchEvent], is_whole: bool) -> bool:
        """See :class:`raftkv.server.watching.catchup.Host`."""
        watch.quiet_since = self._clock.seconds()
        self.told_events += len(events)
        self._telling = watch
        try:
            has_room = watch.tell(events, is_whole=is_whole)
        except Exception:
            self._receiver_failed(watch, events[0].revision - 1)
            return False
        finally:
            self._telling = None
        if not has_room and watch.state is not State.ENDED:
            self._set_aside(watch)
        return has_room

    def _tell_progress_wanted(self, watch: Watch) -> None:
        if watch.wants_progress and watch.state is not State.ENDED:
            self._report(watch)

    def _report(self, watch: Watch) -> None:
        watch.wants_progress = False
        watch.quiet_since = watch.reported_at = self._clock.seconds()
        told = self.told(watch)
        self._say(watch, lambda: watch.receiver.progress(told))

    def compacted(self, watch: Watch, compact_revision: int) -> None:
        """See :class:`raftkv.server.watching.catchup.Host`."""
        self.compacted_watches += 1
        self._end(watch, Compacted(compact_revision))

    def _end(self, watch: Watch, error: RaftKVError) -> None:
        self.forget(watch)
        try:
            watch.receiver.ended(error)
        except Exception:
            self._log.failure("the receiver of a watch failed at its end")

    def _say(self, watch: Watch, call: Callable[[], None]) -> None:
        try:
            call()
        except Exception:
            self._receiver_failed(watch, self.told(watch))

    def _receiver_failed(self, watch: Watch, told: int) -> None:
        # One receiver's mistake is one receiver's matter; the others wait for their events.
        self._log.failure("the receiver of a watch failed")
        if watch.state is not State.ENDED:
            self._end(watch, Overflow(told))

    # -- time --------------------------------------------------------------------------------------------------------

    def _look(self, watch: Watch, now: float) -> float | None:
        """Tell a watch how far it is, if that is due, or cut it off; return when to look again."""
        interval = watch.request.progress_seconds
        if watch.state is State.FULL:
            # Whoever is full is looked at once more when its time is over; its progress can wait until then.
            if now < watch.full_since + self._limits.stall_seconds:
                return now + interval
            self.overflowed += 1
            self._end(watch, Overflow(self.told(watch)))
            return None
        if watch.place:
            return now + interval  # in the middle of a revision, whose events are to come together
        since = watch.reported_at if watch.request.is_progress_regular else watch.quiet_since
        if now < since + interval:
            return since + interval
        self._report(watch)
        return now + interval if watch.state is not State.ENDED else None

    def _wake(self) -> None:
        if self._turn is None and (self._fresh.count or self._near.is_busy or self._far.is_busy):
            self._turn = self._clock.callLater(0, self._run_turn)

    def _run_turn(self) -> None:
        self._turn = None
        self._fresh.tell(self.tell, self._tell_progress_wanted)
        self._near.step()
        self._far.step()
        self._wake()

    def _rest(self) -> None:
        """Nobody is left: no timer may be, either."""
        self._heartbeats.stop()
        self._ahead = WatchHeap()
        if self._turn is not None:
            self._turn.cancel()
            self._turn = None

    # -- the end -----------------------------------------------------------------------------------------------------

    def refuse(self, reason: type[RaftKVError] = ShuttingDown) -> None:
        """End all watches, and let none begin any more.

        :param reason: what they are told.
        """
        self._refused = reason
        self.interrupt(reason)

    def interrupt(self, reason: type[RaftKVError]) -> None:
        """End all watches: what they have been told may be wrong, or nothing will follow. Others may begin."""
        for watch in [*self._open]:
            if watch.state is not State.ENDED:
                self._end(watch, reason())
