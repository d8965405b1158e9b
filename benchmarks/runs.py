"""One run: a fresh cluster of one contestant, one work, and the figures of both.

Every run has servers and a directory of its own, which nobody disturbs: no other contestant idles beside it. The
generator is a process of its own; processor time and memory of the servers are read when its warm-up is over and when
it ends. What a cluster is the peers know, what a load is the generators.
"""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import asdict, dataclass, replace
from pathlib import Path
from typing import Any, Final

from benchmarks.load import wrk
from benchmarks.peers.cluster import Cluster, Peer, running
from benchmarks.processes import Server, wait_until
from benchmarks.works import Work
from raftkv.bench.specification import Load

MIB: Final = 1024 * 1024
_FAILOVER_SECONDS: Final = 15.0
_PRELOAD_OUTSTANDING: Final = 512
_PRELOAD_BYTES: Final = 4 * MIB  # of all values under way


@dataclass(frozen=True, slots=True, kw_only=True)
class Lane:
    """A contestant and, over HTTP, which of its interfaces."""

    peer: str
    door: str = ""

    def __str__(self) -> str:
        return f"{self.peer} {self.door}".strip()

    @property
    def rival(self) -> str:
        """As whom it is compared: a contestant has its best interface, but a retired one stands for itself."""
        return str(self) if self.door.startswith("retired ") else self.peer


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """What one run has given.

    :ivar figures: by name; those of the load, of the servers, and those that only this kind of work has.
    :ivar load_average: of the machine just before the run: over 1 or so the figures are not worth much.
    """

    work: str
    lane: Lane
    round: int
    figures: Mapping[str, float]
    load_average: float

    def to_dict(self) -> dict[str, Any]:
        """Return it for JSON."""
        return asdict(self)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How long a run takes.

    :ivar seconds: of measuring.
    :ivar warmup_seconds: before it.
    """

    seconds: float = 5.0
    warmup_seconds: float = 1.0


def lanes_of(peer: Peer, work: Work) -> tuple[Lane, ...]:
    """Return how a contestant takes part in a work."""
    if work.kind == "http":
        return tuple(Lane(peer=peer.name, door=door) for door in peer.doors(work))
    return (Lane(peer=peer.name),)


def run(peer: Peer, lane: Lane, work: Work, round_number: int, lengths: Lengths, folder: Path) -> Sample:
    """Run one work against one contestant.

    :param folder: on the disk to be measured; the run makes a folder of its own in it, and removes it.
    :raises RuntimeError: a server or the generator has failed, with its last words.
    """
    load_average = os.getloadavg()[0]
    own = Path(tempfile.mkdtemp(prefix=f"{peer.name}-", dir=folder))
    try:
        with running(peer.cluster(own, work, lane.door)) as cluster:
            if work.preloaded:
                _preload(peer, cluster, work)
            figures = _KINDS[work.kind](peer, cluster, work, lane, lengths)
    finally:
        shutil.rmtree(own, ignore_errors=True)
    return Sample(work=work.name, lane=lane, round=round_number, figures=figures, load_average=load_average)


def _leader_first(cluster: Cluster, address: Callable[[int], str]) -> tuple[str, ...]:
    leader = cluster.leader()
    others = [which for which in range(len(cluster.servers)) if which != leader]
    return tuple(address(which) for which in (leader, *others))


def _native_load(peer: Peer, cluster: Cluster, work: Work, lengths: Lengths) -> Load:
    addresses = _leader_first(cluster, cluster.native_address)
    is_library = not peer.protocol
    return Load(
        generator="clients" if is_library or work.kind == "client" else "closed",
        protocol=peer.name if is_library or work.kind == "client" else peer.protocol,
        # All of its connections to the leader, as is best for everybody; a library's client wants to know all members.
        addresses=addresses if is_library else addresses[:1],
        operation=work.operation,
        outstanding=work.outstanding,
        connections=peer.connections(work),
        value_bytes=work.value_bytes,
        keys=work.keys,
        warmup_seconds=lengths.warmup_seconds,
        seconds=lengths.seconds,
    )


def _preload(peer: Peer, cluster: Cluster, work: Work) -> None:
    """Write every key once."""
    outstanding = max(1, min(_PRELOAD_OUTSTANDING, _PRELOAD_BYTES // work.value_bytes))
    quiet = Lengths(warmup_seconds=0.0)
    load = _native_load(peer, cluster, replace(work, kind="native", operation="put"), quiet)
    told = generate(replace(load, outstanding=outstanding, requests=work.keys), cluster.servers)
    if told["errors"]:
        raise RuntimeError(f"{told['errors']:.0f} of {work.keys} keys could not be written before the measurement")


class Generator:
    """A generator of load as a child process."""

    def __init__(self, load: Load) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-m", "benchmarks.load", load.to_json()], stdout=subprocess.PIPE, text=True
        )

    def wait_until_begun(self) -> None:
        """Return when its warm-up is over; when it has ended, too, which :meth:`result` then tells."""
        assert self._process.stdout is not None
        self._process.stdout.readline()

    @property
    def is_running(self) -> bool:
        """Whether it has not ended."""
        return self._process.poll() is None

    def result(self) -> dict[str, Any]:
        """Return its figures when it has ended.

        :raises RuntimeError: it has failed; it has told why on our standard error.
        """
        rest, _ = self._process.communicate()
        lines = rest.strip().splitlines()
        if self._process.returncode or not lines:
            raise RuntimeError(f"the generator of load has failed with status {self._process.returncode}")
        told: dict[str, Any] = json.loads(lines[-1])
        return told


def generate(load: Load, servers: Sequence[Server]) -> dict[str, Any]:
    """Run a generator; add what the servers used meanwhile, all together, and the memory of the largest."""
    generator = Generator(load)
    generator.wait_until_begun()
    before = [server.cpu_seconds() for server in servers]
    told = generator.result()
    after = [server.cpu_seconds() for server in servers]
    told["server_cpu_seconds"] = sum(after) - sum(before)
    told["memory_mib"] = max(server.memory_bytes() for server in servers) / MIB
    return told


# -- kinds of work -----------------------------------------------------------------------------------------------

Figures = dict[str, float]


def _native(peer: Peer, cluster: Cluster, work: Work, _: Lane, lengths: Lengths) -> Figures:
    return generate(_native_load(peer, cluster, work, lengths), cluster.servers)


def _http(peer: Peer, cluster: Cluster, work: Work, lane: Lane, lengths: Lengths) -> Figures:
    """Over HTTP; what is read has been written by the same door, since etcd's two have a store each."""
    has_wrk = wrk.is_installed()
    load = Load(
        generator="wrk" if has_wrk else "closed",
        protocol="http",
        addresses=_leader_first(cluster, cluster.http_address)[:1],
        operation=work.operation,
        outstanding=work.outstanding,
        connections=work.outstanding,
        value_bytes=work.value_bytes,
        keys=work.keys,
        warmup_seconds=lengths.warmup_seconds,
        seconds=lengths.seconds,
        door=lane.door,
    )
    if work.preloaded and lane.door == "retired v2 API":
        filling = replace(load, generator="closed", operation="put", outstanding=64, connections=64, requests=work.keys)
        generate(filling, cluster.servers)
    return generate(load, cluster.servers)


def _failover(peer: Peer, cluster: Cluster, work: Work, _: Lane, lengths: Lengths) -> Figures:
    """Kill the leader while a generator writes to the others."""
    leader = cluster.leader()
    survivors = tuple(cluster.native_address(which) for which in range(len(cluster.servers)) if which != leader)
    load = replace(
        _native_load(peer, cluster, work, lengths),
        generator="paced",
        addresses=survivors,
        seconds=_FAILOVER_SECONDS,
    )
    generator = Generator(load)
    generator.wait_until_begun()
    killed = time.monotonic()
    cluster.servers[leader].kill()
    told = generator.result()
    after = failover_seconds(killed, told["succeeded"])
    return {"failover_seconds": after, "errors": told["errors"], "requests": len(told["succeeded"])}


def failover_seconds(killed: float, succeeded: Sequence[Sequence[float]]) -> float:
    """Return how long after the end of the leader a write that was sent later had succeeded.

    :param killed: when it was ended.
    :param succeeded: when each write was sent and answered, by the same clock.
    :return: ``nan`` where none has.
    """
    answered = [answer for sent, answer in succeeded if sent > killed]
    return min(answered) - killed if answered else float("nan")


def _footprint(peer: Peer, cluster: Cluster, work: Work, _: Lane, lengths: Lengths) -> Figures:
    """Look at the memory, and stop a follower (the only server, where there is one) and start it again."""
    memory = max(server.memory_bytes() for server in cluster.servers) / MIB
    which = (cluster.leader() + 1) % len(cluster.servers)
    server = cluster.servers[which]
    server.stop()
    began = time.monotonic()
    server.start()
    wait_until(f"{server.name} is ready again", lambda: cluster.is_ready(which), cluster.servers)
    elapsed = time.monotonic() - began
    return {
        "memory_mib": memory,
        "restart_seconds": elapsed,
        "memory_after_restart_mib": server.memory_bytes() / MIB,
        "server_cpu_seconds": server.cpu_seconds(),
        "errors": 0.0,
    }


def _snapshot(peer: Peer, cluster: Cluster, work: Work, _: Lane, lengths: Lengths) -> Figures:
    """Run the same load without a snapshot and while one is taken; one that ends earlier is followed by another."""
    load = _native_load(peer, cluster, work, lengths)
    before = generate(load, cluster.servers)
    generator = Generator(load)
    generator.wait_until_begun()
    taken = 0
    cluster.begin_snapshot()
    try:
        while generator.is_running:
            if cluster.snapshot_is_done():
                taken += 1
                cluster.begin_snapshot()
            time.sleep(0.05)
        during = generator.result()
    finally:
        cluster.end_snapshot()
    return {
        **during,
        "before_per_second": before["per_second"],
        "before_p99_ms": before["p99_ms"],
        "rate_during_to_before": during["per_second"] / before["per_second"],
        "p99_during_to_before": during["p99_ms"] / before["p99_ms"],
        "snapshots": float(taken),
        "errors": during["errors"] + before["errors"],
        "memory_mib": max(server.memory_bytes() for server in cluster.servers) / MIB,
    }


_KINDS: Final[Mapping[str, Callable[[Peer, Cluster, Work, Lane, Lengths], Figures]]] = {
    "native": _native,
    "client": _native,
    "http": _http,
    "failover": _failover,
    "footprint": _footprint,
    "snapshot": _snapshot,
}
