"""What a mended cluster has to come to: a leader, one log, answers for everybody, and nothing left over."""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from raftkv.raft.configuration import Configuration, Member
from raftkv.testing.checkers import Violation
from raftkv.testing.churn import Churn
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.history import History, OperationOutcome
from raftkv.testing.watching import Watchers
from raftkv.testing.workload import Workload

LIVENESS_SECONDS: Final = 20.0  #: within which a mended cluster must agree, and answer


class Liveness:
    """Demands progress of one cluster, whose troubles are over."""

    def __init__(
        self, cluster: SimulatedCluster, *, workload: Workload, history: History, churn: Churn, watchers: Watchers
    ) -> None:
        self._cluster = cluster
        self._workload = workload
        self._history = history
        self._churn = churn
        self._watchers = watchers

    def demand(self, condition: Callable[[], bool], what: str) -> None:
        """Let the world go on until a condition holds.

        :raises Violation: it does not within :data:`LIVENESS_SECONDS`.
        """
        if not self._cluster.clock.run_while(lambda: not condition(), limit_seconds=LIVENESS_SECONDS):
            raise Violation("liveness", f"not within {LIVENESS_SECONDS:g} seconds: {what}; {self.describe()}")

    def is_whole(self) -> bool:
        """Tell whether no change of the members is under way, promotions included; whoever lost a disk votes again."""
        leader = self._cluster.leader()
        first = self._cluster.nodes[leader].raft if leader is not None else None
        if first is None:
            return False
        configuration, index = first.committed_configuration()
        lost = {name for name, node in self._cluster.nodes.items() if node.was_wiped}
        if lost - configuration.voters and not self._churn.counts:
            return False
        is_final = index == first.configuration_index and not configuration.is_joint and not configuration.promoting
        out = self._cluster.excuses.out
        return is_final and all(name in out or self._is_there(member) for name, member in configuration.members.items())

    def _is_there(self, member: Member) -> bool:
        """Tell whether the node that a configuration means is running, and not one with another disk in its place."""
        node = self._cluster.nodes[member.id]
        return node.raft is not None and member.incarnation in ("", node.incarnation)

    def is_settled(self) -> bool:
        """Tell whether every member that can be follows one leader, and has applied all of its log."""
        leader = self._cluster.leader()
        first = self._cluster.nodes[leader].raft if leader is not None else None
        if first is None:
            return False
        for name in first.configuration.members:
            node = self._cluster.nodes[name]
            raft, life = node.raft, node.life
            if node.name in self._cluster.excuses.out:
                continue
            if raft is None or life is None or life.replica is None or raft.disk_lacks_room:
                return False
            if (raft.leader, raft.current_term, raft.last_index) != (leader, first.current_term, first.last_index):
                return False
            if not raft.commit_index == life.replica.state_machine.store.applied_index == first.last_index:
                return False
        return True

    def everybody_answers(self) -> None:
        """Every node takes a write, and every key can be read through every node."""
        client = self._workload.clients[0]
        under_way: list[object] = []

        def finished() -> None:
            under_way.pop()

        begun = len(self._history)
        for name in sorted(self._cluster.committed_configuration().members):
            if name in self._cluster.excuses.out:
                continue
            under_way.append(name)
            client.operate("put", b"k0", -1, finished, nodes=[name])
            self.demand(lambda: not under_way, f"{name} takes a write")
            for number in range(self._workload.settings.keys):
                under_way.append(name)
                client.operate("get", b"k%d" % number, -1, finished, nodes=[name])
            self.demand(lambda: not under_way, f"{name} answers reads")
        for operation in list(self._history)[begun:]:
            if operation.outcome is not OperationOutcome.OK and not self._cluster.network.settings.loss:
                raise Violation("liveness", f"an operation of a mended cluster failed: {operation}")

    def nothing_is_owed(self) -> bool:
        """Tell whether every write that a node took has been answered; a broken connection takes a while to notice."""
        replicas = [node.life.replica for node in self._cluster.nodes.values() if node.life is not None]
        return all(replica is not None and not replica.counters()["pending_commands"] for replica in replicas)

    def nothing_is_held(self) -> bool:
        """Tell whether no lease is left, and nobody holds a lock or waits for one."""
        plain = self._cluster.replay.plain
        return not plain.leases and not any(plain.queues.values())

    def describe(self) -> str:
        """Return where each node stands, in words."""
        parts = []
        for name, node in self._cluster.nodes.items():
            raft, life = node.raft, node.life
            if raft is None or life is None or life.replica is None:
                parts.append(f"{name} is down")
                continue
            applied = life.replica.state_machine.store.applied_index
            parts.append(
                f"{name} {raft.role.value} of {raft.leader} in term {raft.current_term}, log {raft.first_index} to"
                f" {raft.last_index}, stable {raft.stable_index}, committed {raft.commit_index}, applied {applied},"
                f" {life.replica.status()['role']} of {_in_words(raft.configuration)} at {raft.configuration_index}"
            )
        return "; ".join([*parts, f"watchers at {self._watchers.describe()}"])


def _in_words(configuration: Configuration) -> str:
    """Return a configuration on less than a line: voters, old voters behind a slash, learners behind a plus."""
    outgoing = f"/{','.join(sorted(configuration.outgoing_voters))}" if configuration.is_joint else ""
    learners = sorted(configuration.learners | configuration.learners_next)
    marked = ",".join(f"{name}{'^' if name in configuration.promoting else ''}" for name in learners)
    return f"[{','.join(sorted(configuration.voters))}{outgoing}{'+' + marked if marked else ''}]"
