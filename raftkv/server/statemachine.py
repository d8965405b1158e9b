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
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.interfaces import Result
from raftkv.kvstore import Store
from raftkv.raft.messages import Entry, EntryKind, SnapshotMeta

AppliedListener = Callable[[Entry, Sequence[Result]], None]


class StateMachine:
    """The store of one node, and everybody who waits for it to reach an index.

    :param store: the state to begin with, usually empty.
    :param load: starts to read the installed snapshot of that meta; fires with the store that it holds.
    :param discard: frees a store that a restored one has replaced.
    :param fatal: called with an error that makes it unsafe to go on.
    :ivar store: the present state; replaced as a whole when a snapshot is restored.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        store: Store,
        load: Callable[[SnapshotMeta], Deferred[Store]],
        discard: Callable[[Store], None],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self.store = store
        self.applied_entries = 0
        self.applied_commands = 0
        self._load = load
        self._discard = discard
        self._fatal = fatal
        self._listeners: list[AppliedListener] = []
        self._restored: list[Callable[[int], None]] = []
        self._loading: Deferred[Store] | None = None
        self._backlog: deque[Entry] = deque()
        self._readers: list[tuple[int, int, Callable[[], None]]] = []
        self._tickets = count()

    @property
    def is_restoring(self) -> bool:
        """Whether a snapshot is being read, so that the store's state is older than what was promised."""
        return self._loading is not None

    def on_applied(self, listener: AppliedListener) -> None:
        """Call ``listener`` with each applied entry and its results (none where it held no commands)."""
        self._listeners.append(listener)

    def on_restored(self, listener: Callable[[int], None]) -> None:
        """Call ``listener`` with the index that a restored snapshot brought the state to."""
        self._restored.append(listener)

    def apply(self, entries: Sequence[Entry]) -> None:
        """Apply committed entries in order; they wait while a snapshot is being restored."""
        if self._loading is not None:
            self._backlog.extend(entries)
            return
        for entry in entries:
            self._apply_one(entry)
        self._serve_readers()

    def _apply_one(self, entry: Entry) -> None:
        results: Sequence[Result] = ()
        if entry.kind == EntryKind.COMMANDS:
            results = self.store.apply(entry.index, entry.payload)
            self.applied_commands += len(results)
        else:
            self.store.skip(entry.index)
        self.applied_entries += 1
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
        self._backlog = deque(entry for entry in self._backlog if entry.index > snapshot.index)
        loading = self._load(snapshot)
        self._loading = loading
        loading.addCallbacks(self._loaded, self._load_failed, callbackArgs=(loading, snapshot), errbackArgs=(loading,))

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
            backlog, self._backlog = self._backlog, deque()
            self.apply(backlog)
        except Exception as error:
            self._fatal(error)

    def _load_failed(self, failure: Failure, loading: Deferred[Store]) -> None:
        if self._loading is loading:
            assert failure.value is not None  # for mypy: a failure always holds an exception
            self._fatal(failure.value)

    def stop(self) -> None:
        """Give up a restore that is under way and forget whoever waits."""
        self._readers.clear()
        if self._loading is not None:
            loading, self._loading = self._loading, None
            loading.cancel()
