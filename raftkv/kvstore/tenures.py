"""What is held for a time: leases and locks, and what becomes of records and queues when one begins or ends.

:mod:`~raftkv.kvstore.leases` and :mod:`~raftkv.kvstore.locks` know who has what; here are the commands about it. All
time is the cluster time of the entry that is being applied. A tenure whose time has come counts as ended for every
command that asks for it, and an ``EXPIRE`` ends it for everybody to see, so that nothing depends on how promptly that
is proposed, or by whom (B34, B35, B37).

A lock's token is the revision at which it was taken. It is a revision of its own, even where it changes no key: so
each holder has a larger one than those before, and than every write that was made before (B62).
"""

from __future__ import annotations

from raftkv.kvstore.commands import (
    LEASE_NOT_FOUND,
    LOCK_HELD,
    LOCK_NOT_HELD,
    NO_LEASE,
    OK,
    PRECONDITION_FAILED,
    Command,
    Result,
)
from raftkv.kvstore.leases import GRANTED, OF_KEY, OF_LOCK, Leases
from raftkv.kvstore.locks import Locks, Ticket
from raftkv.kvstore.records import Records


class Tenures:
    """The leases and locks of a store.

    :ivar last_number: of leases and tickets, which have their numbers from one row.
    """

    __slots__ = ("_records", "last_number", "leases", "locks")

    def __init__(self, *, records: Records, leases: Leases, locks: Locks, last_number: int) -> None:
        self._records = records
        self.leases = leases
        self.locks = locks
        self.last_number = last_number
        leases.named_by_tickets = locks.leases

    def next_deadline_ms(self) -> int | None:
        """Return the cluster time at which a lease or a wait ends next, ``None`` where there is neither."""
        deadlines = (self.leases.next_deadline_ms(), self.locks.next_deadline_ms())
        return min((deadline for deadline in deadlines if deadline is not None), default=None)

    # -- leases --------------------------------------------------------------------------------------------------

    def put(self, command: Command, now_ms: int) -> Result:
        """Carry out a ``PUT`` with a lease, or with a time to live.

        :raises ValueError: the command is malformed; likewise :exc:`TypeError`. Nothing has changed then.
        """
        _, namespace, key, value, expect, lease, *rest = command
        ttl_ms = _positive(*rest) if rest else 0
        _check_namespace(namespace)
        if type(value) is not bytes or type(lease) is not int or (ttl_ms and lease):
            raise ValueError(f"not a value, or not a lease: {lease!r}, {ttl_ms!r}")
        found = self._records.mod_revision_against(key, expect)
        if found is not None:
            return (PRECONDITION_FAILED, found)
        if ttl_ms:
            lease = self._begin(ttl_ms, now_ms, OF_KEY)
        elif lease > NO_LEASE and not self.leases.is_alive(lease, now_ms):
            return (LEASE_NOT_FOUND, lease)
        revision = self._records.commit([self._records.change(key, value, lease)])
        return (OK, revision, lease) if ttl_ms else (OK, revision)

    def grant(self, command: Command, now_ms: int) -> Result:
        """Carry out a ``GRANT``."""
        _, namespace, ttl_ms = command
        _check_namespace(namespace)
        return (OK, self._begin(_positive(ttl_ms), now_ms, GRANTED))

    def keep_alive(self, command: Command, now_ms: int) -> Result:
        """Carry out a ``KEEPALIVE``."""
        _, namespace, lease = command
        _check_namespace(namespace)
        if not self.leases.is_alive(lease, now_ms):
            return (LEASE_NOT_FOUND, lease)
        return (OK, self.leases.renew(lease, now_ms))

    def revoke(self, command: Command, now_ms: int) -> Result:
        """Carry out a ``REVOKE``."""
        _, namespace, lease = command
        _check_namespace(namespace)
        if not self.leases.is_alive(lease, now_ms):
            return (LEASE_NOT_FOUND, lease)
        deleted = self._end(lease, now_ms)
        return (OK, self._records.revision, deleted)

    def expire(self, command: Command, now_ms: int) -> Result:
        """Carry out an ``EXPIRE``: waits that have come to their end, then leases in the order of theirs."""
        _, limit = command
        ended = 0
        _positive(limit)
        while ended < limit and (ticket := self.locks.next_due(now_ms)) is not None:
            self._leave(ticket, now_ms)
            ended += 1
        while ended < limit and (lease := self.leases.next_due(now_ms)) is not None:
            self._end(lease, now_ms)
            ended += 1
        due = (self.locks.next_due(now_ms), self.leases.next_due(now_ms))
        return (OK, ended, due != (None, None))

    def _begin(self, ttl_ms: int, now_ms: int, kind: int) -> int:
        self.last_number += 1
        self.leases.add(self.last_number, (ttl_ms, now_ms + ttl_ms, kind))
        return self.last_number

    def _end(self, lease: int, now_ms: int) -> int:
        """End a lease with all that it holds; return how many keys that deleted, in one revision."""
        slots = [slot for key in self.leases.keys(lease) if (slot := self._records.remove(key)) is not None]
        if slots:
            self._records.commit(slots)
        if self.leases.get(lease) is not None:  # one that was made for its key has ended with it
            self.leases.drop(lease)
        deleted = len(slots)
        for ticket in self.locks.of_lease(lease):
            self._leave(ticket, now_ms)
        return deleted

    # -- locks ---------------------------------------------------------------------------------------------------

    def lock(self, command: Command, now_ms: int) -> Result:
        """Carry out a ``LOCK``."""
        _, namespace, name, lease, ttl_ms, wait_ms, *shown = command
        key, value = shown if shown else (b"", b"")
        _check_namespace(namespace)
        if not all(type(field) is bytes for field in (name, key, value)) or type(lease) is not int:
            raise ValueError(f"not a lock: {command!r}")
        if type(wait_ms) is not int or wait_ms < 0 or (ttl_ms != 0 if lease else _positive(ttl_ms) != ttl_ms):
            raise ValueError(f"not the times of a lock: {ttl_ms!r}, {wait_ms!r}")
        if lease and not self.leases.is_alive(lease, now_ms):
            return (LEASE_NOT_FOUND, lease)
        self._free_if_due(name, now_ms)
        for number in self.locks.of_lease(lease) if lease else ():
            ticket = self.locks.get(number)
            if ticket is not None and ticket.name == name:
                return (OK, ticket.token, lease, number)
        holder = self.locks.first(name)
        if holder is not None and wait_ms == 0:
            return (LOCK_HELD, holder[1].token)
        self.last_number += 1
        number = self.last_number
        self.locks.add(number, Ticket(name, 0, lease, ttl_ms, now_ms + wait_ms, key, value))
        if holder is not None:
            return (OK, 0, lease, number)
        self._take(number, now_ms)
        return (OK, self._records.revision, lease or number, number)

    def unlock(self, command: Command, now_ms: int) -> Result:
        """Carry out an ``UNLOCK``."""
        _, namespace, name, token, number = command
        _check_namespace(namespace)
        if type(token) is not int or type(number) is not int or token < 0 or number < 0:
            raise ValueError(f"neither token nor ticket: {token!r}, {number!r}")
        self._free_if_due(name, now_ms)
        holder = self.locks.first(name)
        if token and (holder is None or holder[1].token != token):
            return (LOCK_NOT_HELD, 0 if holder is None else holder[1].token)
        if number:
            ticket = self.locks.get(number)
            if ticket is None or ticket.name != name:
                return (LOCK_NOT_HELD, 0 if holder is None else holder[1].token)
        elif holder is None:
            return (OK, self._records.revision, False)
        else:
            number = holder[0]
        self._leave(number, now_ms)
        return (OK, self._records.revision, True)

    def against_fence(self, name: bytes, token: int, now_ms: int) -> Result | None:
        """Return the answer to a write that is fenced with a token, ``None`` where that token holds the lock."""
        if type(name) is not bytes or type(token) is not int:
            raise ValueError(f"not a lock and a token: {name!r}, {token!r}")
        holder = self.locks.first(name)
        if holder is None or not self.leases.is_alive(holder[1].lease, now_ms):
            return (LOCK_NOT_HELD, 0)
        return None if holder[1].token == token else (LOCK_NOT_HELD, holder[1].token)

    def _free_if_due(self, name: bytes, now_ms: int) -> None:
        """End what holds a lock if its time has come, whether or not that was proposed yet."""
        while (holder := self.locks.first(name)) is not None and not self.leases.is_alive(holder[1].lease, now_ms):
            self._end(holder[1].lease, now_ms)

    def _take(self, number: int, now_ms: int) -> None:
        """Let the first ticket of a queue have the lock, in a revision of its own."""
        ticket = self.locks.get(number)
        assert ticket is not None  # for mypy: it is in the queue
        lease = ticket.lease
        if not lease:
            lease = number
            self.leases.add(number, (ticket.ttl_ms, now_ms + ticket.ttl_ms, OF_LOCK))
        slots = [self._records.change(ticket.key, ticket.value, lease)] if ticket.key else []
        self.locks.take(number, token=self._records.commit(slots), lease=lease)

    def _leave(self, number: int, now_ms: int) -> None:
        """Take a ticket out of its queue; if it held the lock, the next one whose wait has not ended has it."""
        ticket = self.locks.get(number)
        if ticket is None:
            return  # it went with something that ended just before
        self._take_away(number, ticket)
        if not ticket.token:
            return
        self._stop_showing(ticket)
        lease = self.leases.get(ticket.lease)
        if lease is not None and lease[2] == OF_LOCK and ticket.lease == number:
            self._end(number, now_ms)
        while (head := self.locks.first(ticket.name)) is not None:
            if head[1].token:
                return
            if head[1].deadline_ms > now_ms and (not head[1].lease or self.leases.is_alive(head[1].lease, now_ms)):
                self._take(head[0], now_ms)
                return
            self._take_away(*head)

    def _take_away(self, number: int, ticket: Ticket) -> None:
        self.locks.remove(number)
        self.leases.let_go(ticket.lease)

    def _stop_showing(self, ticket: Ticket) -> None:
        """Delete the key that showed who holds a lock, if it still does."""
        record = self._records.get(ticket.key) if ticket.key else None
        if record is not None and record[4] == ticket.lease:
            slot = self._records.remove(ticket.key)
            self._records.commit([] if slot is None else [slot])


def _check_namespace(namespace: int) -> None:
    if namespace != 0:
        raise ValueError(f"unknown namespace {namespace!r}")


def _positive(number: int) -> int:
    if type(number) is not int or number <= 0:
        raise ValueError(f"not a positive number: {number!r}")
    return number
