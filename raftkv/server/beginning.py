"""The first steps of a process whose node has no data directory yet, and their end.

Until it is known how the node has to begin (:mod:`raftkv.membership.founding`, :mod:`raftkv.membership.joining`), the
process listens on all its ports: other nodes hear on the Raft port that it holds nothing, everybody else what it waits
for. Then all that is taken down, and the node itself takes its place on the same ports.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable
from typing import Any

from twisted.application.service import IService, IServiceCollection
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure

from raftkv.interfaces import Joined
from raftkv.membership import Founding, Joining


def add_parts(services: IServiceCollection, parts: Iterable[Any]) -> None:
    """Add services, and start them if the others run.

    All are made before any is started: what cannot be made must not leave half a node running.
    """
    for part in list(parts):
        IService(part).setServiceParent(services)


class Beginning:
    """Holds what runs until the node does.

    :param services: of the whole process.
    :param store: writes down how the node begins.
    :param make_node: makes the parts of the node from that.
    :param fatal: told of whatever makes it impossible to begin.
    """

    def __init__(
        self,
        *,
        services: IServiceCollection,
        clock: IReactorTime,
        store: Callable[[Joined], None],
        make_node: Callable[[], Iterable[Any]],
        fatal: Callable[[BaseException], None],
    ) -> None:
        self._services = services
        self._clock = clock
        self._store = store
        self._make_node = make_node
        self._fatal = fatal
        self._parts: list[Any] = []
        self._asking: Founding | Joining | None = None

    @property
    def reason(self) -> str:
        """What the node waits for."""
        return self._asking.reason if self._asking is not None else "the node is about to begin"

    def wait_with(self, *parts: Any) -> None:
        """Let services run until the node does."""
        self._parts += parts
        add_parts(self._services, parts)

    def ask(self, asking: Founding | Joining) -> None:
        """Let this service find out how to begin."""
        self._asking = asking
        self.wait_with(asking)

    def ask_too(self, asking: Callable[[], Founding | Joining]) -> None:
        """Let another service find out, from what the first one knows."""
        # Not within the first one's own call, in which it may be stopped otherwise.
        self._clock.callLater(0, self._try, lambda: self.ask(asking()))

    def found_out(self, joined: Joined) -> None:
        """Begin with this: it is on disk before anything else happens."""
        self._try(lambda: self._begin(joined))

    def _begin(self, joined: Joined) -> None:
        self._store(joined)
        self._clock.callLater(0, self._make_room)

    def _make_room(self) -> None:
        making_room: Deferred[None] = ensureDeferred(self._hand_over())
        making_room.addErrback(self._failed)

    async def _hand_over(self) -> None:
        parts, self._parts = self._parts, []
        for part in reversed(parts):
            stopping = part.disownServiceParent()
            if stopping is not None:
                await stopping
        if IService(self._services).running:
            add_parts(self._services, self._make_node())

    def _try(self, step: Callable[[], object]) -> None:
        if not IService(self._services).running:
            return
        try:
            step()
        except Exception as error:  # whatever it is: a node that cannot begin must not sit there as if it waited
            self._fatal(error)

    def _failed(self, failure: Failure) -> None:
        if failure.value is not None:
            self._fatal(failure.value)
