"""One watch: a cursor over the history of the store, and the state of whoever is told."""

from __future__ import annotations

import enum
from collections.abc import Sequence
from typing import Protocol

from raftkv.server.watching.index import Span
from raftkv.watches import WatchEvent, WatchReceiver, WatchRequest


class State(enum.Enum):
    """Where a watch stands."""

    NEW = "new"  #: it has not begun
    SYNCED = "synced"  #: everything that was applied has been told, or concerns others
    BEHIND = "behind"  #: it waits for its turn to be told more
    CATCHING_UP = "catching up"  #: it is being told
    FULL = "full"  #: its receiver has no room
    AHEAD = "ahead"  #: its first revision is yet to be
    ENDED = "ended"


class Keeper(Protocol):
    """What a watch needs of those who keep it."""

    def begin(self, watch: Watch) -> None:
        """A watch wants its first event."""

    def forget(self, watch: Watch) -> None:
        """A watch is wanted no more."""

    def go_on(self, watch: Watch) -> None:
        """A watch whose receiver had no room has some again."""

    def hasten(self, watch: Watch) -> None:
        """A watch wants to know how far it is as soon as it has been told everything."""

    def told(self, watch: Watch) -> int:
        """Return the revision up to which a watch has been told everything."""


class Lane(Protocol):
    """Where a watch is that is behind."""

    def discard(self, watch: Watch) -> None:
        """Let go of the watch."""

    def told(self, watch: Watch) -> int:
        """Return the revision up to which a watch that is catching up has been told everything."""


class Watch:
    """See :class:`raftkv.watches.IWatch`.

    :ivar revision: with ``place`` the cursor: nothing in front of it is to be told (any more). That of a watch that is
        synced is really behind everything that was applied, that of one that catches up where the pass has come to.
    :ivar place: how many changes of that revision have been told, or passed over.
    :ivar state: where the watch stands.
    :ivar lane: where it is told from while it is behind.
    :ivar wants_progress: whether progress is to be told as soon as it is synced.
    :ivar quiet_since: when something was last told, on the clock; likewise ``reported_at`` for progress.
    :ivar full_since: when its receiver ran out of room.
    """

    __slots__ = (
        *("_keeper", "full_since", "lane", "place", "quiet_since", "receiver", "reported_at"),
        *("request", "revision", "span", "state", "wants_progress"),
    )

    def __init__(self, request: WatchRequest, receiver: WatchReceiver, keeper: Keeper) -> None:
        self._keeper = keeper
        self.request = request
        self.receiver = receiver
        self.span = Span.of(request)
        self.revision = request.from_revision or 0
        self.place = 0
        self.state = State.NEW
        self.lane: Lane | None = None
        self.wants_progress = False
        self.quiet_since = 0.0
        self.reported_at = 0.0
        self.full_since = 0.0

    # -- from whoever asked for it -----------------------------------------------------------------------------------

    def begin(self) -> None:
        """See :class:`raftkv.watches.IWatch`."""
        self._keeper.begin(self)

    def cancel(self) -> None:
        """See :class:`raftkv.watches.IWatch`."""
        if self.state is not State.ENDED:
            self._keeper.forget(self)

    def go_on(self) -> None:
        """See :class:`raftkv.watches.IWatch`."""
        if self.state is State.FULL:
            self._keeper.go_on(self)

    def ask_progress(self) -> None:
        """See :class:`raftkv.watches.IWatch`."""
        if self.state is not State.ENDED:
            self.wants_progress = True
            self._keeper.hasten(self)

    @property
    def told_revision(self) -> int:
        """See :class:`raftkv.watches.IWatch`."""
        return self._keeper.told(self)

    # -- from the keepers --------------------------------------------------------------------------------------------

    def move_to(self, revision: int, place: int = 0) -> None:
        """Set the cursor; it never goes back."""
        if (revision, place) > (self.revision, self.place):
            self.revision = revision
            self.place = place

    def is_due(self, event: WatchEvent) -> bool:
        """Tell whether the cursor is not yet behind an event."""
        return event.revision > self.revision or (event.revision == self.revision and event.place >= self.place)

    def tell(self, events: Sequence[WatchEvent], *, is_whole: bool) -> bool:
        """Tell events of one revision, put the cursor behind them, and return whether there is room for more."""
        last = events[-1]
        if is_whole:
            self.move_to(last.revision + 1)
        else:
            self.move_to(last.revision, last.place + 1)
        return self.receiver.changed(events, is_whole=is_whole)
