"""The verdict on a whole story: every judge in turn, once the cluster has come to rest.

Each judge knows one thing and is tested by itself; here is only who is asked what.
"""

from __future__ import annotations

from raftkv.testing.checkers import Violation
from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.history import History
from raftkv.testing.linearizability import check_history
from raftkv.testing.ordering import check_reads, check_real_time
from raftkv.testing.sameness import difference, past_difference
from raftkv.testing.tenancies import Tenancies

_REVISIONS_LOOKED_AT = 12  # of each node's history


def judge(history: History, cluster: SimulatedCluster) -> dict[str, int]:
    """Judge what clients saw.

    :param history: without what is excused.
    :return: how much there was to judge, by kind.
    :raises Violation: something cannot have been.
    """
    replay = cluster.replay
    settled = cluster.applied_writes.testify(history, replay.excused)
    verdict = check_history(settled)
    if not verdict.linearizable:
        raise Violation("linearizability", verdict.reason)
    cluster.time_lines.check(history)
    return {
        "reads_compared": check_reads(settled, replay),
        "operations_in_order": check_real_time(settled, replay),
        "signs_of_tenancies": Tenancies(settled, replay, drift=cluster.settings.drift).check(),
    }


def judge_states(cluster: SimulatedCluster) -> None:
    """Compare what every node holds, past included, with the plain store; the cluster must be at rest.

    :raises Violation: one of them holds something else.
    """
    plain = cluster.replay.plain
    step = 1 + (plain.revision - plain.compact_revision) // _REVISIONS_LOOKED_AT
    for name, node in cluster.nodes.items():
        replica = node.life.replica if node.life is not None else None
        if replica is None or name not in cluster.committed_configuration().members:
            continue
        store = replica.state_machine.store
        found = difference(store, plain)
        if not found and cluster.checkers.states.past_is_right:
            found = past_difference(store, plain, step=step)
        if found:
            raise Violation("wrong state", f"{name}, {found}")
