"""``raftkv wal check`` and ``dump``: what is in the log of a stopped node, and where it is damaged. Changes nothing."""

from __future__ import annotations

import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any

import click

from raftkv.errors import ConfigurationError, StorageError
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.record import Record
from raftkv.server.inspection import Findings, facts, inspect, record_facts, records

_directory = click.argument("data_dir", type=click.Path(file_okay=False))
_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def wal() -> None:
    """Look into the log (write-ahead log) of a node that is stopped. Nothing is changed."""


@wal.command(short_help="Check the log under DATA_DIR.")
@_directory
@_json
def check(data_dir: str, as_json: bool) -> None:
    """Say what is in the log under DATA_DIR, and whether all of it checks out.

    The exit status is 0 for a sound log, 1 where something is damaged, and 2 where that cannot be told.
    """
    with _looking_at(data_dir) as disk:
        findings = inspect(disk)
    click.echo(json.dumps(facts(findings), indent=2, sort_keys=True) if as_json else _as_text(findings))
    if not findings.is_sound:
        raise SystemExit(1)


@wal.command(short_help="Print the records of the log under DATA_DIR.")
@_directory
@_json
@click.option("--from", "first", type=click.IntRange(1), default=1, help="Index of the first entry to print.")
@click.option("--to", "last", type=click.IntRange(1), help="Index of the last one.  [default: the last there is]")
def dump(data_dir: str, as_json: bool, first: int, last: int | None) -> None:
    """Print the records of the log under DATA_DIR, one a line, in the order in which they were written.

    Entries that later records have made void are among them. Keys and values are not printed. The exit status is that
    of check, as far as the log goes.
    """
    if not as_json:
        click.echo(_DUMP.format("segment", "offset", "batch", "type", "index", "term", "kind", "bytes", "").rstrip())

    def visit(file: str, record: Record, is_readable: bool) -> None:
        if first <= record.index and (last is None or record.index <= last):
            line = record_facts(file, record, is_readable)
            click.echo(json.dumps(line, sort_keys=True) if as_json else _record_line(line))

    with _looking_at(data_dir) as disk:
        survey = records(disk, visit)
    for gap in survey.gaps:
        click.echo(f"damage: {gap.path}: bytes {gap.start} to {gap.stop}: {gap.reason}", err=True)
    if survey.gaps:
        raise SystemExit(1)


@contextmanager
def _looking_at(data_dir: str) -> Iterator[LocalDisk]:
    disk = LocalDisk(data_dir)
    try:
        disk.prepare_to_look()
        yield disk
    except (ConfigurationError, StorageError) as error:
        click.echo(f"Error: {error}", err=True)
        raise SystemExit(2) from None
    finally:
        disk.release()


# -- in words ------------------------------------------------------------------------------------------------------

_SEGMENTS = "{:<28}{:>17}{:>10}{:>9}{:>9}{:>12}{:>12}"
_DUMP = "{:<28}{:>10}{:>8}  {:<9}{:>9}{:>7}  {:<14}{:>9}  {}"


def _as_text(findings: Findings) -> str:
    meta, survey, log = findings.meta, findings.survey, findings.survey.log
    lines = [f"node {meta.node_id} of cluster {meta.cluster_id}, incarnation {meta.incarnation}"]
    if findings.hard_state is not None:
        state = findings.hard_state.hard_state
        vote = f"voted for {state.voted_for}" if state.voted_for is not None else "no vote"
        lines.append(
            f"hard state: term {state.term}, {vote}; batch {findings.hard_state.log_batch} was on disk by then"
        )
    lines += ["", _SEGMENTS.format("segment", "entries", "terms", "records", "batches", "used", "size")]
    for each in survey.segments:
        entries = f"{each.first_index}..{each.last_index}" if each.entries else "-"
        terms = f"{each.first_term}..{each.last_term}" if each.entries else "-"
        name = each.file.rpartition("/")[2]
        lines.append(
            _SEGMENTS.format(name, entries, terms, each.records, each.batches, each.used_bytes, each.size_bytes)
        )
    torn = survey.segments[-1].torn_bytes if survey.segments else 0
    if torn:
        lines.append(f"the last batch was torn by a crash: {torn} bytes, which the next start cuts")
    lines += [f"{name} is void since a repair; the next start removes it" for name in survey.void]
    lines.append("")
    if log.slots:
        lines.append(
            f"log: entries {log.base_index + 1} to {log.last_index}, the last of term {log.term_at(log.last_index)}"
        )
    else:
        lines.append(f"log: empty, goes on behind entry {log.base_index} of term {log.base_term}")
    if survey.lost_term and (log.term_at(log.last_index) or 0) <= survey.lost_term:
        lines.append(f"entries of terms up to {survey.lost_term} may be missing: no vote until a later one is here")
    for info in findings.snapshots:
        lines.append(
            f"snapshot {info.name}: up to entry {info.meta.index} of term {info.meta.term}, revision {info.revision}, "
            f"{info.size_bytes} bytes"
        )
    lines.append("")
    lines += [f"damage: {gap.path}: bytes {gap.start} to {gap.stop}: {gap.reason}" for gap in survey.gaps]
    lines += [f"damage: {what}" for what in findings.damage]
    lines += [f"missing: entries {first} to {last}" for first, last in findings.missing()]
    if findings.doubt():
        lines.append(f"in doubt until a member that has entry {findings.doubt()} confirms them: the entries before it")
    if survey.end_lost:
        lines.append("missing: whatever was behind the damage at the end")
    lines.append("everything checks out" if findings.is_sound else "DAMAGED; a start asks the other members for it")
    return "\n".join(lines)


def _record_line(line: dict[str, Any]) -> str:
    marks = " ".join(mark for mark, is_set in (("DAMAGED", line["damaged"]), ("|", line["ends_batch"])) if is_set)
    return _DUMP.format(
        line["segment"].rpartition("/")[2],
        line["offset"],
        line["batch"],
        line["type"],
        line["index"],
        line["term"],
        line["kind"],
        line["payload_bytes"],
        marks,
    ).rstrip()
