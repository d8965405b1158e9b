"""The key-value model on three real nodes, with requests as curl makes them: on any node, and over the end of one."""

from __future__ import annotations

import http.client
import json
import threading
import time
from collections.abc import Mapping
from typing import Any

from tests.functional.processes import FunctionalTestCase, Node, Response


class Waiting(threading.Thread):
    """A request that waits for its answer while the test goes on."""

    def __init__(
        self, node: Node, path: str, body: Mapping[str, Any], headers: Mapping[str, str] | None = None
    ) -> None:
        super().__init__(daemon=True)
        self._connection = http.client.HTTPConnection("127.0.0.1", node.http_port, timeout=60)
        self._request = (path, json.dumps(body), dict(headers or {}))
        self.response: Response | None = None
        self.error: Exception | None = None
        self.start()

    def run(self) -> None:
        path, body, headers = self._request
        try:
            self._connection.request("POST", path, body, headers)
            answer = self._connection.getresponse()
            self.response = Response(answer.status, {k.lower(): v for k, v in answer.getheaders()}, answer.read())
        except (OSError, http.client.HTTPException) as error:
            self.error = error

    def answer(self, limit_seconds: float = 30) -> Response:
        """Return the answer, once it is there."""
        self.join(limit_seconds)
        if self.response is None:
            raise AssertionError(f"no answer: {self.error!r}")
        return self.response

    def hang_up(self) -> None:
        """Close the connection."""
        sock = self._connection.sock
        sock.shutdown(2)
        self.join(5)
        self._connection.close()


class KeyValueTestCase(FunctionalTestCase):
    """Three nodes, one of which leads."""

    def setUp(self) -> None:
        super().setUp()
        self.cluster = self.make_cluster()
        self.first = self.leader(self.cluster)
        self.followers = [node for node in self.cluster if node is not self.first]

    def ask(self, node: Node, method: str, path: str, body: Any = None, status: int = 200, **headers: str) -> Any:
        """Make a request that must be answered with a status; return its document."""
        named = {name.replace("_", "-"): value for name, value in headers.items()}
        answer = node.request(method, path, body, headers=named)
        self.assertEqual((path, answer.status), (path, status), answer.body)
        return answer.json

    def waiting(self, node: Node, name: str, count: int) -> None:
        """Wait until so many wait for a lock."""
        self.wait_until(
            lambda: self.ask(node, "GET", f"/v1/locks/{name}")["waiting"] == count, f"{count} to wait for {name}"
        )


class EndpointTests(KeyValueTestCase):
    """Every endpoint, through the leader and through a follower."""

    def test_each(self) -> None:
        """What one node has done another one tells."""
        for number, (writer, reader) in enumerate(
            ((self.first, self.followers[0]), (self.followers[0], self.followers[1]), (self.followers[1], self.first))
        ):
            self.check_ranges(writer, reader, f"r{number}/")
            self.check_transactions(writer, reader, f"t{number}")
            self.check_leases(writer, reader, f"l{number}")
            self.check_locks(writer, reader, f"k{number}")
            self.check_election(writer, reader, f"e{number}")
        digests = {node.request("GET", "/v1/kv?prefix=r&keys_only=true").body for node in self.cluster}
        self.assertEqual(len(digests), 1)

    def check_ranges(self, writer: Node, reader: Node, prefix: str) -> None:
        """Ranges, pages that go on at another node, the past, and its end."""
        for number in range(30):
            put = {"op": "put", "value": "x" * 50}
            operations = [{**put, "key": f"{prefix}{number:02}/{each:02}"} for each in range(60)]
            revision = self.ask(writer, "POST", "/v1/txn", {"success": operations})["revision"]
        whole = self.ask(reader, "GET", f"/v1/kv?prefix={prefix}")
        self.assertEqual((len(whole["kvs"]), whole["count"], whole["revision"]), (1800, 1800, revision))
        keys, token = [], ""
        for node in (writer, reader, writer, reader):
            page = self.ask(node, "GET", f"/v1/kv?prefix={prefix}&limit=500{token}")
            self.ask(writer, "PUT", f"/v1/kv/{prefix}zz", b"behind the first page")
            keys += [record["key"] for record in page["kvs"]]
            token = f"&continue={page['continue']}"
        self.assertEqual((keys, page["continue"]), ([record["key"] for record in whole["kvs"]], None))
        folders = self.ask(reader, "GET", f"/v1/kv?prefix={prefix}&delimiter=/&reverse=true")["folders"]
        self.assertEqual((len(folders), folders[0]), (30, f"{prefix}29/"))
        self.assertEqual(self.ask(writer, "DELETE", f"/v1/kv?prefix={prefix}29/")["deleted"], 60)
        self.assertEqual(self.ask(reader, "GET", f"/v1/kv?prefix={prefix}&count_only=true")["count"], 1741)
        then = self.ask(reader, "GET", f"/v1/kv?prefix={prefix}&count_only=true&revision={revision}")
        self.assertEqual(then, {"count": 1800, "revision": revision})
        self.ask(reader, "POST", "/v1/compact", {"revision": revision + 1})
        gone = self.ask(writer, "GET", f"/get?key={prefix}00/00&revision={revision}", status=410)
        self.assertEqual((gone["error"]["code"], gone["compact_revision"]), ("compacted", revision + 1))
        future = self.ask(writer, "GET", "/v1/kv/x?revision=999999", status=400)
        self.assertEqual(future["error"]["code"], "future_revision")

    def check_transactions(self, writer: Node, reader: Node, key: str) -> None:
        """Counters and transactions, each of them once."""
        once = {"X_Client_Id": f"client-{key}", "X_Request_Seq": "1"}
        for node in (writer, reader, writer):
            answer = self.ask(node, "POST", "/v1/increment", {"key": key, "by": 5}, **once)
            self.assertEqual(answer["value"], 5)
        document = {
            "compare": [{"key": key, "target": "value", "op": "=", "value": "5"}],
            "success": [{"op": "put", "key": key, "value": "6"}, {"op": "range", "prefix": key}],
            "failure": [{"op": "get", "key": key}],
        }
        self.assertEqual(self.ask(writer, "POST", "/v1/txn", document)["results"][1]["kvs"][0]["value"], "6")
        self.assertEqual(self.ask(reader, "POST", "/v1/txn", document)["results"][0]["value"], "6")
        document["compare"][0]["op"] = "~"
        self.assertIn("compare[0].op", self.ask(reader, "POST", "/v1/txn", document, 400)["error"]["message"])

    def check_leases(self, writer: Node, reader: Node, key: str) -> None:
        """Leases, and keys that go with them."""
        lease = self.ask(writer, "POST", "/v1/leases", {"ttl": 60})["lease"]
        self.ask(reader, "PUT", f"/v1/kv/{key}?lease={lease}", b"x")
        short = self.ask(writer, "POST", "/set", {"key": f"{key}/ttl", "value": "x", "ttl": 3000})["lease"]
        self.assertEqual(self.ask(reader, "GET", f"/get?key={key}/ttl")["lease"], short)
        found = self.ask(reader, "GET", f"/v1/leases/{lease}")
        self.assertEqual((found["keys"], found["ttl"]), ([key], 60))
        self.assertEqual(self.ask(reader, "POST", f"/v1/leases/{lease}/keepalive")["ttl"], 60)
        self.assertIn(lease, [each["lease"] for each in self.ask(reader, "GET", "/v1/leases")["leases"]])
        self.assertEqual(self.ask(reader, "DELETE", f"/v1/leases/{lease}")["deleted"], 1)
        self.ask(writer, "GET", f"/get?key={key}", status=404)
        gone = self.ask(writer, "POST", f"/v1/leases/{lease}/keepalive", status=404)
        self.assertEqual(gone["error"]["code"], "lease_not_found")

    def check_locks(self, writer: Node, reader: Node, name: str) -> None:
        """Locks, in turn, on whichever node; a client that leaves; and the fence."""
        token = self.ask(writer, "POST", f"/v1/locks/{name}", {"ttl": 60})["token"]
        self.assertEqual(self.ask(reader, "POST", f"/v1/locks/{name}", {}, 409)["token"], token)
        leaves = Waiting(reader, f"/v1/locks/{name}", {"ttl": 60, "wait": 60})
        self.waiting(writer, name, 1)
        stays = Waiting(writer, f"/v1/locks/{name}", {"ttl": 60, "wait": 60})
        self.waiting(reader, name, 2)
        leaves.hang_up()
        self.waiting(writer, name, 1)
        self.ask(reader, "PUT", f"/v1/kv/{name}", b"x", X_Lock=f"{name}={token}")
        self.ask(reader, "DELETE", f"/v1/locks/{name}?token={token}")
        next_token = stays.answer().json["token"]
        self.assertGreater(next_token, token)
        refused = self.ask(reader, "PUT", f"/v1/kv/{name}", b"y", 412, X_Lock=f"{name}={token}")
        self.assertEqual((refused["error"]["code"], refused["token"]), ("lock_not_held", next_token))
        held = self.ask(reader, "GET", f"/v1/locks/{name}")
        self.assertEqual((held["token"], held["waiting"]), (next_token, 0))
        self.assertIn(held["name"], [lock["name"] for lock in self.ask(writer, "GET", "/v1/locks")["locks"]])

    def check_election(self, writer: Node, reader: Node, name: str) -> None:
        """One is elected, says what it is, and resigns in favour of the other."""
        first = self.ask(writer, "POST", f"/v1/elections/{name}", {"value": "a", "ttl": 60})["token"]
        other = Waiting(reader, f"/v1/elections/{name}", {"value": "b", "ttl": 60, "wait": 60})
        self.wait_until(
            lambda: self.ask(writer, "GET", f"/v1/elections/{name}")["candidates"] == 1, "another candidate"
        )
        self.ask(reader, "PUT", f"/v1/elections/{name}?token={first}", {"value": "a2"})
        self.assertEqual(self.ask(reader, "GET", f"/v1/elections/{name}")["leader"]["value"], "a2")
        self.ask(writer, "DELETE", f"/v1/elections/{name}?token={first}")
        second = other.answer().json["token"]
        leader = self.ask(reader, "GET", f"/v1/elections/{name}")["leader"]
        self.assertEqual((leader["value"], leader["token"]), ("b", second))


class WaitTests(KeyValueTestCase):
    """Waits that outlive a node."""

    def test_leader_is_killed(self) -> None:
        """A wait on a follower goes on when the leader dies, and so does one on the leader for who repeats it."""
        body = {"ttl": 60, "wait": 60}
        token = self.ask(self.followers[0], "POST", "/v1/locks/l", {"ttl": 60})["token"]
        session = {"X-Client-Id": "waits", "X-Request-Seq": "1"}
        on_leader = Waiting(self.first, "/v1/locks/l", body, session)
        self.waiting(self.followers[0], "l", 1)
        on_follower = Waiting(self.followers[0], "/v1/locks/l", body)
        self.waiting(self.followers[0], "l", 2)
        self.first.kill()
        on_leader.join(10)
        self.assertIsNotNone(on_leader.error)
        self.leader(self.followers)
        repeated = Waiting(self.followers[1], "/v1/locks/l", body, session)
        self.waiting(self.followers[0], "l", 2)  # the place is the same
        self.assertTrue(self.ask(self.followers[1], "DELETE", f"/v1/locks/l?token={token}")["released"])
        first = repeated.answer().json["token"]
        self.assertIsNone(on_follower.response)
        self.ask(self.followers[0], "DELETE", f"/v1/locks/l?token={first}")
        self.assertGreater(on_follower.answer().json["token"], first)

    def test_leases_over_the_end_of_the_leader(self) -> None:
        """A lease ends after its time, not before, though the leader died in between; and what it held is free."""
        began = time.monotonic()
        lease = self.ask(self.first, "POST", "/v1/leases", {"ttl": 4})["lease"]
        self.ask(self.followers[0], "PUT", f"/v1/kv/a?lease={lease}", b"x")
        token = self.ask(self.followers[0], "POST", "/v1/locks/l", {"lease": lease})["token"]
        waits = Waiting(self.followers[1], "/v1/locks/l", {"ttl": 60, "wait": 60})
        self.waiting(self.followers[0], "l", 1)
        self.first.kill()
        answer = waits.answer().json
        lasted = time.monotonic() - began
        self.assertGreaterEqual(lasted, 4.0)
        self.assertLess(lasted, 4 + 10)
        self.assertGreater(answer["token"], token)
        self.ask(self.followers[0], "GET", "/get?key=a", status=404)
        self.ask(self.followers[0], "POST", f"/v1/leases/{lease}/keepalive", status=404)
        late = self.ask(self.followers[1], "PUT", "/v1/kv/a", b"late", 412, X_Lock=f"l={token}")
        self.assertEqual(late["token"], answer["token"])

    def test_node_that_stops(self) -> None:
        """A node that stops answers those who wait on it at once, and their places are free or kept."""
        self.ask(self.first, "POST", "/v1/locks/l", {"ttl": 60})
        plain = Waiting(self.followers[0], "/v1/locks/l", {"wait": 60})
        self.waiting(self.first, "l", 1)
        session = {"X-Client-Id": "waits", "X-Request-Seq": "1"}
        kept = Waiting(self.followers[0], "/v1/locks/l", {"ttl": 60, "wait": 60}, session)
        self.waiting(self.first, "l", 2)
        began = time.monotonic()
        self.assertEqual(self.followers[0].stop(), 0)
        self.assertLess(time.monotonic() - began, 8)
        answers = [(each.answer().status, each.answer().json["error"]["outcome"]) for each in (plain, kept)]
        self.assertEqual(answers, [(503, "not_applied"), (503, "unknown")])
        self.waiting(self.first, "l", 1)
        repeated = Waiting(self.followers[1], "/v1/locks/l", {"ttl": 60, "wait": 60}, session)
        self.ask(self.first, "DELETE", "/v1/locks/l")
        self.assertEqual(repeated.answer().status, 200)
