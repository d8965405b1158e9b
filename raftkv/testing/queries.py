"""What can be read of a store beyond a key of now: how a real one is asked, and what the plain one would have said.

Each query is a value that can be answered by a :class:`~raftkv.kvstore.Store` as it is, and by a :class:`Moment`: the
plain store as it was behind one entry of the log. The two answers are equal or somebody is wrong.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Protocol

from raftkv.errors import Compacted, FutureRevision
from raftkv.kvstore import Store
from raftkv.testing.plainrecords import Row, Rows, in_range
from raftkv.testing.plainstore import PlainStore


@dataclass(frozen=True, slots=True)
class Moment:
    """What the plain store held behind one entry.

    :ivar past: the records of every revision there has been.
    :ivar leases: number to time to live and end.
    :ivar queues: lock to its tickets: number, token, lease.
    """

    revision: int
    compact_revision: int
    cluster_time_ms: int
    leases: Mapping[int, tuple[int, int]]
    queues: Mapping[bytes, tuple[tuple[int, int, int], ...]]
    past: Mapping[int, Rows]
    order: Mapping[int, list[bytes]]

    @classmethod
    def of(cls, plain: PlainStore) -> Moment:
        """Return the present moment, as it will stay."""
        return cls(
            revision=plain.revision,
            compact_revision=plain.compact_revision,
            cluster_time_ms=plain.cluster_time_ms,
            leases={number: lease[:2] for number, lease in plain.leases.items()},
            queues={
                name: tuple((ticket.number, ticket.token, ticket.lease) for ticket in queue)
                for name, queue in plain.queues.items()
                if queue
            },
            past=plain.past,
            order=plain.order,
        )

    def rows(self, revision: int) -> Rows:
        """Return the records of a revision; 0 for the present one.

        :raises Compacted: it may not be read any more; likewise :exc:`FutureRevision`.
        """
        if revision > self.revision:
            raise FutureRevision(self.revision)
        if revision and revision < self.compact_revision:
            raise Compacted(self.compact_revision)
        return self.past[revision or self.revision]


class Query(Protocol):
    """Something that can be asked; a refusal is raised as the error that it is."""

    def ask(self, store: Store) -> Any:
        """Return what a store says."""

    def expected(self, moment: Moment) -> Any:
        """Return what is right."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Get:
    """One key as it was at a revision, from 1."""

    key: bytes
    revision: int

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        return store.get(self.key, self.revision)

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        return moment.rows(self.revision).get(self.key)


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """The beginning of a range, with folders where there is a delimiter; the fields are those of ``Store.page``."""

    start: bytes
    end: bytes
    limit: int
    revision: int = 0
    reverse: bool = False
    prefix: bytes = b""
    delimiter: bytes = b""

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        page = store.page(
            self.start,
            self.end,
            self.limit,
            revision=self.revision,
            reverse=self.reverse,
            prefix=self.prefix,
            delimiter=self.delimiter,
        )
        return page.items, page.folders, page.next

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        groups: dict[bytes, list[tuple[bytes, Row]]] = {}
        rows = in_range(moment.rows(self.revision), self.start, self.end)
        for key, row in reversed(rows) if self.reverse else rows:
            groups.setdefault(self._folder_of(key) or key, []).append((key, row))
        shown, left = list(groups.items())[: self.limit], list(groups.items())[self.limit :]
        items = [group[0] for label, group in shown if self._folder_of(group[0][0]) is None]
        folders = [label for label, group in shown if self._folder_of(group[0][0]) is not None]
        return items, folders, self._next(shown, left)

    def _folder_of(self, key: bytes) -> bytes | None:
        head, found, _ = key[len(self.prefix) :].partition(self.delimiter) if self.delimiter else (key, b"", b"")
        return self.prefix + head + found if found and key.startswith(self.prefix) else None

    def _next(self, shown: list[Any], left: list[Any]) -> bytes | None:
        if not left:
            return None
        following: bytes = left[0][1][0][0]
        if not self.reverse:
            return following
        last: bytes = shown[-1][1][-1][0]
        return following + b"\0" if self.delimiter else last


@dataclass(frozen=True, slots=True, kw_only=True)
class Count:
    """How many keys a range had at a revision; 0 for now."""

    start: bytes
    end: bytes
    revision: int = 0

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        return store.count(self.start, self.end, self.revision)

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        return len(in_range(moment.rows(self.revision), self.start, self.end))


@dataclass(frozen=True, slots=True, kw_only=True)
class Changes:
    """What some revisions changed: what a watch is made of."""

    from_revision: int
    limit: int

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        return [
            (revision, [tuple(change) for change in changes])
            for revision, changes in store.changes(self.from_revision, self.limit)
        ]

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        if self.from_revision < moment.compact_revision:
            raise Compacted(moment.compact_revision)
        stop = min(self.from_revision + self.limit, moment.revision + 1)
        told = []
        for revision in range(self.from_revision, stop):
            before, after = moment.past[revision - 1], moment.past[revision]
            told.append((revision, [(key, after.get(key), before.get(key)) for key in moment.order[revision]]))
        return told


@dataclass(frozen=True, slots=True, kw_only=True)
class LeaseOf:
    """A lease with its keys."""

    lease: int

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        view = store.lease(self.lease)
        return None if view is None else (view.ttl_ms, view.deadline_ms, store.lease_keys(self.lease, limit=1000))

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        if self.lease not in moment.leases:
            return None
        keys = sorted(key for key, row in moment.rows(0).items() if row[4] == self.lease)
        return (*moment.leases[self.lease], keys)


@dataclass(frozen=True, slots=True, kw_only=True)
class LockOf:
    """Who holds a lock: token, lease, ticket, and how many wait."""

    name: bytes

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        view = store.lock(self.name)
        return None if view is None else (view.token, view.lease, view.ticket, view.waiting)

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        queue = moment.queues.get(self.name)
        if queue is None:
            return None
        number, token, lease = queue[0]
        return (token, lease, number, len(queue) - 1)


@dataclass(frozen=True, slots=True, kw_only=True)
class TicketOf:
    """What became of a ticket: the lock, its token (0 while it waits) and lease."""

    ticket: int

    def ask(self, store: Store) -> Any:
        """See :class:`Query`."""
        view = store.ticket(self.ticket)
        return None if view is None else (view.name, view.token, view.lease)

    def expected(self, moment: Moment) -> Any:
        """See :class:`Query`."""
        for name, queue in moment.queues.items():
            for number, token, lease in queue:
                if number == self.ticket:
                    return (name, token, lease)
        return None


def is_of_the_past(query: Query) -> bool:
    """Tell whether a query asks for more than what there is now."""
    return isinstance(query, Changes) or (isinstance(query, Get | Page | Count) and query.revision > 0)


def answer_of(query: Query, asked: Store | Moment) -> Any:
    """Return an answer, also where it is a refusal: the code of the error with the revision that it names."""
    try:
        return query.ask(asked) if isinstance(asked, Store) else query.expected(asked)
    except Compacted as error:
        return error.code, error.compact_revision
    except FutureRevision as error:
        return error.code, error.revision
