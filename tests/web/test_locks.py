"""Locks, elections, and writes that depend on a lock, through both lanes."""

from __future__ import annotations

import json
from typing import Any

from raftkv import errors
from raftkv.kvstore import commands
from tests.web.lanes import Lane, Response, parse_responses, request
from tests.web.test_leases import TenureTestCase


class LockTestCase(TenureTestCase):
    """Locks, some of them held."""

    def take(self, name: str = "l", body: str = "{}", *headers: str) -> Any:
        """Take a lock that is free."""
        response = self.post(f"/v1/locks/{name}", body, *headers)
        self.assertEqual(response.status, 200, response.body)
        return response.json()

    def wait(self, target: str = "/v1/locks/l", body: str = '{"wait":60}', *headers: str) -> list[Lane]:
        """Ask on connections of their own, which stay open; nothing may come back yet."""
        self.each(Lane.hang_up)
        self.each(Lane.connect)
        self.assertEqual(self.send(request("POST", target, *headers, body=body.encode())), b"")
        return self.lanes

    def answered(self) -> Response:
        """Return what has come back on the connections that wait."""
        (response,) = parse_responses(self.received())
        return response

    def behind(self, act: Any) -> None:
        """Do something in the stores while the connections stay open."""
        self.each(lambda lane: act(lane.key_value))


class LockTests(LockTestCase):
    """``/v1/locks/{name}``."""

    def test_take_and_free(self) -> None:
        """A free lock is had at once, its token is a revision, and each holder's is larger (B62)."""
        self.assertEqual(self.take(), {"name": "l", "token": 1, "lease": 1})
        self.assertEqual(self.ask_json("DELETE", "/v1/locks/l?token=1"), {"name": "l", "released": True, "revision": 1})
        self.ask_json("PUT", "/v1/kv/a", body=b"")
        self.assertEqual(self.take()["token"], 3)

    def test_held(self) -> None:
        """A lock that is held is 409 at once where nobody wants to wait, with the holder's token."""
        self.take()
        for body in ("{}", '{"wait":0}', ""):
            refused = self.post("/v1/locks/l", body)
            self.assert_refused(refused, 409, "lock_held", "'l'")
            self.assertEqual((refused.json()["token"], refused.error["outcome"]), (1, "not_applied"))

    def test_get(self) -> None:
        """Who holds it, for how long, and how many wait."""
        free = {"name": "l", "token": None, "lease": None, "remaining": None, "waiting": 0}
        self.assertEqual(self.ask_json("GET", "/v1/locks/l"), free)
        self.take(body='{"ttl":20}')
        self.behind(lambda store: store.apply(commands.lock(b"l", ttl_ms=5000, wait_ms=9000)))
        self.pass_time(5)
        held = {"name": "l", "token": 1, "lease": 1, "remaining": 15, "waiting": 1}
        self.assertEqual(self.ask_json("GET", "/v1/locks/l?consistency=stale"), held)
        self.assertEqual(self.ask_json("GET", "/v1/locks"), {"locks": [held], "continue": None})

    def test_time(self) -> None:
        """A lock is free again when its lease has ended, which can be kept alive; 10 seconds where nothing is said."""
        self.take()
        self.pass_time(9)
        self.post("/v1/leases/1/keepalive")
        self.pass_time(9)
        self.assertEqual(self.post("/v1/locks/l").status, 409)
        self.pass_time(1)
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["token"], None)
        self.take()

    def test_due_but_not_ended(self) -> None:
        """A holder whose time has come holds nothing, whether or not anybody has noticed (B62)."""
        self.take()
        self.each(lambda lane: setattr(lane.key_value, "now_ms", 10_000))
        self.ask_json("PUT", "/v1/kv/a", body=b"")
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["token"], None)
        self.assertEqual(self.take()["token"], 3)

    def test_with_a_lease(self) -> None:
        """A lease that exists holds the lock; asking again is answered with what it holds."""
        lease = self.grant()
        first = self.take(body=f'{{"lease":{lease}}}')
        self.assertEqual((first["lease"], self.take(body=f'{{"lease":{lease}}}')), (lease, first))
        self.assert_refused(self.post("/v1/locks/m", '{"lease":99}'), 404, "lease_not_found", "99")

    def test_free(self) -> None:
        """Only with the holder's token; without one whoever holds it loses it."""
        self.take()
        refused = self.ask("DELETE", "/v1/locks/l?token=9")
        self.assert_refused(refused, 412, "lock_not_held")
        self.assertEqual(refused.json()["token"], 1)
        self.assertTrue(self.ask_json("DELETE", "/v1/locks/l")["released"])
        self.assertFalse(self.ask_json("DELETE", "/v1/locks/l")["released"])
        refused = self.ask("DELETE", "/v1/locks/l?token=1")
        self.assert_refused(refused, 412, "lock_not_held", "nobody")
        self.assertEqual(refused.json()["token"], 0)

    def test_names(self) -> None:
        """A name is everything behind the path, decoded once, as keys are."""
        for name, text in (("a/b", "a/b"), ("a%2Fc", "a/c"), ("%C3%A9", "é"), ("x%20y", "x y"), ("a//b", "a//b")):
            self.assertEqual(self.take(name)["name"], text)
            self.assertIsNotNone(self.ask_json("GET", f"/v1/locks/{name}")["token"])
        names = [lock["name"] for lock in self.ask_json("GET", "/v1/locks")["locks"]]
        self.assertEqual(names, ["a//b", "a/b", "a/c", "x y", "é"])

    def test_list_in_pages(self) -> None:
        """All locks that are held, in the order of their names."""
        for name in "dbac":
            self.take(name)
        first = self.ask_json("GET", "/v1/locks?limit=3")
        rest = self.ask_json("GET", f"/v1/locks?limit=3&continue={first['continue']}")
        self.assertEqual([lock["name"] for page in (first, rest) for lock in page["locks"]], ["a", "b", "c", "d"])
        self.assertIsNone(rest["continue"])

    def test_bad(self) -> None:
        """What is wrong is named, and nobody's place changes."""
        for body, word in (
            ('{"wait":-1}', "wait"),
            ('{"wait":3601}', "wait"),
            ('{"wait":true}', "wait"),
            ('{"wait":"1"}', "wait"),
            ('{"wait":1e308}', "wait"),
            ('{"ttl":5,"lease":1}', "lease"),
            ('{"lease":0}', "lease"),
            ('{"lease":-3}', "lease"),
            ('{"lease":9223372036854775808}', "lease"),
            ('{"token":1}', "token"),
            ('{"value":"x"}', "value"),
        ):
            self.assert_refused(self.post("/v1/locks/l", body), 400, "bad_request", word)
        for target, word in (
            ("/v1/locks/", "name"),
            ("/v1/locks/%ff", "name"),
            ("/v1/locks/l?token=0", "token"),
            ("/v1/locks/l?token=-1", "token"),
            ("/v1/locks/l?token=1&token=1", "token"),
            ("/v1/locks/l?lease=1", "lease"),
        ):
            self.assert_refused(self.ask("DELETE", target), 400, "bad_request", word)
        self.assert_refused(self.post("/v1/locks/" + "x" * 4097), 413, "too_large", "name")
        self.assertEqual(self.ask("POST", "/v1/locks/l", "Content-Type: text/xml", body=b"{}").status, 415)
        self.assertEqual(self.fast.key_value.commands, [])


class WaitTests(LockTestCase):
    """Waiting for a lock."""

    def setUp(self) -> None:
        super().setUp()
        self.take()

    def test_in_turn(self) -> None:
        """Who asks first gets it first, as soon as it is free (B62)."""
        self.wait()
        self.behind(lambda store: store.apply(commands.lock(b"l", ttl_ms=5000, wait_ms=60_000)))
        self.behind(lambda store: store.apply(commands.unlock(b"l", token=1)))
        self.assertEqual(self.answered().json(), {"name": "l", "token": 2, "lease": 2})

    def test_until_the_lease_ends(self) -> None:
        """A holder that does not come back loses the lock to whoever waits, with a larger token."""
        self.wait()
        self.pass_time(10)
        answer = self.answered().json()
        self.assertEqual(answer["token"], 2)
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["remaining"], 10)

    def test_in_vain(self) -> None:
        """Who has waited as long as they wanted is told 409 with the holder's token, and loses the place."""
        self.wait(body='{"wait":2}')
        self.pass_time(1.5)
        self.assertEqual(self.received(), b"")
        self.pass_time(0.5)
        refused = self.answered()
        self.assert_refused(refused, 409, "lock_held")
        self.assertEqual(refused.json()["token"], 1)
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["waiting"], 0)

    def test_client_that_leaves(self) -> None:
        """Who closes the connection gives up the place, and the next one in the queue has it."""
        self.wait()
        self.each(Lane.hang_up)
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["waiting"], 0)
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["token"], 1)

    def test_client_that_leaves_too_early(self) -> None:
        """It is no different where the place, or the lock, comes only then: nobody would know the token."""
        for name in ("l", "free"):
            self.each(lambda lane: setattr(lane.key_value, "holds", True))
            self.wait(f"/v1/locks/{name}")
            self.each(Lane.hang_up)
            self.each(lambda lane: lane.key_value.let_through())
            self.each(lambda lane: lane.key_value.let_through())
            self.each(lambda lane: setattr(lane.key_value, "holds", False))
        self.assertEqual(self.ask_json("GET", "/v1/locks/l")["waiting"], 0)
        self.assertIsNone(self.ask_json("GET", "/v1/locks/free")["token"])

    def test_client_that_leaves_and_may_come_back(self) -> None:
        """In a session the lock stays: a repeat of the request is told the token (B63)."""
        headers = ("X-Client-Id: c", "X-Request-Seq: 1")
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.wait("/v1/locks/free", '{"wait":60}', *headers)
        self.each(Lane.hang_up)
        self.each(lambda lane: lane.key_value.let_through())
        self.each(lambda lane: setattr(lane.key_value, "holds", False))
        self.assertEqual(self.take("free", '{"wait":60}', *headers)["token"], 2)

    def test_repeat_waits_on(self) -> None:
        """A repeat of a request that waits has the same place (B63)."""
        headers = ("X-Client-Id: c", "X-Request-Seq: 1")
        self.behind(
            lambda store: store.apply(commands.in_session(b"c", 1, commands.lock(b"l", ttl_ms=10_000, wait_ms=60_000)))
        )
        self.wait("/v1/locks/l", '{"wait":60}', *headers)
        self.assertEqual(self.fast.key_value.store.ticket_count, 2)
        self.behind(lambda store: store.apply(commands.unlock(b"l")))
        self.assertEqual(self.answered().json()["lease"], 2)

    def test_repeat_of_a_wait_that_has_ended(self) -> None:
        """A repeat that comes when the place is gone is 409, not left waiting."""
        headers = ("X-Client-Id: c", "X-Request-Seq: 1")
        self.wait("/v1/locks/l", '{"wait":2}', *headers)
        self.pass_time(2)
        self.assert_refused(self.answered(), 409, "lock_held")
        self.assert_refused(self.post("/v1/locks/l", '{"wait":2}', *headers), 409, "lock_held")
        self.ask_json("DELETE", "/v1/locks/l")
        refused = self.post("/v1/locks/l", '{"wait":2}', *headers)
        self.assert_refused(refused, 409, "lock_held", "ended", "nobody")
        self.assertEqual(refused.json()["token"], 0)

    def test_lease_that_ends_while_waiting(self) -> None:
        """The lease that was to hold the lock ends first: 404, and the place is gone."""
        lease = self.grant("5")
        self.wait(body=f'{{"wait":60,"lease":{lease}}}')
        self.pass_time(5)
        self.assert_refused(self.answered(), 404, "lease_not_found", str(lease))

    def test_lock_that_was_lost_again(self) -> None:
        """A lock that this node takes for theirs, but that is lost by now, is not theirs (B62)."""
        self.wait()
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.behind(lambda store: store.apply(commands.unlock(b"l")))
        self.assertEqual(self.received(), b"")  # the leader is asked first
        self.behind(lambda store: store.apply(commands.revoke(2)))
        self.each(lambda lane: lane.key_value.let_through())
        self.assert_refused(self.answered(), 409, "lock_held")

    def test_no_leader_to_confirm(self) -> None:
        """While nobody can confirm it, the wait goes on."""
        self.wait()
        self.each(lambda lane: setattr(lane.key_value, "refusal", errors.NoLeader()))
        self.behind(lambda store: store.apply(commands.unlock(b"l")))
        self.each(lambda lane: lane.key_value.tickets.tick())
        self.assertEqual(self.received(), b"")
        self.each(lambda lane: setattr(lane.key_value, "refusal", None))
        self.each(lambda lane: lane.key_value.tickets.tick())
        self.assertEqual(self.answered().json()["token"], 2)

    def test_time_that_stands_still(self) -> None:
        """While nobody leads, the cluster's time stands still: a wait is given up by our own, some seconds later."""
        self.wait(body='{"wait":2}')
        self.each(lambda lane: setattr(lane.key_value, "now_seconds", 6.9))
        self.each(lambda lane: lane.key_value.tickets.tick())
        self.assertEqual(self.received(), b"")
        self.each(lambda lane: setattr(lane.key_value, "now_seconds", 7.0))
        self.each(lambda lane: setattr(lane.key_value, "refusal", errors.NoLeader()))
        self.each(lambda lane: lane.key_value.tickets.tick())
        refused = self.answered()
        self.assert_refused(refused, 504, "timeout", "2 seconds")
        self.assertEqual(refused.error["outcome"], "unknown")

    def test_stopping(self) -> None:
        """A node that stops lets nobody wait: the place is given up, or kept for who can repeat the request."""
        self.wait()
        self.each(lambda lane: lane.key_value.tickets.refuse())
        refused = self.answered()
        self.assert_refused(refused, 503, "no_leader", "shutting down")
        self.assertEqual(refused.error["outcome"], "not_applied")
        self.assertEqual(self.fast.key_value.store.ticket_count, 1)

    def test_stopping_with_a_session(self) -> None:
        """In a session the place is kept."""
        self.wait("/v1/locks/l", '{"wait":60}', "X-Client-Id: c", "X-Request-Seq: 1")
        self.each(lambda lane: lane.key_value.tickets.refuse())
        refused = self.answered()
        self.assert_refused(refused, 503, "unavailable", "kept")
        self.assertEqual(refused.error["outcome"], "unknown")
        self.assertEqual(self.fast.key_value.store.ticket_count, 2)
        self.assert_refused(self.post("/v1/locks/m"), 503, "no_leader")

    def test_many_on_one_connection(self) -> None:
        """Requests behind one that waits have their turn once it was answered."""
        self.wait()
        self.assertEqual(self.send(request("GET", "/v1/locks/l")), b"")
        self.behind(lambda store: store.apply(commands.unlock(b"l")))
        self.each(lambda lane: lane.clock.advance(0))
        answers = parse_responses(self.received())
        self.assertEqual([answer.json()["token"] for answer in answers], [2, 2])

    def test_too_many(self) -> None:
        """Past the limit of those who wait it is 429."""
        error = errors.Overloaded("there is no room (limits.maxLockWaiters)")
        self.each(lambda lane: setattr(lane.key_value, "refusal", error))
        self.assert_refused(self.post("/v1/locks/l"), 429, "overloaded", "limits.maxLockWaiters")


class FenceTests(LockTestCase):
    """``X-Lock``."""

    def setUp(self) -> None:
        super().setUp()
        self.token = self.take("a/b")["token"]

    def writes(self, fence: str) -> list[Response]:
        """Send a write of each kind."""
        header = f"X-Lock: {fence}"
        return [
            self.post("/set", '{"key":"k","value":"1"}', header),
            self.ask("PUT", "/v1/kv/k?ttl=5", header, body=b"1"),
            self.post("/v1/increment", '{"key":"k"}', header),
            self.post("/v1/txn", '{"success":[{"op":"put","key":"t","value":""}]}', header),
            self.post("/v1/leases", '{"ttl":5}', header),
            self.post("/v1/locks/other", '{"ttl":5}', header),
            self.ask("DELETE", "/v1/locks/other", header),
            self.ask("DELETE", "/v1/kv/k", header),
            self.ask("DELETE", "/delete?key=k", header),
            self.ask("DELETE", "/v1/kv?prefix=", header),
            self.post("/v1/compact", '{"revision":1}', header),
        ]

    def test_with_the_lock(self) -> None:
        """Whoever holds the lock may write."""
        self.assertEqual({response.status for response in self.writes(f"a%2Fb={self.token}")}, {200})
        self.assertEqual(self.ask("PUT", "/v1/kv/k", f"X-Lock: a/b={self.token}", body=b"").status, 200)

    def test_without(self) -> None:
        """Any write with another token is 412, and changes nothing (B62)."""
        digest = self.fast.key_value.store.digest()
        for fence, token in ((f"a/b={self.token + 1}", 1), (f"other={self.token}", 0)):
            for response in self.writes(fence):
                self.assert_refused(response, 412, "lock_not_held")
                self.assertEqual((response.json()["token"], response.error["outcome"]), (token, "not_applied"))
        self.assertEqual(self.fast.key_value.store.digest(), digest)

    def test_holder_that_was_paused(self) -> None:
        """A holder that comes back when its lease has ended writes nothing, although it believes to (B62)."""
        self.pass_time(10)
        refused = self.ask("PUT", "/v1/kv/k", f"X-Lock: a/b={self.token}", body=b"late")
        self.assert_refused(refused, 412, "lock_not_held")
        newer = self.take("a/b")["token"]
        refused = self.ask("PUT", "/v1/kv/k", f"X-Lock: a/b={self.token}", body=b"late")
        self.assertEqual(refused.json()["token"], newer)

    def test_in_a_session(self) -> None:
        """The session stands outside: a repeat gets the first answer, whoever holds the lock by then (B63)."""
        headers = (f"X-Lock: a/b={self.token}", "X-Client-Id: c", "X-Request-Seq: 1")
        first = self.ask_json("PUT", "/v1/kv/k", *headers, body=b"x")
        self.ask_json("DELETE", f"/v1/locks/a/b?token={self.token}")
        self.assertEqual(self.ask_json("PUT", "/v1/kv/k", *headers, body=b"x"), first)
        refused = self.ask("PUT", "/v1/kv/k", "X-Client-Id: c", "X-Request-Seq: 1", body=b"x")
        self.assert_refused(refused, 409, "sequence_reused")

    def test_wait_for_another_lock(self) -> None:
        """A lock may be waited for that is asked for with another one; the answer names the right one of the two."""
        self.take("l")
        self.assert_refused(self.post("/v1/locks/l", "{}", f"X-Lock: a/b={self.token}"), 409, "lock_held", "'l'")
        self.wait("/v1/locks/l", '{"wait":60}', f"X-Lock: a/b={self.token}")
        self.behind(lambda store: store.apply(commands.unlock(b"l")))
        self.assertEqual(self.answered().status, 200)

    def test_malformed(self) -> None:
        """It is named, and nothing is proposed."""
        before = len(self.fast.key_value.commands)
        for wrong in (
            "",
            "a",
            "a=",
            "=1",
            "a=x",
            "a=-1",
            "a=0",
            "a=1, b=2",
            "a b=1",
            "%zz=1",
            "%ff=1",
            "a=9" + "9" * 18,
        ):
            refused = self.ask("PUT", "/v1/kv/k", f"X-Lock: {wrong}", body=b"")
            self.assert_refused(refused, 400, "bad_request", "X-Lock")
        refused = self.ask("PUT", "/v1/kv/k", "X-Lock: a=1", "X-Lock: b=1", body=b"")
        self.assert_refused(refused, 400, "bad_request", "X-Lock")
        refused = self.ask("PUT", "/v1/kv/k", f"X-Lock: {'x' * 4097}=1", body=b"")
        self.assert_refused(refused, 413, "too_large", "X-Lock")
        refused = self.ask("PUT", "/v1/elections/e?token=1", "X-Lock: a=1", body=b'{"value":""}')
        self.assert_refused(refused, 400, "bad_request", "X-Lock")
        self.assertEqual(len(self.fast.key_value.commands), before)

    def test_what_cannot_depend_on_one(self) -> None:
        """A change of the members refuses it: it would be made without."""
        for method, target in (
            ("POST", "/v1/cluster/members"),
            ("DELETE", "/v1/cluster/members/n1"),
            ("POST", "/v1/cluster/members/n1/promote"),
            ("POST", "/v1/cluster/transfer-leadership"),
        ):
            refused = self.ask(method, target, f"X-Lock: a/b={self.token}", body=b"{}")
            self.assert_refused(refused, 400, "bad_request", "X-Lock")
        self.assertEqual(self.fast.node.requests, [])


class ElectionTests(LockTestCase):
    """``/v1/elections/{name}``."""

    def campaign(self, value: str = "n1", *headers: str, **more: Any) -> Response:
        """Ask to be elected."""
        return self.post("/v1/elections/e", json.dumps({"value": value, **more}), *headers)

    def test_elected(self) -> None:
        """The first one is elected at once; its value is shown, by a key that goes with the lock."""
        self.assertEqual(self.campaign().json(), {"name": "e", "token": 1, "lease": 1})
        leader = {"value": "n1", "token": 1, "lease": 1, "remaining": 10}
        self.assertEqual(self.ask_json("GET", "/v1/elections/e"), {"name": "e", "leader": leader, "candidates": 0})
        record = self.ask_json("GET", "/get?key=elections/e")
        self.assertEqual((record["value"], record["create_revision"], record["lease"]), ("n1", 1, 1))
        self.assertEqual(self.ask_json("GET", "/v1/locks/elections/e")["token"], 1)

    def test_nobody(self) -> None:
        """Without a campaign nobody is elected."""
        self.assertEqual(self.ask_json("GET", "/v1/elections/e"), {"name": "e", "leader": None, "candidates": 0})

    def test_second_candidate(self) -> None:
        """Others are told who is, or wait until they are."""
        self.campaign()
        refused = self.campaign("n2")
        self.assert_refused(refused, 409, "lock_held")
        self.assertEqual(refused.json()["token"], 1)
        self.wait("/v1/elections/e", '{"value":"n2","wait":60}')
        self.behind(lambda store: self.assertEqual(store.store.lock(b"elections/e").waiting, 1))
        self.behind(lambda store: store.apply(commands.unlock(b"elections/e", token=1)))
        elected = self.answered().json()
        self.assertGreater(elected["token"], 1)
        answer = self.ask_json("GET", "/v1/elections/e")
        self.assertEqual((answer["leader"]["value"], answer["leader"]["token"]), ("n2", elected["token"]))

    def test_resign(self) -> None:
        """Who resigns is no longer shown."""
        self.campaign()
        self.assert_refused(self.ask("DELETE", "/v1/elections/e?token=9"), 412, "lock_not_held")
        answer = self.ask_json("DELETE", "/v1/elections/e?token=1")
        self.assertEqual((answer["name"], answer["released"]), ("e", True))
        self.assertFalse(self.exists("elections/e"))

    def test_proclaim(self) -> None:
        """The one who is elected may show another value; it goes with the lock all the same."""
        self.campaign()
        proclaimed = self.ask_json("PUT", "/v1/elections/e?token=1", body=b'{"value":"n1:8080"}')
        self.assertEqual(proclaimed, {"name": "e", "revision": 2})
        self.assertEqual(self.ask_json("GET", "/v1/elections/e")["leader"]["value"], "n1:8080")
        self.pass_time(10)
        self.assertFalse(self.exists("elections/e"))
        refused = self.ask("PUT", "/v1/elections/e?token=1", body=b'{"value":"x"}')
        self.assert_refused(refused, 412, "lock_not_held")

    def test_proclaim_once(self) -> None:
        """A repeat gets the first answer, also when another one leads by then (B63)."""
        self.campaign()
        headers = ("X-Client-Id: c", "X-Request-Seq: 1")
        first = self.ask_json("PUT", "/v1/elections/e?token=1", *headers, body=b'{"value":"x"}')
        self.ask_json("DELETE", "/v1/elections/e")
        self.assertEqual(self.ask_json("PUT", "/v1/elections/e?token=1", *headers, body=b'{"value":"x"}'), first)

    def test_key_that_somebody_changed(self) -> None:
        """A value that was not put there by the one elected is not shown as theirs, and not brought back."""
        self.campaign()
        self.ask_json("DELETE", "/v1/kv/elections/e")
        self.assertEqual(self.ask_json("GET", "/v1/elections/e")["leader"]["value"], None)
        refused = self.ask("PUT", "/v1/elections/e?token=1", body=b'{"value":"x"}')
        self.assert_refused(refused, 412, "precondition_failed")

    def test_values(self) -> None:
        """Any bytes, or nothing."""
        self.post("/v1/elections/a", '{"value_base64":"/w=="}')
        self.assertEqual(self.ask_json("GET", "/v1/elections/a")["leader"]["value_base64"], "/w==")
        self.post("/v1/elections/b", "")
        self.assertEqual(self.ask_json("GET", "/v1/elections/b")["leader"]["value"], "")

    def test_bad(self) -> None:
        """What is wrong is named."""
        for body, word in (
            ('{"value":1}', "value"),
            ('{"value":"","value_base64":""}', "value"),
            ('{"value":"","wait":-1}', "wait"),
            ('{"value":"","ttl":5,"lease":1}', "lease"),
            ('{"candidate":""}', "candidate"),
        ):
            self.assert_refused(self.post("/v1/elections/e", body), 400, "bad_request", word)
        for target, body, word in (
            ("/v1/elections/e", b'{"value":""}', "token"),
            ("/v1/elections/e?token=x", b'{"value":""}', "token"),
            ("/v1/elections/e?token=1", b"{}", "value"),
            ("/v1/elections/e?token=1", b'{"value":"","ttl":1}', "ttl"),
        ):
            self.assert_refused(self.ask("PUT", target, body=body), 400, "bad_request", word)
        self.assert_refused(self.post("/v1/elections/"), 400, "bad_request", "name")
        self.assert_refused(self.post("/v1/elections/" + "x" * 4087), 413, "too_large", "name")
        self.assertEqual(self.fast.key_value.commands, [])
