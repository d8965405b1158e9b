"""The whole API of a node: what serves each topic, what holds for every request, and the Klein application.

The routes are declared in :mod:`raftkv.web.routes`. Klein serves all of them; those marked ``fast`` are also served by
:mod:`raftkv.web.connection` before any routing, through the same :meth:`Api.serve`.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import TYPE_CHECKING

from klein import Klein
from klein.resource import KleinResource
from prometheus_client.registry import Collector
from twisted.internet.defer import Deferred
from twisted.internet.interfaces import IReactorTime
from twisted.python.failure import Failure
from twisted.web.iweb import IRequest
from werkzeug.exceptions import HTTPException
from werkzeug.routing import BaseConverter

from raftkv.errors import MethodNotAllowed, NotFound
from raftkv.interfaces import IBackups, IKeyValue, INode
from raftkv.reading.opening import Ranges
from raftkv.reading.tokens import ContinueTokens
from raftkv.reading.turns import Turns
from raftkv.web.access import Access
from raftkv.web.bodies import body_too_large
from raftkv.web.elections import ElectionOperations
from raftkv.web.exchange import Answer, Exchange, Headers
from raftkv.web.failures import fail
from raftkv.web.heads import BODILESS, REASONS, CommonHeaders
from raftkv.web.health import NodeOperations
from raftkv.web.leases import LeaseOperations
from raftkv.web.locks import LockOperations
from raftkv.web.members import MemberOperations
from raftkv.web.metrics import RequestMetrics, make_registry
from raftkv.web.operations import KEY_PREFIX, KeyValueOperations
from raftkv.web.parameters import check_origin, query_parameters, shown
from raftkv.web.ranges import RangeOperations
from raftkv.web.requestbody import RequestBody
from raftkv.web.routes import Operation, Operations, Route, declare_routes
from raftkv.web.settings import SETTING_NAMES, WebSettings
from raftkv.web.snapshots import SnapshotOperations
from raftkv.web.streaming import OpenBodies, Streamed
from raftkv.web.transactions import TransactionOperations
from raftkv.web.watching import WatchOperations

if TYPE_CHECKING:
    from klein._app import KleinRenderable


class Api:
    """The HTTP API of one node, apart from sockets.

    :ivar app: the Klein application; ``app.resource()`` is the whole API as a resource of ``twisted.web``.
    :ivar routes: what it serves.
    :ivar settings: the bounds it keeps.
    :ivar metrics: counts of its requests.
    :ivar common_headers: what every answer bears.
    :ivar seconds: the reactor's clock.
    :ivar open_bodies: answers that come in pieces and have not ended.
    """

    def __init__(
        self,
        *,
        key_value: IKeyValue,
        node: INode,
        settings: WebSettings,
        clock: IReactorTime,
        wall_seconds: Callable[[], float],
        collectors: tuple[Collector, ...] = (),
        backups: IBackups | None = None,
    ) -> None:
        """
        :param clock: the reactor, for how long requests take, and for answers that are made over several turns.
        :param wall_seconds: Unix time, for the ``Date`` of answers.
        :param collectors: more metrics, such as those of the process.
        :param backups: the node's snapshots.
        """
        self.settings = settings
        self.seconds = clock.seconds
        self._unquestioned_bytes = min(settings.max_value_bytes, settings.max_body_bytes)
        self.metrics = RequestMetrics(clock.seconds)
        self.common_headers = CommonHeaders(node, wall_seconds)
        self.open_bodies = OpenBodies()
        registry = make_registry(node, self.metrics, *collectors)
        access = Access(key_value, settings)
        tokens = ContinueTokens(lambda: str(node.status()["cluster_id"]))
        self.routes = declare_routes(
            Operations(
                keys=KeyValueOperations(access),
                ranges=RangeOperations(access, Ranges(key_value, tokens, Turns(clock))),
                transactions=TransactionOperations(access, tokens),
                leases=LeaseOperations(access, tokens),
                locks=LockOperations(access, tokens),
                elections=ElectionOperations(access),
                watches=WatchOperations(key_value, settings),
                node=NodeOperations(node, registry),
                members=MemberOperations(node),
                snapshots=SnapshotOperations(backups),
            )
        )
        self._by_path = {r.template.encode("ascii"): r for r in self.routes}
        self._key_route = self._by_path.pop(KEY_PREFIX + b"{key}")
        self.app = _make_app(self)

    # -- finding a route ----------------------------------------------------------------------------------------------

    def fast_route(self, path: bytes) -> Route | None:
        """Return the route of a raw path, if it has the fast lane."""
        if path.startswith(KEY_PREFIX):
            return self._key_route
        route = self._by_path.get(path)
        return route if route is not None and route.fast else None

    def max_body_bytes(self, method: bytes, path: bytes) -> tuple[int, str]:
        """Return how large a body may be, and the name of the setting that says so.

        Called as soon as the headers are there, so that nothing larger is ever read.
        """
        if method == b"PUT" and path.startswith(KEY_PREFIX):
            return self.settings.max_value_bytes, SETTING_NAMES["max_value_bytes"]
        return self.settings.max_body_bytes, SETTING_NAMES["max_body_bytes"]

    # -- serving ------------------------------------------------------------------------------------------------------

    def serve(self, route: Route, exchange: Exchange) -> None:
        """Answer an exchange, now or later.

        Both lanes come through here: all rules that hold for every request stand in this one place.
        """
        exchange.route = route.template
        exchange.observed_by(self.metrics.observe)
        try:
            headers = exchange.headers
            if b"origin" in headers:
                check_origin(headers)
            operation = route.operations.get(exchange.method)
            if operation is None:
                operation = self._implied(route, exchange)
                if operation is None:
                    return
            if exchange.body:
                if len(exchange.body) > self._unquestioned_bytes:
                    self._check_body(exchange)
                if operation.body == "none":
                    exchange.body = b""  # it means nothing, and what it takes would be kept until the answer
            operation.serve(exchange, query_parameters(exchange.query, operation.query))
        except Exception as error:
            fail(exchange, error)

    def refuse(self, exchange: Exchange, error: Exception) -> None:
        """Answer an exchange that has no route with an error."""
        exchange.observed_by(self.metrics.observe)
        try:
            check_origin(exchange.headers)
        except Exception as forbidden:
            error = forbidden
        fail(exchange, error)

    def _implied(self, route: Route, exchange: Exchange) -> Operation | None:
        """Return the operation of a method that is not in the table; ``None`` where it has been answered already."""
        if exchange.method == b"HEAD" and b"GET" in route.operations:
            return route.operations[b"GET"]
        allowed = route.allowed()
        if exchange.method == b"OPTIONS":
            exchange.answer(Answer(204, ((b"Allow", ", ".join(allowed).encode("ascii")),), b""))
            return None
        raise MethodNotAllowed(exchange.method.decode("ascii", "backslashreplace"), allowed)

    def _check_body(self, exchange: Exchange) -> None:
        limit, setting = self.max_body_bytes(exchange.method, exchange.path)
        if len(exchange.body) > limit:
            raise body_too_large(len(exchange.body), limit, setting)


# -- Klein ------------------------------------------------------------------------------------------------------------


class _Rest(BaseConverter):
    """Everything that is left of a path, also where that is nothing or starts with a slash."""

    regex = ".*"
    part_isolating = False


class ApiResource(KleinResource):
    """Klein's resource, for paths that are not to be touched and answers that are always JSON."""

    def render(self, request: IRequest) -> KleinRenderable:
        """Route a request by its raw path.

        Twisted has decoded the path by now, so that ``%2F`` would look like a slash; bytes that are no UTF-8 would
        make Klein answer with a text of its own.
        """
        path = request.uri.partition(b"?")[0]
        request.prepath = []
        request.postpath = path[1:].decode("latin-1").encode("utf-8").split(b"/")
        if path.startswith(b"//") or not path.startswith(b"/"):
            # werkzeug would make /get of //get, and / of *. No route is called so:
            request.postpath = [b"*"]
        return super().render(request)


class ApiKlein(Klein):
    """A Klein application whose resource is an :class:`ApiResource`."""

    def resource(self) -> ApiResource:
        """Return the whole API as a resource."""
        return ApiResource(self)


def _make_app(api: Api) -> ApiKlein:
    app = ApiKlein()
    app.url_map.converters["rest"] = _Rest
    for route in api.routes:
        rule = (
            route.template.replace("{key}", "<rest:key>")
            .replace("{name}", "<rest:name>")
            .replace("{id}", "<string:id>")
        )
        app.route(rule, endpoint=route.template)(_handler(api, route))

    @app.handle_errors(HTTPException)
    def unrouted(request: IRequest, failure: Failure) -> Deferred[bytes]:
        path = request.uri.partition(b"?")[0]
        return _answered(request, api, lambda exchange: api.refuse(exchange, _no_such_path(path)))

    return app


def _handler(api: Api, route: Route) -> Callable[..., Deferred[bytes]]:
    def handle(request: IRequest, **path_parameters: str) -> Deferred[bytes]:
        return _answered(request, api, lambda exchange: api.serve(route, exchange))

    return handle


def _no_such_path(path: bytes) -> NotFound:
    return NotFound(f"there is nothing at {shown(path)}")


def _answered(request: IRequest, api: Api, serve: Callable[[Exchange], None]) -> Deferred[bytes]:
    """Serve a request of ``twisted.web``.

    :return: fires with the body, once status and headers stand in the request.
    """
    # Klein cancels it when the client goes away.
    finished: Deferred[bytes] = Deferred(lambda _: abandon())
    body = RequestBody(request, finished)

    def abandon() -> None:
        exchange.abandon()
        body.lost()

    def send(answer: Answer | Streamed) -> None:
        if isinstance(answer, Streamed):
            _set_head(request, api, answer.status, answer.headers, answer.length)
            body.begin(answer, api.open_bodies)
        else:
            _set_head(request, api, answer.status, answer.headers, len(answer.body))
            finished.callback(answer.body)

    exchange = _exchange_of(request, api, send)
    serve(exchange)
    return finished


def _exchange_of(request: IRequest, api: Api, send: Callable[[Answer | Streamed], None]) -> Exchange:
    path, _, query = request.uri.partition(b"?")
    headers = {name.lower(): b", ".join(values) for name, values in request.requestHeaders.getAllRawHeaders()}
    body = request.content.read()
    request.content.close()  # or it would be kept twice until the answer
    return Exchange(request.method, path, query, headers, body, api.seconds(), send)


def _set_head(request: IRequest, api: Api, status: int, headers: Headers, length: int | None) -> None:
    """Put status and headers into a request of ``twisted.web``, in the order that the fast lane has."""
    request.setResponseCode(status, REASONS[status])
    request.defaultContentType = None  # type: ignore[attr-defined]  # of twisted.web.server.Request; not text/html
    for name, value in (*api.common_headers.pairs(), *headers):
        request.responseHeaders.setRawHeaders(name, [value])
    if length is not None and status not in BODILESS:
        request.responseHeaders.setRawHeaders(b"Content-Length", [b"%d" % length])
