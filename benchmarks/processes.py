"""A server as a child process: started, looked at from outside, ended.

Processor time and memory come from ``/proc``, for any server alike, whatever language it is written in.
"""

from __future__ import annotations

import os
import socket
import subprocess
import time
import urllib.error
import urllib.request
from collections.abc import Callable, Mapping, Sequence
from pathlib import Path

_TICKS_PER_SECOND = os.sysconf("SC_CLK_TCK")


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports: list[int] = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


class Server:
    """One server.

    :param name: what it is called in messages.
    :param command: what to run.
    :param log: where what it prints goes.
    """

    def __init__(
        self, name: str, command: Sequence[str], log: Path, environment: Mapping[str, str] | None = None
    ) -> None:
        self.name = name
        self._command = list(command)
        self._log = log
        self._environment = {**os.environ, **(environment or {})}
        # Whoever installs a package has its bytecode; a checkout that may have none would be compiled at each start.
        self._environment.pop("PYTHONDONTWRITEBYTECODE", None)
        self._process: subprocess.Popen[bytes] | None = None

    def start(self) -> None:
        """Start it, or start it again."""
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                self._command,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=subprocess.STDOUT,
                env=self._environment,
                start_new_session=True,  # Ctrl-C is for the benchmark, which then ends its servers in order
            )

    @property
    def pid(self) -> int:
        """Its process; it must have been started."""
        if self._process is None:
            raise RuntimeError(f"{self.name} has not been started")
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it has been started and has not ended."""
        return self._process is not None and self._process.poll() is None

    def stop(self, limit_seconds: float = 20.0) -> None:
        """Ask it to end, and wait; what does not listen is killed."""
        if self._process is None:
            return
        self._process.terminate()
        try:
            self._process.wait(limit_seconds)
        except subprocess.TimeoutExpired:
            self.kill()

    def kill(self) -> None:
        """End it at once (kill -9)."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()

    def cpu_seconds(self) -> float:
        """Return the processor time of all its threads so far; 0 where it is gone."""
        try:
            stat = Path(f"/proc/{self.pid}/stat").read_text()
        except (OSError, RuntimeError):
            return 0.0
        user, system = stat.rpartition(")")[2].split()[11:13]
        return (int(user) + int(system)) / _TICKS_PER_SECOND

    def memory_bytes(self) -> int:
        """Return its resident memory; 0 where it is gone."""
        try:
            status = Path(f"/proc/{self.pid}/status").read_text()
        except (OSError, RuntimeError):
            return 0
        for line in status.splitlines():
            if line.startswith("VmRSS:"):
                return int(line.split()[1]) * 1024
        return 0

    def last_words(self) -> str:
        """Return the end of what it printed."""
        try:
            return self._log.read_text(errors="replace")[-400:].strip()
        except OSError:
            return ""


def wait_until(what: str, holds: Callable[[], bool], servers: Sequence[Server], limit_seconds: float = 60.0) -> float:
    """Wait until something holds; return how many seconds that took.

    :raises RuntimeError: it takes too long, or one of the servers has ended meanwhile.
    """
    began = time.monotonic()
    while not holds():
        for server in servers:
            if not server.is_running:
                raise RuntimeError(f"{server.name} has ended: {server.last_words()}")
        if time.monotonic() - began > limit_seconds:
            raise RuntimeError(f"{what}: not within {limit_seconds:g} s")
        time.sleep(0.01)
    return time.monotonic() - began


def http_get(url: str, data: bytes | None = None, timeout_seconds: float = 1.0) -> bytes | None:
    """Return the body of an answer with status 200, else ``None``; with ``data`` it is a POST."""
    try:
        with urllib.request.urlopen(url, data, timeout=timeout_seconds) as answer:
            body: bytes = answer.read()
    except (urllib.error.URLError, OSError):
        return None
    return body
