"""Locks: who holds each, and who waits for it, first come first served in the order of the log.

Whoever asks for a lock gets a ticket, a number that only grows; the smallest ticket of a lock holds it, so that there
is nothing to decide when a holder goes. What taking and freeing a lock means for revisions, leases and keys is told in
:mod:`~raftkv.kvstore.tenures`. A ticket is a tuple that is replaced as a whole, so that a snapshot needs only a copy of
a dictionary.
"""

from __future__ import annotations

from collections.abc import Container, Iterable, Iterator
from typing import NamedTuple, TypeVar

from raftkv.kvstore import digest
from raftkv.kvstore.leases import Deadlines

_Key = TypeVar("_Key")


class Ticket(NamedTuple):
    """A place in the queue for a lock, or the lock itself.

    :ivar name: of the lock.
    :ivar token: the revision at which it was taken; 0 while waiting.
    :ivar lease: the lease to hold it with; 0 while waiting for one that is to be made.
    :ivar ttl_ms: of the lease that is to be made.
    :ivar deadline_ms: cluster time at which the wait ends; 0 for a holder.
    :ivar key: what is set when the lock is taken, and deleted when it is freed; ``b""`` for none.
    :ivar value: what it is set to; ``b""`` for a holder.
    """

    name: bytes
    token: int
    lease: int
    ttl_ms: int
    deadline_ms: int
    key: bytes
    value: bytes


PackedTicket = tuple[int, bytes, int, int, int, int, bytes, bytes]  #: its number, then the ticket


class Locks:
    """All tickets, by lock and by lease, and their sum in the digest.

    :ivar weight: sum over the tickets of :func:`raftkv.kvstore.digest.numbered_weight`.
    :ivar settled: tickets that took their lock or went, since somebody last took this list.
    """

    __slots__ = ("_by_lease", "_by_name", "_by_number", "_deadlines", "settled", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.settled: list[int] = []
        self._by_number: dict[int, Ticket] = {}
        self._by_name: dict[bytes, list[int]] = {}  # ascending; the first one holds the lock
        self._by_lease: dict[int, list[int]] = {}  # of tickets that name a lease, ascending
        self._deadlines = Deadlines(self._deadline_of)

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: int) -> Ticket | None:
        """Return a ticket."""
        return self._by_number.get(number)

    def names(self) -> Iterable[bytes]:
        """Return the names of all locks that are held, in no order."""
        return self._by_name

    def first(self, name: bytes) -> tuple[int, Ticket] | None:
        """Return the ticket that holds a lock, or is to hold it; ``None`` where nobody asks for it."""
        queue = self._by_name.get(name)
        return None if queue is None else (queue[0], self._by_number[queue[0]])

    def queued(self, name: bytes) -> int:
        """Return how many tickets there are for a lock."""
        return len(self._by_name.get(name, ()))

    @property
    def leases(self) -> Container[int]:
        """The leases that tickets name, as they are at any time."""
        return self._by_lease.keys()

    def of_lease(self, lease: int) -> list[int]:
        """Return the tickets that name a lease, in order."""
        return list(self._by_lease.get(lease, ()))

    def next_deadline_ms(self) -> int | None:
        """Return the cluster time at which the first wait ends, ``None`` where nobody waits."""
        first = self._deadlines.first()
        return None if first is None else first[0]

    def next_due(self, now_ms: int) -> int | None:
        """Return the waiting ticket whose time has come first, ``None`` where there is none."""
        first = self._deadlines.first()
        return None if first is None or first[0] > now_ms else first[1]

    # -- changes -------------------------------------------------------------------------------------------------

    def add(self, number: int, ticket: Ticket) -> None:
        """Put a ticket at the end of its queue; its number is larger than all before.

        :raises TypeError: a field is not of its type.
        """
        self.weight += digest.numbered_weight(number, ticket)
        self._by_number[number] = ticket
        self._by_name.setdefault(ticket.name, []).append(number)
        if ticket.lease:
            self._by_lease.setdefault(ticket.lease, []).append(number)
        if ticket.deadline_ms:
            self._deadlines.add(ticket.deadline_ms, number, len(self._by_number))

    def take(self, number: int, *, token: int, lease: int) -> None:
        """Let the first ticket of a queue hold its lock."""
        ticket = self._by_number[number]
        held = ticket._replace(token=token, lease=lease, deadline_ms=0, value=b"")
        self.weight += digest.numbered_weight(number, held) - digest.numbered_weight(number, ticket)
        self._by_number[number] = held
        if not ticket.lease:
            self._by_lease.setdefault(lease, []).append(number)
        self.settled.append(number)

    def remove(self, number: int) -> Ticket:
        """Take a ticket away, wherever in its queue it is, and return it."""
        ticket = self._by_number.pop(number)
        self.weight -= digest.numbered_weight(number, ticket)
        _drop(self._by_name, ticket.name, number)
        if ticket.lease:
            _drop(self._by_lease, ticket.lease, number)
        self.settled.append(number)
        return ticket

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> Iterator[PackedTicket]:
        """Yield all tickets as they are now, by number, however late they are drawn."""
        captured = self._by_number.copy()
        return ((number, *captured[number]) for number in sorted(captured))

    def restore(self, packed: Iterable[PackedTicket]) -> None:
        """Add tickets out of a snapshot.

        :raises ValueError: they do not come in the order of their numbers.
        :raises TypeError: something is not of its type.
        """
        for number, name, token, lease, ttl_ms, deadline_ms, key, value in packed:
            if number <= 0 or number <= next(reversed(self._by_number), 0):
                raise ValueError(f"ticket {number} is out of order")
            self.add(number, Ticket(name, token, lease, ttl_ms, deadline_ms, key, value))

    def discard(self, limit: int) -> bool:
        """Free some tickets of a state that is no longer used; return whether more are left."""
        for _ in range(min(limit, len(self._by_number))):
            self._by_number.popitem()
        return bool(self._by_number)

    def _deadline_of(self, number: int) -> int | None:
        ticket = self._by_number.get(number)
        return None if ticket is None or ticket.token else ticket.deadline_ms


def _drop(queues: dict[_Key, list[int]], key: _Key, number: int) -> None:
    queue = queues[key]
    queue.remove(number)
    if not queue:
        del queues[key]
