"""A generator in a process of its own, so that it does nothing but load: what goes through its pipes, from both ends.

To the generator go lines of JSON: a list of addresses to ask, and one of the others. The end of that pipe means that it
shall come to an end, and so it does when whoever started it dies. From it come lines of JSON, too; behind one with a
``count`` above 0 stand so many latencies in seconds, as doubles in the machine's own order. What they mean together
(percentiles, for instance) is worked out at this end, while the generator goes on.
"""

from __future__ import annotations

import io
import json
import os
import subprocess
import sys
import threading
from array import array
from collections import Counter
from collections.abc import Iterator, Sequence
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from queue import SimpleQueue
from typing import Any, Final, TypeAlias

from raftkv.bench.figures import Measured
from raftkv.bench.overseer import Move, Order, Stop
from raftkv.bench.specification import Load

_STDIN: Final = 0
_ITEM_BYTES: Final = array("d").itemsize


class GeneratorFailed(Exception):
    """The generator has ended before its time; the message says why."""


@dataclass(frozen=True, slots=True)
class Begun:
    """The warm-up is over."""


@dataclass(frozen=True, slots=True)
class Reported:
    """What was measured since the last report.

    :ivar measured: ``seconds`` and ``unsent`` are those since the beginning.
    """

    measured: Measured


@dataclass(frozen=True, slots=True)
class _Ended:
    """There will be nothing more.

    :ivar reason: why it ended before its time, if it has said so.
    """

    reason: str


News: TypeAlias = Begun | Reported


class PipeOverseer:
    """The generator's end: an overseer at the other end of standard input and output."""

    descriptor: int | None = _STDIN

    def __init__(self) -> None:
        self._unread = b""

    def begun(self) -> None:
        """Tell it."""
        _write(_line({"kind": "begun"}))

    def report(self, measured: Measured) -> None:
        """Send it, and take it away."""
        _write(
            _line(
                {
                    "kind": "report",
                    "seconds": measured.seconds,
                    "unsent": measured.unsent,
                    "errors": measured.errors,
                    "count": len(measured.latencies),
                }
            )
            + array("d", measured.latencies).tobytes()
        )
        measured.latencies.clear()
        measured.errors.clear()

    def failed(self, reason: str) -> None:
        """Say why it ends before its time."""
        _write(_line({"kind": "failed", "reason": reason}))

    def orders(self) -> Sequence[Order]:
        """Read what there is."""
        data = os.read(_STDIN, 65536)
        if not data:
            return [Stop()]
        *lines, self._unread = (self._unread + data).split(b"\n")
        return [Move(*map(tuple, json.loads(line))) for line in lines]


class Generator:
    """Our end: a generator that runs as a child.

    :param load: what it is told. Its first addresses are tried before it begins; later ones only while it goes on.
    """

    def __init__(self, load: Load) -> None:
        self._process: subprocess.Popen[bytes] = subprocess.Popen(
            [sys.executable, "-P", "-m", "raftkv.bench", load.to_json()],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            # Ctrl-C in the terminal reaches the whole foreground group; in a session of its own it hears only from us.
            start_new_session=True,
            env=_environment(),
        )
        pipe: Any = self._process.stdin
        # Without a buffer, so that there is nothing to be written when it is closed.
        self._stdin: io.FileIO = pipe.detach()
        # May be taken again by the thread that has it: a signal's handler stops, too.
        self._lock = threading.RLock()
        self._news: SimpleQueue[News | _Ended] = SimpleQueue()
        self._reader = threading.Thread(target=self._read, name="generator-news", daemon=True)
        self._reader.start()

    def news(self) -> Iterator[News]:
        """Yield what it tells, until it ends.

        :raises GeneratorFailed: it does so before its time.
        """
        while not isinstance(news := self._news.get(), _Ended):
            yield news
        status = self._process.wait()
        if status:
            raise GeneratorFailed(news.reason or f"the generator of load has ended with status {status}")

    def _read(self) -> None:
        """Take what it tells, at once: it would stand still while nobody does, for instance at a terminal's Ctrl-S."""
        stdout: Any = self._process.stdout
        reason = ""
        for line in stdout:
            if not line.endswith(b"\n"):
                break  # it was killed in the middle
            told = json.loads(line)
            if told["kind"] == "begun":
                self._news.put(Begun())
            elif told["kind"] == "report":
                data = stdout.read(told["count"] * _ITEM_BYTES)
                if len(data) == told["count"] * _ITEM_BYTES:  # else likewise
                    latencies, errors = array("d", data).tolist(), Counter(told["errors"])
                    measured = Measured(
                        latencies=latencies, errors=errors, seconds=told["seconds"], unsent=told["unsent"]
                    )
                    self._news.put(Reported(measured))
            else:
                reason = told["reason"]
        self._news.put(_Ended(reason))

    def move(self, addresses: Sequence[str], others: Sequence[str]) -> None:
        """Have it ask others from now on."""
        line = json.dumps([list(addresses), list(others)]).encode() + b"\n"
        with self._lock, suppress(BrokenPipeError):  # it has ended, which the reader of its news sees
            if not self._stdin.closed:
                self._stdin.write(line)

    def stop(self) -> None:
        """Have it come to an end; what it has measured it tells before."""
        with self._lock:
            self._stdin.close()

    def kill(self) -> None:
        """End it at once, if it runs."""
        self._process.kill()

    def close(self) -> None:
        """End it if it runs, and leave nothing of it behind."""
        self.kill()
        self.stop()
        self._process.wait()
        self._reader.join()
        stdout: Any = self._process.stdout
        stdout.close()


def _environment() -> dict[str, str]:
    """Return ours, in which the child finds the very package that this one is part of."""
    root = str(Path(__file__).resolve().parent.parent.parent)
    known = os.environ.get("PYTHONPATH")
    return {**os.environ, "PYTHONPATH": f"{root}{os.pathsep}{known}" if known else root}


def _line(value: dict[str, object]) -> bytes:
    return json.dumps(value).encode() + b"\n"


def _write(data: bytes) -> None:
    view = memoryview(data)
    while view:
        view = view[os.write(1, view) :]
