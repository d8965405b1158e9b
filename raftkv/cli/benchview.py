"""What ``raftkv bench`` says: what it is going to do, how it goes, and the figures, for people or as JSON.

What is for people while it goes on is said on standard error, and only on a terminal; the figures on standard output.
"""

from __future__ import annotations

import json
import math
from collections.abc import Sequence

import click
from rich.console import Console
from rich.text import Text

from raftkv.bench.latencies import Bar
from raftkv.bench.results import Results
from raftkv.bench.target import Target
from raftkv.cli.benchplan import Plan

_BAR_WIDTH = 36  # columns
_EIGHTHS = " ▏▎▍▌▋▊▉█"


class View:
    """The two streams of one run.

    :param plan: what the run does.
    """

    def __init__(self, plan: Plan) -> None:
        self._plan = plan
        self._out = Console(highlight=False, markup=False, emoji=False)
        self._err = Console(highlight=False, markup=False, emoji=False, stderr=True)
        # Before the figures, JSON has standard output for itself.
        self._before = self._err if plan.as_json else self._out
        self._told_seconds = 0
        self._told_errors = 0
        self._told_at = 0.0
        self._told_changes = 0

    def introduce(self, target: Target) -> None:
        """Say what is going to be done."""
        for word, sentence in self._plan.sentences(target):
            self._before.print(Text.assemble((f"{word:<9}", "dim"), sentence), soft_wrap=True)

    def filling(self, keys: int, size: str) -> None:
        """Say that the keys are being written."""
        if self._err.is_terminal:
            self._err.print(f"writing {keys:,} {'keys' if keys != 1 else 'key'} of {size} …", style="dim")

    def filled(self, seconds: float) -> None:
        """Say that they are."""
        if self._err.is_terminal:
            self._err.print(f"written in {seconds:.1f} s", style="dim")

    def progress(self, results: Results) -> None:
        """Say once a second, on a terminal, how that second was."""
        if not self._err.is_terminal:
            return
        for change in results.changes[self._told_changes :]:
            self._err.print(f"{'':>7}{change.leader} leads in term {change.term}", style="yellow")
            self._told_changes += 1
        if int(results.seconds) <= self._told_seconds:
            return
        rate = results.recent.count / (results.seconds - self._told_at)
        p99 = _ms(1000 * results.recent.percentile(0.99))
        errors = results.error_count - self._told_errors
        results.forget_recent()
        self._told_seconds = int(results.seconds)
        self._told_errors, self._told_at = results.error_count, results.seconds
        line = Text(f"{self._told_seconds:>5} s  {rate:>9,.0f}/s   p99 {p99:>9}   ")
        line.append(_count(errors, "error"), style="red" if errors else "dim")
        self._err.print(line)

    def finish(self, target: Target, results: Results, *, deleted: int | None, is_interrupted: bool) -> None:
        """Tell the figures.

        :param deleted: how many keys were deleted; ``None`` where they are still there.
        """
        if self._plan.as_json:
            own = {"interrupted": is_interrupted, "deleted_keys": deleted}
            click.echo(json.dumps({**self._plan.document(target), **results.document(), **own}, indent=2))
            return
        out = self._out
        out.print()
        if is_interrupted:
            until = "the figures are those up to then" if results.requests else "nothing was measured yet"
            out.print(f"interrupted; {until}", style="yellow")
        out.print(_summary(results))
        out.print(_errors(results))
        if results.unsent:
            out.print(
                f"{_count(results.unsent, 'request')} due and not sent in time: the cluster, or this machine, does not "
                "keep up with the rate at so many outstanding",
                style="yellow",
            )
        for change in results.changes:
            out.print(f"{change.leader} leads in term {change.term}, noticed at {change.seconds:.1f} s", style="yellow")
        if results.requests:
            out.print()
            out.print(_percentiles(results))
            out.print()
            out.print(_histogram(results.latencies.bars(), is_unicode=out.encoding.startswith("utf")))
        if deleted is not None:
            out.print()
            self.swept(deleted)

    def sweeping(self) -> None:
        """Say that the keys are being deleted: where nodes are gone that may take a while."""
        if self._err.is_terminal:
            self._err.print("deleting the keys …", style="dim")

    def cleaned(self, deleted: int | None) -> None:
        """Tell the result of a run that only deletes.

        :param deleted: how many keys were deleted; ``None`` where that failed.
        """
        if self._plan.as_json:
            click.echo(json.dumps({"deleted_keys": deleted}, indent=2))
        elif deleted is not None:
            self.swept(deleted)

    def swept(self, deleted: int) -> None:
        """Say how many keys were deleted."""
        self._out.print(f"{_count(deleted, 'key')} deleted", style="dim")

    def complain(self, sentence: str) -> None:
        """Say that something went wrong which does not end the run."""
        self._err.print(sentence, style="red", soft_wrap=True)


def _count(number: int, noun: str) -> str:
    return f"{number:,} {noun}{'' if number == 1 else 's'}" if number else f"no {noun}s"


def _ms(milliseconds: float) -> str:
    """Write a latency with three digits or so."""
    if math.isnan(milliseconds):
        return "-"
    if milliseconds >= 1000:
        return f"{milliseconds / 1000:.2f} s"
    digits = 2 if milliseconds < 10 else 1 if milliseconds < 100 else 0
    return f"{milliseconds:.{digits}f} ms"


def _summary(results: Results) -> Text:
    rate = results.per_second
    text = Text(f"{_count(results.requests, 'request')} in {results.seconds:.1f} s, ")
    text.append(f"{rate:,.0f}" if rate >= 100 else f"{rate:.1f}", style="bold")
    return text.append(" a second")


def _errors(results: Results) -> Text:
    if not results.errors:
        return Text("no errors")
    total = results.requests + results.error_count
    lines = [Text(_count(results.error_count, "error"), style="red")]
    for code, count in results.errors.most_common():
        lines.append(Text.assemble(f"{count:>11,}  {count / total:>6.2%}  ", (code, "red")))
    return Text("\n").join(lines)


def _percentiles(results: Results) -> Text:
    found = results.percentiles()
    titles = "".join(f"{title:>11}" for title in ("p50", "p90", "p99", "p99.9", "max"))
    return Text.assemble((f"{titles}\n", "dim"), "".join(f"{_ms(value):>11}" for value in found.values()))


def _histogram(bars: Sequence[Bar], *, is_unicode: bool) -> Text:
    total, largest = sum(bar.count for bar in bars), max(bar.count for bar in bars)
    low_width, high_width = (max(len(_end(end)) for end in ends) for ends in zip(*map(_ends, bars), strict=True))
    dash = "\N{EN DASH}" if is_unicode else "-"
    lines = []
    for bar in bars:
        drawn = _bar(bar.count / largest, is_unicode=is_unicode)
        if bar.count and not drawn:
            drawn = _EIGHTHS[1] if is_unicode else "."
        ends = f"{_end(bar.low):>{low_width}} {dash} {_end(bar.high):>{high_width}} ms"
        share = f"{bar.count:>11,} {bar.count / total:>6.1%}"
        lines.append(Text.assemble(f"{ends}{share}", (f" {drawn}" if drawn else "", "cyan")))
    return Text("\n").join(lines)


def _ends(bar: Bar) -> tuple[float, float]:
    return bar.low, bar.high


def _end(seconds: float) -> str:
    return f"{1000 * seconds:g}"


def _bar(part: float, *, is_unicode: bool) -> str:
    """Draw a bar of up to :data:`_BAR_WIDTH` columns."""
    if not is_unicode:
        return "#" * round(part * _BAR_WIDTH)
    whole, eighth = divmod(round(part * _BAR_WIDTH * 8), 8)
    return "█" * whole + (_EIGHTHS[eighth] if eighth else "")
