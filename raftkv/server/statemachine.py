"""Applies committed entries to the store, answers whoever waited for them, and serves reads at an index.

It knows the store and the order of entries; how an entry came to be committed is the driver's business, and what a
command means is the store's.
"""

from __future__ import annotations

import heapq
from collections import deque
from collections.abc import Callable, Sequence
from itertools import count

from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IDelayedCall, IReactorTime
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import InvariantViolation
from raftkv.interfaces import Result
from raftkv.kvstore import Store
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta
from raftkv.server.notes import NOTE_INTERVAL

_SLICE_BYTES = 256 * 1024  # of entries that waited for a restore, applied in one turn: some milliseconds' worth

AppliedListener = Callable[[Entry, Sequence[Result]], None]


class StateMachine:
    """The store of one node, and everybody who waits for it to reach an index.

    :param store: the state to begin with, usually empty.
    :param clock: the reactor, or a test's clock: what waited for a restore is applied in slices.
    :param load: starts to read the installed snapshot of that meta; fires with the store that it holds.
    :param discard: frees a store that a restored one has replaced.
    :param fatal: called with an error that makes it unsafe to go on.
    :param note_interval: the digest of the state is noted at each index that is a multiple of it, and behind each entry
        that holds no commands at all, by which a leader asks for a note. The same on all nodes, or they have nothing
        to compare.
    :ivar store: the present state; replaced as a whole when a snapshot is restored.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: Store,
        clock: IReactorTime,
        load: Callable[[SnapshotMeta], Deferred[Store]],
        discard: Callable[[Store], None],
        fatal: Callable[[BaseException], None],
        note_interval: int = NOTE_INTERVAL,
    ) -> None:
        self.store = store
        self.applied_entries = 0
        self.applied_commands = 0
        self._clock = clock
        self._load = load
        self._discard = discard
        self._fatal = fatal
        self._note_interval = note_interval
        self._noted: list[Callable[[int, str], None]] = []
        self._listeners: list[AppliedListener] = []
        self._restored: list[Callable[[int], None]] = []
        self._caught_up: Callable[[], None] = lambda: None
        self._loading: Deferred[Store] | None = None
        self._backlog: deque[Entry] = deque()  # committed, behind a restore that is not done
        self._next_slice: IDelayedCall | None = None
        self._stopped = False
        self._readers: list[tuple[int, int, Callable[[], None]]] = []
        self._tickets = count()

    @property
    def is_restoring(self) -> bool:
        """Whether a snapshot is being read, so that the store's state is older than what was promised."""
        return self._loading is not None

    @property
    def is_behind(self) -> bool:
        """Whether entries wait for a restore or in its wake; more of them should stay on the disk meanwhile."""
        return self._loading is not None or bool(self._backlog)

    def on_applied(self, listener: AppliedListener) -> None:
        """Call ``listener`` with each applied entry and its results (none where it held no commands)."""
        self._listeners.append(listener)

    def on_noted(self, listener: Callable[[int, str], None]) -> None:
        """Call ``listener`` with each index at which the digest is noted, and the digest of the state there."""
        self._noted.append(listener)

    def on_restored(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with the index that a restored snapshot brought the state to."""
        self._restored.append(listener)

    def when_caught_up(self, go_on: Callable[[], None]) -> None:
        """Say who brings more entries; called each time that nothing waits any more."""
        self._caught_up = go_on

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries in order; they wait while a snapshot is being restored.

        :raises InvariantViolation: they do not follow what was applied, or one cannot be applied.
        """
        if self._stopped:
            return
        if self._loading is not None or self._backlog:
            self._backlog.extend(entries)
            return
        for entry in entries:
            self._apply_one(entry)
        self._serve_readers()

    def _work_off(self) -> None:
        """Apply some of what waited: all of it at once could keep the reactor for seconds."""
        self._next_slice = None
        room = _SLICE_BYTES
        try:
            while self._backlog and room > 0:
                entry = self._backlog.popleft()
                room -= len(entry.payload) + 1
                self._apply_one(entry)
            self._serve_readers()
        except Exception as error:
            self._fatal(error)
            return
        if self._backlog and self._next_slice is None and self._loading is None:
            self._next_slice = self._clock.callLater(0, self._work_off)
        elif not self.is_behind:
            self._caught_up()

    def _apply_one(self, entry: Entry) -> None:
        if entry.index != self.store.applied_index + 1:
            raise InvariantViolation(f"entry {entry.index} cannot follow the state at {self.store.applied_index}")
        results: Sequence[Result] = ()
        is_noted = not entry.index % self._note_interval
        if entry.kind == EntryKind.COMMANDS:
            results = self.store.apply(entry.index, entry.payload)
            self.applied_commands += len(results)
            is_noted = is_noted or not results
        else:
            self.store.skip(entry.index)
        self.applied_entries += 1
        if is_noted:
            # Before anybody is answered: where the state is found to be wrong, so are these results.
            digest = self.store.digest()
            for noted in self._noted:
                noted(entry.index, digest)
        for listener in self._listeners:
            listener(entry, results)

    def when_applied(self, index: int, ready: Callable[[], None]) -> None:
        """Call ``ready`` as soon as the entry at ``index`` has been applied: now, where it has been (B32)."""
        if self._loading is None and self.store.applied_index >= index:
            ready()
        else:
            heapq.heappush(self._readers, (index, next(self._tickets), ready))

    def _serve_readers(self) -> None:
        readers = self._readers
        while readers and readers[0][0] <= self.store.applied_index:
            heapq.heappop(readers)[2]()

    # -- snapshots -----------------------------------------------------------------------------------------------

    def restore(self, snapshot: SnapshotMeta) -> None:
        """Replace the state by a snapshot's; a second one that arrives meanwhile takes the place of the first (B47)."""
        if self._loading is not None:
            superseded, self._loading = self._loading, None
            superseded.cancel()
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        self._backlog = deque(entry for entry in self._backlog if entry.index > snapshot.index)
        loading = self._load(snapshot)
        self._loading = loading
        loading.addCallbacks(self._loaded, self._load_failed, callbackArgs=(loading, snapshot), errbackArgs=(loading,))

    def rebuild(self, snapshot: SnapshotMeta) -> None:
        """Replace the state by an older one, for it was found to be wrong; all that follows is handed over again."""
        self._backlog.clear()
        self.restore(snapshot)

    def _loaded(self, store: Store, loading: Deferred[Store], snapshot: SnapshotMeta) -> None:
        if self._loading is not loading:
            return
        self._loading = None
        replaced, self.store = self.store, store
        self._discard(replaced)
        self._log.info(
            "restored snapshot at index {index}: {keys} keys, revision {revision}",
            index=snapshot.index,
            keys=store.key_count,
            revision=store.revision,
        )
        try:
            for listener in self._restored:
                listener(snapshot.index)
        except Exception as error:
            self._fatal(error)
        else:
            self._work_off()

    def _load_failed(self, failure: Failure, loading: Deferred[Store]) -> None:
        if self._loading is loading:
            assert failure.value is not None  # for mypy: a failure always holds an exception
            self._fatal(failure.value)

    def stop(self) -> None:
        """Give up a restore that is under way and forget whoever waits; nothing is applied any more."""
        self._stopped = True
        self._readers.clear()
        self._backlog.clear()
        if self._next_slice is not None:
            self._next_slice.cancel()
            self._next_slice = None
        if self._loading is not None:
            loading, self._loading = self._loading, None
            loading.cancel()
