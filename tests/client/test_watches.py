"""Watches, in every flavour of the client against the contract: every event once, in order, whatever breaks."""

from __future__ import annotations

import gc
from typing import Any

from raftkv import errors
from raftkv.client import ClientClosed, Event, Put, Record
from tests.client.driving import FlavouredTestCase, in_all_flavours


class WatchingTestCase(FlavouredTestCase):
    """A client with watches."""

    def watch(self, *arguments: Any, **options: Any) -> Any:
        """Begin a watch; it ends with the test."""
        watch = self.client.watch(*arguments, **options)
        self.enter(watch)
        self.addCleanup(lambda: self.leave(watch))
        return watch

    def put(self, key: str, value: str) -> int:
        revision: int = self.run_call(lambda: self.client.set(key, value)).revision
        return revision

    def keys(self, watch: Any, count: int) -> list[tuple[str, int]]:
        events = [self.next_of(watch) for _ in range(count)]
        return [(event.key, event.revision) for event in events]


class WatchTests(WatchingTestCase):
    """What a watch tells."""

    def test_events(self) -> None:
        """An event has the key as it is and as it was."""
        watch = self.watch("k")
        self.put("k", "1")
        self.put("other", "1")
        self.put("k", "2")
        self.run_call(lambda: self.client.delete("k"))
        first = Record(key="k", value=b"1", create_revision=1, mod_revision=1, version=1)
        second = Record(key="k", value=b"2", create_revision=1, mod_revision=3, version=2)
        expected = [
            Event(type="put", key="k", revision=1, record=first, previous=None),
            Event(type="put", key="k", revision=3, record=second, previous=first),
            Event(type="delete", key="k", revision=4, record=None, previous=second),
        ]
        found = [self.next_of(watch) for _ in range(3)]
        self.assertEqual(found, expected)
        self.assertEqual([event.is_delete for event in found], [False, False, True])
        self.assertEqual(watch.revision, 4)

    def test_begins_behind_what_was(self) -> None:
        """Without a revision the watch tells what comes after it has begun."""
        self.put("k", "1")
        watch = self.watch(prefix="k")
        self.assertEqual(self.run_call(watch.ready), 1)
        self.put("k", "2")
        self.assertEqual(self.keys(watch, 1), [("k", 2)])

    def test_from_revision(self) -> None:
        """A watch may begin in the past, or in the future, of which it does not tell what comes before (B58)."""
        for value in ("1", "2", "3"):
            self.put("k", value)
        self.assertEqual(self.keys(self.watch(from_revision=2), 2), [("k", 2), ("k", 3)])
        future = self.watch(from_revision=6)
        for value in ("4", "5", "6"):
            self.put("k", value)
        self.cluster.break_streams()
        self.assertEqual(self.keys(future, 1), [("k", 6)])

    def test_filters(self) -> None:
        """A watch may be of puts only, or of deletes only, and without what was there before."""
        puts, deletes = self.watch(only="put", previous=False), self.watch(only="delete")
        self.put("k", "1")
        self.run_call(lambda: self.client.delete("k"))
        self.put("k", "2")
        self.assertEqual(self.keys(puts, 2), [("k", 1), ("k", 3)])
        self.assertEqual(self.next_of(deletes).previous.value, b"1")

    def test_transaction(self) -> None:
        """B60: the events of a transaction come together, and the last one says so."""
        watch = self.watch()
        self.run_call(lambda: self.client.transaction(success=[Put("a", "1"), Put("b", "1"), Put("c", "1")]))
        self.put("d", "1")
        events = self.run_call(watch.next_revision)
        self.assertEqual([(event.key, event.is_last) for event in events], [("a", False), ("b", False), ("c", True)])
        self.assertEqual([event.key for event in self.run_call(watch.next_revision)], ["d"])

    def test_compacted(self) -> None:
        """What is no longer kept is told, and not passed over (B57)."""
        for value in ("1", "2", "3"):
            self.put("k", value)
        self.run_call(lambda: self.client.compact(3))
        watch = self.watch(from_revision=2)
        self.assertEqual(self.fails(errors.Compacted, self.step(watch)).compact_revision, 3)
        self.assertEqual(self.keys(self.watch(from_revision=3), 1), [("k", 3)])


class BrokenWatchTests(WatchingTestCase):
    """What a watch does when something breaks."""

    def test_broken_streams(self) -> None:
        """B55, B56: over streams that break, every event is told once and in order."""
        watch = self.watch()
        expected = []
        for number in range(20):
            expected.append((f"k{number % 3}", self.put(f"k{number % 3}", str(number))))
            if number % 3 == 1:
                self.cluster.break_streams()
            if number % 4 == 3:
                self.assertEqual(self.keys(watch, 4), expected[-4:])
        self.assertGreater(self.cluster.streams, 4)

    def test_broken_within_a_revision(self) -> None:
        """B60: a stream that breaks within a revision tells none of it, and the next one all of it."""
        self.cluster.plan("end stream", "GET /v1/watch")
        watch = self.watch()
        self.run_call(lambda: self.client.transaction(success=[Put("a", "1"), Put("b", "1"), Put("c", "1")]))
        self.assertEqual(self.keys(watch, 3), [("a", 1), ("b", 1), ("c", 1)])
        resumed = self.cluster.seen[-1].request.headers
        self.assertEqual((self.cluster.streams, resumed.get("last-event-id")), (2, "0"))

    def test_nodes_that_refuse(self) -> None:
        """A watch goes from node to node until one gives a stream."""
        for trouble in ("lose request", "no leader", "lose request", "no leader"):
            self.cluster.plan(trouble, "GET /v1/watch")
        watch = self.watch()
        self.put("k", "1")
        self.assertEqual(self.keys(watch, 1), [("k", 1)])
        self.assertGreater(len({seen.node for seen in self.cluster.seen if "watch" in seen.line}), 1)

    def test_silence(self) -> None:
        """B66: a stream that says nothing, not even that it is alive, is given up for another node's."""
        self.cluster.plan("silent stream", "GET /v1/watch")
        watch = self.watch(silence=0.3)
        self.put("k", "1")
        self.assertEqual(self.keys(watch, 1), [("k", 1)])
        nodes = [seen.node for seen in self.cluster.seen if "watch" in seen.line]
        self.assertGreater(len(set(nodes)), 1)

    def test_signs_of_life(self) -> None:
        """A quiet stream stays: the node is asked for a sign of life thrice in the time that silence may last."""
        self.watch(silence=0.6)
        seen = next(seen for seen in self.cluster.seen if "watch" in seen.line)
        self.assertEqual(seen.request.query["progress"], "0.2")

    def test_no_node(self) -> None:
        """B66: where no node gives a stream for as long as it has patience, the watch fails."""
        watch = self.watch(max_outage=0.3)
        self.cluster.close()
        self.fails(errors.RequestTimeout, self.step(watch))

    def test_overflow(self) -> None:
        """A stream that was cut because its reader was slow is resumed where it was."""
        self.put("k", "1")
        self.cluster.plan("overflow", "GET /v1/watch")
        watch = self.watch(from_revision=1)
        self.put("k", "2")
        self.assertEqual(self.keys(watch, 2), [("k", 1), ("k", 2)])

    def test_restored(self) -> None:
        """B61: after a restore to before what was told, the watch says so rather than wait for that to come again."""
        watch = self.watch()
        leaders = self.client.election("e").observe()
        self.assertIsNone(self.next_of(leaders))
        for value in ("1", "2", "3"):
            self.put("k", value)
        self.assertEqual(self.keys(watch, 3)[-1], ("k", 3))
        self.cluster.do(lambda contract: contract.__init__(wrote=contract.wrote))
        self.cluster.break_streams()
        self.assertEqual(self.fails(errors.FutureRevision, self.step(watch)).revision, 0)
        elected = self.driver.start(self.step(leaders))
        client = self.make()
        leader = self.run_call(client.election("e").campaign("a").campaign)
        self.assertEqual(elected.result(10).token, leader.token)
        self.run_call(leader.resign)

    def test_refused(self) -> None:
        """What no node will ever give is raised at once."""
        self.run_call(lambda: self.client.set("k", "v"))
        watch = self.client.watch(from_revision=2**63 - 1)
        self.cluster.contract._watch = lambda request: self.fail_with_bad_request()  # type: ignore[method-assign]
        self.fails(errors.BadRequest, self.step(watch))

    def fail_with_bad_request(self) -> Any:
        raise errors.BadRequest("from_revision: too far")


class EndTests(WatchingTestCase):
    """How a watch ends."""

    def streams_end(self) -> None:
        self.cluster.wait_for(lambda: not self.cluster._streaming)

    def test_close(self) -> None:
        """Closing ends the connection, and whoever waits for an event is told that there is none."""
        watch = self.client.watch()
        self.run_call(watch.ready)
        waiting = self.driver.start(self.step(watch))
        self.run_call(watch.close)
        self.assertIsInstance(waiting.exception(10), StopAsyncIteration)
        self.fails(StopAsyncIteration, self.step(watch))
        self.fails(ClientClosed, watch.next_revision)
        self.streams_end()

    def test_end_of_block(self) -> None:
        """A ``with`` ends the watch."""
        watch = self.client.watch()
        self.enter(watch)
        self.leave(watch)
        self.streams_end()

    def test_break(self) -> None:
        """Whoever breaks out of a loop leaves no connection behind."""
        watch = self.client.watch()
        self.put("k", "1")
        self.run_call(watch.ready)

        def let_go() -> None:
            nonlocal watch
            del watch
            gc.collect()

        self.run_call(let_go)
        self.streams_end()

    def test_client_closed(self) -> None:
        """Closing the client ends its watches."""
        client = self.make()
        watch = client.watch()
        self.run_call(watch.ready)
        waiting = self.driver.start(self.step(watch))
        self.run_call(client.close)
        self.assertIsInstance(waiting.exception(10), ClientClosed)
        self.fails(ClientClosed, self.step(client.watch()))
        self.streams_end()

    def test_cancel(self) -> None:
        """Whoever is cancelled while he waits for an event may ask again later, and misses nothing."""
        if self.driver_class.__name__ == "BlockingDriver":
            self.skipTest("a blocked thread cannot be cancelled")
        watch = self.watch()
        waiting = self.driver.start(self.step(watch))
        self.assertTrue(waiting.cancel())
        self.streams_end()
        self.put("k", "1")
        self.assertEqual(self.keys(watch, 1), [("k", 1)])


in_all_flavours(globals(), WatchTests, BrokenWatchTests, EndTests)
