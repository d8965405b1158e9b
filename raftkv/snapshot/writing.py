"""Writing one snapshot file, or receiving one in pieces from another member. Blocks.

Both write under another name, sync, read everything back, and only then give the file its name: what has a name was
whole once.
"""

from __future__ import annotations

from collections.abc import Callable

import zstandard

from raftkv.errors import CorruptData, InvariantViolation, StorageError
from raftkv.interfaces import IDisk
from raftkv.persistence.faults import storage_errors
from raftkv.snapshot.format import (
    MAX_CHUNK_BYTES,
    SnapshotHead,
    SnapshotTail,
    encode_frame,
    encode_head,
    encode_tail,
    new_digest,
)
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader

COMPRESSION_LEVEL = 1  # a snapshot is limited by the processor, and level 1 already halves it

Install = Callable[[str, SnapshotInfo], SnapshotInfo]  #: gives a verified temporary file its name


class SnapshotWriter:
    """A snapshot file in the making.

    :param disk: the data directory.
    :param temporary: name to write under.
    :param name: of the file in the end, without its folder.
    :param head: what it says of itself.
    :param install: called by :meth:`commit`.
    :ivar is_whole: whether everything was written and read back, so that only the name is missing, if anything is. An
        error before that concerns this one file, of which nobody knows; one behind it concerns the folder.
    """

    def __init__(self, disk: IDisk, *, temporary: str, name: str, head: SnapshotHead, install: Install) -> None:
        self._disk = disk
        self._temporary = temporary
        self._name = name
        self._path = f"{disk.root}/{temporary}"
        self._install = install
        self._compressor = zstandard.ZstdCompressor(level=COMPRESSION_LEVEL)
        self._digest = new_digest()
        self._offset = 0
        self._chunks = 0
        self._raw_bytes = 0
        self.is_whole = False
        self._failure: StorageError | None = None  # whose bytes are missing: what came later was asked for already
        with storage_errors("create", self._path):
            self._file = disk.open(temporary, create=True)
        try:
            with storage_errors("truncate", self._path):
                self._file.truncate(0)
            self._put(encode_head(head))
        except StorageError:
            self.abort()
            raise

    @property
    def size_bytes(self) -> int:
        """How much has been written."""
        return self._offset

    def write(self, chunk: bytes) -> None:
        """Add a chunk.

        :raises raftkv.errors.StorageError: it could not be written, or one before it could not.
        """
        if len(chunk) > MAX_CHUNK_BYTES:
            raise InvariantViolation(f"a chunk of {len(chunk)} bytes is larger than the format allows")
        self._put(encode_frame(self._compressor.compress(chunk), len(chunk)))
        self._chunks += 1
        self._raw_bytes += len(chunk)

    def commit(self) -> SnapshotInfo:
        """Finish the file, read it back, and give it its name.

        :raises raftkv.errors.StorageError: it could not be written, or what was read back is not what was written.
        """
        tail = SnapshotTail(chunks=self._chunks, raw_bytes=self._raw_bytes, digest=self._digest.digest())
        self._put(encode_tail(tail))
        with storage_errors("fdatasync", self._path):
            self._file.sync()
            self._file.close()
        info = verify_file(self._disk, self._temporary, self._name)
        self.is_whole = True
        return self._install(self._temporary, info)

    def abort(self) -> None:
        """Remove what has been written."""
        self._file.close()
        discard(self._disk, self._temporary)

    def _put(self, data: bytes) -> None:
        if self._failure is not None:
            # Without the chunk that failed the file would check out, get its name, and hold a state with a hole.
            raise self._failure
        try:
            with storage_errors("write", self._path):
                self._file.write_at(self._offset, data)
        except StorageError as error:
            self._failure = error
            raise
        self._offset += len(data)
        self._digest.update(data)


class SnapshotReceiver:
    """A snapshot file that arrives in pieces, possibly over several connections.

    :param disk: the data directory.
    :param partial: name to write under.
    :param name: of the file in the end, without its folder.
    :param index: of the last entry that it includes, as the sender says, like the next three.
    :param term: of that entry.
    :param size_bytes: of the whole file.
    :param digest: hex, of the whole file.
    :param cluster_id: of this node.
    :param install: called by :meth:`install`.
    :ivar is_whole: as for :class:`SnapshotWriter`.
    """

    def __init__(
        self,
        disk: IDisk,
        *,
        partial: str,
        name: str,
        index: int,
        term: int,
        size_bytes: int,
        digest: str,
        cluster_id: str,
        install: Install,
    ) -> None:
        self._disk = disk
        self._partial = partial
        self._name = name
        self._path = f"{disk.root}/{partial}"
        self._size_bytes = size_bytes
        self._announced = (index, term, size_bytes, digest, cluster_id)
        self._install = install
        self.is_whole = False
        with storage_errors("open", self._path):
            self._file = disk.open(partial, create=True)
            self._offset = min(self._file.size(), size_bytes)

    @property
    def offset(self) -> int:
        """From where the sender should go on."""
        return self._offset

    @property
    def is_complete(self) -> bool:
        """Whether every byte has arrived."""
        return self._offset == self._size_bytes

    def write(self, offset: int, data: bytes) -> None:
        """Add a piece.

        :param offset: in the file; only that of :attr:`offset` makes sense.
        :raises ValueError: the piece does not follow, or is more than the sender announced.
        :raises raftkv.errors.StorageError: it could not be written.
        """
        if offset != self._offset or offset + len(data) > self._size_bytes:
            raise ValueError(
                f"a piece of {len(data)} bytes at {offset} does not follow {self._offset} of {self._size_bytes}"
            )
        with storage_errors("write", self._path):
            self._file.write_at(offset, data)
        self._offset += len(data)

    def pause(self) -> None:
        """Keep what has arrived, for the sender to go on later."""
        with storage_errors("fdatasync", self._path):
            self._file.sync()
            self._file.close()

    def install(self) -> SnapshotInfo:
        """Check the whole file and give it its name.

        :raises raftkv.errors.CorruptData: it is not what was announced; it has been removed, so that the transfer
            begins anew.
        """
        self.pause()
        try:
            info = verify_file(self._disk, self._partial, self._name)
            found = (info.meta.index, info.meta.term, info.size_bytes, info.digest, info.cluster_id)
            if found != self._announced:
                raise CorruptData(self._path, 0, "the snapshot that arrived is not the one that was announced")
        except CorruptData:
            discard(self._disk, self._partial)
            raise
        self.is_whole = True
        return self._install(self._partial, info)

    def abort(self) -> None:
        """Remove what has arrived."""
        self._file.close()
        discard(self._disk, self._partial)


def verify_file(disk: IDisk, place: str, name: str) -> SnapshotInfo:
    """Read a whole snapshot file and return its description.

    :param place: where it is.
    :param name: what its description should call it.
    :raises raftkv.errors.CorruptData: it does not check out.
    """
    path = f"{disk.root}/{place}"
    with storage_errors("open", path):
        file = disk.open(place)
    try:
        reader = SnapshotReader(file, path=path, name=name)
        reader.verify()
    finally:
        file.close()
    return reader.info


def discard(disk: IDisk, name: str) -> None:
    """Remove a file that nobody counts on; a crash may bring it back, and the next start removes it then."""
    with storage_errors("remove", f"{disk.root}/{name}"):
        if disk.exists(name):
            disk.remove(name)
