"""The HTTP contract of the key-value model, read plainly and served from the real store: what a cluster would answer.

Written from the page of the manual and not from the server, so that the clients' tests hold what is promised. No
sockets, no time: the test tells the time (:meth:`Contract.advance`), and what waits is told by a callback.
"""

from __future__ import annotations

import base64
import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, unquote, unquote_to_bytes

from raftkv import errors
from raftkv.interfaces import Record
from raftkv.kvstore import commands
from raftkv.kvstore.commands import Command, Result, pack_batch
from raftkv.kvstore.refusals import refusal_of
from raftkv.kvstore.store import Store
from raftkv.web.errors import error_answer

JSON = {"Content-Type": "application/json"}
TARGETS = {"value": 0, "create_revision": 1, "mod_revision": 2, "version": 3, "lease": 4}
OPERATORS = {"=": 0, "!=": 1, "<": 2, ">": 3}


@dataclass(frozen=True)
class Reply:
    """An answer."""

    status: int
    headers: Mapping[str, str]
    body: bytes


@dataclass
class Request:
    """A request, taken apart; ``headers`` by lower-case name."""

    method: str
    path: str
    query: dict[str, str]
    headers: Mapping[str, str]
    body: bytes

    @classmethod
    def of(cls, method: str, target: str, headers: Mapping[str, str], body: bytes) -> Request:
        path, _, query = target.partition("?")
        fields = {name: values[-1] for name, values in parse_qs(query, keep_blank_values=True).items()}
        return cls(method, path, fields, headers, body)

    @property
    def document(self) -> dict[str, Any]:
        return dict(json.loads(self.body or b"{}"))


@dataclass
class Waiting:
    """A lock that is waited for: its ticket, and how to say it."""

    ticket: int
    wait: float
    name: bytes
    shown: str


@dataclass
class Watching:
    """A stream that was asked for."""

    start: bytes
    end: bytes
    position: int
    only: str | None
    previous: bool
    progress: float


@dataclass
class Contract:
    """One store, and the answers that any node would give."""

    store: Store = field(default_factory=Store)
    now_ms: int = 0
    applied: int = 0
    wrote: Callable[[], None] = lambda: None

    def advance(self, seconds: float) -> None:
        """Let cluster time pass; what is due ends."""
        self.now_ms += round(seconds * 1000)
        self.apply(commands.expire(1000))

    def apply(self, command: Command) -> Result:
        self.applied += 1
        (result,) = self.store.apply(self.applied, pack_batch(self.now_ms, 0, [command]))
        self.wrote()
        return result

    def handle(self, request: Request) -> Reply | Waiting | Watching:
        try:
            answer = self._handle(request)
        except errors.RaftKVError as error:
            told = error_answer(error, is_write=request.method != "GET")
            headers = {name.decode(): value.decode() for name, value in told.headers}
            return Reply(told.status, headers, told.body)
        if isinstance(answer, Reply | Waiting | Watching):
            return answer
        return Reply(200, JSON, json.dumps(answer).encode())

    def write(self, request: Request, command: Command) -> Result:
        """Apply a write with its fence and its number."""
        fence = request.headers.get("x-lock")
        if fence is not None:
            name, _, token = fence.rpartition("=")
            command = commands.fenced(unquote_to_bytes(name), int(token), command)
        if "x-client-id" in request.headers:
            client, number = request.headers["x-client-id"].encode(), int(request.headers["x-request-seq"])
            command = commands.in_session(client, number, command)
        result = self.apply(command)
        error = refusal_of(command, result)
        if error is not None:
            raise error
        return result

    # -- endpoints ---------------------------------------------------------------------------------------------------

    def _handle(self, request: Request) -> Any:
        top, _, rest = request.path.removeprefix("/v1/").partition("/")
        if request.path.startswith("/v1/kv/"):
            return self._key(request, unquote_to_bytes(rest))
        serve = getattr(self, f"_{top}", None)
        if serve is None:
            raise errors.NotFound(request.path)
        return serve(request, unquote(rest)) if top in ("leases", "locks", "elections") else serve(request)

    def _key(self, request: Request, key: bytes) -> Any:
        shown = {"key": key.decode()}
        if request.method == "GET":
            record = self.store.get(key, int(request.query.get("revision", 0)))
            if record is None:
                raise errors.KeyNotFound(key)
            if request.headers.get("accept") == "application/octet-stream":
                return Reply(200, {"Content-Type": "application/octet-stream"}, record[0])
            return record_document(key, record)
        expect = expectation(request.headers)
        if request.method == "DELETE":
            result = self.write(request, commands.delete(key, expect))
            return {**shown, "deleted": result[2], "revision": result[1]}
        lease, ttl = int(request.query.get("lease", 0)), float(request.query.get("ttl", 0))
        put = commands.put(key, request.body, expect, lease=lease, ttl_ms=round(ttl * 1000))
        result = self.write(request, put)
        return {**shown, "revision": result[1], **({"lease": result[2]} if ttl else {})}

    def _kv(self, request: Request) -> Any:
        query = request.query
        start, end = bounds(query)
        if request.method == "DELETE":
            result = self.write(request, commands.delete_range(start, end))
            return {"deleted": result[2], "revision": result[1]}
        revision = int(query.get("revision", 0))
        if "continue" in query:
            revision, place = json.loads(base64.b64decode(query["continue"]))
            start, end = (start, place.encode()) if query.get("reverse") else (place.encode(), end)
        count = self.store.count(*bounds(query), revision)
        at = revision or self.store.revision
        if query.get("count_only"):
            return {"count": count, "revision": at}
        page = self.store.page(
            start,
            end,
            int(query.get("limit", 10**9)),
            revision=revision,
            reverse="reverse" in query,
            prefix=query.get("prefix", "").encode(),
            delimiter=query.get("delimiter", "").encode(),
        )
        keys_only = "keys_only" in query
        more = None if page.next is None else base64.b64encode(json.dumps([at, page.next.decode()]).encode()).decode()
        return {
            "kvs": [record_document(key, record, keys_only=keys_only) for key, record in page.items],
            "count": count,
            "continue": more,
            "revision": at,
            **({"folders": [folder.decode() for folder in page.folders]} if "delimiter" in query else {}),
        }

    def _status(self, request: Request) -> Any:
        numbers = ("commit_index", "applied_index", "first_index", "last_index", "snapshot_index")
        return {
            "node_id": "node1",
            "cluster_id": "c0",
            "role": "leader",
            "term": 1,
            "leader": "node1",
            **dict.fromkeys(numbers, self.applied),
            "revision": self.store.revision,
            "compact_revision": self.store.compact_revision,
            "keys": self.store.key_count,
            "digest": self.store.digest(),
            "uptime": 1.0,
            "version": "0",
            "alarms": [],
        }

    def _cluster(self, request: Request) -> Any:
        member = {"id": "node1", "raft_addr": "h:1", "rpc_addr": "h:2", "http_addr": "h:3", "role": "voter"}
        known = {"leader": True, "match_index": self.applied, "healthy": True, "last_contact": 0.0}
        return {"cluster_id": "c0", "leader": "node1", "term": 1, "members": [{**member, **known}]}

    def _increment(self, request: Request) -> Any:
        document = request.document
        result = self.write(request, commands.increment(document["key"].encode(), document["by"]))
        return {"key": document["key"], "value": result[2], "revision": result[1]}

    def _compact(self, request: Request) -> Any:
        result = self.write(request, commands.compact(request.document["revision"]))
        return {"compact_revision": result[1], "revision": self.store.revision}

    def _txn(self, request: Request) -> Any:
        document = request.document
        _, revision, succeeded, results = self.write(request, transaction(document))
        return transaction_document(document, revision, succeeded, results)

    def _leases(self, request: Request, rest: str) -> Any:
        number, _, verb = rest.partition("/")
        if not number and request.method == "POST":
            ttl = request.document["ttl"]
            return {"lease": self.write(request, commands.grant(round(ttl * 1000)))[1], "ttl": ttl}
        if not number:
            after, limit = int(request.query.get("continue", 0)), int(request.query.get("limit", 1000))
            found = self.store.leases(after, limit=limit)
            return {
                "leases": [{**self._lease(view.lease), "count": view.keys} for view in found],
                "count": self.store.lease_count,
                "continue": str(found[-1].lease) if len(found) == limit else None,
            }
        lease = int(number)
        if verb == "keepalive":
            return {"lease": lease, "ttl": self.write(request, commands.keepalive(lease))[1] / 1000}
        if request.method == "DELETE":
            result = self.write(request, commands.revoke(lease))
            return {"lease": lease, "deleted": result[2], "revision": result[1]}
        view = self.store.lease(lease)
        if view is None:
            raise errors.LeaseNotFound(lease)
        keys = self.store.lease_keys(lease, limit=int(request.query.get("limit", 1000)))
        return {**self._lease(lease), "keys": [key.decode() for key in keys], "count": view.keys}

    def _lease(self, lease: int) -> dict[str, Any]:
        view = self.store.lease(lease)
        assert view is not None
        return {"lease": lease, "ttl": view.ttl_ms / 1000, "remaining": (view.deadline_ms - self.now_ms) / 1000}

    def _locks(self, request: Request, name: str) -> Any:
        if not name:
            after, limit = request.query.get("continue", "").encode(), int(request.query.get("limit", 1000))
            found = self.store.locks(after, limit=limit)
            more = found[-1].name.decode() if len(found) == limit else None
            return {"locks": [self._lock(view.name.decode()) for view in found], "continue": more}
        if request.method == "POST":
            return self._take(request, name.encode(), name, b"", b"")
        return self._lock(name) if request.method == "GET" else self._free(request, name.encode(), name)

    def _lock(self, name: str) -> dict[str, Any]:
        view = self.store.lock(name.encode())
        if view is None:
            return {"name": name, "token": None, "lease": None, "remaining": None, "waiting": 0}
        remaining = self._lease(view.lease)["remaining"]
        held = {"token": view.token, "lease": view.lease, "remaining": remaining}
        return {"name": name, **held, "waiting": view.waiting}

    def _elections(self, request: Request, name: str) -> Any:
        lock = b"elections/" + name.encode()
        if request.method == "POST":
            return self._take(request, lock, name, lock, value_of(request.document))
        if request.method == "DELETE":
            return self._free(request, lock, name)
        view = self.store.lock(lock)
        token = int(request.query.get("token", 0))
        if request.method == "PUT":
            lease = 0 if view is None else view.lease
            put = commands.fenced(lock, token, commands.put(lock, value_of(request.document), lease=lease))
            return {"name": name, "revision": self.write(request, put)[1]}
        if view is None:
            return {"name": name, "leader": None, "candidates": 0}
        record = self.store.get(lock)
        assert record is not None
        leader = {"value": record[0].decode(), "token": view.token, **self._lease(view.lease)}
        return {"name": name, "leader": leader, "candidates": view.waiting}

    def _take(self, request: Request, lock: bytes, shown: str, key: bytes, value: bytes) -> Any:
        document = request.document
        wait, lease = document.get("wait", 0), document.get("lease", 0)
        ttl_ms = 0 if lease else round(document.get("ttl", 10) * 1000)
        command = commands.lock(lock, ttl_ms=ttl_ms, lease=lease, wait_ms=round(wait * 1000), key=key, value=value)
        *_, ticket = self.write(request, command)
        waiting = Waiting(ticket, wait, lock, shown)
        return self.settled(waiting) or waiting

    def settled(self, waiting: Waiting) -> Reply | None:
        """Answer one that waits, if its wait is over."""
        ticket = self.store.ticket(waiting.ticket)
        if ticket is not None and not ticket.token:
            return None
        if ticket is None:
            view = self.store.lock(waiting.name)
            told = error_answer(errors.LockHeld(waiting.name, 0 if view is None else view.token), is_write=True)
            return Reply(told.status, JSON, told.body)
        document = {"name": waiting.shown, "token": ticket.token, "lease": ticket.lease}
        return Reply(200, JSON, json.dumps(document).encode())

    def leave(self, waiting: Waiting) -> None:
        """Give the place of one that waits up."""
        self.apply(commands.unlock(waiting.name, ticket=waiting.ticket))

    def _free(self, request: Request, lock: bytes, shown: str) -> Any:
        result = self.write(request, commands.unlock(lock, token=int(request.query.get("token", 0))))
        return {"name": shown, "released": result[2], "revision": result[1]}

    # -- watches -----------------------------------------------------------------------------------------------------

    def _watch(self, request: Request) -> Watching:
        query = request.query
        start, end = (query["key"].encode(), query["key"].encode() + b"\0") if "key" in query else bounds(query)
        position = int(query["from_revision"]) - 1 if "from_revision" in query else self.store.revision
        resumed = int(request.headers.get("last-event-id", position))
        if resumed > self.store.revision and resumed != position:
            raise errors.FutureRevision(self.store.revision)
        position = resumed
        previous = query.get("prev_kv") != "false"
        return Watching(start, end, position, query.get("filter"), previous, float(query.get("progress", 10)))

    def news(self, watching: Watching) -> bytes:
        """Return what there is to tell since the stream's position, which moves."""
        told: list[bytes] = []
        try:
            changes = self.store.changes(watching.position + 1, 1000)
        except errors.Compacted as error:
            return b'event: compacted\ndata: {"compact_revision":%d}\n\n' % error.compact_revision
        for revision, changed in changes:
            events = [
                (change.record is None, change)
                for change in changed
                if watching.start <= change.key and (not watching.end or change.key < watching.end)
            ]
            kinds = [("delete" if gone else "put", change) for gone, change in events]
            wanted = [(kind, change) for kind, change in kinds if watching.only in (None, kind)]
            for place, (kind, change) in enumerate(wanted):
                gone = {"key": change.key.decode(), "mod_revision": revision}
                kv = gone if change.record is None else {"lease": 0, **record_document(change.key, change.record)}
                shown = watching.previous and change.previous is not None
                previous = record_document(change.key, change.previous) if shown and change.previous else None
                number = b"id: %d\n" % revision if place == len(wanted) - 1 else b""
                data = json.dumps({"type": kind, "kv": kv, "prev_kv": previous}).encode()
                told.append(b"event: %s\n%sdata: %s\n\n" % (kind.encode(), number, data))
            watching.position = revision
        return b"".join(told)

    def progress(self, watching: Watching) -> bytes:
        """Return a progress event."""
        revision = max(watching.position, 0)
        return b'event: progress\nid: %d\ndata: {"revision":%d}\n\n' % (revision, revision)


# -- spelling ----------------------------------------------------------------------------------------------------------


def record_document(key: bytes, record: Record, *, keys_only: bool = False) -> dict[str, Any]:
    value, create_revision, mod_revision, version, lease = record
    document: dict[str, Any] = {"key": key.decode()}
    if not keys_only:
        try:
            document["value"] = value.decode()
        except UnicodeDecodeError:
            document["value_base64"] = base64.b64encode(value).decode()
    document |= {"create_revision": create_revision, "mod_revision": mod_revision, "version": version}
    return document | ({"lease": lease} if lease else {})


def value_of(document: Mapping[str, Any]) -> bytes:
    if "value_base64" in document:
        return base64.b64decode(document["value_base64"])
    return str(document["value"]).encode()


def bounds(fields: Mapping[str, Any]) -> tuple[bytes, bytes]:
    if "prefix" not in fields:
        return str(fields.get("start", "")).encode(), str(fields.get("end", "")).encode()
    prefix = str(fields["prefix"]).encode()
    stem = prefix.rstrip(b"\xff")
    return prefix, stem[:-1] + bytes([stem[-1] + 1]) if stem else b""


def expectation(headers: Mapping[str, str]) -> int:
    if headers.get("if-none-match") == "*":
        return commands.ABSENT
    found = headers.get("if-match")
    return commands.ANY if found is None else commands.EXISTS if found == "*" else int(found.strip('"'))


def transaction(document: Mapping[str, Any]) -> Command:
    return commands.transaction(
        [compare(item) for item in document.get("compare", ())],
        [operation(item) for item in document.get("success", ())],
        [operation(item) for item in document.get("failure", ())],
    )


def compare(item: Mapping[str, Any]) -> Any:
    operand = item.get("value")
    if item["target"] == "value" and (operand is not None or "value_base64" in item):
        operand = value_of(item)
    target, operator = TARGETS[item["target"]], OPERATORS[item["op"]]
    if "key" in item:
        return commands.compare(target, operator, item["key"].encode(), operand)
    start, end = bounds(item)
    return commands.compare(target, operator, start, operand, end=end)


def operation(item: Mapping[str, Any]) -> Any:
    kind = item["op"]
    if kind == "put":
        return commands.put(item["key"].encode(), value_of(item), lease=item.get("lease", 0))
    if kind == "get":
        return commands.get(item["key"].encode(), item.get("revision", 0))
    if kind == "txn":
        return transaction(item)
    if kind == "delete":
        return commands.delete(item["key"].encode()) if "key" in item else commands.delete_range(*bounds(item))
    names = (("reverse", commands.REVERSE), ("keys_only", commands.KEYS_ONLY), ("count_only", commands.COUNT_ONLY))
    flags = sum(flag for name, flag in names if item.get(name))
    return commands.range_of(*bounds(item), item.get("limit", 1000), flags, item.get("revision", 0))


def transaction_document(document: Mapping[str, Any], revision: int, succeeded: bool, results: Any) -> dict[str, Any]:
    ran = document.get("success" if succeeded else "failure", ())
    shown = [result_document(item, revision, result) for item, result in zip(ran, results, strict=True)]
    return {"succeeded": succeeded, "revision": revision, "results": shown}


def result_document(item: Mapping[str, Any], revision: int, result: Any) -> dict[str, Any] | None:
    kind = item["op"]
    if kind == "put":
        return {"key": item["key"], "revision": revision}
    if kind == "get":
        return None if result[1] is None else record_document(item["key"].encode(), result[1])
    if kind == "txn":
        return transaction_document(item, revision, result[1], result[2])
    if kind == "delete":
        return {**({"key": item["key"]} if "key" in item else {}), "deleted": result[1], "revision": revision}
    if item.get("count_only"):
        return {"count": result[2], "revision": revision}
    kvs = [record_document(key, record, keys_only=bool(item.get("keys_only"))) for key, record in result[1]]
    return {"kvs": kvs, "count": result[2], "continue": None, "revision": revision}
