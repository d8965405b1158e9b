"""What became of one story, and what happened in it, counted."""

from __future__ import annotations

from collections import Counter
from dataclasses import dataclass, field

from raftkv.testing.cluster import SimulatedCluster
from raftkv.testing.errands import name_of_errand
from raftkv.testing.history import History, OperationOutcome


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """What became of one seed.

    :ivar failure: what went wrong, in one line; empty where nothing did.
    :ivar details: the same at length.
    :ivar digest: checksum of the whole story.
    :ivar simulated_seconds: how long it was; ``cpu_seconds`` is what it took to tell.
    :ivar operations: of the clients, by outcome.
    :ivar faults: how often each kind was begun; likewise ``network`` and ``disks`` for what happened to messages and
        writes, and to nodes because of their disks.
    :ivar situations: checksums of the situations that the cluster was in; likewise ``steps`` between them.
    :ivar story: the faults, the changes of members and the lost disks, one after the other: number, time and kind.
    :ivar lines: everything that happened, where it was asked for.
    """

    seed: int
    failure: str = ""
    details: str = ""
    digest: str
    simulated_seconds: float
    cpu_seconds: float
    events: int
    terms: int
    entries: int
    operations: dict[str, int]
    faults: dict[str, int]
    network: dict[str, int]
    disks: dict[str, int]
    situations: frozenset[int]
    steps: frozenset[int]
    story: list[tuple[int, float, str]]
    lines: list[str] = field(default_factory=list)


def count_disks(cluster: SimulatedCluster) -> dict[str, int]:
    """Add up what befell the disks of a cluster, and the nodes because of them."""
    counts = Counter(cluster.excuses.counts)
    counts.update(cluster.readings)
    for node in cluster.nodes.values():
        counts.update(node.disk.counts)
    return dict(counts)


def count_operations(history: History) -> dict[str, int]:
    """Count the operations by outcome, and the reads that were answered by consistency."""
    counts = {outcome.value: history.count(outcome) for outcome in OperationOutcome}
    for operation in history:
        if operation.kind in ("read", "write") and operation.outcome is OperationOutcome.OK:
            name = name_of_errand(operation)
            counts[name] = counts.get(name, 0) + 1
        if operation.is_read and operation.outcome is OperationOutcome.OK:
            name = f"{operation.consistency}_reads"
            counts[name] = counts.get(name, 0) + 1
            if operation.consistency == "stale" and operation.staleness_seconds is not None:
                counts["stale_reads_of_known_age"] = counts.get("stale_reads_of_known_age", 0) + 1
    return counts
