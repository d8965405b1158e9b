"""Services that start one after the other and stop in the reverse order, each after the one before has stopped."""

from __future__ import annotations

from typing import Any

from twisted.application.service import IService, MultiService, Service
from twisted.internet.defer import Deferred, ensureDeferred
from twisted.logger import Logger


class OrderedServices(MultiService):
    """A ``MultiService`` whose parts stop one by one.

    Twisted's own stops all of them at once; here the interfaces must have finished before the node gives up its
    leadership, and the node before its connections close.
    """

    _log = Logger()

    def __init__(self) -> None:
        super().__init__()
        self._stop_waiters: list[Deferred[Any]] = []

    def stopService(self) -> Deferred[Any]:
        """Stop the parts in reverse; fires once the last one has stopped. One that fails does not keep the others up,
        but its failure is reported. Who asks again meanwhile waits with the first."""
        Service.stopService(self)
        stopped: Deferred[Any] = Deferred()
        self._stop_waiters.append(stopped)
        if len(self._stop_waiters) == 1:
            ensureDeferred(self._stop_all()).addBoth(self._all_stopped)
        return stopped

    def _all_stopped(self, _: object) -> None:
        waiters, self._stop_waiters = self._stop_waiters, []
        for stopped in waiters:
            stopped.callback(None)

    async def _stop_all(self) -> None:
        for service in reversed(list(self)):
            part = IService(service)
            if not part.running:
                continue
            try:
                stopping = part.stopService()
                if stopping is not None:
                    await stopping
            except Exception:
                self._log.failure("{service} did not stop cleanly", service=part)
