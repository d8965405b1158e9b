"""The client without a network: numbers, routes, the rules of retrying, and the reading of answers."""

from __future__ import annotations

import json
from random import Random
from typing import Any

from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv import errors
from raftkv.client import UnexpectedAnswer, operations
from raftkv.client.addresses import leader_address, parse_addresses
from raftkv.client.answers import Answer
from raftkv.client.clock import steady_clock
from raftkv.client.core import Core
from raftkv.client.operations import Operation
from raftkv.client.retry import Again, Attempt, Call, GiveUp, RetryPolicy, worth_retrying
from raftkv.client.route import SHUNNED_SECONDS, Route
from raftkv.client.session import SESSION_WINDOW, Session
from tests.client.fakes import A, B, C, FixedRandom


class SessionTests(SynchronousTestCase):
    """Sequence numbers."""

    def setUp(self) -> None:
        self.session = Session(entropy=lambda size: b"\x01" * size)

    def test_id(self) -> None:
        """The id is random, and long enough that no two clients ever share one."""
        self.assertEqual(self.session.client_id, "01" * 16)

    def test_window_is_a_distance(self) -> None:
        """Numbers stop where the lowest one under way would leave the window, however few are under way."""
        numbers = [self.session.take() for _ in range(SESSION_WINDOW)]
        self.assertEqual(numbers, list(range(1, SESSION_WINDOW + 1)))
        for number in range(2, SESSION_WINDOW + 1):
            self.session.give_back(number)
        self.assertIsNone(self.session.take())
        self.assertEqual(len(self.session), 1)
        self.session.give_back(1)
        self.assertEqual(self.session.take(), SESSION_WINDOW + 1)

    def test_random_use(self) -> None:
        """Whatever the order in which numbers come back, those under way never span more than the window."""
        random = Random(7)
        session = Session(entropy=bytes, window=16)
        under_way: list[int] = []
        highest = 0
        for _ in range(5000):
            number = session.take() if random.random() < 0.6 else None
            if number is not None:
                self.assertEqual(number, highest + 1)
                highest = number
                under_way.append(number)
                self.assertLess(number - min(under_way), 16)
            elif under_way:
                session.give_back(under_way.pop(random.randrange(len(under_way))))
        self.assertGreater(highest, 1000)


class RouteTests(SynchronousTestCase):
    """Whom to ask."""

    def test_failed_address_returns(self) -> None:
        """An address that failed is tried last for a while, and then in its turn again."""
        route = Route([A, B])
        route.failed(A, 0.0)
        self.assertEqual(route.candidates(0.0, prefer_leader=True), [B, A])
        route.failed(B, 1.0)
        self.assertEqual(route.candidates(1.0, prefer_leader=True), [A, B])
        self.assertEqual(route.candidates(SHUNNED_SECONDS, prefer_leader=True), [A, B])

    def test_many_fail_at_once(self) -> None:
        """Calls that fail together at one address turn the rotation once."""
        route = Route([A, B, C])
        for _ in range(5):
            route.failed(A, 0.0)
        self.assertEqual(route.choose(0.0, prefer_leader=False), B)

    def test_leader_of_a_new_cluster(self) -> None:
        """What the leader's address says of itself counts even in a lower term: the cluster may have begun anew."""
        route = Route([A, B])
        route.heard(A, leader=B, term=9)
        route.heard(B, leader=A, term=1)
        self.assertEqual(route.leader, A)

    def test_addresses_needed(self) -> None:
        """Without an address there is no route."""
        with self.assertRaises(ValueError):
            Route([])


class AddressTests(SynchronousTestCase):
    """Reading addresses."""

    def test_normalised(self) -> None:
        """Spaces and slashes around an address do not matter, IPv6 is understood."""
        self.assertEqual(parse_addresses(" http://a:1/ ,https://[::1]:2,"), ("http://a:1", "https://[::1]:2"))

    def test_refused(self) -> None:
        """What is no address is named."""
        for wrong in (
            "a:1",
            "http://",
            "http://a:x",
            "http://u:p@a",
            "http://a?q",
            "http://a b",
            "http://ä",
            "http://a:0",
        ):
            with self.assertRaises(ValueError) as caught:
                parse_addresses(wrong)
            self.assertIn(repr(wrong), str(caught.exception))

    def test_leader(self) -> None:
        """A leader's address shares the scheme of the node that names it, and nonsense is none."""
        self.assertEqual(leader_address("b:2", asked="https://a:1"), "https://b:2")
        self.assertEqual(leader_address("http://b:2", asked="https://a:1"), "http://b:2")
        for nothing in ("", "b:99999", "b:2/../x", "b c:2", ":8080"):
            self.assertIsNone(leader_address(nothing, asked=A))


class CallTests(SynchronousTestCase):
    """The rules of retrying."""

    def call(self, *addresses: str, is_write: bool = True, repeatable: bool = True) -> Call:
        return Call(
            "PUT /x",
            route=Route(addresses or [A]),
            policy=RetryPolicy(),
            random=FixedRandom(),  # type: ignore[arg-type]
            is_write=is_write,
            repeatable=repeatable,
            prefer_leader=True,
            started=0.0,
        )

    def test_unsafe_repetition(self) -> None:
        """B63: a write without a number is not repeated once it may have been received, and the outcome is unknown."""
        call = self.call(A, B, repeatable=False)
        call.attempt(0.0)
        verdict = call.failed(0.0, errors.OutcomeUnknown(), maybe_received=True)
        assert isinstance(verdict, GiveUp)
        self.assertEqual(verdict.error.outcome, "unknown")

    def test_safe_repetition(self) -> None:
        """A write without a number is repeated where it certainly was not received."""
        call = self.call(A, B, repeatable=False)
        call.attempt(0.0)
        self.assertEqual(call.failed(0.0, errors.NoLeader(), maybe_received=False), Again(0.0))
        self.assertEqual(call.attempt(0.0), Attempt(address=B, timeout_seconds=3.0))

    def test_late_timer(self) -> None:
        """B63: after the deadline nothing is sent, however late the timer that would send it fires."""
        call = self.call()
        call.attempt(0.0)
        self.assertIsInstance(call.failed(0.0, errors.OutcomeUnknown(), maybe_received=True), Again)
        verdict = call.attempt(7200.0)
        assert isinstance(verdict, GiveUp)
        self.assertIsInstance(verdict.error, errors.RequestTimeout)
        self.assertEqual(verdict.error.outcome, "unknown")

    def test_last_attempt_is_short(self) -> None:
        """An attempt never outlives the call."""
        self.assertEqual(self.call().attempt(9.0), Attempt(address=A, timeout_seconds=1.0))

    def test_back_off_is_bounded_and_drawn(self) -> None:
        """Waits double up to their bound, and lie between half of it and all of it."""
        policy, random = RetryPolicy(), Random(1)
        for failures, bound in ((1, 0.05), (2, 0.1), (5, 0.8), (6, 1.0), (10_000, 1.0)):
            for _ in range(100):
                self.assertTrue(bound / 2 <= policy.backoff_seconds(failures, random) <= bound)

    def test_what_is_retried(self) -> None:
        """Leaders, load and lost contact pass; refusals stay."""
        passing = [errors.NoLeader(), errors.ShuttingDown(), errors.Overloaded(), errors.OutcomeUnknown()]
        staying = [errors.BadRequest(), errors.Conflict(), errors.SequenceTooOld(), UnexpectedAnswer(500, "broken")]
        self.assertTrue(all(map(worth_retrying, [*passing, UnexpectedAnswer(502, "gateway")])))
        self.assertFalse(any(map(worth_retrying, staying)))


class AnswerTests(SynchronousTestCase):
    """The reading of answers."""

    def interpret(self, operation: Operation[Any], status: int, body: object, **headers: str) -> Any:
        content = body if isinstance(body, bytes) else json.dumps(body).encode()
        return operation.interpret(Answer(status=status, headers=headers, body=content))

    def test_nonsense(self) -> None:
        """Whatever a body holds, reading it ends in a typed error, and a write's outcome is then unknown."""
        good = {"code": "bad_request", "message": "m", "outcome": "not_applied"}
        for status, body in (
            (200, b""),
            (200, b"\xff"),
            (200, b"[" * 100_000),
            (200, []),
            (200, {}),
            (200, {"revision": True}),
            (200, {"revision": 1.5}),
            (400, b"<html>"),
            (400, {"error": "bad"}),
            (400, {"error": {**good, "outcome": "perhaps"}}),
            (400, {"error": {**good, "code": 1}}),
            (412, {"error": {**good, "code": "precondition_failed"}}),
            (503, {"error": {**good, "code": "made_up", "outcome": "unknown"}}),
        ):
            with self.assertRaises(UnexpectedAnswer) as caught:
                self.interpret(operations.set_value("k", "v"), status, body)
            self.assertEqual((caught.exception.outcome, caught.exception.status), ("unknown", status))
            self.assertLess(len(str(caught.exception)), 400)

    def test_retry_after(self) -> None:
        """Retry-After in seconds is taken over, any other form ignored."""
        told = {"error": {"code": "overloaded", "message": "m", "outcome": "not_applied"}}
        for text, seconds in (("7", 7.0), ("nan", 1.0), ("-1", 1.0), ("Fri, 31 Dec 1999 23:59:59 GMT", 1.0)):
            with self.assertRaises(errors.Overloaded) as caught:
                self.interpret(operations.set_value("k", "v"), 429, told, **{"retry-after": text})
            self.assertEqual(caught.exception.retry_after_seconds, seconds)

    def test_compacted(self) -> None:
        """A compacted revision names the oldest one that is left."""
        told = {"error": {"code": "compacted", "message": "m", "outcome": "not_applied"}, "compact_revision": 5}
        with self.assertRaises(errors.Compacted) as caught:
            self.interpret(operations.get_record("k"), 410, told)
        self.assertEqual(caught.exception.compact_revision, 5)

    def test_base64(self) -> None:
        """A value that is no base64 is refused."""
        body = {"key": "k", "value_base64": "%", "create_revision": 1, "mod_revision": 1, "version": 1}
        with self.assertRaises(UnexpectedAnswer):
            self.interpret(operations.get_record("k"), 200, body)


class ClockTests(SynchronousTestCase):
    """The clock of deadlines."""

    def test_injected_reactor(self) -> None:
        """A reactor that a test hands in is its own clock."""
        clock = Clock()
        clock.advance(5)
        self.assertEqual(steady_clock(clock)(), 5)

    def test_real_reactor(self) -> None:
        """With the real reactor, setting the wall clock back does not lengthen a call."""
        from twisted.internet import reactor

        self.patch(reactor, "seconds", lambda: -1e9)
        now = steady_clock(reactor)
        self.assertGreater(now(), 0)

    def test_core_shares(self) -> None:
        """All calls of one core use one session."""
        core = Core(A, policy=RetryPolicy(), follow_leader=True, random=Random(1), entropy=bytes)
        calls = [core.call(operations.set_value("k", "v"), now=0.0) for _ in range(2)]
        self.assertTrue(all(call.admit() for call in calls))
        self.assertEqual(len(core.session), 2)
        for call in calls:
            call.end()
            call.end()
        self.assertEqual(len(core.session), 0)
