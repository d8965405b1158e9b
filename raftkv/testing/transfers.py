"""Snapshot files on their way between simulated processes: in chunks, in virtual time, cut in the middle at times.

Both ends are the node's own (:class:`~raftkv.protocols.snapshots.ISnapshotSource` and ``ISnapshotSink``); only the
conversation between them is simulated here.
"""

from __future__ import annotations

from collections.abc import Callable
from functools import partial
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from raftkv.errors import RaftKVError, StorageError
from raftkv.protocols.snapshots import ISnapshotFile
from raftkv.raft.messages import InstallSnapshot, SnapshotMeta
from raftkv.testing.network import Process, SimulatedNetwork

CHUNK_BYTES: Final = 512  # small, so that the snapshots of a simulation take several
SILENCE_SECONDS: Final = 3.0
FAILURE_SECONDS: Final = 0.5  #: until the core hears that there was no snapshot to send


def send_snapshot(network: SimulatedNetwork, process: Process, peer: str) -> None:
    """Send a process's newest snapshot to a peer, and tell it what became of that."""

    def opened(file: ISnapshotFile | None) -> None:
        if file is not None:
            _Transfer(network, process, peer, file).begin()
        elif process.receiver is not None:
            receiver = process.receiver
            network.clock.callLater(FAILURE_SECONDS, process.clock.run, lambda: receiver.snapshot_sent(peer, 0, False))

    def not_opened(failure: Failure) -> None:
        failure.trap(RaftKVError, StorageError)  # the node stops, or was stopping

    if process.source is not None:
        opening: Deferred[ISnapshotFile | None] = process.source.newest()
        opening.addCallbacks(opened, not_opened)


class _Transfer:
    """One file on its way. Every step belongs to one of the two processes and is taken only while both can talk."""

    def __init__(self, network: SimulatedNetwork, origin: Process, peer: str, file: ISnapshotFile) -> None:
        self._network = network
        self._origin = origin
        self._peer = peer
        self._file = file
        self._term = origin.current_term()
        self._target: Process | None = None
        self._generations = self._read_generations()
        self._ended = False
        self._receiving = False
        self._steps = 0

    def begin(self) -> None:
        self._hop(self._offer, arriving=True)
        self._watch(0)

    # -- at the receiver -----------------------------------------------------------------------------------------

    def _offer(self) -> None:
        target = self._target
        if target is None or target.sink is None:
            self._break()
            return
        if target.incoming is not None:
            target.incoming()  # a newer transfer takes the place of the one before
        target.incoming = self._break
        self._receiving = True
        begun: Deferred[int] = target.sink.begin(self._file.meta, self._file.size, self._file.digest)
        begun.addCallbacks(self._accepted, self._refused)

    def _accepted(self, offset: int) -> None:
        self._hop(partial(self._send_chunk, offset), arriving=False)

    def _refused(self, failure: Failure) -> None:
        self._receiving = False
        failure.trap(RaftKVError, StorageError)
        self._break()

    def _write(self, offset: int, data: bytes) -> None:
        sink = self._target.sink if self._target is not None else None
        if sink is not None and self._receiving:
            written: Deferred[None] = sink.write(offset, data)
            written.addCallbacks(lambda _: self._accepted(offset + len(data)), self._refused)

    def _finish(self) -> None:
        target = self._target
        if target is None or target.sink is None or not self._receiving:
            return
        self._receiving = False  # from here on it is finished, whatever becomes of the connection
        finished: Deferred[SnapshotMeta] = target.sink.finish()
        finished.addCallbacks(partial(self._installed, target), self._refused)

    def _installed(self, target: Process, meta: SnapshotMeta) -> None:
        self._network.counts["snapshots"] += 1
        self._network.trace.note(f"snapshot {self._peer} has {meta.index} of {meta.term}")
        if target.receiver is not None:
            sender = self._origin.identity.node_id
            target.receiver.received(
                [InstallSnapshot(term=self._term, sender=sender, to=self._peer, snapshot=meta)],
            )
        self._hop(partial(self._report, True), arriving=False)

    # -- at the sender -------------------------------------------------------------------------------------------

    def _send_chunk(self, offset: int) -> None:
        if offset >= self._file.size:
            self._hop(self._finish, arriving=True)
            return
        reading: Deferred[bytes] = self._file.read(offset, min(CHUNK_BYTES, self._file.size - offset))
        reading.addCallbacks(lambda data: self._hop(partial(self._write, offset, data), arriving=True), self._unread)

    def _unread(self, failure: Failure) -> None:
        failure.trap(RaftKVError, StorageError, OSError)
        self._break()

    def _report(self, delivered: bool) -> None:
        self._ended = True
        self._file.close()
        if self._origin.receiver is not None:
            self._origin.receiver.snapshot_sent(self._peer, self._file.meta.index, delivered)

    # -- the way -------------------------------------------------------------------------------------------------

    def _hop(self, step: Callable[[], Any], *, arriving: bool) -> None:
        """Let the next step happen at the other side, if it can be reached."""
        self._network.clock.callLater(self._network.delay(), self._arrive, step, arriving)

    def _arrive(self, step: Callable[[], Any], arriving: bool) -> None:
        if self._ended:
            return
        self._steps += 1
        if arriving and self._target is None:
            self._target = self._network.processes.get(self._peer)
        if not self._can_talk():
            self._break()
            return
        process = self._target if arriving else self._origin
        if process is not None:
            process.clock.run(lambda: None if self._ended else step())

    def _can_talk(self) -> bool:
        one, other = self._origin.identity.node_id, self._peer
        return (
            not self._origin.clock.is_dead
            and self._target is not None
            and not self._target.clock.is_dead
            and not self._network.is_blocked(one, other)
            and not self._network.is_blocked(other, one)
            and self._generations == self._read_generations()
        )

    def _read_generations(self) -> tuple[int, int]:
        one, other = self._origin.identity.node_id, self._peer
        return self._network.generation(one, other), self._network.generation(other, one)

    def _watch(self, steps_before: int) -> None:
        """End a transfer that has not gone on for a while."""
        if not self._ended:
            if self._steps == steps_before and self._steps:
                self._break()
            else:
                self._network.clock.callLater(SILENCE_SECONDS, self._watch, self._steps)

    def _break(self) -> None:
        """The connection is gone; both sides notice, if they live."""
        if self._ended:
            return
        self._ended = True
        network, target = self._network, self._target
        network.counts["cut snapshots"] += self._receiving  # else it had not begun
        if target is not None:
            network.clock.callLater(0, target.clock.run, partial(self._abort, target))
        network.clock.callLater(network.notice_delay(), self._origin.clock.run, partial(self._report, False))

    def _abort(self, target: Process) -> None:
        if self._receiving and target.sink is not None:
            self._receiving = False
            target.sink.abort()
