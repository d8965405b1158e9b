"""Many mutants, some side by side, each in a copy of its own, with a file that remembers what came of them.

The tree is copied once before the first is tried, so that all of them are tried against the same source, whatever is
edited meanwhile.
"""

from __future__ import annotations

import json
import shutil
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from concurrent.futures import ThreadPoolExecutor, as_completed
from contextlib import contextmanager
from dataclasses import asdict, dataclass
from pathlib import Path

from tests.mutants.catalogue import SUITES
from tests.mutants.checks import BrokenCopy, Catch, Copy, Running, first_catch
from tests.mutants.mutant import Mutant

ROOT = Path(__file__).resolve().parent.parent.parent
COPIED = ("raftkv", "tests", "twisted", "docs", "conf", "benchmarks")  # some tests read what is not source
_LEFT_OUT = shutil.ignore_patterns("__pycache__", "_trial_temp*", "mutants", "test_mutants.py", "_build")


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What came of one mutant.

    :ivar name: of the mutant.
    :ivar fingerprint: of its change.
    :ivar catch: what noticed it; ``None`` where nothing did.
    :ivar broken: why nothing can be said; empty where something can.
    :ivar seeds: how many seeds were allowed.
    :ivar seconds: how long it took.
    """

    name: str
    fingerprint: str
    catch: Catch | None
    broken: str = ""
    seeds: int
    seconds: float

    @property
    def survived(self) -> bool:
        """Whether nothing noticed it."""
        return self.catch is None and not self.broken

    def to_json(self) -> dict[str, object]:
        """Return it as a JSON object."""
        return asdict(self)

    @classmethod
    def from_json(cls, value: dict[str, object]) -> Verdict:
        """Return what :meth:`to_json` made."""
        catch = value["catch"]
        return cls(**{**value, "catch": Catch(**catch) if isinstance(catch, dict) else None})  # type: ignore[arg-type]


class Memory:
    """The file that lets a broken-off run go on: one verdict a line.

    Only catches are remembered. What survived is tried again, for a test may have been written since; so is a mutant
    that has changed.

    :param path: ``None`` for no file.
    """

    def __init__(self, path: Path | None) -> None:
        self._path = path

    def recall(self) -> dict[str, Verdict]:
        """Return the catches so far, by name of the mutant."""
        if self._path is None or not self._path.exists():
            return {}
        verdicts = (Verdict.from_json(json.loads(line)) for line in self._path.read_text().splitlines() if line)
        return {verdict.name: verdict for verdict in verdicts if verdict.catch is not None}

    def keep(self, verdict: Verdict) -> None:
        """Add a verdict."""
        if self._path is not None:
            with self._path.open("a") as file:
                file.write(json.dumps(verdict.to_json()) + "\n")


class Trying:
    """Tries mutants.

    :param seeds: of the simulation for each; 0 for none.
    :param directed: whether to try the unit tests first.
    :param jobs: how many at a time.
    :param root: the tree to copy.
    """

    def __init__(self, *, seeds: int, directed: bool = True, jobs: int = 2, root: Path = ROOT) -> None:
        self._seeds = seeds
        self._directed = directed
        self._jobs = jobs
        self._root = root
        self._running = Running()

    def run(self, mutants: Iterable[Mutant], memory: Memory, *, progress: Callable[[str], None]) -> dict[str, Verdict]:
        """Try all of them, but for those that were caught before; return the verdicts by name.

        :raises StaleMutant: a mutant does not fit the source any more; nothing has been tried then.
        :raises BrokenCopy: the tests fail without any mutant, so that their failing with one would prove nothing.
        """
        mutants = list(mutants)
        for mutant in mutants:
            mutant.mutated(self._root)
        known = memory.recall()
        verdicts = {
            mutant.name: known[mutant.name]
            for mutant in mutants
            if mutant.name in known and self._holds(known[mutant.name], mutant)
        }
        # Those that are known to survive take longest: they go first, beside the others.
        waiting = sorted(
            (mutant for mutant in mutants if mutant.name not in verdicts),
            key=lambda mutant: not mutant.survives_because,
        )
        if verdicts:
            progress(f"{len(verdicts)} were caught before")
        if not waiting:
            return verdicts
        with _copied(self._root) as pristine:
            self._check_pristine(pristine, waiting, progress)
            for verdict in self._try_all(pristine, waiting):
                verdicts[verdict.name] = verdict
                memory.keep(verdict)
                progress(f"[{len(verdicts)}/{len(mutants)}] {describe(verdict)}")
        return verdicts

    def _holds(self, verdict: Verdict, mutant: Mutant) -> bool:
        """Tell whether a catch from before is one that would be found now."""
        by_simulation = verdict.catch is not None and verdict.catch.by == "simulation"
        return verdict.fingerprint == mutant.fingerprint and (self._directed or by_simulation)

    def _check_pristine(self, pristine: Path, mutants: list[Mutant], progress: Callable[[str], None]) -> None:
        copy = Copy(pristine, self._running)
        copy.make_sure_of_imports(None)
        if self._directed:
            names = {name for mutant in mutants for name in (*mutant.hints, *SUITES[mutant.part])}
            names = {name for name in names if not any(name.startswith(f"{whole}.") for whole in names)}
            progress(f"without a mutant: {' '.join(sorted(names))}")
            if (catch := copy.try_tests(tuple(sorted(names)), "suite")) is not None:
                raise BrokenCopy(f"without any mutant {catch.check} {'does not end' if catch.timed_out else 'fails'}")
        if self._seeds and (catch := copy.try_seeds(min(self._seeds, 10))) is not None:
            raise BrokenCopy(f"without any mutant the simulation fails: {catch.check}")

    def _try_all(self, pristine: Path, mutants: list[Mutant]) -> Iterator[Verdict]:
        with ThreadPoolExecutor(max_workers=self._jobs) as pool:
            tries = [pool.submit(self._try_one, pristine, mutant) for mutant in mutants]
            try:
                for each in as_completed(tries):
                    yield each.result()
            except BaseException:  # also Ctrl-C: the commands are sessions of their own and would not hear of it
                self._running.end_all()
                pool.shutdown(wait=True, cancel_futures=True)
                raise

    def _try_one(self, pristine: Path, mutant: Mutant) -> Verdict:
        began = time.monotonic()
        catch, broken = None, ""
        with _copied(pristine) as root:
            mutant.apply(root)
            copy = Copy(root, self._running)
            try:
                copy.make_sure_of_imports(mutant)
                catch = first_catch(copy, mutant, seeds=self._seeds, directed=self._directed)
            except BrokenCopy as error:
                broken = str(error)
        return Verdict(
            name=mutant.name,
            fingerprint=mutant.fingerprint,
            catch=catch,
            broken=broken,
            seeds=self._seeds,
            seconds=round(time.monotonic() - began, 1),
        )


@contextmanager
def _copied(root: Path) -> Iterator[Path]:
    """Make a copy of a tree that lasts as long as the context."""
    with tempfile.TemporaryDirectory(prefix="raftkv-mutant-", ignore_cleanup_errors=True) as folder:
        copy = Path(folder).resolve()
        for name in COPIED:
            if (root / name).is_dir():
                shutil.copytree(root / name, copy / name, ignore=_LEFT_OUT)
        yield copy


def describe(verdict: Verdict) -> str:
    """Return a verdict in words."""
    if verdict.broken:
        return f"{verdict.name} says nothing: {verdict.broken} ({verdict.seconds} s)"
    if verdict.catch is None:
        return f"{verdict.name} SURVIVED, {verdict.seeds} seeds ({verdict.seconds} s)"
    how = "time-out of " if verdict.catch.timed_out else ""
    return f"{verdict.name} is caught by {how}{verdict.catch.check} ({verdict.seconds} s)"
