"""One test, three flavours: how a test calls a client that gives Deferreds, coroutines, or plain results.

Each flavour runs on an event loop (or in threads) of its own; the test's thread asks and waits, with a guard, so that a
client that hangs fails its test (B66) rather than the run.
"""

from __future__ import annotations

import asyncio
import inspect
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import CancelledError, Future, ThreadPoolExecutor
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.selectreactor import SelectReactor
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

import raftkv.client.aio
import raftkv.client.sync
from raftkv.client.deferred import KVClient as DeferredClient
from tests.client.fakecluster import GUARD_SECONDS, FakeCluster


class Driver:
    """Calls clients of one flavour from the test's thread."""

    def make(self, *addresses: str, **options: Any) -> Any:
        """Make a client."""
        raise NotImplementedError

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        """Begin a call; the future can be cancelled, where the flavour can."""
        raise NotImplementedError

    def stop(self) -> None:
        """Stop the loop, or the threads."""
        raise NotImplementedError

    def run(self, call: Callable[[], Any]) -> Any:
        """Call and wait for the result."""
        return self.start(call).result(GUARD_SECONDS)


class AsyncioDriver(Driver):
    """On an event loop in a thread."""

    def __init__(self) -> None:
        self.loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self.loop.run_forever, daemon=True)
        self._thread.start()

    def make(self, *addresses: str, **options: Any) -> Any:
        return raftkv.client.aio.KVClient(*addresses, **options)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        return asyncio.run_coroutine_threadsafe(awaited(call), self.loop)

    def stop(self) -> None:
        self.loop.call_soon_threadsafe(self.loop.stop)
        self._thread.join(GUARD_SECONDS)
        self.loop.close()


class DeferredDriver(Driver):
    """On a reactor of its own in a thread; trial's is left alone."""

    def __init__(self) -> None:
        self.reactor = SelectReactor()
        arguments = {"installSignalHandlers": False}
        self._thread = threading.Thread(target=self.reactor.run, kwargs=arguments, daemon=True)
        self._thread.start()

    def make(self, *addresses: str, **options: Any) -> Any:
        return DeferredClient(*addresses, reactor=self.reactor, **options)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        told: Future[Any] = Future()

        def begin() -> None:
            running = Deferred.fromCoroutine(awaited(call))
            told.add_done_callback(
                lambda done: self.reactor.callFromThread(running.cancel) if done.cancelled() else None
            )
            running.addCallbacks(lambda value: told.cancelled() or told.set_result(value), fail)

        def fail(failure: Failure) -> None:
            if not told.cancelled():
                told.set_exception(failure.value)

        self.reactor.callFromThread(begin)
        return told

    def stop(self) -> None:
        self.reactor.callFromThread(self.reactor.stop)
        self._thread.join(GUARD_SECONDS)
        self.reactor._uninstallHandler() if hasattr(self.reactor, "_uninstallHandler") else None


class BlockingDriver(Driver):
    """In threads."""

    def __init__(self) -> None:
        self._threads = ThreadPoolExecutor(max_workers=32)

    def make(self, *addresses: str, **options: Any) -> Any:
        return raftkv.client.sync.KVClient(*addresses, **options)

    def start(self, call: Callable[[], Any]) -> Future[Any]:
        def work() -> Any:
            try:
                return call()
            except StopIteration:
                raise StopAsyncIteration from None  # which a future can carry

        return self._threads.submit(work)

    def stop(self) -> None:
        self._threads.shutdown()


async def awaited(call: Callable[[], Any]) -> Any:
    """Call, and await what is to be awaited."""
    result = call()
    return await result if inspect.isawaitable(result) else result


class FlavouredTestCase(SynchronousTestCase):
    """A client of one flavour, and a cluster that speaks the contract. Tests are inherited by one class a flavour."""

    driver_class: type[Driver]

    def setUp(self) -> None:
        self.cluster = FakeCluster()
        self.addCleanup(self.cluster.close)
        self.driver = self.driver_class()
        self.addCleanup(self.driver.stop)
        self.client = self.make()

    def make(self, **options: Any) -> Any:
        client = self.driver.make(*self.cluster.addresses, **options)
        self.addCleanup(lambda: self.driver.run(client.close))
        return client

    def run_call(self, call: Callable[[], Any]) -> Any:
        return self.driver.run(call)

    def fails(self, kind: type[BaseException], call: Callable[[], Any]) -> Any:
        """Call, and return the error that it must fail with."""
        try:
            result = self.driver.run(call)
        except kind as error:
            return error
        raise self.failureException(f"{kind.__name__} was expected, but the call gave {result!r}")

    def enter(self, block: Any) -> Any:
        """Enter a ``with``, of whichever kind."""
        enter = getattr(block, "__aenter__", None) or block.__enter__
        return self.driver.run(enter)

    def leave(self, block: Any, error: type[BaseException] | None = None) -> Any:
        """Leave a ``with``."""
        return self.driver.run(self.leaving(block, error))

    def leaving(self, block: Any, error: type[BaseException] | None = None) -> Callable[[], Any]:
        """Return what leaves a ``with``."""
        leave = getattr(block, "__aexit__", None) or block.__exit__
        return lambda: leave(error, None, None)

    def step(self, iterator: Any) -> Callable[[], Any]:
        """Return what asks an iterator, of whichever kind, for the next item."""
        step: Callable[[], Any] = getattr(iterator, "__anext__", None) or iterator.__next__
        return step

    def next_of(self, iterator: Any) -> Any:
        return self.driver.run(self.step(iterator))

    def all_of(self, iterator: Any) -> list[Any]:
        return list(self.items_of(iterator))

    def items_of(self, iterator: Any) -> Iterator[Any]:
        while True:
            try:
                yield self.next_of(iterator)
            except StopAsyncIteration:
                return


DRIVERS = {"Deferred": DeferredDriver, "Asyncio": AsyncioDriver, "Blocking": BlockingDriver}


def in_all_flavours(scope: dict[str, Any], *cases: type[FlavouredTestCase]) -> None:
    """Put a class for each flavour into a module, and hide those that have none."""
    for case in cases:
        name = case.__name__
        for flavour, driver in DRIVERS.items():
            scope[f"{flavour}{name}"] = type(
                f"{flavour}{name}",
                (case,),
                {"driver_class": driver, "__module__": scope["__name__"], "__doc__": case.__doc__},
            )
        del scope[name]


__all__ = ["CancelledError", "Driver", "FlavouredTestCase", "in_all_flavours"]
