"""Snapshot files as bytes: pure functions, no files.

A file is a head, frames, and a tail. Numbers are little endian, checksums CRC-32C.

* **Head**: magic, format version, length and checksum of a body; the body is a msgpack map (cluster id, index, term,
  committed configuration and the index of its entry, revision).
* **Frames**: mark, length of the data, length before compression, checksum of these fields and the data; the data is
  one chunk of the state machine's, compressed with zstandard by itself, so that a reader can stop after each one.
* **Tail**: mark, number of chunks, bytes before compression, BLAKE2b digest of all the bytes before the tail, checksum
  of the tail. It is the same on every copy of the file, and names its content.
"""

from __future__ import annotations

import hashlib
import struct
from dataclasses import dataclass
from typing import Final

import google_crc32c

from raftkv.errors import CorruptData
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import SnapshotMeta
from raftkv.snapshot.heads import HeadFormat

MAX_CHUNK_BYTES: Final = 64 * 1024 * 1024  # no chunk is larger, before or after compression
DIGEST_BYTES: Final = 16

HEAD: Final = HeadFormat(magic=b"RKVSNAP1", version=1, max_body_bytes=16 * 1024 * 1024, what="a snapshot file")
FRAME: Final = struct.Struct("<4sIII")  # mark, length, length before compression, checksum
TAIL: Final = struct.Struct(f"<4sIQQ{DIGEST_BYTES}sI")  # mark, reserved, chunks, raw bytes, digest, checksum
FRAME_MARK: Final = b"CHNK"
TAIL_MARK: Final = b"TAIL"


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotHead:
    """What a snapshot file says of itself at its start.

    :ivar cluster_id: hex; a snapshot of another cluster is never restored.
    :ivar meta: what it replaces of the log.
    :ivar revision: of the store.
    """

    cluster_id: str
    meta: SnapshotMeta
    revision: int


@dataclass(frozen=True, slots=True, kw_only=True)
class SnapshotTail:
    """What a snapshot file says of itself at its end.

    :ivar chunks: how many there are.
    :ivar raw_bytes: of all chunks before compression.
    :ivar digest: BLAKE2b of everything before the tail.
    """

    chunks: int
    raw_bytes: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class FrameHead:
    """The start of a frame: ``length`` bytes of data follow, ``raw_length`` before they were compressed."""

    length: int
    raw_length: int
    checksum: int


def new_digest() -> hashlib.blake2b:
    """Return the running digest of a file, to be fed everything before the tail."""
    return hashlib.blake2b(digest_size=DIGEST_BYTES)


def encode_head(head: SnapshotHead) -> bytes:
    """Return the first bytes of a file."""
    return HEAD.encode(
        {
            "cluster_id": head.cluster_id,
            "index": head.meta.index,
            "term": head.meta.term,
            "configuration": head.meta.configuration.encode(),
            "configuration_index": head.meta.configuration_index,
            "revision": head.revision,
        }
    )


def decode_head(fixed: bytes, body: bytes, path: str) -> SnapshotHead:
    """Return what the two parts of a head say.

    :raises raftkv.errors.CorruptData: they do not check out.
    """
    value = HEAD.decode(fixed, body, path)
    return SnapshotHead(
        cluster_id=value["cluster_id"],
        meta=SnapshotMeta(
            index=value["index"],
            term=value["term"],
            configuration=Configuration.decode(value["configuration"]),
            configuration_index=value["configuration_index"],
        ),
        revision=value["revision"],
    )


def encode_frame(data: bytes, raw_length: int) -> bytes:
    """Return a frame around compressed data."""
    fixed = FRAME.pack(FRAME_MARK, len(data), raw_length, 0)
    checksum = google_crc32c.extend(google_crc32c.value(fixed), data)
    return FRAME.pack(FRAME_MARK, len(data), raw_length, checksum) + data


def decode_frame_head(fixed: bytes, path: str, offset: int) -> FrameHead:
    """Return the start of a frame.

    :raises raftkv.errors.CorruptData: it cannot be one.
    """
    if len(fixed) < FRAME.size or fixed[:4] != FRAME_MARK:
        raise CorruptData(path, offset, "there is no chunk where one should begin")
    _mark, length, raw_length, checksum = FRAME.unpack(fixed)
    if length > MAX_CHUNK_BYTES or raw_length > MAX_CHUNK_BYTES:
        raise CorruptData(path, offset, f"a chunk claims {length} bytes, {raw_length} before compression")
    return FrameHead(length=length, raw_length=raw_length, checksum=checksum)


def frame_checks_out(frame: FrameHead, data: bytes) -> bool:
    """Tell whether the data of a frame is whole and unchanged."""
    fixed = FRAME.pack(FRAME_MARK, frame.length, frame.raw_length, 0)
    return len(data) == frame.length and google_crc32c.extend(google_crc32c.value(fixed), data) == frame.checksum


def encode_tail(tail: SnapshotTail) -> bytes:
    """Return the last bytes of a file."""
    fields = (TAIL_MARK, 0, tail.chunks, tail.raw_bytes, tail.digest)
    return TAIL.pack(*fields, google_crc32c.value(TAIL.pack(*fields, 0)))


def decode_tail(data: bytes, path: str, offset: int) -> SnapshotTail:
    """Return what the end of a file says.

    :raises raftkv.errors.CorruptData: it does not check out.
    """
    if len(data) != TAIL.size or data[:4] != TAIL_MARK:
        raise CorruptData(path, offset, "the end of the snapshot is missing")
    _mark, _reserved, chunks, raw_bytes, digest, checksum = TAIL.unpack(data)
    if google_crc32c.value(data[:-4] + bytes(4)) != checksum:
        raise CorruptData(path, offset, "the end of the snapshot does not check out")
    return SnapshotTail(chunks=chunks, raw_bytes=raw_bytes, digest=digest)
