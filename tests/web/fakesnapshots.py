"""A node's snapshots in memory, which answer when a test says so."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import Deferred, fail, succeed
from zope.interface import implementer

from raftkv.errors import RaftKVError
from raftkv.interfaces import Consistency, IBackup, IBackups


@implementer(IBackup)
class FakeBackup:
    """A backup of some bytes.

    :ivar reads: what was asked for; each waits in ``waiting`` where ``holds`` is set.
    """

    def __init__(self, data: bytes, *, index: int = 7) -> None:
        self.data = data
        self.facts = {
            "cluster_id": "c1" * 16,
            "index": index,
            "term": 3,
            "revision": 10 * index,
            "bytes": len(data),
            "checksum": f"{index:032x}",
        }
        self.reads: list[tuple[int, int]] = []
        self.holds = False
        self.waiting: list[Deferred[bytes]] = []
        self.refusal: RaftKVError | None = None
        self.closed = 0

    def read(self, offset: int, length: int) -> Deferred[bytes]:
        self.reads.append((offset, length))
        if self.refusal is not None:
            return fail(self.refusal)
        if self.holds:
            self.waiting.append(Deferred())
            return self.waiting[-1]
        return succeed(self.data[offset : offset + length])

    def close(self) -> None:
        self.closed += 1


@implementer(IBackups)
class FakeBackups:
    """The snapshots of a node.

    :ivar asked: what was asked for, in order.
    :ivar backup: the only one there is.
    """

    def __init__(self) -> None:
        self.asked: list[tuple[Any, ...]] = []
        self.backup = FakeBackup(bytes(range(256)) * 1000)
        self.refusal: RaftKVError | None = None

    def take(self, consistency: Consistency) -> Deferred[dict[str, Any]]:
        return self._answer(("take", consistency), self.backup.facts)

    def list(self) -> Deferred[list[dict[str, Any]]]:
        return self._answer(("list",), [self.backup.facts])

    def open(self, consistency: Consistency | None) -> Deferred[IBackup]:
        return self._answer(("open", consistency), self.backup)

    def open_again(self, checksum: str) -> Deferred[IBackup | None]:
        found = self.backup if checksum == self.backup.facts["checksum"] else None
        return self._answer(("again", checksum), found)

    def archive(self) -> Deferred[dict[str, Any]]:
        return self._answer(("archive",), {"archived_index": 12, "lag_bytes": 0, "failure": None})

    def _answer(self, asked: tuple[Any, ...], value: Any) -> Deferred[Any]:
        self.asked.append(asked)
        return succeed(value) if self.refusal is None else fail(self.refusal)
