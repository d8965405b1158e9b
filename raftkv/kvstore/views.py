"""What reads of the store return: plain named tuples, each of one moment.

They know nothing of how the state is kept; :class:`raftkv.kvstore.store.Store` makes them.
"""

from __future__ import annotations

from typing import NamedTuple

from raftkv.kvstore.digest import Record


class Page(NamedTuple):
    """Some of a range.

    :ivar items: keys and records, in the order asked for.
    :ivar folders: what keys have in common up to and including the delimiter behind the prefix; empty without one.
        They stand for all their keys, and count towards the limit as the items do.
    :ivar next: where the next page goes on: its ``start`` or, in reverse, its ``end``; ``None`` where this is the last.
    """

    items: list[tuple[bytes, Record]]
    folders: list[bytes]
    next: bytes | None


class Change(NamedTuple):
    """What one revision did to one key.

    :ivar record: what the key has held since then, ``None`` where it was deleted.
    :ivar previous: what it held before, ``None`` where there was no key.
    """

    key: bytes
    record: Record | None
    previous: Record | None


class LeaseView(NamedTuple):
    """A lease.

    :ivar lease: its number, from 1.
    :ivar ttl_ms: what a keepalive gives it.
    :ivar deadline_ms: cluster time at which it ends.
    :ivar keys: how many keys its end deletes.
    """

    lease: int
    ttl_ms: int
    deadline_ms: int
    keys: int


class LockView(NamedTuple):
    """A lock that somebody holds.

    :ivar token: the revision at which it was taken; later holders have larger ones.
    :ivar lease: whose end frees it.
    :ivar ticket: that of the holder.
    :ivar waiting: how many tickets are in the queue.
    """

    name: bytes
    token: int
    lease: int
    ticket: int
    waiting: int


class TicketView(NamedTuple):
    """Somebody who holds a lock or waits for it.

    :ivar token: 0 while it waits.
    :ivar lease: the lease that it holds the lock with; while it waits, 0 if that is yet to be made.
    :ivar deadline_ms: cluster time at which the wait ends; 0 for a holder.
    """

    ticket: int
    name: bytes
    token: int
    lease: int
    deadline_ms: int
