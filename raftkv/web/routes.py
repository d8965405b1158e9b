"""The one place where the HTTP API's routes are declared: as data, one function for each topic.

What a route does is told by the object that serves it; :mod:`raftkv.web.app` makes a Klein application of the whole.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final, Literal

from raftkv.web.elections import ElectionOperations
from raftkv.web.exchange import Exchange
from raftkv.web.health import NodeOperations
from raftkv.web.leases import LeaseOperations
from raftkv.web.locks import LockOperations
from raftkv.web.members import MemberOperations
from raftkv.web.operations import KeyValueOperations
from raftkv.web.queries import Parameters
from raftkv.web.ranges import RangeOperations
from raftkv.web.snapshots import SnapshotOperations
from raftkv.web.transactions import TransactionOperations
from raftkv.web.watching import SPAN_PARAMETERS, WATCH_PARAMETERS, WatchOperations

Serve = Callable[[Exchange, Parameters], None]

_KEY: Final = frozenset({"key"})
_CONSISTENCY: Final = frozenset({"consistency", "max_stale"})
_REVISION: Final = frozenset({"revision"})
_TENURE: Final = frozenset({"lease", "ttl"})
_TOKEN: Final = frozenset({"token"})
_PAGE: Final = frozenset({"limit", "continue"})
_RANGE: Final = frozenset({"prefix", "start", "end"})
_VIEW: Final = frozenset({"reverse", "keys_only", "count_only", "delimiter"})


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """One method of one route.

    :ivar serve: answers the exchange, now or later, or raises what the answer shall tell.
    :ivar summary: what it does, for the description of the API.
    :ivar query: names of the query parameters that it takes.
    :ivar body: what it reads: nothing, a JSON document, or raw bytes that are a value.
    """

    serve: Serve
    summary: str
    query: frozenset[str] = frozenset()
    body: Literal["none", "json", "value"] = "none"


@dataclass(frozen=True, slots=True, kw_only=True)
class Route:
    """One path and all that can be done with it.

    :ivar template: the path; ``{key}`` and ``{name}`` stand for everything that follows, ``{id}`` for what has no
        slash.
    :ivar operations: by method. HEAD and OPTIONS come by themselves.
    :ivar fast: whether it has the fast lane.
    """

    template: str
    operations: Mapping[bytes, Operation]
    fast: bool = False

    def allowed(self) -> tuple[str, ...]:
        """Return the methods, as ``Allow`` lists them."""
        methods = [method.decode("ascii") for method in self.operations]
        if "GET" in methods:
            methods.insert(methods.index("GET") + 1, "HEAD")
        return (*methods, "OPTIONS")


@dataclass(frozen=True, slots=True, kw_only=True)
class Operations:
    """Everything that the routes lead to."""

    keys: KeyValueOperations
    ranges: RangeOperations
    transactions: TransactionOperations
    leases: LeaseOperations
    locks: LockOperations
    elections: ElectionOperations
    watches: WatchOperations
    node: NodeOperations
    members: MemberOperations
    snapshots: SnapshotOperations


def declare_routes(served: Operations) -> tuple[Route, ...]:
    """Return every route of the API."""
    return (
        *_key_routes(served.keys),
        *_range_routes(served.ranges, served.transactions),
        *_lease_routes(served.leases),
        *_lock_routes(served.locks),
        *_election_routes(served.elections),
        *_watch_routes(served.watches),
        *_node_routes(served.node),
        *_member_routes(served.members),
        *_snapshot_routes(served.snapshots),
    )


def _key_routes(keys: KeyValueOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/get",
            fast=True,
            operations={b"GET": Operation(serve=keys.get, summary="Read a key", query=_KEY | _REVISION | _CONSISTENCY)},
        ),
        Route(
            template="/set",
            fast=True,
            operations={b"POST": Operation(serve=keys.set, summary="Set a key", body="json")},
        ),
        Route(
            template="/delete",
            fast=True,
            operations={b"DELETE": Operation(serve=keys.delete, summary="Delete a key", query=_KEY)},
        ),
        Route(
            template="/v1/kv/{key}",
            fast=True,
            operations={
                b"GET": Operation(serve=keys.get_key, summary="Read a key", query=_REVISION | _CONSISTENCY),
                b"PUT": Operation(serve=keys.put_key, summary="Set a key to the body", query=_TENURE, body="value"),
                b"DELETE": Operation(serve=keys.delete_key, summary="Delete a key"),
            },
        ),
        Route(
            template="/v1/increment",
            fast=True,
            operations={b"POST": Operation(serve=keys.increment, summary="Add to a counter", body="json")},
        ),
    )


def _range_routes(ranges: RangeOperations, transactions: TransactionOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/v1/kv",
            fast=True,
            operations={
                b"GET": Operation(
                    serve=ranges.get,
                    summary="Read a range of keys",
                    query=_RANGE | _VIEW | _PAGE | _REVISION | _CONSISTENCY,
                ),
                b"DELETE": Operation(serve=ranges.delete, summary="Delete a range of keys", query=_RANGE),
            },
        ),
        Route(
            template="/v1/txn",
            fast=True,
            operations={
                b"POST": Operation(
                    serve=transactions.transact, summary="Compare, then do one of two lists of operations", body="json"
                )
            },
        ),
        Route(
            template="/v1/compact",
            operations={b"POST": Operation(serve=transactions.compact, summary="Let go of old revisions", body="json")},
        ),
    )


def _lease_routes(leases: LeaseOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/v1/leases",
            operations={
                b"GET": Operation(serve=leases.list, summary="List the leases", query=_PAGE | _CONSISTENCY),
                b"POST": Operation(serve=leases.grant, summary="Make a lease", body="json"),
            },
        ),
        Route(
            template="/v1/leases/{id}",
            operations={
                b"GET": Operation(
                    serve=leases.get, summary="A lease and its keys", query=frozenset({"limit"}) | _CONSISTENCY
                ),
                b"DELETE": Operation(serve=leases.revoke, summary="End a lease, with its keys"),
            },
        ),
        Route(
            template="/v1/leases/{id}/keepalive",
            operations={b"POST": Operation(serve=leases.keep_alive, summary="Give a lease its whole time again")},
        ),
    )


def _lock_routes(locks: LockOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/v1/locks",
            operations={b"GET": Operation(serve=locks.list, summary="List the locks", query=_PAGE | _CONSISTENCY)},
        ),
        Route(
            template="/v1/locks/{name}",
            operations={
                b"GET": Operation(serve=locks.get, summary="Who holds a lock", query=_CONSISTENCY),
                b"POST": Operation(serve=locks.acquire, summary="Take a lock, or wait for it", body="json"),
                b"DELETE": Operation(serve=locks.release, summary="Free a lock", query=_TOKEN),
            },
        ),
    )


def _election_routes(elections: ElectionOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/v1/elections/{name}",
            operations={
                b"GET": Operation(serve=elections.get, summary="Who is elected", query=_CONSISTENCY),
                b"POST": Operation(serve=elections.campaign, summary="Campaign, until elected", body="json"),
                b"PUT": Operation(serve=elections.proclaim, summary="Show another value", query=_TOKEN, body="json"),
                b"DELETE": Operation(serve=elections.resign, summary="Resign", query=_TOKEN),
            },
        ),
    )


def _watch_routes(watches: WatchOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/v1/watch",
            fast=True,
            operations={
                b"GET": Operation(
                    serve=watches.watch, summary="Be told what changes", query=SPAN_PARAMETERS | WATCH_PARAMETERS
                )
            },
        ),
        Route(
            template="/v1/elections/{name}/observe",
            operations={
                b"GET": Operation(serve=watches.observe, summary="Be told who is elected", query=WATCH_PARAMETERS)
            },
        ),
    )


def _node_routes(node: NodeOperations) -> tuple[Route, ...]:
    return (
        Route(
            template="/v1/status",
            operations={b"GET": Operation(serve=node.status, summary="This node's state")},
        ),
        Route(
            template="/v1/cluster",
            operations={b"GET": Operation(serve=node.cluster, summary="The members of the cluster")},
        ),
        Route(
            template="/health/live",
            operations={b"GET": Operation(serve=node.live, summary="Whether the process answers")},
        ),
        Route(
            template="/health/ready",
            operations={b"GET": Operation(serve=node.ready, summary="Whether to send requests here")},
        ),
        Route(
            template="/metrics",
            operations={b"GET": Operation(serve=node.metrics, summary="Metrics for Prometheus")},
        ),
    )


def _member_routes(members: MemberOperations) -> tuple[Route, ...]:
    force = frozenset({"force"})
    return (
        Route(
            template="/v1/cluster/members",
            operations={
                b"POST": Operation(serve=members.change, summary="Add, remove, promote or demote members", body="json")
            },
        ),
        Route(
            template="/v1/cluster/members/{id}",
            operations={b"DELETE": Operation(serve=members.remove, summary="Remove a member", query=force)},
        ),
        Route(
            template="/v1/cluster/members/{id}/promote",
            operations={b"POST": Operation(serve=members.promote, summary="Make a learner a voter", query=force)},
        ),
        Route(
            template="/v1/cluster/transfer-leadership",
            operations={b"POST": Operation(serve=members.transfer, summary="Hand leadership over", body="json")},
        ),
    )


def _snapshot_routes(snapshots: SnapshotOperations) -> tuple[Route, ...]:
    consistency = frozenset({"consistency"})
    return (
        Route(
            template="/v1/snapshots",
            operations={
                b"GET": Operation(serve=snapshots.list, summary="The snapshots of this node"),
                b"POST": Operation(serve=snapshots.take, summary="Take a snapshot now", query=consistency),
            },
        ),
        Route(
            template="/v1/snapshots/latest",
            operations={
                b"GET": Operation(
                    serve=snapshots.latest,
                    summary="A snapshot, as a backup",
                    query=consistency | {"fresh"},
                )
            },
        ),
        Route(
            template="/v1/archive",
            operations={b"POST": Operation(serve=snapshots.archive, summary="Archive what is committed now")},
        ),
    )
