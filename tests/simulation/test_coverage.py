"""What counts as a situation of a cluster that is worth counting."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.ready import Role
from raftkv.testing.coverage import Coverage
from raftkv.testing.simulation import run_seed
from tests.simulation.test_checkers import FakeNode


class CoverageTests(SynchronousTestCase):
    """:class:`Coverage`."""

    def test_who_is_who(self) -> None:
        """It makes no difference which of two nodes leads."""
        situations = []
        for leader, follower in ("ab", "ba"):
            coverage = Coverage()
            coverage.look(follower, FakeNode(current_term=1))
            coverage.look(leader, FakeNode(current_term=1))
            coverage.look(leader, FakeNode(role=Role.LEADER, current_term=1))
            situations.append(coverage.situations)
        self.assertEqual(*situations)

    def test_relations(self) -> None:
        """Numbers count only as far as they differ between nodes: the tenth quiet entry is nothing new."""
        coverage = Coverage()
        counts = []
        for index in range(1, 11):
            coverage.look("a", FakeNode(current_term=1, terms=[1] * index, commit_index=index - 1))
            coverage.look("a", FakeNode(current_term=1, terms=[1] * index, commit_index=index))
            counts.append((len(coverage.situations), len(coverage.steps)))
        self.assertEqual(counts[1], counts[-1])

    def test_seeds(self) -> None:
        """A seed goes through many situations, and a second one through some that the first has not seen."""
        first, second = run_seed(1).situations, run_seed(2).situations
        self.assertGreater(len(first), 20)
        self.assertTrue(second - first)
