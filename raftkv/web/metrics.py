"""The numbers behind ``/metrics``.

Requests are counted in plain dictionaries and lists and turned into Prometheus' families only when somebody asks: a
labelled counter of the client library costs more than the rest of a cheap request. What the node itself counts is
read at that moment too. One registry a node, so that several nodes may live in one process.
"""

from __future__ import annotations

from bisect import bisect_left
from collections.abc import Callable, Collection, Iterator
from typing import Final

from prometheus_client import CollectorRegistry
from prometheus_client.core import CounterMetricFamily, GaugeMetricFamily, HistogramMetricFamily
from prometheus_client.metrics_core import Metric
from prometheus_client.registry import Collector

from raftkv.interfaces import INode
from raftkv.web.exchange import Exchange

BUCKETS_SECONDS: Final = (0.0005, 0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)

#: Fields of the status that are numbers, and what each is.
_GAUGES: Final = {
    "term": "the current term",
    "commit_index": "the highest log index known to be committed",
    "applied_index": "the highest log index applied to the store",
    "first_index": "the first index that the log still holds",
    "last_index": "the last index of the log",
    "snapshot_index": "the last index that the newest snapshot covers",
    "revision": "the revision of this node's store",
    "compact_revision": "revisions below this one can no longer be read",
    "keys": "keys in this node's store",
    "archived_index": "the last index that is in the archive of this node's log",
    "uptime": "seconds since the node was started",
}

#: What a node counts up and down, and what each is.
_LEVELS: Final = {"watchers": "watches open on this node, long polls included"}

#: What a node may raise in ``alarms`` of its status: each is shown, raised or not, so that a rule can be made of it.
_ALARMS: Final = (
    "archive_behind",
    "archive_failed",
    "archive_gap",
    "cluster_full",
    "digest_tie",
    "disk_full",
    "disk_nearly_full",
    "disk_stalled",
    "fenced",
    "log_incomplete",
    "snapshot_failed",
)

#: Anything else is counted as ``other``: a method is any word that a client likes, and each label costs memory.
_METHODS: Final = frozenset({b"GET", b"HEAD", b"POST", b"PUT", b"DELETE", b"OPTIONS"})


class _Latency:
    """How long the requests of one route and method took.

    :ivar counts: requests by bucket, not yet cumulated; the last is for those above every bound.
    :ivar total_seconds: the sum over all of them.
    """

    __slots__ = ("counts", "total_seconds")

    def __init__(self) -> None:
        self.counts = [0] * (len(BUCKETS_SECONDS) + 1)
        self.total_seconds = 0.0


class RequestMetrics(Collector):
    """Counts of requests and how long they took.

    :ivar connections: how many are open at the moment.
    """

    def __init__(self, seconds: Callable[[], float]) -> None:
        """
        :param seconds: the reactor's clock.
        """
        self._seconds = seconds
        self._requests: dict[tuple[str, bytes, int], int] = {}
        self._latencies: dict[tuple[str, bytes], _Latency] = {}
        self.connections = 0

    def observe(self, exchange: Exchange, status: int) -> None:
        """Note that a request is being answered."""
        route = exchange.route
        method = exchange.method if exchange.method in _METHODS else b"other"
        self.count(route, method, status)
        latency = self._latencies.get((route, method))
        if latency is None:
            latency = self._latencies[route, method] = _Latency()
        elapsed_seconds = self._seconds() - exchange.started
        latency.counts[bisect_left(BUCKETS_SECONDS, elapsed_seconds)] += 1
        latency.total_seconds += elapsed_seconds

    def count(self, route: str, method: bytes, status: int) -> None:
        """Note an answer without a time: a request that was refused before all of it had arrived."""
        counted = (route, method if method in _METHODS else b"other", status)
        try:
            self._requests[counted] += 1
        except KeyError:
            self._requests[counted] = 1

    def describe(self) -> Iterator[Metric]:
        """Name the families, so that a registry can tell at once when two collectors collide."""
        yield from self.collect()

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as prometheus-client asks for them."""
        requests = CounterMetricFamily(
            "raftkv_http_requests", "HTTP requests answered", labels=("route", "method", "status")
        )
        for (route, method, status), count in self._requests.items():
            requests.add_metric((route, method.decode("ascii"), str(status)), count)
        yield requests
        durations = HistogramMetricFamily(
            "raftkv_http_request_duration_seconds",
            "from the arrival of a whole request to its answer",
            labels=("route", "method"),
        )
        for (route, method), latency in self._latencies.items():
            durations.add_metric((route, method.decode("ascii")), _cumulated(latency.counts), latency.total_seconds)
        yield durations
        yield GaugeMetricFamily("raftkv_http_connections", "HTTP connections open", value=self.connections)


def _cumulated(counts: list[int]) -> list[tuple[str, float]]:
    buckets: list[tuple[str, float]] = []
    total = 0
    for bound, count in zip((*map(str, BUCKETS_SECONDS), "+Inf"), counts, strict=True):
        total += count
        buckets.append((bound, total))
    return buckets


class NodeMetrics(Collector):
    """What a node says of itself, as metrics."""

    def __init__(self, node: INode) -> None:
        self._node = node

    def describe(self) -> Iterator[Metric]:
        """Describe nothing: at registration the node may not have started yet."""
        return iter(())

    def collect(self) -> Iterator[Metric]:
        """Yield the families, as prometheus-client asks for them."""
        leadership = self._node.leadership()
        yield GaugeMetricFamily("raftkv_is_leader", "1 on the leader", value=float(leadership.is_leader))
        yield GaugeMetricFamily(
            "raftkv_has_leader", "1 where a leader is known", value=float(leadership.leader is not None)
        )
        yield GaugeMetricFamily(
            "raftkv_ready",
            "1 once a leader is known and this node has caught up",
            value=float(self._node.is_ready()[0]),
        )
        status = self._node.status()
        for name, meaning in _GAUGES.items():
            value = status.get(name)
            if isinstance(value, (int, float)):
                unit = "_seconds" if name == "uptime" else ""
                yield GaugeMetricFamily(f"raftkv_{name}{unit}", meaning, value=value)
        yield _alarms(status.get("alarms", ()))
        for name, count in sorted(self._node.counters().items()):
            if name in _LEVELS:
                yield GaugeMetricFamily(f"raftkv_{name}", _LEVELS[name], value=count)
            else:
                yield CounterMetricFamily(f"raftkv_{name}", f"{name.replace('_', ' ')} since the start", value=count)


def _alarms(raised: Collection[str]) -> Metric:
    alarms = GaugeMetricFamily("raftkv_alarm", "1 while the node raises an alarm", labels=("alarm",))
    for name in sorted({*_ALARMS, *raised}):
        alarms.add_metric((name,), float(name in raised))
    return alarms


def make_registry(node: INode, requests: RequestMetrics, *others: Collector) -> CollectorRegistry:
    """Return a registry of its own for one node.

    :param others: more collectors, such as that of the process.
    """
    registry = CollectorRegistry()
    for collector in (requests, NodeMetrics(node), *others):
        registry.register(collector)
    return registry
