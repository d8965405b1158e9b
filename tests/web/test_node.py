"""Status, members, health and metrics, through both lanes."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

from prometheus_client.core import GaugeMetricFamily
from prometheus_client.parser import text_string_to_metric_families
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.task import Clock
from twisted.trial.unittest import SynchronousTestCase

from raftkv import errors
from raftkv.web.app import Api
from raftkv.web.settings import WebSettings
from tests.web.fakes import FakeKeyValue, FakeNode
from tests.web.lanes import GET_STATUS, LaneTestCase


class StatusTests(LaneTestCase):
    """``/v1/status`` and ``/v1/cluster``."""

    def test_status(self) -> None:
        """The status is what the node says of itself."""
        self.assertEqual(self.ask_json("GET", "/v1/status"), self.fast.node.status())
        head = self.ask("HEAD", "/v1/status")
        self.assertEqual((head.status, head.body), (200, b""))
        self.assertGreater(int(head.headers[b"Content-Length"]), 0)

    def test_cluster(self) -> None:
        """The members are what the node, or the leader it asks, knows of them."""
        self.assertEqual(self.ask_json("GET", "/v1/cluster"), self.fast.node.local_cluster())

    def test_cluster_takes_its_time(self) -> None:
        """The answer waits for the leader's, and so does the next request of the connection."""
        waiting: list[Deferred[dict[str, Any]]] = []
        for lane in self.lanes:
            lane.node.cluster_result = Deferred()
            waiting.append(lane.node.cluster_result)
        self.assertEqual(self.send(b"GET /v1/cluster HTTP/1.1\r\nHost: x\r\n\r\n" + GET_STATUS), b"")
        for result in waiting:
            result.callback({"members": []})
        self.assertIn(b'{"members":[]}\nHTTP/1.1 200 OK', self.received())

    def test_cluster_fails(self) -> None:
        """An error of the leader is told as what it is."""
        for lane in self.lanes:
            lane.node.cluster_result = Deferred()
            lane.node.cluster_result.errback(errors.RequestTimeout("the leader did not answer", "unknown"))
        refused = self.ask("GET", "/v1/cluster")
        self.assert_refused(refused, 504, "timeout", "the leader did not answer")
        self.assertEqual(refused.error["outcome"], "not_applied")


class CommonHeaderTests(LaneTestCase):
    """The headers of every answer."""

    def test_nobody_adds_a_header(self) -> None:
        """What another node says of itself stays in its one line, whatever it says."""
        for lane in self.lanes:
            lane.node.now = replace(lane.node.now, leader_http_addr="a:1\r\nSet-Cookie: b\x00\n\r\n<p>")
        for path in ("/v1/status", "/get?key=a", "/nope"):
            answer = self.ask("GET", path)
            self.assertEqual(answer.headers[b"X-Raft-Leader"], b"a:1??Set-Cookie: b????<p>")
            self.assertNotIn(b"Set-Cookie", answer.headers)


class HealthTests(LaneTestCase):
    """``/health/live`` and ``/health/ready``."""

    def test_live(self) -> None:
        """A node that answers is alive, whatever else it lacks."""
        self.each(lambda lane: setattr(lane.node, "ready", (False, "no leader is known")))
        self.assertEqual(self.ask("GET", "/health/live").status, 200)

    def test_ready(self) -> None:
        """A node is ready once it knows a leader and has caught up; until then it says what is missing."""
        self.assertEqual(self.ask("GET", "/health/ready").status, 200)
        self.each(lambda lane: setattr(lane.node, "ready", (False, "applied 3 of 9 entries")))
        refused = self.ask("GET", "/health/ready")
        self.assert_refused(refused, 503, "not_ready", "applied 3 of 9 entries")
        self.assertEqual(refused.headers[b"Retry-After"], b"1")


class MetricsTests(LaneTestCase):
    """``/metrics``."""

    def samples(self) -> dict[str, float]:
        """Return what a scrape finds, by name and labels."""
        answer = self.ask("GET", "/metrics")
        self.assertEqual(answer.headers[b"Content-Type"], b"text/plain; version=0.0.4; charset=utf-8")
        return {
            sample.name + "".join(f" {k}={v}" for k, v in sorted(sample.labels.items())): sample.value
            for family in text_string_to_metric_families(answer.body.decode())
            for sample in family.samples
        }

    def test_alarms(self) -> None:
        """Each alarm is shown, raised or not, and one that is not known here too."""
        for known in ("disk_stalled", "disk_nearly_full"):
            self.assertEqual(self.samples()[f"raftkv_alarm alarm={known}"], 0)
        self.each(lambda lane: setattr(lane.node, "alarms", ["disk_stalled", "other"]))
        samples = self.samples()
        self.assertEqual(samples["raftkv_alarm alarm=disk_stalled"], 1)
        self.assertEqual(samples["raftkv_alarm alarm=other"], 1)

    def test_requests_are_counted(self) -> None:
        """Requests are counted by route, method and status, and timed by route and method."""
        self.each(lambda lane: setattr(lane.key_value, "holds", True))
        self.send(b"GET /v1/kv/secret?consistency=stale HTTP/1.1\r\nHost: x\r\n\r\n")
        self.each(lambda lane: lane.clock.advance(0.3))
        self.each(lambda lane: lane.key_value.let_through())
        self.received()
        self.ask("POST", "/v1/kv/x")
        self.ask("MADEUP", "/nope")
        self.ask("PUT", "/v1/kv/x", "Content-Length: 99999999")
        samples = self.samples()
        requests, duration = "raftkv_http_requests_total", "raftkv_http_request_duration_seconds"
        self.assertEqual(samples[f"{requests} method=GET route=/v1/kv/{{key}} status=404"], 1)
        self.assertEqual(samples[f"{requests} method=POST route=/v1/kv/{{key}} status=405"], 1)
        self.assertEqual(samples[f"{requests} method=other route=other status=404"], 1)
        self.assertEqual(samples[f"{requests} method=PUT route=other status=413"], 1)
        self.assertEqual(samples[f"{duration}_bucket le=0.25 method=GET route=/v1/kv/{{key}}"], 0)
        self.assertEqual(samples[f"{duration}_bucket le=0.5 method=GET route=/v1/kv/{{key}}"], 1)
        self.assertEqual(samples[f"{duration}_bucket le=+Inf method=GET route=/v1/kv/{{key}}"], 1)
        self.assertEqual(samples[f"{duration}_count method=GET route=/v1/kv/{{key}}"], 1)
        self.assertAlmostEqual(samples[f"{duration}_sum method=GET route=/v1/kv/{{key}}"], 0.3)
        self.assertEqual(samples["raftkv_http_connections"], 1)
        self.assertNotIn("secret", str(samples))

    def test_the_node_is_measured(self) -> None:
        """The node's numbers and counters are there under names of their own."""
        samples = self.samples()
        for name, value in {
            "raftkv_term": 7,
            "raftkv_revision": 42,
            "raftkv_uptime_seconds": 1.5,
            "raftkv_is_leader": 0,
            "raftkv_has_leader": 1,
            "raftkv_ready": 1,
            "raftkv_proposals_total": 3,
            "raftkv_applied_commands_total": 5,
            "raftkv_watchers": 7,
        }.items():
            self.assertEqual((name, samples[name]), (name, value))

    def test_labels_are_bounded(self) -> None:
        """Whatever methods and paths clients make up, they make no new time series (B70)."""
        before = len(self.samples())
        for i in range(20):
            self.ask(f"METHOD{i}", f"/path{i}")
            self.ask(f"METHOD{i}", f"/v1/kv/key{i}")
        first = len(self.samples())
        for i in range(20, 40):
            self.ask(f"METHOD{i}", f"/path{i}")
            self.ask(f"METHOD{i}", f"/v1/kv/key{i}")
        self.assertEqual(len(self.samples()), first)
        self.assertGreater(first, before)


class RegistryTests(SynchronousTestCase):
    """One registry a node."""

    def test_two_nodes_and_more_collectors(self) -> None:
        """Nodes of one process do not share their metrics, and each may be given more."""

        class More(Collector):
            def collect(self) -> list[GaugeMetricFamily]:
                return [GaugeMetricFamily("raftkv_more", "more", value=1)]

        clock = Clock()
        for _ in range(2):
            Api(
                key_value=FakeKeyValue(),
                node=FakeNode(),
                settings=WebSettings(),
                clock=clock,
                wall_seconds=clock.seconds,
                collectors=(More(),),
            )
