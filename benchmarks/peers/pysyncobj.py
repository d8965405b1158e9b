"""PySyncObj with its default settings: Raft in Python, in memory only."""

from __future__ import annotations

import importlib.util
import sys
from pathlib import Path

from benchmarks.processes import Server, free_ports, wait_until
from benchmarks.works import Work


class PySyncObj:
    """The other one in Python."""

    name = "pysyncobj"
    remark = "keeps everything in memory and never syncs: what it acknowledges a power failure takes away"
    protocol = ""
    is_equal = False

    def missing(self) -> str:
        """Look for the library."""
        return "" if importlib.util.find_spec("pysyncobj") else "no pysyncobj: pip install 'raftkv[bench]'"

    def refusal(self, work: Work) -> str:
        """Say what it has nothing for."""
        if work.kind == "http":
            return "speaks no HTTP"
        if work.operation != "put":
            return "reads only its own copy, which may be old"
        if work.kind in ("failover", "footprint", "snapshot"):
            return "is a library without a server whose restart or failover could be compared"
        if work.preloaded:
            return "its client takes minutes to write so many keys beforehand"
        return ""

    def doors(self, work: Work) -> tuple[str, ...]:
        """It speaks no HTTP."""
        return ()

    def connections(self, work: Work) -> int:
        """Its observer has one to each member."""
        return 1

    def cluster(self, folder: Path, work: Work, door: str) -> PySyncObjCluster:
        """Choose the ports."""
        return PySyncObjCluster(folder, work.nodes)


class PySyncObjCluster:
    """Processes with one member each."""

    def __init__(self, folder: Path, nodes: int) -> None:
        self._addresses = [f"127.0.0.1:{port}" for port in free_ports(nodes)]
        self._logs = [folder / f"member{number}.log" for number in range(nodes)]
        self.servers = [self._server(number) for number in range(nodes)]

    def _server(self, number: int) -> Server:
        me = self._addresses[number]
        others = [address for address in self._addresses if address != me]
        command = [sys.executable, "-m", "benchmarks.peers.pysyncobj_server", me, *others]
        return Server(f"member{number}", command, self._logs[number])

    def _known_leader(self, which: int) -> str:
        lines = self._logs[which].read_text().split() if self._logs[which].exists() else []
        return lines[-1] if lines else "None"

    def wait_until_ready(self) -> None:
        """Wait for one leader whom all know."""

        def all_agree() -> bool:
            leaders = {self._known_leader(which) for which in range(len(self.servers))}
            return len(leaders) == 1 and leaders < set(self._addresses)

        wait_until("a leader of PySyncObj", all_agree, self.servers)

    def leader(self) -> int:
        """Return whom the first member names."""
        return self._addresses.index(self._known_leader(0))

    def is_ready(self, which: int) -> bool:
        """Tell whether it knows a leader."""
        return self._known_leader(which) in self._addresses

    def native_address(self, which: int) -> str:
        """Where the member is."""
        return self._addresses[which]

    def http_address(self, which: int) -> str:
        """It has none."""
        raise RuntimeError("PySyncObj speaks no HTTP")

    def begin_snapshot(self) -> None:
        """It takes no part in this."""
        raise RuntimeError("PySyncObj takes no part in this")

    def snapshot_is_done(self) -> bool:
        """It takes no part in this."""
        raise RuntimeError("PySyncObj takes no part in this")

    def end_snapshot(self) -> None:
        """It takes no part in this."""
