"""The storage of a simulated node: the real one, with the checkers looking on."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable, Sequence

from twisted.internet.defer import Deferred
from zope.interface import implementer

from raftkv.interfaces import IStorage, Recovered
from raftkv.raft.messages import Entry
from raftkv.raft.ready import Write
from raftkv.testing.checkers import Checkers


@implementer(IStorage)
class WatchedStorage:
    """A node's storage, with the checkers looking on.

    :param counts: counts the readings of the log, and those that came too late.
    """

    def __init__(self, inner: IStorage, name: str, checkers: Checkers, counts: Counter[str]) -> None:
        self._inner = inner
        self._name = name
        self._checkers = checkers
        self._counts = counts
        self.recovered: Recovered | None = None

    def recover(self) -> Recovered:
        """See :class:`IStorage`."""
        self.recovered = self._inner.recover()
        return self.recovered

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        """See :class:`IStorage`."""

        def watched(write_id: int) -> None:
            self._checkers.durable(self._name, write_id)
            durable(write_id)

        self._inner.start(watched, failed)

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        """See :class:`IStorage`."""
        self._checkers.written(self._name, write)
        self._inner.write(write, may_wait=may_wait)

    def read(self, start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        """See :class:`IStorage`."""

        def counted(entries: Sequence[Entry]) -> None:
            self._counts["portions of log read back" if entries else "readings of log that was gone"] += 1
            self._checkers.read_back(self._name, entries)
            done(entries)

        self._inner.read(start, stop, max_bytes, counted)

    def compact(self, index: int) -> None:
        """See :class:`IStorage`."""
        self._inner.compact(index)

    def snapshot_taken(self, index: int) -> None:
        """See :class:`IStorage`."""
        self._inner.snapshot_taken(index)

    def log_bytes(self) -> int:
        """See :class:`IStorage`."""
        return self._inner.log_bytes()

    def log_bytes_behind(self, index: int) -> int:
        """See :class:`IStorage`."""
        return self._inner.log_bytes_behind(index)

    def room_bytes(self) -> int:
        """See :class:`IStorage`."""
        return int(self._inner.room_bytes())

    def stop(self) -> Deferred[None]:
        """See :class:`IStorage`."""
        return self._inner.stop()
