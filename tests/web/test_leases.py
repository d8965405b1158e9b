"""Leases, and keys that have one, through both lanes."""

from __future__ import annotations

from typing import Any

from raftkv import errors
from raftkv.kvstore import commands
from raftkv.kvstore.checking import CommandLimits
from tests.web.lanes import LaneTestCase, Response


class TenureTestCase(LaneTestCase):
    """Requests about what is held for a time."""

    def post(self, target: str, body: str = "{}", *headers: str) -> Response:
        """Send a document."""
        return self.ask("POST", target, *headers, body=body.encode())

    def pass_time(self, seconds: float) -> None:
        """Let the cluster's time go by."""
        self.each(lambda lane: lane.key_value.pass_time(seconds))

    def grant(self, ttl: str = "10") -> int:
        """Make a lease."""
        response = self.post("/v1/leases", f'{{"ttl":{ttl}}}')
        self.assertEqual(response.status, 200, response.body)
        lease: int = response.json()["lease"]
        return lease

    def exists(self, key: str) -> bool:
        """Tell whether a key is there."""
        return self.ask("GET", f"/v1/kv/{key}").status == 200


class LeaseTests(TenureTestCase):
    """``/v1/leases``."""

    def test_life(self) -> None:
        """A lease ends with its keys when its time has come, unless it is kept alive."""
        answer = self.post("/v1/leases", '{"ttl":10}').json()
        self.assertEqual(answer, {"lease": 1, "ttl": 10})
        self.ask_json("PUT", "/v1/kv/a?lease=1", body=b"x")
        self.pass_time(8)
        self.assertEqual(self.post("/v1/leases/1/keepalive", "").json(), {"lease": 1, "ttl": 10})
        self.pass_time(8)
        self.assertTrue(self.exists("a"))
        self.pass_time(2)
        self.assertFalse(self.exists("a"))

    def test_keepalive_that_comes_too_late(self) -> None:
        """A lease that has ended, or was never there, is not kept alive (B37)."""
        self.grant()
        self.pass_time(10)
        for lease in (1, 77):
            refused = self.post(f"/v1/leases/{lease}/keepalive", "")
            self.assert_refused(refused, 404, "lease_not_found", str(lease))
            self.assertEqual(refused.error["outcome"], "not_applied")

    def test_keepalive_of_a_revoked_lease(self) -> None:
        """Nor is one that was revoked (B37)."""
        self.grant()
        self.ask_json("DELETE", "/v1/leases/1")
        self.assert_refused(self.post("/v1/leases/1/keepalive", ""), 404, "lease_not_found")

    def test_keepalive_before_it_was_ended_for_all_to_see(self) -> None:
        """Its time counts, not whether anybody has noticed yet (B37)."""
        self.grant()
        self.ask_json("PUT", "/v1/kv/a?lease=1", body=b"x")
        self.each(lambda lane: setattr(lane.key_value, "now_ms", 10_000))
        self.ask_json("PUT", "/v1/kv/b", body=b"x")
        for response in (
            self.post("/v1/leases/1/keepalive", ""),
            self.ask("DELETE", "/v1/leases/1"),
            self.ask("PUT", "/v1/kv/b?lease=1", body=b"x"),
            self.ask("GET", "/v1/leases/1"),
        ):
            self.assert_refused(response, 404, "lease_not_found")
        self.assertEqual(self.ask_json("GET", "/v1/leases")["leases"], [])

    def test_get(self) -> None:
        """It tells what is left of its time, and its keys in order."""
        self.grant("2.5")
        for key in "cab":
            self.ask_json("PUT", f"/v1/kv/{key}?lease=1", body=b"")
        self.pass_time(1)
        self.assertEqual(
            self.ask_json("GET", "/v1/leases/1"),
            {"lease": 1, "ttl": 2.5, "remaining": 1.5, "keys": ["a", "b", "c"], "count": 3},
        )
        answer = self.ask_json("GET", "/v1/leases/1?limit=2&consistency=stale")
        self.assertEqual((answer["keys"], answer["count"]), (["a", "b"], 3))
        self.assertEqual(self.fast.key_value.consistencies, ["linearizable", "stale"])

    def test_revoke(self) -> None:
        """It goes with its keys, in one revision."""
        self.grant()
        for key in "ab":
            self.ask_json("PUT", f"/v1/kv/{key}?lease=1", body=b"")
        self.assertEqual(self.ask_json("DELETE", "/v1/leases/1"), {"lease": 1, "deleted": 2, "revision": 3})
        self.assertFalse(self.exists("a"))
        self.assert_refused(self.ask("DELETE", "/v1/leases/1"), 404, "lease_not_found")

    def test_list(self) -> None:
        """All leases come in pages, in the order of their numbers."""
        for _ in range(5):
            self.grant()
        self.ask_json("PUT", "/v1/kv/a?lease=3", body=b"")
        pages: list[Any] = [self.ask_json("GET", "/v1/leases?limit=2")]
        while pages[-1]["continue"]:
            pages.append(self.ask_json("GET", f"/v1/leases?limit=2&continue={pages[-1]['continue']}"))
        self.assertEqual([lease["lease"] for page in pages for lease in page["leases"]], [1, 2, 3, 4, 5])
        self.assertEqual(pages[1]["leases"][0], {"lease": 3, "ttl": 10, "remaining": 10, "count": 1})
        self.assertEqual({page["count"] for page in pages}, {5})
        self.assertEqual(self.ask_json("GET", "/v1/leases")["continue"], None)

    def test_list_of_nothing(self) -> None:
        """Without leases it is empty."""
        self.assertEqual(self.ask_json("GET", "/v1/leases"), {"leases": [], "count": 0, "continue": None})

    def test_once(self) -> None:
        """A grant that is repeated makes one lease, and a repeated revocation is answered as the first (B63)."""
        for _ in range(2):
            answer = self.post("/v1/leases", '{"ttl":10}', "X-Client-Id: c", "X-Request-Seq: 1").json()
            self.assertEqual(answer["lease"], 1)
        for _ in range(2):
            answer = self.ask_json("DELETE", "/v1/leases/1", "X-Client-Id: c", "X-Request-Seq: 2")
            self.assertEqual(answer["deleted"], 0)
        repeated = [self.post("/v1/leases/1/keepalive", "", "X-Client-Id: c", "X-Request-Seq: 3") for _ in range(2)]
        self.assertEqual([response.status for response in repeated], [404, 404])

    def test_no_room(self) -> None:
        """Past the limit of leases a new one is 429, and told when to come again."""
        self.each(
            lambda lane: setattr(lane.key_value, "refusal", errors.Overloaded("there is no room (limits.maxLeases)"))
        )
        refused = self.post("/v1/leases", '{"ttl":10}')
        self.assert_refused(refused, 429, "overloaded", "limits.maxLeases")
        self.assertIn(b"Retry-After", refused.headers)


class PutTests(TenureTestCase):
    """``lease`` and ``ttl`` of a put, in every spelling."""

    def test_lease(self) -> None:
        """A key goes with its lease; a put without takes it off."""
        self.grant()
        self.assertEqual(self.post("/set", '{"key":"a","value":"","lease":1}').json(), {"key": "a", "revision": 1})
        self.assertEqual(self.ask_json("PUT", "/v1/kv/b?lease=1", body=b""), {"key": "b", "revision": 2})
        self.post("/set", '{"key":"a","value":""}')
        self.post("/set", '{"key":"c","value":"","lease":0}')
        self.assertEqual(self.ask_json("GET", "/v1/leases/1")["keys"], ["b"])
        self.pass_time(10)
        self.assertEqual([self.exists(key) for key in "abc"], [True, False, True])

    def test_ttl(self) -> None:
        """A time to live makes a lease for this key alone, which goes when the key is set anew."""
        answer = self.post("/set", '{"key":"a","value":"","ttl":5}').json()
        self.assertEqual(answer, {"key": "a", "revision": 1, "lease": 1})
        answer = self.ask_json("PUT", "/v1/kv/b?ttl=2.5", body=b"")
        self.assertEqual(answer, {"key": "b", "revision": 2, "lease": 2})
        self.assertEqual(self.ask_json("GET", "/v1/leases/2")["ttl"], 2.5)
        self.ask_json("PUT", "/v1/kv/a", body=b"")
        self.assert_refused(self.ask("GET", "/v1/leases/1"), 404, "lease_not_found")
        self.pass_time(5)
        self.assertEqual([self.exists(key) for key in "ab"], [True, False])

    def test_conditions(self) -> None:
        """They go together with conditions, and with sessions."""
        self.assertEqual(self.ask_json("PUT", "/v1/kv/a?ttl=5", "If-None-Match: *", body=b"")["revision"], 1)
        self.assertEqual(self.ask("PUT", "/v1/kv/a?ttl=5", "If-None-Match: *", body=b"").status, 412)
        for _ in range(2):
            answer = self.ask_json("PUT", "/v1/kv/a?ttl=5", "X-Client-Id: c", "X-Request-Seq: 1", body=b"")
            self.assertEqual((answer["revision"], answer["lease"]), (2, 2))

    def test_lease_that_is_not_there(self) -> None:
        """404 that names it, and nothing is written."""
        for response in (
            self.post("/set", '{"key":"a","value":"","lease":7}'),
            self.ask("PUT", "/v1/kv/a?lease=7", body=b""),
        ):
            self.assert_refused(response, 404, "lease_not_found", "lease 7")
        self.assertFalse(self.exists("a"))


class BadTests(TenureTestCase):
    """What is wrong is named, and nothing is proposed."""

    def test_durations(self) -> None:
        """A ttl is a number of seconds within its bounds."""
        self.configure(commands=CommandLimits(min_lease_ttl_seconds=2, max_lease_ttl_seconds=100))
        for wrong in (
            "0",
            "-5",
            "1.99",
            "100.001",
            "1e308",
            "true",
            '"5"',
            "null",
            "[5]",
            "{}",
            "18446744073709551616",
        ):
            for target, body in (
                ("/v1/leases", f'{{"ttl":{wrong}}}'),
                ("/set", f'{{"key":"a","value":"","ttl":{wrong}}}'),
                ("/v1/locks/l", f'{{"ttl":{wrong}}}'),
                ("/v1/elections/e", f'{{"ttl":{wrong},"value":""}}'),
            ):
                self.assert_refused(self.post(target, body), 400, "bad_request", "ttl", "2 to 100")
        for wrong in ("NaN", "Infinity", "1e999", "-Infinity", "5s"):
            self.assert_refused(self.post("/v1/leases", f'{{"ttl":{wrong}}}'), 400, "bad_request", "JSON")
        for wrong in ("0", "-5", "1.99", "nan", "inf", "1e2", "", "true", "9" * 30, "5s", "0x10"):
            self.assert_refused(self.ask("PUT", f"/v1/kv/a?ttl={wrong}", body=b""), 400, "bad_request", "ttl")
        self.assertEqual(self.fast.key_value.commands, [])

    def test_documents(self) -> None:
        """Fields that are missing, unknown or contradict each other."""
        for target, body, word in (
            ("/v1/leases", "{}", "ttl"),
            ("/v1/leases", "", "body"),
            ("/v1/leases", "[]", "object"),
            ("/v1/leases", '{"ttl":5,"id":7}', "id"),
            ("/v1/leases", '{"ttl":5,"ttl":6}', "ttl"),
            ("/set", '{"key":"a","value":"","ttl":5,"lease":1}', "lease"),
            ("/set", '{"key":"a","value":"","lease":-1}', "lease"),
            ("/set", '{"key":"a","value":"","lease":1.0}', "lease"),
            ("/set", '{"key":"a","value":"","lease":true}', "lease"),
            ("/set", '{"key":"a","value":"","lease":9223372036854775808}', "lease"),
        ):
            self.assert_refused(self.post(target, body), 400, "bad_request", word)
        self.assertEqual(self.fast.key_value.commands, [])

    def test_numbers(self) -> None:
        """The number of a lease, in a path or a query."""
        for wrong in ("0", "-1", "x", "1.5", "9223372036854775808", "%31%30x", "+1", "٣".encode().hex()):
            for method, target in (
                ("GET", f"/v1/leases/{wrong}"),
                ("DELETE", f"/v1/leases/{wrong}"),
                ("POST", f"/v1/leases/{wrong}/keepalive"),
            ):
                self.assert_refused(self.ask(method, target), 400, "bad_request", "lease")
        for query, word in (
            ("lease=-1", "lease"),
            ("lease=", "lease"),
            ("lease=1&ttl=5", "lease"),
            ("lease=1&lease=1", "lease"),
            ("ttl=5&ttl=5", "ttl"),
            ("ttl=5&wait=1", "wait"),
        ):
            self.assert_refused(self.ask("PUT", f"/v1/kv/a?{query}", body=b""), 400, "bad_request", word)
        for query, word in (("limit=0", "limit"), ("limit=2501", "limit"), ("continue=x", "continue"), ("x=1", "x")):
            self.assert_refused(self.ask("GET", f"/v1/leases?{query}"), 400, "bad_request", word)
        self.assertEqual(self.fast.key_value.commands, [])

    def test_paths(self) -> None:
        """What is near to a path of leases, and none."""
        for method, target, status in (
            ("GET", "/v1/leases/", 400),
            ("GET", "/v1/leases/1/keepalive", 405),
            ("PUT", "/v1/leases/1", 405),
            ("POST", "/v1/leases/1", 405),
            ("POST", "/v1/leases/1/renew", 404),
        ):
            self.assertIn(self.ask(method, target, body=b"").status, (status, 404), target)

    def test_tokens_are_for_their_list(self) -> None:
        """A ``continue`` of one list is none for another."""
        for _ in range(2):
            self.grant()
        token = self.ask_json("GET", "/v1/leases?limit=1")["continue"]
        for target in ("/v1/locks", "/v1/kv"):
            refused = self.ask("GET", f"{target}?continue={token}")
            self.assert_refused(refused, 400, "bad_request", "continue")

    def test_conditions_have_no_meaning(self) -> None:
        """A condition that nobody keeps is refused rather than ignored."""
        self.grant()
        before = len(self.fast.key_value.commands)
        for method, target in (
            ("POST", "/v1/leases"),
            ("POST", "/v1/leases/1/keepalive"),
            ("DELETE", "/v1/leases/1"),
            ("POST", "/v1/locks/l"),
            ("DELETE", "/v1/locks/l"),
        ):
            refused = self.ask(method, target, 'If-Match: "1"', body=b'{"ttl":5}')
            self.assert_refused(refused, 400, "bad_request", "If-Match")
        self.assertEqual(len(self.fast.key_value.commands), before)

    def test_store_is_as_it_was(self) -> None:
        """All of that leaves no trace."""
        digest = self.fast.key_value.store.digest()
        self.test_numbers()
        self.test_documents()
        self.assertEqual(self.fast.key_value.store.digest(), digest)
        self.assertEqual(commands.NO_LEASE, 0)
