"""Three whole nodes in virtual time, and a note of every finished sync and every answer, in their order."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable, Sequence
from typing import Any, Final

from twisted.internet.defer import Deferred
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.config import NodeConfig
from raftkv.interfaces import IStorage, Recovered
from raftkv.raft.messages import Entry
from raftkv.raft.ready import Write
from raftkv.server.assembly import Assembled, Surroundings, assemble
from raftkv.server.replica import Replica
from raftkv.testing.cluster import ClusterSettings, SimulatedCluster
from raftkv.testing.network import NetworkSettings

NAMES: Final = ("n1", "n2", "n3")


@implementer(IStorage)
class TracedStorage:
    """A node's storage that notes which entries a finished sync has brought to its disk."""

    def __init__(self, inner: IStorage, note: Callable[[bytes], None]) -> None:
        self._inner = inner
        self._note = note
        self._pending: list[Write] = []

    def recover(self) -> Recovered:
        recovered: Recovered = self._inner.recover()
        return recovered

    def start(self, durable: Callable[[int], None], failed: Callable[[BaseException], None]) -> None:
        def synced(write_id: int) -> None:
            while self._pending and self._pending[0].write_id <= write_id:
                for entry in self._pending.pop(0).entries:
                    self._note(entry.payload)
            durable(write_id)

        self._inner.start(synced, failed)

    def write(self, write: Write, *, may_wait: bool = False) -> None:
        self._pending.append(write)
        self._inner.write(write, may_wait=may_wait)

    def read(self, start: int, stop: int, max_bytes: int, done: Callable[[Sequence[Entry]], None]) -> None:
        self._inner.read(start, stop, max_bytes, done)

    def compact(self, index: int) -> None:
        self._inner.compact(index)

    def snapshot_taken(self, index: int) -> None:
        self._inner.snapshot_taken(index)

    def room_bytes(self) -> int:
        return int(self._inner.room_bytes())

    def log_bytes(self) -> int:
        size: int = self._inner.log_bytes()
        return size

    def log_bytes_behind(self, index: int) -> int:
        size: int = self._inner.log_bytes_behind(index)
        return size

    def stop(self) -> Deferred[None]:
        stopped: Deferred[None] = self._inner.stop()
        return stopped


class TrioTestCase(SynchronousTestCase):
    """A cluster of three with a good network and disks that take their time.

    :ivar trace: ``("synced", node, payload)`` and ``("answered", value)``, as they happened.
    """

    settings = ClusterSettings(disk_delay_seconds=0.01)
    seed = 1

    def setUp(self) -> None:
        self.trace: list[tuple[Any, ...]] = []
        self.cluster = SimulatedCluster(
            settings=self.settings,
            network_settings=NetworkSettings(),
            seed=self.seed,
            compose=self._compose,
        )
        self.cluster.start_all()
        self.settle()

    def _compose(self, config: NodeConfig, world: Surroundings) -> Assembled:
        def watch(storage: IStorage) -> IStorage:
            return TracedStorage(
                world.watch(storage), lambda payload: self.trace.append(("synced", config.node_id, payload))
            )

        return assemble(config, dataclasses.replace(world, watch=watch))

    def settle(self) -> str:
        """Let time pass until there is a leader that all others follow; return it."""
        cluster = self.cluster

        def is_unsettled() -> bool:
            leader = cluster.leader()
            running = [node.raft for node in cluster.nodes.values() if node.is_running]
            return leader is None or any(
                raft is None or raft.leader != leader or raft.term_at(raft.commit_index) != raft.current_term
                for raft in running
            )

        self.assertTrue(cluster.clock.run_while(is_unsettled, limit_seconds=30), "there is no leader")
        leader = cluster.leader()
        assert leader is not None
        return leader

    def replica(self, name: str) -> Replica:
        """Return a running node."""
        life = self.cluster.nodes[name].life
        assert life is not None
        assert life.replica is not None
        return life.replica

    def run_in(self, name: str, function: Callable[[], Any]) -> None:
        """Let something happen in a node's process."""
        life = self.cluster.nodes[name].life
        assert life is not None
        life.clock.run(function)

    def write(self, name: str, command: Any, then: Callable[[Any], None] = lambda outcome: None) -> list[Any]:
        """Submit one command to a node; the list gets its answer."""
        answers: list[Any] = []

        def done(outcome: Any) -> None:
            answers.append(outcome)
            self.trace.append(("answered", command, outcome))
            then(outcome)

        self.run_in(name, lambda: self.replica(name).write([command], done))
        return answers

    def read(self, name: str, key: bytes) -> Any:
        """Read a key linearizably through a node; return its record, or the error."""
        replica = self.replica(name)
        found: list[Any] = []
        self.run_in(
            name, lambda: replica.barrier("linearizable", lambda error: found.append(error or replica.get(key)))
        )
        self.assertTrue(self.cluster.clock.run_while(lambda: not found, limit_seconds=10), "no answer to a read")
        return found[0]

    def run_for(self, seconds: float) -> None:
        """Let time pass."""
        self.cluster.clock.advance(seconds)
