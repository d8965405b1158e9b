"""How a node with an empty data directory finds out whether there is a cluster yet."""

from __future__ import annotations

import dataclasses

from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.errors import NoLeader
from raftkv.interfaces import Identity, Joined, Standing
from raftkv.membership.founding import Found, Founding, Rejoin, Wait, decide

PEERS = {"a": "a:1", "b": "b:1", "c": "c:1"}


def identity(name: str, incarnation: str = "") -> Identity:
    """Return who a node is."""
    return Identity(
        cluster_id="c1",
        node_id=name,
        incarnation=incarnation or name.upper(),
        raft_addr=f"{name}:1",
        rpc_addr=f"{name}:2",
        http_addr=f"{name}:3",
    )


def standing(name: str, *, holds: bool = False) -> Standing:
    """Return what a node says."""
    return Standing(identity=identity(name), holds=holds)


class DecideTests(SynchronousTestCase):
    """The decision, from what the others have said."""

    def decide(self, *answers: Standing, patient: bool = False) -> Found | Rejoin | Wait:
        """Decide for node a of three."""
        given = {answer.identity.node_id: answer for answer in answers}
        return decide(identity("a"), PEERS, given, silent={}, patient=patient)

    def test_all_empty(self) -> None:
        """Nodes that all hold nothing found a cluster that knows the incarnation of each."""
        decision = self.decide(standing("b"), standing("c"), patient=True)
        assert isinstance(decision, Found)
        decision.configuration.validate()
        incarnations = {name: member.incarnation for name, member in decision.configuration.members.items()}
        self.assertEqual(incarnations, {"a": "A", "b": "B", "c": "C"})
        self.assertEqual(decision.configuration.voters, {"a", "b", "c"})

    def test_majority_empty(self) -> None:
        """A majority is enough once the others were given time; whoever was not met has no incarnation yet."""
        self.assertIsInstance(self.decide(standing("b"), patient=True), Wait)
        decision = self.decide(standing("b"))
        assert isinstance(decision, Found)
        self.assertEqual(decision.configuration.members["c"].incarnation, "")
        self.assertEqual(decision.configuration.members["c"].raft_addr, "c:1")

    def test_alone(self) -> None:
        """B24: a minority waits, however long; it says for whom."""
        decision = self.decide()
        assert isinstance(decision, Wait)
        self.assertIn("waiting for an answer of b at b:1 (not asked yet), c at c:1 (not asked yet)", decision.reason)
        self.assertIn("1 of 3 nodes are here", decision.reason)

    def test_somebody_holds_something(self) -> None:
        """B24: one node that has been in a term is enough: then there is a cluster, and this node joins it."""
        for answers in ((standing("c", holds=True),), (standing("b"), standing("c", holds=True))):
            for patient in (False, True):
                decision = self.decide(*answers, patient=patient)
                self.assertEqual(decision, Rejoin(peers=("c",), addresses=("c:2",)))

    def test_founder_that_cannot_tell(self) -> None:
        """B24: a founder that has not met this node, nor been in any term, is no reason to join, and none to begin."""
        unsure = dataclasses.replace(standing("c"), holds=None)
        decision = self.decide(unsure, patient=False)
        assert isinstance(decision, Wait)
        self.assertIn("c at c:1 (it founds the cluster, and has not met this node)", decision.reason)
        decision = self.decide(standing("b"), unsure, patient=False)
        assert isinstance(decision, Found)
        self.assertEqual(decision.configuration.members["c"].incarnation, "")


class FoundingTests(SynchronousTestCase):
    """The service."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.answers: dict[str, Standing | None] = {"b": None, "c": None}
        self.founded: list[Joined] = []
        self.rejoined: list[tuple[str, ...]] = []
        self.failed: list[Exception] = []
        self.asked: list[tuple[str, str]] = []
        self.service = Founding(
            own=identity("a"),
            peers=PEERS,
            ask=self.ask,
            clock=self.clock,
            patience_seconds=3.0,
            founded=self.founded.append,
            rejoin=lambda: self.rejoined.append(self.service.addresses),
            failed=self.failed.append,
        )
        self.addCleanup(lambda: self.assertEqual((self.clock.getDelayedCalls(), self.failed), ([], [])))

    def ask(self, peer: str, address: str) -> Deferred[Standing]:
        """Answer as the test says; who has nothing to say cannot be reached."""
        self.asked.append((peer, address))
        fired: Deferred[Standing] = Deferred()
        answer = self.answers[peer]
        if answer is not None:
            fired.callback(answer)
        elif peer != "c":
            fired.errback(NoLeader())
        return fired  # and c never answers at all

    def run_for(self, seconds: float) -> None:
        """Let time go by."""
        self.clock.pump([0.1] * round(seconds * 10))

    def test_founds(self) -> None:
        """With everybody there it founds at once, as the first of all configurations."""
        self.answers = {"b": standing("b"), "c": standing("c")}
        self.service.startService()
        (joined,) = self.founded
        self.assertTrue(joined.is_founder)
        self.assertEqual((joined.incarnation, joined.cluster_id, joined.configuration_index), ("A", "c1", 0))
        self.assertEqual(self.asked, [("b", "b:1"), ("c", "c:1")])

    def test_waits_for_the_slow(self) -> None:
        """With a majority it gives the others a while, in which a node that holds something may be heard."""
        self.answers["b"] = standing("b")
        self.service.startService()
        self.run_for(2.1)
        self.assertEqual(self.founded, [])
        self.assertIn("waiting for an answer of c at c:1 (no answer)", self.service.reason)
        self.answers["c"] = standing("c", holds=True)
        self.run_for(3)
        self.assertEqual(self.rejoined, [("c:2",)])
        # It goes on asking: who knew of the cluster first may go away, and that it has begun stays true.
        self.answers = {"b": standing("b", holds=True), "c": None}
        self.run_for(10)
        self.assertEqual(self.service.addresses, ("b:2",))
        self.answers = {"b": standing("b"), "c": standing("c")}
        self.run_for(10)
        self.assertEqual((self.founded, self.rejoined), ([], [("c:2",)]))
        self.successResultOf(self.service.stopService())

    def test_founds_with_a_majority(self) -> None:
        """Who stays silent is not waited for for ever."""
        self.answers["b"] = standing("b")
        self.service.startService()
        self.run_for(10)
        self.assertEqual(len(self.founded), 1)

    def test_answers_of_one_round(self) -> None:
        """B24: that somebody held nothing a while ago means nothing now."""
        self.answers["b"] = standing("b")
        self.service.startService()
        self.run_for(1)
        self.answers["b"] = None
        self.run_for(20)
        self.assertEqual((self.founded, self.rejoined), ([], []))
        self.assertIn("b at b:1 (no leader is known", self.service.reason)
        self.successResultOf(self.service.stopService())

    def test_stopped(self) -> None:
        """A service that is stopped asks no more, whether it waits for answers or for the next round."""
        self.service.startService()
        self.run_for(0.5)
        self.successResultOf(self.service.stopService())
        self.asked.clear()
        self.run_for(10)
        self.assertEqual((self.asked, self.founded, self.rejoined), ([], [], []))
