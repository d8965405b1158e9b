"""The promise that each story of a cluster under faults can be told again."""

from __future__ import annotations

import os
import subprocess
import sys

from twisted.trial.unittest import SynchronousTestCase

from raftkv.testing.simulation import run_seed


class DeterminismTests(SynchronousTestCase):
    """One seed, one story."""

    def test_same_story_twice(self) -> None:
        """A seed that is run twice gives the same events, line for line."""
        first, second = (run_seed(4, keep_trace=True) for _ in range(2))
        self.assertEqual(first.lines, second.lines)
        self.assertEqual(first.digest, second.digest)
        self.assertGreater(len(first.lines), 1000)

    def test_different_seeds(self) -> None:
        """Two seeds tell two stories."""
        self.assertNotEqual(run_seed(1).digest, run_seed(2).digest)

    def test_hash_seed(self) -> None:
        """The story does not depend on the order in which Python hashes text (B40)."""
        script = "from raftkv.testing.simulation import run_seed; print([run_seed(seed).digest for seed in (3, 5)])"
        path = os.pathsep.join(entry for entry in sys.path if entry)
        stories = {
            subprocess.run(
                [sys.executable, "-c", script],
                env={**os.environ, "PYTHONHASHSEED": hash_seed, "PYTHONPATH": path},
                capture_output=True,
                text=True,
                check=True,
            ).stdout
            for hash_seed in ("1", "2")
        }
        self.assertEqual({f"{[run_seed(seed).digest for seed in (3, 5)]}\n"}, stories)
