"""raftkv itself, with the configuration that a user begins with."""

from __future__ import annotations

import json
import sys
import threading
import time
import urllib.error
import urllib.request
from http import HTTPStatus
from pathlib import Path
from typing import Any, Final

import yaml

from benchmarks.processes import Server, free_ports, http_get, wait_until
from benchmarks.works import Work

_RUN_TWISTD: Final = "import sys; from twisted.scripts.twistd import run; sys.argv[0] = 'twistd'; run()"


class RaftKV:
    """The home team."""

    name = "raftkv"
    remark = "every acknowledged write is synced on a majority"
    protocol = "rpc"
    is_equal = True

    def missing(self) -> str:
        """It is always there."""
        return ""

    def refusal(self, work: Work) -> str:
        """It takes part in everything."""
        return ""

    def doors(self, work: Work) -> tuple[str, ...]:
        """The routes that the manual names first, old and new."""
        return ("PUT /v1/kv/", "POST /set") if work.operation == "put" else ("GET /v1/kv/", "GET /get")

    def connections(self, work: Work) -> int:
        """One: a native client has one, and pipelines."""
        return 1

    def cluster(self, folder: Path, work: Work, door: str) -> RaftKVCluster:
        """Write the configuration files."""
        return RaftKVCluster(folder, work.nodes)


class RaftKVCluster:
    """Nodes under twistd."""

    def __init__(self, folder: Path, nodes: int) -> None:
        ports = free_ports(3 * nodes)
        self._names = [f"node{number + 1}" for number in range(nodes)]
        self._rpc = [f"127.0.0.1:{port}" for port in ports[1::3]]
        self._http = [f"127.0.0.1:{port}" for port in ports[2::3]]
        self._snapshot: threading.Thread | None = None
        self._refusal = ""  # why no snapshot is taken
        peers = {name: f"127.0.0.1:{port}" for name, port in zip(self._names, ports[::3], strict=True)}
        self.servers = [self._server(folder, number, peers) for number in range(nodes)]

    def _server(self, folder: Path, number: int, peers: dict[str, str]) -> Server:
        name = self._names[number]
        data = folder / name
        data.mkdir(parents=True)
        configuration = folder / f"{name}.yaml"
        raft = {"nodeID": name, "bindAddr": peers[name], "dataDir": str(data), "peers": peers}
        value = {"rpcAddr": self._rpc[number], "httpAddr": self._http[number], "raft": raft}
        configuration.write_text(yaml.safe_dump(value))
        log = folder / f"{name}.log"
        arguments = ["-n", f"--logfile={log}", "raftkv", f"--config={configuration}"]
        return Server(name, [sys.executable, "-c", _RUN_TWISTD, *arguments], log)

    def _status(self, which: int) -> dict[str, Any]:
        answer = http_get(f"http://{self._http[which]}/v1/status")
        status: dict[str, Any] = json.loads(answer) if answer else {}
        return status

    def wait_until_ready(self) -> None:
        """Wait for one leader whom all know."""

        def all_agree() -> bool:
            leaders = {self._status(which).get("leader") for which in range(len(self.servers))}
            return len(leaders) == 1 and None not in leaders

        wait_until("a leader of raftkv", all_agree, self.servers)

    def leader(self) -> int:
        """Ask the first node."""
        return self._names.index(self._status(0)["leader"])

    def is_ready(self, which: int) -> bool:
        """Ask what is meant for load balancers."""
        return http_get(f"http://{self._http[which]}/health/ready") is not None

    def native_address(self, which: int) -> str:
        """``rpcAddr``."""
        return self._rpc[which]

    def http_address(self, which: int) -> str:
        """``httpAddr``."""
        return self._http[which]

    def begin_snapshot(self) -> None:
        """Ask the leader for one; the answer comes when it is there, so that another thread waits for it."""
        url = f"http://{self._http[self.leader()]}/v1/snapshots"
        self._snapshot = threading.Thread(target=self._take_snapshot, args=(url,), daemon=True)
        self._snapshot.start()

    def _take_snapshot(self, url: str) -> None:
        while True:
            try:
                with urllib.request.urlopen(url, b"", timeout=600.0) as answer:
                    answer.read()
                return
            except urllib.error.HTTPError as error:
                if error.code != HTTPStatus.CONFLICT:
                    self._refusal = f"{url} was answered with {error.code}"
                    return
                time.sleep(0.1)  # the node takes one by itself at the moment, which will do as well
            except OSError:
                return  # the node has ended

    def snapshot_is_done(self) -> bool:
        """Tell whether the answer has come.

        :raises RuntimeError: it is that there will be no snapshot; to go on would be to measure nothing.
        """
        if self._refusal:
            raise RuntimeError(f"no snapshot is taken: {self._refusal}")
        return self._snapshot is not None and not self._snapshot.is_alive()

    def end_snapshot(self) -> None:
        """The thread ends with the node."""
