"""What ``python -m benchmarks`` says about its options."""

from __future__ import annotations

from click.testing import CliRunner
from twisted.trial.unittest import SynchronousTestCase

from benchmarks.__main__ import main


class OptionTests(SynchronousTestCase):
    """Options that make no sense."""

    def test_no_such_folder(self) -> None:
        """A folder that is not there is named before anything is started."""
        result = CliRunner().invoke(main, ["--only", "put-1", "--data", "/nowhere/at/all"])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("'/nowhere/at/all' does not exist", result.output)

    def test_no_such_work(self) -> None:
        """A work that nobody knows is named, too."""
        result = CliRunner().invoke(main, ["--only", "nothing"])
        self.assertEqual(result.exit_code, 2)
        self.assertIn("there is no work 'nothing'; --list names them", result.output)
