"""What a client can do with what is held for a time: leases, locks, elections."""

# Made from raftkv/client/aio/tenures.py by python -m tests.client.flavours; change it there.

from __future__ import annotations

from twisted.internet.defer import Deferred

from raftkv.client import operations
from raftkv.client.deferred.holding import Election, Lease, Lock
from raftkv.client.deferred.iterating import Items
from raftkv.client.model import GrantedLease, LeaseInfo, LeaseLike, LockInfo, RevokedLease, Unlocked
from raftkv.client.programs import paging
from raftkv.client.programs.engine import Engine
from raftkv.client.programs.leasing import LeaseProgram
from raftkv.client.programs.locking import Tenure, endless
from raftkv.client.results import key_bytes


class TenureCalls:
    """The methods of a client about leases, locks and elections."""

    def __init__(self, engine: Engine) -> None:
        self._engine = engine

    # -- leases ------------------------------------------------------------------------------------------------------

    def lease(self, ttl: float) -> Lease:
        """Make a lease that is granted at the beginning of an ``async with`` block, kept alive, and revoked at its end.

        :param ttl: seconds that it lasts when this program is gone.
        """
        return Lease(self._engine, LeaseProgram(self._engine, ttl))

    def grant_lease(self, ttl: float) -> Deferred[GrantedLease]:
        """Make a lease that is not kept alive by itself.

        :param ttl: seconds after which it ends.
        """
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.grant_lease(ttl)))

    def keep_alive(self, lease: LeaseLike) -> Deferred[GrantedLease]:
        """Give a lease its whole time again.

        :raises raftkv.errors.LeaseNotFound: it has ended.
        """
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.keep_alive(lease)))

    def revoke_lease(self, lease: LeaseLike) -> Deferred[RevokedLease]:
        """End a lease with all its keys and locks.

        :raises raftkv.errors.LeaseNotFound: it has ended already.
        """
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.revoke_lease(lease)))

    def lease_info(self, lease: LeaseLike, *, limit: int | None = None) -> Deferred[LeaseInfo]:
        """Ask what a lease has left, and which keys it holds.

        :param limit: how many of its keys are told at most; ``None`` is 1,000.
        :raises raftkv.errors.LeaseNotFound: it has ended.
        """
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.lease_info(lease, limit=limit)))

    def leases(self, *, page_size: int = 500) -> Items[LeaseInfo]:
        """Iterate over all leases there are."""
        return Items(
            self._engine,
            paging.items_of(
                self._engine,
                lambda page: operations.leases(limit=page_size, continue_from=page),
                lambda page: page.leases,
            ),
        )

    # -- locks and elections -----------------------------------------------------------------------------------------

    def lock(
        self, name: str | bytes, *, ttl: float = 10.0, wait: float | None = 60.0, lease: LeaseLike | None = None
    ) -> Lock:
        """Make a lock that is taken at the beginning of an ``async with`` block, kept alive, and released at its end.

        :param ttl: seconds after which it is free when this program is gone.
        :param wait: seconds to wait for it, in the order of asking, before :exc:`raftkv.errors.LockHeld`; ``None``: as
            long as it takes.
        :param lease: a lease to hold it with, in place of one of its own.
        """
        return Lock(
            self._engine,
            Tenure(
                self._engine,
                ask=lambda seconds: operations.lock(
                    name, ttl=None if lease is not None else ttl, lease=lease, wait=seconds
                ),
                give_back=lambda token: operations.unlock(name, token=token),
                lock_name=key_bytes(name, "name").decode("utf-8"),
                wait_seconds=endless(wait),
                ttl=ttl,
                lease=lease,
            ),
        )

    def lock_info(self, name: str | bytes) -> Deferred[LockInfo]:
        """Ask who holds a lock, and how many wait for it."""
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.lock_info(name)))

    def locks(self, *, page_size: int = 500) -> Items[LockInfo]:
        """Iterate over all locks that are held."""
        return Items(
            self._engine,
            paging.items_of(
                self._engine,
                lambda page: operations.locks(limit=page_size, continue_from=page),
                lambda page: page.locks,
            ),
        )

    def unlock(self, name: str | bytes, *, token: int | None = None) -> Deferred[Unlocked]:
        """Free a lock.

        :param token: with which it is held; ``None`` takes it from whoever holds it.
        :raises raftkv.errors.LockNotHeld: it is not held with this token.
        """
        return Deferred.fromCoroutine(self._engine.call(lambda: operations.unlock(name, token=token)))

    def election(self, name: str | bytes) -> Election:
        """Return an election, to stand in or to observe. Nothing is sent for this alone."""
        return Election(self._engine, name)
