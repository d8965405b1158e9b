"""The command line of the simulator."""

from __future__ import annotations

import io
import json
from contextlib import redirect_stderr, redirect_stdout

from twisted.trial.unittest import SynchronousTestCase

from raftkv.raft.election import Election
from raftkv.testing.__main__ import main


class CommandLineTests(SynchronousTestCase):
    """``python -m raftkv.testing``."""

    def run_main(self, *arguments: str) -> tuple[int, str, str]:
        """Run it; return its exit status and what it printed."""
        out, err = io.StringIO(), io.StringIO()
        with redirect_stdout(out), redirect_stderr(err):
            status = main(list(arguments))
        return status, out.getvalue(), err.getvalue()

    def test_good_seeds(self) -> None:
        """Seeds that keep every promise exit 0, with a summary."""
        status, out, _ = self.run_main("--seeds", "2", "--start", "7", "--json")
        summary = json.loads(out)
        self.assertEqual((0, 2, []), (status, summary["seeds"], summary["failures"]))
        self.assertGreater(summary["operations"]["ok"], 100)
        self.assertGreater(summary["situations"], 20)
        self.assertGreater(summary["steps"], summary["situations"])

    def test_failing_seed(self) -> None:
        """A failing seed is named, with what went wrong, and the exit status says so."""
        self.patch(Election, "tick", lambda election: False)
        status, out, err = self.run_main("--seeds", "1", "--start", "7")
        self.assertEqual(1, status)
        self.assertIn("failed seeds: 7", out)
        self.assertIn("seed 7 failed: Violation: liveness", err)

    def test_failing_seed_is_made_small(self) -> None:
        """Of a failing seed the least that still fails is printed, with the command that tells it again."""
        self.patch(Election, "tick", lambda election: False)
        _, out, _ = self.run_main("--seeds", "1", "--start", "7")
        self.assertIn("what is left of its story, 0 faults and changes of members", out)
        (command,) = (line for line in out.splitlines() if "python -m raftkv.testing" in line)
        status, out, _ = self.run_main(*command.split()[3:])
        self.assertEqual(1, status)
        self.assertIn("Violation: liveness", out)

    def test_trace(self) -> None:
        """The story of a seed can be read line by line."""
        status, out, _ = self.run_main("--seeds", "1", "--start", "7", "--trace")
        self.assertEqual(0, status)
        self.assertIn("AppendEntries(term=", out)
        self.assertIn("seed 7: nothing wrong", out)
