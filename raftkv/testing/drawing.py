"""What kind of story a seed tells: the shape of its cluster and what its clients do, drawn from chance.

The misfortunes are drawn beside what carries them out (:mod:`raftkv.testing.faults` and its like).
"""

from __future__ import annotations

import dataclasses
import random
from typing import Any, Final

from raftkv.testing.cluster import ClusterSettings
from raftkv.testing.errands import MIXES
from raftkv.testing.workload import WorkloadSettings

STORY_SECONDS: Final = 30.0  #: of faults and clients

#: A few small entries in each message, few messages under way, few entries applied at once, some writes refused.
_NARROW_BOUNDS: Final = {
    "max_append_bytes": 200,
    "max_inflight_messages": 3,
    "max_inflight_bytes": 500,
    "max_committed_bytes": 300,
    "max_uncommitted_bytes": 2000,
}


class Chances:
    """The sources of chance of one seed: each subject has its own, so that what one draws changes no other.

    :ivar story: of whatever has none of its own, in the order in which it is drawn.
    """

    def __init__(self, seed: int) -> None:
        self.story = random.Random(f"raftkv {seed}")
        self.cache = random.Random(f"raftkv cache {seed}")
        self.churn = random.Random(f"raftkv churn {seed}")
        self.corruption = random.Random(f"corruption {seed}")
        self.errands = random.Random(f"raftkv errands {seed}")
        self.lasting = random.Random(f"raftkv lasting {seed}")
        self.losses = random.Random(f"raftkv losses {seed}")
        self.reads = random.Random(f"reads {seed}")
        self.scarcity = random.Random(f"raftkv scarcity {seed}")
        self.succession = random.Random(f"raftkv succession {seed}")
        self.watchers = random.Random(f"raftkv watchers {seed}")


def draw_cluster(chance: random.Random) -> ClusterSettings:
    """Draw the shape of a cluster."""
    return ClusterSettings(
        nodes=chance.choice((3, 3, 3, 5)),
        heartbeat_interval_seconds=0.1,
        election_timeout_seconds=chance.choice((0.5, 0.8)),
        snapshot_interval_seconds=chance.choice((0.3, 0.3, 1.0, 5.0)),
        snapshot_threshold_bytes=chance.choice((512, 512, 2048, 65536)),
        trailing_entries=chance.choice((0, 2, 10, 1024)),
        max_snapshots=chance.choice((1, 2)),
        segment_bytes=chance.choice((4096, 16384)),
        raft_bounds=chance.choice(({}, _NARROW_BOUNDS)),
        max_batch_commands=chance.choice((4096, 1)),
        request_timeout_seconds=chance.choice((5.0, 1.5)),
        drift=chance.choice((0.0, 0.01, 0.1)),
        disk_delay_seconds=chance.choice((0.001, 0.004, 0.02)),
    )


def draw_cache(chance: random.Random) -> int:
    """Draw what the log may take of memory: mostly so little that members and state machines are served from disk."""
    return chance.choice((1, 1, 200, 1000, 4000, 32 * 1024 * 1024))


def draw_history(chance: random.Random) -> dict[str, Any]:
    """Draw how much of the past is kept, and how many leases and locks there may be."""
    return {
        "history_max_revisions": chance.choice((5, 50, 50, 1000)),
        "history_max_age_seconds": chance.choice((0.0, 0.0, 3.0)),
        "max_leases": chance.choice((100_000, 100_000, 100_000, 3)),
        "max_lock_waiters": chance.choice((100_000, 100_000, 100_000, 2)),
    }


def draw_leases(chance: random.Random, settings: ClusterSettings) -> ClusterSettings:
    """Draw whether leaders keep a lease; the nodes know exactly how bad their clocks may be, and no more."""
    return dataclasses.replace(settings, lease_reads=chance.random() < 0.7, clock_drift_bound=settings.drift)


def draw_notes(interval: int, settings: ClusterSettings) -> ClusterSettings:
    """Give a cluster whose states are changed the interval of its notes.

    Its logs stay whole, so that nobody needs a snapshot to follow: one of a state that nobody knows to be wrong yet
    could make a majority of it.
    """
    return dataclasses.replace(settings, note_interval=interval, trailing_entries=100_000) if interval else settings


def draw_workload(chance: random.Random) -> WorkloadSettings:
    """Draw what the clients do: some 300 operations in all."""
    clients = chance.choice((3, 6, 10))
    return WorkloadSettings(
        clients=clients,
        keys=chance.choice((1, 3, 6)),
        think_seconds=clients * STORY_SECONDS / 330,
        patience_seconds=chance.choice((0.5, 2.0, 6.0)),
        attempts=chance.choice((2, 4, 8)),
        session_share=chance.choice((0.0, 0.5, 1.0)),
        large_share=chance.choice((0.0, 0.0, 0.1, 0.4)),
    )


def draw_errands(chance: random.Random, settings: WorkloadSettings) -> WorkloadSettings:
    """Draw what clients do beyond plain operations; nothing at all in some of the stories."""
    share = chance.choice((0.0, 0.5, 0.75, 0.75))
    think_seconds = settings.think_seconds * (1 + 0.5 * share)  # for what they cost: leases that run, many readers
    return dataclasses.replace(settings, think_seconds=think_seconds, errand_share=share, mix=chance.choice(MIXES))


def draw_reads(chance: random.Random, settings: WorkloadSettings) -> WorkloadSettings:
    """Draw how consistent the clients want their reads to be."""
    lease_share, stale_share = chance.choice(((0.0, 0.0), (0.4, 0.3), (0.9, 0.0), (0.2, 0.7)))
    return dataclasses.replace(settings, lease_share=lease_share, stale_share=stale_share)
