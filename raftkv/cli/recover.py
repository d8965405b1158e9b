"""``raftkv recover``: a cluster of one from the data directory of a survivor, when the majority is gone for good."""

from __future__ import annotations

import json
import os
import secrets
from typing import Any

import click

from raftkv.errors import ConfigurationError, StorageError
from raftkv.persistence.disk import LocalDisk
from raftkv.persistence.log import LogSettings
from raftkv.server.recovery import Survivor, found_cluster, survey


@click.command(short_help="Make a cluster of one, when the majority is gone for good.")
@click.argument("data_dir", type=click.Path(file_okay=False))
@click.option(
    "--force-new-cluster", is_flag=True, required=True, help="Make a cluster of one; there is no other recovery."
)
@click.option("--node-id", required=True, help="Whose data directory it is.")
@click.option("--raft-addr", default="", help="Where later members reach this node.  [default: where they did so far]")
@click.option("--yes", is_flag=True, help="Do not ask.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON; needs --yes.")
def recover(data_dir: str, force_new_cluster: bool, node_id: str, raft_addr: str, yes: bool, as_json: bool) -> None:
    """Make a cluster of one from DATA_DIR, the directory of a survivor, when the majority is gone FOR GOOD.

    Stop the node first, and copy the directory. Acknowledged writes that only the lost nodes held are lost. The lost
    nodes must never run again on their old directories: empty these, and add the nodes to the new cluster.
    """
    if as_json and not yes:
        raise click.UsageError("--json does not ask; it needs --yes")
    if not os.path.isdir(data_dir):  # to lock it would make it
        raise click.ClickException(f"there is no directory {data_dir}")
    disk = LocalDisk(data_dir)
    try:
        disk.prepare()
        survivor = survey(disk, node_id=node_id, settings=LogSettings())
        if not as_json:
            click.echo(describe(survivor, disk.root))
        if not yes:
            click.confirm("Retire this identity and make a new cluster of one?", abort=True)
        new = found_cluster(
            disk, survivor, raft_addr=raft_addr, make_id=lambda: secrets.token_hex(16), settings=LogSettings()
        )
    except (ConfigurationError, StorageError) as error:
        raise click.ClickException(str(error)) from None
    finally:
        disk.release()
    if as_json:
        identity = {"cluster_id": new.cluster_id, "incarnation": new.incarnation}
        click.echo(json.dumps({**facts(survivor), **identity}, indent=2, sort_keys=True))
    else:
        click.echo(f"{node_id} is the only member of the new cluster {new.cluster_id}. Start it as before.")


def facts(survivor: Survivor) -> dict[str, Any]:
    """Return what was found, as a JSON object."""
    return {
        "node_id": survivor.meta.node_id,
        "old_cluster_id": survivor.meta.cluster_id,
        "old_members": sorted(survivor.configuration.members),
        "term": survivor.term,
        "last_index": survivor.last_index,
        "last_term": survivor.last_term,
        "snapshot_index": survivor.snapshot_index,
        "snapshot_revision": survivor.snapshot_revision,
        "kept_entries": survivor.kept_entries,
    }


def describe(survivor: Survivor, path: str) -> str:
    """Return what was found and what it means, in words."""
    found = facts(survivor)
    others = [name for name in found["old_members"] if name != survivor.meta.node_id]
    return (
        f"{path} is the data directory of {found['node_id']}, a member of cluster {found['old_cluster_id']}.\n"
        f"  term {found['term']}, last entry {found['last_index']} of term {found['last_term']}\n"
        f"  snapshot up to entry {found['snapshot_index']}, revision {found['snapshot_revision']}\n"
        f"  {found['kept_entries']} entries behind it, all of which are kept\n"
        "Some of these entries may never have been committed: writes that nobody was told of can appear.\n"
        "Writes that were acknowledged and that only the lost nodes held are lost.\n"
        f"The other members ({', '.join(others) or 'none'}) must never run again on their old directories."
    )
