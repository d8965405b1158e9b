"""``raftkv bench``: its options, and what makes no sense among them. ``benchrun`` does it, ``benchview`` prints."""

from __future__ import annotations

from typing import Final, Literal

import click
from click.core import ParameterSource

from raftkv.bench.specification import Load
from raftkv.bench.target import Via
from raftkv.cli.benchplan import Plan
from raftkv.cli.benchrun import Bench
from raftkv.cli.calls import DEFAULT_ADDRESS, address_option
from raftkv.client.addresses import parse_addresses
from raftkv.client.session import SESSION_WINDOW

_MIB: Final = 1024 * 1024
_MAX_KEYS: Final = 1_000_000  # their names are held in memory while the load goes on
_MAX_CONNECTIONS: Final = 500  # a node takes 1,024, and others want some of them

Work = Literal["put", "get", "get-stale", "mixed"]


@click.command()
@click.option(
    "--via",
    type=click.Choice(["native", "http", "client"]),
    default="native",
    show_default=True,
    help="How it asks: RPC without a client, HTTP, or the NativeClient of a program in Python.",
)
@click.option(
    "--work",
    type=click.Choice(["put", "get", "get-stale", "mixed"]),
    default="put",
    show_default=True,
    help="What it asks for. What is read is written first.",
)
@click.option("--reads", type=click.FloatRange(0, 1), help="With mixed: the part that is read.  [default: 0.9]")
@click.option("--seconds", type=click.FloatRange(0.1, 86400), default=5.0, show_default=True, help="To measure.")
@click.option("--warmup", type=click.FloatRange(0, 600), default=1.0, show_default=True, help="Seconds before that.")
@click.option("--requests", type=click.IntRange(1), help="As many in place of --seconds, without a warm-up.")
@click.option("--outstanding", type=click.IntRange(1, 10_000), default=64, show_default=True, help="Requests at once.")
@click.option(
    "--connections",
    type=click.IntRange(1, _MAX_CONNECTIONS),
    help="On which they are spread.  [default: 1; with http one for each outstanding request]",
)
@click.option(
    "--rate",
    type=click.FloatRange(0.1, 1_000_000),
    help="Requests per second, each sent when it is due; its latency counts from then, so that no stall is hidden.",
)
@click.option("--value-bytes", type=click.IntRange(1, 4 * _MIB), default=256, show_default=True, help="Of each value.")
@click.option("--keys", type=click.IntRange(1, _MAX_KEYS), default=10_000, show_default=True, help="Different keys.")
@click.option("--prefix", default="raftkv-bench/", show_default=True, help="With which all its keys begin.")
@click.option("--overwrite", is_flag=True, help="Also if keys with the prefix exist: write over, and delete, its own.")
@click.option("--keep", is_flag=True, help="Leave the keys there.")
@click.option("--clean", is_flag=True, help="Only delete the keys that a run has left, and load nothing.")
@click.option("--json", "as_json", is_flag=True, help="Print JSON in place of a table.")
@address_option
@click.option(
    "--timeout",
    type=click.FloatRange(0.1, 600),
    default=10.0,
    show_default=True,
    help="Seconds for each question beside the load.",
)
@click.pass_context
def bench(
    context: click.Context,
    via: Via,
    work: Work,
    reads: float | None,
    seconds: float,
    warmup: float,
    requests: int | None,
    outstanding: int,
    connections: int | None,
    rate: float | None,
    value_bytes: int,
    keys: int,
    prefix: str,
    overwrite: bool,
    keep: bool,
    clean: bool,
    as_json: bool,
    addresses: tuple[str, ...],
    timeout: float,
) -> None:
    """Put load on your own cluster, and measure it.

    The leader is found and asked; keys of its own are written, and deleted at the end, also after Ctrl-C. Exits with 1
    where there were errors.
    """
    _check_prefix(prefix)
    if reads is not None and work != "mixed":
        raise click.UsageError(f"--reads belongs to --work mixed, not to {work}")
    if connections is not None and via == "client":
        raise click.UsageError("--connections: a client has one to each node that it asks")
    if via == "client" and outstanding > SESSION_WINDOW:
        raise click.UsageError(f"--outstanding: a client has at most {SESSION_WINDOW} writes under way")
    if requests is not None and _is_given(context, "seconds", "warmup"):
        raise click.UsageError("--requests ends by itself: leave --seconds and --warmup out")
    if keep and clean:
        raise click.UsageError("--keep and --clean contradict each other")
    try:
        urls = parse_addresses(addresses or DEFAULT_ADDRESS)
    except ValueError as error:
        raise click.UsageError(str(error)) from None
    if via == "http" and urls[0].startswith("https:"):
        raise click.UsageError("--via http knows no TLS; --via native and --via client use the RPC port")
    if connections is None:
        connections = min(outstanding, _MAX_CONNECTIONS) if via == "http" else 1
    load = Load(
        generator="native" if via == "client" else "evenpace" if rate else "closed",
        protocol="http" if via == "http" else "rpc",
        addresses=(),
        operation=work,
        reads=0.9 if reads is None else reads,
        outstanding=outstanding,
        connections=min(connections, outstanding),
        value_bytes=value_bytes,
        keys=min(keys, requests or keys),
        warmup_seconds=warmup,
        seconds=seconds,
        rate=rate or 0.0,
        requests=requests or 0,
        prefix=prefix,
        reconnects=True,
    )
    plan = Plan(addresses=urls, timeout=timeout, via=via, load=load, overwrites=overwrite, keeps=keep, as_json=as_json)
    run = Bench(plan)
    raise SystemExit(run.clean() if clean else run.run())


def _check_prefix(prefix: str) -> None:
    """Refuse a prefix with which the keys could not be told from others."""
    if not prefix:
        raise click.UsageError("--prefix must not be empty: its keys would lie among all others")
    try:
        prefix.encode()
    except UnicodeEncodeError:
        raise click.UsageError("--prefix must be UTF-8 text") from None


def _is_given(context: click.Context, *names: str) -> bool:
    return any(context.get_parameter_source(name) is ParameterSource.COMMANDLINE for name in names)
