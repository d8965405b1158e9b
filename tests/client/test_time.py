"""What the client's programs do in time, to the moment: on Twisted's virtual clock, with answers given by hand."""

from __future__ import annotations

import json
from typing import Any

from twisted.internet.defer import Deferred
from twisted.internet.error import ConnectError

from raftkv import errors
from raftkv.client import Event, Fence
from tests.client.fakes import FakeResponse, Sent
from tests.client.test_http import ClientTestCase


class KeepingTests(ClientTestCase):
    """A lease of nine seconds."""

    def begin(self) -> Any:
        lease = self.client.lease(9)
        starting = lease.start()
        self.treq.last.answer(200, {"lease": 5, "ttl": 9})
        self.successResultOf(starting)
        self.treq.sent.clear()
        return lease

    def answer(self, sent: Sent) -> None:
        self.assertTrue(sent.url.endswith("/v1/leases/5/keepalive"), sent.url)
        sent.answer(200, {"lease": 5, "ttl": 9})

    def test_signs_of_life(self) -> None:
        """A sign of life is given after each third of the time, counted from when the last one was sent."""
        lease = self.begin()
        self.clock.advance(2.9)
        self.assertEqual(self.treq.sent, [])
        self.clock.advance(0.2)
        self.clock.advance(1.0)
        self.answer(self.treq.last)
        self.assertAlmostEqual(lease.remaining, 8.0)
        self.clock.advance(1.9)
        self.assertEqual(len(self.treq.sent), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.treq.sent), 2)
        self.assertEqual(self.treq.last.sequence, (None, None), "a repeat is to count, not to be answered from memory")

    def test_lost_in_silence(self) -> None:
        """B62: without an answer the lease is lost to the moment, also for who asks before any timer has run."""
        lease = self.begin()
        lost = lease.when_lost()
        self.clock.advance(8.99)
        self.assertFalse(lease.lost)
        self.assertNoResult(lost)
        self.clock.rightNow += 0.02
        self.assertTrue(lease.lost)
        self.clock.advance(0)
        self.assertTrue(self.successResultOf(lost))

    def test_late_answer(self) -> None:
        """B37: an answer that comes after the lease was lost does not bring it back."""
        lease = self.begin()
        self.clock.advance(3.0)
        sent = self.treq.last
        self.clock.rightNow += 6.0
        self.assertTrue(lease.lost)
        self.answer(sent)
        self.assertTrue(lease.lost)
        self.assertEqual(lease.remaining, 0)

    def test_hanging_node(self) -> None:
        """A node that hangs uses up a third of what is left, and then another is asked."""
        lease = self.begin()
        self.clock.advance(3.0)
        self.clock.advance(2.0)
        self.assertEqual([url[:8] for url in self.treq.urls], ["http://a", "http://b"])
        self.answer(self.treq.last)
        self.assertAlmostEqual(lease.remaining, 7.0)

    def test_refused(self) -> None:
        """B37: that there is no such lease is the end at once."""
        lease = self.begin()
        lost = lease.when_lost()
        self.clock.advance(3.0)
        self.treq.last.refuse(404, "lease_not_found")
        self.assertTrue(self.successResultOf(lost))
        self.clock.advance(60)
        self.assertEqual(len(self.treq.sent), 1)

    def test_keeper_that_fails(self) -> None:
        """B66: should the keeping itself fail, the lease counts as lost, and whoever waits hears of it."""
        lease = self.begin()
        lost = lease.when_lost()
        self.patch(lease.keeper._engine.core, "call", lambda *_, **__: 1 / 0)
        self.clock.advance(3.0)
        self.assertTrue(self.successResultOf(lost))
        self.assertEqual(len(self.flushLoggedErrors(ZeroDivisionError)), 1)

    def test_revoked(self) -> None:
        """After the end no sign of life is sent, and the lease was not lost."""
        lease = self.begin()
        lost = lease.when_lost()
        revoking = lease.revoke()
        self.treq.last.answer(200, {"lease": 5, "deleted": 0, "revision": 1})
        self.assertTrue(self.successResultOf(revoking))
        self.assertFalse(self.successResultOf(lost))
        self.clock.advance(60)
        self.assertEqual(len(self.treq.sent), 1)

    def test_not_behind_others(self) -> None:
        """Signs of life do not wait for their turn behind calls that hang."""
        client = self.make(max_connections=1)
        lease = client.lease(9)
        starting = lease.start()
        self.treq.last.answer(200, {"lease": 5, "ttl": 9})
        self.successResultOf(starting)
        self.clock.advance(2.5)
        client.get("k").addErrback(lambda _: None)
        self.clock.advance(0.5)
        self.answer(self.treq.last)
        self.assertFalse(lease.lost)


class WaitingTests(ClientTestCase):
    """A lock that is waited for."""

    def test_patience(self) -> None:
        """An attempt may last as long as the wait, and what comes late is asked for again under the same number."""
        acquiring = self.client.lock("l", wait=30, ttl=9).acquire()
        self.assertEqual(json.loads(self.treq.last.body or b""), {"ttl": 9, "wait": 30})
        self.clock.advance(32.9)
        self.assertEqual(len(self.treq.sent), 1)
        self.clock.advance(0.2)
        first, second = self.treq.sent
        self.assertEqual(first.sequence, second.sequence)
        held = {"error": {"code": "lock_held", "message": "", "outcome": "not_applied"}, "token": 3}
        second.answer(409, held)
        error = self.error_of(acquiring, errors.LockHeld)
        self.assertEqual((error.name, error.token), (b"l", 3))

    def test_place_given_up(self) -> None:
        """Where the place was lost before the time was over, it asks anew, with the time that is left."""
        acquiring = self.client.lock("l", wait=30, ttl=9).acquire()
        self.clock.advance(10)
        held = {"error": {"code": "lock_held", "message": "", "outcome": "not_applied"}, "token": 3}
        self.treq.last.answer(409, held)
        self.clock.advance(0.05)
        first, second = self.treq.sent
        self.assertNotEqual(first.sequence, second.sequence)
        self.assertEqual(json.loads(second.body or b"")["wait"], 19.95)
        acquiring.addErrback(lambda _: None)

    def test_taken_long_ago(self) -> None:
        """B62: after a wait the lock is believed in from the sign of life on, and not at all if that is refused."""
        lock = self.client.lock("l", wait=None, ttl=9)
        acquiring = lock.acquire()
        self.clock.advance(100)
        self.treq.last.answer(200, {"name": "l", "token": 7, "lease": 8})
        self.assertTrue(self.treq.last.url.endswith("/v1/leases/8/keepalive"))
        self.treq.last.refuse(404, "lease_not_found")
        self.assertNoResult(acquiring)
        self.clock.advance(0.05)
        self.treq.last.answer(200, {"name": "l", "token": 9, "lease": 10})
        self.assertIs(self.successResultOf(acquiring), lock)
        self.assertEqual(lock.fence, Fence(name="l", token=9))
        self.assertAlmostEqual(lock.remaining, 9.0)


class WatchingTests(ClientTestCase):
    """A watch whose streams the test plays."""

    def open(self, sent: Sent | None = None) -> FakeResponse:
        """Give the stream that was asked for."""
        response = FakeResponse(200, {"Content-Type": "text/event-stream"}, None)
        (sent or self.treq.last).responding.callback(response)
        return response

    def tell(self, response: FakeResponse, data: bytes) -> None:
        assert response.protocol is not None
        response.protocol.dataReceived(data)

    def test_silence(self) -> None:
        """B66: any sign of life counts; after so many seconds without one the next node is asked, at once."""
        watch = self.client.watch(silence=6)
        waiting: Deferred[Event] = watch.__anext__()
        stream = self.open()
        for _ in range(5):
            self.clock.advance(5.9)
            self.tell(stream, b'event: progress\nid: 3\ndata: {"revision":3}\n\n')
        self.clock.advance(6.1)
        first, second = self.treq.sent
        self.assertTrue(stream.transport.lost)
        self.assertIn("progress=2", first.url)
        self.assertEqual((second.url[:8], second.headers["Last-Event-ID"]), ("http://b", "3"))
        waiting.addErrback(lambda _: None)

    def test_patience(self) -> None:
        """B66: the time without any stream is bounded, and begins anew with every one that says something."""
        watch = self.client.watch(max_outage=20)
        waiting: Deferred[Event] = watch.__anext__()
        for _ in range(2):
            for _ in range(150):
                if not self.treq.last.responding.called:
                    self.treq.last.fail(ConnectError())
                self.clock.advance(0.1)
            self.assertNoResult(waiting)
            while self.treq.last.responding.called:
                self.clock.advance(0.1)
            stream = self.open()
            self.tell(stream, b'event: progress\nid: 3\ndata: {"revision":3}\n\n')
            stream.finish(ConnectError())
        for _ in range(220):
            if not self.treq.last.responding.called:
                self.treq.last.fail(ConnectError())
            self.clock.advance(0.1)
        self.error_of(waiting, errors.RequestTimeout)

    def test_streams_that_say_nothing(self) -> None:
        """Streams that open and break without a word are pauses apart, and do not renew the patience."""
        watch = self.client.watch(max_outage=20)
        waiting: Deferred[Event] = watch.__anext__()
        for _ in range(250):
            if not self.treq.last.responding.called:
                self.open().finish(ConnectError())
            self.clock.advance(0.1)
        self.error_of(waiting, errors.RequestTimeout)
        self.assertLess(len(self.treq.sent), 120)

    def test_nonsense(self) -> None:
        """What is no event is an error, and not passed over."""
        for data in (b"event: put\ndata: {\n\n", b'event: put\nid: x\ndata: {"type":"put","kv":{}}\n\n'):
            watch = self.client.watch()
            waiting: Deferred[Event] = watch.__anext__()
            self.tell(self.open(), data)
            self.failureResultOf(waiting)
            watch.close()

    def test_unknown_event(self) -> None:
        """An event of a kind that is not known yet is nothing."""
        watch = self.client.watch()
        waiting: Deferred[Event] = watch.__anext__()
        self.tell(self.open(), b"event: weather\ndata: fine\n\n")
        self.assertNoResult(waiting)
        watch.close()
        self.failureResultOf(waiting, StopAsyncIteration)

    def test_never_back(self) -> None:
        """B54: what a node that is behind tells again is not told again."""
        watch = self.client.watch()
        first: Deferred[Event] = watch.__anext__()
        stream = self.open()
        record = b'{"key":"k","value":"v","create_revision":%d,"mod_revision":%d,"version":1,"lease":0}'
        put = b'event: put\nid: %d\ndata: {"type":"put","kv":' + record + b',"prev_kv":null}\n\n'
        self.tell(stream, put % (8, 8, 8))
        self.assertEqual(self.successResultOf(first).revision, 8)
        second: Deferred[Event] = watch.__anext__()
        stream.finish(ConnectError())
        stream = self.open()
        self.tell(stream, b'event: progress\nid: 5\ndata: {"revision":5}\n\n')
        for revision in (7, 8, 9):
            self.tell(stream, put % (revision, revision, revision))
        self.assertEqual(self.successResultOf(second).revision, 9)
        watch.close()

    def test_slow_reader(self) -> None:
        """Who does not ask for events has the server wait, not the memory grow."""
        watch = self.client.watch()
        ready: Deferred[int] = watch.ready()
        stream = self.open()
        self.tell(stream, b'event: progress\nid: 5\ndata: {"revision":5}\n\n')
        self.assertEqual(self.successResultOf(ready), 5)
        for _ in range(5):
            self.tell(stream, b": " + b"x" * 100_000 + b"\n")
        self.assertTrue(stream.transport.paused)
        reading: Deferred[Event] = watch.__anext__()
        self.assertFalse(stream.transport.paused)
        self.assertNoResult(reading)
        watch.close()
        self.failureResultOf(reading, StopAsyncIteration)
