"""What a program on Twisted would use: :class:`raftkv.client.NativeClient`, with so many calls under way.

It follows the leader, repeats what is safe to repeat and waits out elections by itself, so errors are those that the
caller of the client would see.
"""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable
from functools import partial
from itertools import count
from math import inf
from typing import Any

from twisted.internet.defer import Deferred, gatherResults
from twisted.internet.interfaces import IReactorFDSet, IReactorTime, IReadDescriptor
from twisted.internet.task import LoopingCall, deferLater, react
from twisted.python.failure import Failure
from zope.interface import implementer

from raftkv.bench.conversations import KEY_NOT_FOUND
from raftkv.bench.figures import Measured
from raftkv.bench.overseer import REPORT_SECONDS, Overseer, Stop
from raftkv.bench.specification import Load
from raftkv.bench.tally import Tally
from raftkv.client import NativeClient, RaftKVError

Call = Callable[[bytes], Awaitable[object]]

_WAIT_SECONDS = 0.1  # at once for a request that is due later: so that the end need not be waited for


@implementer(IReadDescriptor)
class _Orders:
    """The overseer's descriptor, for the reactor. The client finds the leader by itself, so only the end is heeded."""

    def __init__(self, reactor: IReactorFDSet, overseer: Overseer, tally: Tally) -> None:
        self._reactor = reactor
        self._overseer = overseer
        self._tally = tally

    def fileno(self) -> int:
        """Return what to watch."""
        return -1 if self._overseer.descriptor is None else self._overseer.descriptor

    def logPrefix(self) -> str:
        """Return a name."""
        return "orders"

    def doRead(self) -> None:
        """Read orders."""
        if any(isinstance(order, Stop) for order in self._overseer.orders()):
            self._tally.stop()
            self._reactor.removeReader(self)

    def connectionLost(self, reason: Failure) -> None:
        """Whoever gave orders is gone."""
        self._tally.stop()


def _call(client: NativeClient, load: Load) -> Call:
    """Return what one request does."""
    put: Call = partial(client.set, value=load.value)
    get: Call = partial(client.get_bytes, consistency="stale" if load.operation == "get-stale" else "linearizable")
    mix = load.mix()
    if load.operation == "mixed":
        return lambda key: get(key) if next(mix) else put(key)
    return put if load.operation == "put" else get


async def _one_after_the_other(call: Call, tally: Tally) -> None:
    """Make the next request when the last one is answered."""
    for key in tally.keys:
        if not tally.goes_on:
            return
        sent = time.perf_counter()
        try:
            answer = await call(key)
        except RaftKVError as error:
            tally.answered(sent, error.code)
        else:
            tally.answered(sent, "" if answer is not None else KEY_NOT_FOUND)


class _Schedule:
    """When requests are due at a rate.

    :ivar sent: how many were made.
    """

    def __init__(self, rate: float) -> None:
        self.sent = 0
        self._rate = rate
        self._began = time.perf_counter()
        self._numbers = count()

    def next_due(self) -> float:
        """Return when the next request is due that nobody has taken."""
        return self._began + next(self._numbers) / self._rate

    def unsent(self, end: float) -> int:
        """Return how many were due before the end and were not made; the last one was due just then."""
        return 0 if end == inf else max(0, int((end - self._began) * self._rate) - self.sent)


async def _when_due(call: Call, tally: Tally, schedule: _Schedule, reactor: IReactorTime) -> None:
    """Make the next request that nobody else makes, when it is due; its latency counts from then."""
    while tally.goes_on:
        at = schedule.next_due()
        while (wait := at - time.perf_counter()) > 0:
            if not tally.goes_on:
                return
            await deferLater(reactor, min(wait, _WAIT_SECONDS))
        key = next(tally.keys, None)
        if key is None:
            return
        schedule.sent += 1
        try:
            answer = await call(key)
        except RaftKVError as error:
            tally.answered(at, error.code)
        else:
            tally.answered(at, "" if answer is not None else KEY_NOT_FOUND)


def run(load: Load, overseer: Overseer) -> Measured:
    """Run a load by the client, on the reactor, which can be done once in a process.

    :raises SystemExit: an exception that nobody expects has been logged.
    """
    tally = Tally(load, overseer)

    async def all_of_them(reactor: Any) -> None:
        client = NativeClient((*load.addresses, *load.others))
        call = _call(client, load)
        schedule = _Schedule(load.rate) if load.rate else None
        if schedule is not None:
            workers = [_when_due(call, tally, schedule, reactor) for _ in range(load.outstanding)]
        else:
            workers = [_one_after_the_other(call, tally) for _ in range(load.outstanding)]
        reports = LoopingCall(tally.report)
        reports.clock = reactor
        reports.start(REPORT_SECONDS, now=False)
        orders = _Orders(reactor, overseer, tally)
        if overseer.descriptor is not None:
            reactor.addReader(orders)
        try:
            await gatherResults([Deferred.fromCoroutine(worker) for worker in workers], consumeErrors=True)
        finally:
            if schedule is not None:
                tally.unsent = schedule.unsent(tally.end)
            reports.stop()
            reactor.removeReader(orders)
            await client.close()

    try:
        react(lambda reactor: Deferred.fromCoroutine(all_of_them(reactor)))
    except SystemExit as end:
        if end.code:
            raise
    return tally.finish()
