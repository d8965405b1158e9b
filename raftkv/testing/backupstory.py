"""A story with backups and archives: the usual seeds, with somebody who fetches backups, and archives that fail."""

from __future__ import annotations

import random

from raftkv.server.assembly import assemble
from raftkv.testing.backups import Backups
from raftkv.testing.cluster import Composition
from raftkv.testing.excerpt import WHOLE, Excerpt
from raftkv.testing.outcome import Outcome
from raftkv.testing.simulation import Simulation


class BackupSimulation(Simulation):
    """A :class:`Simulation` in which each machine has an archive.

    No state is changed behind a node's back here: as long as nobody knows of it, a backup holds what the node holds.
    """

    def __init__(
        self, seed: int, compose: Composition = assemble, *, keep_trace: bool = False, excerpt: Excerpt = WHOLE
    ) -> None:
        super().__init__(seed, compose, keep_trace=keep_trace, excerpt=excerpt)
        self._of_backups = random.Random(f"raftkv backups {seed}")
        self.backups = Backups(
            self.cluster,
            random=random.Random(self._of_backups.getrandbits(64)),
            without=excerpt.without,
        )

    def _tell(self) -> None:
        self.corruption.end()
        self.backups.start()
        self.cluster.clock.callLater(self.story_seconds, self.backups.end)
        super()._tell()
        self.liveness.demand(self.backups.is_archived, "every node has archived its log")
        self.backups.check(self._of_backups)

    def _outcome(self, failure: str, details: str, cpu_seconds: float) -> Outcome:
        self.faults.counts.update(self.backups.counts)
        return super()._outcome(failure, details, cpu_seconds)


def run_backup_seed(
    seed: int, compose: Composition = assemble, *, keep_trace: bool = False, excerpt: Excerpt = WHOLE
) -> Outcome:
    """Tell the story of one seed, with backups."""
    return BackupSimulation(seed, compose, keep_trace=keep_trace, excerpt=excerpt).run()
