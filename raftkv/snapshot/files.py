"""The folder ``snapshots`` of a data directory: which files there are, which is the newest readable, which may go.

Blocks; the callers run it in a worker, all of them in the same one, or before the reactor is busy.
"""

from __future__ import annotations

import re
from collections import Counter
from collections.abc import Callable, Sequence

from raftkv.errors import CorruptData, InvariantViolation, StorageError
from raftkv.interfaces import IDisk
from raftkv.persistence.directory import SNAPSHOT_FOLDER
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import TEMPORARY_SUFFIX, remove_temporary_files
from raftkv.raft.messages import SnapshotMeta
from raftkv.snapshot.format import SnapshotHead
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader
from raftkv.snapshot.writing import SnapshotReceiver, SnapshotWriter, discard, verify_file

SUFFIX = ".snapshot"
PARTIAL_SUFFIX = ".partial"

_NAME = re.compile(r"\d{20}-\d{20}\.snapshot", re.ASCII)
_DIGEST = re.compile(r"[0-9a-f]{32}", re.ASCII)

Unreadable = Callable[[CorruptData], None]  #: told of a file that does not check out


def snapshot_name(index: int, term: int) -> str:
    """Return the name of a file, which sorts by index."""
    return f"{index:020d}-{term:020d}{SUFFIX}"


class SnapshotDirectory:
    """The snapshots of one node.

    :param disk: the data directory.
    :param cluster_id: of this node; a snapshot of another cluster counts as unreadable.
    :param unreadable: told of each file that does not check out, each time it is met.
    """

    def __init__(self, disk: IDisk, *, cluster_id: str, unreadable: Unreadable) -> None:
        self._disk = disk
        self._cluster_id = cluster_id
        self._unreadable = unreadable
        self._pinned: Counter[str] = Counter()
        self._read_back = ""  # the file that was, as the last thing that happened here

    def clean(self) -> None:
        """Remove what a crash left half written; what a transfer left is kept, to be resumed."""
        remove_temporary_files(self._disk, SNAPSHOT_FOLDER)

    def list(self) -> Sequence[SnapshotInfo]:
        """Return the snapshots whose ends check out, newest first; their chunks are not read."""
        found = []
        for name in self._names():
            try:
                reader = self._open(name)
            except CorruptData as error:
                self._unreadable(error)
                continue
            reader.close()
            found.append(reader.info)
        return found

    def list_sound(self) -> Sequence[SnapshotInfo]:
        """Return the same, but for newest ones that have rotted: every byte of the first checks out."""
        found = [*self.list()]
        while found and not self._is_sound(found[0].name):
            del found[0]
        return found

    def newest(self) -> SnapshotInfo | None:
        """Return the newest snapshot of which every byte checks out; unreadable ones fall back to the one before."""
        for name in self._names():
            try:
                self._open(name).close()
                return verify_file(self._disk, f"{SNAPSHOT_FOLDER}/{name}", name)
            except CorruptData as error:
                self._unreadable(error)
        return None

    def newest_meta(self) -> SnapshotMeta | None:
        """Return what the newest readable snapshot replaces of the log."""
        info = self.newest()
        return None if info is None else info.meta

    def open(self, info: SnapshotInfo) -> SnapshotReader:
        """Open a snapshot; it stays readable if it is pruned meanwhile.

        :raises raftkv.errors.CorruptData: its ends do not check out any more.
        """
        return self._open(info.name)

    def open_newest(self) -> SnapshotReader | None:
        """Open the newest snapshot of which every byte checks out; ``None`` where there is none.

        Reads the whole file: one that has rotted would be refused by every member that it is sent to.
        """
        for name in self._names():
            try:
                reader = self._open(name)
            except CorruptData as error:
                self._unreadable(error)
                continue
            try:
                reader.verify()
            except CorruptData as error:
                reader.close()
                self._unreadable(error)
            except StorageError:
                reader.close()
                raise
            else:
                return reader
        return None

    def open_pinned(self, digest: str | None = None) -> SnapshotReader | None:
        """Open a snapshot that is to stay, name and all, until :meth:`unpin`; ``None`` where there is none.

        :param digest: of one that was read before; ``None`` for the newest one of which every byte checks out.
        """
        if digest is None:
            reader = self.open_newest()
        else:
            found = next((info for info in self.list() if info.digest == digest), None)
            reader = None if found is None else self._open(found.name)
        if reader is not None:
            self._pinned[reader.info.name] += 1
        return reader

    def unpin(self, reader: SnapshotReader) -> None:
        """Close a snapshot that :meth:`open_pinned` has opened; nobody minds any more if it goes."""
        reader.close()
        name = reader.info.name
        self._pinned[name] -= 1
        if not self._pinned[name]:
            del self._pinned[name]

    def create(self, meta: SnapshotMeta, revision: int) -> SnapshotWriter:
        """Begin a snapshot of our own."""
        name = snapshot_name(meta.index, meta.term)
        return SnapshotWriter(
            self._disk,
            temporary=f"{SNAPSHOT_FOLDER}/{name}{TEMPORARY_SUFFIX}",
            name=name,
            head=SnapshotHead(cluster_id=self._cluster_id, meta=meta, revision=revision),
            install=self._install,
        )

    def receive(self, *, index: int, term: int, size_bytes: int, digest: str) -> SnapshotReceiver:
        """Begin to receive another member's file, or go on where an earlier connection broke.

        What an earlier transfer of another file left is removed.

        :param digest: hex; as in the sender's :class:`SnapshotInfo`, like the others.
        :raises ValueError: these cannot be a file's.
        """
        if index <= 0 or term <= 0 or size_bytes <= 0 or not _DIGEST.fullmatch(digest):
            raise ValueError(f"no snapshot has index {index}, term {term}, {size_bytes} bytes, digest {digest!r}")
        name = snapshot_name(index, term)
        partial = f"{name}.{size_bytes}.{digest}{PARTIAL_SUFFIX}"
        self._remove_partial_files(keep=partial)
        return SnapshotReceiver(
            self._disk,
            partial=f"{SNAPSHOT_FOLDER}/{partial}",
            name=name,
            index=index,
            term=term,
            size_bytes=size_bytes,
            digest=digest,
            cluster_id=self._cluster_id,
            install=self._install,
        )

    def prune(self, keep: int) -> Sequence[str]:
        """Remove old snapshots; return their names.

        Only files older than the ``keep`` newest readable ones go, readable or not: what is unreadable and newer stays
        for people to look at. What is being read as a backup stays until the next time, and none goes where the newest
        has rotted since it was written.

        :param keep: at least 1.
        """
        if keep < 1:
            raise InvariantViolation(f"{keep} snapshots were to be kept")
        kept = [info.name for info in self.list()[:keep]]
        if len(kept) < keep:
            return []
        removed = [name for name in self._names() if name < kept[-1] and name not in self._pinned]
        if removed and not self._is_sound(kept[0]):
            return []
        for name in removed:
            discard(self._disk, f"{SNAPSHOT_FOLDER}/{name}")
        if removed:
            self._sync_folder()
        self._read_back = ""  # it was, a while ago, when this is called again
        return removed

    def keep_only(self, meta: SnapshotMeta) -> None:
        """Remove every snapshot but this one: the state that they were made of is not to be trusted.

        :raises raftkv.errors.CorruptData: this one cannot be read (any more); then nothing is removed.
        """
        kept = snapshot_name(meta.index, meta.term)
        self._open(kept).close()
        for name in self._names():
            if name != kept:
                discard(self._disk, f"{SNAPSHOT_FOLDER}/{name}")
        self._sync_folder()

    def _is_sound(self, name: str) -> bool:
        """Tell whether every byte of a file checks out; who has just been read back was when it got its name."""
        if name == self._read_back:
            return True
        try:
            verify_file(self._disk, f"{SNAPSHOT_FOLDER}/{name}", name)
        except CorruptData as error:
            self._unreadable(error)
            return False
        return True

    def _names(self) -> Sequence[str]:
        with storage_errors("read", f"{self._disk.root}/{SNAPSHOT_FOLDER}"):
            names = reversed(self._disk.names(SNAPSHOT_FOLDER))
        return [name for name in names if _NAME.fullmatch(name)]

    def _open(self, name: str) -> SnapshotReader:
        path = f"{self._disk.root}/{SNAPSHOT_FOLDER}/{name}"
        with storage_errors("open", path):
            file = self._disk.open(f"{SNAPSHOT_FOLDER}/{name}")
        try:
            reader = SnapshotReader(file, path=path, name=name)
            meta = reader.info.meta
            if reader.info.cluster_id != self._cluster_id:
                raise CorruptData(path, 0, f"the snapshot is of another cluster, {reader.info.cluster_id}")
            if snapshot_name(meta.index, meta.term) != name:
                raise CorruptData(path, 0, f"the snapshot of entry {meta.index}, term {meta.term} has another's name")
        except CorruptData:
            file.close()
            raise
        return reader

    def _install(self, temporary: str, info: SnapshotInfo) -> SnapshotInfo:
        with storage_errors("rename", f"{self._disk.root}/{temporary}"):
            self._disk.rename(temporary, f"{SNAPSHOT_FOLDER}/{info.name}")
        self._sync_folder()
        self._read_back = info.name
        return info

    def _sync_folder(self) -> None:
        with storage_errors("fsync", f"{self._disk.root}/{SNAPSHOT_FOLDER}"):
            self._disk.sync_folder(SNAPSHOT_FOLDER)

    def _remove_partial_files(self, keep: str) -> None:
        for name in self._disk.names(SNAPSHOT_FOLDER):
            if name.endswith(PARTIAL_SUFFIX) and name != keep:
                discard(self._disk, f"{SNAPSHOT_FOLDER}/{name}")
