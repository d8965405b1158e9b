"""The archive of a node: committed entries go to files that an operator keeps, before compaction drops them.

Only what is committed goes there, and only what is on this node's own disk, read back from it: nothing in the archive
is ever taken back, and the end of a log that another leader replaces never gets there. A file holds a range of entries,
and appears whole; how it looks is the business of :mod:`raftkv.snapshot.archive`.

**What may go wrong is not the node's own disk.** So an error of the archive stops nothing: it raises an alarm, and the
same is tried again. The log is kept meanwhile, up to a bound; past it the log is cut all the same, and entries are
missing from the archive. They are missing too where a snapshot of the leader's took the place of entries that this node
never had, and in front of the first file where the archive began later than the log. What follows can then be used only
together with a snapshot, so the newest one is copied into the archive before anything else goes there.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from functools import partial
from typing import Any, Final, TypeVar

from twisted.application.service import Service
from twisted.internet.defer import CancelledError, Deferred, ensureDeferred, fail
from twisted.internet.interfaces import IReactorTime
from twisted.internet.task import LoopingCall
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.errors import Conflict, ShuttingDown, StorageError
from raftkv.interfaces import IBatchWorker, IDisk, IStorage
from raftkv.persistence.calls import BlockingCalls
from raftkv.raft.messages import Entry
from raftkv.raft.node import RaftNode
from raftkv.snapshot.archive import ArchiveFolder, ArchiveWriter
from raftkv.snapshot.archiveformat import ArchiveInfo
from raftkv.snapshot.files import SnapshotDirectory

MIB: Final = 1024 * 1024
_PORTION_BYTES: Final = MIB  # of entries that are read, and written, at a time
_RETRY_SECONDS: Final = 10.0
_LONGEST_LOOK_SECONDS: Final = 1.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSettings:
    """How the log is archived.

    :ivar interval_seconds: after how long everything that is committed is in the archive, if that can be written.
    :ivar max_lag_bytes: of log that is kept for the archive; past it compaction waits no longer.
    """

    interval_seconds: float
    max_lag_bytes: int


@dataclass(frozen=True, slots=True, kw_only=True)
class ArchiveSurroundings:
    """The archive of a node's log, as the node meets it.

    :ivar disk: its directory, which is the operator's.
    :ivar worker: runs what blocks on it, apart so that an archive that hangs delays nothing.
    :ivar file_bytes: how large its files are, about; small in tests.
    """

    disk: IDisk
    worker: IBatchWorker
    file_bytes: int = 64 * MIB


class ArchiveGap(Exception):
    """The log does not go on where the archive ends."""


class Archiver(Service):
    """Archives the log of one node.

    :param archive: where entries go; its worker is used by nobody else, and started and stopped here.
    :param cluster_id: of the node.
    :param snapshot_calls: runs what blocks on the folder of snapshots.
    :param may_copy: tells whether snapshots are fit to be copied.
    :param caught_up: told each time that log which was kept for the archive is needed no more.
    :ivar position: up to which entry the archive holds the log; ``None`` as long as nobody has looked.
    :ivar archived_entries: since the start; likewise ``files``, ``failures`` and ``gaps``.
    """

    _log = Logger()

    def __init__(
        self,
        *,
        node: RaftNode,
        storage: IStorage,
        archive: ArchiveSurroundings,
        cluster_id: str,
        directory: SnapshotDirectory,
        snapshot_calls: BlockingCalls,
        clock: IReactorTime,
        settings: ArchiveSettings,
        may_copy: Callable[[], bool],
        caught_up: Callable[[], object],
    ) -> None:
        self.position: int | None = None
        self.archived_entries = 0
        self.files = 0
        self.failures = 0
        self.gaps = 0
        self._node = node
        self._storage = storage
        self._folder = ArchiveFolder(archive.disk, cluster_id=cluster_id, node_id=node.node_id)
        self._file_bytes = archive.file_bytes
        self._directory = directory
        self._calls = BlockingCalls(archive.worker)
        self._snapshot_calls = snapshot_calls
        self._clock = clock
        self._settings = settings
        self._may_copy = may_copy
        self._caught_up = caught_up
        self._needs_base = False
        self._failure = ""  # what went wrong at the last attempt; empty for nothing
        self._holds_back = False  # whether log is kept for the archive alone
        self._was_overrun = False  # whether log has gone that the archive did not have
        self._last_term = 0  # of the entry at ``position``
        self._began = 0.0  # when the last attempt did
        self._complete_since = 0.0  # what was committed by then is in the archive
        self._not_before = 0.0
        self._run: Deferred[Any] | None = None
        self._waiting: list[tuple[int, Deferred[dict[str, Any]]]] = []
        self._looking = LoopingCall(self.look)
        self._looking.clock = clock

    # -- life ----------------------------------------------------------------------------------------------------

    def startService(self) -> None:
        """Start to look."""
        super().startService()
        self._calls.start()
        self._not_before = self._clock.seconds()
        self._complete_since = self._clock.seconds() - self._settings.interval_seconds
        self._looking.start(min(self._settings.interval_seconds / 4, _LONGEST_LOOK_SECONDS), now=False)

    def stopService(self) -> Deferred[None]:
        """Give up what is being written; fires once nothing runs any more."""
        super().stopService()
        if self._looking.running:
            self._looking.stop()
        if self._run is not None:
            self._run.cancel()
        self._answer(Failure(ShuttingDown()))
        return self._calls.stop()

    # -- what others see -----------------------------------------------------------------------------------------

    def alarms(self) -> list[str]:
        """Return the alarms that are raised."""
        raised = {
            "archive_behind": self._was_overrun or self.lag_bytes > self._settings.max_lag_bytes,
            "archive_failed": bool(self._failure),
            "archive_gap": self._needs_base,
        }
        return [name for name, is_raised in raised.items() if is_raised]

    def counters(self) -> dict[str, float]:
        """Return monotonic counts for the metrics."""
        return {
            "archived_entries": self.archived_entries,
            "archive_files": self.files,
            "archive_failures": self.failures,
            "archive_gaps": self.gaps,
        }

    @property
    def lag_bytes(self) -> int:
        """How much log there is that the archive does not have."""
        return self._storage.log_bytes_behind(self.position or 0)

    def facts(self) -> dict[str, Any]:
        """Return how far the archive is, as the HTTP API tells it."""
        return {"archived_index": self.position or 0, "lag_bytes": self.lag_bytes, "failure": self._failure or None}

    def may_forget(self, index: int) -> int:
        """Return up to where the log may go, if its entries up to ``index`` are needed for nothing else."""
        held = self.position or 0
        if index <= held:
            return index
        is_too_much = self.lag_bytes > self._settings.max_lag_bytes
        # A disk that fills up stops the node; a gap in the archive is the lesser evil.
        if is_too_much or self._node.disk_lacks_room:
            self._was_overrun = True
            self._log.error(
                "{node_id}: the log is compacted up to {index}, but the archive has it only up to {held}: {reason}",
                node_id=self._node.node_id,
                reason="more than raft.archiveMaxLag waits for it" if is_too_much else "the disk is nearly full",
                index=index,
                held=held,
                alarm="archive_behind",
            )
            return index
        self._holds_back = True
        return held

    def archive_now(self) -> Deferred[dict[str, Any]]:
        """Archive everything that is committed now, whatever its age; fires with :meth:`facts` once that is done.

        Fails with :exc:`raftkv.errors.Conflict` where the archive cannot be written.
        """
        if not self.running:
            return fail(ShuttingDown())
        done: Deferred[dict[str, Any]] = Deferred()
        self._waiting.append((self._target, done))
        self._not_before = self._clock.seconds()
        self.look()
        return done

    # -- when ----------------------------------------------------------------------------------------------------

    @property
    def _target(self) -> int:
        """The last entry that may go: committed, and on our own disk to be read back."""
        return min(self._node.commit_index, self._node.stable_index)

    def look(self) -> None:
        """Archive what is due."""
        now = self._clock.seconds()
        if not self.running or self._run is not None or now < self._not_before:
            return
        if self.position is not None and not self._needs_base:
            if self._target <= self.position:
                self._completed(now)
                return
            is_old = now - self._complete_since >= self._settings.interval_seconds
            is_much = self.lag_bytes >= self._file_bytes
            if not (is_old or is_much or self._waiting):
                return
        self._began = now
        run = self._run = ensureDeferred(self._archive())
        run.addCallbacks(self._succeeded, self._failed)

    def _succeeded(self, _: object) -> None:
        self._run = None
        if self._failure:
            self._log.info("{node_id}: the archive can be written again", node_id=self._node.node_id)
            self._failure = ""
        if self._holds_back:
            self._holds_back = False
            self._caught_up()
        self._was_overrun = False
        self._completed(self._began)
        if self._waiting:  # for what was committed since this attempt began
            self.look()

    def _completed(self, since: float) -> None:
        self._complete_since = since
        position = self.position or 0
        finished = [done for target, done in self._waiting if target <= position]
        self._waiting = [each for each in self._waiting if each[0] > position]
        for done in finished:
            done.callback(self.facts())

    def _failed(self, failure: Failure) -> None:
        self._run = None
        if failure.check(CancelledError, ShuttingDown):
            return
        if not failure.check(StorageError, ArchiveGap):
            self._log.failure("{node_id}: the archive met a fault of ours", failure, node_id=self._node.node_id)
        reason = str(failure.value)
        self.failures += 1
        if reason != self._failure:
            self._log.warn(
                "{node_id}: the log cannot be archived, which is tried again: {reason}",
                node_id=self._node.node_id,
                reason=reason,
            )
        self._failure = reason
        self._not_before = self._clock.seconds() + min(self._settings.interval_seconds, _RETRY_SECONDS)
        self._answer(Failure(Conflict(f"the archive cannot be written: {reason}")))

    def _answer(self, failure: Failure) -> None:
        waiting, self._waiting = self._waiting, []
        for _target, done in waiting:
            done.errback(failure)

    # -- what ----------------------------------------------------------------------------------------------------

    async def _archive(self) -> None:
        """Write files until everything that was committed at the beginning is in the archive."""
        target = self._target
        if self.position is None:
            self._find_position(await self._calls.run(self._folder.last))
        while True:
            self._notice_gap()
            if self._needs_base:
                await self._copy_base()
            if self.position is None or self.position >= target:
                return
            await self._write_file(self.position, target)

    def _find_position(self, last: ArchiveInfo | None) -> None:
        """Go on behind what an earlier life has archived."""
        if last is None:
            self._begin_behind(self._node.first_index - 1)
            self._needs_base = self.position != 0
            return
        term = self._node.term_at(last.last_index)
        if term is not None and term != last.tail.last_term:
            raise ArchiveGap(
                f"{last.name} ends with entry {last.last_index} of term {last.tail.last_term}, which is of term {term} "
                "here: it is the archive of another history"
            )
        self.position, self._last_term = last.last_index, last.tail.last_term

    def _begin_behind(self, index: int) -> None:
        self.position, self._last_term = index, self._node.term_at(index) or 0

    def _notice_gap(self) -> None:
        base_index = self._node.first_index - 1
        if self.position is not None and self.position < base_index:
            self.gaps += 1
            self._log.warn(
                "{node_id}: entries {first} to {last} are not in the log any more, and not in the archive; a snapshot "
                "goes there in their stead",
                node_id=self._node.node_id,
                first=self.position + 1,
                last=base_index,
            )
            self._begin_behind(base_index)
            self._needs_base = True

    async def _copy_base(self) -> None:
        if not self._may_copy():
            raise ArchiveGap("the state of this node is not to be trusted, and so no snapshot of it is archived")
        reader = await self._snapshot_calls.run(self._directory.open_pinned)
        if reader is None:
            raise ArchiveGap("there is no snapshot that can be read, to go into the archive")
        try:
            if reader.info.meta.index < (self.position or 0):
                raise ArchiveGap(f"the newest snapshot that can be read ends at {reader.info.meta.index}")
            await self._calls.run(partial(self._folder.copy_base, reader))
        finally:
            self._snapshot_calls.run(partial(self._directory.unpin, reader)).addErrback(_ignore_stop)
        self._needs_base = False
        self._log.info(
            "{node_id}: the snapshot at index {index} is in the archive",
            node_id=self._node.node_id,
            index=reader.info.meta.index,
        )

    async def _write_file(self, position: int, target: int) -> None:
        known = self._last_term
        if self._node.term_at(position) != known:
            raise ArchiveGap(f"the archive ends with entry {position} of term {known}, which the log does not hold")
        begin = partial(self._folder.begin, first_index=position + 1, previous_term=known)
        writer = await self._calls.run(begin)
        try:
            while writer.last_index < target and writer.raw_bytes < self._file_bytes:
                room = min(_PORTION_BYTES, self._file_bytes - writer.raw_bytes)
                entries = await self._read(writer.last_index + 1, target + 1, room)
                if not entries:
                    break  # the log was cut in between: what has been written is right, and the rest is a gap
                await self._calls.run(partial(writer.write, entries))
            if writer.last_index == position:
                if self._node.first_index <= position + 1:
                    raise ArchiveGap(f"entry {position + 1} cannot be read back from the log")
                self._calls.run(partial(_discard, writer)).addErrback(_ignore_stop)
                return
            info = await self._calls.run(writer.commit)
        except Exception:
            self._calls.run(partial(_discard, writer)).addErrback(_ignore_stop)
            raise
        self.position, self._last_term = info.last_index, info.tail.last_term
        self.files += 1
        self.archived_entries += info.last_index - position
        self._log.debug("{node_id}: archived {file}", node_id=self._node.node_id, file=info.name)

    def _read(self, start: int, stop: int, max_bytes: int) -> Deferred[Sequence[Entry]]:
        read: Deferred[Sequence[Entry]] = Deferred()

        def done(entries: Sequence[Entry]) -> None:
            if not read.called:  # else it was given up
                read.callback(entries)

        self._storage.read(start, stop, max_bytes, done)
        return read


def _discard(writer: ArchiveWriter) -> None:
    """Remove a file that did not become one; where that fails too, the next look at the folder does it."""
    try:
        writer.abort()
    except StorageError:
        return


def _ignore_stop(failure: Failure) -> None:
    failure.trap(ShuttingDown)
