"""The endpoints for snapshots, through both lanes."""

from __future__ import annotations

from typing import Any

from raftkv import errors
from tests.web.lanes import Lane, LaneTestCase, Response, parse_responses, request


class SnapshotsTestCase(LaneTestCase):
    """What reaches the node's snapshots, and what comes back."""

    def asked(self) -> list[tuple[Any, ...]]:
        """Return, once, what both nodes were asked for."""
        fast, klein = (list(lane.backups.asked) for lane in self.lanes)
        self.assertEqual(fast, klein)
        self.each(lambda lane: lane.backups.asked.clear())
        return fast


class ControlTests(SnapshotsTestCase):
    """Taking and listing."""

    def test_take(self) -> None:
        """A snapshot is taken with the consistency that is asked for, and described."""
        self.assertEqual(self.ask_json("POST", "/v1/snapshots"), self.fast.backups.backup.facts)
        self.ask_json("POST", "/v1/snapshots?consistency=stale")
        self.assertEqual(self.asked(), [("take", "linearizable"), ("take", "stale")])

    def test_list(self) -> None:
        """All of them are listed."""
        self.assertEqual(self.ask_json("GET", "/v1/snapshots"), {"snapshots": [self.fast.backups.backup.facts]})
        self.assertEqual(self.asked(), [("list",)])

    def test_archive(self) -> None:
        """The log is archived, and how far it is told."""
        self.assertEqual(self.ask_json("POST", "/v1/archive")["archived_index"], 12)
        self.assertEqual(self.ask("GET", "/v1/archive").status, 405)
        self.assertEqual(self.asked(), [("archive",)])

    def test_refusals(self) -> None:
        """What is no such request is refused before the node hears of it."""
        for method, target, status in (
            ("POST", "/v1/snapshots?consistency=none", 400),
            ("POST", "/v1/snapshots?fresh=true", 400),
            ("GET", "/v1/snapshots/latest?fresh=perhaps", 400),
            ("GET", "/v1/snapshots/latest?consistency=stale", 400),
            ("GET", "/v1/snapshots/latest?fresh=1&consistency=none", 400),
            ("DELETE", "/v1/snapshots/latest", 405),
            ("GET", "/v1/snapshots/7", 404),
        ):
            self.assertEqual((target, self.ask(method, target).status), (target, status))
        self.assertEqual(self.asked(), [])

    def test_errors(self) -> None:
        """What the node says is told with its status and its outcome."""
        for error, status in (
            (errors.Conflict("there is nothing new"), 409),
            (errors.NoLeader(), 503),
            (errors.Fenced(), 503),
            (errors.RequestTimeout("no answer", "unknown"), 504),
        ):
            for lane in self.lanes:
                lane.backups.refusal = error
            self.assert_refused(self.ask("POST", "/v1/snapshots"), status, error.code)
            self.assert_refused(self.ask("GET", "/v1/snapshots"), status, error.code)
            self.assert_refused(self.ask("GET", "/v1/snapshots/latest"), status, error.code)


class DownloadTests(SnapshotsTestCase):
    """A backup on its way to a client."""

    def closed(self) -> list[int]:
        """Return how often each node's backup was closed."""
        return [lane.backups.backup.closed for lane in self.lanes]

    def download(self, target: str = "/v1/snapshots/latest", *headers: str, method: str = "GET") -> Response:
        """Fetch a backup, or a part of it."""
        return self.ask(method, target, *headers)

    def test_whole(self) -> None:
        """The bytes come as they are, with what they are in the headers; the snapshot is let go of once."""
        answer = self.download()
        facts = self.fast.backups.backup.facts
        self.assertEqual((answer.status, answer.body), (200, self.fast.backups.backup.data))
        self.assertEqual(answer.headers[b"Content-Type"], b"application/octet-stream")
        self.assertEqual(answer.headers[b"Content-Disposition"], b'attachment; filename="raftkv-c1c1c1c1-7.snapshot"')
        self.assertEqual(answer.headers[b"ETag"], b'"%b"' % facts["checksum"].encode())
        for name in ("Index", "Term", "Revision", "Bytes", "Checksum"):
            self.assertEqual(answer.headers[f"X-Raft-Snapshot-{name}".encode()], str(facts[name.lower()]).encode())
        self.assertEqual(self.asked(), [("open", None)])
        self.assertEqual(self.closed(), [1, 1])

    def test_fresh(self) -> None:
        """One of the present state is taken on request, as fresh as a read of that consistency."""
        self.download("/v1/snapshots/latest?fresh=true")
        self.download("/v1/snapshots/latest?fresh=true&consistency=stale")
        self.download("/v1/snapshots/latest?fresh=false")
        self.assertEqual(self.asked(), [("open", "linearizable"), ("open", "stale"), ("open", None)])

    def test_head(self) -> None:
        """HEAD tells what there is, and reads nothing."""
        answer = self.download(method="HEAD")
        self.assertEqual((answer.status, answer.headers[b"Content-Length"]), (200, b"256000"))
        self.assertEqual((self.fast.backups.backup.reads, self.closed()), ([], [1, 1]))

    def test_rest(self) -> None:
        """Who has a part gets the rest of the same snapshot, told by its checksum."""
        data = self.fast.backups.backup.data
        tag = self.fast.backups.backup.facts["checksum"]
        for asked, start, stop in (("1000-", 1000, 256_000), ("0-99", 0, 100), ("255999-300000", 255_999, 256_000)):
            answer = self.download("/v1/snapshots/latest", f"Range: bytes={asked}", f'If-Range: "{tag}"')
            self.assertEqual((answer.status, answer.body), (206, data[start:stop]))
            self.assertEqual(answer.headers[b"Content-Range"], b"bytes %d-%d/256000" % (start, stop - 1))
        self.assertEqual(self.asked(), [("again", tag)] * 3)
        self.assertEqual(self.download("/v1/snapshots/latest", "Range: bytes=5-6").body, data[5:7])
        self.assertEqual(self.asked(), [("open", None)])

    def test_rest_of_one_that_is_gone(self) -> None:
        """Who has a part of one that is gone gets the whole of another; likewise who asks for what is no part."""
        answer = self.download("/v1/snapshots/latest", "Range: bytes=1000-", 'If-Range: "77"')
        self.assertEqual((answer.status, len(answer.body)), (200, 256_000))
        self.assertEqual(self.asked(), [("again", "77"), ("open", None)])
        for odd in ("bytes=-5", "bytes=1-2,4-5", "lines=1-", "bytes=x-"):
            self.assertEqual(self.download("/v1/snapshots/latest", f"Range: {odd}").status, 200)

    def test_beyond_the_end(self) -> None:
        """A part that lies behind the end is refused, with the length."""
        answer = self.download("/v1/snapshots/latest", "Range: bytes=256000-")
        self.assert_refused(answer, 416, "bad_request", "256000")
        self.assertEqual(answer.headers[b"Content-Range"], b"bytes */256000")
        self.assertEqual(self.closed(), [1, 1])

    def test_no_faster_than_it_is_read(self) -> None:
        """A client that does not read keeps the node from reading on, and one that goes away lets the snapshot go."""
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.connect(room_bytes=100_000))
        self.each(lambda lane: lane.connection.dataReceived(request("GET", "/v1/snapshots/latest")))
        self.each(lambda lane: lane.clock.advance(0))
        self.assertEqual([len(lane.backups.backup.reads) for lane in self.lanes], [2, 2])
        self.assertEqual(self.closed(), [0, 0])
        self.each(Lane.hang_up)
        self.assertEqual(self.closed(), [1, 1])

    def test_node_takes_it_back(self) -> None:
        """A snapshot that is not to be given away any more breaks the connection: nobody takes a part for the whole."""
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        for lane in self.lanes:
            lane.backups.backup.holds = True
            lane.connection.dataReceived(request("GET", "/v1/snapshots/latest"))
            lane.backups.backup.waiting.pop().errback(errors.Fenced())
            lane.clock.advance(0)
            self.assertTrue(lane.transport.aborted)
        self.assertEqual(self.closed(), [1, 1])

    def test_second_request(self) -> None:
        """The connection goes on to the next request."""
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        data = self.send(request("GET", "/v1/snapshots/latest") + request("GET", "/v1/status"))
        self.assertEqual([answer.status for answer in parse_responses(data)], [200, 200])
