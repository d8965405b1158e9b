"""The list of mutants stays true: each one still fits the source. Trying them takes longer: ``make mutants``."""

from __future__ import annotations

import json
import tempfile
from pathlib import Path

from twisted.trial.unittest import SynchronousTestCase

from tests.mutants.catalogue import CHAPTERS, MUTANTS, SUITES
from tests.mutants.checks import Catch
from tests.mutants.mutant import Edit, Mutant, StaleMutant
from tests.mutants.report import as_markdown, as_text, is_settled, summary
from tests.mutants.trying import ROOT, Memory, Verdict

MUTANT = Mutant(
    name="example",
    rule="The answer is 42.",
    reference="section 0",
    edits=(Edit("raftkv/raft/answer.py", "return 42", "return 41"),),
    hints=("tests.raft",),
)


def verdict(mutant: Mutant, catch: Catch | None, broken: str = "") -> Verdict:
    """Return what came of a mutant."""
    return Verdict(name=mutant.name, fingerprint=mutant.fingerprint, catch=catch, broken=broken, seeds=100, seconds=1.5)


class CatalogueTests(SynchronousTestCase):
    def test_fit_the_source(self) -> None:
        """What a mutant replaces occurs exactly once in its file, and what comes of it is Python."""
        for mutant in MUTANTS:
            for file, source in mutant.mutated(ROOT).items():
                compile(source, file, "exec")

    def test_change_something(self) -> None:
        """No mutant leaves its file as it was, and no two do the same."""
        for mutant in MUTANTS:
            for file, source in mutant.mutated(ROOT).items():
                self.assertNotEqual(source, (ROOT / file).read_text(), mutant.name)
        self.assertEqual(len({mutant.fingerprint for mutant in MUTANTS}), len(MUTANTS))

    def test_named(self) -> None:
        """Names are unique; each mutant says which rule it breaks, and where that comes from."""
        self.assertEqual(len({mutant.name for mutant in MUTANTS}), len(MUTANTS))
        for mutant in MUTANTS:
            self.assertTrue(mutant.rule.endswith("."), mutant.name)
            self.assertTrue(mutant.reference, mutant.name)

    def test_hints_exist(self) -> None:
        """The tests that are to notice exist, and each part that is changed has a suite."""
        for mutant in MUTANTS:
            for name in (*mutant.hints, *SUITES[mutant.part]):
                path = ROOT / name.replace(".", "/")
                self.assertTrue(path.is_dir() or path.with_suffix(".py").is_file(), f"{mutant.name}: {name}")


class MutantTests(SynchronousTestCase):
    def setUp(self) -> None:
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        self.root = Path(folder.name)
        (self.root / "raftkv" / "raft").mkdir(parents=True)
        self.source = self.root / "raftkv" / "raft" / "answer.py"

    def test_applied(self) -> None:
        """A mutant changes the one place that it names."""
        self.source.write_text("def answer():\n    return 42\n")
        MUTANT.apply(self.root)
        self.assertEqual(self.source.read_text(), "def answer():\n    return 41\n")

    def test_stale(self) -> None:
        """A mutant whose text is gone, or is there twice, is an error that names it, and changes nothing."""
        for source in ("return 43\n", "return 42\nreturn 42\n"):
            self.source.write_text(source)
            error = self.assertRaises(StaleMutant, MUTANT.apply, self.root)
            self.assertIn("example", str(error))
            self.assertEqual(self.source.read_text(), source)


class MemoryTests(SynchronousTestCase):
    def test_catches_are_remembered(self) -> None:
        """A run that goes on knows what was caught, and tries again what survived or could not be tried."""
        folder = tempfile.TemporaryDirectory()
        self.addCleanup(folder.cleanup)
        memory = Memory(Path(folder.name) / "memory")
        self.assertEqual(memory.recall(), {})
        first, second, third = MUTANTS[:3]
        caught = verdict(first, Catch(by="suite", check="tests.raft", timed_out=True))
        for each in (caught, verdict(second, None), verdict(third, None, broken="no import")):
            memory.keep(each)
        self.assertEqual(memory.recall(), {first.name: caught})


class ReportTests(SynchronousTestCase):
    def test_survivors_are_told(self) -> None:
        """The table says who survived, and who was known to."""
        known = Mutant(
            name="known",
            rule=MUTANT.rule,
            reference=MUTANT.reference,
            edits=MUTANT.edits,
            hints=MUTANT.hints,
            survives_because="nobody asks",
        )
        verdicts = {"example": verdict(MUTANT, None), "known": verdict(known, None)}
        text = as_text((MUTANT, known), verdicts)
        self.assertIn("not as it should be: example", text)
        self.assertIn("nobody asks", text)
        self.assertIn("1 known to change nothing that is promised, 1 survived", summary((MUTANT, known), verdicts))
        self.assertTrue(is_settled(known, verdicts["known"]))
        self.assertFalse(is_settled(known, verdict(known, Catch(by="suite", check="tests.raft"))))

    def test_broken_is_no_catch(self) -> None:
        """A mutant that cannot even be imported proves nothing."""
        self.assertFalse(is_settled(MUTANT, verdict(MUTANT, None, broken="no import")))

    def test_page(self) -> None:
        """The page of the manual has a row for each mutant."""
        verdicts = {mutant.name: verdict(mutant, Catch(by="suite", check="tests.raft.x")) for mutant in MUTANTS}
        page = as_markdown(verdicts)
        for title in CHAPTERS:
            self.assertIn(f"## {title}\n", page)
        for mutant in MUTANTS:
            self.assertEqual(page.count(f"| `{mutant.name}` | `raft.x`"), 1, mutant.name)
        self.assertEqual(json.loads(json.dumps(verdicts["vote-twice"].to_json()))["catch"]["check"], "tests.raft.x")
