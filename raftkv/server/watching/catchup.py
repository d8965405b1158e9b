"""Telling watches what they have not been told yet: from the history, for many at once, a little in each turn.

A pass begins at the smallest cursor of those that wait, and goes through the history once for all of them, each joining
in at its own cursor. What it finds is told, watch by watch, before it goes on, so that it holds no more than one slice;
a receiver without room leaves the pass with its cursor. Whoever is left at the end has been told everything.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from itertools import islice
from typing import Final, Protocol

from raftkv.kvstore import Store
from raftkv.server.watching.fresh import TURN_BYTES, TURN_CALLS, by_revision
from raftkv.server.watching.index import Group, WatchIndex
from raftkv.server.watching.watch import State, Watch
from raftkv.watches import WatchEvent

SLICE_CHANGES: Final = 256  #: looked at in one turn, besides the last revision's
SLICE_MATCHES: Final = 20_000  #: found in one turn; a single change may find more


class Host(Protocol):
    """What a pass needs of those who keep the watches."""

    def compacted(self, watch: Watch, compact_revision: int) -> None:
        """What a watch would be told next is no longer kept."""

    def tell(self, watch: Watch, events: list[WatchEvent], is_whole: bool) -> bool:
        """Tell events of one revision; return whether there is room for more.

        If not, the watch is no part of the pass any more, and may have ended.
        """

    def synced(self, watches: WatchIndex) -> None:
        """These watches have been told everything that there is."""


class CatchUp:
    """Watches that are behind, and the pass that some of them are in.

    :param host: those who keep the watches.
    """

    def __init__(self, *, store: Callable[[], Store], host: Host) -> None:
        self._store = store
        self._host = host
        self._waiting = WatchIndex()
        self._waits_from = (0, 0)  # the smallest cursor among them
        self._members = WatchIndex()
        # Where the pass is, and what it has found that was not told. Of a revision that it has not seen to its end the
        # last event of each watch is held back: it may turn out to be the one that ends the revision.
        self._revision = 0
        self._place = 0
        self._found: dict[Watch, list[WatchEvent]] = {}
        self._held: dict[Watch, list[WatchEvent]] = {}

    @property
    def is_busy(self) -> bool:
        """Whether there is anything to do."""
        return self._members.count > 0 or self._waiting.count > 0

    # -- who is behind -----------------------------------------------------------------------------------------------

    def add(self, watch: Watch) -> None:
        """Take in a watch that is to be told what follows its cursor."""
        watch.state, watch.lane = State.BEHIND, self
        cursor = (watch.revision, watch.place)
        self._waits_from = min(self._waits_from, cursor) if self._waiting.count else cursor
        self._waiting.add(watch)

    def discard(self, watch: Watch) -> None:
        """Let go of a watch, wherever it is."""
        if watch.state is State.BEHIND:
            self._waiting.discard(watch)
        else:
            self._members.discard(watch)
            self._found.pop(watch, None)
            self._held.pop(watch, None)

    def clear(self) -> Iterator[Watch]:
        """Let go of all watches, each with its true cursor, and yield them."""
        for watch in self._members:
            self._settle(watch)
        everybody = [*self._members, *self._waiting]
        self._members, self._waiting = WatchIndex(), WatchIndex()
        self._found, self._held = {}, {}
        return iter(everybody)

    def told(self, watch: Watch) -> int:
        """Return the revision up to which a member of the pass has been told everything."""
        pending = self._found.get(watch) or self._held.get(watch)
        if pending:
            return max(pending[0].revision, watch.revision) - 1
        return max(self._revision, watch.revision) - 1

    def _settle(self, watch: Watch) -> None:
        """Put the cursor of a member in front of the first thing that it was not told."""
        pending = self._found.get(watch) or self._held.get(watch)
        if pending:
            watch.move_to(pending[0].revision, pending[0].place)
        else:
            watch.move_to(self._revision, self._place)

    # -- the pass ----------------------------------------------------------------------------------------------------

    def step(self) -> None:
        """Do a turn's worth."""
        if not self._members.count:
            if not self._waiting.count:
                return
            self._begin()
        if not self._found:
            self._look()
        self._tell_found()
        if not self._found and not self._held and self._revision > self._store().revision:
            self._end()

    def _begin(self) -> None:
        self._members, self._waiting = self._waiting, WatchIndex()
        self._revision, self._place = self._waits_from
        for watch in self._members:
            watch.state = State.CATCHING_UP

    def _end(self) -> None:
        members, self._members = self._members, WatchIndex()
        if members.count:
            self._host.synced(members)

    def _look(self) -> None:
        """Go on through the history until there is enough to tell."""
        store = self._store()
        if self._revision < store.compact_revision:
            self._drop_compacted(store.compact_revision)
        self._found, self._held = self._held, {}
        changes_left, matches_left = SLICE_CHANGES, SLICE_MATCHES
        while self._revision <= store.revision and changes_left > 0 and matches_left > 0 and self._members.count:
            changes = store.changes_of(self._revision, self._place, changes_left)
            for place, change in enumerate(changes, self._place):
                groups = self._members.concerned(change.key, is_delete=change.record is None)
                if groups:
                    matches_left -= self._find(groups, WatchEvent(self._revision, place, change))
            if len(changes) < changes_left:
                self._revision += 1
                self._place = 0
            else:
                self._place += len(changes)
            changes_left -= len(changes) + 1

    def _find(self, groups: list[Group], event: WatchEvent) -> int:
        found, matches, revision, place = self._found, 0, event.revision, event.place
        for group in groups:
            matches += len(group.watches)
            for watch in group.watches:
                if watch.revision < revision or (watch.revision == revision and watch.place <= place):
                    if watch in found:
                        found[watch].append(event)
                    else:
                        found[watch] = [event]
        return matches

    def _drop_compacted(self, compact_revision: int) -> None:
        for watch in [*self._members]:
            if max(watch.revision, self._revision) < compact_revision and watch.state is State.CATCHING_UP:
                self._settle(watch)
                self._host.compacted(watch, compact_revision)
        self._revision, self._place = compact_revision, 0

    def _tell_found(self) -> None:
        bytes_left = TURN_BYTES
        for watch in [*islice(self._found, TURN_CALLS)]:
            events = self._found.pop(watch, None)
            if events is None:
                continue  # it was given up meanwhile
            bytes_left -= sum([event.size_bytes for event in events])
            self._tell(watch, events)
            if bytes_left <= 0:
                return

    def _tell(self, watch: Watch, events: list[WatchEvent]) -> None:
        """Tell one watch what was found for it, revision by revision, as long as it has room."""
        for part in by_revision(events):
            is_whole = part[-1].revision < self._revision
            if not is_whole:
                self._held[watch] = [part.pop()]
            if part and not self._host.tell(watch, part, is_whole):
                return
            if watch.state is not State.CATCHING_UP:
                return
