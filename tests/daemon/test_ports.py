"""Sockets that are bound when a service is made and served when it starts."""

from __future__ import annotations

import socket

from twisted.internet.interfaces import IReactorSocket
from twisted.internet.protocol import ServerFactory
from twisted.internet.testing import MemoryReactor
from twisted.trial.unittest import SynchronousTestCase
from zope.interface import directlyProvides

from raftkv.config import Address
from raftkv.daemon.ports import BoundEndpoint, bind
from raftkv.errors import ConfigurationError


def taken_port(case: SynchronousTestCase) -> int:
    """Return a loopback port that somebody listens on until the end of the test."""
    taken = socket.create_server(("127.0.0.1", 0))
    case.addCleanup(taken.close)
    return int(taken.getsockname()[1])


def free_port() -> int:
    """Return a loopback port that nobody listens on."""
    with socket.create_server(("127.0.0.1", 0)) as probe:
        return int(probe.getsockname()[1])


class BindTests(SynchronousTestCase):
    """Taking a port."""

    def test_port_in_use(self) -> None:
        """A port in use is one line that names the setting and the address."""
        port = taken_port(self)
        error = self.assertRaises(ConfigurationError, bind, "httpAddr", Address("127.0.0.1", port))
        self.assertEqual(str(error), f"httpAddr: cannot listen on 127.0.0.1:{port}: the port is in use")

    def test_port_in_use_on_one_interface(self) -> None:
        """Every interface cannot be had while one of them has the port in use."""
        self.assertRaises(ConfigurationError, bind, "httpAddr", Address("", taken_port(self)))

    def test_foreign_address(self) -> None:
        """An address that is not this machine's is refused with the reason."""
        error = self.assertRaises(ConfigurationError, bind, "rpcAddr", Address("192.0.2.1", free_port()))
        self.assertIn("rpcAddr: cannot listen on 192.0.2.1:", str(error))

    def test_does_not_block(self) -> None:
        """Accepting when nobody comes returns at once, or the reactor would wait there with everything else."""
        with bind("httpAddr", Address("127.0.0.1", free_port())) as listening:
            self.assertRaises(BlockingIOError, listening.accept)

    def test_name_and_every_interface(self) -> None:
        """A host name is resolved, and every interface includes the loopback."""
        for host in ("localhost", ""):
            port = free_port()
            with bind("httpAddr", Address(host, port)), socket.create_connection(("localhost", port), timeout=5):
                pass


class BoundEndpointTests(SynchronousTestCase):
    """An endpoint whose socket is taken in advance."""

    def setUp(self) -> None:
        self.adopted: list[tuple[int, int]] = []
        self.reactor = MemoryReactor()
        directlyProvides(self.reactor, IReactorSocket)
        self.reactor.adoptStreamPort = lambda fd, family, factory: self.adopted.append((fd, family))

    def test_taken_when_made_and_served_later(self) -> None:
        """The port is taken at once, handed to the reactor by listen, and bound anew for a second listen."""
        port = free_port()
        endpoint = BoundEndpoint(reactor=self.reactor, setting="rpcAddr", address=Address("127.0.0.1", port))
        self.assertRaises(ConfigurationError, bind, "other", Address("127.0.0.1", port))
        self.assertEqual(self.adopted, [])
        for _ in range(2):
            self.successResultOf(endpoint.listen(ServerFactory()))
        self.assertEqual([family for _, family in self.adopted], [socket.AF_INET, socket.AF_INET])

    def test_close(self) -> None:
        """A socket that is never served can be given back."""
        port = free_port()
        endpoint = BoundEndpoint(reactor=self.reactor, setting="rpcAddr", address=Address("127.0.0.1", port))
        endpoint.close()
        bind("other", Address("127.0.0.1", port)).close()
