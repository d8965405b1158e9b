"""Failing seeds are made small, and still fail."""

from __future__ import annotations

from twisted.trial.unittest import SynchronousTestCase

from raftkv.testing.churn import Churn
from raftkv.testing.corruption import Corruption
from raftkv.testing.drawing import STORY_SECONDS
from raftkv.testing.excerpt import WHOLE, Excerpt
from raftkv.testing.faults import Faults
from raftkv.testing.losses import Losses
from raftkv.testing.outcome import Outcome
from raftkv.testing.shrinking import rule_of, shrink
from raftkv.testing.simulation import run_seed

CHURNING = 5  #: a seed whose members change


class Tale:
    """A story that fails as long as some of its faults come and enough clients work.

    :ivar runs: how often it was told.
    """

    def __init__(self, culprits: set[int], *, clients: int, seconds: float, otherwise: str = "") -> None:
        self.culprits = culprits
        self.clients = clients
        self.seconds = seconds
        self.otherwise = otherwise
        self.runs = 0

    def tell(self, excerpt: Excerpt) -> Outcome:
        """Tell it; fault ``n`` comes at second ``n``."""
        self.runs += 1
        end = STORY_SECONDS if excerpt.seconds is None else excerpt.seconds
        story = [
            (number, float(number), "crash")
            for number in range(1, 21)
            if number not in excerpt.without and number <= end
        ]
        clients = 10 if excerpt.clients is None else excerpt.clients
        comes = self.culprits <= {number for number, _, _ in story} and clients >= self.clients
        failure = "Violation: one rule: as ever" if comes and end >= self.seconds else self.otherwise
        return Outcome(
            seed=1,
            failure=failure,
            digest="",
            simulated_seconds=self.seconds,
            cpu_seconds=0.0,
            events=0,
            terms=0,
            entries=0,
            operations={},
            faults={},
            network={},
            disks={},
            situations=frozenset(),
            steps=frozenset(),
            story=story,
        )


class ShrinkTests(SynchronousTestCase):
    """:func:`shrink`."""

    def test_numbers_are_apart(self) -> None:
        """No two kinds of trouble share a number, or leaving out one would leave out the other too."""
        kinds = (Faults, Churn, Losses, Corruption)
        self.assertEqual([kind.NUMBERED_FROM for kind in kinds], [0, 1000, 2000, 3000])

    def test_smallest(self) -> None:
        """What is left are the faults that it takes, as few clients as it takes, and no more time than it takes."""
        tale = Tale({3, 9}, clients=2, seconds=12.0)
        shrunk = shrink(tale.tell, tale.tell(WHOLE))
        self.assertEqual([3, 9], [number for number, _, _ in shrunk.outcome.story])
        self.assertEqual((2, 12.0), (shrunk.excerpt.clients, shrunk.excerpt.seconds))
        self.assertEqual(shrunk.runs, tale.runs - 1)

    def test_no_fault_needed(self) -> None:
        """Where no fault is to blame none is left."""
        tale = Tale(set(), clients=1, seconds=0.5)
        self.assertEqual([], shrink(tale.tell, tale.tell(WHOLE)).outcome.story)

    def test_another_failure(self) -> None:
        """An excerpt that breaks another rule is not taken for the same failure."""
        tale = Tale({3, 9}, clients=2, seconds=12.0, otherwise="Violation: another rule: too")
        self.assertEqual("Violation: one rule: as ever", shrink(tale.tell, tale.tell(WHOLE)).outcome.failure)

    def test_bounded(self) -> None:
        """It gives up in time, with the smallest that it has found."""
        tale = Tale(set(range(1, 21, 2)), clients=10, seconds=25.0)
        shrunk = shrink(tale.tell, tale.tell(WHOLE), max_runs=7)
        self.assertEqual(7, shrunk.runs)
        self.assertTrue(shrunk.outcome.failure)

    def test_rules(self) -> None:
        """Failures are the same where the rule is, whoever broke it and where."""
        self.assertEqual("Violation: one vote", rule_of("Violation: one vote: n1 voted for n2 and for n3"))
        self.assertEqual("InvariantViolation", rule_of("InvariantViolation: the log has no entry 7"))


class ExcerptTests(SynchronousTestCase):
    """Stories of which a part is left out."""

    def test_other_faults_stay(self) -> None:
        """Without some of its faults a story has the others, at the same times."""
        whole = run_seed(7)
        numbers = [number for number, _, _ in whole.story]
        without = frozenset(numbers[::2])
        self.assertEqual(
            [each for each in whole.story if each[0] not in without],
            run_seed(7, excerpt=Excerpt(without=without)).story,
        )

    def test_changes_of_members_are_left_out(self) -> None:
        """A story can do without some of its changes of members, too; the others come as they did."""
        whole = run_seed(CHURNING)
        changes = [number for number, _, _ in whole.story if number > Churn.NUMBERED_FROM]
        self.assertGreater(len(changes), 5)
        without = frozenset(changes[::2])
        self.assertEqual(
            [each for each in whole.story if each[0] not in without],
            run_seed(CHURNING, excerpt=Excerpt(without=without)).story,
        )
        calm = run_seed(CHURNING, excerpt=Excerpt(without=frozenset(changes)))
        self.assertEqual(("", 0), (calm.failure, calm.faults.get("granted changes", 0)))

    def test_shorter(self) -> None:
        """The faults end when the excerpt says so, and then the cluster is mended and judged as ever."""
        outcome = run_seed(7, excerpt=Excerpt(seconds=5.0, clients=1))
        self.assertEqual("", outcome.failure)
        self.assertTrue(outcome.story)
        self.assertLess(max(seconds for _, seconds, _ in outcome.story), 5.0)

    def test_arguments(self) -> None:
        """The command line can ask for any excerpt."""
        excerpt = Excerpt(without=frozenset({5, 2}), clients=1, seconds=7.5)
        self.assertEqual(["--without", "2,5", "--clients", "1", "--until", "7.5"], excerpt.arguments())
        self.assertEqual([], WHOLE.arguments())
