"""When a snapshot is due, and what of the log may go."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.snapshot.policy import compaction_index, first_look_seconds, snapshot_is_due


class PolicyTests(SynchronousTestCase):
    """Plain arithmetic."""

    def test_due(self) -> None:
        """A snapshot is due from the threshold on, if there is anything that the newest one does not hold."""
        for log_bytes, applied, due in ((99, 10, False), (100, 10, True), (500, 5, False), (500, 6, True)):
            found = snapshot_is_due(
                log_bytes=log_bytes, threshold_bytes=100, stable_applied_index=applied, snapshot_index=5
            )
            self.assertEqual(found, due)

    def test_compaction(self) -> None:
        """Some log is kept behind the snapshot, and all from the one before it on where that may be needed."""
        for snapshot, previous, trailing, index in (
            (100, None, 10, 90),
            (100, 50, 10, 50),
            (100, 95, 10, 90),
            (100, 0, 10, 0),
            (5, None, 10, 0),
        ):
            found = compaction_index(
                snapshot_index=snapshot, previous_snapshot_index=previous, trailing_entries=trailing
            )
            self.assertEqual(found, index)

    def test_staggered(self) -> None:
        """Nodes first look at different times within an interval, always the same ones."""
        looks = [first_look_seconds(node_id=f"node{number}", interval_seconds=30) for number in range(5)]
        self.assertEqual(len(set(looks)), 5)
        self.assertTrue(all(15 <= look < 30 for look in looks))
        self.assertEqual(looks[0], first_look_seconds(node_id="node0", interval_seconds=30))
