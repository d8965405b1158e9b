"""Snapshots on their way to other members: at most one to each, every one with a reported end.

Knows which transfers run; a transfer's conversation belongs to ``snapshots``. A failure is reported only after a
short wait: the core asks again at once, and a member that refuses connections would be dialed without end.
"""

from __future__ import annotations

from collections.abc import Callable

from twisted.internet.defer import Deferred, maybeDeferred, succeed
from twisted.internet.interfaces import IDelayedCall, IProtocol, IReactorTime, IStreamClientEndpoint
from twisted.logger import Logger
from twisted.python.failure import Failure

from raftkv.interfaces import Identity
from raftkv.protocols.connecting import ProtocolFactory
from raftkv.protocols.framing import FrameLimits
from raftkv.protocols.snapshots import ISnapshotFile, ISnapshotSource, SnapshotSender, TransferSettings
from raftkv.protocols.warnings import RateLimitedLog


class OutgoingSnapshots:
    """The transfers that this node makes as a leader."""

    _log = Logger()

    def __init__(
        self,
        *,
        identity: Identity,
        source: ISnapshotSource,
        current_term: Callable[[], int],
        ended: Callable[[str, int, bool], None],
        clock: IReactorTime,
        limits: FrameLimits,
        settings: TransferSettings,
        warnings: RateLimitedLog,
        failure_wait_seconds: float = 0.5,
    ) -> None:
        """Take what is needed.

        :param ended: called once for each :meth:`send` that was not a repetition, with the member, the index of the
            snapshot (0 where there was none) and whether the member has installed it.
        :param failure_wait_seconds: from a failure to the call of ``ended``.
        """
        self._identity = identity
        self._source = source
        self._current_term = current_term
        self._ended = ended
        self._clock = clock
        self._limits = limits
        self._settings = settings
        self._warnings = warnings
        self._failure_wait_seconds = failure_wait_seconds
        self._peers: set[str] = set()
        self._attempts: dict[str, Deferred[IProtocol]] = {}
        self._senders: dict[str, SnapshotSender] = {}
        self._timers: dict[str, IDelayedCall] = {}
        self._stop_waiters: list[Deferred[None]] = []

    def send(self, peer: str, endpoint: IStreamClientEndpoint | None) -> None:
        """Send the newest snapshot to a member, unless a transfer to it is under way already.

        :param endpoint: where the member is; ``None`` where that is not known.
        """
        if peer in self._peers:
            return
        self._peers.add(peer)
        if endpoint is None:
            self._fail(peer, 0)
            return
        opening = maybeDeferred(self._source.newest)
        opening.addCallbacks(self._opened, self._not_opened, callbackArgs=(peer, endpoint), errbackArgs=(peer,))

    def _opened(self, file: ISnapshotFile | None, peer: str, endpoint: IStreamClientEndpoint) -> None:
        if file is not None and not self._stop_waiters:
            self._dial(peer, endpoint, file)
            return
        if file is not None:
            file.close()
        self._fail(peer, 0)

    def _not_opened(self, failure: Failure, peer: str) -> None:
        self._warnings.warn("there is no snapshot for {peer}: {reason}", peer=peer, reason=failure.getErrorMessage())
        self._fail(peer, 0)

    def stop(self) -> Deferred[None]:
        """Cut every transfer, and fire once nothing is left; their ends are not reported."""
        for timer in self._timers.values():
            timer.cancel()
        self._peers.difference_update(self._timers)
        self._timers.clear()
        for attempt in list(self._attempts.values()):
            attempt.cancel()
        for sender in list(self._senders.values()):
            sender.abort()
        if not self._peers:
            return succeed(None)
        stopped: Deferred[None] = Deferred()
        self._stop_waiters.append(stopped)
        return stopped

    def _dial(self, peer: str, endpoint: IStreamClientEndpoint, file: ISnapshotFile) -> None:
        index = file.meta.index

        def build() -> SnapshotSender:
            sender = self._senders[peer] = SnapshotSender(
                peer=peer,
                term=self._current_term(),
                file=file,
                settings=self._settings,
                done=over,
                identity=self._identity,
                clock=self._clock,
                limits=self._limits,
                warnings=self._warnings,
            )
            return sender

        def over(installed: bool) -> None:
            file.close()
            self._senders.pop(peer, None)
            if installed:
                self._log.info("{peer} has installed the snapshot at index {index}", peer=peer, index=index)
                self._end(peer, index, installed=True)
            else:
                self._fail(peer, index)

        def connected(_: IProtocol) -> None:
            self._attempts.pop(peer, None)

        def not_connected(failure: Failure) -> None:
            self._attempts.pop(peer, None)
            self._warnings.warn(
                "cannot reach {peer} with a snapshot: {reason}", peer=peer, reason=failure.getErrorMessage()
            )
            over(False)

        self._log.info("sending the snapshot at index {index} to {peer}", peer=peer, index=index)
        attempt = self._attempts[peer] = endpoint.connect(ProtocolFactory(build))
        attempt.addCallbacks(connected, not_connected)

    def _fail(self, peer: str, index: int) -> None:
        if self._stop_waiters:
            self._end(peer, index, installed=False)
        else:
            self._timers[peer] = self._clock.callLater(
                self._failure_wait_seconds, self._end, peer, index, installed=False
            )

    def _end(self, peer: str, index: int, *, installed: bool) -> None:
        self._timers.pop(peer, None)
        self._peers.discard(peer)
        if not self._stop_waiters:
            self._ended(peer, index, installed)
        elif not self._peers:
            waiters, self._stop_waiters = self._stop_waiters, []
            for waiter in waiters:
                waiter.callback(None)
