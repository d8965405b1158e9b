"""The table of mutants: for a terminal, as JSON, and as a page of the manual."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping

from tests.mutants.catalogue import CHAPTERS
from tests.mutants.mutant import Mutant
from tests.mutants.trying import Verdict

_HEAD = """\
# Do the tests bite?

<!-- Written by `python -m tests.mutants --markdown`; change the catalogue in `tests/mutants/`, not this page. -->

A suite that passes says little unless it also fails when it should. `make mutants` breaks the rules of Raft, and our
own rules of durability, sessions and reads, one at a time: each mutant is a small change to the source, applied to a
copy of the tree (there is no switch in the product). The tests that should notice run first, then all tests of that
part, then seeds of the simulation; the first check that fails is named here. A run that does not end
is ended and counts as caught by time-out. `python -m tests.mutants --simulation-only` leaves the unit tests out, and so
asks the same of the simulator alone.
"""


def is_settled(mutant: Mutant, verdict: Verdict) -> bool:
    """Tell whether a mutant fared as it should: caught, unless it is known to change nothing that is promised."""
    return verdict.survived if mutant.survives_because else verdict.catch is not None


def count(mutants: Iterable[Mutant], verdicts: Mapping[str, Verdict]) -> Counter[str]:
    """Return how many mutants were caught by which kind of check."""
    counts: Counter[str] = Counter()
    for mutant in mutants:
        verdict = verdicts[mutant.name]
        if verdict.broken:
            counts["broken"] += 1
        elif verdict.catch is None:
            counts["equivalent" if mutant.survives_because else "survived"] += 1
        else:
            counts[verdict.catch.by] += 1
            counts["timed out"] += verdict.catch.timed_out
    return counts


def summary(mutants: Iterable[Mutant], verdicts: Mapping[str, Verdict]) -> str:
    """Return the counts as a sentence."""
    mutants = list(mutants)
    counts = count(mutants, verdicts)
    caught = counts["hint"] + counts["suite"] + counts["simulation"]
    parts = [
        f"{len(mutants)} mutants: {caught} caught ({counts['hint']} by the tests that were to notice, "
        f"{counts['suite']} by others of the part, {counts['simulation']} by the simulation, "
        f"{counts['timed out']} of all these by time-out)",
        f"{counts['equivalent']} known to change nothing that is promised",
        f"{counts['survived']} survived",
    ]
    if counts["broken"]:
        parts.append(f"{counts['broken']} say nothing")
    return ", ".join(parts)


def how_caught(verdict: Verdict) -> str:
    """Return what noticed a mutant."""
    if verdict.broken:
        return f"says nothing: {verdict.broken.splitlines()[-1]}"
    if verdict.catch is None:
        return f"nothing, in all tests and {verdict.seeds} seeds"
    return f"time-out of {verdict.catch.check}" if verdict.catch.timed_out else verdict.catch.check


def as_text(mutants: Iterable[Mutant], verdicts: Mapping[str, Verdict]) -> str:
    """Return the table for a terminal."""
    mutants = list(mutants)
    lines = []
    for mutant in mutants:
        verdict = verdicts[mutant.name]
        lines.append(f"{mutant.name:<45} {mutant.reference}\n    {mutant.rule}")
        lines.append(f"    {how_caught(verdict)} ({verdict.seconds} s)")
        if mutant.survives_because:
            lines.append(f"    known to survive: {mutant.survives_because}")
    unsettled = [mutant.name for mutant in mutants if not is_settled(mutant, verdicts[mutant.name])]
    if unsettled:
        lines.append(f"not as it should be: {' '.join(unsettled)}")
    return "\n".join([*lines, summary(mutants, verdicts)])


def as_markdown(verdicts: Mapping[str, Verdict]) -> str:
    """Return the page of the manual; all mutants must have been tried."""
    everything = [mutant for mutants in CHAPTERS.values() for mutant in mutants]
    parts = [_HEAD, f"{summary(everything, verdicts)}.\n"]
    for title, mutants in CHAPTERS.items():
        parts.append(f"## {title}\n")
        parts.append(
            "| The rule that is broken | From | Mutant | Caught by | Seconds |\n| --- | --- | --- | --- | ---: |"
        )
        parts[-1] += "".join(f"\n{_row(mutant, verdicts[mutant.name])}" for mutant in mutants) + "\n"
    known = [mutant for mutant in everything if mutant.survives_because]
    if known:
        parts.append("## Survivors that break no promise\n")
        parts.append("\n".join(f"- `{mutant.name}`: {mutant.survives_because}" for mutant in known) + "\n")
    return "\n".join(parts)


def _row(mutant: Mutant, verdict: Verdict) -> str:
    caught = how_caught(verdict).replace("|", "\\|")
    check = f"`{caught.removeprefix('tests.')}`" if caught.startswith("tests.") else caught
    if mutant.survives_because:
        check = f"{check} (see below)"
    return f"| {mutant.rule} | {mutant.reference} | `{mutant.name}` | {check} | {verdict.seconds} |"
