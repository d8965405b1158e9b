"""What operators and their tools ask a node: status, members, health, metrics."""

from __future__ import annotations

from typing import Any

from prometheus_client import CollectorRegistry, generate_latest
from prometheus_client.exposition import CONTENT_TYPE_PLAIN_0_0_4
from twisted.python.failure import Failure

from raftkv.errors import RaftKVError
from raftkv.interfaces import INode
from raftkv.web.documents import json_bytes
from raftkv.web.exchange import JSON, Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.queries import Parameters

_METRICS: Headers = ((b"Content-Type", CONTENT_TYPE_PLAIN_0_0_4.encode("ascii")),)


class NotReady(RaftKVError):
    """The node knows no leader or has not caught up; the message says which."""

    code = "not_ready"
    retry_after_seconds = 1.0


class NodeOperations:
    """The endpoints about one node; every one of them answers without waiting for a leader."""

    def __init__(self, node: INode, registry: CollectorRegistry) -> None:
        self._node = node
        self._registry = registry

    def status(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/status``."""
        exchange.answer(_json(200, self._node.status()))

    def cluster(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /v1/cluster``."""

        def answered(document: dict[str, Any]) -> None:
            exchange.answer(_json(200, document))

        def failed(failure: Failure) -> None:
            problem = failure.value
            fail(exchange, problem if isinstance(problem, Exception) else RuntimeError(repr(problem)))

        self._node.cluster().addCallback(answered).addErrback(failed)

    def live(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /health/live``: that we can answer is all there is to say."""
        exchange.answer(_json(200, {"status": "live"}))

    def ready(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /health/ready``: whether to send requests here."""
        is_ready, missing = self._node.is_ready()
        if not is_ready:
            raise NotReady(missing)
        exchange.answer(_json(200, {"status": "ready"}))

    def metrics(self, exchange: Exchange, parameters: Parameters) -> None:
        """Serve ``GET /metrics``."""
        exchange.answer(Answer(200, _METRICS, generate_latest(self._registry)))


def _json(status: int, document: dict[str, Any]) -> Answer:
    return Answer(status, JSON, json_bytes(document))
