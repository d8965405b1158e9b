"""When a snapshot is due, whose turn it is, and what of the log may go."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.snapshot.policy import Turn, compaction_index, snapshot_is_due, turn_of


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


class TurnTests(SynchronousTestCase):
    """Who takes one when."""

    def test_order(self) -> None:
        """The turns go by name, and the leader's is the last one, whoever it is; all nodes find the same."""
        members = {"c", "a", "b"}
        for leader, order in (("a", "bca"), ("c", "abc"), (None, "abc"), ("x", "abc")):
            found = {turn_of(name, members=members, leader=leader).place: name for name in members}
            self.assertEqual("".join(name for _, name in sorted(found.items())), order)
        self.assertEqual(turn_of("x", members=members, leader="a"), Turn(place=0, count=1))

    def test_each_moment_is_one_turn(self) -> None:
        """At each moment it is the turn of exactly one member, and each has its turn once in an interval."""
        turns = [Turn(place=place, count=3) for place in range(3)]
        seen = []
        for moment in range(60):
            (whose,) = [turn.place for turn in turns if turn.is_now(now_seconds=moment + 0.5, interval_seconds=30.0)]
            seen.append(whose)
        self.assertEqual(seen, [0] * 10 + [1] * 10 + [2] * 10 + [0] * 10 + [1] * 10 + [2] * 10)

    def test_wait(self) -> None:
        """The wait ends when a turn begins; within a turn it is that for the next one."""
        turn = Turn(place=1, count=3)
        for now, wait in ((0, 10), (9.5, 0.5), (10, 30), (12, 28), (29, 11), (3000, 10)):
            self.assertAlmostEqual(turn.seconds_until(now_seconds=now, interval_seconds=30.0), wait)
