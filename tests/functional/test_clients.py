"""The three flavours of the client against three real nodes: all that they can do, and nodes that die under them."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from raftkv import errors
from raftkv.client import Compare, Get, Put, missing
from tests.client.driving import DRIVERS, Driver
from tests.functional.processes import FunctionalTestCase, Node


class ClientTestCase(FunctionalTestCase):
    """A cluster, and a client of each flavour."""

    def setUp(self) -> None:
        super().setUp()
        self.drivers = {name: driver() for name, driver in DRIVERS.items()}
        for driver in self.drivers.values():
            self.addCleanup(driver.stop)

    def make_clients(self, nodes: list[Node], **options: Any) -> dict[str, tuple[Driver, Any]]:
        """Make a client of each flavour."""
        clients: dict[str, tuple[Driver, Any]] = {}
        for name, driver in self.drivers.items():
            client = driver.make(*(node.url for node in nodes), timeout=20.0, **options)
            self.addCleanup(lambda driver=driver, client=client: driver.run(client.close))
            clients[name] = (driver, client)
        return clients


def step(iterator: Any) -> Callable[[], Any]:
    """Return what asks an iterator, of whichever kind, for the next item."""
    asks: Callable[[], Any] = getattr(iterator, "__anext__", None) or iterator.__next__
    return asks


class UseTests(ClientTestCase):
    """Nothing fails."""

    def test_whole_model(self) -> None:
        """Every flavour does with a real cluster what the contract says."""
        nodes = self.make_cluster()
        for name, (driver, client) in self.make_clients(nodes).items():
            with self.subTest(name):
                self.use(driver.run, client, name)

    def use(self, run: Callable[[Callable[[], Any]], Any], client: Any, name: str) -> None:
        watch = client.watch(prefix=f"{name}/")
        begun = run(watch.ready)
        for number in range(7):
            run(lambda number=number: client.set(f"{name}/{number}", str(number)))
        pages = run(lambda: client.page(prefix=f"{name}/", limit=5, keys_only=True))
        rest = run(lambda: client.page(prefix=f"{name}/", limit=5, keys_only=True, continue_from=pages.next))
        self.assertEqual((pages.count, len(pages.keys + rest.keys), rest.next), (7, 7, None))
        self.assertEqual(run(lambda: client.increment(f"{name}/n", 5)).value, 5)
        lease = run(client.lease(5).start)
        result = run(
            lambda: client.transaction(
                compare=[missing(f"{name}/t"), Compare(f"{name}/n", "value", "=", "5")],
                success=[Put(f"{name}/t", b"\xff", lease=lease), Get(f"{name}/t")],
            )
        )
        self.assertEqual((result.succeeded, result.results[1].value), (True, b"\xff"))
        self.assertTrue(run(lease.revoke))
        events = [run(step(watch)) for _ in range(10)]
        self.assertEqual([event.revision for event in events], list(range(begun + 1, begun + 11)))
        self.assertTrue(events[-1].is_delete)
        lock = run(client.lock(f"{name}/lock", ttl=5).acquire)
        run(lambda: client.set(f"{name}/fenced", "v", lock=lock))
        self.assertTrue(run(lock.release))
        error = self.assert_fails(run, errors.LockNotHeld, lambda: client.set(f"{name}/fenced", "w", lock=lock))
        self.assertEqual(error.token, 0)
        election = client.election(name)
        self.assertEqual(run(lambda: election.lead(lambda _: client.get(f"{name}/fenced"), "me")), "v")
        self.assertEqual(run(lambda: client.delete_prefix(f"{name}/")).deleted, 9)
        run(watch.close)

    def assert_fails(self, run: Callable[[Any], Any], kind: type[BaseException], call: Callable[[], Any]) -> Any:
        with self.assertRaises(kind) as caught:
            run(call)
        return caught.exception

    def test_lock_of_the_dead(self) -> None:
        """Who waits for a lock whose holder has gone has it once its time is over, and the next one after that."""
        nodes = self.make_cluster()
        clients = self.make_clients(nodes)
        gone = self.drivers["Blocking"].make(nodes[0].url)
        self.drivers["Blocking"].run(gone.lock("l", ttl=1.5).acquire)
        self.drivers["Blocking"].run(gone.close)
        waiting = [(driver, client.lock("l", wait=None)) for driver, client in clients.values()]
        asked = [(driver, lock, driver.start(lock.acquire)) for driver, lock in waiting]
        tokens = []
        while asked:
            done = self.wait_until(lambda: [held for held in asked if held[2].done()], "the lock")
            self.assertEqual(len(done), 1, "one holder at a time")
            (driver, lock, acquiring), *_ = done
            self.assertIs(acquiring.result(), lock)
            tokens.append(lock.token)
            asked.remove((driver, lock, acquiring))
            self.assertTrue(driver.run(lock.release))
        self.assertEqual(tokens, sorted(tokens))


class TroubleTests(ClientTestCase):
    """Nodes die, or stop without dying."""

    WRITES = 40

    def test_leader_killed(self) -> None:
        """B63: leaders are killed under counters, watches and locks: every count is counted and told once."""
        nodes = self.make_cluster()
        clients = self.make_clients(nodes)
        held = {}
        for name, (driver, client) in clients.items():
            watch = client.watch(name, silence=2.0)
            driver.run(watch.ready)
            held[name] = (watch, driver.run(client.lock(f"lock of {name}", ttl=30).acquire))
        for number in range(self.WRITES):
            if number in (10, 30):
                leader = self.leader(nodes)
                leader.kill()
            if number == 20:
                leader.start()
                self.wait_ready(leader)
            counts = [
                (name, driver.start(lambda client=client, name=name: client.increment(name, lock=held[name][1])))
                for name, (driver, client) in clients.items()
            ]
            for name, count in counts:
                self.assertEqual(count.result(30).value, number + 1, name)
        for name, (driver, _) in clients.items():
            watch, lock = held[name]
            told = [driver.run(step(watch)).record.text for _ in range(self.WRITES)]
            self.assertEqual(told, [str(number + 1) for number in range(self.WRITES)], name)
            self.assertTrue(driver.run(lock.release))
            driver.run(watch.close)

    def test_paused_node(self) -> None:
        """B66: a node that is stopped, with its connections open, is left by watches, waits and calls for another."""
        nodes = self.make_cluster()
        leader = self.leader(nodes)
        paused = next(node for node in nodes if node is not leader)
        clients = self.make_clients([paused, leader], attempt_timeout=1.0, follow_leader=False)
        watches = {}
        for name, (driver, client) in clients.items():
            watches[name] = client.watch(name, silence=1.5)
            driver.run(watches[name].ready)
        paused.signal(signal.SIGSTOP)
        for name, (driver, client) in clients.items():
            driver.run(lambda client=client, name=name: client.set(name, "after"))
            event = driver.run(step(watches[name]))
            self.assertEqual(event.record.text, "after")
            driver.run(watches[name].close)
        paused.signal(signal.SIGCONT)
