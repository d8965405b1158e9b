"""``GET`` and ``DELETE /v1/kv``, and reads of the past, through both lanes."""

from __future__ import annotations

import base64
import json
from typing import Any
from urllib.parse import quote

from raftkv.errors import Fenced
from raftkv.kvstore import commands
from raftkv.reading import ranges
from raftkv.reading.ranges import RangeRequest
from raftkv.reading.tokens import ContinueTokens
from tests.web.lanes import Lane, LaneTestCase, Response, request


class RangeTestCase(LaneTestCase):
    """A store with some keys in it."""

    keys: tuple[str, ...] = ("a", "p/1", "p/2", "p/x/1", "p/x/2", "p/y/1", "q", "é")

    def setUp(self) -> None:
        super().setUp()
        self.apply(*[commands.put(key.encode(), b"v-" + key.encode()) for key in self.keys])

    def apply(self, *more: Any) -> None:
        """Apply commands to the stores of both lanes."""
        self.each(lambda lane: lane.key_value.apply(*more))

    def range(self, query: str = "") -> Any:
        """Return the answer to a range."""
        return self.ask_json("GET", f"/v1/kv?{query}")

    def keys_of(self, query: str = "") -> list[str]:
        """Return the keys of one page."""
        return [record["key"] for record in self.range(query)["kvs"]]

    def pages(self, query: str, limit: int) -> list[Any]:
        """Return all pages of a range, each of ``limit`` at the most."""
        pages = [self.range(f"{query}&limit={limit}")]
        while pages[-1]["continue"] is not None:
            pages.append(self.range(f"{query}&limit={limit}&continue={pages[-1]['continue']}"))
        return pages


class RangeTests(RangeTestCase):
    """What comes back."""

    def test_prefix(self) -> None:
        """A prefix gives all its keys in order, their number and the revision."""
        answer = self.range("prefix=p/")
        self.assertEqual([record["key"] for record in answer["kvs"]], ["p/1", "p/2", "p/x/1", "p/x/2", "p/y/1"])
        self.assertEqual(
            answer["kvs"][0], {"key": "p/1", "value": "v-p/1", "create_revision": 2, "mod_revision": 2, "version": 1}
        )
        self.assertEqual((answer["count"], answer["continue"], answer["revision"]), (5, None, 8))

    def test_start_and_end(self) -> None:
        """Start is inclusive, end is exclusive, either may be missing; without both it is every key."""
        self.assertEqual(self.keys_of("start=p/2&end=q"), ["p/2", "p/x/1", "p/x/2", "p/y/1"])
        self.assertEqual(self.keys_of("start=q"), ["q", "é"])
        self.assertEqual(self.keys_of("end=p/2"), ["a", "p/1"])
        self.assertEqual(self.keys_of(), list(self.keys))
        self.assertEqual(self.keys_of("prefix="), list(self.keys))
        self.assertEqual(self.keys_of("start=q&end=a"), [])
        self.assertEqual(self.keys_of(f"prefix={quote('é')}"), ["é"])

    def test_nothing(self) -> None:
        """A range without keys is empty, at the store's revision."""
        self.assertEqual(self.range("prefix=none"), {"kvs": [], "count": 0, "continue": None, "revision": 8})

    def test_values_that_are_no_text(self) -> None:
        """Any bytes come back, and a record that has a lease names it."""
        self.apply(commands.grant(60_000), commands.put(b"z", b"\xff", lease=1))
        (record,) = self.range("prefix=z")["kvs"]
        self.assertEqual((base64.b64decode(record["value_base64"]), record["lease"]), (b"\xff", 1))
        self.assertEqual(self.ask_json("GET", "/get?key=z")["lease"], 1)

    def test_reverse(self) -> None:
        """From the last key to the first."""
        self.assertEqual(self.keys_of("reverse=true&prefix=p/x"), ["p/x/2", "p/x/1"])

    def test_keys_only_and_count_only(self) -> None:
        """Without values, or without records at all."""
        (record,) = self.range("prefix=q&keys_only=true")["kvs"]
        self.assertEqual(record, {"key": "q", "create_revision": 7, "mod_revision": 7, "version": 1})
        self.assertEqual(self.range("prefix=p/&count_only=true"), {"count": 5, "revision": 8})

    def test_count_does_not_depend_on_limit(self) -> None:
        """``count`` is that of the whole range."""
        answer = self.range("prefix=p/&limit=2")
        self.assertEqual((len(answer["kvs"]), answer["count"]), (2, 5))

    def test_delimiter(self) -> None:
        """One level: keys behind the delimiter are told as folders, each once."""
        answer = self.range("prefix=p/&delimiter=/")
        self.assertEqual([record["key"] for record in answer["kvs"]], ["p/1", "p/2"])
        self.assertEqual((answer["folders"], answer["count"]), (["p/x/", "p/y/"], 5))
        self.assertEqual(self.range("delimiter=/")["folders"], ["p/"])
        self.assertEqual(self.range("prefix=p/&delimiter=/&reverse=true")["folders"], ["p/y/", "p/x/"])

    def test_head(self) -> None:
        """HEAD has the head of the answer and no body."""
        answer = self.ask("HEAD", "/v1/kv?prefix=p/")
        self.assertEqual((answer.status, answer.body), (200, b""))

    def test_nothing_is_read_before_the_barrier(self) -> None:
        """A range is read when it may be, at the consistency that was asked for (B32)."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(request("GET", "/v1/kv?prefix=new&consistency=lease"))
        self.apply(commands.put(b"new", b""))
        self.each(lambda lane: lane.key_value.let_through())
        self.assertIn(b'"key":"new"', self.received())
        self.assertEqual(self.fast.key_value.consistencies, ["lease"])

    def test_stale(self) -> None:
        """A stale range tells its age, and takes the bound of a stale read."""
        self.each(lambda lane: setattr(lane.key_value, "age", 0.5))
        answer = self.ask("GET", "/v1/kv?prefix=p/&consistency=stale&max_stale=2")
        self.assertEqual((answer.status, answer.headers[b"X-Raft-Staleness"]), (200, b"0.500"))
        self.assertEqual(self.fast.key_value.bounds, [2.0])


class PageTests(RangeTestCase):
    """``limit`` and ``continue``."""

    def test_all_pages(self) -> None:
        """The pages together are the range, each in order, none twice, whichever way."""
        for query in ("prefix=p/", "prefix=p/&reverse=true", "start=b", ""):
            for limit in (1, 2, 3, 7):
                pages = self.pages(query, limit)
                self.assertEqual([r["key"] for page in pages for r in page["kvs"]], self.keys_of(query))
                self.assertEqual({page["count"] for page in pages}, {self.range(query)["count"]})
                self.assertTrue(all(len(page["kvs"]) == limit for page in pages[:-1]))

    def test_folders_in_pages(self) -> None:
        """Folders count towards the limit, and come on one page each."""
        for reverse in ("", "&reverse=true"):
            for limit in (1, 2, 3):
                pages = self.pages(f"prefix=p/&delimiter=/{reverse}", limit)
                whole = self.range(f"prefix=p/&delimiter=/{reverse}")
                self.assertEqual([r["key"] for p in pages for r in p["kvs"]], [r["key"] for r in whole["kvs"]])
                self.assertEqual([folder for p in pages for folder in p["folders"]], whole["folders"])
                self.assertTrue(all(len(p["kvs"]) + len(p["folders"]) <= limit for p in pages))

    def test_pages_are_of_one_moment(self) -> None:
        """What is written behind the first page does not show on the next one."""
        first = self.range("prefix=p/&limit=2")
        self.apply(commands.put(b"p/3", b"new"), commands.delete(b"p/x/1"), commands.put(b"p/x/2", b"other"))
        second = self.range(f"prefix=p/&limit=9&continue={first['continue']}")
        self.assertEqual([r["key"] for r in second["kvs"]], ["p/x/1", "p/x/2", "p/y/1"])
        self.assertEqual(second["kvs"][1]["value"], "v-p/x/2")
        self.assertEqual((second["revision"], second["count"]), (first["revision"], first["count"]))

    def test_compacted_between_pages(self) -> None:
        """A range whose revision is gone says so, and which can still be read."""
        first = self.range("prefix=p/&limit=2")
        self.apply(commands.put(b"b", b""), commands.compact(9))
        refused = self.ask("GET", f"/v1/kv?prefix=p/&continue={first['continue']}")
        self.assert_refused(refused, 410, "compacted")
        self.assertEqual(refused.json()["compact_revision"], 9)

    def test_only_limit_and_consistency_may_differ(self) -> None:
        """A token is for the request that it came with."""
        token = self.range("prefix=p/&limit=2")["continue"]
        self.range(f"prefix=p/&limit=1&consistency=stale&continue={token}")
        for query in (
            "prefix=p",
            "prefix=q",
            "",
            "start=p/",
            "prefix=p/&reverse=true",
            "prefix=p/&keys_only=true",
            "prefix=p/&count_only=true",
            "prefix=p/&delimiter=/",
            "prefix=p/&revision=1",
        ):
            refused = self.ask("GET", f"/v1/kv?{query}&continue={token}")
            self.assert_refused(refused, 400, "bad_request", "continue", "another request")

    def test_tampered_tokens(self) -> None:
        """A token of which any character was changed, cut or added is 400 and names the parameter."""
        token = self.range("prefix=p/&limit=2")["continue"]
        others = [token[:at] + ("A" if token[at] != "A" else "B") + token[at + 1 :] for at in range(len(token))]
        others += [token[:-1], token + "A", token + "=", token[:5] + "!" + token[5:], "", "x", "AAAA" * 5000]
        for other in others:
            refused = self.ask("GET", f"/v1/kv?prefix=p/&continue={quote(other)}")
            self.assert_refused(refused, 400, "bad_request", "continue")

    def test_tokens_that_were_made_on_purpose(self) -> None:
        """Who knows how tokens are made gets neither out of the range nor to a fault of ours."""
        tokens = ContinueTokens(lambda: "c0ffee")
        request = RangeRequest(start=b"p/", end=b"p0")
        good = (8, 5, b"p/x/1")
        self.range(f"prefix=p/&continue={tokens.seal(request.identity(), good)}")
        for position in (
            (8, 5, b"a"),
            (8, 5, b"q"),
            (0, 5, b"p/2"),
            (-1, 5, b"p/2"),
            ("8", 5, b"p/2"),
            (8, 5, "p/2"),
            (8, None, b"p/2"),
            (True, 5, b"p/2"),
            (8, 5),
            (8, 5, b"p/2", 1),
            (),
            ((8, 5, b"p/2"),),
        ):
            token = tokens.seal(request.identity(), position)
            self.assert_refused(self.ask("GET", f"/v1/kv?prefix=p/&continue={token}"), 400, "bad_request", "continue")
        for payload in (b"", b"\xc1", b"\x81\x01\x02", b"\xdd\xff\xff\xff\xff", b"\x93\x08\x05"):
            sealed = tokens._seal_of(request.identity(), payload) + payload
            token = base64.urlsafe_b64encode(sealed).rstrip(b"=").decode()
            self.assert_refused(self.ask("GET", f"/v1/kv?prefix=p/&continue={token}"), 400, "bad_request", "continue")
        for target, what, after in (
            ("/v1/leases", "leases", b"x"),
            ("/v1/locks", "locks", 7),
            ("/v1/locks", "locks", "l"),
        ):
            refused = self.ask("GET", f"{target}?continue={tokens.seal((what,), (after,))}")
            self.assert_refused(refused, 400, "bad_request", "continue")

    def test_token_of_another_cluster(self) -> None:
        """Revisions of another cluster mean something else."""
        token = self.range("prefix=p/&limit=2")["continue"]
        self.each(lambda lane: setattr(lane.node, "cluster_id", "other"))
        self.assert_refused(self.ask("GET", f"/v1/kv?prefix=p/&continue={token}"), 400, "bad_request", "continue")

    def test_another_node_goes_on(self) -> None:
        """A node that has not come so far as the one that made the token asks the leader, also for a stale page."""
        token = self.range("prefix=p/&limit=2")["continue"]
        behind = Lane(has_fast_lane=True, settings=self.settings)
        self.addCleanup(behind.hang_up)
        behind.key_value.apply(commands.put(b"a", b"v-a"))
        behind.key_value.holds = True
        target = f"/v1/kv?prefix=p/&consistency=stale&continue={token}"
        behind.connection.dataReceived(request("GET", target))
        behind.key_value.let_through()
        self.assertEqual(behind.received(), b"")
        behind.key_value.apply(*[commands.put(key.encode(), b"v-" + key.encode()) for key in self.keys[1:]])
        behind.key_value.let_through()
        self.assertIn(b'"key":"p/x/1"', behind.received())
        self.assertEqual(behind.key_value.consistencies, ["stale", "lease"])


class BigRangeTestCase(RangeTestCase):
    """More keys than fit into one step."""

    keys = tuple(f"k/{number:05}" for number in range(2_500))

    def stream(self, target: str) -> Any:
        """Return the document of an answer in pieces, from both lanes the same."""
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        self.each(lambda lane: lane.connection.dataReceived(request("GET", target)))
        documents = [self.drawn(lane) for lane in self.lanes]
        self.assertEqual(documents[0], documents[1])
        return documents[0]

    def drawn(self, lane: Lane) -> Any:
        """Let a lane tell the rest of its answer."""
        data = lane.received()
        while not data.endswith(b"0\r\n\r\n"):
            self.assertTrue(lane.clock.getDelayedCalls(), "the answer does not go on")
            lane.clock.advance(0)
            data += lane.received()
        head, _, body = data.partition(b"\r\n\r\n")
        self.assertIn(b"Transfer-Encoding: chunked", head.replace(b"transfer-encoding", b"Transfer-Encoding"))
        return json.loads(b"".join(_chunks(body)))


def _chunks(body: bytes) -> list[bytes]:
    chunks = []
    while body:
        size, _, body = body.partition(b"\r\n")
        chunks.append(body[: int(size, 16)])
        body = body[int(size, 16) + 2 :]
    return chunks


class StreamTests(BigRangeTestCase):
    """Large ranges come in pieces."""

    def test_whole(self) -> None:
        """Everything comes, in order, in the same shape as a small answer."""
        answer = self.stream("/v1/kv?prefix=k/")
        self.assertEqual([record["key"] for record in answer["kvs"]], list(self.keys))
        self.assertEqual((answer["count"], answer["continue"], answer["revision"]), (2500, None, 2500))

    def test_limit_over_several_pieces(self) -> None:
        """A large page ends where it should, and the next one goes on there."""
        first = self.stream("/v1/kv?prefix=k/&limit=1700&reverse=true")
        second = self.stream(f"/v1/kv?prefix=k/&limit=1700&reverse=true&continue={first['continue']}")
        keys = [record["key"] for page in (first, second) for record in page["kvs"]]
        self.assertEqual((keys, len(first["kvs"]), second["continue"]), ([*reversed(self.keys)], 1700, None))

    def test_many_folders(self) -> None:
        """Folders come behind all the records, however many there are of either."""
        self.apply(*[commands.put(b"f/%d/x" % number, b"") for number in range(900)])
        self.apply(*[commands.put(b"f/k%d" % number, b"") for number in range(700)])
        answer = self.stream("/v1/kv?prefix=f/&delimiter=/")
        self.assertEqual((len(answer["kvs"]), len(set(answer["folders"])), answer["count"]), (700, 900, 1600))
        first = self.stream("/v1/kv?prefix=f/&delimiter=/&limit=1000")
        second = self.stream(f"/v1/kv?prefix=f/&delimiter=/&limit=1000&continue={first['continue']}")
        self.assertEqual(first["folders"] + second["folders"], answer["folders"])
        self.assertEqual(first["kvs"] + second["kvs"], answer["kvs"])

    def test_of_one_moment(self) -> None:
        """Writes between the pieces do not show."""
        self.each(lambda lane: lane.connection.dataReceived(request("GET", "/v1/kv?prefix=k/")))
        for lane in self.lanes:
            lane.clock.advance(0)
            lane.key_value.apply(commands.delete_range(b"k/", b"l"), commands.put(b"k/00000x", b"new"))
            self.assertEqual([r["key"] for r in self.drawn(lane)["kvs"]], list(self.keys))

    def test_steps_are_small(self) -> None:
        """No piece has more than a step's worth of records: others have their turn in between."""
        self.each(lambda lane: lane.connection.dataReceived(request("GET", "/v1/kv?prefix=k/")))
        for lane in self.lanes:
            self.drawn(lane)
            pieces = lane.transport.writes
            self.assertLessEqual(max(piece.count(b'"key"') for piece in pieces), ranges.STEP_RECORDS)
            self.assertGreater(len(pieces), 2500 // ranges.STEP_RECORDS)

    def test_client_that_does_not_read(self) -> None:
        """Nothing is drawn ahead of a client."""
        for lane in self.lanes:
            lane.connect(room_bytes=1000)
            lane.connection.dataReceived(request("GET", "/v1/kv?prefix=k/"))
            for _ in range(20):
                lane.clock.advance(0)
            told = lane.received()
            self.assertLessEqual(told.count(b'"key"'), 2 * ranges.STEP_RECORDS)
            self.assertEqual(lane.received(), b"")
            lane.hang_up()

    def test_compacted_midway(self) -> None:
        """A client never takes a part for the whole: the connection breaks off when the revision is gone."""
        self.each(lambda lane: lane.connection.dataReceived(request("GET", "/v1/kv?prefix=k/")))
        for lane in self.lanes:
            lane.key_value.apply(commands.put(b"z", b""), commands.compact(2501))
            lane.clock.advance(0)
            lane.clock.advance(0)
            self.assertTrue(lane.transport.aborted)
            self.assertFalse(lane.received().endswith(b"0\r\n\r\n"))

    def test_state_found_wrong_midway(self) -> None:
        """What is no longer to be read is not read on."""
        self.each(lambda lane: lane.connection.dataReceived(request("GET", "/v1/kv?prefix=k/")))
        for lane in self.lanes:
            lane.key_value.refusal = Fenced()
            lane.clock.advance(0)
            lane.clock.advance(0)
            self.assertTrue(lane.transport.aborted)

    def test_client_that_leaves(self) -> None:
        """Nothing goes on for a client that has gone."""
        for lane in self.lanes:
            lane.connection.dataReceived(request("GET", "/v1/kv?prefix=k/"))
            lane.hang_up()
            lane.clock.advance(0)
            self.assertEqual(lane.clock.getDelayedCalls(), [])

    def test_the_past_of_a_range_that_has_grown(self) -> None:
        """Keys that were not there then are looked at in small steps too, for the count and for the records."""
        self.apply(*[commands.put(b"n/%05d" % number, b"") for number in range(9_000)])
        self.apply(commands.put(b"n/zzz", b"last"))
        answer = self.stream("/v1/kv?revision=2499")
        self.assertEqual(([r["key"] for r in answer["kvs"]], answer["count"]), (list(self.keys[:-1]), 2499))
        counted = self.stream("/v1/kv?revision=2499&count_only=true")
        self.assertEqual(counted, {"count": 2499, "revision": 2499})
        backwards = self.stream("/v1/kv?prefix=n/&revision=2600&reverse=true")
        self.assertEqual((len(backwards["kvs"]), backwards["count"]), (100, 100))


class PastTests(RangeTestCase):
    """``revision=``."""

    keys = ("a", "b")

    def setUp(self) -> None:
        super().setUp()
        self.apply(commands.put(b"a", b"second"), commands.delete(b"b"), commands.put(b"c", b"new"))

    def test_keys(self) -> None:
        """A key is read as it was, also one that is no more."""
        for target in ("/get?key=a&revision=2", "/v1/kv/a?revision=1"):
            answer = self.ask_json("GET", target)
            self.assertEqual((answer["value"], answer["mod_revision"]), ("v-a", 1))
        self.assertEqual(self.ask("GET", "/v1/kv/a?revision=2").headers[b"ETag"], b'"1"')
        self.assertEqual(self.ask_json("GET", "/get?key=b&revision=3")["value"], "v-b")
        self.assert_refused(self.ask("GET", "/get?key=b&revision=4"), 404, "key_not_found")
        self.assert_refused(self.ask("GET", "/get?key=c&revision=4"), 404, "key_not_found")

    def test_ranges(self) -> None:
        """So is a range, with the number of its keys then."""
        answer = self.range("revision=2")
        self.assertEqual([record["value"] for record in answer["kvs"]], ["v-a", "v-b"])
        self.assertEqual((answer["count"], answer["revision"]), (2, 2))
        self.assertEqual(self.range("revision=2&count_only=true"), {"count": 2, "revision": 2})

    def test_pages_of_the_past(self) -> None:
        """Pages of an old revision go on at that revision."""
        pages = self.pages("revision=2", 1)
        self.assertEqual([record["key"] for page in pages for record in page["kvs"]], ["a", "b"])

    def test_future(self) -> None:
        """A revision that has not been yet is 400, with the store's own (B58)."""
        for target in ("/get?key=a&revision=6", "/v1/kv/a?revision=6", "/v1/kv?revision=6"):
            refused = self.ask("GET", target)
            self.assert_refused(refused, 400, "future_revision")
            self.assertEqual(refused.json()["revision"], 5)

    def test_compacted(self) -> None:
        """A revision that was compacted is 410, with the oldest one that can be read; that one can be."""
        self.assertEqual(
            self.ask_json("POST", "/v1/compact", body=b'{"revision":3}'), {"compact_revision": 3, "revision": 5}
        )
        for target in ("/get?key=a&revision=2", "/v1/kv/a?revision=2", "/v1/kv?revision=2"):
            refused = self.ask("GET", target)
            self.assert_refused(refused, 410, "compacted", "3")
            self.assertEqual(refused.json()["compact_revision"], 3)
        self.assertEqual(self.ask_json("GET", "/get?key=b&revision=3")["value"], "v-b")

    def test_compaction(self) -> None:
        """Compacting again to the present one is 200; to less is 410, to more than there is 400."""

        def compact(revision: int) -> Response:
            return self.ask("POST", "/v1/compact", body=b'{"revision":%d}' % revision)

        self.assertEqual(compact(3).status, 200)
        self.assertEqual(compact(3).status, 200)
        self.assert_refused(compact(2), 410, "compacted")
        self.assert_refused(compact(6), 400, "future_revision")
        for body in (b"{}", b'{"revision":0}', b'{"revision":-1}', b'{"revision":"3"}', b'{"revision":true}', b""):
            self.assertEqual(self.ask("POST", "/v1/compact", body=body).status, 400, body)

    def test_revision_parameter(self) -> None:
        """It is a whole number from 1 (B59)."""
        for wrong in ("0", "-1", "", "1.0", "x", "9223372036854775808", "%D9%A1", "+1", "01x"):
            for target in ("/get?key=a&", "/v1/kv/a?", "/v1/kv?"):
                refused = self.ask("GET", f"{target}revision={wrong}")
                self.assert_refused(refused, 400, "bad_request", "revision")


class DeleteTests(RangeTestCase):
    """``DELETE /v1/kv``."""

    def test_prefix(self) -> None:
        """Everything under a prefix goes in one revision, and a second time nothing does."""
        self.assertEqual(self.ask_json("DELETE", "/v1/kv?prefix=p/"), {"deleted": 5, "revision": 9})
        self.assertEqual(self.keys_of(), ["a", "q", "é"])
        self.assertEqual(self.ask_json("DELETE", "/v1/kv?prefix=p/"), {"deleted": 0, "revision": 9})

    def test_edges(self) -> None:
        """So does a range, and everything where the prefix is empty."""
        self.assertEqual(self.ask_json("DELETE", "/v1/kv?start=p/2&end=p/y"), {"deleted": 3, "revision": 9})
        self.assertEqual(self.ask_json("DELETE", "/v1/kv?prefix="), {"deleted": 5, "revision": 10})

    def test_once(self) -> None:
        """A repeat deletes nothing anew and is answered as the first one was (B63)."""
        headers = ("X-Client-Id: c", "X-Request-Seq: 1")
        for _ in range(2):
            self.assertEqual(self.ask_json("DELETE", "/v1/kv?prefix=p/", *headers)["deleted"], 5)
            self.apply(commands.put(b"p/new", b""))

    def test_bad(self) -> None:
        """What does not say clearly what is to go deletes nothing."""
        for query in (
            "",
            "end=",
            "start=a&end=",
            "prefix=a&start=a",
            "prefix=a&end=b",
            "prefix=%ff",
            "limit=1&prefix=a",
        ):
            refused = self.ask("DELETE", f"/v1/kv?{query}")
            self.assertEqual((query, refused.status), (query, 400))
        self.assertEqual(self.ask("DELETE", "/v1/kv?prefix=p", 'If-Match: "1"').status, 400)
        self.assertEqual(len(self.keys_of()), 8)


class BadRangeTests(RangeTestCase):
    """Parameters of a range that are wrong, each named."""

    def test_each(self) -> None:
        """400, and the message has the name."""
        for query, name in (
            ("limit=0", "limit"),
            ("limit=-1", "limit"),
            ("limit=9223372036854775808", "limit"),
            ("limit=1e3", "limit"),
            ("limit=", "limit"),
            ("limit=true", "limit"),
            ("reverse=yes", "reverse"),
            ("keys_only=", "keys_only"),
            ("count_only=2", "count_only"),
            ("delimiter=", "delimiter"),
            ("delimiter=%ff", "delimiter"),
            ("prefix=%c3", "prefix"),
            ("start=%ff", "start"),
            ("end=%ff", "end"),
            ("end=", "end"),
            ("prefix=a&end=b", "prefix"),
            ("prefix=a&prefix=b", "prefix"),
            ("limit=1&limit=1", "limit"),
            ("cursor=x", "cursor"),
            ("consistency=none", "consistency"),
            ("max_stale=1", "max_stale"),
            ("key=a", "key"),
        ):
            self.assert_refused(self.ask("GET", f"/v1/kv?{query}"), 400, "bad_request", name)
        self.assert_refused(self.ask("GET", f"/v1/kv?prefix={'x' * 4097}"), 413, "too_large", "prefix")
        self.assert_refused(self.ask("POST", "/v1/kv", body=b"{}"), 405, "method_not_allowed")
