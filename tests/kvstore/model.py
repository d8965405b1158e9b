"""The plain, slow twin of the store: what the HTTP API promises, in the fewest words.

It copies the whole of its records for every revision, and searches everything from end to end.
"""

from __future__ import annotations

import copy
from collections.abc import Callable, Iterable, Sequence
from typing import Any

from raftkv.kvstore import commands
from raftkv.kvstore.commands import Command, Result

Rows = dict[bytes, tuple[bytes, int, int, int, int]]


class Refusal(Exception):
    """A transaction cannot be carried out; the answer is the only argument."""


class Model:
    """Dictionaries that are searched from end to end; no digest, no window arithmetic in place.

    :ivar records: key to value, create revision, mod revision, version, lease.
    :ivar past: the records of every revision there has been.
    :ivar order: for each revision, its keys in the order of their changes.
    :ivar sessions: client to its last write time and all its answers, by sequence number, within the window.
    :ivar leases: number to time to live, end, and what it was made for.
    :ivar queues: lock to tickets, each a dictionary; the first one holds the lock.
    """

    def __init__(self) -> None:
        self.revision = 0
        self.compact_revision = 0
        self.cluster_time_ms = 0
        self.last_number = 0
        self.records: Rows = {}
        self.past: dict[int, Rows] = {0: {}}
        self.order: dict[int, list[bytes]] = {}
        self.sessions: dict[bytes, tuple[int, dict[int, tuple[bytes, Result]]]] = {}
        self.leases: dict[int, tuple[int, int, str]] = {}
        self.queues: dict[bytes, list[dict[str, Any]]] = {}

    def copy(self) -> Model:
        return copy.deepcopy(self)

    def apply(self, cluster_time_ms: int, batch: Sequence[Command]) -> list[Result]:
        self.cluster_time_ms = max(self.cluster_time_ms, cluster_time_ms)
        return [self._command(command) for command in batch]

    # -- reads ---------------------------------------------------------------------------------------------------

    def range(self, start: bytes, end: bytes | None, revision: int | None = None) -> list[tuple[bytes, Any]]:
        rows = self.records if revision is None else self.past[revision]
        return [(k, rows[k]) for k in sorted(rows) if k >= start and (not end or k < end)]

    def folders(self, prefix: bytes, delimiter: bytes, revision: int) -> list[bytes]:
        """Return records' keys and folders below a prefix, one level, in order."""
        level = set()
        for key, _ in self.range(prefix, None, revision):
            if key.startswith(prefix):
                head, found, _ = key[len(prefix) :].partition(delimiter)
                level.add(prefix + head + found)
        return sorted(level)

    def changes(self, revision: int) -> list[tuple[bytes, Any, Any]]:
        before, after = self.past[revision - 1], self.past[revision]
        return [(key, after.get(key), before.get(key)) for key in self.order[revision]]

    def lease_keys(self, lease: int) -> list[bytes]:
        return [key for key, record in sorted(self.records.items()) if record[4] == lease]

    def next_deadline_ms(self) -> int | None:
        waits = [t["deadline"] for queue in self.queues.values() for t in queue if not t["token"]]
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
                if not self._holds(key, rest[0] if rest else commands.ANY):
                    return self._failed(key)
                deleted = self._commit([(key, None, 0)])
                return (commands.OK, self.revision, bool(deleted))
            case (commands.DELETE_RANGE, 0, start, end):
                deleted = self._commit([(key, None, 0) for key, _ in self.range(start, end)])
                return (commands.OK, self.revision, deleted)
            case (commands.INCREMENT, 0, key, by):
                return self._increment(key, by)
            case (commands.TXN, 0, _, _, _):
                return self._transaction(command)
            case (commands.COMPACT, 0, revision):
                return self._compact(revision)
            case (commands.GRANT, 0, ttl_ms):
                return (commands.OK, self._begin(ttl_ms, "asked for"))
            case (commands.KEEPALIVE, 0, lease):
                if not self._alive(lease):
                    return (commands.LEASE_NOT_FOUND, lease)
                ttl_ms, _, made_for = self.leases[lease]
                self.leases[lease] = (ttl_ms, self.cluster_time_ms + ttl_ms, made_for)
                return (commands.OK, ttl_ms)
            case (commands.REVOKE, 0, lease):
                if not self._alive(lease):
                    return (commands.LEASE_NOT_FOUND, lease)
                deleted = self._end(lease)
                return (commands.OK, self.revision, deleted)
            case (commands.LOCK, 0, name, lease, ttl_ms, wait_ms, *shown):
                return self._lock(name, lease, ttl_ms, wait_ms, *(shown or (b"", b"")))
            case (commands.UNLOCK, 0, name, token, number):
                return self._unlock(name, token, number)
            case (commands.FENCED, 0, name, token, inner):
                queue = self.queues.get(name)
                if not queue or not self._alive(queue[0]["lease"]):
                    return (commands.LOCK_NOT_HELD, 0)
                if queue[0]["token"] != token:
                    return (commands.LOCK_NOT_HELD, queue[0]["token"])
                return self._write(inner)
        raise AssertionError(command)

    def _commit(self, writes: Iterable[tuple[bytes, bytes | None, int]], always: bool = False) -> int:
        """Write keys (a value of None deletes; a lease of -1 is kept) in one revision; return how many changed."""
        changed = []
        before = self.records
        after = before.copy()
        for key, value, lease in writes:
            old = before.get(key)
            if value is not None:
                _, created, _, version, had = old or (b"", self.revision + 1, 0, 0, 0)
                after[key] = (value, created, self.revision + 1, version + 1, had if lease == -1 else lease)
            elif old is None:
                continue
            else:
                del after[key]
            changed.append(key)
        if changed or always:
            self.revision += 1
            self.records = after
            self.past[self.revision] = after
            self.order[self.revision] = changed
            attached = {record[4] for record in after.values()}
            self.leases = {n: le for n, le in self.leases.items() if le[2] != "a key" or n in attached}
        return len(changed)

    def _holds(self, key: bytes, expect: int) -> bool:
        mod_revision = self.records[key][2] if key in self.records else 0
        if expect == commands.ANY:
            return True
        if expect == commands.EXISTS:
            return mod_revision > 0
        return mod_revision == expect

    def _failed(self, key: bytes) -> Result:
        return (commands.PRECONDITION_FAILED, self.records[key][2] if key in self.records else 0)

    def _put(self, key: bytes, value: bytes, expect: int = commands.ANY, lease: int = 0, ttl_ms: int = 0) -> Result:
        if not self._holds(key, expect):
            return self._failed(key)
        if ttl_ms:
            lease = self._begin(ttl_ms, "asked for")
            self._commit([(key, value, lease)])
            self.leases[lease] = (*self.leases[lease][:2], "a key")
            return (commands.OK, self.revision, lease)
        if lease > 0 and not self._alive(lease):
            return (commands.LEASE_NOT_FOUND, lease)
        self._commit([(key, value, lease)])
        return (commands.OK, self.revision)

    def _increment(self, key: bytes, by: int) -> Result:
        value = self.records[key][0] if key in self.records else b"0"
        if not all(48 <= c <= 57 for c in value.removeprefix(b"-")) or not value.removeprefix(b"-"):
            return (commands.NOT_A_NUMBER,)
        total = int(value) + by
        if not -(2**63) <= total < 2**63:
            return (commands.OUT_OF_RANGE,)
        self._commit([(key, str(total).encode(), -1)])
        return (commands.OK, self.revision, total)

    def _compact(self, revision: int) -> Result:
        if revision > self.revision:
            return (commands.FUTURE_REVISION, self.revision)
        if revision < self.compact_revision:
            return (commands.COMPACTED, self.compact_revision)
        self.compact_revision = revision
        return (commands.OK, revision)

    # -- transactions --------------------------------------------------------------------------------------------

    def _transaction(self, command: Command) -> Result:
        staged: dict[bytes, tuple[bytes, bytes | None, int]] = {}
        try:
            succeeded, results = self._branch(command, staged)
        except Refusal as refusal:
            answer: Result = refusal.args[0]
            return answer
        self._commit(staged.values())
        return (commands.OK, self.revision, succeeded, results)

    def _branch(self, command: Command, staged: dict[bytes, Any]) -> tuple[bool, Result]:
        _, _, compares, success, failure = command
        rows = self._with(staged)
        succeeded = all(self._compare(rows, *compare) for compare in compares)
        return succeeded, tuple(self._operation(op, staged) for op in (success if succeeded else failure))

    def _with(self, staged: dict[bytes, Any]) -> Rows:
        """Return what the records would be if what is staged were committed now."""
        trial = Model()
        trial.records, trial.revision = self.records, self.revision
        trial._commit(staged.values())
        return trial.records

    def _compare(self, rows: Rows, target: int, operator: int, key: bytes, end: bytes | None, operand: Any) -> bool:
        if end is None:
            found = [rows.get(key, (None, 0, 0, 0, 0))]
        else:
            found = [rows[k] for k in rows if k >= key and (not end or k < end)]
        compare: Callable[[Any], bool] = {
            commands.EQUAL: lambda field: field == operand,
            commands.NOT_EQUAL: lambda field: field != operand,
            commands.LESS: lambda field: field is not None and operand is not None and field < operand,
            commands.GREATER: lambda field: field is not None and operand is not None and field > operand,
        }[operator]
        return all(compare(row[target]) for row in found)

    def _operation(self, operation: Command, staged: dict[bytes, Any]) -> Result:
        rows = self._with(staged)
        match operation:
            case (commands.PUT, 0, key, value, *rest):
                lease = rest[1] if len(rest) > 1 else 0
                if lease > 0 and not self._alive(lease):
                    raise Refusal((commands.LEASE_NOT_FOUND, lease))
                self._stage(staged, key, value, lease)
                return (commands.PUT,)
            case (commands.DELETE, 0, key):
                if key in rows or key in staged:
                    self._stage(staged, key, None, 0)
                return (commands.DELETE, key in rows)
            case (commands.DELETE_RANGE, 0, start, end):
                keys = [k for k in sorted(rows) if k >= start and (not end or k < end)]
                for key in keys:
                    self._stage(staged, key, None, 0)
                return (commands.DELETE_RANGE, len(keys))
            case (commands.GET, 0, key, *revision):
                return (commands.GET, self._rows_at(rows, *revision).get(key))
            case (commands.RANGE, 0, start, end, limit, flags, *revision):
                rows = self._rows_at(rows, *revision)
                found = [(k, rows[k]) for k in sorted(rows) if k >= start and (not end or k < end)]
                if flags & commands.COUNT_ONLY:
                    return (commands.RANGE, (), len(found), None)
                if flags & commands.REVERSE:
                    found.reverse()
                following = None
                if len(found) > limit:
                    following = found[limit - 1][0] if flags & commands.REVERSE else found[limit][0]
                if flags & commands.KEYS_ONLY:
                    found = [(k, (b"", *row[1:])) for k, row in found]
                return (commands.RANGE, tuple(found[:limit]), len(found), following)
            case (commands.TXN, 0, _, _, _):
                return (commands.TXN, *self._branch(operation, staged))
        raise AssertionError(operation)

    def _rows_at(self, rows: Rows, revision: int = 0) -> Rows:
        if not revision:
            return rows
        if revision > self.revision:
            raise Refusal((commands.FUTURE_REVISION, self.revision))
        if revision < self.compact_revision:
            raise Refusal((commands.COMPACTED, self.compact_revision))
        return self.past[revision]

    def _stage(self, staged: dict[bytes, Any], key: bytes, value: bytes | None, lease: int) -> None:
        if key in staged:
            raise Refusal((commands.TRANSACTION_REFUSED,))
        staged[key] = (key, value, lease)

    # -- leases and locks ----------------------------------------------------------------------------------------

    def _begin(self, ttl_ms: int, made_for: str) -> int:
        self.last_number += 1
        self.leases[self.last_number] = (ttl_ms, self.cluster_time_ms + ttl_ms, made_for)
        return self.last_number

    def _alive(self, lease: int) -> bool:
        return lease in self.leases and self.leases[lease][1] > self.cluster_time_ms

    def _end(self, lease: int) -> int:
        deleted = self._commit([(key, None, 0) for key in self.lease_keys(lease)])
        self.leases.pop(lease, None)
        held = [(t["number"], name) for name, queue in self.queues.items() for t in queue if t["lease"] == lease]
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
            (t["deadline"], t["number"], name)
            for name, queue in self.queues.items()
            for t in queue
            if not t["token"] and t["deadline"] <= now
        )
        ends = sorted((end, number) for number, (_, end, _) in self.leases.items() if end <= now)
        return [
            *(lambda name=name, number=number: self._leave(name, number) for _, number, name in waits),
            *(lambda number=number: self._end(number) for _, number in ends),
        ]

    def _lock(self, name: bytes, lease: int, ttl_ms: int, wait_ms: int, key: bytes, value: bytes) -> Result:
        if lease and not self._alive(lease):
            return (commands.LEASE_NOT_FOUND, lease)
        self._evict(name)
        queue = self.queues.setdefault(name, [])
        for ticket in queue:
            if lease and ticket["lease"] == lease:
                return (commands.OK, ticket["token"], lease, ticket["number"])
        if queue and not wait_ms:
            return (commands.LOCK_HELD, queue[0]["token"])
        self.last_number += 1
        ticket = {"number": self.last_number, "token": 0, "lease": lease, "ttl": ttl_ms, "key": key, "value": value}
        queue.append({**ticket, "deadline": self.cluster_time_ms + wait_ms})
        if len(queue) > 1:
            return (commands.OK, 0, lease, self.last_number)
        self._take(name)
        return (commands.OK, queue[0]["token"], queue[0]["lease"], queue[0]["number"])

    def _unlock(self, name: bytes, token: int, number: int) -> Result:
        self._evict(name)
        queue = self.queues.get(name, [])
        holder = queue[0]["token"] if queue else 0
        if token and token != holder:
            return (commands.LOCK_NOT_HELD, holder)
        if number and number not in [t["number"] for t in queue]:
            return (commands.LOCK_NOT_HELD, holder)
        if not queue:
            return (commands.OK, self.revision, False)
        self._leave(name, number or queue[0]["number"])
        return (commands.OK, self.revision, True)

    def _evict(self, name: bytes) -> None:
        while self.queues.get(name) and not self._alive(self.queues[name][0]["lease"]):
            self._end(self.queues[name][0]["lease"])

    def _take(self, name: bytes) -> None:
        ticket = self.queues[name][0]
        if not ticket["lease"]:
            ticket["lease"] = ticket["number"]
            self.leases[ticket["number"]] = (ticket["ttl"], self.cluster_time_ms + ticket["ttl"], "a lock")
        self._commit([(ticket["key"], ticket["value"], ticket["lease"])] if ticket["key"] else [], always=True)
        ticket["token"] = self.revision

    def _leave(self, name: bytes, number: int) -> None:
        queue = self.queues.get(name, [])
        for ticket in [t for t in queue if t["number"] == number]:
            queue.remove(ticket)
            if not ticket["token"]:
                return
            if ticket["key"] in self.records and self.records[ticket["key"]][4] == ticket["lease"]:
                self._commit([(ticket["key"], None, 0)])
            if ticket["lease"] == number and self.leases.get(number, (0, 0, ""))[2] == "a lock":
                self._end(number)
            while queue and not queue[0]["token"]:
                waiting = queue[0]
                if waiting["deadline"] > self.cluster_time_ms and (
                    not waiting["lease"] or self._alive(waiting["lease"])
                ):
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
            answers[sequence] = (fingerprint, self._write(inner))
            for old in [s for s in answers if s <= max(answers) - commands.SESSION_WINDOW]:
                del answers[old]
        known, answer = answers[sequence]
        return answer if known == fingerprint else (commands.SEQUENCE_REUSED,)
