"""``raftkv member``: who is in the cluster, and who is to be."""

from __future__ import annotations

from typing import Any

import click
from rich.console import Console
from rich.table import Table

from raftkv.cli.calls import address_option, run_with_client, timeout_option
from raftkv.client import Cluster, KVClient
from raftkv.client.results import Member


@click.group()
def member() -> None:
    """Show and change the members of a cluster."""


@member.command("list")
@address_option
@timeout_option
def list_(addresses: tuple[str, ...], timeout: float) -> None:
    """Show the members, as the leader sees them."""

    async def work(client: KVClient) -> Cluster:
        return await client.cluster()

    _show(run_with_client(addresses, timeout, work))


@member.command(short_help="Add NODE_ID, whose Raft port is at RAFT_ADDRESS.")
@click.argument("node_id")
@click.argument("raft_address")
@click.option("--learner", is_flag=True, help="Only replicate to it; it does not vote.")
@click.option("--force", is_flag=True, help="Also where the quorum would be lost.")
@address_option
@timeout_option
def add(
    node_id: str, raft_address: str, learner: bool, force: bool, addresses: tuple[str, ...], timeout: float
) -> None:
    """Add NODE_ID, whose Raft port is at RAFT_ADDRESS; it becomes a voter once it has caught up.

    A node that is started with raft.join does this by itself.
    """
    role = "learner" if learner else "voter"
    _change({"id": node_id, "raft_addr": raft_address, "role": role, "force": force}, addresses, timeout)


@member.command(short_help="Remove NODE_IDS, all in one change.")
@click.argument("node_ids", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also where the quorum would be lost.")
@address_option
@timeout_option
def remove(node_ids: tuple[str, ...], force: bool, addresses: tuple[str, ...], timeout: float) -> None:
    """Remove NODE_IDS, all in one change; their directories cannot be used again."""
    _change({"remove": list(node_ids), "force": force}, addresses, timeout)


@member.command(short_help="Make voters of the learners NODE_IDS.")
@click.argument("node_ids", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="At once, and also where the quorum would be lost.")
@address_option
@timeout_option
def promote(node_ids: tuple[str, ...], force: bool, addresses: tuple[str, ...], timeout: float) -> None:
    """Make voters of the learners NODE_IDS, as soon as they have caught up."""
    _change({"promote": list(node_ids), "force": force}, addresses, timeout)


@member.command()
@click.argument("node_ids", nargs=-1, required=True)
@click.option("--force", is_flag=True, help="Also where the quorum would be lost.")
@address_option
@timeout_option
def demote(node_ids: tuple[str, ...], force: bool, addresses: tuple[str, ...], timeout: float) -> None:
    """Make learners of the voters NODE_IDS."""
    _change({"demote": list(node_ids), "force": force}, addresses, timeout)


@member.command(short_help="Hand leadership to NODE_ID, or to whoever is the furthest.")
@click.argument("node_id", required=False)
@address_option
@timeout_option
def transfer(node_id: str | None, addresses: tuple[str, ...], timeout: float) -> None:
    """Hand leadership to NODE_ID, or to the voter that is the furthest."""

    async def work(client: KVClient) -> str:
        return await client.transfer_leadership(node_id)

    click.echo(f"{run_with_client(addresses, timeout, work)} leads")


def _change(document: dict[str, Any], addresses: tuple[str, ...], timeout: float) -> None:
    async def work(client: KVClient) -> Cluster:
        return await client.change_members(document)

    _show(run_with_client(addresses, timeout, work))


def _show(cluster: Cluster) -> None:
    table = Table(box=None, pad_edge=False)
    for title in ("node", "role", "raft", "http", "match", "health"):
        table.add_column(title, justify="right" if title == "match" else "left")
    for each in cluster.members:
        match_index = "-" if each.match_index is None else str(each.match_index)
        table.add_row(each.id, _role(each), each.raft_addr, each.http_addr, match_index, _health(each))
    Console(highlight=False).print(table)


def _role(each: Member) -> str:
    if each.leader:
        return f"{each.role}, leads"
    return f"{each.role}, to be promoted" if each.promoting else each.role


def _health(each: Member) -> str:
    if each.healthy is None:
        return "not known"
    if each.healthy:
        return "ok"
    return f"silent for {each.last_contact:.1f} s" if each.last_contact is not None else "silent"
