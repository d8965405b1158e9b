"""How results look: a table for a terminal, and one for the manual."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path

from rich.console import Console
from rich.table import Table

from benchmarks.results import Line, Session

_BUSY = 0.7  # a load average from which on the machine is not quiet

_UNITS = {
    "per_second": "/s",
    "p50_ms": "ms",
    "failover_seconds": "s",
    "restart_seconds": "s",
    "memory_mib": "MiB",
    "rate_during_to_before": "x",
    "p99_during_to_before": "x of p99",
}

_COLUMNS = ("work", "contestant", "median", "spread", "p50 ms", "p99 ms", "p99.9 ms", "CPU s", "MiB", "errors", "ratio")


def number(value: float | None) -> str:
    """Return a figure with as many digits as mean something; a dash where there is none."""
    if value is None or value != value:
        return "-"
    if abs(value) >= 100:
        return f"{value:,.0f}"
    return f"{value:.2f}" if abs(value) < 10 else f"{value:.1f}"


def verdict(line: Line) -> str:
    """Return the ratios to the peers, and whether they are what is wanted."""
    parts = [f"{number(value)} x {peer}" for peer, value in line.ratios.items() if value == value]
    if line.must_met is not None:
        sign = "≥" if line.measure.better == "higher" else "≤"
        state = "goal reached" if line.goal_met else ("reached" if line.must_met else "NOT REACHED")
        parts.append(f"wanted {sign} {number(line.measure.must)}: {state}")
    return "; ".join(parts)


def cells(line: Line) -> tuple[str, ...]:
    """Return the texts of a line of the table."""
    figures = line.medians
    shown = [number(figures.get(name)) for name in ("p50_ms", "p99_ms", "p999_ms", "server_cpu_seconds", "memory_mib")]
    value = f"{number(line.value)} {_UNITS[line.measure.figure]}"
    spread = f"{100 * line.spread:.0f} %" if line.spread == line.spread else "-"
    return (line.work.title, str(line.lane), value, spread, *shown, f"{line.errors:.0f}", verdict(line))


def remarks(session: Session) -> Iterator[str]:
    """Yield what must be known beside the table."""
    yield f"{session.rounds} rounds of {session.seconds:g} s each, contestants in turn; a fresh cluster for each run."
    if session.is_quick:
        yield "This was a quick run: it shows that everything works, its figures mean nothing."
    if session.busiest > _BUSY:
        yield (
            f"The machine was not quiet: a load average of {session.busiest:.1f} before a run. "
            "Figures of a busy machine are no figures."
        )
    yield from (f"missing: {text}" for text in session.missing)
    yield from (f"FAILED: {text}" for text in session.failed)


def show(session: Session, console: Console) -> None:
    """Print the table."""
    table = Table()
    for name in _COLUMNS:
        table.add_column(name, justify="left" if name in ("work", "contestant", "ratio") else "right")
    known = ""
    for line in session.lines():
        title, *rest = cells(line)
        if line.work.name != known:
            table.add_section()
        table.add_row("" if line.work.name == known else title, *rest)
        known = line.work.name
    console.print(table)
    for remark in remarks(session):
        console.print(remark, highlight=False)


def write_page(session: Session, path: Path, chart: str) -> None:
    """Write the part of the manual that holds figures.

    :param chart: the name of the picture beside it.
    """
    rows = [_COLUMNS, tuple("---" for _ in _COLUMNS), *(cells(line) for line in session.lines())]
    text = "\n".join("| " + " | ".join(row) + " |" for row in rows)
    notes = "\n".join(f"- {remark}" for remark in remarks(session))
    path.write_text(f"{notes}\n\n{text}\n\n![The same as charts]({chart})\n")
