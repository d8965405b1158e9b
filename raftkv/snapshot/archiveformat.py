"""Files of an archive as bytes: pure functions, no files.

A file holds committed entries of the log, one after the other: a head, frames, and a tail, much like a snapshot
(:mod:`raftkv.snapshot.format`, whose frames these are). Numbers are little endian, checksums CRC-32C.

* **Head**: magic, format version, length and checksum of a body; the body is a msgpack map (cluster id, node id, index
  of the first entry, term of the entry before it).
* **Frames**: as in a snapshot; the data of each is a msgpack list of ``(index, term, kind, payload)``, compressed.
* **Tail**: mark, number of frames, index and term of the last entry, BLAKE2b digest of all the bytes before the tail,
  checksum of the tail.

The name of a file says which entries it holds, and its digest: whoever copies it somewhere can check it by itself.
"""

from __future__ import annotations

import re
import struct
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import google_crc32c
import msgpack

from raftkv.errors import CorruptData
from raftkv.raft.messages import Entry, EntryKind
from raftkv.snapshot.format import DIGEST_BYTES
from raftkv.snapshot.heads import HeadFormat

SUFFIX: Final = ".entries"

HEAD: Final = HeadFormat(magic=b"RKVARCH1", version=1, max_body_bytes=64 * 1024, what="a file of an archive")
TAIL: Final = struct.Struct(f"<4sIQQ{DIGEST_BYTES}sI")  # mark, frames, last index, last term, digest, checksum
TAIL_MARK: Final = b"AEND"

_NAME: Final = re.compile(r"(\d{20})-(\d{20})-([0-9a-f]{32})\.entries", re.ASCII)
_KINDS: Final = {int(kind): kind for kind in EntryKind}


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveHead:
    """What a file says of itself at its start.

    :ivar cluster_id: hex.
    :ivar node_id: who wrote it; entries that are committed are the same on every node.
    :ivar first_index: of its first entry.
    :ivar previous_term: term of the entry before that, 0 where there is none.
    """

    cluster_id: str
    node_id: str
    first_index: int
    previous_term: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveTail:
    """What a file says of itself at its end.

    :ivar frames: how many there are.
    :ivar last_index: of its last entry, of term ``last_term``.
    :ivar digest: BLAKE2b of everything before the tail.
    """

    frames: int
    last_index: int
    last_term: int
    digest: bytes


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveInfo:
    """A file of an archive, described.

    :ivar name: of the file, without its folder.
    :ivar head: see there; likewise ``tail``.
    :ivar size_bytes: of the file.
    """

    name: str
    head: ArchiveHead
    tail: ArchiveTail
    size_bytes: int

    @property
    def first_index(self) -> int:
        """Index of the first entry."""
        return self.head.first_index

    @property
    def last_index(self) -> int:
        """Index of the last entry."""
        return self.tail.last_index


def archive_name(first_index: int, last_index: int, digest: bytes) -> str:
    """Return the name of a file, which sorts by its first entry."""
    return f"{first_index:020d}-{last_index:020d}-{digest.hex()}{SUFFIX}"


def parse_name(name: str) -> tuple[int, int, str] | None:
    """Return first and last index and the digest that a name tells, ``None`` where it is no name of such a file."""
    match = _NAME.fullmatch(name)
    return None if match is None else (int(match[1]), int(match[2]), match[3])


def encode_head(head: ArchiveHead) -> bytes:
    """Return the first bytes of a file."""
    return HEAD.encode(
        {
            "cluster_id": head.cluster_id,
            "node_id": head.node_id,
            "first_index": head.first_index,
            "previous_term": head.previous_term,
        }
    )


def decode_head(fixed: bytes, body: bytes, path: str) -> ArchiveHead:
    """Return what the two parts of a head say.

    :raises raftkv.errors.CorruptData: they do not check out.
    """
    value = HEAD.decode(fixed, body, path)
    return ArchiveHead(
        cluster_id=value["cluster_id"],
        node_id=value["node_id"],
        first_index=value["first_index"],
        previous_term=value["previous_term"],
    )


def encode_tail(tail: ArchiveTail) -> bytes:
    """Return the last bytes of a file."""
    fields = (TAIL_MARK, tail.frames, tail.last_index, tail.last_term, tail.digest)
    return TAIL.pack(*fields, google_crc32c.value(TAIL.pack(*fields, 0)))


def decode_tail(data: bytes, path: str, offset: int) -> ArchiveTail:
    """Return what the end of a file says.

    :raises raftkv.errors.CorruptData: it does not check out.
    """
    if len(data) != TAIL.size or data[:4] != TAIL_MARK:
        raise CorruptData(path, offset, "the end of the file is missing")
    _mark, frames, last_index, last_term, digest, checksum = TAIL.unpack(data)
    if google_crc32c.value(data[:-4] + bytes(4)) != checksum:
        raise CorruptData(path, offset, "the end of the file does not check out")
    return ArchiveTail(frames=frames, last_index=last_index, last_term=last_term, digest=digest)


def encode_entries(entries: Sequence[Entry]) -> bytes:
    """Return the data of a frame, before compression."""
    packed: bytes = msgpack.packb([(entry.index, entry.term, int(entry.kind), entry.payload) for entry in entries])
    return packed


def decode_entries(data: bytes, path: str, offset: int) -> list[Entry]:
    """Return the entries of a frame.

    :raises raftkv.errors.CorruptData: they are none that this program knows.
    """
    try:
        return [
            Entry(index=index, term=term, kind=_KINDS[kind], payload=payload)
            for index, term, kind, payload in msgpack.unpackb(data, max_bin_len=len(data))
        ]
    except Exception as error:  # unpacking, and taking apart what may be anything, raise many classes
        raise CorruptData(path, offset, f"there are no entries where some should be: {error!r}") from error
