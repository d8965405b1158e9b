"""What goes wrong in a simulated cluster, and when: one table of faults, drawn one after the other.

Each fault begins at a drawn moment and undoes itself after a drawn while; several may be in force at once.
:meth:`Faults.end_all` undoes everything, so that liveness can be demanded. It knows how to break a cluster and how to
mend it, and leaves to others to see what that did.
"""

from __future__ import annotations

import dataclasses
import random
from collections.abc import Callable, Container
from dataclasses import dataclass
from functools import partial

from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.diskfaults import fill_up, flip_bits, keeps_all, refuse_operations, spoil_entry
from raftkv.testing.network import NetworkSettings
from raftkv.testing.trouble import DrawnTrouble


@dataclass(frozen=True, slots=True, kw_only=True)
class FaultSettings:
    """How bad it gets.

    :ivar pause_seconds: mean time between two faults.
    :ivar mean_seconds: how long a fault lasts, in the mean.
    :ivar weights: how often each kind comes, by the name of its method in :class:`Faults`; a kind left out never.
    """

    pause_seconds: float
    mean_seconds: float
    weights: dict[str, float]


class Faults(DrawnTrouble):
    """Breaks and mends one cluster.

    :param burst: makes somebody write to a node several times, given its name and how often; likewise ``glance``, which
        makes somebody read.
    """

    NUMBERED_FROM = 0
    CALLED = "fault"

    def __init__(
        self,
        cluster: SimulatedCluster,
        *,
        random: random.Random,
        settings: FaultSettings,
        burst: Callable[[str, int], None],
        glance: Callable[[str, int], None],
        without: Container[int] = (),
    ) -> None:
        super().__init__(
            cluster, random=random, pause_seconds=settings.pause_seconds, weights=settings.weights, without=without
        )
        self._settings = settings
        self._burst = burst
        self._glance = glance
        self._calm = cluster.network.settings

    KINDS = (
        "crash",
        "kill",
        "crash_leader",
        "crash_all",
        "stop",
        "pause",
        "pause_leader",
        "isolate",
        "isolate_leader",
        "split",
        "one_way",
        "bridge",
        "usurp",
        "rival",
        "deaf_rival",
        "crash_voter",
        "break_connections",
        "reset_leader",
        "bad_network",
        "slow_disk",
        "stalled_disk",
        "transfer",
        "io_error",
        "full_disk",
        "flipped_bits",
        "torn_write",
    )

    def start(self) -> None:
        """Begin."""
        self._next()

    def end_all(self) -> None:
        """Begin no more, and mend everything at once."""
        self.end()
        cluster = self._cluster
        cluster.network.heal()
        cluster.network.settings = self._calm
        cluster.on_vote = None
        for name in cluster.names:
            cluster.nodes[name].on_batch = None
            cluster.nodes[name].disk.mend()
            cluster.mend(name)

    def _later(self, seconds: float, function: Callable[[], None]) -> None:
        chance = self._random

        def unless_over() -> None:
            if not self._is_over:
                self._random = chance
                function()

        self._cluster.clock.callLater(seconds, unless_over)

    def _for_a_while(self) -> float:
        """Draw a duration: often around an election timeout, at times far longer."""
        return min(12.0, 0.05 + self._random.expovariate(1 / self._settings.mean_seconds))

    def _anybody(self) -> str:
        return self._random.choice(self._cluster.names)

    def _leader_or_anybody(self) -> str:
        return self._cluster.leader() or self._anybody()

    # -- processes -----------------------------------------------------------------------------------------------

    def crash(self) -> None:
        """One machine loses its power."""
        self._crash(self._anybody(), power_loss=True)

    def kill(self) -> None:
        """One process is killed; what it wrote is with the operating system and will reach the disk."""
        self._crash(self._anybody(), power_loss=False)

    def crash_leader(self) -> None:
        """The leader's machine loses its power."""
        self._crash(self._leader_or_anybody(), power_loss=True)

    def crash_all(self) -> None:
        """All machines lose their power at once, and come back one after the other."""
        for name in self._cluster.names:
            self._crash(name, power_loss=True)

    def _crash(self, name: str, *, power_loss: bool) -> None:
        self._cluster.crash(name, power_loss=power_loss)
        self._later(self._for_a_while(), lambda: self._cluster.start(name))

    def stop(self) -> None:
        """One node is stopped in order, and started again later."""
        name = self._anybody()
        self._cluster.stop(name)
        self._later(3.0 + self._for_a_while(), lambda: self._cluster.mend(name))

    def pause(self) -> None:
        """One process stands still (SIGSTOP)."""
        self._pause(self._anybody())

    def pause_leader(self) -> None:
        """The leader stands still, and still believes in itself when it goes on (B30)."""
        self._pause(self._leader_or_anybody())

    def _pause(self, name: str) -> None:
        self._cluster.pause(name)
        self._later(self._for_a_while(), lambda: self._cluster.resume(name))

    def transfer(self) -> None:
        """The leader is asked to hand over."""
        self._cluster.transfer_leadership(self._random.choice((None, self._anybody())))

    def crash_voter(self) -> None:
        """The leader is killed, and whoever votes next, too, as soon as its vote is on the disk (B1)."""
        leader = self._cluster.leader()
        if leader is not None:
            self._crash(leader, power_loss=False)
        self._cluster.on_vote = self._vote_seen
        self._later(4.0, self._let_vote)

    def _vote_seen(self, voter: str) -> None:
        self._let_vote()
        self._later(self._random.choice((0.0, 0.0, 0.005)), lambda: self._crash_for_a_moment(voter))

    def _let_vote(self) -> None:
        self._cluster.on_vote = None

    def _crash_for_a_moment(self, name: str) -> None:
        self._cluster.crash(name, power_loss=self._random.random() < 0.5)
        self._later(self._random.uniform(0.05, 0.5), lambda: self._cluster.start(name))

    # -- the network ---------------------------------------------------------------------------------------------

    def isolate(self) -> None:
        """One node is cut off."""
        self._split_off({self._anybody()})

    def isolate_leader(self) -> None:
        """The leader is cut off."""
        self._split_off({self._leader_or_anybody()})

    def split(self) -> None:
        """The cluster falls into two parts, as it comes."""
        names = self._cluster.names
        self._split_off(set(self._random.sample(names, self._random.randint(1, len(names) - 1))))

    def _split_off(self, part: set[str]) -> None:
        self._cluster.network.partition(part, [name for name in self._cluster.names if name not in part])
        self._later(self._for_a_while(), self._cluster.network.heal)

    def usurp(self) -> None:
        """Leaders are cut off one after the other, each in the middle of its writes (Figures 7 and 8)."""
        self._usurp(self._random.randint(2, 4))

    def _usurp(self, rounds: int) -> None:
        cluster, chance = self._cluster, self._random
        cluster.network.heal()
        leader = cluster.leader()
        if rounds and leader is not None:
            self._burst(leader, chance.randint(1, 8))
            others = [name for name in cluster.names if name != leader]
            self._later(chance.uniform(0.0, 0.02), lambda: cluster.network.partition([leader], others))
        if rounds:
            self._later(chance.uniform(0.5, 2.0), lambda: self._usurp(rounds - 1))

    def rival(self) -> None:
        """The leader is cut off, and asked once there is another: it must not answer from what it has (B28, B30)."""
        leader = self._cluster.leader()
        if leader is not None:
            self._cluster.network.partition([leader], [name for name in self._cluster.names if name != leader])
            self._await_rival(leader, patience=100)

    def deaf_rival(self) -> None:
        """Somebody does not hear the leader that others hear; once that one campaigns, the leader is cut off (B6)."""
        cluster = self._cluster
        leader = cluster.leader()
        others = [name for name in cluster.names if name != leader]
        if leader is not None:
            deaf = self._random.choice(others)
            cluster.network.block(leader, deaf)
            self._await_campaign(leader, deaf, patience=400)

    def _await_campaign(self, leader: str, deaf: str, patience: int) -> None:
        node, rival = self._cluster.nodes[leader].raft, self._cluster.nodes[deaf].raft
        if node is None or rival is None or not patience:
            self._cluster.network.heal()
        elif rival.current_term > node.current_term:
            self._cluster.network.partition([leader], [name for name in self._cluster.names if name != leader])
            self._await_rival(leader, patience=100)
        else:
            self._later(0.005, lambda: self._await_campaign(leader, deaf, patience - 1))

    def _await_rival(self, deposed: str, patience: int) -> None:
        """Wait until somebody else leads, let that one have writes, and ask who was deposed."""
        cluster = self._cluster
        leader = cluster.leader()
        if leader is not None and leader != deposed:
            self._burst(leader, 3)
            self._later(self._random.uniform(0.01, 0.05), lambda: self._glance(deposed, 10))
            self._later(0.2 + self._for_a_while(), cluster.network.heal)
        elif patience:
            self._later(0.02, lambda: self._await_rival(deposed, patience - 1))
        else:
            cluster.network.heal()

    def one_way(self) -> None:
        """Some nodes are heard and do not hear, or the reverse (B6)."""
        for one in self._random.sample(self._cluster.names, self._random.randint(1, 2)):
            deaf = self._random.random() < 0.5
            for other in self._cluster.names:
                if other != one:
                    self._cluster.network.block(*((other, one) if deaf else (one, other)))
        self._later(self._for_a_while(), self._cluster.network.heal)

    def bridge(self) -> None:
        """Two parts that only one node can reach both of (B6)."""
        names = list(self._cluster.names)
        self._random.shuffle(names)
        middle, others = names[0], names[1:]
        half = len(others) // 2
        self._cluster.network.partition([middle, *others[:half]], [middle, *others[half:]])
        self._later(self._for_a_while(), self._cluster.network.heal)

    def break_connections(self) -> None:
        """The connections between two nodes break and are made again."""
        self._cluster.network.break_connections(*self._random.sample(self._cluster.names, 2))

    def reset_leader(self) -> None:
        """All connections of the leader are reset, so that it looks dead; it lives, and often nobody hears it.

        It may count on a lease, and is asked once there is another leader: what was promised to it must have held.
        """
        cluster, chance = self._cluster, self._random
        leader = cluster.leader()
        if leader is None:
            return
        others = [name for name in cluster.names if name != leader]
        for other in others:
            cluster.network.break_connections(leader, other)
        if chance.random() < 0.7:
            # Once everybody has seen the reset, which what cuts them off would keep from them.
            wait = chance.choice((1.0, 1.5, 4.0)) * cluster.network.settings.max_delay_seconds
            self._later(wait, lambda: cluster.network.partition([leader], others))
            self._later(wait, lambda: self._await_rival(leader, patience=100))

    def bad_network(self) -> None:
        """For a while messages are late, lost, doubled or out of order."""
        chance = self._random
        self._cluster.network.settings = dataclasses.replace(
            self._calm,
            max_delay_seconds=chance.choice((0.005, 0.05, 0.3)),
            loss=chance.choice((0.0, 0.05, 0.3)),
            duplication=chance.choice((0.0, 0.1)),
            echo_seconds=chance.choice((0.0, 0.3, 3.0)),
            reordering=chance.choice((0.0, 0.1, 0.5)),
        )
        self._later(self._for_a_while(), self._good_network)

    def _good_network(self) -> None:
        self._cluster.network.settings = self._calm

    # -- disks ---------------------------------------------------------------------------------------------------

    def slow_disk(self) -> None:
        """The disk of one node takes its time."""
        node = self._cluster.nodes[self._anybody()]
        node.disk_delay_seconds = self._random.choice((0.02, 0.1, 0.5))
        self._later(self._for_a_while(), node.disk_recovers)

    def stalled_disk(self) -> None:
        """The disk of one node, often the leader's, does nothing for a while."""
        name = self._leader_or_anybody() if self._random.random() < 0.5 else self._anybody()
        node = self._cluster.nodes[name]
        node.stall_disk()
        self._later(self._for_a_while(), node.disk_recovers)

    def torn_write(self) -> None:
        """A machine loses its power while its disk is busy, so that writes are lost, or torn."""
        name = self._anybody()
        self._burst(self._leader_or_anybody(), 8)
        self._cluster.nodes[name].on_batch = partial(self._batch_begun, name)
        self._later(1.0, partial(self._spare, name))

    def _batch_begun(self, name: str, seconds: float) -> None:
        if not self._is_over and self._random.random() < 0.5:
            self._spare(name)
            # In its second half the worker's batch has been written and synced.
            self._later(self._random.uniform(0.0, 0.5) * seconds, lambda: self._crash(name, power_loss=True))

    def _spare(self, name: str) -> None:
        self._cluster.nodes[name].on_batch = None

    def io_error(self) -> None:
        """The disk of one node refuses a write or a sync: the node has to stop (B43)."""
        node = self._cluster.nodes[self._anybody()]
        self._later(self._for_a_while(), refuse_operations(node.disk, self._random))

    def full_disk(self) -> None:
        """The disk of one node fills up: the node has to stop."""
        node = self._cluster.nodes[self._anybody()]
        self._later(self._for_a_while(), fill_up(node.disk, self._random))

    def flipped_bits(self) -> None:
        """Bits on the disk of a node flip while it is down: it has to notice (B41, B42)."""
        cluster, name = self._cluster, self._anybody()
        # Where disks are lost, nobody could say which of them the quorum can spare, or who still has an entry.
        if any(node.was_wiped or node.incarnation is None for node in cluster.nodes.values()):
            return
        if cluster.excuses.may_rot(name, cluster.settings.nodes):
            flip, what = flip_bits, "bits flipped"
        elif keeps_all(cluster.settings) and cluster.excuses.may_spoil(name):
            flip, what = spoil_entry, "entries spoiled"
        else:
            return
        self._crash(name, power_loss=self._random.random() < 0.5)
        self._count(what, flip(cluster, name, self._random))


def draw_network(chance: random.Random) -> NetworkSettings:
    """Draw the network of a run as it is when nothing is wrong with it."""
    return NetworkSettings(
        min_delay_seconds=0.0002,
        max_delay_seconds=chance.choice((0.001, 0.003, 0.01)),
        loss=chance.choice((0.0, 0.0, 0.002, 0.02)),
        duplication=chance.choice((0.0, 0.0, 0.01)),
        reordering=chance.choice((0.0, 0.0, 0.02)),
        notice_seconds=chance.choice((0.01, 0.2, 1.0)),
    )


def draw_faults(chance: random.Random) -> FaultSettings:
    """Draw which faults a run has: a few kinds, so that runs differ, at a pace of their own."""
    kinds = chance.sample(Faults.KINDS, chance.randint(1, len(Faults.KINDS)))
    return FaultSettings(
        pause_seconds=chance.choice((0.5, 1.0, 2.0, 5.0)),
        mean_seconds=chance.choice((0.5, 1.2, 4.0)),
        weights={kind: chance.uniform(0.2, 1.0) for kind in sorted(kinds)},
    )
