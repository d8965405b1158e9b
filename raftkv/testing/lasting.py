"""A fault that stays when all others are mended: whoever else is a majority must have a leader that stays (B6)."""

from __future__ import annotations

import random
from typing import Final

from raftkv.testing.checkers import Violation
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.liveness import Liveness
from raftkv.testing.workload import Workload

LASTING_SECONDS: Final = 4.0  #: that a fault lasts which the cluster has to live with, before it is judged
STEADY_SECONDS: Final = 2.5  #: that its leader must stay from then on

#: What stays broken for a while when everything else is mended; mostly nothing.
_LASTING: Final = ("deaf leader", "mute leader", "bridge", "bridge", *[""] * 6)


def draw_lasting(chance: random.Random) -> str:
    """Draw what stays broken; empty for nothing."""
    return _LASTING[chance.randrange(len(_LASTING))]


class LastingFault:
    """Something that stays broken for a while.

    :param kind: as :func:`draw_lasting` returns it.
    """

    def __init__(self, cluster: SimulatedCluster, *, kind: str, workload: Workload, liveness: Liveness) -> None:
        self._cluster = cluster
        self._kind = kind
        self._workload = workload
        self._liveness = liveness

    def run(self) -> None:
        """Let it stay broken: whoever else is a majority must have a leader that stays, and commits.

        It must stay while nobody writes, too: a log that grows would keep out some that must not stand for election.
        Behind a bridge the leader keeps a majority, and nobody has a reason to take its place.

        :raises Violation: they have none.
        """
        cluster, demand, kind = self._cluster, self._liveness.demand, self._kind
        if not kind or cluster.excuses.out:
            return
        # Whose disk stalled until now may still hand over: a stall is over only after an election timeout without one.
        cluster.clock.run_until(cluster.clock.seconds() + 2 * cluster.settings.election_timeout_seconds)
        demand(lambda: cluster.leader() is not None, "a mended cluster keeps a leader")
        leader = cluster.leader() or ""
        cluster.trace.note(f"lasting {kind}")
        term = self._break_links(leader, [name for name in cluster.names if name != leader])
        cluster.clock.run_until(cluster.clock.seconds() + STEADY_SECONDS)
        if self._latest_term() != term:
            raise Violation("liveness", f"no leader stays, with a {kind}: {self._liveness.describe()}")
        demand(lambda: cluster.leader() is not None, f"with a {kind} somebody leads")
        self._write_to(cluster.leader() or leader)
        cluster.network.heal()
        demand(self._liveness.is_settled, "the cluster whose last link was mended agrees on a leader and a log")

    def _break_links(self, leader: str, others: list[str]) -> int:
        """Break what is to be broken; return the term whose leader has to stay from now on."""
        cluster = self._cluster
        if self._kind == "bridge":  # one half of the others hears everybody
            term = self._latest_term()
            cluster.network.partition([leader, *others[: len(others) // 2]], others)
            return term
        for other in others:
            if self._kind == "deaf leader":
                cluster.network.block(other, leader)
            elif self._kind == "mute leader":
                cluster.network.block(leader, other)
        cluster.clock.run_until(cluster.clock.seconds() + LASTING_SECONDS)
        return self._latest_term()

    def _write_to(self, leader: str) -> None:
        wanted = self._latest_commit() + 1
        self._workload.write_to(leader)
        self._liveness.demand(lambda: self._latest_commit() >= wanted, f"with a {self._kind} the leader commits")
        self._liveness.demand(lambda: self._workload.is_idle, "a single write returns")

    def _latest_term(self) -> int:
        return max(node.raft.current_term for node in self._cluster.nodes.values() if node.raft is not None)

    def _latest_commit(self) -> int:
        return max(node.raft.commit_index for node in self._cluster.nodes.values() if node.raft is not None)
