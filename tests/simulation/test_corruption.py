"""States that are changed behind the nodes' backs: the simulator sees what the product makes of them."""

from __future__ import annotations

import random

from twisted.trial.unittest import SynchronousTestCase

from raftkv.config import NodeConfig
from raftkv.kvstore import Store
from raftkv.kvstore.commands import pack_batch, put
from raftkv.server.assembly import Assembled, Surroundings, assemble
from raftkv.testing.churn import draw_churn
from raftkv.testing.corruption import POISON, draw_corruption, put_stray_key, put_stray_value
from raftkv.testing.outcome import Outcome
from raftkv.testing.simulation import run_seed


def seeds_with_corruption(count: int) -> list[int]:
    """Return the first seeds in whose stories states are changed."""
    found: list[int] = []
    seed = 0
    while len(found) < count:
        churn = draw_churn(random.Random(f"raftkv churn {seed}"))[1]
        drawn = draw_corruption(random.Random(f"corruption {seed}"), members_change=bool(churn.weights))
        if drawn[0]:
            found.append(seed)
        seed += 1
    return found


SEEDS = seeds_with_corruption(12)


class StrayTests(SynchronousTestCase):
    """What is done to a store."""

    def setUp(self) -> None:
        self.stores = (Store(), Store())
        self.write(1, b"a", b"1")

    def write(self, index: int, key: bytes, value: bytes) -> None:
        for store in self.stores:
            store.apply(index, pack_batch(0, 0, [put(key, value)]))

    def digests_differ(self) -> bool:
        wrong, right = self.stores
        self.assertEqual(wrong.revision, right.revision)
        return wrong.digest() != right.digest()

    def test_stray_key(self) -> None:
        """A stray key changes the digest for good, and no revision (B38)."""
        self.assertTrue(put_stray_key(self.stores[0], POISON))
        self.write(2, b"a", b"2")
        self.assertTrue(self.digests_differ())

    def test_stray_value(self) -> None:
        """A stray value changes the digest until its key is written again."""
        self.assertTrue(put_stray_value(self.stores[0], POISON, random.Random(1)))
        self.assertEqual(self.stores[0].get(b"a"), (POISON, 1, 1, 1, 0))
        self.assertTrue(self.digests_differ())
        self.write(2, b"a", b"2")
        self.assertFalse(self.digests_differ())

    def test_not_into_a_snapshot(self) -> None:
        """Nothing is changed while a snapshot is taken: it would be the snapshot that is broken."""
        view = self.stores[0].capture()
        self.assertFalse(put_stray_key(self.stores[0], POISON))
        self.assertFalse(put_stray_value(self.stores[0], POISON, random.Random(1)))
        view.close()


class StoryTests(SynchronousTestCase):
    """Whole stories."""

    def test_sound(self) -> None:
        """Every wrong state is found, fetched anew and right again, whatever else goes wrong (B38, B42)."""
        outcomes = [run_seed(seed) for seed in SEEDS]
        self.assertEqual([outcome.failure for outcome in outcomes if outcome.failure], [])
        faults = {
            name: sum(outcome.faults.get(name, 0) for outcome in outcomes)
            for name in ("stray_key", "stray_value", "states right again")
        }
        self.assertGreater(min(faults.values()), 0)
        self.assertEqual(faults["stray_key"] + faults["stray_value"], faults["states right again"])

    def first_failure(self, compose: object) -> Outcome:
        """Run seeds until one fails."""
        for seed in SEEDS:
            outcome = run_seed(seed, compose)  # type: ignore[arg-type]  # a broken composition
            if outcome.failure:
                return outcome
        raise AssertionError("no seed has noticed")

    def test_serving_while_fenced(self) -> None:
        """A node that goes on to serve what it knows to be wrong is noticed."""

        def compose(config: NodeConfig, world: Surroundings) -> Assembled:
            assembled = assemble(config, world)
            assembled.replica.fence.refusal = lambda consistency=None: None  # type: ignore[method-assign]
            return assembled

        self.assertIn("fenced node serves", self.first_failure(compose).failure)

    def test_never_comparing(self) -> None:
        """Nodes that never compare their states are noticed: a wrong one stays wrong."""

        def compose(config: NodeConfig, world: Surroundings) -> Assembled:
            assembled = assemble(config, world)
            assembled.replica.fence.stop()
            return assembled

        self.assertIn("every node holds the state of the majority", self.first_failure(compose).failure)
