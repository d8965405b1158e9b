"""A lock from asking for it to giving it back, with the lease that holds it kept alive in between.

Waiting for a lock is one request that is answered late. Whatever breaks while it waits, it is asked again under the
same number and so finds its place again, or the lock itself; where the place was given up meanwhile (the node took the
broken connection for a client that left), it asks anew with the time that is left. A lock that has a lease of its own
loses that with the lock, however it is lost, so that the sign of life finds out.
"""

from __future__ import annotations

import math
from collections.abc import Callable
from functools import partial
from typing import Final, TypeVar

from raftkv.client.model import Fence, GrantedLease, HeldLock, LeaseLike
from raftkv.client.operations import Operation
from raftkv.client.operations.base import seconds_number
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.keeping import Keeper
from raftkv.client.spelling import lease_number
from raftkv.errors import BadRequest, Conflict, LeaseNotFound, LockHeld, LockNotHeld, RaftKVError

T = TypeVar("T")

# Far below the life of a session, and below what a node lets a request wait; a longer wait is several.
MAX_WAIT_SECONDS: Final = 300.0
_PAUSE_SECONDS: Final = 0.05


class Tenure:
    """A lock, or the leadership of an election, from asking to giving back.

    :param ask: makes the request for it, given the seconds to wait.
    :param give_back: makes the request that frees it, given its token.
    :param lock_name: of the lock.
    :param wait_seconds: how long to wait for it; ``inf`` for as long as it takes.
    :param ttl: seconds that its lease has after each sign of life.
    :param lease: an existing lease to hold it with, which is its owner's to keep alive.
    :ivar held: what was given; ``None`` before that.
    """

    def __init__(
        self,
        engine: Engine,
        *,
        ask: Callable[[float], Operation[HeldLock]],
        give_back: Callable[[int], Operation[object]],
        lock_name: str,
        wait_seconds: float,
        ttl: float,
        lease: LeaseLike | None,
    ) -> None:
        if isinstance(wait_seconds, bool) or not wait_seconds >= 0:
            raise BadRequest(f"wait: found {wait_seconds!r}, expected a number of seconds from 0")
        seconds_number("ttl", ttl)
        if lease is not None:
            lease_number(lease)
        ask(0.0)  # what is wrong with it is told here, where it was written
        self._engine = engine
        self._ask = ask
        self._give_back = give_back
        self._lock_name = lock_name
        self._wait_seconds = wait_seconds
        self._ttl = ttl
        self._lease = lease
        self._keeper: Keeper | None = None
        self.held: HeldLock | None = None
        self.is_asking = False

    @property
    def fence(self) -> Fence:
        """What makes a write depend on it.

        :raises Conflict: it is not held, and was not.
        """
        return Fence(name=self._lock_name, token=self.taken.token)

    @property
    def taken(self) -> HeldLock:
        """What was given.

        :raises Conflict: it is not held, and was not.
        """
        if self.held is None:
            raise Conflict("the lock has not been taken yet; use 'with', or acquire() first")
        return self.held

    @property
    def keeper(self) -> Keeper:
        """What keeps it.

        :raises Conflict: it is not held, or it hangs on a lease that somebody else keeps.
        """
        if self._keeper is None:
            found = getattr(self._lease, "keeper", None)
            if isinstance(found, Keeper) and self.held is not None:
                return found
            raise Conflict("the lock has not been taken yet, or hangs on a lease whose end is not known here")
        return self._keeper

    async def acquire(self, handle: T) -> T:
        """Take it; return ``handle``.

        :raises raftkv.errors.LockHeld: it was not free in time.
        """
        if self.held is not None or self.is_asking:
            raise Conflict("the lock was asked for already; make another one")
        self.is_asking = True
        try:
            await self._acquire()
        finally:
            self.is_asking = False
        return handle

    async def release(self) -> bool:
        """Give it back; return whether it was held until now."""
        held = self.taken
        was_lost = self._keeper is not None and self._keeper.is_lost
        if self._keeper is not None:
            self._keeper.stop()
        try:
            await self._engine.call(lambda: self._give_back(held.token))
        except (LockNotHeld, LeaseNotFound):
            return False
        return not was_lost

    async def leave(self, error: type[BaseException] | None) -> None:
        """End a ``with``: an error of the body goes first, else one tells that the lock had been lost."""
        try:
            was_held = await self.release()
        except RaftKVError:
            if error is None:
                raise
            return  # the lock ends with its lease
        if error is None and not was_held:
            raise LockNotHeld(self._lock_name.encode("utf-8"), 0)

    async def _acquire(self) -> None:
        now = self._engine.runtime.now
        deadline = now() + self._wait_seconds
        while True:
            wait = max(0.0, min(deadline - now(), MAX_WAIT_SECONDS))
            sent = now()
            try:
                held = await self._engine.call(partial(self._ask, wait))
            except LockHeld:
                if now() >= deadline:
                    raise
            else:
                if await self._keep(held, sent):
                    return
            # The place was lost, or the lock already. A pause, lest a node that says so at once is asked on and on.
            await self._engine.runtime.wait(self._engine.closing, _PAUSE_SECONDS)

    async def _keep(self, held: HeldLock, sent: float) -> bool:
        """Begin to keep what was given; return whether it is still there."""
        if self._lease is not None:
            self.held = held
            return True
        keeper = Keeper(self._engine, GrantedLease(id=held.lease, ttl=self._ttl), sent=sent)
        if keeper.remaining_seconds < self._ttl / 2:
            # It was given at some time while we waited, and only another sign of life tells until when it is ours.
            keeper = Keeper(self._engine, GrantedLease(id=held.lease, ttl=self._ttl), sent=self._engine.runtime.now())
            if not await keeper.confirm():
                keeper.stop()
                return False
        self._keeper = keeper
        self.held = held
        keeper.begin()
        return True


def endless(seconds: float | None) -> float:
    """Return how long to wait; ``None`` is as long as it takes."""
    return math.inf if seconds is None else seconds
