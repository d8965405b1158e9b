"""Listening sockets that are taken before the process becomes a daemon, and served afterwards.

A port in use must end the start with one line on the terminal. By the time services start, twistd has forked and
nobody looks any more, so the socket is bound in the constructor and handed to the reactor later.
"""

from __future__ import annotations

import errno
import socket

from twisted.internet.defer import Deferred, execute
from twisted.internet.interfaces import IListeningPort, IProtocolFactory, IReactorSocket, IStreamServerEndpoint
from zope.interface import implementer

from raftkv.config import Address
from raftkv.errors import ConfigurationError

_BACKLOG = 1024  #: a whole cluster's clients may come back at once; the kernel caps it at its own limit


def bind(setting: str, address: Address) -> socket.socket:
    """Return a socket that listens.

    :param setting: the key of the setting, for the message.
    :raises raftkv.errors.ConfigurationError: the port is in use, or the address is not one of this machine.
    """
    try:
        if address.host:
            return _listen(address.host, address.port)
        try:
            return _listen("::", address.port)
        except OSError as error:
            # A kernel without IPv6 says one of these; anything else, such as a port in use, holds for IPv4 too.
            if error.errno not in (errno.EAFNOSUPPORT, errno.EADDRNOTAVAIL):
                raise
            return _listen("0.0.0.0", address.port)
    except OSError as error:
        reason = "the port is in use" if error.errno == errno.EADDRINUSE else error.strerror or str(error)
        raise ConfigurationError(f"{setting}: cannot listen on {address}: {reason}") from None


def _listen(host: str, port: int) -> socket.socket:
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, flags=socket.AI_PASSIVE)
    family, _, _, _, address = found[0]
    # Listening at once, not only bound: between two sockets that are merely bound, Linux sees no conflict.
    listening = socket.create_server(
        address[:2], family=family, backlog=_BACKLOG, dualstack_ipv6=host == "::" and socket.has_dualstack_ipv6()
    )
    # Twisted takes an adopted socket as it is, and would wait for the second connection with everything else.
    listening.setblocking(False)
    return listening


@implementer(IStreamServerEndpoint)
class BoundEndpoint:
    """An endpoint whose socket is bound when it is made. A service that starts a second time binds it anew.

    :param reactor: serves the socket.
    :param setting: the key of the setting, for messages.
    :param address: where to listen.
    :raises raftkv.errors.ConfigurationError: see :func:`bind`.
    """

    def __init__(self, *, reactor: IReactorSocket, setting: str, address: Address) -> None:
        self._reactor = reactor
        self._setting = setting
        self._address = address
        self._socket: socket.socket | None = bind(setting, address)

    def listen(self, protocolFactory: IProtocolFactory) -> Deferred[IListeningPort]:
        """Serve the socket with a factory."""
        return execute(self._adopt, protocolFactory)

    def close(self) -> None:
        """Give the socket back, if it was never served."""
        if self._socket is not None:
            self._socket.close()
            self._socket = None

    def _adopt(self, factory: IProtocolFactory) -> IListeningPort:
        bound, self._socket = self._socket or bind(self._setting, self._address), None
        try:
            # The reactor works on a copy of the descriptor. Its annotation asks for Twisted's own class, not for the
            # interface that an endpoint is given.
            return self._reactor.adoptStreamPort(bound.fileno(), bound.family, factory)  # type: ignore[arg-type]
        finally:
            bound.close()
