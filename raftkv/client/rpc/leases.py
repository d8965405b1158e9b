"""What a native client can do with leases."""

from __future__ import annotations

from functools import partial
from typing import Final

from twisted.internet.defer import Deferred, fail
from twisted.python.failure import Failure

from raftkv.client.deferred.iterating import Items
from raftkv.client.model import GrantedLease, LeaseInfo, LeaseLike, LeasePage, RevokedLease
from raftkv.client.rpc import making, paging, telling
from raftkv.client.rpc.asking import Asking
from raftkv.client.spelling import lease_number, positive
from raftkv.kvstore import commands

_ALL: Final = 1_000  # keys of a lease, where nobody says how many


class LeaseCalls(Asking):
    """The methods about leases. None is kept alive by itself; see :meth:`raftkv.client.KVClient.lease` for that."""

    def grant_lease(self, ttl: float) -> Deferred[GrantedLease]:
        """Make a lease that is not kept alive by itself.

        :param ttl: seconds after which it ends.
        """
        return self._write(lambda: commands.grant(making.milliseconds("ttl", ttl)), telling.granted)

    def keep_alive(self, lease: LeaseLike) -> Deferred[GrantedLease]:
        """Give a lease its whole time again.

        :raises raftkv.errors.LeaseNotFound: (by the Deferred) it has ended.
        """
        # Without a number, as over HTTP: the second of two is as good as the first, and the kept answer of a first one
        # would be none.
        return self._rewrite(lambda: commands.keepalive(lease_number(lease)), telling.kept_alive)

    def revoke_lease(self, lease: LeaseLike) -> Deferred[RevokedLease]:
        """End a lease with all its keys and locks.

        :raises raftkv.errors.LeaseNotFound: (by the Deferred) it has ended already.
        """
        return self._write(lambda: commands.revoke(lease_number(lease)), telling.revoked)

    def lease_info(self, lease: LeaseLike, *, limit: int | None = None) -> Deferred[LeaseInfo]:
        """Ask what a lease has left, and which keys it holds.

        :param limit: how many of its keys are told at most; ``None`` is 1,000.
        :raises raftkv.errors.LeaseNotFound: (by the Deferred) it has ended.
        """
        try:
            number = lease_number(lease)
            wanted = _ALL if limit is None else positive("limit", limit)
        except Exception:
            return fail(Failure())
        return Deferred.fromCoroutine(self._whole_lease(number, wanted))

    def leases(self, *, page_size: int = 500) -> Items[LeaseInfo]:
        """Iterate over all leases there are."""

        def ask(token: str | None) -> Deferred[LeasePage]:
            return self._read(
                "leases", lambda: {"limit": positive("limit", page_size), "continue": token}, telling.lease_page
            )

        return paging.items(ask, lambda page: page.leases)

    async def _whole_lease(self, number: int, wanted: int) -> LeaseInfo:
        """Ask for the keys of a lease, some at a time, until there are as many as are wanted, or no more."""
        keys: list[str] = []
        after: bytes | None = None
        while True:
            info = await self._read(
                "lease",
                partial(dict, lease=number, limit=wanted - len(keys), after=after),
                partial(telling.lease_info, number),
            )
            keys += info.keys
            if len(keys) >= min(wanted, info.count) or not info.keys:
                return LeaseInfo(id=number, ttl=info.ttl, remaining=info.remaining, count=info.count, keys=tuple(keys))
            after = info.keys[-1].encode("utf-8")
