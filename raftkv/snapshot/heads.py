"""The start of a file that is made of frames: who wrote it, in which version, and what it says of itself.

Twenty bytes (magic, format version, length and checksum of a body; little endian, CRC-32C), then the body, a msgpack
map. What it holds is known to :mod:`raftkv.snapshot.format` and :mod:`raftkv.snapshot.archiveformat`.
"""

from __future__ import annotations

import struct
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

import google_crc32c
import msgpack

from raftkv.errors import CorruptData

_FIXED: Final = struct.Struct("<8sIII")  # magic, version, length of the body, checksum of the body
FIXED_BYTES: Final = _FIXED.size


@dataclass(frozen=True, slots=True, kw_only=True)
class HeadFormat:
    """How one kind of file begins.

    :ivar magic: eight bytes.
    :ivar version: of the format, the only one that is read.
    :ivar max_body_bytes: no body is larger.
    :ivar what: such a file, in words: ``"a snapshot file"``.
    """

    magic: bytes
    version: int
    max_body_bytes: int
    what: str

    def encode(self, document: Mapping[str, Any]) -> bytes:
        """Return the first bytes of a file."""
        body: bytes = msgpack.packb(document)
        return _FIXED.pack(self.magic, self.version, len(body), google_crc32c.value(body)) + body

    def body_bytes(self, fixed: bytes, path: str) -> int:
        """Return how many bytes of the head follow its fixed part.

        :raises raftkv.errors.CorruptData: it is not the start of such a file, or of a version that is not known here.
        """
        if len(fixed) < FIXED_BYTES or not fixed.startswith(self.magic):
            raise CorruptData(path, 0, f"this is not {self.what}")
        _, version, length, _ = _FIXED.unpack(fixed)
        if version != self.version:
            raise CorruptData(path, 0, f"{self.what} of format version {version}; this program reads {self.version}")
        if length > self.max_body_bytes:
            raise CorruptData(path, 0, f"the head of {self.what} claims {length} bytes")
        return int(length)

    def decode(self, fixed: bytes, body: bytes, path: str) -> dict[str, Any]:
        """Return what the two parts of a head say.

        :raises raftkv.errors.CorruptData: they do not check out.
        """
        if google_crc32c.value(body) != _FIXED.unpack(fixed)[3]:
            raise CorruptData(path, FIXED_BYTES, f"the head of {self.what} does not check out")
        document: dict[str, Any] = msgpack.unpackb(body)
        return document
