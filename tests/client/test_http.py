"""``KVClient`` against a treq client whose answers the test gives, on a virtual clock."""

from __future__ import annotations

from typing import Any

from twisted.internet.defer import CancelledError, Deferred
from twisted.internet.error import ConnectError, ConnectionLost
from twisted.internet.task import Clock
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase
from twisted.web.client import ResponseFailed, ResponseNeverReceived

from raftkv import errors
from raftkv.client import (
    ClientClosed,
    Deleted,
    KVClient,
    NotReached,
    Record,
    UnexpectedAnswer,
    ValueNotText,
    Written,
)
from tests.client.fakes import A, B, C, FakeTreq, FixedRandom


def lost() -> ResponseNeverReceived:
    """What Agent says when a connection breaks after the request was written."""
    return ResponseNeverReceived([Failure(ConnectionLost())])


class ClientTestCase(SynchronousTestCase):
    """A client of three addresses, its clock and its treq."""

    addresses: Any = (A, B, C)

    def setUp(self) -> None:
        self.clock = Clock()
        self.treq = FakeTreq()
        self.clients: list[KVClient] = []
        self.client = self.make()
        self.addCleanup(self.check_quiet)

    def make(self, **options: Any) -> KVClient:
        client = KVClient(
            self.addresses,
            reactor=self.clock,
            treq_client=self.treq,
            random=FixedRandom(),  # type: ignore[arg-type]
            entropy=bytes,
            **options,
        )
        self.clients.append(client)
        return client

    def check_quiet(self) -> None:
        for client in self.clients:
            self.successResultOf(client.close())
        self.assertEqual(self.clock.getDelayedCalls(), [])

    def error_of(self, call: Deferred[Any], kind: type[errors.RaftKVError]) -> Any:
        return self.failureResultOf(call, kind).value


class RequestTests(ClientTestCase):
    """What a call sends, and what it makes of the answer."""

    def test_set(self) -> None:
        """A set is a PUT of the raw bytes under an exactly-once number, and gives the revision."""
        call = self.client.set("key1", "välue")
        sent = self.treq.last
        self.assertEqual((sent.method, sent.url, sent.body), ("PUT", A + "/v1/kv/key1", "välue".encode()))
        self.assertEqual(sent.sequence, ("00" * 16, "1"))
        sent.answer(200, {"key": "key1", "revision": 7})
        self.assertEqual(self.successResultOf(call), Written(revision=7))

    def test_numbers_grow(self) -> None:
        """Each write has a number of its own; reads have none."""
        for _ in range(2):
            call = self.client.set("k", "v")
            self.treq.last.answer(200, {"key": "k", "revision": 1})
            self.successResultOf(call)
        read = self.client.get("k")
        self.assertEqual([sent.sequence[1] for sent in self.treq.sent], ["1", "2", None])
        read.addErrback(lambda _: None)

    def test_no_redirects(self) -> None:
        """treq is told to follow no redirect and to use the client's own reactor."""
        self.client.get("k").addErrback(lambda _: None)
        self.assertEqual(self.treq.last.options["allow_redirects"], False)
        self.assertIs(self.treq.last.options["reactor"], self.clock)

    def test_awaitable(self) -> None:
        """A call can be awaited, and gives the value itself."""

        async def program() -> str | None:
            return await self.client.get("key1")

        result = Deferred.fromCoroutine(program())
        self.assertEqual((self.treq.last.method, self.treq.last.url), ("GET", A + "/v1/kv/key1"))
        self.treq.last.answer(200, record("key1", "value1"))
        self.assertEqual(self.successResultOf(result), "value1")

    def test_missing_key(self) -> None:
        """A key that does not exist is ``None`` for all three ways to get it."""
        for get in (self.client.get, self.client.get_bytes, self.client.get_record):
            call = get("nothing")
            self.treq.last.refuse(404, "key_not_found")
            self.assertIsNone(self.successResultOf(call))

    def test_record(self) -> None:
        """``get_record`` gives the revisions, and the bytes of a value that is not UTF-8."""
        call = self.client.get_record("k")
        body = record("k", "")
        del body["value"]
        self.treq.last.answer(200, {**body, "value_base64": "/wA="})
        expected = Record(key="k", value=b"\xff\x00", create_revision=1, mod_revision=2, version=2)
        self.assertEqual(self.successResultOf(call), expected)

    def test_value_not_text(self) -> None:
        """``get`` of a value that is not UTF-8 says so rather than give another type."""
        call = self.client.get("k")
        body = record("k", "")
        del body["value"]
        self.treq.last.answer(200, {**body, "value_base64": "/wA="})
        self.assertIn("get_bytes", str(self.error_of(call, ValueNotText)))

    def test_raw_bytes(self) -> None:
        """``get_bytes`` asks for the raw bytes and gives them."""
        call = self.client.get_bytes(b"k")
        self.assertEqual(self.treq.last.headers["Accept"], "application/octet-stream")
        self.treq.last.answer(200, b"\xff\x00", content_type="application/octet-stream")
        self.assertEqual(self.successResultOf(call), b"\xff\x00")

    def test_foreign_page(self) -> None:
        """A page of another server is not taken for a value."""
        raw, text = self.client.get_bytes("k"), self.client.get("k")
        for sent in self.treq.sent:
            sent.answer(200, b"<html>", content_type="text/html")
        self.error_of(raw, UnexpectedAnswer)
        self.error_of(text, UnexpectedAnswer)

    def test_consistency(self) -> None:
        """The consistency of a read travels in the query; an unknown one is refused before anything is sent."""
        self.client.get("k", consistency="stale").addErrback(lambda _: None)
        self.assertEqual(self.treq.last.url, A + "/v1/kv/k?consistency=stale")
        call = self.client.get("k", consistency="strong")  # type: ignore[arg-type]
        self.assertIn("'strong'", str(self.error_of(call, errors.BadRequest)))
        self.assertEqual(len(self.treq.sent), 1)

    def test_bound_of_staleness(self) -> None:
        """The bound of a stale read travels in the query, rounded down; one that means nothing is refused at once."""
        for read in (self.client.get, self.client.get_bytes, self.client.get_record):
            read("k", consistency="stale", max_stale=1.2345).addErrback(lambda _: None)
            self.assertEqual(self.treq.last.url, A + "/v1/kv/k?consistency=stale&max_stale=1.234")
        for bound in (-1, float("nan"), float("inf"), True, "1", 1e9):
            call = self.client.get("k", consistency="stale", max_stale=bound)  # type: ignore[arg-type]
            self.assertIn("max_stale", str(self.error_of(call, errors.BadRequest)))
        self.error_of(self.client.get("k", max_stale=1), errors.BadRequest)
        self.assertEqual(len(self.treq.sent), 3)

    def test_delete(self) -> None:
        """A delete tells whether there was something to delete."""
        call = self.client.delete("k")
        self.assertEqual(self.treq.last.method, "DELETE")
        self.treq.last.answer(200, {"key": "k", "deleted": False, "revision": 3})
        self.assertEqual(self.successResultOf(call), Deleted(deleted=False, revision=3))

    def test_conditions(self) -> None:
        """Conditions become If-Match and If-None-Match."""
        calls = [
            self.client.set("k", "v", if_mod_revision=4),
            self.client.set("k", "v", if_mod_revision=0),
            self.client.set("k", "v", if_exists=True),
            self.client.delete("k", if_mod_revision=4),
            self.client.delete("k", if_exists=True),
        ]
        found = [{n: v for n, v in sent.headers.items() if n.endswith("Match")} for sent in self.treq.sent]
        exactly, exists = {"If-Match": '"4"'}, {"If-Match": "*"}
        self.assertEqual(found, [exactly, {"If-None-Match": "*"}, exists, exactly, exists])
        for call in calls:
            call.addErrback(lambda _: None)

    def test_precondition_failed(self) -> None:
        """A condition that does not hold is an error with the present mod revision, raised at once."""
        call = self.client.set("k", "v", if_mod_revision=4)
        failed = {"code": "precondition_failed", "message": "no", "outcome": "not_applied"}
        self.treq.last.answer(412, {"error": failed, "mod_revision": 9})
        self.assertEqual(self.error_of(call, errors.PreconditionFailed).mod_revision, 9)
        self.assertEqual(len(self.treq.sent), 1)

    def test_arguments(self) -> None:
        """Arguments that make no sense fail the Deferred, and nothing is sent."""
        for call, kind in (
            (self.client.get(""), errors.BadRequest),
            (self.client.get(b"\xff"), errors.BadRequest),
            (self.client.set("\ud800", "v"), errors.BadRequest),
            (self.client.set("k", "\ud800"), errors.BadRequest),
            (self.client.set("k", "v", if_mod_revision=-1), errors.BadRequest),
            (self.client.set("k", "v", if_mod_revision=1, if_exists=True), errors.BadRequest),
            (self.client.delete("k", if_mod_revision=0), errors.BadRequest),
            (self.client.get(1), TypeError),  # type: ignore[arg-type]
            (self.client.set("k", 1), TypeError),  # type: ignore[arg-type]
        ):
            self.failureResultOf(call, kind)
        self.assertEqual(self.treq.sent, [])

    def test_addresses(self) -> None:
        """Addresses may come as one string with commas, as several, or as a list, with slashes at the end."""
        for given in (("http://a:1/, http://b:2",), ("http://a:1", "http://b:2/"), (["http://a:1", "http://b:2"],)):
            client = KVClient(*given, reactor=self.clock, treq_client=self.treq)
            for _ in range(2):
                client.get("k").addErrback(lambda _: None)
                self.treq.last.fail(ConnectError())
            self.assertEqual({url.rpartition("/v1")[0] for url in self.treq.urls}, {"http://a:1", "http://b:2"})
            self.successResultOf(client.close())
            self.treq.sent.clear()

    def test_wrong_settings(self) -> None:
        """An address or a number that makes no sense is named."""
        for arguments, named in (
            ({"addresses": "localhost:8080"}, "'localhost:8080': the scheme is missing"),
            ({"addresses": "ftp://a"}, "'ftp'"),
            ({"addresses": "http://a:99999"}, "http://a:99999"),
            ({"addresses": "http://a/path"}, "after the host"),
            ({"addresses": ""}, "no address"),
            ({"addresses": [1]}, "1"),
            ({"addresses": A, "timeout": 0}, "timeout"),
            ({"addresses": A, "timeout": 3600}, "timeout"),
            ({"addresses": A, "max_connections": 0}, "max_connections"),
        ):
            with self.assertRaises(ValueError) as caught:
                KVClient(**arguments, reactor=self.clock, treq_client=self.treq)  # type: ignore[arg-type]
            self.assertIn(named, str(caught.exception))


class RetryTests(ClientTestCase):
    """Failover and repetition."""

    def test_failover(self) -> None:
        """A node that refuses connections is passed over at once, and the next call starts at the one that works."""
        call = self.client.get("k")
        self.treq.last.fail(ConnectError())
        self.assertEqual(self.treq.urls, [A + "/v1/kv/k", B + "/v1/kv/k"])
        self.treq.last.answer(200, record("k", "v"))
        self.assertEqual(self.successResultOf(call), "v")
        self.client.get("k").addErrback(lambda _: None)
        self.assertEqual(self.treq.last.url, B + "/v1/kv/k")

    def test_lost_response(self) -> None:
        """B63: a write whose answer was lost is sent again under the very same number."""
        call = self.client.set("k", "v")
        self.treq.last.fail(lost())
        first, second = self.treq.sent
        self.assertEqual(first.sequence, second.sequence)
        self.assertEqual((first.body, second.url), (second.body, B + "/v1/kv/k"))
        second.answer(200, {"key": "k", "revision": 1})
        self.assertEqual(self.successResultOf(call), Written(revision=1))

    def test_lost_body(self) -> None:
        """B63: an answer that breaks off in its body is as good as none, and the write is repeated."""
        call = self.client.set("k", "v")
        response = self.treq.last.begin_answer(200)
        response.protocol.dataReceived(b'{"key":"k",')
        response.finish(ResponseFailed([Failure(ConnectionLost())]))
        first, second = self.treq.sent
        self.assertEqual(first.sequence, second.sequence)
        second.answer(200, {"key": "k", "revision": 1})
        self.assertEqual(self.successResultOf(call), Written(revision=1))

    def test_node_that_hangs(self) -> None:
        """An attempt that gets no answer in its time is cancelled, and the next address asked under the same number."""
        call = self.client.set("k", "v")
        self.clock.advance(2.9)
        self.assertEqual(len(self.treq.sent), 1)
        self.clock.advance(0.2)
        first, second = self.treq.sent
        self.assertTrue(first.cancelled)
        self.assertEqual((second.url, second.sequence), (B + "/v1/kv/k", first.sequence))
        second.answer(200, {"key": "k", "revision": 1})
        self.successResultOf(call)

    def test_no_retry_of_refusals(self) -> None:
        """What would be refused again is raised at once."""
        for status, code, kind in (
            (400, "bad_request", errors.BadRequest),
            (403, "forbidden", errors.Forbidden),
            (404, "not_found", errors.NotFound),
            (405, "method_not_allowed", errors.MethodNotAllowed),
            (409, "conflict", errors.Conflict),
            (409, "sequence_too_old", errors.SequenceTooOld),
            (409, "sequence_reused", errors.SequenceReused),
            (413, "too_large", errors.TooLarge),
            (415, "unsupported_media_type", errors.UnsupportedMediaType),
            (500, "internal", UnexpectedAnswer),
        ):
            self.treq.sent.clear()
            call = self.client.set("k", "v")
            self.treq.last.refuse(status, code, "unknown" if code == "sequence_too_old" else "not_applied")
            self.error_of(call, kind)
            self.assertEqual(len(self.treq.sent), 1)

    def test_back_off_after_all_addresses(self) -> None:
        """Every address is tried at once, then none before a back-off, which grows."""
        self.client.get("k").addErrback(lambda _: None)
        for _ in range(3):
            self.treq.last.fail(ConnectError())
        self.assertEqual(len(self.treq.sent), 3)
        self.clock.advance(0.04)
        self.assertEqual(len(self.treq.sent), 3)
        self.clock.advance(0.02)
        for _ in range(3):
            self.treq.last.fail(ConnectError())
        self.assertEqual(len(self.treq.sent), 6)
        self.clock.advance(0.06)
        self.assertEqual(len(self.treq.sent), 6)
        self.clock.advance(0.06)
        self.assertEqual(len(self.treq.sent), 7)

    def test_overloaded(self) -> None:
        """A cluster that is overloaded is left alone for as long as it says, at whatever address."""
        call = self.client.set("k", "v")
        self.treq.last.refuse(429, "overloaded", Retry_After="2")
        self.clock.advance(1.9)
        self.assertEqual(len(self.treq.sent), 1)
        self.clock.advance(0.2)
        self.assertEqual(len(self.treq.sent), 2)
        self.treq.last.answer(200, {"key": "k", "revision": 1})
        self.successResultOf(call)

    def test_no_leader(self) -> None:
        """A node without a leader is not asked again before its Retry-After, but others are, at once."""
        self.client.set("k", "v").addErrback(lambda _: None)
        for _ in range(3):
            self.treq.last.refuse(503, "no_leader", Retry_After="1")
        self.assertEqual([url[:8] for url in self.treq.urls], ["http://a", "http://b", "http://c"])
        self.clock.advance(0.9)
        self.assertEqual(len(self.treq.sent), 3)
        self.clock.advance(0.2)
        self.assertEqual(len(self.treq.sent), 4)

    def test_proxy_in_between(self) -> None:
        """A 502 of something in between is retried; for a write it may have been received."""
        call = self.make(timeout=1.0).set("k", "v")
        while not call.called:
            if self.treq.sent and not self.treq.last.responding.called:
                self.treq.last.answer(502, b"<html>bad gateway</html>")
            self.clock.advance(0.1)
        self.assertEqual(self.error_of(call, errors.RequestTimeout).outcome, "unknown")
        self.assertGreater(len(self.treq.sent), 3)


class OutcomeTests(ClientTestCase):
    """What is said of a write when the time is over."""

    addresses = A

    def run_out(self, call: Deferred[Any], error: Exception) -> errors.RequestTimeout:
        while not call.called:
            if not self.treq.last.responding.called:
                self.treq.last.fail(error)
            self.clock.advance(0.5)
        timeout = self.failureResultOf(call, errors.RequestTimeout).value
        assert isinstance(timeout, errors.RequestTimeout)
        return timeout

    def test_never_connected(self) -> None:
        """A write that no server can have received was not applied."""
        timeout = self.run_out(self.client.set("k", "v"), ConnectError())
        self.assertEqual(timeout.outcome, "not_applied")
        self.assertIsInstance(timeout.__cause__, NotReached)
        self.assertIn("PUT /v1/kv/k", str(timeout))
        self.assertLessEqual(self.clock.seconds(), 10.5)

    def test_maybe_received_once(self) -> None:
        """One attempt that may have been received makes the outcome unknown, though all later ones were refused."""
        call = self.client.set("k", "v")
        self.treq.last.fail(lost())
        self.clock.advance(0.1)
        self.assertEqual(self.run_out(call, ConnectError()).outcome, "unknown")

    def test_read(self) -> None:
        """A read has no effect, whatever became of it."""
        self.assertEqual(self.run_out(self.client.get("k"), lost()).outcome, "not_applied")

    def test_silence(self) -> None:
        """Without any answer the call ends at its deadline, and the outcome is unknown."""
        call = self.client.set("k", "v")
        self.clock.pump([0.1] * 99)
        self.assertNoResult(call)
        self.clock.pump([0.1] * 2)
        self.assertEqual(self.error_of(call, errors.RequestTimeout).outcome, "unknown")
        self.assertEqual({sent.sequence[1] for sent in self.treq.sent}, {"1"})

    def test_refused_after_loss(self) -> None:
        """A refusal of the repetition says nothing of the first attempt: unknown, with the refusal as the cause."""
        call = self.client.set("k", "v")
        self.treq.last.fail(lost())
        self.clock.advance(0.1)
        self.treq.last.refuse(413, "too_large")
        self.assertIsInstance(self.error_of(call, errors.OutcomeUnknown).__cause__, errors.TooLarge)

    def test_condition_after_loss(self) -> None:
        """B63: a 412 for the repetition is the answer of the write itself, which the session has kept."""
        call = self.client.set("k", "v", if_mod_revision=1)
        self.treq.last.fail(lost())
        self.clock.advance(0.1)
        failed = {"code": "precondition_failed", "message": "no", "outcome": "not_applied"}
        self.treq.last.answer(412, {"error": failed, "mod_revision": 2})
        self.assertEqual(self.error_of(call, errors.PreconditionFailed).outcome, "not_applied")

    def test_server_says_unknown(self) -> None:
        """The outcome that a server states is the one of the error."""
        call = self.client.set("k", "v")
        self.treq.last.refuse(500, "internal", "unknown")
        self.assertEqual(self.error_of(call, UnexpectedAnswer).outcome, "unknown")

    def test_unreadable_success(self) -> None:
        """A 200 that cannot be read leaves a write unknown."""
        call = self.client.set("k", "v")
        self.treq.last.answer(200, {"revision": "seven"})
        error = self.error_of(call, UnexpectedAnswer)
        self.assertEqual(error.outcome, "unknown")
        self.assertIn("revision: found 'seven', expected a whole number", str(error))

    def test_retry_after_beyond_deadline(self) -> None:
        """Where the server asks for more patience than there is, the call ends at once."""
        call = self.client.set("k", "v")
        self.treq.last.refuse(429, "overloaded", Retry_After="60")
        timeout = self.error_of(call, errors.RequestTimeout)
        self.assertEqual(timeout.outcome, "not_applied")
        self.assertIsInstance(timeout.__cause__, errors.Overloaded)


class LeaderTests(ClientTestCase):
    """Whom the client asks."""

    def answer(self, leader: str, term: int = 1) -> None:
        self.treq.last.answer(200, record("k", "v"), X_Raft_Leader=leader, X_Raft_Term=str(term))

    def get(self, **options: Any) -> str:
        """Begin a get and return whom it asked."""
        self.client.get("k", **options).addErrback(lambda _: None)
        return self.treq.last.url.rpartition("/v1")[0]

    def test_follows(self) -> None:
        """The address that an answer names as the leader's is asked from then on; stale reads stay where they are."""
        self.assertEqual(self.get(), A)
        self.answer("c:8080")
        self.assertEqual(self.get(), C)
        self.assertEqual(self.get(consistency="stale"), A)

    def test_unlisted_leader(self) -> None:
        """A leader whose address the user did not give is followed too, unless that is switched off."""
        self.get()
        self.answer("d:8080")
        self.assertEqual(self.get(), "http://d:8080")
        self.client = self.make(follow_leader=False)
        self.get()
        self.answer("d:8080")
        self.assertEqual(self.get(), A)

    def test_leader_lost(self) -> None:
        """A leader that fails is forgotten, and not believed in again on the word of a node that has yet to notice."""
        self.get()
        self.answer("c:8080")
        self.get()
        self.treq.last.fail(lost())
        self.assertEqual(self.treq.last.url, A + "/v1/kv/k")
        self.answer("c:8080")
        self.assertEqual(self.get(), A)

    def test_old_term(self) -> None:
        """A node that is behind does not lead the client back to the leader of an earlier term."""
        self.get()
        self.answer("c:8080", term=5)
        self.assertEqual(self.get(consistency="stale"), A)
        self.answer("b:8080", term=4)
        self.assertEqual(self.get(), C)

    def test_nonsense(self) -> None:
        """A leader's address that is none is ignored."""
        self.get()
        self.answer("no address at all")
        self.assertEqual(self.get(), A)


class BoundTests(ClientTestCase):
    """How much is on its way at once."""

    def test_connections(self) -> None:
        """No more calls are on their way than allowed; the others follow in order."""
        self.client = self.make(max_connections=2)
        calls = [self.client.set(f"k{number}", "v") for number in range(4)]
        self.assertEqual(len(self.treq.sent), 2)
        for number in range(4):
            self.treq.sent[number].answer(200, {"key": "k", "revision": number + 1})
        self.assertEqual([self.successResultOf(call).revision for call in calls], [1, 2, 3, 4])
        self.assertEqual([sent.sequence[1] for sent in self.treq.sent], ["1", "2", "3", "4"])

    def test_waiting_counts(self) -> None:
        """A call that does not get its turn within the time fails, and was not applied."""
        self.client = self.make(max_connections=1, timeout=2.0, attempt_timeout=2.0)
        first, second = self.client.set("k", "v"), self.client.set("k", "v")
        self.clock.advance(1.9)
        self.assertNoResult(second)
        self.clock.advance(0.1)
        self.assertEqual(self.error_of(first, errors.RequestTimeout).outcome, "unknown")
        self.assertEqual(self.error_of(second, errors.RequestTimeout).outcome, "not_applied")
        self.assertEqual(len(self.treq.sent), 1)

    def test_window(self) -> None:
        """A write that is stuck holds up writes that would push it out of the server's window, but no read."""
        stuck = self.client.set("stuck", "v")
        stuck_sent = self.treq.last
        for _ in range(1023):
            call = self.client.set("k", "v")
            self.treq.last.answer(200, {"key": "k", "revision": 1})
            self.successResultOf(call)
        held = self.client.set("held", "v")
        self.assertEqual(len(self.treq.sent), 1024)
        read = self.client.get("k")
        self.assertEqual(self.treq.last.method, "GET")
        self.treq.last.answer(200, record("k", "v"))
        self.successResultOf(read)
        stuck_sent.answer(200, {"key": "stuck", "revision": 1})
        self.successResultOf(stuck)
        self.assertEqual(self.treq.last.sequence[1], "1025")
        self.treq.last.answer(200, {"key": "held", "revision": 2})
        self.successResultOf(held)


class EndTests(ClientTestCase):
    """Cancelling and closing."""

    def test_cancel(self) -> None:
        """Cancelling a call cancels its request, gives its place to the next one, and it is not tried again."""
        self.client = self.make(max_connections=1)
        call, following = self.client.get("k"), self.client.get("l")
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.assertTrue(self.treq.sent[0].cancelled)
        self.assertEqual(self.treq.urls, [A + "/v1/kv/k", A + "/v1/kv/l"])
        following.addErrback(lambda _: None)

    def test_cancel_while_backing_off(self) -> None:
        """A call cancelled between two attempts makes no further one."""
        call = self.client.get("k")
        for _ in range(3):
            self.treq.last.fail(ConnectError())
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.clock.advance(100)
        self.assertEqual(len(self.treq.sent), 3)

    def test_cancel_while_reading(self) -> None:
        """Cancelling while the body comes in closes the connection."""
        call = self.client.get("k")
        response = self.treq.last.begin_answer(200)
        call.cancel()
        self.failureResultOf(call, CancelledError)
        self.assertTrue(response.transport.lost)
        response.finish(ResponseFailed([Failure(ConnectionLost())]))

    def test_cancel_waiting(self) -> None:
        """A call that is cancelled while it waits for its turn is never sent."""
        self.client = self.make(max_connections=1)
        first, second = self.client.get("k"), self.client.get("l")
        second.cancel()
        self.failureResultOf(second, CancelledError)
        self.treq.last.answer(200, record("k", "v"))
        self.successResultOf(first)
        self.assertEqual(len(self.treq.sent), 1)

    def test_close(self) -> None:
        """Closing ends every pending call honestly, sends nothing more, and leaves no timer behind."""
        self.client = self.make(max_connections=2)
        write, read = self.client.set("k", "v"), self.client.get("k")
        waiting = self.client.set("l", "v")
        self.successResultOf(self.client.close())
        self.assertEqual(self.error_of(write, errors.OutcomeUnknown).outcome, "unknown")
        self.error_of(read, ClientClosed)
        self.assertEqual(self.error_of(waiting, ClientClosed).outcome, "not_applied")
        self.assertEqual(len(self.treq.sent), 2)
        self.assertTrue(all(sent.cancelled for sent in self.treq.sent))
        self.assertEqual(self.clock.getDelayedCalls(), [])
        self.error_of(self.client.get("k"), ClientClosed)


class AdministrationTests(ClientTestCase):
    """``status`` and ``cluster``."""

    def test_status(self) -> None:
        """A node's status comes as an object with all of its fields, and the raw answer with it."""
        answer = {
            "node_id": "node1",
            "cluster_id": "c0",
            "role": "leader",
            "term": 3,
            "leader": "node1",
            "commit_index": 9,
            "applied_index": 9,
            "first_index": 1,
            "last_index": 10,
            "snapshot_index": 0,
            "revision": 7,
            "compact_revision": 0,
            "keys": 2,
            "digest": "00ff",
            "uptime": 1.5,
            "version": "0.1.0",
            "alarms": [],
            "later": True,
        }
        call = self.client.status()
        self.assertEqual(self.treq.last.url, A + "/v1/status")
        self.treq.last.answer(200, answer)
        status = self.successResultOf(call)
        self.assertEqual((status.node_id, status.term, status.uptime, status.alarms), ("node1", 3, 1.5, ()))
        self.assertEqual(status.raw["later"], True)

    def test_cluster(self) -> None:
        """What only a leader knows is ``None`` where there is none."""
        member = {
            "id": "node1",
            "raft_addr": "h:1",
            "rpc_addr": "h:2",
            "http_addr": "h:3",
            "role": "voter",
            "leader": False,
            "match_index": None,
            "healthy": None,
            "last_contact": None,
        }
        call = self.client.cluster()
        self.treq.last.answer(200, {"cluster_id": "c0", "leader": None, "term": 3, "members": [member]})
        cluster = self.successResultOf(call)
        self.assertEqual((cluster.leader, cluster.members[0].id, cluster.members[0].healthy), (None, "node1", None))


def record(key: str, value: str) -> dict[str, Any]:
    """The JSON of a record."""
    return {"key": key, "value": value, "create_revision": 1, "mod_revision": 2, "version": 2}
