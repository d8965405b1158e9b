"""What the runs need of a contestant: a cluster that is started, asked who leads, and where its doors are."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Final, Protocol

from benchmarks.processes import Server
from benchmarks.works import Work

_MAX_CONNECTIONS: Final = 16
_REQUESTS_OF_A_CONNECTION: Final = 32


class Cluster(Protocol):
    """The servers of one contestant."""

    @property
    def servers(self) -> Sequence[Server]:
        """All of them."""

    def wait_until_ready(self) -> None:
        """Return when there is a leader that every server knows.

        :raises RuntimeError: that takes too long, or a server has ended.
        """

    def leader(self) -> int:
        """Return which server leads."""

    def is_ready(self, which: int) -> bool:
        """Tell whether a server answers, knows a leader and has caught up."""

    def native_address(self, which: int) -> str:
        """Return where a server speaks its own protocol."""

    def http_address(self, which: int) -> str:
        """Return where a server speaks HTTP."""

    def begin_snapshot(self) -> None:
        """Have a snapshot taken on the leader; return when it is begun, or when it is done."""

    def snapshot_is_done(self) -> bool:
        """Tell whether the snapshot that was begun is complete."""

    def end_snapshot(self) -> None:
        """Leave nothing running that takes one; what it has is of no use any more."""


class Peer(Protocol):
    """One contestant.

    :ivar name: as ``--peer`` has it.
    :ivar remark: what must be known to judge its figures; for the table.
    :ivar protocol: of its own clients, among the conversations; empty where only a library speaks it.
    :ivar is_equal: it promises what raftkv does, so that the wanted ratios hold against it.
    """

    name: str
    remark: str
    protocol: str
    is_equal: bool

    def missing(self) -> str:
        """Return what it lacks to run here and where that is had; empty where nothing is missing."""

    def refusal(self, work: Work) -> str:
        """Return why it does not take part in a work; empty where it does."""

    def doors(self, work: Work) -> tuple[str, ...]:
        """Return its HTTP interfaces for a work, each of which is measured.

        Against one that is named retired, which nobody would begin with today, the wanted ratios do not hold.
        """

    def connections(self, work: Work) -> int:
        """Return over how many connections its own protocol is the fastest for so many outstanding."""

    def cluster(self, folder: Path, work: Work, door: str) -> Cluster:
        """Prepare a cluster with its data below a folder; nothing runs yet."""


def several(work: Work) -> int:
    """Return over how many connections a server does best that gains from several: few requests want few."""
    return max(1, min(_MAX_CONNECTIONS, work.outstanding // _REQUESTS_OF_A_CONNECTION))


@contextmanager
def running(cluster: Cluster) -> Iterator[Cluster]:
    """Run a cluster as long as the context lasts; entered once there is a leader."""
    try:
        for server in cluster.servers:
            server.start()
        cluster.wait_until_ready()
        yield cluster
    finally:
        for server in cluster.servers:
            if server.is_running:
                server.kill()  # its data goes away, too
