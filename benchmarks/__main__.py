"""The command: ``python -m benchmarks``, or ``make bench``."""

from __future__ import annotations

import json
import shutil
import tempfile
from pathlib import Path

import click
from rich.console import Console

from benchmarks import chart, report
from benchmarks.arithmetic import interleaved
from benchmarks.load import wrk
from benchmarks.peers import PEERS, Peer
from benchmarks.results import HOME, Session
from benchmarks.runs import Lane, Lengths, lanes_of, run
from benchmarks.works import WORKS, Work, chosen, quick


@click.command()
@click.option("--list", "only_list", is_flag=True, help="Name the works and the contestants, and run nothing.")
@click.option("--only", "names", multiple=True, metavar="NAME", help="Only works whose names begin so; several times.")
@click.option("--peer", "peers", multiple=True, type=click.Choice(list(PEERS)), help="Only these; several times.")
@click.option("--seconds", default=5.0, show_default=True, help="How long each run measures.")
@click.option("--warmup", default=1.0, show_default=True, help="How long each run warms up before.")
@click.option("--rounds", default=3, show_default=True, help="How often each contestant has its turn.")
@click.option("--quick", "is_quick", is_flag=True, help="Few keys, one round of a second: only to see that all runs.")
@click.option(
    "--data",
    type=click.Path(exists=True, file_okay=False, writable=True),
    default=".",
    show_default=True,
    help="A folder on the disk to be measured.",
)
@click.option("--json", "json_path", type=click.Path(), help="Write everything there, as JSON.")
@click.option("--chart", "chart_path", type=click.Path(), help="Write an SVG there.")
@click.option("--page", type=click.Path(), help="Write the table there, as Markdown for the manual.")
def main(
    only_list: bool,
    names: tuple[str, ...],
    peers: tuple[str, ...],
    seconds: float,
    warmup: float,
    rounds: int,
    is_quick: bool,
    data: str,
    json_path: str | None,
    chart_path: str | None,
    page: str | None,
) -> None:
    """Compare raftkv with its peers: the same work, the same machine, in turn."""
    console = Console(width=None if Console().is_terminal else 200)
    if only_list:
        list_all(console)
        return
    try:
        works = chosen(names)
    except KeyError as error:
        raise click.UsageError(f"there is no work {error.args[0]!r}; --list names them") from None
    if is_quick:
        works, rounds, seconds, warmup = tuple(map(quick, works)), 1, min(seconds, 1.0), min(warmup, 0.3)
    contestants = [PEERS[name] for name in peers] if peers else list(PEERS.values())
    equals = frozenset(peer.name for peer in contestants if peer.is_equal and peer.name != HOME)
    session = Session(works=works, seconds=seconds, rounds=rounds, is_quick=is_quick, equals=equals)
    folder = Path(tempfile.mkdtemp(prefix="raftkv-bench-", dir=data))
    try:
        measure(session, contestants, Lengths(seconds=seconds, warmup_seconds=warmup), folder)
    except KeyboardInterrupt:
        session.failed.append("interrupted; the rest was not measured")
    finally:
        shutil.rmtree(folder, ignore_errors=True)
    report.show(session, console)
    if json_path:
        Path(json_path).write_text(json.dumps(session.to_dict(), indent=1) + "\n")
    if chart_path:
        Path(chart_path).write_text(chart.draw(session))
    if page:
        report.write_page(session, Path(page), Path(chart_path or "performance.svg").name)
    if session.failed:
        raise SystemExit(1)


def list_all(console: Console) -> None:
    """Print what there is."""
    for work in WORKS:
        console.print(f"{work.name:24}{work.title}", highlight=False)
    console.print()
    for peer in PEERS.values():
        lack = peer.missing()
        console.print(f"{peer.name:24}{'missing: ' + lack if lack else peer.remark}", highlight=False)


def entrants(session: Session, contestants: list[Peer], work: Work) -> list[tuple[Peer, Lane]]:
    """Return who takes part in a work; who does not is noted with the reason."""
    taking_part: list[tuple[Peer, Lane]] = []
    for peer in contestants:
        lack, refusal = peer.missing(), peer.refusal(work)
        if lack:
            note = f"{peer.name}: {lack}"
        elif refusal:
            note = f"{peer.name} in {work.name}: {refusal}"
        else:
            taking_part += [(peer, lane) for lane in lanes_of(peer, work)]
            continue
        if note not in session.missing:
            session.missing.append(note)
    return taking_part


def measure(session: Session, contestants: list[Peer], lengths: Lengths, folder: Path) -> None:
    """Run everything; a run that fails is noted, and the others go on."""
    progress = Console(stderr=True)
    if any(work.kind == "http" for work in session.works) and not wrk.is_installed():
        session.missing.append("wrk: HTTP is asked for by a loop in Python, which is slower")
    for work in session.works:
        for number, (peer, lane) in interleaved(session.rounds, entrants(session, contestants, work)):
            progress.print(f"{work.name}, round {number}: {lane}", highlight=False)
            try:
                session.samples.append(run(peer, lane, work, number, lengths, folder))
            except (RuntimeError, OSError) as error:
                session.failed.append(f"{work.name}, round {number}, {lane}: {error}")


if __name__ == "__main__":
    main()
