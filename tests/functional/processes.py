"""The harness: nodes as child processes, whose ends are seen to whatever becomes of the test."""

from __future__ import annotations

import contextlib
import http.client
import itertools
import json
import os
import random
import shutil
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import yaml
from twisted.internet.defer import Deferred
from twisted.internet.task import deferLater
from twisted.trial.unittest import TestCase

ROOT = Path(__file__).resolve().parent.parent.parent
TWISTD = [sys.executable, "-c", "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"]
RAFTKV = [sys.executable, "-m", "raftkv.cli"]

# Below the range that outgoing connections draw theirs from, so that no dialling node can take a chosen port first.
_PORTS = range(20_000, 32_000)
_PORTS_AT_ONCE = 400  # of one process that runs tests


def _claim_ports() -> Iterator[int]:
    """Yield ports for ever that no other process with tests chooses, even while nobody listens on them.

    Listening on the first port of a block, for as long as the process lives, claims the others of it.
    """
    for first in random.SystemRandom().sample(_PORTS[::_PORTS_AT_ONCE], len(_PORTS) // _PORTS_AT_ONCE):
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", first)):
            yield from itertools.cycle(range(first + 1, first + _PORTS_AT_ONCE))
    raise AssertionError(f"every block of {_PORTS} is claimed by another process; do so many run tests at once?")


_ports = _claim_ports()


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    while True:
        port = next(_ports)
        with contextlib.suppress(OSError), socket.create_server(("127.0.0.1", port)):
            return port


def environment(extra: Mapping[str, str] | None = None, first_path: str | None = None) -> dict[str, str]:
    """Return the environment of a child that imports what this process imports."""
    path = [first_path] if first_path else []
    return {**os.environ, "PYTHONPATH": os.pathsep.join([*path, str(ROOT)]), "PYTHONUNBUFFERED": "1", **(extra or {})}


def sleep(seconds: float) -> Deferred[None]:
    """Let the reactor run."""
    from twisted.internet import reactor

    return deferLater(reactor, seconds)  # type: ignore[arg-type]


@dataclass(frozen=True)
class Response:
    """An HTTP answer.

    :ivar json: the body, parsed; ``None`` where it is no JSON.
    """

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body as JSON."""
        try:
            return json.loads(self.body)
        except ValueError:
            return None


class Node:
    """One node: its files, its ports, and the process while there is one.

    :ivar name: its node id.
    :ivar path: of its configuration.
    :ivar wrapper: a command that ends in starting the process in its own place.
    """

    def __init__(self, folder: Path, name: str, settings: Mapping[str, Any], http_port: int) -> None:
        self.name = name
        self.folder = folder
        self.http_port = http_port
        self.path = folder / f"{name}.yaml"
        self.data_dir = folder / "data" / name
        self.output = folder / f"{name}.out"
        self.settings = settings
        self.path.write_text(yaml.safe_dump(dict(settings)))
        self.process: subprocess.Popen[bytes] | None = None
        self.wrapper: tuple[str, ...] = ()
        self.options: tuple[str, ...] = ("-n",)  # of twistd

    @property
    def url(self) -> str:
        """Where its HTTP server is."""
        return f"http://127.0.0.1:{self.http_port}"

    @property
    def rpc_port(self) -> int:
        """Port of its RPC server."""
        return int(self.settings["rpcAddr"].rpartition(":")[2])

    @property
    def raft_port(self) -> int:
        """Port of its Raft traffic."""
        return int(self.settings["raft"]["bindAddr"].rpartition(":")[2])

    def start(self, *, first_path: str | None = None) -> None:
        """Start it in the foreground."""
        self.process = subprocess.Popen(
            [*self.wrapper, *TWISTD, *self.options, "raftkv", "--config", self.path.name],
            cwd=self.folder,
            env=environment(first_path=first_path),
            stdin=subprocess.DEVNULL,
            stdout=self.output.open("ab"),
            stderr=subprocess.STDOUT,
            # A shell that runs the tests in the background has them, and whatever they start, ignore SIGINT.
            preexec_fn=lambda: signal.signal(signal.SIGINT, signal.SIG_DFL),
        )

    def signal(self, number: int) -> None:
        """Send a signal, if it runs."""
        if self.process is not None and self.process.poll() is None:
            self.process.send_signal(number)

    def kill(self) -> None:
        """End it with SIGKILL, and wait until it is gone."""
        self.signal(signal.SIGKILL)
        self.wait()

    def stop(self) -> int:
        """End it with SIGTERM, and return its status."""
        self.signal(signal.SIGTERM)
        return self.wait()

    def wait(self, limit_seconds: float = 30) -> int:
        """Wait for its end, and return its status."""
        if self.process is None:
            raise AssertionError(f"{self.name} was never started")
        return self.process.wait(limit_seconds)

    @property
    def is_running(self) -> bool:
        """Whether the process exists."""
        return self.process is not None and self.process.poll() is None

    def log(self) -> str:
        """Return everything that it has written."""
        return self.output.read_text(errors="replace") if self.output.exists() else ""

    def request(
        self, method: str, path: str, body: Any = None, *, headers: Mapping[str, str] | None = None, limit: float = 8
    ) -> Response:
        """Make an HTTP request; :exc:`OSError` where it cannot be made, or gets no answer in time."""
        connection = http.client.HTTPConnection("127.0.0.1", self.http_port, timeout=limit)
        try:
            data = json.dumps(body).encode() if isinstance(body, dict) else body
            connection.request(method, path, data, dict(headers or {}))
            answer = connection.getresponse()
            return Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        finally:
            connection.close()

    def set(self, key: str, value: str) -> Response:
        """Set a key through this node."""
        return self.request("POST", "/set", {"key": key, "value": value})

    def get(self, key: str, consistency: str = "linearizable") -> Any:
        """Return the value of a key as this node answers it, ``None`` where there is no key."""
        answer = self.request("GET", f"/get?key={key}&consistency={consistency}")
        if answer.status not in (200, 404):
            raise AssertionError(f"{self.name} answers {answer.status} {answer.body!r}")
        return answer.json.get("value")

    def status(self) -> Any:
        """Return its ``/v1/status``, or ``None`` where it does not answer."""
        try:
            return self.request("GET", "/v1/status", limit=1).json
        except (OSError, http.client.HTTPException):
            return None


class FunctionalTestCase(TestCase):
    """A test with processes. Its folder is its own; everything it starts is killed at its end.

    Logs and settings stay; what the nodes stored goes (a test's preallocated logs are half a gigabyte, all tests' 40),
    unless ``RAFTKV_KEEP_DATA`` is set in the environment.
    """

    timeout = 120

    def setUp(self) -> None:
        self.folder = Path(self.mktemp()).resolve()
        self.folder.mkdir(parents=True)
        self.nodes: list[Node] = []
        self.addCleanup(self._kill_all)

    def make_node(self, name: str = "n1", *, peers: Mapping[str, str] | None = None, **more: Any) -> Node:
        """Return a node that is not started yet, with ports of its own.

        :param peers: ``raft.peers``; none for a node alone.
        :param more: settings of the ``raft`` section, or whole top-level keys.
        """
        raft_port = peers[name] if peers else f"127.0.0.1:{free_port()}"
        http_port = free_port()
        raft: dict[str, Any] = {
            "nodeID": name,
            "bindAddr": raft_port,
            "dataDir": f"data/{name}",
            "electionTimeout": 0.5,
            "heartbeatInterval": 0.05,
        }
        settings: dict[str, Any] = {
            "rpcAddr": f"127.0.0.1:{free_port()}",
            "httpAddr": f"127.0.0.1:{http_port}",
            "raft": raft,
        }
        if peers:
            raft["peers"] = dict(peers)
        for key, value in more.items():
            (settings if key in ("rpcAddr", "httpAddr", "limits", "history", "httpAccessLog") else raft)[key] = value
        node = Node(self.folder, name, settings, http_port)
        self.nodes.append(node)
        return node

    def make_cluster(self, size: int = 3, **more: Any) -> list[Node]:
        """Start a cluster, and return its nodes once one of them leads and all are ready."""
        peers = {f"n{number}": f"127.0.0.1:{free_port()}" for number in range(1, size + 1)}
        nodes = [self.make_node(name, peers=peers, **more) for name in peers]
        for node in nodes:
            node.start()
        self.wait_ready(*nodes)
        return nodes

    def wait_ready(self, *nodes: Node, limit_seconds: float = 30) -> None:
        """Wait until nodes are ready."""
        for node in nodes:
            self.wait_until(lambda node=node: is_ready(node), f"{node.name} to be ready", limit_seconds)

    def wait_until(self, condition: Callable[[], Any], what: str, limit_seconds: float = 30) -> Any:
        """Wait for a condition to return something true, and return that."""
        give_up = time.monotonic() + limit_seconds
        while True:
            result = condition()
            if result:
                return result
            if time.monotonic() > give_up:
                self.fail(f"waited {limit_seconds} s for {what}\n{self.logs()}")
            time.sleep(0.05)

    def leader(self, nodes: Sequence[Node]) -> Node:
        """Return the node that leads in the latest term, once there is one."""

        def find() -> Node | None:
            statuses = [(node, node.status()) for node in nodes if node.is_running]
            leading = [(status["term"], node) for node, status in statuses if status and status["role"] == "leader"]
            return max(leading, key=lambda found: found[0])[1] if leading else None

        found: Node = self.wait_until(find, "a leader")
        return found

    def logs(self, lines: int = 30) -> str:
        """Return the last lines of every node, for the message of a failure."""
        parts = (f"--- {node.name}\n" + "\n".join(node.log().splitlines()[-lines:]) for node in self.nodes)
        return "\n".join(parts)

    def run_twistd(
        self, *arguments: str, limit_seconds: float = 30, first_path: str | None = None
    ) -> subprocess.CompletedProcess[str]:
        """Run twistd to its end (which for a daemon is that of its parent)."""
        return subprocess.run(
            [*TWISTD, *arguments],
            cwd=self.folder,
            env=environment(first_path=first_path),
            stdin=subprocess.DEVNULL,
            capture_output=True,
            text=True,
            timeout=limit_seconds,
            check=False,
        )

    def assert_refused(self, done: subprocess.CompletedProcess[str], *parts: str) -> None:
        """Check that a start was refused with a non-zero status and one line that has all these parts."""
        self.assertNotEqual(done.returncode, 0, done)
        lines = [line for line in done.stderr.splitlines() if line.strip()]
        self.assertEqual(len(lines), 1, f"one line, not {done.stderr!r} {done.stdout!r}")
        self.assertTrue(lines[0].startswith("raftkv: "), lines)
        for part in parts:
            self.assertIn(part, lines[0])
        self.assertNotIn("Traceback", done.stdout + done.stderr)

    def _kill_all(self) -> None:
        for node in self.nodes:
            node.signal(signal.SIGKILL)
        for node in self.nodes:
            if node.process is not None:
                node.process.wait(30)
        for pid in self._daemons():
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        if "RAFTKV_KEEP_DATA" not in os.environ:
            # A daemon that has just been killed may still be writing.
            shutil.rmtree(self.folder / "data", ignore_errors=True)

    def _daemons(self) -> Iterator[int]:
        """Yield the processes that a daemon's pid file or lock of this test still names."""
        for path in (*self.folder.rglob("*.pid"), *self.folder.rglob("lock")):
            text = path.read_text(errors="replace").strip()
            if text.isdigit() and self._is_ours(int(text)):
                yield int(text)

    def _is_ours(self, pid: int) -> bool:
        try:
            return Path(f"/proc/{pid}/cwd").resolve() == self.folder
        except OSError:
            return False


def is_ready(node: Node) -> bool:
    """Tell whether a node says that it is ready."""
    try:
        return node.request("GET", "/health/ready", limit=1).status == 200
    except (OSError, http.client.HTTPException):
        return False
