"""What follows a snapshot is done a little in each turn, so that it is no pause."""

from __future__ import annotations

from itertools import pairwise

from raftkv.kvstore.commands import put
from raftkv.server import snapshotter
from tests.server.test_replica import ReplicaTestCase


class CompactionTests(ReplicaTestCase):
    """The log in memory after a snapshot, when it is long."""

    def setUp(self) -> None:
        self.patch(snapshotter, "_FORGOTTEN_AT_ONCE", 3)
        super().setUp()
        self.run_for(3)

    def write_much(self) -> list[int]:
        """Write until a snapshot has log in front of it to be dropped; return up to where each step dropped it."""
        node = self.replica.driver.node
        steps: list[int] = []
        compact = node.compact

        def noted(index: int) -> None:
            compact(index)
            steps.append(node.first_index)

        self.patch(node, "compact", noted)
        while not steps:
            self.write(put(b"k", b"v" * 200))
            self.clock.advance(0.01)
        return steps

    def test_a_little_at_a_time(self) -> None:
        """A long log is dropped in steps of a few entries, one in each call of the reactor, and in the end is gone."""
        steps = self.write_much()
        self.run_for(0.1)
        self.assertEqual(steps[0], 4)
        self.assertEqual({later - first for first, later in pairwise(steps[:-1])}, {3})
        self.assertGreater(len(steps), 5)
        self.assertEqual(steps[-1], self.replica.status()["first_index"])

    def test_stopped_in_between(self) -> None:
        """A stop does not wait for the rest, and leaves no turn behind."""
        self.write_much()
        self.successResultOf(self.stop())
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.assertEqual(self.fatal, [])
