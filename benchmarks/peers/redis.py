"""A single Redis that syncs its log before it answers: no replication, hence not the same promise."""

from __future__ import annotations

import shutil
from pathlib import Path

from benchmarks.peers.cluster import several
from benchmarks.processes import Server, free_ports, wait_until
from benchmarks.works import Work
from raftkv.bench.link import connect


class Redis:
    """The one without consensus."""

    name = "redis"
    remark = "one server without any replication, appendfsync always"
    protocol = "resp"
    is_equal = False

    def missing(self) -> str:
        """Look for the server."""
        return "" if shutil.which("redis-server") else "no redis-server: Debian's package redis-server has it"

    def refusal(self, work: Work) -> str:
        """Say what it has nothing for."""
        if work.kind == "http":
            return "speaks no HTTP"
        if work.kind == "client":
            return "no client of it in Python is measured"
        if work.kind in ("failover", "snapshot"):
            return "one server alone has nothing of this kind"
        return ""

    def doors(self, work: Work) -> tuple[str, ...]:
        """It speaks no HTTP."""
        return ()

    def connections(self, work: Work) -> int:
        """Several where much is outstanding: its loop syncs once for all connections that had something to say."""
        return several(work)

    def cluster(self, folder: Path, work: Work, door: str) -> RedisServer:
        """Choose the port."""
        return RedisServer(folder)


class RedisServer:
    """One server."""

    def __init__(self, folder: Path) -> None:
        (port,) = free_ports(1)
        self._address = f"127.0.0.1:{port}"
        options = {"port": str(port), "dir": str(folder), "appendonly": "yes", "appendfsync": "always", "save": ""}
        command = ["redis-server", *(part for name, value in options.items() for part in (f"--{name}", value))]
        self.servers = [Server("redis", command, folder / "redis.log")]

    def wait_until_ready(self) -> None:
        """Wait until it answers."""
        wait_until("redis", lambda: self.is_ready(0), self.servers)

    def leader(self) -> int:
        """There is only one."""
        return 0

    def is_ready(self, which: int) -> bool:
        """Ask for a sign of life, which it refuses to give while it loads."""
        try:
            with connect(self._address) as asked:
                asked.settimeout(1)
                asked.sendall(b"PING\r\n")
                return asked.recv(64).startswith(b"+PONG")
        except OSError:
            return False

    def native_address(self, which: int) -> str:
        """Its port."""
        return self._address

    def http_address(self, which: int) -> str:
        """It has none."""
        raise RuntimeError("redis speaks no HTTP")

    def begin_snapshot(self) -> None:
        """It takes no part in this."""
        raise RuntimeError("redis takes no part in this")

    def snapshot_is_done(self) -> bool:
        """It takes no part in this."""
        raise RuntimeError("redis takes no part in this")

    def end_snapshot(self) -> None:
        """It takes no part in this."""
