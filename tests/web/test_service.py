"""The server as a service, and connections of both kinds of transport."""

from __future__ import annotations

import socket

from twisted.internet.defer import Deferred, succeed
from twisted.internet.endpoints import TCP4ServerEndpoint
from twisted.internet.error import CannotListenError, ConnectionDone
from twisted.internet.interfaces import IListeningPort, IStreamServerEndpoint, ITCPTransport
from twisted.internet.protocol import Factory, Protocol
from twisted.internet.task import Clock
from twisted.internet.testing import MemoryReactorClock
from twisted.python.failure import Failure
from twisted.test.iosim import FakeTransport, connectedServerAndClient
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import implementer

from raftkv.web import Api, ApiSite, HttpService, WebSettings
from raftkv.web.connection import HttpConnection
from tests.web.fakes import FakeKeyValue, FakeNode
from tests.web.lanes import Transport, parse_responses, request

GET = b"GET /get?key=a HTTP/1.1\r\nHost: x\r\n\r\n"
SLOW = b"GET /v1/cluster HTTP/1.1\r\nHost: x\r\n\r\n"


@implementer(IListeningPort)
class FakePort:
    """A port that can be open.

    :ivar is_open: whether it is.
    """

    def __init__(self) -> None:
        self.is_open = True

    def startListening(self) -> None:
        self.is_open = True

    def stopListening(self) -> Deferred[None]:
        self.is_open = False
        return succeed(None)

    def getHost(self) -> object:
        return None


@implementer(IStreamServerEndpoint)
class FakeEndpoint:
    """Listens when a test says so.

    :ivar result: what ``listen`` returns, where that is not an open port at once.
    """

    def __init__(self) -> None:
        self.ports: list[FakePort] = []
        self.result: Deferred[FakePort] | None = None

    def listen(self, factory: Factory) -> Deferred[FakePort]:
        if self.result is not None:
            return self.result
        self.ports.append(FakePort())
        return succeed(self.ports[-1])


class ServiceTestCase(SynchronousTestCase):
    """A service whose clock and connections a test holds."""

    def setUp(self) -> None:
        self.clock = Clock()
        self.key_value = FakeKeyValue()
        self.node = FakeNode()
        api = Api(
            key_value=self.key_value,
            node=self.node,
            settings=WebSettings(),
            clock=self.clock,
            wall_seconds=self.clock.seconds,
        )
        self.site = ApiSite(reactor=self.clock, api=api)
        self.endpoint = FakeEndpoint()
        self.service = HttpService(endpoint=self.endpoint, site=self.site)
        self.addCleanup(lambda: self.assertEqual(self.clock.getDelayedCalls(), []))

    def connect(self, data: bytes = b"") -> tuple[HttpConnection, Transport]:
        transport = Transport()
        connection = self.site.buildProtocol(None)
        connection.makeConnection(transport)
        connection.dataReceived(data)
        return connection, transport

    def lose(self, connection: HttpConnection) -> None:
        connection.connectionLost(Failure(ConnectionDone()))


@implementer(ITCPTransport)
class SocketTransport(Transport):
    """A transport that has a socket, which is never connected."""

    def __init__(self, handle: socket.socket) -> None:
        super().__init__()
        self.handle = handle
        self.keeps_alive = False

    def getHandle(self) -> socket.socket:
        return self.handle

    def setTcpNoDelay(self, enabled: bool) -> None:
        pass

    def setTcpKeepAlive(self, enabled: bool) -> None:
        self.keeps_alive = enabled


class SilenceTests(ServiceTestCase):
    """Clients whose machines go without a word."""

    def test_noticed(self) -> None:
        """The kernel is to find out within a minute: a request may wait for an hour, and keeps its place so long."""
        handle = socket.socket()
        self.addCleanup(handle.close)
        transport = SocketTransport(handle)
        connection = self.site.buildProtocol(None)
        connection.makeConnection(transport)
        self.assertTrue(transport.keeps_alive)
        if hasattr(socket, "TCP_KEEPIDLE"):
            options = [getattr(socket, f"TCP_KEEP{name}") for name in ("IDLE", "INTVL", "CNT")]
            idle, interval, times = (handle.getsockopt(socket.IPPROTO_TCP, option) for option in options)
            self.assertEqual(idle + interval * times, 60)
        self.lose(connection)


class ServiceTests(ServiceTestCase):
    """Starting and stopping."""

    def test_start_and_stop_twice(self) -> None:
        """A service that was stopped can be started again, and serves again."""
        for _ in range(2):
            self.service.startService()
            self.assertIs(self.service.port, self.endpoint.ports[-1])
            connection, transport = self.connect(GET)
            self.assertNotIn(b"Connection: close", transport.value())
            stopped = self.service.stopService()
            self.assertFalse(self.endpoint.ports[-1].is_open)
            self.clock.advance(self.site.api.settings.farewell_seconds)
            self.assertTrue(transport.disconnecting)
            self.assertNoResult(stopped)
            self.lose(connection)
            self.successResultOf(stopped)
            self.assertIsNone(self.service.port)

    def test_stop_without_connections(self) -> None:
        """Stopping an idle server takes no time."""
        self.service.startService()
        self.successResultOf(self.service.stopService())

    def test_requests_in_flight_finish(self) -> None:
        """A stopping server answers the request it serves, says that it will close, and serves no more of them."""
        self.service.startService()
        self.key_value.holds = True
        fast, transport = self.connect(GET + GET)
        self.node.cluster_result = Deferred()
        slow, slow_transport = self.connect(SLOW)
        stopped = self.service.stopService()
        self.assertFalse(transport.disconnecting)
        self.assertFalse(slow_transport.disconnecting)
        self.key_value.let_through()
        self.node.cluster_result.callback({})
        for connection, closing in ((fast, transport), (slow, slow_transport)):
            (answer,) = parse_responses(closing.value())
            self.assertEqual(answer.headers[b"Connection"], b"close")
            self.assertTrue(closing.disconnecting)
            self.assertNoResult(stopped)
            self.lose(connection)
        self.assertEqual(self.key_value.waiting, [])
        self.successResultOf(stopped)

    def test_request_that_is_arriving_is_served(self) -> None:
        """A request of which a part has come is still read and answered."""
        self.service.startService()
        connection, transport = self.connect(GET[:10])
        stopped = self.service.stopService()
        connection.dataReceived(GET[10:])
        self.assertEqual(parse_responses(transport.value())[0].status, 404)
        self.lose(connection)
        self.successResultOf(stopped)

    def test_request_under_way_is_served(self) -> None:
        """A connection that is idle when the server begins to stop is not closed at once: a request that is on its
        way would have an unknown outcome. It is answered, and told that it was the last one."""
        self.service.startService()
        connection, transport = self.connect(GET)
        stopped = self.service.stopService()
        self.assertFalse(transport.disconnecting)
        self.clock.advance(0.1)
        connection.dataReceived(GET)
        _, answer = parse_responses(transport.value())
        self.assertEqual(answer.headers[b"Connection"], b"close")
        self.assertTrue(transport.disconnecting)
        self.lose(connection)
        self.successResultOf(stopped)

    def test_stop_is_bounded(self) -> None:
        """What has not finished after a while is dropped."""
        self.service.startService()
        self.key_value.holds = True
        connection, transport = self.connect(GET)
        stopped = self.service.stopService()
        self.clock.pump([1.0] * 9)
        self.assertFalse(transport.aborted)
        self.clock.advance(1.0)
        self.assertTrue(transport.aborted)
        self.lose(connection)
        self.successResultOf(stopped)
        self.key_value.let_through()

    def test_port_in_use(self) -> None:
        """Where the endpoint knows at once that it cannot listen, so does whoever starts the service."""
        self.endpoint.result = Deferred()
        self.endpoint.result.errback(CannotListenError("127.0.0.1", 8080, OSError("in use")))
        with self.assertRaises(CannotListenError):
            self.service.startService()
        self.assertFalse(self.service.running)

    def test_endpoint_that_fails_later(self) -> None:
        """A failure that comes later is logged, and stopping still works."""
        self.endpoint.result = Deferred()
        self.service.startService()
        self.endpoint.result.errback(CannotListenError("127.0.0.1", 8080, OSError("in use")))
        self.assertEqual(len(self.flushLoggedErrors(CannotListenError)), 1)
        self.successResultOf(self.service.stopService())

    def test_stop_before_it_listens(self) -> None:
        """A service may be stopped while it still tries to listen."""
        self.endpoint.result = Deferred()
        self.service.startService()
        self.successResultOf(self.service.stopService())

    def test_real_endpoint(self) -> None:
        """It listens on the address of a TCP endpoint, and stops."""
        reactor = MemoryReactorClock()
        endpoint = TCP4ServerEndpoint(reactor, 8080, interface="127.0.0.1")
        service = HttpService(endpoint=endpoint, site=self.site)
        service.startService()
        self.assertEqual(reactor.tcpServers[0][:2], (8080, self.site))
        self.successResultOf(service.stopService())


class Browser(Protocol):
    """Remembers what it gets.

    :ivar data: all of it.
    """

    data = b""

    def dataReceived(self, data: bytes) -> None:
        self.data += data


class ConversationTests(ServiceTestCase):
    """Both ends of a connection."""

    def test_whole_conversation(self) -> None:
        """A client that says close gets all it asked for, then the end of the connection."""
        browser, _, pump = connectedServerAndClient(
            lambda: self.site.buildProtocol(None),
            Browser,
            clientTransportFactory=lambda p: FakeTransport(p, False),
            serverTransportFactory=lambda p: FakeTransport(p, True),
        )
        value = b"v" * 300_000
        browser.transport.write(request("PUT", "/v1/kv/a", body=value))
        pump.flush()
        browser.transport.write(request("GET", "/v1/kv/a", "Accept: application/octet-stream", "Connection: close"))
        pump.flush()
        written, read = parse_responses(browser.data)
        self.assertEqual((written.status, read.status, read.body), (200, 200, value))
        self.assertTrue(browser.transport.disconnected)
