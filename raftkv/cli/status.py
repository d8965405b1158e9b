"""``raftkv status``: the members of a cluster, as the leader and each of them see it."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

import click
from rich.console import Console
from rich.table import Table
from twisted.internet.defer import Deferred, gatherResults
from twisted.python.failure import Failure

from raftkv.cli.calls import address_option, run_with_client, timeout_option
from raftkv.client import Cluster, KVClient, Member, Status
from raftkv.errors import RaftKVError

_NODE_TIMEOUT_SECONDS = 1.5


@click.command(short_help="Show who is in the cluster, who leads, and how far each is.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@address_option
@timeout_option
def status(as_json: bool, addresses: tuple[str, ...], timeout: float) -> None:
    """Show who is in the cluster, who leads, and how far each member is.

    Exits with 1 while there is no leader.
    """
    cluster, nodes = run_with_client(addresses, timeout, _ask)
    if as_json:
        value = {**cluster.raw, "nodes": {name: node and dict(node.raw) for name, node in nodes.items()}}
        click.echo(json.dumps(value, indent=2, sort_keys=True))
    else:
        console = Console(highlight=False)
        leader = f"{cluster.leader} leads in term {cluster.term}" if cluster.leader else "no leader is known"
        console.print(f"cluster {cluster.cluster_id}: {leader}")
        console.print(_table(cluster, nodes))
    if cluster.leader is None:
        raise SystemExit(1)


async def _ask(client: KVClient) -> tuple[Cluster, dict[str, Status | None]]:
    cluster = await client.cluster()
    names = [member.id for member in cluster.members]
    found = await gatherResults([_status_of(member) for member in cluster.members])
    return cluster, dict(zip(names, found, strict=True))


def _status_of(member: Member) -> Deferred[Status | None]:
    """Fire with what a member says of itself, or ``None`` where it does not answer."""

    async def ask() -> Status | None:
        if not member.http_addr:
            return None
        client = KVClient(f"http://{member.http_addr}", timeout=_NODE_TIMEOUT_SECONDS, follow_leader=False)
        try:
            return await client.status()
        finally:
            await client.close()

    def silent(failure: Failure) -> None:
        failure.trap(RaftKVError)

    asked: Deferred[Status | None] = Deferred.fromCoroutine(ask())
    return asked.addErrback(silent)


def _table(cluster: Cluster, nodes: Mapping[str, Status | None]) -> Table:
    table = Table(box=None, pad_edge=False)
    for title in ("node", "role", "http", "term", "applied", "revision", "keys", "health"):
        table.add_column(title, justify="right" if title in ("term", "applied", "revision", "keys") else "left")
    for member in cluster.members:
        node = nodes[member.id]
        own: list[Any] = [node.term, node.applied_index, node.revision, node.keys] if node else ["-"] * 4
        role = node.role if node else member.role
        table.add_row(member.id, role, member.http_addr, *map(str, own), _health(member, node))
    return table


def _health(member: Member, node: Status | None) -> str:
    if node is None:
        return "no answer"
    if node.alarms:
        return f"alarm: {', '.join(map(str, node.alarms))}"
    if member.healthy is False:
        return f"silent for {member.last_contact:.1f} s"
    return "ok" if member.healthy else "answers"
