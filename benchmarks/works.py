"""The works that are measured: what is asked for, how much of it at once, and which ratio to the best peer is wanted.

Plain values. How a work is done against one of the contestants is the matter of ``runs`` and of ``peers``.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from typing import Final, Literal

from benchmarks.arithmetic import Better

Kind = Literal["native", "client", "http", "failover", "footprint", "snapshot"]
Operation = Literal["put", "get", "get-stale"]

KEYS: Final = 10_000  #: of a work that says nothing else
VALUE_BYTES: Final = 256


@dataclass(frozen=True, slots=True, kw_only=True)
class Measure:
    """What of a work is compared.

    :ivar figure: its name among the figures of a run.
    :ivar must: the ratio to the best peer that has to be reached; ``None``: none by itself.
    :ivar goal: the ratio that is hoped for.
    :ivar is_ratio: the figure is a ratio already, to the same contestant in quiet; it is compared with nobody.
    """

    figure: str
    better: Better
    must: float | None = None
    goal: float | None = None
    is_ratio: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Work:
    """One line of the table, or two.

    :ivar kind: ``native`` is the contestant's own protocol with the leanest generator there is, ``client`` the client
        that a Python program would use, ``http`` HTTP.
    :ivar outstanding: requests under way at once; over HTTP connections.
    :ivar keys: over which the requests are spread, all of them.
    :ivar preloaded: the keys are written before anything is measured.
    :ivar chart: the chart that it is a point of, and its place on the horizontal axis.
    """

    name: str
    title: str
    kind: Kind
    measures: tuple[Measure, ...]
    operation: Operation = "put"
    outstanding: int = 1
    value_bytes: int = VALUE_BYTES
    keys: int = KEYS
    preloaded: bool = False
    nodes: int = 3
    chart: tuple[str, int] | None = None


def _rate(must: float | None = None, goal: float | None = None) -> tuple[Measure, ...]:
    return (Measure(figure="per_second", better="higher", must=must, goal=goal),)


def _latency(must: float, goal: float) -> tuple[Measure, ...]:
    return (Measure(figure="p50_ms", better="lower", must=must, goal=goal),)


def _main_works() -> Iterator[Work]:
    def native(title: str, operation: Operation, outstanding: int, measures: tuple[Measure, ...]) -> Work:
        return Work(
            name=f"{operation}-{outstanding}",
            title=title,
            kind="native",
            operation=operation,
            outstanding=outstanding,
            measures=measures,
            preloaded=operation != "put",
        )

    def http(title: str, operation: Operation, outstanding: int, measures: tuple[Measure, ...]) -> Work:
        made = native(title, operation, outstanding, measures)
        return replace(made, kind="http", name=f"http-{made.name}")

    yield native("native put, 1,000 outstanding", "put", 1000, _rate(5, 10))
    yield native("native put, 64 outstanding", "put", 64, _rate(4, 8))
    yield native("native linearizable get, 1,000 outstanding", "get", 1000, _rate(3, 6))
    yield native("one native put at a time", "put", 1, _latency(1, 0.7))
    yield http("one HTTP put at a time", "put", 1, _latency(1.3, 1))
    yield Work(
        name="client-put-64",
        title="put from a Python program, async client, 64 outstanding",
        kind="client",
        outstanding=64,
        measures=_rate(4, 8),
    )
    yield http("HTTP put, 64 connections", "put", 64, _rate(1.2, 2))
    yield http("HTTP linearizable get, 64 connections", "get", 64, _rate(1, 2))
    yield http("HTTP stale get, 64 connections", "get-stale", 64, _rate(1, 2))
    yield Work(
        name="failover",
        title="kill -9 of the leader until the next write succeeds, 100 writes a second",
        kind="failover",
        measures=(Measure(figure="failover_seconds", better="lower", must=0.7, goal=0.2),),
    )
    yield Work(
        name="footprint",
        title="200,000 keys of 100 bytes: memory of a node, and its restart until ready",
        kind="footprint",
        keys=200_000,
        value_bytes=100,
        preloaded=True,
        outstanding=512,
        measures=(
            Measure(figure="memory_mib", better="lower", must=1, goal=0.7),
            Measure(figure="restart_seconds", better="lower", must=1, goal=0.7),
        ),
    )
    yield Work(
        name="snapshot",
        title="native put, 256 outstanding, while a snapshot of a million keys is taken, to without",
        kind="snapshot",
        keys=1_000_000,
        value_bytes=100,
        preloaded=True,
        outstanding=256,
        measures=(
            Measure(figure="rate_during_to_before", better="higher", must=0.8, goal=0.95, is_ratio=True),
            Measure(figure="p99_during_to_before", better="lower", must=3, goal=1.5, is_ratio=True),
        ),
    )


def _growing_works() -> Iterator[Work]:
    base = Work(name="", title="", kind="native", outstanding=1000, measures=_rate())
    ways: tuple[tuple[str, tuple[int, ...], Callable[[int], Work]], ...] = (
        ("keys", (1_000, 10_000, 100_000, 1_000_000), lambda n: replace(base, keys=n, preloaded=True)),
        ("value bytes", (16, 256, 4096, 65536), lambda n: replace(base, value_bytes=n, outstanding=256, keys=1000)),
        ("nodes", (3, 5), lambda n: replace(base, nodes=n)),
        ("outstanding", (1, 4, 16, 64, 256, 1024, 4096), lambda n: replace(base, outstanding=n)),
    )
    for axis, places, at in ways:
        for place in places:
            name = f"grow-{axis.split()[0]}-{place}"
            yield replace(at(place), name=name, title=f"native put, {place:,} {axis}", chart=(axis, place))


WORKS: Final = (*_main_works(), *_growing_works())


def chosen(names: tuple[str, ...]) -> tuple[Work, ...]:
    """Return the works of these names, or those whose names begin so; all for no name.

    :raises KeyError: one fits nothing.
    """
    for name in names:
        if not any(work.name.startswith(name) for work in WORKS):
            raise KeyError(name)
    exact = {work.name for work in WORKS}
    return tuple(
        work
        for work in WORKS
        if not names or any(work.name == name or (name not in exact and work.name.startswith(name)) for name in names)
    )


def quick(work: Work) -> Work:
    """Return the same work over few keys, to see that everything runs; its figures say nothing."""
    return replace(work, keys=min(work.keys, 2_000))
