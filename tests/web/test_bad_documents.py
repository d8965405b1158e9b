"""Documents that nobody would send on purpose, to every endpoint that takes one: they are 4xx, and change nothing.

Every seed is fixed, so a failure comes again; it names its seed and what was sent.
"""

from __future__ import annotations

import json
import random
from typing import Any

from twisted.trial.unittest import SynchronousTestCase

from raftkv.kvstore import commands
from raftkv.web.settings import WebSettings
from tests.web.lanes import Lane, parse_responses, request

SEEDS = 600
REFUSALS = {400, 404, 409, 410, 412, 413}

COMPARE = {"key": "a", "target": "version", "op": "=", "value": 1}
OPERATIONS: tuple[dict[str, Any], ...] = (
    {"op": "put", "key": "b", "value": "x", "lease": 1},
    {"op": "get", "key": "a", "revision": 2},
    {"op": "delete", "prefix": "c/"},
    {"op": "delete", "key": "d"},
    {"op": "range", "start": "a", "end": "z", "limit": 2, "reverse": True, "keys_only": True},
    {"op": "txn", "compare": [COMPARE], "success": [{"op": "put", "key": "e", "value_base64": "eA=="}], "failure": []},
)
DOCUMENTS: tuple[tuple[str, str, dict[str, Any]], ...] = (
    ("POST", "/v1/txn", {"compare": [COMPARE], "success": list(OPERATIONS), "failure": [{"op": "get", "key": "a"}]}),
    ("POST", "/set", {"key": "a", "value": "x", "ttl": 5}),
    ("POST", "/set", {"key": "a", "value": "x", "lease": 1}),
    ("POST", "/v1/increment", {"key": "n", "by": 2}),
    ("POST", "/v1/compact", {"revision": 2}),
    ("POST", "/v1/leases", {"ttl": 5}),
    ("POST", "/v1/locks/free", {"ttl": 5, "wait": 0}),
    ("POST", "/v1/elections/e", {"value": "x", "lease": 1}),
    ("PUT", "/v1/elections/held?token=4", {"value": "x"}),
)
STRANGE: tuple[Any, ...] = (
    *(None, True, False, 0, -1, 1, 2**31, 2**63 - 1, 2**63, 2**64, 2**200, -(2**63), -(2**63) - 1, 0.5, -0.0, 1e300),
    *("", "x", "\x00", "a" * 40, "é", "=", "put", "txn", "value", [], {}, [[]], [{}], {"op": "put"}, ["x"] * 3),
    *(COMPARE, *OPERATIONS, [COMPARE] * 9, [*OPERATIONS, *OPERATIONS]),
)
NAMES = (
    "key",
    "prefix",
    "start",
    "end",
    "value",
    "value_base64",
    "op",
    "target",
    "limit",
    "revision",
    "lease",
    "ttl",
    "x",
)


def spoil(chance: random.Random, document: Any) -> Any:
    """Change something somewhere in a document."""
    document = json.loads(json.dumps(document))
    for _ in range(chance.choice((1, 1, 2, 3))):
        place = document
        while True:
            keys = list(place) if isinstance(place, dict) else range(len(place))
            deeper = [place[key] for key in keys if isinstance(place[key], (dict, list)) and place[key]]
            if not deeper or chance.random() < 0.3:
                break
            place = chance.choice(deeper)
        change(chance, place)
    return document


def change(chance: random.Random, place: Any) -> None:
    """Change, add or drop one member of an object or a list."""
    strange = json.loads(json.dumps(chance.choice(STRANGE)))
    if isinstance(place, dict):
        name = chance.choice([*place, *NAMES])
        if chance.random() < 0.25:
            place.pop(name, None)
        else:
            place[name] = strange
    elif chance.random() < 0.3 or not place:
        place.append(strange)
    else:
        place[chance.randrange(len(place))] = strange


class BadDocumentTests(SynchronousTestCase):
    """All endpoints that take a document."""

    def setUp(self) -> None:
        self.lanes = [Lane(has_fast_lane=has_fast_lane, settings=WebSettings()) for has_fast_lane in (True, False)]
        for lane in self.lanes:
            self.addCleanup(lane.hang_up)
            lane.key_value.apply(
                commands.grant(60_000),
                *(commands.put(key, b"1") for key in (b"a", b"c/1", b"d")),
                commands.lock(b"elections/held", ttl_ms=60_000, key=b"elections/held", value=b"x"),
            )

    def ask(self, lane: Lane, data: bytes) -> bytes:
        """Send a request on a new connection, which must be answered at once."""
        lane.hang_up()
        lane.connect()
        lane.connection.dataReceived(data)
        lane.clock.advance(0)
        return lane.received()

    def test_good(self) -> None:
        """Each of the documents is carried out as it stands."""
        for method, target, document in DOCUMENTS:
            data = request(method, target, body=json.dumps(document).encode())
            (answer,) = parse_responses(self.ask(self.lanes[0], data))
            self.assertEqual((target, answer.status), (target, 200), answer.body)

    def test_spoiled(self) -> None:
        """Whatever is wrong is a refusal that names something, the same on both lanes; what is refused leaves the state
        as it was, and nothing that is proposed is malformed."""
        statuses = set()
        for seed in range(SEEDS):
            chance = random.Random(seed)
            method, target, document = chance.choice(DOCUMENTS)
            body = json.dumps(spoil(chance, document)).encode()
            data = request(method, target, body=body)
            story = f"seed {seed}: {method} {target} {body!r}"
            digests = [lane.key_value.store.digest() for lane in self.lanes]
            fast, klein = (self.ask(lane, data) for lane in self.lanes)
            self.assertEqual(fast, klein, story)
            (answer,) = parse_responses(fast)
            statuses.add(answer.status)
            if answer.status != 200:
                self.assertIn(answer.status, REFUSALS, story)
                self.assertEqual(answer.error["outcome"], "not_applied", story)
                self.assertEqual([lane.key_value.store.digest() for lane in self.lanes], digests, story)
        self.assertGreaterEqual(statuses, {200, 400, 404})
        self.assertEqual(self.flushLoggedErrors(), [])
