"""The signals that programs wait for, and what the runtimes do with what should not happen."""

from __future__ import annotations

import asyncio
import threading

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.client import KVClient, aio, sync
from raftkv.client.results import ClientClosed
from raftkv.client.runtime import Signal
from raftkv.client.sync.runtime import BlockingRuntime, run
from tests.client.fakes import A, FakeTreq


class SignalTests(SynchronousTestCase):
    """Something that happens once."""

    def setUp(self) -> None:
        self.signal = Signal()
        self.told: list[int] = []

    def test_told_once(self) -> None:
        """All who asked are told once, those who ask later at once, and nobody who took it back."""
        for number in range(3):
            self.signal.on_set(lambda number=number: self.told.append(number))
        forget = self.signal.on_set(lambda: self.told.append(-1))
        forget()
        forget()
        self.assertFalse(self.signal.is_set)
        self.signal.set()
        self.signal.set()
        self.assertEqual(sorted(self.told), [0, 1, 2])
        self.signal.on_set(lambda: self.told.append(3))()
        self.assertEqual(self.told[3:], [3])

    def test_many_threads(self) -> None:
        """Whoever asks while another thread lets it happen is told, and once."""
        for _ in range(200):
            signal, told = Signal(), [0] * 20
            setting = threading.Thread(target=signal.set)
            for number in range(20):
                if number == 10:
                    setting.start()
                signal.on_set(lambda told=told, number=number: told.__setitem__(number, told[number] + 1))
            setting.join()
            self.assertEqual(told, [1] * 20)


class RuntimeTests(SynchronousTestCase):
    """The flavours' runtimes."""

    def blocking(self) -> BlockingRuntime:
        return BlockingRuntime(max_idle=1, connect_timeout_seconds=1.0, tls=None)

    def test_program_that_suspends(self) -> None:
        """A program that waits for something else than its client is a fault, and is told as one."""

        async def program() -> None:
            await asyncio.sleep(1)

        with self.assertRaises(RuntimeError):
            self.blocking().run(program())

    def test_one_program_at_a_time(self) -> None:
        """Between two waits no other program of the same client runs, whatever the threads do."""
        runtime, inside = self.blocking(), [0]
        most = [0]

        async def program() -> None:
            for _ in range(20):
                inside[0] += 1
                most[0] = max(most[0], inside[0])
                sum(range(1000))
                inside[0] -= 1
                await runtime.wait(Signal(), 0.0)

        threads = [threading.Thread(target=lambda: runtime.run(program())) for _ in range(8)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
        self.assertEqual(most, [1])

    def test_others_run_while_one_waits(self) -> None:
        """While a program waits, another one can bring about what it waits for."""
        runtime, signal = self.blocking(), Signal()

        async def tell() -> None:
            signal.set()

        async def wait() -> bool:
            telling.start()
            return await runtime.wait(signal, 10.0)

        telling = threading.Thread(target=lambda: runtime.run(tell()))
        self.assertTrue(runtime.run(wait()))
        telling.join()

    def test_flavours_are_not_mixed(self) -> None:
        """What belongs to a client of one flavour is not run by another."""
        client = aio.KVClient(A)
        call = client.get("k")
        with self.assertRaises(TypeError):
            run(client._engine, call)
        call.close()

    def test_work_that_is_no_function(self) -> None:
        """The blocking flavour refuses coroutines as work, rather than drop them."""

        async def work() -> None:
            """Do nothing."""

        runtime = self.blocking()
        coroutine = work()
        with self.assertRaises(TypeError):
            runtime.run(runtime.interruptible(lambda: coroutine, Signal()))
        coroutine.close()

    def test_contexts(self) -> None:
        """A ``with`` closes the client, in every flavour."""
        with sync.KVClient(A) as blocking:
            pass
        with self.assertRaises(ClientClosed):
            blocking.get("k")

        async def program() -> None:
            async with aio.KVClient(A) as client:
                pass
            with self.assertRaises(ClientClosed):
                await client.get("k")

        asyncio.run(program())
        deferred = KVClient(A, reactor=Clock(), treq_client=FakeTreq())
        self.successResultOf(deferred.close())
        self.failureResultOf(deferred.get("k"), ClientClosed)
