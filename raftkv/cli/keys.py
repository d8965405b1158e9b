"""``raftkv get``, ``set`` and ``delete``: one key from the shell."""

from __future__ import annotations

import sys

import click

from raftkv.cli.calls import address_option, run_with_client, timeout_option
from raftkv.client import Consistency, KVClient
from raftkv.client.results import Deleted, Written


@click.command(short_help="Write the value of KEY to standard output, or exit with 1.")
@click.argument("key")
@click.option(
    "--consistency",
    type=click.Choice(["linearizable", "lease", "stale"]),
    default="linearizable",
    show_default=True,
    help="How fresh the answer must be.",
)
@click.option("--max-stale", type=float, metavar="SECONDS", help="With stale: how old the answer may be at the most.")
@address_option
@timeout_option
def get(
    key: str, consistency: Consistency, max_stale: float | None, addresses: tuple[str, ...], timeout: float
) -> None:
    """Write the value of KEY to standard output; exit with 1 where there is none."""

    async def work(client: KVClient) -> bytes | None:
        return await client.get_bytes(key, consistency=consistency, max_stale=max_stale)

    value = run_with_client(addresses, timeout, work)
    if value is None:
        raise click.ClickException(f"there is no key {key!r}")
    # As it is when it goes into a file or a pipe; with an end of line where a person reads it.
    click.echo(value, nl=sys.stdout.isatty())


@click.command("set")
@click.argument("key")
@click.argument("value", required=False)
@address_option
@timeout_option
def set_(key: str, value: str | None, addresses: tuple[str, ...], timeout: float) -> None:
    """Set KEY to VALUE, or to what comes on standard input."""
    data = sys.stdin.buffer.read() if value is None else value.encode()

    async def work(client: KVClient) -> Written:
        return await client.set(key, data)

    click.echo(f"revision {run_with_client(addresses, timeout, work).revision}")


@click.command()
@click.argument("key")
@address_option
@timeout_option
def delete(key: str, addresses: tuple[str, ...], timeout: float) -> None:
    """Delete KEY; a key that is not there is no error."""

    async def work(client: KVClient) -> Deleted:
        return await client.delete(key)

    result = run_with_client(addresses, timeout, work)
    click.echo(f"{'deleted' if result.deleted else 'not there'}, revision {result.revision}")
