"""What has just been applied, on its way to the watches that are up to date.

It is told in the next turns of the reactor, a little in each. Meanwhile a few events wait here, the same objects for
all watches; where they become too many the watches fall behind, and are told from the history instead.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from itertools import islice
from typing import Final

from raftkv.server.watching.index import Group
from raftkv.server.watching.watch import State, Watch
from raftkv.watches import WatchEvent

TURN_CALLS: Final = 256  #: to receivers in one turn: a few milliseconds' worth
TURN_BYTES: Final = 1024 * 1024  #: of values told in one turn, by which a single watch may exceed it
MAX_PENDING: Final = 50_000  #: events that may wait, each counted for each of its watches

Tell = Callable[
    [Watch, list[WatchEvent], bool], bool
]  #: tells events of one revision; the flag says if it is all of it


class Fresh:
    """Events by the watches that are to be told of them.

    :ivar count: how many there are.
    """

    def __init__(self) -> None:
        self._events: dict[Watch, list[WatchEvent]] = {}
        self.count = 0

    def __iter__(self) -> Iterator[Watch]:
        return iter([*self._events])

    def add(self, groups: Iterable[Group], event: WatchEvent) -> None:
        """Have an event told; events come in their order, and all those of a revision before the next turn."""
        events = self._events
        for group in groups:
            self.count += len(group.watches)
            for watch in group.watches:
                if watch in events:
                    events[watch].append(event)
                else:
                    events[watch] = [event]

    def first(self, watch: Watch) -> WatchEvent | None:
        """Return what a watch is told next, ``None`` where that is nothing."""
        events = self._events.get(watch)
        return events[0] if events else None

    def drop(self, watch: Watch) -> None:
        """Have a watch told nothing of what waits."""
        self.count -= len(self._events.pop(watch, ()))

    def tell(self, tell: Tell, told: Callable[[Watch], None]) -> None:
        """Tell a turn's worth.

        :param told: called with each watch that has been told everything that waited for it.
        """
        bytes_left = TURN_BYTES
        # Not one by one from the front, where a dictionary would look again and again at what is no longer there.
        for watch in [*islice(self._events, TURN_CALLS)]:
            events = self._events.pop(watch, None)
            if events is None:
                continue  # it was given up meanwhile
            self.count -= len(events)
            bytes_left -= sum([event.size_bytes for event in events])
            if all(watch.state is State.SYNCED and tell(watch, part, True) for part in by_revision(events)):
                told(watch)
            if bytes_left <= 0:
                return


def by_revision(events: list[WatchEvent]) -> Iterator[list[WatchEvent]]:
    """Divide events where a revision ends."""
    if events[0].revision == events[-1].revision:
        yield events
        return
    start = 0
    for place, event in enumerate(events):
        if event.revision != events[start].revision:
            yield events[start:place]
            start = place
    yield events[start:]
