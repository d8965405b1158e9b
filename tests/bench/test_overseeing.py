"""Orders to a loop that runs, reports from it, and a generator in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Callable, Sequence
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.bench import closed
from raftkv.bench.figures import Measured
from raftkv.bench.overseer import Move, Order, Stop
from raftkv.bench.process import Begun, Generator, GeneratorFailed, Reported
from raftkv.bench.specification import Load
from tests.bench.test_loops import Server, good


class Scripted:
    """An overseer that gives one order as soon as it is told to, and takes what is reported."""

    def __init__(self, order: Order) -> None:
        self._order = order
        self.descriptor, self._writing = os.pipe()
        self.latencies = 0

    def give(self) -> None:
        """Have the order read."""
        os.write(self._writing, b".")

    def begun(self) -> None:
        """The load has begun."""

    def report(self, measured: Measured) -> None:
        """Take what was measured."""
        self.latencies += len(measured.latencies)
        measured.latencies.clear()

    def orders(self) -> Sequence[Order]:
        """Give the order."""
        os.read(self.descriptor, 1)
        return [self._order]

    def close(self) -> None:
        """Close the pipe."""
        os.close(self.descriptor)
        os.close(self._writing)


class OrdersTests(SynchronousTestCase):
    """What a loop does when it is told to."""

    def serve(self, when: Callable[[Server], None] = lambda _: None) -> Server:
        """Return a server that does something with each request before it answers."""

        def answer(server: Server, number: int, message: tuple[object, ...]) -> object:
            when(server)
            return good(server, number, message)

        server = Server(answer)
        self.addCleanup(server.close)
        return server

    def load(self, server: Server, **more: object) -> Load:
        """Return a load."""
        values: dict[str, Any] = {
            "generator": "closed",
            "protocol": "rpc",
            "addresses": (server.address,),
            "outstanding": 4,
            "keys": 10,
            "reconnects": True,
            **more,
        }
        return Load(**values)

    def test_move(self) -> None:
        """After a move only the new one is asked, and what the old one still answers counts."""
        second = self.serve()
        overseer = Scripted(Move((second.address,), ()))
        self.addCleanup(overseer.close)
        first = self.serve(lambda server: overseer.give() if len(server.requests) == 20 else None)
        rest = closed.run(self.load(first, requests=50_000), overseer)
        self.assertEqual((overseer.latencies, rest.errors), (50_000, {}))
        self.assertLess(len(first.requests), 50_000)
        self.assertEqual(len(first.requests) + len(second.requests), 50_000)

    def test_stop(self) -> None:
        """After a stop nothing more is asked, however long it should have taken, and what is under way is no error."""
        overseer = Scripted(Stop())
        self.addCleanup(overseer.close)
        server = self.serve(lambda server: overseer.give() if len(server.requests) == 20 else None)
        rest = closed.run(self.load(server, seconds=3600.0, warmup_seconds=0.0), overseer)
        self.assertLess(rest.seconds, 60.0)
        self.assertEqual(rest.errors, {})
        self.assertGreaterEqual(overseer.latencies, 16)


class GeneratorTests(SynchronousTestCase):
    """A generator as a process."""

    def load(self, address: str, **more: object) -> Load:
        """Return a load."""
        values: dict[str, Any] = {
            "generator": "closed",
            "protocol": "rpc",
            "addresses": (address,),
            "outstanding": 4,
            "keys": 10,
            "reconnects": True,
            **more,
        }
        return Load(**values)

    def run_generator(self, load: Load) -> Generator:
        """Start one that ends with the test."""
        generator = Generator(load)
        self.addCleanup(generator.close)
        return generator

    def test_reports(self) -> None:
        """Every latency arrives, behind the beginning."""
        server = Server()
        self.addCleanup(server.close)
        news = list(self.run_generator(self.load(server.address, requests=300)).news())
        self.assertIsInstance(news[0], Begun)
        reports = [each.measured for each in news if isinstance(each, Reported)]
        self.assertEqual(sum(len(each.latencies) for each in reports), 300)
        self.assertTrue(all(0 < latency < 60 for each in reports for latency in each.latencies))

    def test_stop(self) -> None:
        """It ends when it is told to."""
        server = Server()
        self.addCleanup(server.close)
        generator = self.run_generator(self.load(server.address, seconds=3600.0, warmup_seconds=0.0))
        for each in generator.news():
            if isinstance(each, Reported):
                generator.stop()
        generator.stop()  # again is no harm, nor is an order that nobody hears
        generator.move(["127.0.0.1:1"], [])

    def test_nobody_there(self) -> None:
        """That nobody listens is told with the address."""
        server = Server()
        server.close()
        error = self.assertRaises(GeneratorFailed, list, self.run_generator(self.load(server.address)).news())
        self.assertIn(server.address, str(error))
