"""What is run against a copy of the tree, and how a catch is told from a pass.

Directed tests first, the part's whole suite next, then seeds of the simulation in growing portions; the first catch
ends it. Every run has a time limit, and one that passes it counts as a catch: a mutant that hangs is noticed by
whoever waits. Runs get a bounded memory, so that one that never ends cannot take the machine with it.
"""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
import threading
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.mutants.catalogue import SUITES
from tests.mutants.mutant import Mutant

TRIAL_LIMIT_SECONDS = 120.0
PORTION_LIMIT_SECONDS = 600.0  # of the simulation
FIRST_PORTION = 25  # seeds; each portion is twice the one before
LARGEST_PORTION = 200
MEMORY_LIMIT_KIB = 4 * 1024 * 1024

_TEST_ID = re.compile(r"^(tests(?:\.\w+)+)$", re.MULTILINE)
_FAILED_SEED = re.compile(r"^seed (\d+) failed: (.*)$")


class BrokenCopy(Exception):
    """A copy cannot even be imported, or is not what the tests would run against: that proves nothing."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Catch:
    """How a mutant was noticed.

    :ivar by: the stage: ``hint``, ``suite`` or ``simulation``.
    :ivar check: the test that failed, or the seed and the rule that the simulation saw broken.
    :ivar timed_out: whether it was noticed by a run that did not end.
    """

    by: str
    check: str
    timed_out: bool = False


class Interrupted(Exception):
    """Whoever wanted to know does not wait any longer."""


class Running:
    """The commands that run now, in several threads, so that all can be ended when somebody gives up."""

    def __init__(self) -> None:
        self._lock = threading.Lock()
        self._processes: set[subprocess.Popen[str]] = set()
        self._ended = False

    def start(self, command: list[str], **arguments: Any) -> subprocess.Popen[str]:
        """Start a command in a session of its own.

        :raises Interrupted: everything has been ended.
        """
        with self._lock:
            if self._ended:
                raise Interrupted
            process = subprocess.Popen(command, start_new_session=True, text=True, errors="replace", **arguments)
            self._processes.add(process)
            return process

    def forget(self, process: subprocess.Popen[str]) -> None:
        """Take note that a command has ended."""
        with self._lock:
            self._processes.discard(process)

    def end_all(self) -> None:
        """End what runs, and let nothing more begin."""
        with self._lock:
            self._ended = True
            for process in self._processes:
                _end(process)


class Copy:
    """A copy of the tree, to run checks against.

    :param root: of the copy.
    :param running: told of every command.
    """

    def __init__(self, root: Path, running: Running) -> None:
        self._root = root
        self._running = running

    def make_sure_of_imports(self, mutant: Mutant | None) -> None:
        """Make sure that it is the copy which would be tested, and that it can be imported.

        :raises BrokenCopy: not so.
        """
        modules = [] if mutant is None else [file.removesuffix(".py").replace("/", ".") for file in mutant.files]
        script = f"import raftkv, {', '.join(['raftkv.server.assembly', *modules])}; print(raftkv.__file__)"
        outcome = self._run([sys.executable, "-c", script], TRIAL_LIMIT_SECONDS)
        if outcome.status != 0 or outcome.output.strip() != str(self._root / "raftkv" / "__init__.py"):
            raise BrokenCopy(outcome.output.strip() or "it cannot be imported")

    def try_tests(self, names: tuple[str, ...], by: str) -> Catch | None:
        """Run tests until one fails.

        :param names: of modules or packages.
        :param by: what to call the stage.
        """
        command = [sys.executable, "-m", "twisted.trial", "--exitfirst", "--temp-directory=_trial_temp", *names]
        outcome = self._run(command, TRIAL_LIMIT_SECONDS)
        if outcome.timed_out:
            return Catch(by=by, check=" ".join(names), timed_out=True)
        if outcome.status == 0:
            return None
        failed = _TEST_ID.findall(outcome.output)
        return Catch(by=by, check=failed[-1] if failed else outcome.last_line())

    def try_seeds(self, seeds: int) -> Catch | None:
        """Simulate seeds until one fails."""
        for start, count in _portions(seeds):
            command = [sys.executable, "-m", "raftkv.testing", "--start", str(start), "--seeds", str(count)]
            outcome = self._run(command, PORTION_LIMIT_SECONDS, until=_FAILED_SEED)
            for line in outcome.output.splitlines():
                if match := _FAILED_SEED.match(line):
                    return Catch(by="simulation", check=f"seed {match[1]}: {match[2]}")
            if outcome.timed_out:
                return Catch(by="simulation", check=f"one of the seeds {start} to {start + count - 1}", timed_out=True)
            if outcome.status != 0:
                raise BrokenCopy(f"the simulation ended with status {outcome.status}: {outcome.last_line()}")
        return None

    def _run(self, command: list[str], limit_seconds: float, until: re.Pattern[str] | None = None) -> _Run:
        environment = {**os.environ, "PYTHONPATH": str(self._root), "PYTHONUNBUFFERED": "1"}
        limited = ["sh", "-c", 'ulimit -v "$0" && exec "$@"', str(MEMORY_LIMIT_KIB), *command]
        process = self._running.start(
            limited,
            cwd=self._root,
            env=environment,
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
        )
        try:
            return _Run(process, limit_seconds, until)
        finally:
            _end(process)  # where it was not waited for, somebody gave up
            self._running.forget(process)


class _Run:
    """One command and what it printed; it has ended, or was ended, once this is made.

    :ivar status: its exit status.
    :ivar timed_out: whether its time was up.
    """

    def __init__(self, process: subprocess.Popen[str], limit_seconds: float, until: re.Pattern[str] | None) -> None:
        assert process.stdout is not None
        self.timed_out = False
        lines: list[str] = []
        with process.stdout:
            timer = threading.Timer(limit_seconds, self._time_is_up, (process,))
            timer.start()
            for line in process.stdout:
                lines.append(line)
                if until is not None and until.match(line.rstrip("\n")):
                    _end(process)
        self.status = process.wait()
        timer.cancel()
        self.output = "".join(lines)

    def _time_is_up(self, process: subprocess.Popen[str]) -> None:
        self.timed_out = True
        _end(process)

    def last_line(self) -> str:
        """Return the last line that is not empty."""
        return next((line for line in reversed(self.output.splitlines()) if line.strip()), "no output")


def _end(process: subprocess.Popen[str]) -> None:
    """End a command with all the processes that it started; they are a session of their own."""
    if process.poll() is None:  # else its number may be another's by now
        with suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)


def _portions(seeds: int) -> Iterator[tuple[int, int]]:
    start, count = 0, FIRST_PORTION
    while start < seeds:
        yield start, min(count, seeds - start)
        start, count = start + count, min(2 * count, LARGEST_PORTION)


def first_catch(copy: Copy, mutant: Mutant, *, seeds: int, directed: bool) -> Catch | None:
    """Return what notices a mutant first, or ``None`` where nothing does.

    :param copy: with the mutant in it.
    :param seeds: how many seeds of the simulation to try; 0 for none.
    :param directed: whether to try the unit tests.
    """
    if directed:
        for names, by in ((mutant.hints, "hint"), (SUITES[mutant.part], "suite")):
            if (catch := copy.try_tests(names, by)) is not None:
                return catch
    return copy.try_seeds(seeds)
