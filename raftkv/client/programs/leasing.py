"""A lease from its grant to its end."""

from __future__ import annotations

from typing import TypeVar

from raftkv.client import operations
from raftkv.client.model import LeaseLike
from raftkv.client.operations.base import seconds_number
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.keeping import Keeper
from raftkv.client.spelling import lease_number
from raftkv.errors import Conflict, LeaseNotFound, RaftKVError

T = TypeVar("T")


class LeaseProgram:
    """One lease.

    :param ttl: seconds that it has after each sign of life.
    :ivar keeper: keeps it alive; ``None`` before it was granted.
    """

    def __init__(self, engine: Engine, ttl: float) -> None:
        self._engine = engine
        self._ttl = seconds_number("ttl", ttl)
        self.keeper: Keeper | None = None

    @property
    def kept(self) -> Keeper:
        """The keeper.

        :raises Conflict: the lease has not been granted.
        """
        if self.keeper is None:
            raise Conflict("the lease has not been granted yet; use 'with', or start() first")
        return self.keeper

    async def start(self, handle: T) -> T:
        """Have the lease granted, and keep it alive; return ``handle``."""
        if self.keeper is not None:
            raise Conflict("the lease was granted already; make another one")
        sent = self._engine.runtime.now()
        granted = await self._engine.call(lambda: operations.grant_lease(self._ttl))
        self.keeper = Keeper(self._engine, granted, sent=sent)
        self.keeper.begin()
        return handle

    async def revoke(self) -> bool:
        """End the lease and delete its keys; return whether it was there until now."""
        keeper = self.kept
        was_lost = keeper.is_lost
        keeper.stop()
        return await _revoked(self._engine, keeper.id) and not was_lost

    async def leave(self, error: type[BaseException] | None) -> None:
        """End a ``with``: an error of the body goes first, else one tells that the lease had been lost."""
        try:
            was_there = await self.revoke()
        except RaftKVError:
            if error is None:
                raise
            return  # the lease ends by itself
        if error is None and not was_there:
            raise LeaseNotFound(self.kept.id)


async def _revoked(engine: Engine, lease: LeaseLike) -> bool:
    try:
        await engine.call(lambda: operations.revoke_lease(lease_number(lease)))
    except LeaseNotFound:
        return False
    return True
