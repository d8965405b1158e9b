"""``raftkv snapshot``: backups of a cluster, and new clusters made of them."""

from __future__ import annotations

import json
import os
import secrets
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any, Final

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TransferSpeedColumn

from raftkv.cli.calls import DEFAULT_ADDRESS, address_option
from raftkv.cli.downloading import NotFetched, fetch
from raftkv.config import NodeConfig, load_config
from raftkv.errors import ConfigurationError, CorruptData, StorageError
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings
from raftkv.server.backupfile import BackupFile, backup_facts
from raftkv.server.replay import Place, Rebuilt, Target, rebuild
from raftkv.server.restoration import REVISION_MARGIN, Restored, refuse_used, restore

_MAX_MARGIN: Final = 2**40  # a revision has to stay a number that every JSON parser can hold

_json = click.option("--json", "as_json", is_flag=True, help="Print JSON.")


@click.group()
def snapshot() -> None:
    """Back up a cluster, look at a backup, make a new cluster of one."""


@snapshot.command()
@click.argument("file", type=click.Path(dir_okay=False))
@click.option(
    "--consistency",
    type=click.Choice(["linearizable", "stale"]),
    default="linearizable",
    show_default=True,
    help="Whether it must hold all that was acknowledged before, or (with no leader needed) what the node has at hand.",
)
@click.option(
    "--timeout",
    type=click.FloatRange(1, 86_400),
    default=120.0,
    show_default=True,
    help="Seconds without a byte before a node is given up.",
)
@_json
@address_option
def save(file: str, consistency: str, timeout: float, as_json: bool, addresses: tuple[str, ...]) -> None:
    """Save a backup of the cluster, as it is now, to FILE.

    The file appears under its name once it is whole, checked and safe on the disk; one that is there is replaced then.
    """
    query = f"?fresh=true&consistency={consistency}"
    with _told_plainly(), BackupFile(file) as backup, _progress("saving", in_bytes=True) as progress:
        fetched = fetch(
            addresses or (DEFAULT_ADDRESS,), backup, query=query, patience_seconds=timeout, progress=progress
        )
    facts = {
        "file": os.path.abspath(file),
        "address": fetched.address,
        "index": fetched.index,
        "term": fetched.term,
        "revision": fetched.revision,
        "bytes": fetched.size_bytes,
        "checksum": fetched.checksum,
    }
    if as_json:
        _print_json(facts)
    else:
        click.echo(
            f"{file}: revision {fetched.revision}, entry {fetched.index} of term {fetched.term}, "
            f"{fetched.size_bytes} bytes, checksum {fetched.checksum}"
        )


@snapshot.command(short_help="Check the backup in FILE, and say what it is.")
@click.argument("file", type=click.Path(dir_okay=False))
@_json
def status(file: str, as_json: bool) -> None:
    """Say what the backup in FILE is, having checked every byte of it.

    The exit status is 0 where it is sound, 1 where it is damaged or no backup.
    """
    with _told_plainly(), _progress("checking", in_bytes=False) as progress:
        facts = backup_facts(_place(file), lambda what, done, of: progress(done, of))
    if as_json:
        _print_json(facts)
        return
    for name, value in facts.items():
        shown = ", ".join(value) if isinstance(value, list) else value
        click.echo(f"{name.replace('_', ' '):<17}{shown}")
    click.echo("everything checks out")


@snapshot.command("restore", short_help="Make the data directory of one node of a NEW cluster.")
@click.argument("file", type=click.Path(dir_okay=False), required=False)
@click.option(
    "--config",
    "config_path",
    required=True,
    type=click.Path(dir_okay=False),
    help="Configuration of the node whose data directory is to be made; raft.peers names the new cluster.",
)
@click.option(
    "--archive",
    "archives",
    multiple=True,
    type=click.Path(file_okay=False),
    help="Directory with archived entries, to be replayed on the backup; may be given several times.",
)
@click.option("--to-revision", type=click.IntRange(1), help="Replay up to this revision.")
@click.option("--to-time", metavar="ISO8601", help="Replay what was written up to then, such as 2026-11-23T05:00:00Z.")
@click.option(
    "--bump-revision",
    "margin",
    type=click.IntRange(1, _MAX_MARGIN),
    default=REVISION_MARGIN,
    show_default=True,
    help="By how much revisions rise: more than the old cluster may have written since.",
)
@click.option(
    "--token",
    default="",
    help="Any text, the same for all nodes; another one each time that the same backup is restored for the same peers.",
)
@_json
def restore_(
    file: str | None,
    config_path: str,
    archives: tuple[str, ...],
    to_revision: int | None,
    to_time: str | None,
    margin: int,
    token: str,
    as_json: bool,
) -> None:
    """Make the data directory of one node of a NEW cluster from the backup in FILE.

    Run it for each node of the new cluster, with the same FILE, options and raft.peers; then start them all. Without
    FILE the backup is looked for in the archive.
    """
    if to_revision is not None and to_time is not None:
        raise click.UsageError("--to-revision and --to-time exclude each other")
    if (to_revision is not None or to_time is not None) and not archives:
        raise click.UsageError("to replay up to a point takes an --archive")
    if file is None and not archives:
        raise click.UsageError("give a FILE, or an --archive that holds one")
    target = Target(revision=to_revision, time_ms=None if to_time is None else _milliseconds(to_time))
    with _told_plainly(), _progress("restoring", in_bytes=False) as progress:
        config = load_config(config_path)
        disk = _new_directory(config)
        try:
            rebuilt = rebuild(
                base=None if file is None else _place(file),
                archives=[LocalDisk(path, read_only=True) for path in archives],
                target=target,
                progress=lambda what, done, of: progress(done, of),
            )
            made = restore(
                disk,
                rebuilt,
                config=config,
                margin=margin,
                token=token,
                make_id=lambda: secrets.token_hex(16),
                settings=LogSettings(),
            )
        finally:
            disk.release()
    facts = _restored_facts(config, rebuilt, made)
    if as_json:
        _print_json(facts)
    else:
        click.echo(_restored_text(facts))


def _new_directory(config: NodeConfig) -> LocalDisk:
    """Return the data directory, locked, before minutes are spent on what it could not take."""
    disk = LocalDisk(config.data_dir)
    disk.prepare()
    try:
        refuse_used(disk)
    except BaseException:
        disk.release()
        raise
    return disk


def _restored_facts(config: NodeConfig, rebuilt: Rebuilt, made: Restored) -> dict[str, Any]:
    last_ms = rebuilt.last_time_ms
    return {
        "node_id": config.node_id,
        "data_dir": os.path.abspath(config.data_dir),
        "cluster_id": made.meta.cluster_id,
        "former_cluster_id": made.meta.former_cluster_id,
        "members": sorted(made.snapshot.meta.configuration.members),
        "index": made.snapshot.meta.index,
        "restored_revision": made.old_revision,
        "revision": made.snapshot.revision,
        "keys": rebuilt.store.key_count,
        "replayed_entries": rebuilt.replayed,
        "last_replayed": None if last_ms is None else _iso(last_ms),
    }


def _restored_text(facts: dict[str, Any]) -> str:
    replayed = ""
    if facts["replayed_entries"]:
        replayed = f", {facts['replayed_entries']} entries replayed, the last of {facts['last_replayed']}"
    return (
        f"{facts['data_dir']} is the data directory of {facts['node_id']} in the new cluster {facts['cluster_id']} "
        f"({', '.join(facts['members'])}).\n"
        f"  {facts['keys']} keys as of revision {facts['restored_revision']}{replayed}\n"
        f"  it goes on at revision {facts['revision']}; those before count as compacted\n"
        "Do the same for the other members, see that all name this cluster, and start them."
    )


# -- shared --------------------------------------------------------------------------------------------------------


def _place(file: str) -> Place:
    folder, name = os.path.split(os.path.abspath(file))
    return Place(disk=LocalDisk(folder, read_only=True), file=name)


def _milliseconds(text: str) -> int:
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise click.BadParameter(f"{text!r} is no time such as 2026-11-23T05:00:00Z", param_hint="--to-time") from None
    if moment.tzinfo is None:
        raise click.BadParameter(f"{text!r} says no offset; add Z, or one such as +01:00", param_hint="--to-time")
    return int(moment.timestamp() * 1000)


def _iso(milliseconds: int) -> str:
    return datetime.fromtimestamp(milliseconds / 1000, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


def _print_json(facts: dict[str, Any]) -> None:
    click.echo(json.dumps(facts, indent=2, sort_keys=True))


@contextmanager
def _told_plainly() -> Iterator[None]:
    """Tell what went wrong in one line, without a traceback."""
    try:
        yield
    except CorruptData as error:
        raise click.ClickException(
            f"{error.path}: at offset {error.offset}: {error.reason.partition(': ')[2]}"
        ) from None
    except (ConfigurationError, StorageError, NotFetched, ValueError) as error:
        raise click.ClickException(str(error)) from None


@contextmanager
def _progress(what: str, *, in_bytes: bool) -> Iterator[Callable[[int, int], None]]:
    """Show how far something is, where a person looks on."""
    if not sys.stderr.isatty():
        yield lambda done, of: None
        return
    columns = (DownloadColumn(), TransferSpeedColumn()) if in_bytes else (TextColumn("{task.percentage:>3.0f} %"),)
    with Progress(TextColumn(what), BarColumn(), *columns, console=Console(stderr=True), transient=True) as shown:
        task = shown.add_task(what, total=None)
        yield lambda done, of: shown.update(task, completed=done, total=of)
