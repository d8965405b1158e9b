"""What a client can do: the methods about keys, ranges and tenures, and those about the cluster.

The Deferred and the blocking flavour of this module are made from it by ``python -m tests.client.flavours``; a test
holds them to that.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from raftkv.client import operations
from raftkv.client.aio.keys import KeyCalls
from raftkv.client.aio.ranges import RangeCalls
from raftkv.client.aio.tenures import TenureCalls
from raftkv.client.results import Cluster, Status


class Calls(KeyCalls, RangeCalls, TenureCalls):
    """The methods of a client; the client itself is made of them and of what carries them."""

    async def status(self) -> Status:
        """Ask one node (the one that the client uses at present) how it is."""
        return await self._engine.call(operations.status)

    async def cluster(self) -> Cluster:
        """Ask who is in the cluster, and how they are."""
        return await self._engine.call(operations.cluster)

    async def change_members(self, document: Mapping[str, Any]) -> Cluster:
        """Change the members; return them once the change is committed.

        :param document: the body of ``POST /v1/cluster/members``.
        """
        return await self._engine.call(lambda: operations.change_members(document))

    async def transfer_leadership(self, to: str | None = None) -> str:
        """Hand leadership over; return who leads then.

        :param to: the member that is to lead; ``None`` leaves the choice to the leader.
        """
        return await self._engine.call(lambda: operations.transfer_leadership(to))

    async def close(self) -> None:
        """Give up what is pending, close the connections, leave nothing behind. Closing twice is allowed.

        Calls that were never sent fail with :exc:`~raftkv.client.ClientClosed`, writes on their way with
        :exc:`raftkv.errors.OutcomeUnknown`; watches end with the former, leases and locks count as lost.
        """
        return await self._engine.close()
