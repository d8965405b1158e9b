"""A snapshot of the state of one moment, written in small portions while the state moves on (B48).

A snapshot is a sequence of chunks, each one msgpack array whose first element says what it is:

- ``(HEADER, format version, revision, applied index, cluster time, compact revision, last number, keys, leases,
  tickets, sessions, digest)``;
- ``(RECORDS, namespace, keys, records)``, keys ascending through all chunks, records as the store holds them;
- ``(HISTORY, namespace, ((revision, key, what it held before, whether it was deleted), ...))``, the newest first, from
  the present revision down to the compact one; a revision that changed nothing stands alone. What a key held before
  is a record, the revision that deleted it, or nothing; what it has held since follows from what is told before;
- ``(LEASES, namespace, ((number, ttl, deadline, kind), ...))``, by number;
- ``(TICKETS, namespace, ((number, name, token, lease, ttl, deadline, key, value), ...))``, by number;
- ``(MARKS, ((cluster time, revision), ...))``;
- ``(SESSIONS, ((client id, last write time, ((sequence, fingerprint + packed answer), ...)), ...))``, by client id;
- ``(END, chunks before this one, checksum of them)``.

Nothing in it depends on how the state came about: equal states give equal bytes (B40). A new kind of chunk comes with
a new format version; a reader refuses versions and kinds that it does not know.

How the moment is kept is the matter of those who keep its parts; where the chunks go, and how fast, is decided
elsewhere.
"""

from __future__ import annotations

from collections.abc import Callable, Generator, Iterator, Sequence
from dataclasses import dataclass
from itertools import chain, islice
from typing import Any, Final

import msgpack
from google_crc32c import extend

from raftkv.kvstore.digest import Record
from raftkv.kvstore.history import Slot
from raftkv.kvstore.leases import PackedLease
from raftkv.kvstore.locks import PackedTicket
from raftkv.kvstore.revisiontimes import Mark
from raftkv.kvstore.sessions import PackedSession

SNAPSHOT_VERSION: Final = 2

# Kinds of chunks: part of the format.
HEADER: Final = 0
RECORDS: Final = 1
SESSIONS: Final = 2
END: Final = 3
HISTORY: Final = 4
LEASES: Final = 5
TICKETS: Final = 6
MARKS: Final = 7

# Where chunks end is part of the format too, for equal states give equal bytes.
CHUNK_RECORDS: Final = 1000
CHUNK_BYTES: Final = 256 * 1024  # of keys and values; the record that reaches it is the last of its chunk
CHUNK_CHANGES: Final = 1000
CHUNK_NUMBERS: Final = 4096  # leases, tickets, marks
CHUNK_ANSWERS: Final = 2048  # of sessions; the session that reaches it is the last of its chunk


class SnapshotError(ValueError):
    """The chunks are not those of a whole snapshot: damaged, cut short, or of a format that is not known here."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHeader:
    """What a snapshot says of itself in its first chunk.

    :ivar revision: the store's revision at that moment; likewise the others.
    :ivar applied_index: the log entry up to which everything is included.
    :ivar last_number: of leases and tickets, the largest that was given out.
    :ivar keys: how many records follow; likewise ``leases``, ``tickets`` and ``sessions``.
    :ivar digest: of the state, as :meth:`raftkv.kvstore.store.Store.digest` gives it.
    """

    revision: int
    applied_index: int
    cluster_time_ms: int
    compact_revision: int
    last_number: int
    keys: int
    leases: int
    tickets: int
    sessions: int
    digest: str

    def pack(self) -> bytes:
        """Return the first chunk."""
        packed: bytes = msgpack.packb(
            (
                HEADER,
                SNAPSHOT_VERSION,
                self.revision,
                self.applied_index,
                self.cluster_time_ms,
                self.compact_revision,
                self.last_number,
                self.keys,
                self.leases,
                self.tickets,
                self.sessions,
                self.digest,
            )
        )
        return packed

    @classmethod
    def unpacked(cls, chunk: tuple[Any, ...]) -> SnapshotHeader:
        """Return the header that the first chunk holds.

        :param chunk: unpacked.
        :raises SnapshotError: it is not one, or of a format version that is not known here.
        """
        if chunk[0] != HEADER:
            raise SnapshotError("a snapshot begins with its header")
        if chunk[1:2] != (SNAPSHOT_VERSION,):
            raise SnapshotError(f"this is not a snapshot of format version {SNAPSHOT_VERSION}: {chunk[1:2]}")
        if len(chunk) != 12 or not all(type(n) is int and n >= 0 for n in chunk[2:11]) or type(chunk[11]) is not str:
            raise SnapshotError("the header of the snapshot is malformed")
        return cls(
            revision=chunk[2],
            applied_index=chunk[3],
            cluster_time_ms=chunk[4],
            compact_revision=chunk[5],
            last_number=chunk[6],
            keys=chunk[7],
            leases=chunk[8],
            tickets=chunk[9],
            sessions=chunk[10],
            digest=chunk[11],
        )


class SnapshotView:
    """The state of one moment, as chunks that are made when they are drawn. It can be drawn once.

    The store keeps what the view still has to see until the last chunk was drawn or :meth:`close` was called.

    :ivar header: what the first chunk says.
    """

    def __init__(
        self,
        *,
        header: SnapshotHeader,
        records: Iterator[tuple[bytes, Record]],
        history: Iterator[tuple[int, list[Slot]]],
        leases: Iterator[PackedLease],
        tickets: Iterator[PackedTicket],
        marks: Sequence[Mark],
        sessions: Iterator[PackedSession],
        closed: Callable[[], None],
    ) -> None:
        """Make the view; for :meth:`raftkv.kvstore.store.Store.capture`.

        :param records: all records of the moment, in key order; likewise the others, each in its order.
        :param closed: called once, when nothing more will be drawn from them.
        """
        self.header = header
        self._records = records
        self._history = history
        self._leases = leases
        self._tickets = tickets
        self._marks = marks
        self._sessions = sessions
        self._closed: Callable[[], None] | None = closed
        self._chunks = self._make_chunks()

    def __iter__(self) -> Iterator[bytes]:
        return self._chunks

    def close(self) -> None:
        """Let go of the moment; nothing more can be drawn. Closing twice is allowed."""
        self._chunks.close()
        self._let_go()

    def _let_go(self) -> None:
        if self._closed is not None:
            closed, self._closed = self._closed, None
            closed()

    def _make_chunks(self) -> Generator[bytes, None, None]:
        chunks = checksum = 0
        for chunk in chain(
            [self.header.pack()],
            self._record_chunks(),
            self._history_chunks(),
            _number_chunks(LEASES, self._leases),
            _number_chunks(TICKETS, self._tickets),
            self._mark_chunks(),
            self._session_chunks(),
        ):
            chunks += 1
            checksum = extend(checksum, chunk)
            yield chunk
        self._let_go()
        yield msgpack.packb((END, chunks, checksum))

    def _record_chunks(self) -> Iterator[bytes]:
        pack = msgpack.Packer().pack
        keys: list[bytes] = []
        records: list[Record] = []
        chunk_bytes = 0
        for key, record in self._records:
            keys.append(key)
            records.append(record)
            chunk_bytes += len(key) + len(record[0])
            if chunk_bytes >= CHUNK_BYTES or len(keys) == CHUNK_RECORDS:
                yield pack((RECORDS, 0, keys, records))
                keys, records, chunk_bytes = [], [], 0
        if keys:
            yield pack((RECORDS, 0, keys, records))

    def _history_chunks(self) -> Iterator[bytes]:
        pack = msgpack.Packer().pack
        changes: list[tuple[Any, ...]] = []
        chunk_bytes = 0
        for change in self._changes():
            changes.append(change)
            if len(change) > 1:
                previous = change[2]
                chunk_bytes += len(change[1]) + (len(previous[0]) if type(previous) is tuple else 0)
            if chunk_bytes >= CHUNK_BYTES or len(changes) == CHUNK_CHANGES:
                yield pack((HISTORY, 0, changes))
                changes, chunk_bytes = [], 0
        if changes:
            yield pack((HISTORY, 0, changes))

    def _changes(self) -> Iterator[tuple[Any, ...]]:
        oldest = self.header.compact_revision
        for revision, slots in self._history:
            if not slots:
                yield (revision,)
            for key, record, previous in reversed(slots):
                # When a key was deleted is remembered for as long as it takes to free it: let that not show.
                known = previous if type(previous) is not int or previous >= oldest else None
                yield (revision, key, known, record is None)

    def _mark_chunks(self) -> Iterator[bytes]:
        if self._marks:
            yield msgpack.packb((MARKS, self._marks))

    def _session_chunks(self) -> Iterator[bytes]:
        pack = msgpack.Packer().pack
        sessions: list[PackedSession] = []
        answers = 0
        for session in self._sessions:
            sessions.append(session)
            answers += 1 + len(session[2])
            if answers >= CHUNK_ANSWERS:
                yield pack((SESSIONS, sessions))
                sessions, answers = [], 0
        if sessions:
            yield pack((SESSIONS, sessions))


def _number_chunks(kind: int, numbered: Iterator[tuple[Any, ...]]) -> Iterator[bytes]:
    while portion := list(islice(numbered, CHUNK_NUMBERS)):
        yield msgpack.packb((kind, 0, portion))
