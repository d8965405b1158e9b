"""The native client against three real nodes: it says what the client over HTTP says, also when a node dies."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import Any

from raftkv import errors
from raftkv.client import DeleteRange, Get, NativeClient, Put, Range, Transaction, exists, missing
from tests.client.driving import DeferredDriver
from tests.functional.processes import FunctionalTestCase, Node


class NativeTestCase(FunctionalTestCase):
    """A cluster, and clients on a reactor of their own."""

    def setUp(self) -> None:
        super().setUp()
        self.driver = DeferredDriver()
        self.addCleanup(self.driver.stop)

    def make_native(self, *nodes: Node, **options: Any) -> NativeClient:
        """Make a native client of these nodes."""
        addresses = [f"127.0.0.1:{node.rpc_port}" for node in nodes]
        client = NativeClient(addresses, reactor=self.driver.reactor, timeout=20.0, **options)
        self.addCleanup(lambda: self.driver.run(client.close))
        return client

    def make_http(self, *nodes: Node) -> Any:
        """Make a client over HTTP."""
        client = self.driver.make(*(node.url for node in nodes), timeout=20.0)
        self.addCleanup(lambda: self.driver.run(client.close))
        return client


class UseTests(NativeTestCase):
    """Nothing fails."""

    def test_agrees(self) -> None:
        """Whichever client wrote, and whichever node is asked, both clients read the same."""
        nodes = self.make_cluster()
        run = self.driver.run
        leader = self.leader(nodes)
        follower = next(node for node in nodes if node is not leader)
        native = self.make_native(*nodes)
        aside = self.make_native(follower, follow_leader=False)
        http = self.make_http(*nodes)
        self.write(run, native, http)
        reads: list[Callable[[Any], Any]] = [
            lambda client: client.page(prefix="k/", limit=7),
            lambda client: client.page(prefix="k/", limit=7, reverse=True, keys_only=True, consistency="lease"),
            lambda client: client.page(delimiter="/"),
            lambda client: client.page(revision=10),
            lambda client: client.page(),
            lambda client: client.count(prefix="k/"),
            lambda client: client.get_record("k/0003", revision=1),
            lambda client: client.get_record("counter"),
            lambda client: client.transaction(success=[Range(prefix="k/", limit=3), Get("leased"), Get("none")]),
        ]
        for number, read in enumerate(reads):
            told = [run(lambda client=client, read=read: read(client)) for client in (native, aside, http)]
            self.assertEqual(told, [told[0]] * 3, number)
        first = run(lambda: aside.page(prefix="k/", limit=1000))
        rest = [
            run(lambda client=client: client.page(prefix="k/", continue_from=first.next)) for client in (native, http)
        ]
        self.assertEqual(rest[0], rest[1])
        self.assertEqual(len(first.keys) + len(rest[0].keys), first.count)
        self.assertEqual(run(lambda: aside.delete_prefix("k/")).deleted, first.count)
        self.assertEqual(run(lambda: http.count(prefix="k/")), 0)

    def write(self, run: Callable[[Any], Any], native: NativeClient, http: Any) -> None:
        """Write with both of them."""
        run(lambda: native.put_many([(f"k/{number:04}", "v") for number in range(2300)]))
        run(lambda: native.set("x/y", "1"))
        for client in (native, http, native):
            run(lambda client=client: client.increment("counter", 5))
        lease = run(lambda: native.grant_lease(30))
        self.assertEqual(run(lambda: http.keep_alive(lease)), run(lambda: native.keep_alive(lease.id)))
        run(lambda: native.set("leased", "1", lease=lease))
        run(lambda: native.set("brief", "1", ttl=60))
        self.assertEqual(run(lambda: http.lease_info(lease)).keys, run(lambda: native.lease_info(lease)).keys)
        result = run(
            lambda: native.transaction(
                compare=[exists("leased"), missing("t")],
                success=[Put("t", b"\xff", lease=lease), Transaction(success=[Get("t"), DeleteRange(prefix="x/")])],
            )
        )
        self.assertEqual((result.succeeded, result.results[1].results[0].value), (True, b"\xff"))
        lock = run(http.lock("l", ttl=20).acquire)
        run(lambda: native.set("fenced", "1", lock=lock))
        self.assertTrue(run(lock.release))
        with self.assertRaises(errors.LockNotHeld):
            run(lambda: native.set("fenced", "2", lock=lock))
        self.assertEqual(run(lambda: native.revoke_lease(lease)).deleted, 2)


class TroubleTests(NativeTestCase):
    """A node dies."""

    TRANSACTIONS = 400

    def test_leader_killed(self) -> None:
        """B63: transactions on their way when the leader dies are carried out once, all of them."""
        nodes = self.make_cluster()
        run = self.driver.run
        native = self.make_native(*nodes)
        run(lambda: native.set("before", "1"))
        made = [Transaction(success=[Put(f"k{number}", "v"), Get("before")]) for number in range(self.TRANSACTIONS)]
        running = self.driver.start(lambda: native.transact_many(made))
        counting = [self.driver.start(lambda: native.increment("counter")) for _ in range(self.TRANSACTIONS)]
        self.leader(nodes).signal(signal.SIGKILL)
        results = running.result(60)
        values = sorted(each.result(60).value for each in counting)
        self.assertEqual(values, list(range(1, self.TRANSACTIONS + 1)))
        self.assertEqual(len({result.revision for result in results}), self.TRANSACTIONS)
        self.assertEqual(run(lambda: native.count(prefix="k")), self.TRANSACTIONS)
        self.assertEqual(run(lambda: native.get_record("k0")).version, 1)
