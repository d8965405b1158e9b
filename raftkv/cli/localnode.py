"""One node as a child process: started, looked at, stopped."""

from __future__ import annotations

import signal
import subprocess
import sys
import tempfile
from pathlib import Path

from raftkv.config import NodeConfig

_RUN_TWISTD = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


class LocalNode:
    """A node that runs under twistd as our child.

    :param path: its configuration file.
    :param config: what the file says.
    """

    def __init__(self, path: str, config: NodeConfig) -> None:
        self.path = path
        self.config = config
        self.log = str(Path(config.data_dir) / "raftkv.log")
        self._errors = tempfile.TemporaryFile()  # noqa: SIM115 - open for as long as the node may write to it
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        """Where its HTTP server is."""
        return f"http://{self.config.http_advertised_addr}"

    def start(self) -> None:
        """Start it. Its log goes into its data directory."""
        arguments = ["-n", f"--logfile={self.log}", "raftkv", f"--config={self.path}"]
        self._process = subprocess.Popen(
            [sys.executable, "-c", _RUN_TWISTD, *arguments],
            stdin=subprocess.DEVNULL,
            stdout=subprocess.DEVNULL,
            stderr=self._errors,
            # Ctrl-C in the terminal reaches the whole foreground group; in a session of its own the node hears only
            # from us, once.
            start_new_session=True,
        )

    def ended(self) -> bool:
        """Tell whether it is not running."""
        return self.process_status() is not None

    def process_status(self) -> int | None:
        """Return its exit status, negative for a signal; ``None`` while it runs."""
        return None if self._process is None else self._process.poll()

    def terminate(self) -> None:
        """Ask it to stop."""
        if self._process is not None and not self.ended():
            self._process.terminate()

    def kill(self) -> None:
        """End it at once."""
        if self._process is not None and not self.ended():
            self._process.kill()

    def reason(self) -> str:
        """Say how it ended, on one line."""
        status = self.process_status()
        if status is None:
            return "is running"
        if status < 0:
            return f"was ended by {signal.Signals(-status).name} (log: {self.log})"
        last = self._last_words()
        return f"ended with status {status}{': ' + last if last else ''} (log: {self.log})"

    def describe(self) -> str:
        """Say what it is and where."""
        pid = self._process.pid if self._process is not None else "-"
        return f"{self.config.node_id}  {self.url}  pid {pid}  log {self.log}"

    def command_line(self) -> str:
        """Return what one would type to start it alone."""
        return f"twistd -n raftkv --config {self.path}"

    def _last_words(self) -> str:
        self._errors.seek(0)
        lines = [line.strip() for line in self._errors.read().decode(errors="replace").splitlines()]
        return next((line.removeprefix("raftkv: ") for line in reversed(lines) if line), "")
