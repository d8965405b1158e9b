"""One piece of work with a client, run to its end on the reactor; and the options that say which cluster."""

from __future__ import annotations

from collections.abc import Callable, Coroutine
from typing import Any, NoReturn, TypeVar

import click
from twisted.internet.defer import Deferred
from twisted.python.failure import Failure

from raftkv.client import KVClient
from raftkv.errors import RaftKVError

T = TypeVar("T")

DEFAULT_ADDRESS = "http://127.0.0.1:8080"

address_option = click.option(
    "-a",
    "--address",
    "addresses",
    multiple=True,
    envvar="RAFTKV_ADDRESSES",
    metavar="URL",
    help=f"HTTP address of a node; may be given several times, or in RAFTKV_ADDRESSES.  [default: {DEFAULT_ADDRESS}]",
)
timeout_option = click.option(
    "--timeout", type=click.FloatRange(0.1, 600), default=10.0, show_default=True, help="Seconds for the whole command."
)


def run_with_client(
    addresses: tuple[str, ...], timeout: float, work: Callable[[KVClient], Coroutine[Deferred[Any], Any, T]]
) -> T:
    """Give a client to ``work``, run the reactor until it is done, and return its result.

    :param addresses: URLs of nodes; empty is the default.
    :param timeout: seconds that one call of the client may take.
    :raises click.ClickException: the call failed, with its sentence and its outcome.
    """
    from twisted.internet import reactor as global_reactor

    reactor: Any = global_reactor
    ended: list[T | Failure] = []

    async def run() -> T:
        client = KVClient(addresses or (DEFAULT_ADDRESS,), timeout=timeout)
        try:
            return await work(client)
        finally:
            await client.close()

    def end(result: T | Failure) -> None:
        ended.append(result)
        reactor.stop()

    reactor.callWhenRunning(lambda: Deferred.fromCoroutine(run()).addBoth(end))
    reactor.run()
    if not ended:  # Ctrl-C
        raise click.Abort
    result = ended[0]
    if isinstance(result, Failure):
        _complain(result)
    return result


def _complain(failure: Failure) -> NoReturn:
    error = failure.value
    if isinstance(error, RaftKVError):
        raise click.ClickException(f"{error} ({error.code}, outcome {error.outcome})")
    if isinstance(error, ValueError):  # an address that makes no sense
        raise click.UsageError(str(error))
    failure.raiseException()
