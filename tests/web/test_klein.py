"""The Klein application as a resource of Twisted's own server."""

from __future__ import annotations

from treq.testing import StubTreq
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv.web import Api, WebSettings
from tests.web.fakes import FakeKeyValue, FakeNode

URL = "http://localhost:8080"


class ResourceTests(SynchronousTestCase):
    """``api.app.resource()``."""

    def setUp(self) -> None:
        clock = Clock()
        self.key_value = FakeKeyValue()
        self.api = Api(
            key_value=self.key_value,
            node=FakeNode(),
            settings=WebSettings(),
            clock=clock,
            wall_seconds=clock.seconds,
        )
        self.treq = StubTreq(self.api.app.resource())

    def ask(self, method: str, path: str, **more: object) -> tuple[int, bytes]:
        response = self.successResultOf(self.treq.request(method, URL + path, **more))
        self.assertEqual(response.headers.getRawHeaders("X-Raft-Leader"), ["10.0.0.2:8080"])
        return response.code, self.successResultOf(response.content())

    def test_keys(self) -> None:
        """The whole life of a key, with treq as the client."""
        self.assertEqual(
            self.ask("POST", "/set", json={"key": "a/b", "value": "é"}), (200, b'{"key":"a/b","revision":1}\n')
        )
        status, body = self.ask("GET", "/get", params={"key": "a/b"})
        self.assertEqual((status, b'"value":"\xc3\xa9"' in body), (200, True))
        self.assertEqual(self.ask("PUT", "/v1/kv/a%2Fb", data=b"\xff"), (200, b'{"key":"a/b","revision":2}\n'))
        self.assertEqual(self.ask("GET", "/v1/kv/a/b", headers={"Accept": "application/octet-stream"}), (200, b"\xff"))
        self.assertEqual(self.ask("GET", "/v1/kv/a/b", headers={"If-None-Match": '"2"'}), (304, b""))
        self.assertEqual(self.ask("DELETE", "/delete", params={"key": "a/b"})[0], 200)
        self.assertEqual(self.ask("GET", "/get", params={"key": "a/b"})[0], 404)

    def test_everything_else(self) -> None:
        """The routes without a fast lane, and errors."""
        for path in ("/v1/status", "/v1/cluster", "/health/live", "/health/ready", "/metrics"):
            self.assertEqual(self.ask("GET", path)[0], 200)
        status, body = self.ask("GET", "/v1/nope")
        self.assertEqual((status, b'"code":"not_found"' in body), (404, True))
        status, body = self.ask("POST", "/v1/status")
        self.assertEqual((status, b'"code":"method_not_allowed"' in body), (405, True))
        self.assertEqual(self.ask("OPTIONS", "/get"), (204, b""))

    def test_large_bodies(self) -> None:
        """The limits hold here too, although Twisted has read the body by then (B70)."""
        for method, path, size in (("PUT", "/v1/kv/a", 2**20 + 1), ("POST", "/set", 2**23 + 1)):
            status, body = self.ask(method, path, data=b"x" * size)
            self.assertEqual((status, b"limits.max" in body), (413, True))

    def test_waiting(self) -> None:
        """An answer may take its time."""
        self.key_value.holds = True
        answer = self.treq.get(URL + "/get?key=a")
        self.assertNoResult(answer)
        self.key_value.let_through()
        self.treq.flush()
        self.assertEqual(self.successResultOf(answer).code, 404)

    def test_routes_are_data(self) -> None:
        """Each route says what it takes, and those that are asked often have the fast lane."""
        self.assertEqual(
            [route.template for route in self.api.routes if route.fast],
            ["/get", "/set", "/delete", "/v1/kv/{key}", "/v1/increment", "/v1/kv", "/v1/txn", "/v1/watch"],
        )
        for route in self.api.routes:
            for operation in route.operations.values():
                self.assertTrue(operation.summary)
