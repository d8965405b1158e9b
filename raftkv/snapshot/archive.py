"""The archive of one node's log: a folder of files, each of which holds committed entries. Blocks.

The archive belongs to the operator: its root is made by nobody here (a file system that is not mounted would be taken
for an empty archive), and files may be moved away at any time. A file appears whole, by write, sync, read back, rename,
sync of the folder. Which entries go there, and when, is the server's business.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from typing import Final

import zstandard

from raftkv.errors import CorruptData, InvariantViolation, StorageError
from raftkv.interfaces import IDisk, IFile
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import TEMPORARY_SUFFIX, remove_temporary_files
from raftkv.raft.messages import Entry
from raftkv.snapshot import archiveformat as fmt
from raftkv.snapshot.archiveformat import ArchiveHead, ArchiveInfo, ArchiveTail
from raftkv.snapshot.files import SUFFIX as SNAPSHOT_SUFFIX
from raftkv.snapshot.format import FRAME, decode_frame_head, encode_frame, frame_checks_out, new_digest
from raftkv.snapshot.heads import FIXED_BYTES
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader
from raftkv.snapshot.writing import discard

_COMPRESSION_LEVEL: Final = 3  # written once, kept for long
_COPY_BYTES: Final = 1024 * 1024


class ArchiveReader:
    """An open file of an archive.

    :param file: owned by the reader from now on.
    :param path: for errors.
    :param name: of the file; what it says of the content must be true.
    :raises raftkv.errors.CorruptData: head or tail do not check out, or it has another's name.
    """

    def __init__(self, file: IFile, *, path: str, name: str) -> None:
        self._file = file
        self.path = path
        with storage_errors("read", path):
            size = file.size()
        fixed = self._read(0, FIXED_BYTES)
        self._first_frame = FIXED_BYTES + fmt.HEAD.body_bytes(fixed, path)
        head = fmt.decode_head(fixed, self._read(FIXED_BYTES, self._first_frame - FIXED_BYTES), path)
        self._tail_offset = max(self._first_frame, size - fmt.TAIL.size)
        tail = fmt.decode_tail(self._read(self._tail_offset, fmt.TAIL.size), path, self._tail_offset)
        if fmt.archive_name(head.first_index, tail.last_index, tail.digest) != name:
            raise CorruptData(path, 0, "the file is not the one that its name tells")
        self.info = ArchiveInfo(name=name, head=head, tail=tail, size_bytes=size)

    def entries(self) -> Iterator[tuple[int, Entry]]:
        """Yield the entries, each with the offset of the frame that holds it.

        :raises raftkv.errors.CorruptData: something does not check out.
        """
        head, tail = self.info.head, self.info.tail
        decompressor = zstandard.ZstdDecompressor()
        digest = new_digest()
        digest.update(self._read(0, self._first_frame))
        offset, frames, index, term = self._first_frame, 0, head.first_index - 1, head.previous_term
        while offset < self._tail_offset:
            frame = self._frame_at(offset)
            digest.update(frame)
            for entry in self._entries_of(frame, decompressor, offset):
                if entry.index != index + 1:
                    raise CorruptData(self.path, offset, f"entry {entry.index} comes after entry {index}")
                if entry.term < term:
                    raise CorruptData(
                        self.path, offset, f"entry {entry.index} is of term {entry.term}, the one before of term {term}"
                    )
                index, term = entry.index, entry.term
                yield offset, entry
            offset += len(frame)
            frames += 1
        found = ArchiveTail(frames=frames, last_index=index, last_term=term, digest=digest.digest())
        if offset != self._tail_offset or found != tail:
            raise CorruptData(self.path, self._tail_offset, "the file is not what its end says")

    def close(self) -> None:
        """Give the file back; closing twice is allowed."""
        self._file.close()

    def _frame_at(self, offset: int) -> bytes:
        fixed = self._read(offset, FRAME.size)
        head = decode_frame_head(fixed, self.path, offset)
        data = self._read(offset + FRAME.size, head.length)
        if not frame_checks_out(head, data):
            raise CorruptData(self.path, offset, "a part of the file does not check out")
        return fixed + data

    def _entries_of(self, frame: bytes, decompressor: zstandard.ZstdDecompressor, offset: int) -> list[Entry]:
        raw_length = decode_frame_head(frame[: FRAME.size], self.path, offset).raw_length
        try:
            data = decompressor.decompress(frame[FRAME.size :], max_output_size=max(1, raw_length))
        except zstandard.ZstdError as error:
            raise CorruptData(self.path, offset, f"a part of the file cannot be decompressed: {error}") from error
        return fmt.decode_entries(data, self.path, offset)

    def _read(self, offset: int, length: int) -> bytes:
        with storage_errors("read", self.path):
            data: bytes = self._file.read_at(offset, length)
        return data


class ArchiveWriter:
    """A file in the making; :meth:`ArchiveFolder.begin` makes one.

    :ivar raw_bytes: what has been written, before compression.
    """

    def __init__(self, folder: ArchiveFolder, head: ArchiveHead) -> None:
        self.raw_bytes = 0
        self._folder = folder
        self._head = head
        self._temporary = f"{folder.path}/{head.first_index:020d}{TEMPORARY_SUFFIX}"
        self._path = f"{folder.disk.root}/{self._temporary}"
        self._compressor = zstandard.ZstdCompressor(level=_COMPRESSION_LEVEL)
        self._digest = new_digest()
        self._offset = 0
        self._frames = 0
        self._last_index, self._last_term = head.first_index - 1, head.previous_term
        with storage_errors("create", self._path):
            self._file = folder.disk.open(self._temporary, create=True)
        try:
            with storage_errors("truncate", self._path):
                self._file.truncate(0)
            self._put(fmt.encode_head(head))
        except StorageError:
            self._file.close()
            raise

    @property
    def last_index(self) -> int:
        """Index of the last entry that was written."""
        return self._last_index

    def write(self, entries: Sequence[Entry]) -> None:
        """Add entries, which must follow those before.

        :raises raftkv.errors.StorageError: they cannot be written; the file is of no use then.
        """
        for entry in entries:
            if entry.index != self._last_index + 1 or entry.term < self._last_term:
                raise InvariantViolation(
                    f"entry {entry.index} of term {entry.term} cannot follow entry {self._last_index} of term "
                    f"{self._last_term} in the archive"
                )
            self._last_index, self._last_term = entry.index, entry.term
        data = fmt.encode_entries(entries)
        self._put(encode_frame(self._compressor.compress(data), len(data)))
        self._frames += 1
        self.raw_bytes += len(data)

    def commit(self) -> ArchiveInfo:
        """Finish the file, read it back, and give it its name.

        :raises raftkv.errors.StorageError: it could not be written, or what was read back is not what was written.
        """
        tail = ArchiveTail(
            frames=self._frames,
            last_index=self._last_index,
            last_term=self._last_term,
            digest=self._digest.digest(),
        )
        self._put(fmt.encode_tail(tail))
        with storage_errors("fdatasync", self._path):
            self._file.sync()
        name = fmt.archive_name(self._head.first_index, tail.last_index, tail.digest)
        reader = ArchiveReader(self._file, path=self._path, name=name)
        for _ in reader.entries():
            pass
        reader.close()
        self._folder.install(self._temporary, name)
        return reader.info

    def abort(self) -> None:
        """Remove what has been written."""
        self._file.close()
        discard(self._folder.disk, self._temporary)

    def _put(self, data: bytes) -> None:
        with storage_errors("write", self._path):
            self._file.write_at(self._offset, data)
        self._offset += len(data)
        self._digest.update(data)


class ArchiveFolder:
    """Where one node's entries go: a folder of the archive by cluster and node, so that several may share an archive.

    :param disk: the archive.
    :ivar path: of the folder.
    """

    def __init__(self, disk: IDisk, *, cluster_id: str, node_id: str) -> None:
        self.disk = disk
        self._cluster_id = cluster_id
        self._node_id = node_id
        self.path = f"{cluster_id}/{node_id}"

    def last(self) -> ArchiveInfo | None:
        """Return the file that reaches the furthest of those whose ends check out; make the folder where it is missing.

        :raises raftkv.errors.StorageError: there is no archive, or it cannot be used.
        """
        self._prepare()
        with storage_errors("read", self._folder):
            remove_temporary_files(self.disk, self.path)
            names = [name for name in self.disk.names(self.path) if fmt.parse_name(name)]
        for name in sorted(names, key=lambda name: (fmt.parse_name(name) or (0, 0, ""))[1], reverse=True):
            try:
                reader = self.open(name)
            except CorruptData:
                continue  # whoever restores is told of it; what it held is archived again as far as it is still here
            reader.close()
            return reader.info
        return None

    def open(self, name: str) -> ArchiveReader:
        """Open a file.

        :raises raftkv.errors.CorruptData: its ends do not check out.
        """
        path = f"{self._folder}/{name}"
        with storage_errors("open", path):
            file = self.disk.open(f"{self.path}/{name}")
        try:
            return ArchiveReader(file, path=path, name=name)
        except StorageError:
            file.close()
            raise

    def begin(self, *, first_index: int, previous_term: int) -> ArchiveWriter:
        """Begin a file.

        :raises raftkv.errors.StorageError: it cannot be made.
        """
        self._prepare()
        head = ArchiveHead(
            cluster_id=self._cluster_id, node_id=self._node_id, first_index=first_index, previous_term=previous_term
        )
        return ArchiveWriter(self, head)

    def copy_base(self, reader: SnapshotReader) -> SnapshotInfo:
        """Copy a snapshot into the folder, for the entries behind it to be replayed on.

        :param reader: of a snapshot whose bytes have been checked.
        :raises raftkv.errors.StorageError: it cannot be written, or read back.
        """
        self._prepare()
        info = reader.info
        name = info.name.removesuffix(SNAPSHOT_SUFFIX) + SNAPSHOT_SUFFIX
        temporary = f"{self.path}/{name}{TEMPORARY_SUFFIX}"
        path = f"{self.disk.root}/{temporary}"
        with storage_errors("create", path):
            file = self.disk.open(temporary, create=True)
        try:
            with storage_errors("write", path):
                file.truncate(0)
                for offset in range(0, info.size_bytes, _COPY_BYTES):
                    file.write_at(offset, reader.read_raw(offset, _COPY_BYTES))
                file.sync()
            copy = SnapshotReader(file, path=path, name=name)
            copy.verify()
            if copy.info.digest != info.digest:
                raise CorruptData(path, 0, "the copy of the snapshot is not the snapshot")
        finally:
            file.close()
        self.install(temporary, name)
        return info

    def install(self, temporary: str, name: str) -> None:
        """Give a file that is on the medium its name."""
        with storage_errors("rename", f"{self.disk.root}/{temporary}"):
            self.disk.rename(temporary, f"{self.path}/{name}")
        with storage_errors("fsync", self._folder):
            self.disk.sync_folder(self.path)

    @property
    def _folder(self) -> str:
        return f"{self.disk.root}/{self.path}"

    def _prepare(self) -> None:
        if not self.disk.exists(""):
            raise StorageError("open", self.disk.root, "there is no such directory; it is not made here")
        if self.disk.exists(self.path):
            return
        with storage_errors("create", self._folder):
            self.disk.make_folder(self.path)
            self.disk.sync_folder(self._cluster_id)
            self.disk.sync_folder("")
