"""A store made from the chunks of a snapshot, a portion at a time, and checked before anybody sees it."""

from __future__ import annotations

from typing import Any

import msgpack
from google_crc32c import extend

from raftkv.kvstore.digest import Record
from raftkv.kvstore.leases import Leases
from raftkv.kvstore.locks import Locks
from raftkv.kvstore.records import Records
from raftkv.kvstore.revisiontimes import RevisionTimes
from raftkv.kvstore.rewinding import Rewinder
from raftkv.kvstore.sessions import Sessions
from raftkv.kvstore.snapshotting import (
    END,
    HISTORY,
    LEASES,
    MARKS,
    RECORDS,
    SESSIONS,
    TICKETS,
    SnapshotError,
    SnapshotHeader,
)
from raftkv.kvstore.store import Store


class Restorer:
    """Takes the chunks of one :class:`~raftkv.kvstore.snapshotting.SnapshotView` in their order, once.

    Each :meth:`feed` is a few milliseconds of work; whoever calls decides what happens in between. After an error
    the restorer is of no further use.

    :ivar header: what the first chunk said; ``None`` before it was fed.
    """

    def __init__(self) -> None:
        self.header: SnapshotHeader | None = None
        self._leases = Leases()
        self._locks = Locks()
        self._records = Records(self._leases)
        self._rewinder: Rewinder | None = None
        self._revision_times = RevisionTimes()
        self._sessions = Sessions()
        self._chunks = 0
        self._checksum = 0
        self._ended = False

    def feed(self, chunk: bytes) -> None:
        """Take the next chunk.

        :raises SnapshotError: it does not belong here.
        """
        try:
            self._feed(msgpack.unpackb(chunk, use_list=False))
        except SnapshotError:
            raise
        except Exception as error:
            # Unpacking and taking apart what may be anything raises many classes; each means the same here.
            raise SnapshotError(f"chunk {self._chunks} of the snapshot is malformed: {error!r}") from error
        self._chunks += 1
        self._checksum = extend(self._checksum, chunk)

    def finish(self) -> Store:
        """Return the store, once all chunks have been fed.

        :raises SnapshotError: chunks are missing, or what they held is not what the header promised.
        """
        header = self.header
        if header is None or not self._ended:
            raise SnapshotError(f"the snapshot breaks off after {self._chunks} chunks")
        promised = (header.keys, header.leases, header.tickets, header.sessions)
        found = (len(self._records), len(self._leases), len(self._locks), len(self._sessions))
        if found != promised:
            raise SnapshotError(
                f"the snapshot holds {found} keys, leases, tickets, sessions, its header says {promised}"
            )
        try:
            self._history().finish()
        except ValueError as error:
            raise SnapshotError(f"the history of the snapshot is not whole: {error}") from error
        store = Store.restored(
            header,
            records=self._records,
            leases=self._leases,
            locks=self._locks,
            sessions=self._sessions,
            revision_times=self._revision_times,
        )
        if store.digest() != header.digest:
            raise SnapshotError(f"the digest of the restored state is {store.digest()}, not {header.digest}")
        return store

    def _history(self) -> Rewinder:
        if self._rewinder is None:
            header = self.header
            assert header is not None  # for mypy: nothing comes before the header
            self._rewinder = Rewinder(self._records, revision=header.revision, compact_revision=header.compact_revision)
        return self._rewinder

    def _feed(self, chunk: tuple[Any, ...]) -> None:
        if self.header is None:
            self.header = SnapshotHeader.unpacked(chunk)
            return
        if self._ended:
            raise SnapshotError("the snapshot goes on after its end")
        kind, *contents = chunk
        if kind == RECORDS:
            self._feed_records(*contents)
        elif kind == MARKS:
            self._revision_times.restore(*contents)
        elif kind == SESSIONS:
            self._feed_sessions(*contents)
        elif kind == END:
            self._feed_end(*contents)
        else:
            self._feed_of_namespace(kind, *contents)

    def _feed_of_namespace(self, kind: int, namespace: int, contents: tuple[Any, ...]) -> None:
        _check_namespace(namespace)
        if kind == HISTORY:
            self._history().feed(contents)
        elif kind == LEASES:
            self._leases.restore(contents)
        elif kind == TICKETS:
            self._locks.restore(contents)
        else:
            raise SnapshotError(f"chunk {self._chunks} of the snapshot is of an unknown kind, {kind!r}")

    def _feed_records(self, namespace: int, keys: tuple[bytes, ...], records: tuple[Record, ...]) -> None:
        _check_namespace(namespace)
        if self._rewinder is not None:
            raise SnapshotError("records follow the history of the snapshot")
        self._records.extend(keys, records)

    def _feed_sessions(self, sessions: tuple[Any, ...]) -> None:
        for session in sessions:
            self._sessions.restore(session)

    def _feed_end(self, chunks: int, checksum: int) -> None:
        if (chunks, checksum) != (self._chunks, self._checksum):
            raise SnapshotError(f"the end of the snapshot belongs to {chunks} other chunks")
        self._ended = True


def _check_namespace(namespace: int) -> None:
    if namespace != 0:
        raise SnapshotError(f"the snapshot holds a namespace that is not known here, {namespace!r}")
