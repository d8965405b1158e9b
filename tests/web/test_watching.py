"""Watches over HTTP, as streams and as long polls, through both lanes."""

from __future__ import annotations

import json
from typing import Any, ClassVar

from raftkv.errors import Fenced, NoLeader
from raftkv.kvstore.commands import compact, delete, delete_range, grant, put, transaction
from raftkv.server.watching import WatchLimits
from raftkv.web import polling
from raftkv.web.site import SWEEP_SECONDS
from tests.web.lanes import Lane, parse_responses, request
from tests.web.test_streaming import head_and_rest, unchunked
from tests.web.watched import WatchedLaneTestCase

KIB = 1024


def progress(revision: int) -> str:
    """Return a progress event."""
    return f'event: progress\nid: {revision}\ndata: {{"revision":{revision}}}\n\n'


class StreamTestCase(WatchedLaneTestCase):
    """A stream on the open connection of each lane."""

    def open(self, target: str = "/v1/watch", *headers: str) -> str:
        """Begin a stream and return what comes first."""
        head, rest = head_and_rest(self.send(request("GET", target, *headers)))
        self.assertTrue(head.startswith(b"HTTP/1.1 200 OK\r\n"), head)
        self.assertIn(b"\r\nContent-Type: text/event-stream; charset=utf-8\r\n", head)
        self.assertIn(b"\r\nCache-Control: no-store\r\n", head)
        return unchunked(rest)[0].decode()

    def told(self) -> str:
        """Return what the stream has told since."""
        body, is_over = unchunked(self.received())
        self.assertFalse(is_over)
        return body.decode()

    def told_last(self) -> str:
        """Return what a stream told before it ended, as a whole answer ends."""
        body, is_over = unchunked(self.received())
        self.assertTrue(is_over)
        return body.decode()


class EventTests(StreamTestCase):
    """What a stream says."""

    def test_as_documented(self) -> None:
        """The example of the manual, to the letter; then a delete, and a value that is no text, with a lease."""
        self.write(*[put(b"x", b"")] * 7)
        self.assertEqual(self.open("/v1/watch?prefix=a"), progress(7))
        self.write(put(b"a", b"1"))
        self.assertEqual(
            self.told(),
            "event: put\nid: 8\ndata: "
            '{"type":"put","kv":{"key":"a","value":"1","create_revision":8,"mod_revision":8,"version":1,"lease":0},'
            '"prev_kv":null}\n\n',
        )
        self.write(delete(b"a"))
        self.assertEqual(
            self.told(),
            "event: delete\nid: 9\ndata: "
            '{"type":"delete","kv":{"key":"a","mod_revision":9},"prev_kv":'
            '{"key":"a","value":"1","create_revision":8,"mod_revision":8,"version":1,"lease":0}}\n\n',
        )
        self.write(grant(1000), put("aé/".encode(), b"\xff\n", lease=1))
        self.assertEqual(
            self.told(),
            "event: put\nid: 10\ndata: "
            '{"type":"put","kv":{"key":"aé/","value_base64":"/wo=","create_revision":10,"mod_revision":10,"version":1,'
            '"lease":1},"prev_kv":null}\n\n',
        )

    def test_one_id_for_a_revision(self) -> None:
        """B60: all events of a revision come together, and only the last of them bears its id."""
        self.open("/v1/watch?prefix=")
        self.write(transaction([], [put(b"a", b""), put(b"b", b""), put(b"c", b"")], []), put(b"d", b""))
        lines = [line for line in self.told().split("\n") if not line.startswith("data")]
        self.assertEqual(
            lines, ["event: put", "", "event: put", "", "event: put", "id: 1", "", "event: put", "id: 2", "", ""]
        )

    def test_filters(self) -> None:
        """Puts or deletes alone; without what was before, where that is not wanted."""
        self.open("/v1/watch?key=a&filter=delete&prev_kv=false")
        self.write(put(b"a", b""), delete(b"a"))
        self.assertEqual(
            self.told(), 'event: delete\nid: 2\ndata: {"type":"delete","kv":{"key":"a","mod_revision":2}}\n\n'
        )
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        self.open("/v1/watch?key=a&filter=put&prev_kv=true")
        self.write(put(b"a", b""), delete(b"a"))
        self.assertEqual(self.told().count("event: "), 1)

    def test_spans(self) -> None:
        """A key, a prefix, a range with either end, everything."""
        for query, keys in (
            ("key=b", "b"),
            ("prefix=b", "b b/1"),
            ("start=b&end=c", "b b/1"),
            ("start=b/", "b/1 c"),
            ("end=b", "a"),
            ("start=&end=", "a b b/1 c"),
            ("prefix=", "a b b/1 c"),
            ("", "a b b/1 c"),
        ):
            self.each(Lane.hang_up)
            self.each(Lane.connect)
            self.open("/v1/watch?" + query)
            self.write(*(put(key, b"") for key in (b"a", b"b", b"b/1", b"c")))
            events = [json.loads(line[6:]) for line in self.told().split("\n") if line.startswith("data: ")]
            self.assertEqual(" ".join(event["kv"]["key"] for event in events), keys, query)

    def test_progress(self) -> None:
        """B66: without events the stream says every ten seconds how far it is, or as often as it is asked to, so that a
        client can tell one that is quiet from one that is dead."""
        self.open("/v1/watch?key=a")
        self.write(put(b"b", b""))
        self.each(lambda lane: lane.clock.advance(9.9))
        self.assertEqual(self.told(), "")
        self.each(lambda lane: lane.clock.advance(0.2))
        self.assertEqual(self.told(), progress(1))
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        self.open("/v1/watch?key=a&progress=0.1")
        self.each(lambda lane: lane.clock.pump([0.1] * 5))
        self.assertEqual(self.told(), progress(1) * 5)

    def test_observe(self) -> None:
        """Observing an election is watching its key; the name is what stands in the path, decoded once."""
        self.open("/v1/elections/a%2Fb/observe")
        self.write(put(b"elections/a/b", b"me"), put(b"elections/a", b""))
        self.assertIn('"key":"elections/a/b","value":"me"', self.told())
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        self.open("/v1/elections/a/b/observe?prev_kv=false")
        self.write(delete(b"elections/a/b"))
        self.assertIn("event: delete", self.told())

    def test_head(self) -> None:
        """HEAD shows what a stream would be, and begins no watch."""
        (answer,) = parse_responses(self.send(request("HEAD", "/v1/watch?key=a")), [b"HEAD"])
        self.assertEqual((answer.status, answer.headers[b"Cache-Control"]), (200, b"no-store"))
        self.each(lambda lane: self.assertEqual(lane.key_value.watches.begun, 0))


class ResumptionTests(StreamTestCase):
    """Where a stream begins."""

    def setUp(self) -> None:
        super().setUp()
        self.write(*(put(b"a", b"%d" % number) for number in range(1, 6)))

    def ids(self, text: str) -> list[int]:
        return [int(line[4:]) for line in text.split("\n") if line.startswith("id: ")]

    def opened(self, query: str, *headers: str) -> list[int]:
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        return self.ids(self.open("/v1/watch?" + query, *headers) + self.told())

    def test_from_a_revision(self) -> None:
        """B59: from_revision is inclusive, and what was before it is what progress begins with."""
        self.assertEqual(self.opened("key=a&from_revision=4"), [3, 4, 5])
        self.assertEqual(self.opened("key=a&from_revision=1"), [0, 1, 2, 3, 4, 5])
        self.assertEqual(self.opened("key=a&from_revision=6"), [5])

    def test_last_event_id(self) -> None:
        """Last-Event-ID resumes behind it, and wins over from_revision; 0 is behind nothing."""
        self.assertEqual(self.opened("key=a", "Last-Event-ID: 3"), [3, 4, 5])
        self.assertEqual(self.opened("key=a&from_revision=1", "Last-Event-ID: 4"), [4, 5])
        self.assertEqual(self.opened("key=a&from_revision=5", "Last-Event-ID: 2"), [2, 3, 4, 5])
        self.assertEqual(self.opened("key=a", "Last-Event-ID: 0"), [0, 1, 2, 3, 4, 5])
        self.assertEqual(self.opened("key=a", "Last-Event-ID: "), [5])

    def test_future(self) -> None:
        """B58: a revision that is yet to be is waited for; a browser that reconnects meanwhile goes on waiting."""
        self.assertEqual(self.opened("key=a&from_revision=8"), [7])
        self.assertEqual(self.opened("key=a&from_revision=8", "Last-Event-ID: 7"), [7])
        self.write(put(b"a", b""), put(b"a", b""))
        self.assertEqual(self.told(), "")
        self.write(put(b"a", b""))
        self.assertEqual(self.ids(self.told()), [8])

    def test_another_history(self) -> None:
        """B61: an id that this cluster cannot have given is refused rather than waited for."""
        (answer,) = parse_responses(self.send(request("GET", "/v1/watch?key=a", "Last-Event-ID: 6")))
        self.assert_refused(answer, 400, "future_revision", "5")
        self.assertEqual(answer.json()["revision"], 5)

    def test_compacted(self) -> None:
        """What is no longer kept is told by an event that ends the stream; the connection serves on."""
        self.write(compact(4))
        _, rest = head_and_rest(self.send(request("GET", "/v1/watch?key=a&from_revision=3")))
        self.assertEqual(unchunked(rest), (b'event: compacted\ndata: {"compact_revision":4}\n\n', True))
        self.assertEqual(self.ids(self.open("/v1/watch?key=a&from_revision=4") + self.told()), [3, 4, 5])


class RefusalTests(StreamTestCase):
    """What cannot be watched."""

    limits = WatchLimits(max_watchers=2)

    BAD: ClassVar[dict[str, str]] = {
        "from_revision=0": "from_revision",
        "from_revision=-1": "from_revision",
        "from_revision=x": "from_revision",
        "from_revision=": "from_revision",
        "from_revision=9223372036854775808": "from_revision",
        "filter=": "filter",
        "filter=puts": "filter",
        "prev_kv=1": "prev_kv",
        "progress=0": "progress",
        "progress=0.09": "progress",
        "progress=3601": "progress",
        "progress=nan": "progress",
        "poll=-1": "poll",
        "poll=61": "poll",
        "poll=1e1": "poll",
        "poll=1&progress=1": "progress",
        "key=": "key",
        "key=a&prefix=b": "prefix",
        "prefix=a&start=b": "start",
        "key=a&end=b": "start",
        "start=b&end=b": "end",
        "start=b&end=a": "end",
        "key=%ff": "key",
        "prefix=%ff": "prefix",
        "end=%ff": "end",
        "limit=1": "limit",
    }

    def test_bad_requests(self) -> None:
        """Each mistake is 400 and names its field."""
        for query, field in self.BAD.items():
            response = self.ask("GET", "/v1/watch?" + query)
            self.assert_refused(response, 400, "bad_request", field)
        for value in ("-1", "x", "1.0", "9223372036854775807", "99999999999999999999"):
            self.assert_refused(
                self.ask("GET", "/v1/watch", f"Last-Event-ID: {value}"), 400, "bad_request", "Last-Event-ID"
            )
        self.assert_refused(self.ask("GET", "/v1/watch?prefix=" + "a" * 5000), 413, "too_large", "limits.maxKeyBytes")
        self.assert_refused(self.ask("GET", "/v1/elections//observe"), 400, "bad_request", "name")
        self.assert_refused(self.ask("GET", "/v1/elections/a/observe?key=b"), 400, "bad_request", "key")
        self.assert_refused(self.ask("POST", "/v1/watch"), 405, "method_not_allowed")
        self.each(lambda lane: self.assertEqual(lane.key_value.watches.begun, 0))

    def test_nobody_leads(self) -> None:
        """Without a leader a stream that needs a linearizable read is 503, as that read would be."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.assertEqual(self.send(request("GET", "/v1/watch?key=a")), b"")
        self.each(lambda lane: setattr(lane.key_value, "refusal", NoLeader()))
        self.each(lambda lane: lane.key_value.let_through())
        (answer,) = parse_responses(self.received())
        self.assert_refused(answer, 503, "no_leader")
        self.each(lambda lane: setattr(lane.key_value, "refusal", Fenced()))
        self.assert_refused(self.ask("GET", "/v1/watch?key=a&from_revision=1"), 503, "fenced")

    def test_too_many(self) -> None:
        """Past the limit a watch is 429, and says which setting it is."""
        for _ in range(2):
            self.open()
            self.each(Lane.connect)
        (answer,) = parse_responses(self.send(request("GET", "/v1/watch")))
        self.assert_refused(answer, 429, "overloaded", "limits.maxWatchers")
        self.assertIn(b"Retry-After", answer.headers)


class EndTests(StreamTestCase):
    """How streams end."""

    limits = WatchLimits(stall_seconds=5.0)

    def test_client_goes(self) -> None:
        """A client that hangs up takes its watch with it, also one that still waits to begin."""
        self.open()
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 1))
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))
        self.each(Lane.connect)
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(request("GET", "/v1/watch"))
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))
        self.each(lambda lane: lane.key_value.let_through())
        self.each(lambda lane: self.assertEqual(lane.key_value.watches.begun, 1))

    def test_slow_reader(self) -> None:
        """A reader that does not read is told no more than there is room for, and the rest when it reads."""
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.connect(room_bytes=64 * KIB))
        self.send(request("GET", "/v1/watch?prev_kv=false"))
        for _ in range(20):
            self.write(put(b"a", b"x" * 10 * KIB))
        events = 0
        for _ in range(3):
            body = self.received()
            self.assertLess(len(body), 85 * KIB)
            events += body.count(b"event: put")
            self.each(lambda lane: lane.connection.resumeProducing())
            self.each(lambda lane: lane.clock.advance(0))
        self.assertEqual(events + self.received().count(b"event: put"), 20)

    def test_buffer(self) -> None:
        """How much waits for a reader is a setting; the connection has its usual room again when the stream is over."""
        self.configure(watch_buffer_bytes=2000)
        fast = self.fast
        self.each(lambda lane: setattr(lane.transport, "bufferSize", 2000))  # which the setting does on the fast lane
        fast.transport.bufferSize = 2**16
        self.send(request("GET", "/v1/watch?prev_kv=false"))
        self.assertEqual(fast.transport.bufferSize, 2000)
        for _ in range(20):
            self.write(put(b"a", b"x" * 400))
        self.assertEqual(self.received().count(b"event: put"), 4)
        self.each(lambda lane: lane.key_value.watches.refuse())
        self.assertEqual(fast.transport.bufferSize, 2**16)

    def test_cut_off(self) -> None:
        """A reader that does not read for too long finds, when it does, that it was cut off, and where."""
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.connect(room_bytes=64 * KIB))
        self.send(request("GET", "/v1/watch?prev_kv=false"))
        for _ in range(20):
            self.write(put(b"a", b"x" * 10 * KIB))
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 6))
        body, is_over = unchunked(self.received())
        self.assertTrue(is_over)
        count = body.count(b"event: put")
        self.assertTrue(0 < count < 20, count)
        self.assertTrue(body.endswith(b'event: overflow\ndata: {"revision":%d}\n\n' % count), body[-80:])
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))

    def test_server_stops(self) -> None:
        """A stopping server ends streams and polls cleanly, so that their clients resume elsewhere."""
        self.open()
        self.each(Lane.connect)
        self.send(request("GET", "/v1/watch?poll=30"))
        connections = [[*lane.site._connections] for lane in self.lanes]
        stopped = [lane.site.drain() for lane in self.lanes]
        for lane, (stream, _) in zip(self.lanes, connections, strict=True):
            self.assertTrue(stream._tcp.value().endswith(b"0\r\n\r\n"))
            self.assertTrue(stream._tcp.disconnecting)
            lane.key_value.watches.refuse()
        (answer,) = parse_responses(self.received())
        self.assertEqual((answer.status, answer.json()), (200, {"events": [], "revision": 0}))
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))
        for lane, (stream, _) in zip(self.lanes, connections, strict=True):
            lane.connection = stream
            lane.hang_up()
        self.each(lambda lane: [setattr(lane, "connection", c) or lane.hang_up() for c in [*lane.site._connections]])
        for done in stopped:
            self.successResultOf(done)

    def test_state_turns_out_to_be_wrong(self) -> None:
        """Where a node may tell nothing any more its streams end, and their clients ask another one."""
        self.open()
        self.each(lambda lane: lane.key_value.watches.interrupt(Fenced))
        self.assertEqual(self.told_last(), "")


class PollTests(WatchedLaneTestCase):
    """One answer for one request."""

    def poll(self, query: str, *headers: str) -> Any:
        """Begin a poll, and return its answer if there is one at once."""
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        return self.parsed(self.send(request("GET", "/v1/watch?" + query, *headers)))

    def answer(self) -> Any:
        """Return the answer that has come since."""
        return self.parsed(self.received())

    def parsed(self, received: bytes) -> Any:
        if not received:
            return None
        (response,) = parse_responses(received)
        self.assertEqual(response.status, 200)
        return response.json()

    def test_waits_for_an_event(self) -> None:
        """The answer comes with the first event, with all of its revision, and tells where to go on."""
        self.assertIsNone(self.poll("prefix=a&poll=5"))
        self.write(put(b"b", b""))
        self.assertIsNone(self.answer())
        self.write(transaction([], [put(b"a", b"1"), put(b"a/b", b"2"), put(b"b", b"")], []))
        answer = self.answer()
        self.assertEqual([event["kv"]["key"] for event in answer["events"]], ["a", "a/b"])
        self.assertEqual(
            answer["events"][0],
            {
                "type": "put",
                "kv": {"key": "a", "value": "1", "create_revision": 2, "mod_revision": 2, "version": 1, "lease": 0},
                "prev_kv": None,
            },
        )
        self.assertEqual(answer["revision"], 2)
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))

    def test_nothing_happens(self) -> None:
        """Without events the answer comes in time, empty, and tells where to go on all the same."""
        self.assertIsNone(self.poll("key=a&poll=2"))
        self.write(put(b"b", b""), put(b"b", b""))
        self.each(lambda lane: lane.clock.advance(1.9))
        self.assertIsNone(self.answer())
        self.each(lambda lane: lane.clock.advance(0.2))
        self.assertEqual(self.answer(), {"events": [], "revision": 2})

    def test_at_once(self) -> None:
        """With poll=0 the answer has what there is, and waits for nothing."""
        self.assertEqual(self.poll("key=a&poll=0"), {"events": [], "revision": 0})
        self.write(put(b"a", b"1"), put(b"b", b""), delete(b"a"))
        answer = self.poll("key=a&poll=0&from_revision=1&prev_kv=false")
        self.assertEqual([event["type"] for event in answer["events"]], ["put", "delete"])
        self.assertEqual([sorted(event) for event in answer["events"]], [["kv", "type"]] * 2)
        self.assertEqual(answer["revision"], 3)
        self.assertEqual(
            self.poll("key=a&poll=0", "Last-Event-ID: 1")["events"],
            answer["events"][1:]
            and [
                {
                    "type": "delete",
                    "kv": {"key": "a", "mod_revision": 3},
                    "prev_kv": {
                        "key": "a",
                        "value": "1",
                        "create_revision": 1,
                        "mod_revision": 1,
                        "version": 1,
                        "lease": 0,
                    },
                }
            ],
        )
        self.assertEqual(self.poll("key=a&poll=0&from_revision=9"), {"events": [], "revision": 8})

    def test_chain(self) -> None:
        """Whoever polls on from revision + 1 gets every event once, however they fall between the polls."""
        self.write(*(put(b"a", b"%d" % number) for number in range(5)))
        seen, first = [], 1
        for number in range(5, 12):
            answer = self.poll(f"key=a&poll=1&from_revision={first}")
            if answer is None:
                self.each(lambda lane: lane.clock.advance(1.1))
                answer = self.answer()
            seen += [int(event["kv"]["value"]) for event in answer["events"]]
            first = answer["revision"] + 1
            if number != 7:
                self.write(put(b"a", b"%d" % (number if number < 7 else number - 1)), put(b"b", b""))
        self.assertEqual(seen, sorted(set(seen)))
        self.assertEqual(seen, [*range(len(seen))])

    def test_compacted(self) -> None:
        """What is no longer kept is 410, as for reads."""
        self.write(put(b"a", b""), put(b"a", b""), compact(2))
        self.poll_refused("key=a&poll=1&from_revision=1", 410, "compacted", "compact_revision", 2)

    def test_another_history(self) -> None:
        """B61: a revision that this cluster cannot have told is 400."""
        self.write(put(b"a", b""))
        self.poll_refused("key=a&poll=1", 400, "future_revision", "revision", 1, "Last-Event-ID: 5")

    def poll_refused(self, query: str, status: int, code: str, fact: str, value: int, *headers: str) -> None:
        response = self.ask("GET", "/v1/watch?" + query, *headers)
        self.assert_refused(response, status, code)
        self.assertEqual(response.json()[fact], value)

    def test_client_goes(self) -> None:
        """A client that hangs up takes its watch with it."""
        self.poll("key=a&poll=30")
        self.each(Lane.hang_up)
        self.each(lambda lane: self.assertEqual(len(lane.key_value.watches), 0))

    def test_stops_when_there_is_enough(self) -> None:
        """A long history comes in several answers, each of whole revisions."""
        self.patch(polling, "ENOUGH_BYTES", 1000)
        for _ in range(20):
            self.write(transaction([], [put(b"a", b"x" * 100), put(b"b", b"y" * 100)], []))
        seen: list[int] = []
        first = 1
        for _ in range(20):
            answer = self.poll(f"poll=0&from_revision={first}&prev_kv=false")
            seen += [event["kv"]["mod_revision"] for event in answer["events"]]
            first = answer["revision"] + 1
            self.assertLess(len(answer["events"]), 10)
        self.assertEqual(seen, [revision for revision in range(1, 21) for _ in range(2)])

    def test_large_revision(self) -> None:
        """A revision that changes very much is one answer all the same, which leaves in pieces."""
        self.patch(polling, "ENOUGH_BYTES", 1000)
        self.patch(polling, "WHOLE_BYTES", 1000)
        self.write(*(put(b"k%04d" % number, b"") for number in range(2000)))
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.connect(room_bytes=64 * KIB))
        self.send(request("GET", "/v1/watch?poll=30"))
        self.write(delete_range(b"", b""))
        received = self.received()
        self.assertLess(len(received), 130 * KIB)
        while not received.endswith(b"0\r\n\r\n"):
            self.each(lambda lane: lane.connection.resumeProducing())
            self.each(lambda lane: lane.clock.advance(0))
            more = self.received()
            self.assertTrue(more)
            received += more
        body, _ = unchunked(head_and_rest(received)[1])
        answer = json.loads(body)
        self.assertEqual([event["kv"]["key"] for event in answer["events"]], [f"k{n:04}" for n in range(2000)])
        self.assertEqual(answer["revision"], 2001)

    def test_large_answer_to_a_slow_reader(self) -> None:
        """A reader that stops in the middle of a large answer is dropped, and never takes the part for the whole."""
        self.patch(polling, "WHOLE_BYTES", 1000)
        self.write(*(put(b"k%04d" % number, b"") for number in range(2000)))
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.connect(room_bytes=64 * KIB))
        self.send(request("GET", "/v1/watch?poll=30"))
        self.write(delete_range(b"", b""))
        self.each(lambda lane: lane.clock.pump([SWEEP_SECONDS] * 31))
        self.assertFalse(unchunked(head_and_rest(self.received())[1])[1])
        self.each(lambda lane: self.assertTrue(lane.transport.aborted))
