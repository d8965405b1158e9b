"""The plain, slow twin of the whole store: what the log means, in the fewest words.

One place says it, for the tests that compare a store with it step by step, and for the simulator, which carries the log
of a whole cluster out on it once more (:mod:`raftkv.testing.replay`). The records are in
:mod:`raftkv.testing.plainrecords`; here are leases, locks and sessions.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass

import msgpack

from raftkv.kvstore import commands
from raftkv.kvstore.commands import Command, Result
from raftkv.testing.plainrecords import ASKED_FOR, OF_KEY, OF_LOCK, PlainRecords


@dataclass(slots=True, kw_only=True)
class PlainTicket:
    """A place in the queue for a lock; the first one holds it.

    :ivar token: 0 while waiting.
    :ivar lease: to hold it with; 0 while waiting for one that is to be made.
    :ivar ttl_ms: of the lease that is to be made.
    :ivar deadline_ms: when the wait ends.
    :ivar key: set to ``value`` when the lock is taken; ``b""`` for none.
    """

    number: int
    token: int = 0
    lease: int
    ttl_ms: int
    deadline_ms: int
    key: bytes
    value: bytes


class PlainStore(PlainRecords):
    """Everything: no digest, no window arithmetic in place.

    :ivar sessions: client to its last write time and all its answers, by sequence number, within the window.
    :ivar queues: lock to tickets.
    :ivar last_number: of leases and tickets.
    """

    def __init__(self) -> None:
        super().__init__()
        self.last_number = 0
        self.sessions: dict[bytes, tuple[int, dict[int, tuple[bytes, Result]]]] = {}
        self.queues: dict[bytes, list[PlainTicket]] = {}

    def apply(self, cluster_time_ms: int, batch: Sequence[Command]) -> list[Result]:
        """Carry out the commands of one entry and return their answers."""
        self.cluster_time_ms = max(self.cluster_time_ms, cluster_time_ms)
        return [self._command(command) for command in batch]

    def lease_keys(self, lease: int) -> list[bytes]:
        """Return the keys of a lease in order."""
        return [key for key, row in sorted(self.records.items()) if row[4] == lease]

    def used_leases(self) -> set[int]:
        """Return the leases that a key or a ticket names."""
        return super().used_leases() | {ticket.lease for queue in self.queues.values() for ticket in queue}

    def next_deadline_ms(self) -> int | None:
        """Return when a lease or a wait ends next."""
        waits = [ticket.deadline_ms for queue in self.queues.values() for ticket in queue if not ticket.token]
        return min([*waits, *(end for _, end, _ in self.leases.values())], default=None)

    # -- commands ------------------------------------------------------------------------------------------------

    def _command(self, command: Command) -> Result:
        match command:
            case (commands.EXPIRE_SESSIONS, before_ms):
                idle = [client for client, (last_ms, _) in self.sessions.items() if last_ms < before_ms]
                for client in idle:
                    del self.sessions[client]
                return (commands.OK, len(idle))
            case (commands.EXPIRE, limit):
                return self._expire(limit)
            case (commands.SESSION, client, sequence, fingerprint, inner):
                return self._in_session(client, sequence, fingerprint, inner)
        return self._write(command)

    def _write(self, command: Command) -> Result:
        match command:
            case (commands.PUT, 0, key, value, *rest):
                return self._put(key, value, *rest)
            case (commands.DELETE, 0, key, *rest):
                return self.delete(key, *rest)
            case (commands.DELETE_RANGE, 0, start, end):
                return self.delete_range(start, end)
            case (commands.INCREMENT, 0, key, by):
                return self.increment(key, by)
            case (commands.TXN, 0, _, _, _):
                return self.transaction(command)
            case (commands.COMPACT, 0, revision):
                return self.compact(revision)
        return self._about_tenures(command)

    def _about_tenures(self, command: Command) -> Result:
        match command:
            case (commands.GRANT, 0, ttl_ms):
                return (commands.OK, self._begin(ttl_ms, ASKED_FOR))
            case (commands.KEEPALIVE, 0, lease):
                return self._keep_alive(lease)
            case (commands.REVOKE, 0, lease):
                if not self.is_alive(lease):
                    return (commands.LEASE_NOT_FOUND, lease)
                deleted = self._end(lease)
                return (commands.OK, self.revision, deleted)
            case (commands.LOCK, 0, name, lease, ttl_ms, wait_ms, *shown):
                return self._lock(name, lease, ttl_ms, wait_ms, *(shown or (b"", b"")))
            case (commands.UNLOCK, 0, name, token, number):
                return self._unlock(name, token, number)
            case (commands.FENCED, 0, name, token, inner):
                queue = self.queues.get(name)
                if not queue or not self.is_alive(queue[0].lease):
                    return (commands.LOCK_NOT_HELD, 0)
                if queue[0].token != token:
                    return (commands.LOCK_NOT_HELD, queue[0].token)
                return self._write(inner)
        raise AssertionError(command)

    def _put(self, key: bytes, value: bytes, expect: int = commands.ANY, lease: int = 0, ttl_ms: int = 0) -> Result:
        if not self.holds(key, expect):
            return self.failed(key)
        if ttl_ms:
            lease = self._begin(ttl_ms, ASKED_FOR)
            self.commit([(key, value, lease)])
            self.leases[lease] = (*self.leases[lease][:2], OF_KEY)
            return (commands.OK, self.revision, lease)
        if lease > 0 and not self.is_alive(lease):
            return (commands.LEASE_NOT_FOUND, lease)
        self.commit([(key, value, lease)])
        return (commands.OK, self.revision)

    # -- leases --------------------------------------------------------------------------------------------------

    def _begin(self, ttl_ms: int, made_for: str) -> int:
        self.last_number += 1
        self.leases[self.last_number] = (ttl_ms, self.cluster_time_ms + ttl_ms, made_for)
        return self.last_number

    def _keep_alive(self, lease: int) -> Result:
        if not self.is_alive(lease):
            return (commands.LEASE_NOT_FOUND, lease)
        ttl_ms, _, made_for = self.leases[lease]
        self.leases[lease] = (ttl_ms, self.cluster_time_ms + ttl_ms, made_for)
        return (commands.OK, ttl_ms)

    def _end(self, lease: int) -> int:
        deleted = self.commit([(key, None, 0) for key in self.lease_keys(lease)])
        self.leases.pop(lease, None)
        held = [(t.number, name) for name, queue in self.queues.items() for t in queue if t.lease == lease]
        for number, name in sorted(held):
            self._leave(name, number)
        return deleted

    def _expire(self, limit: int) -> Result:
        ended = 0
        while ended < limit and (due := self._due()):
            due[0]()
            ended += 1
        return (commands.OK, ended, bool(self._due()))

    def _due(self) -> list[Callable[[], object]]:
        """Return how to end all that is due, in the order in which it is to end."""
        now = self.cluster_time_ms
        waits = sorted(
            (ticket.deadline_ms, ticket.number, name)
            for name, queue in self.queues.items()
            for ticket in queue
            if not ticket.token and ticket.deadline_ms <= now
        )
        ends = sorted((end, number) for number, (_, end, _) in self.leases.items() if end <= now)
        return [
            *(lambda name=name, number=number: self._leave(name, number) for _, number, name in waits),
            *(lambda number=number: self._end(number) for _, number in ends),
        ]

    # -- locks ---------------------------------------------------------------------------------------------------

    def _lock(self, name: bytes, lease: int, ttl_ms: int, wait_ms: int, key: bytes, value: bytes) -> Result:
        if lease and not self.is_alive(lease):
            return (commands.LEASE_NOT_FOUND, lease)
        self._evict(name)
        queue = self.queues.setdefault(name, [])
        for ticket in queue:
            if lease and ticket.lease == lease:
                return (commands.OK, ticket.token, lease, ticket.number)
        if queue and not wait_ms:
            return (commands.LOCK_HELD, queue[0].token)
        self.last_number += 1
        deadline_ms = self.cluster_time_ms + wait_ms
        queue.append(
            PlainTicket(
                number=self.last_number, lease=lease, ttl_ms=ttl_ms, deadline_ms=deadline_ms, key=key, value=value
            )
        )
        if len(queue) > 1:
            return (commands.OK, 0, lease, self.last_number)
        self._take(name)
        return (commands.OK, queue[0].token, queue[0].lease, queue[0].number)

    def _unlock(self, name: bytes, token: int, number: int) -> Result:
        self._evict(name)
        queue = self.queues.get(name, [])
        holder = queue[0].token if queue else 0
        if token and token != holder:
            return (commands.LOCK_NOT_HELD, holder)
        if number and number not in [ticket.number for ticket in queue]:
            return (commands.LOCK_NOT_HELD, holder)
        if not queue:
            return (commands.OK, self.revision, False)
        self._leave(name, number or queue[0].number)
        return (commands.OK, self.revision, True)

    def _evict(self, name: bytes) -> None:
        while self.queues.get(name) and not self.is_alive(self.queues[name][0].lease):
            self._end(self.queues[name][0].lease)

    def _take(self, name: bytes) -> None:
        ticket = self.queues[name][0]
        if not ticket.lease:
            ticket.lease = ticket.number
            self.leases[ticket.number] = (ticket.ttl_ms, self.cluster_time_ms + ticket.ttl_ms, OF_LOCK)
        self.commit([(ticket.key, ticket.value, ticket.lease)] if ticket.key else [], always=True)
        ticket.token = self.revision

    def _leave(self, name: bytes, number: int) -> None:
        queue = self.queues.get(name, [])
        for ticket in [ticket for ticket in queue if ticket.number == number]:
            queue.remove(ticket)
            if ticket.token:
                self._free(name, ticket)
        self.forget_unused_leases()

    def _free(self, name: bytes, ticket: PlainTicket) -> None:
        if ticket.key in self.records and self.records[ticket.key][4] == ticket.lease:
            self.commit([(ticket.key, None, 0)])
        if ticket.lease == ticket.number and self.leases.get(ticket.number, (0, 0, ""))[2] == OF_LOCK:
            self._end(ticket.number)
        queue = self.queues[name]
        while queue and not queue[0].token:
            waiting = queue[0]
            if waiting.deadline_ms > self.cluster_time_ms and (not waiting.lease or self.is_alive(waiting.lease)):
                self._take(name)
            else:
                del queue[0]

    # -- sessions ------------------------------------------------------------------------------------------------

    def _in_session(self, client: bytes, sequence: int, fingerprint: bytes, inner: Command) -> Result:
        _, answers = self.sessions.get(client, (0, {}))
        self.sessions[client] = (self.cluster_time_ms, answers)
        if answers and sequence <= max(answers) - commands.SESSION_WINDOW:
            return (commands.SEQUENCE_TOO_OLD,)
        if sequence not in answers:
            result = self._write(inner)
            answers[sequence] = (fingerprint, _kept(result))
            for old in [each for each in answers if each <= max(answers) - commands.SESSION_WINDOW]:
                del answers[old]
            return result
        known, answer = answers[sequence]
        return answer if known == fingerprint else (commands.SEQUENCE_REUSED,)


def _kept(result: Result) -> Result:
    """Return what is kept of an answer for a repeat."""
    is_large = len(msgpack.packb(result)) > commands.MAX_KEPT_ANSWER_BYTES
    return (commands.ANSWER_NOT_KEPT, result[1]) if is_large else result
