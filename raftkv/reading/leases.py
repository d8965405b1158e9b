"""What is told of leases.

The time that is left of a lease is told by the cluster's clock as the log has it, which lags behind by up to about a
second while nothing is written: a lease ends no earlier than it says.
"""

from __future__ import annotations

from typing import TYPE_CHECKING, Final, NamedTuple

from raftkv.errors import LeaseNotFound
from raftkv.kvstore.views import LeaseView

if TYPE_CHECKING:
    from raftkv.kvstore.reading import Reader

LISTED: Final = 1_000  #: of leases, locks and keys of a lease, where no limit is given
MAX_LISTED: Final = 2_500  #: some twenty milliseconds' worth, where there are a hundred thousand


class ListedLeases(NamedTuple):
    """Some leases.

    :ivar leases: those that have not come to their end.
    :ivar last: the number behind which the next page begins; ``None`` where this is the last one.
    """

    leases: list[LeaseView]
    last: int | None


def living_lease(state: Reader, lease: int) -> LeaseView:
    """Return a lease.

    :raises LeaseNotFound: it has ended, or never was, or its time has come.
    """
    found = state.lease(lease)
    if found is None or found.deadline_ms <= state.cluster_time_ms:
        raise LeaseNotFound(lease)
    return found


def listed_leases(state: Reader, after: int, limit: int) -> ListedLeases:
    """Return up to ``limit`` leases whose numbers are larger than ``after``, in order."""
    found = state.leases(after, limit=limit)
    now_ms = state.cluster_time_ms
    last = found[-1].lease if len(found) == limit else None
    return ListedLeases([lease for lease in found if lease.deadline_ms > now_ms], last)


def remaining_ms(lease: LeaseView | None, state: Reader) -> int:
    """Return how long a lease has still to live; 0 where there is none, or its time has come."""
    return 0 if lease is None else max(0, lease.deadline_ms - state.cluster_time_ms)
