"""Durability as the driver sees it: writes go in, and are reported once they are on the medium.

What has gathered while the disk was busy is carried out together (group commit, thesis 10.2.1), by the worker: the
hard state, if it changed, with a sync of its own; then the records of all writes with one sync of the log; then what
compaction removes. The hard state goes first, the newest of the gathered ones: no entry is ever on the medium whose
term is not (B3), and a term or vote that is there earlier than entries which came before it promises nothing that was
said to anybody, for nothing is said before its write is reported. An ordinary append costs one sync.

After an error nothing more is written, and no sync is repeated (B43): what the medium holds is then unknown.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from twisted.internet.defer import Deferred, gatherResults
from zope.interface import implementer

from raftkv.errors import CorruptData, DamagedLog, InvariantViolation
from raftkv.interfaces import IBatchWorker, IDisk, IStorage, Recovered
from raftkv.persistence.hardstate import HARD_STATE_FILE, HardStateFile
from raftkv.persistence.loading import LoadedLog, LogSizes, bytes_of
from raftkv.persistence.log import LOG_FOLDER, LogSettings, Progress, SegmentedLog, size_bound
from raftkv.persistence.meta import Meta
from raftkv.persistence.segment import log_identity
from raftkv.raft.messages import Entry, HardState, SnapshotMeta
from raftkv.raft.ready import Write
from raftkv.raft.terms import OnDisk

_WAITED_FOR_BYTES: Final = 256 * 1024  # more than that is no short pause, however quick the disk is


@dataclass(frozen=True, slots=True)
class _Compact:
    """A request to the worker: entries through ``index`` are not needed."""

    index: int


@dataclass(frozen=True, slots=True)
class _Close:
    """The last request to the worker."""


@dataclass(frozen=True, slots=True)
class _Read:
    """A request to the reader, and what became of it."""

    start: int
    stop: int
    max_bytes: int
    done: Callable[[Sequence[Entry]], None]
    found: list[Entry] = field(default_factory=list)


@implementer(IStorage)
class Storage:
    """The durable log and hard state of one node.

    :param disk: the data directory, which :func:`~raftkv.persistence.directory.open_directory` has made.
    :param worker: runs everything that blocks, but for :meth:`recover` and what the reader does.
    :param reader: reads entries back, apart so that it delays no write.
    :param meta: whose directory it is.
    :param newest_snapshot: returns the meta of the newest readable snapshot, or ``None``; blocks, called in
        :meth:`recover` only.
    :param settings: of the log.
    :param progress: called while recovering with bytes read and bytes in all.
    :param make_room: see :class:`~raftkv.persistence.log.SegmentedLog`.
    """

    def __init__(
        self,
        disk: IDisk,
        worker: IBatchWorker,
        reader: IBatchWorker,
        *,
        meta: Meta,
        newest_snapshot: Callable[[], SnapshotMeta | None],
        settings: LogSettings,
        progress: Progress,
        make_room: Callable[[int], bool] = lambda log_bytes: False,
    ) -> None:
        self._disk = disk
        self._make_room = make_room
        self._queued_bytes = 0  # of entries that the worker was given and has not reported
        self._worker = worker
        self._reader = reader
        self._identity = log_identity(meta.log_cluster_id or meta.cluster_id, meta.log_incarnation or meta.incarnation)
        self._newest_snapshot = newest_snapshot
        self._settings = settings
        self._progress = progress
        self._hard_state: HardStateFile | None = None
        self._log: SegmentedLog | None = None
        self._sizes = LogSizes(0)
        self._running = False
        self._durable: Callable[[int], None] = _not_started
        self._failed: Callable[[BaseException], None] = _not_started

    # -- recovery ----------------------------------------------------------------------------------------------------

    def recover(self) -> Recovered:
        """See :meth:`raftkv.interfaces.IStorage.recover`.

        A snapshot that had been installed before the log heard of it (a crash in between) takes effect here.
        """
        try:
            return self._recover()
        except BaseException:
            self._close_files(None)
            raise

    def _recover(self) -> Recovered:
        self._hard_state = HardStateFile(self._disk)
        self._log = log = SegmentedLog(self._disk, self._identity, self._settings, make_room=self._make_room)
        loaded = log.recover(self._progress, durable_batch=self._hard_state.newest.log_batch)
        self._check_hard_state(self._hard_state, log)
        snapshot = self._newest_snapshot()
        if snapshot is None:
            if log.base_index > 0:
                raise DamagedLog(
                    f"{self._disk.root}/{LOG_FOLDER}",
                    0,
                    f"the log begins behind entry {log.base_index}, and no snapshot of what was before can be read",
                )
        else:
            self._reconcile(self._hard_state, log, loaded, snapshot)
        entries = loaded.entries
        self._sizes = loaded.sizes
        self._sizes.snapshot_index = 0 if snapshot is None else snapshot.index
        return Recovered(
            hard_state=self._hard_state.newest.hard_state,
            snapshot=snapshot,
            entries=entries,
            first_previous_term=(log.term_at(entries[0].index - 1) or 0) if entries else log.terms.last_term,
            on_disk=_on_disk(log, loaded, entries),
            lost_term=log.lost_term,
            is_new=self._hard_state.newest.hard_state == HardState() and snapshot is None and log.last_batch == 0,
        )

    def _check_hard_state(self, hard_state: HardStateFile, log: SegmentedLog) -> None:
        """Refuse a hard state and a log of which one is older than the other can be after a crash (B3)."""
        newest = hard_state.newest
        last_term = log.term_at(log.last_index) or 0
        if last_term > newest.hard_state.term:
            raise CorruptData(
                f"{self._disk.root}/{HARD_STATE_FILE}",
                0,
                f"the hard state is of term {newest.hard_state.term}, but the log has an entry of term {last_term}",
            )
        if newest.log_batch > log.last_batch:
            raise DamagedLog(
                f"{self._disk.root}/{LOG_FOLDER}",
                0,
                f"the log ends with batch {log.last_batch}, but batch {newest.log_batch} had been written: "
                "its end has been lost",
            )

    def _reconcile(
        self, hard_state: HardStateFile, log: SegmentedLog, loaded: LoadedLog, snapshot: SnapshotMeta
    ) -> None:
        """Make log and hard state agree with the snapshot (B45)."""
        if log.base_index > snapshot.index or (log.base_index == snapshot.index and log.base_term != snapshot.term):
            raise DamagedLog(
                f"{self._disk.root}/{LOG_FOLDER}",
                0,
                f"the log begins behind entry {log.base_index} of term {log.base_term}, but the newest readable "
                f"snapshot ends at entry {snapshot.index} of term {snapshot.term}",
            )
        current = hard_state.newest.hard_state
        if snapshot.term > current.term:
            # The snapshot of a later leader is here, what we heard of its term is not: we have voted for nobody in it.
            hard_state.store(HardState(term=snapshot.term), log_batch=log.last_batch)
        if log.term_at(snapshot.index) != snapshot.term:
            log.install_snapshot(snapshot.index, snapshot.term)
            log.commit()
            loaded.begin_behind(snapshot.index)

    # -- the reactor's side ------------------------------------------------------------------------------------------

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        """See :meth:`raftkv.interfaces.IStorage.start`."""
        if self._log is None:
            raise InvariantViolation("storage was started before it was recovered")
        self._durable, self._failed = durable, failed
        self._running = True
        self._worker.start(self._process, self._processed)
        self._reader.start(self._read_back, self._read)

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        """See :meth:`raftkv.interfaces.IStorage.write`."""
        here = may_wait and write.only_appends and self._is_small(bytes_of(write.entries))
        if write.snapshot is not None:
            self._sizes.snapshot_index = write.snapshot.index
            if write.snapshot.index > self._sizes.last_index:
                self._sizes.begin_behind(write.snapshot.index)
        if write.entries:
            self._queued_bytes += self._with_segments(write.entries, self._sizes.append(write.entries))
        self._submit(write, here=here)

    def read(self, start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        """See :meth:`raftkv.interfaces.IStorage.read`."""
        if not self._running:
            raise InvariantViolation("storage got something to read while it was not running")
        self._reader.submit(_Read(start, stop, max_bytes, done))

    def compact(self, index: int) -> None:
        """See :meth:`raftkv.interfaces.IStorage.compact`."""
        self._sizes.forget_through(index)
        self._submit(_Compact(index))

    def snapshot_taken(self, index: int) -> None:
        """See :meth:`raftkv.interfaces.IStorage.snapshot_taken`."""
        self._sizes.snapshot_index = max(index, self._sizes.snapshot_index)

    def log_bytes(self) -> int:
        """See :meth:`raftkv.interfaces.IStorage.log_bytes`."""
        return self._sizes.behind_snapshot()

    def log_bytes_behind(self, index: int) -> int:
        """See :meth:`raftkv.interfaces.IStorage.log_bytes_behind`."""
        return self._sizes.behind(index)

    def room_bytes(self) -> int:
        """See :meth:`raftkv.interfaces.IStorage.room_bytes`."""
        # The queue first: a look asks in a thread of its own, and what is written and reported in between is then taken
        # off twice, for a moment, rather than promised again.
        log, queued_bytes = self._log, self._queued_bytes
        return 0 if log is None else log.room_bytes - queued_bytes

    def stop(self) -> Deferred[None]:
        """See :meth:`raftkv.interfaces.IStorage.stop`."""
        if self._running:
            self._submit(_Close())
            self._running = False
        stopped = gatherResults([self._worker.stop(), self._reader.stop()])
        return stopped.addCallback(self._close_files)

    def _is_small(self, size_bytes: int) -> bool:
        """Tell whether to write so much is one short sync: not what may need another segment, a new file and its syncs.

        What a record takes beside its payload is known exactly only when it is made; it never doubles it.
        """
        most_bytes = min(_WAITED_FOR_BYTES, self._settings.max_batch_bytes // 2)
        return size_bytes <= most_bytes and 2 * size_bytes < self.room_bytes()

    def _with_segments(self, entries: Sequence[Entry], size_bytes: int) -> int:
        """Return what entries take, and for each that gets a segment of its own what that and the one before it are
        larger by.

        :param size_bytes: of all of them.
        """
        most_bytes = self._settings.max_batch_bytes
        if size_bytes <= most_bytes // 2:  # as nearly always
            return size_bytes
        large = sum(size_bound(len(entry.payload)) > most_bytes for entry in entries)
        return size_bytes + large * 2 * self._settings.segment_bytes

    def _submit(self, item: Any, *, here: bool = False) -> None:
        if not self._running:
            raise InvariantViolation("storage got something to do while it was not running")
        self._worker.submit(item, here=here)

    def _processed(self, items: list[Any], error: BaseException | None) -> None:
        if error is not None:
            self._failed(error)
            return
        write_id = None
        for item in items:
            if type(item) is Write:
                write_id = item.write_id
                self._queued_bytes -= self._with_segments(item.entries, bytes_of(item.entries))
        if write_id is not None:
            self._durable(write_id)

    def _read(self, items: list[_Read], error: BaseException | None) -> None:
        if error is not None:
            self._failed(error)
            return
        for item in items:
            item.done(item.found)

    def _close_files(self, _stopped: object) -> None:
        if self._log is not None:
            self._log.close()
        if self._hard_state is not None:
            self._hard_state.close()
        self._log = self._hard_state = None

    # -- the reader's side -------------------------------------------------------------------------------------------

    def _read_back(self, items: list[_Read]) -> None:
        log = self._log
        if log is None:
            raise InvariantViolation("storage is not open")
        for item in items:
            item.found.extend(log.reader.read(item.start, item.stop, item.max_bytes))

    # -- the worker's side -------------------------------------------------------------------------------------------

    def _process(self, items: list[Any]) -> None:
        hard_state, log = self._hard_state, self._log
        if hard_state is None or log is None:
            raise InvariantViolation("storage is not open")
        if len(items) == 1 and type(items[0]) is Write and items[0].only_appends:
            log.append(items[0].entries)  # as nearly always
            log.commit()
            return
        writes = [item for item in items if isinstance(item, Write)]
        changed = [write.hard_state for write in writes if write.hard_state is not None]
        if changed and changed[-1] != hard_state.newest.hard_state:
            hard_state.store(changed[-1], log_batch=log.last_batch)
        for write in writes:
            if write.snapshot is not None:
                log.install_snapshot(write.snapshot.index, write.snapshot.term)
            if write.entries:
                log.append(write.entries)
        log.commit()
        compacted = [item.index for item in items if isinstance(item, _Compact)]
        compacted += [write.snapshot.index for write in writes if write.snapshot is not None]
        if compacted:
            log.compact(max(compacted))
        if any(isinstance(item, _Close) for item in items) and hard_state.newest.log_batch != log.last_batch:
            # After a clean stop the end of the log is known, and a start can tell if some of it has been lost.
            hard_state.store(hard_state.newest.hard_state, log_batch=log.last_batch)


def _on_disk(log: SegmentedLog, loaded: LoadedLog, entries: Sequence[Entry]) -> OnDisk | None:
    """Return what has to be known of the entries that were not loaded, ``None`` where there are none."""
    first_index = entries[0].index if entries else log.last_index + 1
    if first_index == log.base_index + 1:
        return None
    terms = log.terms.copy()
    if first_index <= log.last_index:
        terms.truncate_from(first_index)
    configurations = [entry for entry in loaded.configurations if entry.index < first_index]
    return OnDisk(terms=terms, configurations=configurations)


def _not_started(_value: Any) -> None:
    raise InvariantViolation("storage reported something before it was started")
