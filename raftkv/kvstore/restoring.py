"""A store made from the chunks of a snapshot, a portion at a time, and checked before anybody sees it."""

from __future__ import annotations

from typing import Any

import msgpack

from raftkv.kvstore.digest import Record
from raftkv.kvstore.records import Records
from raftkv.kvstore.sessions import Sessions
from raftkv.kvstore.snapshotting import END, RECORDS, SESSIONS, SnapshotError, SnapshotHeader
from raftkv.kvstore.store import Store


class Restorer:
    """Takes the chunks of one :class:`~raftkv.kvstore.snapshotting.SnapshotView` in their order, once.

    Each :meth:`feed` is a few milliseconds of work; whoever calls decides what happens in between. After an error
    the restorer is of no further use.

    :ivar header: what the first chunk said; ``None`` before it was fed.
    """

    def __init__(self) -> None:
        self.header: SnapshotHeader | None = None
        self._records = Records()
        self._sessions = Sessions()
        self._chunks = 0
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

    def finish(self) -> Store:
        """Return the store, once all chunks have been fed.

        :raises SnapshotError: chunks are missing, or what they held is not what the header promised.
        """
        header = self.header
        if header is None or not self._ended:
            raise SnapshotError(f"the snapshot breaks off after {self._chunks} chunks")
        if len(self._records) != header.keys or len(self._sessions) != header.sessions:
            raise SnapshotError(
                f"the snapshot holds {len(self._records)} keys and {len(self._sessions)} sessions,"
                f" its header says {header.keys} and {header.sessions}"
            )
        store = Store.restored(header, self._records, self._sessions)
        if store.digest() != header.digest:
            raise SnapshotError(f"the digest of the restored state is {store.digest()}, not {header.digest}")
        return store

    def _feed(self, chunk: tuple[Any, ...]) -> None:
        if self.header is None:
            self.header = SnapshotHeader.unpacked(chunk)
            return
        if self._ended:
            raise SnapshotError("the snapshot goes on after its end")
        kind, *contents = chunk
        if kind == RECORDS:
            self._feed_records(*contents)
        elif kind == SESSIONS:
            self._feed_sessions(*contents)
        elif kind == END:
            self._feed_end(*contents)
        else:
            raise SnapshotError(f"chunk {self._chunks} of the snapshot is of an unknown kind, {kind!r}")

    def _feed_records(self, namespace: int, keys: tuple[bytes, ...], records: tuple[Record, ...]) -> None:
        if namespace != 0:
            raise SnapshotError(f"the snapshot holds a namespace that is not known here, {namespace!r}")
        self._records.extend(keys, records)

    def _feed_sessions(self, sessions: tuple[Any, ...]) -> None:
        for session in sessions:
            self._sessions.restore(session)

    def _feed_end(self, keys: int, sessions: int, chunks: int) -> None:
        totals = ((keys, len(self._records)), (sessions, len(self._sessions)), (chunks, self._chunks))
        if any(said != found for said, found in totals):
            raise SnapshotError(f"the end of the snapshot says {keys} keys, {sessions} sessions, {chunks} chunks")
        self._ended = True
