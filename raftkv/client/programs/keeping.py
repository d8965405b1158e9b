"""A lease that is kept alive, and the moment from which it may be gone.

What the holder may believe is told by its own clock: a lease lasts at least its time from the moment at which the last
sign of life that was answered had been *sent* (B37, B62). The cluster's time may stand still for a while, so that the
lease lasts longer; nobody is to count on that. Once lost, a lease stays lost for its holder, whatever comes later.
"""

from __future__ import annotations

from typing import Final

from raftkv.client import operations
from raftkv.client.model import GrantedLease
from raftkv.client.programs.engine import Engine
from raftkv.client.runtime import Signal
from raftkv.errors import LeaseNotFound, RaftKVError

SIGNS_OF_LIFE: Final = 3  #: within the time of a lease, so that two may be lost
_TRIES_AFTER_FAILURE: Final = 10  # within the time of a lease


class Keeper:
    """Keeps one lease alive until it is told to stop, or the lease is lost.

    :param granted: the lease.
    :param sent: when the request for it was sent, on the clock of the runtime.
    :ivar lost: set when the lease is lost; never after :meth:`stop`.
    :ivar ended: set when it has stopped or the lease is lost.
    """

    def __init__(self, engine: Engine, granted: GrantedLease, *, sent: float) -> None:
        self.id = granted.id
        self.ttl = granted.ttl
        self.lost = Signal()
        self.ended = Signal()
        self._engine = engine
        self._stop = Signal()
        self._valid_until = sent + granted.ttl
        self._next_at = sent + granted.ttl / SIGNS_OF_LIFE
        self._forget_closing = engine.closing.on_set(self._stop.set)

    @property
    def is_lost(self) -> bool:
        """Whether the lease may be gone; true at the very moment, also where nobody had time to notice."""
        return self.lost.is_set or (not self._stop.is_set and self.remaining_seconds <= 0)

    @property
    def remaining_seconds(self) -> float:
        """How long the lease lasts at least, without another sign of life; 0 where it is lost."""
        if self.lost.is_set:
            return 0.0
        return max(0.0, self._valid_until - self._engine.runtime.now())

    def begin(self) -> None:
        """Keep the lease alive from now on, beside everything else."""
        self._engine.spawn(self._run())

    def stop(self) -> None:
        """Send no more signs of life."""
        self._stop.set()
        self._forget_closing()
        self.ended.set()

    async def confirm(self) -> bool:
        """Give a sign of life now; return whether it was answered, and the lease is there."""
        return await self._sign_of_life()

    async def when_lost(self, timeout_seconds: float) -> bool:
        """Wait until the lease is lost or no longer kept; return whether it is lost.

        :param timeout_seconds: how long to wait at most.
        """
        if not self.is_lost and not self.ended.is_set:
            await self._engine.runtime.wait(self.ended, timeout_seconds)
        return self.is_lost

    async def _run(self) -> None:
        try:
            await self._keep()
        finally:
            # Whatever ended it but stop(): nobody keeps the lease any more, and whoever waits to hear of its end must
            # not wait for ever (B66).
            if not self.lost.is_set and (not self._stop.is_set or self._engine.closing.is_set):
                self._lose()

    async def _keep(self) -> None:
        while not self._stop.is_set and not self.lost.is_set:
            now = self._engine.runtime.now()
            if now < min(self._next_at, self._valid_until):
                await self._engine.runtime.wait(self._stop, min(self._next_at, self._valid_until) - now)
            else:
                await self._sign_of_life()

    async def _sign_of_life(self) -> bool:
        runtime = self._engine.runtime
        sent = runtime.now()
        if sent >= self._valid_until:
            self._lose()
            return False
        try:
            kept = await self._engine.call(
                lambda: operations.keep_alive(self.id, queues=False), timeout_seconds=self._valid_until - sent
            )
        except LeaseNotFound:
            self._lose()
        except RaftKVError:
            # Whether time is left is what decides, not what went wrong.
            self._next_at = runtime.now() + self.ttl / _TRIES_AFTER_FAILURE
        else:
            if runtime.now() < self._valid_until:
                self._valid_until = max(self._valid_until, sent + kept.ttl)
                self._next_at = sent + kept.ttl / SIGNS_OF_LIFE
                return True
            self._lose()  # the lease is there again, or still; but somebody may have been told that it was lost
        return False

    def _lose(self) -> None:
        if not self._stop.is_set or self._engine.closing.is_set:
            self._forget_closing()
            self.lost.set()
            self.ended.set()
