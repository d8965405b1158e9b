"""The cluster: it starts, stops, kills, pauses and restarts nodes, and shows all they do to the checkers."""

from __future__ import annotations

import random
from collections import Counter
from collections.abc import Callable, Mapping, Sequence
from functools import partial
from typing import Any, Protocol

from raftkv.config import NodeConfig
from raftkv.errors import Conflict, DamagedLog, NotLeader, StorageError
from raftkv.interfaces import Result, Standing
from raftkv.persistence.membership import REMOVED_FILE, load_joined
from raftkv.protocols.rpc import node_calls
from raftkv.raft.configuration import Configuration
from raftkv.raft.messages import Entry, EntryKind, Message, RequestVoteResponse
from raftkv.raft.ready import Role
from raftkv.server.archiving import ArchiveSurroundings
from raftkv.server.assembly import Assembled, Surroundings, assemble
from raftkv.server.origin import has_begun, initial_configuration
from raftkv.server.replica import Replica
from raftkv.testing.beginning import Beginning
from raftkv.testing.checkers import Checkers
from raftkv.testing.clock import NodeClock, VirtualClock
from raftkv.testing.cluster.equipment import make_config, surround
from raftkv.testing.cluster.givingup import GivingUp
from raftkv.testing.cluster.machine import Life, SimulatedNode
from raftkv.testing.cluster.repairing import repair_log
from raftkv.testing.cluster.settings import ClusterSettings
from raftkv.testing.coverage import Coverage
from raftkv.testing.disk import MemoryDisk
from raftkv.testing.excuses import Excuses
from raftkv.testing.network import NetworkSettings, SimulatedNetwork
from raftkv.testing.replay import Replay
from raftkv.testing.staleness import TimeLines
from raftkv.testing.trace import Trace
from raftkv.testing.witness import AppliedWrites


class Composition(Protocol):
    """Puts one node together, as :func:`raftkv.server.assembly.assemble` does; the cluster starts it."""

    def __call__(self, config: NodeConfig, world: Surroundings) -> Assembled: ...


class SimulatedCluster:
    """Some nodes, their network, and the checkers that watch them.

    :param compose: puts a node together.
    :ivar failure: the first error that stopped a node without an excuse, or rule that was broken.
    :ivar excuses: which nodes may give up.
    :ivar giving_up: what comes of the errors of nodes and disks.
    :ivar readings: how often logs were read back, by what came of it.
    :ivar on_applied: each is told of every entry that some node has applied, once for each node.
    :ivar on_vote: told of each vote for another that is about to leave, by whom.
    :ivar archive_of: returns the archive of a node, for a life that begins; ``None`` for none.
    """

    def __init__(
        self,
        *,
        settings: ClusterSettings,
        network_settings: NetworkSettings,
        seed: int,
        compose: Composition = assemble,
        keep_trace: bool = False,
    ) -> None:
        self.clock = VirtualClock(after_event=self._look)
        self.trace = Trace(self.clock.seconds, keep=keep_trace)
        self.checkers = Checkers()
        self.replay = Replay()
        self.applied_writes = AppliedWrites()
        self.time_lines = TimeLines()
        self.failure: BaseException | None = None
        self.on_vote: Callable[[str], None] | None = None
        self.on_applied: list[Callable[[Entry], None]] = []
        self.archive_of: Callable[[str, NodeClock], ArchiveSurroundings | None] = lambda name, clock: None
        self.excuses = Excuses(bits_may_flip=not settings.spares)
        self.coverage = Coverage()
        self.readings: Counter[str] = Counter()
        self.random = random.Random(seed)
        self.settings = settings
        self.network = SimulatedNetwork(
            clock=self.clock,
            random=random.Random(self.random.getrandbits(64)),
            settings=network_settings,
            trace=self.trace,
        )
        self.network.on_send = self._sent
        self.names = [f"n{number}" for number in range(1, settings.nodes + settings.spares + 1)]
        self.founders = self.names[: settings.nodes]
        self.nodes = {
            name: SimulatedNode(
                name,
                settings=settings,
                random=random.Random(self.random.getrandbits(64)),
                is_founder=name in self.founders,
            )
            for name in self.names
        }
        self._compose = compose
        self._configs: dict[tuple[str, bool], NodeConfig] = {}
        self._committed = (0, initial_configuration(self.config(self.names[0])))
        self.giving_up = GivingUp(self)
        self._owners: dict[NodeClock, tuple[str, Life]] = {}

    # -- lives ---------------------------------------------------------------------------------------------------

    def start_all(self) -> None:
        """Start every node that has a place in the cluster."""
        for name in self.names:
            self.start(name)

    def start(self, name: str) -> None:
        """Start a node on what its disk holds; nothing happens if it runs, or may not."""
        node = self.nodes[name]
        if node.is_running or name in self.excuses.out or not self.is_installed(name):
            return
        node.lives += 1
        clock = NodeClock(self.clock, name=name, rate=node.rate)
        life = node.life = Life(clock=clock)
        self._owners[clock] = (name, life)
        self.trace.note(f"start {name}")
        node.disk.on_error = partial(self.giving_up.disk_error, name, life)
        try:
            if node.is_founder and (self.settings.asks_first or node.was_wiped) and not has_begun(node.disk):
                life.beginning = Beginning(self, node, life)
                return
            replica = life.replica = self._compose(self.config(name), surround(self, node, life)).replica
        except DamagedLog as error:
            repair_log(self, node, life, error)
            return
        except StorageError as error:
            self.giving_up.stopped_by(name, error)
            if self.failure is not None:
                raise
            return
        if life.storage is None or life.storage.recovered is None or life.process is None:
            raise ValueError("the composition did not let the storage be watched, or did not recover it")
        node.incarnation = replica.identity.incarnation
        self.checkers.started(name, replica.driver.node, life.storage.recovered)
        replica.state_machine.on_applied(partial(self._applied, name))
        replica.state_machine.on_restored(lambda index: self.checkers.states.restored(name, index))
        life.process.key_value = life.process.node = replica
        life.process.is_fenced = lambda: replica.fence.is_fenced
        life.process.calls = {**node_calls(replica), **replica.calls(), "standing": partial(_standing, replica)}
        clock.run(replica.startService)

    def begun(self, name: str, life: Life) -> None:
        """A node that asked how to begin knows it now, and its disk too."""
        if self.nodes[name].life is life:
            life.clock.die()
            self.nodes[name].life = None
            self._gone(name)
            self.start(name)

    def crash(self, name: str, *, power_loss: bool) -> None:
        """End a node's life at once; nothing happens if it is down."""
        node = self.nodes[name]
        if not node.is_running:
            return
        self.trace.note(f"crash {name} {power_loss}")
        if power_loss:
            node.lose_power()
        else:
            node.die()
        self._gone(name, silently=power_loss)

    def stop(self, name: str) -> None:
        """Ask a node to stop in order; it is down once it has done so."""
        life = self.nodes[name].life
        if life is None or life.replica is None or life.stopping is not None or life.clock.is_paused:
            return
        self.trace.note(f"stop {name}")
        replica = life.replica

        def ask() -> None:
            life.stopping = replica.stopService()
            life.stopping.addCallbacks(
                lambda _: self._stopped(name, life), lambda failure: self.giving_up.stopped_by(name, failure.value)
            )

        life.clock.run(ask)

    def _stopped(self, name: str, life: Life) -> None:
        node = self.nodes[name]
        if node.life is life:
            node.life = None
            life.clock.die()
            self._gone(name)

    def _gone(self, name: str, *, silently: bool = False) -> None:
        if name in self.network.processes:  # else it has not come that far
            self.network.leave(name, silently=silently)
        self.checkers.forget(name)
        self.coverage.gone(name)

    def mend(self, name: str) -> None:
        """Bring a node back to work, whatever had befallen it."""
        node = self.nodes[name]
        if node.life is not None and (node.life.stopping is not None or node.life.is_over):
            self.crash(name, power_loss=False)
        self.resume(name)
        node.disk_recovers()
        self.start(name)

    def pause(self, name: str) -> None:
        """Let a process stand still."""
        life = self.nodes[name].life
        if life is not None:
            life.clock.pause()

    def resume(self, name: str) -> None:
        """Let a process go on."""
        life = self.nodes[name].life
        if life is not None and life.clock.is_paused:
            life.clock.resume()

    # -- machines and their disks --------------------------------------------------------------------------------

    def is_removed(self, name: str) -> bool:
        """Tell whether a machine's node has written down that it was removed."""
        return self.nodes[name].disk.exists(REMOVED_FILE)

    def is_installed(self, name: str) -> bool:
        """Tell whether a machine holds a node that can be started: a founder's, or one that has been taken in."""
        node = self.nodes[name]
        if self.is_removed(name):
            return False
        joined = None if node.is_founder else load_joined(node.disk)
        return node.is_founder or (joined is not None and joined.configuration is not None)

    def lose_disk(self, name: str) -> None:
        """A machine goes down, its disk with it; it comes back with an empty one once it is started."""
        node = self.nodes[name]
        self.crash(name, power_loss=False)
        self.trace.note(f"lose disk {name}")
        counts, node.disk = node.disk.counts, MemoryDisk(name)
        node.disk.counts = counts
        self.checkers.wiped(name, incarnation=node.incarnation)
        node.was_wiped, node.incarnation = True, None

    def wipe(self, name: str) -> None:
        """Empty the disk of a machine whose node was removed; it is a new machine from now on."""
        node = self.nodes[name]
        self.crash(name, power_loss=False)
        self.trace.note(f"wipe {name}")
        node.disk = MemoryDisk(name)
        self.checkers.wiped(name, incarnation=node.incarnation)
        node.is_founder, node.incarnation = False, None

    def config(self, name: str) -> NodeConfig:
        """Return what a node is told."""
        founds = self.nodes[name].is_founder
        if (name, founds) not in self._configs:
            self._configs[name, founds] = make_config(self.settings, name, self.founders, founds=founds)
        return self._configs[name, founds]

    # -- leaders and members -------------------------------------------------------------------------------------

    def leader(self) -> str | None:
        """Return who leads the latest term, as far as there is somebody."""
        leading = [
            (raft.current_term, name)
            for name, node in self.nodes.items()
            if (raft := node.raft) is not None and raft.role is Role.LEADER
        ]
        return max(leading)[1] if leading else None

    def transfer_leadership(self, to: str | None) -> None:
        """Ask the leader to hand over."""
        name = self.leader()
        life = self.nodes[name].life if name is not None else None
        if life is None or life.replica is None:
            return
        driver = life.replica.driver

        def ask() -> None:
            try:
                driver.node.transfer_leadership(to)
            except (Conflict, NotLeader):
                return  # it was to hand over to itself, or no longer leads
            driver.wake()

        life.clock.run(ask)

    def committed_configuration(self) -> Configuration:
        """Return the latest configuration that any node knows to be committed; the first one where there is none.

        A node may know that long before it has applied it, and tell a machine that it has been taken in.
        """
        for node in self.nodes.values():
            if (raft := node.raft) is not None:
                configuration, index = raft.committed_configuration()
                if index > self._committed[0]:
                    self._committed = (index, configuration)
        return self._committed[1]

    # -- what the checkers see -----------------------------------------------------------------------------------

    def _look(self, clock: NodeClock) -> None:
        name, life = self._owners[clock]
        replica = life.replica
        is_there = life.storage is not None and self.nodes[name].life is life
        if is_there and replica is not None and self.checkers.look(name, replica.state_machine.store):
            self.coverage.look(name, replica.driver.node)
        if self.failure is not None:
            raise self.failure

    def _applied(self, name: str, entry: Entry, results: Sequence[Result]) -> None:
        self.checkers.applied(name, entry)
        for told in self.on_applied:
            told(entry)
        if entry.kind is EntryKind.CONFIGURATION and entry.index > self._committed[0]:
            self._committed = (entry.index, Configuration.decode(entry.payload))
        if not self.settings.begins_empty:
            return
        now, is_excused = self.clock.seconds(), self.checkers.states.is_excused(name, entry.index)
        self.replay.note(name, entry, results, now=now, is_excused=is_excused)
        right = self.replay.results(entry.index)
        self.applied_writes.note(entry, right)
        self.time_lines.note(entry, right, now=now)

    def _sent(self, message: Message) -> None:
        self.checkers.sent(message)
        is_vote = isinstance(message, RequestVoteResponse) and message.vote_granted and not message.pre_vote
        if is_vote and self.on_vote is not None:
            self.on_vote(message.sender)


def _standing(replica: Replica, arguments: Mapping[str, Any]) -> Standing:
    """Answer as the Raft port of a process does."""
    node, asker = replica.driver.node, arguments["asker"]
    member = node.configuration.members.get(asker.node_id)
    was_met = member is not None and member.incarnation == asker.incarnation
    return Standing(identity=replica.identity, holds=True if node.current_term > 0 else False if was_met else None)
