"""A state of the past: a snapshot, and the archived entries behind it up to a revision or a time. Offline; blocks.

Archives of several nodes may be read together: committed entries are the same on all of them, so what one lacks
another may have. What is missing or damaged everywhere is refused with the name of the file: a state with a hole would
look like any other.

**What is counted on.** A file is read and checked to its end before its first entry is used. Entries must follow each
other without a gap, and their terms must chain: the entry behind the snapshot, or behind another file, says which term
came before it, and two logs that hold an entry of the same index and term are equal up to it (section 5.3).
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from raftkv.errors import ConfigurationError, CorruptData, StorageError
from raftkv.interfaces import IDisk
from raftkv.kvstore import Restorer, SnapshotError, Store
from raftkv.kvstore.commands import wall_time_ms
from raftkv.persistence.faults import storage_errors
from raftkv.persistence.files import TEMPORARY_SUFFIX
from raftkv.raft.messages import Entry, EntryKind
from raftkv.snapshot.archive import ArchiveReader
from raftkv.snapshot.archiveformat import ArchiveInfo, parse_name
from raftkv.snapshot.reading import SnapshotInfo, SnapshotReader

_SNAPSHOT_NAME: Final = re.compile(r"\d{20}-\d{20}\.snapshot", re.ASCII)

_LOST_AND_FOUND: Final = "lost+found"  # of a file system that is mounted there; not for everybody to read

Progress = Callable[[str, int, int], None]  #: what is being done, how much of it is done, how much there is


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """A file on some disk."""

    disk: IDisk
    file: str

    @property
    def path(self) -> str:
        """How messages name it."""
        return f"{self.disk.root}/{self.file}"

    @property
    def name(self) -> str:
        """Its name without the folder."""
        return self.file.rpartition("/")[2]

    def open_snapshot(self) -> SnapshotReader:
        """Open it as a snapshot.

        :raises raftkv.errors.StorageError: it is none, or cannot be read.
        """
        with storage_errors("open", self.path):
            file = self.disk.open(self.file)
        try:
            return SnapshotReader(file, path=self.path, name=self.name)
        except StorageError:
            file.close()
            raise

    def open_entries(self) -> ArchiveReader:
        """Open it as a file of an archive.

        :raises raftkv.errors.StorageError: it is none, or cannot be read.
        """
        with storage_errors("open", self.path):
            file = self.disk.open(self.file)
        try:
            return ArchiveReader(file, path=self.path, name=self.name)
        except StorageError:
            file.close()
            raise


@dataclass(frozen=True, slots=True, kw_only=True)
class Target:
    """Up to where to replay; with neither, to the end.

    :ivar revision: the revision that the state shall have; ``None`` for no such wish.
    :ivar time_ms: Unix time in milliseconds: entries that a leader made later are left out; ``None`` likewise.
    """

    revision: int | None = None
    time_ms: int | None = None


@dataclass(slots=True, kw_only=True)
class Rebuilt:
    """A state, and what it was made of.

    :ivar cluster_id: of the cluster whose state it was.
    :ivar term: of the last entry that it includes.
    :ivar base: path of the snapshot that it began with; empty for none.
    :ivar replayed: how many archived entries were applied.
    :ivar last_time_ms: when the leader made the last of them that held commands; ``None`` where there was none.
    """

    store: Store
    cluster_id: str
    term: int
    base: str = ""
    replayed: int = 0
    last_time_ms: int | None = None


def find(disks: Sequence[IDisk], is_wanted: Callable[[str], bool]) -> list[Place]:
    """Return the files on these disks, in whatever folder, whose names are wanted.

    :raises raftkv.errors.StorageError: a folder is not there, or cannot be read.
    """
    found: list[Place] = []
    for disk in disks:
        if not disk.exists(""):
            raise StorageError("open", disk.root, "there is no such directory")
        folders = [""]
        while folders:
            folder = folders.pop()
            with storage_errors("read", f"{disk.root}/{folder}"):
                try:
                    names = disk.names(folder)
                except NotADirectoryError:
                    continue
            for name in names:
                file = f"{folder}/{name}" if folder else name
                if is_wanted(name):
                    found.append(Place(disk=disk, file=file))
                elif name != _LOST_AND_FOUND and not name.endswith(TEMPORARY_SUFFIX):
                    folders.append(file)
    return found


class ArchivedLog:
    """The entries of one cluster that some archives hold together.

    :param places: files of archives.
    :param bases: the snapshots in them.
    :param cluster_id: of the cluster; ``None`` where the files say which, and all say the same.
    :raises raftkv.errors.ConfigurationError: they are of several clusters, or of another one.
    """

    def __init__(self, places: Sequence[Place], bases: Sequence[SnapshotInfo], cluster_id: str | None) -> None:
        self._files: list[tuple[ArchiveInfo, Place]] = []
        self._damage: list[tuple[tuple[int, int], CorruptData]] = []
        self._verified: set[str] = set()
        for place in places:
            try:
                reader = place.open_entries()
            except CorruptData as error:
                first, last, _digest = parse_name(place.name) or (0, 0, "")
                self._damage.append(((first, last), error))
                continue
            reader.close()
            self._files.append((reader.info, place))
        ids = {info.head.cluster_id for info, _place in self._files} | {info.cluster_id for info in bases}
        if cluster_id is None:
            if len(ids) > 1:
                raise ConfigurationError(
                    f"the archive holds files of several clusters ({', '.join(sorted(ids))}); name the folder of one"
                )
            cluster_id = ids.pop() if ids else ""
        self.cluster_id = cluster_id
        self._files = [found for found in self._files if found[0].head.cluster_id == cluster_id]
        if not self._files and not self._damage and not bases:
            others = f"; there are entries of {', '.join(sorted(ids))}" if ids else ""
            raise ConfigurationError(f"the archive holds nothing of cluster {cluster_id or '(any)'}{others}")

    @property
    def last_index(self) -> int:
        """The furthest that any file reaches."""
        return max((info.last_index for info, _place in self._files), default=0)

    @property
    def reaches_back(self) -> bool:
        """Whether the first entry of the cluster is there, or was."""
        firsts = {info.first_index for info, _place in self._files} | {first for (first, _), _error in self._damage}
        return 1 in firsts

    def time_at(self, index: int) -> int | None:
        """Return when the leader made an entry, in Unix milliseconds; ``None`` where nothing says that."""
        for info, place in self._files:
            if info.first_index <= index <= info.last_index:
                reader = place.open_entries()
                try:
                    entry = next(entry for _offset, entry in reader.entries() if entry.index == index)
                finally:
                    reader.close()
                return _time_of(entry, place.path, 0) if entry.kind is EntryKind.COMMANDS else None
        return None

    def entries_behind(self, index: int, term: int) -> Iterator[tuple[Place, int, Entry]]:
        """Yield the entries behind one of this index and term, each with the file and the offset that it lies at.

        :raises raftkv.errors.CorruptData: some of them are missing, damaged, or of another history.
        """
        while (chosen := self._choose(index)) is not None:
            info, place = chosen
            if info.first_index == index + 1:
                self._check_chain(place, 0, index, known=term, found=info.head.previous_term)
            reader = place.open_entries()
            try:
                for offset, entry in reader.entries():
                    if entry.index == index:
                        self._check_chain(place, offset, index, known=term, found=entry.term)
                    elif entry.index > index:
                        index, term = entry.index, entry.term
                        yield place, offset, entry
            finally:
                reader.close()

    def _choose(self, index: int) -> tuple[ArchiveInfo, Place] | None:
        """Return a sound file that goes on behind an entry, that which goes the furthest; ``None`` at the end."""
        wanted = index + 1
        candidates = [found for found in self._files if found[0].first_index <= wanted <= found[0].last_index]
        for info, place in sorted(candidates, key=lambda found: found[0].last_index, reverse=True):
            if self._is_sound(info, place):
                return info, place
        for (first, last), error in self._damage:
            if first <= wanted <= last:
                raise error
        later = min((found for found in self._files if found[0].first_index > wanted), default=None, key=_by_first)
        if later is not None:
            info, place = later
            raise CorruptData(
                place.path,
                0,
                f"entries {wanted} to {info.first_index - 1} are missing: this file begins behind them, and no other "
                "has them",
            )
        return None

    def _is_sound(self, info: ArchiveInfo, place: Place) -> bool:
        if place.path in self._verified:
            return True
        reader = place.open_entries()
        try:
            for _ in reader.entries():
                pass
        except CorruptData as error:
            self._damage.append(((info.first_index, info.last_index), error))
            self._files.remove((info, place))
            return False
        finally:
            reader.close()
        self._verified.add(place.path)
        return True

    def _check_chain(self, place: Place, offset: int, index: int, *, known: int, found: int) -> None:
        if known != found:
            raise CorruptData(
                place.path, offset, f"entry {index} is of term {found} here, and of term {known} where it came from"
            )


def rebuild(
    *,
    base: Place | None,
    archives: Sequence[IDisk],
    target: Target,
    progress: Progress,
) -> Rebuilt:
    """Make a state of the past.

    :param base: the snapshot to begin with; ``None`` for one that lies in the archives, or for nothing where they hold
        the log from its first entry on.
    :param archives: where entries are; none for the snapshot alone.
    :param target: up to where.
    :param progress: told how far it is.
    :raises raftkv.errors.ConfigurationError: what is asked for is not there.
    :raises raftkv.errors.CorruptData: what is there has a gap, or is damaged.
    """
    if not archives:
        if base is None:
            raise ConfigurationError("there is neither a snapshot nor an archive to restore from")
        return _load(base, progress)
    cluster_id: str | None = None
    if base is not None:
        reader = base.open_snapshot()
        reader.close()
        cluster_id = reader.info.cluster_id
    bases = _find_bases(archives) if base is None else []
    entries = find(archives, lambda name: parse_name(name) is not None)
    log = ArchivedLog(entries, [info for info, _place in bases], cluster_id)
    if base is None:
        base = _choose_base(bases, log, target)
    rebuilt = _load(base, progress) if base is not None else Rebuilt(store=Store(), cluster_id=log.cluster_id, term=0)
    _refuse_later(rebuilt, log, target)
    _replay(rebuilt, log, target, progress)
    if target.revision is not None and rebuilt.store.revision != target.revision:
        raise ConfigurationError(
            f"revision {target.revision} is not in the archive: it ends with entry {rebuilt.store.applied_index}, "
            f"revision {rebuilt.store.revision}"
        )
    return rebuilt


def read_snapshot(place: Place, progress: Progress) -> tuple[SnapshotInfo, Store]:
    """Read a snapshot file to its end, with all that it holds.

    :raises raftkv.errors.CorruptData: it does not check out.
    """
    reader = place.open_snapshot()
    restorer = Restorer()
    try:
        for number, chunk in enumerate(reader.chunks(), 1):
            restorer.feed(chunk)
            progress("reading the snapshot", number, reader.info.chunks)
        store = restorer.finish()
    except SnapshotError as error:
        raise CorruptData(place.path, 0, str(error)) from error
    finally:
        reader.close()
    if store.applied_index != reader.info.meta.index:
        raise CorruptData(
            place.path, 0, f"it holds the state of entry {store.applied_index}, and says {reader.info.meta.index}"
        )
    return reader.info, store


def _load(place: Place, progress: Progress) -> Rebuilt:
    info, store = read_snapshot(place, progress)
    return Rebuilt(store=store, cluster_id=info.cluster_id, term=info.meta.term, base=place.path)


def _find_bases(archives: Sequence[IDisk]) -> list[tuple[SnapshotInfo, Place]]:
    """Return the snapshots in the archives whose ends check out."""
    found: list[tuple[SnapshotInfo, Place]] = []
    for place in find(archives, lambda name: _SNAPSHOT_NAME.fullmatch(name) is not None):
        try:
            reader = place.open_snapshot()
        except CorruptData:
            continue  # another one may do; if none does, the entries before are missing, and that is told
        reader.close()
        found.append((reader.info, place))
    return found


def _choose_base(bases: Sequence[tuple[SnapshotInfo, Place]], log: ArchivedLog, target: Target) -> Place | None:
    """Return the latest of the snapshots that is not behind the target, ``None`` to begin with nothing."""
    fitting = [
        (info.meta.index, place)
        for info, place in bases
        if info.cluster_id == log.cluster_id and _is_before(info.meta.index, info.revision, log, target)
    ]
    if not fitting and not log.reaches_back:
        raise ConfigurationError(
            "the archive does not begin with entry 1, and holds no snapshot of what was before that is early enough; "
            "name one"
        )
    return max(fitting, key=lambda found: found[0])[1] if fitting else None


def _is_before(index: int, revision: int, log: ArchivedLog, target: Target) -> bool:
    if target.revision is not None:
        return revision <= target.revision
    if target.time_ms is not None:
        made_ms = log.time_at(index)
        return made_ms is not None and made_ms <= target.time_ms
    return True


def _refuse_later(rebuilt: Rebuilt, log: ArchivedLog, target: Target) -> None:
    """Refuse a snapshot that lies behind the target: nothing can be taken back."""
    if target.revision is not None and rebuilt.store.revision > target.revision:
        raise ConfigurationError(
            f"{rebuilt.base} is of revision {rebuilt.store.revision}, later than {target.revision}; take an older one"
        )
    if target.time_ms is not None and rebuilt.base:
        made_ms = log.time_at(rebuilt.store.applied_index)
        if made_ms is not None and made_ms > target.time_ms:
            raise ConfigurationError(f"{rebuilt.base} is of a later time; take an older one")


def _replay(rebuilt: Rebuilt, log: ArchivedLog, target: Target, progress: Progress) -> None:
    store = rebuilt.store
    is_known_to_follow = target.time_ms is None or not rebuilt.base
    if target.revision is not None and store.revision >= target.revision:
        return
    for place, offset, entry in log.entries_behind(store.applied_index, rebuilt.term):
        if entry.kind is EntryKind.COMMANDS:
            made_ms = _time_of(entry, place.path, offset)
            if target.time_ms is not None and made_ms > target.time_ms:
                break
            is_known_to_follow = True
            rebuilt.last_time_ms = made_ms
            if target.revision is None:
                store.apply(entry.index, entry.payload)
            else:
                _apply_part(store, entry, target.revision)
        else:
            store.skip(entry.index)
        rebuilt.term = entry.term
        rebuilt.replayed += 1
        if entry.index % 1024 == 0:
            progress("replaying the archive", entry.index, log.last_index)
        if target.revision is not None and store.revision >= target.revision:
            break
    if not is_known_to_follow and log.time_at(store.applied_index) is None:
        raise ConfigurationError(
            f"nothing in the archive tells that {rebuilt.base} is not later than the time asked for; take an older one"
        )


def _apply_part(store: Store, entry: Entry, revision: int) -> None:
    before = store.revision
    store.apply_up_to(entry.index, entry.payload, revision)
    if store.revision > revision:
        raise ConfigurationError(
            f"revision {revision} lies in the middle of one command, which led from revision {before} to "
            f"{store.revision}; choose one of these"
        )


def _time_of(entry: Entry, path: str, offset: int) -> int:
    try:
        return wall_time_ms(entry.payload)
    except ValueError as error:
        raise CorruptData(path, offset, f"entry {entry.index} cannot be read: {error}") from error


def _by_first(found: tuple[ArchiveInfo, Place]) -> int:
    return found[0].first_index
