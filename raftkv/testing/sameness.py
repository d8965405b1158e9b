"""Whether a store holds what the plain one holds: all that can be seen of the two, one against the other."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from raftkv.kvstore import Store
from raftkv.testing.plainstore import PlainStore
from raftkv.testing.queries import Changes, Moment, Page, answer_of

_ALL = 1_000_000


def difference(store: Store, plain: PlainStore) -> str:
    """Return in words what the two first differ in, empty where they are the same."""
    for what, found, expected in _facts(store, plain):
        if found != expected:
            return f"{what}: {found}, but {expected} in the plain one"
    return ""


def _facts(store: Store, plain: PlainStore) -> Iterator[tuple[str, Any, Any]]:
    yield (
        "revision, compact revision, cluster time",
        (store.revision, store.compact_revision, store.cluster_time_ms),
        (plain.revision, plain.compact_revision, plain.cluster_time_ms),
    )
    yield "records", list(store.scan(b"", None, _ALL)), plain.range(b"", None)
    yield "number of keys", (store.key_count, store.count(b"", None)), (len(plain.records),) * 2
    yield "number of sessions", store.session_count, len(plain.sessions)
    leases = [(n, ttl_ms, end, len(plain.lease_keys(n))) for n, (ttl_ms, end, _) in sorted(plain.leases.items())]
    yield "leases", store.leases(limit=_ALL), leases
    for lease, *_ in leases:
        yield f"keys of lease {lease}", store.lease_keys(lease, limit=_ALL), plain.lease_keys(lease)
    held = [(name, queue) for name, queue in sorted(plain.queues.items()) if queue]
    locks = [(name, queue[0].token, queue[0].lease, queue[0].number, len(queue) - 1) for name, queue in held]
    yield "locks", store.locks(limit=_ALL), locks
    for _, queue in held:
        for ticket in queue:
            view = store.ticket(ticket.number)
            found = None if view is None else (view.token, view.lease)
            yield f"ticket {ticket.number}", found, (ticket.token, ticket.lease)
    yield "number of tickets", store.ticket_count, sum(len(queue) for _, queue in held)
    yield "next deadline", store.next_deadline_ms, plain.next_deadline_ms()


def past_difference(store: Store, plain: PlainStore, *, step: int = 1) -> str:
    """Return in words which revision that is kept differs, as a state or in its changes; empty where none does.

    :param step: of how many revisions one is looked at.
    """
    moment = Moment.of(plain)
    for revision in range(max(plain.compact_revision, 1), plain.revision + 1, step):
        for query in (
            Page(start=b"", end=b"", limit=_ALL, revision=revision),
            Changes(from_revision=revision, limit=1),
        ):
            found, expected = answer_of(query, store), answer_of(query, moment)
            if found != expected:
                return f"{query}: {found}, but {expected} in the plain one"
    return ""
