"""What a Python program would use: each contestant's asynchronous client, so many operations under way.

raftkv: :class:`raftkv.client.NativeClient`. etcd: ``grpcio``'s asyncio channel with messages put together by hand,
which is the least that any client of etcd in Python does. PySyncObj: its own observer, a member of the cluster that
does not vote and sends its writes to the leader; it is also given every entry, for PySyncObj has no other client.
"""

from __future__ import annotations

import asyncio
import itertools
import time
from collections.abc import Callable, Iterator
from typing import Any

from benchmarks.load.grpc import body
from benchmarks.load.specification import Load, figures


class Tally:
    """The latencies and errors of a load, from the end of the warm-up to the end.

    :param begun: called when the warm-up is over.
    """

    def __init__(self, load: Load, begun: Callable[[], None]) -> None:
        self.keys: Iterator[bytes] = itertools.cycle([load.key(number) for number in range(load.keys)])
        self._latencies: list[float] = []
        self._errors = 0
        self._load = load
        self._begun = begun
        self._is_measuring = False
        now = time.perf_counter()
        self._begin = now + load.warmup_seconds
        self._end = self._begin + load.seconds

    @property
    def goes_on(self) -> bool:
        """Whether more is to be asked for."""
        now = time.perf_counter()
        if now >= self._begin and not self._is_measuring:
            self._is_measuring = True
            # It may be late: a client that is busy with itself asks seldom.
            self._begin, self._end = now, now + self._load.seconds
            self._begun()
        return now < self._end

    def answered(self, sent: float, *, is_good: bool) -> None:
        """Take an answer."""
        now = time.perf_counter()
        if self._is_measuring and now < self._end:
            if is_good:
                self._latencies.append(now - sent)
            else:
                self._errors += 1

    def figures(self) -> dict[str, Any]:
        """Return what was measured."""
        return figures(self._latencies, self._end - self._begin, self._errors)


def run(load: Load, begun: Callable[[], None]) -> dict[str, Any]:
    """Run a load by the client of one contestant."""
    tally = Tally(load, begun)
    {"raftkv": _raftkv, "etcd": _etcd, "pysyncobj": _pysyncobj}[load.protocol](load, tally)
    return tally.figures()


def _raftkv(load: Load, tally: Tally) -> None:
    from twisted.internet.defer import Deferred, ensureDeferred, gatherResults
    from twisted.internet.task import react

    from raftkv.client import NativeClient, RaftKVError

    async def one_after_the_other(client: NativeClient) -> None:
        value = load.value
        while tally.goes_on:
            sent = time.perf_counter()
            try:
                await client.set(next(tally.keys), value)
            except RaftKVError:
                tally.answered(sent, is_good=False)
            else:
                tally.answered(sent, is_good=True)

    async def all_of_them() -> None:
        client = NativeClient(load.addresses)
        await gatherResults([ensureDeferred(one_after_the_other(client)) for _ in range(load.outstanding)])
        await client.close()

    def main(_: Any) -> Deferred[None]:
        return ensureDeferred(all_of_them())

    try:
        react(main)
    except SystemExit as end:
        if end.code:
            raise


def _etcd(load: Load, tally: Tally) -> None:
    import grpc

    async def one_after_the_other(put: Any) -> None:
        value = load.value
        while tally.goes_on:
            sent = time.perf_counter()
            try:
                await put(body("put", next(tally.keys), value))
            except grpc.RpcError:
                tally.answered(sent, is_good=False)
            else:
                tally.answered(sent, is_good=True)

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
        tally.answered(sent, is_good=error == 0)

    while tally.goes_on:
        while under_way < load.outstanding:
            ask()
        store.doTick(0.001)
    store.destroy()
