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

    def stopService(self) -> Deferred[Any]:
        """Stop the parts in reverse; fires once the last one has stopped. One that fails does not keep the others up,
        but its failure is reported."""
        Service.stopService(self)
        return ensureDeferred(self._stop_all())

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
