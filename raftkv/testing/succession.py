"""A lease under one leader after the other: it must end although none of them leads for as long as it lasts (B36).

The cluster is mended, and nobody writes anything else: whatever the log knows of time, the leaders have told it for the
lease's sake. Each hands over before the lease could end under it alone.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.kvstore.commands import grant
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.workload import Client

_TTL_MS: Final = 3000
_REIGN_SECONDS: Final = 1.3  # of each leader: a second of it must not be lost


class Succession:
    """Leaders that follow each other for as long as there is a lease.

    :param client: asks for the lease.
    :param demand: runs the world until a condition holds, for a bounded time.
    """

    def __init__(
        self, cluster: SimulatedCluster, client: Client, demand: Callable[[Callable[[], bool], str], None]
    ) -> None:
        self._cluster = cluster
        self._client = client
        self._demand = demand
        self._is_over = False

    def run(self) -> None:
        """Grant a lease, and let leadership go round until it has ended.

        :raises Violation: it does not.
        """
        answered: list[bool] = []
        self._client.write(grant(_TTL_MS), lambda: answered.append(True), in_session_too=True)
        self._demand(lambda: bool(answered), "a mended cluster grants a lease")
        self._cluster.trace.note("succession")
        self._hand_over()
        self._demand(lambda: not self._cluster.replay.plain.leases, "a lease ends, though leaders change all the time")
        self._is_over = True

    def _hand_over(self) -> None:
        if not self._is_over:
            self._cluster.transfer_leadership(None)
            self._cluster.clock.callLater(_REIGN_SECONDS, self._hand_over)
