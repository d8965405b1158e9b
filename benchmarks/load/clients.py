"""What a Python program would use: each contestant's asynchronous client, so many operations under way.

raftkv: :class:`raftkv.client.NativeClient`, by :mod:`raftkv.bench.native`. etcd: ``grpcio``'s asyncio channel with
messages put together by hand, which is the least that any client of etcd in Python does. PySyncObj: its own observer, a
member of the cluster that does not vote and sends its writes to the leader; it is also given every entry, for PySyncObj
has no other client.
"""

from __future__ import annotations

import asyncio
import time
from collections.abc import Callable
from typing import Any

from benchmarks.load.grpc import body
from raftkv.bench.overseer import Silent
from raftkv.bench.specification import Load
from raftkv.bench.tally import Tally


def run(load: Load, begun: Callable[[], None]) -> dict[str, Any]:
    """Run a load by the client of one contestant."""
    overseer = Silent(begun)
    if load.protocol == "raftkv":
        from raftkv.bench import native

        return native.run(load, overseer).figures()
    tally = Tally(load, overseer)
    {"etcd": _etcd, "pysyncobj": _pysyncobj}[load.protocol](load, tally)
    return tally.finish().figures()


def _etcd(load: Load, tally: Tally) -> None:
    import grpc

    async def one_after_the_other(put: Any) -> None:
        value = load.value
        while tally.goes_on:
            sent = time.perf_counter()
            try:
                await put(body("put", next(tally.keys), value))
            except grpc.RpcError:
                tally.answered(sent, "error")
            else:
                tally.answered(sent)

    async def all_of_them() -> None:
        async with grpc.aio.insecure_channel(load.addresses[0]) as channel:
            put = channel.unary_unary("/etcdserverpb.KV/Put")  # bytes in, bytes out
            await asyncio.gather(*(one_after_the_other(put) for _ in range(load.outstanding)))

    asyncio.run(all_of_them())


def _pysyncobj(load: Load, tally: Tally) -> None:
    from benchmarks.peers.pysyncobj_server import Store

    store = Store(None, load.addresses, is_ticked_by_hand=True)
    give_up = time.monotonic() + 30
    while not store.isReady():
        store.doTick(0.01)
        if time.monotonic() > give_up:
            raise RuntimeError("the observer does not become ready")
    under_way = 0
    value = load.value

    def ask() -> None:
        nonlocal under_way
        under_way += 1
        sent = time.perf_counter()
        store.put(next(tally.keys), value, callback=lambda _, error: answered(sent, error))

    def answered(sent: float, error: int) -> None:
        nonlocal under_way
        under_way -= 1
        tally.answered(sent, "" if error == 0 else "error")

    while tally.goes_on:
        while under_way < load.outstanding:
            ask()
        store.doTick(0.001)
    store.destroy()
