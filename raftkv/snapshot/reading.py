"""Reading one snapshot file: its description, its chunks, and whether all of it checks out. Blocks."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

import zstandard

from raftkv.errors import CorruptData
from raftkv.interfaces import IFile
from raftkv.persistence.faults import storage_errors
from raftkv.raft.messages import SnapshotMeta
from raftkv.snapshot.format import (
    FRAME,
    HEAD,
    TAIL,
    SnapshotHead,
    SnapshotTail,
    decode_frame_head,
    decode_head,
    decode_tail,
    frame_checks_out,
    new_digest,
)
from raftkv.snapshot.heads import FIXED_BYTES


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotInfo:
    """A snapshot file, described.

    :ivar name: of the file, in the folder of snapshots.
    :ivar cluster_id: hex.
    :ivar meta: what it replaces of the log.
    :ivar revision: of the store.
    :ivar size_bytes: of the file.
    :ivar chunks: how many it holds.
    :ivar raw_bytes: of all chunks before compression.
    :ivar digest: hex; names the content, and is the same for every copy of the file.
    """

    name: str
    cluster_id: str
    meta: SnapshotMeta
    revision: int
    size_bytes: int
    chunks: int
    raw_bytes: int
    digest: str


class SnapshotReader:
    """An open snapshot file.

    :param file: owned by the reader from now on.
    :param path: for errors.
    :param name: as in :class:`SnapshotInfo`.
    :raises raftkv.errors.CorruptData: head or tail do not check out.
    """

    def __init__(self, file: IFile, *, path: str, name: str) -> None:
        self._file = file
        self._path = path
        with storage_errors("read", path):
            self._size = file.size()
        fixed = self.read_raw(0, FIXED_BYTES)
        self._first_frame = FIXED_BYTES + HEAD.body_bytes(fixed, path)
        head = decode_head(fixed, self.read_raw(FIXED_BYTES, self._first_frame - FIXED_BYTES), path)
        self._tail_offset = max(self._first_frame, self._size - TAIL.size)
        self._tail = decode_tail(self.read_raw(self._tail_offset, TAIL.size), path, self._tail_offset)
        self.info = describe(name, head, self._tail, self._size)

    def read_raw(self, offset: int, length: int) -> bytes:
        """Return bytes of the file as they are, to send them to another member; fewer only at its end."""
        with storage_errors("read", self._path):
            data: bytes = self._file.read_at(offset, length)
        return data

    def chunks(self) -> Iterator[bytes]:
        """Yield the chunks in order, each checked.

        :raises raftkv.errors.CorruptData: one does not check out, or the whole is not what the tail says.
        """
        decompressor = zstandard.ZstdDecompressor()
        digest = new_digest()
        digest.update(self.read_raw(0, self._first_frame))
        offset, count, raw_bytes = self._first_frame, 0, 0
        while offset < self._tail_offset:
            frame = self._frame_at(offset)
            digest.update(frame)
            head = decode_frame_head(frame[: FRAME.size], self._path, offset)
            try:
                chunk = decompressor.decompress(frame[FRAME.size :], max_output_size=max(1, head.raw_length))
            except zstandard.ZstdError as error:
                raise CorruptData(self._path, offset, f"a chunk cannot be decompressed: {error}") from error
            if len(chunk) != head.raw_length:
                raise CorruptData(self._path, offset, "a chunk has another length than it claims")
            offset += len(frame)
            count += 1
            raw_bytes += len(chunk)
            yield chunk
        found = SnapshotTail(chunks=count, raw_bytes=raw_bytes, digest=digest.digest())
        if offset != self._tail_offset or found != self._tail:
            raise CorruptData(self._path, self._tail_offset, "the snapshot is not what its end says")

    def verify(self) -> None:
        """Read all of it.

        :raises raftkv.errors.CorruptData: it does not check out.
        """
        for _chunk in self.chunks():
            pass

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        self._file.close()

    def _frame_at(self, offset: int) -> bytes:
        fixed = self.read_raw(offset, FRAME.size)
        head = decode_frame_head(fixed, self._path, offset)
        data = self.read_raw(offset + FRAME.size, head.length)
        if not frame_checks_out(head, data):
            raise CorruptData(self._path, offset, "a chunk does not check out")
        return fixed + data


def describe(name: str, head: SnapshotHead, tail: SnapshotTail, size_bytes: int) -> SnapshotInfo:
    """Return the description of a file."""
    return SnapshotInfo(
        name=name,
        cluster_id=head.cluster_id,
        meta=head.meta,
        revision=head.revision,
        size_bytes=size_bytes,
        chunks=tail.chunks,
        raw_bytes=tail.raw_bytes,
        digest=tail.digest.hex(),
    )
