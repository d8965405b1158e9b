"""The read side of the store: plain reads of this node's own state, of now or of a revision that is kept.

Nobody but ``apply`` changes the state, and what a caller may read when is decided elsewhere (ReadIndex). All that a
call returns is of one moment. Whoever reads a large range draws it page by page at the revision of the first page.
"""

from __future__ import annotations

from bisect import bisect_right
from collections.abc import Iterator
from heapq import nsmallest

from raftkv.errors import Compacted, FutureRevision
from raftkv.kvstore import digest, ranges
from raftkv.kvstore.digest import Record
from raftkv.kvstore.records import Records
from raftkv.kvstore.revisiontimes import RevisionTimes
from raftkv.kvstore.sessions import Sessions
from raftkv.kvstore.tenures import Tenures
from raftkv.kvstore.views import Change, LeaseView, LockView, Page, TicketView


class Reader:
    """What can be read of a state; ranges are ``start <= key < end``, where ``end`` is ``b""`` for no upper end."""

    __slots__ = (
        *("_applied_index", "_cluster_time_ms", "_compact_revision", "_records", "_revision_times"),
        *("_sessions", "_tenures"),
    )

    _applied_index: int
    _cluster_time_ms: int  # the largest of all entries: it never goes back, whoever leads
    _compact_revision: int
    _records: Records
    _revision_times: RevisionTimes
    _sessions: Sessions
    _tenures: Tenures

    @property
    def revision(self) -> int:
        """The revision of the last change, 0 before the first."""
        return self._records.revision

    @property
    def compact_revision(self) -> int:
        """The oldest revision that can be read; 0 while nothing was compacted."""
        return self._compact_revision

    @property
    def applied_index(self) -> int:
        """The log entry up to which the state includes everything."""
        return self._applied_index

    @property
    def cluster_time_ms(self) -> int:
        """The cluster's clock as the log has it: milliseconds, never going back."""
        return self._cluster_time_ms

    @property
    def key_count(self) -> int:
        """How many keys there are."""
        return len(self._records)

    def __len__(self) -> int:
        return len(self._records)

    def digest(self) -> str:
        """Return 16 hex digits over keys, records, revisions, sessions, leases and locks, but nothing of the past.

        They are equal for equal states, however reached, and however much each node has freed of what was compacted.
        """
        tenures = self._tenures
        return digest.combine(
            records_sum=self._records.weight,
            sessions_sum=self._sessions.weight,
            numbered_sum=tenures.leases.weight + tenures.locks.weight,
            last_number=tenures.last_number,
            revision=self._records.revision,
            compact_revision=self._compact_revision,
        )

    # -- sessions ------------------------------------------------------------------------------------------------

    @property
    def session_count(self) -> int:
        """How many clients have a session."""
        return len(self._sessions)

    def has_session(self, client_id: bytes) -> bool:
        """Tell whether a client has a session, so that a write of its makes no new one."""
        return client_id in self._sessions

    def idle_sessions(self, before_ms: int) -> int:
        """Return how many sessions :func:`raftkv.kvstore.commands.expire_sessions` would drop now."""
        return self._sessions.idle_since(before_ms)

    # -- records -------------------------------------------------------------------------------------------------

    def get(self, key: bytes, revision: int = 0) -> Record | None:
        """Return the record of a key, or ``None`` where there is none.

        :param revision: as of which; 0 for now.
        :raises Compacted: the revision is no longer kept.
        :raises FutureRevision: the revision has not been yet.
        """
        if not revision:
            return self._records.get(key)
        self._check_revision(revision)
        return self._records.get_at(key, revision)

    def scan(self, start: bytes, end: bytes | None, limit: int) -> Iterator[tuple[bytes, Record]]:
        """Yield up to ``limit`` records with ``start <= key`` and, unless ``end`` is ``None``, ``key < end``, in order.

        A caller that wants the state of one moment draws all of it before the next entry is applied. One that draws
        later meets every key that was there all the time, once and in order, with its record of that later moment.

        :param limit: 0 or less yields nothing.
        """
        return ranges.scan(self._records, start, end, limit)

    def page(
        self,
        start: bytes,
        end: bytes,
        limit: int,
        *,
        revision: int = 0,
        reverse: bool = False,
        prefix: bytes = b"",
        delimiter: bytes = b"",
        max_bytes: int | None = None,
        max_looks: int | None = None,
    ) -> Page:
        """Return the beginning of a range; it costs about a microsecond a record, however large the range is.

        Of the past it costs as much for each key that was not there then, unless ``max_looks`` says that it is enough.

        :param limit: how many records and folders at most, from 1.
        :param revision: as of which; 0 for now.
        :param reverse: begin with the last key.
        :param delimiter: tell keys that have it behind ``prefix`` as one folder; ``b""`` for no folders.
        :param max_bytes: end the page once keys, values and folders are so many bytes.
        :param max_looks: end it, maybe with nothing, once so many keys were looked at, whether they were there or not.
        :raises Compacted: the revision is no longer kept; likewise :exc:`FutureRevision`.
        """
        if revision:
            self._check_revision(revision)
            if revision == self._records.revision:
                revision = 0
        if delimiter:
            return ranges.folder_page(
                self._records,
                start,
                end or None,
                limit,
                prefix=prefix,
                delimiter=delimiter,
                revision=revision,
                reverse=reverse,
                max_bytes=max_bytes,
                max_looks=max_looks,
            )
        return ranges.page(
            self._records,
            start,
            end or None,
            limit,
            revision=revision,
            reverse=reverse,
            max_bytes=max_bytes,
            max_looks=max_looks,
        )

    def count(self, start: bytes, end: bytes | None, revision: int = 0) -> int:
        """Return how many keys a range has.

        :raises Compacted: the revision is no longer kept; likewise :exc:`FutureRevision`.
        """
        if revision:
            self._check_revision(revision)
        return ranges.count(self._records, start, end or None, revision)

    def quick_count(self, start: bytes, end: bytes | None, revision: int, *, max_looks: int) -> int | None:
        """Likewise, or ``None`` where that would take more than about ``max_looks`` looks at a key: page by page then.

        :raises Compacted: as :meth:`count`; likewise :exc:`FutureRevision`.
        """
        if revision:
            self._check_revision(revision)
        return ranges.quick_count(self._records, start, end or None, revision, max_looks=max_looks)

    def _check_revision(self, revision: int) -> None:
        if revision > self._records.revision:
            raise FutureRevision(self._records.revision)
        if revision < self._compact_revision:
            raise Compacted(self._compact_revision)

    # -- the past ------------------------------------------------------------------------------------------------

    def changes(self, from_revision: int, limit: int) -> list[tuple[int, list[Change]]]:
        """Return what up to ``limit`` revisions changed, the oldest first; nothing for one that is yet to be.

        A revision at which a lock was taken may have changed nothing.

        :param from_revision: from 1.
        :raises Compacted: that revision is no longer kept.
        """
        if from_revision < self._compact_revision:
            raise Compacted(self._compact_revision)
        history = self._records.history
        stop = min(from_revision + limit, self._records.revision + 1)
        return [(revision, history.changes(revision)) for revision in range(from_revision, stop)]

    def changes_of(self, revision: int, start: int, limit: int) -> list[Change]:
        """Return up to ``limit`` of what one revision changed, in order; for revisions that change a lot.

        :param revision: from 1 up to the present one.
        :param start: how many of its changes to leave out; behind the last one there is nothing.
        :raises Compacted: that revision is no longer kept.
        """
        if revision < max(self._compact_revision, 1):
            raise Compacted(self._compact_revision)
        return self._records.history.changes(revision, start, limit)

    def revision_at(self, cluster_time_ms: int) -> int:
        """Return the last revision that is known to have been there at a cluster time, 0 where none is."""
        return self._revision_times.revision_at(cluster_time_ms)

    @property
    def history_revisions(self) -> int:
        """How many revisions are kept besides the present one."""
        return self._records.revision - max(self._compact_revision, 1) if self._records.revision else 0

    @property
    def history_bytes(self) -> int:
        """About how large the log entries were that made the revisions that are kept."""
        return self._records.history.size_bytes

    def first_within(self, size_bytes: int) -> int:
        """Return the oldest revision from which on the entries are about ``size_bytes`` large together, or less."""
        return min(self._records.history.first_within(size_bytes), self._records.revision)

    # -- leases and locks ----------------------------------------------------------------------------------------

    @property
    def next_deadline_ms(self) -> int | None:
        """The cluster time at which something comes to its end for :func:`~raftkv.kvstore.commands.expire`."""
        return self._tenures.next_deadline_ms()

    @property
    def lease_count(self) -> int:
        """How many leases there are."""
        return len(self._tenures.leases)

    def lease(self, lease: int) -> LeaseView | None:
        """Return a lease, ``None`` where it has ended or never was; its time may have come all the same."""
        leases = self._tenures.leases
        found = leases.get(lease)
        return None if found is None else LeaseView(lease, found[0], found[1], leases.key_count(lease))

    def leases(self, after: int = 0, *, limit: int) -> list[LeaseView]:
        """Return up to ``limit`` leases whose number is larger than ``after``, in order."""
        numbers = self._tenures.leases.numbers()
        place = bisect_right(numbers, after)
        return [view for number in numbers[place : place + limit] if (view := self.lease(number)) is not None]

    def lease_keys(self, lease: int, after: bytes = b"", *, limit: int) -> list[bytes]:
        """Return up to ``limit`` keys of a lease that are above ``after``, in order."""
        return nsmallest(limit, (key for key in self._tenures.leases.unordered_keys(lease) if key > after))

    @property
    def last_number(self) -> int:
        """The last number that a lease or a ticket got: a larger one is yet to be, a smaller one may have ended."""
        return self._tenures.last_number

    @property
    def ticket_count(self) -> int:
        """How many hold locks or wait for them."""
        return len(self._tenures.locks)

    def lock(self, name: bytes) -> LockView | None:
        """Return a lock, ``None`` where nobody holds it."""
        locks = self._tenures.locks
        found = locks.first(name)
        if found is None:
            return None
        ticket, holder = found
        return LockView(name, holder.token, holder.lease, ticket, locks.queued(name) - 1)

    def locks(self, after: bytes = b"", *, limit: int) -> list[LockView]:
        """Return up to ``limit`` locks that are held and whose name is above ``after``, in order."""
        names = nsmallest(limit, (name for name in self._tenures.locks.names() if name > after))
        return [view for name in names if (view := self.lock(name)) is not None]

    def ticket(self, ticket: int) -> TicketView | None:
        """Return who holds a lock or waits for it, ``None`` where that has ended or never was."""
        found = self._tenures.locks.get(ticket)
        if found is None:
            return None
        return TicketView(ticket, found.name, found.token, found.lease, found.deadline_ms)
