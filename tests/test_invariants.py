"""The page of invariants names checkers and tests; each of them is there."""

from __future__ import annotations

import re
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

TESTS = Path(__file__).resolve().parent
ROOT = TESTS.parent
_RULES = re.compile(r'(?<!Invariant)Violation\(\s*"([^"]+)"')


class InvariantTests(SynchronousTestCase):
    """``docs/invariants.md``."""

    def rows(self) -> list[list[str]]:
        """Return the rows of all tables, without their heads."""
        lines = (ROOT / "docs" / "invariants.md").read_text().splitlines()
        rows = [[cell.strip() for cell in line.strip("|").split(" | ")] for line in lines if line.startswith("| ")]
        return [row for row in rows if row[0] not in ("invariant", "---")]

    def test_rows(self) -> None:
        """Each row has an invariant, a formula, a checker or none, and a test at least."""
        self.assertGreater(len(self.rows()), 40)
        for row in self.rows():
            self.assertEqual(4, len(row), row)
            self.assertTrue(row[0] and row[1] and row[3], row)

    def test_checkers_exist(self) -> None:
        """Each checker is a rule that the simulator can call broken; each rule that it has is on the page."""
        sources = "".join(path.read_text() for path in (ROOT / "raftkv" / "testing").rglob("*.py"))
        known = set(_RULES.findall(sources))
        named = {rule for row in self.rows() for rule in re.findall(r"`([^`]+)`", row[2])}
        self.assertEqual(set(), named - known, "no such checker")
        # What says nothing of Raft: an error in a log, an answer that a client cannot get.
        self.assertEqual(set(), known - named - {"logged failure", "session"}, "not on the page")

    def test_tests_exist(self) -> None:
        """Each test is defined in the file that the page says."""
        for row in self.rows():
            named = re.findall(r"`([^`]+)`", row[3])
            self.assertTrue(named, row)
            for name in named:
                file, _, test = name.partition("::")
                self.assertTrue((TESTS / file).is_file(), name)
                self.assertIn(f"def {test}(" if test else "", (TESTS / file).read_text(), name)
