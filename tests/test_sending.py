"""Bytes that leave at once, over real sockets of Twisted's own transports, and over others."""

from __future__ import annotations

import socket
from typing import Any

from twisted.internet import tcp
from twisted.internet.error import ConnectionLost
from twisted.internet.protocol import Protocol
from twisted.internet.testing import StringTransport
from twisted.python.failure import Failure
from twisted.trial.unittest import SynchronousTestCase

from raftkv.sending import send_at_once


class WatchingReactor:
    """What a transport needs of a reactor: it notes who wants to write, and lets them when told to."""

    def __init__(self) -> None:
        self.writers: list[Any] = []
        self.calls: list[Any] = []

    def addReader(self, reader: Any) -> None:
        """Nobody reads here."""

    removeReader = addReader

    def addWriter(self, writer: Any) -> None:
        """See :class:`twisted.internet.interfaces.IReactorFDSet`."""
        if writer not in self.writers:
            self.writers.append(writer)

    def removeWriter(self, writer: Any) -> None:
        """See there."""
        if writer in self.writers:
            self.writers.remove(writer)

    def callLater(self, delay: float, call: Any, *arguments: Any) -> None:
        """See :class:`twisted.internet.interfaces.IReactorTime`."""
        self.calls.append((call, arguments))

    def turn(self) -> None:
        """Let all who want to write do so, as a reactor does."""
        for writer in list(self.writers):
            why = writer.doWrite()
            if why is not None:
                self.removeWriter(writer)
                writer.connectionLost(Failure(why))


class Listener(Protocol):
    """Notes the end."""

    lost: Failure | None = None

    def connectionLost(self, reason: Failure = Failure(ConnectionLost())) -> None:  # noqa: B008  # Twisted's way
        """See :class:`Protocol`."""
        self.lost = reason


class SendAtOnceTests(SynchronousTestCase):
    """A transport of TCP, whose socket leads to the test."""

    def setUp(self) -> None:
        ours, self.theirs = socket.socketpair()
        self.theirs.setblocking(False)
        self.addCleanup(ours.close)
        self.addCleanup(self.theirs.close)
        self.reactor = WatchingReactor()
        self.protocol = Listener()
        self.transport: Any = tcp.Server(ours, self.protocol, ("127.0.0.1", 1), None, 1, self.reactor)
        self.transport.connected = 1

    def received(self) -> bytes:
        """Return what has arrived."""
        pieces = []
        while True:
            try:
                pieces.append(self.theirs.recv(1 << 20))
            except BlockingIOError:
                return b"".join(pieces)

    def fill(self) -> bytes:
        """Write so much that some of it has to wait; return all of it."""
        data = bytes(range(256)) * (1 << 14)
        send_at_once(self.transport, data)
        self.assertEqual(self.reactor.writers, [self.transport])
        return data

    def test_at_once(self) -> None:
        """What waits for nothing has left when the call returns, and the reactor need not watch the socket."""
        send_at_once(self.transport, b"hello")
        self.assertEqual(self.received(), b"hello")
        self.assertEqual(self.reactor.writers, [])

    def test_more_than_the_kernel_takes(self) -> None:
        """What the kernel does not take waits in the transport; nothing is lost, sent twice or overtaken."""
        data = self.fill()
        send_at_once(self.transport, b"behind")
        arrived = self.received()
        self.assertTrue(0 < len(arrived) < len(data))
        while self.reactor.writers:
            send_at_once(self.transport, b"!")
            self.reactor.turn()
            arrived += self.received()
        self.assertEqual(arrived.rstrip(b"!"), data + b"behind")
        send_at_once(self.transport, b"again")
        self.assertEqual(self.received(), b"again")
        self.assertEqual(self.reactor.writers, [])

    def test_behind_what_waits(self) -> None:
        """What was written the usual way goes first."""
        self.transport.write(b"first ")
        send_at_once(self.transport, b"second")
        self.assertEqual(self.received(), b"")
        self.reactor.turn()
        self.assertEqual(self.received(), b"first second")

    def test_broken(self) -> None:
        """A connection that breaks while we send ends in a turn of the reactor, not within the call."""
        self.theirs.close()
        send_at_once(self.transport, b"hello")
        self.assertIsNone(self.protocol.lost)
        self.reactor.turn()
        assert self.protocol.lost is not None
        self.assertIsInstance(self.protocol.lost.value, ConnectionLost)

    def test_closing(self) -> None:
        """On a connection that is being closed nothing overtakes the close."""
        self.transport.loseConnection()
        send_at_once(self.transport, b"late")
        self.assertEqual(self.received(), b"")

    def test_gone(self) -> None:
        """On a connection that is gone nothing happens, as with Twisted's own ``write``."""
        self.transport.connected = 0
        send_at_once(self.transport, b"late")
        self.assertEqual(self.received(), b"")
        self.assertEqual(self.reactor.writers, [])

    def test_encrypted(self) -> None:
        """What has become TLS is not to be sent past the encryption."""
        self.transport.TLS = True
        written: list[bytes] = []
        self.transport.write = written.append
        send_at_once(self.transport, b"secret")
        self.assertEqual((self.received(), written), (b"", [b"secret"]))

    def test_any_transport(self) -> None:
        """Any other transport is written to as usual."""
        transport = StringTransport()
        send_at_once(transport, b"hello")
        self.assertEqual(transport.value(), b"hello")
