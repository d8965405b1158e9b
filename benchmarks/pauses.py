"""How long the reactor stands still, turn by turn, and what it did meanwhile.

A timer of a millisecond is set anew each time that it fires: what it is late by is a pause. Beside the clock, the
processor time of the reactor's own thread tells work from waiting, and that of the other threads whether it waited
for them (they share the interpreter's lock) or for a machine that did something else. Passes of the garbage collector
report themselves; a dictionary that has grown has another size afterwards.
"""

from __future__ import annotations

import gc
import time
from array import array
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

INTERVAL_SECONDS: Final = 0.001

Sizes = Callable[[], tuple[int, ...]]  #: bytes of the dictionaries that are watched


@dataclass(frozen=True, slots=True, kw_only=True)
class Pause:
    """One time that the reactor came late, in milliseconds.

    :ivar late: how late.
    :ivar own: processor time of the reactor's thread since the turn before.
    :ivar others: that of all other threads.
    :ivar collector: time that passes of the garbage collector took, in whichever thread.
    :ivar generation: the oldest generation that was passed over, -1 where there was no pass.
    """

    late: float = 0.0
    own: float = 0.0
    others: float = 0.0
    collector: float = 0.0
    generation: int = -1

    @property
    def cause(self) -> str:
        """What most of the pause went to, as far as it can be told from outside."""
        if self.collector >= self.late / 2:
            return f"collector, generation {self.generation}"
        if self.own >= self.late / 2:
            return "work in the reactor"
        if self.others >= self.late / 2:
            return "waiting for another thread"
        return "waiting for the machine"


@dataclass(slots=True)
class Phase:
    """What the probe saw while one thing was going on.

    :ivar longest: without turns in which a dictionary grew; those are in ``growing``.
    :ivar busiest: the turn with the most processor time of the reactor's thread: other processes cannot lengthen it.
    :ivar ours_longest: the most that this process can have contributed to one pause, in milliseconds: processor time of
        the reactor's and of all other threads, as if it had always waited for these, but no more than the pause.
    """

    name: str
    began: float
    seconds: float = 0.0
    lateness: array[float] = field(default_factory=lambda: array("d"))
    longest: Pause = field(default_factory=Pause)
    growing: Pause = field(default_factory=Pause)
    busiest: Pause = field(default_factory=Pause)
    collector_longest: float = 0.0
    ours_longest: float = 0.0

    def percentile(self, part: float) -> float:
        """Return what ``part`` of the turns were late by at the most, in milliseconds."""
        ordered = sorted(self.lateness)
        return ordered[min(int(part * len(ordered)), len(ordered) - 1)] if ordered else 0.0

    def figures(self) -> dict[str, Any]:
        """Return everything as plain values."""
        return {
            "phase": self.name,
            "seconds": round(self.seconds, 2),
            "turns": len(self.lateness),
            "p50_ms": round(self.percentile(0.5), 2),
            "p99_ms": round(self.percentile(0.99), 2),
            "p999_ms": round(self.percentile(0.999), 2),
            "longest_ms": round(self.longest.late, 1),
            "cause": self.longest.cause if self.longest.late >= 5.0 else "",
            "over_50_ms": sum(late > 50.0 for late in self.lateness),
            "ours_ms": round(self.ours_longest, 1),
            "busiest_ms": round(self.busiest.own, 1),
            "collector_ms": round(self.collector_longest, 1),
            "dictionary_growth_ms": round(self.growing.late, 1),
        }


class Probe:
    """Watches one reactor from inside.

    :param reactor: the real one, whose clock is monotonic.
    :param sizes: asked each turn for the sizes of the dictionaries whose growth is to be told apart.
    """

    def __init__(self, reactor: Any, sizes: Sizes) -> None:
        self.phases: list[Phase] = []
        self._reactor = reactor
        self._sizes = sizes
        self._known_sizes = sizes()
        self._passes: list[tuple[float, int]] = []
        self._pass_began = 0.0
        self._due = self._own = self._all = 0.0
        self._timer: Any = None

    def start(self) -> None:
        """Begin to watch; a phase must be entered first."""
        gc.callbacks.append(self._collecting)
        self._schedule()

    def stop(self) -> None:
        """Stop watching."""
        gc.callbacks.remove(self._collecting)
        self._timer.cancel()
        self._close()

    def enter(self, name: str) -> Phase:
        """Begin a phase, which ends the one before."""
        self._close()
        self.phases.append(Phase(name, time.monotonic()))
        return self.phases[-1]

    def _close(self) -> None:
        if self.phases:
            self.phases[-1].seconds = time.monotonic() - self.phases[-1].began

    def _collecting(self, stage: str, info: dict[str, int]) -> None:
        if stage == "start":
            self._pass_began = time.perf_counter()
        else:
            self._passes.append((1000 * (time.perf_counter() - self._pass_began), info["generation"]))

    def _schedule(self) -> None:
        self._own, self._all = time.thread_time(), time.process_time()
        self._due = time.monotonic() + INTERVAL_SECONDS
        self._timer = self._reactor.callLater(INTERVAL_SECONDS, self._turn)

    def _turn(self) -> None:
        own = 1000 * (time.thread_time() - self._own)
        passes, self._passes = self._passes, []
        pause = Pause(
            late=max(0.0, 1000 * (time.monotonic() - self._due)),
            own=own,
            others=max(0.0, 1000 * (time.process_time() - self._all) - own),
            collector=sum(took for took, _ in passes),
            generation=max((generation for _, generation in passes), default=-1),
        )
        sizes = self._sizes()
        grown, self._known_sizes = sizes != self._known_sizes, sizes
        self._note(self.phases[-1], pause, grown)
        self._schedule()

    def _note(self, phase: Phase, pause: Pause, grown: bool) -> None:
        phase.collector_longest = max(phase.collector_longest, pause.collector)
        if grown:
            phase.growing = _longer(phase.growing, pause)
            return
        phase.lateness.append(pause.late)
        phase.longest = _longer(phase.longest, pause)
        phase.ours_longest = max(phase.ours_longest, min(pause.late, pause.own + pause.others))
        if pause.own > phase.busiest.own:
            phase.busiest = pause


def _longer(one: Pause, other: Pause) -> Pause:
    return other if other.late > one.late else one


def growth_of_a_bare_dictionary(keys: Iterable[bytes]) -> list[tuple[int, float]]:
    """Return at which sizes a dictionary of nothing but these keys grew, and the milliseconds that it then took."""
    import sys

    grown: list[tuple[int, float]] = []
    bare: dict[bytes, None] = {}
    size = sys.getsizeof(bare)
    for key in keys:
        before = time.perf_counter()
        bare[key] = None
        took = time.perf_counter() - before
        if sys.getsizeof(bare) != size:
            size = sys.getsizeof(bare)
            grown.append((len(bare), 1000 * took))
    return grown
