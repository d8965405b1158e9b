"""Leases: when each ends, and which keys go with it.

All times are the cluster's, out of the log. A lease whose time has come is as good as gone for whoever asks for it, and
is really ended by a command of the log (B34, B37); what that means for keys and locks is the store's business.

What a lease is stands in a tuple that is replaced as a whole, so that a snapshot needs only a copy of a dictionary. Its
keys are not part of that: each record names its lease.
"""

from __future__ import annotations

import heapq
from collections.abc import Callable, Collection, Container, Iterable, Iterator
from typing import Final

from raftkv.kvstore import digest

Lease = tuple[int, int, int]  #: ttl in milliseconds, cluster time at which it ends, kind

# Kinds: part of the format.
GRANTED: Final = 0  # somebody asked for it
OF_KEY: Final = 1  # made by a put for its key, and ends when it has no key, nor a ticket for a lock
OF_LOCK: Final = 2  # made for a ticket of the same number, and ends with it

PackedLease = tuple[int, int, int, int]  #: its number, then the lease


class Deadlines:
    """Which numbers come first to their time; the time may since have been put off, or the number be gone.

    :param deadline: returns the present time of a number, ``None`` where there is nothing to come to its time.
    """

    __slots__ = ("_deadline", "_heap")

    def __init__(self, deadline: Callable[[int], int | None]) -> None:
        self._deadline = deadline
        self._heap: list[tuple[int, int]] = []

    def add(self, at_ms: int, number: int, alive: int) -> None:
        """Note a number with its first time.

        :param alive: how many numbers there are, to tell when too many of those noted are gone.
        """
        heapq.heappush(self._heap, (at_ms, number))
        if len(self._heap) > 2 * alive + 64:
            numbers = {number for _, number in self._heap}
            self._heap = [(at, number) for number in numbers if (at := self._deadline(number)) is not None]
            heapq.heapify(self._heap)

    def first(self) -> tuple[int, int] | None:
        """Return the earliest time and its number, the smallest of those with that time."""
        heap = self._heap
        while heap:
            at_ms, number = heap[0]
            present = self._deadline(number)
            if present == at_ms:
                return heap[0]
            if present is None:
                heapq.heappop(heap)
            else:
                heapq.heapreplace(heap, (present, number))
        return None


class Leases:
    """All leases, the keys of each, and their sum in the digest.

    :ivar weight: sum over the leases of :func:`raftkv.kvstore.digest.numbered_weight`.
    :ivar named_by_tickets: the leases that somebody holds a lock with, or waits for one.
    """

    __slots__ = ("_by_number", "_deadlines", "_keys", "_lonely", "named_by_tickets", "weight")

    def __init__(self) -> None:
        self.weight = 0
        self.named_by_tickets: Container[int] = ()
        self._by_number: dict[int, Lease] = {}
        self._keys: dict[int, set[bytes]] = {}  # for leases that have keys
        self._lonely: set[int] = set()  # leases of a key that have lost it in the command that is being carried out
        self._deadlines = Deadlines(self._deadline_of)

    def __len__(self) -> int:
        return len(self._by_number)

    def get(self, number: int) -> Lease | None:
        """Return a lease, also one whose time has come."""
        return self._by_number.get(number)

    def is_alive(self, number: int, now_ms: int) -> bool:
        """Tell whether there is such a lease whose time has not come."""
        lease = self._by_number.get(number)
        return lease is not None and lease[1] > now_ms

    def keys(self, number: int) -> list[bytes]:
        """Return the keys of a lease, in order."""
        return sorted(self._keys.get(number, ()))

    def unordered_keys(self, number: int) -> Collection[bytes]:
        """Likewise, in no order: to sort them all would be a pause for who wants the first few of a million."""
        return self._keys.get(number, ())

    def key_count(self, number: int) -> int:
        """Return how many keys a lease has."""
        return len(self._keys.get(number, ()))

    def numbers(self) -> list[int]:
        """Return all leases by number, in order."""
        return sorted(self._by_number)

    def next_deadline_ms(self) -> int | None:
        """Return the cluster time at which the first lease ends, ``None`` where there is none."""
        first = self._deadlines.first()
        return None if first is None else first[0]

    def next_due(self, now_ms: int) -> int | None:
        """Return the lease whose time has come first, the smallest of several; ``None`` where there is none."""
        first = self._deadlines.first()
        return None if first is None or first[0] > now_ms else first[1]

    # -- changes -------------------------------------------------------------------------------------------------

    def add(self, number: int, lease: Lease) -> None:
        """Begin a lease under a number that none has.

        :raises TypeError: the lease does not consist of numbers.
        """
        self.weight += digest.numbered_weight(number, lease)
        self._by_number[number] = lease
        self._deadlines.add(lease[1], number, len(self._by_number))

    def renew(self, number: int, now_ms: int) -> int:
        """Give a lease its whole time again and return that."""
        lease = self._by_number[number]
        ttl_ms, _, kind = lease
        renewed = (ttl_ms, now_ms + ttl_ms, kind)
        self.weight += digest.numbered_weight(number, renewed) - digest.numbered_weight(number, lease)
        self._by_number[number] = renewed
        return ttl_ms

    def drop(self, number: int) -> None:
        """Take away a lease whose keys are no more."""
        self.weight -= digest.numbered_weight(number, self._by_number.pop(number))

    def attach(self, number: int, key: bytes) -> None:
        """Say that a record now names this lease."""
        keys = self._keys.get(number)
        if keys is None:
            self._keys[number] = {key}
        else:
            keys.add(key)

    def detach(self, number: int, key: bytes) -> None:
        """Say that a record which named this lease does so no more; :meth:`settle` must follow."""
        keys = self._keys[number]
        keys.remove(key)
        if not keys:
            del self._keys[number]
            lease = self._by_number.get(number)
            if lease is not None and lease[2] == OF_KEY:
                self._lonely.add(number)

    def settle(self) -> None:
        """End a command: leases that were made for a key and have none are gone."""
        for number in self._lonely:
            self.let_go(number)
        self._lonely.clear()

    def let_go(self, number: int) -> None:
        """Let a lease go if it was made for a key, and has neither that nor a ticket any more.

        A lock that was taken with it would be held for ever by nobody if the lease went before.
        """
        lease = self._by_number.get(number)
        if lease is None or lease[2] != OF_KEY or number in self._keys or number in self.named_by_tickets:
            return
        self.drop(number)

    # -- snapshots -----------------------------------------------------------------------------------------------

    def capture(self) -> Iterator[PackedLease]:
        """Yield all leases as they are now, by number, however late they are drawn."""
        captured = self._by_number.copy()
        return ((number, *captured[number]) for number in sorted(captured))

    def restore(self, packed: Iterable[PackedLease]) -> None:
        """Add leases out of a snapshot.

        :raises ValueError: there is one of this number already, or it is none.
        :raises TypeError: something is not of its type.
        """
        for number, ttl_ms, deadline_ms, kind in packed:
            if number in self._by_number or number <= 0 or ttl_ms <= 0 or kind not in (GRANTED, OF_KEY, OF_LOCK):
                raise ValueError(f"not a lease of its own: {(number, ttl_ms, deadline_ms, kind)}")
            self.add(number, (ttl_ms, deadline_ms, kind))

    def discard(self, limit: int) -> bool:
        """Free some leases of a state that is no longer used; return whether more are left."""
        for mapping in (self._by_number, self._keys):
            for _ in range(min(limit, len(mapping))):
                mapping.popitem()
        return bool(self._by_number or self._keys)

    def _deadline_of(self, number: int) -> int | None:
        lease = self._by_number.get(number)
        return None if lease is None else lease[1]
