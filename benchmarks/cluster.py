"""Three real nodes on loopback for a benchmark: free ports, a directory of their own, stopped at the end."""

from __future__ import annotations

import json
import socket
import time
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import yaml

from raftkv.cli.localnode import LocalNode
from raftkv.config import load_config


def free_ports(count: int) -> list[int]:
    """Return ports that nobody listened on a moment ago."""
    sockets = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [each.getsockname()[1] for each in sockets]
    for each in sockets:
        each.close()
    return ports


def write_configurations(folder: Path, nodes: int, settings: dict[str, Any] | None = None) -> list[Path]:
    """Write the configuration files of a cluster; ``settings`` are added to the ``raft`` section of each."""
    ports = free_ports(3 * nodes)
    names = [f"node{number + 1}" for number in range(nodes)]
    peers = {name: f"127.0.0.1:{ports[3 * number]}" for number, name in enumerate(names)}
    paths = []
    for number, name in enumerate(names):
        raft_port, rpc_port, http_port = ports[3 * number : 3 * number + 3]
        value = {
            "rpcAddr": f"127.0.0.1:{rpc_port}",
            "httpAddr": f"127.0.0.1:{http_port}",
            "raft": {
                "nodeID": name,
                "bindAddr": f"127.0.0.1:{raft_port}",
                "dataDir": str(folder / name),
                "peers": peers,
                **(settings or {}),
            },
        }
        (folder / name).mkdir(parents=True)
        paths.append(folder / f"{name}.yaml")
        paths[-1].write_text(yaml.safe_dump(value))
    return paths


@contextmanager
def running_cluster(folder: Path, nodes: int = 3, settings: dict[str, Any] | None = None) -> Iterator[list[LocalNode]]:
    """Run a cluster as long as the context lasts; yields the nodes once there is a leader, the leader first."""
    cluster = [LocalNode(str(path), load_config(str(path))) for path in write_configurations(folder, nodes, settings)]
    try:
        for node in cluster:
            node.start()
        leader = wait_for_leader(cluster)
        yield sorted(cluster, key=lambda node: node.config.node_id != leader)
    finally:
        for node in cluster:
            node.terminate()
        for node in cluster:
            while not node.ended():
                time.sleep(0.05)


def status(node: LocalNode) -> dict[str, Any] | None:
    """Return ``/v1/status`` of a node, or ``None`` where it does not answer."""
    try:
        with urllib.request.urlopen(f"{node.url}/v1/status", timeout=1) as answer:
            value: dict[str, Any] = json.load(answer)
    except (urllib.error.URLError, OSError):
        return None
    return value


def wait_for_leader(cluster: list[LocalNode], limit_seconds: float = 30.0) -> str:
    """Return the id of the leader once every node knows the same one."""
    give_up = time.monotonic() + limit_seconds
    while time.monotonic() < give_up:
        leaders = {(answer or {}).get("leader") for answer in map(status, cluster)}
        if len(leaders) == 1 and None not in leaders:
            return str(leaders.pop())
        time.sleep(0.1)
    raise RuntimeError(f"no leader within {limit_seconds:g} s; see the logs in the data directories")
