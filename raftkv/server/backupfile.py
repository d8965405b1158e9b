"""A backup on its way into a file: checked as it arrives, and under its name only once it is whole and safe.

Knows the format of snapshots and how files appear; where the bytes come from is the caller's business. Blocks.
"""

from __future__ import annotations

import os
from types import TracebackType
from typing import Any

from raftkv.errors import CorruptData
from raftkv.persistence.faults import storage_errors
from raftkv.server.replay import Place, Progress, read_snapshot
from raftkv.snapshot.format import TAIL, SnapshotTail, decode_tail, new_digest

PARTIAL_SUFFIX = ".partial"


class BackupFile:
    """A file that is being written; a ``with`` block, which removes what did not become whole.

    :param path: what it is to be called.
    :ivar received_bytes: how much has arrived.
    """

    def __init__(self, path: str) -> None:
        self._path = os.path.abspath(path)
        self._temporary = self._path + PARTIAL_SUFFIX
        self._digest = new_digest()
        self._held = b""  # what may be the tail, which the digest does not cover
        self._is_whole = False
        self.received_bytes = 0
        with storage_errors("create", self._temporary):
            self._file = open(self._temporary, "wb")  # noqa: SIM115 - closed by the block

    def __enter__(self) -> BackupFile:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._file.close()
        if not self._is_whole:
            os.unlink(self._temporary)

    def write(self, data: bytes) -> None:
        """Take more of it.

        :raises raftkv.errors.StorageError: it cannot be written.
        """
        with storage_errors("write", self._temporary):
            self._file.write(data)
        self.received_bytes += len(data)
        held = self._held + data
        self._digest.update(held[: -TAIL.size])
        self._held = held[-TAIL.size :]

    def begin_anew(self) -> None:
        """Forget what has arrived: another file comes."""
        with storage_errors("truncate", self._temporary):
            self._file.seek(0)
            self._file.truncate()
        self._digest, self._held, self.received_bytes = new_digest(), b"", 0

    def finish(self, digest: str) -> None:
        """Check what has arrived, make it safe, and give it its name.

        :param digest: hex, what the sender says that it has sent.
        :raises raftkv.errors.CorruptData: something else has arrived.
        :raises raftkv.errors.StorageError: it cannot be made safe.
        """
        tail = self._tail()
        if (tail.digest.hex(), tail.digest) != (digest, self._digest.digest()):
            raise CorruptData(self._temporary, 0, "what has arrived is not what was sent: the checksums differ")
        with storage_errors("fsync", self._temporary):
            self._file.flush()
            os.fsync(self._file.fileno())
            self._file.close()
        with storage_errors("rename", self._temporary):
            os.replace(self._temporary, self._path)
        self._is_whole = True
        with storage_errors("fsync", os.path.dirname(self._path)):
            folder = os.open(os.path.dirname(self._path), os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
            try:
                os.fsync(folder)
            finally:
                os.close(folder)

    def _tail(self) -> SnapshotTail:
        return decode_tail(self._held, self._temporary, max(0, self.received_bytes - TAIL.size))


def backup_facts(place: Place, progress: Progress) -> dict[str, Any]:
    """Read a backup to its end, with the state that it holds, and return what it is.

    :raises raftkv.errors.CorruptData: something in it does not check out.
    """
    info, store = read_snapshot(place, progress)
    configuration = info.meta.configuration
    return {
        "cluster_id": info.cluster_id,
        "index": info.meta.index,
        "term": info.meta.term,
        "revision": info.revision,
        "compact_revision": store.compact_revision,
        "keys": store.key_count,
        "leases": store.lease_count,
        "sessions": store.session_count,
        "members": sorted(configuration.members),
        "voters": sorted(configuration.voters),
        "bytes": info.size_bytes,
        "raw_bytes": info.raw_bytes,
        "checksum": info.digest,
        "state_digest": store.digest(),
    }
